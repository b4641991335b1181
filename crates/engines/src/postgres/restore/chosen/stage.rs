//! What every way of bringing tables back works with: the session with its transaction, the backup, and the looks at
//! what the live database has.

use super::contents::Contents;
use crate::postgres::failure;
use crate::postgres::restore::fill::Filling;
use crate::postgres::session::Session;
use crate::postgres::statements::quoted;
use crate::restore::RestoreRequest;
use flow::{Finding, Severity, SourceError, SourceErrorKind};

/// How long a lock is waited for that others have to give up first: whoever comes later waits behind us.
pub(in crate::postgres::restore) const LOCK_TIMEOUT: &str = "20s";

/// A transaction in the live database, and what goes into it.
pub(in crate::postgres::restore) struct Stage<'a> {
    pub(in crate::postgres::restore) session: &'a mut Session,
    pub(in crate::postgres::restore) contents: &'a Contents,
    pub(in crate::postgres::restore) filling: Filling<'a>,
    pub(in crate::postgres::restore) request: &'a RestoreRequest,
    /// What is to be told once all of it is committed.
    pub(in crate::postgres::restore) told: &'a mut Vec<Finding>,
}

/// A relation of the live database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::postgres::restore) struct Live {
    pub(in crate::postgres::restore) oid: u32,
    /// As `pg_class` has it.
    pub(in crate::postgres::restore) kind: char,
    pub(in crate::postgres::restore) schema: String,
    pub(in crate::postgres::restore) name: String,
}

impl Live {
    /// Says what it is where it is no table.
    pub(in crate::postgres::restore) fn what(&self) -> &'static str {
        match self.kind {
            'v' => "a view",
            'm' => "a materialized view",
            'f' => "a foreign table",
            _ => "no table",
        }
    }

    pub(in crate::postgres::restore) fn quoted(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }

    pub(in crate::postgres::restore) fn shown(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

/// Returns the relation of that name, whatever it is; `None` where there is none.
pub(in crate::postgres::restore) fn relation(
    session: &mut Session,
    schema: &str,
    name: &str,
) -> Result<Option<Live>, SourceError> {
    let sql = "SELECT c.oid, c.relkind::text FROM pg_catalog.pg_class c
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2";
    let rows = session.query(sql, &[&schema, &name])?;
    let Some(row) = rows.first() else { return Ok(None) };
    let kind: String = session.field(row, 1)?;
    Ok(Some(Live {
        oid: session.field(row, 0)?,
        kind: kind.chars().next().unwrap_or('r'),
        schema: schema.to_owned(),
        name: name.to_owned(),
    }))
}

/// Returns the relations that a person's name may mean, of what is no system's.
pub(in crate::postgres::restore) fn named(
    session: &mut Session,
    name: &str,
) -> Result<Vec<Live>, SourceError> {
    let sql = "SELECT c.oid, c.relkind::text, n.nspname::text, c.relname::text FROM pg_catalog.pg_class c
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
               WHERE (c.relname::text = $1 OR n.nspname::text || '.' || c.relname::text = $1)
                 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
                 AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 3, 4";
    let mut found = Vec::new();
    for row in session.query(sql, &[&name])? {
        let kind: String = session.field(&row, 1)?;
        found.push(Live {
            oid: session.field(&row, 0)?,
            kind: kind.chars().next().unwrap_or('r'),
            schema: session.field(&row, 2)?,
            name: session.field(&row, 3)?,
        });
    }
    Ok(found)
}

impl Stage<'_> {
    pub(in crate::postgres::restore) fn object(&self) -> &str {
        self.filling.object
    }

    pub(in crate::postgres::restore) fn error(
        &self,
        kind: SourceErrorKind,
        message: impl Into<String>,
    ) -> SourceError {
        SourceError::new(kind, self.object(), message)
    }

    pub(in crate::postgres::restore) fn tell(
        &mut self,
        severity: Severity,
        message: String,
        hint: Option<String>,
    ) {
        let object = self.object().to_owned();
        self.told.push(Finding { severity, object, message, hint });
    }

    /// Runs statements that must succeed; `what` is what they make.
    pub(in crate::postgres::restore) fn must(&mut self, sql: &str, what: &str) -> Result<(), SourceError> {
        let done = self.session.try_execute(sql)?;
        done.map_err(|error| {
            let made = failure::server(self.filling.object, &format!("{what} cannot be made"), &error);
            let kind = match made.kind {
                SourceErrorKind::Busy => SourceErrorKind::InUse,
                SourceErrorKind::Unreadable => SourceErrorKind::Unwritable,
                other => other,
            };
            match error.code().map(|code| code.code()) {
                Some("42501") => SourceError { kind, hint: None, ..made }
                    .with_hint("the role must be the owner of the table, or a superuser"),
                Some("42704") if made.message.contains("role \"") => SourceError { kind, ..made }.with_hint(
                    "`--no-owner` does without owners and rights, `--role-map OLD=NEW` takes other roles",
                ),
                Some("55P03") => SourceError { kind, hint: None, ..made }
                    .with_hint("somebody uses it in a long transaction: wait for that, or end it"),
                _ => SourceError { kind, ..made },
            }
        })
    }

    /// Tries statements, and takes back what they did where they fail.
    pub(in crate::postgres::restore) fn may(
        &mut self,
        sql: &str,
    ) -> Result<Result<(), tokio_postgres::Error>, SourceError> {
        self.session.try_apart(sql)
    }

    /// Gathers statistics, as far as the role may.
    pub(in crate::postgres::restore) fn analyze(&mut self, table: &str) -> Result<(), SourceError> {
        self.may(&format!("ANALYZE {table}")).map(drop)
    }
}

/// Returns a list for a sentence.
pub(in crate::postgres::restore) fn listed(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
