//! Which parts are on their way: given to a worker, and neither read to their end nor given up. Once none is, the verdict on
//! their database may be given; who stores parts waits by himself for those that are not in their place yet.

use std::collections::BTreeSet;

#[derive(Default)]
pub(super) struct Tickets {
    issued: u64,
    open: BTreeSet<u64>,
}

impl Tickets {
    /// Notes that a worker is given a part.
    pub(super) fn issue(&mut self) -> u64 {
        self.issued += 1;
        self.open.insert(self.issued);
        self.issued
    }

    /// Notes that a part was read, or given up.
    pub(super) fn ended(&mut self, ticket: u64) {
        self.open.remove(&ticket);
    }

    /// Tells whether nothing is on its way.
    pub(super) fn all_ended(&self) -> bool {
        self.open.is_empty()
    }
}
