//! The suites of dumps and of backup readers on fakes, and on mutants that break one promise each.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use flow::{
    BackupReader, Cancel, Context, DatabaseName, DatabaseRef, Dump, DumpRequest, EngineKind, EntryName,
    Layout, Manifest, OpenPart, PartFacts, PartReader, ReadError, ReadErrorKind, ScratchDir, SourceError,
    Step, TargetName, TargetRef,
};
use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use testkit::{
    Act, DatabaseScript, DumpSubject, FakeDump, MemoryBackup, MemoryPart, Random, StoredBackup,
    assert_caught, broken_dump_promises, broken_reader_promises, drain, dump_conformance, fake_facts,
    fake_marks, reader_conformance,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    NoVerdict,
    EarlyVerdict,
    EagerParts,
    Gap,
    OtherLayout,
    OtherSize,
    DependsOnJobs,
    ErrorSpreads,
    IgnoresCancel,
    NeverUnchanged,
    IgnoresReadAll,
    AlwaysUnchanged,
    Leaves,
    FinishFails,
}

#[derive(Clone)]
struct Database {
    content: Vec<u8>,
    version: u64,
    spoiled: bool,
}

struct Subject {
    databases: Mutex<BTreeMap<DatabaseName, Database>>,
    flaw: Flaw,
}

fn subject(flaw: Flaw) -> Subject {
    Subject { databases: Mutex::default(), flaw }
}

fn entry(name: &str) -> EntryName {
    EntryName::new(name).unwrap()
}

const PAGES: Layout = Layout::Pages { page_bytes: 4096, cut_bytes: 65_536 };

impl Subject {
    fn script(&self, wanted: &flow::DatabaseRequest, request: &DumpRequest) -> DatabaseScript {
        let database = self.databases.lock().unwrap()[&wanted.database.name].clone();
        let same = wanted.previous.as_ref().is_some_and(|previous| {
            previous.marks == fake_marks(database.version) || self.flaw == Flaw::AlwaysUnchanged
        });
        let skip = same
            && (!request.options.read_all || self.flaw == Flaw::IgnoresReadAll)
            && self.flaw != Flaw::NeverUnchanged;
        let part_bytes = match self.flaw {
            Flaw::DependsOnJobs => 65_536 * request.options.jobs,
            _ => 1 << 20,
        };
        let mut acts: Vec<Act> = vec![Act::Unchanged];
        if !skip {
            let pages = database.content.chunks(part_bytes).enumerate();
            let pages =
                pages.map(|(n, part)| Act::Part(entry("image"), PAGES, n as u32, MemoryPart::new(part)));
            let rows = (0..3).map(|n| {
                Act::NextPart(entry("log"), Layout::Opaque, n, MemoryPart::new(format!("line {n}\n")))
            });
            acts = pages.chain(rows).collect();
        }
        if let (true, Some(Act::Part(_, _, _, part))) = (database.spoiled, acts.first_mut()) {
            *part = part.clone().failing_at(100);
        }
        DatabaseScript { database: wanted.database.clone(), acts, fails: None, version: database.version }
    }
}

impl DumpSubject for Subject {
    fn target(&self) -> TargetRef {
        TargetRef {
            name: TargetName::new("shops").unwrap(),
            engine: EngineKind::Sqlite,
            connection: "/srv/shops".to_owned(),
            secret: None,
            tenants: None,
        }
    }

    fn make(&self, name: &str, size_bytes: u64) -> DatabaseRef {
        let name = DatabaseName::new(name).unwrap();
        let pages = (size_bytes as usize).div_ceil(4096).max(1);
        let content = Random::new(size_bytes).bytes(pages * 4096);
        let database = Database { content, version: 1, spoiled: false };
        self.databases.lock().unwrap().insert(name.clone(), database);
        DatabaseRef { target: self.target().name, connection: format!("/srv/shops/{name}"), name }
    }

    fn change(&self, database: &DatabaseRef) {
        let mut databases = self.databases.lock().unwrap();
        let database = databases.get_mut(&database.name).unwrap();
        database.content[0] ^= 1;
        database.version += 1;
    }

    fn spoil(&self, database: &DatabaseRef) {
        self.databases.lock().unwrap().get_mut(&database.name).unwrap().spoiled = true;
    }

    fn settle(&self) {}

    fn begin(&self, request: &DumpRequest, context: Context) -> Result<Box<dyn Dump>, SourceError> {
        let scripts = request.databases.iter().map(|wanted| self.script(wanted, request)).collect();
        let cancel = if self.flaw == Flaw::IgnoresCancel { Cancel::new() } else { context.cancel };
        let mut inner = FakeDump::new(scripts, cancel);
        if self.flaw == Flaw::FinishFails {
            inner = inner.failing("the source was told to fail");
        }
        Ok(Box::new(Mutant { inner: Box::new(inner), flaw: self.flaw, early: Mutex::new(None) }))
    }

    fn context(&self) -> Context {
        Context::quiet(ScratchDir::new("/nowhere"))
    }

    fn leftovers(&self) -> Vec<String> {
        if self.flaw == Flaw::Leaves { vec!["a lock".to_owned()] } else { Vec::new() }
    }
}

/// Passes on what a good dump gives, but for its flaw.
struct Mutant {
    inner: Box<dyn Dump>,
    flaw: Flaw,
    early: Mutex<Option<Step>>,
}

impl Dump for Mutant {
    fn next(&self) -> Result<Option<Step>, SourceError> {
        if let Some(step) = self.early.lock().unwrap().take() {
            return Ok(Some(step));
        }
        let step = self.inner.next()?;
        match (self.flaw, step) {
            (Flaw::NoVerdict, Some(Step::Done(database, _))) if database.name.as_str() == "two" => {
                self.next()
            }
            (Flaw::EarlyVerdict, Some(Step::Part(part))) if part.index == 0 => {
                let database = part.database.clone();
                *self.early.lock().unwrap() = Some(Step::Part(part));
                let script =
                    DatabaseScript { database: database.clone(), acts: vec![], fails: None, version: 1 };
                Ok(Some(Step::Done(database, Ok(script.dumped()))))
            }
            (Flaw::EagerParts, Some(Step::Part(part))) => {
                let bytes = read(part.reader);
                Ok(Some(Step::Part(OpenPart { reader: Box::new(MemoryPart::new(bytes)), ..part })))
            }
            (Flaw::Gap, Some(Step::Part(part))) if part.index == 1 => {
                read(part.reader);
                self.next()
            }
            (Flaw::OtherLayout, Some(Step::Part(part))) if part.index == 0 => {
                Ok(Some(Step::Part(OpenPart { layout: Layout::Rows, ..part })))
            }
            (Flaw::OtherSize, Some(Step::Part(part))) => {
                Ok(Some(Step::Part(OpenPart { reader: Box::new(OtherSize(part.reader)), ..part })))
            }
            (Flaw::ErrorSpreads, Some(Step::Done(_, Err(error)))) => Err(error),
            (_, step) => Ok(step),
        }
    }

    fn finish(self: Box<Self>) -> Result<(), SourceError> {
        self.inner.finish()
    }
}

fn read(mut reader: Box<dyn PartReader>) -> Vec<u8> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = reader.read(&mut buffer) {
        bytes.extend_from_slice(&buffer[..count]);
    }
    let _ = reader.finish();
    bytes
}

struct OtherSize(Box<dyn PartReader>);

impl PartReader for OtherSize {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError> {
        self.0.read(buffer)
    }

    fn finish(self: Box<Self>) -> Result<PartFacts, SourceError> {
        let facts = self.0.finish()?;
        Ok(PartFacts { size_bytes: facts.size_bytes + 1, ..facts })
    }
}

#[test]
fn the_fake_dump_keeps_every_promise() {
    dump_conformance(|| subject(Flaw::None));
}

#[test]
fn each_mutant_of_a_dump_is_caught() {
    let flaws = [
        (Flaw::NoVerdict, "every database gets exactly one verdict"),
        (Flaw::EarlyVerdict, "a verdict comes after all parts were read"),
        (Flaw::EagerParts, "a verdict waits for an open part"),
        (Flaw::EagerParts, "a part that is dropped fails its database"),
        (Flaw::Gap, "parts have no gap and their number is told"),
        (Flaw::OtherLayout, "layouts agree and parts of pages are multiples of the cut"),
        (Flaw::OtherSize, "a part tells its size"),
        (Flaw::DependsOnJobs, "the number of workers changes nothing"),
        (Flaw::ErrorSpreads, "one failing database takes no other with it"),
        (Flaw::IgnoresCancel, "cancel wakes who waits"),
        (Flaw::NeverUnchanged, "what did not change is not read"),
        (Flaw::IgnoresReadAll, "read_all reads what did not change"),
        (Flaw::AlwaysUnchanged, "what changed is read"),
        (Flaw::Leaves, "a dump that is dropped leaves nothing behind"),
        (Flaw::FinishFails, "finish accepts a whole dump"),
    ];
    std::thread::scope(|scope| {
        for (flaw, promise) in flaws {
            scope.spawn(move || assert_caught(&broken_dump_promises(|| subject(flaw)), promise));
        }
    });
}

#[test]
fn parts_may_be_replaced_and_reused() {
    let database = subject(Flaw::None).make("one", 1);
    let part = |bytes: &str| Act::Part(entry("image"), PAGES, 0, MemoryPart::new(bytes));
    let acts = vec![part("first"), part("again"), Act::Reuse(entry("image"), PAGES, 1, 4)];
    let script = DatabaseScript { database: database.clone(), acts, fails: None, version: 1 };
    let drained = drain(Box::new(FakeDump::new(vec![script], Cancel::new())), 1);
    let one = &drained.databases[&database.name];
    assert_eq!(one.content()[&entry("image")], b"again");
    assert_eq!(one.reused[0].previous_index, 4);
    assert_eq!(one.dumped().unwrap().entries[&entry("image")], (PAGES, 2));
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReaderFlaw {
    None,
    LosesLastByte,
    ShiftsRanges,
    CutsRanges,
    WrongKind,
    OneAtATime,
    OtherManifest,
    HidesDamage,
}

struct MutantReader {
    inner: MemoryBackup,
    flaw: ReaderFlaw,
    damaged: Arc<AtomicBool>,
    busy: Mutex<()>,
    manifest: Manifest,
}

impl BackupReader for MutantReader {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn read(&self, entry: &EntryName, range: Range<u64>) -> Result<Box<dyn Read + Send>, ReadError> {
        let size = self.inner.content(entry).map_or(0, <[u8]>::len) as u64;
        let held = self.busy.try_lock();
        if self.flaw == ReaderFlaw::OneAtATime {
            std::thread::sleep(std::time::Duration::from_millis(1));
            if held.is_err() {
                return Err(ReadError::new(ReadErrorKind::Storage, "a reader", "is busy"));
            }
        }
        if self.damaged.load(Ordering::SeqCst) {
            if self.flaw == ReaderFlaw::HidesDamage {
                return Ok(Box::new(std::io::Cursor::new(vec![0; (range.end - range.start) as usize])));
            }
            return Err(ReadError::new(ReadErrorKind::Damaged, entry.as_str(), "a blob is damaged"));
        }
        match self.flaw {
            ReaderFlaw::LosesLastByte if range == (0..size) => self.inner.read(entry, 0..size - 1),
            ReaderFlaw::ShiftsRanges if range.start > 1 && range.end < size => {
                self.inner.read(entry, range.start + 1..range.end + 1)
            }
            ReaderFlaw::CutsRanges => self.inner.read(entry, range.start.min(size)..range.end.min(size)),
            ReaderFlaw::WrongKind => self
                .inner
                .read(entry, range)
                .map_err(|error| ReadError { kind: ReadErrorKind::Storage, ..error }),
            _ => self.inner.read(entry, range),
        }
    }
}

fn stored(flaw: ReaderFlaw) -> StoredBackup {
    let database = subject(Flaw::None).make("one", 1);
    let script = DatabaseScript { database: database.clone(), acts: vec![], fails: None, version: 1 };
    let facts = PartFacts::default();
    let parts = BTreeMap::from([
        (entry("image"), vec![(Random::new(1).bytes(100_000), facts), (Random::new(2).bytes(50_001), facts)]),
        (entry("log"), vec![(b"text".to_vec(), facts)]),
    ]);
    let inner = MemoryBackup::new(&database, &script.dumped(), &parts);
    let mut manifest = inner.manifest().clone();
    manifest.facts = fake_facts(7);
    manifest.entries[0].size_bytes += u64::from(flaw == ReaderFlaw::OtherManifest);
    let content = inner.entries().clone();
    let damaged = Arc::new(AtomicBool::new(false));
    let damage = damaged.clone();
    let reader = MutantReader { inner, flaw, damaged, busy: Mutex::new(()), manifest };
    StoredBackup {
        reader: Arc::new(reader),
        content,
        damage: Some(Box::new(move || damage.store(true, Ordering::SeqCst))),
        keep: Box::new(()),
    }
}

#[test]
fn the_backup_in_memory_keeps_every_promise() {
    reader_conformance(|| stored(ReaderFlaw::None));
}

#[test]
fn each_mutant_of_a_reader_is_caught() {
    let flaws = [
        (ReaderFlaw::LosesLastByte, "whole entries come back"),
        (ReaderFlaw::ShiftsRanges, "any range comes back"),
        (ReaderFlaw::CutsRanges, "a range beyond the end is an error"),
        (ReaderFlaw::WrongKind, "a missing entry is Missing"),
        (ReaderFlaw::OneAtATime, "many threads read at once"),
        (ReaderFlaw::OtherManifest, "the manifest fits the entries"),
        (ReaderFlaw::HidesDamage, "damage is an error, never other bytes"),
    ];
    for (flaw, promise) in flaws {
        assert_caught(&broken_reader_promises(|| stored(flaw)), promise);
    }
}
