//! A tar archive of `pg_dump`, read to its end: every member whole, its header's sum right, the two empty blocks at the end,
//! and a member for each entry that has data.

use super::archive::{Totals, name};
use super::{broken, damaged, unread};
use crate::engine::{ExamineRequest, Examined};
use crate::postgres::archive::{DataPlace, Packing, TableOfContents};
use flow::{Context, SourceError};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::{self, BufReader, Read};

const BLOCK_BYTES: usize = 512;
/// No list of large objects is longer.
const LIST_BYTES_MAX: u64 = 1 << 30;

struct Member {
    name: String,
    size_bytes: u64,
}

/// Reads a tar archive to its end.
pub(super) fn examine(request: ExamineRequest<'_>, context: &Context) -> Result<Examined, SourceError> {
    let object = request.object;
    let mut reader = BufReader::with_capacity(256 << 10, request.dump);
    let failed = |error| unread(object, error);
    let Some(first) = next(&mut reader, object)? else {
        return Err(damaged(object, "is an empty tar archive"));
    };
    let mut content = Vec::new();
    reader.by_ref().take(first.size_bytes).read_to_end(&mut content).map_err(failed)?;
    let toc = TableOfContents::read(content.as_slice()).map_err(|error| broken(object, error))?;
    padding(&mut reader, first.size_bytes, object)?;
    let mut entries = HashMap::new();
    for entry in toc.entries.iter().filter(|entry| entry.had_dumper) {
        match &entry.place {
            // The list of the large objects has its own name, whatever the table of contents says.
            _ if entry.is("BLOBS") && toc.header.version.is_at_least(16) => {
                entries.insert(format!("blobs_{}.toc", entry.dump_id), entry);
            }
            _ if entry.is("BLOBS") => drop(entries.insert("blobs.toc".to_owned(), entry)),
            DataPlace::File(Some(file)) if !file.is_empty() => {
                entries.insert(String::from_utf8_lossy(file).into_owned(), entry);
            }
            _ => {}
        }
    }
    let (mut seen, mut listed) = (HashSet::new(), BTreeSet::new());
    let mut totals = Totals::default();
    while let Some(member) = next(&mut reader, object)? {
        context.cancel.check().map_err(|_| SourceError::cancelled(object))?;
        let mut data = Exactly { inner: reader.by_ref(), left: member.size_bytes };
        match entries.get(&member.name) {
            Some(entry) if entry.is("BLOBS") => {
                listed.extend(list(&mut data, member.size_bytes).map_err(failed)?);
            }
            Some(entry) => totals.data(object, Some(entry), Packing::Plain, &mut data)?,
            None if member.name.starts_with("blob_") => {
                totals.object(object, &member.name, Packing::Plain, &mut data)?;
            }
            None => drop(io::copy(&mut data, &mut io::sink()).map_err(failed)?),
        }
        if data.left > 0 {
            return Err(damaged(object, format!("{}: it ends within it: it is cut off", member.name)));
        }
        padding(&mut reader, member.size_bytes, object)?;
        seen.insert(member.name);
    }
    if let Some((file, entry)) = entries.iter().find(|(file, _)| !seen.contains(*file)) {
        return Err(damaged(
            object,
            format!("the data of {} are missing: there is no {file}", name(Some(entry))),
        ));
    }
    if let Some(file) = listed.iter().find(|file| !seen.contains(*file)) {
        return Err(damaged(object, format!("the large object {file} is missing")));
    }
    Ok(totals.examined(&toc))
}

/// Reads so many bytes of a member; what comes too early is an end.
struct Exactly<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.inner.read(&mut buffer[..most])?;
        self.left -= count as u64;
        Ok(count)
    }
}

/// Reads the list of large objects: their numbers and files.
pub(super) fn list(reader: &mut dyn Read, size_bytes: u64) -> io::Result<Vec<String>> {
    let mut text = Vec::new();
    reader.take(size_bytes.min(LIST_BYTES_MAX)).read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "the list of large objects is damaged");
    text.lines()
        .map(|line| {
            let (number, file) = line.split_once(' ').ok_or_else(bad)?;
            number.parse::<u32>().map_err(|_| bad())?;
            Ok(file.to_owned())
        })
        .collect()
}

/// Reads what follows a member up to the next block.
fn padding(reader: &mut impl Read, size_bytes: u64, object: &str) -> Result<(), SourceError> {
    let over = usize::try_from(size_bytes % BLOCK_BYTES as u64).unwrap_or(0);
    let mut rest = [0; BLOCK_BYTES];
    let rest = &mut rest[..(BLOCK_BYTES - over) % BLOCK_BYTES];
    reader.read_exact(rest).map_err(|error| unread(object, error))
}

/// Reads the header of the next member; `None` at the end of the archive.
fn next(reader: &mut impl Read, object: &str) -> Result<Option<Member>, SourceError> {
    let mut header = [0; BLOCK_BYTES];
    reader.read_exact(&mut header).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged(object, "its end mark is missing: it is cut off"),
        _ => unread(object, error),
    })?;
    if header.iter().all(|byte| *byte == 0) {
        return match reader.read_exact(&mut header) {
            Ok(()) if header.iter().all(|byte| *byte == 0) => Ok(None),
            Ok(()) => Err(damaged(object, "something follows an empty block")),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(damaged(object, "half of its end mark is missing: it is cut off"))
            }
            Err(error) => Err(unread(object, error)),
        };
    }
    let bad = || damaged(object, "the header of a member is damaged");
    let sum: u32 = header
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
        .sum();
    if octal(&header[148..156]) != Some(u64::from(sum)) || &header[257..262] != b"ustar" {
        return Err(bad());
    }
    let length = header[..100].iter().position(|byte| *byte == 0).unwrap_or(100);
    let name = String::from_utf8_lossy(&header[..length]).into_owned();
    let size_bytes = match header[124] {
        0x80 => {
            let (high, low) = (&header[125..128], &header[128..136]);
            let low: [u8; 8] = low.try_into().map_err(|_| bad())?;
            high.iter().all(|byte| *byte == 0).then(|| u64::from_be_bytes(low))
        }
        _ => octal(&header[124..136]),
    };
    Ok(Some(Member { name, size_bytes: size_bytes.ok_or_else(bad)? }))
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?;
    u64::from_str_radix(text.trim_matches([' ', '\0']), 8).ok()
}
