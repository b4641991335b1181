//! What the usual checks (a size above zero, `gzip -t`, `zcat | head`, `find -mtime`) pass and what is worth nothing.

use crate::support::Machine;
use crate::{check, dump, item, pack, problem, text, tool, verify};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

fn gzip_test_passes(machine: &Machine, name: &str) -> bool {
    Command::new("gzip").arg("-t").arg(machine.path(name)).output().unwrap().status.success()
}

#[test]
fn gzip_that_is_cut_damaged_or_of_garbage() {
    let machine = Machine::new();
    let sql = machine.write("dumps/app-20260101.sql", "");
    let source = machine.database("source.db", 5000);
    fs::write(&sql, dump(&source)).unwrap();
    let packed = fs::read(pack("gzip", ".gz", &sql)).unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(machine.path(&format!("dumps/{name}")), bytes).unwrap();
    write("cut-20260101.sql.gz", &packed[..packed.len() / 2]);
    write("sum-20260101.sql.gz", &packed[..packed.len() - 4]);
    let mut flipped = packed.clone();
    flipped[packed.len() / 2] ^= 0x40;
    write("flipped-20260101.sql.gz", &flipped);
    write("behind-20260101.sql.gz", &[packed.as_slice(), b"more"].concat());
    fs::write(machine.path("noise"), packed.iter().rev().copied().collect::<Vec<_>>()).unwrap();
    fs::rename(pack("gzip", ".gz", &machine.path("noise")), machine.path("dumps/noise-20260101.sql.gz"))
        .unwrap();
    write("named-20260101.sql.gz", &packed.iter().rev().copied().collect::<Vec<_>>());
    write("html-20260101.sql.gz", b"<html>502 Bad Gateway</html>");
    let report = verify(&machine, 21, &["dumps"]);
    assert_eq!(report["summary"]["valid"], 2, "{report}");
    for name in ["cut", "sum", "flipped", "behind"] {
        let why = problem(&report, &format!("{name}-20260101.sql.gz"));
        assert!(why.starts_with("compression: "), "{why}");
    }
    // `zcat | head` and `gzip -t` are content with these.
    assert!(gzip_test_passes(&machine, "dumps/noise-20260101.sql.gz"));
    let noise = problem(&report, "noise-20260101.sql.gz");
    assert!(noise.starts_with("format: "), "{noise}");
    assert_eq!(check(item(&report, "noise-20260101.sql.gz"), "compression")["passed"], true);
    for name in ["named", "html"] {
        let why = problem(&report, &format!("{name}-20260101.sql.gz"));
        assert!(why.contains("its name ends in .gz, and it is not packed so"), "{why}");
    }
}

#[test]
fn a_dump_that_was_cut_before_it_was_packed() {
    let machine = Machine::new();
    let source = machine.database("source.db", 5000);
    let whole = dump(&source);
    let sql = machine.write("dumps/app-20260101.sql", &whole[..whole.len() / 2]);
    pack("gzip", ".gz", &sql);
    assert!(gzip_test_passes(&machine, "dumps/app-20260101.sql.gz"));
    let report = verify(&machine, 21, &["dumps/app-20260101.sql.gz"]);
    assert!(problem(&report, "app-20260101.sql.gz").contains("ends within a statement"));
}

#[test]
fn a_dump_of_nothing() {
    let machine = Machine::new();
    machine.write("dumps/zero-20260101.sql", "");
    // What `sqlite3` writes of a path that is misspelt, with exit code 0.
    let nothing = String::from_utf8(tool("sqlite3", &[&machine.text("misspelt.db"), ".dump"])).unwrap();
    machine.write("dumps/nothing-20260101.sql", &nothing);
    let report = verify(&machine, 21, &["dumps"]);
    assert_eq!(problem(&report, "zero-20260101.sql"), "size: is empty");
    assert!(problem(&report, "nothing-20260101.sql").starts_with("content: holds nothing at all"));
    let allowed = verify(&machine, 0, &["dumps/nothing-20260101.sql", "--allow-empty"]);
    assert_eq!(allowed["summary"]["all_valid"], true);
    // `pg_dump` that failed, its words redirected into the file.
    machine.write("dumps/words-20260101.sql", "pg_dump: error: connection to server failed: fe_sendauth\n");
    assert!(problem(&verify(&machine, 21, &["dumps"]), "words-20260101.sql").starts_with("format: "));
}

#[test]
fn a_link_out_of_the_folder_is_no_backup_of_it() {
    let machine = Machine::new();
    machine.database("dumps/real-20260101.db", 5);
    machine.database("elsewhere.db", 5);
    std::os::unix::fs::symlink(machine.path("elsewhere.db"), machine.path("dumps/link-20260102.db")).unwrap();
    std::os::unix::fs::symlink(machine.path("gone.db"), machine.path("dumps/gone-20260102.db")).unwrap();
    let report = verify(&machine, 0, &["dumps"]);
    assert_eq!(report["summary"]["total_files"], 1, "{report}");
    assert_eq!(report["skipped"].as_array().unwrap().len(), 2, "{report}");
    let newest = verify(&machine, 0, &["dumps", "--latest"]);
    assert!(newest["files"][0]["path"].as_str().unwrap().ends_with("real-20260101.db"), "{newest}");
    // Whoever names the link means it.
    verify(&machine, 0, &["dumps/link-20260102.db"]);
}

#[test]
fn names_with_blanks_line_ends_and_other_bytes() {
    let machine = Machine::new();
    let source = machine.database("source.db", 5);
    fs::create_dir(machine.path("dumps")).unwrap();
    fs::copy(&source, machine.path("dumps/a name\nof two lines-20260101.db")).unwrap();
    fs::copy(&source, machine.path("dumps/-rf '$(x)' \"*.db")).unwrap();
    let shown = machine.done(&["verify", "dumps"]);
    assert_eq!(shown.out.lines().count(), 2, "{}", shown.out);
    assert!(shown.out.contains("a name\\nof two lines-20260101.db"), "{}", shown.out);
    let report = verify(&machine, 0, &["dumps"]);
    assert_eq!(item(&report, "a name\nof two lines-20260101.db")["database"], "a name\nof two lines");
    let odd = std::ffi::OsStr::from_bytes(b"caf\xe9-20260101.db");
    fs::copy(&source, machine.path("dumps").join(odd)).unwrap();
    let outcome = machine.run(&["verify", "dumps"]);
    assert_eq!(outcome.code, 21, "{}", text(&outcome));
    assert!(outcome.out.contains("not valid UTF-8"), "{}", outcome.out);
}

#[test]
fn a_clock_that_jumped_proves_no_age() {
    let machine = Machine::new();
    let ahead =
        (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * 40)).strftime("%Y%m%d").to_string();
    let name = format!("app-{ahead}.db");
    machine.database(&format!("dumps/{name}"), 5);
    let report = verify(&machine, 21, &["dumps", "--max-age", "25h"]);
    assert!(problem(&report, &name).contains("still to come"), "{report}");
    let told = verify(&machine, 0, &["dumps"]);
    assert!(check(item(&told, &name), "age")["detail"].as_str().unwrap().contains("still to come"), "{told}");
    assert!(item(&told, &name)["age_seconds"].as_i64().unwrap() < 0);
}

#[test]
fn a_digest_beside_a_file_is_held_against_it() {
    let machine = Machine::new();
    let path = machine.database("dumps/app-20260101.db", 500);
    let sum = String::from_utf8(tool("sha256sum", &[&path.display().to_string()])).unwrap();
    fs::write(machine.path("dumps/app-20260101.db.sha256"), &sum).unwrap();
    let report = verify(&machine, 0, &["dumps"]);
    assert_eq!(check(item(&report, "app-20260101.db"), "sha256")["passed"], true);
    // Another row, by which nothing but the digest differs.
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute("UPDATE t SET text = 'ROW 7' WHERE id = 7", []).unwrap();
    drop(connection);
    let report = verify(&machine, 21, &["dumps"]);
    assert!(problem(&report, "app-20260101.db").starts_with("sha256: is "), "{report}");
    let packed = pack("gzip", ".gz", &path);
    let sha256 = &sum[..64];
    fs::write(machine.path("dumps/app-20260101.db.gz.json"), format!("{{\"sha256\": \"{sha256}\"}}"))
        .unwrap();
    let report = verify(&machine, 21, &[&packed.display().to_string()]);
    assert!(problem(&report, "app-20260101.db.gz").contains("app-20260101.db.gz.json says"), "{report}");
}
