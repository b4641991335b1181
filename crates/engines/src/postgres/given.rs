//! Parts that a dump has given to workers: how many of them are out, and which failed first. A database's verdict comes when
//! none is out any more.
//!
//! Kept in memory alone; a crash loses nothing that would be needed.

use flow::{Cancel, PartFacts, PartReader, SourceError, SourceErrorKind};
use std::io::{Cursor, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The parts that are out.
#[derive(Default)]
pub(super) struct Given {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    out: usize,
    failure: Option<SourceError>,
}

/// A part that is out, until this is ended; dropped before, its database failed.
pub(super) struct Ticket {
    given: Arc<Given>,
    ended: bool,
}

impl Given {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a part is out.
    pub(super) fn begin(self: &Arc<Self>) -> Ticket {
        self.state().out += 1;
        Ticket { given: Arc::clone(self), ended: false }
    }

    /// Tells whether a part failed.
    pub(super) fn failed(&self) -> bool {
        self.state().failure.is_some()
    }

    /// Waits until none is out, and returns the first failure, once.
    pub(super) fn wait(&self, cancel: &Cancel, object: &str) -> Result<Option<SourceError>, SourceError> {
        let mut state = self.state();
        while state.out > 0 {
            cancel.check().map_err(|_| SourceError::cancelled(object))?;
            let (again, _) =
                self.wake.wait_timeout(state, LOOK_AGAIN).unwrap_or_else(PoisonError::into_inner);
            state = again;
        }
        Ok(state.failure.take())
    }

    fn end(&self, failure: Option<SourceError>) {
        let mut state = self.state();
        state.out = state.out.saturating_sub(1);
        if state.failure.is_none() {
            state.failure = failure;
        }
        drop(state);
        self.wake.notify_all();
    }
}

impl Ticket {
    /// Ends it: the part is whole.
    pub(super) fn end(mut self) {
        self.ended = true;
        self.given.end(None);
    }

    /// Ends it with a failure.
    pub(super) fn fail(mut self, error: &SourceError) {
        self.ended = true;
        let failure = SourceError::new(error.kind, error.object.clone(), error.message.clone());
        self.given.end(Some(SourceError { hint: error.hint.clone(), ..failure }));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.ended {
            let message = "a part of it was not read to its end";
            self.given.end(Some(SourceError::new(SourceErrorKind::Failed, "the dump", message)));
        }
    }
}

/// A part that is out.
pub(super) struct GivenPart {
    reader: Box<dyn PartReader>,
    ticket: Ticket,
}

impl GivenPart {
    /// Gives a part.
    pub(super) fn new(reader: Box<dyn PartReader>, ticket: Ticket) -> Self {
        Self { reader, ticket }
    }
}

impl PartReader for GivenPart {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError> {
        self.reader.read(buffer)
    }

    fn finish(self: Box<Self>) -> Result<PartFacts, SourceError> {
        let Self { reader, ticket } = *self;
        match reader.finish() {
            Ok(facts) => {
                ticket.end();
                Ok(facts)
            }
            Err(error) => {
                ticket.fail(&error);
                Err(error)
            }
        }
    }
}

/// A part that is in memory.
pub(super) struct BytesPart {
    bytes: Cursor<Vec<u8>>,
}

impl BytesPart {
    /// Takes its bytes.
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes: Cursor::new(bytes) }
    }
}

impl PartReader for BytesPart {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError> {
        self.bytes.read(buffer).map_err(|error| {
            SourceError::new(SourceErrorKind::Failed, "what is in memory", "cannot be read")
                .with_source(error)
        })
    }

    fn finish(self: Box<Self>) -> Result<PartFacts, SourceError> {
        let size_bytes = self.bytes.get_ref().len() as u64;
        if self.bytes.position() < size_bytes {
            let message = "was not read to its end";
            return Err(SourceError::new(SourceErrorKind::Failed, "a part of the dump", message));
        }
        Ok(PartFacts { size_bytes, rows: None, digest: None })
    }
}
