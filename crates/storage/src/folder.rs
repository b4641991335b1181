//! The seam below folders of plain files: names that people and other tools give, and what can be done with the files that
//! bear them.
//!
//! Other than a [`crate::Storage`], which keeps objects of its own under names of its own, whole and in memory: here files
//! are long streams, others add and remove some meanwhile, and a file is only ever removed while it is the one that was
//! decided on. Calls fail as the system says ([`io::Error`]); who calls says of what.

use crate::{Look, OpenFiles};
use std::any::Any;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, Read, Write};
use std::path::Path;

/// A name in a folder.
#[derive(Debug)]
pub struct Listed {
    /// The name.
    pub name: OsString,
    /// What bears it, where that can be told.
    pub look: io::Result<Look>,
}

/// What became of a file that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// It is gone.
    Done,
    /// It is not the one that was decided on, and stays.
    Changed,
    /// Somebody else removed it.
    Missing,
}

/// Who wants a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockKind {
    /// Whoever reads its files or adds some: many at once.
    Shared,
    /// Whoever removes files: alone.
    Exclusive,
}

/// Why a folder is not locked.
#[derive(Debug)]
pub enum LockRefused {
    /// Others hold it.
    Held,
    /// The folder is not there, or may not be entered.
    Unreadable(io::Error),
    /// Nothing there can be locked.
    Unsupported(io::Error),
}

/// A lock, held until it is dropped or the process ends.
pub struct FolderGuard(
    #[allow(dead_code, reason = "it is held, and never looked at")] Box<dyn Any + Send + Sync>,
);

impl FolderGuard {
    /// Takes what holds the lock while it lives.
    pub fn new(held: impl Any + Send + Sync) -> Self {
        Self(Box::new(held))
    }
}

impl fmt::Debug for FolderGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FolderGuard")
    }
}

/// A file that is being written, or that was left by a process that is gone: it bears no name that a list shows. Dropped it
/// is removed, as far as possible; a process that dies leaves it, for [`Folder::leftovers`].
pub trait NewFile: Write + Send {
    /// Writes over the beginning of what was written, with as many bytes as there are at most.
    fn put_front(&mut self, front: &[u8]) -> io::Result<()>;

    /// Makes durable all that was written.
    fn sync(&mut self) -> io::Result<()>;

    /// Opens what was written, from its first byte on, as the place gives it back: past caches where that is possible.
    fn read_back(&self) -> io::Result<Box<dyn Read + Send>>;

    /// Gives it a name, durably, unless that is taken: then `false`, and it is as before. Where it fails the name is free, as
    /// far as possible.
    fn name(&mut self, name: &OsStr) -> io::Result<bool>;

    /// Gives it a name, durably, in place of what bears it. Where it fails it is left, and not removed.
    fn name_over(self: Box<Self>, name: &OsStr) -> io::Result<()>;

    /// Leaves it as it is, for [`Folder::leftovers`].
    fn leave(self: Box<Self>);
}

/// What a process that is gone left in a folder.
pub struct Leftover {
    /// The name that the file was to get.
    pub name: OsString,
    /// The file, which is ours now.
    pub file: Box<dyn NewFile>,
}

/// Files that are being removed, from a folder in whose place nobody can put another one meanwhile.
pub trait Removal: Send {
    /// Removes what bears a name, while it is what was seen. A folder goes with all that is in it, at once by its name: what
    /// a crash leaves of it is hidden.
    fn remove(&mut self, name: &OsStr, seen: &Look) -> io::Result<Removed>;

    /// Makes durable what was removed.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// A folder of plain files, not of those below it. Names are single ones: without a slash, and not `.` or `..`.
pub trait Folder: fmt::Debug + Send + Sync {
    /// Returns the folder as a path or URL without secrets.
    fn location(&self) -> String;

    /// Returns a file as a path or URL without secrets.
    fn location_of(&self, name: &OsStr) -> String;

    /// Returns where the folder lies, where programs of this machine can read it by a path.
    fn local_path(&self) -> Option<&Path>;

    /// Lists the names, in no order; what vanishes meanwhile may be left out.
    fn list(&self) -> io::Result<Vec<Listed>>;

    /// Returns what bears a name ([`io::ErrorKind::NotFound`] where nothing does). A link is not followed.
    fn look(&self, name: &OsStr) -> io::Result<Look>;

    /// As [`Folder::look`], of what a link leads to.
    fn look_behind(&self, name: &OsStr) -> io::Result<Look> {
        self.look(name)
    }

    /// Opens a file, or what a link leads to, for reading from an offset on; memory does not grow with it. Behind its end there is nothing.
    fn open(&self, name: &OsStr, from: u64) -> io::Result<Box<dyn Read + Send>>;

    /// Returns a folder in this one, whether or not there is such.
    fn below(&self, name: &OsStr) -> Box<dyn Folder>;

    /// Begins a file that is to get this name. Only its owner may read it.
    fn create(&self, name: &OsStr) -> io::Result<Box<dyn NewFile>>;

    /// Takes over what [`Folder::create`] began in processes that are gone. What a living one writes is not among it.
    fn leftovers(&self) -> io::Result<Vec<Leftover>>;

    /// Begins to remove files.
    fn removal(&self) -> io::Result<Box<dyn Removal>>;

    /// Locks the folder, or says at once why not. Where nothing can be locked, nobody can remove anything either, and a
    /// shared lock is granted.
    fn try_lock(&self, kind: LockKind) -> Result<FolderGuard, LockRefused>;

    /// Looks who has files of this machine open.
    fn open_files(&self) -> OpenFiles;
}
