//! A bare machine, the repository and the key are enough: the configuration comes back, and what it names is listed,
//! restored and backed up. Lesson "when the tool's own database is lost, its backups are hard to use".
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

#[path = "seams/mod.rs"]
mod seams;
mod support;

use repository::restic_layout::{LockOwner, ResticLayout, ResticOptions};
use repository::{ConfigurationRecord, Repository, State};
use seams::{PASSWORD, make_repository, tree};
use std::path::PathBuf;
use std::sync::Arc;
use support::{Machine, Outcome, count, outcome};

const CONFIGURATION: &str = "\
# of the shop: übrigens
repository = \"main\"   # the only one

[repositories.main]
path = \"repo\"                # the disk
password_file = \"main.key\"

[targets.shops]
source = \"shops/{tenant}.db\"
restore = { safety_dir = \"safe\" }

[targets.folder]
source = \"dbs\"
[targets.erp]
source = \"erp.db\"
[targets.erp.plans.nightly]
keep = { daily = 7 }
";

/// The machine that was, and the one that comes after it, on one disk.
struct Moved {
    machine: Machine,
}

impl Moved {
    /// Backs up five databases of three targets, then takes the machine away: no home, no configuration, no databases.
    fn new(configuration: Option<&str>) -> Self {
        let machine = Machine::new();
        make_repository(&machine.path("repo"));
        machine.write("main.key", &format!("{PASSWORD}\n"));
        machine.database("shops/acme.db", 30);
        machine.database("shops/bolt.db", 40);
        machine.database("dbs/a.db", 5);
        machine.database("dbs/b.sqlite", 6);
        machine.database("erp.db", 50);
        machine.write("backstay.toml", CONFIGURATION);
        machine.done(&["backup", "--all", "--no-prune"]);
        if configuration != Some(CONFIGURATION) {
            // As a release made the backups that kept no configuration, or another one.
            keep(&machine, &support::host(), &machine.text("backstay.toml"), configuration);
        }
        let moved = Self { machine };
        let here = moved.machine.root.join("here");
        std::fs::rename(here.join("repo"), moved.repository()).unwrap();
        std::fs::remove_dir_all(&here).unwrap();
        std::fs::create_dir(&here).unwrap();
        std::fs::remove_dir_all(moved.machine.root.join("home")).unwrap();
        std::fs::write(moved.key(), format!("{PASSWORD}\n")).unwrap();
        moved
    }

    fn repository(&self) -> PathBuf {
        self.machine.root.join("disk")
    }

    fn key(&self) -> PathBuf {
        self.machine.root.join("usb.key")
    }

    fn written(&self) -> PathBuf {
        self.machine.root.join("home/.config/backstay/config.toml")
    }

    fn adopt(&self, arguments: &[&str]) -> Outcome {
        let repository = self.repository().display().to_string();
        let mut command = self.machine.command();
        command.env("BACKSTAY_PASSWORD_FILE", self.key());
        outcome(command.args(["adopt", &repository]).args(arguments))
    }
}

/// Keeps a configuration of a host in the repository; none takes all away.
fn keep(machine: &Machine, host: &str, file: &str, text: Option<&str>) {
    let folder =
        [machine.path("repo"), machine.root.join("disk")].into_iter().find(|path| path.exists()).unwrap();
    let Some(text) = text else {
        // What keeps state is a snapshot like others: stock restic forgets it.
        let forgotten = std::process::Command::new("restic")
            .args([
                "forget",
                "--tag",
                "backstay-state",
                "--keep-tag",
                "none",
                "--group-by",
                "",
                "--no-cache",
                "-r",
            ])
            .arg(&folder)
            .env("RESTIC_PASSWORD", PASSWORD)
            .output()
            .unwrap();
        assert!(forgotten.status.success(), "{}", seams::both(&forgotten));
        return;
    };
    let storage = Arc::new(storage::LocalStorage::open(folder).unwrap());
    let owner = LockOwner { host: host.to_owned(), user: "olga".to_owned(), pid: 1, uid: 0, gid: 0 };
    let layout =
        ResticLayout::open(storage, &flow::Secret::new(PASSWORD), ResticOptions::new(owner)).unwrap();
    let record = ConfigurationRecord {
        host: host.to_owned(),
        file: file.to_owned(),
        time: jiff::Timestamp::now(),
        text: text.to_owned(),
        repository: None,
        key_file: None,
    };
    let state = State { configurations: [record].into_iter().collect(), ..State::default() };
    let context = flow::Context::quiet(flow::ScratchDir::new(machine.root.join("scratch")));
    layout.append_state(state, &context).unwrap();
}

#[test]
fn the_configuration_comes_back_and_names_work_at_once() {
    let moved = Moved::new(Some(CONFIGURATION));
    let (machine, here) = (&moved.machine, moved.machine.root.join("here").display().to_string());
    let before = tree(&moved.repository());
    let dry = moved.adopt(&["--dry-run"]);
    assert_eq!((dry.code, moved.written().exists()), (0, false), "{}", dry.err);
    let told = moved.adopt(&["--json"]);
    assert_eq!(told.code, 0, "{}", told.err);
    let report = told.json();
    let text = std::fs::read_to_string(moved.written()).unwrap();
    assert_eq!((report["text"].as_str().unwrap(), dry.out.as_str()), (text.as_str(), text.as_str()));
    assert_eq!(tree(&moved.repository()), before, "nothing is written into the repository");

    // Byte for byte, but for the repository's place, its key, and what was relative to the folder of the file.
    let expected = CONFIGURATION
        .replace("\"repo\"", &format!("\"{}\"", moved.repository().display()))
        .replace("\"main.key\"", &format!("\"{}\"", moved.key().display()))
        .replace("\"shops/", &format!("\"{here}/shops/"))
        .replace("\"safe\"", &format!("\"{here}/safe\""))
        .replace("\"dbs\"", &format!("\"{here}/dbs\""))
        .replace("\"erp.db\"", &format!("\"{here}/erp.db\""));
    assert_eq!(text, expected);
    assert_eq!(report["host"], support::host());
    assert_eq!(report["hosts"][0]["targets"].as_array().unwrap().len(), 3, "{report}");

    let listed = machine.done(&["list"]).out;
    for name in ["shops/acme", "shops/bolt", "folder/a.db", "folder/b.sqlite", "erp"] {
        assert!(listed.contains(&format!("  {name}  ")), "{name}: {listed}");
    }
    for (name, file, rows) in
        [("shops/acme", "shops/acme.db", 30), ("folder/b.sqlite", "dbs/b.sqlite", 6), ("erp", "erp.db", 50)]
    {
        std::fs::create_dir_all(machine.path("safe")).unwrap();
        if name != "erp" {
            let refused = machine.run(&["restore", name, "--yes"]);
            assert_eq!(refused.code, 20, "{}", refused.err);
            assert!(refused.err.contains("hint: make it with `mkdir -p "), "{}", refused.err);
        }
        std::fs::create_dir_all(machine.path(file).parent().unwrap()).unwrap();
        machine.done(&["restore", name, "--yes"]);
        assert_eq!(count(&machine.path(file)), rows, "{name}");
    }
    for command in report["next"].as_array().unwrap() {
        let words: Vec<&str> = command.as_str().unwrap().split(' ').skip(1).collect();
        machine.done(&words);
    }
    machine.done(&["backup", "--all"]);
}

#[test]
fn a_configuration_is_kept_once_for_each_text() {
    let machine = Machine::new();
    make_repository(&machine.path("repo"));
    machine.write("main.key", &format!("{PASSWORD}\n"));
    machine.database("erp.db", 50);
    let text = "[repositories.main]\npath = \"repo\"\npassword_file = \"main.key\"\n[targets.erp]\nsource = \"erp.db\"\n";
    let snapshots = || std::fs::read_dir(machine.path("repo/snapshots")).map_or(0, Iterator::count);
    machine.write("backstay.toml", text);
    machine.done(&["backup", "erp", "--dry-run"]);
    assert_eq!(snapshots(), 0);
    machine.done(&["backup", "erp"]);
    assert_eq!(snapshots(), 2, "the backup and the configuration");
    machine.done(&["backup", "erp"]);
    assert_eq!(snapshots(), 3, "it is known");
    machine.write("backstay.toml", &format!("# changed\n{text}"));
    machine.done(&["backup", "erp"]);
    assert_eq!(snapshots(), 5);
    machine.write("backstay.toml", &format!("# gone wrong\n{text}"));
    std::fs::remove_file(machine.path("erp.db")).unwrap();
    assert_eq!(machine.run(&["backup", "erp"]).code, 20);
    assert_eq!(snapshots(), 5, "what backed up nothing says nothing");
    machine.database("erp.db", 50);
    machine.write("backstay.toml", &format!("{text}# old password: geheim\n"));
    let warned = machine.done(&["backup", "erp", "--quiet"]);
    assert!(warned.err.contains("backstay.toml:6: it seems to hold a secret"), "{}", warned.err);
    assert!(!warned.err.contains("geheim"), "{}", warned.err);
    assert_eq!(snapshots(), 6);
}

#[test]
fn a_repository_without_a_configuration_gets_one_that_works() {
    let moved = Moved::new(None);
    let machine = &moved.machine;
    let told = moved.adopt(&[]);
    assert_eq!(told.code, 0, "{}", told.err);
    assert!(told.err.contains("made from the backups of"), "{}", told.err);
    let listed = machine.done(&["list", "shops"]).out;
    assert!(listed.contains("shops/acme") && listed.contains("shops/bolt"), "{listed}");
    for (name, file, rows) in
        [("shops/bolt", "shops/bolt.db", 40), ("folder/a.db", "dbs/a.db", 5), ("erp", "erp.db", 50)]
    {
        std::fs::create_dir_all(machine.path(file).parent().unwrap()).unwrap();
        machine.done(&["restore", name, "--yes"]);
        assert_eq!(count(&machine.path(file)), rows, "{name}");
    }
    let backed_up = machine.done(&["backup", "--all", "--json"]).json();
    assert_eq!(backed_up["backups"].as_array().unwrap().len(), 3, "{backed_up}");
}

#[test]
fn what_was_backed_up_by_its_path_is_restored_by_its_path() {
    let machine = Machine::new();
    make_repository(&machine.path("repo"));
    let path = machine.database("it's.db", 7);
    let environment = |command: &mut assert_cmd::Command, home: &str| {
        command.env("BACKSTAY_PASSWORD", PASSWORD).env("HOME", machine.root.join(home));
    };
    let run = |home: &str, arguments: &[&str]| {
        let mut command = machine.command();
        environment(&mut command, home);
        let outcome = outcome(command.args(arguments));
        assert_eq!(outcome.code, 0, "{arguments:?}: {}", outcome.err);
        outcome
    };
    run("home", &["backup", "it's.db", "--repository", "./repo"]);
    std::fs::remove_file(&path).unwrap();
    std::fs::remove_dir_all(machine.root.join("home")).unwrap();
    let told = run("bare", &["adopt", "repo"]);
    assert!(told.err.contains("The password is not in it"), "{}", told.err);
    let text = std::fs::read_to_string(machine.root.join("bare/.config/backstay/config.toml")).unwrap();
    assert!(text.contains("\n# [targets.it's]") || text.contains("\n# [targets.\"it's\"]"), "{text}");
    assert!(!text.contains("password_file"), "{text}");
    run("bare", &["restore", &path.display().to_string(), "--yes"]);
    assert_eq!(count(&path), 7);
}

#[test]
fn of_several_hosts_one_is_named() {
    let moved = Moved::new(Some(CONFIGURATION));
    let other = "[repositories.b]\npath = \"/old/b\"\n[targets.crm]\nsource = \"/srv/crm.db\"\n";
    keep(&moved.machine, "elsewhere", "/etc/backstay/config.toml", Some(other));
    let refused = moved.adopt(&[]);
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert!(refused.err.contains("elsewhere") && refused.err.contains("--host"), "{}", refused.err);
    assert!(!moved.written().exists());
    let unknown = moved.adopt(&["--host", "nobody"]);
    assert!(unknown.code == 2 && unknown.err.contains("elsewhere"), "{}", unknown.err);
    keep(&moved.machine, "elsewhere", "/root/second.toml", Some(other));
    let refused = moved.adopt(&["--host", "elsewhere"]);
    assert!(refused.code == 2 && refused.err.contains("--file"), "{}", refused.err);
    let told = moved.adopt(&["--host", "elsewhere", "--file", "/etc/backstay/config.toml"]);
    assert_eq!(told.code, 0, "{}", told.err);
    let text = std::fs::read_to_string(moved.written()).unwrap();
    let (repository, key) = (moved.repository(), moved.key());
    assert_eq!(
        text,
        format!(
            "[repositories.b]\npath = \"{}\"\npassword_file = \"{}\"\n[targets.crm]\nsource = \"/srv/crm.db\"\n",
            repository.display(),
            key.display()
        )
    );
}

#[test]
fn what_stands_in_the_way_is_named_and_nothing_is_written() {
    let moved = Moved::new(Some(CONFIGURATION));
    let machine = &moved.machine;
    let repository = moved.repository().display().to_string();
    let with = |password: &str, arguments: &[&str]| {
        outcome(machine.command().env("BACKSTAY_PASSWORD", password).args(arguments))
    };
    for (outcome, code, said) in [
        (with("falsch", &["adopt", &repository]), 12, "opens no key"),
        (machine.run(&["adopt", &repository]), 12, "BACKSTAY_PASSWORD_FILE"),
        (with(PASSWORD, &["adopt", "nowhere"]), 10, "mounted"),
        (with(PASSWORD, &["adopt"]), 2, "no repository is named"),
        (moved.adopt(&["--config", "x.json"]), 2, ".toml"),
        (moved.adopt(&["--file", "/nowhere.toml"]), 2, "name one of"),
    ] {
        assert_eq!(outcome.code, code, "{}", outcome.err);
        assert!(outcome.err.contains(said) && outcome.err.contains("hint: "), "{said}: {}", outcome.err);
    }
    assert!(!moved.written().exists());
    let failed = with("falsch", &["adopt", &repository, "--json"]).json();
    assert_eq!(failed["error"]["exit_code"], 12);
    assert!(failed["text"].is_null() && failed["hosts"].is_array() && failed["next"].is_array(), "{failed}");
    for place in ["mine.toml", "backstay.toml"] {
        let mine = machine.write(place, "# mine\n");
        let named = ["--config", place];
        let refused = moved.adopt(if place == "mine.toml" { &named } else { &[] });
        assert!(refused.code == 2 && refused.err.contains("not written over"), "{}", refused.err);
        assert_eq!(std::fs::read_to_string(&mine).unwrap(), "# mine\n");
    }
    let elsewhere = moved.adopt(&["--config", "new.toml"]);
    assert_eq!(elsewhere.code, 0, "{}", elsewhere.err);
    assert!(elsewhere.err.contains("backstay list --config"), "{}", elsewhere.err);
}

#[test]
fn a_typed_or_given_password_is_written_nowhere() {
    let moved = Moved::new(Some(CONFIGURATION));
    let repository = moved.repository().display().to_string();
    let told =
        outcome(moved.machine.command().env("BACKSTAY_PASSWORD", PASSWORD).args(["adopt", &repository]));
    assert_eq!(told.code, 0, "{}", told.err);
    let text = std::fs::read_to_string(moved.written()).unwrap();
    assert!(text.contains("\n# password_file = ") && !text.contains(PASSWORD), "{text}");
    let listed = outcome(moved.machine.command().env("BACKSTAY_PASSWORD", PASSWORD).args(["list"]));
    assert_eq!(listed.code, 0, "{}", listed.err);
}
