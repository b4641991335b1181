//! What a user may not read or write. Root may do anything, so that as root another user runs the program.

use crate::Refusal;
use crate::seams::Place;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const NOBODY: &str = "65534";

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Makes the program run as a user without rights, from a place that this user may reach.
fn as_nobody(place: &Place, command: &mut assert_cmd::Command) {
    if !is_root() {
        return;
    }
    let program = place.machine.root.join("backstay");
    if !program.exists() {
        let built = assert_cmd::cargo::cargo_bin!("backstay");
        if std::fs::hard_link(built, &program).is_err() {
            std::fs::copy(built, &program).unwrap();
        }
    }
    let mut other = assert_cmd::Command::new("setpriv");
    other.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--"]).arg(&program);
    other
        .env_clear()
        // The other user may write none.
        .envs(testkit::no_counters())
        .env("HOME", place.machine.root.join("nobody"))
        .env("PATH", "/usr/bin:/bin")
        .env("TZ", "UTC")
        .env("BACKSTAY_PASSWORD", crate::seams::PASSWORD)
        .env("BACKSTAY_REPOSITORY", place.repository())
        .current_dir(place.path(""));
    *command = other;
}

/// A machine that the other user may reach, with a home of that user.
fn reachable() -> Place {
    let place = Place::new();
    let root = &place.machine.root;
    place.machine.database("app.db", 50);
    place.backup("app.db");
    allow(root, 0o755);
    std::fs::create_dir(root.join("nobody")).unwrap();
    allow(&root.join("nobody"), 0o777);
    place
}

fn allow(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

/// Sets the mode of a whole tree.
fn allow_all(folder: &Path, folders: u32, files: u32) {
    let below: Vec<PathBuf> = crate::seams::tree(folder).into_keys().collect();
    for path in below {
        let mode = if path.is_dir() { folders } else { files };
        allow(&path, mode);
    }
    allow(folder, folders);
}

fn refuse_nobody(place: &Place, name: &str, arguments: &[&str], code: i32, object: &str, hint: &str) {
    let before = crate::seams::tree(&place.path(""));
    let mut command = place.command();
    as_nobody(place, &mut command);
    let output = command.args(arguments).output().unwrap();
    assert_eq!(crate::seams::tree(&place.path("")), before, "{name} changed something");
    crate::judge(place, &Refusal { name, arguments, code, object, hint }, &output, "");
}

#[test]
fn a_database_that_may_not_be_read() {
    let place = reachable();
    allow_all(&place.repository(), 0o777, 0o666);
    allow(&place.path("app.db"), 0o000);
    refuse_nobody(&place, "unreadable database", &["backup", "app.db"], 20, "app.db", "read");
}

#[test]
fn a_repository_that_may_not_be_written() {
    let place = reachable();
    allow_all(&place.repository(), 0o555, 0o444);
    place.machine.database("new.db", 500);
    allow(&place.path("new.db"), 0o644);
    refuse_nobody(&place, "read only repository", &["backup", "new.db"], 1, "/repo", "write");
    allow_all(&place.repository(), 0o755, 0o644);
}

#[test]
fn a_repository_that_may_not_be_read() {
    let place = reachable();
    allow_all(&place.repository(), 0o755, 0o000);
    refuse_nobody(&place, "unreadable repository", &["list"], 1, "/repo", "owns the repository");
    allow_all(&place.repository(), 0o755, 0o644);
}

#[test]
fn a_target_whose_folder_may_not_be_written() {
    let place = reachable();
    allow_all(&place.repository(), 0o777, 0o666);
    std::fs::create_dir(place.path("closed")).unwrap();
    std::fs::copy(place.path("app.db"), place.path("closed/app.db")).unwrap();
    allow(&place.path("closed/app.db"), 0o444);
    allow(&place.path("closed"), 0o555);
    let arguments = ["restore", "app.db@latest", "--target", "closed/app.db", "--confirm", "app.db"];
    refuse_nobody(&place, "target folder read only", &arguments, 20, "/closed", "write");
    allow(&place.path("closed"), 0o755);
}

#[test]
fn a_repository_that_is_read_without_a_lock_says_so_once() {
    let place = reachable();
    place.machine.database("other.db", 5);
    place.backup("other.db");
    allow_all(&place.repository(), 0o555, 0o444);
    let mut command = place.command();
    as_nobody(&place, &mut command);
    let output = command.arg("verify").output().unwrap();
    let said = crate::seams::both(&output);
    assert_eq!(said.matches("without a lock").count(), 1, "{said}");
    assert_eq!(said.matches("PASS").count(), 2, "{said}");
    allow_all(&place.repository(), 0o755, 0o644);
}
