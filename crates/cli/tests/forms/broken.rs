//! What fails on the way to a plain file leaves nothing under its name, and says whose fault it was.

use crate::seams::Place;
use crate::{command, done, names};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use testkit::Cluster;

/// Makes a database of some megabytes.
fn make_large(cluster: &Cluster) -> String {
    cluster.create("erp");
    cluster.sql(
        "erp",
        "CREATE TABLE a AS SELECT i, repeat(md5(i::text), 30) AS body FROM generate_series(1, 20000) AS i;
         SELECT lo_from_bytea(5, decode(repeat(md5('x'), 50000), 'hex'));",
    );
    cluster.url("erp")
}

/// Puts a program in the place of a stock one; `$REAL` is that.
fn instead(place: &Place, cluster: &Cluster, program: &str, script: &str) -> PathBuf {
    let folder = place.machine.root.join(format!("fake-{}", names(&place.machine.root).len()));
    std::fs::create_dir(&folder).unwrap();
    for name in ["pg_dump", "pg_restore", "pg_dumpall"] {
        let real = cluster.programs().join(name);
        let path = folder.join(name);
        let body = if name == program { script } else { "exec \"$REAL\" \"$@\"" };
        let version = "[ \"$1\" = --version ] && exec \"$REAL\" --version";
        std::fs::write(&path, format!("#!/bin/sh\nREAL={}\n{version}\n{body}\n", real.display())).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    folder
}

#[test]
fn a_source_that_fails_leaves_no_file() {
    // The programs of this version are found by the search path alone.
    let cluster = Cluster::start(18);
    let place = Place::new();
    let url = make_large(&cluster);
    done(&place, &cluster, &["backup", &url]);
    let before = names(&place.path(""));
    let latest = format!("{url}@latest");
    for (program, script, words) in [
        ("pg_dump", "\"$REAL\" \"$@\" | head -c 3000000; echo the disk burns >&2; exit 1", "the disk burns"),
        ("pg_dump", "\"$REAL\" \"$@\" | head -c 3000000; exit 0", "what pg_dump wrote"),
        ("pg_dump", "\"$REAL\" \"$@\"; exit 1", "failed"),
        ("pg_restore", "head -c 1000000 >/dev/null; echo no more of it >&2; exit 1", "no more of it"),
        ("pg_restore", "cat; exit 1", "failed"),
    ] {
        let folder = instead(&place, &cluster, program, script);
        let sources: &[&[&str]] = match program {
            "pg_dump" => &[&["backup", &url, "--out", "x.sql"], &["backup", &url, "--out", "x.tar.gz"]],
            _ => &[&["backup", &url, "--out", "x.sql"], &["export", &latest, "--out", "x.sql.zst"]],
        };
        for arguments in sources {
            let mut fake = place.command();
            fake.env("PATH", format!("{}:/usr/bin:/bin", folder.display()));
            let output = fake.args(*arguments).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(20), "{arguments:?} {script}: {said}");
            assert!(said.contains(words), "{arguments:?} {script}: {said}");
            assert_eq!(names(&place.path("")), before, "{arguments:?} {script}");
        }
    }
    assert_eq!(cluster.sessions_left(), Vec::<String>::new());
}

#[test]
fn a_session_that_is_ended_fails_the_file() {
    let cluster = Cluster::start(15);
    let place = Place::new();
    let url = make_large(&cluster);
    let mut child = started(&place, &cluster, &["backup", &url, "--out", "-"]);
    let mut output = child.stdout.take().unwrap();
    output.read_exact(&mut [0; 65_536]).unwrap();
    cluster.sql(
        "postgres",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'erp' AND query LIKE 'COPY%'",
    );
    std::io::copy(&mut output, &mut std::io::sink()).unwrap();
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(20), "{said}");
    assert!(said.contains("terminating connection") || said.contains("pg_dump"), "{said}");
    assert_eq!(cluster.sessions_left(), Vec::<String>::new());
}

fn started(place: &Place, cluster: &Cluster, arguments: &[&str]) -> std::process::Child {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("backstay"));
    command.env_clear().envs(testkit::counters()).current_dir(place.path(""));
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", cluster.programs().display());
    command.env("PATH", path).env("HOME", place.machine.root.join("home"));
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_disk_that_is_full_is_told_and_leaves_no_file() {
    let cluster = Cluster::start(15);
    let place = Place::new();
    let url = make_large(&cluster);
    done(&place, &cluster, &["backup", &url]);
    let before = names(&place.path(""));
    let program = assert_cmd::cargo::cargo_bin!("backstay");
    for arguments in [
        format!("backup '{url}' --out x.dump"),
        format!("backup '{url}' --out x.sql"),
        format!("export '{url}@latest' --out x.sql"),
        format!("export '{url}@latest' --out x.tar"),
    ] {
        // No file may have more than two megabytes, and whoever writes more gets an error.
        let script = format!("trap '' XFSZ; ulimit -f 4096; exec {} {arguments}", program.display());
        let mut shell = Command::new("sh");
        shell
            .env_clear()
            .envs(testkit::no_counters())
            .env("BACKSTAY_PASSWORD", crate::seams::PASSWORD)
            .current_dir(place.path(""));
        shell.env("BACKSTAY_REPOSITORY", place.repository()).env("HOME", place.machine.root.join("home"));
        shell.env("PATH", format!("{}:/usr/bin:/bin", cluster.programs().display()));
        let output = shell.args(["-c", &script]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments}: {said}");
        assert!(said.contains("/x.") && said.contains("cannot be written"), "{arguments}: {said}");
        assert_eq!(names(&place.path("")), before, "{arguments}");
    }
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut stream = Command::new(program);
    stream
        .env_clear()
        .envs(testkit::no_counters())
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", place.machine.root.join("home"));
    let output = stream.args(["backup", &url, "--out", "-"]).stdout(full).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("standard output cannot be written"), "{said}");
    assert_eq!(cluster.sessions_left(), Vec::<String>::new());
}

#[test]
fn a_run_that_is_killed_or_interrupted_leaves_nothing_under_the_name() {
    let cluster = Cluster::start(15);
    let place = Place::new();
    let url = make_large(&cluster);
    for (signal, form) in [("-KILL", "sql"), ("-INT", "sql"), ("-KILL", "dump"), ("-INT", "tar")] {
        let name = format!("x.{form}.xz");
        let mut child = started(&place, &cluster, &["backup", &url, "--out", &name]);
        let began = Instant::now();
        while partial(&place.path("")).is_none() {
            assert!(began.elapsed() < Duration::from_secs(60), "nothing is written");
            std::thread::sleep(Duration::from_millis(5));
        }
        let pid = child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        let status = child.wait().unwrap();
        assert!(!status.success());
        assert!(!place.path(&name).exists(), "{name}");
        match signal {
            "-INT" => {
                assert_eq!(status.code(), Some(130));
                assert_eq!(names(&place.path("")), ["repo"], "{name}");
            }
            _ => std::fs::remove_file(partial(&place.path("")).unwrap()).unwrap(),
        }
        assert_eq!(cluster.sessions_left(), Vec::<String>::new());
    }
    let whole = command(&place, &cluster).args(["backup", &url, "--out", "x.sql.xz"]).output().unwrap();
    assert!(whole.status.success());
}

fn partial(folder: &Path) -> Option<PathBuf> {
    let name = names(folder).into_iter().find(|name| name.ends_with(".partial"))?;
    Some(folder.join(name))
}
