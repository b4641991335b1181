//! What stands in the way of replacing the rows of a live table: rights, policies, publications, columns that changed,
//! foreign keys that cannot be taken off. Only looks.

use super::stage::Live;
use crate::postgres::session::Session;
use flow::SourceError;

/// A foreign key that points to a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::postgres::restore) struct Key {
    /// The table that has it, for statements.
    pub(in crate::postgres::restore) table: String,
    pub(in crate::postgres::restore) name: String,
    /// As the server writes it.
    pub(in crate::postgres::restore) definition: String,
    pub(in crate::postgres::restore) comment: Option<String>,
}

/// A trigger of a table that acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::postgres::restore) struct Trigger {
    /// Its table, for statements.
    pub(in crate::postgres::restore) table: String,
    pub(in crate::postgres::restore) name: String,
    /// As `pg_trigger` has it.
    pub(in crate::postgres::restore) enabled: char,
}

/// The tables and their partitions.
const FAMILY: &str = "WITH RECURSIVE family AS (
   SELECT c.oid FROM pg_catalog.pg_class c WHERE c.oid = ANY($1)
   UNION
   SELECT i.inhrelid FROM family JOIN pg_catalog.pg_inherits i ON i.inhparent = family.oid
   JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid AND c.relispartition)";
const NAME: &str = "'\"' || replace(n.nspname::text, '\"', '\"\"') || '\".\"' || replace(c.relname::text, '\"', '\"\"') || '\"'";

/// Returns the foreign keys that point to tables, those of the tables themselves too. Of a partitioned table's key the
/// one of the whole stands for all.
pub(in crate::postgres::restore) fn keys(
    session: &mut Session,
    oids: &[u32],
) -> Result<Vec<Key>, SourceError> {
    let sql = format!(
        "{FAMILY} SELECT {NAME}, k.conname::text, pg_catalog.pg_get_constraintdef(k.oid),
           pg_catalog.obj_description(k.oid, 'pg_constraint')
         FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE k.contype = 'f' AND k.conparentid = 0 AND k.confrelid IN (SELECT oid FROM family) ORDER BY 1, 2"
    );
    let mut found = Vec::new();
    for row in session.query(&sql, &[&oids])? {
        found.push(Key {
            table: session.field(&row, 0)?,
            name: session.field(&row, 1)?,
            definition: session.field(&row, 2)?,
            comment: session.field(&row, 3)?,
        });
    }
    Ok(found)
}

/// Returns the triggers that would act while tables are emptied and filled.
pub(in crate::postgres::restore) fn triggers(
    session: &mut Session,
    oids: &[u32],
) -> Result<Vec<Trigger>, SourceError> {
    let sql = format!(
        "{FAMILY} SELECT {NAME}, t.tgname::text, t.tgenabled::text FROM pg_catalog.pg_trigger t
         JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' AND t.tgrelid IN (SELECT oid FROM family) ORDER BY 1, 2"
    );
    let mut found = Vec::new();
    for row in session.query(&sql, &[&oids])? {
        let enabled: String = session.field(&row, 2)?;
        let enabled = enabled.chars().next().unwrap_or('O');
        found.push(Trigger { table: session.field(&row, 0)?, name: session.field(&row, 1)?, enabled });
    }
    Ok(found)
}

/// Returns the materialized views that are made from tables, through other views too, for statements.
pub(in crate::postgres::restore) fn stale_views(
    session: &mut Session,
    oids: &[u32],
) -> Result<Vec<String>, SourceError> {
    let sql = format!(
        "WITH RECURSIVE up AS (
           SELECT unnest($1::oid[]) AS oid
           UNION
           SELECT r.ev_class FROM up
           JOIN pg_catalog.pg_depend d ON d.refobjid = up.oid AND d.refclassid = 'pg_catalog.pg_class'::regclass
             AND d.classid = 'pg_catalog.pg_rewrite'::regclass
           JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid)
         SELECT {NAME} FROM up JOIN pg_catalog.pg_class c ON c.oid = up.oid
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'm' AND c.relispopulated ORDER BY 1"
    );
    let rows = session.query(&sql, &[&oids])?;
    rows.iter().map(|row| session.field(row, 0)).collect()
}

/// Returns who holds locks on tables.
pub(in crate::postgres::restore) fn users(
    session: &mut Session,
    oids: &[u32],
) -> Result<Vec<String>, SourceError> {
    let sql = format!(
        "{FAMILY} SELECT DISTINCT a.pid, coalesce(a.usename::text, '?'), coalesce(a.application_name, ''),
           coalesce(to_char(a.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), '?')
         FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
         WHERE l.locktype = 'relation' AND l.granted AND l.pid <> pg_catalog.pg_backend_pid()
           AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
           AND l.relation IN (SELECT oid FROM family) ORDER BY 1"
    );
    let mut found = Vec::new();
    for row in session.query(&sql, &[&oids])? {
        let (pid, user): (i32, String) = (session.field(&row, 0)?, session.field(&row, 1)?);
        let (program, since): (String, String) = (session.field(&row, 2)?, session.field(&row, 3)?);
        let program = if program.is_empty() { String::new() } else { format!("{program}, ") };
        found.push(format!("session {pid} of {user} ({program}in a transaction since {since} UTC)"));
    }
    Ok(found)
}

/// Returns the room that tables take, with all that belongs to them.
pub(in crate::postgres::restore) fn size_bytes(
    session: &mut Session,
    oids: &[u32],
) -> Result<u64, SourceError> {
    let sql =
        format!("{FAMILY} SELECT coalesce(sum(pg_catalog.pg_total_relation_size(oid)), 0)::int8 FROM family");
    let row = session.query_one(&sql, &[&oids])?;
    let size: i64 = session.field(&row, 0)?;
    Ok(u64::try_from(size).unwrap_or(0))
}

/// Something that would refuse the replacement, and what mends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::postgres::restore) struct Blocker {
    pub(in crate::postgres::restore) message: String,
    pub(in crate::postgres::restore) hint: String,
}

fn blocker(message: String, hint: impl Into<String>) -> Blocker {
    Blocker { message, hint: hint.into() }
}

/// Returns what stands in the way whatever the backup has.
pub(in crate::postgres::restore) fn of(
    session: &mut Session,
    live: &Live,
) -> Result<Vec<Blocker>, SourceError> {
    let shown = live.shown();
    if !['r', 'p'].contains(&live.kind) {
        let hint = "leave `--in-place` out: the backup's table is made beside it";
        return Ok(vec![blocker(format!("{shown} is {} by now", live.what()), hint)]);
    }
    let mut found = rights(session, live)?;
    let sql = format!(
        "{FAMILY} SELECT DISTINCT p.pubname::text FROM pg_catalog.pg_publication p
         WHERE NOT p.pubtruncate AND (p.puballtables OR EXISTS (SELECT 1 FROM pg_catalog.pg_publication_rel r
           WHERE r.prpubid = p.oid AND r.prrelid IN (SELECT oid FROM family))) ORDER BY 1"
    );
    for row in session.query(&sql, &[&&[live.oid][..]])? {
        let name: String = session.field(&row, 0)?;
        let hint = format!(
            "ALTER PUBLICATION {} SET (publish = 'insert, update, delete, truncate')",
            crate::postgres::statements::quoted(&name)
        );
        let message = format!(
            "the publication {name} does not pass on that {shown} is emptied, so its subscribers would keep the old rows"
        );
        found.push(blocker(message, hint));
    }
    let sql = "SELECT DISTINCT p.conrelid::regclass::text, p.confrelid::regclass::text
               FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_constraint p ON p.oid = k.conparentid
               WHERE k.contype = 'f' AND k.confrelid = $1 AND p.confrelid <> $1 ORDER BY 1, 2";
    if live.kind == 'r' {
        for row in session.query(sql, &[&live.oid])? {
            let (from, to): (String, String) = (session.field(&row, 0)?, session.field(&row, 1)?);
            let message = format!("{shown} is a partition of {to}, which a foreign key of {from} points to");
            found.push(blocker(message, format!("replace the whole of it: --table {to}")));
        }
    }
    Ok(found)
}

fn rights(session: &mut Session, live: &Live) -> Result<Vec<Blocker>, SourceError> {
    let shown = live.shown();
    let mut found = Vec::new();
    let sql =
        "SELECT pg_catalog.pg_has_role(c.relowner, 'USAGE'), pg_catalog.pg_get_userbyid(c.relowner)::text,
                 pg_catalog.row_security_active(c.oid), pg_catalog.quote_ident(current_user),
                 pg_catalog.has_schema_privilege(c.relnamespace, 'CREATE')
               FROM pg_catalog.pg_class c WHERE c.oid = $1";
    let row = session.query_one(sql, &[&live.oid])?;
    let (owns, owner): (bool, String) = (session.field(&row, 0)?, session.field(&row, 1)?);
    let (hidden, role): (bool, String) = (session.field(&row, 2)?, session.field(&row, 3)?);
    if !owns {
        let message = format!("the role {role} is not the owner of {shown}");
        found.push(blocker(message, format!("connect as {owner}, or grant that role to {role}")));
    }
    if hidden {
        let message = format!("policies of {shown} hide rows from the role {role}");
        found.push(blocker(message, "connect as a superuser or a role with BYPASSRLS"));
    }
    if !session.field::<bool>(&row, 4)? {
        let message = format!("the role {role} may make no tables in the schema {}", live.schema);
        let schema = crate::postgres::statements::quoted(&live.schema);
        found.push(blocker(message, format!("GRANT CREATE ON SCHEMA {schema} TO {role}")));
    }
    let sql = format!(
        "{FAMILY} SELECT DISTINCT c.oid::regclass::text, pg_catalog.pg_get_userbyid(c.relowner)::text
         FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
         WHERE k.contype = 'f' AND k.confrelid IN (SELECT oid FROM family)
           AND NOT pg_catalog.pg_has_role(c.relowner, 'USAGE') ORDER BY 1"
    );
    for row in session.query(&sql, &[&&[live.oid][..]])? {
        let (table, owner): (String, String) = (session.field(&row, 0)?, session.field(&row, 1)?);
        let message =
            format!("a foreign key of {table} points to {shown}, and {role} is not the owner of {table}");
        found.push(blocker(message, format!("connect as a superuser, or grant the role {owner} to {role}")));
    }
    Ok(found)
}

/// Returns what stands in the way because columns have changed: `columns` are those of the backup's rows, in brackets.
pub(in crate::postgres::restore) fn of_columns(
    session: &mut Session,
    live: &Live,
    columns: &[String],
) -> Result<Vec<Blocker>, SourceError> {
    let generated = if session.version >= 120_000 { "a.attgenerated <> ''" } else { "false" };
    let sql = format!(
        "SELECT a.attname::text, {generated}, a.attnotnull AND NOT a.atthasdef AND a.attidentity = ''
         FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped"
    );
    let mut there = Vec::new();
    let mut unfilled = Vec::new();
    for row in session.query(&sql, &[&live.oid])? {
        let (name, generated, needed): (String, bool, bool) =
            (session.field(&row, 0)?, session.field(&row, 1)?, session.field(&row, 2)?);
        if needed && !generated && !columns.contains(&name) {
            unfilled.push(name.clone());
        }
        if !generated {
            there.push(name);
        }
    }
    let shown = live.shown();
    let gone: Vec<&str> = columns.iter().filter(|name| !there.contains(name)).map(String::as_str).collect();
    let mut found = Vec::new();
    let hint = "leave `--in-place` out: the table is made beside as it was, and rows are taken over by INSERT … SELECT";
    if !gone.is_empty() {
        let message =
            format!("{shown} has no columns (any more) for these of the backup: {}", gone.join(", "));
        found.push(blocker(message, hint));
    }
    if !unfilled.is_empty() {
        let message = format!(
            "{shown} has columns by now that must be filled and are not in the backup: {}",
            unfilled.join(", ")
        );
        found.push(blocker(message, hint));
    }
    Ok(found)
}
