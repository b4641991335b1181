//! Where this program keeps things: by the XDG variables, or under `/var/lib/backstay` where there is no home.

use flow::Environment;
use std::path::{Path, PathBuf};

/// The folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places {
    /// `…/backstay`: the configuration, and `keys` below it.
    pub(crate) config: PathBuf,
    /// `…/backstay`: the default repository below it.
    pub(crate) data: PathBuf,
    /// `…/backstay`: the journal below it.
    pub(crate) state: PathBuf,
    /// `…/backstay`: caches and scratch.
    pub(crate) cache: PathBuf,
    /// The home folder, where there is one.
    pub(crate) home: Option<PathBuf>,
}

impl Places {
    pub(crate) fn new(environment: &Environment) -> Self {
        let absolute =
            |name: &str| environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = absolute("HOME");
        let folder = |variable: &str, below_home: &str, without_home: &str| {
            absolute(variable)
                .or_else(|| home.as_ref().map(|home| home.join(below_home)))
                .map(|folder| folder.join("backstay"))
                .unwrap_or_else(|| Path::new("/var/lib/backstay").join(without_home))
        };
        Self {
            config: folder("XDG_CONFIG_HOME", ".config", "config"),
            data: folder("XDG_DATA_HOME", ".local/share", ""),
            state: folder("XDG_STATE_HOME", ".local/state", "state"),
            cache: folder("XDG_CACHE_HOME", ".cache", "cache"),
            home,
        }
    }

    /// Returns the repository that is used where none is named.
    pub(crate) fn default_repository(&self) -> PathBuf {
        self.data.join("repository")
    }

    /// Returns the folder of key files.
    pub(crate) fn keys(&self) -> PathBuf {
        self.config.join("keys")
    }

    /// Returns the key file of a repository.
    pub(crate) fn key_file(&self, repository_id: &str) -> PathBuf {
        self.keys().join(format!("{repository_id}.key"))
    }

    /// Returns the journal.
    pub(crate) fn journal(&self) -> PathBuf {
        self.state.join("journal.db")
    }

    /// Returns the file that remembers which repository lies where.
    pub(crate) fn known_repositories(&self) -> PathBuf {
        self.state.join("repositories.json")
    }

    /// Returns the folder for short-lived files.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.cache.join("scratch")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(variables: &[(&str, &str)]) -> Places {
        let own = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Places::new(&Environment::new(own))
    }

    #[test]
    fn variables_come_first_then_the_home_then_the_machine() {
        let given = places(&[("HOME", "/h"), ("XDG_DATA_HOME", "/d"), ("XDG_CONFIG_HOME", "relative")]);
        assert_eq!(given.default_repository(), Path::new("/d/backstay/repository"));
        assert_eq!(given.key_file("ab"), Path::new("/h/.config/backstay/keys/ab.key"));
        assert_eq!(given.journal(), Path::new("/h/.local/state/backstay/journal.db"));
        let none = places(&[]);
        assert_eq!(none.default_repository(), Path::new("/var/lib/backstay/repository"));
        assert_eq!(none.key_file("ab"), Path::new("/var/lib/backstay/config/keys/ab.key"));
    }
}
