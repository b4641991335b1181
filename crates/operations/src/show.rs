//! Shows one backup: its place in the list, and its manifest. Of a file in a folder of dumps, what is known of that.

use crate::dump_files::{FileManifest, Unpacked, recognise};
use crate::list::ListItem;
use crate::list_folder::{self, FolderFile};
use crate::reference::{Reference, resolve_one};
use crate::report::{Outcome, Report};
use crate::{AgeKeys, Compression, Encryption, OperationError, Services, candidates, unlisted};
use engines::ExportForm;
use flow::Manifest;
use jiff::Timestamp;
use repository::StoredFile;
use serde::Serialize;
use std::path::Path;
use storage::{Folder, LocalFolder};

/// The report's own part.
#[derive(Debug, Clone, Serialize)]
pub struct ShowBody {
    /// The backup as a list shows it.
    pub backup: ListItem,
    /// Its manifest; null for files that stock restic stored, and for what is lost.
    pub manifest: Option<Manifest>,
    /// The files, where stock restic stored it.
    pub files: Option<Vec<StoredFile>>,
    /// What is known of it where it is a file of a folder of dumps; null elsewhere.
    pub file: Option<FileFacts>,
}

/// What is known of a file of a folder of dumps.
#[derive(Debug, Clone, Serialize)]
pub struct FileFacts {
    /// Its length.
    pub file_bytes: u64,
    /// The form, by its content; null where that tells none.
    pub form: Option<ExportForm>,
    /// How it is packed; null where it is encrypted and no key was given.
    pub compression: Option<Compression>,
    /// How it is encrypted.
    pub encryption: Option<Encryption>,
    /// Why its content says nothing; null where it does.
    pub problem: Option<String>,
    /// The manifest beside it; null where there is none.
    pub manifest: Option<Box<FileManifest>>,
}

/// Shows a file of a folder of dumps: what its manifest says, else its name and its first bytes.
pub fn of_file(services: &Services, found: FolderFile, keys: &AgeKeys) -> Report<ShowBody> {
    let started = Timestamp::now();
    let mut facts = FileFacts {
        file_bytes: found.file.size_bytes,
        form: None,
        compression: None,
        encryption: None,
        problem: None,
        manifest: found.manifest.clone(),
    };
    let mut engine = None;
    if !found.file.is_folder {
        let place = LocalFolder::of(Path::new(&found.file.path));
        let opened = place.and_then(|(folder, name)| folder.open(&name, 0));
        match opened.and_then(|file| Unpacked::begin_with(file, keys)) {
            Ok(unpacked) => {
                let sealed = unpacked.encryption == Encryption::Age && keys.is_empty();
                (facts.encryption, facts.compression) =
                    (Some(unpacked.encryption), (!sealed).then_some(unpacked.compression));
                match recognise(&services.engines, &unpacked.head) {
                    Ok((kind, form)) => (engine, facts.form) = (Some(kind), Some(form)),
                    Err(reason) => facts.problem = Some(reason),
                }
            }
            Err(error) => facts.problem = Some(format!("cannot be read: {error}")),
        }
    }
    if let Some(manifest) = &facts.manifest {
        (facts.form, facts.compression) = (Some(manifest.form), Some(manifest.compression));
    }
    let mut backup = list_folder::item(services, found);
    backup.engine = backup.engine.or(engine);
    let body = ShowBody { backup, manifest: None, files: None, file: Some(facts) };
    Report::new("show", started, Outcome::Complete, body)
}

/// Shows a backup.
pub fn run(services: &Services, reference: &Reference) -> Result<Report<ShowBody>, OperationError> {
    let started = Timestamp::now();
    let records = candidates::load(services, reference)?;
    unlisted::refuse(services, &records, reference)?;
    let record = resolve_one(&records, reference, &services.host)?;
    let (manifest, files) = if record.lost.is_some() {
        (None, None)
    } else if record.engine.is_some() {
        (Some(services.repository.open(&record.id, &services.context)?.manifest().clone()), None)
    } else {
        let files = services.repository.files(&record.snapshot, &services.context)?;
        (None, Some(files.files().to_vec()))
    };
    Ok(Report::new(
        "show",
        started,
        Outcome::Complete,
        ShowBody { backup: record.into(), manifest, files, file: None },
    ))
}
