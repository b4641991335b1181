//! Where the data of an entry lie: in a file, from an offset on, in chunks or in one piece, packed or not. Files are read and
//! nothing else.

use super::super::archive::{Packing, Unpacked};
use super::inserts::Inserts;
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

const BUFFER_BYTES: usize = 256 << 10;

/// Where data begin and end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// In memory: what is made of an archive's own lists.
    Memory(Vec<u8>),
    /// A row of chunks of a custom archive, whose integers have so many bytes.
    Chunks { path: PathBuf, offset: u64, int_bytes: u8, packing: Packing },
    /// A stretch of a file.
    Stretch { path: PathBuf, offset: u64, size_bytes: u64 },
    /// A whole file.
    Whole { path: PathBuf, packing: Packing },
    /// What lies there, which is `INSERT` statements, as rows.
    Inserts { of: Box<Place>, standard_strings: bool },
}

impl Place {
    /// Returns the data, unpacked, from the first byte on.
    pub(super) fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        match self {
            Place::Memory(bytes) => Ok(Box::new(Cursor::new(bytes.clone()))),
            Place::Chunks { path, offset, int_bytes, packing } => {
                let chunks =
                    Chunks { inner: at(path, *offset)?, int_bytes: *int_bytes, left: 0, over: false };
                Ok(Box::new(Unpacked::new(chunks, *packing)?))
            }
            Place::Stretch { path, offset, size_bytes } => Ok(Box::new(at(path, *offset)?.take(*size_bytes))),
            Place::Whole { path, packing } => Ok(Box::new(Unpacked::new(at(path, 0)?, *packing)?)),
            Place::Inserts { of, standard_strings } => {
                Ok(Box::new(Inserts::new(of.open()?, *standard_strings)))
            }
        }
    }
}

impl Place {
    /// Returns where in its file it begins; 0 for what has a file of its own.
    pub(super) fn begins_at(&self) -> u64 {
        match self {
            Place::Chunks { offset, .. } | Place::Stretch { offset, .. } => *offset,
            Place::Inserts { of, .. } => of.begins_at(),
            Place::Memory(_) | Place::Whole { .. } => 0,
        }
    }
}

fn at(path: &Path, offset: u64) -> io::Result<BufReader<File>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    Ok(BufReader::with_capacity(BUFFER_BYTES, file))
}

/// A row of chunks, joined.
struct Chunks<R> {
    inner: R,
    int_bytes: u8,
    left: u64,
    over: bool,
}

impl<R: Read> Chunks<R> {
    /// Reads the length of the next chunk: a sign, then the bytes of a number, the lowest first.
    fn length(&mut self) -> io::Result<u64> {
        let mut bytes = vec![0; usize::from(self.int_bytes) + 1];
        self.inner.read_exact(&mut bytes)?;
        let (sign, digits) = bytes.split_first().unwrap_or((&1, &[]));
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "a chunk has an impossible length");
        if *sign != 0 || digits.iter().skip(8).any(|digit| *digit != 0) {
            return Err(damaged());
        }
        let low = digits.iter().take(8).rev();
        Ok(low.fold(0, |number, digit| number << 8 | u64::from(*digit)))
    }
}

impl<R: Read> Read for Chunks<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.over || buffer.is_empty() {
            return Ok(0);
        }
        if self.left == 0 {
            self.left = self.length()?;
            self.over = self.left == 0;
            if self.over {
                return Ok(0);
            }
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.inner.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn chunks_are_joined_and_must_end() {
        let bytes =
            [&[0, 3, 0, 0, 0][..], b"abc", &[0, 2, 0, 0, 0], b"de", &[0, 0, 0, 0, 0], b"more"].concat();
        let chunks =
            |bytes: Vec<u8>| Chunks { inner: Cursor::new(bytes), int_bytes: 4, left: 0, over: false };
        let mut text = String::new();
        chunks(bytes.clone()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "abcde");
        for cut in 0..20 {
            assert!(chunks(bytes[..cut].to_vec()).read_to_end(&mut vec![]).is_err(), "{cut}");
        }
        assert!(chunks(vec![1, 3, 0, 0, 0]).read_to_end(&mut vec![]).is_err());
    }
}
