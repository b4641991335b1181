//! What a database holds, as its catalog says it: tables with the columns that a `COPY` gives, sequences, materialized
//! views, and what belongs to an extension but is its user's.
//!
//! Names come twice: as text for statements, and in the database's own encoding for the archive, which has no other.

use super::session::Session;
use flow::SourceError;
use std::collections::{BTreeMap, BTreeSet};

/// A table of ordinary rows, or one that only has partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    /// Its oid.
    pub(super) oid: u32,
    /// `p` for a partitioned one, else `r`.
    pub(super) kind: char,
    /// Its name as a person writes it.
    pub(super) shown: String,
    /// Its name for statements, always quoted.
    pub(super) quoted: String,
    /// Its columns for statements, in brackets; empty where there are none. Generated ones are left out.
    pub(super) columns: String,
    /// How many blocks it has, its toast not counted.
    pub(super) blocks: u64,
    /// Whether its rows are addressed by block.
    pub(super) is_heap: bool,
    /// Whether it is left empty by a crash of the server.
    pub(super) unlogged: bool,
    /// Whether its file is the one that the snapshot knows.
    pub(super) same_file: bool,
    /// The extension that it belongs to, with the condition on the rows that are its user's.
    pub(super) extension: Option<(u32, String)>,
    /// The tables of extensions whose rows must be there before, for a foreign key is there already.
    pub(super) after: BTreeSet<u32>,
    /// The partitioned table that its rows are to be loaded by: in a new database they may belong to another partition.
    pub(super) loaded_via: Option<u32>,
    /// The names in the database's own encoding.
    pub(super) names: Names,
}

/// A sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sequence {
    /// Its oid.
    pub(super) oid: u32,
    /// Its name as a person writes it.
    pub(super) shown: String,
    /// Its name for statements, always quoted.
    pub(super) quoted: String,
    /// The extension that it belongs to.
    pub(super) extension: Option<u32>,
    /// Whether it cannot be read on a standby.
    pub(super) unlogged: bool,
    /// The names in the database's own encoding.
    pub(super) names: Names,
}

/// A materialized view that holds rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    /// Its oid.
    pub(super) oid: u32,
    /// The materialized views that it is made from.
    pub(super) made_from: BTreeSet<u32>,
    /// The names in the database's own encoding.
    pub(super) names: Names,
}

/// Names in the database's own encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    /// The schema.
    pub(super) schema: Vec<u8>,
    /// The relation.
    pub(super) relation: Vec<u8>,
    /// The owner.
    pub(super) owner: Vec<u8>,
    /// Both for statements.
    pub(super) quoted: Vec<u8>,
    /// The same as a literal.
    pub(super) literal: Vec<u8>,
    /// The columns for statements, in brackets.
    pub(super) columns: Vec<u8>,
}

/// What of a database is dumped by us and not by `pg_dump`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Catalog {
    /// The tables, in the order of their oids.
    pub(super) tables: Vec<Table>,
    /// The sequences.
    pub(super) sequences: Vec<Sequence>,
    /// The materialized views that are to be filled, each after those that it is made from.
    pub(super) views: Vec<View>,
}

/// What belongs to nobody but the system and the session is passed over, as `pg_dump` does; of extensions all but what
/// they name as their user's.
const RELATIONS: &str = "FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN (SELECT DISTINCT objid FROM pg_catalog.pg_depend
             WHERE classid = 'pg_catalog.pg_class'::regclass
               AND refclassid = 'pg_catalog.pg_extension'::regclass AND deptype = 'e') m ON m.objid = c.oid
  LEFT JOIN (SELECT DISTINCT ON (l.relation) e.oid AS extension, l.relation, l.condition
             FROM pg_catalog.pg_extension e,
                  ROWS FROM (unnest(e.extconfig), unnest(e.extcondition)) AS l(relation, condition)) x
    ON x.relation = c.oid
  WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relpersistence <> 't'
    AND (m.objid IS NULL OR x.relation IS NOT NULL)";

/// Which tables are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// All; one that may not be read is found out when it is locked.
    All,
    /// Those that the role may read: of others a part of the database may do without.
    Readable,
}

impl Which {
    fn condition(self) -> &'static str {
        match self {
            Which::All => "",
            Which::Readable => {
                " AND (c.relkind NOT IN ('r', 'p') OR (pg_catalog.has_schema_privilege(n.oid, 'USAGE')
                       AND pg_catalog.has_table_privilege(c.oid, 'SELECT')))"
            }
        }
    }
}

/// Returns the tables that are there now, by oid, for statements.
pub(super) fn tables_now(session: &mut Session, which: Which) -> Result<BTreeMap<u32, String>, SourceError> {
    let condition = which.condition();
    let sql = format!(
        "SELECT c.oid, '\"' || replace(n.nspname::text, '\"', '\"\"') || '\".\"' || \
         replace(c.relname::text, '\"', '\"\"') || '\"' {RELATIONS}{condition} AND c.relkind IN ('r', 'p') ORDER BY c.oid"
    );
    let mut found = BTreeMap::new();
    for row in session.query(&sql, &[])? {
        found.insert(session.field(&row, 0)?, session.field(&row, 1)?);
    }
    Ok(found)
}

/// Returns the question for all that [`read`] needs.
fn relations_sql(version: i32, which: Which) -> String {
    let condition = which.condition();
    let generated = if version >= 120_000 { "AND a.attgenerated = ''" } else { "" };
    let heap = if version >= 120_000 {
        "coalesce(c.relam = (SELECT oid FROM pg_catalog.pg_am WHERE amname = 'heap'), false)"
    } else {
        "true"
    };
    format!(
        "WITH found AS (
           SELECT c.oid, c.relkind, c.relpersistence, c.relispopulated, x.extension, x.condition,
             n.nspname::text AS schema, c.relname::text AS relation,
             pg_catalog.pg_get_userbyid(c.relowner)::text AS owner,
             pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS shown,
             '\"' || replace(n.nspname::text, '\"', '\"\"') || '\".\"' ||
               replace(c.relname::text, '\"', '\"\"') || '\"' AS quoted,
             {heap} AS is_heap,
             c.relkind <> 'r' OR c.relfilenode = pg_catalog.pg_relation_filenode(c.oid) AS same_file,
             CASE WHEN c.relkind = 'r' THEN (
               SELECT '(' || string_agg('\"' || replace(a.attname::text, '\"', '\"\"') || '\"', ', '
                                        ORDER BY a.attnum) || ')'
               FROM pg_catalog.pg_attribute a
               WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped {generated}) END AS columns
           {RELATIONS}{condition} AND c.relkind IN ('r', 'p', 'S', 'm'))
         SELECT oid, relkind::text, shown, quoted, coalesce(columns, ''), is_heap,
           relpersistence = 'u', coalesce(same_file, false), extension, coalesce(condition, ''), relispopulated,
           convert_to(schema, e), convert_to(relation, e), convert_to(owner, e), convert_to(quoted, e),
           convert_to(pg_catalog.quote_literal(quoted), e), convert_to(coalesce(columns, ''), e)
         FROM found, (SELECT pg_catalog.getdatabaseencoding() AS e) encoding ORDER BY oid"
    )
}

/// Reads the catalog as the transaction's snapshot has it.
pub(super) fn read(session: &mut Session, which: Which) -> Result<Catalog, SourceError> {
    let mut catalog = read_unsized(session, which)?;
    read_sizes(session, &mut catalog)?;
    Ok(catalog)
}

/// Asks for the sizes of all tables. That waits for whoever has one of them for himself: they are to be locked before.
pub(super) fn read_sizes(session: &mut Session, catalog: &mut Catalog) -> Result<(), SourceError> {
    let sql = "SELECT t.oid, coalesce(pg_catalog.pg_relation_size(t.oid, 'main'), 0) / current_setting('block_size')::int8
               FROM unnest($1::oid[]) AS t(oid)";
    let oids: Vec<u32> =
        catalog.tables.iter().filter(|table| table.kind == 'r').map(|table| table.oid).collect();
    let mut sizes: BTreeMap<u32, i64> = BTreeMap::new();
    for row in session.query(sql, &[&oids])? {
        sizes.insert(session.field(&row, 0)?, session.field(&row, 1)?);
    }
    for table in &mut catalog.tables {
        table.blocks = sizes.get(&table.oid).and_then(|blocks| u64::try_from(*blocks).ok()).unwrap_or(0);
    }
    Ok(())
}

/// Reads the catalog without the sizes of tables, waiting for nobody.
pub(super) fn read_unsized(session: &mut Session, which: Which) -> Result<Catalog, SourceError> {
    let sql = relations_sql(session.version, which);
    let mut catalog = Catalog::default();
    let mut unfilled = BTreeSet::new();
    for row in session.query(&sql, &[])? {
        let session = &*session;
        let names = Names {
            schema: session.field(&row, 11)?,
            relation: session.field(&row, 12)?,
            owner: session.field(&row, 13)?,
            quoted: session.field(&row, 14)?,
            literal: session.field(&row, 15)?,
            columns: session.field(&row, 16)?,
        };
        let (oid, kind): (u32, String) = (session.field(&row, 0)?, session.field(&row, 1)?);
        let (shown, quoted): (String, String) = (session.field(&row, 2)?, session.field(&row, 3)?);
        let extension: Option<u32> = session.field(&row, 8)?;
        let condition: String = session.field(&row, 9)?;
        match kind.as_str() {
            "S" => {
                let unlogged = session.field(&row, 6)?;
                catalog.sequences.push(Sequence { oid, shown, quoted, extension, unlogged, names });
            }
            "m" if session.field(&row, 10)? => {
                catalog.views.push(View { oid, made_from: BTreeSet::new(), names });
            }
            "m" => drop(unfilled.insert(oid)),
            kind => catalog.tables.push(Table {
                oid,
                kind: kind.chars().next().unwrap_or('r'),
                shown,
                quoted,
                columns: session.field(&row, 4)?,
                blocks: 0,
                is_heap: session.field(&row, 5)?,
                unlogged: session.field(&row, 6)?,
                same_file: session.field(&row, 7)?,
                extension: extension.map(|extension| (extension, condition)),
                after: BTreeSet::new(),
                loaded_via: None,
                names,
            }),
        }
    }
    find_roots(session, &mut catalog)?;
    order_views(session, &mut catalog, unfilled)?;
    order_extension_tables(session, &mut catalog)?;
    Ok(catalog)
}

/// Which partitions hold their rows by a hash that a new database does not have: that of an enum's value depends on its
/// number, and containers may hold such values. Beside each stands the root of its tree.
const BY_PASSING_HASH: &str = "WITH RECURSIVE up AS (
   SELECT c.oid AS leaf, i.inhparent AS parent
   FROM pg_catalog.pg_class c JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid
   WHERE c.relkind = 'r' AND c.relispartition
   UNION ALL
   SELECT up.leaf, i.inhparent
   FROM up JOIN pg_catalog.pg_class c ON c.oid = up.parent AND c.relispartition
   JOIN pg_catalog.pg_inherits i ON i.inhrelid = up.parent)
 SELECT up.leaf, max(p.oid) FILTER (WHERE NOT p.relispartition)
 FROM up JOIN pg_catalog.pg_class p ON p.oid = up.parent
 JOIN pg_catalog.pg_partitioned_table t ON t.partrelid = up.parent
 GROUP BY up.leaf
 HAVING bool_or(EXISTS (
   SELECT 1 FROM pg_catalog.pg_opclass o JOIN pg_catalog.pg_am a ON a.oid = o.opcmethod
   WHERE o.oid = ANY (t.partclass::oid[]) AND a.amname = 'hash'
     AND o.opcname IN ('enum_ops', 'array_ops', 'record_ops', 'range_ops', 'multirange_ops')))";

fn find_roots(session: &mut Session, catalog: &mut Catalog) -> Result<(), SourceError> {
    if !catalog.tables.iter().any(|table| table.kind == 'p') {
        return Ok(());
    }
    let mut roots: BTreeMap<u32, Option<u32>> = BTreeMap::new();
    for row in session.query(BY_PASSING_HASH, &[])? {
        roots.insert(session.field(&row, 0)?, session.field(&row, 1)?);
    }
    for table in &mut catalog.tables {
        table.loaded_via = roots.get(&table.oid).copied().flatten();
    }
    Ok(())
}

/// Which materialized view is made from which, through ordinary views too.
const MADE_FROM: &str = "WITH RECURSIVE w AS (
   SELECT d1.objid, d2.refobjid, c2.relkind AS kind
   FROM pg_catalog.pg_depend d1
   JOIN pg_catalog.pg_class c1 ON c1.oid = d1.objid AND c1.relkind = 'm'
   JOIN pg_catalog.pg_rewrite r1 ON r1.ev_class = d1.objid
   JOIN pg_catalog.pg_depend d2 ON d2.classid = 'pg_catalog.pg_rewrite'::regclass AND d2.objid = r1.oid
     AND d2.refobjid <> d1.objid
   JOIN pg_catalog.pg_class c2 ON c2.oid = d2.refobjid AND c2.relkind IN ('m', 'v')
   WHERE d1.classid = 'pg_catalog.pg_class'::regclass
   UNION
   SELECT w.objid, d3.refobjid, c3.relkind
   FROM w
   JOIN pg_catalog.pg_rewrite r3 ON r3.ev_class = w.refobjid
   JOIN pg_catalog.pg_depend d3 ON d3.classid = 'pg_catalog.pg_rewrite'::regclass AND d3.objid = r3.oid
     AND d3.refobjid <> w.refobjid
   JOIN pg_catalog.pg_class c3 ON c3.oid = d3.refobjid AND c3.relkind IN ('m', 'v'))
 SELECT DISTINCT objid, refobjid FROM w WHERE kind = 'm'";

/// Puts each view behind those that it is made from. One that is made from a view without rows cannot be filled and is
/// left out, as `pg_dump` does.
fn order_views(
    session: &mut Session,
    catalog: &mut Catalog,
    mut unfilled: BTreeSet<u32>,
) -> Result<(), SourceError> {
    if catalog.views.is_empty() {
        return Ok(());
    }
    let mut made_from: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for row in session.query(MADE_FROM, &[])? {
        made_from.entry(session.field(&row, 0)?).or_default().insert(session.field(&row, 1)?);
    }
    let mut waiting = std::mem::take(&mut catalog.views);
    let mut done = BTreeSet::new();
    while !waiting.is_empty() {
        let before = waiting.len();
        let mut later = Vec::new();
        for mut view in waiting {
            let from = made_from.get(&view.oid).cloned().unwrap_or_default();
            if from.iter().any(|oid| unfilled.contains(oid)) {
                unfilled.insert(view.oid);
            } else if from.is_subset(&done) {
                done.insert(view.oid);
                view.made_from = from;
                catalog.views.push(view);
            } else {
                later.push(view);
            }
        }
        // What belongs to an extension is neither filled nor waited for.
        if later.len() == before {
            let known: BTreeSet<u32> = later.iter().map(|view| view.oid).collect();
            for from in made_from.values_mut() {
                from.retain(|oid| known.contains(oid) || done.contains(oid));
            }
            if later.iter().all(|view| made_from.get(&view.oid).is_some_and(|from| !from.is_subset(&done))) {
                catalog.views.append(&mut later);
            }
        }
        waiting = later;
    }
    Ok(())
}

/// Puts an extension's table behind those that its foreign keys name: they are there when its rows come.
fn order_extension_tables(session: &mut Session, catalog: &mut Catalog) -> Result<(), SourceError> {
    let (mut own, others): (Vec<Table>, Vec<Table>) =
        std::mem::take(&mut catalog.tables).into_iter().partition(|table| table.extension.is_some());
    catalog.tables = others;
    let mut needs: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    if own.len() > 1 {
        let oids: Vec<u32> = own.iter().map(|table| table.oid).collect();
        let sql = "SELECT conrelid, confrelid FROM pg_catalog.pg_constraint WHERE contype = 'f'
                   AND conrelid = ANY($1) AND confrelid = ANY($1) AND conrelid <> confrelid";
        for row in session.query(sql, &[&oids])? {
            needs.entry(session.field(&row, 0)?).or_default().insert(session.field(&row, 1)?);
        }
    }
    let mut done = BTreeSet::new();
    while !own.is_empty() {
        let ready =
            own.iter().position(|table| needs.get(&table.oid).is_none_or(|needs| needs.is_subset(&done)));
        // A circle has no order: the first then, as `pg_dump` does.
        let mut table = own.remove(ready.unwrap_or(0));
        table.after = needs.get(&table.oid).map(|needs| &done & needs).unwrap_or_default();
        done.insert(table.oid);
        catalog.tables.push(table);
    }
    Ok(())
}
