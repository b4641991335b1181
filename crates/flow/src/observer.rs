//! Progress and remarks on their way to whoever shows them.

use crate::{DatabaseRef, Finding};
use std::time::Duration;

/// A long step of the work, as shown to a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phase {
    /// What is done, as a short clause: `backing up shops/acme`.
    pub name: String,
    /// How many bytes it takes, where that is known.
    pub total_bytes: Option<u64>,
}

/// A call that hangs, or hung and goes on: of a disk or a server that gives no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stall {
    /// What was asked: `put`, `get`, …
    pub verb: &'static str,
    /// Of what: the object and the place where it is.
    pub object: String,
    /// For how long there was no answer.
    pub waited: Duration,
    /// Whether the answer has come.
    pub over: bool,
}

/// Something that happened during the work.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// A new phase began; the previous one is over.
    Phase(Phase),
    /// More bytes of the current phase are done. An increment, not a sum.
    Bytes(u64),
    /// One database is finished; what it came to is in the report.
    Database(DatabaseRef),
    /// A remark that the person should see, and that does not end the work.
    Finding(Finding),
    /// A call hangs, or goes on.
    Stall(Stall),
}

/// Takes events from any thread. Must not block for long: the work waits for it.
pub trait Observer: Send + Sync {
    /// Takes one event.
    fn event(&self, event: Event);
}

/// Takes no notice.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _event: Event) {}
}
