//! Patterns: which names a person means by `*.db.gz`, and which files by `/srv/dumps/acme-*.sql`.
//!
//! As in a shell: `*` and `?` mean no slash, `{a,b}` and `[0-9]` work, and what begins with a dot is meant only where
//! the pattern says so. Looks, and changes nothing.

use crate::OperationError;
use globset::{Glob, GlobBuilder, GlobMatcher};
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

/// A pattern of file names.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    matcher: GlobMatcher,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Pattern {
    /// Reads a pattern as a person writes it.
    pub fn parse(text: &str) -> Result<Self, OperationError> {
        let refused = |problem: &str| {
            OperationError::usage(
                format!("`{text}` is no pattern of file names: {problem}"),
                "write one as in *.sql.gz or acme-*.dump, in quotes".to_owned(),
            )
        };
        if text.is_empty() || text.contains('/') {
            return Err(refused("it has a slash, or is empty"));
        }
        let matcher = glob(text).map_err(|error| refused(&error.kind().to_string()))?.compile_matcher();
        Ok(Self { text: text.to_owned(), matcher })
    }

    /// Tells whether a name fits.
    pub fn matches(&self, name: &str) -> bool {
        self.matcher.is_match(name) && (!name.starts_with('.') || self.text.starts_with('.'))
    }

    /// Tells whether it says how the names end, as `*.tgz` does and `weekly-*` does not.
    pub(super) fn says_the_ending(&self) -> bool {
        self.text
            .rsplit_once('.')
            .is_some_and(|(_, ending)| !ending.is_empty() && !is_pattern(ending.as_ref()))
    }
}

fn glob(text: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(text).literal_separator(true).backslash_escape(true).build()
}

/// Tells whether a name has a sign that means others.
pub(super) fn is_pattern(name: &OsStr) -> bool {
    name.as_encoded_bytes().iter().any(|byte| matches!(byte, b'*' | b'?' | b'[' | b'{'))
}

/// Returns what a path with patterns in it means, in the order of the names; `None` where it has none, or is itself the
/// name of something.
pub fn expand(path: &Path) -> Option<Vec<PathBuf>> {
    if path.symlink_metadata().is_ok() || !path.components().any(|part| is_pattern(part.as_os_str())) {
        return None;
    }
    let mut found = vec![PathBuf::new()];
    for part in path.components() {
        match part {
            Component::Normal(name) if is_pattern(name) => {
                found = found.iter().flat_map(|folder| members(folder, name)).collect();
            }
            other => found.iter_mut().for_each(|path| path.push(other)),
        }
    }
    found.retain(|path| path.symlink_metadata().is_ok());
    found.sort();
    Some(found)
}

fn members(folder: &Path, name: &OsStr) -> Vec<PathBuf> {
    let Some(pattern) = name.to_str().and_then(|text| Pattern::parse(text).ok()) else { return vec![] };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let fits = |name: &OsStr| name.to_str().is_some_and(|name| pattern.matches(name));
    entries.map(|entry| entry.file_name()).filter(|name| fits(name)).map(|name| folder.join(name)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn patterns_mean_names_as_in_a_shell() {
        let fits = |pattern: &str, name: &str| Pattern::parse(pattern).unwrap().matches(name);
        assert!(fits("*.db", "a b.db") && fits("*.db", "a\nb.db") && fits("a?[0-9].{db,sql}", "ab7.sql"));
        assert!(!fits("*.db", "a.db.gz") && !fits("*", ".hidden") && fits(".*", ".hidden"));
        for bad in ["", "a/*.db", "[", "{a"] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
        assert!(Pattern::parse("*.tgz").unwrap().says_the_ending());
        assert!(!Pattern::parse("weekly-*").unwrap().says_the_ending());
        assert!(!Pattern::parse("*.*").unwrap().says_the_ending());
    }

    #[test]
    fn a_path_with_patterns_means_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for name in ["a/x.db", "b/x.db", "b/y.sql", ".c/x.db", "odd*.db"] {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let found = |pattern: &str| {
            let found = expand(&root.join(pattern))?;
            let name = |path: &PathBuf| path.strip_prefix(root).unwrap().display().to_string();
            Some(found.iter().map(name).collect::<Vec<_>>())
        };
        assert_eq!(found("*/x.db").unwrap(), ["a/x.db", "b/x.db"]);
        assert_eq!(found("b/*.sql").unwrap(), ["b/y.sql"]);
        assert_eq!(found("b/*.gz").unwrap(), Vec::<String>::new());
        assert_eq!(found("odd*.db"), None, "a file may be called so");
        assert_eq!(found("a/x.db"), None);
    }
}
