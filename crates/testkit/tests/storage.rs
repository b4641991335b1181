//! The storage suite on storages that keep every promise, and on mutants that break one each.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use storage::{Given, ObjectName, ObjectStat, Storage, StorageError, StorageErrorKind};
use testkit::{
    Fault, FaultyStorage, FreshStorage, MemoryStorage, RecordingStorage, Verb, assert_caught,
    broken_storage_promises, storage_conformance,
};

/// How a mutant differs from a storage that keeps its promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    FirstPieceOnly,
    Replaces,
    ReplacesAndRefuses,
    Forgets,
    EveryPutWins,
    LosesUnderLoad,
    FailsInsteadOfMissing,
    Anonymous,
    ShiftsRanges,
    ShortRanges,
    WrongLength,
    Unordered,
    MatchesPrefix,
    RefusesMissingFolder,
    RemoveDoesNothing,
    KeepsNameForEver,
    ConfirmsNothing,
    ConfirmsAll,
    PutsWholeBuffers,
    ConfirmsAllGiven,
}

struct Mutant {
    inner: Arc<MemoryStorage>,
    flaw: Flaw,
}

impl Storage for Mutant {
    fn put(&self, name: &ObjectName, content: &[&[u8]]) -> Result<(), StorageError> {
        let result = match self.flaw {
            Flaw::FirstPieceOnly => self.inner.put(name, &content[..content.len().min(1)]),
            Flaw::LosesUnderLoad if name.as_str().starts_with("data/0f/3") => Ok(()),
            _ => self.inner.put(name, content),
        };
        let exists = result.as_ref().is_err_and(|error| error.kind == StorageErrorKind::Exists);
        match self.flaw {
            Flaw::Replaces | Flaw::ReplacesAndRefuses if exists => {
                self.inner.tamper(name, |old| *old = content.concat());
                if self.flaw == Flaw::Replaces { Ok(()) } else { result }
            }
            Flaw::EveryPutWins if exists => Ok(()),
            Flaw::Anonymous => {
                result.map_err(|error| StorageError { object: "an object".to_owned(), ..error })
            }
            _ => result,
        }
    }

    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StorageError> {
        let result = self.inner.get(name);
        match self.flaw {
            Flaw::FailsInsteadOfMissing => {
                result.map_err(|error| StorageError { kind: StorageErrorKind::Failed, ..error })
            }
            _ => result,
        }
    }

    fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StorageError> {
        match self.flaw {
            Flaw::ShiftsRanges if range.start > 0 && range.start < range.end => {
                self.inner.get_range(name, range.start - 1..range.end - 1)
            }
            Flaw::ShortRanges => {
                let end = range.end.min(self.inner.stat(name)?.size_bytes);
                self.inner.get_range(name, range.start.min(end)..end)
            }
            _ => self.inner.get_range(name, range),
        }
    }

    fn stat(&self, name: &ObjectName) -> Result<ObjectStat, StorageError> {
        let mut stat = self.inner.stat(name)?;
        stat.size_bytes += u64::from(self.flaw == Flaw::WrongLength);
        Ok(stat)
    }

    fn list(&self, folder: &str) -> Result<Vec<ObjectStat>, StorageError> {
        let mut all = self.inner.list("")?;
        match self.flaw {
            Flaw::Unordered => all.reverse(),
            Flaw::MatchesPrefix => all.retain(|object| object.name.as_str().starts_with(folder)),
            Flaw::RefusesMissingFolder if all.is_empty() => {
                self.inner.stat(&ObjectName::new(format!("{folder}/x"))?)?;
            }
            _ => all = self.inner.list(folder)?,
        }
        Ok(all)
    }

    fn remove(&self, name: &ObjectName) -> Result<(), StorageError> {
        match self.flaw {
            Flaw::RemoveDoesNothing => self.inner.stat(name).map(drop),
            Flaw::KeepsNameForEver if name.as_str().starts_with("locks") => Ok(()),
            _ => self.inner.remove(name),
        }
    }

    fn confirm(&self, name: &ObjectName, sha256: &[u8; 32]) -> Result<(), StorageError> {
        match self.flaw {
            Flaw::ConfirmsNothing => self.inner.confirm(name, &[0; 32]),
            Flaw::ConfirmsAll => self.inner.stat(name).map(drop),
            _ => self.inner.confirm(name, sha256),
        }
    }

    fn put_given(&self, name: &ObjectName, content: Vec<Given>) -> (Result<(), StorageError>, Vec<Given>) {
        let whole = self.flaw == Flaw::PutsWholeBuffers;
        let slices: Vec<&[u8]> =
            content.iter().map(|given| if whole { &given.bytes[..] } else { given.meant() }).collect();
        (self.put(name, &slices), content)
    }

    fn confirm_given(
        &self,
        name: &ObjectName,
        sha256: &[u8; 32],
        content: Vec<Given>,
    ) -> (Result<(), StorageError>, Vec<Given>) {
        let confirmed = match self.flaw {
            Flaw::ConfirmsAllGiven => self.inner.stat(name).map(drop),
            _ => self.confirm(name, sha256),
        };
        (confirmed, content)
    }

    fn free_bytes(&self) -> Option<u64> {
        None
    }

    fn location(&self) -> String {
        self.inner.location()
    }
}

fn memory() -> FreshStorage {
    let storage = Arc::new(MemoryStorage::new());
    let again = storage.clone();
    FreshStorage::new(storage, ()).reopened_by(move || again.clone())
}

fn mutant(flaw: Flaw) -> FreshStorage {
    let inner = Arc::new(MemoryStorage::new());
    let again: Arc<dyn Storage> =
        if flaw == Flaw::Forgets { Arc::new(MemoryStorage::new()) } else { inner.clone() };
    FreshStorage::new(Arc::new(Mutant { inner, flaw }), ()).reopened_by(move || again.clone())
}

#[test]
fn memory_and_decorators_keep_every_promise() {
    storage_conformance(memory);
    let decorated = || {
        let recording = RecordingStorage::new(Arc::new(MemoryStorage::new()));
        FreshStorage::new(Arc::new(FaultyStorage::new(Arc::new(recording))), ())
    };
    storage_conformance(decorated);
}

#[test]
fn each_mutant_is_caught() {
    let flaws = [
        (Flaw::FirstPieceOnly, "put stores the concatenation"),
        (Flaw::Replaces, "put refuses a name that is taken"),
        (Flaw::ReplacesAndRefuses, "a refused put keeps the old content"),
        (Flaw::Forgets, "put is seen by who opens later"),
        (Flaw::EveryPutWins, "of many puts of one name one wins, whole"),
        (Flaw::LosesUnderLoad, "many threads at once"),
        (Flaw::FailsInsteadOfMissing, "what is missing is Missing"),
        (Flaw::Anonymous, "an error names object and verb"),
        (Flaw::ShiftsRanges, "get_range returns exactly the range"),
        (Flaw::ShortRanges, "a range beyond the end is an error"),
        (Flaw::WrongLength, "stat tells the length"),
        (Flaw::Unordered, "list is in the order of names"),
        (Flaw::MatchesPrefix, "list holds what begins with the folder"),
        (Flaw::RefusesMissingFolder, "a missing folder is empty"),
        (Flaw::RemoveDoesNothing, "remove removes"),
        (Flaw::KeepsNameForEver, "a removed name is free"),
        (Flaw::ConfirmsNothing, "confirm accepts what was put"),
        (Flaw::ConfirmsAll, "confirm refuses another hash"),
        (Flaw::PutsWholeBuffers, "put_given stores what is meant, and gives it back"),
        (Flaw::ConfirmsAllGiven, "confirm_given accepts what was put and refuses another content"),
    ];
    for (flaw, promise) in flaws {
        assert_caught(&broken_storage_promises(|| mutant(flaw)), promise);
    }
}

#[test]
fn planned_faults_happen_once_and_lies_are_found_by_confirm() {
    let storage = FaultyStorage::new(Arc::new(MemoryStorage::new()));
    let name = |name: &str| ObjectName::new(name).unwrap();
    let hash = |content: &[u8]| -> [u8; 32] { <sha2::Sha256 as sha2::Digest>::digest(content).into() };
    storage.plan(Verb::Put, "data", 1, Fault::Fail(StorageErrorKind::Denied));
    storage.put(&name("data/a"), &[b"a"]).unwrap();
    assert_eq!(storage.put(&name("data/b"), &[b"b"]).unwrap_err().kind, StorageErrorKind::Denied);
    storage.put(&name("data/b"), &[b"b"]).unwrap();
    let lies = [
        (Fault::StoreNothing, StorageErrorKind::Missing),
        (Fault::Cut, StorageErrorKind::Damaged),
        (Fault::Garble, StorageErrorKind::Damaged),
    ];
    for (number, (fault, kind)) in lies.into_iter().enumerate() {
        let object = name(&format!("lie-{number}"));
        storage.plan(Verb::Put, "lie", 0, fault);
        storage.put(&object, &[b"content"]).unwrap();
        assert_eq!(storage.confirm(&object, &hash(b"content")).unwrap_err().kind, kind);
    }
    storage.plan(Verb::Put, "", 0, Fault::FailAfter);
    storage.put(&name("lost-answer"), &[b"x"]).unwrap_err();
    assert_eq!(storage.get(&name("lost-answer")).unwrap(), b"x");
    storage.limit_space(10);
    storage.put(&name("fits"), &[&[0; 10]]).unwrap();
    assert_eq!(storage.put(&name("full"), &[b"x"]).unwrap_err().kind, StorageErrorKind::Full);
    storage.heal();
    storage.put(&name("full"), &[b"x"]).unwrap();
    assert_eq!(storage.happened(), 6);
}

#[test]
fn a_call_hangs_until_it_is_released() {
    let storage = FaultyStorage::new(Arc::new(MemoryStorage::new()));
    let name = ObjectName::new("a").unwrap();
    storage.plan(Verb::Put, "", 0, Fault::Hang);
    std::thread::scope(|scope| {
        let put = scope.spawn(|| storage.put(&name, &[b"x"]));
        storage.wait_until_hanging();
        std::thread::sleep(Duration::from_millis(20));
        assert!(!put.is_finished());
        storage.release();
        put.join().unwrap().unwrap();
    });
    assert_eq!(storage.get(&name).unwrap(), b"x");
}

#[test]
fn chance_is_reproducible() {
    let outcomes = |seed| -> Vec<bool> {
        let storage = FaultyStorage::new(Arc::new(MemoryStorage::new()));
        storage.fail_by_chance(seed, 3);
        let put = |n| storage.put(&ObjectName::new(format!("o{n}")).unwrap(), &[b"x"]).is_ok();
        (0..50).map(put).collect()
    };
    assert_eq!(outcomes(7), outcomes(7));
    assert_ne!(outcomes(7), outcomes(8));
    assert!(outcomes(7).contains(&true) && outcomes(7).contains(&false));
}

#[test]
#[should_panic(expected = "data/a")]
fn a_recording_tells_what_was_put() {
    let storage = RecordingStorage::new(Arc::new(MemoryStorage::new()));
    storage.put(&ObjectName::new("data/a").unwrap(), &[b"abc"]).unwrap();
    assert_eq!((storage.bytes(Verb::Put, "data/"), storage.bytes(Verb::Put, "index/")), (3, 0));
    storage.assert_none(Verb::Put, "index/");
    storage.assert_none(Verb::Get, "");
    storage.assert_none(Verb::Put, "data/");
}
