//! Reports: one value, of which terminal text and JSON are renderings. The fields are a contract with scripts: every
//! key is present, null for unknown; times are RFC 3339 in UTC.

use crate::OperationError;
use jiff::Timestamp;
use serde::Serialize;
use std::error::Error;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// All was done.
    Complete,
    /// Some was done, some failed.
    Incomplete,
    /// All was done, and something about it looks wrong.
    Suspect,
    /// It failed.
    Failed,
}

/// What every report begins with; the command's own part follows in the same object.
#[derive(Debug, Clone, Serialize)]
pub struct Report<T> {
    /// `backstay.COMMAND/1`.
    pub schema: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// How long it took.
    pub elapsed_ms: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it failed; null where it did not.
    pub error: Option<ErrorReport>,
    /// The command's own part.
    #[serde(flatten)]
    pub body: T,
}

impl<T> Report<T> {
    /// Closes a report now.
    pub fn new(command: &str, started: Timestamp, outcome: Outcome, body: T) -> Self {
        let finished = Timestamp::now();
        Self {
            schema: format!("backstay.{command}/1"),
            started,
            finished,
            elapsed_ms: elapsed_ms(started, finished),
            outcome,
            error: None,
            body,
        }
    }
}

impl<T> Report<T> {
    /// Returns the same report of another body.
    pub(crate) fn with<U>(&self, body: U) -> Report<U> {
        Report {
            schema: self.schema.clone(),
            started: self.started,
            finished: self.finished,
            elapsed_ms: self.elapsed_ms,
            outcome: self.outcome,
            error: self.error.clone(),
            body,
        }
    }
}

/// Returns the milliseconds between two moments; 0 where the clock jumped back.
pub fn elapsed_ms(started: Timestamp, finished: Timestamp) -> u64 {
    u64::try_from(finished.as_millisecond() - started.as_millisecond()).unwrap_or(0)
}

/// An error as reports show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorReport {
    /// What failed.
    pub message: String,
    /// Why, outermost first.
    pub causes: Vec<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// The exit code that it leads to; filled in at the boundary.
    pub exit_code: Option<u8>,
}

impl ErrorReport {
    /// Renders an error with its chain of causes; a cause that only repeats what is above it is left out.
    pub fn new(error: &(dyn Error + 'static), hint: Option<&str>) -> Self {
        let message = error.to_string();
        let mut causes: Vec<String> = Vec::new();
        let mut below = error.source();
        while let Some(cause) = below {
            let text = cause.to_string();
            let repeats = message.contains(&text) || causes.iter().any(|earlier| earlier.contains(&text));
            if !repeats {
                causes.push(text);
            }
            below = cause.source();
        }
        Self { message, causes, hint: hint.map(str::to_owned), exit_code: None }
    }
}

impl From<&OperationError> for ErrorReport {
    fn from(error: &OperationError) -> Self {
        Self::new(error, error.hint())
    }
}
