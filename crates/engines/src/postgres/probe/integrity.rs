//! Whether the content is damaged: what the server noticed by itself, and what `pg_amcheck` finds, which reads every
//! table and every B-tree index under locks that let everybody read and write.

use super::Findings;
use crate::postgres::connection::Settings;
use crate::postgres::session::Session;
use crate::postgres::tools::{self, Access, Running};
use flow::{Context, Severity, SourceError};
use std::io::{BufRead, BufReader};
use std::process::ChildStdout;

/// How many problems are told one by one.
const PROBLEMS_MAX: usize = 100;
/// The oldest server whose tables can be checked.
const CHECKED_SINCE: i32 = 140_000;
const DAMAGE: &str = "restore the newest backup that is proven beside it and compare, or save what is left with pg_dump \
     of single tables; stop writing to it until then";

/// Tells of pages that failed their checksum, and, where that matters, that there are no checksums.
pub(super) fn checksums(
    session: &mut Session,
    integrity: bool,
    findings: &mut Findings,
) -> Result<(), SourceError> {
    let sql = "SELECT current_setting('data_checksums') = 'on'";
    let row = session.query_one(sql, &[])?;
    if !session.field::<bool>(&row, 0)? {
        if integrity {
            findings.notice(
                "the server keeps no checksums of its pages: damage of its disk shows late".to_owned(),
                Some("`pg_checksums --enable`, while the server is stopped, adds them"),
            );
        }
        return Ok(());
    }
    if session.version < 120_000 {
        return Ok(());
    }
    let sql = "SELECT checksum_failures, checksum_last_failure::text FROM pg_catalog.pg_stat_database
      WHERE datname = current_database() AND checksum_failures > 0";
    if let Some(row) = session.query(sql, &[])?.pop() {
        let (count, last): (i64, Option<String>) = (session.field(&row, 0)?, session.field(&row, 1)?);
        findings.warning(
            format!(
                "{count} times a page of it failed its checksum, the last time at {}: its disk or memory damages data",
                last.unwrap_or_else(|| "an unknown time".to_owned())
            ),
            "`backstay doctor --integrity` tells what is damaged; look after the disk, and keep the backups from before that time",
        );
    }
    Ok(())
}

/// Lets `pg_amcheck` read everything.
pub(super) fn check(
    session: &mut Session,
    settings: &Settings,
    context: &Context,
    findings: &mut Findings,
) -> Result<(), SourceError> {
    let object = findings.object.clone();
    if session.version < CHECKED_SINCE {
        let major = session.major();
        findings.warning(
            format!("its content was not checked: PostgreSQL {major} cannot do that, 14 and newer can"),
            "`pg_dump` to /dev/null reads every table at least",
        );
        return Ok(());
    }
    let program = match tools::find("pg_amcheck", session.major(), &object, context) {
        Ok(program) => program,
        Err(error) => {
            findings.warning(
                format!("its content was not checked: {}", error.message),
                "pg_amcheck comes with the client programs of version 14 and newer",
            );
            return Ok(());
        }
    };
    let sql = "SELECT count(*) FROM pg_catalog.pg_extension WHERE extname = 'amcheck'";
    let row = session.query_one(sql, &[])?;
    if session.field::<i64>(&row, 0)? == 0 {
        findings.warning(
            "its content was not checked: the extension amcheck is not in it".to_owned(),
            "CREATE EXTENSION amcheck, as a superuser, in this database",
        );
        return Ok(());
    }
    let access = Access::prepare(settings, session.reached, &object, context)?;
    let arguments = ["--no-password", "--heapallindexed", "--jobs=2"].map(str::to_owned);
    let (running, output) = Running::start(&program, &arguments, &access, &object, &context.cancel)?;
    let (problems, more) = problems(output);
    let ended = running.finish();
    context.cancel.check().map_err(|_| SourceError::cancelled(object.clone()))?;
    for (of, message) in &problems {
        findings.add(Severity::Problem, of, message.clone(), Some(DAMAGE.to_owned()));
    }
    if more > 0 {
        findings.problem(format!("{more} more problems were found"), Some(DAMAGE.to_owned()));
    }
    match ended {
        Ok(_) => findings.notice(
            format!(
                "its tables and B-tree indexes were checked by pg_amcheck {} and are sound",
                program.version
            ),
            None,
        ),
        // It ends so where it found damage.
        Err(_) if !problems.is_empty() => {}
        Err(ended) => {
            let error = ended.into_error();
            findings.warning(
                format!("its content was not checked: {}", error.message),
                "the role needs to be a superuser, or EXECUTE on the functions of amcheck",
            );
        }
    }
    Ok(())
}

/// Returns what it says, object by object, and how much more it said.
fn problems(output: ChildStdout) -> (Vec<(String, String)>, usize) {
    let (mut problems, mut more): (Vec<(String, String)>, usize) = (Vec::new(), 0);
    for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        let about = line.trim_end().trim_end_matches(':');
        if !line.starts_with(' ') {
            match problems.len() {
                PROBLEMS_MAX.. => more += 1,
                _ => problems.push((about.to_owned(), String::new())),
            }
        } else if let (0, Some((_, message))) = (more, problems.last_mut()) {
            let gap = if message.is_empty() { "" } else { "; " };
            message.push_str(&format!("{gap}{}", line.trim()));
        }
    }
    (problems, more)
}
