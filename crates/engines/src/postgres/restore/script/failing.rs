//! Statements that the server refused: which of them end the restore, and what is said of them. Of the statement its beginning
//! is shown, without texts.

use crate::postgres::failure;
use crate::postgres::restore::fill::{COLLIDES, POINTS_NOWHERE};
use crate::postgres::script::{Meaning, shown};
use flow::{SourceError, SourceErrorKind};

/// A statement that failed.
pub(super) struct Failing<'a> {
    /// What errors call the text.
    pub(super) object: &'a str,
    /// What errors call the database.
    pub(super) target: &'a str,
    pub(super) line: u64,
    pub(super) text: &'a str,
    /// Whether the database is one that was there before.
    pub(super) is_live: bool,
}

/// Tells what mends a row that the server refused.
pub(super) fn hint_for_row(error: &tokio_postgres::Error, is_live: bool) -> String {
    let mends = match error.code().map(|code| code.code()).unwrap_or_default() {
        "23505" | "23P01" if is_live => COLLIDES,
        "23503" if is_live => POINTS_NOWHERE,
        _ => "the row and the definition of its table do not fit each other",
    };
    format!("the target is as it was; {mends}")
}

/// What becomes of a statement that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// The restore ends.
    Fails,
    /// It is passed over.
    Nothing,
    /// It is passed over, with a word.
    Warning,
}

/// Tells whether a statement of this meaning may be passed over for some reason.
pub(super) fn may_fail(meaning: Meaning) -> bool {
    matches!(meaning, Meaning::Drop | Meaning::Schema | Meaning::Setting | Meaning::ExtensionComment)
}

/// Tells what becomes of a statement that failed. In a new database there is nothing to be taken away; `public` is there
/// already; an older server lacks settings of a newer one; and `plpgsql` belongs to the superuser.
pub(super) fn passed_over(meaning: Meaning, text: &str, error: &tokio_postgres::Error) -> Told {
    let code = error.code().map(|code| code.code()).unwrap_or_default();
    match (meaning, code) {
        (Meaning::Drop, "42P01" | "42704" | "42883" | "3F000") => Told::Nothing,
        (Meaning::Schema, "42P06") if is_public(text) => Told::Nothing,
        (Meaning::Setting, "42704") | (Meaning::ExtensionComment, "42501") => Told::Warning,
        _ => Told::Fails,
    }
}

fn is_public(text: &str) -> bool {
    text.split_ascii_whitespace().nth(2).is_some_and(|name| name.trim_matches('"') == "public")
}

/// Makes the error of a statement that ends the restore.
pub(super) fn failed(failing: &Failing<'_>, error: &tokio_postgres::Error) -> SourceError {
    let Some(said) = error.as_db_error() else {
        let action = format!("line {} of {} was not answered", failing.line, failing.object);
        return failure::server(failing.target, &action, error);
    };
    let (line, statement) = (failing.line, shown(failing.text.as_bytes()));
    let message = format!("line {line}: `{statement}` fails: {}", said.message());
    let hint = match said.code().code() {
        "23505" | "23P01" | "23503" if failing.is_live => {
            return SourceError::new(SourceErrorKind::Failed, failing.object, message)
                .with_hint(hint_for_row(error, true));
        }
        "58P01" | "0A000" => {
            "the target is as it was; the server lacks something that the server of the dump had"
        }
        "42704" | "42883" | "42P01" | "3F000" => {
            "the target is as it was; what is missing is an extension, or stood in another dump: make it part of this one"
        }
        "42501" => "the target is as it was; restore it as a superuser, or try --no-owner",
        "22021" => {
            "the target is as it was; the text has bytes of another encoding: restore it into an empty database that has that \
             one (CREATE DATABASE … ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0), or dump it by `pg_dump --create`"
        }
        _ => "the target is as it was; mend the text, or what the server lacks, and restore again",
    };
    SourceError::new(SourceErrorKind::Failed, failing.object, message).with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_schema_that_every_database_has_may_be_there() {
        assert!(is_public("CREATE SCHEMA public") && is_public("create schema \"public\""));
        assert!(!is_public("CREATE SCHEMA sales"));
    }
}
