//! A folder of plain files on a local or mounted disk.
//!
//! What is written lies hidden, as `.NAME.PID.partial`, synced and locked by its process, until it gets its name: by a hard
//! link, which never takes the place of another file. A crash leaves such a file, which nobody has locked any more. Removal
//! goes by names within the folder that is held open.

use crate::durable::parent;
use crate::folder::{
    Folder, FolderGuard, Leftover, Listed, LockKind, LockRefused, NewFile, Removal, Removed,
};
use crate::look::{FileKind, Look, look_at};
use crate::{FileOperations, OpenFiles, SystemFiles, folder_lock};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const ENDING: &str = ".partial";
/// How many names are tried for a file that is being written.
const TRIED: u32 = 1000;

/// A folder of this machine. Making one looks at nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalFolder {
    path: PathBuf,
}

impl LocalFolder {
    /// Takes a folder by its path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Takes the folder in which a file lies, and the file's name in it.
    pub fn of(file: &Path) -> io::Result<(Self, OsString)> {
        let name = file
            .file_name()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "is no name of a file"))?;
        Ok((Self::new(parent(file)), name.to_owned()))
    }
}

impl Folder for LocalFolder {
    fn location(&self) -> String {
        self.path.display().to_string()
    }

    fn location_of(&self, name: &OsStr) -> String {
        self.path.join(name).display().to_string()
    }

    fn local_path(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn list(&self) -> io::Result<Vec<Listed>> {
        let mut listed = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            let look = entry.metadata().and_then(|metadata| look_at(&metadata));
            // It went since the names were read: whoever prunes or renames is at work.
            if look.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
                continue;
            }
            listed.push(Listed { name: entry.file_name(), look });
        }
        Ok(listed)
    }

    fn look(&self, name: &OsStr) -> io::Result<Look> {
        look_at(&self.path.join(name).symlink_metadata()?)
    }

    fn look_behind(&self, name: &OsStr) -> io::Result<Look> {
        look_at(&std::fs::metadata(self.path.join(name))?)
    }

    fn open(&self, name: &OsStr, from: u64) -> io::Result<Box<dyn Read + Send>> {
        let mut file = File::open(self.path.join(name))?;
        if from > 0 {
            file.seek(SeekFrom::Start(from))?;
        }
        Ok(Box::new(file))
    }

    fn below(&self, name: &OsStr) -> Box<dyn Folder> {
        Box::new(Self::new(self.path.join(name)))
    }

    fn create(&self, name: &OsStr) -> io::Result<Box<dyn NewFile>> {
        // In a container every process has the same number: what one left that was killed has the name that the next one
        // would take.
        let mut number = 0;
        loop {
            let further = if number == 0 { String::new() } else { format!("-{number}") };
            let mut hidden = OsString::from(".");
            hidden.push(name);
            hidden.push(format!(".{}{further}{ENDING}", std::process::id()));
            let path = self.path.join(hidden);
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < TRIED => number += 1,
                Err(error) => return Err(error),
                Ok(file) => {
                    // Between the two somebody may have taken it for one that was left: then it is made again.
                    if is_locked_as(&file, &path)? || number >= TRIED {
                        return Ok(Box::new(LocalNew { folder: self.path.clone(), path: Some(path), file }));
                    }
                    number += 1;
                }
            }
        }
    }

    fn leftovers(&self) -> io::Result<Vec<Leftover>> {
        let mut left = Vec::new();
        for entry in std::fs::read_dir(&self.path)?.flatten() {
            let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
            let hidden = entry.file_name();
            let Some(name) = hidden.to_str().filter(|_| is_file).and_then(wanted_name) else { continue };
            let path = entry.path();
            let flags = OFlags::NOFOLLOW.bits() as i32;
            if let Ok(file) = OpenOptions::new().read(true).custom_flags(flags).open(&path)
                && rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
                && is_locked_as(&file, &path).unwrap_or(false)
            {
                let file = LocalNew { folder: self.path.clone(), path: Some(path), file };
                left.push(Leftover { name: name.into(), file: Box::new(file) });
            }
        }
        Ok(left)
    }

    fn removal(&self) -> io::Result<Box<dyn Removal>> {
        let folder = File::open(&self.path)?;
        Ok(Box::new(LocalRemoval { path: self.path.clone(), folder, removed: false }))
    }

    fn try_lock(&self, kind: LockKind) -> Result<FolderGuard, LockRefused> {
        folder_lock::take(&self.path, kind)
    }

    fn open_files(&self) -> OpenFiles {
        OpenFiles::look()
    }
}

/// Locks a file, and tells whether it still is what bears its name. Where a filesystem has no locks nobody can take it for
/// one that was left.
fn is_locked_as(file: &File, path: &Path) -> io::Result<bool> {
    if let Err(Errno::WOULDBLOCK) = rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        return Ok(false);
    }
    let held = file.metadata()?;
    let named = path.symlink_metadata();
    Ok(named.is_ok_and(|named| (named.dev(), named.ino()) == (held.dev(), held.ino())))
}

/// Returns the name that a file was to get whose hidden one is `.NAME.PID.partial` or `.NAME.PID-NUMBER.partial`.
fn wanted_name(hidden: &str) -> Option<&str> {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (own, process) = hidden.strip_prefix('.')?.strip_suffix(ENDING)?.rsplit_once('.')?;
    let (process, further) = process.split_once('-').unwrap_or((process, "0"));
    (!own.is_empty() && number(process) && number(further)).then_some(own)
}

/// A hidden file, locked while it is open.
struct LocalNew {
    folder: PathBuf,
    /// `None` once it is not ours to remove.
    path: Option<PathBuf>,
    file: File,
}

impl LocalNew {
    fn path(&self) -> io::Result<&Path> {
        self.path.as_deref().ok_or_else(|| io::Error::other("it has its name already"))
    }

    fn sync_folder(&self) -> io::Result<()> {
        SystemFiles.sync_folder(&self.folder)
    }
}

impl Write for LocalNew {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.file.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl NewFile for LocalNew {
    fn put_front(&mut self, front: &[u8]) -> io::Result<()> {
        self.file.write_all_at(front, 0)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn read_back(&self) -> io::Result<Box<dyn Read + Send>> {
        let file = File::open(self.path()?)?;
        // What is synced need not stay in memory; where the system keeps it, it is read from there.
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        Ok(Box::new(file))
    }

    fn name(&mut self, name: &OsStr) -> io::Result<bool> {
        let (hidden, path) = (self.path()?.to_owned(), self.folder.join(name));
        // A hard link never replaces what came to that name meanwhile; a filesystem without them gets a checked rename.
        let linked = match std::fs::hard_link(&hidden, &path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            Err(_) if path.symlink_metadata().is_ok() => return Ok(false),
            Err(_) => {
                std::fs::rename(&hidden, &path)?;
                false
            }
        };
        if let Err(error) = self.sync_folder() {
            // Not proven durable: whoever saw the name would believe that it is.
            let _ = if linked { std::fs::remove_file(&path) } else { std::fs::rename(&path, &hidden) };
            return Err(error);
        }
        if !linked {
            self.path = None;
        }
        Ok(true)
    }

    fn name_over(mut self: Box<Self>, name: &OsStr) -> io::Result<()> {
        let hidden = self.path.take().ok_or_else(|| io::Error::other("it has its name already"))?;
        std::fs::rename(hidden, self.folder.join(name))?;
        self.sync_folder()
    }

    fn leave(mut self: Box<Self>) {
        self.path = None;
    }
}

impl Drop for LocalNew {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // Where it cannot be removed it stays, hidden and named as partial.
            let _ = std::fs::remove_file(path);
        }
    }
}

struct LocalRemoval {
    path: PathBuf,
    folder: File,
    removed: bool,
}

impl LocalRemoval {
    fn look(&self, name: &OsStr) -> io::Result<Look> {
        // By a descriptor that stands for the name: it neither opens nor follows anything.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let named = rustix::fs::openat(&self.folder, name, flags, Mode::empty())?;
        look_at(&File::from(named).metadata()?)
    }
}

impl Removal for LocalRemoval {
    fn remove(&mut self, name: &OsStr, seen: &Look) -> io::Result<Removed> {
        let now = match self.look(name) {
            Ok(now) => now,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Removed::Missing),
            Err(error) => return Err(error),
        };
        if !seen.is_same(&now) {
            return Ok(Removed::Changed);
        }
        self.removed = true;
        if now.kind != FileKind::Folder {
            rustix::fs::unlinkat(&self.folder, name, AtFlags::empty())?;
            return Ok(Removed::Done);
        }
        let mut aside = OsString::from(".");
        aside.push(name);
        aside.push(format!(".{}.removed", std::process::id()));
        rustix::fs::renameat(&self.folder, name, &self.folder, aside.as_os_str())?;
        std::fs::remove_dir_all(self.path.join(aside))?;
        Ok(Removed::Done)
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        if self.removed { self.folder.sync_all() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_left_of_dead_processes_is_taken_over_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let folder = LocalFolder::new(directory.path());
        let mut stays =
            vec![".a.sql.partial", "a.sql.7.partial", ".a.sql.7x.partial", ".7.partial", ".a.7-.partial"];
        for name in stays.iter().chain(&[".a.sql.7.partial", ".b.db.zst.4711-2.partial"]) {
            std::fs::write(directory.path().join(name), "x").unwrap();
        }
        let mut living = folder.create("c.db".as_ref()).unwrap();
        living.write_all(b"half").unwrap();
        std::os::unix::fs::symlink("a.sql.7.partial", directory.path().join(".l.db.1.partial")).unwrap();
        stays.push(".l.db.1.partial");
        let left = folder.leftovers().unwrap();
        let mut wanted: Vec<&str> = left.iter().map(|left| left.name.to_str().unwrap()).collect();
        wanted.sort_unstable();
        assert_eq!(wanted, ["a.sql", "b.db.zst"]);
        assert!(folder.leftovers().unwrap().is_empty(), "they have an owner again");
        drop(left);
        let own = format!(".c.db.{}.partial", std::process::id());
        let mut expected: Vec<String> = stays.iter().map(|name| (*name).to_owned()).chain([own]).collect();
        expected.sort();
        assert_eq!(names(directory.path()), expected);
        living.leave();
        let left = folder.leftovers().unwrap();
        assert_eq!(left.len(), 1);
        let mut content = String::new();
        left[0].file.read_back().unwrap().read_to_string(&mut content).unwrap();
        assert_eq!(content, "half");
    }

    #[test]
    fn a_folder_that_took_the_place_of_another_loses_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (one, aside) = (directory.path().join("one"), directory.path().join("aside"));
        std::fs::create_dir(&one).unwrap();
        std::fs::write(one.join("a.sql"), "x").unwrap();
        let folder = LocalFolder::new(&one);
        let seen = folder.look("a.sql".as_ref()).unwrap();
        let mut removal = folder.removal().unwrap();
        std::fs::rename(&one, &aside).unwrap();
        std::fs::create_dir(&one).unwrap();
        std::fs::hard_link(aside.join("a.sql"), one.join("a.sql")).unwrap();
        assert_eq!(removal.remove("a.sql".as_ref(), &seen).unwrap(), Removed::Done);
        assert_eq!((names(&one), names(&aside)), (vec!["a.sql".to_owned()], vec![]));
        removal.finish().unwrap();
    }

    #[test]
    fn a_folder_in_it_goes_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let folder = LocalFolder::new(directory.path());
        std::fs::create_dir(directory.path().join("archive")).unwrap();
        std::fs::write(directory.path().join("archive/toc.dat"), "x").unwrap();
        let seen = folder.look("archive".as_ref()).unwrap();
        let mut removal = folder.removal().unwrap();
        assert_eq!(removal.remove("archive".as_ref(), &seen).unwrap(), Removed::Done);
        assert_eq!(removal.remove("archive".as_ref(), &seen).unwrap(), Removed::Missing);
        assert_eq!(names(directory.path()), [""; 0]);
    }
}
