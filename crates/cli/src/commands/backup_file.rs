//! `backup --out`: one database into one plain file, without a repository.

use crate::age_options::Recipients;
use crate::errors::Failure;
use crate::json::Finished;
use crate::opening;
use crate::plain_output::{self, StreamForm};
use crate::session::Session;
use crate::wording::{duration, size};
use clap::Args;
use config::SourceArgument;
use flow::{DumpOptions, Selection, quoted};
use operations::backup::BackupTarget;
use std::path::{Path, PathBuf};

/// The options of a plain file.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct FileOptions {
    /// Write one plain file instead, without a repository: a name, or - for standard output
    ///
    /// The form follows from the ending: .db (SQLite), .sql, .dump or .tar (PostgreSQL), then .gz, .zst, .lz4, .xz or
    /// .bz2 where it shall be compressed, then .age where it shall be encrypted. A file that exists is never written over.
    #[arg(long, value_name = "FILE|-", conflicts_with_all = ["all", "tag", "no_prune", "read_all", "jobs"])]
    pub(crate) out: Option<PathBuf>,

    /// The form, with --out -
    #[arg(long, value_name = "FORM", requires = "out")]
    pub(crate) form: Option<StreamForm>,

    #[command(flatten)]
    pub(crate) recipients: Recipients,
}

/// Writes a source into a file.
pub(crate) fn run(
    session: &Session,
    source: &SourceArgument<'_>,
    selection: Option<Selection>,
    dump: &DumpOptions,
    (out, file, dry_run): (&Path, &FileOptions, bool),
) -> Result<Finished, Failure> {
    plain_output::check(session, out, file.form, dry_run)?;
    let target = BackupTarget {
        target: source.target.clone(),
        plan: None,
        only: source.only.clone(),
        among: None,
        selection,
        before: source.configured.and_then(|configured| configured.before_backup.clone()),
        after: source.configured.and_then(|configured| configured.after_backup.clone()),
        tags: vec![],
        retention: None,
    };
    let services = opening::without_repository(session)?;
    let report = plain_output::written(session, out, (file.form, &file.recipients), |out| {
        Ok(operations::backup_file::run(&services, &target, out, dump, dry_run)?)
    })?;
    let file = report.body.file.as_ref();
    let place = file.and_then(|file| file.path.as_deref()).map_or("standard output".to_owned(), quoted);
    let database = report.body.backups.first().and_then(|item| item.database.as_ref());
    let label = session.label(source.target.name.as_str(), database.map(flow::DatabaseName::as_str), None);
    if dry_run {
        session
            .console
            .say(&format!("Would write {label} to {place}. Nothing was written: this was a dry run."));
    } else {
        let bytes = size(file.and_then(|file| file.written_bytes).unwrap_or(0));
        let time = duration(report.elapsed_ms);
        session.console.say(&format!("Wrote {label} to {place} ({bytes}) in {time}."));
    }
    Finished::new(&report)
}
