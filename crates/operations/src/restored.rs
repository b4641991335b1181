//! What a restore came to: the part of its report that is its own, of one that failed too.

use engines::RestorePlan;
use jiff::Timestamp;
use repository::BackupId;
use serde::Serialize;

/// How long a step took.
#[derive(Debug, Clone, Serialize)]
pub struct StepTime {
    /// The step: `preflight`, `beside`, `verify`, `stop`, `quiesce`, `swap`, `start`, `health`, `finish`.
    pub name: String,
    /// Milliseconds.
    pub elapsed_ms: u64,
}

/// How fast it went.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RestorePerformance {
    /// Bytes of the restored database.
    pub bytes_written: u64,
    /// Per second, over the whole restore.
    pub bytes_per_second: u64,
    /// Milliseconds.
    pub elapsed_ms: u64,
}

/// The report's own part.
#[derive(Debug, Clone, Serialize)]
pub struct RestoreBody {
    /// The backup.
    pub backup: Option<BackupId>,
    /// Its consistency point.
    pub backup_time: Option<Timestamp>,
    /// The database that was replaced, made or written into.
    pub target: String,
    /// Where the old database is; null where there was none or it is not kept.
    pub safety_copy: Option<String>,
    /// Whether what was written was compared and checked.
    pub verified: bool,
    /// Whether the target is as it was, because something failed or it was asked for.
    pub rolled_back: bool,
    /// The steps that were taken.
    pub steps: Vec<StepTime>,
    /// How fast it went.
    pub performance: RestorePerformance,
    /// What was planned; null where a restore was taken up again.
    pub plan: Option<RestorePlan>,
    /// How long it was estimated to take.
    pub estimated_ms: Option<u64>,
    /// Why the restore would be refused as things are now; of a dry run only.
    pub refusals: Vec<String>,
    /// Whether nothing was done but telling.
    pub dry_run: bool,
}
