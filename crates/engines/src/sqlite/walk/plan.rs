//! What the trees of a database must hold, from its schema: which columns may hold what, which index has which columns.
//!
//! Read by SQLite itself, so that its rules for declarations are not written a second time. What is beyond a plain row
//! or a plain index has no plan: its pages are walked, and SQLite judges its content.

use super::record::{BLOB, Collation, INTEGER, NULL, REAL, TEXT};
use rusqlite::Connection;
use std::collections::{HashMap, HashSet};

/// A foreign key that can be looked at in passing: the index whose first column refers to the rows of the parent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::sqlite) struct Reference {
    pub(in crate::sqlite) index: String,
    pub(in crate::sqlite) parent: String,
}

/// All trees of a database.
#[derive(Debug)]
pub(in crate::sqlite) struct Plan {
    pub(super) trees: Vec<Tree>,
    pub(super) references: Vec<Reference>,
}

#[derive(Debug)]
pub(super) struct Tree {
    pub(super) root: u32,
    /// The name of the table or index.
    pub(super) name: String,
    /// Whether its pages are those of an index.
    pub(super) is_index: bool,
    pub(super) content: Content,
    /// Whether something refers to its rows, or what it says of others is looked up.
    pub(super) refers: bool,
}

#[derive(Debug)]
pub(super) enum Content {
    /// Only SQLite can say.
    Unknown,
    Rows(Rows),
    Entries(Entries),
}

/// The rows of a table.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) columns: Vec<Column>,
    /// The column that is another name for the row's number.
    pub(super) alias: Option<usize>,
    /// The tree of each index, with the columns in it.
    pub(super) indexes: Vec<(usize, Vec<usize>)>,
}

#[derive(Debug)]
pub(super) struct Column {
    /// The storage classes that it may have.
    pub(super) classes: u8,
    /// Whether a text in it must not be a number.
    pub(super) is_numeric: bool,
    /// Whether rows from before it was added have NULL there.
    pub(super) absent_is_null: bool,
}

/// The entries of an index.
#[derive(Debug)]
pub(super) struct Entries {
    pub(super) unique: bool,
    pub(super) keys: Vec<Key>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    pub(super) descending: bool,
    pub(super) collation: Collation,
}

struct Listed {
    name: String,
    without_rowid: bool,
    strict: bool,
}

impl Plan {
    /// Makes the plan; `None` where the database is one for SQLite alone.
    pub(in crate::sqlite) fn of(
        connection: &Connection,
        references: &[Reference],
    ) -> rusqlite::Result<Option<Self>> {
        let encoding: String = connection.query_row("PRAGMA main.encoding", [], |row| row.get(0))?;
        let Some(tables) = tables(connection)?.filter(|_| encoding == "UTF-8") else { return Ok(None) };
        let mut roots = roots(connection)?;
        let mut trees = Vec::new();
        for table in tables {
            if !add_table(connection, &table, &mut roots, &mut trees)? {
                return Ok(None);
            }
        }
        // More trees than page numbers of a plan can name, or one that belongs to nothing.
        if !roots.is_empty() || trees.len() >= usize::from(u16::MAX) {
            return Ok(None);
        }
        for tree in &mut trees {
            tree.refers = references.iter().any(|reference| match tree.is_index {
                true => tree.name == reference.index,
                false => tree.name.eq_ignore_ascii_case(&reference.parent),
            });
        }
        Ok(Some(Self { trees, references: references.to_vec() }))
    }
}

fn tables(connection: &Connection) -> rusqlite::Result<Option<Vec<Listed>>> {
    let query = "SELECT name, type, wr, strict FROM pragma_table_list WHERE schema = 'main'";
    let mut statement = connection.prepare(query)?;
    let mut rows = statement.query([])?;
    let mut tables = Vec::new();
    while let Some(row) = rows.next()? {
        match row.get_ref(1)?.as_str()? {
            "view" => {}
            "table" => {
                tables.push(Listed { name: row.get(0)?, without_rowid: row.get(2)?, strict: row.get(3)? })
            }
            _ => return Ok(None),
        }
    }
    Ok(Some(tables))
}

/// Returns the root pages and definitions by kind and name.
type Roots = HashMap<(String, String), (u32, Option<String>)>;

fn roots(connection: &Connection) -> rusqlite::Result<Roots> {
    let mut statement =
        connection.prepare("SELECT type, name, rootpage, sql FROM main.sqlite_schema WHERE rootpage != 0")?;
    let rows = statement.query_map([], |row| Ok(((row.get(0)?, row.get(1)?), (row.get(2)?, row.get(3)?))))?;
    rows.collect()
}

/// Adds the trees of a table; `false` where it has none that could be found.
fn add_table(
    connection: &Connection,
    table: &Listed,
    roots: &mut Roots,
    trees: &mut Vec<Tree>,
) -> rusqlite::Result<bool> {
    let name = &table.name;
    let (root, sql) = if name.eq_ignore_ascii_case("sqlite_schema") {
        (1, None)
    } else {
        match roots.remove(&("table".to_owned(), name.clone())) {
            Some(found) => found,
            None => return Ok(false),
        }
    };
    let place = trees.len();
    let tree = |root, name: &str, is_index| Tree {
        root,
        name: name.to_owned(),
        is_index,
        content: Content::Unknown,
        refers: false,
    };
    trees.push(tree(root, name, table.without_rowid));
    let plain = !table.without_rowid && !sql.is_some_and(|sql| has_word(&sql, "check"));
    let mut rows = if plain { rows_of(connection, table)? } else { None };
    let names = column_names(connection, name)?;
    for index in indexes(connection, name)? {
        let Some((root, _)) = roots.remove(&("index".to_owned(), index.name.clone())) else {
            if table.without_rowid && index.is_primary {
                continue;
            }
            return Ok(false);
        };
        let at = trees.len();
        trees.push(tree(root, &index.name, true));
        match (&mut rows, entries_of(connection, &index, &names)?) {
            (Some(rows), Some((columns, entries))) => {
                rows.indexes.push((at, columns));
                trees[at].content = Content::Entries(entries);
            }
            // One that is for SQLite alone makes the whole table so: it is asked about a table with all its indexes.
            _ => rows = None,
        }
    }
    if let Some(rows) = rows {
        trees[place].content = Content::Rows(rows);
    } else {
        trees[place..].iter_mut().for_each(|tree| tree.content = Content::Unknown);
    }
    Ok(true)
}

fn rows_of(connection: &Connection, table: &Listed) -> rusqlite::Result<Option<Rows>> {
    let query = "SELECT name, type, \"notnull\", dflt_value, pk, hidden FROM pragma_table_xinfo(?1, 'main') ORDER BY cid";
    let mut statement = connection.prepare(query)?;
    let mut found = statement.query([&table.name])?;
    let mut columns = Vec::new();
    let mut keys = Vec::new();
    while let Some(row) = found.next()? {
        let declared: String = row.get(1)?;
        let (not_null, default): (bool, Option<String>) = (row.get(2)?, row.get(3)?);
        if row.get::<_, i64>(5)? != 0 {
            return Ok(None);
        }
        if row.get::<_, i64>(4)? > 0 {
            keys.push((columns.len(), declared.eq_ignore_ascii_case("INTEGER")));
        }
        let (mut classes, is_numeric) = if table.strict { strict(&declared) } else { classes(&declared) };
        if not_null {
            classes &= !NULL;
        }
        columns.push(Column { classes, is_numeric, absent_is_null: default.is_none() });
    }
    let own_index: i64 = connection.query_row(
        "SELECT count(*) FROM pragma_index_list(?1, 'main') WHERE origin = 'pk'",
        [&table.name],
        |row| row.get(0),
    )?;
    let alias = match keys[..] {
        [(column, true)] if own_index == 0 => Some(column),
        _ => None,
    };
    Ok(Some(Rows { columns, alias, indexes: Vec::new() }))
}

/// What a column of a strict table may hold.
fn strict(declared: &str) -> (u8, bool) {
    let classes = match declared.to_ascii_uppercase().as_str() {
        "INT" | "INTEGER" => INTEGER | NULL,
        "REAL" => INTEGER | REAL | NULL,
        "TEXT" => TEXT | NULL,
        "BLOB" => BLOB | NULL,
        _ => INTEGER | REAL | TEXT | BLOB | NULL,
    };
    (classes, false)
}

/// What a column may hold by the affinity of its declared type, and whether a text in it must not be a number.
fn classes(declared: &str) -> (u8, bool) {
    let declared = declared.to_ascii_uppercase();
    let has = |word: &str| declared.contains(word);
    let all = INTEGER | REAL | TEXT | BLOB | NULL;
    if has("INT") {
        (all, true)
    } else if has("CHAR") || has("CLOB") || has("TEXT") {
        (TEXT | BLOB | NULL, false)
    } else if has("BLOB") || declared.is_empty() {
        (all, false)
    } else {
        (all, true)
    }
}

struct Listing {
    name: String,
    unique: bool,
    partial: bool,
    is_primary: bool,
}

fn indexes(connection: &Connection, table: &str) -> rusqlite::Result<Vec<Listing>> {
    let query = "SELECT name, \"unique\", partial, origin = 'pk' FROM pragma_index_list(?1, 'main')";
    let mut statement = connection.prepare(query)?;
    let rows = statement.query_map([table], |row| {
        Ok(Listing { name: row.get(0)?, unique: row.get(1)?, partial: row.get(2)?, is_primary: row.get(3)? })
    })?;
    rows.collect()
}

fn column_names(connection: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare("SELECT name FROM pragma_table_xinfo(?1, 'main') ORDER BY cid")?;
    let rows = statement.query_map([table], |row| row.get(0))?;
    rows.collect()
}

/// Describes an index; `None` where it is more than columns in an order that is known here.
fn entries_of(
    connection: &Connection,
    index: &Listing,
    names: &[String],
) -> rusqlite::Result<Option<(Vec<usize>, Entries)>> {
    let query = "SELECT cid, name, desc, coll, key FROM pragma_index_xinfo(?1, 'main') ORDER BY seqno";
    let mut statement = connection.prepare(query)?;
    let mut found = statement.query([&index.name])?;
    let (mut columns, mut keys) = (Vec::new(), Vec::new());
    let mut rowids = 0;
    while let Some(row) = found.next()? {
        let column: i64 = row.get(0)?;
        if !row.get::<_, bool>(4)? {
            // A row number, and nothing else, stands behind the columns of a plain index.
            rowids += if column == -1 { 1 } else { 2 };
            continue;
        }
        let collation = match row.get_ref(3)?.as_str()?.to_ascii_uppercase().as_str() {
            "BINARY" => Collation::Binary,
            "NOCASE" => Collation::NoCase,
            "RTRIM" => Collation::RightTrim,
            _ => return Ok(None),
        };
        let name: Option<String> = row.get(1)?;
        let Some(column) = usize::try_from(column).ok().filter(|column| names.get(*column) == name.as_ref())
        else {
            return Ok(None);
        };
        columns.push(column);
        keys.push(Key { descending: row.get(2)?, collation });
    }
    let is_plain = rowids == 1 && !index.partial && !keys.is_empty();
    Ok(is_plain.then_some((columns, Entries { unique: index.unique, keys })))
}

/// Tells whether a word stands somewhere in a definition, be it in a comment.
fn has_word(sql: &str, word: &str) -> bool {
    let sql = sql.to_ascii_lowercase();
    let is_part = |character: char| character.is_alphanumeric() || character == '_' || character == '$';
    sql.match_indices(word).any(|(at, _)| {
        let before = sql[..at].chars().next_back();
        let after = sql[at + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

/// Which tables and foreign keys a walk found to be in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::sqlite) struct Verdict {
    pub(in crate::sqlite) tables: HashSet<String>,
    pub(in crate::sqlite) references: HashSet<Reference>,
}
