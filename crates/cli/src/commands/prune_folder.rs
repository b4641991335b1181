//! `prune FOLDER`: retention in a folder of dump files, by the rules of the command line or of the configuration's section
//! `pruning`. Every refusal comes before anything is removed.

use crate::errors::{Failure, exit};
use crate::folder_scopes::KnownSources;
use crate::opening::{self, Place};
use crate::session::Session;
use crate::wording::{age, count, moment, printable, size, table};
use clap::Args;
use jiff::tz::TimeZone;
use operations::OperationError;
use operations::dump_files::{Choice, Pattern, TimeSource};
use operations::prune::{FileItem, PruneBody};
use operations::prune_folder::{self, FolderOptions, MadeBy};
use repository::retention::{PruneScope, PruneSelector, Rules};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use storage::{Folder, LocalFolder};

/// The options that are for folders of dump files alone.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct FolderArguments {
    /// Of a folder: only files whose names fit, in quotes; then a name needs no time in it (may be repeated)
    #[arg(long, value_name = "GLOB")]
    pattern: Vec<String>,

    /// Of a folder: the zone of the times in names that say none, and of days and weeks [default: the local one]
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
}

impl FolderArguments {
    /// Tells whether one of them is given.
    pub(crate) fn is_given(&self) -> bool {
        !self.pattern.is_empty() || self.time_zone.is_some()
    }

    /// Returns which files are meant: by the patterns that are given, else by the one of the environment.
    pub(crate) fn choice(&self, session: &Session) -> Result<Choice, Failure> {
        let default = session.context.environment.get("BACKUP_DEFAULT_PATTERN");
        let texts: Vec<&str> = match self.pattern.as_slice() {
            [] => default.into_iter().collect(),
            given => given.iter().map(String::as_str).collect(),
        };
        let patterns = texts.into_iter().map(Pattern::parse).collect::<Result<Vec<_>, _>>()?;
        let zone = session.named_zone(self.time_zone.as_deref())?;
        Ok(Choice { zone, patterns })
    }
}

/// Prunes folders one after the other. Where one fails, what was done in those before it comes back with its failure.
pub(crate) fn run(
    session: &Session,
    folders: &[PathBuf],
    known: &KnownSources,
    choice: &Choice,
    (rules, dry_run): (&Rules, bool),
) -> Result<(PruneBody, Option<Failure>), Failure> {
    folders.iter().try_for_each(|folder| known.refuse(session, folder))?;
    let services = opening::without_repository(session)?;
    let mut whole = PruneBody { dry_run, ..PruneBody::default() };
    for folder in folders {
        let options = FolderOptions {
            folder: Arc::new(LocalFolder::new(folder)),
            choice: choice.clone(),
            made: None,
            rules: rules.clone(),
            dry_run,
        };
        let result = match prune_folder::run(&services, &options) {
            Ok(result) => result,
            Err(error) if folder == &folders[0] => return Err(error.into()),
            Err(error) => return Ok((whole, Some(error.into()))),
        };
        let body = result.report.body;
        let removed = body.files_removed.len();
        whole.files_kept.extend(body.files_kept);
        whole.files_removed.extend(body.files_removed);
        whole.skipped.extend(body.skipped);
        whole.freed_bytes += body.freed_bytes;
        if let Some(failure) = not_removed(session, result.errors, removed) {
            return Ok((whole, Some(failure)));
        }
    }
    Ok((whole, None))
}

/// Prunes a repository of layout `files`: what each scope says, by the manifests of the files where it names a target.
pub(crate) fn of_files(
    session: &Session,
    place: Place,
    scopes: Vec<PruneScope>,
    dry_run: bool,
) -> Result<PruneBody, Failure> {
    let folder = config::canonical_path(&place.repository.path);
    if !folder.is_dir() {
        let message = format!("{}: there is no such folder", folder.display());
        return Err(Failure::new(exit::NO_REPOSITORY, message).with_hint("is the disk it lies on mounted?"));
    }
    KnownSources::look(session)?.refuse(session, &folder)?;
    let services = opening::without_repository(session)?;
    let mut whole = PruneBody { dry_run, ..PruneBody::default() };
    let folder: Arc<dyn Folder> = Arc::new(LocalFolder::new(folder));
    for PruneScope { selector, rules, zone, .. } in scopes {
        if selector.place.is_some() {
            return Err(Failure::usage(
                "a folder of dump files knows targets by their names, and a path is none",
                "name a configured target, or prune the whole folder: backstay prune FOLDER --keep-daily 7",
            ));
        }
        let PruneSelector { target, plan, databases, .. } = selector;
        let made = target.map(|target| MadeBy { target, plan, databases });
        let choice = Choice::all(zone);
        let options = FolderOptions { folder: Arc::clone(&folder), choice, made, rules, dry_run };
        let result = prune_folder::run(&services, &options)?;
        let body = result.report.body;
        let removed = body.files_removed.len();
        whole.files_kept.extend(body.files_kept);
        whole.files_removed.extend(body.files_removed);
        whole.skipped.extend(body.skipped);
        whole.freed_bytes += body.freed_bytes;
        if let Some(failure) = not_removed(session, result.errors, removed) {
            return Err(failure);
        }
    }
    Ok(whole)
}

fn not_removed(session: &Session, errors: Vec<OperationError>, removed: usize) -> Option<Failure> {
    let failed = errors.len();
    let mut failures: Vec<Failure> = errors.into_iter().map(Failure::from).collect();
    if failed <= 1 && removed == 0 {
        return failures.pop();
    }
    if failed == 0 {
        return None;
    }
    failures.iter().for_each(|failure| failure.show(&session.console));
    let code = if removed == 0 { exit::FAILED } else { exit::INCOMPLETE };
    Some(Failure::new(code, format!("{failed} of {} files could not be removed", failed + removed)))
}

/// How many databases have their table where a prune decides on very many; `--verbose` shows them all.
const TABLES_SHOWN: usize = 20;

/// Shows a table for each database that loses a file; in a dry run, or where more is asked for, of every one.
pub(crate) fn show(session: &Session, body: &PruneBody, zone: &TimeZone) -> Result<(), Failure> {
    for skipped in &body.skipped {
        session.console.detail(&format!("Left alone {}: {}.", skipped.object, skipped.reason));
    }
    if !body.skipped.is_empty() && !session.globals.verbose {
        let others = count(body.skipped.len() as u64, "other file", "other files");
        session.console.say(&format!("Left {others} alone; `--verbose` says which, and why."));
    }
    let mut databases: BTreeMap<(String, String), Vec<(&FileItem, bool)>> = BTreeMap::new();
    let all = body.files_kept.iter().map(|item| (item, true));
    for (item, kept) in all.chain(body.files_removed.iter().map(|item| (item, false))) {
        databases.entry((item.target.to_string(), item.database.to_string())).or_default().push((item, kept));
    }
    let verbose = session.globals.verbose;
    databases.retain(|_, items| body.dry_run || verbose || items.iter().any(|(_, kept)| !kept));
    let more = databases.len().saturating_sub(TABLES_SHOWN);
    let shown = if verbose { usize::MAX } else { TABLES_SHOWN };
    for ((folder, database), mut items) in databases.into_iter().take(shown) {
        items.sort_by_key(|(item, kept)| (std::cmp::Reverse(item.time), !kept, item.path.clone()));
        let rows = items.iter().map(|(item, kept)| row(session, item, *kept, zone)).collect();
        let header = ["FILE", "TIME", "AGE", "SIZE", "VERDICT", "REASONS"];
        let title = printable(&format!("{folder}: {database}"));
        session.console.data(&format!("{title}\n{}\n\n", table(&header, rows, &[2, 3])))?;
    }
    if more > 0 && !verbose {
        let databases = count(more as u64, "more database", "more databases");
        session.console.say(&format!("… and {databases}; `--verbose` shows them all."));
    }
    Ok(())
}

fn row(session: &Session, item: &FileItem, kept: bool, zone: &TimeZone) -> Vec<String> {
    let name = Path::new(&item.path).file_name().map(|name| name.to_string_lossy().into_owned());
    let source = match item.time_source {
        Some(TimeSource::Modified) => " (modified)",
        _ => "",
    };
    vec![
        printable(&name.unwrap_or_default()),
        format!("{}{source}", moment(item.time, zone)),
        age(item.time, session.started),
        size(item.size_bytes),
        if kept { "keep" } else { "remove" }.to_owned(),
        item.reasons.join(", "),
    ]
}
