//! Foreign keys between tables that both get rows: in whatever order those come, one points to the other too early, and keys
//! may form a circle. So they are taken off meanwhile and put on again, with all rows checked.
//!
//! Keys that point elsewhere stay on, and so do those that never were checked: rows must fit them as they come.

use crate::postgres::failure;
use crate::postgres::restore::chosen::blockers::{Blocker, Key};
use crate::postgres::restore::chosen::stage::Stage;
use crate::postgres::restore::fill::POINTS_NOWHERE;
use crate::postgres::session::Session;
use flow::{SourceError, SourceErrorKind};
use tokio_postgres::error::SqlState;

/// The tables, and those that they are partitions of.
const ABOVE: &str = "WITH RECURSIVE above AS (
   SELECT unnest($1::oid[]) AS oid
   UNION
   SELECT i.inhparent FROM above JOIN pg_catalog.pg_class c ON c.oid = above.oid AND c.relispartition
   JOIN pg_catalog.pg_inherits i ON i.inhrelid = above.oid)";

/// A foreign key between two of the tables.
pub(super) struct Inner {
    pub(super) key: Key,
    /// The table that it points to, for statements.
    pub(super) to: String,
    /// Whether the role counts as the owner of its table.
    owns: bool,
    owner: String,
}

impl Inner {
    /// Returns what it stands in the way of.
    pub(super) fn blocker(&self) -> Option<Blocker> {
        (!self.owns).then(|| Blocker {
            message: format!(
                "a foreign key of {} cannot be taken off meanwhile by this role",
                self.key.table
            ),
            hint: format!("connect as {}, or grant that role to yours", self.owner),
        })
    }
}

/// Returns the keys between tables. Of a partitioned table's key the one of the whole stands for all.
pub(super) fn inner(session: &mut Session, oids: &[u32]) -> Result<Vec<Inner>, SourceError> {
    let sql = format!(
        "{ABOVE} SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), k.conname::text,
           pg_catalog.pg_get_constraintdef(k.oid), pg_catalog.obj_description(k.oid, 'pg_constraint'),
           pg_catalog.format('%I.%I', m.nspname, d.relname), pg_catalog.pg_has_role(c.relowner, 'USAGE'),
           pg_catalog.pg_get_userbyid(c.relowner)::text
         FROM pg_catalog.pg_constraint k
         JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         JOIN pg_catalog.pg_class d ON d.oid = k.confrelid JOIN pg_catalog.pg_namespace m ON m.oid = d.relnamespace
         WHERE k.contype = 'f' AND k.conparentid = 0 AND k.convalidated
           AND k.conrelid IN (SELECT oid FROM above) AND k.confrelid IN (SELECT oid FROM above) ORDER BY 1, 2"
    );
    let mut found = Vec::new();
    for row in session.query(&sql, &[&oids])? {
        found.push(Inner {
            key: Key {
                table: session.field(&row, 0)?,
                name: session.field(&row, 1)?,
                definition: session.field(&row, 2)?,
                comment: session.field(&row, 3)?,
            },
            to: session.field(&row, 4)?,
            owns: session.field(&row, 5)?,
            owner: session.field(&row, 6)?,
        });
    }
    Ok(found)
}

/// Puts a key on again, all rows checked.
pub(super) fn put_back(stage: &mut Stage<'_>, inner: &Inner) -> Result<(), SourceError> {
    let key = &inner.key;
    let Err(error) = stage.session.try_execute(&key.on())? else { return Ok(()) };
    if !failure::is(&error, &[&SqlState::FOREIGN_KEY_VIOLATION]) {
        let action = format!("the foreign key {} of {} cannot be put back", key.name, key.table);
        return Err(failure::server(stage.object(), &action, &error));
    }
    let message = format!(
        "rows of {} would point at rows of {} that are nowhere: {}",
        key.table,
        inner.to,
        failure::text(&error)
    );
    Err(stage.error(SourceErrorKind::Unwritable, message).with_hint(POINTS_NOWHERE))
}

/// Returns the sequences that belong to columns of tables.
pub(super) fn sequences(session: &mut Session, oids: &[u32]) -> Result<Vec<u32>, SourceError> {
    let sql = format!(
        "{ABOVE} SELECT DISTINCT d.objid FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class s ON s.oid = d.objid
         WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
           AND d.refobjid IN (SELECT oid FROM above) AND d.deptype IN ('a', 'i') AND s.relkind = 'S'"
    );
    let rows = session.query(&sql, &[&oids])?;
    rows.iter().map(|row| session.field(row, 0)).collect()
}
