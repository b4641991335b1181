//! Repositories that lost data, or could not be used without the program that wrote them.

use crate::seams::{Holding, Place, both, sql};
use crate::support::{Machine, outcome};
use crate::{ids, restored};
use std::time::{Duration, Instant};

/// A prune beside a writer that takes no locks destroyed data (rustic-rs/docs#144).
#[test]
fn a_prune_and_a_backup_keep_out_of_each_others_way() {
    let place = Place::new();
    let path = place.machine.database("app.db", 500);
    place.backup("app.db");
    sql(&path, "DELETE FROM t WHERE id = 1");
    // The backup has its lock in the repository and waits for the database.
    let holding = Holding::begin(&path, "BEGIN EXCLUSIVE;");
    let mut backup = place.process(&["backup", "app.db", "--lock-wait", "60"]).spawn().unwrap();
    let locks = place.repository().join("locks");
    let begun = Instant::now();
    while std::fs::read_dir(&locks).unwrap().flatten().all(|lock| lock.file_name().len() != 64) {
        assert!(begun.elapsed() < Duration::from_secs(20), "the backup takes no lock");
        std::thread::sleep(Duration::from_millis(10));
    }
    let ours = place.run(&["prune", "--keep-last", "1"]);
    assert_eq!(ours.code, 11, "{}", ours.err);
    let stock = place.try_restic(&["prune"]);
    assert!(!stock.status.success() && both(&stock).contains("locked"), "{}", both(&stock));
    drop(holding);
    assert!(backup.wait().unwrap().success());
    place.done(&["prune", "--keep-last", "1"]);
    place.restic(&["check", "--read-data"]);
    assert!(restored(&place, &ids(&place)[0]) == std::fs::read(&path).unwrap());
}

/// Blobs were found missing months later, with no way to heal from the source (kopia#4769, #3492, #4332).
#[test]
fn what_is_missing_is_stored_again_by_the_next_backup_that_has_it() {
    let place = Place::new();
    let config = format!("[repositories.main]\npath = \"{}\"\npack_mib = 4\n", place.repository().display());
    place.machine.write("backstay.toml", &config);
    let path = place.path("app.db");
    let rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 160)";
    sql(&path, &format!("CREATE TABLE t (noise BLOB); {rows} INSERT INTO t SELECT randomblob(60000) FROM n"));
    let first = place.backup("app.db");
    let content = std::fs::read(&path).unwrap();
    // The first is full of content, and of nothing else.
    let mut packs: Vec<_> = crate::seams::contents(&place.repository().join("data")).into_iter().collect();
    packs.sort_by_key(|(_, content)| std::cmp::Reverse(content.len()));
    assert!(packs.len() > 2, "{} packs", packs.len());
    std::fs::remove_file(place.repository().join("data").join(&packs[0].0)).unwrap();

    let found = place.run(&["check", "--json"]);
    assert_eq!(found.code, 21, "{}", found.err);
    assert!(found.out.contains(&first), "the backups that it affects are named: {}", found.out);
    assert_ne!(place.run(&["restore", &first, "--to-new", "./lost.db"]).code, 0, "what is lost is refused");
    assert!(!place.path("lost.db").exists());
    let healed = place.run(&["check", "--heal"]);
    assert_eq!(healed.code, 21, "only the source has it: {}", healed.err);
    let second = place.backup("app.db");
    assert!(restored(&place, &second) == content);
    place.restic(&["check", "--read-data"]);
    // The older one shares what was lost: it has come back, and counts again once that was seen.
    place.done(&["verify", &first]);
    assert!(restored(&place, &first) == content);
}

/// The same threads: nobody had looked. A check finds what is missing without reading, and what changed by reading, and
/// says which backups it costs and which it does not.
#[test]
fn a_check_names_what_is_damaged_and_whom_it_affects() {
    let place = Place::new();
    place.machine.database("app.db", 5000);
    let before = crate::seams::contents(&place.repository().join("data"));
    let hurt = place.backup("app.db");
    let after = crate::seams::contents(&place.repository().join("data"));
    place.machine.database("other.db", 300);
    let sound = place.backup("other.db");
    let fresh = after.iter().filter(|(path, _)| !before.contains_key(*path));
    let (pack, content) = fresh.max_by_key(|(_, content)| content.len()).unwrap();
    let path = place.repository().join("data").join(pack);
    let mut flipped = content.clone();
    flipped[content.len() / 3] ^= 1;
    std::fs::write(&path, flipped).unwrap();
    for arguments in [&["check", "--read-data"][..], &["verify", &hurt]] {
        let found = place.run(&[arguments, &["--json"]].concat());
        assert_eq!(found.code, 21, "{arguments:?}: {}", found.err);
        let errors = found.json()["error"].to_string()
            + &found.json()["errors"].to_string()
            + &found.json()["files"].to_string();
        assert!(errors.contains(&hurt) && !errors.contains(&sound), "{arguments:?}: {errors}");
    }
    std::fs::remove_file(&path).unwrap();
    let found = place.run(&["check", "--json"]);
    assert_eq!(found.code, 21, "{}", found.err);
    assert!(found.out.contains(&hurt) && !found.out.contains(&sound), "{}", found.out);
    place.done(&["verify", &sound]);
}

/// When the tool's own database is lost, its backups are hard to use (databasus#245, pgbackweb#111).
#[test]
fn an_empty_machine_the_repository_and_the_key_are_enough() {
    let lost = Machine::new();
    let path = lost.database("app.db", 500);
    lost.done(&["backup", "app.db"]);
    let content = std::fs::read(&path).unwrap();
    let repository = lost.root.join("home/.local/share/backstay/repository");
    let bare = Machine::new();
    bare.write("the.key", &lost.key());
    let (repository, key) = (repository.display().to_string(), bare.text("the.key"));
    let run = |arguments: &[&str]| {
        let all = [arguments, &["--repository", &repository]].concat();
        let outcome = outcome(bare.command().env("BACKSTAY_PASSWORD_FILE", &key).args(all));
        assert_eq!(outcome.code, 0, "{arguments:?}: {}", outcome.err);
        outcome
    };
    let id = run(&["list", "--json"]).json()["backups"][0]["id"].as_str().unwrap().to_owned();
    run(&["restore", &id, "--to-new", "./back.db"]);
    assert!(std::fs::read(bare.path("back.db")).unwrap() == content);
}
