//! What stands behind a database's name in the name of a safety copy: `.safety`, or what folder tools were told.
//!
//! A safety copy is `app.db.safety-20261121T020000Z`: the database's name, the suffix, a dash and the moment at which the
//! restore began, so that copies are known by their names alone, whatever the suffix.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What it is where nobody says another one.
const USUAL: &str = ".safety";
/// The longest that is taken: names have little more than 200 bytes left.
const BYTES_MAX: usize = 32;
/// Endings by which files are told: what a safety copy ended in before its time would make it one of them.
const OF_OTHERS: [&str; 20] = [
    "-wal", "-shm", "-journal", ".db", ".db3", ".sqlite", ".sqlite3", ".sql", ".dump", ".tar", ".tgz",
    ".json", ".gz", ".zst", ".lz4", ".xz", ".bz2", ".age", ".gpg", ".partial",
];

/// A suffix of safety copies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SafetySuffix(String);

impl SafetySuffix {
    /// Takes a suffix; else says what is wrong with it. It begins with a dot, a dash or an underscore, holds letters, digits
    /// and those, and is no ending by which other files are told.
    pub fn new(suffix: impl Into<String>) -> Result<Self, String> {
        let suffix: String = suffix.into();
        let lower = suffix.to_ascii_lowercase();
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let problem = if suffix.is_empty() {
            "is empty: the copy would have the name of the database"
        } else if suffix.len() > BYTES_MAX {
            "is longer than 32 bytes"
        } else if !suffix.bytes().all(fits) {
            "holds more than letters, digits, dots, dashes and underscores"
        } else if !suffix.starts_with(['.', '_', '-']) {
            "does not begin with a dot, a dash or an underscore"
        } else if !suffix.ends_with(|last: char| last.is_ascii_alphanumeric()) {
            "does not end with a letter or a digit"
        } else if lower.contains(".backstay-") {
            "is how the files of an unfinished restore are known"
        } else if OF_OTHERS.iter().any(|ending| lower.ends_with(ending)) {
            "is an ending by which other files are known"
        } else {
            return Ok(Self(suffix));
        };
        Err(format!("\"{suffix}\" {problem}"))
    }

    /// Returns it as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Tells whether nobody asked for another one.
    pub fn is_usual(&self) -> bool {
        self.0 == USUAL
    }

    /// Takes the name of a safety copy apart: the database's name, and what follows the suffix and its dash. `None` where
    /// what follows does not begin as a moment does, `20261121T020000Z`.
    pub fn split<'a>(&self, name: &'a str) -> Option<(&'a str, &'a str)> {
        let (at, _) = name.rmatch_indices(self.0.as_str()).find(|(at, _)| {
            let rest = name.get(at + self.0.len()..).and_then(|rest| rest.strip_prefix('-'));
            rest.is_some_and(begins_with_a_moment)
        })?;
        Some((name.get(..at)?, name.get(at + self.0.len() + 1..)?))
    }
}

fn begins_with_a_moment(text: &str) -> bool {
    text.as_bytes().first_chunk::<16>().is_some_and(|stamp| {
        stamp.iter().zip(b"00000000T000000Z").all(|(byte, shape)| match shape {
            b'0' => byte.is_ascii_digit(),
            letter => byte == letter,
        })
    })
}

impl Default for SafetySuffix {
    fn default() -> Self {
        Self(USUAL.to_owned())
    }
}

impl fmt::Display for SafetySuffix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for SafetySuffix {
    type Error = String;
    fn try_from(suffix: String) -> Result<Self, String> {
        Self::new(suffix)
    }
}

impl From<SafetySuffix> for String {
    fn from(suffix: SafetySuffix) -> Self {
        suffix.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suffix_is_one_that_leaves_the_copy_known_by_its_name() {
        for good in [".safety", ".old", ".bak", "_before", "-pre_restore", ".Backup.1"] {
            assert_eq!(SafetySuffix::new(good).map(String::from), Ok(good.to_owned()));
        }
        let long = format!(".{}", "x".repeat(32));
        for bad in [
            "",
            ".",
            "old",
            "..",
            ".a/b",
            "../x",
            ".a b",
            ".ä",
            ".old-",
            "-wal",
            ".x-WAL",
            ".db",
            ".old.sql",
            ".gz",
            ".backstay-old",
            ".JSON",
            &long,
        ] {
            assert!(SafetySuffix::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_is_taken_apart_at_the_last_suffix_with_a_moment() {
        let stamp = "20261121T020000Z";
        let usual = SafetySuffix::default();
        assert_eq!(usual.split("app.db.safety-20261121T020000Z-2"), Some(("app.db", "20261121T020000Z-2")));
        assert_eq!(usual.split("a.safety-b.db.safety-20261121T020000Z"), Some(("a.safety-b.db", stamp)));
        for other in ["app.db", "app.safety-net.db", "app.db.safety-2026", "app.db.safety20261121T020000Z"] {
            assert_eq!(usual.split(other), None, "{other}");
        }
        assert_eq!(
            SafetySuffix::new("_old").map(|old| old.split("app.db_old-20261121T020000Z").is_some()),
            Ok(true)
        );
    }
}
