//! Secrets, and how they stay out of logs, reports and error texts.

use crate::SourceError;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A password or key. Neither `Debug` nor `Display` nor serde show it; only [`Secret::expose`] does.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// Returns the secret itself, for the one call that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where a secret is to be had. Requests carry this, never the secret, so that they can travel to another host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "from", content = "at")]
pub enum SecretRef {
    /// A file whose first line is the secret.
    File(String),
    /// An environment variable.
    Variable(String),
    /// A command that prints the secret.
    Command(Vec<String>),
}

/// Resolves references to secrets, on the machine where the work is done.
pub trait Secrets: Send + Sync {
    /// Returns the secret behind a reference, or says why it cannot be had (without quoting it).
    fn get(&self, reference: &SecretRef) -> Result<Secret, SourceError>;
}

/// Has no secrets: for engines that need none.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSecrets;

impl Secrets for NoSecrets {
    fn get(&self, reference: &SecretRef) -> Result<Secret, SourceError> {
        Err(SourceError::new(
            crate::SourceErrorKind::Missing,
            format!("{reference:?}"),
            "no secrets are configured",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_does_not_show_the_secret() {
        assert!(!format!("{:?}", Secret::new("hunter2")).contains("hunter2"));
    }
}
