//! Removes locks that nobody holds any more, and names those that stay.

use crate::report::{Outcome, Report};
use crate::{OperationError, Services, journaling};
use jiff::Timestamp;
use repository::LockRecord;
use serde::Serialize;

/// One lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LockItem {
    /// Its id.
    pub id: String,
    /// The host that holds it; null where it cannot be read.
    pub host: Option<String>,
    /// The user.
    pub user: Option<String>,
    /// The process.
    pub pid: Option<u32>,
    /// When it was taken or last refreshed.
    pub time: Option<Timestamp>,
    /// How long ago that was.
    pub age_seconds: Option<u64>,
    /// Whether it lets nobody else in.
    pub exclusive: Option<bool>,
    /// Why it does not count any more, or cannot be read.
    pub reason: Option<String>,
}

/// The report's own part.
#[derive(Debug, Clone, Serialize)]
pub struct UnlockBody {
    /// The locks that were removed.
    pub removed: Vec<LockItem>,
    /// The locks that stay.
    pub left: Vec<LockItem>,
    /// Whether nothing was done but telling.
    pub dry_run: bool,
}

impl LockItem {
    /// Takes a lock as it is at that moment.
    pub fn new(lock: LockRecord, now: Timestamp) -> Self {
        let age = |time: Timestamp| u64::try_from(now.as_second() - time.as_second()).unwrap_or(0);
        let holder = lock.holder.as_ref();
        Self {
            host: holder.map(|holder| holder.host.clone()),
            user: holder.map(|holder| holder.user.clone()),
            pid: holder.map(|holder| holder.pid),
            time: holder.map(|holder| holder.time),
            age_seconds: holder.map(|holder| age(holder.time)),
            exclusive: holder.map(|holder| holder.exclusive),
            reason: lock.stale.or_else(|| lock.problem.map(|problem| format!("it {problem}"))),
            id: lock.id,
        }
    }
}

/// Removes the locks that are stale, or all of them. One that cannot be read stays unless all go: nobody can tell
/// whether it counts.
pub fn run(services: &Services, all: bool, dry_run: bool) -> Result<Report<UnlockBody>, OperationError> {
    let started = Timestamp::now();
    if dry_run {
        return unlock(services, all, dry_run, started);
    }
    let recorded = journaling::begin(services, "unlock", None, started);
    let outcome = unlock(services, all, dry_run, started);
    journaling::finish(services, &recorded, outcome.as_ref());
    outcome
}

fn unlock(
    services: &Services,
    all: bool,
    dry_run: bool,
    started: Timestamp,
) -> Result<Report<UnlockBody>, OperationError> {
    let mut body = UnlockBody { removed: vec![], left: vec![], dry_run };
    for lock in services.repository.locks()? {
        let goes = all || lock.stale.is_some();
        if goes && !dry_run {
            services.repository.remove_lock(&lock.id)?;
        }
        let item = LockItem::new(lock, started);
        if goes { body.removed.push(item) } else { body.left.push(item) }
    }
    Ok(Report::new("unlock", started, Outcome::Complete, body))
}
