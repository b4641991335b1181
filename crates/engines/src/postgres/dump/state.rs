//! Who reads what next: the state of a dump, changed under one lock, and the errands that workers run without it.
//!
//! Databases are read one after the other, each by all workers. A session, the archive's stream and the holder's session
//! are in one place at a time: here, or with the worker that was given them.

use super::globals::Globals;
use super::ground::Ground;
use super::jobs::Job;
use super::stream::ArchiveStream;
use super::tickets::Tickets;
use super::verdict::Verdict;
use crate::postgres::catalog::Table;
use crate::postgres::session::Session;
use flow::{
    CancelGuard, DatabaseRef, DatabaseRequest, Dumped, EntryName, Layout, SourceError, SourceErrorKind, Step,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

#[derive(Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) wake: Condvar,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the current database's state and wakes who waits for that.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Current) -> T) -> Option<T> {
        let mut state = self.lock();
        let changed = state.current.as_mut().map(change);
        drop(state);
        self.wake.notify_all();
        changed
    }
}

#[derive(Default)]
pub(super) struct State {
    pub(super) queue: VecDeque<DatabaseRequest>,
    pub(super) current: Option<Current>,
    pub(super) tickets: Tickets,
}

/// The database that is under way.
pub(super) struct Current {
    pub(super) database: DatabaseRef,
    pub(super) started: Instant,
    pub(super) verdict: Verdict,
    /// Lets an interruption of the whole dump reach the verdict.
    pub(super) link: Option<CancelGuard>,
    /// Errands that have not come back.
    pub(super) away: usize,
    pub(super) stage: Stage,
    /// Parts that are in memory, ready to be given.
    pub(super) ready: VecDeque<ReadyPart>,
}

pub(super) enum Stage {
    /// A worker opens it, or closes it.
    Away,
    /// Rows and large objects are read.
    Reading(Box<Reading>),
    /// Nothing is left but what is ready.
    Over(Box<Dumped>),
}

/// A database while its content is read.
pub(super) struct Reading {
    pub(super) ground: Arc<Ground>,
    pub(super) tables: Arc<Vec<Table>>,
    pub(super) jobs: VecDeque<Job>,
    /// Of tables that only the holder can lock.
    pub(super) held_jobs: VecDeque<Job>,
    pub(super) holder: Option<Session>,
    pub(super) sessions: Vec<Session>,
    /// How many sessions there are or may be, beside the holder's.
    pub(super) made: usize,
    pub(super) made_max: usize,
    pub(super) archive: Option<Box<ArchiveStream>>,
    pub(super) archive_over: bool,
    pub(super) objects: u64,
    pub(super) globals: Option<Globals>,
    pub(super) entries: BTreeMap<EntryName, (Layout, u32)>,
    /// Rows and digest of each table so far, and the bytes of all.
    pub(super) sums: Vec<(u64, u128)>,
    pub(super) size_bytes: u64,
}

/// A part in memory.
pub(super) struct ReadyPart {
    pub(super) entry: EntryName,
    pub(super) index: u32,
    pub(super) bytes: Vec<u8>,
}

/// What a worker is to do.
pub(super) enum Errand {
    Open(DatabaseRequest),
    Give(ReadyPart),
    Archive(Box<ArchiveStream>),
    /// Read rows: by that session, or by a new one.
    Copy(Job, Arc<Ground>, Arc<Vec<Table>>, Option<Session>),
    /// Read rows by the holder's session.
    Hold(Job, Arc<Ground>, Arc<Vec<Table>>, Session),
    Close(Box<Reading>),
}

impl State {
    /// Returns the verdict on a database that is over and whose parts were read.
    pub(super) fn take_verdict(&mut self) -> Option<Step> {
        let ended = self.tickets.all_ended();
        let current = self.current.as_ref()?;
        let over = matches!(current.stage, Stage::Over(_)) && current.ready.is_empty();
        if !ended || current.away > 0 || !(over || current.verdict.failed()) {
            return None;
        }
        let current = self.current.take()?;
        let verdict = match (current.verdict.error(), current.stage) {
            (Some(error), _) => Err(error),
            (None, Stage::Over(dumped)) => Ok(*dumped),
            (None, _) => {
                let object = current.database.connection.as_str();
                Err(SourceError::new(SourceErrorKind::Failed, object, "it was not read to its end"))
            }
        };
        Some(Step::Done(current.database, verdict))
    }

    /// Tells whether nothing is left for anybody.
    pub(super) fn is_over(&self) -> bool {
        self.current.is_none() && self.queue.is_empty()
    }

    pub(super) fn take_errand(&mut self) -> Option<Errand> {
        let Some(current) = &mut self.current else {
            let request = self.queue.pop_front()?;
            self.current = Some(Current {
                database: request.database.clone(),
                started: Instant::now(),
                verdict: Verdict::default(),
                link: None,
                away: 1,
                stage: Stage::Away,
                ready: VecDeque::new(),
            });
            return Some(Errand::Open(request));
        };
        if current.verdict.failed() {
            // What is idle is let go; what is away comes back first.
            current.stage = Stage::Away;
            current.ready.clear();
            return None;
        }
        let errand = match current.ready.pop_front() {
            Some(part) => Errand::Give(part),
            None => current.errand()?,
        };
        current.away += 1;
        Some(errand)
    }
}

impl Current {
    fn errand(&mut self) -> Option<Errand> {
        let Stage::Reading(reading) = &mut self.stage else { return None };
        if let Some(errand) = reading.errand() {
            return Some(errand);
        }
        let done = reading.jobs.is_empty() && reading.held_jobs.is_empty() && reading.archive_over;
        if !done || self.away > 0 {
            return None;
        }
        match std::mem::replace(&mut self.stage, Stage::Away) {
            Stage::Reading(reading) => Some(Errand::Close(reading)),
            other => {
                self.stage = other;
                None
            }
        }
    }
}

impl Reading {
    fn errand(&mut self) -> Option<Errand> {
        if let Some(archive) = self.archive.take() {
            return Some(Errand::Archive(archive));
        }
        let (ground, tables) = (Arc::clone(&self.ground), Arc::clone(&self.tables));
        if !self.held_jobs.is_empty()
            && let Some(holder) = self.holder.take()
        {
            let job = self.held_jobs.pop_front()?;
            return Some(Errand::Hold(job, ground, tables, holder));
        }
        if !self.jobs.is_empty() {
            if let Some(session) = self.sessions.pop() {
                return Some(Errand::Copy(self.jobs.pop_front()?, ground, tables, Some(session)));
            }
            if self.made < self.made_max {
                self.made += 1;
                return Some(Errand::Copy(self.jobs.pop_front()?, ground, tables, None));
            }
            // The server takes no connection but the holder's.
            if self.made_max == 0
                && let Some(holder) = self.holder.take()
            {
                return Some(Errand::Hold(self.jobs.pop_front()?, ground, tables, holder));
            }
        }
        None
    }
}
