//! Rows that were loaded, read back while others are still loaded and while indexes are made: whoever has nothing to load
//! reads a table that is whole, so that no core waits for the slowest table.
//!
//! Only what nobody has written since counts: that is asked of the server before the comparison, and what is in doubt is
//! read again then. Reads only; a crash loses the sums, and the tables are read again.

use super::ground::Ground;
use super::tables::Filled;
use super::verify;
use crate::postgres::dump::jobs::jobs;
use crate::postgres::session::Session;
use crate::restore::RestoreError;
use flow::{SourceError, SourceErrorKind};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Rows and digest of a table.
pub(super) type Sum = (u64, u128);

/// What is to be read, and what was.
pub(super) struct ReadBack<'a> {
    ground: &'a Ground,
    tables: &'a [Filled],
    major: u32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How many parts of each table are not loaded yet.
    loading: Vec<usize>,
    /// The statements that read tables which are whole, each with its table.
    waiting: VecDeque<(usize, String)>,
    /// How many statements of each table have not been run to their end, where it is known.
    open: Vec<Option<usize>>,
    sums: Vec<Sum>,
    stopped: bool,
}

impl<'a> ReadBack<'a> {
    /// Begins with so many parts of each table to be loaded.
    pub(super) fn new(ground: &'a Ground, tables: &'a [Filled], major: u32) -> Self {
        let count = tables.len();
        let state = State {
            loading: vec![0; count],
            open: vec![None; count],
            sums: vec![(0, 0); count],
            ..State::default()
        };
        Self { ground, tables, major, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a part of a table is going to be loaded.
    pub(super) fn expect(&self, table: usize) {
        if let Some(loading) = self.state().loading.get_mut(table) {
            *loading += 1;
        }
    }

    /// Notes that a part of a table was loaded. After the last of them it may be read.
    pub(super) fn loaded(&self, session: &mut Session, table: usize) -> Result<(), SourceError> {
        let whole = match self.state().loading.get_mut(table) {
            Some(loading) => {
                *loading = loading.saturating_sub(1);
                *loading == 0
            }
            None => false,
        };
        if whole { self.add(session, table) } else { Ok(()) }
    }

    /// Adds a table that is whole: by its size it is read in parts.
    fn add(&self, session: &mut Session, number: usize) -> Result<(), SourceError> {
        let Some(filled) = self.tables.get(number) else { return Ok(()) };
        let mut table = filled.table.clone();
        let sql = "SELECT coalesce(pg_catalog.pg_relation_size($1::oid, 'main'), 0) / current_setting('block_size')::int8";
        let row = session.query_one(sql, &[&table.oid])?;
        let blocks: i64 = session.field(&row, 0)?;
        table.blocks = u64::try_from(blocks).unwrap_or(0);
        let (parts, _) = jobs(&[table], self.major);
        let mut state = self.state();
        if let Some(open) = state.open.get_mut(number) {
            *open = Some(parts.len());
        }
        state.waiting.extend(parts.iter().map(|part| (number, part.sql(&self.ground.encoding))));
        Ok(())
    }

    /// Reads one part, if there is one to be read; tells whether there was. A table that cannot be read just now, for
    /// policies may bind its owner already, is left to the comparison, which knows how to.
    pub(super) fn read_one(&self, session: &mut Session) -> Result<bool, SourceError> {
        let next = {
            let mut state = self.state();
            if state.stopped { None } else { state.waiting.pop_front() }
        };
        let Some((number, sql)) = next else { return Ok(false) };
        let shown = self.tables.get(number).map_or("?", |filled| filled.table.shown.as_str());
        let (rows, digest) = match verify::read(session, &sql, shown, &self.ground.object, |_| ()) {
            Ok(read) => read,
            Err(error) if error.kind == SourceErrorKind::Cancelled => return Err(error),
            Err(_) => return Ok(true),
        };
        let mut state = self.state();
        if let Some(sum) = state.sums.get_mut(number) {
            *sum = (sum.0 + rows, sum.1.wrapping_add(digest));
        }
        if let Some(Some(open)) = state.open.get_mut(number) {
            *open = open.saturating_sub(1);
        }
        Ok(true)
    }

    /// Reads all that is left, by several sessions: not so many that what goes on beside it has no core.
    pub(super) fn run(&self) -> Result<(), RestoreError> {
        let sessions = vec![(); self.ground.jobs.div_ceil(2)];
        let read = self.ground.each(&sessions, |session, ()| {
            while self.read_one(session)? {}
            Ok(())
        });
        match read {
            // The server takes no more connections at this moment: the comparison reads what is left.
            Err(RestoreError::Database(error)) if error.kind == SourceErrorKind::Busy => Ok(()),
            read => read,
        }
    }

    /// Lets what is waiting be.
    pub(super) fn stop(&self) {
        self.state().stopped = true;
    }

    /// Returns the sums of the tables that were read to their end, by their oids.
    pub(super) fn into_sums(self) -> BTreeMap<u32, Sum> {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let read = self.tables.iter().zip(state.open).zip(state.sums);
        let whole = read.filter(|((_, open), _)| *open == Some(0));
        whole.map(|((filled, _), sum)| (filled.table.oid, sum)).collect()
    }
}
