//! The journal's error: always a remark to whoever calls, never the end of the work.

use flow::{Finding, Severity};
use std::error::Error;
use std::path::{Path, PathBuf};

/// The journal cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the journal {} {message}", path.display())]
pub struct JournalError {
    /// The journal's file.
    pub path: PathBuf,
    /// What went wrong.
    pub message: String,
    /// The error below, if there is one.
    #[source]
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl JournalError {
    pub(crate) fn new(path: &Path, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), message: message.into(), source: None }
    }

    pub(crate) fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Returns the error as a remark: that the work went on without being recorded.
    pub fn finding(&self) -> Finding {
        let cause = self.source.as_ref().map(|source| format!(": {source}")).unwrap_or_default();
        // SQLite says the path too.
        let cause = cause.replace(&format!(": {}", self.path.display()), "");
        Finding {
            severity: Severity::Warning,
            object: self.path.display().to_string(),
            message: format!("the journal {}{cause}; what was done is not recorded", self.message),
            hint: None,
        }
    }
}
