//! The file operations of a restore, each durable when it returns, none of which ever overwrites what it does not
//! know: names are taken only where they are free, and a file is told by its inode, not by its name.
//!
//! After a crash each of them may be done again.

use crate::sqlite::holders::beside;
use flow::{SourceError, SourceErrorKind};
use rustix::fs::{RenameFlags, XattrFlags};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The files that hold content of a database beside its main file.
pub(super) const SIDECARS: [&str; 2] = ["-wal", "-journal"];
/// All files that SQLite keeps beside a database.
pub(super) const COMPANIONS: [&str; 3] = ["-wal", "-journal", "-shm"];

/// Returns the metadata of a path itself, `None` where there is nothing.
pub(super) fn look(path: &Path) -> Result<Option<Metadata>, SourceError> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, "looked at", error)),
    }
}

/// Returns the inode at a path, `None` where there is nothing.
pub(super) fn inode(path: &Path) -> Result<Option<u64>, SourceError> {
    Ok(look(path)?.map(|metadata| metadata.ino()))
}

/// Returns which companions of a database hold content.
pub(super) fn filled_sidecars(base: &Path) -> Result<Vec<&'static str>, SourceError> {
    let mut filled = Vec::new();
    for suffix in SIDECARS {
        if look(&beside(base, suffix))?.is_some_and(|metadata| metadata.len() > 0) {
            filled.push(suffix);
        }
    }
    Ok(filled)
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> Result<(), SourceError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| failed(folder, "made durable", error))
}

/// Returns the folder of a file.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Removes a file if it is there; tells whether it was.
pub(super) fn remove(path: &Path) -> Result<bool, SourceError> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(path, "removed", error)),
    }
}

/// Removes a database with its companions, the database first and durably so: never is it seen without its `-wal`.
pub(super) fn remove_set(base: &Path) -> Result<(), SourceError> {
    if remove(base)? {
        sync_folder(folder_of(base))?;
    }
    let mut removed = false;
    for suffix in COMPANIONS {
        removed |= remove(&beside(base, suffix))?;
    }
    if removed { sync_folder(folder_of(base)) } else { Ok(()) }
}

/// Renames a file to a name that must be free; false where it is taken.
pub(super) fn rename_to_free(from: &Path, to: &Path) -> Result<bool, SourceError> {
    let cwd = rustix::fs::CWD;
    match rustix::fs::renameat_with(cwd, from, cwd, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::EXIST) => Ok(false),
        // Some network filesystems have no such rename; the target's lock keeps other restores away.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            if look(to)?.is_some() {
                return Ok(false);
            }
            rename_over(from, to).map(|()| true)
        }
        Err(error) => Err(failed(to, "put in place", error.into())),
    }
}

/// Renames a file over what is there.
pub(super) fn rename_over(from: &Path, to: &Path) -> Result<(), SourceError> {
    std::fs::rename(from, to).map_err(|error| failed(to, "replaced", error))
}

/// How a file came to have a second name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// By a hard link.
    Linked,
    /// As a copy, compared byte for byte.
    Copied,
    /// Not at all: the name belongs to another file.
    Taken,
}

/// Gives a file a second name by a hard link; `None` where the filesystem or the kernel refuses links there.
pub(super) fn link(from: &Path, to: &Path) -> Result<Option<Kept>, SourceError> {
    match std::fs::hard_link(from, to) {
        Ok(()) => Ok(Some(Kept::Linked)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let same = look(from)?.zip(look(to)?).is_some_and(|(from, to)| same_file(&from, &to));
            Ok(Some(if same { Kept::Linked } else { Kept::Taken }))
        }
        Err(error) => match error.raw_os_error() {
            Some(
                nix::libc::EXDEV
                | nix::libc::EPERM
                | nix::libc::EMLINK
                | nix::libc::EOPNOTSUPP
                | nix::libc::ENOSYS
                | nix::libc::EINVAL,
            ) => Ok(None),
            _ => Err(failed(to, "made", error)),
        },
    }
}

/// Gives a file a second name on the same filesystem: by a hard link, or as a copy where there are none.
pub(super) fn keep(from: &Path, to: &Path) -> Result<Kept, SourceError> {
    match link(from, to)? {
        Some(kept) => Ok(kept),
        None => copy(from, to),
    }
}

/// Copies a file to a name that must be free, or hold the same bytes already. The copy is written under another name,
/// synced and compared before it gets its own.
pub(super) fn copy(from: &Path, to: &Path) -> Result<Kept, SourceError> {
    if look(to)?.is_some() {
        return Ok(if same_bytes(from, to)? { Kept::Copied } else { Kept::Taken });
    }
    let partial = beside(to, ".backstay-partial");
    remove(&partial)?;
    let result = copy_to(from, &partial).and_then(|()| {
        if same_bytes(from, &partial)? {
            Ok(())
        } else {
            Err(SourceError::new(
                SourceErrorKind::Failed,
                from.display().to_string(),
                format!("the copy {} does not read back as it was written", partial.display()),
            )
            .with_hint("check that disk, or name another folder with `--safety-dir`"))
        }
    });
    let free = match result.and_then(|()| rename_to_free(&partial, to)) {
        Ok(free) => free,
        Err(error) => {
            std::fs::remove_file(&partial).ok();
            return Err(error);
        }
    };
    if !free {
        remove(&partial)?;
    }
    Ok(if free { Kept::Copied } else { Kept::Taken })
}

fn copy_to(from: &Path, partial: &Path) -> Result<(), SourceError> {
    let mut source = open_read(from)?;
    let mut target = create(partial)?;
    let written = |error| failed(partial, "written", error);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = source.read(&mut buffer).map_err(|error| failed(from, "read", error))?;
        if count == 0 {
            break;
        }
        target.write_all(&buffer[..count]).map_err(written)?;
    }
    // An owner that may not be given leaves the copy to whoever runs the restore: its content is what counts.
    copy_owner(from, &target).ok();
    copy_mode(from, &target).map_err(written)?;
    target.sync_all().map_err(written)
}

/// Compares two files byte for byte.
pub(super) fn same_bytes(left: &Path, right: &Path) -> Result<bool, SourceError> {
    let (mut one, mut two) = (open_read(left)?, open_read(right)?);
    let length = |file: &File, path| {
        file.metadata().map(|metadata| metadata.len()).map_err(|error| failed(path, "read", error))
    };
    if length(&one, left)? != length(&two, right)? {
        return Ok(false);
    }
    drop_cache(&two);
    let (mut here, mut there) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let count = one.read(&mut here).map_err(|error| failed(left, "read", error))?;
        if count == 0 {
            return Ok(true);
        }
        match two.read_exact(&mut there[..count]) {
            Ok(()) if here[..count] == there[..count] => {}
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(failed(right, "read", error)),
        }
    }
}

/// Lets go of the cached pages of a file, so that reading it asks the disk. Where that is not heeded, the read still
/// checks what the kernel holds.
pub(super) fn drop_cache(file: &File) {
    rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed).ok();
}

/// Makes a file of mode 0600 under a name that must be free.
pub(super) fn create(path: &Path) -> Result<File, SourceError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| failed(path, "made", error))
}

/// Opens a file for reading. A symbolic link is refused: no file of a restore is one.
pub(super) fn open_read(path: &Path) -> Result<File, SourceError> {
    OpenOptions::new().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(path).map_err(|error| {
        SourceError::new(SourceErrorKind::Unreadable, path.display().to_string(), "cannot be opened")
            .with_hint("run it as a user who may read that file")
            .with_source(error)
    })
}

/// Gives `to` the owner and the group of the file at `from`, which is not opened: a connection of this process may have
/// it open, and would lose its locks.
pub(super) fn copy_owner(from: &Path, to: &File) -> io::Result<()> {
    let (wanted, given) = (std::fs::symlink_metadata(from)?, to.metadata()?);
    if (wanted.uid(), wanted.gid()) == (given.uid(), given.gid()) {
        return Ok(());
    }
    std::os::unix::fs::fchown(to, Some(wanted.uid()), Some(wanted.gid()))
}

/// Gives `to` the mode of the file at `from`, and its extended attributes (access lists, labels) where the system lets
/// us. The file at `from` is not opened.
pub(super) fn copy_mode(from: &Path, to: &File) -> io::Result<()> {
    let mut names = vec![0; 64 * 1024];
    let length = rustix::fs::llistxattr(from, &mut names[..]).unwrap_or(0);
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 64 * 1024];
        if let Ok(length) = rustix::fs::lgetxattr(from, name, &mut value[..]) {
            rustix::fs::fsetxattr(to, name, &value[..length], XattrFlags::empty()).ok();
        }
    }
    to.set_permissions(std::fs::symlink_metadata(from)?.permissions())
}

/// Tells whether two looks saw the same file.
pub(super) fn same_file(left: &Metadata, right: &Metadata) -> bool {
    (left.dev(), left.ino()) == (right.dev(), right.ino())
}

/// Returns the first of `NAME`, `NAME-2`, `NAME-3`, … that neither a database nor a companion of one has.
pub(super) fn free_name(wanted: &Path) -> Result<PathBuf, SourceError> {
    let mut name = wanted.to_owned();
    let mut number = 1;
    while taken(&name)? {
        number += 1;
        name = beside(wanted, &format!("-{number}"));
    }
    Ok(name)
}

fn taken(base: &Path) -> Result<bool, SourceError> {
    for suffix in ["", "-wal", "-journal", "-shm"] {
        if look(&beside(base, suffix))?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes the error of a file operation, with what mends it.
pub(super) fn failed(path: &Path, verb: &str, error: io::Error) -> SourceError {
    failed_in(folder_of(path), path, verb, error)
}

/// As [`failed`], for what is mended in `folder`.
pub(super) fn failed_in(folder: &Path, path: &Path, verb: &str, error: io::Error) -> SourceError {
    let folder = folder.display();
    let (message, hint) = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => (
            format!("cannot be {verb}: no space left on the filesystem"),
            format!("free some space in {folder}, then run it again"),
        ),
        ErrorKind::PermissionDenied => (
            format!("cannot be {verb}: permission denied"),
            format!("run it as a user who may write to {folder}"),
        ),
        ErrorKind::ReadOnlyFilesystem => (
            format!("cannot be {verb}: the filesystem is read-only"),
            format!("mount the filesystem of {folder} for writing, or name another target"),
        ),
        ErrorKind::ResourceBusy => (
            format!("cannot be {verb}: it is a mount point of its own"),
            "restore into it with `--in-place`".to_owned(),
        ),
        ErrorKind::NotFound => {
            (format!("cannot be {verb}: no such file or folder"), format!("look at what became of {folder}"))
        }
        _ => (format!("cannot be {verb}"), format!("look at the filesystem of {folder}")),
    };
    SourceError::new(SourceErrorKind::Unwritable, path.display().to_string(), message)
        .with_hint(hint)
        .with_source(error)
}
