//! A Neo4j dump that is read to its end: the packed stream with its checksum, the archive within to its end mark, its files
//! and bytes held against what it says of itself. `neo4j-admin load` takes dumps that are cut between two files for whole.
//!
//! Nothing is written, and nothing is kept in memory but a block.

use engines::Examined;
use flow::{Cancel, SourceError, SourceErrorKind};
use std::io::{self, BufReader, Read};

const BLOCK: usize = 512;
const BUFFER_BYTES: usize = 1 << 17;
/// What is said of a file beside its name is short.
const EXTRA_BYTES_MAX: u64 = 1 << 20;

/// How a dump is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    /// As 4.4 and newer write it: a mark, then zstd.
    Zstd,
    /// The same by gzip, where zstd cannot be had; it says nothing of its files.
    Gzip,
    /// As 4.3 and older write it: zstd without a mark, which is unpacked already.
    Bare,
}

/// Tells by its first bytes, unpacked, whether a file is a dump.
pub(super) fn recognise(head: &[u8]) -> Option<Container> {
    match head {
        [b'D', b'Z', b'V', b'1', ..] => Some(Container::Zstd),
        [b'D', b'G', b'V', b'1', ..] => Some(Container::Gzip),
        [b'z', b's', b't', b'd', 0, 0, 0, 1, ..] => Some(Container::Bare),
        _ => None,
    }
}

/// What a dump says that it holds, or what it does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sums {
    files: u64,
    bytes: u64,
}

/// Reads a dump to its end.
pub(super) fn examine(
    container: Container,
    object: &str,
    dump: &mut dyn Read,
    cancel: &Cancel,
) -> Result<Examined, SourceError> {
    let read = match container {
        Container::Bare => stream(dump, true, cancel),
        Container::Zstd => skip(dump, 4).and_then(|()| {
            let buffered = BufReader::with_capacity(BUFFER_BYTES, dump);
            stream(&mut zstd::Decoder::with_buffer(buffered)?, true, cancel)
        }),
        Container::Gzip => skip(dump, 4).and_then(|()| {
            let buffered = BufReader::with_capacity(BUFFER_BYTES, dump);
            stream(&mut flate2::bufread::MultiGzDecoder::new(buffered), false, cancel)
        }),
    };
    let (found, told) = read.map_err(|error| {
        if cancel.is_cancelled() {
            return SourceError::cancelled(object);
        }
        let message = match error.kind() {
            io::ErrorKind::UnexpectedEof => "is cut off: it ends too early".to_owned(),
            _ => error.to_string(),
        };
        SourceError::new(SourceErrorKind::Damaged, object, message)
    })?;
    if let Some(told) = told.filter(|told| *told != found) {
        let message = format!(
            "holds {} files with {} bytes, and says that it has {} with {}",
            found.files, found.bytes, told.files, told.bytes
        );
        return Err(SourceError::new(SourceErrorKind::Damaged, object, message));
    }
    let same = if told.is_some() { ", as many as it says" } else { "" };
    let mut doubts = Vec::new();
    if container == Container::Bare {
        doubts.push(
            "it is of Neo4j 4.3 or older: a newer server starts with it only after `neo4j-admin database migrate`".to_owned(),
        );
    }
    Ok(Examined {
        detail: format!("read to its end: {} files, {} bytes{same}", found.files, found.bytes),
        tables: None,
        rows: None,
        is_empty: found.files == 0,
        doubts,
    })
}

/// Reads the unpacked stream to its end; returns what it holds, and what it says that it does.
fn stream(inner: &mut dyn Read, describes_itself: bool, cancel: &Cancel) -> io::Result<(Sums, Option<Sums>)> {
    let mut told = None;
    if describes_itself {
        let mut header = [0; 24];
        inner.read_exact(&mut header)?;
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&header[at..at + 8]);
            u64::from_be_bytes(bytes)
        };
        if header[..8] != *b"zstd\0\0\0\x01" {
            return Err(damaged("what it says of itself is damaged, or of a version that nobody knows"));
        }
        told = Some(Sums { files: number(8), bytes: number(16) });
    }
    let found = archive(inner, cancel)?;
    Ok((found, told))
}

fn damaged(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message.to_owned())
}

/// Reads a tar archive to its end mark, behind which only zeros may come.
fn archive(inner: &mut dyn Read, cancel: &Cancel) -> io::Result<Sums> {
    let mut sums = Sums::default();
    let mut size_of_next = None;
    loop {
        let mut header = [0; BLOCK];
        inner.read_exact(&mut header)?;
        if header == [0; BLOCK] {
            break;
        }
        if !has_sum(&header) {
            return Err(damaged("the list of its files is damaged"));
        }
        let size = number(&header[124..136]).ok_or_else(|| damaged("the length of a file is damaged"))?;
        match header[156] {
            b'x' => size_of_next = extra(inner, size, cancel)?.or(size_of_next),
            b'0' | 0 => {
                let size = size_of_next.take().unwrap_or(size);
                pass(inner, size, cancel)?;
                sums = Sums { files: sums.files + 1, bytes: sums.bytes.saturating_add(size) };
            }
            b'5' | b'g' | b'L' | b'K' => pass(inner, size, cancel)?,
            _ => return Err(damaged("it holds something that is no file")),
        }
    }
    // The mark is two empty blocks; whoever writes it may fill up with more.
    let mut block = [0; BLOCK];
    inner.read_exact(&mut block)?;
    loop {
        if block.iter().any(|byte| *byte != 0) {
            return Err(damaged("something follows the end of its files"));
        }
        let count = inner.read(&mut block)?;
        if count == 0 {
            return Ok(sums);
        }
        block[count..].fill(0);
    }
}

/// Tells whether the sum in a header is that of its bytes.
fn has_sum(header: &[u8; BLOCK]) -> bool {
    let sum: u64 = header
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u64::from(*byte) })
        .sum();
    number(&header[148..156]) == Some(sum)
}

/// Reads a number of a header: octal digits, or bytes behind a mark.
fn number(field: &[u8]) -> Option<u64> {
    if field.first()? & 0x80 != 0 {
        let bytes = field.get(field.len() - 8..)?.try_into().ok()?;
        return Some(u64::from_be_bytes(bytes));
    }
    let text = std::str::from_utf8(field).ok()?;
    u64::from_str_radix(text.trim_matches(['\0', ' ']), 8).ok()
}

/// Reads what is said of the next file, and returns its length where that is said.
fn extra(inner: &mut dyn Read, size: u64, cancel: &Cancel) -> io::Result<Option<u64>> {
    if size > EXTRA_BYTES_MAX {
        return Err(damaged("what is said of a file is longer than it can be"));
    }
    let mut text = vec![0; usize::try_from(size).unwrap_or(0)];
    inner.read_exact(&mut text)?;
    pass_padding(inner, size, cancel)?;
    let mut lines = text.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    let said = lines.find_map(|line| line.split_once(" size=").map(|(_, size)| size.parse().ok()));
    match said {
        Some(None) => Err(damaged("the length of a file is damaged")),
        other => Ok(other.flatten()),
    }
}

/// Reads over the bytes of a file, and what fills its last block.
fn pass(inner: &mut dyn Read, size: u64, cancel: &Cancel) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut left = size;
    while left > 0 {
        cancel.check().map_err(|_| io::Error::other("interrupted"))?;
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = inner.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        left -= count as u64;
    }
    pass_padding(inner, size, cancel)
}

fn pass_padding(inner: &mut dyn Read, size: u64, cancel: &Cancel) -> io::Result<()> {
    cancel.check().map_err(|_| io::Error::other("interrupted"))?;
    let over = size % BLOCK as u64;
    if over > 0 { skip(inner, BLOCK as u64 - over) } else { Ok(()) }
}

fn skip(inner: &mut dyn Read, bytes: u64) -> io::Result<()> {
    let mut buffer = [0; BLOCK];
    let wanted = usize::try_from(bytes).unwrap_or(BLOCK).min(BLOCK);
    inner.read_exact(&mut buffer[..wanted])
}
