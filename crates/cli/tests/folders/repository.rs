//! A repository of layout `files`: backups as plain files with a manifest beside each, in the form that a plan says, kept as
//! long as it says; what stock tools make of them is what was backed up.

use super::*;
use rustix::fs::FlockOperation;
use sha2::{Digest, Sha256};
use std::time::Duration;

const CONFIGURATION: &str = r#"
repository = "daily"
[repositories.daily]
path = "dumps"
layout = "files"
[repositories.weekly]
path = "weekly"
layout = "files"
names = "{database}-{local_time}.{ext}"
[targets.shop]
source = "shop.db"
[targets.shop.plans.daily]
form = "sql.gz"
keep = { last = 2 }
tags = ["night"]
[targets.shop.plans.weekly]
repository = "weekly"
time_zone = "Asia/Tokyo"
[targets.shops]
source = "tenants/{tenant}.db"
[targets.shops.plans.daily]
form = "db.zst"
"#;

fn machine() -> Machine {
    let machine = Machine::new();
    machine.write("backstay.toml", CONFIGURATION);
    std::fs::create_dir(machine.path("dumps")).unwrap();
    std::fs::create_dir(machine.path("weekly")).unwrap();
    machine.database("shop.db", 50);
    machine
}

fn files(machine: &Machine, folder: &str) -> Vec<String> {
    names(&machine.path(folder)).into_iter().filter(|name| !name.ends_with(".json")).collect()
}

fn stdout(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn plans_write_each_its_own_form_into_its_own_folder() {
    let machine = machine();
    let report = machine.done(&["backup", "shop", "--json"]).json();
    assert_eq!(report["backups"].as_array().unwrap().len(), 2, "{report}");
    let (daily, weekly) = (files(&machine, "dumps"), files(&machine, "weekly"));
    assert!(
        daily.len() == 1 && daily[0].starts_with("shop_backup_shop.db_20") && daily[0].ends_with("Z.sql.gz")
    );
    assert!(
        weekly.len() == 1 && weekly[0].starts_with("shop.db-20") && weekly[0].ends_with(".db.zst"),
        "{weekly:?}"
    );
    // What stock tools make of it is the database.
    let path = machine.path("dumps").join(&daily[0]);
    let text = stdout(Command::new("gzip").arg("-dc").arg(&path));
    machine.write("text.sql", &String::from_utf8(text).unwrap());
    let again = machine.path("again.db");
    stdout(Command::new("sqlite3").arg(&again).arg(format!(".read {}", machine.text("text.sql"))));
    let dump = |path: &Path| stdout(Command::new("sqlite3").arg("-readonly").arg(path).arg(".dump"));
    assert_eq!(dump(&again), dump(&machine.path("shop.db")));
    let manifest = std::fs::read_to_string(machine.path("dumps").join(format!("{}.json", daily[0]))).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let content = std::fs::read(&path).unwrap();
    let digest: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(manifest["schema"], "backstay.file/1");
    assert_eq!((&manifest["sha256"], &manifest["file_bytes"]), (&digest.into(), &content.len().into()));
    assert_eq!((&manifest["target"], &manifest["plan"]), (&"shop".into(), &"daily".into()));
    assert_eq!((&manifest["rows"], &manifest["tags"][0]), (&50.into(), &"night".into()));
    let item = &report["backups"][0];
    assert_eq!(item["path"], path.display().to_string());
    assert_eq!((&item["proof"], &item["id"], &item["rows"]), (&"stored".into(), &Value::Null, &50.into()));
    // Each is listed with what its manifest says; a file of another tool with what its name does.
    dump_of_old_script(&machine);
    let listed = machine.done(&["list", "--json"]).json();
    let backups = listed["backups"].as_array().unwrap();
    assert_eq!(backups.len(), 2, "{listed}");
    assert_eq!((&backups[0]["database"], &backups[0]["engine"]), (&"acme".into(), &Value::Null));
    assert_eq!((&backups[1]["target"], &backups[1]["rows"]), (&"shop".into(), &50.into()));
    assert_eq!(
        machine.done(&["list", "shop", "--repository", "daily", "--json"]).json()["backups"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert!(machine.done(&["list", "--repository", "weekly"]).out.contains(&weekly[0]));
    assert!(machine.done(&["list", "dumps"]).out.contains("acme-20250601.sql"));
    let all = machine.done(&["verify", "--json"]).json();
    assert_eq!(all["summary"]["total_files"], 2, "{all}");
    let newest = machine.done(&["verify", "shop@latest", "--repository", "weekly", "--json"]).json();
    assert_eq!(newest["files"].as_array().unwrap().len(), 1, "{newest}");
    let checks = newest["files"][0]["checks"].to_string();
    assert!(checks.contains("sha256"), "{checks}");
    let mut content = content;
    content[20] ^= 1;
    std::fs::write(&path, content).unwrap();
    assert_eq!(machine.run(&["verify", "shop", "--repository", "daily"]).code, 21);
}

fn dump_of_old_script(machine: &Machine) {
    dump(machine, "acme-20250601.sql", SQLITE_TEXT.as_bytes());
}

#[test]
fn a_plan_keeps_what_it_says_of_its_own_files_and_touches_no_other() {
    let machine = machine();
    dump_of_old_script(&machine);
    dump(&machine, "shop_backup_shop.db_20250601T000000Z.sql.gz", &gzip(SQLITE_TEXT.as_bytes()));
    for round in 0..3 {
        rusqlite::Connection::open(machine.path("shop.db"))
            .unwrap()
            .execute("INSERT INTO t (text) VALUES (?1)", [round])
            .unwrap();
        let report = machine.done(&["backup", "shop", "--repository", "daily", "--json"]).json();
        assert_eq!(report["pruned"]["error"], Value::Null, "{report}");
    }
    let left = files(&machine, "dumps");
    assert_eq!(left.len(), 4, "two of the plan, and two of others: {left:?}");
    assert_eq!(names(&machine.path("dumps")).len(), 6, "a manifest goes with its file");
    assert!(left.contains(&"shop_backup_shop.db_20250601T000000Z.sql.gz".to_owned()));
    machine.done(&["backup", "shop", "--repository", "daily", "--no-prune"]);
    assert_eq!(files(&machine, "dumps").len(), 5);
    machine.done(&["prune", "shop", "--repository", "daily", "--dry-run"]);
    assert_eq!(files(&machine, "dumps").len(), 5);
    machine.done(&["prune", "shop", "--repository", "daily"]);
    assert_eq!(files(&machine, "dumps").len(), 4);
    machine.done(&["prune", "--repository", "daily", "--keep-last", "1"]);
    let left = files(&machine, "dumps");
    assert_eq!(left.len(), 2, "whoever made them: {left:?}");
}

#[test]
fn tenants_have_a_file_each_and_one_that_fails_or_goes_takes_no_other_with_it() {
    let machine = machine();
    for tenant in ["acme", "bolt", "corp"] {
        machine.database(&format!("tenants/{tenant}.db"), 3);
    }
    let run = |code: i32| {
        let outcome = machine.run(&["backup", "shops", "--json"]);
        assert_eq!(outcome.code, code, "{} {}", outcome.out, outcome.err);
        outcome.json()
    };
    run(0);
    assert_eq!(files(&machine, "dumps").len(), 3);
    machine.done(&["backup", "shops/acme"]);
    assert_eq!(files(&machine, "dumps").len(), 4);
    std::fs::remove_file(machine.path("tenants/bolt.db")).unwrap();
    machine.database("tenants/dune.db", 3);
    let content = std::fs::read(machine.path("tenants/corp.db")).unwrap();
    std::fs::write(machine.path("tenants/corp.db"), &content[..5000]).unwrap();
    let report = run(3);
    let failed: Vec<&Value> =
        report["backups"].as_array().unwrap().iter().filter(|item| !item["error"].is_null()).collect();
    assert!(failed.len() == 1 && failed[0]["database"] == "corp", "{report}");
    assert_eq!(failed[0]["path"], Value::Null);
    assert_eq!(report["vanished"][0]["database"], "bolt");
    let left = files(&machine, "dumps");
    assert_eq!(left.len(), 6, "{left:?}");
    assert!(left.iter().any(|name| name.starts_with("shops_backup_dune_")), "{left:?}");
    assert!(names(&machine.path("dumps")).iter().all(|name| !name.starts_with('.')));
}

#[test]
fn a_name_that_is_taken_gets_a_number_and_a_prune_is_waited_for() {
    let machine = machine();
    let folder = std::fs::File::open(machine.path("dumps")).unwrap();
    rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive).unwrap();
    let runs: Vec<_> = (0..4)
        .map(|_| {
            let mut command = machine.command();
            command.args(["backup", "shop", "--repository", "daily", "--no-prune"]);
            std::thread::spawn(move || support::outcome(&mut command))
        })
        .collect();
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(files(&machine, "dumps").len(), 0, "nothing is written while it is pruned");
    drop(folder);
    for run in runs {
        let outcome = run.join().unwrap();
        assert_eq!(outcome.code, 0, "{}", outcome.err);
    }
    let all = files(&machine, "dumps");
    assert_eq!(all.len(), 4, "{all:?}");
    assert_eq!(names(&machine.path("dumps")).len(), 8);
    // They began at one moment: some share a second.
    assert!(all.iter().any(|name| name.ends_with("Z-2.sql.gz")), "{all:?}");
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_written() {
    let machine = machine();
    std::fs::remove_dir(machine.path("weekly")).unwrap();
    for (arguments, code, says) in [
        (&["backup", "shop", "--repository", "weekly"][..], 10, "there is no such folder"),
        (&["list", "--repository", "weekly"], 10, "there is no such folder"),
        (&["prune", "--repository", "weekly", "--keep-last", "1"], 10, "there is no such folder"),
        (&["check"], 2, "is a folder of dump files (layout `files`)"),
        (&["stats"], 2, "is a folder of dump files (layout `files`)"),
        (&["key", "list"], 2, "is a folder of dump files (layout `files`)"),
        (&["init", "--repository", "daily"], 2, "is a folder of dump files (layout `files`)"),
        (&["prune", "shop.db", "--keep-last", "1"], 2, "name a configured target"),
        (&["list", "shop.db"], 2, "name a configured target"),
    ] {
        let outcome = machine.run(arguments);
        assert_eq!(outcome.code, code, "{arguments:?}: {} {}", outcome.out, outcome.err);
        assert!(outcome.err.contains(says), "{arguments:?}: {}", outcome.err);
        assert!(names(&machine.path("dumps")).is_empty(), "{arguments:?}");
    }
    let report = machine.done(&["backup", "shop", "--dry-run", "--repository", "daily", "--json"]);
    assert!(report.json()["backups"][0]["size_bytes"].as_u64().unwrap() > 0);
    assert!(names(&machine.path("dumps")).is_empty());
    let doctor = machine.run(&["doctor"]);
    assert!(doctor.out.contains("there is no such folder") || doctor.err.contains("there is no such folder"));
}

#[test]
fn a_list_or_a_file_of_variables_says_who_the_tenants_are() {
    let machine = Machine::new();
    std::fs::create_dir(machine.path("dumps")).unwrap();
    for tenant in ["acme", "bolt", "corp"] {
        machine.database(&format!("tenants/{tenant}.db"), 3);
    }
    let configure = |layout: &str, tenants: &str| {
        let repository = format!("[repositories.main]\npath = \"dumps\"\n{layout}\n");
        let target = format!("[targets.shops]\nsource = \"tenants/{{tenant}}.db\"\ntenants = {tenants}\n");
        machine.write("backstay.toml", &format!("{repository}{target}"));
    };
    let names = |report: &Value| {
        let all = report["backups"].as_array().unwrap().iter().filter(|item| item["error"].is_null());
        all.map(|item| item["database"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let run = |code: i32| {
        let outcome = machine.run(&["backup", "shops", "--json"]);
        assert_eq!(outcome.code, code, "{} {}", outcome.out, outcome.err);
        outcome.json()
    };
    for layout in ["layout = \"files\"", ""] {
        if layout.is_empty() {
            std::fs::remove_dir_all(machine.path("dumps")).unwrap();
            configure(layout, "{ names = [\"acme\"] }");
            machine.done(&["init", "--repository", "main"]);
        }
        configure(layout, "{ names = [\"acme\", \"corp\"] }");
        assert_eq!(names(&run(0)), ["acme", "corp"]);
        machine.write("shops.env", "# who pays\nTENANTS=\"bolt acme\"\n");
        configure(layout, "{ file = \"shops.env\" }");
        assert_eq!(names(&run(0)), ["acme", "bolt"]);
        // Read at each run: one more, and one that is not there, which fails by itself.
        machine.write("shops.env", "TENANTS=\"bolt acme corp gone\"\n");
        let report = run(3);
        assert_eq!(names(&report), ["acme", "bolt", "corp"]);
        let mut failed = report["backups"].as_array().unwrap().iter().filter(|item| !item["error"].is_null());
        assert_eq!(failed.next().unwrap()["database"], "gone");
        machine.write("shops.env", "TENANTS=\"gone\"\n");
        assert_eq!(machine.run(&["backup", "shops"]).code, 20);
        machine.write("shops.env", "TENANTS=\"$(ls)\"\n");
        let refused = machine.run(&["backup", "shops"]);
        assert!(refused.code == 2 && refused.err.contains("only a shell understands"), "{}", refused.err);
        std::fs::remove_file(machine.path("shops.env")).unwrap();
        assert_eq!(machine.run(&["backup", "shops"]).code, 2);
        machine.done(&["backup", "shops/bolt"]);
    }
    for bad in [
        "{ names = [] }",
        "{ names = [\"a\"], file = \"x\" }",
        "{ variable = \"X\" }",
        "{ sql = \"SELECT 1\" }",
    ] {
        configure("", bad);
        assert_eq!(machine.run(&["backup", "shops"]).code, 2, "{bad}");
    }
}
