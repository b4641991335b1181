//! The conformance suite of [`Storage`]: one check for each promise of its documentation.

use crate::suite::{Broken, Outcome, Random, demand, ensure, run, text};
use sha2::{Digest, Sha256};
use std::any::Any;
use std::sync::Arc;
use storage::{Given, ObjectName, Storage, StorageError, StorageErrorKind};

/// An empty storage to be tried, and what keeps it alive.
pub struct FreshStorage {
    storage: Arc<dyn Storage>,
    reopen: Option<Box<dyn Fn() -> Arc<dyn Storage> + Sync>>,
    _keep: Box<dyn Any + Sync>,
}

impl FreshStorage {
    /// Takes an empty storage, and what must not be dropped before it (a temporary folder).
    pub fn new(storage: Arc<dyn Storage>, keep: impl Any + Sync) -> Self {
        Self { storage, reopen: None, _keep: Box::new(keep) }
    }

    /// Adds how the same place is opened a second time.
    pub fn reopened_by(mut self, reopen: impl Fn() -> Arc<dyn Storage> + Sync + 'static) -> Self {
        self.reopen = Some(Box::new(reopen));
        self
    }
}

/// Panics unless the storages that `make` makes keep every promise.
#[track_caller]
pub fn storage_conformance(make: impl Fn() -> FreshStorage) {
    demand(&broken_storage_promises(make));
}

/// Returns the promises that the storages that `make` makes do not keep.
pub fn broken_storage_promises(make: impl Fn() -> FreshStorage) -> Vec<Broken> {
    run(
        &make,
        &[
            ("put stores the concatenation", concatenation),
            ("put refuses a name that is taken", taken),
            ("a refused put keeps the old content", kept),
            ("put is seen by who opens later", reopened),
            ("of many puts of one name one wins, whole", race),
            ("many threads at once", many),
            ("what is missing is Missing", missing),
            ("an error names object and verb", named),
            ("get_range returns exactly the range", ranges),
            ("a range beyond the end is an error", beyond),
            ("stat tells the length", lengths),
            ("list is in the order of names", ordered),
            ("list holds what begins with the folder", within),
            ("a missing folder is empty", empty_folder),
            ("remove removes", removed),
            ("a removed name is free", freed),
            ("confirm accepts what was put", confirmed),
            ("confirm refuses another hash", refused),
            ("put_given stores what is meant, and gives it back", given),
            ("confirm_given accepts what was put and refuses another content", confirmed_given),
        ],
    )
}

fn name(name: &str) -> Result<ObjectName, String> {
    ObjectName::new(name).map_err(text)
}

fn put(subject: &FreshStorage, object: &str, content: &[u8]) -> Outcome {
    subject.storage.put(&name(object)?, &[content]).map_err(text)
}

fn get(subject: &FreshStorage, object: &str) -> Result<Vec<u8>, String> {
    subject.storage.get(&name(object)?).map_err(text)
}

fn kind<T>(result: Result<T, StorageError>) -> Option<StorageErrorKind> {
    result.err().map(|error| error.kind)
}

fn concatenation(subject: &FreshStorage) -> Outcome {
    let big = Random::new(1).bytes((3 << 20) + 1);
    let contents: [&[&[u8]]; 5] = [&[], &[b""], &[b"a", b"", b"bc"], &[&big], &[b"x", &big]];
    for (number, content) in contents.into_iter().enumerate() {
        let object = format!("data/{number:02}/object-{number}");
        subject.storage.put(&name(&object)?, content).map_err(text)?;
        ensure!(get(subject, &object)? == content.concat(), "content {number} came back changed");
    }
    Ok(())
}

fn taken(subject: &FreshStorage) -> Outcome {
    put(subject, "keys/one", b"first")?;
    let found = kind(subject.storage.put(&name("keys/one")?, &[b"second"]));
    ensure!(found == Some(StorageErrorKind::Exists), "the second put gave {found:?}");
    Ok(())
}

fn kept(subject: &FreshStorage) -> Outcome {
    put(subject, "keys/one", b"first")?;
    let _ = subject.storage.put(&name("keys/one")?, &[b"second"]);
    ensure!(get(subject, "keys/one")? == b"first", "the content was replaced");
    ensure!(subject.storage.list("").map_err(text)?.len() == 1, "something else is listed");
    Ok(())
}

fn reopened(subject: &FreshStorage) -> Outcome {
    put(subject, "data/ab/one", b"first")?;
    let Some(reopen) = &subject.reopen else { return Ok(()) };
    let found = reopen().get(&name("data/ab/one")?).map_err(text)?;
    ensure!(found == b"first", "another content");
    Ok(())
}

fn race(subject: &FreshStorage) -> Outcome {
    let object = name("data/ab/contested")?;
    let content = |number: u8| vec![number; 100_000 + usize::from(number)];
    let wins: Vec<Result<(), StorageError>> = std::thread::scope(|scope| {
        let put = |number| subject.storage.put(&object, &[&content(number)]);
        let threads: Vec<_> = (0..8).map(|number| scope.spawn(move || put(number))).collect();
        threads.into_iter().flat_map(std::thread::ScopedJoinHandle::join).collect()
    });
    let winners: Vec<usize> =
        wins.iter().enumerate().filter(|(_, won)| won.is_ok()).map(|(n, _)| n).collect();
    ensure!(winners.len() == 1, "{} puts succeeded", winners.len());
    let found = subject.storage.get(&object).map_err(text)?;
    ensure!(found == content(winners[0] as u8), "the content is not the winner's");
    Ok(())
}

fn many(subject: &FreshStorage) -> Outcome {
    let failures: Vec<String> = std::thread::scope(|scope| {
        let work = |thread: u8| -> Outcome {
            for number in 0..16_u8 {
                let object = format!("data/{number:02x}/{thread}-{number}");
                put(subject, &object, &[thread, number])?;
                ensure!(get(subject, &object)? == [thread, number], "{object} is another's");
            }
            Ok(())
        };
        let threads: Vec<_> = (0..4).map(|thread| scope.spawn(move || work(thread))).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()?.err()).collect()
    });
    ensure!(failures.is_empty(), "{}", failures.join(", "));
    let listed = subject.storage.list("data").map_err(text)?.len();
    ensure!(listed == 64, "{listed} objects are listed");
    Ok(())
}

fn missing(subject: &FreshStorage) -> Outcome {
    put(subject, "data/ab/there", b"x")?;
    for object in ["none", "data/ab/none", "data/cd/none", "data", "data/ab", "data/ab/there/below"] {
        let (object, storage) = (name(object)?, &subject.storage);
        let kinds = [
            ("get", kind(storage.get(&object))),
            ("get_range", kind(storage.get_range(&object, 0..0))),
            ("stat", kind(storage.stat(&object))),
            ("remove", kind(storage.remove(&object))),
            ("confirm", kind(storage.confirm(&object, &[0; 32]))),
        ];
        for (verb, kind) in kinds {
            ensure!(kind == Some(StorageErrorKind::Missing), "{verb} of {object} gave {kind:?}");
        }
    }
    Ok(())
}

fn named(subject: &FreshStorage) -> Outcome {
    put(subject, "data/ab/there", b"x")?;
    let (there, none, storage) = (name("data/ab/there")?, name("data/ab/none")?, &subject.storage);
    let errors = [
        ("put", &there, storage.put(&there, &[b"y"]).err()),
        ("get", &none, storage.get(&none).err()),
        ("get", &there, storage.get_range(&there, 0..9).err()),
        ("stat", &none, storage.stat(&none).err()),
        ("remove", &none, storage.remove(&none).err()),
        ("confirm", &there, storage.confirm(&there, &[0; 32]).err()),
    ];
    for (verb, object, error) in errors {
        let error = error.ok_or_else(|| format!("{verb} did not fail"))?;
        let fits = error.verb == verb && error.object.ends_with(object.as_str());
        ensure!(fits, "the error of {verb} of {object} is {error}");
    }
    Ok(())
}

fn ranges(subject: &FreshStorage) -> Outcome {
    let content = Random::new(2).bytes(100_000);
    put(subject, "data/ab/one", &content)?;
    for range in [0..100_000_usize, 0..0, 0..1, 99_999..100_000, 100_000..100_000, 4095..4097, 1..65_537] {
        let asked = range.start as u64..range.end as u64;
        let found = subject.storage.get_range(&name("data/ab/one")?, asked).map_err(text)?;
        ensure!(found == content[range.clone()], "the range {range:?} is another");
    }
    Ok(())
}

fn beyond(subject: &FreshStorage) -> Outcome {
    put(subject, "data/ab/one", b"0123456789")?;
    #[allow(clippy::reversed_empty_ranges, reason = "what is asked by mistake")]
    for range in [0..11, 10..11, 11..11, 11..12, 5..2, 0..u64::MAX, u64::MAX - 1..u64::MAX] {
        let found = kind(subject.storage.get_range(&name("data/ab/one")?, range.clone()));
        ensure!(found == Some(StorageErrorKind::Damaged), "the range {range:?} gave {found:?}");
    }
    Ok(())
}

fn lengths(subject: &FreshStorage) -> Outcome {
    for (object, size) in [("a", 0_usize), ("b", 1), ("data/ab/c", 70_000)] {
        put(subject, object, &vec![7; size])?;
        let stat = subject.storage.stat(&name(object)?).map_err(text)?;
        ensure!(stat.size_bytes == size as u64 && stat.name.as_str() == object, "{object}: {stat:?}");
        let listed = subject.storage.list("").map_err(text)?;
        ensure!(listed.contains(&stat), "{object} is listed otherwise: {listed:?}");
    }
    Ok(())
}

const NAMES: [&str; 8] =
    ["config", "data/00/a", "data/00/b", "data/ab/a", "data/zz", "data-old/x", "database", "index/a.b_c-d"];

fn names(subject: &FreshStorage, folder: &str) -> Result<Vec<String>, String> {
    let listed = subject.storage.list(folder).map_err(text)?;
    Ok(listed.into_iter().map(|object| object.name.as_str().to_owned()).collect())
}

fn fill(subject: &FreshStorage) -> Outcome {
    NAMES.iter().rev().try_for_each(|object| put(subject, object, object.as_bytes()))
}

fn ordered(subject: &FreshStorage) -> Outcome {
    fill(subject)?;
    let found = names(subject, "")?;
    let mut sorted = found.clone();
    sorted.sort();
    ensure!(found == sorted, "{found:?}");
    Ok(())
}

fn within(subject: &FreshStorage) -> Outcome {
    fill(subject)?;
    for (folder, count) in [("", 8), ("data", 4), ("data/00", 2), ("index", 1), ("config", 0)] {
        let found: std::collections::BTreeSet<String> = names(subject, folder)?.into_iter().collect();
        let below = |name: &&&str| folder.is_empty() || name.starts_with(&format!("{folder}/"));
        let expected = NAMES.iter().filter(below).map(|&name| name.to_owned()).collect();
        ensure!(found == expected && found.len() == count, "{folder:?} holds {found:?}");
    }
    Ok(())
}

fn empty_folder(subject: &FreshStorage) -> Outcome {
    for folder in ["", "data", "data/ab"] {
        let found = names(subject, folder)?;
        ensure!(found.is_empty(), "{folder:?} holds {found:?}");
    }
    Ok(())
}

fn removed(subject: &FreshStorage) -> Outcome {
    fill(subject)?;
    subject.storage.remove(&name("data/00/a")?).map_err(text)?;
    let (got, again) =
        (kind(subject.storage.get(&name("data/00/a")?)), kind(subject.storage.remove(&name("data/00/a")?)));
    ensure!(got == Some(StorageErrorKind::Missing), "get gave {got:?}");
    ensure!(again == Some(StorageErrorKind::Missing), "the second remove gave {again:?}");
    let left = names(subject, "")?;
    ensure!(left.len() == 7 && !left.contains(&"data/00/a".to_owned()), "left is {left:?}");
    Ok(())
}

fn freed(subject: &FreshStorage) -> Outcome {
    put(subject, "locks/a", b"one")?;
    subject.storage.remove(&name("locks/a")?).map_err(text)?;
    put(subject, "locks/a", b"two")?;
    ensure!(get(subject, "locks/a")? == b"two", "the old content is back");
    Ok(())
}

fn confirmed(subject: &FreshStorage) -> Outcome {
    for (number, size) in [0_usize, 1, 1 << 20, (1 << 20) + 1, 5 << 20].into_iter().enumerate() {
        let (object, content) = (format!("data/ab/{number}"), Random::new(3).bytes(size));
        put(subject, &object, &content)?;
        subject.storage.confirm(&name(&object)?, &Sha256::digest(&content).into()).map_err(text)?;
    }
    Ok(())
}

fn refused(subject: &FreshStorage) -> Outcome {
    put(subject, "data/ab/one", b"content")?;
    let other: [u8; 32] = Sha256::digest(b"contenu").into();
    let found = kind(subject.storage.confirm(&name("data/ab/one")?, &other));
    ensure!(found == Some(StorageErrorKind::Damaged), "confirm gave {found:?}");
    Ok(())
}

/// Content in buffers of which a part is used.
fn buffers(content: &[u8]) -> Vec<Given> {
    let (head, tail) = content.split_at(content.len() / 3);
    let longer = Given { bytes: [tail, b"what is not meant"].concat(), used: tail.len() };
    vec![Given::all(head.to_vec()), longer, Given::all(Vec::new())]
}

fn given(subject: &FreshStorage) -> Outcome {
    for (number, size) in [0_usize, 1, 100_000, (1 << 20) + 1].into_iter().enumerate() {
        let (object, content) = (format!("data/ab/{number}"), Random::new(4).bytes(size));
        let (put, back) = subject.storage.put_given(&name(&object)?, buffers(&content));
        put.map_err(text)?;
        ensure!(get(subject, &object)? == content, "{size} bytes came back changed");
        let back: Vec<u8> = back.iter().flat_map(|given| given.meant().to_vec()).collect();
        ensure!(back == content, "what was given did not come back");
    }
    let (again, _) = subject.storage.put_given(&name("data/ab/0")?, buffers(b"other"));
    let found = kind(again);
    ensure!(found == Some(StorageErrorKind::Exists), "a name that is taken gave {found:?}");
    Ok(())
}

fn confirmed_given(subject: &FreshStorage) -> Outcome {
    let object = name("data/ab/one")?;
    let content = Random::new(5).bytes((1 << 20) + 4097);
    put(subject, object.as_str(), &content)?;
    let confirm = |content: &[u8]| {
        subject.storage.confirm_given(&object, &Sha256::digest(content).into(), buffers(content))
    };
    let (confirmed, back) = confirm(&content);
    confirmed.map_err(text)?;
    let back: Vec<u8> = back.iter().flat_map(|given| given.meant().to_vec()).collect();
    ensure!(back == content, "what was given did not come back");
    for at in [0, content.len() - 1] {
        let mut other = content.clone();
        other[at] ^= 1;
        let found = kind(confirm(&other).0);
        ensure!(found == Some(StorageErrorKind::Damaged), "another byte at {at} gave {found:?}");
    }
    let found = kind(confirm(&content[1..]).0);
    ensure!(found == Some(StorageErrorKind::Damaged), "a shorter content gave {found:?}");
    Ok(())
}
