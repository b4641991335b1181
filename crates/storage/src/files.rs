//! The system calls that change files, behind a seam so that tests can record them and make them fail.
//!
//! Nothing else in this crate creates, writes, renames or removes. Reading goes to the file system directly.

use rustix::fs::RenameFlags;
use rustix::io::Errno;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// What changes files. [`SystemFiles`] does it; tests wrap it.
pub trait FileOperations: Send + Sync {
    /// Creates a file that does not exist yet, open for writing.
    fn create_new(&self, path: &Path, mode: u32) -> io::Result<File>;

    /// Writes all of `bytes` at the file's position.
    fn write(&self, file: &mut File, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Makes a file's content durable.
    fn sync_file(&self, file: &File, path: &Path) -> io::Result<()>;

    /// Makes a folder's names durable.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;

    /// Makes a folder whose parent exists.
    fn make_folder(&self, path: &Path, mode: u32) -> io::Result<()>;

    /// Renames a file to a name that is free; fails with [`io::ErrorKind::AlreadyExists`] where it is not.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Renames a file, in place of what bears the name.
    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file's name.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
}

/// The operating system's own.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemFiles;

#[allow(clippy::disallowed_methods, reason = "this is the one place that changes files")]
impl FileOperations for SystemFiles {
    fn create_new(&self, path: &Path, mode: u32) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
    }

    fn write(&self, file: &mut File, _path: &Path, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn sync_file(&self, file: &File, _path: &Path) -> io::Result<()> {
        file.sync_all()
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        match rustix::fs::fsync(File::open(path)?) {
            // Some network file systems have no such thing; they make names durable at once, or never.
            Err(Errno::INVAL | Errno::NOTSUP) => Ok(()),
            other => Ok(other?),
        }
    }

    fn make_folder(&self, path: &Path, mode: u32) -> io::Result<()> {
        DirBuilder::new().mode(mode).create(path)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let here = rustix::fs::CWD;
        match rustix::fs::renameat_with(here, from, here, to, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => link_new(from, to),
            other => Ok(other?),
        }
    }

    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }
}

/// Renames without replacing where the file system has no such rename: NFS, some that run in user space.
#[allow(clippy::disallowed_methods, reason = "part of the one place that changes files")]
fn link_new(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::link(from, to) {
        Ok(()) => {
            // A crash or a failure here leaves a second name that looks like any leftover.
            let _ = std::fs::remove_file(from);
            Ok(())
        }
        // Neither is possible: whoever puts the same name at the same moment is not seen, but names are hashes or
        // random, so the content would be the same.
        Err(Errno::PERM | Errno::NOSYS | Errno::NOTSUP | Errno::MLINK) => {
            if std::fs::symlink_metadata(to).is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            std::fs::rename(from, to)
        }
        Err(other) => Err(other.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]
    use super::*;

    #[test]
    fn both_ways_to_rename_refuse_a_name_that_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        for rename in [link_new, |from: &Path, to: &Path| SystemFiles.rename_new(from, to)] {
            std::fs::write(&from, "new").unwrap();
            rename(&from, &to).unwrap();
            assert!(!from.exists());
            std::fs::write(&from, "newer").unwrap();
            assert_eq!(rename(&from, &to).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(std::fs::read(&to).unwrap(), b"new");
            assert!(from.exists());
            std::fs::remove_file(&to).unwrap();
        }
    }
}
