//! The conformance suite of [`Repository`] and [`SnapshotWriter`]: one check for each promise of their documentation.

mod healing;
mod history;
mod pruning;

use crate::fresh_repository::FreshRepository;
use crate::keys_suite;
use crate::memory_backup::{MemoryPart, fake_facts, fake_marks};
use crate::suite::{Broken, Outcome, Random, demand, ensure, run, text};
use flow::{
    BackupReader, DatabaseName, DatabaseRef, Dumped, EntryName, Layout, OpenPart, PartRef, Selection,
    TargetName, Unchanged,
};
use jiff::Timestamp;
use repository::{
    BackupId, CheckDepth, ConfigurationRecord, PartError, ProofLevel, ProofRecord, RepositoryErrorKind,
    SnapshotReport, SnapshotRequest, SnapshotWriter, State,
};
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

/// Panics unless the repositories that `make` makes keep every promise.
#[track_caller]
pub fn repository_conformance(make: impl Fn() -> FreshRepository) {
    demand(&broken_repository_promises(make));
}

/// Returns the promises that the repositories that `make` makes do not keep.
pub fn broken_repository_promises(make: impl Fn() -> FreshRepository) -> Vec<Broken> {
    let mut broken = run(
        &make,
        &[
            ("nothing is visible before commit", invisible),
            ("what was stored comes back", round_trip),
            ("parts are joined in the order of their places", joined),
            ("the same place again replaces the part", replaced),
            ("a gap is refused", gap),
            ("a surplus is refused", surplus),
            ("a size that differs is refused", other_size),
            ("a source error fails the database", source_error),
            ("a discarded database is not kept", discarded),
            ("commit refuses an unfinished database", unfinished),
            ("commit refuses an empty snapshot", empty),
            ("unchanged takes the previous backup", unchanged),
            ("unchanged keeps the time of change", unchanged_time),
            ("a suspicion is kept with the backup", history::suspicion),
            ("unchanged keeps the suspicion", history::unchanged_suspicion),
            ("an acceptance takes the suspicion of the content away", history::acceptance),
            ("the baseline is the newest that is not suspect", history::baseline),
            ("a run of one database says nothing of the others", history::one_alone),
            ("recent runs tell their databases", history::recent),
            ("a backup of a part is measured by those of that part alone", history::part_of_a_database),
            ("reuse takes the part of the previous place", reused),
            ("previous has the newest marks", marks),
            ("previous is of this host", this_host),
            ("backups are of the target asked for", of_target),
            ("backups are listed oldest first", oldest_first),
            ("an unknown id is NoBackup", unknown),
            ("proofs are kept", proofs),
            ("state of each subject is what was said last", state),
            ("keys open until they are removed", keys_suite::added_and_removed),
            ("a key is replaced in an order that leaves a way in", keys_suite::replaced),
            ("damage is found by verify and check", damage),
            ("entry_bytes tells the size so far", entry_bytes),
            ("ids name the snapshot, and the database where there are several", ids),
        ],
    );
    broken.extend(run(&make, &pruning::CHECKS));
    broken.extend(run(&make, &healing::CHECKS));
    broken
}

fn target(name: &str) -> TargetName {
    TargetName::new(name).expect("a name")
}

fn entry(name: &str) -> EntryName {
    EntryName::new(name).expect("a name")
}

fn database(name: &str) -> DatabaseRef {
    let name = DatabaseName::new(name).expect("a name");
    DatabaseRef { target: target("shops"), connection: format!("/srv/shops/{name}.db"), name }
}

fn begin(subject: &FreshRepository, host: &str, second: i64) -> Result<Box<dyn SnapshotWriter>, String> {
    begin_of(subject, "shops", host, second)
}

fn begin_of(
    subject: &FreshRepository,
    name: &str,
    host: &str,
    second: i64,
) -> Result<Box<dyn SnapshotWriter>, String> {
    begin_only(subject, name, None, host, second)
}

/// Begins a run that holds a part of its databases alone.
fn begin_part(
    subject: &FreshRepository,
    selection: Selection,
    second: i64,
) -> Result<Box<dyn SnapshotWriter>, String> {
    let request = request("shops", None, "host", second)?;
    let request = SnapshotRequest { selection: Some(selection), ..request };
    subject.repository.begin(request, &subject.context).map_err(text)
}

fn begin_only(
    subject: &FreshRepository,
    name: &str,
    only: Option<&DatabaseRef>,
    host: &str,
    second: i64,
) -> Result<Box<dyn SnapshotWriter>, String> {
    let request = request(name, only, host, second)?;
    subject.repository.begin(request, &subject.context).map_err(text)
}

fn request(
    name: &str,
    only: Option<&DatabaseRef>,
    host: &str,
    second: i64,
) -> Result<SnapshotRequest, String> {
    Ok(SnapshotRequest {
        target: target(name),
        only: only.map(|database| database.name.clone()),
        plan: None,
        selection: None,
        host: host.to_owned(),
        user: "tester".to_owned(),
        tags: Vec::new(),
        time: Timestamp::from_second(1_790_000_000 + second).map_err(text)?,
    })
}

fn open(database: &DatabaseRef, name: &str, index: u32, part: MemoryPart) -> OpenPart {
    let (database, entry) = (database.clone(), entry(name));
    OpenPart { database, entry, layout: Layout::Opaque, index, reader: Box::new(part) }
}

fn dumped(entries: &[(&str, u32)], version: u64) -> Dumped {
    let entries = entries.iter().map(|(name, count)| (entry(name), (Layout::Opaque, *count)));
    Dumped { facts: fake_facts(1), marks: fake_marks(version), entries: entries.collect(), elapsed_ms: 1 }
}

fn content(seed: u64) -> Vec<u8> {
    Random::new(seed).bytes(60_000 + seed as usize)
}

/// Stores one database with one entry `image` of two parts.
fn store(writer: &dyn SnapshotWriter, database: &DatabaseRef, seed: u64, version: u64) -> Outcome {
    writer.part(open(database, "image", 0, MemoryPart::new(content(seed)))).map_err(text)?;
    writer.part(open(database, "image", 1, MemoryPart::new(content(seed + 1)))).map_err(text)?;
    writer.done(database, dumped(&[("image", 2)], version)).map_err(text)
}

/// Makes a snapshot of the database `one`.
fn snapshot(subject: &FreshRepository, host: &str, seed: u64) -> Result<SnapshotReport, String> {
    let writer = begin(subject, host, seed as i64)?;
    store(&*writer, &database("one"), seed, seed)?;
    writer.commit().map_err(text)
}

fn list(subject: &FreshRepository) -> Result<Vec<repository::BackupRecord>, String> {
    (subject.reopen)().backups(None, &subject.context).map_err(text)
}

fn read(subject: &FreshRepository, id: &BackupId) -> Result<BTreeMap<EntryName, Vec<u8>>, String> {
    let reader: Arc<dyn BackupReader> = (subject.reopen)().open(id, &subject.context).map_err(text)?;
    let mut found = BTreeMap::new();
    for entry in &reader.manifest().entries {
        let mut bytes = Vec::new();
        let mut stream = reader.read(&entry.name, 0..entry.size_bytes).map_err(text)?;
        stream.read_to_end(&mut bytes).map_err(text)?;
        found.insert(entry.name.clone(), bytes);
    }
    Ok(found)
}

fn image(subject: &FreshRepository, id: &BackupId) -> Result<Vec<u8>, String> {
    read(subject, id)?.remove(&entry("image")).ok_or_else(|| "there is no entry `image`".to_owned())
}

fn both(seed: u64) -> Vec<u8> {
    [content(seed), content(seed + 1)].concat()
}

fn only_id(report: &SnapshotReport) -> Result<BackupId, String> {
    ensure!(report.databases.len() == 1, "the report has {} databases", report.databases.len());
    Ok(report.databases[0].record.id.clone())
}

fn invisible(subject: &FreshRepository) -> Outcome {
    let writer = begin(subject, "host", 1)?;
    store(&*writer, &database("one"), 1, 1)?;
    ensure!(list(subject)?.is_empty(), "it is listed before commit");
    drop(writer);
    ensure!(list(subject)?.is_empty(), "it is listed although it was dropped");
    Ok(())
}

fn round_trip(subject: &FreshRepository) -> Outcome {
    let one = database("a / strange \"name\" ü");
    let writer = begin(subject, "host", 1)?;
    let parts = [("image", content(1)), ("empty", Vec::new()), ("folder/log", b"x".to_vec())];
    for (name, bytes) in &parts {
        writer.part(open(&one, name, 0, MemoryPart::new(bytes.clone()))).map_err(text)?;
    }
    let told = dumped(&[("image", 1), ("empty", 1), ("folder/log", 1)], 1);
    writer.done(&one, told.clone()).map_err(text)?;
    let report = writer.commit().map_err(text)?;
    let records = list(subject)?;
    ensure!(records.len() == 1 && records[0].database == one.name, "{records:?} is listed");
    ensure!(records[0].id == only_id(&report)?, "the report names another backup than the list");
    let found = read(subject, &records[0].id)?;
    let expected = parts.into_iter().map(|(name, bytes)| (entry(name), bytes)).collect();
    ensure!(found == expected, "another content came back: {:?}", found.keys());
    let opened = (subject.reopen)().open(&records[0].id, &subject.context).map_err(text)?;
    let manifest = opened.manifest();
    ensure!(manifest.facts == told.facts, "other facts came back");
    ensure!(manifest.connection == one.connection, "another connection came back");
    let size: u64 = found.values().map(|bytes| bytes.len() as u64).sum();
    ensure!(records[0].size_bytes == size, "the list says {} bytes", records[0].size_bytes);
    Ok(())
}

fn joined(subject: &FreshRepository) -> Outcome {
    let (one, count) = (database("one"), 7_u32);
    let writer = begin(subject, "host", 1)?;
    let failures: Vec<String> = std::thread::scope(|scope| {
        let (one, writer) = (&one, &*writer);
        let store = move |index: u32| {
            let part = MemoryPart::new(content(u64::from(index)));
            writer.part(open(one, "image", index, part)).map_err(text)
        };
        // The last places arrive first, and several at a time.
        let threads: Vec<_> = (0..2)
            .map(|half| scope.spawn(move || (0..count).rev().filter(|n| n % 2 == half).try_for_each(store)))
            .collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()?.err()).collect()
    });
    ensure!(failures.is_empty(), "{failures:?}");
    writer.done(&one, dumped(&[("image", count)], 1)).map_err(text)?;
    let id = only_id(&writer.commit().map_err(text)?)?;
    let expected: Vec<u8> = (0..count).flat_map(|index| content(u64::from(index))).collect();
    ensure!(image(subject, &id)? == expected, "the parts are in another order");
    Ok(())
}

fn replaced(subject: &FreshRepository) -> Outcome {
    let one = database("one");
    let writer = begin(subject, "host", 1)?;
    for seed in [1, 2] {
        writer.part(open(&one, "image", 0, MemoryPart::new(content(seed)))).map_err(text)?;
    }
    writer.done(&one, dumped(&[("image", 1)], 1)).map_err(text)?;
    let id = only_id(&writer.commit().map_err(text)?)?;
    ensure!(image(subject, &id)? == content(2), "the first one stayed");
    Ok(())
}

/// Stores parts at those places and closes the database with what is told; the outcome must be a refusal, and the
/// database must not appear.
fn refuses(subject: &FreshRepository, places: &[(&str, u32)], told: &[(&str, u32)], surplus: u64) -> Outcome {
    let (one, two) = (database("one"), database("two"));
    let writer = begin(subject, "host", 1)?;
    store(&*writer, &two, 1, 1)?;
    let mut refused = false;
    for (name, index) in places {
        let part = MemoryPart::new(content(1)).claiming_more(surplus);
        refused |= writer.part(open(&one, name, *index, part)).is_err();
    }
    let done = writer.done(&one, dumped(told, 1));
    if let Err(error) = &done {
        ensure!(error.kind == RepositoryErrorKind::Invalid, "the refusal is {error:?}");
    }
    ensure!(refused || done.is_err(), "it was accepted");
    writer.discard(&one, "a test");
    writer.commit().map_err(text)?;
    ensure!(list(subject)?.iter().all(|record| record.database == two.name), "it is listed");
    Ok(())
}

fn gap(subject: &FreshRepository) -> Outcome {
    refuses(subject, &[("image", 0), ("image", 2)], &[("image", 3)], 0)?;
    refuses(subject, &[("image", 0)], &[("image", 2)], 0)?;
    refuses(subject, &[("image", 0)], &[("image", 1), ("log", 1)], 0)
}

fn surplus(subject: &FreshRepository) -> Outcome {
    refuses(subject, &[("image", 0), ("image", 1)], &[("image", 1)], 0)?;
    refuses(subject, &[("image", 0), ("log", 0)], &[("image", 1)], 0)
}

fn other_size(subject: &FreshRepository) -> Outcome {
    refuses(subject, &[("image", 0)], &[("image", 1)], 1)
}

fn source_error(subject: &FreshRepository) -> Outcome {
    let (one, two) = (database("one"), database("two"));
    for fails_at in [0, 30_000, 1 << 30] {
        let writer = begin(subject, "host", 1)?;
        store(&*writer, &two, 1, 1)?;
        let part = MemoryPart::new(content(1)).failing_at(fails_at);
        let stored = writer.part(open(&one, "image", 0, part));
        ensure!(
            matches!(stored, Err(PartError::Source(_))),
            "a part that fails at {fails_at} gave {stored:?}"
        );
        ensure!(writer.done(&one, dumped(&[("image", 1)], 1)).is_err(), "its database was closed");
        writer.discard(&one, "a test");
        writer.commit().map_err(text)?;
        ensure!(list(subject)?.iter().all(|record| record.database == two.name), "it is listed");
    }
    Ok(())
}

fn discarded(subject: &FreshRepository) -> Outcome {
    let (one, two) = (database("one"), database("two"));
    let writer = begin(subject, "host", 1)?;
    store(&*writer, &one, 1, 1)?;
    store(&*writer, &two, 3, 1)?;
    writer.discard(&one, "a test");
    writer.commit().map_err(text)?;
    let records = list(subject)?;
    ensure!(records.len() == 1 && records[0].database == two.name, "{records:?} is listed");
    ensure!(image(subject, &records[0].id)? == both(3), "the other one is damaged");
    Ok(())
}

fn unfinished(subject: &FreshRepository) -> Outcome {
    let writer = begin(subject, "host", 1)?;
    store(&*writer, &database("two"), 1, 1)?;
    writer.part(open(&database("one"), "image", 0, MemoryPart::new(content(1)))).map_err(text)?;
    ensure!(writer.commit().is_err(), "it was committed");
    ensure!(list(subject)?.is_empty(), "something is listed");
    Ok(())
}

fn empty(subject: &FreshRepository) -> Outcome {
    ensure!(begin(subject, "host", 1)?.commit().is_err(), "a snapshot of nothing was committed");
    let writer = begin(subject, "host", 2)?;
    store(&*writer, &database("one"), 1, 1)?;
    writer.discard(&database("one"), "a test");
    ensure!(writer.commit().is_err(), "a snapshot of discarded databases was committed");
    ensure!(list(subject)?.is_empty(), "something is listed");
    Ok(())
}

fn still() -> Unchanged {
    let Dumped { marks, elapsed_ms, .. } = dumped(&[("image", 2)], 9);
    Unchanged { marks, elapsed_ms }
}

fn second_run(subject: &FreshRepository) -> Result<(SnapshotReport, SnapshotReport), String> {
    let first = snapshot(subject, "host", 1)?;
    let writer = begin(subject, "host", 100)?;
    writer.unchanged(&database("one"), still()).map_err(text)?;
    Ok((first, writer.commit().map_err(text)?))
}

fn unchanged(subject: &FreshRepository) -> Outcome {
    let (_, second) = second_run(subject)?;
    ensure!(second.databases[0].record.unchanged, "the record does not say so");
    ensure!(second.databases[0].read_bytes == 0, "it counts as read");
    ensure!(image(subject, &only_id(&second)?)? == both(1), "another content came back");
    Ok(())
}

fn unchanged_time(subject: &FreshRepository) -> Outcome {
    let (first, second) = second_run(subject)?;
    let (first, second) = (&first.databases[0].record, &second.databases[0].record);
    ensure!(second.changed == first.changed, "the content changed at {}", second.changed);
    ensure!(second.time > first.time, "the run was at {}", second.time);
    Ok(())
}

fn reused(subject: &FreshRepository) -> Outcome {
    snapshot(subject, "host", 1)?;
    let one = database("one");
    let writer = begin(subject, "host", 2)?;
    writer.part(open(&one, "image", 1, MemoryPart::new(content(9)))).map_err(text)?;
    let (database, entry) = (one.clone(), entry("image"));
    let part = PartRef { database, entry, layout: Layout::Opaque, index: 0, previous_index: 1 };
    writer.reuse(part).map_err(text)?;
    writer.done(&one, dumped(&[("image", 2)], 2)).map_err(text)?;
    let id = only_id(&writer.commit().map_err(text)?)?;
    ensure!(image(subject, &id)? == [content(2), content(9)].concat(), "another part was taken");
    Ok(())
}

fn marks(subject: &FreshRepository) -> Outcome {
    second_run(subject)?;
    let previous = (subject.reopen)().previous(&target("shops"), "host", &subject.context).map_err(text)?;
    let one = previous.get(&database("one").name).ok_or("there is no previous backup")?;
    ensure!(one.marks == fake_marks(9), "the marks are {:?}", one.marks);
    let manifest = one.manifest().map_err(text)?;
    ensure!(manifest.entries.len() == 1, "the manifest is {manifest:?}");
    Ok(())
}

fn this_host(subject: &FreshRepository) -> Outcome {
    snapshot(subject, "host", 1)?;
    let repository = (subject.reopen)();
    for (name, host, count) in [("shops", "host", 1), ("shops", "other", 0), ("bank", "host", 0)] {
        let found = repository.previous(&target(name), host, &subject.context).map_err(text)?.len();
        ensure!(found == count, "{name} on {host} has {found} previous backups");
    }
    Ok(())
}

fn of_target(subject: &FreshRepository) -> Outcome {
    snapshot(subject, "host", 1)?;
    let writer = begin_of(subject, "bank", "host", 2)?;
    store(&*writer, &DatabaseRef { target: target("bank"), ..database("one") }, 3, 1)?;
    writer.commit().map_err(text)?;
    let repository = (subject.reopen)();
    for (name, count) in [(None, 2), (Some("bank"), 1), (Some("shops"), 1), (Some("none"), 0)] {
        let wanted = name.map(target);
        let found = repository.backups(wanted.as_ref(), &subject.context).map_err(text)?;
        let fits =
            |record: &repository::BackupRecord| wanted.as_ref().is_none_or(|name| record.target == *name);
        ensure!(found.len() == count && found.iter().all(fits), "{name:?} has {found:?}");
    }
    Ok(())
}

fn oldest_first(subject: &FreshRepository) -> Outcome {
    for seed in [5, 1, 9] {
        snapshot(subject, "host", seed)?;
    }
    let times: Vec<Timestamp> = list(subject)?.into_iter().map(|record| record.time).collect();
    ensure!(times.len() == 3 && times.is_sorted(), "the order is {times:?}");
    Ok(())
}

fn unknown(subject: &FreshRepository) -> Outcome {
    snapshot(subject, "host", 1)?;
    let id = BackupId("0123456789abcdef".repeat(4));
    let found = subject.repository.open(&id, &subject.context).map(drop).map_err(|error| error.kind);
    ensure!(found == Err(RepositoryErrorKind::NoBackup), "open gave {found:?}");
    let found = subject.repository.verify(&id, &subject.context).map_err(|error| error.kind);
    ensure!(found == Err(RepositoryErrorKind::NoBackup), "verify gave {found:?}");
    Ok(())
}

fn proofs(subject: &FreshRepository) -> Outcome {
    let ids = [1, 2].map(|seed| snapshot(subject, "host", seed).and_then(|report| only_id(&report)));
    let [first, second] = ids;
    let record = |id: &BackupId, second: i64, level| ProofRecord {
        backup: id.clone(),
        time: Timestamp::from_second(1_790_001_000 + second).unwrap_or_default(),
        level,
        problem: None,
        damaged_packs: vec!["aa".repeat(32)],
        host: "host".to_owned(),
        rows: BTreeMap::from([("orders".to_owned(), 7)]),
    };
    let (first, second) = (first?, second?);
    let older = record(&first, 1, Some(ProofLevel::Stored));
    let newest = [record(&first, 2, None), record(&second, 3, Some(ProofLevel::Equal))];
    for record in [&older, &newest[0], &newest[1]] {
        (subject.reopen)().append_proofs(vec![record.clone()], &subject.context).map_err(text)?;
    }
    // A newer record of the same backup may stand for the older ones.
    let found = (subject.reopen)().proofs(&subject.context).map_err(text)?;
    ensure!(newest.iter().all(|record| found.contains(record)), "kept is {found:?}");
    ensure!(list(subject)?.len() == 2, "a proof is listed as a backup");
    Ok(())
}

fn state(subject: &FreshRepository) -> Outcome {
    let record = |file: &str, second: i64| ConfigurationRecord {
        host: "host".to_owned(),
        file: file.to_owned(),
        time: Timestamp::from_second(1_790_001_000 + second).unwrap_or_default(),
        text: format!("as of {second}"),
        repository: None,
        key_file: None,
    };
    let proof = ProofRecord {
        backup: BackupId("0123456789abcdef".repeat(4)),
        time: Timestamp::from_second(1_790_001_000).unwrap_or_default(),
        level: Some(ProofLevel::Stored),
        problem: None,
        damaged_packs: vec![],
        host: "host".to_owned(),
        rows: BTreeMap::new(),
    };
    let first = State {
        configurations: [record("a", 2), record("b", 1)].into_iter().collect(),
        proofs: [proof].into_iter().collect(),
        ..State::default()
    };
    let mut expected = first.clone();
    // One that is newer, one by a clock that is behind the one of what is kept, and one of a new subject.
    let second = State {
        configurations: [record("a", 1), record("b", 3), record("c", 1)].into_iter().collect(),
        ..State::default()
    };
    expected.say(second.clone());
    for records in [first, second] {
        (subject.reopen)().append_state(records, &subject.context).map_err(text)?;
    }
    let found = (subject.reopen)().state(&subject.context).map_err(text)?;
    ensure!(found == expected, "kept is {found:?}");
    Ok(())
}

fn damage(subject: &FreshRepository) -> Outcome {
    let id = only_id(&snapshot(subject, "host", 1)?)?;
    let (repository, context) = (&subject.repository, &subject.context);
    let report = repository.verify(&id, context).map_err(text)?;
    let read = report.read_bytes;
    ensure!(report.errors.is_empty() && read >= both(1).len() as u64, "verify of a good one read {read}");
    ensure!(
        repository.check(CheckDepth::Data, context).map_err(text)?.errors.is_empty(),
        "check of a good one"
    );
    let Some(damage) = &subject.damage else { return Ok(()) };
    damage(&id);
    let repository = (subject.reopen)();
    // An error of the whole call says that it is damaged too.
    let errors = repository.verify(&id, context).map_or(1, |report| report.errors.len());
    ensure!(errors > 0, "verify found nothing");
    let report = repository.check(CheckDepth::Data, context).map_err(text)?;
    let named = report.errors.iter().any(|damage| damage.backups.contains(&id));
    ensure!(named, "check does not name the backup: {:?}", report.errors);
    Ok(())
}

fn entry_bytes(subject: &FreshRepository) -> Outcome {
    let (one, writer) = (database("one"), begin(subject, "host", 1)?);
    for (index, expected) in [(0, content(1).len()), (1, 2 * content(1).len())] {
        writer.part(open(&one, "image", index, MemoryPart::new(content(1)))).map_err(text)?;
        let (found, other) =
            (writer.entry_bytes(&one, &entry("image")), writer.entry_bytes(&one, &entry("log")));
        ensure!(found == expected as u64 && other == 0, "it tells {found} and {other}");
    }
    Ok(())
}

fn ids(subject: &FreshRepository) -> Outcome {
    let single = snapshot(subject, "host", 1)?;
    ensure!(only_id(&single)?.0 == single.snapshot, "a single backup is {:?}", single.databases[0].record.id);
    let writer = begin(subject, "host", 2)?;
    store(&*writer, &database("two"), 1, 1)?;
    store(&*writer, &database("one"), 3, 1)?;
    let report = writer.commit().map_err(text)?;
    let found: Vec<String> = report.databases.iter().map(|one| one.record.id.0.clone()).collect();
    let expected = ["one", "two"].map(|name| format!("{}:{name}", report.snapshot));
    ensure!(found == expected, "the ids are {found:?}");
    for (id, seed) in found.into_iter().zip([3, 1]) {
        ensure!(image(subject, &BackupId(id.clone()))? == both(seed), "{id} opens another backup");
    }
    Ok(())
}
