//! A heal, and the backup after it, killed at file-changing system calls: both can be repeated at once, what was whole
//! restores to its own content, what is lost is listed once and refused, and stock restic finds nothing wrong.
//!
//! By default a seeded sample; with `BACKSTAY_LONG=1` all calls. Needs `strace`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "support/crash/mod.rs"]
mod crash;

use crash::backups::{Generations, assert_stock_check};
use crash::content::digest;
use crash::strace::{self, Point};
use crash::{Draw, Stage, long, seed};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const HEAL: [&str; 3] = ["check", "--heal", "--read-data"];

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// A machine whose repository lost the index file of one run, and a bit of the content of its first backup.
fn damaged() -> (Stage, Generations, BTreeMap<String, String>) {
    let stage = Stage::new();
    let mut generations = Generations::begin(&stage, 600);
    stage.back_up();
    let first = files(&stage.repository().join("data"));
    let first = first.into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let indexes = files(&stage.repository().join("index"));
    generations.next(&stage);
    stage.back_up();
    let contents = listed(&stage).into_iter().map(|(id, _)| (id.clone(), restored(&stage, &id).unwrap()));
    let contents = contents.collect();
    let mut content = std::fs::read(&first).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    std::fs::set_permissions(&first, PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::write(&first, content).unwrap();
    let later = files(&stage.repository().join("index")).into_iter().find(|path| !indexes.contains(path));
    std::fs::remove_file(later.unwrap()).unwrap();
    (stage, generations, contents)
}

/// The backups with the id that they had at first, and whether they are lost.
fn listed(stage: &Stage) -> Vec<(String, bool)> {
    let list = stage.done(&["list", "--json"]).json();
    let backups = list["backups"].as_array().unwrap();
    backups.iter().map(|one| (one["id"].as_str().unwrap().to_owned(), !one["lost"].is_null())).collect()
}

fn restored(stage: &Stage, id: &str) -> Result<String, String> {
    let folder = tempfile::tempdir_in(&stage.root).unwrap();
    let path = folder.path().join("restored.db");
    let outcome = stage.run(&["restore", id, "--to-new", &path.display().to_string()]);
    if outcome.code == Some(0) { Ok(digest(&path)) } else { Err(outcome.err) }
}

/// Looks at everything that was there before the damage, after a heal and a backup were done in the end.
fn assert_settled(stage: &Stage, before: &BTreeMap<String, String>, newest: &str, at: &str) {
    assert_stock_check(stage, at);
    let listed = listed(stage);
    let lost = listed.iter().filter(|(_, lost)| *lost).count();
    assert!(lost <= 1, "{at}: {lost} are lost");
    for (id, is_lost) in &listed {
        match restored(stage, id) {
            Ok(_) if *is_lost => panic!("{at}: {id} is lost, and restores"),
            Ok(content) => {
                let known = before.get(id).is_none_or(|known| *known == content);
                assert!(known, "{at}: {id} restores to another content");
            }
            Err(error) => assert!(*is_lost, "{at}: {id} does not restore: {error}"),
        }
    }
    // Each of those that were there is found by its id still, once.
    for id in before.keys() {
        let is_there = listed.iter().any(|(one, _)| one == id);
        let refused = restored(stage, id);
        assert!(is_there || refused.as_ref().is_err_and(|error| error.contains("lost")), "{at}: {refused:?}");
    }
    let now = restored(stage, &listed.last().unwrap().0).unwrap();
    assert_eq!(now, newest, "{at}: the newest backup");
}

fn points(prepare: impl Fn() -> Stage, command: &[&str]) -> Vec<Point> {
    let stage = prepare();
    let mut arguments: Vec<String> = command.iter().map(|text| (*text).to_owned()).collect();
    if command == ["backup"] {
        arguments.push(stage.target().display().to_string());
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let calls = strace::record(&stage, &arguments);
    let mut seen = BTreeSet::new();
    strace::points(&calls)
        .into_iter()
        .filter(|(_, call)| call.file.as_deref().is_some_and(|file| file.starts_with(stage.repository())))
        .filter(|(point, _)| seen.insert((point.name.clone(), point.number)))
        .map(|(point, _)| point)
        .collect()
}

#[test]
fn a_heal() {
    if !strace::present() {
        return;
    }
    let all = points(|| damaged().0, &HEAL);
    let drawn = Draw(seed()).sample(&all, if long() { usize::MAX } else { 7 });
    let mut kills = 0;
    for point in &drawn {
        let at = format!("heal killed at {point}");
        let (stage, _, before) = damaged();
        kills += u32::from(strace::kill_at(&stage, point, &HEAL));
        for (id, _) in listed(&stage) {
            let same = restored(&stage, &id).is_ok_and(|content| Some(&content) != before.get(&id));
            assert!(!same, "{at}: {id} restores to another content");
        }
        let again = stage.run(&HEAL);
        assert!(matches!(again.code, Some(0 | 21)), "{at}: the next heal: {}", again.err);
        stage.back_up();
        let newest = digest(&stage.target());
        assert_settled(&stage, &before, &newest, &at);
    }
    println!("heal: {kills} kills of {} calls", all.len());
    assert!(kills > 0, "nothing was killed");
}

#[test]
fn the_backup_after_a_heal() {
    if !strace::present() {
        return;
    }
    let healed = || {
        let (stage, mut generations, before) = damaged();
        stage.run(&HEAL);
        generations.next(&stage);
        (stage, before)
    };
    let all = points(|| healed().0, &["backup"]);
    let drawn = Draw(seed() + 1).sample(&all, if long() { usize::MAX } else { 7 });
    let mut kills = 0;
    for point in &drawn {
        let at = format!("backup after a heal killed at {point}");
        let (stage, before) = healed();
        kills +=
            u32::from(strace::kill_at(&stage, point, &["backup", &stage.target().display().to_string()]));
        stage.back_up();
        let newest = digest(&stage.target());
        assert_settled(&stage, &before, &newest, &at);
    }
    println!("backup after a heal: {kills} kills of {} calls", all.len());
    assert!(kills > 0, "nothing was killed");
}
