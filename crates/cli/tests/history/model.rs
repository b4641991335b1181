//! The naive model of a repository: which backups there are, of which database, and what each holds.

use std::collections::{BTreeMap, BTreeSet};

/// One backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Backup {
    pub(crate) id: String,
    pub(crate) database: usize,
    pub(crate) content: String,
}

/// The backups, as they were listed last.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) backups: Vec<Backup>,
}

/// What a step may have done: backups that may be new, by database and content, and those that may be gone.
#[derive(Debug, Default)]
pub(crate) struct Leave {
    pub(crate) add: Vec<(usize, String)>,
    pub(crate) go: BTreeSet<String>,
}

impl Model {
    pub(crate) fn of(&self, database: usize) -> impl Iterator<Item = &Backup> {
        self.backups.iter().filter(move |backup| backup.database == database)
    }

    /// The backups that a prune removes which keeps so many of a database, `more` of which are being made.
    pub(crate) fn beyond(&self, database: usize, keep: usize, more: usize) -> BTreeSet<String> {
        let all: Vec<&Backup> = self.of(database).collect();
        let end = (all.len() + more).saturating_sub(keep).min(all.len());
        all[..end].iter().map(|backup| backup.id.clone()).collect()
    }

    /// Takes over what is listed now, by id and database. Each new one must be allowed, and so must each that is gone;
    /// returns how many of either there were.
    pub(crate) fn take(&mut self, listed: &[(String, usize)], leave: Leave, at: &str) -> (usize, usize) {
        let mut known: BTreeMap<String, Backup> =
            self.backups.drain(..).map(|backup| (backup.id.clone(), backup)).collect();
        let mut may_come = leave.add;
        let mut new = 0;
        for (id, database) in listed {
            if let Some(backup) = known.remove(id) {
                self.backups.push(backup);
                continue;
            }
            let place = may_come.iter().position(|(of, _)| of == database);
            let place =
                place.unwrap_or_else(|| panic!("{at}: {id} of database {database} came from nowhere"));
            let (database, content) = may_come.remove(place);
            self.backups.push(Backup { id: id.clone(), database, content });
            new += 1;
        }
        for id in known.keys() {
            assert!(leave.go.contains(id), "{at}: {id} is gone");
        }
        (new, known.len())
    }
}
