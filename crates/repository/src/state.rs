//! What a repository keeps beside backups: small records of every host that writes, of which the newest counts.
//!
//! Records are added and never changed; a newer one about the same subject takes the place of the older one. So several
//! writers need not know of each other, and after a crash either all records of an append are there or none.

use crate::{
    AcceptanceRecord, BackupId, CheckRecord, ConfigurationRecord, ConfirmationRecord, LossRecord, PackRecord,
    ProofRecord,
};
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, btree_map};

/// A record of state: it has a subject, and a time by which the newer of two is known.
pub trait StateRecord: Serialize + DeserializeOwned {
    /// What a record is about.
    type Subject: Ord;

    /// Returns what it is about.
    fn subject(&self) -> Self::Subject;

    /// Returns when it was made.
    fn time(&self) -> Timestamp;
}

impl StateRecord for ProofRecord {
    type Subject = BackupId;

    fn subject(&self) -> BackupId {
        self.backup.clone()
    }

    fn time(&self) -> Timestamp {
        self.time
    }
}

impl StateRecord for AcceptanceRecord {
    type Subject = BackupId;

    fn subject(&self) -> BackupId {
        self.backup.clone()
    }

    fn time(&self) -> Timestamp {
        self.time
    }
}

impl StateRecord for PackRecord {
    type Subject = String;

    fn subject(&self) -> String {
        self.pack.clone()
    }

    fn time(&self) -> Timestamp {
        self.time
    }
}

impl StateRecord for LossRecord {
    type Subject = String;

    fn subject(&self) -> String {
        self.snapshot.clone()
    }

    fn time(&self) -> Timestamp {
        self.time
    }
}

impl StateRecord for ConfigurationRecord {
    /// Host and file.
    type Subject = (String, String);

    fn subject(&self) -> (String, String) {
        (self.host.clone(), self.file.clone())
    }

    fn time(&self) -> Timestamp {
        self.time
    }
}

impl StateRecord for ConfirmationRecord {
    /// The key.
    type Subject = String;

    fn subject(&self) -> String {
        self.key.clone()
    }

    fn time(&self) -> Timestamp {
        self.time
    }
}

impl StateRecord for CheckRecord {
    /// There is one of them.
    type Subject = ();

    fn subject(&self) {}

    fn time(&self) -> Timestamp {
        self.time
    }
}

/// The newest record of each subject, in the order of the subjects.
#[derive(Debug, Clone, PartialEq)]
pub struct Records<T: StateRecord>(BTreeMap<T::Subject, T>);

impl<T: StateRecord> Default for Records<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: StateRecord> Records<T> {
    /// Adds a record, unless one of its subject is known that is as new.
    pub fn add(&mut self, record: T) {
        match self.0.entry(record.subject()) {
            btree_map::Entry::Occupied(known) if known.get().time() >= record.time() => {}
            btree_map::Entry::Occupied(mut known) => drop(known.insert(record)),
            btree_map::Entry::Vacant(free) => drop(free.insert(record)),
        }
    }

    /// Returns the record of a subject.
    pub fn get(&self, subject: &T::Subject) -> Option<&T> {
        self.0.get(subject)
    }

    /// Returns the records.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.values()
    }

    /// Tells whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: StateRecord> Extend<T> for Records<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, records: I) {
        records.into_iter().for_each(|record| self.add(record));
    }
}

impl<T: StateRecord> FromIterator<T> for Records<T> {
    fn from_iter<I: IntoIterator<Item = T>>(records: I) -> Self {
        let mut all = Self::default();
        all.extend(records);
        all
    }
}

impl<T: StateRecord> IntoIterator for Records<T> {
    type Item = T;
    type IntoIter = btree_map::IntoValues<T::Subject, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_values()
    }
}

/// All records of a repository, by kind.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// What verifications and checks said of backups.
    pub proofs: Records<ProofRecord>,
    /// What was suspect, and its owner accepted.
    pub acceptances: Records<AcceptanceRecord>,
    /// How far the checks came that read a part.
    pub checks: Records<CheckRecord>,
    /// The configurations that backups were made by.
    pub configurations: Records<ConfigurationRecord>,
    /// The keys of which a copy was seen to open the repository.
    pub confirmations: Records<ConfirmationRecord>,
    /// The packs that were found damaged.
    pub packs: Records<PackRecord>,
    /// The snapshots that need what no pack holds.
    pub losses: Records<LossRecord>,
}

impl State {
    /// Adds the records of another one.
    pub fn extend(&mut self, other: Self) {
        self.proofs.extend(other.proofs);
        self.acceptances.extend(other.acceptances);
        self.checks.extend(other.checks);
        self.configurations.extend(other.configurations);
        self.confirmations.extend(other.confirmations);
        self.packs.extend(other.packs);
        self.losses.extend(other.losses);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn record(file: &str, second: i64, text: &str) -> ConfigurationRecord {
        ConfigurationRecord {
            host: "h".to_owned(),
            file: file.to_owned(),
            time: Timestamp::from_second(second).unwrap(),
            text: text.to_owned(),
            repository: None,
            key_file: None,
        }
    }

    #[test]
    fn the_newest_record_of_a_subject_counts_in_whatever_order_they_come() {
        let records = [record("a", 1, "old"), record("b", 1, "other"), record("a", 2, "new")];
        let mut reversed = records.clone();
        reversed.reverse();
        for records in [records, reversed] {
            let known: Records<_> = records.into_iter().collect();
            let texts: Vec<&str> = known.iter().map(|record| record.text.as_str()).collect();
            assert_eq!(texts, ["new", "other"]);
        }
    }
}
