//! What of a database is backed up, where that is not all of it.
//!
//! A backup of a part is compared with backups of the same part alone, and is never taken for one of the whole. Nothing is
//! kept here; a crash loses nothing.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Definitions, rows, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    /// Both.
    #[default]
    All,
    /// Definitions without rows.
    Schema,
    /// Rows without definitions.
    Data,
}

/// A part of a database. There is none of the whole: where all is meant, nothing is selected. Patterns are those of the
/// database system's own programs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Selection {
    /// Definitions, rows, or both.
    #[serde(default)]
    pub content: Content,
    /// Only the tables that fit one of these patterns; all where there is none.
    #[serde(default)]
    pub tables: Vec<String>,
    /// Only what is in the schemas that fit one of these patterns; all where there is none.
    #[serde(default)]
    pub schemas: Vec<String>,
    /// Of the tables that fit one of these patterns no rows.
    #[serde(default)]
    pub exclude_table_data: Vec<String>,
}

impl Selection {
    /// Puts a selection in its one order, so that the same part is equal however it was written; `None` where it leaves
    /// nothing out.
    pub fn normal(mut self) -> Option<Self> {
        for patterns in [&mut self.tables, &mut self.schemas, &mut self.exclude_table_data] {
            patterns.sort_unstable();
            patterns.dedup();
        }
        let leaves_out = self.content != Content::All
            || !self.tables.is_empty()
            || !self.schemas.is_empty()
            || !self.exclude_table_data.is_empty();
        leaves_out.then_some(self)
    }

    /// Says what of it contradicts itself or has no effect, where something does.
    pub fn problem(&self) -> Option<&'static str> {
        let patterns = [&self.tables, &self.schemas, &self.exclude_table_data];
        if patterns.into_iter().flatten().any(String::is_empty) {
            return Some("a pattern is empty");
        }
        match (self.content, self.exclude_table_data.is_empty()) {
            (Content::Schema, false) => Some("where only definitions are backed up, no rows can be left out"),
            _ if !self.tables.is_empty() && !self.schemas.is_empty() => Some(
                "schemas have no effect beside tables: a table is named with its schema, as in sales.orders",
            ),
            _ => None,
        }
    }
}

/// As people read it: `schema only; tables a*, b`. Equal texts mean equal selections.
impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        match self.content {
            Content::All => {}
            Content::Schema => parts.push("schema only".to_owned()),
            Content::Data => parts.push("data only".to_owned()),
        }
        let lists = [
            ("tables", &self.tables),
            ("schemas", &self.schemas),
            ("without rows of", &self.exclude_table_data),
        ];
        for (words, patterns) in lists.into_iter().filter(|(_, patterns)| !patterns.is_empty()) {
            let patterns: Vec<String> = patterns.iter().map(|pattern| shown(pattern)).collect();
            parts.push(format!("{words} {}", patterns.join(", ")));
        }
        f.write_str(&parts.join("; "))
    }
}

/// Returns a pattern as it is where nothing in it could be taken for what stands around it, else as a JSON string.
fn shown(pattern: &str) -> String {
    let plain = |letter: char| letter.is_alphanumeric() || "_.*?$-|()[]+".contains(letter);
    match pattern.chars().all(plain) {
        true => pattern.to_owned(),
        false => serde_json::Value::from(pattern).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(content: Content, tables: &[&str], without: &[&str]) -> Selection {
        let owned = |patterns: &[&str]| patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        Selection { content, tables: owned(tables), schemas: vec![], exclude_table_data: owned(without) }
    }

    #[test]
    fn the_same_part_is_equal_however_it_was_written() {
        let one = selection(Content::All, &["b", "a", "b"], &[]).normal();
        assert_eq!(one, selection(Content::All, &["a", "b"], &[]).normal());
        assert!(one.is_some());
        assert_eq!(selection(Content::All, &[], &[]).normal(), None);
    }

    #[test]
    fn texts_differ_where_selections_do() {
        let text = |tables: &[&str]| selection(Content::Schema, tables, &[]).to_string();
        assert_eq!(text(&["sales.*", "a"]), "schema only; tables sales.*, a");
        assert_eq!(text(&["a, b"]), "schema only; tables \"a, b\"");
        assert_ne!(text(&["a, b"]), text(&["a", "b"]));
        assert_eq!(selection(Content::All, &[], &["log*"]).to_string(), "without rows of log*");
    }

    #[test]
    fn what_contradicts_itself_is_said() {
        assert!(selection(Content::Schema, &[], &["log"]).problem().is_some());
        assert!(selection(Content::All, &[""], &[]).problem().is_some());
        let both = Selection { schemas: vec!["s".to_owned()], ..selection(Content::Data, &["t"], &[]) };
        assert!(both.problem().is_some());
        assert_eq!(selection(Content::Data, &["t"], &["log"]).problem(), None);
    }
}
