//! What a command came to, as one JSON object: on standard output with `--json`, in a file with `--report`, both where
//! it failed too.

use crate::console::Console;
use crate::errors::{Failure, exit};
use crate::session::Session;
use jiff::Timestamp;
use operations::report::{Outcome, Report};
use serde::Serialize;
use serde_json::{Map, Value};
use std::io;
use std::path::Path;

/// A command that ran to its end: its report as JSON, and why it counts as failed, where it does.
pub(crate) struct Finished {
    pub(crate) object: String,
    pub(crate) failure: Option<Failure>,
}

impl Finished {
    /// Takes the report of a success.
    pub(crate) fn new<T: Serialize>(report: &Report<T>) -> Result<Self, Failure> {
        Ok(Self { object: text(report)?, failure: None })
    }

    /// Takes the report of a success that may be long, and writes it only where it is asked for.
    pub(crate) fn where_asked<T: Serialize>(session: &Session, report: &Report<T>) -> Result<Self, Failure> {
        if session.globals.json || session.globals.report.is_some() {
            return Self::new(report);
        }
        Ok(Self::not_asked())
    }

    /// Ends a success of which nobody asked for the report.
    pub(crate) fn not_asked() -> Self {
        Self { object: String::new(), failure: None }
    }

    /// Takes the report of a failure.
    pub(crate) fn failing<T: Serialize>(mut report: Report<T>, failure: Failure) -> Result<Self, Failure> {
        report.error = Some(failure.report());
        Ok(Self { object: text(&report)?, failure: Some(failure) })
    }
}

fn text<T: Serialize>(report: &Report<T>) -> Result<String, Failure> {
    serde_json::to_string_pretty(report).map_err(|error| {
        Failure::new(exit::FAILED, "the report cannot be written as JSON").with_cause(&error)
    })
}

/// The parts of each command's own, so that a failure has every key too.
const OWN_KEYS: &[(&str, &[(&str, Shape)])] = &[
    (
        "backup",
        &[
            ("backups", Shape::List),
            ("suspicions", Shape::List),
            ("appeared", Shape::List),
            ("vanished", Shape::List),
            ("pruned", Shape::Null),
            ("healed", Shape::List),
            ("lost", Shape::List),
            ("skipped", Shape::List),
            ("file", Shape::Null),
            ("dry_run", Shape::Null),
        ],
    ),
    ("accept", &[("backups", Shape::List), ("dry_run", Shape::Null)]),
    ("list", &[("backups", Shape::List)]),
    ("show", &[("backup", Shape::Null), ("manifest", Shape::Null), ("files", Shape::Null)]),
    (
        "verify",
        &[
            ("summary", Shape::Null),
            ("files", Shape::List),
            ("skipped", Shape::List),
            ("performance", Shape::Null),
        ],
    ),
    (
        "restore",
        &[
            ("backup", Shape::Null),
            ("backup_time", Shape::Null),
            ("target", Shape::Null),
            ("safety_copy", Shape::Null),
            ("verified", Shape::Null),
            ("rolled_back", Shape::Null),
            ("steps", Shape::List),
            ("performance", Shape::Null),
            ("plan", Shape::Null),
            ("estimated_ms", Shape::Null),
            ("refusals", Shape::List),
            ("dry_run", Shape::Null),
        ],
    ),
    (
        "check",
        &[
            ("errors", Shape::List),
            ("remarks", Shape::List),
            ("snapshots", Shape::Null),
            ("packs", Shape::Null),
            ("bytes_read", Shape::Null),
            ("packs_read", Shape::Null),
            ("read_data_percent", Shape::Null),
            ("selection", Shape::Null),
            ("heal", Shape::Null),
            ("actions", Shape::List),
            ("affected", Shape::List),
            ("removed_snapshots", Shape::List),
            ("dry_run", Shape::Null),
        ],
    ),
    (
        "prune",
        &[
            ("kept", Shape::List),
            ("removed", Shape::List),
            ("skipped", Shape::List),
            ("snapshots", Shape::Null),
            ("freed_bytes", Shape::Null),
            ("foreign", Shape::Null),
            ("unlisted", Shape::Null),
            ("forget_only", Shape::Null),
            ("dry_run", Shape::Null),
        ],
    ),
    (
        "export",
        &[
            ("backup", Shape::Null),
            ("path", Shape::Null),
            ("form", Shape::Null),
            ("compression", Shape::Null),
            ("encryption", Shape::Null),
            ("size_bytes", Shape::Null),
            ("written_bytes", Shape::Null),
            ("dry_run", Shape::Null),
        ],
    ),
    ("import", &[("imports", Shape::List), ("skipped", Shape::List), ("dry_run", Shape::Null)]),
    (
        "key",
        &[
            ("action", Shape::Null),
            ("keys", Shape::List),
            ("added", Shape::Null),
            ("removed", Shape::Null),
            ("confirmed", Shape::Null),
            ("key_file", Shape::Null),
            ("dry_run", Shape::Null),
        ],
    ),
    ("unlock", &[("removed", Shape::List), ("left", Shape::List), ("dry_run", Shape::Null)]),
    (
        "stats",
        &[
            ("repository_id", Shape::Null),
            ("repository", Shape::Null),
            ("snapshots", Shape::Null),
            ("unlisted", Shape::Null),
            ("backups", Shape::Null),
            ("databases", Shape::Null),
            ("packs", Shape::Null),
            ("pack_bytes", Shape::Null),
            ("index_bytes", Shape::Null),
            ("stored_bytes", Shape::Null),
            ("blobs", Shape::Null),
            ("logical_bytes", Shape::Null),
            ("unique_bytes", Shape::Null),
            ("compression_ratio", Shape::Null),
            ("deduplication_ratio", Shape::Null),
            ("free_bytes", Shape::Null),
            ("targets", Shape::List),
        ],
    ),
    (
        "adopt",
        &[
            ("repository", Shape::Null),
            ("repository_id", Shape::Null),
            ("hosts", Shape::List),
            ("unlisted", Shape::Null),
            ("config", Shape::Null),
            ("host", Shape::Null),
            ("file", Shape::Null),
            ("key_file", Shape::Null),
            ("changed", Shape::List),
            ("text", Shape::Null),
            ("next", Shape::List),
            ("dry_run", Shape::Null),
        ],
    ),
    (
        "doctor",
        &[
            ("repositories", Shape::List),
            ("databases", Shape::List),
            ("skipped", Shape::List),
            ("findings", Shape::List),
        ],
    ),
    ("role", &[("action", Shape::Null), ("databases", Shape::List)]),
    (
        "init",
        &[
            ("config", Shape::Null),
            ("repository", Shape::Null),
            ("key_file", Shape::Null),
            ("databases", Shape::List),
            ("dry_run", Shape::Null),
        ],
    ),
    (
        "demo",
        &[
            ("engine", Shape::Null),
            ("folder", Shape::Null),
            ("kept", Shape::Null),
            ("steps", Shape::List),
            ("equal", Shape::Null),
        ],
    ),
];

#[derive(Clone, Copy)]
enum Shape {
    List,
    Null,
}

/// Returns the object of a command that failed before it had a report.
pub(crate) fn failed(command: &str, started: Timestamp, failure: &Failure) -> String {
    let own = OWN_KEYS.iter().find(|(name, _)| *name == command).map_or(&[][..], |(_, keys)| *keys);
    let mut body = Map::new();
    for (key, shape) in own {
        let empty = match shape {
            Shape::List => Value::Array(vec![]),
            Shape::Null => Value::Null,
        };
        body.insert((*key).to_owned(), failure.known.get(*key).cloned().unwrap_or(empty));
    }
    let mut report = Report::new(command, started, Outcome::Failed, body);
    report.error = Some(failure.report());
    text(&report).unwrap_or_default()
}

/// Returns the object of arguments that could not be understood: whoever asked for JSON gets it.
pub(crate) fn misused(error: &clap::Error) -> String {
    let command = std::env::args().nth(1).filter(|name| OWN_KEYS.iter().any(|(known, _)| known == name));
    let shown = error.to_string();
    let message = shown.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    let failure = Failure::usage(message, "`backstay help` tells what there is");
    let mut object = failed(command.as_deref().unwrap_or("usage"), Timestamp::now(), &failure);
    if !object.ends_with('\n') {
        object.push('\n');
    }
    object
}

/// Prints the object on standard output.
pub(crate) fn print(console: &Console, object: &str) -> io::Result<()> {
    console.raw(object)
}

/// Writes the object to a file, durably and as a whole.
pub(crate) fn write(path: &Path, object: &str) -> Result<(), Failure> {
    let text = format!("{object}\n");
    storage::atomic_write(path, text.as_bytes(), 0o600).map_err(|error| {
        Failure::new(exit::FAILED, format!("the report {} cannot be written", path.display()))
            .with_cause(&error)
    })
}
