//! A look for SQLite databases on a machine, for whoever writes a first configuration. Changes nothing, follows no
//! links, ends by itself.

use super::header::Content;
use super::open::Sniffer;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Folders that hold no databases of the user's own.
const SYSTEM_FOLDERS: [&str; 9] =
    ["/proc", "/sys", "/dev", "/run", "/tmp", "/usr", "/boot", "/lib", "/var/cache"];
const OTHER_FOLDERS: [&str; 4] = ["node_modules", "target", "lost+found", "__pycache__"];

/// How far [`discover`] goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiscoverLimits {
    /// How many folders below the given ones.
    pub depth: u32,
    /// How long.
    pub time: Duration,
    /// How many databases.
    pub databases: usize,
}

impl Default for DiscoverLimits {
    fn default() -> Self {
        Self { depth: 6, time: Duration::from_secs(5), databases: 1000 }
    }
}

/// Returns the files in `folders` that have the SQLite header, in the order of their paths. Skips hidden and system
/// folders unless they are given by name, symbolic links, and whatever cannot be read.
pub fn discover(folders: &[PathBuf], limits: DiscoverLimits) -> Vec<PathBuf> {
    let started = Instant::now();
    let sniffer = Sniffer::new();
    let mut found = Vec::new();
    let mut open: Vec<(PathBuf, u32)> = folders.iter().rev().map(|folder| (folder.clone(), 0)).collect();
    while let Some((folder, depth)) = open.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            if started.elapsed() >= limits.time || found.len() >= limits.databases {
                open.clear();
                break;
            }
            let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
            if kind.is_dir() && depth < limits.depth && !is_skipped(&path) {
                open.push((path, depth + 1));
            } else if kind.is_file() && matches!(sniffer.sniff(&path), Ok(Content::Database(_))) {
                found.push(path);
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

fn is_skipped(folder: &Path) -> bool {
    let name = folder.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    name.starts_with('.')
        || OTHER_FOLDERS.contains(&name.as_ref())
        || SYSTEM_FOLDERS.iter().any(|system| folder == Path::new(system))
}
