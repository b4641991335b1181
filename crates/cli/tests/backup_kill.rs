//! A backup killed at file-changing system calls: what is listed afterwards restores to its own content, the next run
//! goes through at once, and stock restic finds nothing wrong.
//!
//! By default a seeded sample; with `BACKSTAY_LONG=1` all calls. Needs `strace`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "support/crash/mod.rs"]
mod crash;

use crash::backups::{Generations, assert_stock_check};
use crash::strace::{self, Point};
use crash::{Draw, Stage, long, names, seed};
use std::collections::BTreeSet;

const SAMPLE: usize = 12;

/// Lists the calls of a backup on a machine like the one to be crashed: those that reach its repository or its cache.
fn points(first_run: bool, rows: u32) -> Vec<Point> {
    let stage = Stage::new();
    let mut generations = Generations::begin(&stage, rows);
    if !first_run {
        stage.back_up();
        generations.next(&stage);
    }
    let calls = strace::record(&stage, &["backup", &stage.target().display().to_string()]);
    let mut seen = BTreeSet::new();
    strace::points(&calls)
        .into_iter()
        .filter(|(_, call)| call.file.as_deref().is_some_and(|file| file.starts_with(&stage.disk)))
        .filter(|(point, _)| seen.insert((point.name.clone(), point.number)))
        .map(|(point, _)| point)
        .collect()
}

fn killed(first_run: bool, rows: u32) {
    if !strace::present() {
        return;
    }
    let all = points(first_run, rows);
    let drawn = Draw(seed() + u64::from(first_run)).sample(&all, if long() { usize::MAX } else { SAMPLE });
    let mut kills = 0;
    for chunk in drawn.chunks(if first_run { 1 } else { 3 }) {
        let stage = Stage::new();
        let mut generations = Generations::begin(&stage, rows);
        if !first_run {
            stage.back_up();
        }
        for point in chunk {
            let at = format!("killed at {point}");
            if !first_run {
                generations.next(&stage);
            }
            let killed = strace::kill_at(&stage, point, &["backup", &stage.target().display().to_string()]);
            kills += u32::from(killed);
            stage.done(&["list"]);
            generations.next(&stage);
            stage.back_up();
            let listed = generations.assert_listed(&stage, &at);
            assert!(listed.contains(&generations.newest), "{at}: the next run stored nothing: {listed:?}");
            assert_stock_check(&stage, &at);
            // A file that was never given its name is no lock, to us and to restic.
            let locks = names(&stage.repository().join("locks"));
            assert!(
                locks.iter().all(|name| name.starts_with(".backstay-")),
                "{at}: locks are left: {locks:?}"
            );
        }
    }
    println!("{kills} kills of {} calls", all.len());
    assert!(kills > 0, "nothing was killed");
}

#[test]
fn a_later_backup() {
    killed(false, 3000);
}

#[test]
fn the_first_backup() {
    killed(true, 300);
}
