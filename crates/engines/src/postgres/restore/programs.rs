//! `pg_restore` for what is no rows: it is given a folder in the scratch space that holds a table of contents and nothing
//! else, so that nothing of the content is ever staged. The folder goes when the program has ended; after a crash it stays
//! in the scratch space, with definitions but no rows in it.

use super::ground::Ground;
use super::job::Job;
use crate::postgres::archive::TableOfContents;
use crate::postgres::session::Session;
use crate::postgres::tools::{Access, Ended, Program, Running, find, liveliness};
use flow::{Cancel, Context, Event, Finding, Severity, SourceError, SourceErrorKind};
use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use tempfile::TempDir;

/// The version since when servers compile queries.
pub(super) const JIT_SINCE: i32 = 110_000;
/// What index builds of one session may use at least and at most, where it is for us to say.
const MEMORY_KIB: (i64, i64) = (64 << 10, 1 << 20);

/// Finds the `pg_restore` that reads an archive and fits a server.
pub(super) fn program(
    toc: &TableOfContents,
    server_major: u32,
    object: &str,
    context: &Context,
) -> Result<Program, SourceError> {
    let oldest = oldest_major(toc);
    if oldest >= 17 && server_major < 17 {
        let message = format!(
            "the backup was written by a pg_dump of version {oldest} or newer, whose archives a server of version \
             {server_major} does not take"
        );
        return Err(SourceError::new(SourceErrorKind::Unsupported, object, message)
            .with_hint(format!("restore it to a server of version {oldest} or newer")));
    }
    find("pg_restore", server_major.max(oldest), object, context)
}

/// Returns the oldest major version of `pg_restore` that reads an archive.
fn oldest_major(toc: &TableOfContents) -> u32 {
    match toc.header.version.minor {
        ..=13 => 10,
        14 => 12,
        15 => 16,
        _ => 17,
    }
}

/// `pg_restore`, as it is run for one restore.
pub(super) struct Programs<'a> {
    access: &'a Access,
    object: String,
    context: Context,
    server_major: u32,
    no_owner: bool,
}

impl<'a> Programs<'a> {
    /// Programs that reach the server by `access`.
    pub(super) fn of(job: &Job, access: &'a Access) -> Self {
        Self {
            access,
            object: job.keeper.object.clone(),
            context: job.context.clone(),
            server_major: job.keeper.session.major(),
            no_owner: job.state.request.ownership.no_owner,
        }
    }

    /// Runs it on a table of contents, to its end or until the work is cancelled.
    pub(super) fn run(
        &self,
        toc: &TableOfContents,
        arguments: &[String],
        cancel: &Cancel,
    ) -> Result<(), SourceError> {
        self.try_run(toc, arguments, cancel)?.map_err(Ended::into_error)
    }

    /// Does the same; the inner error is what the program said.
    pub(super) fn try_run(
        &self,
        toc: &TableOfContents,
        arguments: &[String],
        cancel: &Cancel,
    ) -> Result<Result<(), Ended>, SourceError> {
        let folder = self.folder(toc)?;
        let program = program(toc, self.server_major, &self.object, &self.context)?;
        let mut all = vec![
            "--format=directory".to_owned(),
            "--exit-on-error".to_owned(),
            "--no-password".to_owned(),
            // The database is named by a variable: a name may look like a connection.
            format!("--dbname=application_name=backstay {}", liveliness(program.major)),
        ];
        if self.no_owner {
            all.push("--no-owner".to_owned());
        }
        all.extend(arguments.iter().cloned());
        all.push(folder.path().display().to_string());
        let (running, mut output) = Running::start(&program, &all, self.access, &self.object, cancel)?;
        std::io::copy(&mut output, &mut std::io::sink()).ok();
        let complaints = match running.finish() {
            Ok(complaints) => complaints,
            Err(ended) => return Ok(Err(ended)),
        };
        if !complaints.is_empty() {
            let message = format!("pg_restore says: {}", complaints.join("; "));
            let (severity, object) = (Severity::Warning, self.object.clone());
            self.context.observer.event(Event::Finding(Finding { severity, object, message, hint: None }));
        }
        Ok(Ok(()))
    }

    /// Writes a folder with a table of contents and nothing else.
    fn folder(&self, toc: &TableOfContents) -> Result<TempDir, SourceError> {
        let scratch = self.context.scratch.path();
        let failed = |error: &dyn std::fmt::Display| {
            let message = format!("scratch space in {} cannot be written: {error}", scratch.display());
            SourceError::new(SourceErrorKind::Failed, self.object.as_str(), message)
                .with_hint("make room there, or name another scratch folder")
        };
        let folder = tempfile::Builder::new()
            .prefix("postgres-")
            .tempdir_in(scratch)
            .map_err(|error| failed(&error))?;
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(folder.path().join("toc.dat"))
            .map_err(|error| failed(&error))?;
        let mut file = BufWriter::new(file);
        toc.write(&mut file).map_err(|error| failed(&error))?;
        file.flush().map_err(|error| failed(&error))?;
        Ok(folder)
    }
}

/// Returns how much memory each of the sessions that build indexes should use: what the server says, or more where
/// there is plenty.
pub(super) fn memory_kib(session: &mut Session, ground: &Ground) -> Result<i64, SourceError> {
    let sql = "SELECT (SELECT setting::int8 FROM pg_catalog.pg_settings WHERE name = 'maintenance_work_mem'),
                 (SELECT setting::int8 * 8 FROM pg_catalog.pg_settings WHERE name = 'shared_buffers')";
    let row = session.query_one(sql, &[])?;
    let (own, shared): (i64, i64) = (session.field(&row, 0)?, session.field(&row, 1)?);
    let jobs = i64::try_from(ground.jobs).unwrap_or(1).max(1);
    let plenty = match available_kib().filter(|_| ground.is_local()) {
        Some(available) => available / 8,
        // Buffers are a quarter of a server's memory where somebody set them.
        None => shared / 2,
    };
    Ok((plenty / jobs).clamp(MEMORY_KIB.0, MEMORY_KIB.1).max(own))
}

fn available_kib() -> Option<i64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}
