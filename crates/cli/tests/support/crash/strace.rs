//! The program under `strace`: its file-changing system calls listed, one of them made its last, or all of them
//! written down to be replayed on a model of a disk.

use super::{Stage, program};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use testkit::crash::TRACED_CALLS;

/// The calls that change files.
pub const CHANGING: &str = "creat,write,writev,pwrite64,pwritev,pwritev2,fsync,fdatasync,rename,renameat,renameat2,link,\
    linkat,unlink,unlinkat,rmdir,ftruncate,truncate,fallocate,mkdir,mkdirat,fchmod,fchown,flock,sendfile,copy_file_range";
/// Whether it can be used here. A machine without it fails these tests, rather than let them prove nothing.
pub fn present() -> bool {
    let version = Command::new("strace").arg("-V").output();
    assert!(version.is_ok(), "strace is needed: `cargo xtask test` installs it");
    true
}

/// One system call as it ended. `file` is what its first descriptor was of, or the first path it named.
#[derive(Debug, Clone)]
pub struct Call {
    pub thread: u32,
    pub name: String,
    pub arguments: Vec<String>,
    pub result: i64,
    pub file: Option<PathBuf>,
}

impl Call {
    /// The bytes of a quoted argument.
    pub fn bytes(&self, index: usize) -> Vec<u8> {
        self.arguments.get(index).map_or_else(Vec::new, |text| unhex(text.trim_matches('"')))
    }
}

/// A call to be killed at: the `number`th of that name in one thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    pub name: String,
    pub number: u32,
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.name, self.number)
    }
}

/// Whether the program did what it was to do: a repository that it found damaged is no failure of its own.
fn is_end(code: Option<i32>) -> bool {
    matches!(code, Some(0 | 21))
}

/// Runs the program to its end and returns what it did to files, as `strace` writes it.
pub fn trace(stage: &Stage, calls: &str, arguments: &[&str]) -> String {
    let log = stage.root.join("strace.log");
    let mut command = Command::new("strace");
    stage.settle(&mut command);
    command.args(["-f", "--seccomp-bpf", "-qqq", "-y", "-xx", "-s", "100000000", "-o"]).arg(&log);
    command.args(["-e", &format!("trace={calls}")]).arg(program()).args(arguments);
    let outcome = super::outcome(&mut command);
    assert!(is_end(outcome.code), "{arguments:?}: {:?} {}", outcome.code, outcome.err);
    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::remove_file(&log).unwrap();
    text
}

/// As [`trace`], of the calls that a replay needs.
pub fn trace_for_replay(stage: &Stage, arguments: &[&str]) -> String {
    trace(stage, TRACED_CALLS, arguments)
}

/// Runs the program to its end and returns its file-changing calls.
pub fn record(stage: &Stage, arguments: &[&str]) -> Vec<Call> {
    parse(&trace(stage, CHANGING, arguments))
}

/// Runs the program until it is killed at that call; false where it ended before.
pub fn kill_at(stage: &Stage, point: &Point, arguments: &[&str]) -> bool {
    run_to(stage, point, arguments, &["-o", "/dev/null", "-e", &format!("trace={}", point.name)])
}

/// As [`kill_at`], and returns the calls up to the last one, as `strace` writes them; `None` where the program ended
/// before.
pub fn killed_at(stage: &Stage, point: &Point, arguments: &[&str]) -> Option<Vec<String>> {
    let log = stage.root.join("strace.log");
    let options = ["-y", "-s", "0", "-o", &log.display().to_string(), "-e", &format!("trace={CHANGING}")];
    let killed = run_to(stage, point, arguments, &options);
    let text = String::from_utf8_lossy(&std::fs::read(&log).unwrap()).into_owned();
    std::fs::remove_file(&log).unwrap();
    let calls: Vec<String> = text
        .lines()
        .filter_map(|line| Some(line.split_once(' ')?.1.trim_start().to_owned()))
        .filter(|call| call.contains('(') && !call.starts_with("<..."))
        .collect();
    // Other threads may have come to a call of theirs while the process died.
    let end = calls.iter().rposition(|call| call.starts_with(&format!("{}(", point.name)))?;
    killed.then(|| calls[..=end].to_vec())
}

fn run_to(stage: &Stage, point: &Point, arguments: &[&str], options: &[&str]) -> bool {
    let mut command = Command::new("strace");
    stage.settle(&mut command);
    // Not with --seccomp-bpf: then no call is ever the one.
    command.args(["-f", "-qqq"]).args(options).arg("-e");
    command.arg(format!("inject={}:signal=KILL:when={}", point.name, point.number));
    command.arg(program()).args(arguments);
    let outcome = super::outcome(&mut command);
    assert!(outcome.code.is_none() || is_end(outcome.code), "at {point}: {:?} {}", outcome.code, outcome.err);
    outcome.code.is_none()
}

/// Counts calls as `strace` does: by name in each thread.
pub fn points(calls: &[Call]) -> Vec<(Point, Call)> {
    let mut seen: BTreeMap<(u32, String), u32> = BTreeMap::new();
    let changing: Vec<&str> = CHANGING.split(',').map(str::trim).collect();
    calls
        .iter()
        .filter(|call| changing.contains(&call.name.as_str()))
        .map(|call| {
            let number = seen.entry((call.thread, call.name.clone())).or_default();
            *number += 1;
            (Point { name: call.name.clone(), number: *number }, call.clone())
        })
        .collect()
}

fn parse(text: &str) -> Vec<Call> {
    let mut begun: BTreeMap<u32, String> = BTreeMap::new();
    let mut calls = Vec::new();
    for line in text.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let (Ok(thread), rest) = (thread.parse::<u32>(), rest.trim_start()) else { continue };
        let whole = if let Some(part) = rest.strip_suffix(" <unfinished ...>") {
            begun.insert(thread, part.to_owned());
            continue;
        } else if rest.starts_with("<... ") {
            let Some((_, end)) = rest.split_once("resumed>") else { continue };
            format!("{}{end}", begun.remove(&thread).unwrap_or_default())
        } else {
            rest.to_owned()
        };
        calls.extend(parse_call(thread, &whole));
    }
    calls
}

/// Reads `NAME(ARGUMENTS) = RESULT`. All text in it is in hexadecimal, so that commas and brackets are what they seem.
fn parse_call(thread: u32, text: &str) -> Option<Call> {
    let (name, rest) = text.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(" = ")?;
    let arguments = arguments.trim_end().strip_suffix(')')?;
    let arguments: Vec<String> = arguments.split(", ").map(str::to_owned).collect();
    let number = result.split(['<', ' ']).next()?.parse().ok()?;
    let shown = |text: &str| {
        let (path, after) = text.split_once('<')?.1.split_once('>')?;
        let mut path = String::from_utf8(unhex(path)).ok()?;
        path.push_str(if after.starts_with("(deleted)") { " (deleted)" } else { "" });
        Some(PathBuf::from(path))
    };
    let opened = (name == "openat").then(|| shown(result)).flatten();
    let named = arguments.iter().find(|argument| argument.starts_with('"'));
    let file = opened.or_else(|| {
        arguments.first().filter(|first| !first.starts_with("AT_")).and_then(|first| shown(first))
    });
    let file = file.or_else(|| {
        named.and_then(|text| String::from_utf8(unhex(text.trim_matches('"'))).ok().map(PathBuf::from))
    });
    Some(Call { thread, name: name.to_owned(), arguments, result: number, file })
}

fn unhex(text: &str) -> Vec<u8> {
    text.split("\\x").skip(1).map(|digits| u8::from_str_radix(&digits[..2], 16).unwrap()).collect()
}
