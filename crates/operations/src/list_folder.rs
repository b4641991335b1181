//! Lists the files of a folder of dumps: what their manifests say, else their names. Reads no dump, and changes nothing.

use crate::dump_files::{self, Choice, DumpFile, FileManifest, TimeSource};
use crate::list::ListItem;
use crate::{OperationError, Services};
use flow::{DatabaseName, NameError, TargetName};
use repository::{BackupId, ProofLevel};
use std::collections::BTreeMap;
use storage::Folder;

/// Whose files are to be listed.
#[derive(Debug, Clone)]
pub struct FolderFilter {
    /// The target, as manifests name it.
    pub target: TargetName,
    /// Its one database that is meant.
    pub database: Option<DatabaseName>,
    /// Of which of its databases files without a manifest are, by the name that is in theirs.
    pub known_as: BTreeMap<String, DatabaseName>,
}

/// A file of a folder, and whose it is.
#[derive(Debug, Clone)]
pub struct FolderFile {
    /// The file, with the time of its manifest where it has one.
    pub file: DumpFile,
    /// What lies beside it.
    pub manifest: Option<Box<FileManifest>>,
    /// The target; of a file of which nobody says one, its folder.
    pub target: TargetName,
    /// The database.
    pub database: DatabaseName,
}

/// Returns the files, oldest first.
pub fn files(
    services: &Services,
    folder: &dyn Folder,
    choice: &Choice,
    filter: Option<&FolderFilter>,
) -> Result<Vec<FolderFile>, OperationError> {
    let found = dump_files::list(folder, choice, &services.engines)?;
    let mut files = Vec::with_capacity(found.files.len());
    for file in found.files {
        let manifest = FileManifest::beside(folder, file.file_name());
        let named = owner(folder, &file, manifest.as_ref(), filter);
        let named = named.map_err(|error| OperationError::usage(error.to_string(), None))?;
        if let Some((target, database)) = named {
            files.push(FolderFile::new(file, manifest, target, database));
        }
    }
    files.sort_by(|a, b| (a.file.time, &a.file.path).cmp(&(b.file.time, &b.file.path)));
    Ok(files)
}

/// Returns whose a file is; `None` where it is not of those that are meant.
fn owner(
    folder: &dyn Folder,
    file: &DumpFile,
    manifest: Option<&FileManifest>,
    filter: Option<&FolderFilter>,
) -> Result<Option<(TargetName, DatabaseName)>, NameError> {
    let wanted = |filter: &FolderFilter, target: &TargetName, database: &DatabaseName| {
        *target == filter.target && filter.database.as_ref().is_none_or(|only| only == database)
    };
    let (target, database) = match (manifest, filter) {
        (Some(manifest), _) => (manifest.target.clone(), manifest.database.clone()),
        (None, None) => (TargetName::new(folder.location())?, DatabaseName::new(file.name.as_str())?),
        (None, Some(filter)) => match filter.known_as.get(&file.name) {
            Some(database) => (filter.target.clone(), database.clone()),
            None => return Ok(None),
        },
    };
    let is_wanted = filter.is_none_or(|filter| wanted(filter, &target, &database));
    Ok(is_wanted.then_some((target, database)))
}

impl FolderFile {
    fn new(
        mut file: DumpFile,
        manifest: Option<FileManifest>,
        target: TargetName,
        database: DatabaseName,
    ) -> Self {
        if let Some(manifest) = &manifest {
            (file.time, file.time_source) = (manifest.time, TimeSource::Name);
        }
        Self { file, manifest: manifest.map(Box::new), target, database }
    }
}

/// Returns a file as lists show it.
pub fn item(services: &Services, found: FolderFile) -> ListItem {
    let FolderFile { file, manifest, target, database } = found;
    let id = file.file_name().to_string_lossy().into_owned();
    let mut item = ListItem {
        id: BackupId(id),
        path: Some(file.path.clone()),
        target,
        database,
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
        item.engine = Some(manifest.engine);
        item.size_bytes = manifest.size_bytes;
        (item.rows, item.selection) = (manifest.rows, manifest.selection.map(Box::new));
        (item.proof, item.proof_time) =
            (same.then_some(ProofLevel::Stored), same.then_some(manifest.verified));
        (item.tags, item.host) = (manifest.tags, manifest.host);
        item.connection = manifest.connection.into();
    }
    item
}
