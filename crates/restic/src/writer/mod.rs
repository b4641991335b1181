//! Storing blobs: a bounded pipeline of threads.
//!
//! Callers read and cut their streams; workers hash, look up, compress and seal into packs, and callers themselves where
//! there is little to do; storing threads put and confirm the packs and write the index. Bounded queues between them hold the memory down. A crash
//! leaves packs without an index, or whole ones that the next run finds and uses: never a snapshot, which the caller
//! writes after [`BlobWriter::finish`].

mod feed;
mod shared;
mod storing;
mod taste;
mod worker;

pub use feed::StreamError;
pub use shared::{StoredBlob, WriterOptions};
pub use storing::WriterReport;

use crate::cut::{ContentCutter, Cut};
use crate::error::{ResticError, ResticErrorKind};
use crate::id::BlobKind;
use crate::index::Index;
use crate::repository::Repository;
use crossbeam_channel::{Sender, bounded, unbounded};
use feed::Route;
use shared::{Job, Shared, Work};
use std::sync::Arc;
use std::thread::JoinHandle;
use storing::Stored;
use worker::{Benches, OpenPack};

/// Two, so that one pack is hashed and written while another waits for the disk.
const STORING_THREADS: usize = 2;
const PACK_BYTES_MIN: u32 = 1 << 20;
const PACK_BYTES_MAX: u32 = 128 << 20;

/// A bounded pipeline of threads that stores blobs.
pub struct BlobWriter {
    shared: Arc<Shared>,
    stored: Arc<Stored>,
    jobs: Option<Sender<Job>>,
    packs: Option<Sender<OpenPack>>,
    benches: Option<Arc<Benches>>,
    workers: Vec<JoinHandle<()>>,
    storing: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for BlobWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BlobWriter({} workers)", self.workers.len())
    }
}

impl BlobWriter {
    /// Starts the threads. The caller holds a lock for as long as the writer lives.
    pub fn begin(
        repository: Arc<Repository>,
        index: Arc<Index>,
        options: WriterOptions,
    ) -> Result<Self, ResticError> {
        if repository.version() < 2 {
            let message =
                "a repository of format version 1 is only read; `restic migrate upgrade_repo_v2` upgrades it";
            return Err(ResticError::new(ResticErrorKind::Unsupported, repository.location(), message));
        }
        if !(PACK_BYTES_MIN..=PACK_BYTES_MAX).contains(&options.pack_bytes) {
            let message = format!("packs of {} bytes are out of bounds", options.pack_bytes);
            return Err(ResticError::new(ResticErrorKind::Unsupported, repository.location(), message));
        }
        let workers = options.workers.max(1);
        let cutter = ContentCutter::new(repository.cut_seed());
        let shared = Arc::new(Shared::new(repository.vault().clone(), index, options, cutter));
        let stored = Arc::new(Stored::default());
        let (jobs, job_queue) = bounded(workers);
        // Handed over from thread to thread: a pack that waited in between would only take memory.
        let (packs, pack_queue) = bounded(0);
        let benches = Arc::new(Benches::new(&shared, workers, &packs)?);
        let mut writer = Self {
            shared: shared.clone(),
            stored: stored.clone(),
            jobs: Some(jobs),
            packs: Some(packs),
            benches: Some(benches.clone()),
            workers: Vec::new(),
            storing: Vec::new(),
        };
        for number in 0..workers {
            let (shared, jobs, benches) = (shared.clone(), job_queue.clone(), benches.clone());
            let thread = named(format!("seal-{number}"), move || worker::run(&shared, &jobs, &benches))?;
            writer.workers.push(thread);
        }
        // The writer alone holds senders beside its threads, or those would wait forever should a start fail.
        drop(benches);
        for number in 0..STORING_THREADS {
            let (shared, stored, packs) = (shared.clone(), stored.clone(), pack_queue.clone());
            let thread = named(format!("store-{number}"), move || storing::run(&shared, &stored, &packs))?;
            writer.storing.push(thread);
        }
        Ok(writer)
    }

    /// Stores a stream: reads it to its end (`Ok(0)`), cuts it, and returns its blobs in order once each is hashed
    /// and taken. They are durable and indexed after [`BlobWriter::finish`]. May be called from many threads at once.
    pub fn write_stream<E>(
        &self,
        read: &mut dyn FnMut(&mut [u8]) -> Result<usize, E>,
        cut: &Cut,
    ) -> Result<Vec<StoredBlob>, StreamError<E>> {
        feed::write_stream(self.route()?, read, cut)
    }

    fn route(&self) -> Result<Route<'_>, ResticError> {
        let jobs = self.jobs.as_ref().ok_or_else(|| self.shared.failure())?;
        let benches = self.benches.as_ref().ok_or_else(|| self.shared.failure())?;
        Ok(Route { shared: &self.shared, jobs, benches })
    }

    /// Stores one blob; durable and indexed after [`BlobWriter::finish`].
    pub fn save_blob(&self, kind: BlobKind, content: Vec<u8>) -> Result<StoredBlob, ResticError> {
        self.shared.check()?;
        let route = self.route()?;
        let work = Work { kind, lengths: vec![content.len()], buffer: content, taste: None };
        let blobs = match route.at_once(&work) {
            Some(stored) => stored?,
            None => {
                let (reply, answer) = unbounded();
                let sent = route.jobs.send(Job { work, sequence: 0, reply }).is_ok();
                let answered = answer.iter().next().filter(|_| sent);
                answered.map(|(_, blobs)| blobs).ok_or_else(|| self.shared.failure())?
            }
        };
        blobs.first().copied().ok_or_else(|| self.shared.failure())
    }

    /// Gives back the memory that is kept for packs to come: what follows is little.
    pub fn release_buffers(&self) {
        self.shared.release_buffers();
    }

    /// Writes what is left, confirms it, and writes the index. When it returns `Ok`, every blob that any call
    /// returned is durable and indexed.
    pub fn finish(mut self) -> Result<WriterReport, ResticError> {
        let packs = self.end_workers();
        for pack in worker::merge(&self.shared, packs) {
            self.shared.check()?;
            let sent = self.packs.as_ref().is_some_and(|packs| packs.send(pack).is_ok());
            if !sent {
                return Err(self.shared.failure());
            }
        }
        self.end_storing();
        self.shared.release_buffers();
        self.shared.check()?;
        self.stored.write_last_index(&self.shared)?;
        Ok(self.stored.take_report())
    }

    fn end_workers(&mut self) -> Vec<OpenPack> {
        self.jobs = None;
        for thread in self.workers.drain(..) {
            if thread.join().is_err() {
                self.shared.fail(panicked(&self.shared));
            }
        }
        self.benches.take().map(|benches| benches.clear()).unwrap_or_default()
    }

    fn end_storing(&mut self) {
        self.packs = None;
        for thread in self.storing.drain(..) {
            if thread.join().is_err() {
                self.shared.fail(panicked(&self.shared));
            }
        }
    }
}

impl Drop for BlobWriter {
    /// Given up, or failed: what is stored and confirmed is named in an index if possible, so that the next run can
    /// use it.
    fn drop(&mut self) {
        drop(self.end_workers());
        self.end_storing();
        drop(self.stored.write_last_index(&self.shared));
    }
}

fn panicked(shared: &Shared) -> ResticError {
    let location = shared.vault.storage.location();
    ResticError::new(ResticErrorKind::Failed, location, "a thread of the writer panicked")
}

fn named<T: Send + 'static>(
    name: String,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, ResticError> {
    std::thread::Builder::new().name(name).spawn(work).map_err(|error| {
        ResticError::new(ResticErrorKind::Failed, "writer", "no thread can be started").with_source(error)
    })
}
