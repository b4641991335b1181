//! The walk beside SQLite's own check, on sound databases and on the same with bytes changed: it may have doubts where
//! SQLite has none, and never the other way round.
#![allow(clippy::unwrap_used)]

use super::*;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;

/// Rows of every kind, in tables and indexes of several levels, with long records and free pages.
const FILL: &str = "
    CREATE TABLE customer(id INTEGER PRIMARY KEY, name TEXT NOT NULL COLLATE NOCASE, city TEXT COLLATE RTRIM, born DATE);
    CREATE TABLE orders(id INTEGER PRIMARY KEY, customer INTEGER NOT NULL REFERENCES customer(id), total REAL,
      code TEXT UNIQUE, state TEXT DEFAULT NULL, note TEXT);
    CREATE INDEX orders_customer ON orders(customer);
    CREATE INDEX orders_total ON orders(total DESC, customer);
    CREATE INDEX customer_name ON customer(name, id);
    CREATE UNIQUE INDEX customer_city ON customer(city, name DESC, id);
    CREATE TABLE strict_one(a INT NOT NULL, b REAL, c ANY, d BLOB) STRICT;
    CREATE TABLE plain(v); CREATE TABLE empty(v UNIQUE);
    WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < 60)
      INSERT INTO customer SELECT x * 3, 'Name ' || (x % 7), 'city' || x || substr('   ', 1, x % 3), '2000-01-' || x FROM i;
    WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < 400)
      INSERT INTO orders SELECT x * 7919 % 1009, x % 60 * 3 + 3, CASE x % 4 WHEN 0 THEN NULL WHEN 1 THEN x ELSE x / 7.0 END,
        'c' || (x * 31 % 997), 'open', CASE WHEN x % 50 = 0 THEN hex(zeroblob(400 + x)) ELSE 'n' || x END FROM i;
    ALTER TABLE orders ADD COLUMN late TEXT;
    INSERT INTO strict_one VALUES (1, 2, 'x', x'00'), (2, 2.5, 7, NULL);
    INSERT INTO plain VALUES (zeroblob(3000)), (1), (NULL), (9e99);
    DELETE FROM orders WHERE id % 5 = 0 AND id < 300;
    UPDATE orders SET note = note || note WHERE id % 11 = 0;
    ANALYZE;";

fn database(folder: &Path, settings: &str, script: &str) -> Vec<u8> {
    let path = folder.join("made.db");
    std::fs::remove_file(&path).ok();
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch(&format!("{settings}; {script}")).unwrap();
    drop(connection);
    std::fs::read(path).unwrap()
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let uri = format!("file:{}?immutable=1", path.display());
    Connection::open_with_flags(uri, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI)
}

/// Walks a database, whose pages come in an order that depends on `order`.
fn walked(path: &Path, bytes: &[u8], order: u64) -> Result<(Verdict, usize), Odd> {
    let page = |number: u32, size: usize| {
        let start = (number as usize).checked_sub(1)? * size;
        bytes.get(start..start + size).map(<[u8]>::to_vec)
    };
    let size = Header::parse(bytes).ok_or(Odd("no header"))?.page_bytes as usize;
    let first = page(1, size).ok_or(Odd("no first page"))?;
    let pages =
        schema_pages(&first, bytes.len() as u64, &mut |number| page(number, size)).ok_or(Odd("no schema"))?;
    let mut schema_alone = vec![0xa5; bytes.len()];
    for (number, bytes) in pages {
        let start = (number as usize - 1) * size;
        schema_alone[start..start + size].copy_from_slice(&bytes);
    }
    std::fs::write(path, &schema_alone).unwrap();
    let unreadable = |_| Odd("no plan");
    let connection = open(path).map_err(unreadable)?;
    let references = [
        Reference { index: "orders_customer".to_owned(), parent: "Customer".to_owned() },
        Reference { index: "customer_name".to_owned(), parent: "orders".to_owned() },
    ];
    let plan = Plan::of(&connection, &references).map_err(unreadable)?.ok_or(Odd("only for SQLite"))?;
    let tables = plan.trees.iter().filter(|tree| !tree.is_index).count();
    let walk = PageWalk::begin(plan, &first, bytes.len() as u64).ok_or(Odd("unusual"))?;
    if order.is_multiple_of(2) {
        walk.look_ahead(&mut |number| page(number, size));
    }
    let chunk = size * 3;
    let mut chunks: Vec<usize> = (0..bytes.len().div_ceil(chunk)).collect();
    chunks.sort_by_key(|number| (*number as u64 + 1).wrapping_mul(order) % 1009);
    for pair in chunks.chunks(2) {
        let range = |number: usize| number * chunk..((number + 1) * chunk).min(bytes.len());
        pair.iter().for_each(|number| walk.see((number * chunk) as u64, &bytes[range(*number)]));
        pair.iter().for_each(|number| walk.walk((number * chunk) as u64, &bytes[range(*number)]));
    }
    for range in walk.left(chunk as u64) {
        walk.walk(range.start, &bytes[range.start as usize..range.end as usize]);
    }
    assert!(walk.is_over() || walk.left(1).is_empty(), "what was shown twice is walked");
    let verdict = walk.finish(&mut |number| page(number, size))?;
    Ok((verdict, tables))
}

fn sqlite_says_ok(path: &Path, bytes: &[u8]) -> bool {
    std::fs::write(path, bytes).unwrap();
    let check = |connection: Connection| -> rusqlite::Result<Vec<String>> {
        let mut statement = connection.prepare("PRAGMA integrity_check")?;
        statement.query_map([], |row| row.get(0))?.collect()
    };
    open(path).and_then(check).is_ok_and(|problems| problems == ["ok"])
}

const SETTINGS: [&str; 5] = [
    "PRAGMA page_size = 512",
    "PRAGMA page_size = 1024; PRAGMA auto_vacuum = FULL",
    "PRAGMA page_size = 512; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL",
    "PRAGMA page_size = 4096",
    "PRAGMA page_size = 65536",
];

#[test]
fn sound_databases_are_found_to_be_so_in_whatever_order_they_come() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("walked.db");
    for settings in SETTINGS {
        for more in [
            "",
            "DROP TABLE plain; DROP INDEX orders_customer; CREATE INDEX orders_customer ON orders(customer);",
        ] {
            let bytes = database(folder.path(), settings, &format!("{FILL}{more}"));
            assert!(sqlite_says_ok(&path, &bytes));
            for order in [1, 17, 500, 1008] {
                let (verdict, tables) = walked(&path, &bytes, order).unwrap();
                assert_eq!(verdict.tables.len(), tables, "{settings}, {order}: {:?}", verdict.tables);
                let sound: Vec<&str> = verdict.references.iter().map(|found| found.index.as_str()).collect();
                assert_eq!(
                    sound,
                    ["orders_customer"],
                    "{settings}, {order}: one leads to rows, one does not"
                );
            }
        }
    }
}

#[test]
fn what_is_for_sqlite_alone_is_left_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("walked.db");
    for script in [
        "CREATE TABLE t(a CHECK (a > 0))",
        "CREATE TABLE t(a, b AS (a + 1) STORED)",
        "CREATE TABLE t(a PRIMARY KEY) WITHOUT ROWID",
        "CREATE TABLE t(a); CREATE INDEX i ON t(a + 1)",
        "CREATE TABLE t(a); CREATE INDEX i ON t(a) WHERE a > 1",
        "CREATE TABLE t(a INTEGER); INSERT INTO t VALUES (1); CREATE INDEX i ON t(a); ALTER TABLE t ADD b DEFAULT 5",
        "CREATE TABLE t(a BLOB, b); CREATE INDEX i ON t(b); INSERT INTO t VALUES (zeroblob(9000), 5)",
        "CREATE TABLE t(a); CREATE INDEX i ON t(a); INSERT INTO t VALUES (zeroblob(9000))",
    ] {
        let bytes = database(
            folder.path(),
            "",
            &format!("CREATE TABLE other(a UNIQUE); INSERT INTO other VALUES (1); {script}"),
        );
        let (verdict, _) = walked(&path, &bytes, 1).unwrap();
        let mut judged: Vec<&str> = verdict.tables.iter().map(String::as_str).collect();
        judged.sort_unstable();
        assert_eq!(judged, ["other", "sqlite_schema"], "{script}");
    }
    for script in ["CREATE VIRTUAL TABLE t USING fts5(a)", "PRAGMA encoding = 'UTF-16'; CREATE TABLE t(a)"] {
        let bytes = database(folder.path(), "", script);
        assert_eq!(walked(&path, &bytes, 1), Err(Odd("only for SQLite")), "{script}");
    }
}

/// Changes bytes, and compares the verdicts; returns how often each said that all is well.
fn compare_damaged(bytes: &[u8], places: impl Iterator<Item = (usize, u8)>) -> (usize, usize, usize) {
    let folder = tempfile::tempdir().unwrap();
    let (walked_path, sqlite_path) = (folder.path().join("walked.db"), folder.path().join("sqlite.db"));
    let (mut ours, mut theirs, mut count) = (0, 0, 0);
    for (place, value) in places {
        if bytes[place] == value {
            continue;
        }
        let mut damaged = bytes.to_vec();
        damaged[place] = value;
        let whole = walked(&walked_path, &damaged, 1 + place as u64 % 2)
            .is_ok_and(|(verdict, tables)| verdict.tables.len() == tables);
        let sqlite = sqlite_says_ok(&sqlite_path, &damaged);
        assert!(sqlite || !whole, "byte {place} as {value} instead of {}: SQLite finds it", bytes[place]);
        ours += usize::from(whole);
        theirs += usize::from(sqlite);
        count += 1;
    }
    (count, ours, theirs)
}

#[test]
fn no_damage_that_sqlite_finds_passes() {
    let folder = tempfile::tempdir().unwrap();
    for settings in &SETTINGS[..3] {
        let bytes = database(folder.path(), settings, FILL);
        let size = Header::parse(&bytes).unwrap().page_bytes as usize;
        // What each page begins with, and bytes all over it, with a stride that meets every kind of place.
        let heads = (0..bytes.len()).filter(|at| at % size < 14 || (*at < 100));
        let rest = (0..bytes.len()).step_by(127);
        let places = heads.step_by(7).chain(rest);
        let values = places.map(|at| (at, bytes[at].wrapping_add([1, 0x80, 0xff][at % 3])));
        let (count, ours, theirs) = compare_damaged(&bytes, values);
        assert!(count > 500 && theirs < count && ours > 0, "{settings}: {count}, {ours}, {theirs}");
        // What is only content (a letter in a column without an index) both let pass.
        assert!(ours * 10 > theirs * 7, "{settings}: of {count}, {ours} pass here and {theirs} there");
    }
}
