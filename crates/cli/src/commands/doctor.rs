//! `doctor`: what would stop or spoil a backup or a restore, each with the fix: of a source, or of everything that is
//! configured and the repositories it goes to. Looks only.

use crate::doctor_repositories;
use crate::errors::{Failure, exit};
use crate::json::Finished;
use crate::opening;
use crate::session::Session;
use crate::wording::{count, size};
use clap::Args;
use flow::{Finding, Severity};
use operations::OperationError;
use operations::doctor::{DoctorBody, Examined};
use operations::report::{Outcome, Report};
use std::path::Path;

/// Find what would stop or spoil a backup, each with the fix
///
/// Without a SOURCE: every configured target, and the repositories: whether they can be opened and written to, whether there is
/// space for the next backup, how old the newest one of each target is, whether a copy of the key was confirmed, what is
/// locked, damaged or dated in the future. Notices about single databases are shown with --verbose.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  backstay doctor                               everything configured, and the repositories
  backstay doctor --repository /mnt/backups     that repository
  backstay doctor erp --integrity               one target, its content too")]
pub(crate) struct Options {
    /// A configured target, one tenant of it, a SQLite file, a folder, a glob, or a postgres:// URL
    #[arg(value_name = "SOURCE")]
    source: Option<String>,

    /// Let the database system check the whole content of the live database (SQLite itself; pg_amcheck for PostgreSQL)
    #[arg(long)]
    integrity: bool,
}

pub(crate) fn run(session: &Session, options: &Options) -> Result<Finished, Failure> {
    let body = match &options.source {
        Some(source) => of_source(session, options, source)?,
        None => of_all(session, options)?,
    };
    for examined in &body.repositories {
        doctor_repositories::show(session, examined)?;
    }
    for finding in &body.findings {
        session.console.data(&session.console.finding(finding))?;
    }
    for examined in &body.databases {
        show(session, examined, options.source.is_none())?;
    }
    for skipped in &body.skipped {
        session.console.detail(&format!("Passed over {}: {}.", skipped.object, skipped.reason));
    }
    finish(session, options, body)
}

fn of_source(session: &Session, options: &Options, text: &str) -> Result<DoctorBody, Failure> {
    let source = session.live_source(text)?;
    let mut body = operations::doctor::run(
        &session.engines,
        &source.target,
        source.only.as_ref(),
        options.integrity,
        &session.context,
    )?;
    if source.only.is_some() && body.databases.is_empty() {
        return Err(Failure::new(exit::DATABASE, format!("{text}: the target has no such database")));
    }
    let needed = body.databases.iter().filter_map(|database| database.size_bytes).sum();
    if let Ok(place) = opening::place_of(session, Some(&source)) {
        let path = &place.repository.path;
        body.findings.extend(free_bytes(path).and_then(|free| space(path, free, needed)));
    }
    Ok(body)
}

/// Returns what is free where a path lies, or will lie.
fn free_bytes(path: &Path) -> Option<u64> {
    let there = path.ancestors().find(|path| path.exists())?;
    let status = rustix::fs::statvfs(there).ok()?;
    Some(status.f_bavail.saturating_mul(status.f_frsize))
}

/// Tells of a repository that the databases would not fit into as they are.
fn space(path: &Path, free: u64, needed: u64) -> Option<Finding> {
    (free < needed).then(|| Finding {
        severity: Severity::Warning,
        object: path.display().to_string(),
        message: format!(
            "{} is free for the repository, and what is to be backed up has {}: its first backup may not fit",
            size(free),
            size(needed)
        ),
        hint: Some(
            "free some space there, or name another repository; a backup takes about a third, compressed"
                .to_owned(),
        ),
    })
}

/// Looks at everything; a target that cannot be looked at is a finding.
fn of_all(session: &Session, options: &Options) -> Result<DoctorBody, Failure> {
    let repositories = doctor_repositories::repositories(session)?;
    let mut whole = DoctorBody { repositories, ..DoctorBody::default() };
    for (name, target) in &session.settings.targets {
        let found = operations::doctor::run(
            &session.engines,
            &target.target,
            None,
            options.integrity,
            &session.context,
        );
        match found {
            Ok(body) => {
                whole.databases.extend(body.databases);
                whole.skipped.extend(body.skipped);
            }
            Err(OperationError::Cancelled) => return Err(OperationError::Cancelled.into()),
            Err(error) => whole.findings.push(Finding {
                severity: Severity::Problem,
                object: format!("target {name}"),
                message: error.to_string(),
                hint: error.hint().map(str::to_owned),
            }),
        }
        let has_backup = |repository: &operations::doctor_repository::ExaminedRepository| {
            repository.unlisted != Some(0)
                || repository.targets.iter().any(|newest| newest.target.as_str() == name)
        };
        if !whole.repositories.iter().any(has_backup) {
            whole.findings.push(Finding {
                severity: Severity::Warning,
                object: format!("target {name}"),
                message: "it has no backup yet".to_owned(),
                hint: Some(format!("backstay backup {}", flow::quoted(name))),
            });
        }
    }
    doctor_repositories::on_one_disk(&mut whole.repositories, &whole.databases);
    Ok(whole)
}

/// Shows a database; of many only what was found.
fn show(session: &Session, examined: &Examined, brief: bool) -> Result<(), Failure> {
    let brief = brief && !session.globals.verbose;
    let matters = |finding: &&Finding| !brief || finding.severity != Severity::Notice;
    if brief && !examined.findings.iter().any(|finding| matters(&finding)) {
        return Ok(());
    }
    let name =
        session.label(examined.target.as_str(), Some(examined.database.as_str()), Some(&examined.connection));
    let version = examined.engine_version.as_deref().unwrap_or("of unknown version");
    let bytes = examined.size_bytes.map_or("of unknown size".to_owned(), size);
    session.console.data(&format!("{name}: {} {version}, {bytes}", examined.engine))?;
    for finding in examined.findings.iter().filter(matters) {
        session.console.data(&session.console.finding(finding))?;
    }
    Ok(())
}

fn finish(session: &Session, options: &Options, body: DoctorBody) -> Result<Finished, Failure> {
    let problems = body.findings().filter(|finding| finding.severity == Severity::Problem).count() as u64;
    let warnings = body.findings().filter(|finding| finding.severity == Severity::Warning).count() as u64;
    let mut number = count(body.databases.len() as u64, "database", "databases");
    if options.source.is_none() {
        let repositories = count(body.repositories.len() as u64, "repository", "repositories");
        number = format!("{repositories} and {number}");
    }
    let outcome = if problems > 0 { Outcome::Failed } else { Outcome::Complete };
    let report = Report::new("doctor", session.started, outcome, body);
    if problems > 0 {
        let found = count(problems, "problem", "problems");
        return Finished::failing(report, Failure::new(exit::NOT_VALID, format!("{found} in {number}")));
    }
    let but = if warnings == 0 {
        String::new()
    } else {
        format!(", with {}", count(warnings, "warning", "warnings"))
    };
    session.console.say(&format!("Examined {number}: nothing stands in the way of a backup{but}."));
    Finished::new(&report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_that_a_first_backup_may_need_is_told_of() {
        assert_eq!(space(Path::new("/r"), 100, 100), None);
        let told =
            space(Path::new("/r"), 1 << 20, 2 << 20).map(|finding| finding.message).unwrap_or_default();
        assert!(told.starts_with("1.0 MiB is free for the repository"), "{told}");
        assert!(free_bytes(Path::new("/nowhere/at/all")).is_some());
    }
}
