//! The power fails in the middle of a backup or a restore, and the disk loses what was not made durable: content, names,
//! both or (a kill) nothing. What a run did is recorded once and replayed to every point of it.
//!
//! Of a restore, `--continue` and `--rollback` end with the new or the old database. Of a backup, every one that is
//! listed restores to its own content, the next run goes through, and stock restic finds nothing wrong. By default a
//! seeded sample; with `BACKSTAY_LONG=1` every point. Needs `strace`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "support/crash/mod.rs"]
mod crash;

use crash::backups::{Generations, assert_stock_check};
use crash::restores::{Manner, Old, Restoring, Way, last_state, moment};
use crash::strace::{self, trace_for_replay};
use crash::{Draw, Stage, beside, long, names, seed};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use testkit::crash::{Disk, FileOperation, Lost, parse_strace};

/// How many outcomes of a cut are looked at by default.
const RESTORES: usize = 14;
const BACKUPS: usize = 10;

/// What a cut after some operations leaves.
#[derive(Clone)]
struct Cut {
    disk: Disk,
    lost: Lost,
    after: usize,
    last: String,
}

impl Cut {
    fn at(&self) -> String {
        format!("cut after operation {} ({}), losing {:?}", self.after, self.last, self.lost)
    }

    /// Puts the outcome in place of a folder.
    fn put(&self, folder: &Path) -> BTreeMap<usize, PathBuf> {
        std::fs::remove_dir_all(folder).unwrap();
        self.disk.materialise(self.lost, folder).unwrap()
    }
}

/// Lists the outcomes of a cut after each operation, each different one once.
fn cuts(before: &Disk, operations: &[FileOperation], root: &Path) -> Vec<Cut> {
    let scratch = tempfile::tempdir().unwrap();
    let mut disk = before.clone();
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for (index, operation) in operations.iter().enumerate() {
        disk.apply(operation).unwrap();
        let last = format!("{:?} {:?}", std::mem::discriminant(operation), operation.paths());
        for lost in Lost::ALL {
            let cut = Cut { disk: disk.clone(), lost, after: index + 1, last: last.clone() };
            let folder = scratch.path().join("outcome");
            std::fs::create_dir(&folder).unwrap();
            cut.put(&folder);
            if seen.insert(fingerprint(&folder)) {
                found.push(cut);
            }
            std::fs::remove_dir_all(&folder).unwrap();
        }
    }
    assert!(!found.is_empty(), "nothing was done below {}", root.display());
    found
}

/// A digest of all names, contents and links below a folder.
fn fingerprint(folder: &Path) -> Vec<u8> {
    let mut hash = Sha256::new();
    let mut inodes = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for name in names(&folder) {
            let path = folder.join(&name);
            hash.update(format!("{}\0", path.display()));
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let next = inodes.len();
            let number = *inodes.entry(path.metadata().unwrap().ino()).or_insert(next);
            hash.update(format!("{number}\0"));
            hash.update(Sha256::digest(std::fs::read(&path).unwrap()));
        }
    }
    hash.finalize().to_vec()
}

/// The files of a restore that its record knows by their inodes, as numbers of the replayed disk.
struct Known {
    old: Option<usize>,
    image: Option<usize>,
}

fn restore_cut(old: Old, manner: Manner) {
    if !strace::present() {
        return;
    }
    let restoring = Restoring::new(old, manner);
    let arguments = restoring.arguments();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    restoring.set_up();
    let work = restoring.stage.work();
    let before = Disk::load(&work).unwrap();
    let trace = trace_for_replay(&restoring.stage, &arguments);
    let operations = parse_strace(&trace, &before).unwrap();
    let target = restoring.stage.target();
    let mut after = before.clone();
    let mut known = Known { old: before.number(&target), image: None };
    for operation in &operations {
        after.apply(operation).unwrap();
        known.image = after.number(&beside(&target, ".backstay-image")).or(known.image);
    }
    assert_eq!(after.read(&target).unwrap(), std::fs::read(&target).unwrap(), "the replay ends elsewhere");

    let all = cuts(&before, &operations, &work);
    let drawn = Draw(seed()).sample(&all, if long() { usize::MAX } else { RESTORES });
    let mut histogram: BTreeMap<String, u32> = BTreeMap::new();
    for cut in &drawn {
        for way in Way::BOTH {
            let made = cut.put(&work);
            recognise(&restoring.stage.record(), &known, &made);
            let shown = moment(&restoring.stage.record());
            let at = format!("{old:?} {}, the record shows {shown:?}", cut.at());
            restoring.assert_whole(&at);
            *histogram.entry(shown.unwrap_or_else(|| "no record".to_owned())).or_default() += 1;
            restoring.finish(way, &at);
        }
    }
    println!("{old:?}: {} of {} outcomes of {} operations", drawn.len(), all.len(), operations.len());
    for (moment, count) in &histogram {
        println!("{count:6}  {moment}");
    }
    assert!(histogram.len() > 3, "{histogram:?}");
}

/// Makes the record know the files again: a replay gives them other inodes and times than the disk did.
fn recognise(record: &Path, known: &Known, made: &BTreeMap<usize, PathBuf>) {
    let Ok(bytes) = std::fs::read(record) else { return };
    let Some(state) = last_state(&bytes) else { return };
    let inode = |number: Option<usize>| Some(made.get(&number?)?.metadata().unwrap().ino());
    let mut text = String::from_utf8(bytes).unwrap();
    let files = [("old_inode", known.old), ("keep_inode", known.old), ("image_inode", known.image)];
    for (key, number) in files {
        text = with_number(&text, key, inode(number));
    }
    std::fs::write(record, text).unwrap();
    let marks =
        [(&state["engine"]["image_mark"], known.image), (&state["engine"]["swap"]["old_mark"], known.old)];
    for (mark, number) in marks {
        let (Some(seconds), Some(path)) =
            (mark["modified_s"].as_u64(), number.and_then(|number| made.get(&number)))
        else {
            continue;
        };
        let nanoseconds = u32::try_from(mark["modified_ns"].as_u64().unwrap()).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds);
        std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    }
}

/// Replaces the number after each `"key":`, where it is one.
fn with_number(text: &str, key: &str, number: Option<u64>) -> String {
    let key = format!("\"{key}\":");
    let mut pieces = text.split(&key);
    let mut replaced = pieces.next().unwrap().to_owned();
    for piece in pieces {
        let digits = piece.bytes().take_while(u8::is_ascii_digit).count();
        replaced.push_str(&key);
        if digits > 0 {
            replaced.push_str(&number.unwrap_or(0).to_string());
        }
        replaced.push_str(&piece[digits..]);
    }
    replaced
}

#[test]
fn of_a_restore_over_a_closed_database() {
    restore_cut(Old::Closed, Manner::Swap);
}

#[test]
fn of_a_restore_over_a_database_with_commits_in_its_wal() {
    restore_cut(Old::Wal, Manner::Swap);
}

#[test]
fn of_a_restore_over_a_database_with_a_hot_journal() {
    restore_cut(Old::Journal, Manner::Swap);
}

#[test]
fn of_a_restore_where_there_was_no_database() {
    restore_cut(Old::Nothing, Manner::Swap);
}

#[test]
fn of_a_restore_with_a_service_that_is_stopped_and_started() {
    restore_cut(Old::Wal, Manner::SwapWithService);
}

#[test]
fn of_a_restore_into_a_closed_database() {
    restore_cut(Old::Closed, Manner::InPlace);
}

fn backup_cut(first_run: bool) {
    if !strace::present() {
        return;
    }
    let stage = Stage::new();
    let mut generations = Generations::begin(&stage, 400);
    if !first_run {
        stage.back_up();
        generations.next(&stage);
    }
    let before = Disk::load(&stage.disk).unwrap();
    let trace = trace_for_replay(&stage, &["backup", &stage.target().display().to_string()]);
    let operations = parse_strace(&trace, &before).unwrap();
    let done = generations.newest;
    generations.next(&stage);
    let later = std::fs::read(stage.target()).unwrap();

    let all = cuts(&before, &operations, &stage.disk);
    let drawn = Draw(seed() + u64::from(first_run)).sample(&all, if long() { usize::MAX } else { BACKUPS });
    let mut stored = 0;
    for cut in &drawn {
        cut.put(&stage.disk);
        let at = cut.at();
        let listed = generations.assert_listed(&stage, &at);
        assert_eq!(listed.contains(&(done - 1)), !first_run, "{at}: the backup before is lost: {listed:?}");
        stored += u32::from(listed.contains(&done));
        assert_stock_check(&stage, &at);
        std::fs::write(stage.target(), &later).unwrap();
        stage.back_up();
        let listed = generations.assert_listed(&stage, &at);
        assert!(listed.contains(&generations.newest), "{at}: the next run stored nothing: {listed:?}");
        assert_stock_check(&stage, &at);
    }
    // Once the run has ended its backup is there, whatever is lost.
    let mut after = before.clone();
    operations.iter().for_each(|operation| after.apply(operation).unwrap());
    let last =
        Cut { disk: after, lost: Lost::Everything, after: operations.len(), last: "the end".to_owned() };
    last.put(&stage.disk);
    assert!(generations.assert_listed(&stage, &last.at()).contains(&done), "the backup was not durable");
    println!(
        "{} of {} outcomes of {} operations, {stored} with the backup",
        drawn.len(),
        all.len(),
        operations.len()
    );
}

#[test]
fn of_the_first_backup() {
    backup_cut(true);
}

#[test]
fn of_a_later_backup() {
    backup_cut(false);
}
