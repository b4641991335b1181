//! The machine on which the history happens, and its steps.

use crate::crash::content::{database, digest, look};
use crate::crash::{Draw, Outcome, Stage, beside, names, outcome};
use crate::model::{Backup, Leave, Model};
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const DATABASES: [&str; 3] = ["one.db", "two.db", "three.db"];
/// Our exit codes: wrong usage, of which an id that is gone is one, and somebody else at work.
const GONE: Option<i32> = Some(2);
/// What there is no restore to finish for ends so too.
const NOTHING: Option<i32> = Some(2);
const LOCKED: Option<i32> = Some(11);
const KEYS_MAX: usize = 2;

/// Something that one of two processes does.
enum Action {
    BackUp(usize),
    Prune(usize, usize),
    Restore(Backup, PathBuf),
    List,
    Check,
}

pub(crate) struct World {
    stage: Stage,
    pub(crate) draw: Draw,
    model: Model,
    /// The keys beside the first one: id and password.
    keys: Vec<(String, String)>,
    /// Where the history is, for whoever reads that it failed.
    pub(crate) at: String,
    /// How long a command takes here: kills come within that time.
    usual: Duration,
    made: usize,
    pub(crate) counts: BTreeMap<&'static str, u32>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let stage = Stage::new();
        for name in DATABASES {
            database(&stage.work().join(name), name, 600, "delete");
        }
        let mut world = Self {
            stage,
            draw: Draw(seed),
            model: Model::default(),
            keys: Vec::new(),
            at: "at first".to_owned(),
            usual: Duration::from_millis(100),
            made: 0,
            counts: BTreeMap::new(),
        };
        for number in 0..DATABASES.len() {
            let began = Instant::now();
            world.back_up_one(number);
            world.usual = began.elapsed();
        }
        world
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn path(&self, number: usize) -> PathBuf {
        self.stage.work().join(DATABASES[number])
    }

    fn text(&self, number: usize) -> String {
        self.path(number).display().to_string()
    }

    fn content(&self, number: usize) -> String {
        look(&self.path(number)).unwrap_or_else(|| panic!("{}: {} is gone", self.at, DATABASES[number]))
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        let outcome = self.stage.run(arguments);
        assert_eq!(outcome.code, Some(0), "{}: {arguments:?}: {} {}", self.at, outcome.out, outcome.err);
        outcome
    }

    fn listed(&self) -> Vec<(String, usize)> {
        let listed = self.run(&["list", "--json"]);
        assert!(!listed.err.contains("cannot be listed"), "{}: {}", self.at, listed.err);
        let list = listed.json();
        let backups = list["backups"].as_array().unwrap().iter();
        backups
            .map(|backup| {
                let path = Path::new(backup["connection"].as_str().unwrap());
                let name = path.file_name().unwrap().to_str().unwrap();
                let number = DATABASES.iter().position(|known| *known == name).unwrap();
                (backup["id"].as_str().unwrap().to_owned(), number)
            })
            .collect()
    }

    /// Compares with the model; returns how many backups came and went.
    fn settle(&mut self, leave: Leave) -> (usize, usize) {
        self.model.take(&self.listed(), leave, &self.at)
    }

    fn any_database(&mut self) -> usize {
        self.draw.below(DATABASES.len())
    }

    fn any_backup(&mut self) -> Option<Backup> {
        let place = self.draw.below(self.model.backups.len());
        self.model.backups.get(place).cloned()
    }

    pub(crate) fn change(&mut self) {
        let number = self.any_database();
        let (row, word) = (self.draw.below(600), self.draw.below(10_000));
        let count = 1 + self.draw.below(80);
        Connection::open(self.path(number))
            .unwrap()
            .execute_batch(&format!(
                "UPDATE note SET word = 'w{word}', pad = randomblob(200) WHERE id BETWEEN {row} AND {};
                 INSERT INTO note (word, pad) VALUES ('more', randomblob(20));",
                row + count
            ))
            .unwrap();
    }

    fn back_up_one(&mut self, number: usize) {
        let content = self.content(number);
        self.run(&["backup", &self.text(number)]);
        let leave = Leave { add: vec![(number, content)], ..Leave::default() };
        assert_eq!(self.settle(leave), (1, 0), "{}", self.at);
    }

    pub(crate) fn back_up(&mut self) {
        let number = self.any_database();
        self.back_up_one(number);
    }

    /// Runs a command and kills it within the time that one usually takes. Tells whether it was still at work.
    fn killed(&mut self, arguments: &[&str]) -> bool {
        let mut child = quietly(&mut self.stage.command(arguments));
        let share = self.draw.below(1000) as u32;
        std::thread::sleep(self.usual * share / 1000);
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert!(status.code().is_none_or(|code| code == 0), "{}: {arguments:?}: {status}", self.at);
        if status.code().is_none() {
            self.count("killed");
        }
        status.code().is_none()
    }

    pub(crate) fn back_up_killed(&mut self) {
        let number = self.any_database();
        let content = self.content(number);
        let source = self.text(number);
        let killed = self.killed(&["backup", &source]);
        let leave = Leave { add: vec![(number, content)], ..Leave::default() };
        let (new, _) = self.settle(leave);
        assert!(killed || new == 1, "{}", self.at);
    }

    pub(crate) fn prune(&mut self) {
        let number = self.any_database();
        let keep = 1 + self.draw.below(4);
        let go = self.model.beyond(number, keep, 0);
        let count = go.len();
        self.run(&["prune", &self.text(number), "--keep-last", &keep.to_string()]);
        assert_eq!(self.settle(Leave { go, ..Leave::default() }), (0, count), "{}", self.at);
    }

    pub(crate) fn prune_killed(&mut self) {
        let number = self.any_database();
        let keep = 1 + self.draw.below(4);
        let go = self.model.beyond(number, keep, 0);
        let count = go.len();
        let source = self.text(number);
        let killed = self.killed(&["prune", &source, "--keep-last", &keep.to_string()]);
        let (_, gone) = self.settle(Leave { go, ..Leave::default() });
        assert!(killed || gone == count, "{}", self.at);
        for backup in self.model.backups.clone() {
            self.assert_restores(&backup);
        }
    }

    fn new_path(&mut self) -> PathBuf {
        self.made += 1;
        self.stage.root.join(format!("restored-{}.db", self.made))
    }

    fn assert_restores(&mut self, backup: &Backup) {
        let path = self.new_path();
        self.run(&["restore", &backup.id, "--to-new", &path.display().to_string()]);
        assert_eq!(digest(&path), backup.content, "{}: {}", self.at, backup.id);
        std::fs::remove_file(path).unwrap();
    }

    pub(crate) fn restore_beside(&mut self) {
        if let Some(backup) = self.any_backup() {
            self.assert_restores(&backup);
        }
    }

    pub(crate) fn restore_over(&mut self) {
        let Some(backup) = self.any_backup() else { return };
        self.run(&["restore", &backup.id, "--confirm", DATABASES[backup.database]]);
        assert_eq!(self.content(backup.database), backup.content, "{}", self.at);
        self.tidy();
    }

    pub(crate) fn restore_over_killed(&mut self) {
        let Some(backup) = self.any_backup() else { return };
        let before = self.content(backup.database);
        self.killed(&["restore", &backup.id, "--confirm", DATABASES[backup.database]]);
        let now = self.content(backup.database);
        assert!(now == before || now == backup.content, "{}: neither the old nor the new", self.at);
        let record = beside(&self.path(backup.database), ".backstay-restore");
        if record.exists() {
            // Killed before the first line of its record was whole, the restore was never begun.
            let begun = std::fs::read(&record).unwrap().contains(&b'\n');
            let forward = self.draw.below(2) == 0;
            let way = if forward { "--continue" } else { "--rollback" };
            let target = self.text(backup.database);
            if begun {
                self.run(&["restore", way, "--target", &target]);
            } else {
                let none = self.stage.run(&["restore", way, "--target", &target]);
                assert_eq!(none.code, NOTHING, "{}: {way}: {}", self.at, none.err);
                assert!(none.err.contains("no unfinished restore"), "{}: {way}: {}", self.at, none.err);
            }
            let expected = if begun && forward { &backup.content } else { &before };
            assert_eq!(self.content(backup.database), *expected, "{}: {way}", self.at);
            self.count(if !begun {
                "never begun"
            } else if forward {
                "continued"
            } else {
                "rolled back"
            });
        }
        self.tidy();
        self.settle(Leave::default());
    }

    /// Removes what restores keep beside the databases.
    fn tidy(&self) {
        for name in names(&self.stage.work()) {
            if !DATABASES.contains(&name.as_str()) {
                std::fs::remove_file(self.stage.work().join(name)).unwrap();
            }
        }
    }

    fn key_ids(&self) -> Vec<String> {
        let list = self.run(&["key", "list", "--json"]).json();
        list["keys"].as_array().unwrap().iter().map(|key| key["id"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn change_keys(&mut self) {
        let before = self.key_ids();
        assert_eq!(before.len(), self.keys.len() + 1, "{}", self.at);
        if self.keys.len() >= KEYS_MAX {
            let place = self.draw.below(KEYS_MAX);
            let (id, password) = self.keys.remove(place);
            self.run(&["key", "remove", &id]);
            let opened = outcome(self.stage.command(&["list"]).env("BACKSTAY_PASSWORD", password));
            assert_eq!(opened.code, Some(12), "{}: a removed key opens: {}", self.at, opened.err);
        } else {
            self.made += 1;
            let (file, password) = (self.stage.root.join("password"), format!("password {}", self.made));
            std::fs::write(&file, &password).unwrap();
            self.run(&["key", "add", "--new-password-file", &file.display().to_string()]);
            let new: Vec<String> = self.key_ids().into_iter().filter(|id| !before.contains(id)).collect();
            assert_eq!(new.len(), 1, "{}", self.at);
            self.keys.push((new[0].clone(), password));
        }
        for (_, password) in &self.keys {
            let opened = outcome(self.stage.command(&["list"]).env("BACKSTAY_PASSWORD", password));
            assert_eq!(opened.code, Some(0), "{}: {}", self.at, opened.err);
        }
    }

    pub(crate) fn check(&mut self) {
        self.run(&["check", "--read-data"]);
        self.settle(Leave::default());
    }

    fn any_action(&mut self) -> Action {
        let number = self.any_database();
        match self.draw.below(8) {
            0..=2 => Action::BackUp(number),
            3 | 4 => Action::Prune(number, 1 + self.draw.below(3)),
            5 => Action::List,
            6 => Action::Check,
            _ => match self.any_backup() {
                Some(backup) => Action::Restore(backup, self.new_path()),
                None => Action::List,
            },
        }
    }

    fn begin(&self, action: &Action) -> Child {
        let mut command = match action {
            Action::BackUp(number) => self.stage.command(&["backup", &self.text(*number)]),
            Action::Prune(number, keep) => {
                self.stage.command(&["prune", &self.text(*number), "--keep-last", &keep.to_string()])
            }
            Action::Restore(backup, path) => {
                self.stage.command(&["restore", &backup.id, "--to-new", &path.display().to_string()])
            }
            Action::List => self.stage.command(&["list"]),
            Action::Check => self.stage.command(&["check"]),
        };
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Two processes: each does what it was told, or says that the other one is at work.
    pub(crate) fn two_at_once(&mut self) {
        let actions = [self.any_action(), self.any_action()];
        let mut leave = Leave::default();
        for action in &actions {
            if let Action::BackUp(number) = action {
                leave.add.push((*number, self.content(*number)));
            }
        }
        for action in &actions {
            if let Action::Prune(number, keep) = action {
                let more = leave.add.iter().filter(|(of, _)| of == number).count();
                leave.go.extend(self.model.beyond(*number, *keep, more));
            }
        }
        let children = [self.begin(&actions[0]), self.begin(&actions[1])];
        let outputs = children.map(|child| child.wait_with_output().unwrap());
        let mut done = 0;
        for (action, output) in actions.iter().zip(&outputs) {
            let (code, told) = (output.status.code(), String::from_utf8_lossy(&output.stderr));
            assert!(!told.contains("cannot be listed"), "{}: {told}", self.at);
            let may_be_gone = matches!(action, Action::Restore(backup, _) if leave.go.contains(&backup.id));
            let is_fine = code == Some(0)
                || (code == LOCKED && told.contains("locked"))
                || (code == GONE && may_be_gone);
            assert!(is_fine, "{}: {code:?} {told}", self.at);
            done += usize::from(code == Some(0) && matches!(action, Action::BackUp(_)));
            if code == LOCKED {
                self.count("kept out");
            }
            if let (Action::Restore(backup, path), Some(0)) = (action, code) {
                assert_eq!(digest(path), backup.content, "{}", self.at);
                std::fs::remove_file(path).unwrap();
            }
        }
        let (new, _) = self.settle(leave);
        // A backup may have gone again at once: the prune of the other process keeps the newest only.
        let pruned = actions.iter().any(|action| matches!(action, Action::Prune(..)));
        assert!(new == done || (pruned && new < done), "{}: {new} of {done} backups are listed", self.at);
    }

    /// Stock restic reads every byte, and every backup is restored.
    pub(crate) fn judge(&mut self) {
        self.settle(Leave::default());
        for backup in self.model.backups.clone() {
            self.assert_restores(&backup);
        }
        let check = ["check", "--read-data", "--no-lock", "--no-cache"];
        let judged = outcome(self.stage.settle(&mut Command::new("restic")).args(check));
        assert_eq!(judged.code, Some(0), "{}: {} {}", self.at, judged.out, judged.err);
    }
}

fn quietly(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}
