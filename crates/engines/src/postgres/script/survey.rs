//! SQL text, read to its end without being run: whether it is whole, what it holds, and what a restore of it needs.
//!
//! Counts and names are kept, never rows, so memory grows with the number of tables and roles alone.

use super::heads::{Meaning, filled, meaning, shown};
use super::lines::{CopyLines, columns_of};
use super::reader::{Broken, Keep, Piece, ScriptReader};
use super::setting::setting;
use crate::postgres::needs::Needs;
use crate::postgres::statements::{after_word, database_of, leading_names, name_after, owner, roles};
use std::collections::BTreeMap;
use std::io::Read;

/// Encodings whose letters may hold bytes that mean something else by themselves.
const AMBIGUOUS: [&str; 7] = ["big5", "gbk", "gb18030", "johab", "sjis", "uhc", "shift_jis_2004"];

/// Tells whether letters of an encoding may hold bytes that mean something else by themselves.
pub(in crate::postgres) fn is_ambiguous(encoding: &str) -> bool {
    AMBIGUOUS.contains(&encoding.to_lowercase().as_str())
}

/// What was found in a text that is whole.
#[derive(Debug, Default)]
pub(in crate::postgres) struct Survey {
    /// How many statements there are.
    pub(in crate::postgres) statements: u64,
    /// How many of them are more than settings.
    pub(in crate::postgres) content: u64,
    /// How many tables it makes.
    pub(in crate::postgres) tables: u64,
    /// Its rows, as far as they can be counted.
    pub(in crate::postgres) rows: u64,
    /// The rows of each table, by its name as statements quote it; `None` where that cannot be told.
    pub(in crate::postgres) loaded: BTreeMap<String, Option<u64>>,
    /// The columns that the rows of each table name, where they name some.
    pub(in crate::postgres) columns: BTreeMap<String, Vec<String>>,
    /// Whether nothing but what is counted changes rows.
    pub(in crate::postgres) is_certain: bool,
    /// The first statement that changes rows in a way that does not show, with its line.
    pub(in crate::postgres) unclear: Option<(u64, String)>,
    /// Whether the closing line of a tool says that it is whole.
    pub(in crate::postgres) is_closed: bool,
    /// Whether it is one of all databases of a server.
    pub(in crate::postgres) is_cluster: bool,
    /// The tool that wrote it, with its version.
    pub(in crate::postgres) made_by: Option<String>,
    /// The version of the server that it is of.
    pub(in crate::postgres) server: Option<String>,
    /// Commands of `psql` that only `psql` can run, with their lines; the first few.
    pub(in crate::postgres) commands: Vec<(u64, String)>,
    /// The first statement that reaches beyond the database, with its line.
    pub(in crate::postgres) outside: Option<(u64, String)>,
    /// The name of the database that it is of, where it says so.
    pub(in crate::postgres) database: Option<String>,
    /// What it says of the database itself.
    pub(in crate::postgres) about_database: Vec<String>,
    /// The encoding of its texts, in capitals.
    pub(in crate::postgres) encoding: Option<String>,
    /// What it asks of a server.
    pub(in crate::postgres) needs: Needs,
    /// Its length.
    pub(in crate::postgres) size_bytes: u64,
    /// Headers of databases whose closing line did not come yet.
    open_databases: u64,
    cluster_closed: bool,
    /// The line in which a transaction begins that has not ended.
    transaction: Option<u64>,
    /// Whether a `\restrict` waits for its `\unrestrict`.
    restricted: bool,
}

/// Reads a text to its end. Fails where it is not whole.
pub(in crate::postgres) fn survey(dump: impl Read) -> Result<Survey, Broken> {
    let mut reader = ScriptReader::new(dump, Keep::Beginning);
    let mut survey = Survey { is_certain: true, ..Survey::default() };
    while let Some(piece) = reader.next()? {
        match piece {
            Piece::Comment => survey.comment(&reader.side()),
            Piece::Command => survey.command(reader.began(), &reader.side()),
            Piece::Statement => survey.statement(&mut reader)?,
        }
    }
    survey.size_bytes = reader.size_bytes();
    survey.finish(reader.line())
}

impl Survey {
    fn comment(&mut self, text: &str) {
        match text {
            "PostgreSQL database cluster dump" => self.is_cluster = true,
            "PostgreSQL database cluster dump complete" => self.cluster_closed = true,
            "PostgreSQL database dump" => self.open_databases += 1,
            "PostgreSQL database dump complete" => {
                self.open_databases = self.open_databases.saturating_sub(1);
                self.is_closed = true;
            }
            _ => {
                if let Some(tool) = text.strip_prefix("Dumped by ") {
                    self.made_by.get_or_insert_with(|| tool.replace(" version", ""));
                }
                if let Some(version) = text.strip_prefix("Dumped from database version ") {
                    self.server.get_or_insert_with(|| version.to_owned());
                }
            }
        }
    }

    /// Takes a command of `psql`: those that `pg_dump` writes are understood.
    fn command(&mut self, line: u64, text: &str) {
        let (word, rest) = text.split_once(|letter: char| letter.is_ascii_whitespace()).unwrap_or((text, ""));
        match word {
            "restrict" => self.restricted = true,
            "unrestrict" => self.restricted = false,
            "." => {}
            _ if is_idle(word, rest.trim()) => {}
            "connect" | "c" => {
                // As psql does, which is given a semicolon by habit.
                let named = connected(rest.trim().trim_end_matches(';').trim_end());
                let is_known = named.is_some() && named == self.database;
                if !is_known && !self.is_cluster && self.commands.len() < 3 {
                    self.commands.push((line, "connect".to_owned()));
                }
            }
            _ if self.commands.len() < 3 => self.commands.push((line, word.to_owned())),
            _ => {}
        }
    }

    fn statement<R: Read>(&mut self, reader: &mut ScriptReader<R>) -> Result<(), Broken> {
        self.statements += 1;
        let line = reader.began();
        let text = String::from_utf8_lossy(reader.statement()).into_owned();
        let meaning = meaning(&text);
        match meaning {
            Meaning::Setting => self.set(&text),
            Meaning::Encoding => self.encode(&text),
            Meaning::Begin => self.transaction = Some(line),
            Meaning::End => {
                self.transaction = None;
                self.end(line, &text);
            }
            Meaning::Insert => {
                let rows = reader.inserted();
                self.rows += rows.unwrap_or(1);
                self.load(line, (&text, meaning), rows);
            }
            Meaning::Copy => {
                let columns = columns_of(text.as_bytes()).unwrap_or_default();
                let rows = rows(reader, columns, line)?;
                self.rows += rows;
                self.load(line, (&text, meaning), Some(rows));
            }
            Meaning::Changes => self.changes(line, &text),
            Meaning::Outside => {
                self.outside.get_or_insert_with(|| (line, shown(text.as_bytes())));
            }
            Meaning::Database => self.database(line, &text),
            Meaning::Owner | Meaning::Right | Meaning::Session | Meaning::Schema | Meaning::Other => {
                self.need(meaning, &text);
            }
            Meaning::Limit | Meaning::Drop | Meaning::ExtensionComment => {}
        }
        let is_frame = matches!(
            meaning,
            Meaning::Setting | Meaning::Encoding | Meaning::Limit | Meaning::Begin | Meaning::End
        );
        self.content += u64::from(!is_frame);
        Ok(())
    }

    fn load(&mut self, line: u64, (text, meaning): (&str, Meaning), rows: Option<u64>) {
        let Some((name, behind)) = filled(text, meaning) else {
            return self.changes(line, text);
        };
        if !self.loaded.contains_key(&name) {
            let is_query = |names: &Vec<String>| {
                names.first().is_some_and(|first| ["select", "with", "values", "table"].contains(&&**first))
            };
            let columns = leading_names(behind).filter(|names| !is_query(names));
            self.columns.extend(columns.map(|columns| (name.clone(), columns)));
        }
        let known = self.loaded.entry(name).or_insert(Some(0));
        *known = known.zip(rows).map(|(known, rows)| known + rows);
    }

    fn changes(&mut self, line: u64, text: &str) {
        self.is_certain = false;
        self.unclear.get_or_insert_with(|| (line, shown(text.as_bytes())));
    }

    /// Takes the end of a transaction: one that takes back what it did makes the rows before it none.
    fn end(&mut self, line: u64, text: &str) {
        let commits = ["COMMIT", "END"]
            .iter()
            .any(|word| text.get(..word.len()).is_some_and(|first| first.eq_ignore_ascii_case(word)));
        if !commits {
            self.unclear.get_or_insert_with(|| (line, shown(text.as_bytes())));
        }
    }

    fn set(&mut self, text: &str) {
        let tablespace = setting(text.as_bytes(), "default_tablespace");
        let name =
            tablespace.map(|name| match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
                Some(name) => name.replace("\"\"", "\""),
                None => name.to_lowercase(),
            });
        self.needs.tablespaces.extend(name.filter(|name| !name.is_empty() && name != "default"));
    }

    fn encode(&mut self, text: &str) {
        let named = setting(text.as_bytes(), "client_encoding");
        let named = named.or_else(|| text.split_ascii_whitespace().last().map(str::to_owned));
        let encoding = named.unwrap_or_default().trim_matches('\'').to_owned();
        if is_ambiguous(&encoding) {
            self.outside.get_or_insert_with(|| (0, format!("the encoding {}", encoding.to_uppercase())));
        }
        self.encoding.get_or_insert_with(|| encoding.to_uppercase());
    }

    /// Takes what is said of the database itself: all of it must be of one.
    fn database(&mut self, line: u64, text: &str) {
        let named = database_of(text);
        let own = self.database.get_or_insert_with(|| named.clone().unwrap_or_default());
        if named.as_ref() != Some(own) && !self.is_cluster {
            self.outside.get_or_insert_with(|| (line, shown(text.as_bytes())));
        }
        if !self.is_cluster {
            self.about_database.push(text.to_owned());
        }
        self.needs.owners.extend(owner(text).map(|(_, role)| role));
    }

    fn need(&mut self, meaning: Meaning, text: &str) {
        let starts =
            |words: &str| text.get(..words.len()).is_some_and(|first| first.eq_ignore_ascii_case(words));
        match meaning {
            Meaning::Owner => self.own(owner(text).map(|(_, role)| role)),
            Meaning::Session => self.own(session_role(text)),
            Meaning::Right => self.needs.granted.extend(named(text)),
            _ if starts("CREATE POLICY") || starts("CREATE USER MAPPING") => {
                self.needs.bound.extend(named(text));
            }
            _ if starts("CREATE EXTENSION") => {
                let word = if name_after(text, "EXISTS").is_some() { "EXISTS" } else { "EXTENSION" };
                self.needs.extensions.extend(name_after(text, word));
            }
            _ if starts("CREATE") => {
                let mut words = text.split_ascii_whitespace().skip(1);
                let kind = words.find(|word| {
                    !["UNLOGGED", "FOREIGN", "TEMP", "TEMPORARY"]
                        .iter()
                        .any(|other| word.eq_ignore_ascii_case(other))
                });
                self.tables += u64::from(kind.is_some_and(|word| word.eq_ignore_ascii_case("TABLE")));
            }
            _ => {}
        }
    }

    fn own(&mut self, role: Option<String>) {
        self.needs.owners.extend(role.clone());
        self.needs.object_owners.extend(role);
    }

    fn finish(mut self, line: u64) -> Result<Self, Broken> {
        let cut = |message: String| Err(Broken::Damaged(message));
        let missing = |what: &str| cut(format!("the closing line `{what}` is missing: it is cut off"));
        if self.open_databases > 0 {
            return missing("-- PostgreSQL database dump complete");
        }
        if self.is_cluster && !self.cluster_closed {
            return missing("-- PostgreSQL database cluster dump complete");
        }
        if self.restricted {
            return missing("\\unrestrict");
        }
        if self.statements == 0 {
            return cut(format!("line {line}: it ends before its first statement: it is cut off"));
        }
        if let Some(began) = self.transaction {
            return cut(format!("line {began}: its transaction is never committed: it is cut off"));
        }
        self.is_closed |= self.cluster_closed;
        // Names in another encoding than ours are left to the server.
        let is_read = |name: &String| !name.contains('\u{fffd}');
        let needs = &mut self.needs;
        for names in [&mut needs.owners, &mut needs.object_owners, &mut needs.granted, &mut needs.bound] {
            names.retain(is_read);
        }
        self.loaded.retain(|name, _| is_read(name));
        Ok(self)
    }
}

fn named(text: &str) -> impl Iterator<Item = String> {
    roles(text).into_iter().map(|(_, role)| role)
}

/// Returns the role of a `SET SESSION AUTHORIZATION`; `None` where it goes back to the own one.
pub(in crate::postgres) fn session_role(text: &str) -> Option<String> {
    let value = after_word(text, "AUTHORIZATION")?;
    if let Some(name) = value.strip_prefix('\'').and_then(|name| name.strip_suffix('\'')) {
        return Some(name.replace("''", "'"));
    }
    named(text).next().filter(|name| name != "default")
}

/// Reads the rows behind a `COPY` and returns how many there are.
fn rows<R: Read>(reader: &mut ScriptReader<R>, columns: Option<usize>, line: u64) -> Result<u64, Broken> {
    let mut lines = CopyLines::new(columns);
    reader.begin_rows();
    while let Some(bytes) = reader.next_rows()? {
        lines.take(bytes);
        if let Some(problem) = lines.wrong() {
            return Err(Broken::Damaged(format!("line {line}: of its rows, {problem}")));
        }
    }
    Ok(lines.rows())
}

/// Tells whether a command of `psql` is about its own output and errors only: the first error ends a restore anyway.
fn is_idle(word: &str, rest: &str) -> bool {
    match word {
        "echo" | "qecho" | "warn" | "timing" | "pset" | "x" | "a" | "t" => !rest.contains('`'),
        "set" => ["ON_ERROR_STOP", "QUIET", "ECHO", "VERBOSITY"]
            .iter()
            .any(|name| rest.split_ascii_whitespace().next() == Some(name) && !rest.contains('`')),
        _ => false,
    }
}

/// Returns the database that a `\connect` of `pg_dump` names.
fn connected(argument: &str) -> Option<String> {
    let simple = |text: &str| match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(name) => name.replace("\"\"", "\""),
        None => text.to_owned(),
    };
    let Some(rest) = argument.strip_prefix("-reuse-previous=on") else {
        return (!argument.is_empty()).then(|| simple(argument));
    };
    let connection = simple(rest.trim());
    let value = connection.strip_prefix("dbname=")?;
    match value.strip_prefix('\'').and_then(|value| value.strip_suffix('\'')) {
        Some(value) => {
            let mut name = String::new();
            let mut letters = value.chars();
            while let Some(letter) = letters.next() {
                name.extend(if letter == '\\' { letters.next() } else { Some(letter) });
            }
            Some(name)
        }
        None => Some(value.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str) -> Survey {
        survey(text.as_bytes()).unwrap_or_else(|error| panic!("{error:?}"))
    }

    #[test]
    fn rows_are_counted_by_table() {
        let found = read(
            "INSERT INTO public.t VALUES (1, (SELECT ')(')), (2, 'a'), (3, '(');\nINSERT INTO public.t DEFAULT VALUES;\n\
             COPY \"public\".t (a) FROM stdin;\n4\n5\n\\.\nINSERT INTO u (a) SELECT 1;\nINSERT INTO v VALUES (1) ON CONFLICT DO NOTHING;",
        );
        let loaded: Vec<_> = found.loaded.iter().map(|(name, rows)| (name.as_str(), *rows)).collect();
        assert_eq!(loaded, [("\"public\".\"t\"", Some(6)), ("\"u\"", None), ("\"v\"", None)]);
        assert!(found.is_certain);
        assert!(!read("SELECT f();").is_certain);
    }

    #[test]
    fn a_dump_that_makes_its_database_connects_to_that_alone() {
        let text = "CREATE DATABASE \"my db\" WITH TEMPLATE = template0;\nALTER DATABASE \"my db\" OWNER TO boss;\n\
            \\connect -reuse-previous=on \"dbname='my db'\"\nCOMMENT ON DATABASE \"my db\" IS 'x';\n";
        let found = read(text);
        assert_eq!((found.database.as_deref(), found.about_database.len()), (Some("my db"), 3));
        assert!(found.commands.is_empty() && found.outside.is_none());
        assert!(found.needs.owners.contains("boss") && found.needs.object_owners.is_empty());
        assert_eq!(read(&text.replace("'my db'\"", "'postgres'\"")).commands.len(), 1);
        assert_eq!(read(&format!("{text}DROP DATABASE other;")).outside.unwrap().0, 5);
        assert_eq!(read("SET a = 1;\n\\connect postgres\n").commands.len(), 1);
        assert!(read("CREATE DATABASE shop;\n\\c shop;\nSET a = 1;").commands.is_empty());
        assert_eq!(read("CREATE DATABASE shop;\n\\c shops;\nSET a = 1;").commands.len(), 1);
    }

    #[test]
    fn commands_about_the_output_alone_are_passed_over() {
        let idle = "\\set ON_ERROR_STOP on\n\\echo making it\n\\timing on\n\\pset pager off\nSET a = 1;\n";
        assert!(read(idle).commands.is_empty());
        for acts in
            ["\\set name `id`", "\\set x 1", "\\echo `id`", "\\! id", "\\i other.sql", "\\o file", "\\gexec"]
        {
            assert_eq!(read(&format!("SET a = 1;\n{acts}\n")).commands.len(), 1, "{acts}");
        }
    }

    #[test]
    fn bodies_rules_and_old_strings_are_one_statement() {
        let found = read(
            "CREATE RULE r AS ON INSERT TO t DO (DELETE FROM a; DELETE FROM b;);\n\
             CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END;\n\
             SET standard_conforming_strings = off;\nSELECT pg_catalog.x('it\\';', B'1');\n\
             SET standard_conforming_strings = on;\nSELECT pg_catalog.x('\\', E'a\\'' 'b\\';', U&'\\0041');\n\
             SELECT $1, $a$;$a$, a$b;",
        );
        assert_eq!(found.statements, 7);
    }

    #[test]
    fn what_is_needed_is_collected() {
        let found = read(
            "SET client_encoding = 'LATIN1';\nSET default_tablespace = fast;\nCREATE EXTENSION IF NOT EXISTS hstore WITH SCHEMA public;\n\
             CREATE TABLE t (a int);\nALTER TABLE t OWNER TO boss;\nGRANT SELECT ON TABLE t TO reader;\n\
             CREATE POLICY p ON t TO clerk USING (true);\nSET SESSION AUTHORIZATION 'The b';\nSET SESSION AUTHORIZATION DEFAULT;",
        );
        let list =
            |names: &std::collections::BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(" ");
        let needs = &found.needs;
        assert_eq!(list(&needs.owners), "The b boss");
        assert_eq!((list(&needs.granted), list(&needs.bound)), ("reader".to_owned(), "clerk".to_owned()));
        assert_eq!(
            (list(&needs.extensions), list(&needs.tablespaces)),
            ("hstore".to_owned(), "fast".to_owned())
        );
        assert_eq!(found.encoding.as_deref(), Some("LATIN1"));
    }

    #[test]
    fn what_is_cut_off_is_told() {
        for cut in [
            "BEGIN; SELECT 1;",
            "\\restrict x\nSELECT 1;",
            "COPY t (a) FROM stdin;\n1\n\\",
            "SELECT 'a",
            "SELECT (1;",
        ] {
            assert!(matches!(survey(cut.as_bytes()), Err(Broken::Damaged(_))), "{cut}");
        }
        assert_eq!(read("COPY t (a) FROM stdin;\n1\n\\.").rows, 1);
        assert_eq!(read("COPY t (a) FROM stdin;\r\n1\r\n\\.x\r\n\\.\r\nSELECT 1;").rows, 2);
    }
}
