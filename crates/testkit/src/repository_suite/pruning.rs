//! The promises of [`repository::Repository::prune`] and [`repository::Repository::unlisted`].

use super::{FreshRepository, begin_of, content, database, dumped, list, open, target};
use crate::memory_backup::MemoryPart;
use crate::suite::{Check, Outcome, ensure, text};
use flow::DatabaseRef;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use repository::retention::{PruneScope, PruneSelector, Rules};
use repository::{
    BackupId, ConfigurationRecord, ProofLevel, ProofRecord, PruneReport, PruneRequest, RepositoryErrorKind,
    State,
};
use std::collections::{BTreeMap, BTreeSet};

pub(super) const CHECKS: [Check<FreshRepository>; 8] = [
    ("prune removes what no rule keeps, and it is NoBackup then", removes),
    ("prune never removes the newest proven backup", newest_proven),
    ("prune keeps a snapshot while any database in it is kept", shared),
    ("prune leaves alone what no scope selects", of_scope),
    ("a dry run of prune tells the same and changes nothing", dry_run),
    ("prune keeps what is known of backups that stay", known),
    ("what cannot be listed is unlisted", unlisted),
    ("prune never removes what cannot be listed", unlisted_stays),
];

fn request(selector: PruneSelector, last: u32) -> PruneRequest {
    let rules = Rules { last, ..Rules::default() };
    PruneRequest {
        scopes: vec![PruneScope { selector, rules, zone: TimeZone::UTC, hold_ages: false }],
        now: Timestamp::from_second(1_790_100_000).unwrap_or_default(),
        dry_run: false,
        forget_only: false,
    }
}

fn prune(subject: &FreshRepository, last: u32) -> Result<PruneReport, String> {
    let request = request(PruneSelector::default(), last);
    (subject.reopen)().prune(&request, &subject.context).map_err(text)
}

fn ids(report: &PruneReport, kept: bool) -> BTreeSet<BackupId> {
    let fitting = report.verdicts.iter().filter(|verdict| verdict.kept == kept);
    fitting.map(|verdict| verdict.backup.id.clone()).collect()
}

fn listed(subject: &FreshRepository) -> Result<BTreeSet<BackupId>, String> {
    Ok(list(subject)?.into_iter().map(|record| record.id).collect())
}

/// Stores databases of a target as of a second and returns their ids.
fn run_of(
    subject: &FreshRepository,
    name: &str,
    second: i64,
    databases: &[&str],
) -> Result<Vec<BackupId>, String> {
    let writer = begin_of(subject, name, "host", second)?;
    for one in databases {
        let database = DatabaseRef { target: target(name), ..database(one) };
        let part = MemoryPart::new(content(second as u64));
        writer.part(open(&database, "image", 0, part)).map_err(text)?;
        let mut dumped = dumped(&[("image", 1)], second as u64);
        dumped.facts.consistency.time = Timestamp::from_second(1_790_000_000 + second).map_err(text)?;
        writer.done(&database, dumped).map_err(text)?;
    }
    let report = writer.commit().map_err(text)?;
    Ok(report.databases.into_iter().map(|one| one.record.id).collect())
}

fn three(subject: &FreshRepository) -> Result<Vec<BackupId>, String> {
    let runs: Result<Vec<_>, _> =
        [1, 20, 30].iter().map(|second| run_of(subject, "shops", *second, &["one"])).collect();
    Ok(runs?.into_iter().flatten().collect())
}

fn removes(subject: &FreshRepository) -> Outcome {
    let made = three(subject)?;
    let report = subject.repository.prune(&request(PruneSelector::default(), 2), &subject.context);
    let report = report.map_err(text)?;
    let expected: BTreeSet<BackupId> = made[1..].iter().cloned().collect();
    ensure!(ids(&report, true) == expected, "kept is {:?}", ids(&report, true));
    ensure!(ids(&report, false) == BTreeSet::from([made[0].clone()]), "{:?}", ids(&report, false));
    ensure!(report.snapshots == 1, "{} snapshots went", report.snapshots);
    ensure!(report.verdicts.iter().all(|verdict| !verdict.reasons.is_empty()), "a reason is missing");
    ensure!(listed(subject)? == expected, "listed is {:?}", listed(subject)?);
    for repository in [subject.repository.clone(), (subject.reopen)()] {
        let gone = repository.open(&made[0], &subject.context).map(drop).map_err(|error| error.kind);
        ensure!(gone == Err(RepositoryErrorKind::NoBackup), "what went gives {gone:?}");
        let report = repository.verify(&made[1], &subject.context).map_err(text)?;
        ensure!(report.errors.is_empty(), "what stays is damaged: {:?}", report.errors);
    }
    ensure!(ids(&prune(subject, 2)?, false).is_empty(), "a second one removes more");
    Ok(())
}

fn said(backup: &BackupId, level: Option<ProofLevel>) -> ProofRecord {
    ProofRecord {
        backup: backup.clone(),
        time: Timestamp::from_second(1_790_090_000).unwrap_or_default(),
        level,
        problem: None,
        damaged_packs: vec![],
        host: "host".to_owned(),
        rows: BTreeMap::new(),
    }
}

fn newest_proven(subject: &FreshRepository) -> Outcome {
    let made = three(subject)?;
    let damaged = made[1..].iter().map(|id| said(id, None)).collect();
    subject.repository.append_proofs(damaged, &subject.context).map_err(text)?;
    let report = prune(subject, 1)?;
    ensure!(listed(subject)?.contains(&made[0]), "it went: {:?}", report.verdicts);
    Ok(())
}

fn shared(subject: &FreshRepository) -> Outcome {
    let mut made = run_of(subject, "shops", 1, &["one", "two"])?;
    made.extend(run_of(subject, "shops", 20, &["one"])?);
    let report = prune(subject, 1)?;
    let expected: BTreeSet<BackupId> = made.into_iter().collect();
    ensure!(listed(subject)? == expected, "listed is {:?}", listed(subject)?);
    ensure!(ids(&report, true) == expected, "kept is {:?}", ids(&report, true));
    Ok(())
}

fn of_scope(subject: &FreshRepository) -> Outcome {
    let made = three(subject)?;
    let mut others = BTreeSet::new();
    for second in [40, 41] {
        others.extend(run_of(subject, "bank", second, &["one"])?);
    }
    let selector = PruneSelector { target: Some(target("shops")), ..PruneSelector::default() };
    let report = subject.repository.prune(&request(selector, 1), &subject.context).map_err(text)?;
    ensure!(others.is_subset(&listed(subject)?), "another target's went");
    ensure!(!listed(subject)?.contains(&made[0]), "nothing went");
    ensure!(report.verdicts.len() == 3, "it tells of {:?}", report.verdicts);
    Ok(())
}

fn dry_run(subject: &FreshRepository) -> Outcome {
    let made: BTreeSet<BackupId> = three(subject)?.into_iter().collect();
    let dry = PruneRequest { dry_run: true, ..request(PruneSelector::default(), 1) };
    let told = (subject.reopen)().prune(&dry, &subject.context).map_err(text)?;
    ensure!(listed(subject)? == made, "something went");
    let done = prune(subject, 1)?;
    ensure!(told.verdicts == done.verdicts && told.snapshots == done.snapshots, "it told {told:?}");
    Ok(())
}

fn known(subject: &FreshRepository) -> Outcome {
    let made = three(subject)?;
    let configuration = ConfigurationRecord {
        host: "host".to_owned(),
        file: "/etc/backstay/config.toml".to_owned(),
        time: Timestamp::from_second(1_790_080_000).unwrap_or_default(),
        text: "repository = \"main\"".to_owned(),
        repository: None,
        key_file: None,
    };
    let proof = said(&made[2], Some(ProofLevel::Equal));
    let configurations = State { configurations: [configuration].into_iter().collect(), ..State::default() };
    subject.repository.append_state(configurations.clone(), &subject.context).map_err(text)?;
    subject.repository.append_proofs(vec![proof.clone()], &subject.context).map_err(text)?;
    prune(subject, 1)?;
    let found = (subject.reopen)().state(&subject.context).map_err(text)?;
    ensure!(found.configurations == configurations.configurations, "kept is {found:?}");
    ensure!(found.proofs.get(&made[2]) == Some(&proof), "kept is {found:?}");
    Ok(())
}

fn unlisted(subject: &FreshRepository) -> Outcome {
    let made = three(subject)?;
    let all = (subject.reopen)().unlisted(&subject.context).map_err(text)?;
    ensure!(all.is_empty(), "before any damage {all:?} is unlisted");
    let Some(hide) = &subject.hide else { return Ok(()) };
    hide(&made[2]);
    let expected: BTreeSet<BackupId> = made[..2].iter().cloned().collect();
    ensure!(listed(subject)? == expected, "listed is {:?}", listed(subject)?);
    let found = (subject.reopen)().unlisted(&subject.context).map_err(text)?;
    let [hidden] = found.as_slice() else { return Err(format!("unlisted is {found:?}")) };
    ensure!(hidden.snapshot == made[2].0, "unlisted is {hidden:?}");
    ensure!(hidden.target == Some(target("shops")), "its target is {:?}", hidden.target);
    ensure!(hidden.host.as_deref() == Some("host") && hidden.time.is_some(), "it is {hidden:?}");
    ensure!(!hidden.problem.is_empty(), "no problem is told");
    Ok(())
}

fn unlisted_stays(subject: &FreshRepository) -> Outcome {
    let made = three(subject)?;
    let Some(hide) = &subject.hide else { return Ok(()) };
    hide(&made[0]);
    // Space is not freed where nobody knows what is needed.
    let forget = PruneRequest { forget_only: true, ..request(PruneSelector::default(), 1) };
    let report = (subject.reopen)().prune(&forget, &subject.context).map_err(text)?;
    ensure!(report.unlisted == 1, "it tells of {} unlisted ones", report.unlisted);
    ensure!(listed(subject)? == BTreeSet::from([made[2].clone()]), "listed is {:?}", listed(subject)?);
    let found = (subject.reopen)().unlisted(&subject.context).map_err(text)?;
    ensure!(found.len() == 1 && found[0].snapshot == made[0].0, "unlisted is {found:?}");
    Ok(())
}
