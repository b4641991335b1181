//! Each object of a small repository flipped, cut, emptied and removed in turn: a check finds it, and a restore gives the
//! right content or refuses, whatever it was. Afterwards a heal and a backup make stock restic content again.
//!
//! By default a quarter of the cases, another quarter with another `BACKSTAY_SEED`; with `BACKSTAY_LONG=1` all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, unreachable_pub)]

#[path = "seams/mod.rs"]
mod seams;
mod support;

use seams::{Place, contents, sql};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hurt {
    Flipped,
    Cut,
    Emptied,
    Removed,
}

/// The parts that the cases are drawn in.
const PARTS: usize = 4;

impl Hurt {
    fn apply(self, path: &Path, at: usize) {
        let mut content = std::fs::read(path).unwrap();
        match self {
            Hurt::Flipped => {
                let place = at * 7919 % content.len();
                content[place] ^= 1 << (at % 8);
            }
            Hurt::Cut => content.truncate(content.len() - 1 - at % (content.len() / 2)),
            Hurt::Emptied => content.clear(),
            Hurt::Removed => return std::fs::remove_file(path).unwrap(),
        }
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::write(path, content).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    let _absent = std::fs::remove_dir_all(to);
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// A repository with two backups that share content, and what they hold.
struct Sample {
    place: Place,
    backups: Vec<(String, Vec<u8>)>,
    objects: Vec<PathBuf>,
}

impl Sample {
    fn new() -> Self {
        let place = Place::new();
        let path = place.machine.database("app.db", 3000);
        let first = (place.backup("app.db"), std::fs::read(&path).unwrap());
        sql(&path, "UPDATE t SET text = 'changed ' || id WHERE id > 2500");
        let second = (place.backup("app.db"), std::fs::read(&path).unwrap());
        let mut objects: Vec<PathBuf> = contents(&place.repository()).into_keys().collect();
        objects.retain(|path| !path.starts_with("locks"));
        copy(&place.repository(), &place.path("whole"));
        Self { place, backups: vec![first, second], objects }
    }

    fn back_to_whole(&self) {
        copy(&self.place.path("whole"), &self.place.repository());
        let _absent = std::fs::remove_dir_all(self.place.machine.root.join("home/.cache"));
    }

    /// Restores give the right content or refuse; returns how many gave it.
    fn assert_never_wrong(&self, at: &str) -> usize {
        let mut right = 0;
        for (id, content) in &self.backups {
            let path = self.place.path("restored.db");
            let outcome = self.place.run(&["restore", id, "--to-new", "./restored.db"]);
            if outcome.code == 0 {
                assert!(std::fs::read(&path).unwrap() == *content, "{at}: {id} restores to another content");
                std::fs::remove_file(&path).unwrap();
                right += 1;
            } else {
                assert!(!path.exists(), "{at}: a refused restore left something");
                assert!(outcome.err.contains("error: "), "{at}: {}", outcome.err);
            }
        }
        right
    }
}

fn try_one(sample: &Sample, object: &Path, hurt: Hurt, at: usize) -> usize {
    let name = format!("{} {hurt:?}", object.display());
    sample.back_to_whole();
    hurt.apply(&sample.place.repository().join(object), at);
    // Without the config or its only key nobody opens it; a snapshot that is gone as a whole was never there.
    let is_snapshot = object.starts_with("snapshots");
    let found = sample.place.run(&["check", "--read-data"]);
    if object.starts_with("keys") || object.starts_with("config") {
        assert!(![0, 21].contains(&found.code), "{name}: {} {}", found.out, found.err);
        assert_eq!(sample.assert_never_wrong(&name), 0, "{name}");
        return 0;
    }
    let unseen = is_snapshot && hurt == Hurt::Removed;
    assert_eq!(found.code, if unseen { 0 } else { 21 }, "{name}: {} {}", found.out, found.err);
    assert!(unseen || found.out.contains("FAIL"), "{name}: {}", found.out);
    let right = sample.assert_never_wrong(&name);
    let healed = sample.place.run(&["check", "--heal", "--read-data"]);
    assert!([0, 21].contains(&healed.code), "{name}: {} {}", healed.out, healed.err);
    let after = sample.assert_never_wrong(&name);
    // What a check said to be damaged comes back where an index was all that was lost.
    assert!(after >= right || is_snapshot, "{name}: {right} restored before the heal, {after} after it");
    sample.place.done(&["backup", "app.db"]);
    sample.place.restic(&["check", "--read-data"]);
    sample.place.done(&["check", "--read-data"]);
    let settled = sample.assert_never_wrong(&name);
    assert!(settled >= after, "{name}: {after} restored after the heal, {settled} after the backup");
    settled
}

#[test]
fn damage_to_any_object_is_found_and_never_restored() {
    let sample = Sample::new();
    assert!(sample.objects.len() >= 10, "{:?}", sample.objects);
    let seed = std::env::var("BACKSTAY_SEED").ok().and_then(|seed| seed.parse::<usize>().ok()).unwrap_or(0);
    let all = std::env::var_os("BACKSTAY_LONG").is_some();
    let (mut cases, mut restored) = (0, 0);
    for (number, object) in sample.objects.iter().enumerate() {
        for (way, hurt) in [Hurt::Flipped, Hurt::Cut, Hurt::Emptied, Hurt::Removed].into_iter().enumerate() {
            if all || (number + way + seed).is_multiple_of(PARTS) {
                restored += try_one(&sample, object, hurt, seed + number * 31 + way);
                cases += 1;
            }
        }
    }
    println!("{cases} cases, {restored} restores of what was there before");
    assert!(restored > 0);
}
