//! The promises of [`repository::Repository::prune`] and [`repository::Repository::unlisted`].

use super::{
    FreshRepository, begin_of, content, database, dumped, list, open, request as run_request, target,
};
use crate::memory_backup::MemoryPart;
use crate::suite::{Check, Outcome, ensure, text};
use flow::DatabaseRef;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use repository::retention::{PruneScope, PruneSelector, Rules, Verdict};
use repository::{
    BackupId, BackupRecord, ConfigurationRecord, IMPORTED_TAG, ProofLevel, ProofRecord, PruneReport,
    PruneRequest, RepositoryErrorKind, SnapshotRequest, SnapshotWriter, State, Wanted,
};
use std::collections::{BTreeMap, BTreeSet};

pub(super) const CHECKS: [Check<FreshRepository>; 11] = [
    ("prune removes what no rule keeps, and it is NoBackup then", removes),
    ("prune never removes the newest proven backup", newest_proven),
    ("prune takes no import for what a run made", imports),
    ("prune keeps a snapshot while any database in it is kept", shared),
    ("prune leaves alone what no scope selects", of_scope),
    ("a dry run of prune tells the same and changes nothing", dry_run),
    ("prune keeps what is known of backups that stay", known),
    ("prune_if_any removes what prune would, and nothing where nothing goes", if_any),
    ("the backups that are asked for are those of the list", asked_for),
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
    fitting.map(|verdict| verdict.backup.id()).collect()
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
    fill(begin_of(subject, name, "host", second)?, name, second, databases)
}

/// Stores databases as a file of another tool held them.
fn import_of(
    subject: &FreshRepository,
    name: &str,
    second: i64,
    databases: &[&str],
) -> Result<Vec<BackupId>, String> {
    let tags = vec![IMPORTED_TAG.to_owned()];
    let request = SnapshotRequest { tags, ..run_request(name, None, "host", second)? };
    let writer = subject.repository.begin(request, &subject.context).map_err(text)?;
    fill(writer, name, second, databases)
}

fn fill(
    writer: Box<dyn SnapshotWriter>,
    name: &str,
    second: i64,
    databases: &[&str],
) -> Result<Vec<BackupId>, String> {
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

fn imports(subject: &FreshRepository) -> Outcome {
    let old = import_of(subject, "shops", 1, &["one"])?;
    let mut made = run_of(subject, "shops", 20, &["one"])?;
    made.extend(import_of(subject, "shops", 30, &["one"])?);
    let report = prune(subject, 1)?;
    let expected: BTreeSet<BackupId> = made.iter().cloned().collect();
    ensure!(ids(&report, false) == BTreeSet::from([old[0].clone()]), "{:?}", report.verdicts);
    ensure!(listed(subject)? == expected, "what the run made went: {:?}", report.verdicts);
    let last: BTreeSet<BackupId> = run_of(subject, "shops", 40, &["one"])?.into_iter().collect();
    let report = prune(subject, 1)?;
    ensure!(listed(subject)? == last, "behind a newer run {:?}", report.verdicts);
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

fn if_any(subject: &FreshRepository) -> Outcome {
    let made = three(subject)?;
    let two = request(PruneSelector::default(), 2);
    let dry = PruneRequest { dry_run: true, ..two.clone() };
    let (opened, context) = ((subject.reopen)(), &subject.context);
    let expected = opened.prune(&dry, context).map_err(text)?;
    let shown = opened.prune_if_any(&dry, &|_| true, context).map_err(text)?;
    ensure!(shown.verdicts == expected.verdicts && listed(subject)?.len() == 3, "a dry run: {shown:?}");
    let asked = std::cell::RefCell::new(Vec::new());
    let leaves = |verdicts: &[Verdict]| {
        asked.borrow_mut().push(verdicts.to_vec());
        true
    };
    let report = opened.prune_if_any(&two, &leaves, context).map_err(text)?;
    ensure!(report.verdicts == expected.verdicts && report.snapshots == 1, "it did {report:?}");
    ensure!(asked.borrow().as_slice() == [expected.verdicts], "what it asked about is another");
    let left: BTreeSet<BackupId> = made[1..].iter().cloned().collect();
    ensure!(listed(subject)? == left, "left is {:?}", listed(subject)?);
    let report = opened.prune_if_any(&two, &leaves, context).map_err(text)?;
    ensure!(report.snapshots == 0 && report.verdicts.iter().all(|one| one.kept), "again {report:?}");
    ensure!(asked.borrow().len() == 1, "it asked although nothing goes");
    ensure!(listed(subject)? == left, "a second one removed more");
    Ok(())
}

fn asked_for(subject: &FreshRepository) -> Outcome {
    let first = run_of(subject, "shops", 1, &["one", "two"])?;
    let later = [run_of(subject, "bank", 5, &["one"])?, run_of(subject, "shops", 20, &["one"])?].concat();
    let (repository, context) = ((subject.reopen)(), &subject.context);
    let all = repository.backups(None, context).map_err(text)?;
    ensure!(all.len() == 4, "listed is {all:?}");
    let one = database("one");
    for wanted in [
        Wanted::All,
        Wanted::Target(target("shops")),
        Wanted::Database(target("shops"), one.name.clone()),
        Wanted::Place(one.connection.clone()),
        Wanted::Place("/nowhere".to_owned()),
        Wanted::Snapshot(first[0].snapshot().to_owned()),
    ] {
        let expected: Vec<&BackupId> =
            all.iter().filter(|record| wanted.fits(record)).map(|record| &record.id).collect();
        let found = repository.backups_of(&wanted, context).map_err(text)?;
        let found: Vec<&BackupId> = found.iter().map(|record| &record.id).collect();
        ensure!(found == expected, "of {wanted:?} {found:?} are listed");
        let mut shown = Vec::new();
        let mut take = |record: BackupRecord| shown.push(record.id);
        repository.each_backup(&wanted, context, &mut take).map_err(text)?;
        ensure!(shown.iter().collect::<Vec<_>>() == expected, "of {wanted:?} {shown:?} are shown");
        let unlisted = repository.unlisted_of(&wanted, context).map_err(text)?;
        ensure!(unlisted.is_empty(), "before any damage {unlisted:?} is unlisted");
    }
    let Some(hide) = &subject.hide else { return Ok(()) };
    hide(&later[0]);
    let repository = (subject.reopen)();
    for (wanted, count) in
        [(Wanted::All, 1), (Wanted::Target(target("bank")), 1), (Wanted::Target(target("shops")), 0)]
    {
        let unlisted = repository.unlisted_of(&wanted, context).map_err(text)?;
        ensure!(unlisted.len() == count, "of {wanted:?} {unlisted:?} is unlisted");
    }
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
