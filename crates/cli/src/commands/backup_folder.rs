//! `backup` into a repository of layout `files`: a folder of plain dump files.

use crate::age_options;
use crate::errors::{Failure, exit};
use crate::opening::{self, Place};
use crate::session::Session;
use flow::{DumpOptions, quoted};
use jiff::tz::TimeZone;
use operations::backup::{BackupResult, BackupTarget};
use operations::backup_folder::{self, FolderBackup, FolderTarget};
use std::sync::Arc;
use storage::LocalFolder;

/// A target, and how its plan wants files to be, where they go into a folder.
#[derive(Clone)]
pub(super) struct Planned {
    pub(super) target: BackupTarget,
    pub(super) form: Option<String>,
    pub(super) zone: Option<TimeZone>,
}

/// How a folder's files are called, and for whom they are encrypted.
#[derive(Clone, Copy)]
pub(super) struct Files<'a> {
    pub(super) names: &'a str,
    pub(super) age_recipients: &'a [String],
}

/// Backs up into the folder, which must be there: the reason why it is not is often a disk that is not mounted.
pub(super) fn run(
    session: &Session,
    place: &Place,
    files: Files<'_>,
    targets: Vec<Planned>,
    dump: DumpOptions,
    dry_run: bool,
) -> Result<BackupResult, Failure> {
    let folder = &place.repository.path;
    if !folder.is_dir() {
        let shown = folder.display().to_string();
        let failure = Failure::new(exit::NO_REPOSITORY, format!("{shown}: there is no such folder"));
        return Err(
            failure.with_hint(format!("mkdir -p {}; or is the disk it lies on not mounted?", quoted(&shown)))
        );
    }
    let services = opening::without_repository(session)?;
    let is_sealed = |planned: &Planned| planned.form.as_ref().is_some_and(|form| form.ends_with(".age"));
    let lock = age_options::lock(session, files.age_recipients, targets.iter().any(is_sealed))?;
    let targets = targets.into_iter().map(|planned| FolderTarget {
        target: planned.target,
        form: planned.form,
        zone: planned.zone.unwrap_or_else(|| session.zone.clone()),
    });
    let options = FolderBackup {
        folder: Arc::new(LocalFolder::new(config::canonical_path(folder))),
        names: files.names.to_owned(),
        targets: targets.collect(),
        lock,
        encrypts_all: !files.age_recipients.is_empty(),
        dump,
        dry_run,
    };
    Ok(backup_folder::run(&services, &options)?)
}
