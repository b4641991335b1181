//! The tables of a live database that rows are to go to, and what stands in the way: tables and columns that are not there,
//! rights, policies. Only looks.

use crate::postgres::restore::chosen::blockers::{Blocker, of_columns};
use crate::postgres::restore::chosen::replace::only;
use crate::postgres::restore::chosen::stage::{Live, named, relation};
use crate::postgres::session::Session;
use flow::{SourceError, SourceErrorKind};

/// How many names a sentence lists.
const LISTED_MAX: usize = 12;

/// A table that rows are for, as the backup has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// `None` where the backup does not say it.
    pub(super) schema: Option<String>,
    pub(super) name: String,
    /// The columns that the rows have, where they are named.
    pub(super) columns: Option<Vec<String>>,
    /// How many rows there are, where that is known.
    pub(super) rows: Option<u64>,
}

impl Wanted {
    /// Returns its name as a person writes it.
    pub(super) fn shown(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{schema}.{}", self.name),
            None => self.name.clone(),
        }
    }

    /// Tells whether a person means it by that name.
    pub(super) fn is_called(&self, name: &str) -> bool {
        self.name == name || self.shown() == name
    }
}

/// What was found of tables that are wanted.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Each of them, in their order; `None` of those that are not there.
    pub(super) live: Vec<Option<Live>>,
    /// What stands in the way.
    pub(super) blockers: Vec<Blocker>,
}

impl Found {
    /// Returns the oids of what is there, each once.
    pub(super) fn oids(&self) -> Vec<u32> {
        let mut oids: Vec<u32> = self.live.iter().flatten().map(|live| live.oid).collect();
        oids.sort_unstable();
        oids.dedup();
        oids
    }

    /// Fails where something stands in the way.
    pub(super) fn checked(self, object: &str) -> Result<Self, SourceError> {
        if self.blockers.is_empty() {
            return Ok(self);
        }
        let messages: Vec<&str> = self.blockers.iter().map(|blocker| blocker.message.as_str()).collect();
        let mut hints: Vec<&str> = self.blockers.iter().map(|blocker| blocker.hint.as_str()).collect();
        hints.sort_unstable();
        hints.dedup();
        Err(SourceError::new(SourceErrorKind::Unwritable, object, messages.join("; "))
            .with_hint(hints.join("; ")))
    }
}

/// Finds tables. One that is not there and would get no rows stands in nobody's way.
pub(super) fn find(session: &mut Session, wanted: &[Wanted]) -> Result<Found, SourceError> {
    let (mut found, mut missing) = (Found::default(), Vec::new());
    let mut looked = Vec::new();
    for one in wanted {
        let live = match &one.schema {
            Some(schema) => relation(session, schema, &one.name)?,
            None => without_schema(session, one, &mut found.blockers)?,
        };
        let Some(live) = live else {
            if one.rows != Some(0) {
                missing.push(one.shown());
            }
            found.live.push(None);
            continue;
        };
        if !looked.contains(&live.oid) {
            looked.push(live.oid);
            found.blockers.extend(of(session, &live)?);
        }
        if let Some(columns) = &one.columns {
            let new = of_columns(session, &live, columns)?.into_iter().map(|blocker| Blocker {
                message: blocker.message,
                hint: "without `--data-only`, `--table` makes the table beside as it was: take its rows over by INSERT … SELECT"
                    .to_owned(),
            });
            let known: Vec<Blocker> = new.filter(|blocker| !found.blockers.contains(blocker)).collect();
            found.blockers.extend(known);
        }
        found.live.push(Some(live));
    }
    missing.dedup();
    if !missing.is_empty() {
        found.blockers.insert(0, absent(&missing));
    }
    Ok(found)
}

/// Returns the table by a name without a schema. Which one is meant among several is not said.
fn without_schema(
    session: &mut Session,
    one: &Wanted,
    blockers: &mut Vec<Blocker>,
) -> Result<Option<Live>, SourceError> {
    let mut all = named(session, &one.name)?;
    all.retain(|live| live.name == one.name);
    if all.len() > 1 {
        let names: Vec<String> = all.iter().map(Live::shown).collect();
        blockers.push(Blocker {
            message: format!("several tables are called {}: {}", one.name, names.join(", ")),
            hint: "the text must name the schema: `pg_dump` of a current version does".to_owned(),
        });
    }
    Ok(all.into_iter().next())
}

fn absent(missing: &[String]) -> Blocker {
    let shown = missing.iter().take(LISTED_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = match missing.len().saturating_sub(LISTED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Blocker {
        message: format!("tables that its rows are for are not there: {shown}{more}"),
        hint: "`--data-only` makes no tables: restore definitions first (`--schema-only`), or name by `--table` those that \
               are there; without `--data-only`, `--table` brings a dropped one back"
            .to_owned(),
    }
}

/// Returns what stands in the way whatever the rows are.
fn of(session: &mut Session, live: &Live) -> Result<Vec<Blocker>, SourceError> {
    let shown = live.shown();
    if !['r', 'p'].contains(&live.kind) {
        let hint = "name by `--table` those that take rows";
        return Ok(vec![Blocker {
            message: format!("{shown} is {} by now", live.what()),
            hint: hint.to_owned(),
        }]);
    }
    let sql =
        "SELECT pg_catalog.pg_has_role(c.relowner, 'USAGE'), pg_catalog.pg_get_userbyid(c.relowner)::text,
                 pg_catalog.row_security_active(c.oid), pg_catalog.quote_ident(current_user)
               FROM pg_catalog.pg_class c WHERE c.oid = $1";
    let row = session.query_one(sql, &[&live.oid])?;
    let (owns, owner): (bool, String) = (session.field(&row, 0)?, session.field(&row, 1)?);
    let (hidden, role): (bool, String) = (session.field(&row, 2)?, session.field(&row, 3)?);
    let mut found = Vec::new();
    if !owns {
        found.push(Blocker {
            message: format!(
                "the role {role} is not the owner of {shown}, and cannot let its triggers and foreign keys rest"
            ),
            hint: format!("connect as {owner}, or grant that role to {role}"),
        });
    }
    if hidden {
        found.push(Blocker {
            message: format!("policies of {shown} bind the role {role}"),
            hint: "connect as a superuser or a role with BYPASSRLS".to_owned(),
        });
    }
    Ok(found)
}

/// Tells whether a table has no rows.
pub(super) fn is_empty(session: &mut Session, live: &Live) -> Result<bool, SourceError> {
    let sql = format!("SELECT NOT EXISTS (SELECT 1 FROM {})", only(live));
    let row = session.query_one(&sql, &[])?;
    session.field(&row, 0)
}
