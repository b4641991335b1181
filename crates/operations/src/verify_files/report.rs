//! The report on dump files: one item a file, with every check that was made.

use crate::OperationError;
use crate::dump_files::{DumpFile, TimeSource};
use crate::encryption::Encryption;
use crate::journaling;
use crate::plain_file::Compression;
use crate::report::ErrorReport;
pub(super) use crate::verify::Check;
use crate::verify::{VerifyPerformance, VerifySummary};
use engines::Skipped;
use flow::EngineKind;
use jiff::Timestamp;
use serde::Serialize;

/// The verdict on one file.
#[derive(Debug, Clone, Serialize)]
pub struct FileItem {
    /// Its path.
    pub path: String,
    /// The database that its name speaks of.
    pub database: Option<String>,
    /// Whether everything that was looked at is right.
    pub valid: bool,
    /// Its length.
    pub size_bytes: u64,
    /// The moment that it shows.
    pub time: Option<Timestamp>,
    /// How old it is; below zero where that moment is still to come.
    pub age_seconds: Option<i64>,
    /// From where that is known: `name`, `modified`.
    pub time_source: Option<TimeSource>,
    /// Of which system it is a dump; null where it is none, as is the format.
    pub engine: Option<EngineKind>,
    /// `sqlite`, `sqlite-sql`, `postgres-sql`, `postgres-custom`, `postgres-tar`, `postgres-directory`, `neo4j`.
    pub format: Option<&'static str>,
    /// How it is packed; null where that is not known.
    pub compression: Option<Compression>,
    /// How it is encrypted; null where that is not known.
    pub encryption: Option<Encryption>,
    /// What was looked at.
    pub checks: Vec<Check>,
    /// What may be wrong with it although every check passed.
    pub doubts: Vec<String>,
    /// How many tables it holds; null where that is not known, as of rows.
    pub tables: Option<u64>,
    /// How many rows it holds.
    pub rows: Option<u64>,
    /// What is wrong with it: the first check that failed.
    pub error: Option<String>,
    /// What to do about it where it could not be loaded here, which says nothing against it.
    #[serde(skip)]
    pub untried: Option<String>,
}

/// The report's own part.
#[derive(Debug, Clone, Default, Serialize)]
pub struct VerifyFilesBody {
    /// How many are right.
    pub summary: VerifySummary,
    /// One for each file.
    pub files: Vec<FileItem>,
    /// What lies in a folder and is no dump, or was not asked for.
    pub skipped: Vec<Skipped>,
    /// How fast it went.
    pub performance: VerifyPerformance,
}

impl VerifyFilesBody {
    /// Returns what the journal keeps of very many: those that are wrong first.
    pub(super) fn abridged(&self) -> Self {
        let (wrong, right): (Vec<_>, Vec<_>) = self.files.iter().partition(|item| item.error.is_some());
        Self {
            summary: self.summary.clone(),
            files: wrong.into_iter().chain(right).take(journaling::ITEMS_KEPT).cloned().collect(),
            skipped: self.skipped.iter().take(journaling::ITEMS_KEPT).cloned().collect(),
            performance: self.performance.clone(),
        }
    }
}

impl FileItem {
    /// Begins with what the name and the metadata say.
    pub(super) fn planned(file: &DumpFile, now: Timestamp) -> Self {
        Self {
            path: file.path.clone(),
            database: Some(file.name.clone()),
            valid: false,
            size_bytes: file.size_bytes,
            time: Some(file.time),
            age_seconds: Some(now.as_second() - file.time.as_second()),
            time_source: Some(file.time_source),
            engine: None,
            format: None,
            compression: None,
            encryption: None,
            checks: vec![],
            doubts: vec![],
            tables: None,
            rows: None,
            error: None,
            untried: None,
        }
    }

    /// Makes the item of what was named and cannot be looked at.
    pub(super) fn unfound(path: &str, error: &OperationError) -> Self {
        let report = ErrorReport::from(error);
        let message = report.message.strip_prefix(&format!("{path}: ")).unwrap_or(&report.message).to_owned();
        Self {
            path: path.to_owned(),
            database: None,
            valid: false,
            size_bytes: 0,
            time: None,
            age_seconds: None,
            time_source: None,
            engine: None,
            format: None,
            compression: None,
            encryption: None,
            checks: vec![Check { name: "file".to_owned(), passed: false, detail: message.clone() }],
            doubts: vec![],
            tables: None,
            rows: None,
            error: Some(message),
            untried: None,
        }
    }

    /// Adds what was looked at.
    pub(super) fn check(&mut self, name: &str, outcome: Result<String, String>) {
        let passed = outcome.is_ok();
        let detail = outcome.unwrap_or_else(|problem| problem);
        self.checks.push(Check { name: name.to_owned(), passed, detail });
    }

    /// Gives the verdict.
    pub(super) fn judged(mut self) -> Self {
        let failed = self.checks.iter().find(|check| !check.passed);
        self.error = failed.map(|check| match check.name.as_str() {
            "file" => check.detail.clone(),
            name => format!("{name}: {}", check.detail),
        });
        self.valid = self.error.is_none() && !self.checks.is_empty();
        self
    }
}
