//! What a person and a script do with a database: back up, list, show, lose, restore, verify, export, with the JSON
//! keys and exit codes that are a contract.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use serde_json::Value;
use support::{Machine, count, outcome};

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn assert_keys(value: &Value, expected: &[&str]) {
    let present = keys(value);
    for key in expected {
        assert!(present.contains(key), "`{key}` is missing in {value}");
    }
}

const HEAD: [&str; 6] = ["schema", "started", "finished", "elapsed_ms", "outcome", "error"];

#[test]
fn a_database_goes_in_and_comes_back() {
    let machine = Machine::new();
    let path = machine.database("app.db", 1000);
    let first = machine.done(&["backup", "app.db"]);
    assert!(first.err.contains("copy the key file"), "{}", first.err);
    assert!(first.err.contains("Backed up 1 database ("), "{}", first.err);
    assert!(!first.err.contains(&machine.key()) && !first.out.contains(&machine.key()));
    let original = std::fs::read(&path).unwrap();

    rusqlite::Connection::open(&path).unwrap().execute_batch("DELETE FROM t WHERE id > 10").unwrap();
    assert_eq!(count(&path), 10);
    let refused = machine.run(&["restore", "app.db"]);
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert!(refused.err.contains("hint: add --confirm app.db"), "{}", refused.err);
    assert_eq!(count(&path), 10);
    let wrong = machine.run(&["restore", "app.db", "--confirm", "other.db"]);
    assert_eq!(wrong.code, 2, "{}", wrong.err);
    assert_eq!(count(&path), 10);

    let dry = machine.done(&["restore", "app.db", "--dry-run"]);
    assert!(dry.out.contains("would restore to"), "{}", dry.out);
    assert_eq!(count(&path), 10);

    let restored = machine.done(&["restore", "app.db@latest", "--confirm", "app.db"]);
    assert!(restored.err.contains("compared with the backup and checked"), "{}", restored.err);
    assert_eq!(std::fs::read(&path).unwrap(), original);
    let kept: Vec<_> = std::fs::read_dir(path.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("app.db.safety-"))
        .collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
}

#[test]
fn a_lost_database_comes_back_by_yes_alone() {
    let machine = Machine::new();
    let path = machine.database("app.db", 100);
    machine.done(&["backup", "app.db", "--quiet"]);
    std::fs::remove_file(&path).unwrap();
    machine.done(&["restore", "app.db", "--yes"]);
    assert_eq!(count(&path), 100);
}

#[test]
fn to_new_replaces_nothing_and_asks_nothing() {
    let machine = Machine::new();
    machine.database("app.db", 100);
    machine.done(&["backup", "app.db"]);
    machine.done(&["restore", "latest", "--to-new", "new.db"]);
    assert_eq!(count(&machine.path("new.db")), 100);
    let again = machine.run(&["restore", "latest", "--to-new", "new.db"]);
    assert_ne!(again.code, 0);
    assert_eq!(count(&machine.path("new.db")), 100);
}

#[test]
fn json_objects_have_every_key() {
    let machine = Machine::new();
    machine.database("app.db", 100);
    let backup = machine.done(&["backup", "app.db", "--json", "--report", "report.json"]);
    let object = backup.json();
    assert_keys(&object, &HEAD);
    assert_keys(&object, &["backups", "suspicions", "pruned"]);
    assert_eq!(object["schema"], "backstay.backup/1");
    assert_eq!(object["outcome"], "complete");
    let item = [
        "id",
        "target",
        "database",
        "engine",
        "time",
        "size_bytes",
        "read_bytes",
        "added_bytes",
        "rows",
        "unchanged",
        "proof",
        "elapsed_ms",
        "error",
    ];
    assert_keys(&object["backups"][0], &item);
    assert_eq!(object["backups"][0]["id"].as_str().unwrap().len(), 64);
    let stored: Value =
        serde_json::from_str(&std::fs::read_to_string(machine.path("report.json")).unwrap()).unwrap();
    assert_eq!(stored, object);
    assert!(backup.out.trim_start().starts_with("{\n  \"schema\""), "{}", backup.out);

    let list = machine.done(&["list", "--json"]).json();
    let item = [
        "id",
        "target",
        "database",
        "engine",
        "time",
        "size_bytes",
        "added_bytes",
        "rows",
        "proof",
        "proof_time",
        "tags",
    ];
    assert_keys(&list["backups"][0], &item);
    let verify = machine.done(&["verify", "--json"]).json();
    assert_keys(&verify["summary"], &["total_files", "valid", "invalid", "all_valid"]);
    assert_keys(
        &verify["files"][0],
        &[
            "id",
            "valid",
            "size_bytes",
            "age_seconds",
            "time_source",
            "format",
            "compression",
            "checks",
            "error",
        ],
    );
    assert_keys(&verify["performance"], &["bytes_read", "bytes_per_second", "elapsed_ms"]);
}

#[test]
fn json_objects_of_restores_and_checks_have_every_key() {
    let machine = Machine::new();
    machine.database("app.db", 100);
    machine.done(&["backup", "app.db"]);
    let restore = machine.done(&["restore", "app.db", "--yes", "--json"]).json();
    assert_keys(
        &restore,
        &["backup", "target", "safety_copy", "verified", "rolled_back", "steps", "performance"],
    );
    assert_keys(&restore["steps"][0], &["name", "elapsed_ms"]);
    assert_keys(&machine.done(&["check", "--json"]).json(), &["errors"]);
    assert_keys(&machine.done(&["show", "latest", "--json"]).json(), &["backup", "manifest"]);
}

#[test]
fn json_objects_of_failures_have_every_key_too() {
    let machine = Machine::new();
    let failed = machine.run(&["backup", "nowhere.db", "--json"]);
    assert_eq!(failed.code, 20);
    let object = failed.json();
    assert_eq!(object["outcome"], "failed");
    assert_keys(&object["error"], &["message", "causes", "hint", "exit_code"]);
    assert_eq!(object["error"]["exit_code"], 20);
    assert_keys(&object, &["backups", "suspicions", "pruned"]);
    let failed = machine.run(&["list", "--repository", "./nowhere", "--json"]);
    assert_eq!(failed.code, 10);
    assert_eq!(failed.json()["error"]["exit_code"], 10);
    assert_keys(&failed.json(), &["backups"]);
}

#[test]
fn one_of_several_that_fails_is_named_and_the_rest_is_kept() {
    let machine = Machine::new();
    machine.database("shops/a.db", 10);
    machine.write(
        "shops/b.db",
        "this is no database, whatever its name says, and it is long enough to be looked at",
    );
    let outcome = machine.run(&["backup", "shops/*.db"]);
    assert_eq!(outcome.code, 3, "{}", outcome.err);
    assert!(outcome.err.contains("b.db"), "{}", outcome.err);
    assert!(outcome.err.contains("1 of 2 databases failed"), "{}", outcome.err);
    let list = machine.done(&["list", "--json"]).json();
    assert_eq!(list["backups"].as_array().unwrap().len(), 1);
}

#[test]
fn a_doctor_names_problems_and_says_when_there_is_none() {
    let machine = Machine::new();
    let path = machine.database("app.db", 1000);
    let well = machine.done(&["doctor", "app.db", "--integrity"]);
    assert!(well.err.contains("nothing stands in the way"), "{}", well.err);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(machine.path("cut.db"), &whole[..5000]).unwrap();
    let ill = machine.run(&["doctor", "cut.db", "--json"]);
    assert_eq!(ill.code, 21, "{}", ill.err);
    let object = ill.json();
    let findings = object["databases"][0]["findings"].as_array().unwrap();
    assert!(findings.iter().any(|finding| finding["severity"] == "problem"), "{object}");
}

#[test]
fn a_configuration_names_targets_and_repositories() {
    let machine = Machine::new();
    let path = machine.database("data/erp.db", 50);
    machine.database("data/shops/acme.db", 5);
    machine.database("data/shops/bolt.db", 6);
    machine.write(
        "backstay.toml",
        "repository = \"main\"
[repositories.main]
path = \"backups\"
[targets.erp]
source = \"data/erp.db\"
[targets.erp.plans.nightly]
tags = [\"night\"]
[targets.shops]
source = \"data/shops/{tenant}.db\"
",
    );
    let missing = machine.run(&["backup", "--all"]);
    assert_eq!(missing.code, 10, "{}", missing.err);
    assert!(missing.err.contains("backstay init --repository main"), "{}", missing.err);
    machine.done(&["init", "--repository", "main"]);
    machine.done(&["backup", "--all"]);
    let list = machine.done(&["list"]);
    for name in ["erp", "shops/acme", "shops/bolt", "night"] {
        assert!(list.out.contains(name), "{name}: {}", list.out);
    }
    assert_eq!(
        machine.done(&["list", "shops/acme", "--json"]).json()["backups"].as_array().unwrap().len(),
        1
    );
    std::fs::remove_file(&path).unwrap();
    let wrong = machine.run(&["restore", "erp", "--confirm", "erp.db"]);
    assert_eq!(wrong.code, 2, "{}", wrong.err);
    machine.done(&["restore", "erp", "--confirm", "erp"]);
    assert_eq!(count(&path), 50);
    machine.done(&["restore", "shops/acme@latest", "--confirm", "shops/acme"]);
    let many = machine.run(&["restore", "shops"]);
    assert_eq!(many.code, 2, "{}", many.err);
    assert!(many.err.contains("acme") && many.err.contains("bolt"), "{}", many.err);
    assert_eq!(machine.done(&["verify", "shops", "--json"]).json()["summary"]["total_files"], 2);
    let slip = machine.run(&["backup", "epr"]);
    assert_eq!(slip.code, 20, "{}", slip.err);
    assert!(slip.err.contains("did you mean `erp`?"), "{}", slip.err);
    let none = machine.run(&["backup"]);
    assert_eq!(none.code, 2);
    assert!(none.err.contains("erp, shops"), "{}", none.err);
}

#[test]
fn a_configured_target_that_moved_is_restored_to_where_it_is_now() {
    let machine = Machine::new();
    let old = machine.database("old/erp.db", 50);
    machine.write("backstay.toml", "[targets.erp]\nsource = \"old/erp.db\"\n");
    machine.done(&["backup", "erp"]);
    std::fs::create_dir(machine.path("new")).unwrap();
    machine.write("backstay.toml", "[targets.erp]\nsource = \"new/erp.db\"\n");
    std::fs::remove_file(&old).unwrap();
    let restored = machine.done(&["restore", "erp", "--confirm", "erp"]);
    assert!(restored.err.contains("The backup came from"), "{}", restored.err);
    assert_eq!(count(&machine.path("new/erp.db")), 50);
    assert!(!old.exists());
}

#[test]
fn a_backup_leaves_as_a_file_or_a_stream() {
    let machine = Machine::new();
    let path = machine.database("app.db", 100);
    machine.done(&["backup", "app.db"]);
    machine.done(&["export", "latest", "--out", "copy.db"]);
    assert_eq!(std::fs::read(machine.path("copy.db")).unwrap(), std::fs::read(&path).unwrap());
    let again = machine.run(&["export", "latest", "--out", "copy.db"]);
    assert_eq!(again.code, 2, "{}", again.err);
    let output = machine.command().args(["export", "latest", "--out", "-"]).output().unwrap();
    assert_eq!(output.stdout, std::fs::read(&path).unwrap());
    let sql = machine.done(&["export", "latest", "--out", "-", "--form", "sql"]);
    assert!(sql.out.contains("CREATE TABLE t"), "{}", sql.out);
    assert_eq!(machine.run(&["export", "latest", "--out", "-", "--json"]).code, 2);
    assert_eq!(machine.run(&["export", "latest", "--out", "copy.txt"]).code, 2);
    assert_eq!(machine.run(&["export", "latest", "--out", "x.sql", "--form", "sql"]).code, 2);
}

#[test]
fn a_stream_that_nobody_reads_to_its_end_is_a_failure() {
    let machine = Machine::new();
    machine.database("app.db", 20_000);
    machine.done(&["backup", "app.db"]);
    let program = assert_cmd::cargo::cargo_bin!("backstay").display().to_string();
    let script = format!("{program} export latest --out - | head -c 10 > /dev/null; echo ${{PIPESTATUS[0]}}");
    let mut shell = assert_cmd::Command::new("bash");
    shell.args(["-c", &script]).env("HOME", machine.root.join("home")).env_remove("XDG_CONFIG_HOME");
    let ended = outcome(&mut shell);
    assert_eq!(ended.out.trim(), "1", "{}", ended.err);
    assert!(ended.err.contains("standard output cannot be written"), "{}", ended.err);
}

#[test]
fn a_dry_run_makes_nothing() {
    let machine = Machine::new();
    machine.database("app.db", 100);
    let dry = machine.done(&["backup", "app.db", "--dry-run"]);
    assert!(dry.out.contains("would back up"), "{}", dry.out);
    assert!(!machine.root.join("home/.local/share/backstay/repository").exists());
    machine.done(&["init", "--dry-run"]);
    machine.done(&["init", "--repository", "./r", "--dry-run"]);
    assert!(!machine.path("r").exists());
    assert!(!machine.root.join("home/.config").exists());
}

#[test]
fn init_finds_databases_and_never_writes_over() {
    let machine = Machine::new();
    let path = machine.database("data/shop.db", 10);
    let init = machine.done(&["init", "data"]);
    assert!(init.out.contains(path.to_str().unwrap()), "{}", init.out);
    let file = machine.root.join("home/.config/backstay/config.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("[targets.shop]"), "{text}");
    machine.done(&["backup", "--all"]);
    assert!(machine.done(&["list"]).out.contains("shop"));
    let again = machine.run(&["init", "data"]);
    assert_eq!(again.code, 2, "{}", again.err);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    let key = machine.root.join("home/.config/backstay/keys");
    for file in std::fs::read_dir(key).unwrap() {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(file.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn quiet_says_nothing_and_a_closed_pipe_ends_quietly() {
    let machine = Machine::new();
    machine.database("app.db", 100);
    machine.done(&["backup", "app.db"]);
    assert_eq!(machine.done(&["verify", "--quiet"]).err, "");
    let script = format!(
        "{} man | true; echo ${{PIPESTATUS[0]}}",
        assert_cmd::cargo::cargo_bin!("backstay").display()
    );
    let mut shell = assert_cmd::Command::new("bash");
    let ended = outcome(shell.args(["-c", &script]).env("HOME", machine.root.join("home")));
    assert_eq!((ended.out.trim(), ended.err.as_str()), ("0", ""));
}

#[test]
fn who_asks_for_json_gets_it_for_wrong_usage_too() {
    let machine = Machine::new();
    let wrong = machine.run(&["backup", "--json", "--nonsense", "app.db"]);
    assert_eq!(wrong.code, 2, "{}", wrong.err);
    let object: Value = serde_json::from_str(&wrong.out).unwrap();
    assert_keys(&object, &HEAD);
    assert_eq!(object["schema"], "backstay.backup/1");
    assert_eq!(object["error"]["exit_code"], 2);
    assert!(object["error"]["message"].as_str().unwrap().contains("--nonsense"), "{object}");
    assert!(machine.run(&["backup", "--nonsense"]).out.is_empty());
}
