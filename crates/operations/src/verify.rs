//! Reads back what is stored, every byte, and keeps the outcome in the repository as a proof.

use crate::journaling;
use crate::reference::{Reference, ours_first, resolve};
use crate::report::{Outcome, Report};
use crate::{OperationError, Services, unlisted};
use engines::Skipped;
use flow::{Event, Finding, Phase, Severity};
use jiff::Timestamp;
use repository::{BackupId, BackupRecord, Damage, ProofLevel, ProofRecord, Unlisted};
use serde::Serialize;
use std::collections::BTreeSet;

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// `manifest`, `blobs`.
    pub name: String,
    /// Whether it passed.
    pub passed: bool,
    /// What was seen.
    pub detail: String,
}

/// The verdict on one backup.
#[derive(Debug, Clone, Serialize)]
pub struct VerifyItem {
    /// Its id.
    pub id: BackupId,
    /// The target.
    pub target: String,
    /// The database.
    pub database: String,
    /// Whether every byte is right.
    pub valid: bool,
    /// Size of its entries.
    pub size_bytes: u64,
    /// How old it is.
    pub age_seconds: i64,
    /// Where its time is from: `manifest`.
    pub time_source: &'static str,
    /// What is stored: `restic`.
    pub format: &'static str,
    /// How it is compressed: `zstd`.
    pub compression: &'static str,
    /// What was looked at.
    pub checks: Vec<Check>,
    /// What is wrong with it.
    pub error: Option<String>,
    /// Why its content is suspect, however right its bytes are; null where it is not, or was accepted.
    pub suspect: Option<Vec<String>>,
}

/// How many are right.
#[derive(Debug, Clone, Default, Serialize)]
pub struct VerifySummary {
    /// Backups that were looked at.
    pub total_files: u64,
    /// Those that are right.
    pub valid: u64,
    /// Those that are not.
    pub invalid: u64,
    /// Whether all are right, and there is at least one.
    pub all_valid: bool,
}

/// How fast it went.
#[derive(Debug, Clone, Default, Serialize)]
pub struct VerifyPerformance {
    /// Bytes of content that were read.
    pub bytes_read: u64,
    /// Per second.
    pub bytes_per_second: u64,
    /// Milliseconds.
    pub elapsed_ms: u64,
}

/// The report's own part.
#[derive(Debug, Clone, Serialize)]
pub struct VerifyBody {
    /// How many are right.
    pub summary: VerifySummary,
    /// One for each backup.
    pub files: Vec<VerifyItem>,
    /// What was passed over: nothing, of a repository.
    pub skipped: Vec<Skipped>,
    /// How fast it went.
    pub performance: VerifyPerformance,
}

/// Verifies what the references name: of each database the backup meant; without a reference, the newest backup of
/// every database, or of every place where stock restic made all that is there. Damage is not an error of this call: it
/// is in the report, whose outcome is then `failed`.
pub fn run(
    services: &Services,
    references: &[Reference],
    dry_run: bool,
) -> Result<Report<VerifyBody>, OperationError> {
    let started = Timestamp::now();
    if dry_run {
        return verify_all(services, references, true, started);
    }
    let recorded = journaling::begin(services, "verify", None, started);
    let outcome = verify_all(services, references, false, started);
    match &outcome {
        Ok(report) => journaling::finish(services, &recorded, Ok(&report.with(abridged(&report.body)))),
        Err(error) => journaling::finish::<VerifyBody>(services, &recorded, Err(error)),
    }
    outcome
}

/// Returns what the journal keeps of a verification of very many backups: those that are damaged first.
fn abridged(body: &VerifyBody) -> VerifyBody {
    let (damaged, right): (Vec<_>, Vec<_>) = body.files.iter().partition(|item| item.error.is_some());
    VerifyBody {
        summary: body.summary.clone(),
        files: damaged.into_iter().chain(right).take(journaling::ITEMS_KEPT).cloned().collect(),
        skipped: vec![],
        performance: body.performance.clone(),
    }
}

fn verify_all(
    services: &Services,
    references: &[Reference],
    dry_run: bool,
    started: Timestamp,
) -> Result<Report<VerifyBody>, OperationError> {
    let records = services.repository.backups(None, &services.context)?;
    let left_out = left_out(services, &records, references)?;
    let chosen = choose(services, &records, references, &left_out)?;
    let total = chosen.iter().map(|record| record.size_bytes).sum();
    let noun = if chosen.len() == 1 { "backup" } else { "backups" };
    let phase = Phase { name: format!("verifying {} {noun}", chosen.len()), total_bytes: Some(total) };
    services.context.observer.event(Event::Phase(phase));
    let mut body = VerifyBody {
        summary: VerifySummary::default(),
        files: vec![],
        skipped: vec![],
        performance: VerifyPerformance::default(),
    };
    body.files.extend(left_out.iter().map(of_unlisted));
    let mut proofs = Vec::new();
    let mut outcome = Ok(());
    for record in chosen {
        if dry_run {
            body.files.push(item(&record, vec![], None));
            continue;
        }
        if let Some(reason) = &record.lost {
            let lost = Check { name: "blobs".to_owned(), passed: false, detail: reason.clone() };
            body.files.push(item(&record, vec![lost], Some(format!("it is lost: {reason}"))));
            continue;
        }
        match verify(services, &record, &mut body) {
            Ok(proof) => proofs.push(proof),
            Err(error) => {
                outcome = Err(error);
                break;
            }
        }
    }
    // What was proven before an interruption is kept: it was paid for.
    if !proofs.is_empty() {
        keep(services, proofs);
    }
    outcome?;
    close(&mut body, started);
    let all = body.summary.all_valid || dry_run;
    Ok(Report::new("verify", started, if all { Outcome::Complete } else { Outcome::Failed }, body))
}

fn choose(
    services: &Services,
    records: &[BackupRecord],
    references: &[Reference],
    left_out: &[Unlisted],
) -> Result<Vec<BackupRecord>, OperationError> {
    if references.is_empty() {
        let mut newest = std::collections::BTreeMap::new();
        for record in ours_first(records.iter().collect()) {
            let key = (&record.target, &record.database, &record.host);
            let slot = newest.entry(key).or_insert(record);
            if record.time > slot.time {
                *slot = record;
            }
        }
        if newest.is_empty() && left_out.is_empty() {
            return Err(OperationError::usage(
                format!("{} holds no backup to verify", services.repository.location()),
                "make one with `backstay backup SOURCE`".to_owned(),
            ));
        }
        return Ok(newest.into_values().cloned().collect());
    }
    let mut seen = BTreeSet::new();
    let mut chosen = Vec::new();
    for reference in references {
        let found = match resolve(records, reference, &services.host) {
            Ok(found) => found,
            // What it names is there, and cannot be listed.
            Err(_) if !unlisted::meant(left_out, records, reference, &[], &services.host).is_empty() => {
                vec![]
            }
            Err(error) => return Err(error),
        };
        for record in found {
            if seen.insert(record.id.clone()) {
                chosen.push(record);
            }
        }
    }
    Ok(chosen)
}

/// Returns the snapshots that cannot be listed and may hold what is to be verified: none of them is right.
fn left_out(
    services: &Services,
    records: &[BackupRecord],
    references: &[Reference],
) -> Result<Vec<Unlisted>, OperationError> {
    let mut unlisted = services.repository.unlisted(&services.context)?;
    if references.is_empty() {
        unlisted.retain(|unlisted| {
            let same = |record: &&BackupRecord| {
                unlisted.target.as_ref().is_none_or(|target| record.target == *target)
                    && unlisted.host.as_ref().is_none_or(|host| record.host == *host)
            };
            let newest = records.iter().filter(same).map(|record| record.time).max();
            unlisted.time.is_none() || newest.is_none_or(|newest| unlisted.time > Some(newest))
        });
        return Ok(unlisted);
    }
    let mut meant = BTreeSet::new();
    for reference in references {
        let found = resolve(records, reference, &services.host).unwrap_or_default();
        let named = unlisted::meant(&unlisted, records, reference, &found, &services.host);
        meant.extend(named.into_iter().map(|unlisted| unlisted.snapshot.clone()));
    }
    unlisted.retain(|unlisted| meant.contains(&unlisted.snapshot));
    Ok(unlisted)
}

fn of_unlisted(unlisted: &Unlisted) -> VerifyItem {
    let check = Check { name: "list".to_owned(), passed: false, detail: unlisted.problem.clone() };
    VerifyItem {
        id: BackupId(unlisted.snapshot.clone()),
        target: unlisted.target.as_ref().map(ToString::to_string).unwrap_or_default(),
        database: String::new(),
        valid: false,
        size_bytes: 0,
        age_seconds: unlisted.time.map_or(0, |time| Timestamp::now().as_second() - time.as_second()),
        time_source: "manifest",
        format: "restic",
        compression: "zstd",
        checks: vec![check],
        error: Some(format!("it cannot be listed: {}", unlisted.problem)),
        suspect: None,
    }
}

fn verify(
    services: &Services,
    record: &BackupRecord,
    body: &mut VerifyBody,
) -> Result<ProofRecord, OperationError> {
    let time = Timestamp::now();
    let found = services.repository.verify(&record.id, &services.context)?;
    body.performance.bytes_read += found.read_bytes;
    let problem = found.errors.first().map(|damage| format!("{} {}", damage.object, damage.problem));
    let mut checks = vec![Check {
        name: "blobs".to_owned(),
        passed: problem.is_none(),
        detail: match found.errors.len() {
            0 => format!("{} bytes were read back and their hashes match", found.read_bytes),
            1 => "1 object is missing or damaged".to_owned(),
            count => format!("{count} objects are missing or damaged"),
        },
    }];
    checks.extend(found.errors.iter().map(|damage| Check {
        name: damage.object.clone(),
        passed: false,
        detail: damage.problem.clone(),
    }));
    body.files.push(item(record, checks, problem.clone()));
    Ok(ProofRecord {
        backup: record.id.clone(),
        time,
        level: problem.is_none().then_some(ProofLevel::Stored),
        problem,
        damaged_packs: packs_of(&found.errors),
        host: services.host.clone(),
        rows: std::collections::BTreeMap::new(),
    })
}

/// Returns the packs that are damaged, each once.
fn packs_of(errors: &[Damage]) -> Vec<String> {
    let packs: BTreeSet<&String> = errors.iter().flat_map(|damage| &damage.packs).collect();
    packs.into_iter().cloned().collect()
}

fn item(record: &BackupRecord, checks: Vec<Check>, error: Option<String>) -> VerifyItem {
    VerifyItem {
        id: record.id.clone(),
        target: record.target.to_string(),
        database: record.database.to_string(),
        valid: error.is_none() && !checks.is_empty(),
        size_bytes: record.size_bytes,
        age_seconds: Timestamp::now().as_second() - record.time.as_second(),
        time_source: "manifest",
        format: "restic",
        compression: "zstd",
        checks,
        error,
        suspect: record.suspect.clone(),
    }
}

/// A proof that cannot be kept (a repository that may only be read) is worth a remark, and no more: what was read was
/// read.
pub(crate) fn keep(services: &Services, proofs: Vec<ProofRecord>) {
    if let Err(error) = services.repository.append_proofs(proofs, &services.context) {
        services.context.observer.event(Event::Finding(Finding {
            severity: Severity::Warning,
            object: services.repository.location(),
            message: format!("the proof cannot be kept in the repository: {error}"),
            hint: error.hint,
        }));
    }
}

fn close(body: &mut VerifyBody, started: Timestamp) {
    let valid = body.files.iter().filter(|item| item.valid).count();
    body.summary = VerifySummary {
        total_files: body.files.len() as u64,
        valid: valid as u64,
        invalid: (body.files.len() - valid) as u64,
        all_valid: valid == body.files.len() && valid > 0,
    };
    let elapsed_ms = crate::report::elapsed_ms(started, Timestamp::now());
    body.performance.elapsed_ms = elapsed_ms;
    body.performance.bytes_per_second = body.performance.bytes_read.saturating_mul(1000) / elapsed_ms.max(1);
}
