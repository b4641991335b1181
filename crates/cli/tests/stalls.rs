//! A disk that gives no answer: opening the repository, or reading a pack in the middle of a restore, hangs in the
//! system. An interruption ends the run within two seconds all the same, and the target is as it was. A pipe in the
//! place of an object plays the disk: opening it waits for somebody at its other end.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/crash/mod.rs"]
mod crash;

use crash::{Stage, content, names};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// An object that gives no answer for as long as this lives.
struct Dead {
    object: PathBuf,
    aside: PathBuf,
}

impl Dead {
    fn new(stage: &Stage, object: PathBuf) -> Self {
        let aside = stage.root.join("aside");
        std::fs::rename(&object, &aside).unwrap();
        mkfifo(&object, Mode::from_bits_truncate(0o600)).unwrap();
        Self { object, aside }
    }
}

impl Drop for Dead {
    fn drop(&mut self) {
        std::fs::rename(&self.aside, &self.object).unwrap();
    }
}

fn begin(stage: &Stage, arguments: &[&str]) -> Child {
    stage.command(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until some thread of the program waits for the other end of a pipe.
fn wait_until_hanging(child: &mut Child) {
    let tasks = PathBuf::from(format!("/proc/{}/task", child.id()));
    let waits = |task: &Path| {
        let name = std::fs::read_to_string(task.join("comm")).unwrap_or_default();
        let state = std::fs::read_to_string(task.join("syscall")).unwrap_or_default();
        name.trim() == "storage" && state.starts_with(OPENAT)
    };
    let began = Instant::now();
    let mut seen = 0;
    while seen < 20 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it hung");
        assert!(began.elapsed() < Duration::from_secs(30), "it never hung");
        let hangs = std::fs::read_dir(&tasks).unwrap().flatten().any(|task| waits(&task.path()));
        seen = if hangs { seen + 1 } else { 0 };
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(target_arch = "x86_64")]
const OPENAT: &str = "257 ";
#[cfg(not(target_arch = "x86_64"))]
const OPENAT: &str = "56 ";

/// Interrupts the program and waits for its end.
fn interrupt(mut child: Child) -> String {
    let began = Instant::now();
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
    let status = child.wait().unwrap();
    let elapsed = began.elapsed();
    let told: Vec<String> =
        BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap).collect();
    let told = told.join("\n");
    assert_eq!(status.code(), Some(130), "{told}");
    assert!(elapsed < Duration::from_secs(2), "it took {elapsed:?}: {told}");
    told
}

fn packs(stage: &Stage) -> Vec<PathBuf> {
    let data = stage.repository().join("data");
    let mut packs: Vec<PathBuf> = names(&data)
        .iter()
        .map(|folder| data.join(folder))
        .flat_map(|folder| names(&folder).into_iter().map(move |name| folder.join(name)))
        .collect();
    packs.sort_by_key(|pack| std::fs::metadata(pack).unwrap().len());
    packs
}

#[test]
fn a_repository_that_cannot_be_opened() {
    let stage = Stage::new();
    content::database(&stage.target(), "old", 100, "delete");
    let target = stage.target().display().to_string();
    let dead = Dead::new(&stage, stage.repository().join("config"));
    for arguments in [&["backup", &target][..], &["list"], &["check"]] {
        let mut child = begin(&stage, arguments);
        wait_until_hanging(&mut child);
        interrupt(child);
    }
    drop(dead);
    stage.back_up();
}

#[test]
fn a_pack_that_cannot_be_read() {
    let stage = Stage::new();
    content::database(&stage.target(), "old", 3000, "delete");
    stage.back_up();
    std::fs::remove_file(stage.target()).unwrap();
    content::database(&stage.target(), "new", 10, "delete");
    let before = std::fs::read(stage.target()).unwrap();
    let latest = format!("{}@latest", stage.target().display());
    let dead = Dead::new(&stage, packs(&stage).pop().unwrap());
    for arguments in
        [&["restore", &latest, "--confirm", "app.db"][..], &["verify"], &["check", "--read-data"]]
    {
        let mut child = begin(&stage, arguments);
        wait_until_hanging(&mut child);
        interrupt(child);
        assert_eq!(names(&stage.work()), ["app.db"], "{arguments:?}");
        assert!(std::fs::read(stage.target()).unwrap() == before, "{arguments:?} changed the target");
        assert_eq!(names(&stage.repository().join("locks")), Vec::<String>::new(), "{arguments:?}");
    }
    drop(dead);
    stage.done(&["verify"]);
    stage.done(&["restore", &latest, "--confirm", "app.db"]);
}

/// What is told after half a minute; only with `BACKSTAY_LONG=1`, since it takes that long.
#[test]
fn a_stall_is_told_with_its_object() {
    if !crash::long() {
        return;
    }
    let stage = Stage::new();
    content::database(&stage.target(), "old", 3000, "delete");
    stage.back_up();
    let pack = packs(&stage).pop().unwrap();
    let id = pack.file_name().unwrap().to_str().unwrap().to_owned();
    let dead = Dead::new(&stage, pack);
    let latest = format!("{}@latest", stage.target().display());
    let mut child =
        begin(&stage, &["restore", &latest, "--to-new", &stage.work().join("new.db").display().to_string()]);
    std::thread::sleep(Duration::from_secs(32));
    assert!(child.try_wait().unwrap().is_none());
    let told = interrupt(child);
    let stalled: Vec<&str> = told.lines().filter(|line| line.starts_with("stalled: ")).collect();
    assert!(!stalled.is_empty() && stalled.iter().all(|line| line.contains(&id)), "{told}");
    assert!(stalled[0].contains("get of data/") && stalled[0].ends_with("no answer for 30 s"), "{told}");
    assert_eq!(names(&stage.work()), ["app.db"]);
    drop(dead);
}
