//! What a repository keeps beside backups: small records of every host that writes, of which the newest counts.
//!
//! Records are added and never changed; a newer one about the same subject takes the place of the older one. So several
//! writers need not know of each other, and after a crash either all records of an append are there or none.

use crate::{
    AcceptanceRecord, BackupId, CheckRecord, ConfigurationRecord, ConfirmationRecord, LossRecord, PackRecord,
    ProofRecord,
};
use jiff::{SignedDuration, Timestamp};
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

    /// Says that it was made then.
    fn set_time(&mut self, time: Timestamp);
}

impl StateRecord for ProofRecord {
    type Subject = BackupId;

    fn subject(&self) -> BackupId {
        self.backup.clone()
    }

    fn time(&self) -> Timestamp {
        self.time
    }

    fn set_time(&mut self, time: Timestamp) {
        self.time = time;
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

    fn set_time(&mut self, time: Timestamp) {
        self.time = time;
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

    fn set_time(&mut self, time: Timestamp) {
        self.time = time;
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

    fn set_time(&mut self, time: Timestamp) {
        self.time = time;
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

    fn set_time(&mut self, time: Timestamp) {
        self.time = time;
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

    fn set_time(&mut self, time: Timestamp) {
        self.time = time;
    }
}

impl StateRecord for CheckRecord {
    /// There is one of them.
    type Subject = ();

    fn subject(&self) {}

    fn time(&self) -> Timestamp {
        self.time
    }

    fn set_time(&mut self, time: Timestamp) {
        self.time = time;
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

    /// Adds a record that is made now. It counts although one of its subject is known that is as new or newer: that one
    /// was made by a clock that was ahead, and what is said last is what is known.
    pub fn say(&mut self, mut record: T) {
        let known = self.0.get(&record.subject()).map(T::time);
        if let Some(known) = known.filter(|known| *known >= record.time()) {
            record.set_time(known.saturating_add(SignedDuration::from_nanos(1)).unwrap_or(known));
        }
        self.add(record);
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
    /// Adds records that are made now: each counts, whatever the clocks say.
    pub fn say(&mut self, new: Self) {
        new.proofs.into_iter().for_each(|record| self.proofs.say(record));
        new.acceptances.into_iter().for_each(|record| self.acceptances.say(record));
        new.checks.into_iter().for_each(|record| self.checks.say(record));
        new.configurations.into_iter().for_each(|record| self.configurations.say(record));
        new.confirmations.into_iter().for_each(|record| self.confirmations.say(record));
        new.packs.into_iter().for_each(|record| self.packs.say(record));
        new.losses.into_iter().for_each(|record| self.losses.say(record));
    }

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

    #[test]
    fn what_is_said_last_counts_although_an_earlier_clock_was_ahead() {
        let mut state = State::default();
        for (second, text) in
            [(3600, "by a clock that is ahead"), (10, "by the right one"), (11, "after that")]
        {
            let configurations = [record("a", second, text)].into_iter().collect();
            state.say(State { configurations, ..State::default() });
            let texts: Vec<&str> = state.configurations.iter().map(|record| record.text.as_str()).collect();
            assert_eq!(texts, [text]);
        }
    }

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
