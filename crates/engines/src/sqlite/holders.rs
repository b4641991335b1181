//! Who uses a database file: the processes that hold a lock on it, and those that have it open.
//!
//! Both are read from `/proc`, so they cost no lock and change nothing. They are a look at one moment: a process may
//! come a moment later, and what other users run, or what runs in another container, may not be visible. Whoever must
//! be alone takes a lock as well; these lists are what makes its refusal readable.

use crate::restore::Holder;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The processes that have files open.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Holders {
    /// Each of them once, in the order of their process ids.
    pub(crate) holders: Vec<Holder>,
    /// Whether some processes could not be looked at for lack of rights: then the list may be short.
    pub(crate) unseen: bool,
}

/// Returns who holds a POSIX, `flock` or open-file-description lock on the database at `path`, on its `-wal` or its
/// `-shm`; our own process is left out. A holder in another container has no process id.
pub(crate) fn lock_holders(path: &Path) -> Vec<Holder> {
    let files = identities(&[path.to_owned(), beside(path, "-wal"), beside(path, "-shm")]);
    let Ok(locks) = fs::read_to_string("/proc/locks") else { return Vec::new() };
    let own = std::process::id();
    let mut pids = BTreeSet::new();
    let mut foreign = false;
    for lock in locks.lines().filter_map(Lock::parse) {
        let Some(&(device, _)) = files.iter().find(|(_, inode)| *inode == lock.inode) else { continue };
        let Ok(pid) = u32::try_from(lock.pid) else {
            // A lock of an open file description has no owner; whoever has the file open is found below.
            pids.extend(file_holders(&[path.to_owned()]).holders.iter().filter_map(|holder| holder.pid));
            continue;
        };
        if pid == own {
            continue;
        }
        // Filesystems with volumes show another device here than in `stat`: then the open file is the proof.
        let same_device = (major(device), minor(device)) == lock.device;
        if pid == 0 {
            foreign |= same_device;
        } else if same_device || has_open(pid, &files) == Some(true) {
            pids.insert(pid);
        }
    }
    let mut holders: Vec<_> =
        pids.into_iter().map(|pid| Holder { pid: Some(pid), name: program(pid) }).collect();
    if foreign {
        holders.push(Holder { pid: None, name: "a process of another container".to_owned() });
    }
    holders
}

/// Returns the other processes that have one of these files open. A path that does not exist is passed over.
pub(crate) fn file_holders(paths: &[PathBuf]) -> Holders {
    let files = identities(paths);
    let mut found = BTreeMap::new();
    let mut unseen = false;
    if files.is_empty() {
        return Holders::default();
    }
    let own = std::process::id();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if pid == own {
            continue;
        }
        match has_open(pid, &files) {
            Some(true) => drop(found.insert(pid, program(pid))),
            Some(false) => {}
            None => unseen = true,
        }
    }
    let holders = found.into_iter().map(|(pid, name)| Holder { pid: Some(pid), name }).collect();
    Holders { holders, unseen }
}

/// Tells whether this process itself has one of these files open. Opening and closing it by other means would then
/// drop the locks that a connection of SQLite holds here.
pub(crate) fn open_here(paths: &[PathBuf]) -> bool {
    let files = identities(paths);
    !files.is_empty() && has_open(std::process::id(), &files) == Some(true)
}

/// Returns the files that this process has open, by device and inode; `None` where that cannot be told.
pub(crate) fn files_open_here() -> Option<BTreeSet<(u64, u64)>> {
    let descriptors = fs::read_dir("/proc/self/fd").ok()?.flatten();
    let open = descriptors.filter_map(|descriptor| fs::metadata(descriptor.path()).ok());
    Some(open.map(|metadata| (metadata.dev(), metadata.ino())).collect())
}

/// Returns the path of a file that SQLite keeps beside a database.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Tells whether a process has one of the files open; `None` where it may not be looked at.
fn has_open(pid: u32, files: &BTreeSet<(u64, u64)>) -> Option<bool> {
    let folder = match fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(folder) => folder,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            // Kernel threads and zombies have no command line, and open no files.
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            return if command.is_empty() { Some(false) } else { None };
        }
        Err(_) => return Some(false),
    };
    // Following the link gives the open file itself, whatever it is called by now.
    Some(folder.flatten().any(|descriptor| {
        fs::metadata(descriptor.path())
            .is_ok_and(|metadata| files.contains(&(metadata.dev(), metadata.ino())))
    }))
}

/// Returns the name of a process's program, without its arguments: those could hold a secret.
fn program(pid: u32) -> String {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned();
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let first = command.split(|byte| *byte == 0).next().unwrap_or_default();
    let first = Path::new(std::ffi::OsStr::from_bytes(first)).file_name().map(|name| name.to_string_lossy());
    // The kernel cuts the short name at 15 bytes.
    match first {
        Some(first) if comm.is_empty() || (first.starts_with(&comm) && !first.contains(' ')) => {
            first.into_owned()
        }
        _ if comm.is_empty() => "a process that has ended".to_owned(),
        _ => comm,
    }
}

fn identities(paths: &[PathBuf]) -> BTreeSet<(u64, u64)> {
    paths
        .iter()
        .filter_map(|path| fs::metadata(path).ok())
        .map(|metadata| (metadata.dev(), metadata.ino()))
        .collect()
}

fn major(device: u64) -> u64 {
    ((device >> 8) & 0xfff) | ((device >> 32) & !0xfff)
}

fn minor(device: u64) -> u64 {
    (device & 0xff) | ((device >> 12) & !0xff)
}

/// One line of `/proc/locks`: `1: POSIX  ADVISORY  WRITE 6665 fe:00:9978040 1073741824 1073742335`; a lock that
/// waits has `->` after the number, and holds nothing.
struct Lock {
    pid: i64,
    device: (u64, u64),
    inode: u64,
}

impl Lock {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace().skip(1);
        if words.next()? == "->" {
            return None;
        }
        let pid = words.nth(2)?.parse().ok()?;
        let mut file = words.next()?.split(':');
        let major = u64::from_str_radix(file.next()?, 16).ok()?;
        let minor = u64::from_str_radix(file.next()?, 16).ok()?;
        Some(Self { pid, device: (major, minor), inode: file.next()?.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_locks_is_read_and_a_waiting_one_is_not() {
        let line = "1: POSIX  ADVISORY  WRITE 6665 fe:0a:9978040 1073741824 1073742335";
        let lock = Lock::parse(line).map(|lock| (lock.pid, lock.device, lock.inode));
        assert_eq!(lock, Some((6665, (0xfe, 10), 9_978_040)));
        assert!(Lock::parse("1: -> POSIX  ADVISORY  WRITE 7 fe:00:1 0 EOF").is_none());
        assert!(Lock::parse("1: OFDLCK ADVISORY  WRITE -1 fe:00:1 0 EOF").is_some_and(|lock| lock.pid == -1));
    }

    #[test]
    fn device_numbers_are_split_as_the_kernel_joins_them() {
        let device = 0x1000_0000_0005u64 | (0xfe << 8);
        assert_eq!((major(0xfe00), minor(0xfe00)), (0xfe, 0));
        assert_eq!(major(device) & 0xfff, 0xfe);
    }
}
