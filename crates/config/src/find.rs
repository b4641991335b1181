//! Which configuration file is used: the first of a fixed list that is there. Nothing is merged.

use crate::ConfigError;
use std::path::{Path, PathBuf};

/// Where a configuration file may lie. Whoever calls knows the environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// The file that `--config` or `BACKSTAY_CONFIG` names. It must be there.
    pub named: Option<PathBuf>,
    /// The working folder.
    pub working_folder: PathBuf,
    /// The user's configuration folder (`$XDG_CONFIG_HOME/backstay`).
    pub user_folder: PathBuf,
    /// The machine's configuration folder (`/etc/backstay`).
    pub machine_folder: PathBuf,
}

impl Places {
    /// Returns the files that are looked for where none is named, in their order.
    pub fn candidates(&self) -> [PathBuf; 3] {
        [
            self.working_folder.join("backstay.toml"),
            self.user_folder.join("config.toml"),
            self.machine_folder.join("config.toml"),
        ]
    }
}

/// Returns the configuration file to use, `None` where there is none. One that is named and missing is an error, and
/// so is one that is there and cannot be looked at: it is never passed over.
pub fn find(places: &Places) -> Result<Option<PathBuf>, ConfigError> {
    if let Some(named) = &places.named {
        let named = places.working_folder.join(named);
        return match exists(&named)? {
            true => Ok(Some(named)),
            false => Err(ConfigError::new(named, "there is no such file")
                .hint("`backstay init` writes a configuration".to_owned())),
        };
    }
    for candidate in places.candidates() {
        if exists(&candidate)? {
            return Ok(Some(candidate));
        }
    }
    Ok(None)
}

fn exists(path: &Path) -> Result<bool, ConfigError> {
    path.try_exists().map_err(|error| {
        let mut refusal = ConfigError::new(path, "the file cannot be looked at");
        refusal.hint = Some(crate::error::unreadable_hint(&error).to_owned());
        refusal.source = Some(error);
        refusal
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_that_is_there_wins_and_a_named_one_must_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let mut places = Places {
            named: None,
            working_folder: folder.path().join("w"),
            user_folder: folder.path().join("u"),
            machine_folder: folder.path().join("m"),
        };
        assert_eq!(find(&places).unwrap(), None);
        for (name, file) in [("m", "config.toml"), ("u", "config.toml"), ("w", "backstay.toml")] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
            std::fs::write(folder.path().join(name).join(file), "").unwrap();
            assert_eq!(find(&places).unwrap(), Some(folder.path().join(name).join(file)));
        }
        places.named = Some(PathBuf::from("other.toml"));
        assert!(find(&places).unwrap_err().to_string().contains("w/other.toml"));
    }
}
