//! Locks, against ourselves and against stock restic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use restic::{Cut, LockKind, LockOptions, LockOwner, Repository, ResticErrorKind};
use std::process::Command;
use std::sync::{Arc, Barrier};
use std::time::Duration;
use support::{Place, backup, lossy};

fn owner() -> LockOwner {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned();
    LockOwner { host, user: "tester".into(), pid: std::process::id(), uid: 0, gid: 0 }
}

fn take(repository: &Repository, kind: LockKind) -> Result<restic::LockGuard, restic::ResticError> {
    repository.lock(kind, &owner(), LockOptions::default())
}

/// A process id that is no longer in use.
fn dead_pid() -> u32 {
    let mut child = Command::new("true").spawn().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    pid
}

#[test]
fn shared_locks_go_together_and_exclusive_ones_with_none() {
    let (place, repository) = Place::with_our_repository();
    let first = take(&repository, LockKind::Shared).unwrap();
    let second = take(&repository, LockKind::Shared).unwrap();
    let error = take(&repository, LockKind::Exclusive).unwrap_err();
    let ResticErrorKind::Locked(holder) = &error.kind else { panic!("{error}") };
    assert_eq!((holder.pid, holder.exclusive, holder.user.as_str()), (std::process::id(), false, "tester"));
    assert!(holder.age < Duration::from_secs(60));
    let text = error.to_string();
    for part in [place.repo().to_str().unwrap(), &owner().host, "tester", &std::process::id().to_string()] {
        assert!(text.contains(part), "{text} lacks {part}");
    }
    first.ensure_fresh().unwrap();
    drop((first, second));
    assert_eq!(place.objects("locks").len(), 0);
    let alone = take(&repository, LockKind::Exclusive).unwrap();
    for kind in [LockKind::Shared, LockKind::Exclusive] {
        let error = take(&repository, kind).unwrap_err();
        assert!(matches!(&error.kind, ResticErrorKind::Locked(holder) if holder.exclusive));
        assert!(error.to_string().contains("exclusively"));
    }
    assert_eq!(place.objects("locks").len(), 1, "whoever backs out leaves nothing");
    drop(alone);
    drop(take(&repository, LockKind::Shared).unwrap());
}

#[test]
fn of_many_that_race_at_most_one_gets_an_exclusive_lock() {
    let (place, repository) = Place::with_our_repository();
    let mut won = 0;
    for _ in 0..15 {
        let start = Arc::new(Barrier::new(4));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (repository, start) = (repository.clone(), start.clone());
                std::thread::spawn(move || {
                    start.wait();
                    let lock = take(&repository, LockKind::Exclusive).ok();
                    // Held until all have tried.
                    start.wait();
                    u32::from(lock.is_some())
                })
            })
            .collect();
        let winners: u32 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert!(winners <= 1, "{winners} exclusive locks at once");
        won += winners;
        assert_eq!(place.objects("locks").len(), 0);
    }
    // All may back out of a race; one that runs alone must win.
    assert!(won > 0 || take(&repository, LockKind::Exclusive).is_ok());
}

#[test]
fn our_lock_keeps_stock_restic_out_and_its_lock_keeps_us_out() {
    let (place, repository) = Place::with_our_repository();
    backup(&repository, &[("a", b"a", Cut::ContentDefined)]);
    let lock = take(&repository, LockKind::Shared).unwrap();
    for arguments in [&["check"][..], &["forget", "--prune", "latest"], &["prune"]] {
        let output = place.try_restic(arguments);
        assert!(!output.status.success());
        let said = lossy(&output.stderr);
        assert!(said.contains("already locked") && said.contains(&std::process::id().to_string()), "{said}");
    }
    place.restic(&["snapshots"]);
    drop(lock);
    place.restic(&["check"]);
    let exclusive = take(&repository, LockKind::Exclusive).unwrap();
    std::fs::write(place.path("file"), b"x").unwrap();
    assert!(!place.try_restic(&["backup", "file"]).status.success());
    drop(exclusive);

    // Stock restic holds its lock while it waits for its standard input.
    let mut child = Command::new("restic")
        .args(["backup", "--stdin", "--no-cache", "-r"])
        .arg(place.repo())
        .env("RESTIC_PASSWORD", support::PASSWORD)
        .env("HOME", place.folder.path())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while place.objects("locks").is_empty() {
        assert!(std::time::Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(20));
    }
    // Named so while it is being written, maybe: then it is the next look that sees it.
    std::thread::sleep(Duration::from_millis(300));
    let error = take(&repository, LockKind::Exclusive).unwrap_err();
    let ResticErrorKind::Locked(holder) = error.kind else { panic!("{error}") };
    assert_eq!((holder.pid, holder.host), (child.id(), owner().host));
    drop(take(&repository, LockKind::Shared).unwrap());
    child.kill().unwrap();
    child.wait().unwrap();
    // It left its lock behind; its process is gone, on this host.
    assert_eq!(place.objects("locks").len(), 1);
    let lock = take(&repository, LockKind::Exclusive).unwrap();
    assert_eq!(place.objects("locks").len(), 1, "the dead one's lock is removed");
    drop(lock);
}

#[test]
fn stale_locks_do_not_count() {
    let (place, repository) = Place::with_our_repository();
    let hold = |owner: &LockOwner, stale: Duration| {
        let options = LockOptions { refresh: Duration::from_secs(3600), stale };
        repository.lock(LockKind::Exclusive, owner, options)
    };
    let dead = LockOwner { pid: dead_pid(), ..owner() };
    std::mem::forget(hold(&dead, Duration::from_secs(1800)).unwrap());
    drop(hold(&owner(), Duration::from_secs(1800)).unwrap());
    assert_eq!(place.objects("locks").len(), 0);

    let elsewhere = LockOwner { host: "elsewhere".into(), ..dead };
    std::mem::forget(hold(&elsewhere, Duration::from_secs(1800)).unwrap());
    let error = hold(&owner(), Duration::from_secs(1800)).unwrap_err();
    assert!(matches!(error.kind, ResticErrorKind::Locked(_)), "of another host's processes nothing is known");
    std::thread::sleep(Duration::from_millis(300));
    drop(hold(&owner(), Duration::from_millis(250)).unwrap());
    assert_eq!(place.objects("locks").len(), 0, "an old one that was in the way is gone");
    assert_eq!(repository.locks(&owner().host).unwrap(), vec![]);
    std::fs::write(place.repo().join("locks").join("0".repeat(64)), b"").unwrap();
    drop(hold(&owner(), Duration::from_millis(250)).unwrap());
    std::fs::write(place.repo().join("locks").join("1".repeat(64)), b"what is this").unwrap();
    let error = hold(&owner(), Duration::from_millis(250)).unwrap_err();
    assert_eq!(error.kind, ResticErrorKind::Damaged);
    assert!(error.object.starts_with("lock 1111"));
}

#[test]
fn whoever_is_passed_over_as_stale_learns_of_it() {
    use LockKind::{Exclusive, Shared};
    // The clocks of the two are apart: what is fresh to its owner is stale to the other one.
    let elsewhere = LockOwner { host: "elsewhere".into(), ..owner() };
    let hasty = LockOptions { refresh: Duration::from_secs(3600), stale: Duration::from_millis(100) };
    for (held, taken) in [(Shared, Exclusive), (Exclusive, Shared), (Exclusive, Exclusive), (Shared, Shared)]
    {
        let (place, repository) = Place::with_our_repository();
        let slow = repository.lock(held, &elsewhere, LockOptions::default()).unwrap();
        std::thread::sleep(Duration::from_millis(150));
        let other = repository.lock(taken, &owner(), hasty).unwrap();
        let told = slow.ensure_fresh().map_err(|error| error.kind);
        if (held, taken) == (Shared, Shared) {
            assert_eq!(told, Ok(()), "two that share are in nobody's way");
        } else {
            assert_eq!(told, Err(ResticErrorKind::LockLost), "{held:?} and {taken:?}");
            assert_eq!(place.objects("locks").len(), 1);
        }
        drop((other, slow));
        assert_eq!(place.objects("locks").len(), 0);
    }
}

#[test]
fn a_lock_is_refreshed_and_its_loss_is_noticed() {
    let (place, repository) = Place::with_our_repository();
    let quick = LockOptions { refresh: Duration::from_millis(40), ..LockOptions::default() };
    let lock = repository.lock(LockKind::Shared, &owner(), quick).unwrap();
    let first = lock.id();
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while lock.id() == first {
        assert!(std::time::Instant::now() < deadline, "never refreshed");
        std::thread::sleep(Duration::from_millis(10));
        assert!(!place.objects("locks").is_empty(), "there is no moment without a lock");
    }
    lock.ensure_fresh().unwrap();
    drop(lock);
    assert_eq!(place.objects("locks").len(), 0);

    let lock = take(&repository, LockKind::Shared).unwrap();
    for object in place.objects("locks") {
        std::fs::remove_file(object).unwrap();
    }
    let error = lock.ensure_fresh().unwrap_err();
    assert_eq!(error.kind, ResticErrorKind::LockLost);
    assert!(error.object.contains(&lock.id().to_string()));
    drop(lock);

    let slow = LockOptions { refresh: Duration::from_secs(3600), stale: Duration::from_millis(100) };
    let lock = repository.lock(LockKind::Shared, &owner(), slow).unwrap();
    std::thread::sleep(Duration::from_millis(150));
    assert_eq!(lock.ensure_fresh().unwrap_err().kind, ResticErrorKind::LockLost);
}
