//! Which arguments of `prune` are folders of dump files, and which folders are refused: a repository, and what is or
//! contains a source of the configuration or of a known backup. Looks, and changes nothing.

use crate::errors::Failure;
use crate::opening::{self, Place};
use crate::session::Session;
use config::{RepositoryLayout, SourceArgument};
use flow::{EngineKind, quoted};
use operations::dump_files;
use repository::{BackupRecord, Wanted};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The sources that are known: of the configuration, and of the backups that can be listed without asking for a password.
pub(crate) struct KnownSources {
    configured: BTreeSet<String>,
    backed_up: BTreeSet<String>,
}

/// Tells whether an argument is the path of a folder that is there.
pub(crate) fn is_folder(source: &SourceArgument<'_>) -> bool {
    source.configured.is_none()
        && source.target.engine == EngineKind::Sqlite
        && Path::new(&source.target.connection).is_dir()
}

impl KnownSources {
    /// Looks at the configuration, and at the repositories that it names, that were asked for, or that is the default.
    pub(crate) fn look(session: &Session) -> Result<Self, Failure> {
        let targets = session.settings.targets.values();
        let of_files = targets.filter(|target| target.target.engine == EngineKind::Sqlite);
        let configured = of_files.map(|target| target.target.connection.replace("{tenant}", "*")).collect();
        let mut known = Self { configured, backed_up: BTreeSet::new() };
        let mut places: Vec<Place> = opening::asked_for(session)?.into_iter().collect();
        places.extend(session.settings.repositories.values().cloned().map(Place::named));
        places.extend(opening::default_place(session).ok());
        let mut seen = BTreeSet::new();
        places.retain(|place| seen.insert(place.repository.path.clone()));
        for place in places {
            known.add_backups(session, &place)?;
        }
        Ok(known)
    }

    fn add_backups(&mut self, session: &Session, place: &Place) -> Result<(), Failure> {
        let of_files = place.repository.layout != RepositoryLayout::Restic;
        if of_files || !opening::is_there(session, &place.repository.path)? {
            return Ok(());
        }
        let unknown = |why: &str| {
            let path = place.repository.path.display();
            session.console.warn(
                &format!("{path}: {why}, so what it holds backups of was not looked at"),
                Some("nothing goes but what is a backup by its name, and never a database that is in use"),
            );
        };
        let Some(opened) = opening::open_without_asking(session, place)? else {
            unknown("this repository has another password");
            return Ok(());
        };
        let mut take = |record: BackupRecord| {
            let ours = record.host == session.host && !record.is_imported();
            if ours && record.engine == Some(EngineKind::Sqlite) {
                self.backed_up.insert(record.connection.to_string());
                // Of a folder or a pattern the target has the name.
                self.backed_up.insert(record.target.to_string());
            }
        };
        if let Err(error) = opened.repository.each_backup(&Wanted::All, &session.context, &mut take) {
            unknown(&format!("this repository cannot be listed ({error})"));
        }
        Ok(())
    }

    /// Tells whether there are backups of what this very folder holds.
    pub(crate) fn has_backups_of(&self, folder: &Path) -> bool {
        folder.to_str().is_some_and(|folder| self.backed_up.contains(folder))
    }

    /// Fails where a folder may not be pruned.
    pub(crate) fn refuse(&self, session: &Session, folder: &Path) -> Result<(), Failure> {
        if opening::is_there(session, folder)? && folder.join("snapshots").is_dir() {
            return Err(Failure::usage(
                format!("{} is no folder of dump files", folder.display()),
                format!(
                    "it is a repository: backstay prune --repository {} --keep-daily 7 --dry-run",
                    quoted(&folder.display().to_string())
                ),
            ));
        }
        let all = self.configured.iter().map(|source| (source, "configured source"));
        let all = all.chain(self.backed_up.iter().map(|source| (source, "source of backups")));
        for (source, what) in all {
            if let Some(inside) = inside(folder, source) {
                return Err(Failure::usage(
                    format!(
                        "{} is or contains a {what}: {}; nothing in it is removed",
                        folder.display(),
                        inside.display()
                    ),
                    "keep dump files in a folder of their own, and prune that one",
                ));
            }
        }
        Ok(())
    }
}

/// Returns what of a source lies in a folder or below it.
fn inside(folder: &Path, source: &str) -> Option<PathBuf> {
    let path = Path::new(source);
    if !path.is_absolute() {
        return None;
    }
    let mut literal = PathBuf::new();
    for part in path.components() {
        if part.as_os_str().as_encoded_bytes().iter().any(|byte| matches!(byte, b'*' | b'?' | b'[' | b'{')) {
            break;
        }
        literal.push(part);
    }
    if literal.starts_with(folder) {
        return Some(path.to_owned());
    }
    if !folder.starts_with(&literal) {
        return None;
    }
    dump_files::expand(path)?.into_iter().find(|found| found.starts_with(folder))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_of_a_source_lies_in_a_folder_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("shops/a")).unwrap();
        std::fs::create_dir_all(root.join("dumps")).unwrap();
        std::fs::write(root.join("shops/a/app.db"), "").unwrap();
        let is_inside = |folder: &str, source: &str| {
            inside(&root.join(folder), &root.join(source).display().to_string()).is_some()
        };
        assert!(is_inside("shops", "shops"));
        assert!(is_inside("shops", "shops/a/app.db"));
        assert!(is_inside("", "shops/a/app.db"));
        assert!(is_inside("shops", "shops/*.db"));
        assert!(is_inside("shops/a", "shops/*/app.db"));
        assert!(is_inside("shops", "*/*/app.db"));
        assert!(!is_inside("dumps", "*/*/app.db"));
        assert!(!is_inside("dumps", "shops"));
        assert!(!is_inside("shops/a", "shops"), "a folder is no source of what is below it");
        assert!(!is_inside("shops", "shops2/app.db"));
        assert!(inside(&root, "postgres://db/erp").is_none());
    }
}
