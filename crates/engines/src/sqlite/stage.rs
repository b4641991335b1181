//! The one exception to "no staging": a database that cannot be read where it is, because its `-wal` or hot
//! `-journal` would have to be recovered and nothing may be written there, is copied to scratch and recovered there.
//!
//! File and companions are copied together and looked at before and after: a copy during which any of them changed
//! is thrown away. It is removed when dropped; after a crash it stays in the scratch folder, mode 0700.

use super::failure;
use super::marks::{FileMark, beside};
use flow::{Context, SourceError, SourceErrorKind};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

const ATTEMPTS: u32 = 5;
pub(super) const COMPANIONS: [&str; 2] = ["-wal", "-journal"];

/// A copy of a database in scratch.
pub(super) struct Staged {
    _folder: TempDir,
    path: PathBuf,
}

impl Staged {
    /// Returns the path of the copy.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes an empty folder in scratch and names a database file in it.
    pub(super) fn empty(context: &Context) -> Result<Self, SourceError> {
        let scratch = context.scratch.path();
        let make = || -> io::Result<TempDir> {
            DirBuilder::new().recursive(true).mode(0o700).create(scratch)?;
            tempfile::Builder::new().prefix("sqlite-").tempdir_in(scratch)
        };
        let folder = make().map_err(|error| unwritable(scratch, error))?;
        let path = folder.path().join("database.sqlite");
        Ok(Self { _folder: folder, path })
    }
}

/// Copies the database at `path`, which nobody in this process may have open.
pub(super) fn stage(path: &Path, context: &Context) -> Result<Staged, SourceError> {
    let staged = Staged::empty(context)?;
    for attempt in 0..ATTEMPTS {
        if attempt > 0 && context.cancel.wait(Duration::from_millis(200) * attempt) {
            return Err(SourceError::cancelled(path.display().to_string()));
        }
        let before = look(path)?;
        copy(path, &staged.path, context)?;
        for suffix in COMPANIONS {
            let (from, to) = (beside(path, suffix), beside(&staged.path, suffix));
            if from.exists() {
                match copy(&from, &to, context) {
                    // Its writer may just have removed it: then the look after the copy differs.
                    Err(error) if error.kind == SourceErrorKind::Missing => {}
                    other => other?,
                }
            } else if to.exists() {
                std::fs::remove_file(&to).map_err(|error| unwritable(&to, error))?;
            }
        }
        if look(path)? == before {
            return Ok(staged);
        }
    }
    let message = "changes while it is copied, and cannot be read in place for lack of rights";
    Err(SourceError::new(SourceErrorKind::Busy, path.display().to_string(), message)
        .with_hint("run as a user who may write to the database's folder"))
}

pub(super) fn look(path: &Path) -> Result<Vec<Option<FileMark>>, SourceError> {
    let mut marks = vec![FileMark::look(path)?];
    for suffix in COMPANIONS {
        marks.push(FileMark::look(&beside(path, suffix))?);
    }
    Ok(marks)
}

pub(super) fn copy(from: &Path, to: &Path, context: &Context) -> Result<(), SourceError> {
    let mut source = File::open(from).map_err(|error| failure::io(from, error))?;
    let mut target = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(to)
        .map_err(|error| unwritable(to, error))?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        context.cancel.check().map_err(|_| SourceError::cancelled(from.display().to_string()))?;
        let read = source.read(&mut buffer).map_err(|error| failure::io(from, error))?;
        if read == 0 {
            return Ok(());
        }
        target.write_all(&buffer[..read]).map_err(|error| unwritable(to, error))?;
    }
}

/// Makes the error of a scratch folder that cannot be written.
pub(super) fn unwritable(path: &Path, error: io::Error) -> SourceError {
    let message = "scratch space cannot be written";
    SourceError::new(SourceErrorKind::Failed, path.display().to_string(), message)
        .with_hint("make room there, or name another scratch folder")
        .with_source(error)
}
