//! The conformance suite of [`Dump`]: one check for each promise of its documentation, on any engine.

use crate::drain::{Drained, drain};
use crate::suite::{Broken, Outcome, demand, ensure, run, text};
use flow::{
    BackupReader, Context, DatabaseName, DatabaseRef, DatabaseRequest, Dump, DumpOptions, DumpRequest,
    Layout, PartReader, Previous, SourceError, SourceErrorKind, Step, TargetRef,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SIZE_BYTES: u64 = 3 << 20;

/// An engine to be tried, with databases that can be made, changed and spoiled.
pub trait DumpSubject {
    /// Returns the target that all databases belong to.
    fn target(&self) -> TargetRef;

    /// Makes a database of about that size.
    fn make(&self, name: &str, size_bytes: u64) -> DatabaseRef;

    /// Changes some of a database's content.
    fn change(&self, database: &DatabaseRef);

    /// Spoils a database so that no backup of it can succeed.
    fn spoil(&self, database: &DatabaseRef);

    /// Lets the time pass after which a database that did not change is known as unchanged.
    fn settle(&self);

    /// Begins a dump.
    fn begin(&self, request: &DumpRequest, context: Context) -> Result<Box<dyn Dump>, SourceError>;

    /// Returns a new context.
    fn context(&self) -> Context;

    /// Returns what a dump left behind that is over: files, locks, children.
    fn leftovers(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Panics unless the engine keeps every promise of a dump.
#[track_caller]
pub fn dump_conformance<S: DumpSubject>(make: impl Fn() -> S) {
    demand(&broken_dump_promises(make));
}

/// Returns the promises of a dump that the engine does not keep.
pub fn broken_dump_promises<S: DumpSubject>(make: impl Fn() -> S) -> Vec<Broken> {
    run(
        &make,
        &[
            ("every database gets exactly one verdict", one_verdict),
            ("a verdict comes after all parts were read", verdict_last),
            ("a verdict waits for an open part", verdict_waits),
            ("parts have no gap and their number is told", no_gaps),
            ("layouts agree and parts of pages are multiples of the cut", layouts),
            ("a part tells its size", sizes),
            ("the number of workers changes nothing", same_bytes),
            ("one failing database takes no other with it", isolation),
            ("a part that is dropped fails its database", dropped_part),
            ("cancel wakes who waits", cancelled),
            ("what did not change is not read", unchanged),
            ("read_all reads what did not change", read_all),
            ("what changed is read", changed),
            ("a dump that is dropped leaves nothing behind", dropped_dump),
            ("finish accepts a whole dump", finished),
        ],
    )
}

fn request<S: DumpSubject>(subject: &S, databases: &[&DatabaseRef]) -> DumpRequest {
    let wanted = |database: &&DatabaseRef| DatabaseRequest { database: (*database).clone(), previous: None };
    DumpRequest {
        target: subject.target(),
        databases: databases.iter().map(wanted).collect(),
        options: DumpOptions { jobs: 3, ..DumpOptions::default() },
    }
}

fn dump<S: DumpSubject>(subject: &S, request: &DumpRequest, workers: usize) -> Result<Drained, String> {
    Ok(drain(subject.begin(request, subject.context()).map_err(text)?, workers))
}

fn good<S: DumpSubject>(subject: &S, databases: &[&DatabaseRef], workers: usize) -> Result<Drained, String> {
    let drained = dump(subject, &request(subject, databases), workers)?;
    for (name, one) in &drained.databases {
        ensure!(one.dumped().is_some(), "{name}: {:?}", one.verdicts);
    }
    Ok(drained)
}

fn violated(drained: &Drained, word: &str) -> Outcome {
    match drained.violations.iter().find(|violation| violation.contains(word)) {
        Some(violation) => Err(violation.clone()),
        None => Ok(()),
    }
}

fn three<S: DumpSubject>(subject: &S) -> [DatabaseRef; 3] {
    [subject.make("one", SIZE_BYTES), subject.make("two", 1), subject.make("three", SIZE_BYTES / 2)]
}

fn one_verdict<S: DumpSubject>(subject: &S) -> Outcome {
    let [one, two, three] = three(subject);
    let drained = good(subject, &[&one, &two, &three], 3)?;
    violated(&drained, "after its end")?;
    for database in [&one, &two, &three] {
        let count = drained.databases.get(&database.name).map_or(0, |found| found.verdicts.len());
        ensure!(count == 1, "{} got {count} verdicts", database.name);
    }
    ensure!(drained.databases.len() == 3, "there were {} databases", drained.databases.len());
    Ok(())
}

fn verdict_last<S: DumpSubject>(subject: &S) -> Outcome {
    let [one, two, three] = three(subject);
    let drained = good(subject, &[&one, &two, &three], 4)?;
    violated(&drained, "verdict")
}

fn verdict_waits<S: DumpSubject>(subject: &S) -> Outcome {
    let one = subject.make("one", 1);
    let dump = subject.begin(&request(subject, &[&one]), subject.context()).map_err(text)?;
    let Some(Step::Part(mut part)) = dump.next().map_err(text)? else {
        return Err("the first step is not a part".to_owned());
    };
    std::thread::scope(|scope| {
        // Takes all other parts and then waits for the one that is held.
        let other = scope.spawn(|| take_until_verdict(&*dump));
        std::thread::sleep(Duration::from_millis(300));
        ensure!(!other.is_finished(), "the verdict came while a part was open");
        read_all_of(&mut *part.reader)?;
        part.reader.finish().map_err(text)?;
        other.join().map_err(|_| "a worker panicked".to_owned())?
    })
}

fn take_until_verdict(dump: &dyn Dump) -> Outcome {
    loop {
        match dump.next().map_err(text)? {
            Some(Step::Part(mut part)) => {
                read_all_of(&mut *part.reader)?;
                part.reader.finish().map_err(text)?;
            }
            Some(Step::Done(_, verdict)) => return verdict.map(drop).map_err(text),
            Some(_) => {}
            None => return Err("there was no verdict".to_owned()),
        }
    }
}

fn read_all_of(reader: &mut dyn PartReader) -> Outcome {
    let mut buffer = vec![0; 65_536];
    while reader.read(&mut buffer).map_err(text)? > 0 {}
    Ok(())
}

fn no_gaps<S: DumpSubject>(subject: &S) -> Outcome {
    let [one, two, three] = three(subject);
    for (name, found) in good(subject, &[&one, &two, &three], 3)?.databases {
        let dumped = found.dumped().ok_or("no verdict")?;
        let told: Vec<_> = dumped.entries.iter().map(|(entry, (_, count))| (entry, *count)).collect();
        let given: Vec<_> = found.parts.iter().map(|(entry, parts)| (entry, parts.len() as u32)).collect();
        ensure!(told == given, "{name} told {told:?} and gave {given:?}");
        for (entry, parts) in &found.parts {
            let whole = parts.keys().copied().eq(0..parts.len() as u32);
            ensure!(whole, "{name}/{entry} has the parts {:?}", parts.keys());
        }
    }
    Ok(())
}

fn layouts<S: DumpSubject>(subject: &S) -> Outcome {
    let one = subject.make("one", SIZE_BYTES);
    for found in good(subject, &[&one], 2)?.databases.values() {
        let dumped = found.dumped().ok_or("no verdict")?;
        for (entry, parts) in &found.parts {
            let told = dumped.entries.get(entry).map(|(layout, _)| *layout);
            let last = parts.keys().last().copied();
            for (index, (layout, bytes, _)) in parts {
                ensure!(Some(*layout) == told, "part {index} of {entry} has {layout:?}, told is {told:?}");
                let Layout::Pages { page_bytes, cut_bytes } = *layout else { continue };
                let cut_fits = page_bytes > 0 && cut_bytes > 0 && cut_bytes.is_multiple_of(page_bytes);
                ensure!(cut_fits, "{layout:?} is no multiple");
                let fits = bytes.len().is_multiple_of(cut_bytes as usize) || Some(*index) == last;
                ensure!(fits, "part {index} of {entry} has {} bytes, cut at {cut_bytes}", bytes.len());
            }
        }
    }
    Ok(())
}

fn sizes<S: DumpSubject>(subject: &S) -> Outcome {
    let [one, two, three] = three(subject);
    violated(&good(subject, &[&one, &two, &three], 2)?, "told")
}

fn same_bytes<S: DumpSubject>(subject: &S) -> Outcome {
    let one = subject.make("one", SIZE_BYTES);
    let mut seen = BTreeSet::new();
    for jobs in [1, 4] {
        let mut request = request(subject, &[&one]);
        request.options.jobs = jobs;
        let drained = dump(subject, &request, jobs)?;
        let found = drained.databases.get(&one.name).ok_or("the database is missing")?;
        let parts: Vec<_> = found
            .parts
            .iter()
            .map(|(entry, parts)| {
                let parts: Vec<_> = parts.iter().map(|(index, part)| (*index, part.1.clone())).collect();
                (entry.clone(), parts)
            })
            .collect();
        ensure!(!parts.is_empty(), "there are no parts");
        seen.insert(parts);
    }
    ensure!(seen.len() == 1, "one worker gets other parts than four");
    Ok(())
}

fn isolation<S: DumpSubject>(subject: &S) -> Outcome {
    let [one, two, three] = three(subject);
    subject.spoil(&two);
    let drained = dump(subject, &request(subject, &[&one, &two, &three]), 2)?;
    ensure!(drained.error.is_none(), "the dump failed: {:?}", drained.error);
    for database in [&one, &two, &three] {
        let good = drained.databases.get(&database.name).is_some_and(|found| found.dumped().is_some());
        ensure!(good == (database != &two), "the verdict on {} is {good}", database.name);
    }
    Ok(())
}

fn dropped_part<S: DumpSubject>(subject: &S) -> Outcome {
    let one = subject.make("one", SIZE_BYTES);
    let dump = subject.begin(&request(subject, &[&one]), subject.context()).map_err(text)?;
    let Some(Step::Part(mut part)) = dump.next().map_err(text)? else {
        return Err("the first step is not a part".to_owned());
    };
    part.reader.read(&mut [0; 512]).map_err(text)?;
    drop(part);
    let drained = drain(dump, 2);
    let failed = drained.databases.get(&one.name).is_some_and(|found| found.dumped().is_none());
    ensure!(failed || drained.error.is_some(), "nobody minded");
    Ok(())
}

fn cancelled<S: DumpSubject>(subject: &S) -> Outcome {
    let one = subject.make("one", 1);
    let context = subject.context();
    let cancel = context.cancel.clone();
    let dump = subject.begin(&request(subject, &[&one]), context).map_err(text)?;
    let held = dump.next().map_err(text)?;
    let started = Instant::now();
    let outcome = std::thread::scope(|scope| {
        let waiter = scope.spawn(|| take_until_error(&*dump));
        std::thread::sleep(Duration::from_millis(100));
        cancel.cancel();
        let woken = || waiter.is_finished() || started.elapsed() > Duration::from_secs(5);
        while !woken() {
            std::thread::sleep(Duration::from_millis(10));
        }
        // Without its part the dump comes to an end by itself, so that nobody waits here for ever.
        drop(held);
        waiter.join().map_err(|_| "a worker panicked".to_owned())
    })?;
    ensure!(outcome == Some(SourceErrorKind::Cancelled), "it gave {outcome:?}");
    ensure!(started.elapsed() < Duration::from_secs(5), "it took {:?}", started.elapsed());
    Ok(())
}

fn take_until_error(dump: &dyn Dump) -> Option<SourceErrorKind> {
    // Ends by itself where nobody wakes it, for `next` has nothing left then.
    for _ in 0..100_000 {
        match dump.next() {
            Err(error) => return Some(error.kind),
            Ok(Some(Step::Part(mut part))) => {
                if let Err(error) = read_all_of(&mut *part.reader) {
                    return error.contains("interrupted").then_some(SourceErrorKind::Cancelled);
                }
                let _ = part.reader.finish();
            }
            Ok(Some(_)) => {}
            Ok(None) => return None,
        }
    }
    None
}

/// Dumps twice, with the marks of the first time in the second request; returns the second outcome.
fn twice<S: DumpSubject>(
    subject: &S,
    between: impl FnOnce(&DatabaseRef),
    read_all: bool,
) -> Result<(Drained, DatabaseName), String> {
    let one = subject.make("one", SIZE_BYTES);
    subject.settle();
    let first = good(subject, &[&one], 2)?;
    let found = first.databases.get(&one.name).ok_or("the database is missing")?;
    let backup = found.backup().ok_or("no verdict")?;
    let marks = found.dumped().ok_or("no verdict")?.marks.clone();
    between(&one);
    let mut request = request(subject, &[&one]);
    request.options.read_all = read_all;
    request.databases[0].previous = Some(Previous::of(marks, Arc::new(backup.manifest().clone())));
    Ok((dump(subject, &request, 2)?, one.name))
}

fn unchanged<S: DumpSubject>(subject: &S) -> Outcome {
    let (drained, name) = twice(subject, |_| (), false)?;
    let found = drained.databases.get(&name).ok_or("the database is missing")?;
    ensure!(found.unchanged && found.parts.is_empty(), "it was read again: {:?}", found.verdicts);
    Ok(())
}

fn read_all<S: DumpSubject>(subject: &S) -> Outcome {
    let (drained, name) = twice(subject, |_| (), true)?;
    let found = drained.databases.get(&name).ok_or("the database is missing")?;
    ensure!(!found.unchanged && !found.parts.is_empty(), "it was not read");
    ensure!(found.dumped().is_some(), "it failed: {:?}", found.verdicts);
    Ok(())
}

fn changed<S: DumpSubject>(subject: &S) -> Outcome {
    let (drained, name) = twice(subject, |database| subject.change(database), false)?;
    let found = drained.databases.get(&name).ok_or("the database is missing")?;
    ensure!(!found.unchanged, "the change was not noticed");
    ensure!(found.dumped().is_some(), "it failed: {:?}", found.verdicts);
    Ok(())
}

fn dropped_dump<S: DumpSubject>(subject: &S) -> Outcome {
    let one = subject.make("one", SIZE_BYTES);
    let dump = subject.begin(&request(subject, &[&one]), subject.context()).map_err(text)?;
    let step = dump.next().map_err(text)?;
    drop(step);
    drop(dump);
    let left = subject.leftovers();
    ensure!(left.is_empty(), "left is {left:?}");
    good(subject, &[&one], 2)?;
    let left = subject.leftovers();
    ensure!(left.is_empty(), "a whole dump left {left:?}");
    Ok(())
}

fn finished<S: DumpSubject>(subject: &S) -> Outcome {
    let [one, two, three] = three(subject);
    let drained = good(subject, &[&one, &two, &three], 2)?;
    ensure!(drained.error.is_none(), "{:?}", drained.error);
    Ok(())
}
