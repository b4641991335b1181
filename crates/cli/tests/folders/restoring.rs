//! Restores, looks and exports from repositories of layout `files`: the newest over all folders of a target, older ones, and
//! files that only their names tell of; encrypted ones; and what the manifest says is held against what is read.

use super::*;
use rustix::fs::FlockOperation;
use support::{Outcome, count, fingerprint, outcome};

/// An identity that everybody knows: the one of the crate's own tests. In two parts, so that nobody takes it for a secret.
const IDENTITY: &str =
    concat!("AGE-SECRET-KEY-", "1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX");

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
    machine.database("shop.db", 10);
    machine
}

fn sql(machine: &Machine, name: &str, text: &str) {
    rusqlite::Connection::open(machine.path(name)).unwrap().execute_batch(text).unwrap();
}

/// Backs up a state of so many rows into one of the folders.
fn backup_of(machine: &Machine, rows: u32, repository: &str) -> String {
    sql(
        machine,
        "shop.db",
        &format!(
            "DELETE FROM t; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
             INSERT INTO t SELECT i, 'row ' || i FROM n"
        ),
    );
    let report = machine.done(&["backup", "shop", "--repository", repository, "--json"]).json();
    // Names have seconds.
    std::thread::sleep(std::time::Duration::from_millis(1050));
    report["backups"][0]["path"].as_str().unwrap().to_owned()
}

fn restored(machine: &Machine, arguments: &[&str]) -> u32 {
    let new = machine.text("new.db");
    let _ = std::fs::remove_file(&new);
    machine.done(&[&["restore"], arguments, &["--to-new", &new]].concat());
    count(Path::new(&new))
}

fn refused(machine: &Machine, code: i32, arguments: &[&str]) -> Outcome {
    let before = fingerprint(&machine.path("."));
    let refused = machine.run(arguments);
    assert_eq!(refused.code, code, "{arguments:?}: {} {}", refused.out, refused.err);
    assert!(refused.err.contains("hint: "), "{arguments:?}: {}", refused.err);
    assert_eq!(fingerprint(&machine.path(".")), before, "{arguments:?}");
    refused
}

#[test]
fn the_newest_over_all_folders_comes_back_and_older_ones_by_their_place_and_time() {
    let machine = machine();
    let paths: Vec<String> = [(11, "daily"), (12, "weekly"), (13, "daily"), (14, "weekly")]
        .into_iter()
        .map(|(rows, repository)| backup_of(&machine, rows, repository))
        .collect();
    let listed = machine.done(&["list", "shop", "--json"]).json();
    let listed: Vec<&str> =
        listed["backups"].as_array().unwrap().iter().map(|item| item["path"].as_str().unwrap()).collect();
    assert_eq!(listed, paths, "all folders, oldest first");
    for (reference, rows) in [("shop", 14), ("shop@latest", 14), ("shop@latest~1", 13), ("shop@latest~3", 11)]
    {
        assert_eq!(restored(&machine, &[reference]), rows, "{reference}");
    }
    assert_eq!(restored(&machine, &["shop@latest", "--repository", "daily"]), 13);
    let time =
        machine.done(&["list", "shop", "--json"]).json()["backups"][1]["time"].as_str().unwrap().to_owned();
    assert_eq!(restored(&machine, &[&format!("shop@{time}")]), 12);
    refused(&machine, 2, &["restore", "shop@latest~4", "--to-new", "x.db"]);
    refused(&machine, 2, &["restore", "shop@2020-01-01", "--to-new", "x.db"]);
    // To where it came from, with the choice told, a question, and a safety copy.
    sql(&machine, "shop.db", "DROP TABLE t");
    refused(&machine, 2, &["restore", "shop@latest"]);
    let done = machine.done(&["restore", "shop@latest", "--confirm", "shop"]);
    assert!(
        done.err.contains(&format!("Chose {}", paths[3])) && done.err.contains("the newest of 4"),
        "{}",
        done.err
    );
    assert_eq!(count(&machine.path("shop.db")), 14);
    assert!(names(&machine.path(".")).iter().any(|name| name.starts_with("shop.db.safety-")));
    let report = machine.done(&["restore", "shop@latest~1", "--yes", "--json"]).json();
    assert_eq!(
        (&report["backup"], &report["verified"]),
        (&paths[2].as_str().into(), &true.into()),
        "{report}"
    );
    assert_eq!(count(&machine.path("shop.db")), 13);
    // A disk that is not mounted does not hide the other folder, and is told.
    std::fs::rename(machine.path("weekly"), machine.path("away")).unwrap();
    let told = machine.done(&["restore", "shop@latest", "--dry-run"]);
    assert!(
        told.err.contains("weekly: there is no such folder") && told.err.contains(&paths[2]),
        "{}",
        told.err
    );
    std::fs::rename(machine.path("dumps"), machine.path("dumps-away")).unwrap();
    refused(&machine, 10, &["restore", "shop@latest", "--to-new", "x.db"]);
}

#[test]
fn tenants_and_files_of_other_tools_are_known_by_their_names() {
    let machine = machine();
    for tenant in ["acme", "bolt"] {
        machine.database(&format!("tenants/{tenant}.db"), 3);
    }
    machine.done(&["backup", "shops"]);
    sql(&machine, "tenants/acme.db", "DELETE FROM t WHERE id = 3");
    assert_eq!(restored(&machine, &["shops/acme@latest"]), 3);
    let many = refused(&machine, 2, &["restore", "shops@latest"]);
    assert!(many.err.contains("shops/acme, shops/bolt"), "{}", many.err);
    machine.done(&["restore", "shops/acme", "--confirm", "shops/acme"]);
    assert_eq!(count(&machine.path("tenants/acme.db")), 3);
    // The database is gone; so is the manifest, and nothing but the name tells whose the file is.
    std::fs::remove_file(machine.path("tenants/bolt.db")).unwrap();
    let mut ours = left(&machine).into_iter().filter(|name| name.contains("bolt") && name.ends_with(".json"));
    std::fs::remove_file(machine.path("dumps").join(ours.next().unwrap())).unwrap();
    machine.done(&["restore", "shops/bolt@latest", "--confirm", "shops/bolt"]);
    assert_eq!(count(&machine.path("tenants/bolt.db")), 3);
    // What an old script left: by the name of the target, of the database, of the tenant.
    packed(&machine, "shop-20200105.sql.gz");
    dump(&machine, "shop.db.backup_20200106_020000.sql", SQLITE_TEXT.as_bytes());
    packed(&machine, "acme-20200107.sql.gz");
    packed(&machine, "other-20300101.sql.gz");
    let listed = machine.done(&["list", "shop", "--json"]).json();
    let files: Vec<&str> =
        listed["backups"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect();
    assert_eq!(files, ["shop-20200105.sql.gz", "shop.db.backup_20200106_020000.sql"]);
    assert_eq!(restored(&machine, &["shop"]), 1);
    assert_eq!(restored(&machine, &["shop@2020-01-05"]), 1);
    let shown = machine.done(&["show", "shop@latest~1", "--json"]).json();
    assert_eq!(shown["backup"]["id"], "shop-20200105.sql.gz", "{shown}");
    assert_eq!((&shown["file"]["form"], &shown["file"]["compression"]), (&"sql".into(), &"gzip".into()));
    assert_eq!((&shown["file"]["manifest"], &shown["backup"]["engine"]), (&Value::Null, &"sqlite".into()));
    assert_eq!(machine.done(&["verify", "shops/acme@2020-01-08", "--json"]).json()["summary"]["valid"], 1);
    let all = machine.done(&["verify", "shops", "--json"]).json();
    assert_eq!(all["summary"]["total_files"], 2, "the newest of each: {all}");
    for (arguments, says) in [
        (&["restore", "3fa1c0de", "--to-new", "x.db"][..], "is an id"),
        (&["show", "3fa1c0de"], "is an id"),
        (&["restore", "latest", "--to-new", "x.db"], "files of 6 databases: acme, other, shop, shop.db"),
        (&["restore", "shop.db@latest", "--to-new", "x.db"], "is no configured target"),
        (&["restore", "shop", "--to-new", "x.db", "--create-roles"], "--create-roles"),
        (&["show", "shops/corp"], "holds no such file of shops/corp"),
    ] {
        let refused = refused(&machine, 2, arguments);
        assert!(refused.err.contains(says), "{arguments:?}: {}", refused.err);
    }
}

#[test]
fn what_is_not_what_its_manifest_says_stops_a_restore_and_the_older_one_is_named() {
    let machine = machine();
    backup_of(&machine, 11, "daily");
    let newest = backup_of(&machine, 12, "daily");
    sql(&machine, "shop.db", "DELETE FROM t");
    // Whole in itself, and another one than was written.
    std::fs::write(&newest, gzip(SQLITE_TEXT.as_bytes())).unwrap();
    for arguments in
        [&["restore", "shop@latest", "--yes"][..], &["restore", &newest, "--target", "shop", "--yes"]]
    {
        let stopped = refused(&machine, 20, arguments);
        assert!(stopped.err.contains("SHA-256"), "{arguments:?}: {}", stopped.err);
    }
    let stopped = refused(&machine, 20, &["restore", "shop", "--to-new", "x.db"]);
    assert!(stopped.err.contains("--fallback"), "{}", stopped.err);
    let taken = machine.done(&["restore", "shop", "--yes", "--fallback"]);
    assert!(taken.err.contains("instead"), "{}", taken.err);
    assert_eq!(count(&machine.path("shop.db")), 11);
    for out in ["x.sql", "x.db"] {
        let stopped = refused(&machine, 20, &["export", "shop@latest", "--out", out]);
        assert!(stopped.err.contains("SHA-256"), "{}", stopped.err);
    }
}

#[test]
fn a_restore_and_a_prune_of_one_folder_wait_for_nobody() {
    let machine = machine();
    backup_of(&machine, 11, "daily");
    backup_of(&machine, 12, "daily");
    let folder = std::fs::File::open(machine.path("dumps")).unwrap();
    rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive).unwrap();
    let busy = refused(&machine, 11, &["restore", "shop@latest", "--yes"]);
    assert!(busy.err.contains("/dumps") && busy.err.contains("is being pruned"), "{}", busy.err);
    refused(&machine, 11, &["export", "shop@latest", "--out", "x.sql"]);
    rustix::fs::flock(&folder, FlockOperation::Unlock).unwrap();
    rustix::fs::flock(&folder, FlockOperation::NonBlockingLockShared).unwrap();
    let busy = refused(&machine, 11, &["prune", "--repository", "daily", "--keep-last", "1"]);
    assert!(busy.err.contains("/dumps") && busy.err.contains("is in use"), "{}", busy.err);
    machine.done(&["restore", "shop@latest", "--yes"]);
}

#[test]
fn a_file_is_exported_as_it_is_packed_anew_and_in_another_form() {
    let machine = machine();
    let daily = backup_of(&machine, 11, "daily");
    let weekly = backup_of(&machine, 12, "weekly");
    let bytes = |path: &str| std::fs::read(path).unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let text = run("gzip", &["-dc", &daily]);
    let report = machine.done(&["export", "shop@latest~1", "--out", "a.sql", "--json"]).json();
    assert_eq!((&report["backup"], &report["form"]), (&daily.as_str().into(), &"sql".into()), "{report}");
    assert_eq!(bytes(&machine.text("a.sql")), text);
    machine.done(&["export", "shop@latest~1", "--out", "a.sql.zst"]);
    assert_eq!(run("zstd", &["-dc", &machine.text("a.sql.zst")]), text);
    assert_eq!(machine.done(&["export", "shop@latest~1", "--out", "-"]).out.as_bytes(), text);
    machine.done(&["export", "shop@latest", "--out", "b.db"]);
    assert_eq!(bytes(&machine.text("b.db")), run("zstd", &["-dc", &weekly]));
    machine.done(&["export", "shop@latest~1", "--out", "c.db"]);
    machine.done(&["export", "shop@latest", "--out", "d.sql.gz"]);
    assert_eq!((count(&machine.path("b.db")), count(&machine.path("c.db"))), (12, 11));
    assert!(run("gzip", &["-dc", &machine.text("d.sql.gz")]).windows(6).any(|word| word == b"row 12"));
    assert!(machine.done(&["export", "shop@latest~1", "--out", "-", "--form", "sql"]).out.contains("row 11"));
    refused(&machine, 2, &["export", "shop@latest", "--out", "b.db"]);
    refused(&machine, 2, &["export", "shop@latest", "--out", "b.dump"]);
    machine.done(&["export", "shop@latest", "--out", "e.db", "--dry-run"]);
    assert!(!machine.path("e.db").exists());
    let shown = machine.done(&["show", "shop@latest", "--json"]).json();
    assert_eq!((&shown["backup"]["rows"], &shown["backup"]["path"]), (&12.into(), &weekly.as_str().into()));
    assert_eq!(shown["file"]["manifest"]["schema"], "backstay.file/1");
    assert!(machine.done(&["show", "shop"]).out.contains("sha256"));
}

#[test]
fn encrypted_files_are_written_for_recipients_and_restored_by_the_identity_alone() {
    let machine = machine();
    let identity: age::x25519::Identity = IDENTITY.parse().unwrap();
    machine.write("identity", &format!("# created\n{IDENTITY}\n"));
    let configure = |repository: &str, form: &str| {
        let text = format!(
            "[repositories.daily]\npath = \"dumps\"\nlayout = \"files\"\n{repository}\n[targets.shop]\nsource = \"shop.db\"\n\
             [targets.shop.plans.daily]\n{form}\nkeep = {{ last = 1 }}\n"
        );
        machine.write("backstay.toml", &text);
    };
    let recipients = format!("age_recipients = [\"{}\"]", identity.to_public());
    for (repository, form, says) in [
        (recipients.as_str(), "form = \"sql.gz\"", "is not encrypted"),
        ("age_recipients = [\"nonsense\"]", "form = \"sql.gz.age\"", "begins with `age1`"),
        ("", "form = \"sql.gz.age\"", "nothing says for whom"),
    ] {
        configure(repository, form);
        let refused = refused(&machine, 2, &["backup", "shop"]);
        assert!(refused.err.contains(says), "{}", refused.err);
    }
    configure(&recipients, "");
    machine.done(&["backup", "shop"]);
    configure(&recipients, "form = \"sql.gz.age\"");
    machine.done(&["backup", "shop", "--no-prune"]);
    let files: Vec<String> = left(&machine).into_iter().filter(|name| !name.ends_with(".json")).collect();
    assert!(
        files.len() == 2 && files[0].ends_with(".db.zst.age") && files[1].ends_with(".sql.gz.age"),
        "{files:?}"
    );
    for file in &files {
        assert!(
            std::fs::read(machine.path("dumps").join(file)).unwrap().starts_with(b"age-encryption.org/v1\n")
        );
    }
    let shown = machine.done(&["show", "shop@latest", "--json"]).json();
    assert_eq!(shown["file"]["manifest"]["encryption"], "age", "{shown}");
    assert_eq!((&shown["file"]["encryption"], &shown["backup"]["rows"]), (&"age".into(), &10.into()));
    sql(&machine, "shop.db", "DELETE FROM t");
    let without = refused(&machine, 20, &["restore", "shop@latest", "--yes"]);
    assert!(without.err.contains("--age-identity") && !without.err.contains("--fallback"), "{}", without.err);
    refused(&machine, 20, &["export", "shop@latest", "--out", "x.sql"]);
    assert_eq!(restored(&machine, &["shop@latest~1", "--age-identity", "identity"]), 10);
    configure(&format!("{recipients}\nage_identity = \"identity\""), "form = \"sql.gz.age\"");
    machine.done(&["restore", "shop@latest", "--yes"]);
    assert_eq!(count(&machine.path("shop.db")), 10);
    machine.done(&["verify", "shop"]);
    machine.done(&["verify"]);
    machine.done(&["export", "shop@latest", "--out", "x.db"]);
    assert_eq!(count(&machine.path("x.db")), 10);
    stands_for_none_where_it_is_damaged(&machine, &files[0]);
    // By a passphrase, which no configuration names.
    configure("", "form = \"db.age\"");
    machine.write("passphrase", "geheim und lang\n");
    let with = |arguments: &[&str]| {
        let file = machine.path("passphrase");
        outcome(machine.command().env("BACKSTAY_AGE_PASSPHRASE_FILE", file).args(arguments))
    };
    assert_eq!(with(&["backup", "shop"]).code, 0);
    refused(&machine, 20, &["restore", "shop", "--to-new", "y.db"]);
    let done = with(&["restore", "shop", "--to-new", "y.db"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert_eq!(count(&machine.path("y.db")), 10);
    let kept: Vec<String> = left(&machine).into_iter().filter(|name| !name.ends_with(".json")).collect();
    assert!(kept.len() == 1 && kept[0].ends_with(".db.age"), "the plan keeps one: {kept:?}");
}

/// What is encrypted is held against its digest before it stands for an older one.
fn stands_for_none_where_it_is_damaged(machine: &Machine, older: &str) {
    let shown = machine.done(&["show", "shop@latest", "--json"]).json();
    let newest = shown["backup"]["path"].as_str().unwrap();
    let mut content = std::fs::read(newest).unwrap();
    *content.last_mut().unwrap() ^= 1;
    std::fs::write(newest, content).unwrap();
    machine.done(&["prune", "--repository", "daily", "--keep-last", "1"]);
    assert!(left(machine).contains(older), "{:?}", left(machine));
}
