//! The removal itself: by names within a folder that is held open, so that nobody can put another folder in its place, and
//! only while a file is what it was when it was decided on.
//!
//! A directory archive is renamed out of the way before its files go: a crash leaves a hidden folder, never half an
//! archive under its name.

use super::FolderOptions;
use crate::OperationError;
use crate::dump_files::{DumpFile, MANIFEST_ENDING, OpenFiles, unreadable};
use rustix::fs::AtFlags;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What the manifest of a file of ours begins with, within its first bytes.
const MANIFEST_SCHEMA: &[u8] = b"\"backstay.file/";

pub(super) struct Removal<'a> {
    options: &'a FolderOptions,
    folder: File,
    open: OpenFiles,
    removed: bool,
}

impl<'a> Removal<'a> {
    pub(super) fn begin(options: &'a FolderOptions) -> Result<Self, OperationError> {
        let folder = File::open(&options.folder).map_err(|error| unreadable(&options.folder, error))?;
        Ok(Self { options, folder, open: OpenFiles::look(), removed: false })
    }

    /// Removes a file, with its manifest; in a dry run it only looks. Returns why it stays after all.
    pub(super) fn remove(&mut self, file: &DumpFile, before: &Metadata) -> io::Result<Option<String>> {
        let path = Path::new(&file.path);
        let now = match path.symlink_metadata() {
            Ok(now) => now,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Some("went while the folder was pruned".to_owned()));
            }
            Err(error) => return Err(error),
        };
        if !is_same(before, &now) {
            return Ok(Some("changed while the folder was pruned".to_owned()));
        }
        if let Some(reason) = super::in_use(file, &now, &self.open) {
            return Ok(Some(reason));
        }
        if self.options.dry_run {
            return Ok(None);
        }
        let name = path.file_name().unwrap_or_default();
        self.removed = true;
        if file.is_folder {
            return self.remove_archive(path).map(|()| None);
        }
        rustix::fs::unlinkat(&self.folder, name, AtFlags::empty())?;
        let manifest = format!("{}{MANIFEST_ENDING}", name.to_string_lossy());
        if is_manifest(&self.options.folder.join(&manifest)) {
            rustix::fs::unlinkat(&self.folder, manifest.as_str(), AtFlags::empty())?;
        }
        Ok(None)
    }

    fn remove_archive(&self, path: &Path) -> io::Result<()> {
        let name = path.file_name().unwrap_or_default();
        let aside = format!(".{}.{}.removed", name.to_string_lossy(), std::process::id());
        rustix::fs::renameat(&self.folder, name, &self.folder, aside.as_str())?;
        std::fs::remove_dir_all(self.options.folder.join(aside))
    }

    /// Makes durable what was removed.
    pub(super) fn finish(self) -> Result<(), OperationError> {
        if self.removed {
            let folder = &self.options.folder;
            self.folder.sync_all().map_err(|error| OperationError::Local {
                object: folder.display().to_string(),
                message: "cannot be synced".to_owned(),
                hint: Some("check the disk".to_owned()),
                source: Some(error.into()),
            })?;
        }
        Ok(())
    }
}

fn is_same(before: &Metadata, now: &Metadata) -> bool {
    let look = |file: &Metadata| (file.dev(), file.ino(), file.size(), file.mtime(), file.mtime_nsec());
    look(before) == look(now) && before.file_type() == now.file_type()
}

/// Tells whether what lies beside a file is the manifest that we wrote.
fn is_manifest(path: &Path) -> bool {
    let Ok(metadata) = path.symlink_metadata() else { return false };
    let begins = |path: &Path| -> io::Result<Vec<u8>> {
        let mut head = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(File::open(path)?, 200), &mut head)?;
        Ok(head)
    };
    metadata.is_file()
        && begins(path)
            .is_ok_and(|head| head.windows(MANIFEST_SCHEMA.len()).any(|text| text == MANIFEST_SCHEMA))
}

/// Returns what the removal of a file gives back: nothing where it has another name too.
pub(super) fn freed_bytes(file: &DumpFile, metadata: &Metadata) -> u64 {
    if !file.is_folder && metadata.nlink() > 1 { 0 } else { file.size_bytes }
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
