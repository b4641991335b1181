//! A dump of PostgreSQL databases, pulled by workers: rows by `COPY` on one snapshot, a table in several parts where it
//! is large; everything else by `pg_dump`, whose archive is turned into a folder's as it passes.
//!
//! Dropping the dump ends the programs, the statements and the transactions; a crash closes their connections, and the
//! server ends them then. Nothing is left behind but, after a crash, a password file in the scratch folder.

mod close;
mod file;
mod globals;
mod ground;
pub(super) mod jobs;
mod late;
mod parts;
mod state;
mod stream;
mod tickets;
mod verdict;
mod watch;

use crate::postgres::archive::TableOfContents;
use crate::postgres::catalog::Table;
use crate::postgres::session::Session;
use crate::postgres::{contents, failure};
use close::entry_name;
pub(super) use close::{GLOBALS_ENTRY, TOC_ENTRY, in_parts};
pub(super) use file::dump_file;
use flow::{
    CancelGuard, Context, Dump, DumpOptions, DumpRequest, Layout, OpenPart, PartReader, SourceError,
    SourceErrorKind, Step, TargetRef,
};
pub(super) use ground::SERVER_MAJOR_MIN;
use ground::{Ground, Opened, Rows, tell};
use jobs::Job;
use parts::{ArchivePart, CopyPart, MemoryPart, Ticket};
use state::{Errand, Reading, ReadyPart, Shared, Stage};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use stream::{ArchiveStream, End, Next};
use tokio_postgres::error::SqlState;

const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Begins a dump. Connects to nothing yet.
pub(super) fn begin(request: &DumpRequest, context: Context) -> Result<Box<dyn Dump>, SourceError> {
    let shared = Arc::new(Shared::default());
    shared.lock().queue = request.databases.iter().cloned().collect();
    let woken = Arc::clone(&shared);
    let wake = context.cancel.on_cancel(move || {
        // Under the lock, or a worker that is about to wait would miss it.
        let _state = woken.lock();
        woken.wake.notify_all();
    });
    Ok(Box::new(PostgresDump {
        shared,
        target: request.target.clone(),
        options: request.options.clone(),
        toc: Mutex::default(),
        context,
        _wake: wake,
    }))
}

struct PostgresDump {
    shared: Arc<Shared>,
    target: TargetRef,
    options: DumpOptions,
    /// What `pg_dump` wrote of the current database, once its stream is over.
    toc: Mutex<Option<TableOfContents>>,
    context: Context,
    _wake: CancelGuard,
}

impl PostgresDump {
    fn run(&self, errand: Errand) -> Option<Step> {
        let outcome = match errand {
            Errand::Open(request) => self.open(&request.database.connection).map(|()| None),
            Errand::Give(part) => return self.give(part),
            Errand::Archive(stream) => self.archive(stream),
            Errand::Copy(job, ground, tables, session) => self.copy(job, &ground, &tables, session),
            Errand::Hold(job, ground, tables, session) => self.copy_by(job, &ground, &tables, session, true),
            Errand::Close(reading) => self.close(*reading).map(|()| None),
        };
        match outcome {
            Ok(Some(step)) => Some(step),
            Ok(None) => {
                self.back();
                None
            }
            Err(error) => {
                self.shared.change(|current| current.verdict.fail(&error));
                self.back();
                None
            }
        }
    }

    /// An errand came back without a part.
    fn back(&self) {
        self.shared.change(|current| current.away = current.away.saturating_sub(1));
    }

    fn reading(&self, change: impl FnOnce(&mut Reading)) {
        self.shared.change(|current| {
            if let Stage::Reading(reading) = &mut current.stage {
                change(reading);
            }
        });
    }

    /// Returns what the work on the current database is given: it ends with the first failure of that, too.
    fn inside(&self) -> Context {
        let ended = self.shared.lock().current.as_ref().map(|current| current.verdict.ended());
        let cancel = ended.unwrap_or_else(|| self.context.cancel.clone());
        Context { cancel, ..self.context.clone() }
    }

    fn open(&self, connection: &str) -> Result<(), SourceError> {
        self.shared.change(|current| current.link = Some(current.verdict.ends_with(&self.context.cancel)));
        let context = self.inside();
        let selection = self.options.selection.as_ref();
        let rows = selection.map_or(Rows::ByWorkers, |selection| Rows::ByPgDump(Some(selection)));
        let opened = ground::open(connection, &self.target, rows, &self.options, &context)?;
        let Opened { ground, holder, archive, tables } = opened;
        let globals = ground.globals(&context);
        let (jobs, counts) = match ground.streamed {
            true => (vec![], vec![]),
            false => jobs::jobs(&tables, ground.server_major),
        };
        let mut entries = BTreeMap::new();
        for (table, count) in tables.iter().zip(counts) {
            let name = entry_name(&contents::data_file(table.oid), connection)?;
            entries.insert(name, (Layout::Rows, count));
        }
        let sums = vec![(0, 0); tables.len()];
        let reading = Reading {
            ground: Arc::new(ground),
            tables: Arc::new(tables),
            jobs: jobs.into(),
            held_jobs: VecDeque::new(),
            holder: Some(holder),
            sessions: Vec::new(),
            made: 0,
            made_max: self.options.jobs.max(1),
            archive: Some(Box::new(archive)),
            archive_over: false,
            objects: 0,
            globals,
            entries,
            sums,
            size_bytes: 0,
        };
        self.shared.change(|current| current.stage = Stage::Reading(Box::new(reading)));
        Ok(())
    }

    /// Goes on with what `pg_dump` writes.
    fn archive(&self, stream: Box<ArchiveStream>) -> Result<Option<Step>, SourceError> {
        match stream.next()? {
            Next::Rows(dump_id, stream) => {
                let Some(ticket) = Ticket::issue(&self.shared) else { return Ok(None) };
                let oid = stream.toc().entry(dump_id).and_then(contents::oid_of);
                let at = |tables: &[Table]| tables.iter().position(|table| Some(table.oid) == oid);
                let mut found = None;
                self.reading(|reading| found = at(&reading.tables));
                let (Some(oid), Some(table)) = (oid, found) else {
                    let problem = format!("pg_dump wrote rows for its entry {dump_id}, which is no table");
                    return Err(SourceError::new(SourceErrorKind::Failed, "the backup", problem));
                };
                let entry = entry_name(&contents::data_file(oid), "")?;
                let part = ArchivePart::rows(ticket, stream, entry.clone(), table);
                Ok(self.part(entry.as_str(), Layout::Rows, 0, Box::new(part)))
            }
            Next::Object(oid, stream) => {
                let Some(ticket) = Ticket::issue(&self.shared) else { return Ok(None) };
                let entry = entry_name(&format!("blob_{oid}.dat"), "")?;
                let part = ArchivePart::object(ticket, stream, entry.clone());
                Ok(self.part(entry.as_str(), Layout::Opaque, 0, Box::new(part)))
            }
            Next::List(file, bytes, stream) => {
                let entry = entry_name(&file, "")?;
                self.shared.change(|current| {
                    if let Stage::Reading(reading) = &mut current.stage {
                        reading.archive = Some(stream);
                        reading.size_bytes += bytes.len() as u64;
                        reading.entries.insert(entry.clone(), (Layout::Opaque, 1));
                        current.ready.push_back(ReadyPart { entry, index: 0, bytes });
                    }
                });
                Ok(None)
            }
            Next::End(End { toc, complaints }) => {
                if !complaints.is_empty() {
                    let object = self.shared.change(|current| current.database.connection.clone());
                    tell(&self.context, &object.unwrap_or_default(), complaints.join("; "));
                }
                *self.toc.lock().unwrap_or_else(PoisonError::into_inner) = Some(toc);
                self.reading(|reading| reading.archive_over = true);
                Ok(None)
            }
        }
    }

    /// Reads rows by a session of a worker's, which is made where none is given.
    fn copy(
        &self,
        job: Job,
        ground: &Ground,
        tables: &[Table],
        session: Option<Session>,
    ) -> Result<Option<Step>, SourceError> {
        let session = match session {
            Some(session) => session,
            None => match ground.worker(&self.inside()) {
                Ok(session) => session,
                // The server is full: those that there are, or the holder's alone, have to do.
                Err(error) if error.kind == SourceErrorKind::Busy => {
                    self.reading(|reading| {
                        reading.made -= 1;
                        reading.made_max = reading.made;
                        reading.jobs.push_front(job);
                    });
                    return Ok(None);
                }
                Err(error) => return Err(error),
            },
        };
        self.copy_by(job, ground, tables, session, false)
    }

    fn copy_by(
        &self,
        job: Job,
        ground: &Ground,
        tables: &[Table],
        mut session: Session,
        is_holder: bool,
    ) -> Result<Option<Step>, SourceError> {
        let Some(table) = tables.get(job.table) else { return Ok(None) };
        let told = |error: &tokio_postgres::Error| {
            failure::server(&ground.object, &format!("table {} cannot be read", table.shown), error)
        };
        if !is_holder {
            // Never waits: who waits for an exclusive lock waits for us, and would be waited for here.
            let lock = format!(
                "SAVEPOINT backstay; LOCK TABLE ONLY {} IN ACCESS SHARE MODE NOWAIT; RELEASE SAVEPOINT backstay; {}",
                table.quoted,
                late::question(table)
            );
            match session.try_text_query(&lock)? {
                Ok(answer) => late::check_answer(&answer, table, &ground.object)?,
                Err(error) if !failure::is(&error, &[&SqlState::LOCK_NOT_AVAILABLE]) => {
                    return Err(told(&error));
                }
                Err(_) => {
                    session.execute("ROLLBACK TO SAVEPOINT backstay; RELEASE SAVEPOINT backstay")?;
                    self.reading(|reading| {
                        reading.held_jobs.push_back(job);
                        reading.sessions.push(session);
                    });
                    return Ok(None);
                }
            }
        }
        let copy = session.begin_copy(&job.sql(&ground.moment.encoding))?.map_err(|error| told(&error))?;
        let Some(ticket) = Ticket::issue(&self.shared) else { return Ok(None) };
        let index = job.index;
        let part = CopyPart::new(ticket, (session, copy), is_holder, job, table.clone());
        Ok(self.part(&contents::data_file(table.oid), Layout::Rows, index, Box::new(part)))
    }

    fn give(&self, part: ReadyPart) -> Option<Step> {
        let (name, index) = (part.entry.clone(), part.index);
        let ticket = Ticket::issue(&self.shared)?;
        self.part(name.as_str(), Layout::Opaque, index, Box::new(MemoryPart::new(ticket, part)))
    }

    fn part(&self, entry: &str, layout: Layout, index: u32, reader: Box<dyn PartReader>) -> Option<Step> {
        let database = self.shared.lock().current.as_ref().map(|current| current.database.clone())?;
        let entry = entry_name(entry, &database.connection).ok()?;
        Some(Step::Part(OpenPart { database, entry, layout, index, reader }))
    }

    fn close(&self, reading: Reading) -> Result<(), SourceError> {
        let started = self.shared.change(|current| current.started).unwrap_or_else(Instant::now);
        let toc = self.toc.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(toc) = toc else {
            let message = "what pg_dump wrote was lost";
            return Err(SourceError::new(SourceErrorKind::Failed, reading.ground.object.clone(), message));
        };
        let (parts, dumped) = close::close(reading, toc, started, &self.inside())?;
        self.shared.change(|current| {
            current.ready.extend(parts);
            current.stage = Stage::Over(Box::new(dumped));
        });
        Ok(())
    }
}

impl Dump for PostgresDump {
    fn next(&self) -> Result<Option<Step>, SourceError> {
        loop {
            if self.context.cancel.is_cancelled() {
                return Err(SourceError::cancelled("the backup"));
            }
            let mut state = self.shared.lock();
            if let Some(step) = state.take_verdict() {
                drop(state);
                self.shared.wake.notify_all();
                return Ok(Some(step));
            }
            if state.is_over() {
                return Ok(None);
            }
            match state.take_errand() {
                Some(errand) => {
                    drop(state);
                    if let Some(step) = self.run(errand) {
                        return Ok(Some(step));
                    }
                }
                None if self.context.cancel.is_cancelled() => {}
                None => {
                    let waited = self.shared.wake.wait_timeout(state, LOOK_AGAIN);
                    drop(waited.unwrap_or_else(PoisonError::into_inner));
                }
            }
        }
    }

    fn finish(self: Box<Self>) -> Result<(), SourceError> {
        if self.shared.lock().is_over() {
            return Ok(());
        }
        if self.context.cancel.is_cancelled() {
            return Err(SourceError::cancelled("the backup"));
        }
        Err(SourceError::new(
            SourceErrorKind::Failed,
            "the backup",
            "not all databases were read to their end",
        ))
    }
}

impl Drop for PostgresDump {
    fn drop(&mut self) {
        // Parts that a worker still holds end by themselves; what is idle ends here.
        let mut state = self.shared.lock();
        state.queue.clear();
        let current = state.current.take();
        drop(state);
        drop(current);
    }
}
