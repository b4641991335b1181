//! Single dump files of SQLite: every form and packing, whole and damaged.

use super::support::{Machine, count, fingerprint};
use super::{clean, dump, names, pack, tool};

fn restored(machine: &Machine, file: &str, target: &str) -> serde_json::Value {
    let target = machine.text(target);
    let report = machine.done(&["restore", file, "--target", &target, "--yes", "--json"]).json();
    assert_eq!(report["outcome"], "complete");
    assert_eq!(report["verified"], true);
    assert_eq!(report["target"], target);
    clean(machine);
    report
}

#[test]
fn every_form_and_packing_comes_back() {
    let machine = Machine::new();
    let source = machine.database("src/app.db", 5000);
    let image = machine.path("dumps/app_backup_20260105_120000.db");
    std::fs::create_dir_all(image.parent().unwrap()).unwrap();
    tool("sqlite3", &[&source.display().to_string(), &format!(".backup '{}'", image.display())]);
    let text = machine.path("dumps/app-20260105.sql");
    std::fs::write(&text, dump(&source)).unwrap();
    let packers = [("gzip", ".gz"), ("zstd", ".zst"), ("xz", ".xz"), ("bzip2", ".bz2"), ("lz4", ".lz4")];
    let here = |program: &str| std::process::Command::new(program).arg("--version").output().is_ok();
    for from in [&image, &text] {
        let mut files = vec![from.clone()];
        for (program, ending) in packers.iter().filter(|(program, _)| here(program)) {
            files.push(pack(program, ending, from));
        }
        assert!(files.len() > 3, "{files:?}");
        for (number, file) in files.iter().enumerate() {
            let target = format!("out/{}-{number}.db", from.extension().unwrap().display());
            std::fs::create_dir_all(machine.path("out")).unwrap();
            let before = std::fs::read(file).unwrap();
            let report = restored(&machine, &file.display().to_string(), &target);
            assert_eq!(report["backup"], file.display().to_string());
            assert!(report["safety_copy"].is_null());
            assert_eq!(dump(&machine.path(&target)), dump(&source), "{file:?}");
            assert_eq!(std::fs::read(file).unwrap(), before, "{file:?} was touched");
            if from == &image {
                assert_eq!(std::fs::read(machine.path(&target)).unwrap(), std::fs::read(&image).unwrap());
            }
        }
    }
}

#[test]
fn what_the_target_held_is_kept_and_comes_back() {
    let machine = Machine::new();
    machine.database("dumps/app-20260105.db", 10);
    let live = machine.database("srv/app.db", 99);
    let old = std::fs::read(&live).unwrap();
    let report = restored(&machine, "dumps/app-20260105.db", "srv/app.db");
    let copy = report["safety_copy"].as_str().unwrap().to_owned();
    assert!(copy.contains("app.db.safety-"), "{copy}");
    assert_eq!(std::fs::read(&copy).unwrap(), old);
    assert_eq!(count(&live), 10);
    assert_eq!(report["backup_time"], "2026-01-05T00:00:00Z");

    // The old spelling, and a folder for the safety copy.
    std::fs::create_dir(machine.path("safe")).unwrap();
    let arguments = ["restore", "--file", "dumps/app-20260105.db", "--target", "srv/app.db"];
    let more = ["--safety-backup-dir", "safe", "--confirm", "app.db", "--json"];
    let report = machine.done(&[&arguments[..], &more].concat()).json();
    assert!(report["safety_copy"].as_str().unwrap().starts_with(&machine.text("safe/")), "{report}");
    assert_eq!(names(&machine, "safe").len(), 1);
}

#[test]
fn a_log_beside_the_dump_belongs_to_it() {
    let machine = Machine::new();
    let source = machine.database("src/app.db", 10);
    let writer = rusqlite::Connection::open(&source).unwrap();
    let mode: String = writer.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
    writer.execute("INSERT INTO t VALUES (1000, 'in the log')", []).unwrap();
    std::fs::create_dir(machine.path("dumps")).unwrap();
    std::fs::copy(&source, machine.path("dumps/app.db")).unwrap();
    std::fs::copy(machine.path("src/app.db-wal"), machine.path("dumps/app.db-wal")).unwrap();
    let before = fingerprint(&machine.path("dumps"));
    restored(&machine, "dumps/app.db", "new.db");
    assert_eq!(count(&machine.path("new.db")), 11);
    assert!(!machine.path("new.db-wal").exists());
    assert_eq!(fingerprint(&machine.path("dumps")), before);
    drop(writer);
}

#[test]
fn a_dump_that_is_not_whole_changes_nothing() {
    let machine = Machine::new();
    let source = machine.database("src/app.db", 3000);
    let live = machine.database("srv/app.db", 7);
    let text = dump(&source);
    let image = std::fs::read(&source).unwrap();
    let mut flipped = image.clone();
    // A page of the table: its rows point nowhere.
    flipped[4096..4200].fill(0xff);
    std::fs::create_dir(machine.path("dumps")).unwrap();
    let packed = {
        std::fs::write(machine.path("whole.sql"), &text).unwrap();
        std::fs::read(pack("gzip", ".gz", &machine.path("whole.sql"))).unwrap()
    };
    let cases: [(&str, Vec<u8>, &str); 8] = [
        ("empty.db", vec![], "is empty"),
        ("cut.sql.gz", packed[..packed.len() / 2].to_vec(), "unpacked"),
        ("garbage.db.gz", b"\x1f\x8bgarbage that is none".to_vec(), "unpacked"),
        ("half.sql", text[..text.len() / 2].to_vec(), "cut off"),
        ("uncommitted.sql", text[..text.len() - b"COMMIT;\n".len()].to_vec(), "never committed"),
        ("flipped.db", flipped, "integrity check"),
        ("short.db", image[..image.len() / 2].to_vec(), ""),
        ("diary.sql", b"Dear diary,\n".to_vec(), "no SQL"),
    ];
    let before = fingerprint(&machine.path("srv"));
    for (name, bytes, says) in cases {
        std::fs::write(machine.path("dumps").join(name), bytes).unwrap();
        let file = format!("dumps/{name}");
        let target = live.display().to_string();
        for more in [&["--yes"][..], &["--dry-run"]] {
            let outcome = machine.run(&[&["restore", &file, "--target", &target], more].concat());
            assert_eq!(outcome.code, 20, "{name}: {} {}", outcome.out, outcome.err);
            assert!(outcome.err.contains(name) && outcome.err.contains(says), "{name}: {}", outcome.err);
            assert_eq!(fingerprint(&machine.path("srv")), before, "{name}");
            clean(&machine);
        }
    }
}

#[test]
fn a_dry_run_reads_the_dump_and_changes_nothing() {
    let machine = Machine::new();
    machine.database("dumps/app.db", 10);
    machine.database("srv/app.db", 99);
    let before = fingerprint(&machine.path("."));
    let outcome = machine.done(&["restore", "dumps/app.db", "--target", "srv/app.db", "--dry-run"]);
    assert!(outcome.out.contains("would restore to"), "{}", outcome.out);
    assert_eq!(fingerprint(&machine.path(".")), before);
    let missing = machine.run(&["restore", "dumps/none.db", "--target", "srv/app.db", "--yes"]);
    assert_eq!(missing.code, 20, "{}", missing.err);
    let itself = machine.run(&["restore", "srv/app.db", "--target", "srv/app.db", "--yes"]);
    assert_eq!(itself.code, 2, "{}", itself.err);
    let asked = machine.run(&["restore", "dumps/app.db", "--target", "srv/app.db"]);
    assert_eq!(asked.code, 2, "{}", asked.err);
    assert_eq!(fingerprint(&machine.path(".")), before);
}

#[test]
fn hooks_run_and_a_failed_start_puts_the_old_one_back() {
    let machine = Machine::new();
    machine.database("dumps/app.db", 10);
    let live = machine.database("srv/app.db", 99);
    let log = machine.text("log");
    let (stop, start) = (format!("echo stop >> {log}"), format!("echo start >> {log}"));
    let hooks = ["--stop-command", &stop, "--start-command", &start];
    let arguments = ["restore", "dumps/app.db", "--target", "srv/app.db", "--yes"];
    machine.done(&[&arguments[..], &hooks].concat());
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "stop\nstart\n");
    assert_eq!(count(&live), 10);
    let failing = ["--stop-command", &stop, "--start-command", "exit 7"];
    machine.database("dumps/other.db", 5);
    let arguments = ["restore", "dumps/other.db", "--target", "srv/app.db", "--yes", "--json"];
    let outcome = machine.run(&[&arguments[..], &failing].concat());
    assert_ne!(outcome.code, 0);
    assert_eq!(outcome.json()["rolled_back"], true, "{}", outcome.out);
    assert_eq!(count(&live), 10);
}

#[test]
fn a_killed_restore_goes_on_from_the_same_file_only() {
    let machine = Machine::new();
    let file = machine.database("dumps/app.db", 10);
    let live = machine.database("srv/app.db", 99);
    let old = std::fs::read(&live).unwrap();
    let killed = |machine: &Machine| {
        // Killed by its own stop command: between what was written beside and the swap.
        let arguments = ["restore", "dumps/app.db", "--target", "srv/app.db", "--yes"];
        let outcome = machine.run(&[&arguments[..], &["--stop-command", "kill -9 $PPID; sleep 1"]].concat());
        assert_eq!(outcome.code, -1, "{}", outcome.err);
        assert_eq!(std::fs::read(&live).unwrap(), old);
    };
    killed(&machine);
    let content = std::fs::read(&file).unwrap();
    let other = machine.database("other.db", 11);
    std::fs::copy(&other, &file).unwrap();
    let go_on = ["restore", "--continue", "--target", "srv/app.db", "--stop-command", "true"];
    let refused = machine.run(&go_on);
    assert_eq!(refused.code, 20, "{}", refused.err);
    assert!(refused.err.contains("is not the file any more"), "{}", refused.err);
    std::fs::write(&file, content).unwrap();
    machine.done(&go_on);
    assert_eq!(count(&live), 10);

    std::fs::write(&live, &old).unwrap();
    killed(&machine);
    std::fs::remove_file(&file).unwrap();
    machine.done(&["restore", "--rollback", "--target", "srv/app.db", "--stop-command", "true"]);
    assert_eq!(std::fs::read(&live).unwrap(), old);
    assert!(
        !names(&machine, "srv").iter().any(|name| name.contains("backstay")),
        "{:?}",
        names(&machine, "srv")
    );
}

#[test]
fn the_settings_of_folder_tools_stand_for_options() {
    let machine = Machine::new();
    machine.database("dumps/app.db", 10);
    machine.database("srv/app.db", 99);
    let arguments = ["restore", "dumps/app.db", "--target", "srv/app.db", "--yes", "--json"];
    let with = |section: &str| {
        let text = format!(r#"{{ "restoration": {section} }}"#);
        let path = machine.write("tools.json", &text).display().to_string();
        machine.run(&[&["--config", &path], &arguments[..]].concat())
    };
    let usual =
        r#"{ "verify_integrity": true, "create_safety_backup": true, "safety_backup_suffix": ".safety" }"#;
    let report = with(usual).json();
    assert_eq!((&report["verified"], report["safety_copy"].is_null()), (&true.into(), false), "{report}");
    let report = with(r#"{ "verify_integrity": false, "create_safety_backup": false }"#).json();
    assert_eq!((&report["verified"], report["safety_copy"].is_null()), (&false.into(), true), "{report}");
    for wrong in [
        r#"{ "safety_backup_suffix": "../old" }"#,
        r#"{ "safety_backup_suffix": "" }"#,
        r#"{ "safety_backup_suffix": "-wal" }"#,
        r#"{ "verify": true }"#,
    ] {
        assert_eq!(with(wrong).code, 2, "{wrong}");
    }
    let outcome = with(r#"{ "safety_backup_suffix": ".db" }"#);
    assert!(outcome.err.contains("`restoration.safety_backup_suffix`"), "{}", outcome.err);
    assert!(outcome.err.contains("\".db\" is an ending by which other files are known"));
    let mut command = machine.command();
    let report =
        super::support::outcome(command.env("BACKUP_VERIFY_RESTORE", "false").args(arguments)).json();
    assert_eq!(report["verified"], false, "{report}");
}

#[test]
fn safety_copies_bear_the_suffix_that_folder_tools_were_told() {
    let machine = Machine::new();
    machine.database("dumps/app-20260105.db", 10);
    let live = machine.database("srv/app.db", 99);
    let tools = machine.write("tools.json", r#"{ "restoration": { "safety_backup_suffix": "_before" } }"#);
    let tools = tools.display().to_string();
    let with =
        |arguments: &[&str]| machine.run(&[&["--config", &tools, "--json"], arguments].concat()).json();
    let restore = ["restore", "dumps/app-20260105.db", "--target", "srv/app.db", "--yes"];
    let planned = with(&[&restore[..], &["--dry-run"]].concat());
    assert!(planned["safety_copy"].as_str().unwrap().contains("/app.db_before-20"), "{planned}");
    // Within a second the second one gets a number, and none takes the place of another.
    let copies: Vec<String> =
        (0..3).map(|_| with(&restore)["safety_copy"].as_str().unwrap().to_owned()).collect();
    assert_eq!(count(std::path::Path::new(&copies[0])), 99);
    assert!(copies.iter().all(|copy| copy.contains("/srv/app.db_before-20")), "{copies:?}");
    assert_eq!(names(&machine, "srv").len(), 4);
    assert_eq!(count(&live), 10);
    // In a folder of databases, and in one of dumps, they are known for what they are.
    let backup = with(&["backup", "./srv"]);
    assert_eq!(backup["backups"].as_array().unwrap().len(), 1, "{backup}");
    let skipped = |report: &serde_json::Value| {
        let skipped = report["skipped"].as_array().unwrap().iter();
        skipped.filter(|item| item["reason"] == "is a safety copy that a restore kept").count()
    };
    assert_eq!(skipped(&backup), 3, "{backup}");
    let verified = with(&["verify", "./srv"]);
    assert_eq!((&verified["summary"]["total_files"], skipped(&verified)), (&1.into(), 3), "{verified}");
}
