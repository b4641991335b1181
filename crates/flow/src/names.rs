//! The names by which targets, databases and entries are known, in requests, reports and repositories alike.
//!
//! A name is text: it may hold blanks, slashes, quotes and any Unicode, because database names do. Whoever stores
//! it somewhere narrower (a path, a tag) encodes it there.

use crate::text::Text;
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::fmt;

/// A name that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {what} name {name:?} {problem}")]
pub struct NameError {
    /// What was to be named: `target`, `database` or `entry`.
    pub what: &'static str,
    /// The name as given.
    pub name: String,
    /// Why it cannot be used.
    pub problem: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "Text")]
        pub struct $type(Text);

        impl $type {
            /// Takes a name: not empty and without a NUL byte.
            pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
                let name = name.into();
                let problem = if name.is_empty() {
                    "is empty"
                } else if name.contains('\0') {
                    "holds a NUL byte"
                } else {
                    return Ok(Self(name.into()));
                };
                Err(NameError { what: $what, name, problem })
            }

            /// Returns the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(name: String) -> Result<Self, NameError> {
                Self::new(name)
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0.to_string()
            }
        }

        impl From<$type> for Text {
            fn from(name: $type) -> Text {
                name.0
            }
        }
    };
}

name!(
    /// One configured source of databases, or a connection named in place (then its canonical path, or its URL
    /// without user and password).
    TargetName,
    "target"
);
name!(
    /// One member of a target.
    DatabaseName,
    "database"
);
name!(
    /// One named stream of bytes in a backup. A `/` makes folders of it for whoever restores it as files.
    EntryName,
    "entry"
);

/// The database system behind a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// PostgreSQL.
    Postgres,
    /// SQLite 3.
    Sqlite,
    /// Neo4j.
    Neo4j,
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EngineKind::Postgres => "postgres",
            EngineKind::Sqlite => "sqlite",
            EngineKind::Neo4j => "neo4j",
        })
    }
}

/// A target as an engine needs it: which system, and where. Holds no password; those are asked of
/// [`crate::Secrets`] where the work is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetRef {
    /// The name that reports and repositories use.
    pub name: TargetName,
    /// The database system.
    pub engine: EngineKind,
    /// Where it is. SQLite: a path, a folder, a glob, or a template with `{tenant}`. Others: a URL without password.
    pub connection: String,
    /// Where its password is to be had, if it needs one.
    pub secret: Option<crate::SecretRef>,
    /// Who its tenants are, where the connection has `{tenant}` in it and somebody keeps a list of them; else whatever
    /// fits is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenants: Option<TenantQuery>,
}

/// A question to a database server which names the tenants of a target, one a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantQuery {
    /// The database that is asked, on the server of the target's databases.
    pub database: String,
    /// One statement that changes nothing; the first column of its rows is taken.
    pub sql: String,
}

/// One database of a target, found by the engine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DatabaseRef {
    /// The target it belongs to.
    pub target: TargetName,
    /// Its name in that target.
    pub name: DatabaseName,
    /// Where it is. SQLite: its canonical path. Others: a URL without password.
    pub connection: String,
}

impl fmt::Display for DatabaseRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_refuse_what_no_system_can_hold() {
        assert!(TargetName::new("").is_err());
        assert!(DatabaseName::new("a\0b").is_err());
        assert_eq!(DatabaseName::new("a/b \"c\"").map(String::from), Ok("a/b \"c\"".to_owned()));
        assert!(serde_json::from_str::<EntryName>("\"\"").is_err());
    }
}
