//! Keys: each opens the repository for stock restic too, after every step; the last one stays; a copy is confirmed once.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use support::{Machine, Outcome, fingerprint, outcome};

const REPOSITORY: &str = "repo";

struct Bench {
    machine: Machine,
}

impl Bench {
    /// A repository that is opened by a key file of this user.
    fn new() -> Self {
        let machine = Machine::new();
        machine.database("app.db", 10);
        machine.write("backstay.toml", "[repositories.main]\npath = \"repo\"\n");
        machine.done(&["init", "--repository", "main"]);
        Self { machine }
    }

    fn key_file(&self) -> PathBuf {
        let keys = self.machine.root.join("home/.config/backstay/keys");
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(keys).unwrap().map(|file| file.unwrap().path()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        files.pop().unwrap()
    }

    fn key(&self, arguments: &[&str]) -> Value {
        self.machine.done(&[&["key"], arguments, &["--json"]].concat()).json()
    }

    fn with_password(&self, password: &str, arguments: &[&str]) -> Outcome {
        outcome(self.machine.command().env("BACKSTAY_PASSWORD", password).args(arguments))
    }

    /// The ids of the keys, as stock restic lists them by that password; `None` where it does not open.
    fn stock_keys(&self, password: &str) -> Option<Vec<String>> {
        let output = Command::new("restic")
            .args(["key", "list", "--json", "--no-cache", "-r"])
            .arg(self.machine.path(REPOSITORY))
            .env("RESTIC_PASSWORD", password)
            .env("HOME", &self.machine.root)
            .output()
            .unwrap();
        let listed: Value = serde_json::from_slice(&output.stdout).ok()?;
        let mut ids: Vec<String> =
            listed.as_array()?.iter().map(|key| key["id"].as_str().unwrap()[..8].to_owned()).collect();
        ids.sort();
        Some(ids)
    }

    /// The same of ours.
    fn ids(&self, report: &Value) -> Vec<String> {
        let keys = report["keys"].as_array().unwrap();
        keys.iter().map(|key| key["id"].as_str().unwrap()[..8].to_owned()).collect()
    }
}

#[test]
fn each_key_opens_for_stock_restic_after_every_step() {
    let bench = Bench::new();
    let machine = &bench.machine;
    machine.write("word", "geheim\nsecond line\n");
    let first = machine.key();
    let listed = bench.key(&["list"]);
    assert_eq!(listed["keys"][0]["current"], true);
    assert_eq!(listed["keys"][0]["host"], support::host());
    assert_eq!(bench.stock_keys(&first).unwrap(), bench.ids(&listed));

    let added = bench.key(&["add", "--new-password-file", "word"]);
    let word_id = added["added"].as_str().unwrap().to_owned();
    let third = bench.key(&["add", "--new-key-file", "third.key"]);
    assert_eq!(third["key_file"], machine.text("third.key"));
    let third_key = std::fs::read_to_string(machine.path("third.key")).unwrap().trim().to_owned();
    for password in [&first, "geheim", &third_key] {
        assert_eq!(bench.stock_keys(password).as_ref(), Some(&bench.ids(&third)), "{third}");
    }

    let removed = bench.key(&["remove", &word_id[..8]]);
    assert_eq!(removed["removed"], word_id.as_str());
    assert_eq!(bench.stock_keys("geheim"), None);
    assert_eq!(bench.with_password("geheim", &["list"]).code, 12);
    assert_eq!(bench.stock_keys(&third_key).unwrap(), bench.ids(&removed));

    let key_file = bench.key_file();
    let replaced = bench.key(&["passwd"]);
    assert_eq!(replaced["key_file"], key_file.display().to_string());
    let second = machine.key();
    assert_ne!(first, second);
    assert_eq!(bench.stock_keys(&first), None);
    assert_eq!(bench.stock_keys(&second).unwrap(), bench.ids(&replaced));
    assert_eq!(replaced["keys"].as_array().unwrap().iter().filter(|key| key["current"] == true).count(), 1);

    let chosen =
        outcome(machine.command().env("BACKSTAY_NEW_PASSWORD", "selbst gewählt").args(["key", "passwd"]));
    assert_eq!(chosen.code, 0, "{}", chosen.err);
    assert_eq!(machine.key(), "selbst gewählt", "the key file opens as ever");
    assert!(bench.stock_keys("selbst gewählt").is_some() && bench.stock_keys(&second).is_none());
    machine.done(&["backup", "app.db"]);
    let stock = Command::new("restic")
        .args(["check", "--read-data", "--no-cache", "-r"])
        .arg(machine.path(REPOSITORY))
        .env("RESTIC_PASSWORD", &third_key)
        .env("HOME", &machine.root)
        .output()
        .unwrap();
    assert!(stock.status.success(), "{}", String::from_utf8_lossy(&stock.stderr));
}

#[test]
fn a_password_that_others_give_is_replaced_and_they_are_named() {
    let bench = Bench::new();
    let (machine, first) = (&bench.machine, bench.machine.key());
    machine.write("word", "geheim\n");
    machine.write("other", "anders\n");
    machine.done(&["key", "add", "--new-password-file", "word"]);
    let changed = bench.with_password("geheim", &["key", "passwd", "--new-password-file", "other"]);
    assert_eq!(changed.code, 0, "{}", changed.err);
    assert!(changed.err.contains("still gives the old one"), "{}", changed.err);
    assert_eq!(machine.key(), first, "the key file is of another key");
    assert!(bench.stock_keys("anders").is_some() && bench.stock_keys("geheim").is_none());
    machine.done(&["list"]);
}

#[test]
fn what_would_lock_people_out_is_refused_and_changes_nothing() {
    let bench = Bench::new();
    let machine = &bench.machine;
    machine.write("empty", "\n");
    machine.write("there.key", "x\n");
    let id = bench.key(&["list"])["keys"][0]["id"].as_str().unwrap().to_owned();
    let before = fingerprint(&machine.root.join("here"));
    for (arguments, code, said) in [
        (&["key", "remove", &id[..8]][..], 2, "the only one"),
        (&["key", "remove", "00000000"], 2, "has no key"),
        (&["key", "remove", ""], 2, "has no key"),
        (&["key", "add"], 2, "--new-password-file"),
        (&["key", "add", "--new-password-file", "empty"], 2, "empty"),
        (&["key", "add", "--new-password-file", "nowhere"], 2, "nowhere"),
        (&["key", "add", "--new-key-file", "there.key"], 2, "there already"),
        (&["key", "add", "--new-key-file", "none/new.key"], 1, "none/new.key"),
        (&["key", "passwd", "--new-password-file", "empty"], 2, "empty"),
        (&["key", "confirm"], 2, "no copy of the key"),
        (&["key", "confirm", "there.key"], 12, "does not open"),
        (&["key", "confirm", "nowhere"], 12, "nowhere"),
        (&["key", "rotate"], 2, "unrecognized subcommand"),
    ] {
        let refused = machine.run(arguments);
        assert_eq!(refused.code, code, "{arguments:?}: {}", refused.err);
        assert!(refused.err.contains(said), "{arguments:?}: {}", refused.err);
    }
    let original = bench.key_file().display().to_string();
    let refused = machine.run(&["key", "confirm", &original]);
    assert_eq!((refused.code, refused.err.contains("not a copy")), (2, true), "{}", refused.err);
    for arguments in [
        &["key", "add", "--new-key-file", "new.key", "--dry-run"][..],
        &["key", "passwd", "--dry-run"],
        &["key", "confirm", "there.key", "--dry-run"],
    ] {
        machine.run(arguments);
    }
    assert_eq!(fingerprint(&machine.root.join("here")), before);
    assert_eq!(bench.ids(&bench.key(&["list"])), [&id[..8]]);
}

#[test]
fn a_key_in_use_is_refused_while_there_are_others() {
    let bench = Bench::new();
    bench.machine.write("word", "geheim\n");
    bench.key(&["add", "--new-password-file", "word"]);
    let listed = bench.key(&["list"]);
    let current = listed["keys"].as_array().unwrap().iter().find(|key| key["current"] == true).unwrap();
    let id = current["id"].as_str().unwrap();
    let refused = bench.machine.run(&["key", "remove", id]);
    assert_eq!((refused.code, refused.err.contains("is in use")), (2, true), "{}", refused.err);
    let removed = bench.with_password("geheim", &["key", "remove", id]);
    assert_eq!(removed.code, 0, "{}", removed.err);
    assert!(removed.err.contains("opens nothing now"), "{}", removed.err);
    assert_eq!(bench.machine.run(&["list"]).code, 12);
}

#[test]
fn each_backup_reminds_of_the_copy_until_one_was_shown() {
    let bench = Bench::new();
    let machine = &bench.machine;
    let reminded = |arguments: &[&str]| machine.done(arguments).err.matches("reminder: ").count();
    assert_eq!(reminded(&["backup", "app.db"]), 1);
    assert_eq!(reminded(&["backup", "app.db", "--quiet"]), 0);
    assert_eq!(reminded(&["list"]), 0);
    std::fs::copy(bench.key_file(), machine.path("copy.key")).unwrap();
    let confirmed = bench.key(&["confirm", "copy.key"]);
    assert_eq!(confirmed["confirmed"], confirmed["keys"][0]["id"]);
    assert!(confirmed["keys"][0]["confirmed"].is_string());
    assert_eq!(reminded(&["backup", "app.db"]), 0);
    // The state folder may go at any moment: what was confirmed is kept in the repository.
    std::fs::remove_dir_all(machine.root.join("home/.local/state")).unwrap();
    assert_eq!(reminded(&["backup", "app.db"]), 0);
    machine.done(&["key", "passwd"]);
    assert_eq!(reminded(&["backup", "app.db"]), 1, "a copy of the old key is of no use");
    let piped =
        outcome(machine.command().args(["key", "confirm"]).write_stdin(format!("{}\n", machine.key())));
    assert_eq!(piped.code, 0, "{}", piped.err);
    assert_eq!(reminded(&["backup", "app.db"]), 0);
}
