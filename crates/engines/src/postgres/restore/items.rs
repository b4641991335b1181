//! The backup's table of contents as text: each object with the statements that make it, as `pg_restore` would run them.
//!
//! Used where objects are made by a session of ours, all of them in one transaction: so a crash leaves nothing of them.

use super::names::{literal, quoted};
use super::tables::decoded;
use crate::postgres::archive::{DataPlace, Entry, TableOfContents};
use crate::postgres::contents::VIA_ROOT;
use crate::postgres::session::Session;
use flow::SourceError;

/// Kinds whose owner is set by a statement of its own, as `pg_restore` does.
const OWNED: [&str; 23] = [
    "AGGREGATE",
    "COLLATION",
    "CONVERSION",
    "DOMAIN",
    "EVENT TRIGGER",
    "FOREIGN DATA WRAPPER",
    "FOREIGN TABLE",
    "FUNCTION",
    "MATERIALIZED VIEW",
    "OPERATOR",
    "OPERATOR CLASS",
    "OPERATOR FAMILY",
    "PROCEDURAL LANGUAGE",
    "PROCEDURE",
    "PUBLICATION",
    "SCHEMA",
    "SEQUENCE",
    "SERVER",
    "STATISTICS",
    "TABLE",
    "TEXT SEARCH CONFIGURATION",
    "TEXT SEARCH DICTIONARY",
    "TYPE",
];
/// Kinds that lie in a tablespace.
const STORED: [&str; 4] = ["TABLE", "INDEX", "CONSTRAINT", "MATERIALIZED VIEW"];
/// Kinds whose tag is the name of a table and their own.
const ON_TABLES: [&str; 7] =
    ["CHECK CONSTRAINT", "CONSTRAINT", "DEFAULT", "FK CONSTRAINT", "POLICY", "RULE", "TRIGGER"];
const COPY_END: &str = " FROM stdin;\n";

/// One object of the backup, or something that is said of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    /// Its number in the archive.
    pub(super) id: i32,
    /// `TABLE`, `INDEX`, `FK CONSTRAINT`, …
    pub(super) kind: String,
    pub(super) schema: String,
    /// Its name; of what belongs to a table, that of the table, a blank, and its own.
    pub(super) tag: String,
    /// What makes it.
    pub(super) definition: String,
    /// What drops it.
    drop: String,
    pub(super) owner: String,
    tablespace: String,
    access_method: String,
    copy: String,
    /// The numbers of what it depends on.
    pub(super) dependencies: Vec<i32>,
    /// The file with its rows.
    pub(super) file: Option<String>,
}

/// Returns all that is in a table of contents, in its order.
pub(super) fn read(
    session: &mut Session,
    toc: &TableOfContents,
    encoding: &str,
) -> Result<Vec<Item>, SourceError> {
    const FIELDS: usize = 8;
    let mut texts = Vec::with_capacity(toc.entries.len() * FIELDS);
    for entry in &toc.entries {
        let fields = [
            &entry.schema,
            &entry.tag,
            &entry.definition,
            &entry.drop,
            &entry.owner,
            &entry.tablespace,
            &entry.access_method,
            &entry.copy,
        ];
        texts.extend(fields.map(|text| text.clone().unwrap_or_default()));
    }
    let mut texts = decoded(session, texts, encoding)?.into_iter();
    let mut next = || texts.next().unwrap_or_default();
    let item = |entry: &Entry| Item {
        id: entry.dump_id,
        kind: String::from_utf8_lossy(entry.kind.as_deref().unwrap_or_default()).into_owned(),
        schema: next(),
        tag: next(),
        definition: next(),
        drop: next(),
        owner: next(),
        tablespace: next(),
        access_method: next(),
        copy: next(),
        dependencies: entry.dependencies.iter().filter_map(|number| number_of(number)).collect(),
        file: match &entry.place {
            DataPlace::File(Some(name)) if !name.is_empty() => {
                std::str::from_utf8(name).ok().map(str::to_owned)
            }
            _ => None,
        },
    };
    Ok(toc.entries.iter().map(item).collect())
}

fn number_of(text: &[u8]) -> Option<i32> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

impl Item {
    pub(super) fn is(&self, kind: &str) -> bool {
        self.kind == kind
    }

    /// Tells whether it is the rows of a table.
    pub(super) fn has_rows(&self) -> bool {
        self.is("TABLE DATA") && self.file.is_some()
    }

    /// Returns its name for statements.
    pub(super) fn quoted(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.tag))
    }

    /// Returns its name as a person writes it.
    pub(super) fn name(&self) -> String {
        match self.schema.as_str() {
            "" => self.tag.clone(),
            schema => format!("{schema}.{}", self.tag),
        }
    }

    /// Returns what it is, for a sentence: `the index public.orders_pkey`.
    pub(super) fn shown(&self) -> String {
        let kind = match self.kind.as_str() {
            "FK CONSTRAINT" => "foreign key".to_owned(),
            "ACL" => "rights".to_owned(),
            "PUBLICATION TABLE" => "publication".to_owned(),
            other => other.to_lowercase(),
        };
        match (self.tag.split_once(' '), self.kind.as_str()) {
            (Some((what, name)), "ACL" | "COMMENT") => {
                format!("the {kind} of the {} {}.{name}", what.to_lowercase(), self.schema)
            }
            (Some((name, table)), "PUBLICATION TABLE") => {
                format!("the {kind} {name} of {}.{table}", self.schema)
            }
            (Some((table, name)), own) if ON_TABLES.contains(&own) => {
                format!("the {kind} {name} of {}.{table}", self.schema)
            }
            _ => format!("the {kind} {}", self.name()),
        }
    }

    /// Tells whether it belongs to that table, by the name that it has in the archive.
    pub(super) fn is_on(&self, table: &Item) -> bool {
        let rest = self.tag.strip_prefix(table.tag.as_str());
        self.schema == table.schema && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    }

    /// Returns the columns of its rows, in brackets; `None` where its statement is none of ours or of `pg_dump`.
    pub(super) fn columns(&self) -> Option<&str> {
        let rest = self.copy.strip_prefix("COPY ")?.strip_suffix(COPY_END)?;
        let own = self.quoted();
        let plain = self.name();
        let names = [self.root().unwrap_or(own.as_str()), own.as_str(), plain.as_str()];
        names.iter().find_map(|name| rest.strip_prefix(name)).map(str::trim)
    }

    /// Returns the partitioned table that its rows are loaded by, for statements, where they may belong to another
    /// partition now.
    pub(super) fn root(&self) -> Option<&str> {
        let mark = std::str::from_utf8(VIA_ROOT).ok()?;
        self.definition.strip_prefix(mark).filter(|_| self.is("TABLE DATA"))
    }

    /// Returns the statements that make it. They are for a transaction: tablespaces are set for that alone.
    pub(super) fn sql(&self, no_owner: bool) -> String {
        let mut sql = String::new();
        if STORED.contains(&self.kind.as_str()) {
            let tablespace = literal(&self.tablespace);
            sql.push_str(&format!("SET LOCAL default_tablespace = {tablespace};\n"));
        }
        if !self.access_method.is_empty() && !self.is_partitioned() {
            let method = literal(&self.access_method);
            sql.push_str(&format!("SET LOCAL default_table_access_method = {method};\n"));
        }
        sql.push_str(&self.definition);
        if !no_owner && !self.owner.is_empty() {
            sql.push_str(&self.owning());
        }
        sql
    }

    fn owning(&self) -> String {
        // The sequence of an identity column has the owner of its table.
        let is_own = self.definition.trim_start().starts_with("CREATE");
        let kind = match self.kind.as_str() {
            "VIEW" => "TABLE",
            other => other,
        };
        let dropped = self.drop.trim().strip_prefix("DROP ").and_then(|rest| rest.strip_suffix(';'));
        match dropped.filter(|_| is_own && OWNED.contains(&kind)) {
            Some(object) => format!("\nALTER {object} OWNER TO {};\n", quoted(&self.owner)),
            None => String::new(),
        }
    }

    /// Tells whether it is a table that only has partitions.
    pub(super) fn is_partitioned(&self) -> bool {
        use crate::postgres::statements::{after_word, statements};
        let first = statements(&self.definition).first().copied().unwrap_or_default();
        self.is("TABLE") && after_word(first, "PARTITION").is_some_and(|rest| rest.starts_with("BY"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn item(kind: &str, tag: &str) -> Item {
        Item {
            id: 1,
            kind: kind.to_owned(),
            schema: "s".to_owned(),
            tag: tag.to_owned(),
            definition: String::new(),
            drop: String::new(),
            owner: "boss".to_owned(),
            tablespace: String::new(),
            access_method: String::new(),
            copy: String::new(),
            dependencies: Vec::new(),
            file: None,
        }
    }

    #[test]
    fn an_object_is_made_with_its_owner() {
        let mut view = item("VIEW", "v");
        view.definition = "CREATE VIEW s.v AS SELECT 1;\n".to_owned();
        view.drop = "DROP VIEW s.v;\n".to_owned();
        assert_eq!(view.sql(false), "CREATE VIEW s.v AS SELECT 1;\n\nALTER VIEW s.v OWNER TO \"boss\";\n");
        assert_eq!(view.sql(true), "CREATE VIEW s.v AS SELECT 1;\n");
        let mut identity = item("SEQUENCE", "t_id_seq");
        identity.definition =
            "\nALTER TABLE s.t ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY;\n".to_owned();
        identity.drop = "DROP SEQUENCE s.t_id_seq;\n".to_owned();
        assert_eq!(identity.sql(false), identity.definition);
        let mut index = item("INDEX", "i");
        index.definition = "CREATE INDEX i ON s.t (a);\n".to_owned();
        index.drop = "DROP INDEX s.i;\n".to_owned();
        assert_eq!(index.sql(false), "SET LOCAL default_tablespace = '';\nCREATE INDEX i ON s.t (a);\n");
    }

    #[test]
    fn columns_are_those_of_the_rows() {
        let mut rows = item("TABLE DATA", "My t");
        rows.copy = "COPY \"s\".\"My t\" (\"a\", \"b (\") FROM stdin;\n".to_owned();
        assert_eq!(rows.columns(), Some("(\"a\", \"b (\")"));
        rows.copy = "COPY \"s\".\"My t\"  FROM stdin;\n".to_owned();
        assert_eq!(rows.columns(), Some(""));
        rows.copy = "COPY other (a) FROM stdin;\n".to_owned();
        assert_eq!(rows.columns(), None);
        rows.definition = "-- load via partition root \"s\".\"r\"".to_owned();
        rows.copy = "COPY \"s\".\"r\" (\"a\") FROM stdin;\n".to_owned();
        assert_eq!((rows.root(), rows.columns()), (Some("\"s\".\"r\""), Some("(\"a\")")));
    }

    #[test]
    fn what_is_on_a_table_is_known_by_its_name() {
        let table = item("TABLE", "t");
        assert!(item("TRIGGER", "t audited").is_on(&table));
        assert!(item("ROW SECURITY", "t").is_on(&table));
        assert!(!item("TRIGGER", "t2 audited").is_on(&table));
        let mut partitioned = item("TABLE", "t");
        partitioned.definition = "CREATE TABLE s.t (\"PARTITION\" int)\nPARTITION BY RANGE (a);\n".to_owned();
        assert!(partitioned.is_partitioned());
        partitioned.definition = "CREATE TABLE s.t PARTITION OF s.r FOR VALUES IN (1);\n".to_owned();
        assert!(!partitioned.is_partitioned());
    }
}
