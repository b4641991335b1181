//! The database that is being made, as everybody reaches it who works on it, and work done by several sessions at once.
//!
//! The first failure ends the others; a server that takes fewer connections than wanted gets its work done by fewer.

use super::job::Job;
use super::names::literal;
use crate::postgres::connection::{Host, Settings};
use crate::postgres::session::{self, Reached, Session};
use crate::restore::RestoreError;
use flow::{Cancel, Manifest, SourceError, SourceErrorKind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Where the work is done.
pub(super) struct Ground {
    pub(super) settings: Settings,
    pub(super) reached: Reached,
    pub(super) object: String,
    /// How many sessions may work at once.
    pub(super) jobs: usize,
    /// The encoding of the database.
    pub(super) encoding: String,
    /// The locale by which amounts of money were written.
    money: Option<String>,
    cancel: Cancel,
}

impl Ground {
    /// Names the database that a restore makes.
    pub(super) fn of(job: &mut Job, manifest: &Manifest) -> Result<Self, SourceError> {
        let Some(name) = job.keeper.name(job.work.scratch_oid)? else {
            let message = format!("the database {} that the restore made is gone", job.work.scratch);
            return Err(job.error(SourceErrorKind::Missing, message));
        };
        let property = |key: &str| manifest.facts.properties.get(key)?.as_str().map(str::to_owned);
        let mut ground = Self {
            settings: Settings { database: name, ..job.keeper.settings.clone() },
            reached: job.keeper.session.reached,
            object: job.keeper.object.clone(),
            jobs: jobs(),
            encoding: String::new(),
            money: property("lc_monetary"),
            cancel: job.context.cancel.clone(),
        };
        let mut session = ground.session()?;
        let row = session.query_one("SELECT pg_catalog.getdatabaseencoding()::text", &[])?;
        ground.encoding = session.field(&row, 0)?;
        Ok(ground)
    }

    /// Connects to it.
    pub(super) fn session(&self) -> Result<Session, SourceError> {
        self.session_until(&self.cancel)
    }

    fn session_until(&self, cancel: &Cancel) -> Result<Session, SourceError> {
        let mut session = session::connect(&self.settings, Some(self.reached), &self.object, cancel)?;
        if let Some(money) = &self.money {
            // Where the server does not have that locale, its own has to do.
            session.try_execute(&format!("SET lc_monetary = {}", literal(money)))?.ok();
        }
        Ok(session)
    }

    /// Tells whether the server runs on this machine.
    pub(super) fn is_local(&self) -> bool {
        is_local(&self.settings, self.reached)
    }

    /// Does each task by one of several sessions, the first tasks first.
    pub(super) fn each<T: Sync>(
        &self,
        tasks: &[T],
        work: impl Fn(&mut Session, &T) -> Result<(), RestoreError> + Sync,
    ) -> Result<(), RestoreError> {
        self.each_then(tasks, work, |_| Ok(()))
    }

    /// Does the same, and `then` by each session for which no task is left.
    pub(super) fn each_then<T: Sync>(
        &self,
        tasks: &[T],
        work: impl Fn(&mut Session, &T) -> Result<(), RestoreError> + Sync,
        then: impl Fn(&mut Session) -> Result<(), RestoreError> + Sync,
    ) -> Result<(), RestoreError> {
        let next = AtomicUsize::new(0);
        let failure: Mutex<Option<RestoreError>> = Mutex::new(None);
        // Ends the others where one fails.
        let inner = Cancel::new();
        let linked = inner.clone();
        let _link = self.cancel.on_cancel(move || linked.cancel());
        let fail = |error: RestoreError| {
            failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            inner.cancel();
        };
        let worker = |number: usize| {
            let mut session = match self.session_until(&inner) {
                Ok(session) => session,
                Err(error) if number > 0 && error.kind == SourceErrorKind::Busy => return,
                Err(error) => return fail(error.into()),
            };
            while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                if inner.is_cancelled() {
                    return fail(SourceError::cancelled(self.object.clone()).into());
                }
                if let Err(error) = work(&mut session, task) {
                    return fail(error);
                }
            }
            if let Err(error) = then(&mut session) {
                fail(error);
            }
        };
        std::thread::scope(|scope| {
            let worker = &worker;
            for number in 1..self.jobs.min(tasks.len()) {
                scope.spawn(move || worker(number));
            }
            if !tasks.is_empty() {
                worker(0);
            }
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(_) if self.cancel.is_cancelled() => Err(SourceError::cancelled(self.object.clone()).into()),
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

/// Returns how many sessions work at once.
pub(super) fn jobs() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get).clamp(2, 8)
}

/// Tells whether a server runs on this machine.
pub(super) fn is_local(settings: &Settings, reached: Reached) -> bool {
    match settings.hosts.get(reached.host) {
        Some(Host::Socket { .. }) => true,
        Some(Host::Tcp { name, .. }) => ["localhost", "127.0.0.1", "::1"].contains(&name.as_str()),
        None => false,
    }
}
