//! A problem with the meaning of a key: the reader of the file adds file, line and column.

use crate::source::SourceTextError;

/// A problem with the meaning of a key.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) path: Vec<String>,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Problem {
    pub(crate) fn new(path: &[&str], message: impl Into<String>, hint: impl Into<Option<String>>) -> Self {
        Self {
            path: path.iter().map(|key| (*key).to_owned()).collect(),
            message: message.into(),
            hint: hint.into(),
        }
    }

    pub(crate) fn source(path: &[&str], error: SourceTextError) -> Self {
        Self::new(path, error.message, error.hint)
    }
}
