//! Stock restic as the judge: of 300 seeded histories, each a host of one repository, `restic forget --dry-run` keeps
//! and removes the same snapshots as we do, policy by policy.

use crate::history::{backup, origin, planned};
use flow::{Secret, TargetName};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use repository::retention::{Candidate, PruneScope, PruneSelector, Reason, Rules, Verdict};
use restic::{BlobKind, BlobWriter, CreateOptions, Snapshot, Tree, WriterOptions};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use storage::Storage;
use testkit::{MemoryStorage, Random};

const HOSTS: u64 = 300;

/// A history by its seed: steady by the hour, day, week or month, by chance, or in bursts; and where clocks are wrong,
/// in the future.
fn times(seed: u64) -> Vec<Timestamp> {
    let mut random = Random::new(seed);
    let mut time = Timestamp::now() - SignedDuration::from_secs(random.below(400_000) as i64);
    if seed.is_multiple_of(29) {
        time += SignedDuration::from_hours(100);
    }
    let mut times = BTreeSet::new();
    for _ in 0..4 + random.below(16) {
        times.insert(time);
        let hours = match seed % 6 {
            0 => 1,
            1 => 24,
            2 => 7 * 24,
            3 => 30 * 24 + random.below(48),
            4 => random.below(2000),
            _ if random.below(4) == 0 => random.below(5000),
            _ => random.below(3),
        };
        let seconds = random.below(if seed.is_multiple_of(2) { 1 } else { 5000 });
        time -= SignedDuration::from_hours(hours as i64) + SignedDuration::from_secs(seconds as i64 + 1);
    }
    times.into_iter().collect()
}

/// Writes the histories into a repository and returns its snapshots.
fn write(root: &Path) -> Vec<Candidate> {
    let memory = Arc::new(MemoryStorage::new());
    let options =
        CreateOptions { host: "host".into(), user: "user".into(), derivation_passes: Some(1), cache: None };
    let storage: Arc<dyn Storage> = memory.clone();
    let repository = restic::Repository::create(storage, &Secret::new("geheim"), options).unwrap();
    let repository = Arc::new(repository);
    let index = Arc::new(repository.load_index().unwrap());
    let blobs = BlobWriter::begin(Arc::clone(&repository), index, WriterOptions::default()).unwrap();
    let tree = blobs.save_blob(BlobKind::Tree, Tree::default().to_blob().unwrap()).unwrap().id;
    blobs.finish().unwrap();
    let mut written = Vec::new();
    for host in 0..HOSTS {
        for time in times(host) {
            let mut snapshot = Snapshot::new(time, tree);
            snapshot.hostname = format!("host-{host}");
            snapshot.paths = vec!["/srv".to_owned()];
            let id = repository.save_snapshot(&snapshot).unwrap().to_string();
            let target = TargetName::new(snapshot.hostname.clone()).unwrap();
            let mut made = Candidate { snapshot: id.into(), ..backup(0, time) };
            origin(&mut made).target = target;
            written.push(made);
        }
    }
    for (name, content) in memory.contents() {
        let path = root.join(name.as_str());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    std::fs::create_dir_all(root.join("locks")).unwrap();
    written
}

/// Returns what stock restic would keep and remove.
fn judged(root: &Path, policy: &[&str]) -> (BTreeSet<String>, BTreeSet<String>) {
    let output = Command::new("restic")
        .args(["--no-cache", "--no-lock", "--json", "--repo"])
        .arg(root)
        .args(["forget", "--dry-run", "--group-by", "host"])
        .args(policy)
        .env("RESTIC_PASSWORD", "geheim")
        .env("TZ", "UTC")
        .output()
        .expect("stock restic judges this test: `cargo xtask test` installs it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let groups: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let groups = groups.as_array().unwrap();
    assert_eq!(groups.len() as u64, HOSTS);
    let ids = |key: &str| -> BTreeSet<String> {
        let lists = groups.iter().filter_map(|group| group[key].as_array());
        lists.flatten().map(|snapshot| snapshot["id"].as_str().unwrap().to_owned()).collect()
    };
    (ids("keep"), ids("remove"))
}

#[test]
fn the_same_is_kept_and_removed_as_by_restic_forget() {
    let folder = tempfile::tempdir().unwrap();
    let written = write(folder.path());
    let span = |text: &str| Some(text.parse().unwrap());
    let policies: Vec<(Vec<&str>, Rules)> = vec![
        (vec!["--keep-last", "3"], Rules { last: 3, ..Rules::default() }),
        (vec!["--keep-hourly", "5"], Rules { hourly: 5, ..Rules::default() }),
        (vec!["--keep-daily", "7"], Rules { daily: 7, ..Rules::default() }),
        (vec!["--keep-weekly", "4"], Rules { weekly: 4, ..Rules::default() }),
        (vec!["--keep-monthly", "6"], Rules { monthly: 6, ..Rules::default() }),
        (vec!["--keep-yearly", "2"], Rules { yearly: 2, ..Rules::default() }),
        (vec!["--keep-within", "12d"], Rules { within: span("12d"), ..Rules::default() }),
        (vec!["--keep-within", "1y2m3d4h"], Rules { within: span("1y2m3d4h"), ..Rules::default() }),
        (
            vec!["--keep-daily", "7", "--keep-weekly", "4", "--keep-monthly", "12", "--keep-yearly", "3"],
            Rules { daily: 7, weekly: 4, monthly: 12, yearly: 3, ..Rules::default() },
        ),
        (
            vec!["--keep-last", "1", "--keep-hourly", "3", "--keep-within", "1m"],
            Rules { last: 1, hourly: 3, within: span("1m"), ..Rules::default() },
        ),
    ];
    for (policy, rules) in policies {
        let (kept, removed) = judged(folder.path(), &policy);
        let scope =
            PruneScope { selector: PruneSelector::default(), rules, zone: TimeZone::UTC, hold_ages: false };
        let decision = planned(&written, &[scope], Timestamp::now());
        // Of clocks that were ahead stock restic removes what they were right about; ours keeps the newest of that.
        let only_of_now = |verdict: &&Verdict| *verdict.reasons == [Reason::NewestOfNow];
        let of_now: BTreeSet<String> =
            decision.verdicts.iter().filter(only_of_now).map(|verdict| verdict.backup.id().0).collect();
        assert!(of_now.len() as u64 <= HOSTS / 29 + 1, "{of_now:?}");
        let ours: BTreeSet<String> =
            crate::history::ids(&decision, true).difference(&of_now).cloned().collect();
        let differing: Vec<_> = ours.symmetric_difference(&kept).collect();
        assert!(differing.is_empty(), "{policy:?}: {differing:?}");
        assert!(
            decision.snapshots.iter().map(ToString::to_string).chain(of_now).collect::<BTreeSet<_>>()
                == removed,
            "{policy:?}"
        );
        assert!(!removed.is_empty() && kept.len() as u64 >= HOSTS, "{policy:?} says something");
    }
}
