//! Checks a repository as a whole.

use crate::report::{Outcome, Report};
use crate::{OperationError, Services};
use flow::{Event, Phase};
use jiff::Timestamp;
use repository::{CheckDepth, Damage};
use serde::Serialize;

/// The report's own part.
#[derive(Debug, Clone, Serialize)]
pub struct CheckBody {
    /// What is damaged, and the backups that it affects.
    pub errors: Vec<Damage>,
    /// What is odd but harmless.
    pub remarks: Vec<String>,
    /// How many snapshots were looked at.
    pub snapshots: u64,
    /// How many packs were looked at.
    pub packs: u64,
    /// How many bytes were read.
    pub bytes_read: u64,
}

/// Checks. Damage is not an error of this call: it is in the report, whose outcome is then `failed`.
pub fn run(services: &Services, depth: CheckDepth) -> Result<Report<CheckBody>, OperationError> {
    let started = Timestamp::now();
    let phase = Phase { name: format!("checking {}", services.repository.location()), total_bytes: None };
    services.context.observer.event(Event::Phase(phase));
    let found = services.repository.check(depth, &services.context)?;
    let outcome = if found.errors.is_empty() { Outcome::Complete } else { Outcome::Failed };
    let body = CheckBody {
        errors: found.errors,
        remarks: found.remarks,
        snapshots: found.snapshots,
        packs: found.packs,
        bytes_read: found.read_bytes,
    };
    Ok(Report::new("check", started, outcome, body))
}
