//! Disks that are full, as small filesystems in memory; only root may mount them.

use crate::seams::{Place, make_repository, sql};
use crate::{Refusal, judge, refuse};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small disk, gone with the value.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where this user may not mount: then there is nothing to test.
    #[allow(clippy::print_stderr, reason = "what a run leaves out is to be seen")]
    pub(crate) fn mount(path: &Path, size: &str) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("left out: only root may mount a small disk");
            return None;
        }
        std::fs::create_dir_all(path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size},mode=700"), "tmpfs"])
            .arg(path)
            .status()
            .unwrap();
        if !mounted.success() {
            eprintln!("left out: no tmpfs can be mounted here");
            return None;
        }
        Some(Self(path.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A database of some megabytes that nothing compresses.
fn noise(path: &Path) {
    sql(
        path,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, noise BLOB);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)
         INSERT INTO t SELECT i, randomblob(60000) FROM n",
    );
}

#[test]
fn scratch_without_space_for_an_import() {
    let place = Place::new();
    let scratch = place.path("scratch");
    let Some(_disk) = SmallDisk::mount(&scratch, "36m") else { return };
    noise(&place.path("big.db"));
    place.backup("big.db");
    // The packed text promises little, and unpacks to more than there is.
    let blob = "0".repeat(400_000);
    let rows: String = (0..50).map(|_| format!("INSERT INTO t VALUES(X'{blob}');\n")).collect();
    let text = format!("BEGIN;\nCREATE TABLE t(x);\n{rows}COMMIT;\n");
    std::fs::write(place.path("large-20260101.sql"), text).unwrap();
    crate::seams::tool("gzip", &[&place.text("large-20260101.sql")]);
    for (name, file, object) in [
        ("scratch too small for an import", "big.db", "/scratch"),
        ("scratch disk full of an import", "large-20260101.sql.gz", "large-20260101.sql.gz"),
    ] {
        let output = place.command().args(["import", file, "--scratch", "scratch"]).output().unwrap();
        let refusal = Refusal { name, arguments: &[], code: 20, object, hint: "--scratch" };
        judge(&place, &refusal, &output, "");
        assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 0);
    }
    assert_eq!(place.restic_json(&["snapshots"]).as_array().unwrap().len(), 1);
}

#[test]
fn a_repository_without_space() {
    let place = Place::without_repository();
    let Some(_disk) = SmallDisk::mount(&place.repository(), "3m") else { return };
    make_repository(&place.repository());
    place.machine.database("small.db", 20);
    place.backup("small.db");
    noise(&place.path("big.db"));
    let snapshots = place.restic_json(&["snapshots"]);
    let output = place.command().args(["backup", "big.db"]).output().unwrap();
    let refusal =
        Refusal { name: "repository disk full", arguments: &[], code: 1, object: "/repo", hint: "space" };
    judge(&place, &refusal, &output, "");
    // Packs that no snapshot needs may stay; the backups are what they were, and restic agrees.
    assert_eq!(place.restic_json(&["snapshots"]), snapshots);
    place.restic(&["check", "--read-data"]);
    place.done(&["verify"]);
    assert!(place.json(&["list"])["backups"].as_array().unwrap().len() == 1);
}

#[test]
fn a_target_without_space() {
    let place = Place::new();
    noise(&place.path("big.db"));
    place.backup("big.db");
    let Some(_disk) = SmallDisk::mount(&place.path("small"), "4m") else { return };
    place.machine.database("small/app.db", 20);
    for (name, arguments) in [
        (
            "target disk full",
            &["restore", "big.db@latest", "--target", "small/app.db", "--confirm", "app.db"][..],
        ),
        ("new target disk full", &["restore", "big.db@latest", "--to-new", "small/new.db"]),
    ] {
        refuse(&place, &Refusal { name, arguments, code: 20, object: "/small", hint: "free" });
    }
    let out = place.run(&["export", "big.db@latest", "--out", "small/out.db"]);
    assert_eq!(out.code, 1, "{}", out.err);
    assert!(out.err.contains("out.db") && out.err.contains("hint: "), "{}", out.err);
    let left: Vec<_> =
        std::fs::read_dir(place.path("small")).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left, ["app.db"]);
}
