//! What is wrong with a configuration file, and where. The text never quotes a value: a value may be a secret.

use crate::position::Position;
use std::fmt;
use std::path::{Path, PathBuf};

/// A configuration file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub struct ConfigError {
    /// The file.
    pub file: Box<Path>,
    /// Line and column, both from 1, where they are known.
    pub position: Option<(u32, u32)>,
    /// The key, as a dotted path, where it is about one.
    pub key: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The error below, if there is one.
    #[source]
    pub source: Option<std::io::Error>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some((line, column)) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        if let Some(key) = &self.key {
            write!(f, ": `{key}`")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl ConfigError {
    pub(crate) fn new(file: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self {
            file: file.into().into_boxed_path(),
            position: None,
            key: None,
            message: message.into(),
            hint: None,
            source: None,
        }
    }

    pub(crate) fn at(mut self, position: Option<Position>) -> Self {
        self.position = position.map(|place| (place.line, place.column));
        self
    }

    pub(crate) fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into();
        self
    }
}

/// Returns the candidate that a misspelt word most likely means.
pub(crate) fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.chars().count() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Returns what to do about a file that the system does not give.
pub(crate) fn unreadable_hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            "give this user the right to read it and to enter its folder, or name another one by --config"
        }
        std::io::ErrorKind::IsADirectory => "it is a folder: name the file in it by --config",
        std::io::ErrorKind::InvalidData => "it is no UTF-8 text: write it anew in UTF-8",
        _ => "check the disk that it lies on, or name another one by --config",
    }
}
