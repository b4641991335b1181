//! The restore killed at each file-changing system call, by number. At that moment the target is the old or the new
//! database (or, where a log must move with the old one, nothing); then `--continue` and `--rollback`, each from that
//! very moment, both reach their end, the old database is kept or back, and a service that was stopped runs again.
//!
//! By default a seeded sample that hits every step; with `BACKSTAY_LONG=1` all calls. Needs `strace`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "support/crash/mod.rs"]
mod crash;

use crash::content::Kept;
use crash::restores::{Manner, Old, Restoring, Way, last_state, moment, name_of};
use crash::strace::{self, Call, Point};
use crash::{Draw, long, seed};
use std::collections::BTreeMap;

/// How many calls of each moment are tried by default, and of those in the swap.
const SAMPLE: usize = 1;
const SAMPLE_OF_SWAP: usize = 3;
const BEFORE: &str = "before the record";
const AFTER: &str = "after the record";

/// Lists the calls of a whole restore, each with the moment that the record shows when it comes.
fn points(restoring: &Restoring, arguments: &[&str]) -> Vec<(String, Point, Call)> {
    // The first run fills the cache.
    restoring.set_up();
    restoring.stage.done(arguments);
    restoring.set_up();
    let calls = strace::record(&restoring.stage, arguments);
    let main = calls.first().unwrap().thread;
    let record = restoring.stage.record();
    let mut now = BEFORE.to_owned();
    let mut found = Vec::new();
    for (point, call) in strace::points(&calls).into_iter().filter(|(_, call)| call.thread == main) {
        let about_record = call.file.as_deref() == Some(record.as_path());
        found.push((now.clone(), point, call.clone()));
        match call.name.as_str() {
            "write" if about_record => now = name_of(&last_state(&call.bytes(1)).unwrap()),
            "unlink" if about_record => now = AFTER.to_owned(),
            _ => {}
        }
    }
    found
}

fn chosen(all: &[(String, Point, Call)], work: &std::path::Path) -> Vec<(String, Point)> {
    let mut draw = Draw(seed());
    let mut groups: BTreeMap<&str, Vec<(String, Point)>> = BTreeMap::new();
    for (moment, point, call) in all {
        // The journal and the repository are written between the steps too; what matters is the target's folder.
        let matters = call.file.as_deref().is_some_and(|file| file.starts_with(work));
        if long() || matters || [BEFORE, AFTER].contains(&moment.as_str()) {
            groups.entry(moment).or_default().push((moment.clone(), point.clone()));
        }
    }
    let count = |moment: &str| match (long(), moment.starts_with("swap begun")) {
        (true, _) => usize::MAX,
        (false, true) => SAMPLE_OF_SWAP,
        (false, false) => SAMPLE,
    };
    groups.iter().flat_map(|(moment, group)| draw.sample(group, count(moment))).collect()
}

fn killed(old: Old, manner: Manner) {
    if !strace::present() {
        return;
    }
    let restoring = Restoring::new(old, manner);
    let arguments = restoring.arguments();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let all = points(&restoring, &arguments);
    let points = chosen(&all, &restoring.stage.work());
    let mut histogram: BTreeMap<String, u32> = BTreeMap::new();
    let mut missed = 0;
    for (expected, point) in &points {
        restoring.set_up();
        if !strace::kill_at(&restoring.stage, point, &arguments) {
            missed += 1;
            continue;
        }
        let shown = moment(&restoring.stage.record());
        *histogram.entry(shown.clone().unwrap_or_else(|| expected.clone())).or_default() += 1;
        let at = format!("killed at {point} ({expected}), the record shows {shown:?}");
        restoring.assert_whole(&at);
        let (kept, log) = (Kept::of(&restoring.stage.work()), restoring.log());
        for way in Way::BOTH {
            kept.put_back();
            restoring.set_log(&log);
            restoring.finish(way, &at);
        }
    }
    println!("{old:?}, {manner:?}: {} kills, {missed} missed", points.len() - missed);
    for (moment, count) in &histogram {
        println!("{count:6}  {moment}");
    }
    assert!(missed * 10 <= points.len(), "{missed} of {} calls never came", points.len());
    let wanted: Vec<&str> = ["preflight", "beside", "verify", "quiesce", "swap", "finish"].to_vec();
    for step in wanted {
        assert!(histogram.keys().any(|moment| moment.starts_with(step)), "no kill hit {step}: {histogram:?}");
    }
}

#[test]
fn over_a_closed_database() {
    killed(Old::Closed, Manner::Swap);
}

#[test]
fn over_a_database_with_commits_in_its_wal() {
    killed(Old::Wal, Manner::Swap);
}

#[test]
fn over_a_database_with_a_hot_journal() {
    killed(Old::Journal, Manner::Swap);
}

#[test]
fn where_there_was_no_database() {
    killed(Old::Nothing, Manner::Swap);
}

#[test]
fn with_a_service_that_is_stopped_and_started() {
    killed(Old::Wal, Manner::SwapWithService);
}

#[test]
fn written_into_a_closed_database() {
    killed(Old::Closed, Manner::InPlace);
}

#[test]
fn written_into_a_database_with_commits_in_its_wal() {
    killed(Old::Wal, Manner::InPlace);
}
