//! The promises about what earlier runs left: suspicions and their acceptance, baselines, and which databases there
//! were.

use super::{begin, begin_only, begin_part, database, list, only_id, snapshot, still, store, target};
use crate::FreshRepository;
use crate::memory_backup::{fake_facts, fake_marks};
use crate::suite::{Outcome, ensure, text};
use flow::{Content, Selection};
use jiff::Timestamp;
use repository::{AcceptanceRecord, BackupId, RepositoryErrorKind, State};

fn reasons() -> Vec<String> {
    vec!["table orders is gone (it had 7 rows)".to_owned(), "and more".to_owned()]
}

pub(super) fn suspicion(subject: &FreshRepository) -> Outcome {
    let [one, two] = ["one", "two"].map(database);
    let writer = begin(subject, "host", 1)?;
    let early = writer.suspect(&one, reasons()).map_err(|error| error.kind);
    ensure!(early == Err(RepositoryErrorKind::Invalid), "before `done` it gave {early:?}");
    store(&*writer, &one, 1, 1)?;
    store(&*writer, &two, 3, 1)?;
    writer.suspect(&one, reasons()).map_err(text)?;
    let report = writer.commit().map_err(text)?;
    let listed = list(subject)?;
    for records in [report.databases.into_iter().map(|one| one.record).collect(), listed] {
        let found = records.into_iter().map(|record| record.suspect).collect::<Vec<_>>();
        ensure!(found == [Some(reasons()), None], "the suspicions are {found:?}");
    }
    let writer = begin(subject, "host", 2)?;
    store(&*writer, &one, 1, 1)?;
    writer.suspect(&one, reasons()).map_err(text)?;
    writer.suspect(&one, vec![]).map_err(text)?;
    let found = writer.commit().map_err(text)?.databases.remove(0).record.suspect;
    ensure!(found.is_none(), "taken back, it is {found:?}");
    Ok(())
}

pub(super) fn unchanged_suspicion(subject: &FreshRepository) -> Outcome {
    let one = database("one");
    let writer = begin(subject, "host", 1)?;
    store(&*writer, &one, 1, 1)?;
    writer.suspect(&one, reasons()).map_err(text)?;
    writer.commit().map_err(text)?;
    for (second, changed) in [(100, false), (200, false), (300, true)] {
        let writer = begin(subject, "host", second)?;
        if changed {
            store(&*writer, &one, 5, 5)?;
        } else {
            writer.unchanged(&one, still()).map_err(text)?;
        }
        let record = writer.commit().map_err(text)?.databases.remove(0).record;
        let expected = (!changed).then(reasons);
        ensure!(record.suspect == expected, "the run of second {second} has {:?}", record.suspect);
        ensure!(list(subject)?.contains(&record), "the list shows another one");
    }
    Ok(())
}

/// Makes a snapshot of `one` that is suspect.
fn suspect_snapshot(subject: &FreshRepository, seed: u64) -> Result<BackupId, String> {
    let writer = begin(subject, "host", seed as i64)?;
    store(&*writer, &database("one"), seed, seed)?;
    writer.suspect(&database("one"), reasons()).map_err(text)?;
    only_id(&writer.commit().map_err(text)?)
}

fn accept(subject: &FreshRepository, backup: &BackupId) -> Outcome {
    let record = AcceptanceRecord {
        backup: backup.clone(),
        time: Timestamp::from_second(1_790_002_000).unwrap_or_default(),
        host: "host".to_owned(),
        user: "tester".to_owned(),
    };
    let records = State { acceptances: [record].into_iter().collect(), ..State::default() };
    (subject.reopen)().append_state(records, &subject.context).map_err(text)
}

pub(super) fn acceptance(subject: &FreshRepository) -> Outcome {
    let [first, second] = [suspect_snapshot(subject, 1)?, suspect_snapshot(subject, 2)?];
    let unchanged = |second: i64| -> Result<Option<Vec<String>>, String> {
        let writer = begin(subject, "host", second)?;
        writer.unchanged(&database("one"), still()).map_err(text)?;
        Ok(writer.commit().map_err(text)?.databases.remove(0).record.suspect)
    };
    ensure!(unchanged(100)?.is_some(), "the mark is gone before anybody accepted");
    accept(subject, &second)?;
    let records = list(subject)?;
    ensure!(records.len() == 3, "{records:?} is listed");
    for record in records {
        let expected = (record.id == first).then(reasons);
        ensure!(record.suspect == expected, "{} has {:?}", record.id, record.suspect);
    }
    let found = unchanged(200)?;
    ensure!(found.is_none(), "after the acceptance the next run has {found:?}");
    Ok(())
}

pub(super) fn baseline(subject: &FreshRepository) -> Outcome {
    let ask = |second: i64| -> Result<Option<BackupId>, String> {
        let writer = begin(subject, "host", second)?;
        Ok(writer.baseline(&database("one")).map_err(text)?.map(|baseline| baseline.backup))
    };
    ensure!(ask(1)?.is_none(), "there is one before the first backup");
    let elsewhere = only_id(&snapshot(subject, "other", 2)?)?;
    let found = ask(3)?;
    ensure!(found.as_ref() == Some(&elsewhere), "the first run of a host is measured by {found:?}");
    let good = only_id(&snapshot(subject, "host", 4)?)?;
    snapshot(subject, "other", 5)?;
    let mut last = good.clone();
    for seed in 6..28 {
        last = suspect_snapshot(subject, seed)?;
    }
    let found = ask(100)?;
    ensure!(found.as_ref() == Some(&good), "after many that are suspect it is {found:?}");
    let writer = begin(subject, "host", 101)?;
    let facts = writer.baseline(&database("one")).map_err(text)?.map(|baseline| baseline.facts);
    ensure!(facts == Some(fake_facts(1)), "its facts are {facts:?}");
    ensure!(writer.baseline(&database("two")).map_err(text)?.is_none(), "another database has one");
    drop(writer);
    accept(subject, &last)?;
    let found = ask(102)?;
    ensure!(found.as_ref() == Some(&last), "after the acceptance it is {found:?}");
    Ok(())
}

/// Makes a full run of `one`, `two` and `three`, the last of which fails, and a run of `two` alone.
fn full_and_part(subject: &FreshRepository) -> Result<BackupId, String> {
    let [one, two, three] = ["one", "two", "three"].map(database);
    let writer = begin(subject, "host", 10)?;
    store(&*writer, &one, 1, 1)?;
    store(&*writer, &two, 3, 1)?;
    writer.discard(&three, "a test");
    writer.commit().map_err(text)?;
    let writer = begin_only(subject, "shops", Some(&two), "host", 20)?;
    store(&*writer, &two, 5, 2)?;
    only_id(&writer.commit().map_err(text)?)
}

pub(super) fn one_alone(subject: &FreshRepository) -> Outcome {
    full_and_part(subject)?;
    let previous = (subject.reopen)().previous(&target("shops"), "host", &subject.context).map_err(text)?;
    let names: Vec<&str> = previous.keys().map(|name| name.as_str()).collect();
    ensure!(names == ["one", "two"], "previous backups are of {names:?}");
    let marks = &previous[&database("two").name].marks;
    ensure!(*marks == fake_marks(2), "the marks of `two` are {marks:?}");
    let tags = list(subject)?.into_iter().flat_map(|record| record.tags).collect::<Vec<_>>();
    ensure!(tags.is_empty(), "the tags are {tags:?}");
    Ok(())
}

pub(super) fn recent(subject: &FreshRepository) -> Outcome {
    let ask = |host: &str| (subject.reopen)().recent(&target("shops"), host, &subject.context).map_err(text);
    ensure!(ask("host")?.full_run.is_none(), "there is a run before the first one");
    let part = full_and_part(subject)?;
    let found = ask("host")?;
    let expected = Timestamp::from_second(1_790_000_010).map_err(text)?;
    ensure!(found.full_run == Some(expected), "the full run was at {:?}", found.full_run);
    let names: Vec<&str> = found.newest.iter().map(|name| name.as_str()).collect();
    ensure!(names == ["one", "three", "two"], "its databases are {names:?}");
    let names: Vec<&str> = found.backups.keys().map(|name| name.as_str()).collect();
    ensure!(names == ["one", "two"], "there are backups of {names:?}");
    ensure!(found.backups[&database("two").name].backup == part, "the newest backup is not the newest");
    let other = ask("other")?;
    // It has no run of its own, and the target is the same under its name.
    ensure!(other == ask("host")?, "a host that is new compares with {other:?}");
    Ok(())
}

pub(super) fn part_of_a_database(subject: &FreshRepository) -> Outcome {
    let part = |content| Selection {
        content,
        tables: vec![],
        schemas: vec!["a, b".to_owned()],
        exclude_table_data: vec![],
    };
    let one = database("one");
    let whole = only_id(&snapshot(subject, "host", 1)?)?;
    let baseline = |writer: &dyn repository::SnapshotWriter| -> Result<Option<BackupId>, String> {
        Ok(writer.baseline(&one).map_err(text)?.map(|baseline| baseline.backup))
    };
    let writer = begin_part(subject, part(Content::Schema), 50)?;
    let found = baseline(&*writer)?;
    ensure!(found.is_none(), "the first of a part is measured by {found:?}");
    store(&*writer, &one, 50, 50)?;
    let partial = only_id(&writer.commit().map_err(text)?)?;
    for (selection, expected) in [
        (None, Some(&whole)),
        (Some(part(Content::Schema)), Some(&partial)),
        (Some(part(Content::Data)), None),
    ] {
        let writer = match selection.clone() {
            Some(selection) => begin_part(subject, selection, 60)?,
            None => begin(subject, "host", 60)?,
        };
        let found = baseline(&*writer)?;
        ensure!(found.as_ref() == expected, "that of {selection:?} is {found:?}");
    }
    let repository = (subject.reopen)();
    let previous = repository.previous(&target("shops"), "host", &subject.context).map_err(text)?;
    ensure!(previous[&one.name].marks == fake_marks(1), "a part is the previous backup of the whole");
    let recent = repository.recent(&target("shops"), "host", &subject.context).map_err(text)?;
    ensure!(recent.backups[&one.name].backup == whole, "a part is the newest backup of the whole");
    for record in list(subject)? {
        let expected = (record.id == partial).then(|| Box::new(part(Content::Schema)));
        ensure!(record.selection == expected, "the list says {:?} of {}", record.selection, record.id);
    }
    let tags = list(subject)?.into_iter().flat_map(|record| record.tags).collect::<Vec<_>>();
    ensure!(tags.is_empty(), "the tags are {tags:?}");
    Ok(())
}
