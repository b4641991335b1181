//! SQLite's own lock on a database file, taken without opening the database: it works for one that is damaged, too.
//!
//! The lock belongs to an open file description, so no other descriptor of this process can drop it, and it covers all
//! lock bytes of SQLite: whoever reads, writes or has a `-wal` open holds one of them. A crash drops it.

use crate::sqlite::holders::{Holders, file_holders};
use crate::sqlite::restore::files;
use flow::SourceError;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// SQLite's lock bytes: pending, reserved, and the shared range, 512 bytes from here.
const LOCK_BYTES_START: i64 = 0x4000_0000;
const LOCK_BYTES_LENGTH: i64 = 512;
/// Keeps everybody who speaks SQLite off a database file for as long as it lives.
#[derive(Debug)]
pub(super) struct TargetLock {
    file: File,
    inode: u64,
    effective: bool,
}

impl TargetLock {
    /// Tries to lock the file at `path`; `None` where somebody else holds a lock on it.
    pub(super) fn take(path: &Path) -> Result<Option<Self>, SourceError> {
        let (file, writable) = open(path)?;
        let kind = if writable { libc::F_WRLCK } else { libc::F_RDLCK };
        let effective = match fcntl(&file, FcntlArg::F_OFD_SETLK(&lock_bytes(kind))) {
            Ok(_) => true,
            Err(Errno::EAGAIN | Errno::EACCES) => return Ok(None),
            Err(Errno::ENOLCK | Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) => false,
            Err(error) => return Err(files::failed(path, "locked", error.into())),
        };
        let inode = file.metadata().map_err(|error| files::failed(path, "read", error))?.ino();
        Ok(Some(Self { file, inode, effective }))
    }

    /// Tells whether it is the file at `path` that is locked.
    pub(super) fn holds(&self, path: &Path) -> Result<bool, SourceError> {
        Ok(files::inode(path)? == Some(self.inode))
    }

    /// Tells whether the filesystem has locks at all.
    pub(super) fn is_effective(&self) -> bool {
        self.effective
    }

    /// Returns the other processes that have the locked file open, by whatever name it goes now.
    pub(super) fn holders(&self) -> Holders {
        file_holders(&[PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))])
    }
}

impl Drop for TargetLock {
    /// Gives the lock up by name: a child process that is just being started holds the same open file for a moment.
    fn drop(&mut self) {
        fcntl(&self.file, FcntlArg::F_OFD_SETLK(&lock_bytes(libc::F_UNLCK))).ok();
    }
}

fn lock_bytes(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: LOCK_BYTES_START,
        l_len: LOCK_BYTES_LENGTH,
        l_pid: 0,
    }
}

fn open(path: &Path) -> Result<(File, bool), SourceError> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NOFOLLOW);
    match options.clone().write(true).open(path) {
        Ok(file) => return Ok((file, true)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
            ) => {}
        Err(error) => return Err(files::failed(path, "opened", error)),
    }
    // A database that we may not write can still be replaced: a lock against its writers is what can be had.
    let file = options.open(path).map_err(|error| files::failed(path, "opened", error))?;
    Ok((file, false))
}
