//! Stub.
use crate::cut::Cut;
use crate::error::{ResticError, ResticErrorKind};
use crate::id::{BlobKind, Id};
use crate::index::Index;
use crate::repository::Repository;
use flow::Cancel;
use std::sync::Arc;
use std::time::Duration;

/// How blobs are written.
#[derive(Debug, Clone)]
pub struct WriterOptions {
    /// The zstd level.
    pub level: i32,
    /// The size that packs get, from 4 to 128 MiB.
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

/// A stream could not be stored: one side or the other failed.
#[derive(Debug)]
pub enum StreamError<E> {
    /// The source failed: only this stream is lost.
    Read(E),
    /// The repository failed: fatal for the writer, every later call returns the same.
    Write(ResticError),
}

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
    /// How many blobs were there already.
    pub reused_blobs: u64,
}

/// A bounded pipeline of threads that stores blobs.
pub struct BlobWriter {}

impl BlobWriter {
    /// Starts the threads. The caller holds a lock for as long as the writer lives.
    pub fn begin(
        repository: Arc<Repository>,
        index: Arc<Index>,
        options: WriterOptions,
    ) -> Result<Self, ResticError> {
        let _ = (repository, index, options);
        Err(ResticError::new(ResticErrorKind::Unsupported, "stub", "stub"))
    }

    /// Stores a stream: reads it to its end (`Ok(0)`), cuts it, and returns its blobs in order once each is hashed
    /// and taken. They are durable and indexed after [`BlobWriter::finish`]. May be called from many threads at once.
    pub fn write_stream<E>(
        &self,
        read: &mut dyn FnMut(&mut [u8]) -> Result<usize, E>,
        cut: &Cut,
    ) -> Result<Vec<StoredBlob>, StreamError<E>> {
        let _ = (read, cut);
        Err(StreamError::Write(ResticError::new(ResticErrorKind::Unsupported, "stub", "stub")))
    }

    /// Stores one blob.
    pub fn save_blob(&self, kind: BlobKind, content: Vec<u8>) -> Result<StoredBlob, ResticError> {
        let _ = (kind, content);
        Err(ResticError::new(ResticErrorKind::Unsupported, "stub", "stub"))
    }

    /// Writes what is left, confirms it, and writes the index. When it returns `Ok`, every blob that any call
    /// returned is durable and indexed.
    pub fn finish(self) -> Result<WriterReport, ResticError> {
        Err(ResticError::new(ResticErrorKind::Unsupported, "stub", "stub"))
    }
}
