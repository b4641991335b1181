//! What the target holds that has to make room: schemas, extensions in them, publications, event triggers. Only looks.

use super::record::is_record;
use crate::postgres::restore::names::is_beside_any;
use crate::postgres::session::Session;
use flow::SourceError;

/// A schema that is moved aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Schema {
    pub(super) oid: u32,
    pub(super) name: String,
    pub(super) owner: String,
    /// Whether the role may rename it.
    pub(super) is_ours: bool,
}

/// An extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Extension {
    pub(super) oid: u32,
    pub(super) name: String,
    /// The schema that it is in.
    pub(super) schema: String,
    pub(super) may_move: bool,
    /// Whether the role counts as its owner.
    pub(super) is_ours: bool,
}

/// Returns the schemas that are a person's. Those that an extension made, or that hold nothing but extensions, stay; so
/// does what earlier restores kept.
pub(super) fn schemas(session: &mut Session) -> Result<Vec<Schema>, SourceError> {
    let sql = "WITH inside AS (
         SELECT d.refobjid AS schema,
           EXISTS (SELECT 1 FROM pg_catalog.pg_depend e WHERE e.classid = d.classid AND e.objid = d.objid
                   AND e.deptype = 'e') AS member
         FROM pg_catalog.pg_depend d
         WHERE d.refclassid = 'pg_catalog.pg_namespace'::regclass
           AND d.classid <> 'pg_catalog.pg_extension'::regclass)
       SELECT n.oid, n.nspname::text, pg_catalog.pg_get_userbyid(n.nspowner)::text,
         pg_catalog.pg_has_role(n.nspowner, 'USAGE')
       FROM pg_catalog.pg_namespace n
       WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
         AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.deptype = 'e' AND d.objid = n.oid
                         AND d.classid = 'pg_catalog.pg_namespace'::regclass)
         AND NOT (EXISTS (SELECT 1 FROM inside i WHERE i.schema = n.oid AND i.member)
                  AND NOT EXISTS (SELECT 1 FROM inside i WHERE i.schema = n.oid AND NOT i.member))
       ORDER BY n.nspname";
    let mut found = Vec::new();
    for row in session.query(sql, &[])? {
        let name: String = session.field(&row, 1)?;
        if is_record(&name) || is_beside_any(&name, &["safety", "rolled_back"]) {
            continue;
        }
        found.push(Schema {
            oid: session.field(&row, 0)?,
            name,
            owner: session.field(&row, 2)?,
            is_ours: session.field(&row, 3)?,
        });
    }
    Ok(found)
}

/// Returns the extensions.
pub(super) fn extensions(session: &mut Session) -> Result<Vec<Extension>, SourceError> {
    let sql = "SELECT e.oid, e.extname::text, n.nspname::text, e.extrelocatable,
                 pg_catalog.pg_has_role(e.extowner, 'USAGE')
               FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace ORDER BY 2";
    let mut found = Vec::new();
    for row in session.query(sql, &[])? {
        found.push(Extension {
            oid: session.field(&row, 0)?,
            name: session.field(&row, 1)?,
            schema: session.field(&row, 2)?,
            may_move: session.field(&row, 3)?,
            is_ours: session.field(&row, 4)?,
        });
    }
    Ok(found)
}

/// Returns the names of what a query lists.
pub(super) fn names(session: &mut Session, sql: &str) -> Result<Vec<String>, SourceError> {
    let rows = session.query(sql, &[])?;
    rows.iter().map(|row| session.field(row, 0)).collect()
}

/// Returns the publications.
pub(super) fn publications(session: &mut Session) -> Result<Vec<String>, SourceError> {
    names(session, "SELECT pubname::text FROM pg_catalog.pg_publication ORDER BY 1")
}

/// Returns the event triggers, with how they are enabled.
pub(super) fn event_triggers(session: &mut Session) -> Result<Vec<(String, String)>, SourceError> {
    let sql = "SELECT evtname::text, evtenabled::text FROM pg_catalog.pg_event_trigger t
               WHERE NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.deptype = 'e' AND d.objid = t.oid
                                 AND d.classid = 'pg_catalog.pg_event_trigger'::regclass) ORDER BY 1";
    let rows = session.query(sql, &[])?;
    rows.iter().map(|row| Ok((session.field(row, 0)?, session.field(row, 1)?))).collect()
}

/// Returns the tables of schemas, for statements.
pub(super) fn tables(session: &mut Session, schemas: &[String]) -> Result<Vec<String>, SourceError> {
    let sql = "SELECT '\"' || replace(n.nspname::text, '\"', '\"\"') || '\".\"' || replace(c.relname::text, '\"', '\"\"') || '\"'
               FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
               WHERE c.relkind IN ('r', 'p') AND n.nspname::text = ANY($1) ORDER BY c.oid";
    let rows = session.query(sql, &[&schemas])?;
    rows.iter().map(|row| session.field(row, 0)).collect()
}
