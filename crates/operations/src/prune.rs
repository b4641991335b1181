//! Retention: removes the backups that rules let go, and frees the space that nobody needs any more.
//!
//! What goes is decided by the repository under its exclusive lock. An interruption leaves fewer backups, each of them
//! whole; the next prune goes on.

use crate::dump_files::TimeSource;
use crate::journaling;
use crate::report::{Outcome, Report};
use crate::safety_copies::{self, Swept};
use crate::{OperationError, SafetyItem, SafetyRule, Services};
use engines::Skipped;
use flow::Text;
use jiff::Timestamp;
use repository::retention::{Origin, PruneScope, Verdict};
use repository::{BackupId, PruneReport, PruneRequest, RepositoryError, RepositoryErrorKind};
use serde::ser::{SerializeSeq, SerializeStruct};
use serde::{Serialize, Serializer};

/// What to prune, and how.
#[derive(Debug, Clone)]
pub struct PruneOptions {
    /// Rules, and the backups that each is for.
    pub scopes: Vec<PruneScope>,
    /// Tells what would be removed, and changes nothing.
    pub dry_run: bool,
    /// Removes the backups, and leaves their space for a later prune.
    pub forget_only: bool,
    /// Whose safety copies may go, once that is done.
    pub safety: Vec<SafetyRule>,
}

/// What becomes of one backup, as reports show it.
struct Item<'a>(&'a Verdict);

impl Serialize for Item<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Verdict { backup, reasons, .. } = self.0;
        let Origin { target, database, host, connection, plan, .. } = &*backup.origin;
        let mut item = serializer.serialize_struct("Item", 11)?;
        item.serialize_field("id", &backup.id())?;
        // It is in the repository.
        item.serialize_field("path", &None::<&str>)?;
        item.serialize_field("target", target)?;
        item.serialize_field("database", database)?;
        item.serialize_field("host", host)?;
        item.serialize_field("connection", connection)?;
        item.serialize_field("plan", plan)?;
        item.serialize_field("time", &backup.time)?;
        // A run said so.
        item.serialize_field("time_source", &None::<TimeSource>)?;
        item.serialize_field("size_bytes", &backup.size_bytes)?;
        item.serialize_field("reasons", &reasons[..])?;
        item.end()
    }
}

/// What becomes of one file. It has the keys of what becomes of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileItem {
    /// Null: it is in no repository.
    pub id: Option<BackupId>,
    /// Where it is.
    pub path: String,
    /// The folder.
    pub target: Text,
    /// The database that its name speaks of.
    pub database: Text,
    /// The host whose folder it is.
    pub host: Text,
    /// Null: who made it is not known.
    pub connection: Option<Text>,
    /// Null, for the same reason.
    pub plan: Option<Text>,
    /// The moment that it shows.
    pub time: Timestamp,
    /// From where that is known.
    pub time_source: Option<TimeSource>,
    /// Its length.
    pub size_bytes: u64,
    /// Why it stays or goes.
    pub reasons: Vec<String>,
}

/// The report's own part. Written as two lists, `kept` and `removed`, of backups with the safety copies behind them, then
/// the files of folders.
#[derive(Debug, Clone, Default)]
pub struct PruneBody {
    /// What stays of the backups that were asked about, and what went, or would go: by target, database and host, newest
    /// first.
    pub verdicts: Vec<Verdict>,
    /// The safety copies that stay.
    pub safety_kept: Vec<SafetyItem>,
    /// The safety copies that went, or would go.
    pub safety_removed: Vec<SafetyItem>,
    /// The files of folders that stay.
    pub files_kept: Vec<FileItem>,
    /// The files of folders that went, or would go.
    pub files_removed: Vec<FileItem>,
    /// What of folders was left alone: what is no backup, or does not fit a pattern.
    pub skipped: Vec<Skipped>,
    /// How many snapshots that was.
    pub snapshots: u64,
    /// By how many bytes the repository became smaller; of a dry run about how many it would.
    pub freed_bytes: u64,
    /// How many snapshots of other programs were left alone.
    pub foreign: u64,
    /// How many snapshots cannot be listed, and were left alone.
    pub unlisted: u64,
    /// Whether the space was left for a later prune.
    pub forget_only: bool,
    /// Whether nothing was done but telling.
    pub dry_run: bool,
}

impl PruneBody {
    /// Returns what is to stay, or what goes.
    fn of(&self, kept: bool) -> impl Iterator<Item = &Verdict> {
        self.verdicts.iter().filter(move |verdict| verdict.kept == kept)
    }

    /// Returns how many backups stay.
    pub fn kept(&self) -> u64 {
        (self.of(true).count() + self.files_kept.len()) as u64
    }

    /// Returns how many backups went, or would go.
    pub fn removed(&self) -> u64 {
        (self.of(false).count() + self.files_removed.len()) as u64
    }

    /// Returns what the journal keeps of a prune that decided on very many: so many of each kind.
    pub(crate) fn abridged(&self, most: usize) -> Self {
        let some = |kept| self.of(kept).take(most).cloned();
        let files = |files: &[FileItem]| files.iter().take(most).cloned().collect();
        Self {
            verdicts: some(true).chain(some(false)).collect(),
            safety_kept: self.safety_kept.iter().take(most).cloned().collect(),
            safety_removed: self.safety_removed.iter().take(most).cloned().collect(),
            files_kept: files(&self.files_kept),
            files_removed: files(&self.files_removed),
            skipped: self.skipped.iter().take(most).cloned().collect(),
            ..*self
        }
    }
}

/// One list of backups and safety copies.
struct Chained<'a>(&'a PruneBody, bool);

impl Serialize for Chained<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Chained(body, kept) = self;
        let mut list = serializer.serialize_seq(None)?;
        body.of(*kept).try_for_each(|verdict| list.serialize_element(&Item(verdict)))?;
        let copies = if *kept { &body.safety_kept } else { &body.safety_removed };
        copies.iter().try_for_each(|copy| list.serialize_element(copy))?;
        let files = if *kept { &body.files_kept } else { &body.files_removed };
        files.iter().try_for_each(|file| list.serialize_element(file))?;
        list.end()
    }
}

impl Serialize for PruneBody {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut body = serializer.serialize_struct("PruneBody", 9)?;
        body.serialize_field("kept", &Chained(self, true))?;
        body.serialize_field("removed", &Chained(self, false))?;
        body.serialize_field("skipped", &self.skipped)?;
        body.serialize_field("snapshots", &self.snapshots)?;
        body.serialize_field("freed_bytes", &self.freed_bytes)?;
        body.serialize_field("foreign", &self.foreign)?;
        body.serialize_field("unlisted", &self.unlisted)?;
        body.serialize_field("forget_only", &self.forget_only)?;
        body.serialize_field("dry_run", &self.dry_run)?;
        body.end()
    }
}

/// Prunes. What others do in the repository at that moment is an error, whose text names them.
pub fn run(services: &Services, options: &PruneOptions) -> Result<Report<PruneBody>, OperationError> {
    let started = Timestamp::now();
    if options.dry_run {
        return prune(services, options, started);
    }
    let recorded = journaling::begin(services, "prune", None, started);
    let outcome = prune(services, options, started);
    match &outcome {
        Ok(report) => journaling::finish(
            services,
            &recorded,
            Ok(&report.with(report.body.abridged(journaling::ITEMS_KEPT))),
        ),
        Err(error) => journaling::finish::<PruneBody>(services, &recorded, Err(error)),
    }
    outcome
}

fn prune(
    services: &Services,
    options: &PruneOptions,
    started: Timestamp,
) -> Result<Report<PruneBody>, OperationError> {
    let request = PruneRequest {
        scopes: options.scopes.clone(),
        now: started,
        dry_run: options.dry_run,
        forget_only: options.forget_only,
    };
    let done = services.repository.prune(&request, &services.context).map_err(interrupted)?;
    let swept = safety_copies::sweep(services, &options.safety, started, options.dry_run);
    Ok(Report::new("prune", started, Outcome::Complete, body(done, swept, options)))
}

fn interrupted(error: RepositoryError) -> OperationError {
    match error.kind {
        RepositoryErrorKind::Cancelled => OperationError::Cancelled,
        _ => error.into(),
    }
}

fn body(done: PruneReport, swept: Swept, options: &PruneOptions) -> PruneBody {
    PruneBody {
        verdicts: done.verdicts,
        safety_kept: swept.kept,
        safety_removed: swept.removed,
        files_kept: vec![],
        files_removed: vec![],
        skipped: vec![],
        snapshots: done.snapshots,
        freed_bytes: done.freed_bytes,
        foreign: done.foreign,
        unlisted: done.unlisted,
        forget_only: options.forget_only,
        dry_run: options.dry_run,
    }
}
