//! The parts of a dump: rows as a `COPY` gives them, large objects as `pg_dump` does, and what is in memory.
//!
//! Read to its end, a part gives its session or stream back; dropped before, its database failed and they are closed.

use super::jobs::Job;
use super::late;
use super::state::{Current, ReadyPart, Shared, Stage};
use super::stream::ArchiveStream;
use super::verdict::Verdict;
use crate::postgres::catalog::Table;
use crate::postgres::contents::TRAILER;
use crate::postgres::digest::{ArchivedRows, RowDigest};
use crate::postgres::failure;
use crate::postgres::session::{Copy, Session};
use flow::{EntryName, Layout, PartFacts, PartReader, SourceError, SourceErrorKind};
use std::sync::Arc;

/// What every part holds: its place in the dump, and what ends it.
pub(super) struct Ticket {
    shared: Arc<Shared>,
    number: u64,
    verdict: Verdict,
    object: String,
    finished: bool,
}

impl Ticket {
    /// Issues one for the current database to the calling worker.
    pub(super) fn issue(shared: &Arc<Shared>) -> Option<Self> {
        let mut state = shared.lock();
        let current = state.current.as_ref()?;
        let (verdict, object) = (current.verdict.clone(), current.database.connection.clone());
        let number = state.tickets.issue();
        drop(state);
        Some(Self { shared: Arc::clone(shared), number, verdict, object, finished: false })
    }

    /// Notes a failure of the part, and returns the first one of its database: what failed before ended this part too.
    fn fail(&self, error: SourceError) -> SourceError {
        if self.verdict.failed() {
            return self.verdict.error().unwrap_or(error);
        }
        self.verdict.fail(&error);
        error
    }

    fn unread(&self) -> SourceError {
        let message = "a part of it was not read to its end";
        self.fail(SourceError::new(SourceErrorKind::Failed, self.object.clone(), message))
    }

    /// Gives back what the part held.
    fn finish(mut self, give_back: impl FnOnce(&mut Current)) {
        self.finished = true;
        let shared = Arc::clone(&self.shared);
        shared.change(|current| {
            give_back(current);
            current.away -= 1;
        });
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.finished {
            self.unread();
            self.shared.change(|current| current.away = current.away.saturating_sub(1));
        }
        self.shared.lock().tickets.ended(self.number);
        self.shared.wake.notify_all();
    }
}

/// The rows of a table, or of some of its blocks.
pub(super) struct CopyPart {
    // Dropped before the ticket, which says that they are gone.
    reading: Option<(Session, Copy)>,
    ticket: Option<Ticket>,
    is_holder: bool,
    job: Job,
    table: Table,
    digest: RowDigest,
    /// What of the end of the archive's rows is to be given yet.
    rest: &'static [u8],
    ended: bool,
    size_bytes: u64,
}

impl CopyPart {
    pub(super) fn new(
        ticket: Ticket,
        reading: (Session, Copy),
        is_holder: bool,
        job: Job,
        table: Table,
    ) -> Self {
        Self {
            reading: Some(reading),
            ticket: Some(ticket),
            is_holder,
            job,
            table,
            digest: RowDigest::default(),
            rest: &[],
            ended: false,
            size_bytes: 0,
        }
    }

    fn failed(&self, error: SourceError) -> SourceError {
        match &self.ticket {
            Some(ticket) => ticket.fail(error),
            None => error,
        }
    }

    fn take(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError> {
        let Some((session, copy)) = &mut self.reading else { return Ok(0) };
        let digest = &mut self.digest;
        let mut filled = 0;
        let done = session.take_copy(copy, |bytes| {
            let room = &mut buffer[filled..];
            let count = bytes.len().min(room.len());
            let bytes = &bytes[..count];
            digest.take(bytes);
            room[..count].copy_from_slice(bytes);
            filled += count;
            count
        })?;
        match done {
            Ok(over) => {
                if over {
                    self.ended = true;
                    self.rest = if self.job.last { TRAILER } else { &[] };
                }
                Ok(filled)
            }
            Err(error) => {
                let object = self.ticket.as_ref().map_or("", |ticket| &ticket.object);
                Err(failure::server(object, &format!("table {} cannot be read", self.table.shown), &error))
            }
        }
    }
}

impl PartReader for CopyPart {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError> {
        if let Some(ticket) = &self.ticket {
            ticket.verdict.check()?;
        }
        let mut filled = 0;
        while filled < buffer.len() {
            if !self.rest.is_empty() {
                let count = self.rest.len().min(buffer.len() - filled);
                let (now, later) = self.rest.split_at(count);
                buffer[filled..filled + count].copy_from_slice(now);
                (self.rest, filled) = (later, filled + count);
            } else if self.ended || filled > 0 {
                break;
            } else {
                filled = self.take(buffer).map_err(|error| self.failed(error))?;
            }
        }
        self.size_bytes += filled as u64;
        Ok(filled)
    }

    fn finish(mut self: Box<Self>) -> Result<PartFacts, SourceError> {
        let (Some((mut session, copy)), Some(ticket)) = (self.reading.take(), self.ticket.take()) else {
            let table = self.table.shown.clone();
            return Err(SourceError::new(SourceErrorKind::Failed, table, "was finished before"));
        };
        ticket.verdict.check()?;
        drop(copy);
        if self.ended {
            // What was read is what the name stood for, before and after.
            session
                .text_query(&late::question(&self.table))
                .and_then(|answer| late::check_answer(&answer, &self.table, &ticket.object))
                .map_err(|error| ticket.fail(error))?;
        }
        let digest = std::mem::take(&mut self.digest).finish();
        let Some((rows, digest)) = digest.filter(|_| self.ended && self.rest.is_empty()) else {
            return Err(ticket.unread());
        };
        let (table, size_bytes, is_holder) = (self.job.table, self.size_bytes, self.is_holder);
        ticket.finish(|current| {
            let Stage::Reading(reading) = &mut current.stage else { return };
            match is_holder {
                true => reading.holder = Some(session),
                false => reading.sessions.push(session),
            }
            reading.size_bytes += size_bytes;
            if let Some((sum_rows, sum)) = reading.sums.get_mut(table) {
                *sum_rows += rows;
                *sum = sum.wrapping_add(digest.0);
            }
        });
        Ok(PartFacts { size_bytes, rows: Some(rows), digest: Some(digest) })
    }
}

/// What `pg_dump` reads: one large object, or the rows of a table.
pub(super) struct ArchivePart {
    stream: Option<Box<ArchiveStream>>,
    ticket: Option<Ticket>,
    entry: EntryName,
    /// Of rows, which table they are of.
    rows: Option<(usize, ArchivedRows)>,
    ended: bool,
    size_bytes: u64,
}

impl ArchivePart {
    /// Takes the large object at which the stream stands.
    pub(super) fn object(ticket: Ticket, stream: Box<ArchiveStream>, entry: EntryName) -> Self {
        let (stream, ticket) = (Some(stream), Some(ticket));
        Self { stream, ticket, entry, rows: None, ended: false, size_bytes: 0 }
    }

    /// Takes the rows at which the stream stands.
    pub(super) fn rows(ticket: Ticket, stream: Box<ArchiveStream>, entry: EntryName, table: usize) -> Self {
        let rows = Some((table, ArchivedRows::default()));
        Self { rows, ..Self::object(ticket, stream, entry) }
    }
}

impl PartReader for ArchivePart {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError> {
        let Some(ticket) = &self.ticket else { return Ok(0) };
        ticket.verdict.check()?;
        let Some(stream) = &mut self.stream else { return Ok(0) };
        match stream.read(buffer) {
            Ok(count) => {
                self.ended = count == 0 && !buffer.is_empty();
                self.size_bytes += count as u64;
                if let Some((_, rows)) = &mut self.rows {
                    rows.take(&buffer[..count]);
                }
                Ok(count)
            }
            Err(error) => Err(match self.stream.take() {
                Some(stream) => ticket.fail(stream.failed(&error)),
                None => ticket.unread(),
            }),
        }
    }

    fn finish(mut self: Box<Self>) -> Result<PartFacts, SourceError> {
        let (Some(stream), Some(ticket)) = (self.stream.take(), self.ticket.take()) else {
            return Err(SourceError::new(
                SourceErrorKind::Failed,
                self.entry.as_str(),
                "was finished before",
            ));
        };
        ticket.verdict.check()?;
        if !self.ended {
            return Err(ticket.unread());
        }
        let table = self.rows.as_ref().map(|(table, _)| *table);
        let sums = match self.rows.take() {
            Some((_, rows)) => match rows.finish() {
                Some(sums) => Some(sums),
                None => return Err(ticket.unread()),
            },
            None => None,
        };
        let (entry, size_bytes) = (self.entry.clone(), self.size_bytes);
        let layout = if table.is_some() { Layout::Rows } else { Layout::Opaque };
        ticket.finish(|current| {
            let Stage::Reading(reading) = &mut current.stage else { return };
            reading.archive = Some(stream);
            reading.objects += u64::from(table.is_none());
            reading.size_bytes += size_bytes;
            reading.entries.insert(entry, (layout, 1));
            if let (Some(table), Some((rows, digest))) = (table, sums)
                && let Some((sum_rows, sum)) = reading.sums.get_mut(table)
            {
                *sum_rows += rows;
                *sum = sum.wrapping_add(digest.0);
            }
        });
        Ok(PartFacts { size_bytes, rows: sums.map(|(rows, _)| rows), digest: sums.map(|(_, digest)| digest) })
    }
}

/// What is in memory.
pub(super) struct MemoryPart {
    ticket: Option<Ticket>,
    part: ReadyPart,
    at: usize,
}

impl MemoryPart {
    pub(super) fn new(ticket: Ticket, part: ReadyPart) -> Self {
        Self { ticket: Some(ticket), part, at: 0 }
    }
}

impl PartReader for MemoryPart {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError> {
        let rest = &self.part.bytes[self.at..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }

    fn finish(mut self: Box<Self>) -> Result<PartFacts, SourceError> {
        let size_bytes = self.part.bytes.len() as u64;
        let Some(ticket) = self.ticket.take() else {
            return Err(SourceError::new(
                SourceErrorKind::Failed,
                self.part.entry.as_str(),
                "was finished before",
            ));
        };
        if self.at < self.part.bytes.len() {
            return Err(ticket.unread());
        }
        ticket.finish(|_| ());
        Ok(PartFacts { size_bytes, rows: None, digest: None })
    }
}
