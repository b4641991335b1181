//! The session that a restore keeps from its first step to its last: in a database that is not the target, so that the
//! target can be renamed, and with an advisory lock that ends with it.
//!
//! The lock is what tells, from any host, whether a restore of a database still runs: a crash, of ours or of the server,
//! ends the session and with it the lock. Statements of this session are short and are not ended by a cancellation: the
//! way back needs it.

use super::names::{literal, quoted};
use crate::postgres::connection::Settings;
use crate::postgres::failure;
use crate::postgres::pooler;
use crate::postgres::session::Session;
use crate::postgres::targets;
use flow::{Cancel, Context, SourceError, SourceErrorKind};
use std::time::{Duration, Instant};
use tokio_postgres::error::SqlState;
use xxhash_rust::xxh3::xxh3_64;

/// The databases that every server has, in which the session may be.
const MAINTENANCE: [&str; 2] = ["postgres", "template1"];
/// How long the lock of somebody who has just ended is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

/// A database as the server lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    /// Its oid, which a rename does not change.
    pub(super) oid: u32,
    /// Its comment.
    pub(super) comment: Option<String>,
    /// Its tablespace.
    pub(super) tablespace: String,
    /// Whether this role counts as its owner.
    pub(super) is_ours: bool,
}

/// A session beside the target, and the lock of the target.
pub(super) struct Keeper {
    pub(super) session: Session,
    /// How the target is reached.
    pub(super) settings: Settings,
    /// The name of the target's database.
    pub(super) target: String,
    /// What errors call the target.
    pub(super) object: String,
    locked: bool,
}

impl Keeper {
    /// Connects. Takes no lock.
    pub(super) fn open(connection: &str, context: &Context) -> Result<Self, SourceError> {
        let settings = targets::settings(connection, None, context)?;
        let cancel = Cancel::new();
        let linked = cancel.clone();
        let link = context.cancel.on_cancel(move || linked.cancel());
        let session = connect(&settings, connection, &cancel)?;
        drop(link);
        let target = settings.database.clone();
        Ok(Self { session, settings, target, object: connection.to_owned(), locked: false })
    }

    /// Connects to the target itself: for what is done within it, where there may be nothing else to connect to.
    pub(super) fn inside(connection: &str, context: &Context) -> Result<Self, SourceError> {
        let settings = targets::settings(connection, None, context)?;
        let session = pooler::connect_past(&settings, connection, &context.cancel)?;
        let target = settings.database.clone();
        Ok(Self { session, settings, target, object: connection.to_owned(), locked: false })
    }

    fn key(&self) -> u64 {
        xxh3_64(format!("backstay restore {}", self.target).as_bytes())
    }

    /// Takes the lock of the target; false where somebody else has it, in whatever database their session is.
    pub(super) fn lock(&mut self) -> Result<bool, SourceError> {
        if self.locked {
            return Ok(true);
        }
        let started = Instant::now();
        loop {
            let key = self.key().cast_signed();
            let row = self.session.query_one("SELECT pg_catalog.pg_try_advisory_lock($1::int8)", &[&key])?;
            let taken: bool = self.session.field(&row, 0)?;
            if taken && self.owner()?.is_none() {
                self.locked = true;
                return Ok(true);
            }
            if taken {
                self.session.query("SELECT pg_catalog.pg_advisory_unlock($1::int8)", &[&key])?;
            }
            if started.elapsed() >= LOCK_PATIENCE {
                return Ok(false);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Tells who else holds the lock of the target.
    pub(super) fn owner(&mut self) -> Result<Option<String>, SourceError> {
        let key = self.key();
        let (high, low) = ((key >> 32) as u32, (key & 0xffff_ffff) as u32);
        let sql = "SELECT l.pid, coalesce(a.usename::text, '?'), coalesce(pg_catalog.host(a.client_addr), '')
                   FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
                   WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
                     AND l.classid = $1::oid AND l.objid = $2::oid AND l.pid <> pg_catalog.pg_backend_pid() LIMIT 1";
        let rows = self.session.query(sql, &[&high, &low])?;
        let Some(row) = rows.first() else { return Ok(None) };
        let (pid, user, address): (i32, String, String) =
            (self.session.field(row, 0)?, self.session.field(row, 1)?, self.session.field(row, 2)?);
        let from = if address.is_empty() { String::new() } else { format!(" from {address}") };
        Ok(Some(format!("session {pid} of {user}{from}")))
    }

    /// Gives the lock up. Without effect on a session that is gone: its lock is gone too.
    pub(super) fn unlock(&mut self) {
        if std::mem::take(&mut self.locked) {
            let key = self.key().cast_signed();
            self.session.query("SELECT pg_catalog.pg_advisory_unlock($1::int8)", &[&key]).ok();
        }
    }

    /// Makes sure that the session is there, by a new one with the lock where it is not. Fails where somebody else has
    /// the lock by now.
    pub(super) fn revive(&mut self, context: &Context) -> Result<(), SourceError> {
        if self.session.execute("ROLLBACK").is_ok() {
            return Ok(());
        }
        let calm = Context { cancel: Cancel::new(), ..context.clone() };
        let started = Instant::now();
        let mut new = loop {
            match Self::open(&self.object, &calm) {
                Ok(new) => break new,
                // A server that was restarted needs a moment.
                Err(error) if started.elapsed() >= Duration::from_secs(20) => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(250)),
            }
        };
        let had_lock = self.locked;
        if had_lock && !new.lock()? {
            return Err(SourceError::new(
                SourceErrorKind::InUse,
                self.object.clone(),
                "another restore of it began when the connection was lost",
            ));
        }
        *self = new;
        Ok(())
    }

    /// Returns what the server lists under a name.
    pub(super) fn listed(&mut self, name: &str) -> Result<Option<Listed>, SourceError> {
        let sql = "SELECT d.oid, pg_catalog.shobj_description(d.oid, 'pg_database'), t.spcname::text,
              pg_catalog.pg_has_role(d.datdba, 'USAGE')
            FROM pg_catalog.pg_database d JOIN pg_catalog.pg_tablespace t ON t.oid = d.dattablespace
            WHERE d.datname = $1";
        let rows = self.session.query(sql, &[&name])?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(Some(Listed {
            oid: self.session.field(row, 0)?,
            comment: self.session.field(row, 1)?,
            tablespace: self.session.field(row, 2)?,
            is_ours: self.session.field(row, 3)?,
        }))
    }

    /// Returns the oid under a name.
    pub(super) fn oid(&mut self, name: &str) -> Result<Option<u32>, SourceError> {
        let rows =
            self.session.query("SELECT oid FROM pg_catalog.pg_database WHERE datname = $1", &[&name])?;
        rows.first().map(|row| self.session.field(row, 0)).transpose()
    }

    /// Returns the name that an oid has now.
    pub(super) fn name(&mut self, oid: u32) -> Result<Option<String>, SourceError> {
        let sql = "SELECT datname::text FROM pg_catalog.pg_database WHERE oid = $1";
        let rows = self.session.query(sql, &[&oid])?;
        rows.first().map(|row| self.session.field(row, 0)).transpose()
    }

    /// Returns a name that no database has: the wanted one, or that with a number.
    pub(super) fn free_name(&mut self, wanted: &str) -> Result<String, SourceError> {
        let mut name = wanted.to_owned();
        for number in 2..100 {
            if self.oid(&name)?.is_none() {
                return Ok(name);
            }
            name = super::names::fitted(wanted, &format!("_{number}"));
        }
        Ok(name)
    }

    /// Sets the comment of a database to a text, or to none.
    pub(super) fn comment(&mut self, name: &str, text: Option<&str>) -> Result<(), SourceError> {
        let text = text.map_or_else(|| "NULL".to_owned(), literal);
        self.session.execute(&format!("COMMENT ON DATABASE {} IS {text}", quoted(name)))
    }

    /// Drops a database, with whoever is connected to it. Nothing to do where there is none of that oid.
    pub(super) fn drop_database(&mut self, oid: u32) -> Result<(), SourceError> {
        let Some(name) = self.name(oid)? else { return Ok(()) };
        let force = if self.session.version >= 130_000 { " WITH (FORCE)" } else { "" };
        let sql = format!("DROP DATABASE {}{force}", quoted(&name));
        let started = Instant::now();
        loop {
            super::sessions::end_all(&mut self.session, oid)?;
            match self.session.try_execute(&sql)? {
                Ok(()) => return Ok(()),
                Err(error)
                    if failure::is(&error, &[&SqlState::OBJECT_IN_USE])
                        && started.elapsed() < Duration::from_secs(20) =>
                {
                    std::thread::sleep(PAUSE);
                }
                Err(error) => {
                    let action = format!("the database {name} cannot be dropped");
                    return Err(failure::server(&self.object, &action, &error));
                }
            }
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // Whoever looks next must not have to wait until the server sees the end of the connection.
        self.unlock();
    }
}

fn connect(settings: &Settings, object: &str, cancel: &Cancel) -> Result<Session, SourceError> {
    let mut last = None;
    for database in MAINTENANCE.into_iter().filter(|database| *database != settings.database) {
        let there = Settings { database: database.to_owned(), ..settings.clone() };
        // A lock needs a session that stays.
        match pooler::connect_past(&there, object, cancel) {
            Ok(session) => return Ok(session),
            Err(error) if matches!(error.kind, SourceErrorKind::Missing | SourceErrorKind::Unreadable) => {
                last.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or_else(|| SourceError::new(SourceErrorKind::Failed, object, "cannot be connected to")))
}
