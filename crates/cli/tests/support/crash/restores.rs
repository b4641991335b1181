//! Restores to be interrupted: what the target held before, the moment that the record shows, and what must be true
//! after `--continue` and `--rollback`, whatever that moment was.

use super::content::{database, look, with_journal, with_wal};
use super::{Outcome, Stage, beside, empty, names};
use serde_json::Value;
use std::path::{Path, PathBuf};

const OLD_ROWS: u32 = 300;
const NEW_ROWS: u32 = 40;

/// What lies under the target's name when the restore begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Old {
    /// A database, closed.
    Closed,
    /// A database whose commits are in a `-wal` that nobody uses any more.
    Wal,
    /// A database in the middle of a transaction, with the `-journal` that undoes it.
    Journal,
    /// Nothing.
    Nothing,
}

/// How the restore goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Beside the target, then swapped.
    Swap,
    /// The same, with a service that is stopped and started.
    SwapWithService,
    /// Written into the target, which its users may keep open.
    InPlace,
}

/// The way on after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Continue,
    Rollback,
}

impl Way {
    pub const BOTH: [Way; 2] = [Way::Continue, Way::Rollback];

    fn option(self) -> &'static str {
        match self {
            Way::Continue => "--continue",
            Way::Rollback => "--rollback",
        }
    }
}

/// One restore that is begun again and again.
pub struct Restoring {
    pub stage: Stage,
    pub old: Old,
    manner: Manner,
    before: Vec<(String, Vec<u8>)>,
    old_content: Option<String>,
    new_content: String,
}

impl Restoring {
    pub fn new(old: Old, manner: Manner) -> Self {
        let stage = Stage::new();
        let target = stage.target();
        database(&target, "new", NEW_ROWS, "delete");
        stage.back_up();
        let new_content = look(&target).unwrap();
        empty(&stage.work());
        match old {
            Old::Closed => database(&target, "old", OLD_ROWS, "delete"),
            Old::Wal => with_wal(&target, "old", OLD_ROWS),
            Old::Journal => with_journal(&target, "old", OLD_ROWS),
            Old::Nothing => {}
        }
        let before = names(&stage.work())
            .into_iter()
            .map(|name| (name.clone(), std::fs::read(stage.work().join(&name)).unwrap()))
            .collect();
        let old_content = look(&target);
        Self { stage, old, manner, before, old_content, new_content }
    }

    /// Makes everything as it was before the restore, without locks and journal, so that each run makes the same calls.
    pub fn set_up(&self) {
        empty(&self.stage.work());
        empty(&self.stage.repository().join("locks"));
        empty(&self.stage.disk.join("home/.local/state/backstay"));
        for (name, bytes) in &self.before {
            std::fs::write(self.stage.work().join(name), bytes).unwrap();
        }
        self.set_log("");
    }

    /// The restore, as arguments.
    pub fn arguments(&self) -> Vec<String> {
        let target = self.stage.target().display().to_string();
        let mut arguments =
            ["restore", &format!("{target}@latest"), "--confirm", "app.db"].map(str::to_owned).to_vec();
        if self.manner == Manner::InPlace {
            arguments.push("--in-place".to_owned());
        }
        if self.manner == Manner::SwapWithService {
            let log = self.log_path().display().to_string();
            arguments.extend(["--stop-command".to_owned(), format!("echo stop >> {log}")]);
            arguments.extend(["--start-command".to_owned(), format!("echo start >> {log}")]);
        }
        arguments
    }

    fn log_path(&self) -> PathBuf {
        self.stage.root.join("service.log")
    }

    /// What the service was told.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    pub fn set_log(&self, text: &str) {
        std::fs::write(self.log_path(), text).unwrap();
    }

    /// Looks at the target right after the crash: the old, the new, or, where there is something to be finished,
    /// nothing.
    pub fn assert_whole(&self, at: &str) {
        let seen = look(&self.stage.target());
        let has_gap = self.manner != Manner::InPlace
            && matches!(self.old, Old::Wal | Old::Journal)
            && moment(&self.stage.record()).is_some();
        assert!(
            seen == self.old_content
                || seen.as_ref() == Some(&self.new_content)
                || (seen.is_none() && has_gap),
            "{at}: the target is neither the old nor the new database: {:?}",
            names(&self.stage.work())
        );
    }

    /// Takes one way on, and looks at what it made.
    pub fn finish(&self, way: Way, at: &str) {
        let at = format!("{at}, then {way:?}");
        let begun = moment(&self.stage.record());
        let target = self.stage.target().display().to_string();
        let outcome = self.stage.run(&["restore", way.option(), "--target", &target]);
        let at = format!("{at}: exit {:?}, {:?}\n{}", outcome.code, names(&self.stage.work()), outcome.err);
        match (&begun, outcome.code) {
            (Some(_), Some(0)) if way == Way::Continue => self.assert_new(&at),
            (Some(_), Some(0)) => self.assert_old(&at),
            (None, Some(2)) if outcome.err.contains("nothing is to be done") => {
                self.assert_not_begun_or_over(&at)
            }
            _ => panic!("{at}: it began as {begun:?}"),
        }
        let log = self.log();
        assert!(log.is_empty() || log.ends_with("start\n"), "{at}: the service was left stopped: {log:?}");
    }

    fn assert_new(&self, at: &str) {
        assert_eq!(look(&self.stage.target()).as_ref(), Some(&self.new_content), "{at}");
        assert_no_leftovers(&self.stage, at);
        for suffix in ["-wal", "-journal"] {
            assert!(
                !beside(&self.stage.target(), suffix).exists(),
                "{at}: {suffix} lies beside the new database"
            );
        }
        let copies = safety_copies(&self.stage);
        match &self.old_content {
            None => assert!(copies.is_empty(), "{at}"),
            Some(old) => {
                assert_eq!(copies.len(), 1, "{at}");
                assert_eq!(
                    look(&copies[0]).as_ref(),
                    Some(old),
                    "{at}: the safety copy is not the old database"
                );
                if self.manner == Manner::InPlace {
                    // SQLite copied it: the same content, in a file of its own.
                    return;
                }
                let bytes = std::fs::read(&copies[0]).unwrap();
                assert!(
                    self.before.iter().any(|(name, before)| name == "app.db" && *before == bytes),
                    "{at}"
                );
            }
        }
    }

    fn assert_old(&self, at: &str) {
        assert_eq!(look(&self.stage.target()), self.old_content, "{at}");
        if self.manner == Manner::InPlace {
            // Where the image was removed already nobody can tell what users wrote since: all of it is kept.
            for name in names(&self.stage.work()) {
                if name.contains(".backstay-rolled-back-") {
                    let kept = self.stage.work().join(name);
                    assert_eq!(look(&kept).as_ref(), Some(&self.new_content), "{at}");
                    std::fs::remove_file(kept).unwrap();
                }
            }
        }
        assert_no_leftovers(&self.stage, at);
        assert!(safety_copies(&self.stage).is_empty(), "{at}");
        if self.manner == Manner::InPlace {
            return;
        }
        let content = |(name, _): &&(String, Vec<u8>)| !name.ends_with("-shm");
        for (name, bytes) in self.before.iter().filter(content) {
            assert!(
                std::fs::read(self.stage.work().join(name)).unwrap() == *bytes,
                "{at}: {name} is another"
            );
        }
    }

    /// The restore had done nothing, or all.
    fn assert_not_begun_or_over(&self, at: &str) {
        if look(&self.stage.target()).as_ref() == Some(&self.new_content) {
            return self.assert_new(at);
        }
        // A record that says nothing is not in the way of the next one.
        if self.stage.record().exists() {
            let arguments = self.arguments();
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let Outcome { code, err, .. } = self.stage.run(&arguments);
            assert_eq!(code, Some(0), "{at}, and again: {err}");
            return self.assert_new(at);
        }
        self.assert_old(at);
    }
}

fn assert_no_leftovers(stage: &Stage, at: &str) {
    let left: Vec<String> =
        names(&stage.work()).into_iter().filter(|name| name.contains("backstay")).collect();
    assert!(left.is_empty(), "{at}: {left:?}");
}

fn safety_copies(stage: &Stage) -> Vec<PathBuf> {
    let is_main =
        |name: &String| name.contains(".safety-") && !name.ends_with("-wal") && !name.ends_with("-journal");
    names(&stage.work()).iter().filter(|name| is_main(name)).map(|name| stage.work().join(name)).collect()
}

/// Returns the moment that a record shows; `None` where nothing was begun.
pub fn moment(record: &Path) -> Option<String> {
    let bytes = std::fs::read(record).ok()?;
    last_state(&bytes).map(|state| name_of(&state))
}

/// Returns the last whole line of a record.
pub fn last_state(record: &[u8]) -> Option<Value> {
    let lines = record.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    let lines: Vec<&[u8]> = lines.collect();
    let line: Value = serde_json::from_slice(lines.last()?).expect("a whole line of the record is readable");
    Some(line["state"].clone())
}

/// Names a moment: the step, whether it is over, whether the service is stopped.
pub fn name_of(state: &Value) -> String {
    let step = state["step"].as_str().unwrap();
    let over = if state["completed"] == true { "done" } else { "begun" };
    let kept = match state["engine"]["swap"]["kept"].as_bool() {
        Some(true) if step == "swap" && over == "begun" => ", old kept",
        Some(false) => ", keeping old",
        _ => "",
    };
    let service = match (state["notes"]["stop_begun"] == true, state["notes"]["started"] == true) {
        (true, false) => ", service stopped",
        (true, true) => ", service started",
        _ => "",
    };
    format!("{step} {over}{kept}{service}")
}
