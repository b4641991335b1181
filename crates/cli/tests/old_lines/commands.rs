//! Single lines: what writes a dump, what looks at it, what brings it back; each beside ours, with the same outcome on what is
//! good, and another one where the old line lies.

use super::*;
use std::fs;
use testkit::Cluster;

#[test]
fn backup_of_the_shell() {
    let machine = Machine::new();
    machine.database("app.db", 500);
    assert_eq!(code(&machine, "sqlite3 app.db '.backup old.db'"), 0);
    machine.done(&["backup", "app.db", "--out", "ours.db"]);
    assert_eq!(content(&machine.path("old.db")), content(&machine.path("ours.db")));
    // `cp` leaves the log behind: the newest rows are not in the copy, and nothing says so.
    let live = rusqlite::Connection::open(machine.path("app.db")).unwrap();
    live.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; INSERT INTO t VALUES (501, 'new')",
    )
    .unwrap();
    assert_eq!(
        code(&machine, "cp app.db copied.db && sqlite3 copied.db 'PRAGMA integrity_check' | grep -qx ok"),
        0
    );
    machine.done(&["backup", "app.db", "--out", "whole.db"]);
    assert_eq!(support::count(&machine.path("copied.db")), 500);
    assert_eq!(support::count(&machine.path("whole.db")), 501);
}

#[test]
fn dump_of_the_shell_into_gzip() {
    let machine = Machine::new();
    machine.database("app.db", 500);
    assert_eq!(code(&machine, "sqlite3 app.db .dump | gzip > old.sql.gz"), 0);
    machine.done(&["backup", "app.db", "--out", "ours.sql.gz"]);
    for name in ["old", "ours"] {
        assert_eq!(code(&machine, &format!("gunzip -c {name}.sql.gz | sqlite3 {name}.db")), 0);
    }
    assert_eq!(content(&machine.path("old.db")), content(&machine.path("ours.db")));
    // A misspelt path: the pipe ends well, and a file is there in the morning.
    assert_eq!(code(&machine, "sqlite3 ap.db .dump | gzip > nothing.sql.gz && test -s nothing.sql.gz"), 0);
    let outcome = machine.run(&["backup", "a.db", "--out", "nothing2.sql.gz"]);
    assert_eq!(outcome.code, 20, "{}", outcome.err);
    assert!(!machine.path("nothing2.sql.gz").exists() && !machine.path("a.db").exists());
}

#[test]
fn the_image_that_is_copied_back() {
    let machine = Machine::new();
    machine.database("dumps/app-20260105.db", 500);
    assert_eq!(code(&machine, "gzip dumps/app-20260105.db"), 0);
    for name in ["old", "ours"] {
        machine.database(&format!("{name}/app.db"), 3);
    }
    let old = "cp old/app.db old/app.db.old; gunzip -c dumps/app-20260105.db.gz > old/app.db";
    assert_eq!(code(&machine, old), 0);
    machine.done(&["restore", "dumps/app-20260105.db.gz", "--target", "ours/app.db", "--yes"]);
    let read = |name: &str| fs::read(machine.path(name)).unwrap();
    assert_eq!(read("old/app.db"), read("ours/app.db"));
    let kept =
        names(&machine.path("ours")).into_iter().find(|name| name.starts_with("app.db.safety-")).unwrap();
    assert_eq!(support::count(&machine.path("ours").join(kept)), 3);
    // A dump that is cut: the old line has replaced the database by the time it fails.
    let packed = read("dumps/app-20260105.db.gz");
    fs::write(machine.path("dumps/app-20260105.db.gz"), &packed[..packed.len() / 2]).unwrap();
    let before = read("ours/app.db");
    let _ = shell(&machine, old);
    assert_ne!(read("old/app.db"), before);
    let outcome = machine.run(&["restore", "dumps/app-20260105.db.gz", "--target", "ours/app.db", "--yes"]);
    assert_eq!(outcome.code, 20, "{}", outcome.err);
    assert_eq!(read("ours/app.db"), before);
}

#[test]
fn text_that_is_read_by_the_shell() {
    let machine = Machine::new();
    let source = machine.database("source.db", 500);
    machine.write("app-20260105.sql", &content(&source));
    assert_eq!(code(&machine, "mkdir old ours && sqlite3 old/app.db < app-20260105.sql"), 0);
    machine.done(&["restore", "app-20260105.sql", "--target", "ours/app.db", "--yes"]);
    assert_eq!(content(&machine.path("old/app.db")), content(&machine.path("ours/app.db")));
    // Into what is there, the old line adds, complains of each row, and ends with 0 where a pipe is around it.
    fs::write(machine.path("app-20260106.sql"), content(&source).replace("'row 7'", "'row seven'")).unwrap();
    assert_eq!(code(&machine, "cat app-20260106.sql | sqlite3 old/app.db 2>&1 | tail -1"), 0);
    machine.done(&["restore", "app-20260106.sql", "--target", "ours/app.db", "--yes"]);
    assert!(!content(&machine.path("old/app.db")).contains("row seven"));
    assert!(content(&machine.path("ours/app.db")).contains("row seven"));
}

/// What people write in an hour, and run for years.
const VALIDATE: &str = r#"
import gzip, json, os, sys, time
folder, days, report = sys.argv[1], int(sys.argv[3]), sys.argv[5]
files = []
for name in sorted(os.listdir(folder)):
    path, error = os.path.join(folder, name), None
    with open(path, 'rb') as f: head = f.read(16)
    if os.path.getsize(path) == 0: error = 'empty'
    elif time.time() - os.path.getmtime(path) > days * 86400: error = 'too old'
    elif name.endswith('.gz'):
        try:
            with gzip.open(path) as f:
                while f.read(1 << 20): pass
        except Exception as e: error = str(e)
    elif name.endswith('.db') and head != b'SQLite format 3\0': error = 'no database'
    files.append({'path': path, 'valid': error is None, 'error': error})
summary = {'total_files': len(files), 'valid': sum(f['valid'] for f in files)}
summary['invalid'] = summary['total_files'] - summary['valid']
summary['all_valid'] = summary['invalid'] == 0
json.dump({'summary': summary, 'files': files}, open(report, 'w'))
sys.exit(0 if summary['all_valid'] else 1)
"#;

#[test]
fn a_validation_script() {
    let machine = Machine::new();
    machine.write("validate.py", VALIDATE);
    machine.database("dumps/app.db", 500);
    assert_eq!(code(&machine, "cp dumps/app.db dumps/other.db && gzip dumps/other.db"), 0);
    let both = || {
        let old = code(&machine, "python3 validate.py dumps --max-age-days 7 --report old.json");
        let ours = machine.run(&["verify", "dumps", "--max-age-days", "7", "--report", "ours.json"]).code;
        let summary = |name: &str| -> serde_json::Value {
            let text = fs::read_to_string(machine.path(name)).unwrap();
            serde_json::from_str::<serde_json::Value>(&text).unwrap()["summary"].clone()
        };
        ((old, summary("old.json")), (ours, summary("ours.json")))
    };
    let ((old, old_summary), (ours, summary)) = both();
    assert_eq!((old, ours), (0, 0));
    assert_eq!(old_summary, summary);
    machine.write("dumps/empty.sql", "");
    let ((old, old_summary), (ours, summary)) = both();
    assert_eq!((old, ours), (1, 21));
    assert_eq!(old_summary, summary);
    fs::remove_file(machine.path("dumps/empty.sql")).unwrap();
    // A flipped page is none of the script's business.
    let mut bytes = fs::read(machine.path("dumps/app.db")).unwrap();
    bytes[4096 * 2..4096 * 2 + 300].fill(0x5A);
    fs::write(machine.path("dumps/app.db"), bytes).unwrap();
    let ((old, old_summary), (ours, summary)) = both();
    assert_eq!((old, ours), (0, 21));
    assert_eq!((&old_summary["all_valid"], &summary["all_valid"]), (&true.into(), &false.into()));
}

const ERP: &str = "
CREATE TABLE orders (id int PRIMARY KEY, note text);
INSERT INTO orders SELECT i, 'order ' || i || E'\\t' FROM generate_series(1, 3000) AS i;
CREATE TABLE lines (order_id int, line int); INSERT INTO lines SELECT i, 1 FROM generate_series(1, 500) AS i;
";

#[test]
fn programs_of_postgres() {
    let machine = Machine::new();
    let cluster = Cluster::start(15);
    cluster.create("erp");
    cluster.sql("erp", ERP);
    let host = cluster.socket_folder().display().to_string();
    let line = |line: &str| code(&machine, &format!("export PGHOST='{host}' PGUSER=postgres; {line}"));
    let url = |database: &str| cluster.url(database);
    // pg_dump into gzip, and back by psql.
    assert_eq!(line("pg_dump erp | gzip > old.sql.gz"), 0);
    machine.done(&["backup", &url("erp"), "--out", "ours.sql.gz"]);
    for name in ["old", "ours"] {
        assert_eq!(
            line(&format!("createdb {name} && gunzip -c {name}.sql.gz | psql -q -v ON_ERROR_STOP=1 {name}")),
            0
        );
    }
    assert_eq!(cluster.text("old"), cluster.text("erp"));
    assert_eq!(cluster.text("ours"), cluster.text("erp"));
    // A database that is not there: the pipe ends well.
    assert_eq!(
        line("pg_dump gone 2>/dev/null | gzip > gone.sql.gz && test -s gone.sql.gz && gzip -t gone.sql.gz"),
        0
    );
    assert_eq!(machine.run(&["backup", &url("gone"), "--out", "gone2.sql.gz"]).code, 20);
    assert!(!machine.path("gone2.sql.gz").exists());
    assert_eq!(machine.run(&["verify", "gone.sql.gz"]).code, 21);
    // One table out of an archive.
    assert_eq!(line("pg_dump -Fc -f erp.dump erp"), 0);
    for name in ["old", "ours"] {
        cluster.sql(name, "DROP TABLE orders");
    }
    assert_eq!(line("pg_restore -t orders -d old erp.dump"), 0);
    machine.done(&["restore", "erp.dump", "--target", &url("ours"), "--table", "public.orders", "--yes"]);
    let rows =
        |name: &str| cluster.sql(name, "SELECT md5(string_agg(o::text, '|' ORDER BY id)) FROM orders o");
    assert_eq!(rows("old"), rows("ours"));
    // `pg_restore -t` leaves the primary key behind.
    let keys = |name: &str| {
        cluster.sql(
            name,
            "SELECT count(*) FROM pg_constraint WHERE conrelid = 'orders'::regclass AND contype = 'p'",
        )
    };
    assert_eq!((keys("old"), keys("ours")), ("0".to_owned(), "1".to_owned()));
    // An archive that is cut in its rows: its list is whole, and says nothing of them.
    let whole = fs::read(machine.path("erp.dump")).unwrap();
    fs::write(machine.path("cut.dump"), &whole[..whole.len() - 200]).unwrap();
    assert_eq!(line("pg_restore -l cut.dump > /dev/null"), 0);
    assert_eq!(machine.run(&["verify", "cut.dump"]).code, 21);
    let before = cluster.text("ours");
    let outcome = machine.run(&["restore", "cut.dump", "--target", &url("ours"), "--yes"]);
    assert_eq!(outcome.code, 20, "{}", outcome.err);
    assert_eq!(cluster.text("ours"), before);
}
