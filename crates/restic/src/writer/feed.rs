//! Reads a stream on its caller's thread, cuts it, and hands the pieces to the workers.
//!
//! Several blobs travel in one buffer, so that small ones cost no more than large ones.

use super::shared::{BUFFER_BYTES, Job, Shared, StoredBlob};
use super::taste::Taste;
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

/// The way of one stream's pieces to the workers and back.
struct Stream<'a> {
    shared: &'a Shared,
    jobs: &'a Sender<Job>,
    reply: Sender<(usize, Vec<StoredBlob>)>,
    answers: Receiver<(usize, Vec<StoredBlob>)>,
    sent: usize,
    taste: Option<Arc<Taste>>,
}

impl Stream<'_> {
    fn send(&mut self, buffer: Vec<u8>, lengths: Vec<usize>) -> Result<(), ResticError> {
        self.shared.check()?;
        let job = Job {
            kind: BlobKind::Data,
            buffer,
            lengths,
            taste: self.taste.clone(),
            sequence: self.sent,
            reply: self.reply.clone(),
        };
        self.sent += 1;
        self.jobs.send(job).map_err(|_| self.shared.failure())
    }

    /// Waits for all answers and puts them in order.
    fn finish(self) -> Result<Vec<StoredBlob>, ResticError> {
        drop(self.reply);
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
    shared: &Shared,
    jobs: &Sender<Job>,
    read: &mut dyn FnMut(&mut [u8]) -> Result<usize, E>,
    cut: &Cut,
) -> Result<Vec<StoredBlob>, StreamError<E>> {
    shared.check()?;
    let (reply, answers) = unbounded();
    let taste = matches!(cut, Cut::ContentDefined).then(Arc::default);
    let mut stream = Stream { shared, jobs, reply, answers, sent: 0, taste };
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
        if filled > 0 {
            let lengths = (0..filled).step_by(bytes).map(|at| bytes.min(filled - at)).collect();
            stream.send(buffer, lengths)?;
        } else {
            // A new one costs as much as filling it, and parts may be short.
            stream.shared.return_buffer(buffer);
        }
        if filled < batch {
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
        // What is not cut yet begins the next buffer: where it is cut depends on what follows.
        let mut next = stream.shared.buffer();
        kept = filled - done;
        next[..kept].copy_from_slice(&buffer[done..filled]);
        if lengths.is_empty() {
            stream.shared.return_buffer(buffer);
        } else {
            stream.send(buffer, lengths)?;
        }
        buffer = next;
        if at_end {
            stream.shared.return_buffer(buffer);
            return Ok(());
        }
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
