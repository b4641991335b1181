//! Files that are worth nothing: they stand for none of the others, whatever their names and times say.

use super::*;

/// Two good dumps, and a newest one with that content.
fn machine_with(name: &str, content: &[u8]) -> Machine {
    let machine = Machine::new();
    packed(&machine, "acme-20250601.sql.gz");
    packed(&machine, "acme-20250602.sql.gz");
    dump(&machine, name, content);
    machine
}

#[test]
fn the_newest_that_is_whole_stays_behind_worthless_ones() {
    let whole = gzip(POSTGRES_TEXT.repeat(50).as_bytes());
    let database = {
        let machine = Machine::new();
        std::fs::read(machine.database("x.db", 5000)).unwrap()
    };
    for (what, name, content) in [
        ("empty", "acme-20250603.sql.gz", vec![]),
        ("gzip of nothing", "acme-20250603.sql.gz", gzip(b"")),
        ("cut gzip", "acme-20250603.sql.gz", whole[..whole.len() / 2].to_vec()),
        ("gzip without its end", "acme-20250603.sql.gz", whole[..whole.len() - 6].to_vec()),
        ("gzip of garbage", "acme-20250603.sql.gz", gzip(b"pg_dump: error: connection to server failed\n")),
        ("cut dump", "acme-20250603.sql", POSTGRES_TEXT.as_bytes()[..90].to_vec()),
        ("cut transaction", "acme-20250603.sql", SQLITE_TEXT.as_bytes()[..SQLITE_TEXT.len() - 8].to_vec()),
        ("an error message", "acme-20250603.dump", b"permission denied".to_vec()),
        ("cut database", "acme-20250603.db", database[..database.len() - 4096].to_vec()),
    ] {
        let machine = machine_with(name, &content);
        let report = prune(&machine, 0, &["--keep-last", "1"]);
        assert_eq!(left(&machine), set(&["acme-20250602.sql.gz", name]), "{what}: {report}");
        let kept = reasons(&report, "kept");
        assert!(
            kept.iter().any(|(kept, why)| kept == name && why.contains("worth nothing: it ")),
            "{what}: {kept:?}"
        );
    }
    let machine = machine_with("acme-20250603.db", &database);
    prune(&machine, 0, &["--keep-last", "1"]);
    assert_eq!(left(&machine), set(&["acme-20250603.db"]));
}

#[test]
fn where_nothing_is_whole_nothing_goes() {
    let machine = Machine::new();
    for day in 1..=4 {
        dump(&machine, &format!("acme-2025060{day}.sql.gz"), b"");
    }
    let report = prune(&machine, 0, &["--keep-last", "1"]);
    assert_eq!(left(&machine).len(), 4, "{report}");
    packed(&machine, "acme-20250501.sql.gz");
    packed(&machine, "acme-20250502.sql.gz");
    prune(&machine, 0, &["--keep-last", "1"]);
    // The newest of all and the newest that is whole.
    assert_eq!(left(&machine), set(&["acme-20250502.sql.gz", "acme-20250604.sql.gz"]));
}

#[test]
fn what_cannot_be_removed_is_told_and_the_others_go() {
    if rustix::process::getuid().is_root() {
        // Rights stop root nowhere: an immutable folder is not to be had in a test.
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let machine = machine_with("acme-20250603.sql", SQLITE_TEXT.as_bytes());
    let folder = machine.path("dumps");
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o500)).unwrap();
    let outcome = machine.run(&["prune", "dumps", "--keep-last", "1"]);
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(outcome.code, 1, "{}", outcome.err);
    assert_eq!(left(&machine).len(), 3);
}
