//! Sources, references, options and configurations that are wrong.

use crate::seams::{Place, sql};
use crate::{Refusal, refuse};

/// One database backed up twice, and two more of one folder.
fn place() -> Place {
    let place = Place::new();
    let path = place.machine.database("app.db", 50);
    place.backup("app.db");
    sql(&path, "DELETE FROM t WHERE id > 40");
    place.backup("app.db");
    place
}

#[test]
fn sources() {
    let place = place();
    place.machine.write("notes.txt", "These are notes, no database.\n");
    std::fs::create_dir(place.path("empty")).unwrap();
    let whole = std::fs::read(place.path("app.db")).unwrap();
    std::fs::write(place.path("cut.db"), &whole[..whole.len() - 2048]).unwrap();
    let noise: Vec<u8> = (0..16_384_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    std::fs::write(place.path("sealed.db"), noise).unwrap();
    for (name, source, code, object, hint) in [
        ("missing file", "gone.db", 20, "gone.db", "ls -l"),
        ("folder without databases", "empty", 20, "empty", "path"),
        ("text file", "notes.txt", 20, "notes.txt", "SQLite"),
        ("truncated database", "cut.db", 20, "cut.db", ".recover"),
        ("encrypted database", "sealed.db", 20, "sealed.db", "decrypted copy"),
        ("password in a URL", "postgres://app:hunter2@db/erp", 2, "password", "take it out"),
        ("unknown kind of source", "mysql://db/erp", 2, "mysql", "SQLite"),
    ] {
        refuse(&place, &Refusal { name, arguments: &["backup", source], code, object, hint });
    }
}

#[test]
fn references_and_options() {
    let place = place();
    place.machine.database("shops/acme.db", 3);
    place.machine.database("shops/bolt.db", 3);
    place.done(&["backup", "shops"]);
    place.machine.write("there.sql", "-- mine\n");
    for (name, arguments, code, object, hint) in [
        ("unknown id", &["restore", "0123456789ab"][..], 2, "0123456789ab", "backstay list"),
        ("ambiguous reference", &["restore", "shops"], 2, "bolt.db", "id"),
        ("ambiguous latest", &["show", "latest"], 2, "acme.db", "id"),
        ("no terminal", &["restore", "app.db"], 2, "app.db", "--confirm app.db"),
        ("wrong name", &["restore", "app.db", "--confirm", "erp"], 2, "erp", "--confirm app.db"),
        ("export over a file", &["export", "app.db", "--out", "there.sql"], 2, "there.sql", "another name"),
        ("export without form", &["export", "app.db", "--out", "app.tar"], 2, "app.tar", ".sql"),
        ("export to two places", &["export", "app.db", "--out", "-", "--json"], 2, "--out -", "--report"),
        ("report into nowhere", &["list", "--report", "no/where.json"], 2, "no/where.json", "folder"),
    ] {
        if name == "report into nowhere" {
            let output = place.command().args(arguments).output().unwrap();
            crate::judge(&place, &Refusal { name, arguments, code, object, hint }, &output, "");
        } else {
            refuse(&place, &Refusal { name, arguments, code, object, hint });
        }
    }
    let unknown = place.command().args(["backup", "app.db", "--read-al"]).output().unwrap();
    let arguments: &[&str] = &[];
    let refusal = Refusal { name: "unknown option", arguments, code: 2, object: "--read-al", hint: "" };
    crate::judge(&place, &refusal, &unknown, "");
}

#[test]
fn configurations() {
    let place = place();
    place
        .machine
        .write("typo.toml", "[targets.app]\nsource = \"app.db\"\n\n[targets.app.restore]\nstopp = [\"x\"]\n");
    place.machine.write("secret.toml", "[targets.erp]\nsource = \"postgres://app:hunter2@db/erp\"\n");
    place.machine.write("key.toml", "[repositories.main]\npath = \"/b\"\npassword = \"hunter2\"\n");
    for (name, file, object, hint) in [
        ("typo in the configuration", "typo.toml", "typo.toml:5", "stop"),
        ("password in the configuration", "secret.toml", "secret.toml:2", "take it out"),
        ("password as a key", "key.toml", "key.toml:3", "password_file"),
        ("missing configuration", "none.toml", "none.toml", ""),
    ] {
        refuse(&place, &Refusal { name, arguments: &["list", "--config", file], code: 2, object, hint });
    }
}
