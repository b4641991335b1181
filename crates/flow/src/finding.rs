//! Remarks about a database, a tool or a repository: what is so, how grave it is, what mends it.

use serde::{Deserialize, Serialize};

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be; good to know.
    Notice,
    /// The work goes on, a person should look.
    Warning,
    /// A backup or a restore would fail, or be of no use.
    Problem,
}

/// One remark, with the object it is about and the next step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How grave it is.
    pub severity: Severity,
    /// What it is about: a path, a URL, a table.
    pub object: String,
    /// What is so.
    pub message: String,
    /// What to do about it, as a command or a sentence.
    pub hint: Option<String>,
}
