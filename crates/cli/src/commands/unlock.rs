//! `unlock`: removes what processes left that are gone, and names the locks that stay.

use crate::errors::Failure;
use crate::globals::DryRun;
use crate::json::Finished;
use crate::opening;
use crate::session::Session;
use crate::wording::{age, count};
use clap::Args;
use operations::reference::short;
use operations::unlock::LockItem;

/// Remove stale locks
///
/// A lock is stale when nobody refreshed it for 30 minutes, or its process was of this host and is gone. Those that stay are
/// named.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Remove all locks, also those of processes that are at work: what these write may be lost
    #[arg(long)]
    remove_all: bool,

    #[command(flatten)]
    pub(crate) dry_run: DryRun,
}

pub(crate) fn run(session: &Session, options: &Options) -> Result<Finished, Failure> {
    let services = opening::for_source(session, None)?;
    let dry_run = options.dry_run.dry_run;
    let report = operations::unlock::run(&services, options.remove_all, dry_run)?;
    let verb = if dry_run { "would remove" } else { "removed" };
    for lock in &report.body.removed {
        session.console.data(&format!("{verb} {}", describe(session, lock)))?;
    }
    for lock in &report.body.left {
        session.console.data(&format!("left {}", describe(session, lock)))?;
    }
    session.console.say(&match (report.body.removed.len() as u64, report.body.left.len() as u64) {
        (0, 0) => "There is no lock.".to_owned(),
        (0, left) => format!("{} left; none is stale.", count(left, "lock", "locks")),
        (removed, _) if dry_run => {
            format!("{} would go. Nothing was removed: this was a dry run.", count(removed, "lock", "locks"))
        }
        (removed, 0) => format!("Removed {}; none is left.", count(removed, "lock", "locks")),
        (removed, left) => format!("Removed {}; {left} left.", count(removed, "lock", "locks")),
    });
    Finished::new(&report)
}

fn describe(session: &Session, lock: &LockItem) -> String {
    let id = short(&lock.id);
    let reason = lock.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let (Some(host), Some(user), Some(pid), Some(time)) = (&lock.host, &lock.user, lock.pid, lock.time)
    else {
        return format!("lock {id}{reason}");
    };
    let kind = if lock.exclusive == Some(true) { "exclusive lock" } else { "lock" };
    format!("{kind} {id} of process {pid} of {user} on {host}, {}{reason}", age(time, session.started))
}
