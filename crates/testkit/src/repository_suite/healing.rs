//! The promises of [`repository::Repository::heal`] and [`repository::Repository::settle`].

use super::{FreshRepository, begin, both, database, image, list, only_id, store};
use crate::suite::{Check, Outcome, ensure, text};
use repository::{BackupId, BackupRecord, CheckDepth, HealRequest, RepositoryErrorKind, Settled};

pub(super) const CHECKS: [Check<FreshRepository>; 5] = [
    ("a dry run of heal tells and changes nothing", dry_run),
    ("heal names the backups that still lack something", names),
    ("what the source brings back is whole again", brought_back),
    ("what nothing brings back is lost, listed and refused", lost),
    ("settle does nothing where nothing is open", nothing_open),
];

fn request(dry_run: bool) -> HealRequest {
    HealRequest { depth: CheckDepth::Data, dry_run, accept_missing: false }
}

/// Stores a database as of a second and settles what is open; returns the backup's id.
fn run_of(subject: &FreshRepository, seed: u64, second: i64) -> Result<(BackupId, Settled), String> {
    let writer = begin(subject, "host", second)?;
    store(&*writer, &database("one"), seed, second as u64)?;
    let report = writer.commit().map_err(text)?;
    let settled = (subject.reopen)().settle(&report.snapshot, &subject.context).map_err(text)?;
    Ok((only_id(&report)?, settled))
}

fn record(subject: &FreshRepository, id: &BackupId) -> Result<BackupRecord, String> {
    let found = list(subject)?.into_iter().find(|record| record.id == *id);
    found.ok_or_else(|| format!("{id} is not listed"))
}

fn dry_run(subject: &FreshRepository) -> Outcome {
    let Some(damage) = &subject.damage else { return Ok(()) };
    let (id, _) = run_of(subject, 1, 1)?;
    damage(&id);
    let found = (subject.reopen)().heal(&request(true), &subject.context).map_err(text)?;
    ensure!(found.affected.contains(&id), "it names {:?}", found.affected);
    ensure!(!found.actions.is_empty(), "it tells of no action");
    let report = (subject.reopen)().check(CheckDepth::Data, &subject.context).map_err(text)?;
    ensure!(report.errors == found.found.errors, "after a dry run a check finds {:?}", report.errors);
    let (_, settled) = run_of(subject, 9, 20)?;
    ensure!(settled == Settled::default(), "it left something open: {settled:?}");
    Ok(())
}

fn names(subject: &FreshRepository) -> Outcome {
    let whole = (subject.reopen)().heal(&request(false), &subject.context).map_err(text)?;
    ensure!(whole.affected.is_empty() && whole.actions.is_empty(), "of a sound one it tells {whole:?}");
    let Some(damage) = &subject.damage else { return Ok(()) };
    let (id, _) = run_of(subject, 1, 1)?;
    damage(&id);
    let found = (subject.reopen)().heal(&request(false), &subject.context).map_err(text)?;
    let damaged = found.found.errors.iter().any(|damage| damage.backups.contains(&id));
    ensure!(damaged, "it found {:?}", found.found.errors);
    ensure!(found.affected.contains(&id), "it names {:?}", found.affected);
    ensure!(list(subject)?.iter().all(|record| record.proof.is_none()), "it is still said to be proven");
    let errors = (subject.reopen)().verify(&id, &subject.context).map_or(1, |report| report.errors.len());
    ensure!(errors > 0, "verify found nothing");
    Ok(())
}

fn brought_back(subject: &FreshRepository) -> Outcome {
    let Some(damage) = &subject.damage else { return Ok(()) };
    let (id, _) = run_of(subject, 1, 1)?;
    damage(&id);
    (subject.reopen)().heal(&request(false), &subject.context).map_err(text)?;
    let (newer, settled) = run_of(subject, 1, 20)?;
    let records = list(subject)?;
    let Some(oldest) = records.iter().find(|record| record.id != newer).filter(|_| records.len() == 2) else {
        return Err(format!("listed is {records:?}"));
    };
    // What describes a backup may be damaged with it: then it is lost, and nobody may say that it is whole.
    if oldest.lost.is_some() {
        ensure!(!settled.healed.contains(&oldest.id), "what is lost is said to be whole");
        return Ok(());
    }
    ensure!(settled.healed.contains(&oldest.id), "settled is {settled:?}");
    ensure!(image(subject, &oldest.id)? == both(1), "another content came back");
    ensure!(oldest.proof.is_some(), "it is not proven again");
    let report = (subject.reopen)().check(CheckDepth::Data, &subject.context).map_err(text)?;
    ensure!(report.errors.is_empty(), "a check finds {:?}", report.errors);
    Ok(())
}

fn lost(subject: &FreshRepository) -> Outcome {
    let Some(damage) = &subject.damage else { return Ok(()) };
    let (id, _) = run_of(subject, 1, 1)?;
    damage(&id);
    (subject.reopen)().heal(&request(false), &subject.context).map_err(text)?;
    let (newer, settled) = run_of(subject, 9, 20)?;
    let [(gone, reason)] = settled.lost.as_slice() else { return Err(format!("settled is {settled:?}")) };
    ensure!(!reason.is_empty(), "no reason is told");
    let listed = record(subject, gone)?;
    ensure!(listed.lost.is_some() && listed.proof.is_none(), "it is listed as {listed:?}");
    let found_by = [Some(listed.snapshot.as_str()), listed.original.as_deref()];
    ensure!(found_by.contains(&Some(&id.0)), "it is not found by its old id: {listed:?}");
    let opened = (subject.reopen)().open(gone, &subject.context).map(drop).map_err(|error| error.kind);
    ensure!(opened == Err(RepositoryErrorKind::Damaged), "to open it gives {opened:?}");
    let whole = record(subject, &newer)?;
    ensure!(whole.lost.is_none() && whole.proof.is_some(), "the newer one is listed as {whole:?}");
    ensure!(image(subject, &newer)? == both(9), "the newer one has another content");
    let report = (subject.reopen)().check(CheckDepth::Data, &subject.context).map_err(text)?;
    ensure!(report.errors.is_empty(), "a check finds {:?}", report.errors);
    let (_, settled) = run_of(subject, 9, 30)?;
    ensure!(settled == Settled::default(), "it is settled twice: {settled:?}");
    Ok(())
}

fn nothing_open(subject: &FreshRepository) -> Outcome {
    let (first, settled) = run_of(subject, 1, 1)?;
    ensure!(settled == Settled::default(), "settled is {settled:?}");
    let (second, settled) = run_of(subject, 2, 20)?;
    ensure!(settled == Settled::default(), "settled is {settled:?}");
    for id in [first, second] {
        ensure!(record(subject, &id)?.lost.is_none(), "{id} is lost");
    }
    Ok(())
}
