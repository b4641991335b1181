//! `verify`: reads back what is stored and says PASS or FAIL for each backup. Paths are dump files: `verify_files`.

use super::verify_files::{self, FileOptions};
use crate::errors::{Failure, exit};
use crate::folder_backups;
use crate::globals::DryRun;
use crate::json::Finished;
use crate::opening;
use crate::references::{is_bare_path, reference};
use crate::session::Session;
use crate::wording::{count, duration, size};
use clap::Args;
use flow::quoted;
use operations::reference::short;
use operations::verify::VerifyItem;
use std::path::PathBuf;

/// Read back what is stored, every byte; or dump files of any tool
///
/// Without a BACKUP: the newest backup of every database. The outcome is kept in the repository as the backup's proof.
///
/// A path is a dump file, a folder of them, or a pattern in quotes: SQLite databases and their SQL text, SQL text, custom,
/// tar and directory archives of PostgreSQL, Neo4j dumps; plain, or packed by gzip, zstd, lz4, xz or bzip2. What a file is, is told by its
/// content. Each is read to its end: the packing with its checksums, SQLite databases by their integrity check (with the
/// -wal beside), SQL text for complete statements and the closing line of the tool that wrote it, archives by their table of
/// contents and every block of data, and the SHA-256 that lies beside (FILE.json, FILE.sha256). A dump that holds nothing at
/// all fails. The age is that of the time in the name, else of the modification.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  backstay verify
  backstay verify /srv/shop/shop.db@latest
  backstay verify shops                   the newest backup of each database of a target
  backstay verify 3fa1c0de
  backstay verify /srv/dumps              every dump file in a folder
  backstay verify '/srv/dumps/acme-*.sql.gz' --latest --max-age 25h --min-size 1MB")]
pub(crate) struct Options {
    /// The backups: an id, SOURCE@latest, SOURCE@latest~2, SOURCE@2026-11-20T02:00, a configured target, or latest; or dump
    /// files, folders of them, and patterns
    #[arg(value_name = "BACKUP|PATH")]
    backups: Vec<String>,

    #[command(flatten)]
    files: FileOptions,

    #[command(flatten)]
    pub(crate) dry_run: DryRun,
}

pub(crate) fn run(session: &Session, options: &Options) -> Result<Finished, Failure> {
    let mut references = Vec::new();
    let mut paths = Vec::new();
    for text in &options.backups {
        if is_bare_path(session, text)? {
            paths.push(text.as_str());
        } else {
            references.push(reference(session, text)?);
        }
    }
    if !paths.is_empty() {
        if let Some(reference) = references.first() {
            return Err(Failure::usage(
                format!("`{}` is a backup and `{}` a dump file", reference.text, paths[0]),
                format!(
                    "verify them apart; the newest backup of a database is {}",
                    quoted(&format!("{}@latest", paths[0]))
                ),
            ));
        }
        return verify_files::run(session, &options.files, (&paths, &[]), options.dry_run.dry_run);
    }
    if let Some((files, identities)) = of_files(session, &options.backups)? {
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        return verify_files::run(session, &options.files, (&files, &identities), options.dry_run.dry_run);
    }
    options.files.refuse_for_backups()?;
    let services = match options.backups.first() {
        Some(first) => opening::for_backup_argument(session, first)?,
        None => opening::for_source(session, None)?,
    };
    let report = operations::verify::run(&services, &references, options.dry_run.dry_run)?;
    let body = &report.body;
    for item in &body.files {
        let line = line(session, item, options.dry_run.dry_run);
        session.console.data(&line)?;
    }
    if options.dry_run.dry_run {
        session.console.say("Nothing was read: this was a dry run.");
        return Finished::new(&report);
    }
    session.console.say(&format!(
        "Verified {} ({} read) in {}.",
        count(body.summary.total_files, "backup", "backups"),
        size(body.performance.bytes_read),
        duration(report.elapsed_ms)
    ));
    if body.summary.all_valid {
        return Finished::new(&report);
    }
    let failure = Failure::new(
        exit::NOT_VALID,
        format!(
            "{} of {} failed",
            body.summary.invalid,
            count(body.summary.total_files, "backup", "backups")
        ),
    )
    .with_hint("`backstay check --read-data` names everything that is damaged, and the backups it affects");
    Finished::failing(report, failure)
}

/// Paths, and the identity files by which encrypted ones are read.
type FilesAndIdentities = (Vec<String>, Vec<PathBuf>);

/// Returns the files that are meant where the repository is a folder of them: all, or those of what is named.
fn of_files(session: &Session, backups: &[String]) -> Result<Option<FilesAndIdentities>, Failure> {
    if backups.is_empty() {
        let Some(folders) = folder_backups::folders(session, None)? else { return Ok(None) };
        let identities = folders.iter().filter_map(|folder| folder.identity.clone());
        let identities = identities.filter(|path| path.exists()).collect();
        let paths = folders.iter().map(|folder| folder.path.display().to_string()).collect();
        return Ok(Some((paths, identities)));
    }
    let (mut files, mut identities, mut elsewhere) = (Vec::new(), Vec::new(), None);
    for text in backups {
        let Some(meant) = folder_backups::meant(session, text)? else {
            elsewhere = Some(text);
            continue;
        };
        identities.extend(meant.identities());
        let newest = meant.databases.iter().filter_map(|database| database.files.first());
        files.extend(newest.map(|file| file.file.path.clone()));
    }
    match (files.is_empty(), elsewhere) {
        (true, _) => Ok(None),
        (false, None) => Ok(Some((files, identities))),
        (false, Some(text)) => Err(Failure::usage(
            format!("the backups of `{text}` are in a repository, and others are files of a folder"),
            "verify them apart",
        )),
    }
}

fn line(session: &Session, item: &VerifyItem, dry_run: bool) -> String {
    let name = session.label(&item.target, Some(&item.database), None);
    let head = if dry_run { "would verify".to_owned() } else { session.console.verdict(item.valid) };
    let mut text = format!("{head}  {}  {name}  {}", short(&item.id.0), size(item.size_bytes));
    for check in item.checks.iter().filter(|check| !check.passed) {
        text.push_str(&format!("\n      {}: {}", check.name, check.detail));
    }
    if let Some(reasons) = &item.suspect {
        text.push_str(&format!(
            "\n      its bytes are right, its content is suspect: {}",
            reasons.join("; ")
        ));
    }
    text
}
