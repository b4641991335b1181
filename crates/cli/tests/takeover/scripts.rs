//! Shell scripts that dump SQLite databases.

use super::*;
use crate::support::{count, fingerprint};
use std::process::Command;

/// A script as it is found in many places.
fn script(machine: &Machine) -> String {
    r#"#!/bin/bash
# nightly
set -euo pipefail
ROOT="HERE"
BACKUP_DIR=${BACKUP_DIR:-"$ROOT/dumps"}
STAMP=$(date +%Y%m%d_%H%M%S)
mkdir -p "$BACKUP_DIR"
sqlite3 "$ROOT/shop.db" ".backup '$BACKUP_DIR/shop-$STAMP.db'"
gzip -9 "$BACKUP_DIR/shop-$STAMP.db"
sqlite3 $ROOT/log.db .dump | zstd > "${BACKUP_DIR}/weekly/log.$(date -u +%F).sql.zst"
for f in $ROOT/tenants/*.db; do
  name=$(basename "$f" .db)
  cp "$f" "$BACKUP_DIR/tenants/$(basename "$f" .db)_$STAMP.db"
done
find "$BACKUP_DIR" $BACKUP_DIR/weekly -maxdepth 1 -name 'shop-*.db.gz' -mtime +14 -delete
ls -1t $BACKUP_DIR/weekly/*.zst | tail -n +9 | xargs -r rm --
rclone copy "$BACKUP_DIR" remote:dumps
if [ $? -ne 0 ]; then echo "failed" >&2; exit 1; fi
"#
    .replace("HERE", &machine.text("."))
    .replace("/.\"", "\"")
}

fn machine() -> Machine {
    let machine = Machine::new();
    for (name, rows) in [("shop.db", 10), ("log.db", 20), ("tenants/acme.db", 3), ("tenants/bolt.db", 4)] {
        machine.database(name, rows);
    }
    for folder in ["dumps", "dumps/weekly", "dumps/tenants"] {
        std::fs::create_dir_all(machine.path(folder)).unwrap();
    }
    machine
}

#[test]
fn a_script_becomes_a_configuration_that_backs_up_and_keeps_what_it_did() {
    let machine = machine();
    let (_, report) = taken(&machine, 3, &script(&machine), &["--yes"]);
    assert_eq!(left(&report), [(17, "rclone".to_owned())]);
    assert_eq!(of_targets(&report, "name"), ["shop", "log", "tenants"]);
    assert_eq!(of_targets(&report, "form"), ["db.gz", "sql.zst", "db"]);
    assert_eq!(
        of_targets(&report, "names"),
        ["{target}-{local_time}.{ext}", "{target}.{timestamp}.{ext}", "{database}_{local_time}.{ext}"]
    );
    assert_eq!(of_targets(&report, "keep"), ["max_age = \"14d\"", "last = 8", "-"]);
    assert_eq!((&report["written"], &report["old"]), (&true.into(), &Value::Null));
    let run = |arguments: &[&str]| machine.done(&[arguments, &["--config", "here.toml"]].concat());
    let made = run(&["backup", "--all", "--json"]).json();
    let mut files: Vec<String> = made["backups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["path"].as_str().unwrap().strip_prefix(&machine.text("dumps/")).unwrap().to_owned())
        .collect();
    files.sort();
    let shape = |name: &String| {
        name.chars().map(|letter| if letter.is_ascii_digit() { '0' } else { letter }).collect()
    };
    let shapes: Vec<String> = files.iter().map(shape).collect();
    assert_eq!(
        shapes,
        [
            "shop-00000000_000000.db.gz",
            "tenants/acme_00000000_000000.db",
            "tenants/bolt_00000000_000000.db",
            "weekly/log.00000000T000000Z.sql.zst"
        ]
    );
    std::fs::remove_file(machine.path("tenants/acme.db")).unwrap();
    run(&["restore", "tenants/acme@latest", "--yes"]);
    assert_eq!(count(&machine.path("tenants/acme.db")), 3);
    // What the script left before is known too.
    Command::new("cp")
        .arg(machine.path("dumps").join(&files[0]))
        .arg(machine.path("dumps/shop-20200101_000000.db.gz"))
        .status()
        .unwrap();
    assert_eq!(run(&["list", "shop", "--json"]).json()["backups"].as_array().unwrap().len(), 2);
    // A second time there is nothing to be added.
    let before = fingerprint(&machine.path("."));
    let (again, report) = taken(&machine, 3, &script(&machine), &["--yes"]);
    assert_eq!((report["diff"].as_str(), &report["written"]), (Some(""), &false.into()), "{report}");
    assert!(again.err.contains("has all of that already"), "{}", again.err);
    assert_eq!(fingerprint(&machine.path(".")), before);
}

#[test]
fn it_is_added_to_the_configuration_in_effect_and_only_where_somebody_accepts_it() {
    let machine = machine();
    let old = "# mine\n[repositories.main]\npath = \"restic\"\n\n[targets.shop]\nsource = \"shop.db\"\n[targets.shop.plans.daily]\nkeep = { daily = 7 }\n# end";
    machine.write("here.toml", old);
    for options in [&["--dry-run", "--yes"][..], &[]] {
        let (outcome, report) = taken(&machine, 3, &script(&machine), options);
        assert_eq!(
            (&report["written"], &report["dry_run"]),
            (&false.into(), &options.contains(&"--dry-run").into())
        );
        assert!(outcome.err.contains("Nothing was written"), "{}", outcome.err);
        assert_eq!(std::fs::read_to_string(machine.path("here.toml")).unwrap(), old);
    }
    let shown = machine.run(&["takeover", "backup.sh", "--config", "here.toml", "--quiet"]);
    assert!(
        shown.out.starts_with("--- ") && shown.err.contains("backup.sh:17: rclone: "),
        "{} {}",
        shown.out,
        shown.err
    );
    // What `patch` makes of the diff is what is written.
    machine.write("patched.toml", &format!("{old}\n"));
    machine.write("diff", &shown.out);
    let patched =
        Command::new("patch").args(["-s", "patched.toml", "diff"]).current_dir(machine.path(".")).status();
    assert!(patched.unwrap().success());
    let (_, report) = taken(&machine, 3, &script(&machine), &["--yes"]);
    assert_eq!(report["old"], machine.text("here.toml.old"));
    let new = std::fs::read_to_string(machine.path("here.toml")).unwrap();
    assert_eq!(new, std::fs::read_to_string(machine.path("patched.toml")).unwrap());
    assert_eq!(std::fs::read_to_string(machine.path("here.toml.old")).unwrap(), old);
    assert!(new.starts_with("repository = \"main\"\n# mine\n"), "what was the default stays it: {new}");
    assert_eq!(of_targets(&report, "name"), ["shop", "log", "tenants"]);
    assert!(
        new.matches("[targets.shop]").count() == 1 && new.contains("[targets.shop.plans.dumps]"),
        "{new}"
    );
    machine.done(&["init", "--repository", "main", "--config", "here.toml"]);
    let made = machine.done(&["backup", "shop", "--config", "here.toml", "--json"]).json();
    assert_eq!(made["backups"].as_array().unwrap().len(), 2, "{made}");
}

#[test]
fn what_is_not_understood_is_told_with_its_line_and_nothing_secret_shows() {
    let machine = machine();
    let secret = concat!("hunter2", "-very-secret");
    let script = format!(
        "#!/bin/sh\n\
         export PGPASSWORD={secret}\n\
         pg_dump -h db1 -U backup erp | gzip > /srv/dumps/erp-$(date +%F).sql.gz\n\
         pg_dump \"postgresql://backup:{secret}@db2/crm?sslmode=require&password={secret}\" > /srv/dumps/crm.sql\n\
         docker exec -e PGPASSWORD={secret} pg pg_dump -U postgres app > /srv/dumps/app.sql\n\
         ssh root@db3 'PGPASSWORD={secret} pg_dump x' | gzip > /srv/dumps/x.sql.gz\n\
         pct exec 101 -- sqlite3 /data/app.db .dump > /srv/dumps/app.sql\n\
         mysqldump -p{secret} wordpress > /srv/dumps/wp.sql\n\
         neo4j-admin database dump neo4j --to-path=/srv/dumps\n\
         pg_dump erp | gpg --passphrase {secret} -c > /srv/dumps/erp.gpg\n\
         pg_dump \"$1\" > /srv/dumps/one.sql\n\
         pg_dump erp > relative.sql\n\
         curl -H 'Authorization: {secret}' https://hc.example/{secret}\n\
         {secret} x\n\
         for t in $(cat tenants); do pg_dump $t > /srv/dumps/$t.sql; done\n\
         find /var/log -name '*.log' -mtime +7 -delete\n\
         pg_dump -T huge erp > /srv/dumps/erp2.sql\n\
         TOKEN={secret} pg_dump erp >> /srv/dumps/all.sql\n"
    );
    let (outcome, report) = taken(&machine, 3, &script, &["--dry-run"]);
    let lines: Vec<u64> = left(&report).into_iter().map(|(line, _)| line).collect();
    assert_eq!(lines, [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18], "{report}");
    assert_eq!(
        of_targets(&report, "source"),
        ["postgres://backup@db1/erp", "postgres://backup@db2/crm?sslmode=require"]
    );
    let shown = machine.run(&["takeover", "backup.sh", "--dry-run", "--verbose", "--config", "here.toml"]);
    for text in [&outcome.out, &outcome.err, &shown.out, &shown.err] {
        assert!(!text.contains(secret), "{text}");
    }
    let reasons = report["not_understood"].to_string();
    for says in [
        "does not back up Neo4j yet",
        "publish the port",
        "`age_recipients`",
        "`-T`",
        "$1",
        "added to a file",
    ] {
        assert!(reasons.contains(says), "{says}: {reasons}");
    }
    assert!(report["notes"].to_string().contains("passfile"), "{report}");
    let written = machine.run(&["takeover", "backup.sh", "--yes", "--config", "here.toml"]);
    assert_eq!(written.code, 3);
    assert!(!std::fs::read_to_string(machine.path("here.toml")).unwrap().contains(secret));
}

#[test]
fn what_is_no_script_or_writes_no_dump_is_refused() {
    let machine = machine();
    machine.write("none.sh", "#!/bin/sh\necho hello\nrsync -a /srv/ backup:/srv/\n");
    std::fs::write(machine.path("binary"), [0xff, 0xfe, 0, 1]).unwrap();
    machine.write("here.json", "{}");
    machine.write("bad.toml", "[targets.x]\nsorce = 1\n");
    for (arguments, code, says) in [
        (&["takeover", "none.sh", "--yes"][..], 2, "nothing in"),
        (&["takeover", "missing.sh"], 20, "missing.sh: cannot be read"),
        (&["takeover", "binary"], 20, "is no text"),
        (&["takeover", "."], 20, "cannot be read"),
        (&["takeover", "none.sh", "--config", "here.json"], 2, "written as TOML"),
        (&["takeover", "none.sh", "--config", "bad.toml"], 2, "sorce"),
        (&["takeover"], 2, "FILE|crontab"),
    ] {
        let before = fingerprint(&machine.root);
        let refused = machine.run(arguments);
        assert_eq!(refused.code, code, "{arguments:?}: {} {}", refused.out, refused.err);
        assert!(refused.err.contains(says), "{arguments:?}: {}", refused.err);
        assert_eq!(fingerprint(&machine.root), before, "{arguments:?}");
    }
}
