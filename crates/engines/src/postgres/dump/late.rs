//! What no lock keeps as it is: names, labels of enums, sequences. Looked at once all rows were read, by a session that
//! holds no locks: nobody who waits for the backup's tables can be waited for in a circle.
//!
//! Whatever was read by its name must still have it, or the content of one could stand under the name of another. A
//! difference ends the backup as busy; nothing of it is kept.

use super::ground::Ground;
use crate::postgres::catalog::{Sequence, Table};
use crate::postgres::failure;
use crate::postgres::session::Session;
use flow::{Context, SourceError, SourceErrorKind};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio_postgres::SimpleQueryMessage;

/// How many sequences one statement reads.
const CHUNK: usize = 200;
/// How long a statement that holds the locks of several sequences may wait for one of them: well below the server's
/// `deadlock_timeout`, so that nobody's transaction ends for it.
const TOGETHER_MAX: Duration = Duration::from_millis(200);
/// How long a free connection is waited for: programs that ended a moment ago may still have theirs.
const CONNECTING_MAX: Duration = Duration::from_secs(10);
const CONNECTING_PAUSE: Duration = Duration::from_millis(200);

/// What must be the same at the end as the snapshot has it, by kind and number.
const NAMED: &str = "SELECT 'relation', c.oid, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname), ''
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'S') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  UNION ALL
  SELECT 'value of the type', e.oid, pg_catalog.quote_ident(t.typname), e.enumlabel::text
  FROM pg_catalog.pg_enum e JOIN pg_catalog.pg_type t ON t.oid = e.enumtypid
  UNION ALL
  SELECT 'sequence', s.seqrelid, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname),
    pg_catalog.concat_ws(' ', s.seqtypid, s.seqstart, s.seqincrement, s.seqmax, s.seqmin, s.seqcache, s.seqcycle)
  FROM pg_catalog.pg_sequence s JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace";

/// Returns a session without locks and without the old snapshot: one of the workers', or a new one.
pub(super) fn session(
    mut sessions: Vec<Session>,
    ground: &Ground,
    context: &Context,
) -> Result<Session, SourceError> {
    if let Some(mut session) = sessions.pop() {
        session.execute("ROLLBACK")?;
        return Ok(session);
    }
    let began = Instant::now();
    loop {
        match ground.connect(context) {
            Err(error) if error.kind == SourceErrorKind::Busy && began.elapsed() < CONNECTING_MAX => {
                if context.cancel.wait(CONNECTING_PAUSE) {
                    return Err(SourceError::cancelled(ground.object.clone()));
                }
            }
            other => return other,
        }
    }
}

fn changed(object: &str, what: &str) -> SourceError {
    SourceError::new(SourceErrorKind::Busy, object, format!("{what} while the backup ran"))
        .with_hint("run the backup again, at a time when nothing is renamed or replaced")
}

/// Returns the question which table stands under a table's name now.
pub(super) fn question(table: &Table) -> String {
    let name = table.quoted.replace('\\', "\\\\").replace('\'', "''");
    format!("SELECT pg_catalog.to_regclass(E'{name}')::oid::text")
}

/// Fails where another one does.
pub(super) fn check_answer(
    answer: &[SimpleQueryMessage],
    table: &Table,
    object: &str,
) -> Result<(), SourceError> {
    let oid = answer.iter().rev().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).and_then(|oid| oid.parse::<u32>().ok())),
        _ => None,
    });
    match oid.flatten() {
        Some(oid) if table.oid == oid => Ok(()),
        _ => Err(changed(object, &format!("table {} was renamed, or another took its name,", table.shown))),
    }
}

/// Fails where something that is read by its name, or written by its label, is not what the holder's snapshot has.
pub(super) fn check_names(
    holder: &mut Session,
    session: &mut Session,
    object: &str,
) -> Result<(), SourceError> {
    let before = named(holder)?;
    session.execute(&format!("BEGIN READ ONLY; {}", session.own_settings()))?;
    let mut now = named(session)?;
    session.execute("COMMIT")?;
    for ((kind, oid), (name, more)) in before {
        // What is gone was not needed, or is missed elsewhere.
        let Some((new_name, new_more)) = now.remove(&(kind.clone(), oid)) else { continue };
        if new_name != name {
            return Err(changed(object, &format!("{kind} {name} became {new_name}")));
        }
        if new_more != more {
            return Err(changed(object, &format!("{kind} {name} was changed")));
        }
    }
    Ok(())
}

/// Kind and number of something, with its name and what else is said of it.
type Named = BTreeMap<(String, u32), (String, String)>;

fn named(session: &mut Session) -> Result<Named, SourceError> {
    let mut found = BTreeMap::new();
    for row in session.query(NAMED, &[])? {
        let session = &*session;
        found.insert(
            (session.field(&row, 0)?, session.field(&row, 1)?),
            (session.field(&row, 2)?, session.field(&row, 3)?),
        );
    }
    Ok(found)
}

/// Returns the value of each sequence: the last one, and whether it was given out. To be asked after the rows were
/// read, so that no row has a value that its sequence gives again. One that is locked is waited for, while no other lock
/// is held.
pub(super) fn sequence_values(
    session: &mut Session,
    sequences: &[Sequence],
    lock_wait: Duration,
    object: &str,
) -> Result<Vec<(i64, bool)>, SourceError> {
    let deadline = Instant::now() + lock_wait;
    let mut values = Vec::with_capacity(sequences.len());
    for some in sequences.chunks(CHUNK) {
        match values_of(session, some, TOGETHER_MAX, object)? {
            Ok(found) => values.extend(found),
            Err(_) => {
                for one in some {
                    let left = deadline.saturating_duration_since(Instant::now()).max(TOGETHER_MAX);
                    values.extend(values_of(session, std::slice::from_ref(one), left, object)??);
                }
            }
        }
    }
    Ok(values)
}

/// Reads some sequences at once; the inner error is that of a lock which was not had in time.
fn values_of(
    session: &mut Session,
    sequences: &[Sequence],
    lock_wait: Duration,
    object: &str,
) -> Result<Result<Vec<(i64, bool)>, SourceError>, SourceError> {
    let begin = format!(
        "BEGIN READ ONLY; {}; SET LOCAL lock_timeout = {}",
        session.own_settings(),
        lock_wait.as_millis().clamp(1, 1 << 30)
    );
    session.execute(&begin)?;
    // The number of the relation says what was read, whatever stands under its name.
    let queries: Vec<String> = sequences
        .iter()
        .enumerate()
        .map(|(at, sequence)| {
            format!("SELECT {at}, last_value, is_called, tableoid FROM {}", sequence.quoted)
        })
        .collect();
    let done = session.try_query(&format!("{} ORDER BY 1", queries.join(" UNION ALL ")), &[])?;
    let rows = match done {
        Ok(rows) => rows,
        Err(error) => {
            let told = unreadable(sequences, &error, object);
            session.execute("ROLLBACK")?;
            let locked = failure::is(&error, &[&tokio_postgres::error::SqlState::LOCK_NOT_AVAILABLE]);
            return if locked { Ok(Err(told)) } else { Err(told) };
        }
    };
    session.execute("COMMIT")?;
    let mut values = Vec::with_capacity(rows.len());
    for (row, sequence) in rows.iter().zip(sequences) {
        let oid: u32 = session.field(row, 3)?;
        if oid != sequence.oid {
            return Err(changed(object, &format!("another took the name of sequence {}", sequence.shown)));
        }
        values.push((session.field(row, 1)?, session.field(row, 2)?));
    }
    Ok(Ok(values))
}

fn unreadable(sequences: &[Sequence], error: &tokio_postgres::Error, object: &str) -> SourceError {
    let names: Vec<&str> = sequences.iter().map(|sequence| sequence.shown.as_str()).collect();
    let action = match names.as_slice() {
        [one] => format!("sequence {one} cannot be read"),
        _ => "a sequence cannot be read".to_owned(),
    };
    let made = failure::server(object, &action, error);
    let busy = |hint: &str| (SourceErrorKind::Busy, hint.to_owned());
    let (kind, hint) = match error.code().map(tokio_postgres::error::SqlState::code) {
        Some("42P01" | "3F000") => busy("it was dropped while the backup ran; run the backup again"),
        // A view, or a table of another form.
        Some("42703" | "42809" | "55000") => busy(
            "something else took its name while the backup ran; see what that is, and run the backup again",
        ),
        Some("55P03") => busy("somebody changes it in a transaction that stays open: pg_locks tells who"),
        Some("42501") => (
            made.kind,
            "GRANT SELECT ON ALL SEQUENCES IN SCHEMA … TO the role, or pg_read_all_data".to_owned(),
        ),
        _ => return made,
    };
    SourceError { kind, hint: Some(hint), ..made }
}
