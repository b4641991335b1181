//! What every call of an engine is handed: whom to tell, when to stop, where secrets, variables and scratch space are.

use crate::{Cancel, Observer, Secrets, Silent};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// The environment as a value, so that no library reads the process's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Takes the variables as given.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(variables.into_iter().collect())
    }

    /// Returns a variable; an empty one counts as unset.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Returns all variables in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// A folder for short-lived files, mode 0700 to whoever creates something in it. It need not exist yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScratchDir(PathBuf);

impl ScratchDir {
    /// Names the folder.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Returns the folder.
    pub fn path(&self) -> &std::path::Path {
        &self.0
    }
}

/// What an engine's call needs of its surroundings. Cheap to clone; all clones share observer and cancellation.
#[derive(Clone)]
pub struct Context {
    /// Whom to tell about progress.
    pub observer: Arc<dyn Observer>,
    /// When to stop.
    pub cancel: Cancel,
    /// Where secrets are resolved.
    pub secrets: Arc<dyn Secrets>,
    /// The environment variables.
    pub environment: Environment,
    /// Where short-lived files go.
    pub scratch: ScratchDir,
}

impl Context {
    /// Makes a context that tells nobody, has no secrets and no variables.
    pub fn quiet(scratch: ScratchDir) -> Self {
        Self {
            observer: Arc::new(Silent),
            cancel: Cancel::new(),
            secrets: Arc::new(crate::NoSecrets),
            environment: Environment::default(),
            scratch,
        }
    }
}
