//! Errors of the server and of its client library, told as what they mean for a backup.
//!
//! The text is the server's own message with its detail. No statement is quoted: one may hold what nobody should see.

use flow::{SourceError, SourceErrorKind};
use std::error::Error;
use tokio_postgres::error::SqlState;

/// Makes the error of something that the server refused, or that never reached it. `object` is the database.
pub(super) fn server(object: &str, action: &str, error: &tokio_postgres::Error) -> SourceError {
    let (kind, hint) = meaning(error);
    let message = match action {
        "" => text(error),
        action => format!("{action}: {}", text(error)),
    };
    let made = SourceError::new(kind, object, message);
    match hint {
        Some(hint) => made.with_hint(hint),
        None => made,
    }
}

/// Returns what the server said, or what became of the connection.
pub(super) fn text(error: &tokio_postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        return match said.detail() {
            Some(detail) => format!("{} ({detail})", said.message()),
            None => said.message().to_owned(),
        };
    }
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(cause) = below {
        text = format!("{text}: {cause}");
        below = cause.source();
    }
    text
}

/// Tells whether the server gave that reason.
pub(super) fn is(error: &tokio_postgres::Error, states: &[&SqlState]) -> bool {
    error.code().is_some_and(|code| states.contains(&code))
}

fn meaning(error: &tokio_postgres::Error) -> (SourceErrorKind, Option<&'static str>) {
    use SourceErrorKind::{Busy, Damaged, Failed, Missing, Unreadable};
    let Some(code) = error.code() else { return (Unreadable, None) };
    match code.code() {
        "3D000" => (Missing, Some("check the name after the last slash of the URL")),
        "28P01" | "28000" => (
            Unreadable,
            Some(
                "a password comes from PGPASSWORD or a password file (~/.pgpass); pg_hba.conf says who may log in",
            ),
        ),
        "42501" if text(error).contains("row-level security") => (
            Unreadable,
            Some(
                "its policies may hide rows from the role: ALTER ROLE … BYPASSRLS lets it see all rows of all tables",
            ),
        ),
        "42501" => (
            Unreadable,
            Some(
                "grant the role what it lacks: GRANT pg_read_all_data TO the role (14 and newer), or SELECT on each table",
            ),
        ),
        "53300" | "53400" => (Busy, Some("the server takes no more connections: try fewer by --jobs")),
        "53200" => (Failed, Some("for many tables the server needs a larger max_locks_per_transaction")),
        "55P03" | "40P01" => (Busy, None),
        // On a standby: what it had to replay came in the way of what was read.
        "40001" => (
            Failed,
            Some(
                "on a standby, hot_standby_feedback = on or max_standby_streaming_delay = -1 keeps reads alive; or back up the primary",
            ),
        ),
        "08P01" if text(error).contains("startup parameter") => (
            Unreadable,
            Some(
                "a pooler refuses it: leave `options` out of the connection, or connect to the server itself",
            ),
        ),
        "57P01" | "57P02" | "57P03" => (Failed, Some("the server went down or is starting; run it again")),
        "XX001" | "XX002" => {
            (Damaged, Some("`pg_amcheck` tells what is damaged; older backups are not touched"))
        }
        _ => (Failed, None),
    }
}
