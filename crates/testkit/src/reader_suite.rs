//! The conformance suite of [`BackupReader`]: one check for each promise of its documentation.

use crate::suite::{Broken, Outcome, Random, demand, ensure, run, text};
use flow::{BackupReader, EntryName, ReadError, ReadErrorKind};
use std::any::Any;
use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

/// A stored backup to be tried, with what must come out of it.
pub struct StoredBackup {
    /// The backup.
    pub reader: Arc<dyn BackupReader>,
    /// The content of its entries.
    pub content: BTreeMap<EntryName, Vec<u8>>,
    /// Damages what is stored of every entry, where the place can be damaged.
    pub damage: Option<Box<dyn Fn()>>,
    /// What must not be dropped before the reader.
    pub keep: Box<dyn Any>,
}

/// Panics unless the reader keeps every promise.
#[track_caller]
pub fn reader_conformance(make: impl Fn() -> StoredBackup) {
    demand(&broken_reader_promises(make));
}

/// Returns the promises that the reader does not keep.
pub fn broken_reader_promises(make: impl Fn() -> StoredBackup) -> Vec<Broken> {
    run(
        &make,
        &[
            ("whole entries come back", whole),
            ("any range comes back", ranges),
            ("a range beyond the end is an error", beyond),
            ("a missing entry is Missing", missing),
            ("many threads read at once", many),
            ("the manifest fits the entries", manifest),
            ("damage is an error, never other bytes", damaged),
        ],
    )
}

fn read(reader: &dyn BackupReader, entry: &EntryName, range: Range<u64>) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    let mut stream = reader.read(entry, range)?;
    stream.read_to_end(&mut bytes).map_err(|error| ReadError::from_io(error, entry.as_str()))?;
    Ok(bytes)
}

fn whole(subject: &StoredBackup) -> Outcome {
    for (entry, content) in &subject.content {
        let found = read(&*subject.reader, entry, 0..content.len() as u64).map_err(text)?;
        ensure!(found == *content, "{entry} came back changed");
    }
    Ok(())
}

fn ranges(subject: &StoredBackup) -> Outcome {
    some_ranges(subject, 1)
}

fn some_ranges(subject: &StoredBackup, seed: u64) -> Outcome {
    check_ranges(&*subject.reader, &subject.content, seed)
}

fn check_ranges(reader: &dyn BackupReader, content: &BTreeMap<EntryName, Vec<u8>>, seed: u64) -> Outcome {
    let mut random = Random::new(seed);
    for (entry, content) in content {
        let size = content.len() as u64;
        let mut ranges = vec![0..0, size..size, 0..size.min(1), size.saturating_sub(1)..size];
        for _ in 0..20 {
            let start = random.below(size + 1);
            ranges.push(start..start + random.below(size - start + 1));
        }
        for range in ranges {
            let found = read(reader, entry, range.clone()).map_err(text)?;
            let expected = &content[range.start as usize..range.end as usize];
            ensure!(found == expected, "{entry} {range:?} came back changed");
        }
    }
    Ok(())
}

fn beyond(subject: &StoredBackup) -> Outcome {
    for (entry, content) in &subject.content {
        let size = content.len() as u64;
        for range in [0..size + 1, size..size + 1, size + 1..size + 2, 0..u64::MAX] {
            let found = read(&*subject.reader, entry, range.clone()).map_err(|error| error.kind);
            ensure!(found == Err(ReadErrorKind::Missing), "{entry} {range:?} is no error of a missing range");
        }
    }
    Ok(())
}

fn missing(subject: &StoredBackup) -> Outcome {
    let entry = EntryName::new("no such entry").map_err(text)?;
    let found = read(&*subject.reader, &entry, 0..0).map_err(|error| error.kind);
    ensure!(found == Err(ReadErrorKind::Missing), "it gave {found:?}");
    Ok(())
}

fn many(subject: &StoredBackup) -> Outcome {
    let (reader, content) = (&subject.reader, &subject.content);
    let failures: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..4).map(|seed| scope.spawn(move || check_ranges(&**reader, content, seed))).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()?.err()).collect()
    });
    ensure!(failures.is_empty(), "{}", failures.join(", "));
    Ok(())
}

fn manifest(subject: &StoredBackup) -> Outcome {
    let manifest = subject.reader.manifest();
    let names: Vec<&EntryName> = manifest.entries.iter().map(|entry| &entry.name).collect();
    ensure!(names == subject.content.keys().collect::<Vec<_>>(), "the manifest names {names:?}");
    for entry in &manifest.entries {
        let size = subject.content.get(&entry.name).map(|content| content.len() as u64);
        let parts: u64 = entry.parts.iter().map(|part| part.size_bytes).sum();
        ensure!(Some(entry.size_bytes) == size, "{} has {size:?} bytes", entry.name);
        ensure!(parts == entry.size_bytes, "the parts of {} have {parts} bytes", entry.name);
    }
    Ok(())
}

fn damaged(subject: &StoredBackup) -> Outcome {
    let Some(damage) = &subject.damage else { return Ok(()) };
    damage();
    let mut failed = 0;
    for (entry, content) in &subject.content {
        match read(&*subject.reader, entry, 0..content.len() as u64) {
            Ok(found) => ensure!(found == *content, "{entry} came back changed and without an error"),
            Err(_) => failed += 1,
        }
    }
    ensure!(failed > 0, "nothing was noticed");
    Ok(())
}
