//! `export`: a stored backup as one plain file.

use crate::age_options::{Identities, Recipients};
use crate::errors::Failure;
use crate::folder_backups::{self, Meant};
use crate::globals::DryRun;
use crate::json::Finished;
use crate::opening;
use crate::plain_output::{self, StreamForm};
use crate::references::{find, reference};
use crate::session::Session;
use crate::wording::{duration, size};
use clap::Args;
use flow::{DatabaseRef, quoted};
use operations::export::ExportBody;
use operations::export_file::FileExport;
use operations::reference::{Moment, Selector, short};
use operations::report::Report;
use std::path::PathBuf;

/// Write a backup as one plain file
///
/// The form follows from the ending: .db (SQLite), .sql, .dump or .tar (PostgreSQL), then .gz, .zst, .lz4, .xz or .bz2
/// where it shall be compressed, then .age where it shall be encrypted. A file that exists is never written over.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  backstay export shop.db@latest --out shop.sql.zst
  backstay export erp@latest --out erp.dump
  backstay export 3fa1c0de --out - --form sql | sqlite3 copy.db")]
pub(crate) struct Options {
    /// The backup: an id, SOURCE@latest, SOURCE@latest~2, SOURCE@2026-11-20T02:00, or latest
    #[arg(value_name = "BACKUP")]
    backup: String,

    /// The file, or - for standard output
    #[arg(long, value_name = "FILE|-")]
    out: PathBuf,

    /// The form, with --out -
    #[arg(long, value_name = "FORM")]
    form: Option<StreamForm>,

    #[command(flatten)]
    recipients: Recipients,

    #[command(flatten)]
    identities: Identities,

    #[command(flatten)]
    pub(crate) dry_run: DryRun,
}

pub(crate) fn run(session: &Session, options: &Options) -> Result<Finished, Failure> {
    let dry_run = options.dry_run.dry_run;
    plain_output::check(session, &options.out, options.form, dry_run)?;
    if let Some(meant) = folder_backups::meant(session, &options.backup)? {
        return export_file(session, options, &meant);
    }
    options.identities.refuse_for_backups()?;
    let mut reference = reference(session, &options.backup)?;
    let services = opening::for_backup_argument(session, &options.backup)?;
    if matches!(reference.moment, Moment::At(_)) {
        let record = find(session, &services, &reference)?;
        let (prefix, database) = match record.id.0.split_once(':') {
            Some((prefix, database)) => (prefix.to_owned(), Some(database.to_owned())),
            None => (record.id.0.clone(), None),
        };
        reference.selector = Selector::Id { prefix, database };
    }
    let report = plain_output::written(session, &options.out, (options.form, &options.recipients), |out| {
        Ok(operations::export::run(&services, &reference, out, dry_run)?)
    })?;
    tell(session, &report);
    Finished::new(&report)
}

/// Writes a file of a folder anew.
fn export_file(session: &Session, options: &Options, meant: &Meant<'_>) -> Result<Finished, Failure> {
    let keys = options.identities.keys(session, &meant.identities())?;
    let chosen = meant.one(session)?;
    let Some(file) = chosen.files.first() else { return Err(Failure::usage("there is no such file", "")) };
    let connection = file.manifest.as_ref().map_or(file.file.path.clone(), |own| own.connection.clone());
    let (target, name) = (chosen.target.clone(), chosen.database.clone());
    let export = FileExport {
        file: file.file.clone(),
        database: DatabaseRef { target, name, connection },
        keys,
        dry_run: options.dry_run.dry_run,
    };
    let services = opening::without_repository(session)?;
    let report = plain_output::written(session, &options.out, (options.form, &options.recipients), |out| {
        Ok(operations::export_file::run(&services, &export, out)?)
    })?;
    tell(session, &report);
    Finished::new(&report)
}

fn tell(session: &Session, report: &Report<ExportBody>) {
    let body = &report.body;
    let place = body.path.as_deref().map_or("standard output".to_owned(), quoted);
    let is_file = body.backup.0.starts_with('/');
    let from = if is_file { body.backup.0.clone() } else { short(&body.backup.0) };
    let bytes = size(body.written_bytes);
    if body.dry_run {
        session
            .console
            .say(&format!("Would export {from} to {place}. Nothing was written: this was a dry run."));
    } else {
        let time = duration(report.elapsed_ms);
        session.console.say(&format!("Exported {from} to {place} ({bytes}) in {time}."));
    }
}
