//! After a backup: what an earlier heal left open is settled.
//!
//! Backups whose every byte the source brought back are whole again; those that still lack something are lost, and listed
//! as such. It never fails the backup: where somebody else is at work in the repository, or anything goes wrong, that
//! is told and the next backup does it.

use crate::Services;
use crate::reference::short;
use flow::{Event, Finding, Severity};
use repository::{BackupId, Settled};
use serde::Serialize;

/// A backup that is lost for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LostBackup {
    /// Its id, as it is listed now.
    pub id: BackupId,
    /// Why.
    pub reason: String,
}

/// What became of backups that a heal left open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AfterHeal {
    pub(crate) healed: Vec<BackupId>,
    pub(crate) lost: Vec<LostBackup>,
}

/// Settles what is open of the target of a run, by its snapshot.
pub(crate) fn after(services: &Services, snapshot: &str) -> AfterHeal {
    match services.repository.settle(snapshot, &services.context) {
        Ok(Settled { healed, lost }) => {
            let lost = lost.into_iter().map(|(id, reason)| LostBackup { id, reason }).collect();
            AfterHeal { healed, lost }
        }
        Err(error) => {
            services.context.observer.event(Event::Finding(Finding {
                severity: Severity::Warning,
                object: format!("snapshot {}", short(snapshot)),
                message: format!(
                    "the backup is made, and what an earlier `check --heal` left open was not looked at: {error}"
                ),
                hint: Some("the next backup does it".to_owned()),
            }));
            AfterHeal::default()
        }
    }
}
