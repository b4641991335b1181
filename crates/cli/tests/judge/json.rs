//! The objects of `--json` and `--report`: every field that is promised, of the type that is promised, on success and
//! on failure; a file and standard output get the same object.

use crate::seams::Place;
use serde_json::Value;

/// `string`, `integer`, `bool`, `list`, `object`, `time`; with `?` null may stand for unknown.
fn assert_field(at: &str, value: &Value, kind: &str) {
    let (kind, nullable) = match kind.strip_suffix('?') {
        Some(kind) => (kind, true),
        None => (kind, false),
    };
    if nullable && value.is_null() {
        return;
    }
    let fits = match kind {
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "bool" => value.is_boolean(),
        "list" => value.is_array(),
        "object" => value.is_object(),
        "time" => {
            value.as_str().is_some_and(|text| text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok())
        }
        _ => panic!("{kind} is no kind"),
    };
    assert!(fits, "{at} should be {kind}, and is {value}");
}

fn assert_fields(at: &str, object: &Value, fields: &str) {
    for field in fields.split_whitespace() {
        let (name, kind) = field.split_once(':').unwrap();
        let value = object.get(name).unwrap_or_else(|| panic!("{at} has no {name}: {object}"));
        assert_field(&format!("{at}.{name}"), value, kind);
    }
}

const HEAD: &str = "schema:string started:time finished:time elapsed_ms:integer outcome:string error:object?";
const BACKUP: &str = "id:string target:string database:string engine:string time:time size_bytes:integer \
                      read_bytes:integer added_bytes:integer rows:integer? unchanged:bool proof:string \
                      elapsed_ms:integer error:object?";
const LISTED: &str = "id:string target:string database:string engine:string? time:time size_bytes:integer \
                      added_bytes:integer rows:integer? proof:string? proof_time:time? tags:list lost:string?";
const VERIFIED: &str = "id:string valid:bool size_bytes:integer age_seconds:integer time_source:string \
                        format:string compression:string checks:list error:string?";
const RESTORED: &str = "backup:string target:string safety_copy:string? verified:bool rolled_back:bool steps:list \
                        performance:object";

const PRUNE: &str = "kept:list removed:list snapshots:integer freed_bytes:integer foreign:integer unlisted:integer \
                     forget_only:bool dry_run:bool";
const PRUNED: &str = "id:string? path:string? target:string database:string host:string connection:string plan:string? time:time \
                      size_bytes:integer reasons:list";

const CHECK: &str = "errors:list remarks:list snapshots:integer packs:integer bytes_read:integer packs_read:integer \
                     heal:bool actions:list affected:list removed_snapshots:list dry_run:bool selection:string?";

/// Runs a command with both, and returns the object that both gave.
fn object(place: &Place, code: i32, schema: &str, arguments: &[&str]) -> Value {
    let report = place.machine.root.join("report.json");
    let _ = std::fs::remove_file(&report);
    let outcome = place.run(&[arguments, &["--json", "--report", &report.display().to_string()]].concat());
    assert_eq!(outcome.code, code, "{arguments:?}: {}", outcome.err);
    let object = outcome.json();
    let written: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    assert_eq!(written, object, "{arguments:?}");
    assert_fields(schema, &object, HEAD);
    assert_eq!(object["schema"], format!("backstay.{schema}/1"));
    assert!(["complete", "incomplete", "suspect", "failed"].contains(&object["outcome"].as_str().unwrap()));
    if code == 0 {
        assert_eq!((object["outcome"].as_str(), &object["error"]), (Some("complete"), &Value::Null));
    } else {
        assert_fields(schema, &object["error"], "message:string causes:list hint:string? exit_code:integer");
        assert_eq!(object["error"]["exit_code"], code);
    }
    object
}

#[test]
fn every_promised_field_is_there() {
    let place = Place::new();
    place.machine.database("app.db", 100);
    let backup = object(&place, 0, "backup", &["backup", "app.db", "--tag", "before-release"]);
    assert_fields("backup", &backup, "backups:list suspicions:list pruned:object? healed:list lost:list");
    assert_fields("backup.backups[0]", &backup["backups"][0], BACKUP);
    assert_eq!(backup["backups"][0]["rows"], 100);
    let id = backup["backups"][0]["id"].as_str().unwrap();
    assert_eq!(id.len(), 64, "full ids");

    let again = object(&place, 0, "backup", &["backup", "app.db"]);
    assert_fields("backup.backups[0]", &again["backups"][0], BACKUP);

    let list = object(&place, 0, "list", &["list"]);
    assert_fields("list.backups[0]", &list["backups"][0], LISTED);
    assert_eq!(list["backups"][0]["id"], id);
    assert!(list["backups"][0]["tags"].to_string().contains("before-release"), "{list}");

    let show = object(&place, 0, "show", &["show", id]);
    assert_fields("show", &show, "backup:object manifest:object");
    assert_eq!(show["manifest"]["schema"], "backstay.manifest/1");

    let verify = object(&place, 0, "verify", &["verify"]);
    assert_fields("verify", &verify, "summary:object files:list performance:object");
    assert_fields(
        "summary",
        &verify["summary"],
        "total_files:integer valid:integer invalid:integer all_valid:bool",
    );
    assert_fields("files[0]", &verify["files"][0], VERIFIED);
    assert_fields("checks[0]", &verify["files"][0]["checks"][0], "name:string passed:bool detail:string");
    let performance = "bytes_read:integer bytes_per_second:integer elapsed_ms:integer";
    assert_fields("performance", &verify["performance"], performance);

    let prune = object(&place, 0, "prune", &["prune", "--keep-last", "1"]);
    assert_fields("prune", &prune, PRUNE);
    for list in ["kept", "removed"] {
        assert_fields(list, &prune[list][0], PRUNED);
        assert!(prune[list][0]["reasons"][0].is_string(), "{prune}");
    }
    let id = prune["kept"][0]["id"].as_str().unwrap();

    let check = object(&place, 0, "check", &["check", "--read-data"]);
    assert_fields("check", &check, CHECK);
    let heal = object(&place, 0, "check", &["check", "--heal", "--dry-run"]);
    assert_fields("check", &heal, CHECK);

    let restore = object(&place, 0, "restore", &["restore", "app.db", "--confirm", "app.db"]);
    assert_fields("restore", &restore, RESTORED);
    assert_field("safety_copy", &restore["safety_copy"], "string");
    assert_fields("steps[0]", &restore["steps"][0], "name:string elapsed_ms:integer");
    let export = object(&place, 0, "export", &["export", id, "--out", "out.sql"]);
    assert_fields("export", &export, "backup:string path:string size_bytes:integer written_bytes:integer");
    object(&place, 0, "doctor", &["doctor", "app.db"]);
}

#[test]
fn every_key_is_there_where_a_command_failed_too() {
    let place = Place::new();
    place.machine.database("app.db", 10);
    place.backup("app.db");
    let pack =
        crate::seams::contents(&place.path("repo/data")).into_iter().max_by_key(|(_, content)| content.len());
    std::fs::remove_file(place.path("repo/data").join(pack.unwrap().0)).unwrap();
    let check = object(&place, 21, "check", &["check"]);
    assert_fields("errors[0]", &check["errors"][0], "object:string problem:string backups:list");
    let verify = object(&place, 21, "verify", &["verify"]);
    assert_fields("files[0]", &verify["files"][0], VERIFIED);
    assert_eq!(
        (&verify["files"][0]["valid"], &verify["summary"]["all_valid"]),
        (&false.into(), &false.into())
    );

    let nothing = ["--repository", "/nowhere/at/all"];
    for (schema, arguments, fields) in [
        ("backup", &["backup", "app.db"][..], "backups:list suspicions:list pruned:object?"),
        ("list", &["list"], "backups:list"),
        ("show", &["show", "app.db"], "backup:object? manifest:object?"),
        ("verify", &["verify"], "summary:object? files:list performance:object?"),
        ("check", &["check"], "errors:list"),
        (
            "prune",
            &["prune", "--keep-last", "1"],
            "kept:list removed:list snapshots:integer? freed_bytes:integer? dry_run:bool?",
        ),
        (
            "restore",
            &["restore", "app.db"],
            "backup:string? target:string? safety_copy:string? verified:bool? \
                                             rolled_back:bool? steps:list performance:object?",
        ),
        ("export", &["export", "app.db", "--out", "x.db"], "backup:string? path:string?"),
    ] {
        let failed = object(&place, 10, schema, &[arguments, &nothing].concat());
        assert_eq!(failed["outcome"], "failed");
        assert_fields(schema, &failed, fields);
    }
}
