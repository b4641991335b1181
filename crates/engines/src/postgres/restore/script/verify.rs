//! The rows of what was loaded, counted again and compared with those that stand in the text.
//!
//! Reads only, so it may be begun again.

use crate::postgres::restore::ground::Ground;
use crate::postgres::restore::job::Job;
use crate::postgres::restore::verify::forced;
use crate::postgres::script::ScriptFacts;
use crate::postgres::session::Session;
use crate::postgres::statements::names_of;
use crate::restore::RestoreError;
use flow::{BackupReader, Severity, SourceError, SourceErrorKind};

/// A table, and how many rows it must have.
struct Counted {
    oid: u32,
    /// Its name for statements, as what is counted: a table without those that inherit from it.
    from: String,
    shown: String,
    expected: u64,
    /// Whether it may have more: a partitioned table has rows that were loaded by other names, one of an extension has its
    /// own.
    may_have_more: bool,
}

/// Compares the new database with the text.
pub(in crate::postgres::restore) fn run(
    job: &mut Job,
    facts: &ScriptFacts,
    backup: &dyn BackupReader,
) -> Result<(), RestoreError> {
    job.phase("verifying", None);
    if !facts.is_certain {
        let message = "all statements succeeded; rows were not counted again, because some of them change rows in ways that \
                       do not show in the text";
        job.tell(Severity::Notice, message.to_owned(), None);
        return Ok(());
    }
    let ground = Ground::of(job, backup.manifest())?;
    let mut session = ground.session()?;
    let forced = forced(&mut session)?;
    let mut counted = Vec::new();
    for (name, rows) in &facts.loaded {
        if let Some(expected) = rows {
            counted.extend(of(&mut session, name, *expected, &ground)?);
        }
    }
    drop(session);
    ground.each(&counted, |session, table| {
        let is_forced = forced.contains(&table.oid);
        if is_forced {
            session.execute(&format!("BEGIN; ALTER TABLE {} NO FORCE ROW LEVEL SECURITY", table.shown))?;
        }
        let row = session.query_one(&format!("SELECT count(*) FROM {}", table.from), &[])?;
        let found: i64 = session.field(&row, 0)?;
        if is_forced {
            session.execute("ROLLBACK")?;
        }
        let found = u64::try_from(found).unwrap_or(0);
        if found == table.expected || (table.may_have_more && found > table.expected) {
            return Ok(());
        }
        let message = format!(
            "the table {} was restored with {found} rows, and the text has {}",
            table.shown, table.expected
        );
        Err(SourceError::new(SourceErrorKind::Damaged, ground.object.clone(), message)
            .with_hint(
                "restore again; where it is the same again, tell us, and `--no-verify` restores without the comparison",
            )
            .into())
    })
}

/// Finds a table by its name in the text. One that is called without its schema, of which there are several, is left out.
fn of(
    session: &mut Session,
    name: &str,
    expected: u64,
    ground: &Ground,
) -> Result<Option<Counted>, SourceError> {
    let mut parts = names_of(name);
    let relation = parts.pop().unwrap_or_default();
    let schema = parts.pop().unwrap_or_default();
    let sql = "SELECT c.oid, c.relkind::text, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname),
                 EXISTS (SELECT 1 FROM pg_catalog.pg_depend d
                         WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
               FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
               WHERE c.relname::text = $1 AND c.relkind IN ('r', 'p', 'f', 'v')
                 AND (n.nspname::text = $2 OR $2 = '' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema')";
    let rows = session.query(sql, &[&relation, &schema])?;
    let [row] = &rows[..] else {
        if !rows.is_empty() {
            return Ok(None);
        }
        let message = format!("the table {name} of the text was not made");
        return Err(SourceError::new(SourceErrorKind::Damaged, ground.object.clone(), message));
    };
    let (kind, shown): (String, String) = (session.field(row, 1)?, session.field(row, 2)?);
    let of_extension: bool = session.field(row, 3)?;
    let from = match kind.as_str() {
        "r" => format!("ONLY {shown}"),
        "p" => shown.clone(),
        _ => return Ok(None),
    };
    let may_have_more = of_extension || kind == "p";
    Ok(Some(Counted { oid: session.field(row, 0)?, from, shown, expected, may_have_more }))
}
