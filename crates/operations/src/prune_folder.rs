//! Retention in a folder of dump files of any tool: removes the files that rules let go, one after the other.
//!
//! Only what is a backup by its name or by a pattern is decided on, by the rules that hold in repositories, for each
//! database by itself. A file goes only behind a newer one that was read to its end just before. The folder is locked
//! against restores, verifications and backups; a crash leaves fewer files, each of them whole, and the lock is gone with
//! the process.

mod remove;

use crate::dump_files::{
    self, Choice, DumpFile, DumpSource, FileManifest, FolderLock, LOGS, Likeness, TimeSource,
};
use crate::prune::{FileItem, PruneBody};
use crate::report::{Outcome, Report};
use crate::{OperationError, Services, journaling, verify_files};
use engines::Skipped;
use flow::{DatabaseName, Event, Phase, SourceError, SourceErrorKind, TargetName};
use jiff::{SignedDuration, Timestamp};
use repository::retention::{Candidate, Origin, PruneScope, PruneSelector, Rules, Verdict, plan};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use storage::{Folder, Look, OpenFiles};

/// How far a clock may be ahead of another one.
const SKEW_MAX: SignedDuration = SignedDuration::from_mins(10);

/// How long the retention of a plan waits for others who work in the folder.
const OTHERS_WAIT: Duration = Duration::from_secs(15);

/// What to prune, and how.
#[derive(Debug, Clone)]
pub struct FolderOptions {
    /// The folder, by its canonical path.
    pub folder: Arc<dyn Folder>,
    /// Which of its files are backups.
    pub choice: Choice,
    /// Only what this made, by the manifests beside the files; `None`: whoever made them.
    pub made: Option<MadeBy>,
    /// What is kept of each database.
    pub rules: Rules,
    /// Tells what would be removed, and changes nothing.
    pub dry_run: bool,
}

/// Whose files are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeBy {
    /// Of this target.
    pub target: TargetName,
    /// Made by this plan; `None`: by any.
    pub plan: Option<String>,
    /// Of these databases of it; `None`: of all.
    pub databases: Option<BTreeSet<DatabaseName>>,
}

impl MadeBy {
    /// Takes a file for what its manifest says, where it is one of those that are meant.
    fn of(&self, folder: &dyn Folder, file: DumpFile) -> Option<DumpFile> {
        let manifest = FileManifest::beside(folder, file.file_name())?;
        let fits = manifest.target == self.target
            && self.plan.as_ref().is_none_or(|plan| manifest.plan.as_ref() == Some(plan))
            && self.databases.as_ref().is_none_or(|databases| databases.contains(&manifest.database));
        // A part of a database stands for none of the whole, nor of another part.
        let part = manifest.selection.map(|selection| format!(" ({selection})")).unwrap_or_default();
        let name = format!("{}{part}", manifest.database);
        fits.then_some(DumpFile { name, time: manifest.time, time_source: TimeSource::Name, ..file })
    }
}

/// What a run came to.
#[derive(Debug)]
pub struct FolderResult {
    /// The report.
    pub report: Report<PruneBody>,
    /// Why files that were to go could not be removed.
    pub errors: Vec<OperationError>,
}

/// Removes what a plan lets go, after a backup; the journal has that backup.
pub(crate) fn after_backup(
    services: &Services,
    options: &FolderOptions,
) -> Result<FolderResult, OperationError> {
    let _lock = FolderLock::exclusive_within(&*options.folder, OTHERS_WAIT, &services.context.cancel)?;
    prune(services, options, Timestamp::now())
}

/// Prunes. What others do in the folder at that moment is an error, which names the folder.
pub fn run(services: &Services, options: &FolderOptions) -> Result<FolderResult, OperationError> {
    let started = Timestamp::now();
    if options.dry_run {
        return prune(services, options, started);
    }
    let _lock = FolderLock::exclusive(&*options.folder)?;
    let folder = options.folder.location();
    let recorded = journaling::begin(services, "prune folder", Some(folder), started);
    let outcome = prune(services, options, started);
    match &outcome {
        Ok(result) => {
            let body = result.report.body.abridged(journaling::ITEMS_KEPT);
            journaling::finish(services, &recorded, Ok(&result.report.with(body)));
        }
        Err(error) => journaling::finish::<PruneBody>(services, &recorded, Err(error)),
    }
    outcome
}

/// A file that may go.
struct Entry {
    file: DumpFile,
    /// What it was when it was listed: it goes only while it is that.
    look: Look,
    /// Why it is worth nothing.
    problem: Option<String>,
    /// Whether it was read to its end.
    read: bool,
}

fn prune(
    services: &Services,
    options: &FolderOptions,
    started: Timestamp,
) -> Result<FolderResult, OperationError> {
    let mut body = PruneBody { dry_run: options.dry_run, ..PruneBody::default() };
    // A file is a plan's by its manifest, which a run may have left hidden.
    if options.made.is_some() && !options.dry_run {
        dump_files::settle(&*options.folder, &services.context);
    }
    let mut entries = entries(services, options, &mut body)?;
    let verdicts = decide(services, options, &mut entries, started)?;
    let mut by_path: HashMap<&str, &Entry> = HashMap::with_capacity(entries.len());
    by_path.extend(entries.iter().map(|entry| (entry.file.path.as_str(), entry)));
    let mut removal = remove::Removal::begin(options)?;
    let mut errors = Vec::new();
    // The oldest first: an interruption leaves the newer ones.
    let mut ordered: Vec<&Verdict> = verdicts.iter().collect();
    ordered.sort_by_key(|verdict| verdict.backup.time);
    for verdict in ordered {
        let Some(entry) = by_path.get(verdict.backup.snapshot.as_str()) else { continue };
        let mut item = item(services, options, &entry.file);
        item.reasons = verdict.reasons.iter().map(ToString::to_string).collect();
        item.reasons.extend(entry.problem.as_ref().map(|problem| format!("worth nothing: it {problem}")));
        if verdict.kept {
            body.files_kept.push(item);
            continue;
        }
        services.context.cancel.check().map_err(|_| OperationError::Cancelled)?;
        match removal.remove(&entry.file, &entry.look) {
            Ok(None) => {
                body.freed_bytes += remove::freed_bytes(&entry.file, &entry.look);
                body.files_removed.push(item);
            }
            Ok(Some(reason)) => {
                item.reasons = vec![reason];
                body.files_kept.push(item);
            }
            Err(error) => {
                item.reasons = vec![format!("could not be removed: {error}")];
                errors.push(remove::failed(&entry.file, error));
                body.files_kept.push(item);
            }
        }
    }
    removal.finish()?;
    let key = |item: &FileItem| (item.database.clone(), std::cmp::Reverse(item.time), item.path.clone());
    body.files_kept.sort_by_cached_key(key);
    body.files_removed.sort_by_cached_key(key);
    let outcome = match (errors.len(), body.files_removed.len()) {
        (0, _) => Outcome::Complete,
        (_, 0) => Outcome::Failed,
        _ => Outcome::Incomplete,
    };
    Ok(FolderResult { report: Report::new("prune", started, outcome, body), errors })
}

/// Returns the files that may be decided on; what stays whatever the rules say goes into the report.
fn entries(
    services: &Services,
    options: &FolderOptions,
    body: &mut PruneBody,
) -> Result<Vec<Entry>, OperationError> {
    let found = dump_files::list(&*options.folder, &options.choice, &services.engines)?;
    body.skipped = found.skipped;
    for (path, error) in found.failed {
        body.skipped.push(Skipped { object: path, reason: error.to_string() });
    }
    let open = options.folder.open_files();
    let mut entries = Vec::with_capacity(found.files.len());
    for file in found.files {
        let file = match &options.made {
            None => file,
            Some(made) => match made.of(&*options.folder, file) {
                Some(file) => file,
                None => continue,
            },
        };
        let mut skip = |reason: &str| {
            body.skipped.push(Skipped { object: file.path.clone(), reason: reason.to_owned() });
        };
        if file.likeness == Likeness::Unknown {
            skip("cannot be read, and nothing else says that it is a dump");
            continue;
        }
        if file.time_source == TimeSource::Modified && options.choice.patterns.is_empty() {
            skip("has no time in its name, and no pattern says that it is a backup");
            continue;
        }
        // It went since the folder was listed.
        let Ok(look) = options.folder.look(file.file_name()) else { continue };
        match in_use(options, &file, &look, &open) {
            Some(reason) => {
                let reasons = vec![reason];
                body.files_kept.push(FileItem { reasons, ..item(services, options, &file) });
            }
            None => {
                let problem = dump_files::beginning_problem(&*options.folder, &file, &services.engines);
                entries.push(Entry { file, look, problem, read: false });
            }
        }
    }
    if options.made.is_none() && entries.is_empty() && body.files_kept.is_empty() {
        return Err(holds_none(options).into());
    }
    body.skipped.sort_by(|a, b| a.object.cmp(&b.object));
    Ok(entries)
}

/// An empty folder is rather a disk that is not mounted, or a slip of the pen, than the wish of anybody.
fn holds_none(options: &FolderOptions) -> SourceError {
    let folder = options.folder.location();
    if options.choice.patterns.is_empty() {
        let message = "holds no file that is a backup by its name";
        return SourceError::new(SourceErrorKind::Missing, folder, message).with_hint(
            "is its disk mounted? Files without a time in their names are named by --pattern '*.sql.gz'",
        );
    }
    SourceError::new(SourceErrorKind::Missing, folder, "holds no dump file that fits the pattern")
        .with_hint("look what there is with `ls`; a pattern is of names, as in *.sql.gz")
}

/// Tells why a file may not be touched at this moment.
fn in_use(options: &FolderOptions, file: &DumpFile, look: &Look, open: &OpenFiles) -> Option<String> {
    let name = file.file_name().to_string_lossy();
    let beside = LOGS.iter().find(|log| options.folder.look(format!("{name}{log}").as_ref()).is_ok());
    if let Some(log) = beside {
        return Some(format!("{name}{log} lies beside it: it may be a live database"));
    }
    open.holder(look).map(|holder| format!("is open: {holder}"))
}

/// Decides, and reads the newest file of each database that loses one to its end: where that is worth nothing it stands for
/// none of the others, and all is decided anew.
fn decide(
    services: &Services,
    options: &FolderOptions,
    entries: &mut [Entry],
    now: Timestamp,
) -> Result<Vec<Verdict>, OperationError> {
    let selector = PruneSelector::default();
    let zone = options.choice.zone.clone();
    let scopes = [PruneScope { selector, rules: options.rules.clone(), zone, hold_ages: false }];
    loop {
        let verdicts = plan(&candidates(services, options, entries)?, &scopes, now).verdicts;
        let lost = verdicts.iter().filter(|verdict| !verdict.kept);
        let losing: BTreeSet<&str> = lost.map(|verdict| verdict.backup.origin.database.as_str()).collect();
        let mut standing: BTreeMap<(&str, bool), usize> = BTreeMap::new();
        let ahead = now.saturating_add(SKEW_MAX).unwrap_or(now);
        for (index, entry) in entries.iter().enumerate().filter(|(_, entry)| entry.problem.is_none()) {
            if !losing.contains(entry.file.name.as_str()) {
                continue;
            }
            for future in [true, false] {
                if !future && entry.file.time > ahead {
                    continue;
                }
                let newest = standing.entry((&entry.file.name, future)).or_insert(index);
                let newer = |a: &DumpFile, b: &DumpFile| (a.time, &a.path) > (b.time, &b.path);
                if entries.get(*newest).is_some_and(|known| newer(&entry.file, &known.file)) {
                    *newest = index;
                }
            }
        }
        let unread: BTreeSet<usize> = standing
            .into_values()
            .filter(|index| entries.get(*index).is_some_and(|entry| !entry.read))
            .collect();
        let mut worthless = false;
        for index in unread {
            let Some(entry) = entries.get_mut(index) else { continue };
            services.context.observer.event(Event::Phase(Phase {
                name: format!("reading {}", entry.file.path),
                total_bytes: None,
            }));
            let source = DumpSource::new(Arc::clone(&options.folder), entry.file.file_name());
            entry.problem = match dump_files::is_opaque(&*options.folder, &entry.file) {
                false => verify_files::problem(services, (&entry.file, &source))?,
                true => dump_files::digest_problem(&*options.folder, &entry.file, &services.context),
            };
            services.context.cancel.check().map_err(|_| OperationError::Cancelled)?;
            entry.read = true;
            worthless |= entry.problem.is_some();
        }
        if !worthless {
            return Ok(verdicts);
        }
    }
}

fn candidates(
    services: &Services,
    options: &FolderOptions,
    entries: &[Entry],
) -> Result<Vec<Candidate>, OperationError> {
    let refused =
        |error: flow::NameError| OperationError::usage(error.to_string(), "rename the file".to_owned());
    let folder = options.folder.location();
    let mut origins: HashMap<&str, Arc<Origin>> = HashMap::new();
    let mut candidates = Vec::with_capacity(entries.len());
    for entry in entries {
        let name = entry.file.name.as_str();
        let origin = match origins.get(name) {
            Some(origin) => Arc::clone(origin),
            None => {
                let made = Arc::new(Origin {
                    target: TargetName::new(folder.as_str()).map_err(refused)?,
                    database: DatabaseName::new(name).map_err(refused)?,
                    host: services.host.as_str().into(),
                    connection: folder.as_str().into(),
                    plan: None,
                    selection: None,
                });
                origins.insert(name, Arc::clone(&made));
                made
            }
        };
        candidates.push(Candidate {
            origin,
            snapshot: entry.file.path.as_str().into(),
            alone: true,
            time: entry.file.time,
            size_bytes: entry.file.size_bytes,
            proven: entry.problem.is_none(),
            suspect: false,
            imported: false,
        });
    }
    Ok(candidates)
}

fn item(services: &Services, options: &FolderOptions, file: &DumpFile) -> FileItem {
    FileItem {
        id: None,
        path: file.path.clone(),
        target: options.folder.location().into(),
        database: file.name.as_str().into(),
        host: services.host.as_str().into(),
        connection: None,
        plan: None,
        time: file.time,
        time_source: Some(file.time_source),
        size_bytes: file.size_bytes,
        reasons: vec![],
    }
}
