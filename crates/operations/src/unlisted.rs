//! Snapshots that are there and cannot be listed. One of them may be the newest backup of what a person means: then
//! an older one is never taken for it in silence.

use crate::candidates::wanted;
use crate::reference::{Moment, Reference, Selector, resolve, short, to_the_second};
use crate::{OperationError, Services};
use jiff::Timestamp;
use repository::{BackupRecord, RepositoryError, RepositoryErrorKind, Unlisted, Wanted};
use std::collections::BTreeSet;

/// Fails where a snapshot that cannot be listed may hold the backup that a reference means. The records are those that
/// [`crate::candidates::load`] gave for it.
pub fn refuse(
    services: &Services,
    records: &[BackupRecord],
    reference: &Reference,
) -> Result<(), OperationError> {
    let wanted = if records.is_empty() { Wanted::All } else { wanted(&reference.selector) };
    let unlisted = services.repository.unlisted_of(&wanted, &services.context)?;
    let found = resolve(records, reference, &services.host).unwrap_or_default();
    let Some(meant) = meant(&unlisted, records, reference, &found, &services.host).pop() else {
        return match records.is_empty() && !unlisted.is_empty() {
            true => Err(none_listed(services, &unlisted)),
            false => Ok(()),
        };
    };
    let hint = match found.first() {
        Some(older) => format!(
            "`backstay check` names what is damaged; the next older backup is {} of {}, if that will do",
            short(&older.id.0),
            to_the_second(older.time)
        ),
        None => "`backstay check` names what is damaged; `backstay list` shows what else there is".to_owned(),
    };
    let error = RepositoryError::new(
        RepositoryErrorKind::Damaged,
        format!("snapshot {}", short(&meant.snapshot)),
        format!(
            "what it holds cannot be listed, and it may be what `{}` means: {}",
            reference.text, meant.problem
        ),
    );
    Err(error.with_hint(hint).into())
}

/// Makes the error of a repository that has snapshots, and none of them can be listed.
pub(crate) fn none_listed(services: &Services, unlisted: &[Unlisted]) -> OperationError {
    const SHOWN: usize = 20;
    let mut lines: Vec<String> = unlisted
        .iter()
        .take(SHOWN)
        .map(|unlisted| {
            let target = unlisted.target.as_ref().map(|target| format!(" of {target}")).unwrap_or_default();
            let time = unlisted.time.map(|time| format!("  {}", to_the_second(time))).unwrap_or_default();
            format!("{}{time}{target}: {}", short(&unlisted.snapshot), unlisted.problem)
        })
        .collect();
    if unlisted.len() > SHOWN {
        lines.push(format!("and {} more", unlisted.len() - SHOWN));
    }
    let noun = if unlisted.len() == 1 { "snapshot is" } else { "snapshots are" };
    RepositoryError::new(
        RepositoryErrorKind::Damaged,
        services.repository.location(),
        format!("{} {noun} there and cannot be listed:\n  {}", unlisted.len(), lines.join("\n  ")),
    )
    .with_hint("`backstay check` names what is damaged; `backstay check --heal` makes a lost index anew")
    .into()
}

/// Returns those of the snapshots that a reference may mean, oldest first.
pub(crate) fn meant<'a>(
    unlisted: &'a [Unlisted],
    records: &[BackupRecord],
    reference: &Reference,
    found: &[BackupRecord],
    host: &str,
) -> Vec<&'a Unlisted> {
    if let Selector::Id { prefix, .. } = &reference.selector {
        return unlisted.iter().filter(|unlisted| unlisted.snapshot.starts_with(prefix)).collect();
    }
    let targets = targets(records, &reference.selector);
    let hosts: BTreeSet<&str> = found.iter().map(|record| record.host.as_str()).chain([host]).collect();
    let newer_than = found.iter().map(|record| record.time).min();
    let mut meant: Vec<&Unlisted> = unlisted
        .iter()
        .filter(|unlisted| {
            let target = unlisted.target.as_ref().map(|target| target.as_str());
            target.is_none_or(|target| targets.as_ref().is_none_or(|targets| targets.contains(target)))
                && unlisted.host.as_deref().is_none_or(|host| hosts.contains(host))
                && unlisted.time.is_none_or(|time| may_be_chosen(time, newer_than, reference.moment))
        })
        .collect();
    meant.sort_by_key(|unlisted| unlisted.time);
    meant
}

/// Returns the targets whose snapshots may hold what is meant; `None` for any.
fn targets<'a>(records: &'a [BackupRecord], selector: &'a Selector) -> Option<BTreeSet<&'a str>> {
    match selector {
        Selector::Target { target, .. } => Some(BTreeSet::from([target.as_str()])),
        Selector::Place(place) => {
            let same = |record: &&BackupRecord| record.connection == *place;
            let of_records = records.iter().filter(same).map(|record| record.target.as_str());
            Some(of_records.chain([place.as_str()]).collect())
        }
        Selector::Id { .. } | Selector::Only => None,
    }
}

/// A run begins before the consistency point of what it stores: what began later than the chosen one is newer.
fn may_be_chosen(time: Timestamp, newer_than: Option<Timestamp>, moment: Moment) -> bool {
    let in_reach = match moment {
        Moment::At(asked) => time <= asked,
        Moment::Newest | Moment::Back(_) => true,
    };
    in_reach && newer_than.is_none_or(|found| time > found)
}
