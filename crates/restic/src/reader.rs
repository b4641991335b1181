//! Reading a file: a range of the concatenation of blobs, in order, fetched ahead by several threads.
//!
//! Memory is bounded by a window of fetches that may be under way or wait to be read. No byte is given out that was
//! not verified; after an error the reader gives that error again, never later bytes.

use crate::error::{ResticError, ResticErrorKind};
use crate::fetch::{Piece, Run};
use crate::id::{BlobKind, Id};
use crate::index::Index;
use crate::repository::Repository;
use flow::Cancel;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// A range up to this size is read by the caller's thread alone.
const INLINE_BYTES: u64 = 2 << 20;

/// How a stream is read.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// How many threads fetch and open blobs ahead; 0 or 1: none, the reading thread does it. About `threads × 16`
    /// MiB are in memory at most.
    pub threads: usize,
    /// Ends the work.
    pub cancel: Cancel,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { threads: 2, cancel: Cancel::new() }
    }
}

/// Returns a reader of a range of the concatenation of blobs, given with the lengths of their plaintexts. A range
/// beyond the end is an error. Each byte that it returns was verified. An I/O error of the reader carries a
/// [`ResticError`] that names pack and blob.
pub fn stream(
    repository: Arc<Repository>,
    index: Arc<Index>,
    blobs: Vec<(Id, u64)>,
    range: Range<u64>,
    options: ReadOptions,
) -> Result<Box<dyn Read + Send>, ResticError> {
    let total = blobs.iter().try_fold(0u64, |sum, (_, length)| sum.checked_add(*length));
    if range.start > range.end || total.is_none_or(|total| range.end > total) {
        let message =
            format!("the range {}..{} is beyond its end {}", range.start, range.end, total.unwrap_or(0));
        return Err(ResticError::new(ResticErrorKind::NotFound, "stream of blobs", message));
    }
    let inline = options.threads < 2 || range.end - range.start <= INLINE_BYTES;
    let source = Arc::new(Source {
        repository,
        index,
        cancel: options.cancel,
        window: if inline { 1 } else { options.threads as u64 * 2 },
        state: Mutex::new(State {
            plan: Plan::new(blobs, range),
            done: BTreeMap::new(),
            given: 0,
            closed: false,
        }),
        changed: Condvar::new(),
    });
    let mut reader =
        StreamReader { source, threads: Vec::new(), chunks: VecDeque::new(), at: 0, failed: None };
    let threads = if inline { 0 } else { options.threads };
    for number in 0..threads {
        let source = reader.source.clone();
        let thread = std::thread::Builder::new()
            .name(format!("read-{number}"))
            .spawn(move || source.fetch_ahead())
            .map_err(|error| {
                ResticError::new(ResticErrorKind::Failed, "stream of blobs", "no thread can be started")
                    .with_source(error)
            })?;
        reader.threads.push(thread);
    }
    Ok(Box::new(reader))
}

/// Blobs that are fetched together, and what of each is asked for.
type Fetch = Result<(Run, Vec<Range<usize>>), ResticError>;
type Chunks = Result<Vec<(Vec<u8>, Range<usize>)>, ResticError>;

/// What is left to be fetched. Worked out as it goes: a list can have millions of blobs.
struct Plan {
    blobs: Vec<(Id, u64)>,
    next: usize,
    /// Bytes to leave out of the next blob.
    skip: u64,
    left: u64,
    /// How many fetches were given out.
    given_out: u64,
}

impl Plan {
    fn new(blobs: Vec<(Id, u64)>, range: Range<u64>) -> Self {
        let (mut next, mut skip) = (0, range.start);
        while let Some((_, length)) = blobs.get(next).filter(|(_, length)| *length <= skip) {
            skip -= length;
            next += 1;
        }
        Self { blobs, next, skip, left: range.end - range.start, given_out: 0 }
    }

    fn next(&mut self, repository: &Repository, index: &Index) -> Option<Fetch> {
        let mut fetch: Option<(Run, Vec<Range<usize>>)> = None;
        while self.left > 0 {
            let Some(&(id, length)) = self.blobs.get(self.next) else { break };
            if length > 0 {
                let piece = match piece(repository, index, id, length) {
                    Ok(piece) => piece,
                    // What comes before it is given out first.
                    Err(_) if fetch.is_some() => break,
                    Err(error) => {
                        self.left = 0;
                        self.given_out += 1;
                        return Some(Err(error));
                    }
                };
                let end = length.min(self.skip + self.left);
                let part = self.skip as usize..end as usize;
                if let Some((run, parts)) = &mut fetch {
                    if !run.extend(piece) {
                        break;
                    }
                    parts.push(part);
                } else {
                    fetch = Some((Run::new(piece), vec![part]));
                }
                self.left -= end - self.skip;
                self.skip = 0;
            }
            self.next += 1;
        }
        self.given_out += u64::from(fetch.is_some());
        fetch.map(Ok)
    }
}

fn piece(repository: &Repository, index: &Index, id: Id, length: u64) -> Result<Piece, ResticError> {
    let kind = BlobKind::Data;
    let location =
        index.find(kind, &id).ok_or_else(|| ResticError::missing_blob(kind, &id, &repository.location()))?;
    if location.plaintext_length() != length {
        let object = format!("{kind} blob {id}, pack {} in {}", location.pack, repository.location());
        let message = format!("has {} bytes, and {length} were expected", location.plaintext_length());
        return Err(ResticError::damaged(object, message));
    }
    Ok(Piece { kind, id, location })
}

struct State {
    plan: Plan,
    /// What is fetched and not read yet, by its place.
    done: BTreeMap<u64, Chunks>,
    /// How many fetches the reader has taken.
    given: u64,
    closed: bool,
}

struct Source {
    repository: Arc<Repository>,
    index: Arc<Index>,
    cancel: Cancel,
    window: u64,
    state: Mutex<State>,
    changed: Condvar,
}

impl Source {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches until nothing is left or the reader is gone.
    fn fetch_ahead(&self) {
        loop {
            let mut state = self.state();
            while !state.closed && state.plan.given_out >= state.given + self.window {
                state = self.wait(state);
            }
            if state.closed {
                return;
            }
            let place = state.plan.given_out;
            let Some(fetch) = state.plan.next(&self.repository, &self.index) else { return };
            drop(state);
            let promise = Promise { source: self, place, kept: false };
            promise.keep(self.fetch(fetch));
        }
    }

    fn fetch(&self, fetch: Fetch) -> Chunks {
        let (run, ranges) = fetch?;
        if self.cancel.is_cancelled() {
            return Err(ResticError::cancelled(self.repository.location()));
        }
        let blobs = run.read(&self.repository, &self.index);
        blobs.into_iter().zip(ranges).map(|(blob, range)| blob.map(|blob| (blob, range))).collect()
    }

    fn insert(&self, place: u64, chunks: Chunks) {
        self.state().done.insert(place, chunks);
        self.changed.notify_all();
    }
}

/// A fetch under way. Should its thread panic, the reader gets an error instead of waiting forever.
struct Promise<'a> {
    source: &'a Source,
    place: u64,
    kept: bool,
}

impl Promise<'_> {
    fn keep(mut self, chunks: Chunks) {
        self.kept = true;
        self.source.insert(self.place, chunks);
    }
}

impl Drop for Promise<'_> {
    fn drop(&mut self) {
        if !self.kept {
            let location = self.source.repository.location();
            let error = ResticError::new(ResticErrorKind::Failed, location, "a reading thread panicked");
            self.source.insert(self.place, Err(error));
        }
    }
}

struct StreamReader {
    source: Arc<Source>,
    threads: Vec<JoinHandle<()>>,
    chunks: VecDeque<(Vec<u8>, Range<usize>)>,
    /// How many fetches were taken.
    at: u64,
    failed: Option<ResticError>,
}

impl StreamReader {
    /// Returns the next blobs; `None` at the end.
    fn next_chunks(&mut self) -> Option<Chunks> {
        if self.threads.is_empty() {
            let fetch = self.source.state().plan.next(&self.source.repository, &self.source.index)?;
            return Some(self.source.fetch(fetch));
        }
        let mut state = self.source.state();
        loop {
            if let Some(chunks) = state.done.remove(&self.at) {
                self.at += 1;
                state.given = self.at;
                drop(state);
                self.source.changed.notify_all();
                return Some(chunks);
            }
            if state.plan.left == 0 && state.plan.given_out == self.at {
                return None;
            }
            state = self.source.wait(state);
        }
    }
}

impl Read for StreamReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(error) = &self.failed {
            return Err(io::Error::other(error.clone()));
        }
        if buffer.is_empty() {
            return Ok(0);
        }
        while self.chunks.is_empty() {
            match self.next_chunks() {
                None => return Ok(0),
                Some(Ok(chunks)) => self.chunks.extend(chunks),
                Some(Err(error)) => {
                    self.failed = Some(error.clone());
                    return Err(io::Error::other(error));
                }
            }
        }
        let Some((blob, range)) = self.chunks.front_mut() else { return Ok(0) };
        let count = range.len().min(buffer.len());
        buffer[..count].copy_from_slice(&blob[range.start..range.start + count]);
        range.start += count;
        if range.start == range.end {
            self.chunks.pop_front();
        }
        Ok(count)
    }
}

impl Drop for StreamReader {
    fn drop(&mut self) {
        self.source.state().closed = true;
        self.source.changed.notify_all();
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}
