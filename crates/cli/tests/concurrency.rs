//! Two of our processes and one stock restic on one repository: all back up, restore and prune at once, and whatever is
//! listed restores to its own content. Who stands in another's way is told, and nobody works beside a prune.
//!
//! For ten seconds by default; for a minute with `BACKSTAY_LONG=1`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "support/crash/mod.rs"]
mod crash;

use crash::content::{database, digest, look};
use crash::{Draw, Outcome, Stage, long, names, outcome, seed};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rusqlite::Connection;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Our exit code where somebody else is at work.
const LOCKED: Option<i32> = Some(11);

fn restic(stage: &Stage, arguments: &[&str]) -> Outcome {
    outcome(stage.settle(&mut Command::new("restic")).arg("--no-cache").args(arguments))
}

/// The locks that are in place: what is still being written has a longer name.
fn locks(stage: &Stage) -> Vec<String> {
    names(&stage.repository().join("locks")).into_iter().filter(|name| name.len() == 64).collect()
}

/// What a worker did, and how often it was kept out.
#[derive(Debug, Default)]
struct Tally(BTreeMap<&'static str, u32>);

impl Tally {
    fn count(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    fn of(&self, what: &str) -> u32 {
        self.0.get(what).copied().unwrap_or(0)
    }
}

/// One of our processes: a database of its own, and what each backup of it holds.
struct Ours<'a> {
    stage: &'a Stage,
    path: PathBuf,
    contents: HashMap<String, String>,
    draw: Draw,
    tally: Tally,
}

impl<'a> Ours<'a> {
    fn new(stage: &'a Stage, name: &str) -> Self {
        let path = stage.work().join(name);
        database(&path, "first", 1500, "delete");
        let draw = Draw(seed() + name.len() as u64);
        Self { stage, path, contents: HashMap::new(), draw, tally: Tally::default() }
    }

    fn source(&self) -> String {
        self.path.display().to_string()
    }

    /// Runs one of our commands: it succeeds, or says who is in its way. `None` for the latter.
    fn run(&mut self, what: &'static str, arguments: &[&str]) -> Option<Outcome> {
        let outcome = self.stage.run(arguments);
        if outcome.code == LOCKED {
            assert!(outcome.err.contains("locked"), "{arguments:?}: {}", outcome.err);
            self.tally.count("kept out");
            return None;
        }
        assert_eq!(outcome.code, Some(0), "{arguments:?}: {} {}", outcome.out, outcome.err);
        self.tally.count(what);
        Some(outcome)
    }

    fn back_up(&mut self) {
        let word = self.draw.below(1000);
        let connection = Connection::open(&self.path).unwrap();
        connection
            .execute_batch(&format!(
                "UPDATE note SET word = 'w{word}', pad = randomblob(200) WHERE id % 5 = {};",
                word % 5
            ))
            .unwrap();
        drop(connection);
        let content = look(&self.path).unwrap();
        let source = self.source();
        let Some(done) = self.run("backups", &["backup", &source, "--json"]) else { return };
        let id = done.json()["backups"][0]["id"].as_str().unwrap().to_owned();
        self.contents.insert(id, content);
    }

    fn listed(&mut self) -> Option<Vec<String>> {
        let source = self.source();
        let list = self.run("lists", &["list", &source, "--json"])?;
        assert!(!list.err.contains("cannot be listed"), "{}", list.err);
        let list = list.json();
        let ids = list["backups"].as_array().unwrap().iter();
        Some(ids.map(|backup| backup["id"].as_str().unwrap().to_owned()).collect())
    }

    fn restore(&mut self, id: &str) {
        let folder = tempfile::tempdir_in(&self.stage.root).unwrap();
        let path = folder.path().join("restored.db");
        if self.run("restores", &["restore", id, "--to-new", &path.display().to_string()]).is_some() {
            assert_eq!(self.contents.get(id), Some(&digest(&path)), "{id} has another content");
        }
    }

    fn restore_newest(&mut self) {
        let folder = tempfile::tempdir_in(&self.stage.root).unwrap();
        let path = folder.path().join("restored.db");
        let latest = format!("{}@latest", self.source());
        if self.run("restores", &["restore", &latest, "--to-new", &path.display().to_string()]).is_some() {
            assert_eq!(look(&self.path), Some(digest(&path)), "the newest has another content");
        }
    }

    fn step(&mut self) {
        self.back_up();
        let Some(listed) = self.listed() else { return };
        match self.draw.below(4) {
            0 => {
                let source = self.source();
                self.run("prunes", &["prune", &source, "--keep-last", "3"]);
            }
            1 if self.contents.len() == listed.len() => {}
            _ if listed.is_empty() => {}
            _ => {
                let id = listed[self.draw.below(listed.len())].clone();
                self.restore(&id);
            }
        }
    }
}

/// Stock restic: a folder of files that it backs up, restores and prunes.
struct Stock<'a> {
    stage: &'a Stage,
    folder: PathBuf,
    draw: Draw,
    tally: Tally,
}

impl<'a> Stock<'a> {
    fn new(stage: &'a Stage) -> Self {
        let folder = stage.root.join("files");
        std::fs::create_dir(&folder).unwrap();
        Self { stage, folder, draw: Draw(seed()), tally: Tally::default() }
    }

    fn run(&mut self, what: &'static str, arguments: &[&str]) -> bool {
        let outcome = restic(self.stage, arguments);
        let is_locked = outcome.err.contains("already locked");
        assert!(
            outcome.code == Some(0) || is_locked,
            "restic {arguments:?}: {} {}",
            outcome.out,
            outcome.err
        );
        self.tally.count(if is_locked { "kept out" } else { what });
        !is_locked
    }

    fn restore(&mut self) {
        let to = tempfile::tempdir_in(&self.stage.root).unwrap();
        let into = to.path().display().to_string();
        if self.run("restores", &["restore", "latest", "--host", "stock", "--target", &into]) {
            let restored = to.path().join(self.folder.strip_prefix("/").unwrap()).join("file");
            assert_eq!(std::fs::read(restored).unwrap(), std::fs::read(self.folder.join("file")).unwrap());
        }
    }

    fn step(&mut self) {
        let noise: Vec<u8> = (0..40_000).map(|_| self.draw.below(256) as u8).collect();
        std::fs::write(self.folder.join("file"), noise).unwrap();
        let folder = self.folder.display().to_string();
        let stored = self.run("backups", &["backup", "--host", "stock", &folder]);
        match self.draw.below(3) {
            0 if stored => self.restore(),
            1 => {
                let keep = ["forget", "--host", "stock", "--keep-last", "2", "--prune", "--max-unused", "0"];
                self.run("prunes", &keep);
            }
            _ => {}
        }
    }
}

/// Repeats until it is time.
fn until(end: Instant, mut step: impl FnMut()) {
    while Instant::now() < end {
        step();
    }
}

#[test]
fn two_of_ours_and_one_stock_restic() {
    let stage = Stage::new();
    let (mut one, mut two) = (Ours::new(&stage, "one.db"), Ours::new(&stage, "second.db"));
    let mut stock = Stock::new(&stage);
    println!("seed {}", seed());
    let end = Instant::now() + Duration::from_secs(if long() { 60 } else { 10 });
    std::thread::scope(|scope| {
        scope.spawn(|| until(end, || one.step()));
        scope.spawn(|| until(end, || two.step()));
        scope.spawn(|| until(end, || stock.step()));
    });
    println!("one {:?}, two {:?}, stock {:?}", one.tally.0, two.tally.0, stock.tally.0);
    for ours in [&mut one, &mut two] {
        ours.back_up();
        let listed = ours.listed().unwrap();
        assert!(!listed.is_empty());
        for id in listed {
            ours.restore(&id);
        }
        ours.restore_newest();
        assert!(ours.tally.of("backups") > 2 && ours.tally.of("restores") > 0, "{:?}", ours.tally);
    }
    assert_eq!(locks(&stage), Vec::<String>::new());
    stock.step();
    stock.restore();
    assert!(stock.tally.of("backups") > 0 && stock.tally.of("restores") > 0, "{:?}", stock.tally);
    let checked = restic(&stage, &["check", "--read-data"]);
    assert_eq!(checked.code, Some(0), "{} {}", checked.out, checked.err);
    stage.done(&["check", "--read-data"]);
}

fn wait_for_lock(stage: &Stage, child: &mut Child) -> bool {
    let deadline = Instant::now() + Duration::from_secs(60);
    while locks(stage).is_empty() {
        assert!(Instant::now() < deadline);
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    true
}

fn spawn(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn no_prune_begins_while_our_backup_is_at_work() {
    let stage = Stage::new();
    let ours = Ours::new(&stage, "one.db");
    let holder = Connection::open(&ours.path).unwrap();
    holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let mut child = spawn(&mut stage.command(&["backup", &ours.source()]));
    assert!(wait_for_lock(&stage, &mut child));
    let told = restic(&stage, &["prune"]);
    assert_ne!(told.code, Some(0), "{}", told.out);
    assert!(
        told.err.contains("already locked") && told.err.contains(&child.id().to_string()),
        "{}",
        told.err
    );
    let told = stage.run(&["prune", "--keep-last", "1"]);
    assert_eq!(told.code, LOCKED, "{}", told.err);
    assert!(told.err.contains(&format!("process {}", child.id())), "{}", told.err);
    assert!(child.try_wait().unwrap().is_none());
    holder.execute_batch("ROLLBACK").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    stage.done(&["prune", "--keep-last", "1"]);
    assert_eq!(restic(&stage, &["prune"]).code, Some(0));
}

/// Holds a stock restic in the middle of its prune, lock taken.
fn stopped_prune(stage: &Stage) -> Child {
    for _ in 0..50 {
        let mut child = spawn(stage.settle(&mut Command::new("restic")).args([
            "--no-cache",
            "prune",
            "--max-unused",
            "0",
        ]));
        if wait_for_lock(stage, &mut child) {
            kill(pid(&child), Signal::SIGSTOP).unwrap();
            if !locks(stage).is_empty() {
                return child;
            }
            kill(pid(&child), Signal::SIGCONT).unwrap();
        }
        child.wait().unwrap();
    }
    panic!("its prune was through each time before it could be stopped");
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap())
}

fn files(folder: &Path) -> Vec<String> {
    let inside = names(folder).into_iter().map(|name| folder.join(name)).filter(|path| path.is_dir());
    inside.flat_map(|folder| names(&folder)).collect()
}

#[test]
fn none_of_ours_works_beside_a_prune_of_stock_restic() {
    let stage = Stage::new();
    let mut ours = Ours::new(&stage, "one.db");
    for _ in 0..4 {
        ours.back_up();
    }
    let newest = ours.listed().unwrap().pop().unwrap();
    stage.done(&["prune", "--keep-last", "2", "--forget-only"]);
    let mut child = stopped_prune(&stage);
    let packs = files(&stage.repository().join("data"));
    let (source, new) = (ours.source(), stage.work().join("new.db").display().to_string());
    for arguments in [
        &["backup", &source][..],
        &["prune", "--keep-last", "1"],
        &["restore", &newest, "--to-new", &new],
        &["check"],
    ] {
        let told = stage.run(arguments);
        assert_eq!(told.code, LOCKED, "{arguments:?}: {} {}", told.out, told.err);
        assert!(told.err.contains(&format!("process {}", child.id())), "{arguments:?}: {}", told.err);
    }
    assert_eq!(files(&stage.repository().join("data")), packs, "they left something behind");
    assert_eq!(locks(&stage).len(), 1, "they left a lock");
    kill(pid(&child), Signal::SIGCONT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    ours.back_up();
    ours.restore(&newest);
    stage.done(&["prune", "--keep-last", "1"]);
    assert_eq!(restic(&stage, &["check", "--read-data"]).code, Some(0));
}
