//! Puts full packs, confirms them, and writes the index files that make them count.
//!
//! An index names only packs that were put and confirmed. Index files come as the writer goes, so that a crash loses
//! what was stored since the last one at most; its packs stay as unnamed leftovers.

use super::shared::Shared;
use super::worker::OpenPack;
use crate::error::ResticError;
use crate::id::Id;
use crate::index_file::{INDEX_BLOBS_MAX, IndexedPack, to_json};
use crate::vault::ObjectKind;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use storage::Given;

/// What a writer came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WriterReport {
    /// The packs that were written, each confirmed.
    pub packs: Vec<Id>,
    /// The index files that were written.
    pub indexes: Vec<Id>,
    /// Bytes of all packs.
    pub added_bytes: u64,
    /// How many blobs were added.
    pub added_blobs: u64,
}

/// What is stored, and what of it no index names yet.
#[derive(Default)]
struct Ledger {
    report: WriterReport,
    pending: Vec<IndexedPack>,
    pending_bytes: u64,
    pending_blobs: usize,
    oldest: Option<Instant>,
}

#[derive(Default)]
pub(super) struct Stored(Mutex<Ledger>);

/// Stores packs until no more can come. After a failure it only empties the queue.
pub(super) fn run(shared: &Shared, stored: &Stored, packs: &Receiver<OpenPack>) {
    let pause = (shared.options.index_after / 4).clamp(Duration::from_millis(5), Duration::from_secs(5));
    loop {
        let result = match packs.recv_timeout(pause) {
            Ok(_) if shared.check().is_err() => Ok(()),
            Ok(pack) => store(shared, stored, pack).and_then(|()| stored.write_index_if_due(shared)),
            Err(RecvTimeoutError::Timeout) if shared.check().is_err() => Ok(()),
            Err(RecvTimeoutError::Timeout) => stored.write_index_if_due(shared),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if let Err(error) = result {
            shared.fail(error);
        }
    }
}

fn store(shared: &Shared, stored: &Stored, pack: OpenPack) -> Result<(), ResticError> {
    let OpenPack { bytes, used, blobs, .. } = pack;
    let (id, size_bytes, buffer) = shared.vault.save_pack(Given { bytes, used }, &blobs)?;
    shared.return_pack_buffer(buffer);
    let mut ledger = stored.0.lock().unwrap_or_else(PoisonError::into_inner);
    ledger.report.packs.push(id);
    ledger.report.added_bytes += size_bytes;
    ledger.report.added_blobs += blobs.len() as u64;
    ledger.pending_bytes += size_bytes;
    ledger.pending_blobs += blobs.len();
    ledger.oldest.get_or_insert_with(Instant::now);
    ledger.pending.push(IndexedPack { id, blobs });
    Ok(())
}

impl Stored {
    fn write_index_if_due(&self, shared: &Shared) -> Result<(), ResticError> {
        let options = &shared.options;
        self.write_index(shared, |ledger| {
            ledger.pending_bytes >= options.index_after_bytes
                || ledger.pending_blobs >= INDEX_BLOBS_MAX
                || ledger.oldest.is_some_and(|oldest| oldest.elapsed() >= options.index_after)
        })
    }

    /// Names all packs that are stored and not named yet.
    pub(super) fn write_last_index(&self, shared: &Shared) -> Result<(), ResticError> {
        self.write_index(shared, |_| true)
    }

    fn write_index(&self, shared: &Shared, due: impl Fn(&Ledger) -> bool) -> Result<(), ResticError> {
        let pending = {
            let mut ledger = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if ledger.pending.is_empty() || !due(&ledger) {
                return Ok(());
            }
            ledger.pending_bytes = 0;
            ledger.pending_blobs = 0;
            ledger.oldest = None;
            std::mem::take(&mut ledger.pending)
        };
        let id = shared.vault.save_document(ObjectKind::Index, &to_json(&pending, &[])?)?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).report.indexes.push(id);
        Ok(())
    }

    pub(super) fn take_report(&self) -> WriterReport {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).report)
    }
}
