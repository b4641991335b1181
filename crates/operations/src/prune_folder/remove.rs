//! The removal itself: of the files that were decided on, and only while each is what it was then and nobody uses it.
//!
//! A directory archive goes at once by its name: a crash leaves a hidden folder, never half an archive under its name.

use super::FolderOptions;
use crate::OperationError;
use crate::dump_files::{DumpFile, FileManifest, unreadable_at};
use std::ffi::OsStr;
use std::io::{self, Read};
use storage::{FileKind, Look, OpenFiles, Removed};

/// What the manifest of a file of ours begins with, within its first bytes.
const MANIFEST_SCHEMA: &[u8] = b"\"backstay.file/";

pub(super) struct Removal<'a> {
    options: &'a FolderOptions,
    files: Box<dyn storage::Removal>,
    open: OpenFiles,
}

impl<'a> Removal<'a> {
    pub(super) fn begin(options: &'a FolderOptions) -> Result<Self, OperationError> {
        let folder = &options.folder;
        let files = folder.removal().map_err(|error| unreadable_at(folder.location(), error))?;
        Ok(Self { options, files, open: folder.open_files() })
    }

    /// Removes a file, with its manifest; in a dry run it only looks. Returns why it stays after all.
    pub(super) fn remove(&mut self, file: &DumpFile, before: &Look) -> io::Result<Option<String>> {
        let (gone, changed) = ("went while the folder was pruned", "changed while the folder was pruned");
        let (folder, name) = (&self.options.folder, file.file_name());
        let now = match folder.look(name) {
            Ok(now) => now,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(gone.to_owned())),
            Err(error) => return Err(error),
        };
        if !before.is_same(&now) {
            return Ok(Some(changed.to_owned()));
        }
        if let Some(reason) = super::in_use(self.options, file, &now, &self.open) {
            return Ok(Some(reason));
        }
        if self.options.dry_run {
            return Ok(None);
        }
        match self.files.remove(name, before)? {
            Removed::Missing => return Ok(Some(gone.to_owned())),
            Removed::Changed => return Ok(Some(changed.to_owned())),
            Removed::Done => {}
        }
        let manifest = FileManifest::name_of(name);
        if !file.is_folder
            && let Some(look) = self.manifest(&manifest)
        {
            self.files.remove(&manifest, &look)?;
        }
        Ok(None)
    }

    /// Looks at what lies beside a file, where that is the manifest that we wrote.
    fn manifest(&self, name: &OsStr) -> Option<Look> {
        let folder = &self.options.folder;
        let look = folder.look(name).ok().filter(|look| look.kind == FileKind::File)?;
        let mut head = Vec::new();
        folder.open(name, 0).ok()?.take(200).read_to_end(&mut head).ok()?;
        head.windows(MANIFEST_SCHEMA.len()).any(|text| text == MANIFEST_SCHEMA).then_some(look)
    }

    /// Makes durable what was removed.
    pub(super) fn finish(self) -> Result<(), OperationError> {
        self.files.finish().map_err(|error| OperationError::Local {
            object: self.options.folder.location(),
            message: "cannot be synced".to_owned(),
            hint: Some("check the disk".to_owned()),
            source: Some(error.into()),
        })
    }
}

/// Returns what the removal of a file gives back: nothing where it has another name too.
pub(super) fn freed_bytes(file: &DumpFile, look: &Look) -> u64 {
    if look.has_other_names { 0 } else { file.size_bytes }
}

pub(super) fn failed(file: &DumpFile, error: io::Error) -> OperationError {
    let denied = error.kind() == io::ErrorKind::PermissionDenied;
    let hint = if denied { "run as a user who may write to the folder" } else { "check the disk" };
    OperationError::Local {
        object: file.path.clone(),
        message: "could not be removed".to_owned(),
        hint: Some(hint.to_owned()),
        source: Some(error.into()),
    }
}
