//! A prune killed at file-changing system calls, by number, and a backup with a prune after it: the repository checks,
//! to us and to stock restic, every backup that is listed restores to its own content, and the next prune takes away
//! what was left over.
//!
//! By default a seeded sample that comes to every phase; with `BACKSTAY_LONG=1` all calls, each phase at least five
//! times. Needs `strace`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "support/crash/mod.rs"]
mod crash;

use crash::backups::Generations;
use crash::strace::{self, Call, Point};
use crash::{Draw, Stage, long, names, outcome, seed};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const SAMPLE: usize = 20;
/// How often each phase is hit where all calls are tried, and how often it is tried for.
const HITS: u32 = 5;
const TRIES: usize = 30;
const BACKUPS: u32 = 10;
const KEPT: usize = 3;
const PHASES: [&str; 7] =
    ["locking", "writing", "snapshots", "new packs", NEW_INDEX, "old index", "old packs"];
const NEW_INDEX: &str = "new index";

/// Which part of a prune the calls have come to, by what they did in the repository.
struct Progress {
    repository: String,
    phase: &'static str,
}

impl Progress {
    fn of(stage: &Stage) -> Self {
        Self { repository: stage.repository().display().to_string(), phase: PHASES[0] }
    }

    fn see(&mut self, name: &str, path: &str) -> &'static str {
        let Some(object) = path.split(&format!("{}/", self.repository)).nth(1) else { return self.phase };
        let removes = name.starts_with("unlink") && !object.contains(".backstay-");
        let has_begun = !["locking", "writing"].contains(&self.phase);
        self.phase = match (object.split('/').next().unwrap_or_default(), removes) {
            ("data" | "index" | "snapshots", false) if !has_begun => "writing",
            ("snapshots", true) => "snapshots",
            ("data", false) => "new packs",
            // Of the folder itself: whatever was done in it.
            ("index", false) if object == "index" => self.phase,
            ("index", false) => NEW_INDEX,
            ("index", true) => "old index",
            ("data", true) => "old packs",
            _ => self.phase,
        };
        self.phase
    }
}

/// A repository with a long history, and its moment before each kill.
struct History {
    stage: Stage,
    generations: Generations,
    shadow: tempfile::TempDir,
}

impl History {
    /// Backups of states that share a part, one of them twice and proven, so that a prune has all of its work.
    fn new() -> Self {
        let stage = Stage::new();
        std::fs::write(stage.root.join("backstay.toml"), configuration(&stage)).unwrap();
        let mut generations = Generations::begin(&stage, 2000);
        for number in 1..=BACKUPS {
            let change = format!("UPDATE note SET pad = randomblob(200) WHERE id / 130 = {number};");
            let same_as_before = number == BACKUPS - 2;
            if !same_as_before {
                generations.change(&stage, &change);
            }
            stage.done(&["backup", "app", "--no-prune"]);
            if same_as_before || number == BACKUPS - 3 {
                stage.done(&["verify"]);
            }
        }
        let shadow = tempfile::tempdir().unwrap();
        copy(&stage.disk, shadow.path());
        Self { stage, generations, shadow }
    }

    fn put_back(&self) {
        std::fs::remove_dir_all(&self.stage.disk).unwrap();
        std::fs::create_dir(&self.stage.disk).unwrap();
        copy(self.shadow.path(), &self.stage.disk);
    }

    fn listed(&self) -> Vec<String> {
        let list = self.stage.done(&["list", "--json"]).json();
        let backups = list["backups"].as_array().unwrap().iter();
        backups.map(|backup| backup["id"].as_str().unwrap().to_owned()).collect()
    }

    /// The repository as it is, with stale lock and leftovers; returns what our check remarks. Ours
    /// comes first: stock restic tries for a minute to read what is missing.
    fn assert_sound(&self, at: &str) -> Vec<String> {
        let ours = self.stage.run(&["check", "--read-data", "--json"]);
        assert_eq!(ours.code, Some(0), "{at}: backstay check: {} {}", ours.out, ours.err);
        let check = ["check", "--read-data", "--no-lock", "--no-cache"];
        let judged = outcome(self.stage.settle(&mut Command::new("restic")).args(check));
        assert_eq!(judged.code, Some(0), "{at}: restic check: {} {}", judged.out, judged.err);
        let remarks = ours.json()["remarks"].as_array().unwrap().clone();
        remarks.iter().map(|remark| remark.as_str().unwrap().to_owned()).collect()
    }
}

/// One database whose plan keeps few of its backups.
fn configuration(stage: &Stage) -> String {
    format!(
        "[repositories.main]\npath = {:?}\n[targets.app]\nsource = {:?}\n[targets.app.plans.often]\nkeep = {{ last = {KEPT} }}\n",
        stage.repository(),
        stage.target()
    )
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().unwrap();
    assert!(status.success());
}

/// The calls of a whole run, each with the phase that it belongs to.
fn points(history: &History, arguments: &[&str]) -> Vec<(&'static str, Point)> {
    let calls = strace::record(&history.stage, arguments);
    let mut progress = Progress::of(&history.stage);
    let mut seen = BTreeSet::new();
    let path = |call: &Call| call.file.as_ref().map_or_else(String::new, |file| file.display().to_string());
    strace::points(&calls)
        .into_iter()
        .map(|(point, call)| (progress.see(&call.name, &path(&call)), point, call))
        .filter(|(_, _, call)| call.file.as_deref().is_some_and(|file| file.starts_with(&history.stage.disk)))
        .filter(|(_, point, _)| seen.insert((point.name.clone(), point.number)))
        .map(|(phase, point, _)| (phase, point))
        .collect()
}

/// Those to be killed at: all, or as many of each phase as fit the sample.
fn drawn(all: &[(&'static str, Point)], sample: usize) -> Vec<Point> {
    let mut draw = Draw(seed());
    let each = if long() { usize::MAX } else { sample.div_ceil(PHASES.len()) };
    let mut chosen = Vec::new();
    for phase in PHASES {
        let of_phase: Vec<Point> =
            all.iter().filter(|(found, _)| *found == phase).map(|(_, point)| point.clone()).collect();
        // Threads share the work differently each time, and a phase may fall into another one.
        let may_be_none = phase == NEW_INDEX || !long();
        assert!(!of_phase.is_empty() || may_be_none, "the run has no call of {phase}: {all:?}");
        chosen.extend(draw.sample(&of_phase, each));
    }
    if long() { chosen } else { draw.sample(&chosen, sample) }
}

/// Kills a run at a call and returns the phase that it was in; `None` where it ended before.
fn kill(history: &History, point: &Point, arguments: &[&str], next: &[&str]) -> Option<&'static str> {
    history.put_back();
    let calls = strace::killed_at(&history.stage, point, arguments)?;
    let mut progress = Progress::of(&history.stage);
    let mut phase = PHASES[0];
    for call in &calls {
        let (name, rest) = call.split_once('(').unwrap();
        phase = progress.see(name, rest);
    }
    assert_killed_well(history, &format!("killed at {point} ({phase})"), next);
    Some(phase)
}

/// Asserts what must hold after a kill.
fn assert_killed_well(history: &History, at: &str, next: &[&str]) {
    history.assert_sound(at);
    history.generations.assert_listed(&history.stage, at);
    let listed = history.listed();
    let again = history.stage.run(next);
    assert_eq!(again.code, Some(0), "{at}: the next prune: {} {}", again.out, again.err);
    let kept = history.listed();
    assert_eq!(kept.len(), KEPT, "{at}: {kept:?}");
    assert_eq!(kept, listed[listed.len() - KEPT..], "{at}: another one than the newest stayed");
    let numbers = history.generations.assert_listed(&history.stage, at);
    assert!(numbers.contains(&history.generations.newest), "{at}: {numbers:?}");
    // Nothing is left of what was killed.
    assert_eq!(history.assert_sound(at), Vec::<String>::new(), "{at}");
    let locks = names(&history.stage.repository().join("locks"));
    assert!(locks.iter().all(|name| name.starts_with(".backstay-")), "{at}: locks are left: {locks:?}");
}

/// Kills a run as soon as the new index is seen: while it is written, or, `named`, when it has its name and the old ones
/// are still there. No number tells those calls: whichever thread is free makes them. Tells whether it was then.
fn kill_at_new_index(history: &History, named: bool, arguments: &[&str], next: &[&str]) -> bool {
    history.put_back();
    let folder = |name: &str| history.stage.repository().join(name);
    let (old, snapshots) = (names(&folder("index")), names(&folder("snapshots")).len());
    let is_then = || {
        let now = names(&folder("index"));
        let new: Vec<&String> = now.iter().filter(|name| !old.contains(name)).collect();
        let is_named = new.iter().any(|name| !name.starts_with(".backstay-"));
        let has_begun = names(&folder("snapshots")).len() < snapshots;
        has_begun && !new.is_empty() && is_named == named && old.iter().all(|name| now.contains(name))
    };
    let mut command = Command::new("strace");
    history.stage.settle(&mut command);
    command.args(["-f", "-qqq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e"]);
    // So long that it is seen.
    command.arg("inject=fsync,fdatasync:delay_enter=100000").arg(crash::program()).args(arguments);
    let mut running = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let children = format!("/proc/{0}/task/{0}/children", running.id());
    while running.try_wait().unwrap().is_none() {
        if is_then() {
            let pids = std::fs::read_to_string(&children).unwrap_or_default();
            let killed = Command::new("kill").arg("-9").args(pids.split_whitespace()).status().unwrap();
            assert!(killed.success(), "{pids}");
            running.wait().unwrap();
            let hit = is_then();
            let at =
                format!("killed when the new index was {}", if named { "there" } else { "being written" });
            assert_killed_well(history, &at, next);
            return hit;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

fn killed(history: &History, arguments: &[&str], next: &[&str], sample: usize) {
    if !strace::present() {
        return;
    }
    println!("seed {}", seed());
    let all = points(history, arguments);
    let drawn = drawn(&all, sample);
    let mut histogram: BTreeMap<&str, u32> = BTreeMap::new();
    for point in &drawn {
        *histogram.entry(kill(history, point, arguments, next).unwrap_or("ended before")).or_default() += 1;
    }
    // Threads share the work differently each time: what was hit too seldom is tried again; of a sample it is only told.
    for phase in PHASES.into_iter().filter(|_| long()) {
        let of_phase = all.iter().filter(|(of, _)| *of == phase).map(|(_, point)| point);
        let mut again = of_phase.cycle().take(TRIES);
        for attempt in 0..TRIES {
            if histogram.get(phase).copied().unwrap_or(0) >= HITS {
                break;
            }
            let hit = match again.next() {
                _ if phase == NEW_INDEX => {
                    kill_at_new_index(history, attempt % 2 == 1, arguments, next).then_some(phase)
                }
                Some(point) => kill(history, point, arguments, next),
                None => break,
            };
            *histogram.entry(hit.unwrap_or("another moment")).or_default() += 1;
        }
    }
    println!("{arguments:?}: {} of {} calls", drawn.len(), all.len());
    for (phase, count) in &histogram {
        println!("{count:6}  {phase}");
    }
    for phase in PHASES.into_iter().filter(|_| long()) {
        assert!(histogram.get(phase).copied().unwrap_or(0) >= HITS, "{phase}: {histogram:?}");
    }
}

#[test]
fn a_prune() {
    let history = History::new();
    let prune = ["prune", "--keep-last", "3"];
    killed(&history, &prune, &prune, SAMPLE);
}

/// The first backup of a day frees the space too: the zone is one in which the day has just begun.
#[test]
fn a_backup_that_prunes() {
    let mut history = History::new();
    // A zone is told in whole seconds, and the last backup is to be of the day before.
    std::thread::sleep(Duration::from_secs(1));
    let of_day = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).time();
    history.stage.zone = format!("<here>{:02}:{:02}:{:02}", of_day.hour(), of_day.minute(), of_day.second());
    let prune = ["prune", "app", "--keep-last", "3"];
    killed(&history, &["backup", "app"], &prune, PHASES.len());
}
