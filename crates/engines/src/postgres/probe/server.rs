//! What of a server's settings and state would end a long read, or keep it from beginning: time limits, connections and
//! locks that are left, and on a standby what the primary does meanwhile.

use super::Findings;
use crate::postgres::session::Session;
use flow::{Finding, Severity, SourceError};

/// Limits of time that would end a backup, in the server's order of saying them.
const LIMITS: [&str; 5] = [
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "transaction_timeout",
];
/// Whoever locks and holds, `pg_dump`, `pg_dumpall`, and two workers.
const CONNECTIONS: i64 = 5;
/// Without those that a backup can do without.
const CONNECTIONS_MIN: i64 = 2;

/// Where the server cannot be told to read nothing but tables, says what may follow from that.
pub(super) fn restriction(session: &Session, object: &str) -> Option<Finding> {
    unrestricted(session.can_restrict(), object)
}

fn unrestricted(can_restrict: bool, object: &str) -> Option<Finding> {
    (!can_restrict).then(|| Finding {
        severity: Severity::Warning,
        object: object.to_owned(),
        message: "the server cannot be told to read nothing but tables (restrict_nonsystem_relation_kind): who owns a table or a \
                  sequence could put a view in its place while a backup runs, whose functions run with this role's rights \
                  (CVE-2024-7348)"
            .to_owned(),
        hint: Some(
            "update the server: 12.20, 13.16, 14.13, 15.8, 16.4 and newer can; until then, back up by a role that is no \
             superuser (`backstay role`)"
                .to_owned(),
        ),
    })
}

/// Returns milliseconds as a person says them.
fn time(milliseconds: i64) -> String {
    match milliseconds {
        ..1000 => format!("{milliseconds} ms"),
        1000..120_000 => format!("{} s", milliseconds / 1000),
        _ => format!("{} min", milliseconds / 60_000),
    }
}

/// Names the time limits that this role meets, which our sessions take back for themselves.
pub(super) fn time_limits(session: &mut Session, findings: &mut Findings) -> Result<(), SourceError> {
    let limits: Vec<String> = LIMITS.iter().map(|limit| format!("'{limit}'")).collect();
    let sql = format!(
        "SELECT name, reset_val::int8, setting::int8 FROM pg_catalog.pg_settings WHERE name IN ({}) ORDER BY name",
        limits.join(", ")
    );
    for row in session.query(&sql, &[])? {
        let (name, usual, now): (String, i64, i64) =
            (session.field(&row, 0)?, session.field(&row, 1)?, session.field(&row, 2)?);
        if now > 0 {
            findings.problem(
                format!(
                    "{name} is {}, and this role cannot take it back: a longer backup is ended",
                    time(now)
                ),
                Some(format!("ALTER ROLE … SET {name} = 0, for the role of the backups")),
            );
        } else if usual > 0 {
            findings.notice(
                format!(
                    "{name} is {} for this role; backups take it back for their own sessions",
                    time(usual)
                ),
                None,
            );
        }
    }
    Ok(())
}

/// Tells whether connections and locks are left for a backup.
pub(super) fn room(session: &mut Session, findings: &mut Findings) -> Result<(), SourceError> {
    // Of others' sessions only these columns are shown to everybody.
    let sql = "SELECT r.rolsuper, current_setting('max_connections')::int8,
        current_setting('superuser_reserved_connections')::int8 +
          coalesce(current_setting('reserved_connections', true), '0')::int8,
        r.rolconnlimit::int8, d.datconnlimit::int8,
        (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE datid IS NOT NULL AND usesysid IS NOT NULL),
        (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE usesysid = r.oid AND datid IS NOT NULL),
        (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE datid = d.oid AND usesysid IS NOT NULL),
        current_setting('max_locks_per_transaction')::int8 *
          (current_setting('max_connections')::int8 + current_setting('max_prepared_transactions')::int8),
        (SELECT count(*) FROM pg_catalog.pg_class WHERE relkind IN ('r', 'p'))
      FROM pg_catalog.pg_roles r, pg_catalog.pg_database d
      WHERE r.rolname = current_user AND d.datname = current_database()";
    let row = session.query_one(sql, &[])?;
    let superuser: bool = session.field(&row, 0)?;
    let number = |at: usize| -> Result<i64, SourceError> { session.field(&row, at) };
    let (all, reserved) = (number(1)?, number(2)?);
    let (of_role, of_database) = (number(3)?, number(4)?);
    // This look's own connection is free again then.
    let (used, by_role, in_database) = (number(5)? - 1, number(6)? - 1, number(7)? - 1);
    let (locks, tables) = (number(8)?, number(9)?);
    let mut limits = vec![(all - if superuser { 0 } else { reserved } - used, "max_connections")];
    if !superuser && of_role >= 0 {
        limits.push((of_role - by_role, "the role's CONNECTION LIMIT"));
    }
    if !superuser && of_database >= 0 {
        limits.push((of_database - in_database, "the database's CONNECTION LIMIT"));
    }
    if let Some((left, limit)) = limits.into_iter().min()
        && left < CONNECTIONS
    {
        let message =
            format!("{left} connections are left ({limit}), and a backup with two jobs takes {CONNECTIONS}");
        let hint =
            "raise the limit, or back up when fewer are at work; with fewer connections it takes longer";
        if left < CONNECTIONS_MIN {
            findings.problem(message, Some(hint.to_owned()));
        } else {
            findings.warning(message, hint);
        }
    }
    if tables > locks / 10 * 8 {
        findings.warning(
            format!("a backup locks {tables} tables, and there is room for about {locks} locks"),
            "raise max_locks_per_transaction, which needs a restart of the server",
        );
    }
    Ok(())
}

/// Explains what is different on a standby.
pub(super) fn standby(session: &mut Session, findings: &mut Findings) -> Result<(), SourceError> {
    let sql = "SELECT pg_catalog.pg_is_in_recovery(), current_setting('hot_standby_feedback') = 'on',
                 (SELECT setting::int8 FROM pg_catalog.pg_settings WHERE name = 'max_standby_streaming_delay')";
    let row = session.query_one(sql, &[])?;
    if !session.field::<bool>(&row, 0)? {
        return Ok(());
    }
    let (feedback, delay): (bool, i64) = (session.field(&row, 1)?, session.field(&row, 2)?);
    match (feedback, delay) {
        (_, ..0) => findings.notice(
            "the server is a standby, and waits with its replay as long as a backup reads".to_owned(),
            None,
        ),
        (true, delay) => findings.notice(
            format!(
                "the server is a standby that tells the primary what it reads (hot_standby_feedback); a TRUNCATE or DROP there \
                 still ends a backup here after {} (max_standby_streaming_delay)",
                time(delay)
            ),
            None,
        ),
        (false, delay) => findings.warning(
            format!(
                "the server is a standby that ends reads which keep its replay waiting for more than {}: when the primary \
                 removes old rows (VACUUM), a longer backup fails here with \"conflict with recovery\"",
                time(delay)
            ),
            "set hot_standby_feedback = on (the primary then keeps old rows longer), or max_standby_streaming_delay = -1 on \
             a standby that is there for backups, or back up the primary",
        ),
    }
    let sql = "SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relpersistence = 'u' AND c.relkind = 'r' ORDER BY 1";
    let names = super::content::names(session, sql)?;
    if !names.is_empty() {
        findings.warning(
            format!(
                "unlogged tables have no rows on a standby, and none in a backup of it: {}",
                super::content::few(&names)
            ),
            "back up the primary, or make them logged: ALTER TABLE … SET LOGGED",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_cannot_be_restricted_is_told() {
        assert_eq!(unrestricted(true, "erp"), None);
        let told = unrestricted(false, "erp");
        assert!(told.is_some_and(|told| told.message.contains("CVE-2024-7348") && told.hint.is_some()));
    }

    #[test]
    fn times_are_said_in_fitting_units() {
        assert_eq!([5, 1500, 30_000, 300_000].map(time), ["5 ms", "1 s", "30 s", "5 min"]);
    }
}
