//! What a person is told can be done as it is told: commands run when they are copied, whatever is in the paths; each
//! thing is said once; a dry run says what the real run would refuse.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use rusqlite::Connection;
use std::path::Path;
use std::process::{Command, Stdio};
use support::{Machine, count, outcome};

const AWKWARD: &str = "it's \"my\" $HOME/app one.db";

/// Returns the commands that a text tells to run.
fn commands(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).filter(|piece| piece.contains(' ')).map(str::to_owned).collect()
}

/// Runs a command as a person would who copied it.
fn copied(machine: &Machine, command: &str) -> support::Outcome {
    let program = assert_cmd::cargo::cargo_bin!("backstay");
    let mut shell = assert_cmd::Command::new("/bin/sh");
    shell
        .env_clear()
        .envs(testkit::counters())
        .env("HOME", machine.root.join("home"))
        .env("PATH", format!("{}:/usr/bin:/bin", program.parent().unwrap().display()))
        .current_dir("/")
        .args(["-c", command]);
    outcome(&mut shell)
}

/// Leaves a restore unfinished: the program is killed by its own stop command.
fn unfinished(machine: &Machine) {
    let latest = format!("{AWKWARD}@latest");
    let killed_before = machine.text("killed");
    std::fs::remove_file(&killed_before).ok();
    let stop = format!("test -e {killed_before} || {{ touch {killed_before}; kill -9 $PPID; }}");
    let killed = machine.run(&["restore", &latest, "--confirm", "app one.db", "--stop-command", &stop]);
    assert_eq!(killed.code, -1, "{}", killed.err);
}

#[test]
fn the_commands_of_a_hint_run_as_they_are_copied() {
    let machine = Machine::new();
    let path = machine.database(AWKWARD, 50);
    machine.done(&["backup", AWKWARD]);
    unfinished(&machine);
    let told = machine.done(&["backup", AWKWARD]).err;
    let [finish, undo] = &commands(&told)[..] else { panic!("two ways on: {told}") };
    assert!(finish.contains("--continue") && undo.contains("--rollback"), "{told}");
    let refused = machine.run(&["restore", &format!("{AWKWARD}@latest"), "--confirm", "app one.db"]);
    assert_eq!(refused.code, 11);
    assert!(refused.err.contains(finish), "{finish}: {}", refused.err);
    let undone = copied(&machine, undo);
    assert_eq!(undone.code, 0, "{undo}: {}", undone.err);
    unfinished(&machine);
    let finished = copied(&machine, finish);
    assert_eq!(finished.code, 0, "{finish}: {}", finished.err);
    assert_eq!(count(&path), 50);
}

#[test]
fn a_source_that_is_not_there_is_looked_for_where_the_hint_says() {
    let machine = Machine::new();
    machine.database(AWKWARD, 1);
    let folder = Path::new(AWKWARD).parent().unwrap();
    for missing in [folder.join("gone.db"), folder.join("none/gone.db")] {
        let refused = machine.run(&["backup", &missing.display().to_string()]);
        assert_eq!(refused.code, 20);
        assert!(refused.err.contains("is it spelt right"), "{}", refused.err);
        let [list] = &commands(&refused.err)[..] else { panic!("{}", refused.err) };
        let listed = copied(&machine, list);
        assert_eq!(listed.code, 0, "{list}: {}", listed.err);
        assert!(listed.out.contains("app one.db"), "{list}: {}", listed.out);
    }
}

#[test]
fn what_cannot_be_read_or_written_has_a_hint() {
    let machine = Machine::new();
    machine.database("app.db", 1);
    machine.write("file", "");
    let blocked = machine.path("file").display().to_string();
    let no_keys = outcome(machine.command().env("XDG_CONFIG_HOME", &blocked).args(["backup", "app.db"]));
    assert_eq!(no_keys.code, 2, "{}", no_keys.err);
    assert!(no_keys.err.contains("hint: check the disk"), "{}", no_keys.err);
    let keys = machine.root.join("home/.config/backstay");
    std::fs::create_dir_all(&keys).unwrap();
    std::fs::write(keys.join("keys"), "").unwrap();
    let no_keys = machine.run(&["backup", "app.db"]);
    assert_eq!(no_keys.code, 1, "{}", no_keys.err);
    assert!(no_keys.err.contains("hint: this user must be able to write to"), "{}", no_keys.err);
    std::fs::remove_file(keys.join("keys")).unwrap();
    std::fs::write(machine.path("latin.toml"), b"# \xe4\n").unwrap();
    for (config, hint) in [(".", "name the file in it"), ("latin.toml", "UTF-8")] {
        let refused = machine.run(&["backup", "app.db", "--config", config]);
        assert_eq!(refused.code, 2, "{}", refused.err);
        let told = refused.err.split_once("hint: ").unwrap_or_else(|| panic!("{}", refused.err)).1;
        assert!(told.contains(hint), "{told}");
    }
}

#[test]
fn a_journal_that_cannot_be_used_is_named_once() {
    let machine = Machine::new();
    machine.database("app.db", 1);
    std::fs::create_dir_all(machine.root.join("state/backstay/journal.db")).unwrap();
    let told = outcome(
        machine.command().env("XDG_STATE_HOME", machine.root.join("state")).args(["backup", "app.db"]),
    );
    assert_eq!(told.code, 0, "{}", told.err);
    assert_eq!(told.err.matches("journal.db").count(), 1, "{}", told.err);
}

#[test]
fn nothing_reads_what_is_no_database() {
    let machine = Machine::new();
    machine.write("notes.txt", "These are notes, and no database at all. ".repeat(20).as_str());
    let examined = machine.run(&["doctor", "notes.txt"]);
    assert_eq!(examined.code, 21, "{}", examined.err);
    assert!(!examined.out.contains("reads it"), "{}", examined.out);
    machine.database("app.db", 1);
    assert!(machine.done(&["doctor", "app.db"]).out.contains("reads it"));
}

#[test]
fn a_dry_run_says_what_the_restore_would_refuse() {
    let machine = Machine::new();
    let path = machine.database("app.db", 5);
    machine.done(&["backup", "app.db"]);
    let user = Command::new("sqlite3").arg(&path).stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
    let mut user = user.expect("sqlite3 must be installed");
    use std::io::Write;
    writeln!(user.stdin.as_mut().unwrap(), "SELECT count(*) FROM t;").unwrap();
    while Connection::open(&path).is_err() || !is_open(user.id(), &path) {
        std::thread::yield_now();
    }
    let told = machine.done(&["restore", "app.db", "--dry-run"]);
    let refusal = told.out.lines().find(|line| line.starts_with("would be refused: "));
    assert!(refusal.is_some_and(|line| line.contains("in use by process")), "{}", told.out);
    let report = machine.done(&["restore", "app.db", "--dry-run", "--json"]).json();
    assert_eq!(report["refusals"].as_array().unwrap().len(), 1, "{report}");
    for way in [&["--in-place"][..], &["--stop-command", "true"], &["--to-new", "new.db"]] {
        let told = machine.done(&[&["restore", "app.db", "--dry-run"], way].concat());
        assert!(!told.out.contains("would be refused"), "{way:?}: {}", told.out);
    }
    assert_eq!(machine.run(&["restore", "app.db", "--confirm", "app.db"]).code, 11);
    user.kill().unwrap();
    user.wait().unwrap();
    let free = machine.done(&["restore", "app.db", "--dry-run", "--json"]).json();
    assert_eq!(free["refusals"], serde_json::json!([]));
}

fn is_open(pid: u32, path: &Path) -> bool {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    files.flatten().any(|file| std::fs::read_link(file.path()).is_ok_and(|open| open == path))
}

#[test]
fn a_refusal_to_go_on_names_its_target_in_the_report() {
    let machine = Machine::new();
    let path = machine.database("app.db", 5);
    for way in ["--continue", "--rollback"] {
        let refused = machine.run(&["restore", way, "--target", "app.db", "--json"]);
        assert_eq!(refused.code, 2, "{}", refused.err);
        assert_eq!(refused.json()["target"], path.display().to_string(), "{}", refused.out);
        assert_eq!(refused.json()["dry_run"], false, "{}", refused.out);
    }
}

#[test]
fn a_hook_gets_names_and_no_password() {
    let machine = Machine::new();
    machine.database("shops/acme.db", 5);
    let seen = machine.path("seen");
    let hook =
        format!("[\"sh\", \"-c\", 'env > \"$1\"; echo \"$2\" >> \"$1\"', \"sh\", {seen:?}, \"{{tenant}}\"]");
    machine.write(
        "backstay.toml",
        &format!("[targets.shops]\nsource = \"shops/{{tenant}}.db\"\nhooks = {{ before_backup = {hook} }}\n"),
    );
    let key = machine.write("password", "correct horse\n");
    let repository = machine.text("repo");
    let mut init = machine.command();
    init.env("BACKSTAY_PASSWORD", "correct horse").args(["init", "--repository", &repository]);
    assert_eq!(outcome(&mut init).code, 0);
    for (name, value) in [
        ("BACKSTAY_PASSWORD", "correct horse".to_owned()),
        ("BACKSTAY_PASSWORD_FILE", key.display().to_string()),
        ("BACKSTAY_PASSWORD_COMMAND", format!("cat {}", key.display())),
    ] {
        let mut backup = machine.command();
        backup.env(name, value).args(["backup", "shops/acme", "--repository", &repository]);
        let backup = outcome(&mut backup);
        assert_eq!(backup.code, 0, "{}", backup.err);
        let environment = std::fs::read_to_string(&seen).unwrap();
        assert!(environment.contains("BACKSTAY_TARGET=shops\n"), "{environment}");
        assert!(environment.contains("BACKSTAY_DATABASE=acme\n"), "{environment}");
        assert!(environment.ends_with("\nacme\n"), "{environment}");
        assert!(!environment.contains("BACKSTAY_PASSWORD"), "{environment}");
        assert!(!environment.contains("correct horse"), "{environment}");
    }
}

#[test]
fn first_backups_at_once_make_one_repository() {
    let machine = Machine::new();
    let names = ["a.db", "b.db", "c.db"];
    names.iter().for_each(|name| drop(machine.database(name, 5)));
    let runs: Vec<_> = names
        .iter()
        .map(|name| {
            let mut command = machine.command();
            command.args(["backup", name]);
            std::thread::spawn(move || outcome(&mut command))
        })
        .collect();
    for run in runs {
        let run = run.join().unwrap();
        assert_eq!(run.code, 0, "{}", run.err);
    }
    machine.key();
    let keys = std::fs::read_dir(machine.root.join("home/.local/share/backstay/repository/keys")).unwrap();
    assert_eq!(keys.count(), 1, "a stray key opens nothing, and leads astray");
    let listed = machine.done(&["list", "--json"]).json();
    assert_eq!(listed["backups"].as_array().unwrap().len(), 3, "{listed}");
    machine.done(&["verify"]);
}
