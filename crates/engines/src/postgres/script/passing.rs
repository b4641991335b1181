//! A text on its way: progress is told of it, a cancellation ends it, and it is summed up, so that one that is read twice
//! shows whether it was the same.

use flow::{Context, Event};
use std::io::{self, Read};
use xxhash_rust::xxh3::Xxh3Default;

/// A text that is read.
pub(in crate::postgres) struct Passing<'a, R> {
    inner: R,
    context: &'a Context,
    sum: Box<Xxh3Default>,
}

impl<'a, R: Read> Passing<'a, R> {
    pub(in crate::postgres) fn new(inner: R, context: &'a Context) -> Self {
        Self { inner, context, sum: Box::default() }
    }

    /// Returns the sum of what came so far.
    pub(in crate::postgres) fn sum(&self) -> String {
        format!("{:032x}", self.sum.digest128())
    }
}

impl<R: Read> Read for Passing<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.context.cancel.is_cancelled() {
            return Err(io::Error::other("it was interrupted"));
        }
        let count = self.inner.read(buffer)?;
        self.sum.update(&buffer[..count]);
        self.context.observer.event(Event::Bytes(count as u64));
        Ok(count)
    }
}
