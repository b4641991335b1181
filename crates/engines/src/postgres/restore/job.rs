//! What a restore under way knows, and the record that says so.
//!
//! [`Job::save`] makes the state durable, at the database that the restore makes: whoever is about to change something
//! that matters calls it first.

use super::archive;
use super::keeper::Keeper;
use super::record;
use crate::postgres::archive::TableOfContents;
use crate::restore::{RestoreError, RestoreMode, RestorePlan, RestoreState};
use flow::{BackupReader, Context, Event, Finding, Phase, Severity, SourceError, SourceErrorKind, quoted};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the record keeps for a continuation or a roll-back. Databases are known by their oids, which no rename changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Work {
    /// The name of the target's database.
    pub(super) target: String,
    /// The name under which the new database is made.
    pub(super) scratch: String,
    /// Its oid; 0 before it is made.
    pub(super) scratch_oid: u32,
    /// Whether something may have been loaded into it.
    pub(super) loading: bool,
    /// When the server was started on which unlogged tables were filled, where there are any: another start empties them.
    #[serde(default)]
    pub(super) unlogged_since: Option<String>,
    /// Bytes of the backup.
    pub(super) size_bytes: u64,
    /// The swap, from before it is begun on.
    pub(super) swap: Option<Swap>,
}

/// What a swap does, and what undoes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Swap {
    /// The old database; `None` where there was none.
    pub(super) old: Option<Old>,
    /// What the new database's comment will be, as SQL.
    pub(super) comment: Option<String>,
    /// How many rows had been written into the new database when it took its place.
    pub(super) written: Option<i64>,
}

/// A database that is replaced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Old {
    /// Its oid.
    pub(super) oid: u32,
    /// Its comment.
    pub(super) comment: Option<String>,
    /// The name under which it is kept.
    pub(super) keep: String,
    /// Whether it is dropped once the restore is accepted.
    pub(super) temporary: bool,
    /// Whether that is because it held nothing: then it is looked into again before.
    pub(super) was_empty: bool,
}

/// A restore under way.
pub(super) struct Job {
    pub(super) state: RestoreState,
    pub(super) work: Work,
    pub(super) plan: RestorePlan,
    pub(super) context: Context,
    pub(super) keeper: Keeper,
    /// Whether there is a record.
    pub(super) recorded: bool,
    /// The backup's table of contents, once it was read.
    pub(super) toc: Option<Arc<TableOfContents>>,
    /// Rows and digest of the tables that were read back while the rest was made, by their oids.
    pub(super) read_back: BTreeMap<u32, (u64, u128)>,
    /// Whether the restore was accepted or undone.
    pub(super) over: bool,
}

impl Job {
    /// Makes the state durable, where there is a record.
    pub(super) fn save(&mut self) -> Result<(), SourceError> {
        self.state.engine = serde_json::to_value(&self.work).map_err(|error| {
            self.error(SourceErrorKind::Invalid, "the restore cannot be recorded").with_source(error)
        })?;
        if !self.recorded {
            return Ok(());
        }
        let text = record::text(&self.state, &self.keeper.object)?;
        let Some(name) = self.keeper.name(self.work.scratch_oid)? else {
            let message = format!("the database {} that the restore made is gone", self.work.scratch);
            return Err(self.error(SourceErrorKind::Missing, message));
        };
        self.keeper.comment(&name, Some(&text))
    }

    /// Returns the table of contents, read once and shared: with many large objects it is large.
    pub(super) fn toc(&mut self, backup: &dyn BackupReader) -> Result<Arc<TableOfContents>, RestoreError> {
        if let Some(toc) = &self.toc {
            return Ok(Arc::clone(toc));
        }
        let toc = Arc::new(archive::read(backup)?);
        self.toc = Some(Arc::clone(&toc));
        Ok(toc)
    }

    pub(super) fn mode(&self) -> RestoreMode {
        self.state.request.mode
    }

    /// Fails once the restore was asked to stop.
    pub(super) fn check_cancel(&self) -> Result<(), SourceError> {
        self.context.cancel.check().map_err(|_| SourceError::cancelled(self.keeper.object.clone()))
    }

    pub(super) fn phase(&self, what: &str, total_bytes: Option<u64>) {
        let name = format!("{what} {}", self.work.target);
        self.context.observer.event(Event::Phase(Phase { name, total_bytes }));
    }

    pub(super) fn tell(&self, severity: Severity, message: String, hint: Option<String>) {
        let object = self.keeper.object.clone();
        self.context.observer.event(Event::Finding(Finding { severity, object, message, hint }));
    }

    /// Returns the command that takes this restore up again, as a person can run it.
    pub(super) fn command(&self, option: &str) -> String {
        format!("`backstay restore {option} --target {}`", quoted(&self.state.request.target.connection))
    }

    pub(super) fn error(&self, kind: SourceErrorKind, message: impl Into<String>) -> SourceError {
        SourceError::new(kind, self.keeper.object.clone(), message)
    }
}
