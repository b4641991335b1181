//! Checks a repository as a whole, and heals it where that is wanted.
//!
//! What is found damaged is kept in the repository, so that nothing new relies on it. A heal that is killed can be
//! repeated; what it could not bring back, the next backup of the source does.

use crate::report::{Outcome, Report};
use crate::{OperationError, Services, journaling, verify};
use flow::{Event, Phase};
use jiff::Timestamp;
use repository::{
    BackupId, CheckDepth, CheckReport, Damage, HealAction, HealReport, HealRequest, ProofRecord,
    RepositoryError, RepositoryErrorKind,
};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

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
    /// Whether it was to heal.
    pub heal: bool,
    /// What was done about what is damaged, or would be.
    pub actions: Vec<HealAction>,
    /// The backups that still lack something after a heal, until a backup of their source brings it back; of a dry run
    /// those that need what is damaged.
    pub affected: Vec<BackupId>,
    /// The snapshots that are gone, since nobody can read what they said.
    pub removed_snapshots: Vec<String>,
    /// Whether nothing was done but telling.
    pub dry_run: bool,
}

/// Checks. Damage is not an error of this call: it is in the report, whose outcome is then `failed`. What is interrupted
/// while it keeps what it found is interrupted.
pub fn run(services: &Services, depth: CheckDepth) -> Result<Report<CheckBody>, OperationError> {
    let started = Timestamp::now();
    tell_phase(services, "checking");
    let found = services.repository.check(depth, &services.context).map_err(interrupted)?;
    remember(services, &found.errors);
    services.context.cancel.check().map_err(|_| OperationError::Cancelled)?;
    let outcome = if found.errors.is_empty() { Outcome::Complete } else { Outcome::Failed };
    Ok(Report::new("check", started, outcome, body(found, depth)))
}

/// Checks, and mends what can be mended. The outcome is `failed` where backups still lack something afterwards, or are
/// gone; of a dry run where anything is damaged.
pub fn heal(services: &Services, request: &HealRequest) -> Result<Report<CheckBody>, OperationError> {
    let started = Timestamp::now();
    tell_phase(services, "healing");
    if request.dry_run {
        return healed(services, request, started);
    }
    let recorded = journaling::begin(services, "heal", None, started);
    let outcome = healed(services, request, started);
    journaling::finish(services, &recorded, outcome.as_ref());
    outcome
}

fn healed(
    services: &Services,
    request: &HealRequest,
    started: Timestamp,
) -> Result<Report<CheckBody>, OperationError> {
    let HealRequest { depth, dry_run, .. } = *request;
    let done = services.repository.heal(request, &services.context).map_err(interrupted)?;
    let HealReport { found, actions, affected, removed_snapshots } = done;
    let is_whole = match dry_run {
        true => found.errors.is_empty(),
        false => affected.is_empty() && removed_snapshots.is_empty(),
    };
    let body = CheckBody { heal: true, actions, affected, removed_snapshots, dry_run, ..body(found, depth) };
    let outcome = if is_whole { Outcome::Complete } else { Outcome::Failed };
    Ok(Report::new("check", started, outcome, body))
}

fn interrupted(error: RepositoryError) -> OperationError {
    match error.kind {
        RepositoryErrorKind::Cancelled => OperationError::Cancelled,
        _ => error.into(),
    }
}

fn tell_phase(services: &Services, what: &str) {
    let phase = Phase { name: format!("{what} {}", services.repository.location()), total_bytes: None };
    services.context.observer.event(Event::Phase(phase));
}

fn body(found: CheckReport, depth: CheckDepth) -> CheckBody {
    CheckBody {
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
        heal: false,
        actions: vec![],
        affected: vec![],
        removed_snapshots: vec![],
        dry_run: false,
    }
}

/// Keeps what was found in the repository: the list shows it, a restore does not try it, and the next backup stores
/// anew what the damaged packs held. Of backups that are ours and not known to be damaged already.
fn remember(services: &Services, errors: &[Damage]) {
    if errors.is_empty() {
        return;
    }
    // A repository that cannot even be listed keeps nothing more.
    let Ok(records) = services.repository.backups(None, &services.context) else { return };
    let mut affected: HashMap<&BackupId, Vec<&Damage>> = HashMap::new();
    for damage in errors {
        damage.backups.iter().for_each(|backup| affected.entry(backup).or_default().push(damage));
    }
    let time = Timestamp::now();
    let mut proofs = Vec::new();
    for record in records.iter().filter(|record| record.engine.is_some() && record.proof.is_some()) {
        let Some(affecting) = affected.get(&record.id) else { continue };
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
