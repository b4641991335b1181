//! The boundary: every error becomes a [`Failure`], which knows its exit code and is shown once, as `error: …`,
//! `caused by: …`, `hint: …`. Nothing below this crate prints.

use crate::console::Console;
use config::{ConfigError, SourceTextError};
use flow::{ReadErrorKind, SourceError, SourceErrorKind};
use operations::OperationError;
use operations::report::ErrorReport;
use repository::{RepositoryError, RepositoryErrorKind};
use std::error::Error;

/// Exit codes, as the help lists them.
pub(crate) mod exit {
    pub(crate) const FAILED: u8 = 1;
    pub(crate) const USAGE: u8 = 2;
    pub(crate) const INCOMPLETE: u8 = 3;
    pub(crate) const NO_REPOSITORY: u8 = 10;
    pub(crate) const LOCKED: u8 = 11;
    pub(crate) const WRONG_PASSWORD: u8 = 12;
    pub(crate) const DATABASE: u8 = 20;
    pub(crate) const NOT_VALID: u8 = 21;
    pub(crate) const INTERRUPTED: u8 = 130;
}

/// Why a command failed, ready to be shown. The exit code is 0 where whoever read standard output went away: that is
/// no failure, and nothing is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit_code: u8,
    pub(crate) message: String,
    pub(crate) causes: Vec<String>,
    pub(crate) hint: Option<String>,
    /// What the command's own part of the report is known to hold nevertheless.
    pub(crate) known: serde_json::Map<String, serde_json::Value>,
}

impl Failure {
    pub(crate) fn new(exit_code: u8, message: impl Into<String>) -> Self {
        Self { exit_code, message: message.into(), causes: vec![], hint: None, known: Default::default() }
    }

    /// Makes the failure of a wrong use, with what to do instead.
    pub(crate) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(exit::USAGE, message).with_hint(hint)
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn with_cause(mut self, cause: &dyn Error) -> Self {
        self.causes.push(cause.to_string());
        self
    }

    /// Adds to the command's own part of the report what is known, where it does not say so itself.
    pub(crate) fn knowing(mut self, key: &str, value: impl Into<serde_json::Value>) -> Self {
        let known = self.known.entry(key).or_insert(serde_json::Value::Null);
        if known.is_null() {
            *known = value.into();
        }
        self
    }

    fn of(error: &(dyn Error + 'static), hint: Option<&str>, exit_code: u8) -> Self {
        let report = ErrorReport::new(error, hint);
        Self {
            exit_code,
            message: report.message,
            causes: report.causes,
            hint: report.hint,
            known: Default::default(),
        }
    }

    /// Returns the failure as reports show it.
    pub(crate) fn report(&self) -> ErrorReport {
        ErrorReport {
            message: self.message.clone(),
            causes: self.causes.clone(),
            hint: self.hint.clone(),
            exit_code: Some(self.exit_code),
        }
    }

    /// Shows the failure on standard error.
    pub(crate) fn show(&self, console: &Console) {
        if self.exit_code == 0 {
            return;
        }
        console.error(&console.red("error:"), &self.message);
        for cause in &self.causes {
            console.error("caused by:", cause);
        }
        if let Some(hint) = &self.hint {
            console.error("hint:", hint);
        }
    }
}

/// Returns the exit code that an error of a verb leads to.
pub(crate) fn exit_code(error: &OperationError) -> u8 {
    match error {
        OperationError::Source(error) => source_exit_code(error),
        OperationError::Repository(error) => repository_exit_code(error),
        OperationError::Backup(error) if error.kind == ReadErrorKind::Cancelled => exit::INTERRUPTED,
        OperationError::Backup(_) | OperationError::Local { .. } => exit::FAILED,
        OperationError::Usage { .. } => exit::USAGE,
        OperationError::Restore { source, .. } => exit_code(source),
        OperationError::Cancelled => exit::INTERRUPTED,
    }
}

fn source_exit_code(error: &SourceError) -> u8 {
    match error.kind {
        SourceErrorKind::InUse => exit::LOCKED,
        SourceErrorKind::Invalid => exit::USAGE,
        SourceErrorKind::Cancelled => exit::INTERRUPTED,
        _ => exit::DATABASE,
    }
}

fn repository_exit_code(error: &RepositoryError) -> u8 {
    match error.kind {
        RepositoryErrorKind::NotFound => exit::NO_REPOSITORY,
        RepositoryErrorKind::Locked => exit::LOCKED,
        RepositoryErrorKind::WrongPassword => exit::WRONG_PASSWORD,
        RepositoryErrorKind::NoBackup | RepositoryErrorKind::Ambiguous => exit::USAGE,
        RepositoryErrorKind::Cancelled => exit::INTERRUPTED,
        _ => exit::FAILED,
    }
}

impl From<OperationError> for Failure {
    fn from(error: OperationError) -> Self {
        let mut failure = Self::of(&error, error.hint(), exit_code(&error));
        // Damage that showed while it ran is told by an error around it.
        let mut below: Option<&(dyn Error + 'static)> = Some(&error);
        while let Some(cause) = below {
            if let Some(OperationError::Restore { attempt, .. }) = cause.downcast_ref::<OperationError>()
                && let Ok(serde_json::Value::Object(known)) = serde_json::to_value(attempt)
            {
                failure.known = known;
                break;
            }
            below = cause.source();
        }
        failure
    }
}

impl From<std::io::Error> for Failure {
    /// Takes an error of writing to standard output.
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::new(0, "whoever read standard output went away");
        }
        Self::new(exit::FAILED, "standard output cannot be written").with_cause(&error)
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        OperationError::from(error).into()
    }
}

impl From<RepositoryError> for Failure {
    fn from(error: RepositoryError) -> Self {
        OperationError::from(error).into()
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::of(&error, error.hint.as_deref(), exit::USAGE)
    }
}

impl From<SourceTextError> for Failure {
    fn from(error: SourceTextError) -> Self {
        Self::of(&error, error.hint.as_deref(), exit::USAGE)
    }
}
