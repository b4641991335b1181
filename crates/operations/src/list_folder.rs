//! Lists the files of a folder of dumps: what their manifests say, else their names. Reads no dump, and changes nothing.

use crate::dump_files::{self, Choice, DumpFile, FileManifest, TimeSource};
use crate::list::{ListBody, ListItem};
use crate::report::{Outcome, Report};
use crate::{OperationError, Services};
use flow::{DatabaseName, NameError, TargetName};
use jiff::Timestamp;
use repository::{BackupId, ProofLevel};
use std::path::Path;

/// Whose files are to be listed: those that say so in their manifests.
#[derive(Debug, Clone)]
pub struct FolderFilter {
    /// The target.
    pub target: TargetName,
    /// Its one database that is meant.
    pub database: Option<DatabaseName>,
}

/// Lists them, oldest first.
pub fn run(
    services: &Services,
    folder: &Path,
    choice: &Choice,
    filter: Option<&FolderFilter>,
) -> Result<Report<ListBody>, OperationError> {
    let started = Timestamp::now();
    let found = dump_files::list(folder, choice, &services.engines)?;
    let mut backups = Vec::with_capacity(found.files.len());
    for file in found.files {
        let manifest = FileManifest::beside(Path::new(&file.path));
        let wanted = filter.is_none_or(|filter| {
            manifest.as_ref().is_some_and(|manifest| {
                manifest.target == filter.target
                    && filter.database.as_ref().is_none_or(|database| manifest.database == *database)
            })
        });
        if wanted {
            let made = item(services, folder, file, manifest);
            backups.push(made.map_err(|error| OperationError::usage(error.to_string(), None))?);
        }
    }
    backups.sort_by(|a: &ListItem, b: &ListItem| (a.time, &a.id).cmp(&(b.time, &b.id)));
    Ok(Report::new("list", started, Outcome::Complete, ListBody { backups }))
}

fn item(
    services: &Services,
    folder: &Path,
    file: DumpFile,
    manifest: Option<FileManifest>,
) -> Result<ListItem, NameError> {
    let id = Path::new(&file.path).file_name().map(|name| name.to_string_lossy().into_owned());
    let id = BackupId(id.unwrap_or_default());
    let mut item = ListItem {
        id,
        path: Some(file.path.clone()),
        target: TargetName::new(folder.to_string_lossy())?,
        database: DatabaseName::new(file.name)?,
        engine: None,
        time: file.time,
        time_source: Some(file.time_source),
        size_bytes: file.size_bytes,
        added_bytes: file.size_bytes,
        rows: None,
        selection: None,
        proof: None,
        proof_time: None,
        tags: vec![],
        host: services.host.as_str().into(),
        connection: file.path.as_str().into(),
        suspect: None,
        lost: None,
    };
    if let Some(manifest) = manifest {
        // A file of another length is not the one that was read back.
        let same = manifest.file_bytes == file.size_bytes;
        item.target = manifest.target;
        item.database = manifest.database;
        (item.engine, item.time) = (Some(manifest.engine), manifest.time);
        item.time_source = Some(TimeSource::Name);
        item.size_bytes = manifest.size_bytes;
        (item.rows, item.selection) = (manifest.rows, manifest.selection.map(Box::new));
        (item.proof, item.proof_time) =
            (same.then_some(ProofLevel::Stored), same.then_some(manifest.verified));
        (item.tags, item.host) = (manifest.tags, manifest.host);
        item.connection = manifest.connection.into();
    }
    Ok(item)
}
