//! A backup into a folder of dump files killed at file-changing system calls, by number: what has a name that is listed is
//! whole and is what was backed up, the next run goes through at once, and leaves nothing of what was killed.
//!
//! By default a seeded sample; with `BACKSTAY_LONG=1` all calls. Needs `strace`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "support/crash/mod.rs"]
mod crash;

use crash::backups::Generations;
use crash::strace::{self, Point};
use crash::{Draw, Stage, long, names, outcome, seed};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

const SAMPLE: usize = 16;
const KEPT: usize = 2;

fn folder(stage: &Stage) -> PathBuf {
    stage.disk.join("dumps")
}

/// A machine whose default repository is a folder of dump files.
fn stage(form: &str) -> Stage {
    let stage = Stage::new();
    std::fs::create_dir(folder(&stage)).unwrap();
    let text = format!(
        "[repositories.dumps]\npath = {:?}\nlayout = \"files\"\n[targets.app]\nsource = {:?}\n\
         [targets.app.plans.often]\nform = \"{form}\"\nkeep = {{ last = {KEPT} }}\n",
        folder(&stage),
        stage.target()
    );
    std::fs::write(stage.root.join("backstay.toml"), text).unwrap();
    stage
}

/// Gives the program the configured repository instead of the one in the variable.
fn run(stage: &Stage, arguments: &[&str]) -> crash::Outcome {
    outcome(stage.command(arguments).env_remove("BACKSTAY_REPOSITORY"))
}

fn done(stage: &Stage, arguments: &[&str]) -> crash::Outcome {
    let outcome = run(stage, arguments);
    assert_eq!(outcome.code, Some(0), "{arguments:?}: {} {}", outcome.out, outcome.err);
    outcome
}

const BACKUP: [&str; 4] = ["backup", "app", "--repository", "dumps"];

/// The calls of a backup that reach the folder, after two that were made before.
fn points(form: &str) -> Vec<Point> {
    let stage = stage(form);
    let mut generations = Generations::begin(&stage, 300);
    for _ in 0..KEPT {
        done(&stage, &BACKUP);
        generations.next(&stage);
    }
    let calls = strace::record(&stage, &BACKUP);
    let mut seen = BTreeSet::new();
    strace::points(&calls)
        .into_iter()
        .filter(|(_, call)| call.file.as_deref().is_some_and(|file| file.starts_with(folder(&stage))))
        .filter(|(point, _)| seen.insert((point.name.clone(), point.number)))
        .map(|(point, _)| point)
        .collect()
}

/// What is listed is whole, and a generation as it was.
fn assert_sound(stage: &Stage, generations: &Generations, at: &str) {
    let listed = done(stage, &["list", "--json"]).json();
    for backup in listed["backups"].as_array().unwrap() {
        let path = backup["path"].as_str().unwrap();
        let verified = run(stage, &["verify", path]);
        assert_eq!(verified.code, Some(0), "{at}: {path}: {} {}", verified.out, verified.err);
    }
    let count = listed["backups"].as_array().unwrap().len();
    for back in 0..count {
        let new = tempfile::tempdir_in(&stage.root).unwrap();
        let new = new.path().join("new.db").display().to_string();
        let reference = format!("app@latest~{back}");
        let restored = run(stage, &["restore", &reference, "--to-new", &new]);
        assert_eq!(restored.code, Some(0), "{at}: {reference}: {}", restored.err);
        generations.assert_one(std::path::Path::new(&new), at);
    }
    // The stock tool is content with what has a name.
    for name in names(&folder(stage)).iter().filter(|name| !name.starts_with('.') && name.ends_with(".gz")) {
        let test = Command::new("gzip").arg("-t").arg(folder(stage).join(name)).output().unwrap();
        assert!(test.status.success(), "{at}: {name}: {}", String::from_utf8_lossy(&test.stderr));
    }
}

fn killed(form: &str) {
    if !strace::present() {
        return;
    }
    let all = points(form);
    let names_of: BTreeSet<&str> = all.iter().map(|point| point.name.as_str()).collect();
    assert!(["write", "fsync", "unlink"].iter().all(|name| names_of.contains(name)), "{names_of:?}");
    // Between the file's name and its manifest's always, the others by chance.
    let is_naming = |point: &&Point| point.name.starts_with("link") || point.name.starts_with("rename");
    let (mut drawn, others): (Vec<Point>, Vec<Point>) =
        all.iter().cloned().partition(|point| is_naming(&point));
    assert!(drawn.iter().any(|point| point.name.starts_with("rename")), "{all:?}");
    let sample = if long() { usize::MAX } else { SAMPLE.saturating_sub(drawn.len()) };
    drawn.extend(Draw(seed() + form.len() as u64).sample(&others, sample));
    let mut kills = 0;
    for point in &drawn {
        let stage = stage(form);
        let mut generations = Generations::begin(&stage, 300);
        for _ in 0..KEPT {
            done(&stage, &BACKUP);
            generations.next(&stage);
        }
        let at = format!("{form}: killed at {point}");
        let was_killed = strace::kill_at(&stage, point, &BACKUP);
        kills += u32::from(was_killed);
        assert_sound(&stage, &generations, &at);
        generations.next(&stage);
        done(&stage, &BACKUP);
        assert_sound(&stage, &generations, &at);
        let left = names(&folder(&stage));
        assert!(left.iter().all(|name| !name.starts_with('.')), "{at}: leftovers: {left:?}");
        // What got its name before the kill is the plan's own, and goes by its rules.
        let listed = done(&stage, &["list", "--json"]).json();
        let listed = listed["backups"].as_array().unwrap();
        assert!(listed.iter().all(|item| !item["rows"].is_null()), "{at}: {left:?}");
        assert_eq!(listed.len(), KEPT, "{at}: {left:?}");
    }
    println!("{form}: {kills} kills of {} calls", all.len());
    assert!(kills > 0, "nothing was killed");
}

#[test]
fn a_backup_as_packed_text() {
    killed("sql.gz");
}

#[test]
fn a_backup_as_an_image() {
    killed("db");
}
