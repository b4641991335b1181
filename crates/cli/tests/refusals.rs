//! What the program says of bad input: the exit code, the text (as a snapshot), the object named, a hint, no secret;
//! and databases and repository are what they were before.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use rusqlite::Connection;
use std::fmt::Write as _;
use std::path::PathBuf;
use support::{Machine, fingerprint, outcome};

/// What went wrong, how the program is called, the exit code, and the object that it must name.
type Case<'a> = (&'a str, &'a [&'a str], i32, &'a str);

/// Runs cases on one machine, each of which leaves it as it was, and returns what was said.
fn said(machine: &Machine, cases: &[Case<'_>]) -> String {
    let places: [PathBuf; 2] = [machine.root.join("here"), machine.root.join("home/.local/share")];
    let before: Vec<_> = places.iter().map(|place| fingerprint(place)).collect();
    let mut told = String::new();
    for (name, arguments, code, object) in cases {
        let outcome = machine.run(arguments);
        let text = machine.steady(&outcome.err);
        assert_eq!(outcome.code, *code, "{name}: {} {}", outcome.out, outcome.err);
        assert!(outcome.err.contains(object), "{name} must name {object}: {}", outcome.err);
        assert!(outcome.err.contains("hint: "), "{name} must have a hint: {}", outcome.err);
        assert!(!outcome.err.contains("geheim"), "{name} shows a secret: {}", outcome.err);
        let after: Vec<_> = places.iter().map(|place| fingerprint(place)).collect();
        assert!(before == after, "{name} changed something");
        writeln!(
            told,
            "# {name}\n$ backstay {}\n{text}[exit {code}]\n",
            machine.steady(&arguments.join(" "))
        )
        .unwrap();
    }
    told
}

fn with_a_backup() -> Machine {
    let machine = Machine::new();
    machine.database("app.db", 100);
    machine.database("other.db", 10);
    machine.done(&["backup", "app.db", "other.db"]);
    machine
}

#[test]
fn sources_that_cannot_be_backed_up() {
    let machine = with_a_backup();
    machine.write(
        "notes.txt",
        "These are notes, and no database at all, however long they are. ".repeat(20).as_str(),
    );
    std::fs::create_dir(machine.path("empty")).unwrap();
    let whole = std::fs::read(machine.path("app.db")).unwrap();
    std::fs::write(machine.path("cut.db"), &whole[..5000]).unwrap();
    let noise: Vec<u8> = (0..8192_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(machine.path("sealed.db"), noise).unwrap();
    let cases: &[Case<'_>] = &[
        ("missing file", &["backup", "nowhere.db"], 20, "nowhere.db"),
        ("glob without match", &["backup", "empty/*.db"], 20, "empty/*.db"),
        ("folder without databases", &["backup", "empty"], 20, "empty"),
        ("text file", &["backup", "notes.txt"], 20, "notes.txt"),
        ("truncated", &["backup", "cut.db"], 20, "cut.db"),
        ("encrypted", &["backup", "sealed.db"], 20, "sealed.db"),
        ("other systems", &["backup", "postgres://app:geheim@db/erp"], 2, "password"),
        ("other systems without password", &["backup", "neo4j://db/erp"], 2, "SQLite"),
        ("nothing named", &["backup"], 2, "nothing to back up"),
        ("nothing configured", &["backup", "--all"], 2, "no target"),
        ("a tag of ours", &["backup", "app.db", "--tag", "plan=x"], 2, "plan=x"),
        ("doctor of a missing file", &["doctor", "nowhere.db"], 20, "nowhere.db"),
    ];
    insta::assert_snapshot!(said(&machine, cases));
}

/// Looks at no file meanwhile: closing one would drop this process's lock on it.
#[test]
fn a_database_that_stays_locked_is_named_with_who_holds_it() {
    let machine = with_a_backup();
    let holder = Connection::open(machine.path("other.db")).unwrap();
    holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let outcome = machine.run(&["backup", "other.db", "--lock-wait", "1", "--read-all"]);
    assert_eq!(outcome.code, 20, "{}", outcome.err);
    for part in [&machine.text("other.db"), "hint: ", &format!("process {}", std::process::id())] {
        assert!(outcome.err.contains(part), "`{part}` is missing in {}", outcome.err);
    }
    let kept = machine.done(&["list", "other.db", "--json"]).json();
    assert_eq!(kept["backups"].as_array().unwrap().len(), 1, "nothing was added");
}

#[test]
fn repositories_that_cannot_be_used() {
    let machine = with_a_backup();
    machine.write("full/of/something.txt", "x");
    machine.write("word", "geheim\n");
    let repository = machine.root.join("home/.local/share/backstay/repository").display().to_string();
    let cases: &[Case<'_>] = &[
        ("no repository", &["backup", "app.db", "--repository", "./nowhere"], 10, "nowhere"),
        ("no repository of that name", &["list", "--repository", "main"], 2, "main"),
        ("another machine", &["list", "--repository", "s3://bucket/x"], 2, "s3://bucket/x"),
        ("there is one already", &["init", "--repository", &repository], 2, "repository"),
        ("the folder is not empty", &["init", "--repository", "./full"], 1, "full"),
        ("a report without a place", &["list", "--report", "nowhere/report.json"], 2, "nowhere/report.json"),
    ];
    let mut told = said(&machine, cases);
    let fresh = Machine::new();
    told.push_str(&said(&fresh, &[("nothing backed up yet", &["list"], 10, "repository")]));
    std::fs::remove_dir_all(machine.root.join("home/.config")).unwrap();
    told.push_str(&said(&machine, &[("the key is lost", &["list"], 12, "repository")]));
    let mut command = machine.command();
    let wrong = outcome(command.args(["list"]).env("BACKSTAY_PASSWORD", "falsch-geheim"));
    assert_eq!(wrong.code, 12, "{}", wrong.err);
    assert!(!wrong.err.contains("geheim"), "{}", wrong.err);
    writeln!(told, "# wrong password\n{}", machine.steady(&wrong.err)).unwrap();
    insta::assert_snapshot!(told);
}

#[test]
fn configurations_that_are_wrong() {
    let machine = with_a_backup();
    machine.write("typo.toml", "[repositories.main]\npath = \"/b\"\npasword_file = \"x\"\n");
    machine.write("broken.toml", "[repositories.main\npath = \"/b\"\n");
    machine.write("secret.toml", "[targets.erp]\nsource = \"postgres://app:geheim@db/erp\"\n");
    machine.write(
        "later.toml",
        "[targets.erp]\nsource = \"app.db\"\n[targets.erp.plans.n]\nschedule = \"0 2 * * *\"\n",
    );
    machine.write("tools.json", "{\n  \"logging\": { \"levl\": \"INFO\" }\n}\n");
    let cases: &[Case<'_>] = &[
        ("a typo", &["list", "--config", "typo.toml"], 2, "typo.toml:3:1"),
        ("a password", &["list", "--config", "secret.toml"], 2, "secret.toml:2:1"),
        ("a later feature", &["list", "--config", "later.toml"], 2, "later.toml:4:1"),
        ("folder tools", &["list", "--config", "tools.json"], 2, "tools.json:2:16"),
        ("a missing file", &["list", "--config", "nowhere.toml"], 2, "nowhere.toml"),
    ];
    let mut told = said(&machine, cases);
    let broken = machine.run(&["list", "--config", "broken.toml"]);
    assert_eq!(broken.code, 2);
    assert!(broken.err.contains("broken.toml:1:"), "{}", broken.err);
    writeln!(told, "# broken\n{}", machine.steady(&broken.err)).unwrap();
    insta::assert_snapshot!(told);
}

#[test]
fn references_that_name_nothing_or_too_much() {
    let machine = with_a_backup();
    machine.write("there.sql", "");
    let cases: &[Case<'_>] = &[
        ("many databases", &["restore", "latest"], 2, "latest"),
        ("no such id", &["show", "0123456789abcdef"], 2, "0123456789abcdef"),
        ("no such source", &["restore", "nowhere.db"], 2, "nowhere.db"),
        ("before the first", &["show", "app.db@2001-01-01"], 2, "app.db@2001-01-01"),
        ("further back than there are", &["show", "app.db@latest~7"], 2, "app.db@latest~7"),
        ("a dump file to verify beside a backup", &["verify", "./app.db", "app.db@latest"], 2, "./app.db"),
        ("no dump file to verify", &["verify", "./app.sql.gz"], 20, "app.sql.gz"),
        ("a dump file to restore to itself", &["restore", "./app.db", "--target", "app.db"], 2, "app.db"),
        ("a file that is there", &["export", "app.db@latest", "--out", "there.sql"], 2, "there.sql"),
        ("no form", &["export", "app.db@latest", "--out", "app.txt"], 2, "app.txt"),
        ("no folder", &["export", "app.db@latest", "--out", "none/app.db"], 1, "none/app.db"),
    ];
    insta::assert_snapshot!(said(&machine, cases));
}

#[test]
fn restores_that_are_refused() {
    let machine = with_a_backup();
    machine.write("notes.txt", "x");
    let user = Connection::open(machine.path("other.db")).unwrap();
    user.execute_batch("BEGIN; SELECT count(*) FROM t").unwrap();
    let cases: &[Case<'_>] = &[
        ("nobody to confirm", &["restore", "app.db@latest"], 2, "app.db"),
        ("another name", &["restore", "app.db@latest", "--confirm", "erp"], 2, "--confirm erp"),
        ("in use, and yes", &["restore", "other.db@latest", "--yes"], 11, "other.db"),
        ("in use", &["restore", "other.db@latest", "--confirm", "other.db"], 11, "other.db"),
        ("folder missing", &["restore", "app.db@latest", "--target", "./none/app.db", "--yes"], 20, "none"),
        ("new, but there", &["restore", "app.db@latest", "--to-new", "other.db"], 20, "other.db"),
        ("nothing to finish", &["restore", "--continue", "--target", "app.db"], 2, "app.db"),
        ("nothing to undo", &["restore", "--rollback", "--target", "app.db"], 2, "app.db"),
        (
            "the stop command fails",
            &["restore", "app.db@latest", "--yes", "--stop-command", "echo no such service; exit 5"],
            1,
            "no such service",
        ),
    ];
    insta::assert_snapshot!(said(&machine, cases));
}

#[test]
fn damage_is_named_and_is_a_fail() {
    let machine = with_a_backup();
    let data = machine.root.join("home/.local/share/backstay/repository/data");
    let largest = fingerprint(&data).into_keys().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut bytes = std::fs::read(&largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    std::fs::write(&largest, bytes).unwrap();
    let pack = largest.file_name().unwrap().to_str().unwrap().to_owned();
    let check = machine.run(&["check", "--read-data"]);
    assert_eq!(check.code, 21, "{}", check.err);
    assert!(check.out.contains("FAIL") && check.out.contains(&pack[..8]), "{}", check.out);
    assert!(check.out.contains("affects"), "{}", check.out);
    let verify = machine.run(&["verify", "--json"]);
    assert_eq!(verify.code, 21, "{}", verify.err);
    assert_eq!(verify.json()["error"]["exit_code"], 21);
    assert_eq!(verify.json()["summary"]["all_valid"], false);
    assert!(machine.done(&["list"]).out.contains("DAMAGED"));
}
