//! Safety copies that nobody needs any more: what restores kept of databases that they replaced.
//!
//! One goes only when it is older than its rule says, no restore of its database is unfinished, that database is in place
//! and opens, and the repository holds a newer backup of it that is proven and not suspect. Whatever cannot be told keeps
//! it. A crash leaves some of them, for the next prune.

use crate::Services;
use crate::dump_files::TimeSource;
use crate::reference::short;
use engines::{Engine, SafetyCopy};
use flow::{
    DatabaseName, DatabaseRef, Event, Finding, Severity, SourceErrorKind, TargetName, TargetRef, Text,
};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use journal::Outcome;
use repository::retention::Span;
use repository::{BackupId, BackupRecord, ProofLevel, Wanted};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Whose safety copies may go, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SafetyRule {
    /// The target whose databases were replaced.
    pub target: TargetRef,
    /// Only this one of them.
    pub only: Option<DatabaseName>,
    /// The folder in which they are kept, where that is not beside the database.
    pub folder: Option<PathBuf>,
    /// How long they stay.
    pub keep: Span,
    /// The zone in which days are counted.
    pub zone: TimeZone,
}

/// What becomes of one safety copy. It has the keys of what becomes of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SafetyItem {
    /// Null: it is no backup.
    pub id: Option<BackupId>,
    /// Where it is.
    pub path: String,
    /// The target.
    pub target: TargetName,
    /// The database that was replaced.
    pub database: DatabaseName,
    /// The host that keeps it.
    pub host: Text,
    /// Where that database is.
    pub connection: Text,
    /// Null: no plan made it.
    pub plan: Option<Text>,
    /// When the restore began.
    pub time: Timestamp,
    /// Null: the restore said so.
    pub time_source: Option<TimeSource>,
    /// How much space it takes.
    pub size_bytes: u64,
    /// Why it stays or goes.
    pub reasons: Vec<String>,
}

/// What became of safety copies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    pub(crate) kept: Vec<SafetyItem>,
    pub(crate) removed: Vec<SafetyItem>,
}

/// Removes the safety copies that nobody needs any more; with `dry_run` it only tells which. What cannot be looked at is
/// told, and stays.
pub(crate) fn sweep(services: &Services, rules: &[SafetyRule], now: Timestamp, dry_run: bool) -> Swept {
    let mut swept = Swept::default();
    let mut seen = BTreeSet::new();
    for rule in rules {
        let Ok(engine) = services.engines.of(&rule.target) else { continue };
        let recorded = recorded(services);
        let elsewhere = recorded.keys().filter_map(|path| Path::new(path).parent()).map(Path::to_owned);
        let folders: BTreeSet<PathBuf> = rule.folder.iter().cloned().chain(elsewhere).collect();
        let folders: Vec<PathBuf> = folders.into_iter().collect();
        let copies = match engine.safety_copies(&rule.target, &folders, &services.context) {
            Ok(copies) => copies,
            // A target that is gone needs what is left of it.
            Err(error) if error.kind == SourceErrorKind::Missing => continue,
            Err(error) => {
                tell(
                    services,
                    &rule.target.connection,
                    &format!("safety copies were not looked for: {error}"),
                );
                continue;
            }
        };
        for copy in copies {
            let wanted = rule.only.as_ref().is_none_or(|only| copy.database.name == *only);
            if !wanted || services.context.cancel.is_cancelled() || !seen.insert(copy.path.clone()) {
                continue;
            }
            let is_its = copy.beside
                || recorded.get(&copy.path).is_some_and(|target| *target == copy.database.connection);
            let look = Look { services, engine, rule, now, is_its };
            let verdict = look.verdict(&copy).and_then(|reasons| match dry_run {
                true => Ok(reasons),
                false => engine
                    .remove_safety_copy(&copy, &services.context)
                    .map(|()| reasons)
                    .map_err(|error| error.to_string()),
            });
            match verdict {
                Ok(reasons) => swept.removed.push(item(services, copy, reasons)),
                Err(reason) => swept.kept.push(item(services, copy, vec![reason])),
            }
        }
    }
    swept
}

fn item(services: &Services, copy: SafetyCopy, reasons: Vec<String>) -> SafetyItem {
    SafetyItem {
        id: None,
        path: copy.path,
        target: copy.database.target,
        database: copy.database.name,
        host: services.host.as_str().into(),
        connection: copy.database.connection.into(),
        plan: None,
        time: copy.time,
        time_source: None,
        size_bytes: copy.size_bytes,
        reasons,
    }
}

fn tell(services: &Services, object: &str, message: &str) {
    services.context.observer.event(Event::Finding(Finding {
        severity: Severity::Warning,
        object: object.to_owned(),
        message: message.to_owned(),
        hint: None,
    }));
}

/// Returns the safety copies that the journal knows of, each with the database that was replaced.
fn recorded(services: &Services) -> BTreeMap<String, String> {
    let runs = services.journal.as_ref().and_then(|journal| journal.ended("restore", Outcome::Done).ok());
    let known = runs.unwrap_or_default().into_iter().filter_map(|run| {
        let report = run.end?.report;
        let text = |key: &str| report.get(key)?.as_str().map(str::to_owned);
        Some((text("safety_copy")?, text("target")?))
    });
    known.collect()
}

/// One look at a safety copy.
struct Look<'a> {
    services: &'a Services,
    engine: &'a dyn Engine,
    rule: &'a SafetyRule,
    now: Timestamp,
    /// Whether it is known to be of that database and no other.
    is_its: bool,
}

impl Look<'_> {
    /// Returns why it may go, or why it stays.
    fn verdict(&self, copy: &SafetyCopy) -> Result<Vec<String>, String> {
        let keep = self.rule.keep;
        if keep.before(self.now, &self.rule.zone).is_none_or(|cutoff| copy.time >= cutoff) {
            return Err(format!("not older than {keep}"));
        }
        if !self.is_its {
            return Err("no record of a restore tells of which database it is".to_owned());
        }
        let context = &self.services.context;
        match self.engine.pending_restores(&copy.database, context) {
            Ok(pending) if pending.is_empty() && !copy.restoring => {}
            Ok(_) => return Err("a restore of its database is not finished".to_owned()),
            Err(error) => return Err(format!("a restore of its database cannot be told: {error}")),
        }
        self.is_in_place(&copy.database)?;
        let backup = self.newer_backup(copy)?;
        Ok(vec![
            format!("older than {keep}"),
            format!("backup {} of {} is newer and proven", short(&backup.id.0), backup.time),
        ])
    }

    fn is_in_place(&self, database: &DatabaseRef) -> Result<(), String> {
        let looked = self.engine.probe(database, false, &self.services.context);
        let info = looked.map_err(|error| format!("its database does not open: {error}"))?;
        match info.findings.into_iter().find(|finding| finding.severity == Severity::Problem) {
            Some(problem) => Err(format!("its database does not open: it {}", problem.message)),
            None => Ok(()),
        }
    }

    fn newer_backup(&self, copy: &SafetyCopy) -> Result<BackupRecord, String> {
        let Services { repository, context, host, .. } = self.services;
        let database = &copy.database;
        let of_target = Wanted::Database(database.target.clone(), database.name.clone());
        let in_place = Wanted::Place(database.connection.clone());
        for wanted in [of_target, in_place] {
            let records = repository
                .backups_of(&wanted, context)
                .map_err(|error| format!("its backups cannot be listed: {error}"))?;
            let good = records.into_iter().filter(|record| {
                // The same path on another host is another database.
                record.host == *host
                    && record.connection == database.connection
                    && record.time > copy.time
                    && record.time <= self.now
                    && record.suspect.is_none()
                    && record.selection.is_none()
                    // What a file held is not what the database is now.
                    && !record.is_imported()
                    && record.lost.is_none()
                    && record.proof.is_some_and(|proof| proof.level >= ProofLevel::Stored)
            });
            if let Some(newest) = good.max_by_key(|record| record.time) {
                return Ok(newest);
            }
        }
        Err("no newer backup of its database is proven".to_owned())
    }
}
