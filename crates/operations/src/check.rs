//! Checks a repository as a whole.

use crate::report::{Outcome, Report};
use crate::{OperationError, Services, verify};
use flow::{Event, Phase};
use jiff::Timestamp;
use repository::{CheckDepth, Damage, ProofRecord};
use serde::Serialize;
use std::collections::BTreeMap;

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
    /// How many packs were read.
    pub packs_read: u64,
    /// How much of the packs' bytes was to be read, in percent; null where only the structure was.
    pub read_data_percent: Option<f64>,
    /// Which packs were read: `all`; `rotating`, those that earlier checks left longest; or `random`, where nobody knows
    /// which these are. Null where only the structure was looked at.
    pub selection: Option<&'static str>,
}

/// Checks. Damage is not an error of this call: it is in the report, whose outcome is then `failed`.
pub fn run(services: &Services, depth: CheckDepth) -> Result<Report<CheckBody>, OperationError> {
    let started = Timestamp::now();
    let phase = Phase { name: format!("checking {}", services.repository.location()), total_bytes: None };
    services.context.observer.event(Event::Phase(phase));
    let found = services.repository.check(depth, &services.context)?;
    remember(services, &found.errors);
    let outcome = if found.errors.is_empty() { Outcome::Complete } else { Outcome::Failed };
    let body = CheckBody {
        errors: found.errors,
        remarks: found.remarks,
        snapshots: found.snapshots,
        packs: found.packs,
        bytes_read: found.read_bytes,
        packs_read: found.read_packs,
        read_data_percent: match depth {
            CheckDepth::Structure => None,
            CheckDepth::Data => Some(100.0),
            CheckDepth::Share { hundredths } => Some(f64::from(hundredths) / 100.0),
        },
        selection: match (depth, found.rotating) {
            (CheckDepth::Structure, _) => None,
            (CheckDepth::Data, _) => Some("all"),
            (CheckDepth::Share { .. }, Some(true)) => Some("rotating"),
            (CheckDepth::Share { .. }, _) => Some("random"),
        },
    };
    Ok(Report::new("check", started, outcome, body))
}

/// Keeps what was found in the repository: the list shows it, a restore does not try it, and the next backup stores
/// anew what the damaged packs held. Of backups that are ours and not known to be damaged already.
fn remember(services: &Services, errors: &[Damage]) {
    if errors.is_empty() {
        return;
    }
    // A repository that cannot even be listed keeps nothing more.
    let Ok(records) = services.repository.backups(None, &services.context) else { return };
    let time = Timestamp::now();
    let mut proofs = Vec::new();
    for record in records.iter().filter(|record| record.engine.is_some() && record.proof.is_some()) {
        let affecting: Vec<&Damage> =
            errors.iter().filter(|damage| damage.backups.contains(&record.id)).collect();
        let Some(first) = affecting.first() else { continue };
        let mut packs: Vec<String> = affecting.iter().flat_map(|damage| damage.packs.clone()).collect();
        packs.sort();
        packs.dedup();
        proofs.push(ProofRecord {
            backup: record.id.clone(),
            time,
            level: None,
            problem: Some(format!("{} {}", first.object, first.problem)),
            host: services.host.clone(),
            rows: BTreeMap::new(),
            damaged_packs: packs,
        });
    }
    if !proofs.is_empty() {
        verify::keep(services, proofs);
    }
}
