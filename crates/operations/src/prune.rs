//! Retention: removes the backups that rules let go, and frees the space that nobody needs any more.
//!
//! What goes is decided by the repository under its exclusive lock. An interruption leaves fewer backups, each of them
//! whole; the next prune goes on.

use crate::journaling;
use crate::report::{Outcome, Report};
use crate::safety_copies::{self, Swept};
use crate::{OperationError, SafetyItem, SafetyRule, Services};
use flow::{DatabaseName, TargetName, Text};
use jiff::Timestamp;
use repository::retention::{PruneScope, Reason, Verdict};
use repository::{BackupId, PruneReport, PruneRequest, RepositoryError, RepositoryErrorKind};
use serde::ser::{SerializeSeq, SerializeStruct};
use serde::{Serialize, Serializer};
use std::sync::Arc;

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

/// What becomes of one backup.
#[derive(Debug, Clone, Serialize)]
pub struct PruneItem {
    /// Its id.
    pub id: BackupId,
    /// Null: it is in the repository.
    pub path: Option<String>,
    /// The target.
    pub target: TargetName,
    /// The database.
    pub database: DatabaseName,
    /// The host whose run it was.
    pub host: Text,
    /// Where the database was.
    pub connection: Text,
    /// The plan that made it; null where there was none.
    pub plan: Option<Text>,
    /// The consistency point.
    pub time: Timestamp,
    /// How large it is when it is restored.
    pub size_bytes: u64,
    /// Why.
    pub reasons: Vec<Reason>,
}

impl From<Verdict> for PruneItem {
    fn from(verdict: Verdict) -> Self {
        let backup = Arc::unwrap_or_clone(verdict.backup);
        Self {
            id: backup.id,
            path: None,
            target: backup.target,
            database: backup.database,
            host: backup.host,
            connection: backup.connection,
            plan: backup.plan,
            time: backup.time,
            size_bytes: backup.size_bytes,
            reasons: verdict.reasons,
        }
    }
}

/// The report's own part. Written with the safety copies behind the backups of the same lists.
#[derive(Debug, Clone)]
pub struct PruneBody {
    /// What stays of the backups that were asked about: by target, database and host, newest first.
    pub kept: Vec<PruneItem>,
    /// What went, or would go.
    pub removed: Vec<PruneItem>,
    /// The safety copies that stay.
    pub safety_kept: Vec<SafetyItem>,
    /// The safety copies that went, or would go.
    pub safety_removed: Vec<SafetyItem>,
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

/// One list of backups and safety copies.
struct Chained<'a>(&'a [PruneItem], &'a [SafetyItem]);

impl Serialize for Chained<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len() + self.1.len()))?;
        self.0.iter().try_for_each(|item| list.serialize_element(item))?;
        self.1.iter().try_for_each(|item| list.serialize_element(item))?;
        list.end()
    }
}

impl Serialize for PruneBody {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut body = serializer.serialize_struct("PruneBody", 8)?;
        body.serialize_field("kept", &Chained(&self.kept, &self.safety_kept))?;
        body.serialize_field("removed", &Chained(&self.removed, &self.safety_removed))?;
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
        Ok(report) => journaling::finish(services, &recorded, Ok(&report.with(abridged(&report.body)))),
        Err(error) => journaling::finish::<PruneBody>(services, &recorded, Err(error)),
    }
    outcome
}

/// Returns what the journal keeps of a prune that decided on very many backups.
fn abridged(body: &PruneBody) -> PruneBody {
    let some = |items: &[PruneItem]| items.iter().take(journaling::ITEMS_KEPT).cloned().collect();
    PruneBody {
        kept: some(&body.kept),
        removed: some(&body.removed),
        safety_kept: body.safety_kept.iter().take(journaling::ITEMS_KEPT).cloned().collect(),
        safety_removed: body.safety_removed.iter().take(journaling::ITEMS_KEPT).cloned().collect(),
        snapshots: body.snapshots,
        freed_bytes: body.freed_bytes,
        foreign: body.foreign,
        unlisted: body.unlisted,
        forget_only: body.forget_only,
        dry_run: body.dry_run,
    }
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
    let (kept, removed): (Vec<Verdict>, Vec<Verdict>) =
        done.verdicts.into_iter().partition(|verdict| verdict.kept);
    PruneBody {
        kept: kept.into_iter().map(PruneItem::from).collect(),
        removed: removed.into_iter().map(PruneItem::from).collect(),
        safety_kept: swept.kept,
        safety_removed: swept.removed,
        snapshots: done.snapshots,
        freed_bytes: done.freed_bytes,
        foreign: done.foreign,
        unlisted: done.unlisted,
        forget_only: options.forget_only,
        dry_run: options.dry_run,
    }
}
