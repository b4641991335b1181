//! Whether SQL text that no tool signed is written for PostgreSQL: by statements and commands that SQLite has not.
//!
//! People write such scripts by hand, and some tools give their name nowhere. What both systems would run is left to the other:
//! a wrong guess would be told as damage.

use super::heads::first_words;
use super::reader::{Keep, Piece, ScriptReader};
use crate::postgres::statements::after_word;

/// More statements are not looked at.
const STATEMENTS_MAX: usize = 400;
/// What PostgreSQL can make, change and take away, and SQLite cannot.
const KINDS: [&str; 19] = [
    "AGGREGATE",
    "CAST",
    "COLLATION",
    "DATABASE",
    "DOMAIN",
    "EXTENSION",
    "FOREIGN",
    "FUNCTION",
    "MATERIALIZED",
    "OPERATOR",
    "POLICY",
    "PROCEDURE",
    "PUBLICATION",
    "ROLE",
    "SCHEMA",
    "SEQUENCE",
    "SERVER",
    "TYPE",
    "UNLOGGED",
];
/// Commands of psql that stand in scripts.
const COMMANDS: [&str; 14] = [
    "c", "connect", "copy", "echo", "encoding", "i", "if", "ir", "o", "pset", "restrict", "set", "timing",
    "unset",
];

/// Tells by its beginning whether a text is for PostgreSQL alone.
pub(in crate::postgres) fn speaks_postgres(head: &[u8]) -> bool {
    let is_foreign = |words: &[u8]| head.windows(words.len()).any(|window| window == words);
    if is_foreign(b"-- MySQL dump") || is_foreign(b"-- MariaDB dump") || is_foreign(b"/*!40") {
        return false;
    }
    let mut reader = ScriptReader::new(head, Keep::All);
    // What is cut off at the end of the beginning, or is no text at all, says nothing more.
    let mut pieces = std::iter::from_fn(|| {
        let piece = reader.next().ok()??;
        Some(match piece {
            Piece::Command => Sign::Command(reader.side()),
            Piece::Statement => Sign::Statement(String::from_utf8_lossy(reader.statement()).into_owned()),
            Piece::Comment => Sign::None,
        })
    })
    .take(STATEMENTS_MAX);
    pieces.find_map(|sign| sign.verdict()).unwrap_or(false)
}

enum Sign {
    None,
    Command(String),
    Statement(String),
}

impl Sign {
    /// What it says: for PostgreSQL, for another system, or nothing.
    fn verdict(self) -> Option<bool> {
        let text = match self {
            Sign::None => return None,
            Sign::Command(text) => {
                let word = text.split_ascii_whitespace().next().unwrap_or_default();
                return COMMANDS.contains(&word).then_some(true);
            }
            Sign::Statement(text) => text,
        };
        let words = first_words(&text);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let has = |word: &str| after_word(&text, word).is_some();
        let is_sign = match words[..] {
            ["PRAGMA" | "ATTACH" | "DETACH", ..] => return Some(false),
            ["ALTER", "TABLE", "ONLY" | "IF", ..] | ["CREATE", "OR", "REPLACE", ..] => true,
            ["COMMENT", "ON", ..] | ["LOCK", "TABLE", ..] => true,
            ["CREATE" | "ALTER" | "DROP", kind, ..] => KINDS.contains(&kind),
            ["COPY", ..] => has("FROM") && has("STDIN"),
            ["SET", ..] => text.contains('=') || has("TO"),
            ["GRANT", ..] => has("ON") && has("TO"),
            ["REVOKE", ..] => has("ON") && has("FROM"),
            ["DO", ..] => text.contains("$$"),
            _ => false,
        };
        is_sign.then_some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_postgresql_runs_is_told_from_the_rest() {
        for text in [
            "/* by hand */\nDROP DATABASE IF EXISTS shop;\nCREATE DATABASE shop;\n\\c shop;\n",
            "CREATE TABLE a (b int);\nCREATE SEQUENCE s;\n",
            "create extension if not exists citext;\ncreate table a (b citext);",
            "\\set ON_ERROR_STOP on\nCREATE TABLE a (b int);\n",
            "CREATE TABLE a (b int);\nCOMMENT ON TABLE a IS 'CREATE';\n",
            "BEGIN;\nCREATE TABLE a (b int);\nCOPY a FROM stdin;\n1\n\\.\nCOMMIT;\n",
        ] {
            assert!(speaks_postgres(text.as_bytes()), "{text}");
        }
        for text in [
            "",
            "Dear diary",
            "Do not delete; Set the table; Copy that; Grant him time; Create peace;",
            "\\documentclass{article}\n\\include{c}\n",
            "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\nCREATE TABLE a(b);\n",
            "CREATE TABLE a (b int);\nINSERT INTO a VALUES ('x\n\\c shop\nCREATE DATABASE y;');\n",
            "CREATE TABLE a (b int);\n-- CREATE DATABASE y;\n/* \\c */\nCREATE UNIQUE INDEX i ON a (b);\n",
            "BEGIN;\nCREATE TABLE a (b int);\nREPLACE INTO a VALUES (1);\nCOMMIT;\n",
            "-- MySQL dump 10.13\nCREATE DATABASE shop;\n",
        ] {
            assert!(!speaks_postgres(text.as_bytes()), "{text}");
        }
    }
}
