//! What all threads of a writer share: its options, what is known to be stored, reused buffers, and the error that
//! ended it.

use super::taste::Taste;
use crate::cut::ContentCutter;
use crate::error::ResticError;
use crate::id::{BlobKind, Id};
use crate::index::Index;
use crate::vault::Vault;
use crossbeam_channel::Sender;
use flow::Cancel;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// The size of the buffers in which plaintext travels.
pub(super) const BUFFER_BYTES: usize = crate::cut::CONTENT_MAX_BYTES;
/// So many buffers of each kind are kept for reuse.
const BUFFERS_KEPT: usize = 16;
const SHARDS: usize = 64;

/// How blobs are written.
#[derive(Debug, Clone)]
pub struct WriterOptions {
    /// The zstd level.
    pub level: i32,
    /// The size that packs get, from 1 to 128 MiB. About `workers + 2` of them are in memory at most.
    pub pack_bytes: u32,
    /// How many threads hash, compress and seal.
    pub workers: usize,
    /// How long a stored pack waits for an index file at most.
    pub index_after: Duration,
    /// How many bytes of packs wait for an index file at most.
    pub index_after_bytes: u64,
    /// Ends the work.
    pub cancel: Cancel,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self {
            level: 1,
            pack_bytes: 16 << 20,
            workers: 2,
            index_after: Duration::from_secs(60),
            index_after_bytes: 1 << 30,
            cancel: Cancel::new(),
        }
    }
}

/// One blob of a stream, in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredBlob {
    /// Its id.
    pub id: Id,
    /// The length of its plaintext.
    pub length: u64,
    /// What it adds to the repository, sealed; 0 where it is there already.
    pub added_bytes: u64,
    /// Whether an earlier run, or this one, had stored it already.
    pub reused: bool,
    /// Whether it was stored by an earlier run: it counts from the time its pack was last read.
    pub indexed: bool,
}

/// Plaintext to be stored: blobs one after another.
pub(super) struct Work {
    pub(super) kind: BlobKind,
    pub(super) buffer: Vec<u8>,
    pub(super) lengths: Vec<usize>,
    /// Where the level may be chosen: what suits the stream.
    pub(super) taste: Option<Arc<Taste>>,
}

/// Plaintext on its way to a worker.
pub(super) struct Job {
    pub(super) work: Work,
    /// The place among the jobs of one stream.
    pub(super) sequence: usize,
    /// Dropped without an answer where the job failed.
    pub(super) reply: Sender<(usize, Vec<StoredBlob>)>,
}

pub(super) struct Shared {
    pub(super) vault: Vault,
    pub(super) index: Arc<Index>,
    pub(super) options: WriterOptions,
    pub(super) cutter: ContentCutter,
    /// What this run stores. Sharded, so that workers do not wait for each other.
    claimed: Vec<Mutex<HashSet<(BlobKind, Id)>>>,
    buffers: Mutex<Vec<Vec<u8>>>,
    pack_buffers: Mutex<Vec<Vec<u8>>>,
    failure: OnceLock<ResticError>,
}

impl Shared {
    pub(super) fn new(
        vault: Vault,
        index: Arc<Index>,
        options: WriterOptions,
        cutter: ContentCutter,
    ) -> Self {
        Self {
            vault,
            index,
            options,
            cutter,
            claimed: (0..SHARDS).map(|_| Mutex::default()).collect(),
            buffers: Mutex::default(),
            pack_buffers: Mutex::default(),
            failure: OnceLock::new(),
        }
    }

    /// Fails once the writer is beyond use: a storage error, or a cancellation.
    pub(super) fn check(&self) -> Result<(), ResticError> {
        if let Some(error) = self.failure.get() {
            return Err(error.clone());
        }
        if self.options.cancel.is_cancelled() {
            return Err(ResticError::cancelled(self.vault.storage.location()));
        }
        Ok(())
    }

    /// Ends the writer; the first error counts.
    pub(super) fn fail(&self, error: ResticError) {
        drop(self.failure.set(error));
    }

    /// Returns why a thread gave no answer.
    pub(super) fn failure(&self) -> ResticError {
        self.check().err().unwrap_or_else(|| {
            let location = self.vault.storage.location();
            ResticError::new(crate::ResticErrorKind::Failed, location, "a thread of the writer ended")
        })
    }

    /// Tells whether the caller is the first of this run to store a blob.
    pub(super) fn claim(&self, kind: BlobKind, id: &Id) -> bool {
        let shard = &self.claimed[usize::from(id.0[0]) % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner).insert((kind, *id))
    }

    /// Returns a buffer of [`BUFFER_BYTES`] with anything in it.
    pub(super) fn buffer(&self) -> Vec<u8> {
        let reused = self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        reused.unwrap_or_else(|| vec![0; BUFFER_BYTES])
    }

    pub(super) fn return_buffer(&self, buffer: Vec<u8>) {
        if buffer.len() == BUFFER_BYTES {
            keep(&self.buffers, buffer);
        }
    }

    /// Gives the memory of the buffers back: what is written last needs some, and none of them.
    pub(super) fn release_buffers(&self) {
        for buffers in [&self.buffers, &self.pack_buffers] {
            drop(std::mem::take(&mut *buffers.lock().unwrap_or_else(PoisonError::into_inner)));
        }
    }

    /// Returns a buffer with room for a pack, with anything in it.
    pub(super) fn pack_buffer(&self) -> Vec<u8> {
        let reused = self.pack_buffers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        reused.unwrap_or_else(|| vec![0; self.pack_buffer_bytes()])
    }

    pub(super) fn return_pack_buffer(&self, buffer: Vec<u8>) {
        if buffer.len() == self.pack_buffer_bytes() {
            keep(&self.pack_buffers, buffer);
        }
    }

    /// A pack is closed by the blob that fills it, so that there is room for one more. Memory that is never touched
    /// costs nothing.
    fn pack_buffer_bytes(&self) -> usize {
        self.options.pack_bytes as usize + BUFFER_BYTES + (64 << 10)
    }
}

fn keep(buffers: &Mutex<Vec<Vec<u8>>>, buffer: Vec<u8>) {
    let mut buffers = buffers.lock().unwrap_or_else(PoisonError::into_inner);
    if buffers.len() < BUFFERS_KEPT {
        buffers.push(buffer);
    }
}
