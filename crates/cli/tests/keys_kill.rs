//! A change of keys killed at file-changing system calls: a password that is in a file of this machine opens the
//! repository, to us and to stock restic, and the next change goes through.
//!
//! By default a seeded sample; with `BACKSTAY_LONG=1` all calls. Needs `strace`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "support/crash/mod.rs"]
mod crash;

use crash::strace::{self, Point};
use crash::{Draw, PASSWORD, Stage, long, names, outcome, seed};
use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;

/// A machine whose repository has another key too, cheap to derive; returns that key's id.
fn stage() -> (Stage, String) {
    let stage = Stage::with_key_file();
    let storage = Arc::new(storage::LocalStorage::open(stage.repository()).unwrap());
    let first = flow::Secret::new(PASSWORD);
    let repository = restic::Repository::open(storage, &first, restic::OpenOptions::default()).unwrap();
    let options = restic::KeyOptions { derivation_passes: Some(1), ..restic::KeyOptions::default() };
    let id = repository.add_key(&flow::Secret::new("another"), &options).unwrap();
    (stage, id.to_string())
}

/// What a change is called by; `id` is the other key's.
fn change<'a>(name: &'a str, id: &'a str, file: &'a str) -> Vec<&'a str> {
    match name {
        "add" => vec!["key", "add", "--new-key-file", file],
        "remove" => vec!["key", "remove", id],
        _ => vec!["key", "passwd"],
    }
}

fn points(name: &str) -> Vec<Point> {
    let (stage, id) = stage();
    let calls = strace::record(&stage, &change(name, &id, "new.key"));
    let mut seen = BTreeSet::new();
    strace::points(&calls)
        .into_iter()
        .filter(|(_, call)| call.file.as_deref().is_some_and(|file| file.starts_with(&stage.root)))
        .filter(|(point, _)| seen.insert((point.name.clone(), point.number)))
        .map(|(point, _)| point)
        .collect()
}

/// The passwords in the files of this machine.
fn kept(stage: &Stage) -> Vec<String> {
    let files = names(&stage.keys()).into_iter().filter(|name| name.ends_with(".key"));
    files.map(|name| std::fs::read_to_string(stage.keys().join(name)).unwrap().trim().to_owned()).collect()
}

fn opens_for_stock(stage: &Stage, password: &str) -> bool {
    let mut command = Command::new("restic");
    stage.settle(&mut command).env("RESTIC_PASSWORD", password).args(["cat", "config", "--no-lock"]);
    outcome(&mut command).code == Some(0)
}

fn killed(name: &str, sample: usize) {
    if !strace::present() {
        return;
    }
    let all = points(name);
    let drawn = Draw(seed()).sample(&all, if long() { usize::MAX } else { sample });
    let mut kills = 0;
    for point in &drawn {
        let at = format!("key {name} killed at {point}");
        let (stage, id) = stage();
        kills += u32::from(strace::kill_at(&stage, point, &change(name, &id, "new.key")));
        let listed = stage.run(&["key", "list"]);
        assert_eq!(listed.code, Some(0), "{at}: no key file opens: {}", listed.err);
        assert!(kept(&stage).iter().any(|password| opens_for_stock(&stage, password)), "{at}: stock restic");
        assert!(name == "remove" || opens_for_stock(&stage, "another"), "{at}: the other key is gone");
        let again = stage.run(&change(name, &id, "again.key"));
        let was_removed = name == "remove" && again.code == Some(2) && again.err.contains("has no key");
        assert!(again.code == Some(0) || was_removed, "{at}: the next change: {}", again.err);
        stage.done(&["key", "list"]);
        assert!(name != "remove" || !opens_for_stock(&stage, "another"), "{at}: it was removed");
    }
    println!("key {name}: {kills} kills of {} calls", all.len());
    assert!(kills > 0, "nothing was killed");
}

#[test]
fn adding_a_key() {
    killed("add", 2);
}

#[test]
fn removing_a_key() {
    killed("remove", 2);
}

#[test]
fn replacing_the_key_in_use() {
    killed("passwd", 6);
}
