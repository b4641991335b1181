//! What a command came to, as one JSON object: on standard output with `--json`, in a file with `--report`, both where
//! it failed too.

use crate::console::Console;
use crate::errors::Failure;
use jiff::Timestamp;
use operations::report::{Outcome, Report, elapsed_ms};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::io;
use std::path::Path;

/// A command that ran to its end: its report, and why it counts as failed, where it does.
pub(crate) struct Finished {
    pub(crate) object: Value,
    pub(crate) failure: Option<Failure>,
}

impl Finished {
    /// Takes a report of a success.
    pub(crate) fn new<T: Serialize>(report: &Report<T>) -> Result<Self, Failure> {
        let object = serde_json::to_value(report).map_err(|error| {
            Failure::new(crate::errors::exit::FAILED, "the report cannot be written as JSON")
                .with_cause(&error)
        })?;
        Ok(Self { object, failure: None })
    }

    /// Makes a failure of it.
    pub(crate) fn failing(mut self, failure: Failure) -> Self {
        self.object["error"] = json!(failure.report());
        self.failure = Some(failure);
        self
    }
}

/// The parts of each command's own, so that a failure has every key too.
const OWN_KEYS: &[(&str, &[(&str, Shape)])] = &[
    (
        "backup",
        &[
            ("backups", Shape::List),
            ("suspicions", Shape::List),
            ("pruned", Shape::Null),
            ("skipped", Shape::List),
            ("dry_run", Shape::Null),
        ],
    ),
    ("list", &[("backups", Shape::List)]),
    ("show", &[("backup", Shape::Null), ("manifest", Shape::Null), ("files", Shape::Null)]),
    ("verify", &[("summary", Shape::Null), ("files", Shape::List), ("performance", Shape::Null)]),
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
        ],
    ),
    (
        "export",
        &[
            ("backup", Shape::Null),
            ("path", Shape::Null),
            ("form", Shape::Null),
            ("compression", Shape::Null),
            ("size_bytes", Shape::Null),
            ("written_bytes", Shape::Null),
            ("dry_run", Shape::Null),
        ],
    ),
    ("doctor", &[("databases", Shape::List), ("skipped", Shape::List)]),
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
        &[("folder", Shape::Null), ("kept", Shape::Null), ("steps", Shape::List), ("equal", Shape::Null)],
    ),
];

#[derive(Clone, Copy)]
enum Shape {
    List,
    Null,
}

/// Returns the object of a command that failed before it had a report.
pub(crate) fn failed(command: &str, started: Timestamp, failure: &Failure) -> Value {
    let finished = Timestamp::now();
    let mut object = Map::new();
    object.insert("schema".to_owned(), json!(format!("backstay.{command}/1")));
    object.insert("started".to_owned(), json!(started));
    object.insert("finished".to_owned(), json!(finished));
    object.insert("elapsed_ms".to_owned(), json!(elapsed_ms(started, finished)));
    object.insert("outcome".to_owned(), json!(Outcome::Failed));
    object.insert("error".to_owned(), json!(failure.report()));
    let own = OWN_KEYS.iter().find(|(name, _)| *name == command).map_or(&[][..], |(_, keys)| *keys);
    for (key, shape) in own {
        let empty = match shape {
            Shape::List => json!([]),
            Shape::Null => Value::Null,
        };
        object.insert((*key).to_owned(), empty);
    }
    Value::Object(object)
}

/// Prints the object on standard output.
pub(crate) fn print(console: &Console, object: &Value) -> io::Result<()> {
    console.raw(&format!("{object:#}"))
}

/// Writes the object to a file, durably and as a whole.
pub(crate) fn write(path: &Path, object: &Value) -> Result<(), Failure> {
    let text = format!("{object:#}\n");
    storage::atomic_write(path, text.as_bytes(), 0o600).map_err(|error| {
        Failure::new(crate::errors::exit::FAILED, format!("the report {} cannot be written", path.display()))
            .with_cause(&error)
    })
}
