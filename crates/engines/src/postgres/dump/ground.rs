//! What a dump stands on, made before the first byte is given: a connection whose transaction holds every table, its
//! snapshot, and a `pg_dump` on that snapshot whose table of contents came.
//!
//! Once that came, `pg_dump` has its own locks, and nothing needs to start over any more. Until then it may: a request
//! for an exclusive lock that waits behind ours makes `pg_dump` wait too, for ever, so it is told to give up early, and
//! all starts over with a new snapshot.

use super::stream::ArchiveStream;
use crate::postgres::catalog::{Catalog, Table};
use crate::postgres::connection::Settings;
use crate::postgres::session::{self, Reached, Session};
use crate::postgres::snapshot::{self, Moment, Patience};
use crate::postgres::tools::{Access, Program, Running, find};
use crate::postgres::{contents, pooler, rights, targets};
use flow::{Context, DumpOptions, SourceError, SourceErrorKind, TargetRef};

/// The oldest server: snapshots that are exported on a standby too.
pub(in crate::postgres) const SERVER_MAJOR_MIN: u32 = 10;
/// How long `pg_dump` may take to lock all tables, at the first attempt and at the last. We hold them all at that time,
/// so it can only wait for somebody who waits for us.
const LOCKING_MS: (u32, u32) = (500, 8000);

/// What all workers share and nobody changes.
pub(super) struct Ground {
    pub(super) object: String,
    pub(super) settings: Settings,
    pub(super) reached: Reached,
    /// Kept for the programs that run.
    _access: Access,
    pub(super) moment: Moment,
    pub(super) catalog: Catalog,
    pub(super) pg_dump: Program,
    pub(super) server_major: u32,
}

/// What is worked on.
pub(super) struct Opened {
    pub(super) ground: Ground,
    pub(super) holder: Session,
    pub(super) archive: ArchiveStream,
    /// The tables whose rows are to be read.
    pub(super) tables: Vec<Table>,
    /// `pg_dumpall` for roles and tablespaces, where it is there.
    pub(super) globals: Option<(Running, std::process::ChildStdout)>,
}

/// Opens a database for a dump.
pub(super) fn open(
    connection: &str,
    target: &TargetRef,
    options: &DumpOptions,
    context: &Context,
) -> Result<Opened, SourceError> {
    let object = connection.to_owned();
    let settings = targets::settings(connection, Some(target), context)?;
    let mut holder = pooler::connect_past(&settings, &object, &context.cancel)?;
    let server_major = holder.major();
    if server_major < SERVER_MAJOR_MIN {
        let message =
            format!("the server is PostgreSQL {server_major}, and {SERVER_MAJOR_MIN} is the oldest known");
        return Err(SourceError::new(SourceErrorKind::Unsupported, object, message));
    }
    let pg_dump = find("pg_dump", server_major, &object, context)?;
    refuse_unreadable(&mut holder, &object)?;
    let reached = holder.reached;
    let access = Access::prepare(&settings, reached, &object, context)?;
    let mut patience = Patience::new(options.lock_wait);
    let mut locking_ms = LOCKING_MS.0;
    let (moment, mut catalog, archive) = loop {
        let (moment, catalog) = snapshot::take(&mut holder, &object, &mut patience, context)?;
        let arguments = arguments(&moment, locking_ms);
        let started = Running::start(&pg_dump, &arguments, &access, &object, &context.cancel)?;
        match ArchiveStream::begin(started, &object)? {
            Ok(archive) => break (moment, catalog, archive),
            Err(ended) => {
                context.cancel.check().map_err(|_| SourceError::cancelled(object.clone()))?;
                // A lock that it did not get, or an object that went while it looked at it.
                let passing = ended.mentions(&["LOCK TABLE", "with OID", "cache lookup failed", "deadlock"]);
                let error = snapshot::blamed(&mut holder, ended.into_error())?;
                holder.execute("ROLLBACK")?;
                if !passing {
                    return Err(SourceError { hint: None, ..error });
                }
                patience.again(SourceError { kind: SourceErrorKind::Busy, ..error }, context)?;
                locking_ms = (locking_ms * 2).min(LOCKING_MS.1);
            }
        }
    };
    if moment.on_standby {
        catalog.sequences.retain(|sequence| !sequence.unlogged);
    }
    let failed = |message: String| SourceError::new(SourceErrorKind::Failed, object.clone(), message);
    if !archive.toc().header.compression.is_none() {
        return Err(failed("pg_dump compressed what was to be plain".to_owned()));
    }
    let tables = contents::agreed(archive.toc(), &catalog).map_err(failed)?.into_iter().cloned().collect();
    let globals = globals(&pg_dump, server_major, &settings, &access, &object, context);
    let ground =
        Ground { object, settings, reached, _access: access, moment, catalog, pg_dump, server_major };
    Ok(Opened { ground, holder, archive, tables, globals })
}

/// What cannot be read is told before anything is, all of it at once; policies and large objects would be stumbled over
/// late.
fn refuse_unreadable(holder: &mut Session, object: &str) -> Result<(), SourceError> {
    let Some(role) = rights::role(holder, None)? else { return Ok(()) };
    let lacking = rights::lacking(holder, &role)?;
    if lacking.is_empty() { Ok(()) } else { Err(lacking.error(&role, object)) }
}

fn arguments(moment: &Moment, locking_ms: u32) -> Vec<String> {
    vec![
        "--format=custom".to_owned(),
        "--compress=0".to_owned(),
        "--no-password".to_owned(),
        "--exclude-table-data=*.*".to_owned(),
        format!("--lock-wait-timeout={locking_ms}"),
        format!("--encoding={}", moment.encoding),
        format!("--snapshot={}", moment.name),
    ]
}

/// Starts what writes roles and tablespaces; a dump goes on without where it cannot be had.
fn globals(
    pg_dump: &Program,
    server_major: u32,
    settings: &Settings,
    access: &Access,
    object: &str,
    context: &Context,
) -> Option<(Running, std::process::ChildStdout)> {
    let beside = pg_dump.path.with_file_name("pg_dumpall");
    let program = match beside.is_file() {
        true => Program { path: beside, ..pg_dump.clone() },
        false => find("pg_dumpall", server_major, object, context).ok()?,
    };
    let arguments = [
        "--globals-only".to_owned(),
        "--no-role-passwords".to_owned(),
        "--no-password".to_owned(),
        format!("--database={}", settings.database),
    ];
    Running::start(&program, &arguments, access, object, &context.cancel).ok()
}

impl Ground {
    /// Opens one more session on the snapshot.
    pub(super) fn worker(&self, context: &Context) -> Result<Session, SourceError> {
        let mut session =
            session::connect(&self.settings, Some(self.reached), &self.object, &context.cancel)?;
        let snapshot = self.moment.name.replace('\'', "''");
        session.execute(&format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET TRANSACTION SNAPSHOT '{snapshot}'"
        ))?;
        Ok(session)
    }
}
