//! Numbers and byte strings as an archive writes them: an integer is a sign byte and its size in little-endian bytes,
//! an offset a state byte and its bytes, a string its length (-1 for none) and its bytes.

use super::error::ArchiveError;
use std::io::{self, Read, Write};

/// No string of a table of contents is longer: the definition of a function has 1 GB at most.
const STRING_BYTES_MAX: u64 = 1 << 30;

/// Reads an archive and counts, so that damage can be named by its place.
pub(super) struct Input<R> {
    inner: R,
    at: u64,
    pub(super) int_bytes: u8,
    pub(super) offset_bytes: u8,
}

impl<R: Read> Input<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, at: 0, int_bytes: 4, offset_bytes: 8 }
    }

    /// Returns how many bytes were read.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    pub(super) fn damaged(&self, problem: impl Into<String>) -> ArchiveError {
        ArchiveError::Damaged { at: self.at, problem: problem.into() }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), ArchiveError> {
        match self.inner.read_exact(buffer) {
            Ok(()) => {
                self.at += buffer.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.damaged("it ends there, in the middle"))
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn byte(&mut self) -> Result<u8, ArchiveError> {
        let mut byte = [0];
        self.fill(&mut byte)?;
        Ok(byte[0])
    }

    /// Reads a byte, or `None` at the very end.
    pub(super) fn byte_or_end(&mut self) -> Result<Option<u8>, ArchiveError> {
        let mut byte = [0];
        loop {
            match self.inner.read(&mut byte) {
                Ok(0) => return Ok(None),
                Ok(_) => {
                    self.at += 1;
                    return Ok(Some(byte[0]));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(super) fn integer(&mut self) -> Result<i64, ArchiveError> {
        let sign = self.byte()?;
        let mut value: u64 = 0;
        for place in 0..self.int_bytes {
            let byte = u64::from(self.byte()?);
            if place < 8 {
                value |= byte << (8 * u32::from(place));
            } else if byte != 0 {
                return Err(self.damaged("a number is too large"));
            }
        }
        let value = i64::try_from(value).map_err(|_| self.damaged("a number is too large"))?;
        match sign {
            0 => Ok(value),
            1 => Ok(-value),
            other => Err(self.damaged(format!("a number has the sign {other}"))),
        }
    }

    pub(super) fn number(&mut self, what: &str) -> Result<i32, ArchiveError> {
        let value = self.integer()?;
        i32::try_from(value).map_err(|_| self.damaged(format!("{what} is {value}")))
    }

    pub(super) fn offset(&mut self) -> Result<u64, ArchiveError> {
        let mut value: u64 = 0;
        for place in 0..self.offset_bytes {
            let byte = u64::from(self.byte()?);
            if place < 8 {
                value |= byte << (8 * u32::from(place));
            } else if byte != 0 {
                return Err(self.damaged("an offset is too large"));
            }
        }
        Ok(value)
    }

    pub(super) fn string(&mut self) -> Result<Option<Vec<u8>>, ArchiveError> {
        let length = self.integer()?;
        if length < 0 {
            return Ok(None);
        }
        let length = length.unsigned_abs();
        if length > STRING_BYTES_MAX {
            return Err(self.damaged(format!("a string claims to have {length} bytes")));
        }
        self.exactly(length).map(Some)
    }

    /// Reads so many bytes; memory grows as they come.
    fn exactly(&mut self, length: u64) -> Result<Vec<u8>, ArchiveError> {
        let mut bytes = Vec::new();
        (&mut self.inner).take(length).read_to_end(&mut bytes)?;
        self.at += bytes.len() as u64;
        if bytes.len() as u64 == length { Ok(bytes) } else { Err(self.damaged("it ends there, in a string")) }
    }

    /// Reads up to the length of the buffer; 0 at the end.
    pub(super) fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
        loop {
            match self.inner.read(buffer) {
                Ok(count) => {
                    self.at += count as u64;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Writes an archive and counts.
pub(super) struct Output<W> {
    inner: W,
    pub(super) at: u64,
    int_bytes: u8,
    offset_bytes: u8,
}

impl<W: Write> Output<W> {
    pub(super) fn new(inner: W, int_bytes: u8, offset_bytes: u8) -> Self {
        Self { inner, at: 0, int_bytes, offset_bytes }
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.inner.write_all(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn integer(&mut self, value: i64) -> Result<(), ArchiveError> {
        let magnitude = value.unsigned_abs();
        if self.int_bytes < 8 && magnitude >> (8 * u32::from(self.int_bytes)) != 0 {
            let width = self.int_bytes;
            return Err(ArchiveError::Unsupported(format!(
                "the number {value} does not fit in {width} bytes"
            )));
        }
        self.bytes(&[u8::from(value < 0)])?;
        self.little_endian(magnitude, self.int_bytes)
    }

    pub(super) fn offset(&mut self, value: u64) -> Result<(), ArchiveError> {
        self.little_endian(value, self.offset_bytes)
    }

    fn little_endian(&mut self, value: u64, width: u8) -> Result<(), ArchiveError> {
        let bytes = value.to_le_bytes();
        for place in 0..usize::from(width) {
            self.bytes(&[bytes.get(place).copied().unwrap_or(0)])?;
        }
        Ok(())
    }

    pub(super) fn string(&mut self, text: Option<&[u8]>) -> Result<(), ArchiveError> {
        match text {
            None => self.integer(-1),
            Some(text) => {
                let length = i64::try_from(text.len())
                    .map_err(|_| ArchiveError::Unsupported("a string is too long".to_owned()))?;
                self.integer(length)?;
                self.bytes(text)
            }
        }
    }

    pub(super) fn into_inner(self) -> W {
        self.inner
    }
}
