//! A scripted dump: what an engine may do, without a database behind it.
//!
//! It gives parts in the order of the script to any number of workers, holds back what must wait (a sequential
//! stream, a verdict while parts are open), wakes on cancel, and notes what becomes of each part.

use crate::memory_backup::{MemoryPart, fake_facts, fake_marks};
use flow::{
    Cancel, CancelGuard, DatabaseRef, Dump, Dumped, EntryName, Layout, OpenPart, PartFacts, PartReader,
    PartRef, SourceError, SourceErrorKind, Step, Unchanged,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// One thing that a scripted dump does.
#[derive(Debug, Clone)]
pub enum Act {
    /// Gives a part.
    Part(EntryName, Layout, u32, MemoryPart),
    /// Gives a part only once no other part of its database is open: a sequential stream.
    NextPart(EntryName, Layout, u32, MemoryPart),
    /// Takes a part of the previous backup: entry, layout, place now, place then.
    Reuse(EntryName, Layout, u32, u32),
    /// Takes the whole previous backup.
    Unchanged,
}

/// What happens to one database.
#[derive(Debug, Clone)]
pub struct DatabaseScript {
    /// The database.
    pub database: DatabaseRef,
    /// What is done, in order.
    pub acts: Vec<Act>,
    /// The error of its verdict, if it is to fail.
    pub fails: Option<String>,
    /// What its marks hold.
    pub version: u64,
}

impl DatabaseScript {
    /// Returns what its verdict tells.
    pub fn dumped(&self) -> Dumped {
        let mut entries: BTreeMap<EntryName, (Layout, u32)> = BTreeMap::new();
        let mut size_bytes = 0;
        for act in &self.acts {
            let (entry, layout, index) = match act {
                Act::Part(entry, layout, index, part) | Act::NextPart(entry, layout, index, part) => {
                    size_bytes += part.bytes.len() as u64;
                    (entry, layout, index)
                }
                Act::Reuse(entry, layout, index, _) => (entry, layout, index),
                Act::Unchanged => continue,
            };
            let (_, count) = entries.entry(entry.clone()).or_insert((*layout, 0));
            *count = (*count).max(index + 1);
        }
        Dumped { facts: fake_facts(size_bytes), marks: fake_marks(self.version), entries, elapsed_ms: 1 }
    }

    /// Returns what is told of it where it did not change.
    pub fn unchanged(&self) -> Unchanged {
        Unchanged { marks: fake_marks(self.version), elapsed_ms: 1 }
    }
}

struct Running {
    script: DatabaseScript,
    waiting: VecDeque<Act>,
    open: usize,
    broken: Option<String>,
    over: bool,
}

#[derive(Default)]
struct State {
    databases: Vec<Running>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A dump by script.
pub struct FakeDump {
    shared: Arc<Shared>,
    cancel: Cancel,
    fails: Option<String>,
    _wake: CancelGuard,
}

impl FakeDump {
    /// Plays the scripts until cancelled.
    pub fn new(scripts: Vec<DatabaseScript>, cancel: Cancel) -> Self {
        let running = |script: DatabaseScript| Running {
            waiting: script.acts.clone().into(),
            script,
            open: 0,
            broken: None,
            over: false,
        };
        let databases = scripts.into_iter().map(running).collect();
        let shared = Arc::new(Shared { state: Mutex::new(State { databases }), changed: Condvar::new() });
        let woken = shared.clone();
        let wake = cancel.on_cancel(move || {
            drop(woken.state());
            woken.changed.notify_all();
        });
        Self { shared, cancel, fails: None, _wake: wake }
    }

    /// Lets the verdict on the source as a whole be an error.
    pub fn failing(mut self, message: &str) -> Self {
        self.fails = Some(message.to_owned());
        self
    }

    fn open(&self, place: usize, part: MemoryPart) -> Box<dyn PartReader> {
        Box::new(FakePart { part: Some(part), shared: self.shared.clone(), place })
    }
}

impl Running {
    /// Returns the next thing to do for this database now, if there is any.
    fn next(&mut self) -> Option<Act> {
        let sequential = matches!(self.waiting.front(), Some(Act::NextPart(..)));
        if self.over || self.broken.is_some() || (sequential && self.open > 0) {
            return None;
        }
        self.waiting.pop_front()
    }

    fn verdict(&mut self) -> Option<Step> {
        if self.over || self.open > 0 || (!self.waiting.is_empty() && self.broken.is_none()) {
            return None;
        }
        self.over = true;
        let database = self.script.database.clone();
        let problem = self.broken.take().or_else(|| self.script.fails.clone());
        let verdict = match problem {
            Some(problem) => Err(SourceError::new(SourceErrorKind::Failed, database.to_string(), problem)),
            None => Ok(self.script.dumped()),
        };
        Some(Step::Done(database, verdict))
    }
}

impl Dump for FakeDump {
    fn next(&self) -> Result<Option<Step>, SourceError> {
        let mut state = self.shared.state();
        loop {
            if self.cancel.is_cancelled() {
                return Err(SourceError::cancelled("a fake dump"));
            }
            for (place, running) in state.databases.iter_mut().enumerate() {
                let database = running.script.database.clone();
                match running.next() {
                    Some(
                        Act::Part(entry, layout, index, part) | Act::NextPart(entry, layout, index, part),
                    ) => {
                        running.open += 1;
                        let reader = self.open(place, part);
                        return Ok(Some(Step::Part(OpenPart { database, entry, layout, index, reader })));
                    }
                    Some(Act::Reuse(entry, layout, index, previous_index)) => {
                        let part = PartRef { database, entry, layout, index, previous_index };
                        return Ok(Some(Step::Reuse(part)));
                    }
                    Some(Act::Unchanged) => {
                        running.over = true;
                        return Ok(Some(Step::Unchanged(database, running.script.unchanged())));
                    }
                    None => {}
                }
                if let Some(verdict) = running.verdict() {
                    self.shared.changed.notify_all();
                    return Ok(Some(verdict));
                }
            }
            if state.databases.iter().all(|running| running.over) {
                self.shared.changed.notify_all();
                return Ok(None);
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn finish(self: Box<Self>) -> Result<(), SourceError> {
        let over = self.shared.state().databases.iter().all(|running| running.over);
        let problem = if over { self.fails.clone() } else { Some("it was not read to its end".to_owned()) };
        match problem {
            Some(problem) => Err(SourceError::new(SourceErrorKind::Failed, "a fake dump", problem)),
            None => Ok(()),
        }
    }
}

struct FakePart {
    part: Option<MemoryPart>,
    shared: Arc<Shared>,
    place: usize,
}

impl FakePart {
    fn close(&self, problem: Option<String>) {
        let mut state = self.shared.state();
        let running = &mut state.databases[self.place];
        running.open -= 1;
        if let Some(problem) = problem {
            running.broken.get_or_insert(problem);
        }
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl PartReader for FakePart {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError> {
        self.part.as_mut().map_or(Ok(0), |part| part.read(buffer))
    }

    fn finish(mut self: Box<Self>) -> Result<PartFacts, SourceError> {
        let verdict = Box::new(self.part.take().unwrap_or_default()).finish();
        self.close(verdict.as_ref().err().map(ToString::to_string));
        verdict
    }
}

impl Drop for FakePart {
    fn drop(&mut self) {
        if self.part.take().is_some() {
            self.close(Some("a part was not read to its end".to_owned()));
        }
    }
}
