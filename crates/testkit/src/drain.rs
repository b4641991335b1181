//! Reading a whole dump with several workers, as operations do, and noting what an engine must not do.

use crate::memory_backup::MemoryBackup;
use flow::{
    DatabaseName, DatabaseRef, Dump, Dumped, EntryName, Layout, OpenPart, PartFacts, PartRef, SourceError,
    SourceErrorKind, Step,
};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The parts of an entry that were read, by their places: layout, bytes, verdict.
pub type ReadParts = BTreeMap<u32, (Layout, Vec<u8>, PartFacts)>;

/// What became of one database of a dump.
#[derive(Debug, Default)]
pub struct DrainedDatabase {
    /// The parts by entry and place.
    pub parts: BTreeMap<EntryName, ReadParts>,
    /// The parts that were taken of the previous backup.
    pub reused: Vec<PartRef>,
    /// Whether the whole previous backup was taken.
    pub unchanged: bool,
    /// The verdicts; there must be exactly one.
    pub verdicts: Vec<Result<Dumped, String>>,
    /// The database.
    pub database: Option<DatabaseRef>,
}

impl DrainedDatabase {
    /// Returns the verdict, where it is one and good.
    pub fn dumped(&self) -> Option<&Dumped> {
        self.verdicts.first().and_then(|verdict| verdict.as_ref().ok())
    }

    /// Returns the content of each entry, its parts joined in order.
    pub fn content(&self) -> BTreeMap<EntryName, Vec<u8>> {
        let join =
            |parts: &ReadParts| parts.values().flat_map(|(_, bytes, _)| bytes.iter().copied()).collect();
        self.parts.iter().map(|(entry, parts)| (entry.clone(), join(parts))).collect()
    }

    /// Returns it as a backup, where its verdict is good and its parts were read.
    pub fn backup(&self) -> Option<MemoryBackup> {
        let parts = |(entry, parts): (&EntryName, &ReadParts)| {
            let parts = parts.values().map(|(_, bytes, facts)| (bytes.clone(), *facts)).collect();
            (entry.clone(), parts)
        };
        let parts = self.parts.iter().map(parts).collect();
        Some(MemoryBackup::new(self.database.as_ref()?, self.dumped()?, &parts))
    }
}

/// A whole dump.
#[derive(Debug, Default)]
pub struct Drained {
    /// Its databases.
    pub databases: BTreeMap<DatabaseName, DrainedDatabase>,
    /// What the dump did against its promises.
    pub violations: Vec<String>,
    /// The error that ended it early, or its verdict as a whole.
    pub error: Option<SourceError>,
    open: BTreeMap<DatabaseName, usize>,
}

/// Reads a dump to its end with that many workers and asks for its verdict.
pub fn drain(dump: Box<dyn Dump>, workers: usize) -> Drained {
    let drained = Mutex::new(Drained::default());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| work(&*dump, &drained));
        }
    });
    let mut drained = drained.into_inner().unwrap_or_else(PoisonError::into_inner);
    if drained.error.is_none() {
        match dump.next() {
            Ok(None) => {}
            other => drained.violations.push(format!("after its end it gave {other:?}")),
        }
        drained.error = dump.finish().err();
    }
    drained
}

fn work(dump: &dyn Dump, drained: &Mutex<Drained>) {
    loop {
        match dump.next() {
            Ok(None) => return,
            Ok(Some(step)) => take(step, drained),
            Err(error) => {
                lock(drained).error.get_or_insert(error);
                return;
            }
        }
    }
}

fn lock(drained: &Mutex<Drained>) -> MutexGuard<'_, Drained> {
    drained.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take(step: Step, drained: &Mutex<Drained>) {
    match step {
        Step::Part(part) => {
            let name = part.database.name.clone();
            {
                let mut drained = lock(drained);
                *drained.open.entry(name.clone()).or_default() += 1;
                let late = drained.databases.get(&name).is_some_and(|one| !one.verdicts.is_empty());
                if late {
                    drained.violations.push(format!("a part of {name} came after its verdict"));
                }
            }
            read(part, drained);
        }
        Step::Reuse(part) => {
            lock(drained).databases.entry(part.database.name.clone()).or_default().reused.push(part);
        }
        Step::Unchanged(database, _) => {
            let not_read = SourceError::new(SourceErrorKind::Failed, database.to_string(), "it was not read");
            verdict(database, Err(not_read), true, drained);
        }
        Step::Done(database, outcome) => verdict(database, outcome, false, drained),
    }
}

fn verdict(
    database: DatabaseRef,
    outcome: Result<Dumped, SourceError>,
    unchanged: bool,
    drained: &Mutex<Drained>,
) {
    let mut drained = lock(drained);
    if drained.open.get(&database.name).copied().unwrap_or_default() > 0 {
        drained.violations.push(format!("the verdict on {} came while a part was open", database.name));
    }
    let one = drained.databases.entry(database.name.clone()).or_default();
    one.verdicts.push(outcome.map_err(|error| error.to_string()));
    one.unchanged |= unchanged;
    one.database = Some(database);
}

/// Reads a part in pieces of two sizes and notes it.
fn read(mut part: OpenPart, drained: &Mutex<Drained>) {
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 70_001]);
    let failed = loop {
        let room = if bytes.len() % 2 == 0 { buffer.len() } else { 4096 };
        match part.reader.read(&mut buffer[..room]) {
            Ok(0) => break false,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(_) => break true,
        }
    };
    let name = part.database.name.clone();
    let count_down = |drained: &mut Drained| {
        if let Some(open) = drained.open.get_mut(&name) {
            *open -= 1;
        }
    };
    // From the call on, the engine may give the verdict: counting it as open any longer would accuse it wrongly.
    count_down(&mut lock(drained));
    if failed {
        drop(part);
        return;
    }
    let facts = part.reader.finish();
    let mut drained = lock(drained);
    if let Ok(facts) = facts {
        if facts.size_bytes != bytes.len() as u64 {
            let told = facts.size_bytes;
            drained.violations.push(format!("a part of {name} told {told} bytes and gave {}", bytes.len()));
        }
        let one = drained.databases.entry(name).or_default();
        one.parts.entry(part.entry).or_default().insert(part.index, (part.layout, bytes, facts));
    }
}
