//! Dumps of PostgreSQL that stock `pg_dump` of two versions wrote: each becomes a backup like those of a live database, which
//! stock restic and stock `pg_restore` make a database of, equal to the one that was dumped.

use crate::seams::{Place, both};
use crate::support::{Outcome, outcome};
use crate::{imports, pack};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use testkit::{Cluster, POSTGRES_VERSIONS};

const EVERYTHING: &str = include_str!("../../../engines/tests/postgres_dump/everything.sql");
const ITEMS: &str =
    "CREATE TABLE items (id int PRIMARY KEY, body text, at timestamptz DEFAULT '2026-01-05 12:00+02');
  INSERT INTO items SELECT i, md5(i::text) || md5((-i)::text) FROM generate_series(1, 20000) AS i;";

struct Stage {
    cluster: Cluster,
    place: Place,
}

impl Stage {
    fn new(major: u32, script: &str) -> Self {
        let stage = Self { cluster: Cluster::start(major), place: Place::new() };
        stage.cluster.create("erp");
        stage
            .cluster
            .sql("erp", &format!("\\set role_reader reader\n\\set role_owner 'the owner'\n{script}"));
        fs::create_dir(stage.place.path("dumps")).unwrap();
        fs::write(stage.place.path("passphrase"), "geheim und lang\n").unwrap();
        stage
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        let mut command = self.place.command();
        command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", self.cluster.programs().display()));
        command.env("BACKSTAY_AGE_PASSPHRASE_FILE", self.place.path("passphrase"));
        outcome(command.args(arguments))
    }

    #[track_caller]
    fn done(&self, arguments: &[&str]) -> Outcome {
        let outcome = self.run(arguments);
        assert_eq!(outcome.code, 0, "{arguments:?}: {} {}", outcome.out, outcome.err);
        outcome
    }

    /// Imports, and holds the folder against what it was.
    #[track_caller]
    fn import(&self, code: i32, arguments: &[&str]) -> Value {
        let before = crate::seams::tree(&self.place.path("dumps"));
        let outcome = self.run(&[&["import"], arguments, &["--json"]].concat());
        assert_eq!(outcome.code, code, "{arguments:?}: {} {}", outcome.out, outcome.err);
        assert_eq!(before, crate::seams::tree(&self.place.path("dumps")), "{arguments:?} touched the files");
        let scratch = self.place.machine.root.join("home/.cache/backstay/scratch");
        let left: Vec<_> = fs::read_dir(scratch).into_iter().flatten().flatten().collect();
        assert!(left.is_empty(), "{arguments:?} left {left:?}");
        outcome.json()
    }

    /// Has a stock program write a dump.
    fn dump(&self, program: &str, name: &str, options: &[&str]) -> PathBuf {
        let path = self.place.path("dumps").join(name);
        let output = self.cluster.command(program).args(options).arg("-f").arg(&path).output().unwrap();
        assert!(output.status.success(), "{options:?}: {}", both(&output));
        path
    }

    fn backups(&self) -> usize {
        self.done(&["list", "--json"]).json()["backups"].as_array().unwrap().len()
    }

    /// Makes a database of a backup by stock restic and stock `pg_restore`.
    #[track_caller]
    fn by_stock_programs(&self, id: &str, database: &str) {
        let folder = self.place.path(database);
        self.place.restic(&["restore", id, "--target", folder.to_str().unwrap()]);
        self.cluster.create(database);
        let archive = archive_in(&folder);
        let mut command = self.cluster.command("pg_restore");
        let output = command.args(["-j2", "--exit-on-error", "-d", database]).arg(archive).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{database}: {}", both(&output));
    }

    #[track_caller]
    fn drop_database(&self, name: &str) {
        self.cluster.sql("postgres", &format!("DROP DATABASE {name}"));
    }
}

fn archive_in(folder: &Path) -> PathBuf {
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        if folder.join("toc.dat").is_file() {
            return folder;
        }
        let below = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        open.extend(below.filter(|path| path.is_dir()));
    }
    panic!("there is no archive in the snapshot");
}

fn item<'a>(report: &'a Value, name: &str) -> &'a Value {
    let found = imports(report).iter().find(|item| item["path"].as_str().unwrap().ends_with(name));
    found.unwrap_or_else(|| panic!("{name} is not in {report}"))
}

fn id(item: &Value) -> &str {
    item["id"].as_str().unwrap_or_else(|| panic!("no backup: {item}"))
}

/// Which files are restored by which programs: of a way to pack, one form is enough.
const BY_STOCK_PROGRAMS: [usize; 5] = [0, 2, 3, 6, 9];
const BY_OURSELVES: [usize; 3] = [1, 5, 8];

#[test]
fn every_form_becomes_a_backup_that_stock_programs_restore() {
    for major in POSTGRES_VERSIONS {
        let stage = Stage::new(major, EVERYTHING);
        let expected = stage.cluster.text("erp");
        stage.dump("pg_dump", "erp-20260101.dump", &["-Fc", "-d", "erp"]);
        let tar = stage.dump("pg_dump", "erp-20260103.tar", &["-Ft", "-d", "erp"]);
        stage.dump("pg_dump", "erp-20260104", &["-Fd", "-d", "erp"]);
        let text = stage.dump("pg_dump", "erp-20260107.sql", &["-d", "erp"]);
        // Of the other version what differs between them: large objects in groups, the header, the text.
        let is_first = major == POSTGRES_VERSIONS[0];
        if is_first {
            stage.dump("pg_dump", "erp-20260102.dump", &["-Fc", "-Z0", "-d", "erp"]);
            pack("zstd", ".zst", &tar, &stage.place.path("dumps/erp-20260106.tar"));
            pack("xz", ".xz", &text, &stage.place.path("dumps/erp-20260107.sql"));
            fs::remove_file(&text).unwrap();
            stage.dump("pg_dump", "erp-20260109.sql", &["--create", "--inserts", "-d", "erp"]);
            let sealed = stage.place.text("dumps/erp-20260110.dump.age");
            stage.done(&["backup", &stage.cluster.url("erp"), "--out", &sealed]);
        }
        let report = stage.import(0, &["dumps"]);
        let rows = &imports(&report)[0]["rows"];
        assert!(rows.as_u64().unwrap() > 0);
        let forms = ["custom", "custom", "tar", "directory", "custom", "tar", "sql", "sql", "sql", "custom"];
        assert_eq!(imports(&report).len(), if is_first { 8 } else { 4 }, "{report}");
        for item in imports(&report) {
            let day = item["path"].as_str().unwrap().split("202601").nth(1).unwrap();
            let number = day[..2].parse::<usize>().unwrap() - 1;
            let form = forms[number];
            assert_eq!((&item["status"], &item["form"]), (&"imported".into(), &form.into()), "{item}");
            assert_eq!((&item["engine"], &item["database"]), (&"postgres".into(), &"erp".into()), "{item}");
            assert_eq!(item["time"], format!("2026-01-{:02}T00:00:00Z", number + 1), "{item}");
            assert_eq!((&item["rows"], &item["proof"]), (rows, &"stored".into()), "{item}");
            let copy = format!("copy_{number}");
            if BY_STOCK_PROGRAMS.contains(&number) {
                stage.by_stock_programs(id(item), &copy);
            } else if BY_OURSELVES.contains(&number) {
                let new = stage.cluster.url(&copy);
                let restored = stage.done(&["restore", id(item), "--to-new", &new, "--json"]).json();
                assert_eq!(restored["verified"], true, "{item}");
            } else {
                continue;
            }
            assert!(stage.cluster.text(&copy) == expected, "{major}: {item}");
            stage.drop_database(&copy);
        }
        stage.done(&["verify", id(&imports(&report)[0])]);
        stage.place.restic(&["check", "--read-data"]);
        let again = stage.import(0, &["dumps"]);
        for (item, first) in imports(&again).iter().zip(imports(&report)) {
            assert_eq!(item["status"], "known", "{item}");
            assert_eq!((&item["id"], &item["sha256"]), (&first["id"], &first["sha256"]), "{item}");
        }
        let exported = if is_first { "erp-20260107.sql.xz" } else { "erp-20260104" };
        come_out_again(&stage, id(item(&report, exported)), &expected);
    }
}

/// A backup as one file, in every form.
fn come_out_again(stage: &Stage, id: &str, expected: &str) {
    for (ending, program) in [("dump", "pg_restore"), ("tar", "pg_restore"), ("sql", "psql")] {
        let out = stage.place.text(&format!("out-{}.{ending}", &id[..8]));
        stage.done(&["export", id, "--out", &out]);
        stage.cluster.create("exported");
        let mut command = stage.cluster.command(program);
        let command = match program {
            "psql" => command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", &out]),
            _ => command.args(["--exit-on-error", &out]),
        };
        let output = command.args(["-d", "exported"]).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{ending}: {}", both(&output));
        assert!(stage.cluster.text("exported") == expected, "{ending}");
        stage.drop_database("exported");
    }
}

#[test]
fn what_is_cut_or_no_dump_of_one_database_is_refused_and_others_go_on() {
    let stage = Stage::new(15, ITEMS);
    let dumps = stage.place.path("dumps");
    let custom = stage.dump("pg_dump", "good-20260101.dump", &["-Fc", "-d", "erp"]);
    let plain = stage.dump("pg_dump", "plain-20260101.dump", &["-Fc", "-Z0", "-d", "erp"]);
    let tar = stage.dump("pg_dump", "tar-20260101.tar", &["-Ft", "-d", "erp"]);
    let text = stage.dump("pg_dump", "text-20260101.sql", &["-d", "erp"]);
    let folder = stage.dump("pg_dump", "folder-20260101", &["-Fd", "-d", "erp"]);
    stage.dump("pg_dump", "inserts-20260101.dump", &["-Fc", "--inserts", "-d", "erp"]);
    stage.dump("pg_dumpall", "all-20260101.sql", &[]);
    stage.dump("pg_dump", "schema-20260101.dump", &["-Fc", "--schema-only", "-d", "erp"]);
    for (from, name) in [(&custom, "c.dump"), (&plain, "p.dump"), (&tar, "t.tar"), (&text, "s.sql")] {
        let bytes = fs::read(from).unwrap();
        for (number, at) in [bytes.len() / 2, bytes.len() - bytes.len() / 8].into_iter().enumerate() {
            fs::write(dumps.join(format!("cut{number}-{name}")), &bytes[..at]).unwrap();
        }
    }
    let packed = pack("gzip", ".gz", &custom, &dumps.join("cutz.dump"));
    let bytes = fs::read(&packed).unwrap();
    fs::write(&packed, &bytes[..bytes.len() - 4]).unwrap();
    for file in [&plain, &tar, &text] {
        fs::remove_file(file).unwrap();
    }
    let largest = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path());
    let largest = largest.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let bytes = fs::read(&largest).unwrap();
    fs::write(&largest, &bytes[..bytes.len() / 2]).unwrap();
    fs::write(dumps.join("graph-20260101.dump"), b"DZV1 and more").unwrap();
    fs::copy(crate::chinook(), dumps.join("shop-20260102.db")).unwrap();

    let report = stage.import(3, &["dumps"]);
    for item in imports(&report) {
        let path = item["path"].as_str().unwrap();
        let is_good = ["good-", "shop-", "schema-"].iter().any(|name| path.contains(name));
        if is_good {
            assert_eq!(item["status"], "imported", "{item}");
            continue;
        }
        assert_eq!(item["status"], "failed", "{item}");
        assert_eq!(item["error"]["exit_code"], 20, "{item}");
        assert!(item["error"]["message"].as_str().unwrap().contains(path), "{item}");
        assert!(item["error"]["hint"].is_string(), "{item}");
    }
    assert_eq!(imports(&report).len(), 16, "{report}");
    let says = |name: &str, words: &str| {
        let error = &item(&report, name)["error"];
        assert!(error.to_string().contains(words), "{name}: {error}");
    };
    says("all-20260101.sql", "pg_dumpall");
    says("inserts-20260101.dump", "INSERT");
    says("graph-20260101.dump", "Neo4j dump");
    assert_eq!((&item(&report, "shop-20260102.db")["engine"]), "sqlite");
    assert_eq!(stage.backups(), 3);
    assert_eq!(stage.place.restic_json(&["snapshots"]).as_array().unwrap().len(), 3);
    // Definitions alone never stand for the whole.
    let schema = stage.done(&["show", id(item(&report, "schema-20260101.dump")), "--json"]).json();
    assert_eq!(schema["manifest"]["facts"]["selection"]["content"], "schema", "{schema}");
    stage.place.restic(&["check", "--read-data"]);
}

#[test]
fn a_second_day_adds_little_and_belongs_to_the_target() {
    let stage = Stage::new(18, &ITEMS.replace("20000", "120000"));
    let url = stage.cluster.url("erp");
    let config = format!("[targets.erp]\nsource = \"{url}\"\n[targets.other]\nsource = \"other.db\"\n");
    fs::write(stage.place.path("backstay.toml"), config).unwrap();
    stage.dump("pg_dump", "erp_backup_20260105_120000.dump", &["-Fc", "-d", "erp"]);
    stage.cluster.sql("erp", "UPDATE items SET body = 'changed' WHERE id = 17");
    stage.dump("pg_dump", "erp_backup_20260106_120000.tar", &["-Ft", "-d", "erp"]);
    let second = stage.cluster.text("erp");
    let dry = stage.import(0, &["dumps", "--target", "erp", "--dry-run", "--time-zone", "Europe/Berlin"]);
    assert_eq!(imports(&dry)[0]["status"], "planned");
    assert_eq!(imports(&dry)[0]["time"], "2026-01-05T11:00:00Z");
    assert_eq!(stage.backups(), 0);
    let report = stage.import(0, &["dumps", "--target", "erp"]);
    let added: Vec<u64> = imports(&report).iter().map(|item| item["added_bytes"].as_u64().unwrap()).collect();
    assert!(added[1] * 2 < added[0], "{added:?}");
    // A backup of the live database finds what was imported.
    let live = stage.done(&["backup", "erp", "--json"]).json();
    let new = live["backups"][0]["added_bytes"].as_u64().unwrap();
    assert!(new * 4 < added[0], "{new} {added:?}");
    let shown = stage.done(&["show", id(&imports(&report)[0]), "--json"]).json();
    let facts = &shown["manifest"]["facts"];
    assert_eq!(facts["properties"]["encoding"], "UTF8", "{facts}");
    assert_eq!(facts["properties"]["server_major"], 18, "{facts}");
    assert_eq!(facts["properties"]["globals"], false, "{facts}");
    assert!(facts["tables"][0]["digest"].is_string() && facts["tables"][0]["rows"] == 120_000, "{facts}");
    assert!(!shown.to_string().contains("scratch"), "{shown}");
    // One table, and then all of it, to where it came from.
    stage.cluster.sql("erp", "DROP TABLE items");
    let day = id(&imports(&report)[1]).to_owned();
    stage.done(&["restore", &day, "--table", "items"]);
    assert_eq!(stage.cluster.text("erp"), second);
    stage.cluster.sql("erp", "DELETE FROM items");
    stage.done(&["restore", "erp@2026-01-06T12:00", "--yes"]);
    assert_eq!(stage.cluster.text("erp"), second);
    // It is of no other system.
    let refused = stage.import(2, &["dumps", "--target", "other"]);
    let message = imports(&refused)[0]["error"]["message"].as_str().unwrap();
    assert!(message.contains("is a dump of postgres, and other is sqlite"), "{message}");
}

#[test]
fn tenants_of_a_server_are_told_by_names() {
    let stage = Stage::new(15, "SELECT 1");
    for tenant in ["acme", "bolt"] {
        stage.cluster.create(&format!("shop_{tenant}"));
        let sql = format!("CREATE TABLE t AS SELECT '{tenant}' AS name");
        stage.cluster.sql(&format!("shop_{tenant}"), &sql);
        let database = format!("shop_{tenant}");
        stage.dump("pg_dump", &format!("{tenant}-20260101.dump"), &["-Fc", "-d", &database]);
    }
    let url = stage.cluster.url("shop_{tenant}");
    fs::write(stage.place.path("backstay.toml"), format!("[targets.shops]\nsource = \"{url}\"\n")).unwrap();
    let report = stage.import(0, &["dumps", "--target", "shops"]);
    let names: Vec<&Value> = imports(&report).iter().map(|item| &item["database"]).collect();
    assert_eq!(names, ["acme", "bolt"]);
    stage.cluster.sql("shop_bolt", "DELETE FROM t");
    stage.done(&["restore", "shops/bolt@latest", "--yes"]);
    for tenant in ["acme", "bolt"] {
        let found = stage.cluster.sql(&format!("shop_{tenant}"), "SELECT name FROM t");
        assert_eq!(found, tenant);
    }
    // Where nobody says which server, none is guessed.
    fs::remove_file(stage.place.path("backstay.toml")).unwrap();
    let report = stage.import(0, &["dumps/acme-20260101.dump"]);
    let backup = id(&imports(&report)[0]).to_owned();
    for arguments in [&["restore", &backup, "--to-new", "acme_look"][..], &["restore", &backup, "--yes"]] {
        let refused = stage.run(arguments);
        assert_eq!(refused.code, 2, "{}", refused.err);
        assert!(refused.err.contains("--to-new") && refused.err.contains("hint: "), "{}", refused.err);
    }
}

#[test]
fn a_killed_import_leaves_no_snapshot() {
    let stage = Stage::new(15, "CREATE TABLE big (id int, body text);
        INSERT INTO big SELECT i, md5(i::text) || md5((i + 1)::text) || md5((i + 2)::text) FROM generate_series(1, 300000) AS i");
    stage.dump("pg_dump", "erp-20260101.dump", &["-Fc", "-Z0", "-d", "erp"]);
    // While it stores it holds a lock.
    let locks = || fs::read_dir(stage.place.repository().join("locks")).into_iter().flatten().count();
    let mut process = stage.place.process(&["import", "dumps"]).spawn().unwrap();
    let started = Instant::now();
    while locks() == 0 {
        assert!(process.try_wait().unwrap().is_none(), "it ended before it could be killed");
        assert!(started.elapsed() < Duration::from_secs(60), "nothing is stored");
        std::thread::sleep(Duration::from_millis(2));
    }
    process.kill().unwrap();
    process.wait().unwrap();
    assert_eq!(stage.place.restic_json(&["snapshots", "--no-lock"]).as_array().unwrap().len(), 0);
    assert_eq!(stage.backups(), 0);
    let report = stage.import(0, &["dumps"]);
    assert_eq!(imports(&report)[0]["rows"], 300_000);
    stage.by_stock_programs(id(&imports(&report)[0]), "copy");
    assert_eq!(stage.cluster.text("copy"), stage.cluster.text("erp"));
}
