//! Writes the image past the page cache, and reads it back so, where the filesystem can.
//!
//! The image is far larger than what its users need first, and what is not cached is neither copied twice nor pushes the
//! pages of running databases out. Where direct writes are refused, all goes through the cache. Nothing is durable before
//! the file is synced: a crash leaves an image that is written anew.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Direct writes begin and end at multiples of this, in memory and in the file: no block of a disk is larger.
const ALIGNMENT: usize = 4096;

/// How much is written or read at once.
pub(super) const BUFFER_BYTES: usize = 1 << 20;

/// Memory that direct writes can be made from.
pub(super) struct AlignedBuffer {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl AlignedBuffer {
    /// Makes a buffer of that many bytes, zeroed.
    pub(super) fn new(length: usize) -> Self {
        let memory = vec![0; length + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Self { memory, start, length }
    }

    /// Returns the bytes.
    pub(super) fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.length]
    }
}

/// A file that is written at any place by several threads.
pub(super) struct Unbuffered<'a> {
    file: &'a File,
    direct: Option<File>,
    refused: AtomicBool,
}

impl<'a> Unbuffered<'a> {
    /// Takes a file that is open for writing, with its path.
    pub(super) fn new(path: &Path, file: &'a File) -> Self {
        let flags = rustix::fs::OFlags::DIRECT.bits() as i32;
        let direct = OpenOptions::new().write(true).custom_flags(flags).open(path).ok();
        Self { file, direct, refused: AtomicBool::new(false) }
    }

    /// Writes all bytes at an offset. What does not fill a block goes through the cache.
    pub(super) fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let Some(direct) = self.direct.as_ref().filter(|_| !self.refused.load(Ordering::Relaxed)) else {
            return self.file.write_all_at(bytes, offset);
        };
        let aligned = offset.is_multiple_of(ALIGNMENT as u64) && bytes.as_ptr().align_offset(ALIGNMENT) == 0;
        let (whole, rest) = bytes.split_at(if aligned { bytes.len() - bytes.len() % ALIGNMENT } else { 0 });
        if !whole.is_empty() {
            match direct.write_all_at(whole, offset) {
                Ok(()) => {}
                Err(error) if is_refusal(&error) => {
                    self.refused.store(true, Ordering::Relaxed);
                    self.file.write_all_at(whole, offset)?;
                }
                Err(error) => return Err(error),
            }
        }
        self.file.write_all_at(rest, offset + whole.len() as u64)
    }
}

impl Unbuffered<'_> {
    /// Tells whether what was written went to the disk: then it can be read back at once.
    pub(super) fn is_direct(&self) -> bool {
        self.direct.is_some() && !self.refused.load(Ordering::Relaxed)
    }
}

/// A file that is read at any place by several threads.
pub(super) struct UnbufferedReader {
    file: File,
    direct: Option<File>,
    refused: AtomicBool,
}

impl UnbufferedReader {
    /// Opens a file.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = rustix::fs::OFlags::DIRECT.bits() as i32;
        let direct = OpenOptions::new().read(true).custom_flags(flags).open(path).ok();
        Ok(Self { file: File::open(path)?, direct, refused: AtomicBool::new(false) })
    }

    /// Tells whether it reads past the cache.
    pub(super) fn is_direct(&self) -> bool {
        self.direct.is_some() && !self.refused.load(Ordering::Relaxed)
    }

    /// Reads `length` bytes, at most what the buffer holds, from an offset on.
    pub(super) fn read_at<'b>(
        &self,
        buffer: &'b mut AlignedBuffer,
        length: usize,
        offset: u64,
    ) -> io::Result<&'b [u8]> {
        let bytes = buffer.bytes();
        let asked = length.next_multiple_of(ALIGNMENT);
        let aligned = offset.is_multiple_of(ALIGNMENT as u64) && asked <= bytes.len();
        let direct = self.direct.as_ref().filter(|_| aligned && !self.refused.load(Ordering::Relaxed));
        let mut filled = 0;
        while let Some(direct) = direct.filter(|_| filled < length && filled.is_multiple_of(ALIGNMENT)) {
            match direct.read_at(&mut bytes[filled..asked], offset + filled as u64) {
                // Shorter than it should be: reading the rest below says so.
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_refusal(&error) => {
                    self.refused.store(true, Ordering::Relaxed);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        if filled < length {
            self.file.read_exact_at(&mut bytes[filled..length], offset + filled as u64)?;
        }
        Ok(&bytes[..length])
    }
}

/// Tells whether a filesystem or disk does not take direct writes as they were made.
fn is_refusal(error: &io::Error) -> bool {
    let refusals = [rustix::io::Errno::INVAL, rustix::io::Errno::OPNOTSUPP];
    refusals.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn written(pieces: &[(u64, usize)], aligned: bool, total: usize) -> (Vec<u8>, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
        file.set_len(total as u64).unwrap();
        let unbuffered = Unbuffered::new(&path, &file);
        let expected: Vec<u8> = (0..total).map(|at| (at / 7 + at % 251) as u8).collect();
        let mut buffer = AlignedBuffer::new(total + 1);
        for (offset, length) in pieces {
            let from = usize::try_from(*offset).unwrap();
            let shift = usize::from(!aligned);
            let target = &mut buffer.bytes()[shift..shift + length];
            target.copy_from_slice(&expected[from..from + length]);
            unbuffered.write_all_at(target, *offset).unwrap();
        }
        (std::fs::read(&path).unwrap(), expected)
    }

    #[test]
    fn what_is_written_is_there_wherever_it_begins_and_ends() {
        let pieces = [(0, 8192), (8192, 4096 + 512), (12800, 3584), (16384, 1), (16385, 100_000 - 16385)];
        for aligned in [true, false] {
            let (found, expected) = written(&pieces, aligned, 100_000);
            assert!(found == expected, "aligned: {aligned}");
        }
    }

    #[test]
    fn what_is_read_is_what_is_there_wherever_it_begins_and_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        let content: Vec<u8> = (0..100_000).map(|at| (at / 7 + at % 251) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        File::open(&path).unwrap().sync_all().unwrap();
        let reader = UnbufferedReader::open(&path).unwrap();
        let mut buffer = AlignedBuffer::new(1 << 16);
        for (offset, length) in
            [(0, 1 << 16), (4096, 512), (512, 4096), (98_304, 1696), (99_999, 1), (8192, 10_000)]
        {
            let found = reader.read_at(&mut buffer, length, offset as u64).unwrap();
            assert!(found == &content[offset..offset + length], "{length} from {offset}");
        }
        assert!(reader.read_at(&mut buffer, 1697, 98_304).is_err(), "beyond the end");
    }

    #[test]
    fn a_buffer_is_aligned_and_as_long_as_asked_for() {
        for length in [1, 4096, 1 << 20] {
            let mut buffer = AlignedBuffer::new(length);
            assert_eq!(buffer.bytes().len(), length);
            assert_eq!(buffer.bytes().as_ptr().align_offset(ALIGNMENT), 0);
        }
    }
}
