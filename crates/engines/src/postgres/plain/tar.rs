//! A tar archive as `pg_dump -Ft` writes one: the table of contents, then a member for the data of each entry, in the order
//! in which stock `pg_restore` asks for them; large objects before their list.
//!
//! A member's header has its size. Where that is not known before, the member is put into a file in the scratch folder
//! first, which has no name.

use super::{Counted, DataSink, Written, not_written, refused};
use crate::postgres::archive::{DataPlace, TableOfContents};
use flow::{Context, SourceError, SourceErrorKind};
use jiff::Timestamp;
use std::fs::{DirBuilder, File};
use std::io::{self, BufWriter, Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

const BLOCK_BYTES: usize = 512;
const BUFFER_BYTES: usize = 256 << 10;
/// The largest size that a header holds in octal digits.
const OCTAL_MAX: u64 = 0o77_777_777_777;

pub(super) struct TarFile<W: Write> {
    out: BufWriter<Counted<W>>,
    toc: TableOfContents,
    time: Timestamp,
    member: Option<Member>,
    /// The list of the large objects that are written: its name, and what stands in it so far.
    list: Option<(String, Vec<u8>)>,
    object: String,
    scratch: PathBuf,
}

/// The member that is written.
enum Member {
    /// Of a size that its header says: how many bytes are still to come, and how many zeros follow.
    Sized { left: u64, padding: usize },
    /// Of a size that is not known yet.
    Spooled { name: String, file: BufWriter<File>, size_bytes: u64 },
}

impl<W: Write> TarFile<W> {
    /// Writes the table of contents.
    pub(super) fn begin(
        out: W,
        toc: &TableOfContents,
        time: Timestamp,
        object: &str,
        context: &Context,
    ) -> Result<Self, SourceError> {
        let toc = toc.for_directory();
        let mut bytes = Vec::new();
        toc.write(&mut bytes).map_err(|error| not_written(object, error))?;
        let out = BufWriter::with_capacity(BUFFER_BYTES, Counted { out, size_bytes: 0 });
        let scratch = context.scratch.path().to_owned();
        let object = object.to_owned();
        let mut tar = Self { out, toc, time, member: None, list: None, object, scratch };
        tar.whole("toc.dat", &bytes)?;
        Ok(tar)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), SourceError> {
        self.out.write_all(bytes).map_err(|error| refused(&self.object, error))
    }

    /// Writes a member of which all is there.
    fn whole(&mut self, name: &str, bytes: &[u8]) -> Result<(), SourceError> {
        self.open(name.to_owned(), Some(bytes.len() as u64))?;
        self.bytes(bytes)?;
        self.end()
    }

    fn open(&mut self, name: String, size_bytes: Option<u64>) -> Result<(), SourceError> {
        self.member = Some(match size_bytes {
            Some(size) => {
                let header = header(&name, size, self.time);
                self.put(&header)?;
                Member::Sized { left: size, padding: padding(size) }
            }
            None => {
                let file = self.spool().map_err(|error| self.unspooled(error))?;
                Member::Spooled { name, file: BufWriter::new(file), size_bytes: 0 }
            }
        });
        Ok(())
    }

    fn spool(&self) -> io::Result<File> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.scratch)?;
        tempfile::tempfile_in(&self.scratch)
    }

    fn unspooled(&self, error: io::Error) -> SourceError {
        let message = format!("scratch space in {} cannot be written", self.scratch.display());
        SourceError::new(SourceErrorKind::Failed, self.object.clone(), message)
            .with_hint("a tar archive needs room there for its largest table; .dump and .sql need none")
            .with_source(error)
    }

    fn copy(&mut self, name: &str, file: BufWriter<File>, size_bytes: u64) -> Result<(), SourceError> {
        let header = header(name, size_bytes, self.time);
        self.put(&header)?;
        let mut file = file.into_inner().map_err(|error| self.unspooled(error.into_error()))?;
        file.rewind().map_err(|error| self.unspooled(error))?;
        let (mut buffer, mut left) = (vec![0; BUFFER_BYTES], size_bytes);
        while left > 0 {
            let count = file.read(&mut buffer).map_err(|error| self.unspooled(error))?;
            if count == 0 {
                return Err(self.unspooled(io::ErrorKind::UnexpectedEof.into()));
            }
            self.put(&buffer[..count])?;
            left = left.saturating_sub(count as u64);
        }
        self.put(&[0; BLOCK_BYTES][..padding(size_bytes)])
    }

    fn file_of(&self, dump_id: i32) -> String {
        match self.toc.entry(dump_id).map(|entry| &entry.place) {
            Some(DataPlace::File(Some(name))) => String::from_utf8_lossy(name).into_owned(),
            _ => format!("{dump_id}.dat"),
        }
    }

    fn cut(&self) -> SourceError {
        let message = "a member of the archive has another size than was told";
        SourceError::new(SourceErrorKind::Failed, self.object.clone(), message)
    }
}

impl<W: Write> DataSink for TarFile<W> {
    fn begin(&mut self, dump_id: i32, size_bytes: Option<u64>) -> Result<(), SourceError> {
        self.open(self.file_of(dump_id), size_bytes)
    }

    fn begin_objects(&mut self, dump_id: i32) -> Result<(), SourceError> {
        self.list = Some((self.file_of(dump_id), Vec::new()));
        Ok(())
    }

    fn begin_object(&mut self, oid: u32, size_bytes: Option<u64>) -> Result<(), SourceError> {
        let name = format!("blob_{oid}.dat");
        if let Some((_, list)) = &mut self.list {
            list.extend_from_slice(format!("{oid} {name}\n").as_bytes());
        }
        self.open(name, size_bytes)
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), SourceError> {
        match self.member.as_mut() {
            Some(Member::Sized { left, .. }) => {
                match left.checked_sub(bytes.len() as u64) {
                    Some(rest) => *left = rest,
                    None => return Err(self.cut()),
                }
                self.put(bytes)
            }
            Some(Member::Spooled { file, size_bytes, .. }) => {
                *size_bytes += bytes.len() as u64;
                let done = file.write_all(bytes);
                done.map_err(|error| self.unspooled(error))
            }
            None => Ok(()),
        }
    }

    fn end(&mut self) -> Result<(), SourceError> {
        match self.member.take() {
            Some(Member::Sized { left: 0, padding }) => self.put(&[0; BLOCK_BYTES][..padding]),
            Some(Member::Sized { .. }) => Err(self.cut()),
            Some(Member::Spooled { name, file, size_bytes }) => self.copy(&name, file, size_bytes),
            None => Ok(()),
        }
    }

    fn end_objects(&mut self) -> Result<(), SourceError> {
        match self.list.take() {
            Some((name, list)) => self.whole(&name, &list),
            None => Ok(()),
        }
    }

    fn finish(mut self: Box<Self>) -> Result<Written, SourceError> {
        self.put(&[0; 2 * BLOCK_BYTES])?;
        self.out.flush().map_err(|error| refused(&self.object, error))?;
        Ok(Written { size_bytes: self.out.get_ref().size_bytes, front: None })
    }
}

fn padding(size_bytes: u64) -> usize {
    let over = size_bytes % BLOCK_BYTES as u64;
    usize::try_from(over).map_or(0, |over| (BLOCK_BYTES - over) % BLOCK_BYTES)
}

/// Returns a member's header (POSIX ustar; a size beyond eight gigabytes in GNU's way, as `pg_dump` writes it).
fn header(name: &str, size_bytes: u64, time: Timestamp) -> [u8; BLOCK_BYTES] {
    let mut header = [0; BLOCK_BYTES];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    // No name is longer: numbers and a few letters.
    put(0, &name.as_bytes()[..name.len().min(99)]);
    put(100, b"0000600\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    if size_bytes <= OCTAL_MAX {
        put(124, format!("{size_bytes:011o} ").as_bytes());
    } else {
        put(124, &[0x80, 0, 0, 0]);
        put(128, &size_bytes.to_be_bytes());
    }
    let seconds = u64::try_from(time.as_second()).unwrap_or(0).min(OCTAL_MAX);
    put(136, format!("{seconds:011o} ").as_bytes());
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_header_says_name_size_and_sum() {
        let header = header("4711.dat", 1234, Timestamp::from_second(1_790_000_000).unwrap());
        assert_eq!(&header[..9], b"4711.dat\0");
        assert_eq!(&header[124..136], b"00000002322 ");
        assert_eq!(&header[257..265], b"ustar\x0000");
        let sum: u32 =
            (0..512).map(|at| if (148..156).contains(&at) { 32 } else { u32::from(header[at]) }).sum();
        assert_eq!(&header[148..156], format!("{sum:06o}\0 ").as_bytes());
    }

    #[test]
    fn a_size_of_many_gigabytes_is_written_as_a_number() {
        let header = header("1.dat", 9 << 30, Timestamp::UNIX_EPOCH);
        assert_eq!(&header[124..136], &[0x80, 0, 0, 0, 0, 0, 0, 2, 0x40, 0, 0, 0]);
    }

    #[test]
    fn members_end_at_blocks() {
        assert_eq!([0, 1, 511, 512, 513].map(padding), [0, 511, 1, 0, 511]);
    }
}
