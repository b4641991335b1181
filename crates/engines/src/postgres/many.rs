//! Targets of many databases: a URL whose database is a pattern, with `*` for anything, or with `{tenant}` for what names a
//! tenant. Which databases there are the server says, or, where somebody keeps a list of tenants in a database, a question to
//! that; nothing is changed there.
//!
//! What a restore keeps or leaves beside a database is passed over and said so. Of all others none is passed over in
//! silence: one that cannot be read fails by itself at the backup.

use super::connection::parse;
use super::{live, session, targets};
use crate::engine::{Enumeration, Query, Skipped};
use flow::{Context, DatabaseName, DatabaseRef, SourceError, SourceErrorKind, TargetRef, TenantQuery};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;

const TENANT: &str = "{tenant}";
/// The databases that are asked which others there are, in turn: one of them every server has.
const ASKED: [&str; 2] = ["postgres", "template1"];

/// More tenants than any server has databases.
const TENANTS_MAX: usize = 100_000;

/// Finds the databases of a target.
pub(super) fn of_target(target: &TargetRef, context: &Context) -> Result<Enumeration, SourceError> {
    match (Pattern::of(&target.connection)?, &target.tenants) {
        (Some(pattern), Some(query)) => by_question(target, &pattern, query, context),
        (Some(pattern), None) => databases(target, &pattern, context),
        (None, _) => targets::databases(target, context),
    }
}

/// A connection to several databases, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    /// What stands before the database: `postgres://user@host/`.
    before: String,
    /// What stands behind it: nothing, or `?sslmode=…`.
    after: String,
    /// What the names have in order, with anything between.
    pieces: Vec<String>,
    /// Whether a tenant's name stands between them, once.
    tenants: bool,
}

impl Pattern {
    /// Takes a connection apart; `None` where it names one database.
    fn of(connection: &str) -> Result<Option<Self>, SourceError> {
        let invalid =
            |message: &str| SourceError::new(SourceErrorKind::Invalid, connection, message.to_owned());
        let Some(rest) = connection.strip_prefix("postgres://") else { return Ok(None) };
        let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
        let Some((authority, database)) = place.split_once('/') else { return Ok(None) };
        let (tenants, mark) = match (database.contains(TENANT), database.contains('*')) {
            (false, false) => return Ok(None),
            (true, false) => (true, TENANT),
            (false, true) => (false, "*"),
            (true, true) => {
                return Err(invalid("the database has `{tenant}` and `*`: one of them is enough"));
            }
        };
        let decoded = |piece: &str| -> Result<String, SourceError> {
            let keywords = parse(&format!("postgres:///{piece}")).map_err(|error| invalid(&error.0))?;
            Ok(keywords.get("dbname").cloned().unwrap_or_default())
        };
        let pieces: Vec<String> = database.split(mark).map(decoded).collect::<Result<_, _>>()?;
        if tenants && pieces.len() != 2 {
            return Err(invalid("the database has `{tenant}` more than once"));
        }
        let after = query.map(|query| format!("?{query}")).unwrap_or_default();
        Ok(Some(Self { before: format!("postgres://{authority}/"), after, pieces, tenants }))
    }

    /// Returns what a database is called in the target, where it fits: the tenant's name, or its own.
    fn name<'a>(&self, database: &'a str) -> Option<&'a str> {
        let (first, others) = self.pieces.split_first()?;
        let (last, between) = others.split_last()?;
        let inside = database.strip_prefix(first.as_str())?.strip_suffix(last.as_str())?;
        let mut rest = inside;
        for piece in between {
            rest = rest.split_once(piece.as_str())?.1;
        }
        match self.tenants {
            true => Some(inside).filter(|tenant| !tenant.is_empty()),
            false => Some(database),
        }
    }

    /// Returns the connection to one database.
    fn to(&self, database: &str) -> String {
        let mut encoded = String::new();
        for byte in database.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    encoded.push(char::from(byte));
                }
                // Writing to a string cannot fail.
                other => drop(write!(encoded, "%{other:02X}")),
            }
        }
        format!("{}{encoded}{}", self.before, self.after)
    }
}

/// Asks a database of the server who the tenants are. A tenant without a database is none that is passed over: its backup
/// fails by itself, and says so.
fn by_question(
    target: &TargetRef,
    pattern: &Pattern,
    query: &TenantQuery,
    context: &Context,
) -> Result<Enumeration, SourceError> {
    let connection = pattern.to(&query.database);
    let invalid = |message: String| SourceError::new(SourceErrorKind::Invalid, connection.as_str(), message);
    let asked = DatabaseRef {
        target: target.name.clone(),
        name: DatabaseName::new(&query.database).map_err(|error| invalid(error.to_string()))?,
        connection: connection.clone(),
    };
    let question = Query { sql: query.sql.clone(), rows_max: TENANTS_MAX };
    let answer = live::query(&asked, &question, context).map_err(|error| SourceError {
        message: format!("who the tenants are cannot be asked: {}", error.message),
        ..error
    })?;
    if answer.truncated {
        return Err(invalid(format!("the question for tenants returned more than {TENANTS_MAX} rows")));
    }
    let mut tenants = BTreeSet::new();
    for row in answer.rows {
        tenants.insert(match row.into_iter().next() {
            Some(Value::String(name)) if !name.is_empty() => name,
            Some(Value::Number(number)) => number.to_string(),
            _ => {
                return Err(invalid("the question for tenants returned a row without a name".to_owned())
                    .with_hint("the first column is the tenant: leave out those that have none (WHERE … IS NOT NULL)"));
            }
        });
    }
    if tenants.is_empty() {
        return Err(SourceError::new(
            SourceErrorKind::Missing,
            connection,
            "the question for tenants returned none",
        )
        .with_hint("run it by psql in that database, as the same user"));
    }
    let mut found = Enumeration::default();
    for tenant in tenants {
        let connection = pattern.to(&pattern.pieces.join(&tenant));
        let name = DatabaseName::new(&tenant).map_err(|error| {
            SourceError::new(SourceErrorKind::Invalid, connection.clone(), error.to_string())
        })?;
        found.databases.push(DatabaseRef { target: target.name.clone(), name, connection });
    }
    found.databases.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Asks the server for the databases of a target.
fn databases(target: &TargetRef, pattern: &Pattern, context: &Context) -> Result<Enumeration, SourceError> {
    let mut found = Enumeration::default();
    for (database, problem) in asked(target, pattern, context)? {
        let Some(name) = pattern.name(&database) else { continue };
        let skip = |reason: &str| Skipped { object: pattern.to(&database), reason: reason.to_owned() };
        match problem {
            Some(problem) => found.skipped.push(skip(problem)),
            None if is_of_a_restore(&database) => {
                found.skipped.push(skip("is what a restore keeps or makes beside a database"));
            }
            None => {
                let connection = pattern.to(&database);
                let name = DatabaseName::new(name).map_err(|error| {
                    SourceError::new(SourceErrorKind::Invalid, connection.clone(), error.to_string())
                })?;
                found.databases.push(DatabaseRef { target: target.name.clone(), name, connection });
            }
        }
    }
    found.databases.sort_by(|a, b| a.name.cmp(&b.name));
    if found.databases.is_empty() {
        let message = "no database of the server fits the pattern";
        return Err(SourceError::new(SourceErrorKind::Missing, target.connection.clone(), message)
            .with_hint("`psql -l` lists the databases; `*` stands for anything in a name"));
    }
    Ok(found)
}

/// Returns the names of a server's databases, each with why it is none to back up, where it is none.
fn asked(
    target: &TargetRef,
    pattern: &Pattern,
    context: &Context,
) -> Result<Vec<(String, Option<&'static str>)>, SourceError> {
    let object = target.connection.as_str();
    let mut first = None;
    for database in ASKED {
        let settings = targets::settings(&pattern.to(database), Some(target), context)?;
        let mut session = match session::connect(&settings, None, object, &context.cancel) {
            Ok(session) => session,
            Err(error) if error.kind == SourceErrorKind::Cancelled => return Err(error),
            Err(error) => {
                first.get_or_insert(error);
                continue;
            }
        };
        let sql = "SELECT datname::text, datistemplate, datallowconn, datconnlimit = -2
                   FROM pg_catalog.pg_database ORDER BY datname";
        let mut names = Vec::new();
        for row in session.query(sql, &[])? {
            let (template, open, broken): (bool, bool, bool) =
                (session.field(&row, 1)?, session.field(&row, 2)?, session.field(&row, 3)?);
            let problem = match (broken, template, open) {
                (true, ..) => Some("is half removed: DROP DATABASE was interrupted"),
                (_, true, _) => Some("is a template"),
                (.., false) => Some("takes no connections"),
                _ => None,
            };
            names.push((session.field(&row, 0)?, problem));
        }
        return Ok(names);
    }
    Err(first.unwrap_or_else(|| SourceError::new(SourceErrorKind::Failed, object, "nobody was asked")))
}

/// Tells whether a restore gave that name: `erp__safety_20261121t020000z`, `erp__restoring_20261121t020000z_2`.
fn is_of_a_restore(database: &str) -> bool {
    ["__safety_", "__restoring_", "__rolled_back_"].iter().any(|mark| {
        let Some((_, rest)) = database.rsplit_once(mark) else { return false };
        let (moment, number) = rest.split_once('_').unwrap_or((rest, "0"));
        let shape = b"00000000t000000z";
        moment.len() == shape.len()
            && number.bytes().all(|byte| byte.is_ascii_digit())
            && moment.bytes().zip(shape).all(|(byte, shape)| match shape {
                b'0' => byte.is_ascii_digit(),
                letter => byte == *letter,
            })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn named(connection: &str, database: &str) -> Option<String> {
        Pattern::of(connection).unwrap().unwrap().name(database).map(str::to_owned)
    }

    #[test]
    fn patterns_name_what_fits() {
        for (connection, database, name) in [
            ("postgres://db1/*", "erp", Some("erp")),
            ("postgres://db1/shop_*", "shop_acme", Some("shop_acme")),
            ("postgres://db1/shop_*", "erp", None),
            ("postgres://db1/a*b*c", "a1b2c", Some("a1b2c")),
            ("postgres://db1/a*b*c", "a1c", None),
            ("postgres:///shop_{tenant}?host=/run/pg", "shop_acme", Some("acme")),
            ("postgres:///{tenant}_x", "_x", None),
            ("postgres:///a%20*", "a b", Some("a b")),
            ("postgres:///aa*aa", "aaa", None),
        ] {
            assert_eq!(named(connection, database).as_deref(), name, "{connection} {database}");
        }
        for one in ["postgres://db1/erp", "postgres:///erp?host=/a*b", "postgres:///%2A"] {
            assert_eq!(Pattern::of(one).unwrap(), None, "{one}");
        }
        assert!(Pattern::of("postgres:///{tenant}{tenant}").is_err());
        assert!(Pattern::of("postgres:///{tenant}*").is_err());
    }

    #[test]
    fn a_connection_to_one_names_it_and_keeps_the_rest() {
        let pattern = Pattern::of("postgres://u@db1:5433/*?sslmode=require").unwrap().unwrap();
        assert_eq!(pattern.to("a b/c*"), "postgres://u@db1:5433/a%20b%2Fc%2A?sslmode=require");
        assert_eq!(Pattern::of(&pattern.to("*")).unwrap(), None);
    }

    #[test]
    fn what_a_restore_made_is_told_from_databases() {
        for made in ["erp__safety_20261121t020000z", "erp__restoring_20261121t020000z_2"] {
            assert!(is_of_a_restore(made), "{made}");
        }
        for other in
            ["erp", "erp__safety_first", "erp__safety_20261121t020000", "x__restoring_20261121t020000z_b"]
        {
            assert!(!is_of_a_restore(other), "{other}");
        }
    }
}
