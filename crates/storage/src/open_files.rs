//! Which files somebody has open at this moment, as far as this user may see: by the descriptors of all processes, and
//! by the locks that the system knows of, whoever holds them.
//!
//! One look at `/proc` tells it of thousands of files. It is a look: somebody may come a moment later.

use crate::look::Look;
use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// The files that were open when somebody looked.
#[derive(Debug, Default)]
pub struct OpenFiles {
    /// By device and inode, the process and the name of its program.
    by_descriptor: HashMap<(u64, u64), (u32, String)>,
    /// By inode, of whatever disk: volumes show other device numbers there.
    by_lock: HashMap<u64, u32>,
}

impl OpenFiles {
    /// Looks. Our own descriptors do not count.
    pub fn look() -> Self {
        let own = std::process::id();
        let mut open = Self::default();
        for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            if pid == own {
                continue;
            }
            let descriptors = std::fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
            // Following the link gives the open file itself, whatever it is called by now.
            let files = descriptors.filter_map(|descriptor| std::fs::metadata(descriptor.path()).ok());
            for file in files.filter(Metadata::is_file) {
                open.by_descriptor.entry((file.dev(), file.ino())).or_insert_with(|| (pid, program(pid)));
            }
        }
        for line in std::fs::read_to_string("/proc/locks").unwrap_or_default().lines() {
            if let Some((inode, pid)) = lock(line).filter(|(_, pid)| *pid != own) {
                open.by_lock.insert(inode, pid);
            }
        }
        open
    }

    /// Tells who has a file open: `sqlite3 (process 4711)`.
    pub fn holder(&self, file: &Look) -> Option<String> {
        let inode = file.inode?;
        if let Some((pid, program)) = self.by_descriptor.get(&inode) {
            return Some(format!("{program} (process {pid})"));
        }
        let pid = self.by_lock.get(&inode.1)?;
        Some(if *pid == 0 {
            "a process that holds a lock on it".to_owned()
        } else {
            format!("process {pid}")
        })
    }
}

/// Takes inode and process from a line of `/proc/locks`: `1: POSIX  ADVISORY  WRITE 6665 fe:00:9978040 0 EOF`. A lock that
/// waits has `->` after the number, and holds nothing; one without an owner we know has 0.
fn lock(line: &str) -> Option<(u64, u32)> {
    let mut words = line.split_whitespace().skip(1).peekable();
    if words.peek() == Some(&"->") {
        return None;
    }
    let pid = words.nth(3)?.parse().unwrap_or(0);
    Some((words.next()?.rsplit(':').next()?.parse().ok()?, pid))
}

fn program(pid: u32) -> String {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    if name.trim().is_empty() { "a program".to_owned() } else { name.trim().to_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn what_another_process_has_open_is_seen() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, b"x").unwrap();
        let metadata = crate::look::look_at(&file.as_file().metadata().unwrap()).unwrap();
        assert_eq!(OpenFiles::look().holder(&metadata), None, "our own does not count");
        let input = Stdio::from(std::fs::File::open(file.path()).unwrap());
        let mut child = Command::new("sleep").arg("60").stdin(input).spawn().unwrap();
        let holder = OpenFiles::look().holder(&metadata);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(holder.unwrap().ends_with(&format!("(process {})", child.id())));
    }

    #[test]
    fn locks_are_read_by_inode() {
        assert_eq!(lock("1: POSIX  ADVISORY  WRITE 6665 fe:00:9978040 0 EOF"), Some((9_978_040, 6665)));
        assert_eq!(lock("1: OFDLCK ADVISORY  READ -1 fe:00:7 0 EOF"), Some((7, 0)));
        assert_eq!(lock("1: -> POSIX  ADVISORY  WRITE 7 fe:00:1 0 EOF"), None);
    }
}
