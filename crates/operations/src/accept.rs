//! Accepts backups that are marked as suspect: their content is as its owner wants it. From then on they count for
//! retention, and the next backups are measured by them.
//!
//! The records are written at once and durably, or none of them is; the backups themselves never change.

use crate::journaling;
use crate::reference::{Reference, resolve};
use crate::report::{Outcome, Report};
use crate::{OperationError, Services, unlisted};
use flow::{DatabaseName, TargetName};
use jiff::Timestamp;
use repository::{AcceptanceRecord, BackupId, BackupRecord, State};
use serde::Serialize;
use std::collections::BTreeMap;

/// What became of one backup.
#[derive(Debug, Clone, Serialize)]
pub struct AcceptItem {
    /// Its id.
    pub id: BackupId,
    /// The target.
    pub target: TargetName,
    /// The database.
    pub database: DatabaseName,
    /// Its consistency point.
    pub time: Timestamp,
    /// Whether it is accepted now. False where it was not suspect, or not any more: there was nothing to accept.
    pub accepted: bool,
    /// Why it was suspect.
    pub reasons: Vec<String>,
}

/// The report's own part.
#[derive(Debug, Clone, Serialize)]
pub struct AcceptBody {
    /// One for each backup that was named, in their order.
    pub backups: Vec<AcceptItem>,
    /// Whether nothing was done but telling.
    pub dry_run: bool,
}

/// Accepts the backups that the references name, and with each the later ones of the same content. One that is not
/// suspect is no error: whoever accepts twice meant it.
pub fn run(
    services: &Services,
    references: &[Reference],
    dry_run: bool,
) -> Result<Report<AcceptBody>, OperationError> {
    let started = Timestamp::now();
    if dry_run {
        return accept(services, references, true, started);
    }
    let recorded = journaling::begin(services, "accept", None, started);
    let outcome = accept(services, references, false, started);
    journaling::finish(services, &recorded, outcome.as_ref());
    outcome
}

fn accept(
    services: &Services,
    references: &[Reference],
    dry_run: bool,
    started: Timestamp,
) -> Result<Report<AcceptBody>, OperationError> {
    let records = services.repository.backups(None, &services.context)?;
    let mut backups: Vec<AcceptItem> = Vec::new();
    let mut accepted = BTreeMap::new();
    for reference in references {
        unlisted::refuse(services, &records, reference)?;
        for record in resolve(&records, reference, &services.host)? {
            if backups.iter().any(|earlier| earlier.id == record.id) {
                continue;
            }
            if record.suspect.is_some() {
                // All of the same content: were only this one named, they would be suspect again once it is pruned.
                let same = records.iter().filter(|other| same_content(other, &record));
                accepted.extend(same.map(|other| (other.id.clone(), other)));
            }
            backups.push(AcceptItem {
                id: record.id,
                target: record.target,
                database: record.database,
                time: record.time,
                accepted: record.suspect.is_some(),
                reasons: record.suspect.unwrap_or_default(),
            });
        }
    }
    if !dry_run && !accepted.is_empty() {
        let time = Timestamp::now();
        let record = |backup| AcceptanceRecord {
            backup,
            time,
            host: services.host.clone(),
            user: services.user.clone(),
        };
        let acceptances = accepted.into_keys().map(record).collect();
        let state = State { acceptances, ..State::default() };
        services.repository.append_state(state, &services.context)?;
    }
    Ok(Report::new("accept", started, Outcome::Complete, AcceptBody { backups, dry_run }))
}

fn same_content(one: &BackupRecord, other: &BackupRecord) -> bool {
    let content = |record: &BackupRecord| {
        (record.target.clone(), record.database.clone(), record.host.clone(), record.changed)
    };
    one.suspect.is_some() && content(one) == content(other)
}
