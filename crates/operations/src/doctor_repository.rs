//! Tells what is wrong with a repository before somebody needs it: space, locks, keys, damage, and how old the newest
//! backup of each target is. Reads only, and no content.

use crate::reference::short;
use crate::{OperationError, Services, keys};
use flow::{DatabaseName, Finding, Severity, TargetName, TargetRef, quoted};
use jiff::{SignedDuration, Timestamp};
use repository::{BackupRecord, RepositoryErrorKind};
use serde::Serialize;
use std::collections::BTreeMap;

/// A clock that is so far ahead is wrong: less is what two machines differ by.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// What a target's next backup adds is told by so many of its last ones.
const RUNS: usize = 20;

/// A target without a backup is asked for its size where it has no more databases.
const SIZED_MAX: usize = 1000;

/// How old the newest backup of a target is.
#[derive(Debug, Clone, Serialize)]
pub struct NewestBackup {
    /// The target.
    pub target: TargetName,
    /// The host whose backup it is.
    pub host: String,
    /// How many databases of it have backups.
    pub databases: u64,
    /// When the newest of them was made.
    pub newest_backup: Timestamp,
    /// How long ago that was; below 0 where it lies in the future.
    pub age_seconds: i64,
}

/// What was found of one repository.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ExaminedRepository {
    /// Its configured name; null where it has none.
    pub name: Option<String>,
    /// Where it is.
    pub repository: String,
    /// Its id; null where it could not be opened.
    pub repository_id: Option<String>,
    /// Whether this user may write there; null where that was not looked at.
    pub writable: Option<bool>,
    /// What is free where it lies.
    pub free_bytes: Option<u64>,
    /// What the next backup of all targets adds at most, by what their last ones added; null where nobody can tell.
    pub needed_bytes: Option<u64>,
    /// The key file that opened it; null where something else did.
    pub key_file: Option<String>,
    /// Whether a copy of any of its keys was seen to open it.
    pub key_confirmed: Option<bool>,
    /// How many locks lie there, stale ones too.
    pub locks: Option<u64>,
    /// How many of them are stale.
    pub stale_locks: Option<u64>,
    /// How many backups there are.
    pub backups: Option<u64>,
    /// How many of them are known to be damaged.
    pub damaged: Option<u64>,
    /// How many snapshots cannot be listed.
    pub unlisted: Option<u64>,
    /// The newest backup of each target.
    pub targets: Vec<NewestBackup>,
    /// What is wrong, or will be.
    pub findings: Vec<Finding>,
}

/// Examines an open repository, to which these targets are backed up. What is wrong is a finding, not an error of this
/// call.
pub fn examine(services: &Services, expected: &[TargetRef]) -> Result<ExaminedRepository, OperationError> {
    let now = Timestamp::now();
    let repository = &services.repository;
    let mut examined = ExaminedRepository {
        repository: repository.location(),
        repository_id: Some(repository.id().to_owned()),
        ..ExaminedRepository::default()
    };
    let mut attempt = |part: &mut dyn FnMut(&mut ExaminedRepository) -> Result<(), OperationError>| match part(
        &mut examined,
    ) {
        Err(OperationError::Cancelled) => Err(OperationError::Cancelled),
        Err(OperationError::Repository(error)) if error.kind == RepositoryErrorKind::Cancelled => {
            Err(OperationError::Cancelled)
        }
        Err(error) => {
            let hint = error.hint().map(str::to_owned);
            let object = repository.location();
            examined.findings.push(finding(Severity::Problem, object, error.to_string(), hint));
            Ok(())
        }
        Ok(()) => Ok(()),
    };
    attempt(&mut |examined| locks(services, examined))?;
    attempt(&mut |examined| key(services, examined))?;
    attempt(&mut |examined| {
        let records = repository.backups(None, &services.context)?;
        let ours: Vec<BackupRecord> = records.into_iter().filter(|record| record.engine.is_some()).collect();
        examined.backups = Some(ours.len() as u64);
        health(&ours, examined);
        ages(&ours, now, examined);
        examined.needed_bytes = needed(services, &ours, expected);
        Ok(())
    })?;
    attempt(&mut |examined| unlisted(services, examined))?;
    attempt(&mut |examined| {
        examined.free_bytes = repository.usage(&services.context)?.free_bytes;
        space(examined);
        Ok(())
    })?;
    Ok(examined)
}

pub(crate) fn finding(severity: Severity, object: String, message: String, hint: Option<String>) -> Finding {
    Finding { severity, object, message, hint }
}

fn locks(services: &Services, examined: &mut ExaminedRepository) -> Result<(), OperationError> {
    let locks = services.repository.locks()?;
    let stale = locks.iter().filter(|lock| lock.stale.is_some()).count() as u64;
    (examined.locks, examined.stale_locks) = (Some(locks.len() as u64), Some(stale));
    for lock in &locks {
        let object = format!("lock {}", short(&lock.id));
        let (message, hint) = match (&lock.stale, &lock.problem, &lock.holder) {
            (Some(reason), ..) => (format!("is stale: {reason}"), "`backstay unlock` removes it"),
            (_, Some(problem), _) => (
                format!("cannot be read: it {problem}"),
                "`backstay unlock --remove-all`, where nobody is at work",
            ),
            (.., Some(holder)) if holder.exclusive => {
                let who = format!("process {} of {} on {}", holder.pid, holder.user, holder.host);
                (format!("{who} lets nobody else in"), "wait for it, or see whether it is still at work")
            }
            _ => continue,
        };
        examined.findings.push(finding(Severity::Warning, object, message, Some(hint.to_owned())));
    }
    Ok(())
}

fn key(services: &Services, examined: &mut ExaminedRepository) -> Result<(), OperationError> {
    let has_keys = services.repository.keys().is_some();
    let any = |report: crate::report::Report<keys::KeyBody>| {
        report.body.keys.iter().any(|key| key.confirmed.is_some())
    };
    // A copy of whichever key opens it.
    let confirmed = !has_keys || any(keys::list(services)?);
    examined.key_confirmed = Some(confirmed);
    if !confirmed {
        examined.findings.push(finding(
            Severity::Warning,
            services.repository.location(),
            "no copy of a key was seen to open it: where this machine is lost, so are the backups".to_owned(),
            Some("copy the key to a safe place, then: backstay key confirm COPY".to_owned()),
        ));
    }
    Ok(())
}

type Database<'a> = (&'a str, &'a TargetName, &'a DatabaseName);

/// The newest backup of each whole database, an imported one only where there is no other; the records are in the order of
/// their times.
fn newest(records: &[BackupRecord]) -> BTreeMap<Database<'_>, &BackupRecord> {
    let key = |record| -> (Database<'_>, _) {
        let record: &BackupRecord = record;
        ((record.host.as_str(), &record.target, &record.database), record)
    };
    let (imported, made): (Vec<_>, Vec<_>) =
        records.iter().filter(|record| record.selection.is_none()).partition(|record| record.is_imported());
    // A later one takes the place of an earlier one.
    imported.into_iter().chain(made).map(key).collect()
}

/// Names what is known to be damaged or suspect.
fn health(records: &[BackupRecord], examined: &mut ExaminedRepository) {
    const SHOWN: usize = 10;
    let damaged = records.iter().filter(|record| record.proof.is_none()).count() as u64;
    examined.damaged = Some(damaged);
    let newest = newest(records);
    let name = |record: &BackupRecord| format!("{} of {}", record.database, record.target);
    let check = || Some("`backstay check --read-data` names everything that is damaged".to_owned());
    let ill: Vec<&BackupRecord> = newest.values().copied().filter(|record| record.proof.is_none()).collect();
    for record in ill.iter().take(SHOWN) {
        let message = format!("its newest backup, {}, is damaged", short(&record.id.0));
        examined.findings.push(finding(Severity::Problem, name(record), message, check()));
    }
    let others = damaged.saturating_sub(ill.len().min(SHOWN) as u64);
    if others > 0 {
        let message = format!("{others} more of its backups are damaged");
        let severity = if ill.len() > SHOWN { Severity::Problem } else { Severity::Warning };
        examined.findings.push(finding(severity, examined.repository.clone(), message, check()));
    }
    for record in newest.values().filter(|record| record.suspect.is_some()).take(SHOWN) {
        let id = short(&record.id.0);
        let hint = format!(
            "`backstay show {}` tells why, `backstay accept {}` takes the mark away",
            quoted(&id),
            quoted(&id)
        );
        let message = format!("its newest backup, {id}, is suspect: retention waits");
        examined.findings.push(finding(Severity::Warning, name(record), message, Some(hint)));
    }
}

/// Tells how old the newest backups are, and names those that lie in the future.
fn ages(records: &[BackupRecord], now: Timestamp, examined: &mut ExaminedRepository) {
    let mut targets: BTreeMap<(&TargetName, &str), NewestBackup> = BTreeMap::new();
    for ((host, target, _), record) in newest(records) {
        let known = targets.entry((target, host)).or_insert_with(|| NewestBackup {
            target: target.clone(),
            host: host.to_owned(),
            databases: 0,
            newest_backup: record.time,
            age_seconds: 0,
        });
        known.databases += 1;
        known.newest_backup = known.newest_backup.max(record.time);
        known.age_seconds = now.as_second() - known.newest_backup.as_second();
    }
    for target in targets.values() {
        if target.newest_backup.duration_since(now) > SKEW {
            let time = crate::reference::to_the_second(target.newest_backup);
            examined.findings.push(finding(
                Severity::Problem,
                target.target.to_string(),
                format!("its newest backup is of {time}, which is in the future: the clock here or of {} is wrong", target.host),
                Some("set the clocks right (`timedatectl` shows this one); until then `@latest` and retention go by wrong times".to_owned()),
            ));
        }
    }
    examined.targets = targets.into_values().collect();
}

/// Returns what the next backup of each target adds at most, as its last ones did; of one that has none, its size.
fn needed(services: &Services, records: &[BackupRecord], expected: &[TargetRef]) -> Option<u64> {
    let mut runs: BTreeMap<&TargetName, Vec<(&str, u64)>> = BTreeMap::new();
    for record in records.iter().filter(|record| record.host == services.host && !record.is_imported()) {
        let runs = runs.entry(&record.target).or_default();
        match runs.last_mut() {
            Some((snapshot, added)) if record.snapshot == *snapshot => *added += record.added_bytes,
            _ => runs.push((&record.snapshot, record.added_bytes)),
        }
    }
    let of_target = |target: &TargetRef| match runs.get(&target.name) {
        Some(runs) => runs.iter().rev().take(RUNS).map(|(_, added)| *added).max(),
        None => live_size(services, target),
    };
    match expected {
        [] => runs.values().map(|runs| runs.iter().rev().take(RUNS).map(|(_, added)| *added).max()).sum(),
        expected => expected.iter().map(of_target).sum(),
    }
}

fn live_size(services: &Services, target: &TargetRef) -> Option<u64> {
    let engine = services.engines.of(target).ok()?;
    let databases = engine.databases(target, &services.context).ok()?.databases;
    if databases.len() > SIZED_MAX {
        return None;
    }
    let size = |database| engine.size_bytes(database, &services.context).ok();
    databases.iter().map(size).sum()
}

fn unlisted(services: &Services, examined: &mut ExaminedRepository) -> Result<(), OperationError> {
    let unlisted = services.repository.unlisted(&services.context)?;
    examined.unlisted = Some(unlisted.len() as u64);
    if let Some(first) = unlisted.first() {
        let noun = if unlisted.len() == 1 { "1 snapshot" } else { &format!("{} snapshots", unlisted.len()) };
        examined.findings.push(finding(
            Severity::Problem,
            services.repository.location(),
            format!("{noun} cannot be listed, the first is {}: {}", short(&first.snapshot), first.problem),
            Some("`backstay check` names what is damaged".to_owned()),
        ));
    }
    Ok(())
}

fn space(examined: &mut ExaminedRepository) {
    let (Some(free), Some(needed)) = (examined.free_bytes, examined.needed_bytes) else { return };
    let (severity, verb) = match free {
        free if free < needed => (Severity::Problem, "need"),
        free if free / 2 < needed => (Severity::Warning, "soon need more: they need"),
        _ => return,
    };
    examined.findings.push(finding(
        severity,
        examined.repository.clone(),
        format!("{free} bytes are free, and the next backups {verb} up to {needed}"),
        Some("free some space there, or let old backups go: backstay prune --dry-run".to_owned()),
    ));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use flow::EngineKind;
    use repository::{BackupId, Proof, ProofLevel};

    fn record(time: Timestamp) -> BackupRecord {
        BackupRecord {
            id: BackupId("ab".repeat(32)),
            snapshot: "ab".repeat(32).into(),
            target: TargetName::new("erp").unwrap(),
            database: DatabaseName::new("erp.db").unwrap(),
            host: "h".into(),
            engine: Some(EngineKind::Sqlite),
            connection: "/erp.db".into(),
            time,
            changed: time,
            size_bytes: 1,
            added_bytes: 1,
            rows: None,
            selection: None,
            unchanged: false,
            proof: Some(Proof { level: ProofLevel::Stored, time }),
            tags: vec![],
            lost: None,
            original: None,
            suspect: None,
        }
    }

    #[test]
    fn an_import_makes_no_backup_newer_than_it_is() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let made = record(Timestamp::from_second(900_000).unwrap());
        let imported = BackupRecord {
            tags: vec![repository::IMPORTED_TAG.to_owned()],
            proof: None,
            ..record(Timestamp::from_second(999_000).unwrap())
        };
        let mut examined = ExaminedRepository::default();
        ages(&[made.clone(), imported.clone()], now, &mut examined);
        assert_eq!(examined.targets[0].age_seconds, 100_000);
        ages(std::slice::from_ref(&imported), now, &mut examined);
        assert_eq!(examined.targets[0].age_seconds, 1000, "where there is no other");
        health(&[made, imported], &mut examined);
        assert!(
            examined.findings.iter().all(|finding| finding.severity != Severity::Problem),
            "{examined:?}"
        );
    }

    #[test]
    fn a_backup_of_tomorrow_is_a_problem_and_one_of_a_moment_ahead_is_none() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        for (ahead, problems) in [(-60, 0), (60, 0), (86_400, 1)] {
            let time = Timestamp::from_second(1_000_000 + ahead).unwrap();
            let mut examined = ExaminedRepository::default();
            ages(&[record(time)], now, &mut examined);
            assert_eq!(examined.findings.len(), problems, "{examined:?}");
            assert_eq!(examined.targets[0].age_seconds, -ahead);
        }
    }

    #[test]
    fn space_that_is_short_is_a_problem_and_space_that_soon_is_a_warning() {
        for (free, needed, expected) in
            [(99, 100, Some(Severity::Problem)), (150, 100, Some(Severity::Warning)), (300, 100, None)]
        {
            let mut examined = ExaminedRepository {
                free_bytes: Some(free),
                needed_bytes: Some(needed),
                ..ExaminedRepository::default()
            };
            space(&mut examined);
            assert_eq!(examined.findings.first().map(|finding| finding.severity), expected);
        }
    }
}
