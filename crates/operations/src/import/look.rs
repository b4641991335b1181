//! What a dump file or folder was when it was looked at, and what is to be told before it is read.

use super::RESERVED_BYTES;
use crate::dump_files::{self, DumpFile, Fingerprint, unreadable};
use crate::plain_file::Compression;
use engines::ExportForm;
use flow::{Context, Event, Finding, Severity, SourceError, SourceErrorKind};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fs::File;
use std::path::Path;

/// What a file was when it was looked at.
#[derive(PartialEq, Eq)]
pub(crate) struct Look {
    identity: (u64, u64),
    pub(crate) size_bytes: u64,
    modified: (i64, i64),
}

impl Look {
    pub(crate) fn at(file: &File, path: &Path) -> Result<Self, SourceError> {
        use std::os::unix::fs::MetadataExt;
        let metadata = file.metadata().map_err(|error| unreadable(path, error))?;
        Ok(Self {
            identity: (metadata.dev(), metadata.ino()),
            size_bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

/// A moment that is still to come stays the newest for long, whatever is backed up meanwhile.
pub(crate) fn tell_future(context: &Context, file: &DumpFile) {
    if file.time > Timestamp::now() {
        context.observer.event(Event::Finding(Finding {
            severity: Severity::Warning,
            object: file.path.clone(),
            message: format!("its time {} is in the future: until then it counts as the newest", file.time),
            hint: Some("check the clock of the host that wrote it, and --time-zone".to_owned()),
        }));
    }
}

/// Asks for the room that the database will take; how much a packed file unpacks to is a guess.
pub(crate) fn enough_space(
    folder: &Path,
    file_bytes: u64,
    compression: Compression,
    form: ExportForm,
) -> Result<(), SourceError> {
    let Ok(space) = rustix::fs::statvfs(folder) else { return Ok(()) };
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    let factor = match (compression, form) {
        (Compression::None, _) => 1,
        (_, ExportForm::Sql) => 4,
        _ => 2,
    };
    let needed = file_bytes.saturating_mul(factor).saturating_add(RESERVED_BYTES);
    if needed <= free {
        return Ok(());
    }
    let message = format!("scratch space has {free} bytes free, and about {needed} are needed");
    Err(SourceError::new(SourceErrorKind::Failed, folder.display().to_string(), message)
        .with_hint("make room there, or name another folder by --scratch"))
}

/// What the files of a folder were when it was looked at.
#[derive(PartialEq, Eq)]
pub(super) struct FolderLook(Vec<(OsString, Look)>);

impl FolderLook {
    /// Looks at the files of a folder; folders in it are none of the dump.
    pub(super) fn at(folder: &Path) -> Result<Self, SourceError> {
        let unread = |error| unreadable(folder, error);
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(unread)? {
            let entry = entry.map_err(unread)?;
            if entry.file_type().map_err(unread)?.is_file() {
                let path = entry.path();
                let file = File::open(&path).map_err(|error| unreadable(&path, error))?;
                files.push((entry.file_name(), Look::at(&file, &path)?));
            }
        }
        files.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Self(files))
    }

    /// Returns the length of all of them.
    pub(super) fn size_bytes(&self) -> u64 {
        self.0.iter().map(|(_, look)| look.size_bytes).sum()
    }

    /// Reads all of them, and returns what they are together: the digest of the lines that `sha256sum *` writes in that
    /// folder.
    pub(super) fn fingerprint(&self, folder: &Path) -> Result<Fingerprint, SourceError> {
        let mut lines = Sha256::new();
        let mut size_bytes = 0;
        for (name, _) in &self.0 {
            let path = folder.join(name);
            let unread = |error| unreadable(&path, error);
            let file = dump_files::fingerprint(File::open(&path).map_err(unread)?).map_err(unread)?;
            lines.update(file.sha256.as_bytes());
            lines.update(b"  ");
            lines.update(name.as_encoded_bytes());
            lines.update(b"\n");
            size_bytes += file.size_bytes;
        }
        let sha256 = lines.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Fingerprint { sha256, size_bytes })
    }
}
