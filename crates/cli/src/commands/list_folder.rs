//! `list` of a folder of dump files, and of repositories of layout `files`.

use crate::errors::Failure;
use crate::folder_backups::{self, Folder};
use crate::folder_scopes::is_folder;
use crate::opening;
use crate::session::Session;
use config::SourceArgument;
use operations::dump_files::Choice;
use operations::list::ListBody;
use operations::list_folder;
use operations::report::{Outcome, Report};
use repository::Wanted;
use std::path::PathBuf;
use storage::LocalFolder;

/// What is listed instead of a repository of packs.
pub(super) enum Listed {
    /// A folder that is named.
    Path(PathBuf),
    /// The folders that hold the backups of a source, or of the default repository.
    Repositories(Vec<Folder>),
}

/// Returns what is meant: the repository's folders, or one that is named and of which no repository has backups.
pub(super) fn meant(
    session: &Session,
    source: Option<&SourceArgument<'_>>,
) -> Result<Option<Listed>, Failure> {
    let named = source.filter(|source| is_folder(source));
    let path = |source: &SourceArgument<'_>| PathBuf::from(&source.target.connection);
    if let (Some(source), Err(_)) = (named, opening::place_of(session, source)) {
        // A folder that is named needs no repository.
        return Ok(Some(Listed::Path(path(source))));
    }
    if let Some(folders) = folder_backups::folders(session, source)? {
        return Ok(Some(named.map_or(Listed::Repositories(folders), |source| Listed::Path(path(source)))));
    }
    let Some(source) = named else { return Ok(None) };
    let place = opening::place_of(session, Some(source))?;
    if !opening::is_there(session, &place.repository.path)? {
        return Ok(Some(Listed::Path(path(source))).filter(|_| place.made_on_use));
    }
    let Some(opened) = opening::open_without_asking(session, &place)? else { return Ok(None) };
    let of_folder = Wanted::Place(source.target.connection.clone());
    let known = opened.repository.backups_of(&of_folder, &session.context)?;
    let is_dumps = known.iter().all(repository::BackupRecord::is_imported);
    Ok(Some(Listed::Path(path(source))).filter(|_| is_dumps))
}

/// Lists it.
pub(super) fn run(
    session: &Session,
    listed: &Listed,
    source: Option<&SourceArgument<'_>>,
) -> Result<Report<ListBody>, Failure> {
    let services = opening::without_repository(session)?;
    let files = match listed {
        Listed::Path(path) => {
            let choice = Choice::all(session.zone.clone());
            list_folder::files(&services, &LocalFolder::new(path), &choice, None)?
        }
        Listed::Repositories(folders) => folder_backups::files(session, &services, folders, source)?,
    };
    let backups = files.into_iter().map(|file| list_folder::item(&services, file)).collect();
    Ok(Report::new("list", session.started, Outcome::Complete, ListBody { backups }))
}
