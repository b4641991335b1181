//! Reads a stream on its caller's thread, cuts it, and hands the pieces to the workers.
//!
//! Several blobs travel in one buffer, so that small ones cost no more than large ones. A stream that is over within its
//! first buffer is not handed over at all, where there is room for its caller to do the work.

use super::shared::{BUFFER_BYTES, Job, Shared, StoredBlob, Work};
use super::taste::Taste;
use super::worker::Benches;
use crate::cut::{Cut, FIXED_MAX_BYTES};
use crate::error::{ResticError, ResticErrorKind};
use crate::id::BlobKind;
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::sync::Arc;

/// Small enough to stay in a core's cache on its way, large enough to make handing it over cheap.
const BATCH_BYTES: usize = 1 << 20;

/// A stream could not be stored: one side or the other failed.
#[derive(Debug)]
pub enum StreamError<E> {
    /// The source failed: only this stream is lost.
    Read(E),
    /// The repository failed: fatal for the writer, every later call returns the same.
    Write(ResticError),
}

impl<E> From<ResticError> for StreamError<E> {
    fn from(error: ResticError) -> Self {
        StreamError::Write(error)
    }
}

/// Up to this size, a piece that is all there is is stored by whoever brings it: a thousandth of a second's work.
const AT_ONCE_BYTES: usize = 512 << 10;

/// Where the pieces of streams go.
#[derive(Clone, Copy)]
pub(super) struct Route<'a> {
    pub(super) shared: &'a Shared,
    pub(super) jobs: &'a Sender<Job>,
    pub(super) benches: &'a Benches,
}

impl Route<'_> {
    /// Stores a piece that is all there is, if it is small and there is room.
    pub(super) fn at_once(&self, work: &Work) -> Option<Result<Vec<StoredBlob>, ResticError>> {
        let small = work.lengths.iter().sum::<usize>() <= AT_ONCE_BYTES;
        small.then(|| self.benches.at_once(self.shared, work)).flatten()
    }
}

/// The way of one stream's pieces to the workers and back.
struct Stream<'a> {
    shared: &'a Shared,
    route: Route<'a>,
    /// Stored by the caller.
    done: Vec<StoredBlob>,
    reply: Sender<(usize, Vec<StoredBlob>)>,
    answers: Receiver<(usize, Vec<StoredBlob>)>,
    sent: usize,
    taste: Arc<Taste>,
}

impl Stream<'_> {
    fn send(&mut self, buffer: Vec<u8>, lengths: Vec<usize>, is_last: bool) -> Result<(), ResticError> {
        self.shared.check()?;
        let work = Work { kind: BlobKind::Data, buffer, lengths, taste: Some(Arc::clone(&self.taste)) };
        if is_last
            && self.sent == 0
            && let Some(stored) = self.route.at_once(&work)
        {
            self.shared.return_buffer(work.buffer);
            self.done = stored?;
            return Ok(());
        }
        let job = Job { work, sequence: self.sent, reply: self.reply.clone() };
        self.sent += 1;
        self.route.jobs.send(job).map_err(|_| self.shared.failure())
    }

    /// Waits for all answers and puts them in order.
    fn finish(self) -> Result<Vec<StoredBlob>, ResticError> {
        drop(self.reply);
        if self.sent == 0 {
            return Ok(self.done);
        }
        let mut parts: Vec<_> = self.answers.iter().collect();
        if parts.len() != self.sent {
            return Err(self.shared.failure());
        }
        parts.sort_unstable_by_key(|(sequence, _)| *sequence);
        Ok(parts.into_iter().flat_map(|(_, blobs)| blobs).collect())
    }
}

/// Stores a stream and returns its blobs in order.
pub(super) fn write_stream<E>(
    route: Route<'_>,
    read: &mut dyn FnMut(&mut [u8]) -> Result<usize, E>,
    cut: &Cut,
) -> Result<Vec<StoredBlob>, StreamError<E>> {
    let shared = route.shared;
    shared.check()?;
    let (reply, answers) = unbounded();
    let taste = Arc::default();
    let mut stream = Stream { shared, route, done: Vec::new(), reply, answers, sent: 0, taste };
    match *cut {
        Cut::Fixed { bytes } if (512..=FIXED_MAX_BYTES).contains(&bytes) => {
            feed_fixed(&mut stream, read, bytes as usize)?;
        }
        Cut::Fixed { bytes } => {
            let message = format!("a distance of {bytes} bytes between cuts is out of bounds");
            return Err(ResticError::new(ResticErrorKind::Failed, "stream", message).into());
        }
        Cut::ContentDefined => feed_by_content(&mut stream, read)?,
    }
    Ok(stream.finish()?)
}

fn feed_fixed<E>(
    stream: &mut Stream<'_>,
    read: &mut dyn FnMut(&mut [u8]) -> Result<usize, E>,
    bytes: usize,
) -> Result<(), StreamError<E>> {
    let batch = (BATCH_BYTES / bytes).max(1) * bytes;
    loop {
        let mut buffer = stream.shared.buffer();
        if buffer.len() < batch {
            buffer.resize(batch, 0);
        }
        let filled = fill(stream.shared, &mut buffer[..batch], 0, read)?;
        let at_end = filled < batch;
        if filled > 0 {
            let lengths = (0..filled).step_by(bytes).map(|at| bytes.min(filled - at)).collect();
            stream.send(buffer, lengths, at_end)?;
        } else {
            // A new one costs as much as filling it, and parts may be short.
            stream.shared.return_buffer(buffer);
        }
        if at_end {
            return Ok(());
        }
    }
}

fn feed_by_content<E>(
    stream: &mut Stream<'_>,
    read: &mut dyn FnMut(&mut [u8]) -> Result<usize, E>,
) -> Result<(), StreamError<E>> {
    let mut buffer = stream.shared.buffer();
    let mut kept = 0;
    loop {
        let filled = fill(stream.shared, &mut buffer, kept, read)?;
        let at_end = filled < BUFFER_BYTES;
        let mut lengths = Vec::new();
        let mut done = 0;
        while let Some(length) = stream.shared.cutter.next(&buffer[done..filled], at_end) {
            lengths.push(length);
            done += length;
        }
        if at_end {
            if lengths.is_empty() {
                stream.shared.return_buffer(buffer);
            } else {
                stream.send(buffer, lengths, true)?;
            }
            return Ok(());
        }
        // What is not cut yet begins the next buffer: where it is cut depends on what follows.
        let mut next = stream.shared.buffer();
        kept = filled - done;
        next[..kept].copy_from_slice(&buffer[done..filled]);
        if lengths.is_empty() {
            stream.shared.return_buffer(buffer);
        } else {
            stream.send(buffer, lengths, false)?;
        }
        buffer = next;
    }
}

/// Fills a buffer from `filled` on; returns its new fill, less than its length only at the end of the source.
fn fill<E>(
    shared: &Shared,
    buffer: &mut [u8],
    mut filled: usize,
    read: &mut dyn FnMut(&mut [u8]) -> Result<usize, E>,
) -> Result<usize, StreamError<E>> {
    while filled < buffer.len() {
        shared.check()?;
        match read(&mut buffer[filled..]).map_err(StreamError::Read)? {
            0 => break,
            count if count <= buffer.len() - filled => filled += count,
            count => {
                let message = format!("claims to have read {count} bytes, more than there was room for");
                return Err(ResticError::new(ResticErrorKind::Failed, "stream", message).into());
            }
        }
    }
    Ok(filled)
}
