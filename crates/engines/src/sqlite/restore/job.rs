//! What a restore under way knows: where its files are, how far it got, and the record that says so.
//!
//! [`Job::save`] makes the state durable; whoever is about to change a file that matters calls it first. A crash then
//! finds, under the target's name or under a name in the record, everything that a continuation or a roll-back needs.

use crate::restore::{RestoreMode, RestorePlan, RestoreState};
use crate::sqlite::holders::beside;
use crate::sqlite::record::{Record, record_path};
use crate::sqlite::restore::files;
use crate::sqlite::restore::lock::TargetLock;
use crate::sqlite::restore::passing::Passing;
use flow::{Context, Event, Finding, Phase, SafetySuffix, Severity, SourceError, SourceErrorKind, quoted};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where the files of a restore are. Computed from the target alone, so that it holds wherever the folder is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The file itself, behind all symbolic links.
    pub(super) target: PathBuf,
    /// Its folder.
    pub(super) folder: PathBuf,
    /// Where the backup is written.
    pub(super) image: PathBuf,
    /// The restore record.
    pub(super) record: PathBuf,
}

impl Place {
    /// Finds the place of a target that may or may not exist.
    pub(super) fn of(connection: &str) -> Result<Self, SourceError> {
        let mut path = PathBuf::from(connection);
        // A link is followed by hand: in the middle of a swap it leads nowhere.
        for _ in 0..40 {
            let Ok(link) = std::fs::read_link(&path) else { break };
            path = files::folder_of(&path).join(link);
        }
        let name = path.file_name().ok_or_else(|| {
            SourceError::new(SourceErrorKind::Invalid, connection, "is no path of a file")
                .with_hint("name the database file, with its folder")
        })?;
        let folder = std::fs::canonicalize(files::folder_of(&path)).map_err(|error| {
            let folder = files::folder_of(&path).display().to_string();
            SourceError::new(SourceErrorKind::Unwritable, connection, format!("there is no folder {folder}"))
                .with_hint(format!("make it with `mkdir -p {}`, or name another target", quoted(&folder)))
                .with_source(error)
        })?;
        let target = folder.join(name);
        Ok(Self { image: beside(&target, ".backstay-image"), record: record_path(&target), folder, target })
    }

    /// Returns the name of something that is kept of the target, with the time at which the restore began.
    pub(super) fn stamped(&self, suffix: &str, started: Timestamp) -> PathBuf {
        beside(&self.target, &format!("{suffix}-{}", started.strftime("%Y%m%dT%H%M%SZ")))
    }
}

/// Size and time of a file's content, by which a later change shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    size_bytes: u64,
    modified_s: i64,
    modified_ns: i64,
}

impl Mark {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self { size_bytes: metadata.len(), modified_s: metadata.mtime(), modified_ns: metadata.mtime_nsec() }
    }
}

/// The engine's part of the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Work {
    /// Size of the image.
    pub(super) size_bytes: u64,
    /// Size of its pages.
    pub(super) page_bytes: u32,
    /// The folder of the safety copy, if it is not the target's.
    pub(super) safety_folder: Option<PathBuf>,
    /// What the safety copy is called by.
    #[serde(default)]
    pub(super) safety_suffix: SafetySuffix,
    /// The image's inode, once it was written. Device numbers are not recorded: they change with a reboot, and all
    /// these files are in one folder.
    pub(super) image_inode: Option<u64>,
    /// The image as it was when it took the target's place.
    pub(super) image_mark: Option<Mark>,
    /// The swap, once it was begun.
    pub(super) swap: Option<Swap>,
    /// The write in place, once it was begun.
    pub(super) in_place: Option<InPlace>,
}

/// A swap that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Swap {
    /// The inode of the old database, where there was one.
    pub(super) old_inode: Option<u64>,
    /// The old database as it was kept.
    pub(super) old_mark: Option<Mark>,
    /// The name under which it is kept on the same filesystem, by which it comes back. Its sidecars have theirs.
    pub(super) keep: Option<PathBuf>,
    /// The inode under that name.
    pub(super) keep_inode: Option<u64>,
    /// Whether that name goes when the restore is accepted.
    pub(super) temporary: bool,
    /// A copy of it on another filesystem.
    pub(super) copy: Option<PathBuf>,
    /// Which sidecars are kept with it.
    pub(super) sidecars: Vec<String>,
    /// Whether all of that is durable: only then is the old database touched.
    pub(super) kept: bool,
}

/// A write in place that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct InPlace {
    /// The consistent copy of the old content.
    pub(super) keep: PathBuf,
    /// Whether it goes when the restore is accepted.
    pub(super) temporary: bool,
    /// Whether it is whole and durable: only then is the target written.
    pub(super) kept: bool,
}

/// A restore under way.
pub(super) struct Job {
    pub(super) place: Place,
    pub(super) state: RestoreState,
    pub(super) work: Work,
    pub(super) plan: RestorePlan,
    pub(super) context: Context,
    /// The record, from the preflight until the restore is accepted or undone.
    pub(super) record: Option<Record>,
    /// What is known of the image, while the process that wrote it lives.
    pub(super) passing: Option<Passing>,
    /// The lock that keeps others off the old database.
    pub(super) lock: Option<TargetLock>,
    /// Whether it was accepted or undone.
    pub(super) over: bool,
}

impl Job {
    /// Makes the state durable, where there is a record.
    pub(super) fn save(&mut self) -> Result<(), SourceError> {
        self.state.engine = serde_json::to_value(&self.work).map_err(|error| {
            SourceError::new(
                SourceErrorKind::Invalid,
                self.object(),
                "the restore cannot be recorded: a path is not UTF-8 text",
            )
            .with_source(error)
        })?;
        match &mut self.record {
            Some(record) => record.append(&self.state),
            None => Ok(()),
        }
    }

    /// Returns the name by which errors call the target.
    pub(super) fn object(&self) -> String {
        self.state.request.target.connection.clone()
    }

    pub(super) fn mode(&self) -> RestoreMode {
        self.state.request.mode
    }

    pub(super) fn target(&self) -> &Path {
        &self.place.target
    }

    /// Fails once the restore was asked to stop.
    pub(super) fn check_cancel(&self) -> Result<(), SourceError> {
        self.context.cancel.check().map_err(|_| SourceError::cancelled(self.object()))
    }

    pub(super) fn phase(&self, what: &str, total_bytes: Option<u64>) {
        let name = format!("{what} {}", self.state.request.target.name);
        self.context.observer.event(Event::Phase(Phase { name, total_bytes }));
    }

    pub(super) fn tell(&self, severity: Severity, object: &Path, message: String, hint: Option<String>) {
        let object = object.display().to_string();
        self.context.observer.event(Event::Finding(Finding { severity, object, message, hint }));
    }

    /// Returns the command that takes this restore up again, as a person can run it.
    pub(super) fn command(&self, option: &str) -> String {
        format!("`backstay restore {option} --target {}`", quoted(&self.state.request.target.connection))
    }

    pub(super) fn error(&self, kind: SourceErrorKind, message: impl Into<String>) -> SourceError {
        SourceError::new(kind, self.object(), message)
    }
}
