//! Which parts are on their way. A part counts as stored once its worker asks for the next piece: between a part's last
//! byte and that, the repository still puts it in its place.

use std::collections::BTreeMap;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

/// How long after a part's end its worker is waited for. One that never asks again has failed or handed its part to
/// another.
const STORING_MAX: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Tickets {
    issued: u64,
    open: BTreeMap<u64, Ticket>,
}

struct Ticket {
    worker: ThreadId,
    asked_again: bool,
    ended: Option<Instant>,
}

impl Tickets {
    /// Notes that the calling worker is given a part.
    pub(super) fn issue(&mut self) -> u64 {
        self.issued += 1;
        let ticket = Ticket { worker: std::thread::current().id(), asked_again: false, ended: None };
        self.open.insert(self.issued, ticket);
        self.issued
    }

    /// Notes that the calling worker is done with what it was given.
    pub(super) fn asked_again(&mut self) {
        let worker = std::thread::current().id();
        for ticket in self.open.values_mut().filter(|ticket| ticket.worker == worker) {
            ticket.asked_again = true;
        }
    }

    /// Notes that a part was read, or given up.
    pub(super) fn ended(&mut self, ticket: u64) {
        if let Some(ticket) = self.open.get_mut(&ticket) {
            ticket.ended = Some(Instant::now());
        }
    }

    /// Tells whether all that was given is stored.
    pub(super) fn all_stored(&mut self) -> bool {
        self.open.retain(|_, ticket| match ticket.ended {
            Some(ended) => !ticket.asked_again && ended.elapsed() < STORING_MAX,
            None => true,
        });
        self.open.is_empty()
    }
}
