//! What the SQL text of a dump may do: what dumps do, to the scratch database alone.
//!
//! An authorizer is asked while a statement is compiled, so that nothing of one that is refused has run. The table of the
//! schema is special: statements that define something write to it by themselves, and dumps put the built-in indexes
//! there by one fixed kind of INSERT, since their tables are there already. Any other write to it is refused, because it
//! could make of a table whatever it likes.

use super::statements::first_word;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization, TransactionOperation};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The built-in virtual tables.
const INDEXES: [&str; 6] = ["fts3", "fts4", "fts5", "rtree", "rtree_i32", "geopoly"];

/// What decides about the content.
const KEPT: [&str; 8] = [
    "foreign_keys",
    "defer_foreign_keys",
    "writable_schema",
    "encoding",
    "application_id",
    "user_version",
    "page_size",
    "auto_vacuum",
];

/// What only says how a database is written to, and is passed over.
const PASSED_OVER: [&str; 8] = [
    "journal_mode",
    "synchronous",
    "locking_mode",
    "temp_store",
    "cache_size",
    "mmap_size",
    "busy_timeout",
    "secure_delete",
];

/// Statements that define something, and write to the schema's table for that.
const DEFINING: [&str; 5] = ["CREATE", "DROP", "ALTER", "ANALYZE", "REINDEX"];

/// Decides for one connection. Clones share what was refused.
#[derive(Clone, Default)]
pub(super) struct Rights {
    schema_open: Arc<AtomicBool>,
    refused: Arc<Mutex<Option<String>>>,
}

impl Rights {
    /// Looks at the statement that comes next.
    pub(super) fn expect(&self, statement: &str) {
        let word = first_word(statement.as_bytes()).unwrap_or_default();
        let defining = DEFINING.contains(&word.as_str());
        self.schema_open.store(defining || is_index_entry(statement), Ordering::Relaxed);
    }

    /// Answers the authorizer.
    pub(super) fn judge(&self, asked: &AuthContext<'_>) -> Authorization {
        let verdict = self.verdict(asked);
        if verdict == Authorization::Deny {
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            refused.get_or_insert_with(|| named(&asked.action));
        }
        verdict
    }

    /// Returns what was refused since it was last asked.
    pub(super) fn take_refused(&self) -> Option<String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn verdict(&self, asked: &AuthContext<'_>) -> Authorization {
        let own = asked.database_name.is_none_or(|name| name == "main");
        let allowed = match &asked.action {
            AuthAction::Pragma { pragma_name, .. } => {
                let name = pragma_name.to_ascii_lowercase();
                if PASSED_OVER.contains(&name.as_str()) {
                    return Authorization::Ignore;
                }
                // The last one is asked for by indexes of full text.
                KEPT.contains(&name.as_str()) || name == "data_version"
            }
            AuthAction::CreateVtable { module_name, .. } => {
                own && INDEXES.contains(&module_name.to_ascii_lowercase().as_str())
            }
            AuthAction::Function { function_name } => {
                !["load_extension", "fts3_tokenizer"].contains(&function_name.to_ascii_lowercase().as_str())
            }
            AuthAction::Transaction { operation } | AuthAction::Savepoint { operation, .. } => {
                *operation != TransactionOperation::Rollback
            }
            AuthAction::Insert { table_name }
            | AuthAction::Delete { table_name }
            | AuthAction::Update { table_name, .. } => {
                let raw = table_name.eq_ignore_ascii_case("sqlite_dbpage");
                own && !raw && (!is_schema(table_name) || self.schema_open.load(Ordering::Relaxed))
            }
            AuthAction::Select | AuthAction::Read { .. } => true,
            AuthAction::CreateIndex { .. }
            | AuthAction::CreateTable { .. }
            | AuthAction::CreateTrigger { .. }
            | AuthAction::CreateView { .. }
            | AuthAction::DropIndex { .. }
            | AuthAction::DropTable { .. }
            | AuthAction::DropTrigger { .. }
            | AuthAction::DropView { .. }
            | AuthAction::DropVtable { .. }
            | AuthAction::AlterTable { .. }
            | AuthAction::Reindex { .. }
            | AuthAction::Analyze { .. } => own,
            _ => false,
        };
        if allowed { Authorization::Allow } else { Authorization::Deny }
    }
}

fn is_schema(table: &str) -> bool {
    ["sqlite_master", "sqlite_schema", "sqlite_temp_master", "sqlite_temp_schema"]
        .iter()
        .any(|name| table.eq_ignore_ascii_case(name))
}

fn named(action: &AuthAction<'_>) -> String {
    match action {
        AuthAction::Pragma { pragma_name, .. } => format!("PRAGMA {pragma_name}"),
        AuthAction::Attach { .. } => "ATTACH, or VACUUM INTO".to_owned(),
        AuthAction::Detach { .. } => "DETACH".to_owned(),
        AuthAction::CreateVtable { module_name, .. } => format!("a virtual table of {module_name}"),
        AuthAction::Function { function_name } => format!("the function {function_name}"),
        AuthAction::Transaction { .. } | AuthAction::Savepoint { .. } => "ROLLBACK".to_owned(),
        AuthAction::Recursive => "a recursive query".to_owned(),
        AuthAction::Insert { .. } | AuthAction::Delete { .. } | AuthAction::Update { .. } => {
            "a write to the schema, or past it,".to_owned()
        }
        _ => "what it does outside of the database".to_owned(),
    }
}

/// Tells whether a statement is the one by which dumps bring a built-in index into the schema, as in
/// `INSERT INTO sqlite_schema(type,name,tbl_name,rootpage,sql)VALUES('table','t','t',0,'CREATE VIRTUAL TABLE …');`
fn is_index_entry(statement: &str) -> bool {
    let mut rest = Tokens(statement.trim());
    rest.word("INSERT")
        && rest.word("INTO")
        && (rest.word("sqlite_schema") || rest.word("sqlite_master"))
        && rest.sign("(")
        && rest.list(&["type", "name", "tbl_name", "rootpage", "sql"])
        && rest.sign(")")
        && rest.word("VALUES")
        && rest.sign("(")
        && rest.literal().as_deref() == Some("table")
        && rest.sign(",")
        && rest.literal().is_some_and(|name| rest.sign(",") && rest.literal() == Some(name))
        && rest.sign(",")
        && rest.sign("0")
        && rest.sign(",")
        && rest.literal().is_some_and(|sql| makes_index(&sql))
        && rest.sign(")")
        && rest.sign(";")
        && rest.0.is_empty()
}

/// Tells whether a definition is that of a built-in index.
fn makes_index(sql: &str) -> bool {
    let mut rest = Tokens(sql);
    if !(rest.word("CREATE") && rest.word("VIRTUAL") && rest.word("TABLE")) {
        return false;
    }
    let named = rest.name();
    let module: String = match named && rest.word("USING") {
        true => rest.0.trim_start().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect(),
        false => return false,
    };
    INDEXES.contains(&module.to_ascii_lowercase().as_str())
}

/// The rest of a text that is taken apart from the front.
struct Tokens<'a>(&'a str);

impl Tokens<'_> {
    fn sign(&mut self, sign: &str) -> bool {
        let rest = self.0.trim_start().strip_prefix(sign);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn word(&mut self, word: &str) -> bool {
        let text = self.0.trim_start();
        let ends = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        match (text.get(..word.len()), text.get(word.len()..)) {
            (Some(front), Some(rest)) if front.eq_ignore_ascii_case(word) && ends(rest) => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    fn list(&mut self, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(index, word)| (index == 0 || self.sign(",")) && self.word(word))
    }

    /// Takes a text in quotes and returns what it stands for.
    fn literal(&mut self) -> Option<String> {
        self.quoted('\'')
    }

    fn quoted(&mut self, quote: char) -> Option<String> {
        let mut rest = self.0.trim_start().strip_prefix(quote)?;
        let mut found = String::new();
        loop {
            let (piece, after) = rest.split_once(quote)?;
            found.push_str(piece);
            match after.strip_prefix(quote) {
                Some(more) => {
                    found.push(quote);
                    rest = more;
                }
                None => {
                    self.0 = after;
                    return Some(found);
                }
            }
        }
    }

    /// Passes over a name, with quotes or without.
    fn name(&mut self) -> bool {
        let text = self.0.trim_start();
        match text.chars().next() {
            Some(quote @ ('"' | '\'' | '`')) => self.quoted(quote).is_some(),
            Some('[') => match text.split_once(']') {
                Some((_, rest)) => {
                    self.0 = rest;
                    true
                }
                None => false,
            },
            _ => {
                let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$'));
                self.0 = &text[end.unwrap_or(text.len())..];
                end != Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_entry_of_a_built_in_index_opens_the_schema() {
        let entry = |name: &str, other: &str, root: &str, sql: &str| {
            format!(
                "INSERT INTO sqlite_schema(type,name,tbl_name,rootpage,sql)VALUES('table',{name},{other},{root},{sql});"
            )
        };
        let fts = "'CREATE VIRTUAL TABLE \"a \"\"b\" USING fts5(x, y=''z'')'";
        assert!(is_index_entry(&entry("'a'", "'a'", "0", fts)));
        assert!(is_index_entry(&entry("'a'", "'a'", "0", "'CREATE VIRTUAL TABLE a USING rtree(i,x,y)'")));
        let old = entry("'a''b'", "'a''b'", "0", "'create virtual table [a b] using FTS4'");
        assert!(is_index_entry(&old.replace("sqlite_schema", "sqlite_master")));
        for bad in [
            entry("'a'", "'b'", "0", fts),
            entry("'a'", "'a'", "2", fts),
            entry("'a'", "'a'", "0", "'CREATE VIRTUAL TABLE a USING csv(filename=''/etc/passwd'')'"),
            entry("'a'", "'a'", "0", "'CREATE VIRTUAL TABLE fts5 USING zipfile(fts5)'"),
            entry("'a'", "'a'", "0", "'CREATE TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; END'"),
            entry("'a'", "'a'", "0", fts).replace("'table'", "'trigger'"),
            entry("'a'", "'a'", "0", fts).replace("INSERT INTO", "INSERT OR REPLACE INTO"),
            entry("'a'", "'a'", "0", fts).replace(");", "),('table','b','b',0,'CREATE TABLE b(x)');"),
            entry("(SELECT 'a')", "'a'", "0", fts),
        ] {
            assert!(!is_index_entry(&bad), "{bad}");
        }
    }
}
