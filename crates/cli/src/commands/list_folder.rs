//! `list` of a folder of dump files, and of a repository of layout `files`.

use crate::errors::{Failure, exit};
use crate::folder_scopes::is_folder;
use crate::opening;
use crate::session::Session;
use config::{RepositoryLayout, SourceArgument, Which};
use operations::dump_files::Choice;
use operations::list::{ListBody, ListItem};
use operations::report::Report;
use operations::{list_folder, list_folder::FolderFilter};
use repository::Wanted;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Returns the folder that is meant: the repository's, or one that is named and of which no repository has backups.
pub(super) fn meant(
    session: &Session,
    source: Option<&SourceArgument<'_>>,
) -> Result<Option<PathBuf>, Failure> {
    let place = match (opening::place_of(session, source), source) {
        (Ok(place), _) => place,
        // A folder that is named needs no repository.
        (Err(_), Some(source)) if is_folder(source) => {
            return Ok(Some(PathBuf::from(&source.target.connection)));
        }
        (Err(failure), _) => return Err(failure),
    };
    if place.repository.layout != RepositoryLayout::Restic {
        return Ok(Some(config::canonical_path(&place.repository.path)));
    }
    let Some(source) = source.filter(|source| is_folder(source)) else { return Ok(None) };
    let folder = PathBuf::from(&source.target.connection);
    if !opening::is_there(session, &place.repository.path)? {
        return Ok(Some(folder).filter(|_| place.made_on_use));
    }
    let Some(opened) = opening::open_without_asking(session, &place)? else { return Ok(None) };
    let of_folder = Wanted::Place(source.target.connection.clone());
    let known = opened.repository.backups_of(&of_folder, &session.context)?;
    Ok(Some(folder).filter(|_| known.iter().all(repository::BackupRecord::is_imported)))
}

/// Returns the folder where the repository that holds the backups of a source is one of plain files.
pub(super) fn of_repository(
    session: &Session,
    source: Option<&SourceArgument<'_>>,
) -> Result<Option<PathBuf>, Failure> {
    let place = opening::place_of(session, source)?;
    let of_files = place.repository.layout != RepositoryLayout::Restic;
    Ok(of_files.then(|| config::canonical_path(&place.repository.path)))
}

/// Returns the paths of the files that are meant by a source and a moment, one of each of its databases.
pub(super) fn chosen(
    session: &Session,
    folder: &Path,
    source: &SourceArgument<'_>,
    which: Option<Which>,
) -> Result<Vec<String>, Failure> {
    let report = run(session, folder, Some(source))?;
    let mut databases: BTreeMap<String, Vec<&ListItem>> = BTreeMap::new();
    for item in &report.body.backups {
        databases.entry(item.database.to_string()).or_default().push(item);
    }
    let mut chosen = Vec::new();
    for items in databases.into_values() {
        // Oldest first.
        let item = match which.unwrap_or(Which::Latest(0)) {
            Which::Latest(before) => items.iter().rev().nth(usize::try_from(before).unwrap_or(usize::MAX)),
            Which::At(time) => items.iter().rev().find(|item| item.time <= time),
        };
        chosen.extend(item.and_then(|item| item.path.clone()));
    }
    if chosen.is_empty() {
        return Err(Failure::usage(
            format!("{} holds no such file of {}", folder.display(), source.text),
            "`backstay list` shows what there is",
        ));
    }
    Ok(chosen)
}

/// Lists it.
pub(super) fn run(
    session: &Session,
    folder: &Path,
    source: Option<&SourceArgument<'_>>,
) -> Result<Report<ListBody>, Failure> {
    if !folder.is_dir() {
        let message = format!("{}: there is no such folder", folder.display());
        return Err(Failure::new(exit::NO_REPOSITORY, message).with_hint("is the disk it lies on mounted?"));
    }
    let configured = source.filter(|source| source.configured.is_some());
    let in_place = source.filter(|source| source.configured.is_none() && !is_folder(source));
    if let Some(source) = in_place {
        return Err(Failure::usage(
            format!("`{}` is no configured target, and a folder of dump files knows no others", source.text),
            "name a configured target, or list the whole folder",
        ));
    }
    let filter = configured
        .map(|source| FolderFilter { target: source.target.name.clone(), database: source.only.clone() });
    let services = opening::without_repository(session)?;
    Ok(list_folder::run(&services, folder, &Choice::all(session.zone.clone()), filter.as_ref())?)
}
