//! What a dump stands on, made before the first byte is given: a connection whose transaction holds every table, its
//! snapshot, and a `pg_dump` on that snapshot whose table of contents came.
//!
//! Once that came, `pg_dump` has its own locks, and nothing needs to start over any more. Until then it may: a request
//! for an exclusive lock that waits behind ours makes `pg_dump` wait too, for ever, so it is told to give up early, and
//! all starts over with a new snapshot.

use super::globals::Globals;
use super::stream::ArchiveStream;
use super::watch;
use crate::postgres::archive::TableOfContents;
use crate::postgres::catalog::{Catalog, Table, Which};
use crate::postgres::connection::Settings;
use crate::postgres::session::{self, Reached, Session};
use crate::postgres::snapshot::{self, Moment, Patience};
use crate::postgres::tools::{Access, Program, Running, find, liveliness};
use crate::postgres::{contents, encoding, pooler, rights, targets};
use flow::{
    Content, Context, DumpOptions, Event, Finding, Selection, Severity, SourceError, SourceErrorKind,
    TargetRef,
};
use std::time::Duration;

/// The oldest server: snapshots that are exported on a standby too.
pub(in crate::postgres) const SERVER_MAJOR_MIN: u32 = 10;
/// How long `pg_dump` may take to lock all tables, at the first attempt and at the last. We hold them all at that time,
/// so it can only wait for somebody who waits for us.
const LOCKING_MS: (u32, u32) = (500, 8000);

/// Who reads the rows, and of what.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rows<'a> {
    /// Workers, beside each other; of the whole database.
    ByWorkers,
    /// `pg_dump`, one table after the other: of a part of the database, or of all of it.
    ByPgDump(Option<&'a Selection>),
}

impl Rows<'_> {
    fn selection(self) -> Option<Selection> {
        match self {
            Rows::ByWorkers => None,
            Rows::ByPgDump(selection) => selection.cloned(),
        }
    }

    /// Of a part of the database, what the role may not read need not be locked.
    fn which(self) -> Which {
        if self.selection().is_some() { Which::Readable } else { Which::All }
    }
}

/// What all workers share and nobody changes.
pub(super) struct Ground {
    pub(super) object: String,
    pub(super) settings: Settings,
    pub(super) reached: Reached,
    /// Kept for the programs that run.
    access: Access,
    pub(super) moment: Moment,
    pub(super) catalog: Catalog,
    pub(super) pg_dump: Program,
    pub(super) server_major: u32,
    /// How long a lock is waited for.
    pub(super) lock_wait: Duration,
    /// Whether the rows come from `pg_dump` too.
    pub(super) streamed: bool,
    /// What of the database is read; `None` for all of it.
    pub(super) selection: Option<Selection>,
}

/// What is worked on.
pub(super) struct Opened {
    pub(super) ground: Ground,
    pub(super) holder: Session,
    pub(super) archive: ArchiveStream,
    /// The tables whose rows are to be read.
    pub(super) tables: Vec<Table>,
}

/// Opens a database for a dump.
pub(super) fn open(
    connection: &str,
    target: &TargetRef,
    rows: Rows<'_>,
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
    encoding::refuse(&mut holder, &object)?;
    if rows.which() == Which::All {
        refuse_unreadable(&mut holder, &object)?;
    }
    let reached = holder.reached;
    let access = Access::prepare(&settings, reached, &object, context)?;
    let mut patience = Patience::new(options.lock_wait);
    let mut locking_ms = LOCKING_MS.0;
    let (moment, mut catalog, archive) = loop {
        let (moment, catalog) = snapshot::take(&mut holder, rows.which(), &object, &mut patience, context)?;
        let arguments = arguments(&moment, rows, locking_ms, pg_dump.major);
        let started = Running::start(&pg_dump, &arguments, &access, &object, &context.cancel)?;
        match watch::begin(started, matches!(rows, Rows::ByPgDump(_)), &mut holder, &object)? {
            Ok(archive) => break (moment, catalog, archive),
            Err((error, passing)) => {
                context.cancel.check().map_err(|_| SourceError::cancelled(object.clone()))?;
                let error = snapshot::blamed(&mut holder, error);
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
    let (streamed, selection) = (matches!(rows, Rows::ByPgDump(_)), rows.selection());
    let ground = Ground {
        object,
        settings,
        reached,
        access,
        moment,
        catalog,
        pg_dump,
        server_major,
        lock_wait: options.lock_wait,
        streamed,
        selection,
    };
    let tables = ground.tables(archive.toc(), context)?;
    Ok(Opened { ground, holder, archive, tables })
}

/// What cannot be read is told before anything is, all of it at once; policies and large objects would be stumbled over
/// late.
fn refuse_unreadable(holder: &mut Session, object: &str) -> Result<(), SourceError> {
    let Some(role) = rights::role(holder, None)? else { return Ok(()) };
    let lacking = rights::lacking(holder, &role)?;
    if lacking.is_empty() { Ok(()) } else { Err(lacking.error(&role, object)) }
}

fn arguments(moment: &Moment, rows: Rows<'_>, locking_ms: u32, major: u32) -> Vec<String> {
    let mut arguments = vec![
        "--format=custom".to_owned(),
        "--compress=0".to_owned(),
        "--no-password".to_owned(),
        format!("--dbname={}", liveliness(major)),
        format!("--lock-wait-timeout={locking_ms}"),
        format!("--encoding={}", moment.encoding),
        format!("--snapshot={}", moment.name),
    ];
    match rows {
        Rows::ByWorkers => arguments.push("--exclude-table-data=*.*".to_owned()),
        Rows::ByPgDump(None) => {}
        Rows::ByPgDump(Some(selection)) => arguments.extend(selecting(selection)),
    }
    arguments
}

/// A pattern that fits nothing is a slip of the pen, and an error.
fn selecting(selection: &Selection) -> Vec<String> {
    let mut arguments = vec!["--strict-names".to_owned()];
    match selection.content {
        Content::All => {}
        Content::Schema => arguments.push("--schema-only".to_owned()),
        Content::Data => arguments.push("--data-only".to_owned()),
    }
    let Selection { tables, schemas, exclude_table_data, .. } = selection;
    arguments.extend(tables.iter().map(|pattern| format!("--table={pattern}")));
    arguments.extend(schemas.iter().map(|pattern| format!("--schema={pattern}")));
    arguments.extend(exclude_table_data.iter().map(|pattern| format!("--exclude-table-data={pattern}")));
    arguments
}

impl Ground {
    /// Opens one more session.
    pub(super) fn connect(&self, context: &Context) -> Result<Session, SourceError> {
        session::connect(&self.settings, Some(self.reached), &self.object, &context.cancel)
    }

    /// Returns the tables whose rows are to be read. What `pg_dump` knows of them and what the catalog does must agree.
    fn tables(&self, toc: &TableOfContents, context: &Context) -> Result<Vec<Table>, SourceError> {
        let failed =
            |message: String| SourceError::new(SourceErrorKind::Failed, self.object.clone(), message);
        if !toc.header.compression.is_none() {
            return Err(failed("pg_dump compressed what was to be plain".to_owned()));
        }
        let with_unlogged = !self.moment.on_standby;
        let mut tables: Vec<Table> = match self.streamed {
            true => contents::streamed(toc, &self.catalog, self.selection.is_none(), with_unlogged),
            false => contents::agreed(toc, &self.catalog),
        }
        .map_err(failed)?
        .into_iter()
        .cloned()
        .collect();
        if self.moment.on_standby && self.catalog.tables.iter().any(|table| table.unlogged) {
            tables.retain(|table| !table.unlogged);
            let message = "unlogged tables have no rows on a standby, and none in this backup".to_owned();
            tell(context, &self.object, message);
        }
        Ok(tables)
    }

    /// Starts what writes roles and tablespaces, `pg_dumpall`; a dump goes on without where it cannot be had.
    pub(super) fn globals(&self, context: &Context) -> Option<Globals> {
        let beside = self.pg_dump.path.with_file_name("pg_dumpall");
        let program = match beside.is_file() {
            true => Program { path: beside, ..self.pg_dump.clone() },
            false => find("pg_dumpall", self.server_major, &self.object, context).ok()?,
        };
        let arguments = [
            "--globals-only".to_owned(),
            "--no-role-passwords".to_owned(),
            "--no-password".to_owned(),
            format!("--dbname={}", liveliness(program.major)),
            format!("--database={}", self.settings.database),
        ];
        let started = Running::start(&program, &arguments, &self.access, &self.object, &context.cancel);
        started.ok().map(Globals::read)
    }

    /// Opens one more session on the snapshot.
    pub(super) fn worker(&self, context: &Context) -> Result<Session, SourceError> {
        let mut session = self.connect(context)?;
        session.execute(&session.begin_reading(Some(&self.moment.name)))?;
        Ok(session)
    }
}

/// Tells what is not as one would think.
pub(super) fn tell(context: &Context, object: &str, message: String) {
    context.observer.event(Event::Finding(Finding {
        severity: Severity::Warning,
        object: object.to_owned(),
        message,
        hint: None,
    }));
}
