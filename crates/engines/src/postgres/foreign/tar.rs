//! A tar archive of `pg_dump`, read to its end: its table of contents comes first, then a member for each entry with data.

use super::super::archive::{DataPlace, TableOfContents};
use super::custom::{Kept, keep};
use super::place::Place;
use super::survey::Survey;
use super::{broken, damaged};
use crate::engine::LoadRequest;
use flow::{Context, SourceError};
use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};

const BLOCK_BYTES: usize = 512;
const BUFFER_BYTES: usize = 256 << 10;
/// No table of contents is longer.
const TOC_MAX_BYTES: u64 = 4 << 30;

/// A member of a tar archive.
struct Member {
    name: String,
    size_bytes: u64,
    offset: u64,
}

/// The members of a tar archive, one after the other.
struct Members<R> {
    inner: R,
    at: u64,
}

impl<R: Read> Members<R> {
    /// Goes to the next member; `None` at the end that tar archives have.
    fn next(&mut self, object: &str) -> Result<Option<Member>, SourceError> {
        let mut block = [0; BLOCK_BYTES];
        self.inner.read_exact(&mut block).map_err(|error| super::unread(object, "it", error))?;
        self.at += BLOCK_BYTES as u64;
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum: u64 = block
            .iter()
            .enumerate()
            .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u64::from(*byte) })
            .sum();
        let name = block[..100].split(|byte| *byte == 0).next().unwrap_or_default();
        let name = String::from_utf8_lossy(name).into_owned();
        let size_bytes = number(&block[124..136]).filter(|_| number(&block[148..156]) == Some(sum));
        match size_bytes {
            Some(size_bytes) => Ok(Some(Member { name, size_bytes, offset: self.at })),
            None => Err(damaged(
                object,
                format!("the header at byte {} is damaged", self.at - BLOCK_BYTES as u64),
            )),
        }
    }

    /// Reads what is behind a member up to the next header, with what is left of the member itself.
    fn skip(&mut self, member: &Member, left: u64, object: &str) -> Result<(), SourceError> {
        let padding = member.size_bytes.next_multiple_of(BLOCK_BYTES as u64) - member.size_bytes;
        let wanted = left + padding;
        let passed = io::copy(&mut self.inner.by_ref().take(wanted), &mut io::sink())
            .map_err(|error| super::unread(object, &member.name, error))?;
        if passed != wanted {
            return Err(damaged(object, format!("it is cut off within {}", member.name)));
        }
        self.at += member.size_bytes + padding;
        Ok(())
    }
}

/// Reads a number of a header: octal digits, or, where it is too large for these, bytes.
fn number(field: &[u8]) -> Option<u64> {
    if field.first() == Some(&0x80) {
        let low = field.len().checked_sub(8)?;
        return Some(field[low..].iter().fold(0, |number, byte| number << 8 | u64::from(*byte)));
    }
    let text = std::str::from_utf8(field).ok()?;
    u64::from_str_radix(text.trim_matches([' ', '\0']), 8).ok()
}

/// Reads a tar archive to its end.
pub(super) fn read(request: LoadRequest<'_>, context: &Context) -> Result<Survey, SourceError> {
    let object = request.object;
    let (path, kept) = keep(&request)?;
    let inner = BufReader::with_capacity(BUFFER_BYTES, Kept { inner: request.dump, kept });
    let mut members = Members { inner, at: 0 };
    let first =
        members.next(object)?.filter(|member| member.name == "toc.dat" && member.size_bytes < TOC_MAX_BYTES);
    let first = first.ok_or_else(|| damaged(object, "it does not begin with a table of contents"))?;
    let mut bytes = members.inner.by_ref().take(first.size_bytes);
    let toc = TableOfContents::read(&mut bytes).map_err(|error| broken(object, error))?;
    let left = bytes.limit();
    members.skip(&first, left, object)?;
    let files: BTreeMap<String, i32> = toc
        .entries
        .iter()
        .filter(|entry| entry.had_dumper)
        .filter_map(|entry| match &entry.place {
            // A list of large objects has its own name, whatever the table of contents says.
            _ if entry.is("BLOBS") => Some((toc.directory_file(entry.dump_id)?, entry.dump_id)),
            DataPlace::File(Some(name)) => Some((String::from_utf8_lossy(name).into_owned(), entry.dump_id)),
            _ => None,
        })
        .collect();
    let lists: Vec<i32> = toc
        .entries
        .iter()
        .filter(|entry| entry.is("BLOBS") && entry.had_dumper)
        .map(|entry| entry.dump_id)
        .collect();
    let mut survey = Survey::begin(toc, object)?;
    while let Some(member) = members.next(object)? {
        let place =
            Place::Stretch { path: path.clone(), offset: member.offset, size_bytes: member.size_bytes };
        let oid = member.name.strip_prefix("blob_").and_then(|rest| rest.strip_suffix(".dat")?.parse().ok());
        let mut data = members.inner.by_ref().take(member.size_bytes);
        match (oid, files.get(&member.name)) {
            (Some(oid), _) => survey.object(oid, &mut data, place, context)?,
            (None, Some(dump_id)) if lists.contains(dump_id) => survey.end_objects(*dump_id),
            (None, Some(dump_id)) => survey.rows(*dump_id, &mut data, place, context)?,
            // The script that `pg_dump` adds for people, or what is no part of it.
            (None, None) => {}
        }
        let left = data.limit();
        if left > 0 && (oid.is_some() || survey_needs(&files, &lists, &member.name)) {
            return Err(damaged(object, format!("it is cut off within {}", member.name)));
        }
        members.skip(&member, left, object)?;
    }
    Ok(survey)
}

/// Tells whether a member is one whose content was to be read.
fn survey_needs(files: &BTreeMap<String, i32>, lists: &[i32], name: &str) -> bool {
    files.get(name).is_some_and(|dump_id| !lists.contains(dump_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_bytes() {
        assert_eq!(number(b"0000017\0"), Some(15));
        assert_eq!(number(b"   17 \0 "), Some(15));
        assert_eq!(number(&[0x80, 0, 0, 0, 2, 0, 0, 0, 1]), Some((2 << 24) << 8 | 1));
        assert_eq!(number(b"9"), None);
    }
}
