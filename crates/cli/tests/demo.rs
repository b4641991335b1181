//! The demonstration ends well, and leaves nothing behind.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::{Duration, Instant};
use support::{Machine, outcome};

fn leftovers(machine: &Machine) -> usize {
    std::fs::read_dir(&machine.root)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("backstay-demo-"))
        .count()
}

#[test]
fn it_shows_that_the_data_comes_back_and_leaves_nothing() {
    let machine = Machine::new();
    let told = machine.done(&["demo"]);
    for part in [
        "200,000 rows",
        "proof level `stored`",
        "no such table: customers",
        "200,250",
        "restore /path/of/your.db@latest",
    ] {
        assert!(told.out.contains(part), "`{part}` is missing in {}", told.out);
    }
    assert!(!told.out.contains("DIFFERENT"), "{}", told.out);
    assert_eq!(leftovers(&machine), 0);
    assert_eq!(std::fs::read_dir(machine.root.join("home")).unwrap().count(), 0, "the home is not touched");
}

#[test]
fn kept_it_can_be_looked_at_with_the_commands_it_names() {
    let machine = Machine::new();
    let told = machine.done(&["demo", "--keep", "--json"]).json();
    assert_eq!(told["equal"], true);
    let folder = std::path::PathBuf::from(told["folder"].as_str().unwrap());
    let keys = std::fs::read_dir(folder.join("config/keys")).unwrap();
    let key = keys.map(|file| file.unwrap().path()).next().unwrap();
    let mut command = machine.command();
    command.env("BACKSTAY_REPOSITORY", folder.join("repository")).env("BACKSTAY_PASSWORD_FILE", key);
    let list = outcome(command.args(["list", "--json"])).json();
    assert_eq!(list["backups"].as_array().unwrap().len(), 2);
}

#[test]
fn an_interruption_ends_it_cleanly() {
    let machine = Machine::new();
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin!("backstay"))
        .arg("demo")
        .env_clear()
        .envs(testkit::counters())
        .env("HOME", machine.root.join("home"))
        .env("TMPDIR", &machine.root)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while leftovers(&machine) == 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(leftovers(&machine), 0);
}

#[test]
fn it_shows_the_same_with_a_server_of_its_own() {
    let machine = Machine::new();
    let told = machine.done(&["demo", "--engine", "postgres"]);
    for part in [
        "Started a PostgreSQL",
        "proof level `stored`",
        "relation \"customers\" does not exist",
        "60,250",
        "role postgres://postgres@HOST/DATABASE --role backup",
    ] {
        assert!(told.out.contains(part), "`{part}` is missing in {}", told.out);
    }
    assert!(!told.out.contains("DIFFERENT"), "{}", told.out);
    assert_eq!(leftovers(&machine), 0);
    assert_eq!(std::fs::read_dir(machine.root.join("home")).unwrap().count(), 0, "the home is not touched");
}

/// Begins a demonstration with a server, and waits until that takes connections.
fn begin_with_server(machine: &Machine) -> std::process::Child {
    let child = std::process::Command::new(assert_cmd::cargo::cargo_bin!("backstay"))
        .args(["demo", "--engine", "postgres"])
        .env_clear()
        .envs(testkit::counters())
        .env("HOME", machine.root.join("home"))
        .env("TMPDIR", &machine.root)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let socket = || {
        let folders = std::fs::read_dir(&machine.root).unwrap().filter_map(Result::ok);
        folders.into_iter().any(|folder| folder.path().join("server/.s.PGSQL.5432").exists())
    };
    while !socket() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

/// How many processes have that folder in their command line.
fn processes(machine: &Machine) -> usize {
    let folder = machine.root.display().to_string();
    let all = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let command = |entry: std::fs::DirEntry| std::fs::read(entry.path().join("cmdline")).ok();
    all.filter_map(command).filter(|command| String::from_utf8_lossy(command).contains(&folder)).count()
}

#[test]
fn its_server_ends_with_it_however_it_ends() {
    for signal in ["-INT", "-KILL"] {
        let machine = Machine::new();
        let mut child = begin_with_server(&machine);
        assert!(processes(&machine) > 0, "there is no server");
        let pid = child.id().to_string();
        assert!(std::process::Command::new("kill").args([signal, &pid]).status().unwrap().success());
        let status = child.wait().unwrap();
        if signal == "-INT" {
            assert_eq!(status.code(), Some(130));
            assert_eq!(leftovers(&machine), 0);
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        while processes(&machine) > 0 {
            assert!(Instant::now() < deadline, "the server outlives a {signal}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
