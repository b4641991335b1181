//! Whether a dump file is worth anything: a cheap look at its first bytes, and a reading to its end.
//!
//! Asked by whoever removes others because of it. Opened for reading and nothing else; nothing is unpacked to disk.

use super::file::{DumpFile, recognise};
use super::folder::looks_like_a_dump;
use super::unpack::{Unpacked, is_packed};
use crate::Engines;
use engines::ExportForm;
use flow::{Context, Event};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// How much of a file the cheap look is at.
const LOOK_BYTES: u64 = 4096;
/// How much of the end is kept for the line that tools close with.
const TAIL_BYTES: usize = 4096;
const BUFFER_BYTES: usize = 1 << 18;

/// Tells by its first bytes why a file is no dump. What is packed may be anything inside.
pub(crate) fn beginning_problem(file: &DumpFile, engines: &Engines) -> Option<String> {
    let path = Path::new(&file.path);
    if file.size_bytes == 0 {
        return Some("is empty".to_owned());
    }
    if file.is_folder && !path.join("toc.dat").is_file() {
        // Its table of contents is packed.
        return None;
    }
    let begins = if file.is_folder { path.join("toc.dat") } else { path.to_owned() };
    let mut head = Vec::new();
    match File::open(&begins).and_then(|file| file.take(LOOK_BYTES).read_to_end(&mut head)) {
        Err(error) => Some(format!("cannot be read: {error}")),
        Ok(_) if is_packed(&head) => None,
        Ok(_) => looks_like_a_dump(engines, &head).err(),
    }
}

/// Reads a file to its end, through whatever packs it, and tells why it is not whole.
pub(crate) fn problem(file: &DumpFile, engines: &Engines, context: &Context) -> Option<String> {
    let path = Path::new(&file.path);
    let looked = beginning_problem(file, engines);
    if looked.is_some() {
        return looked;
    }
    if file.is_folder {
        let members = std::fs::read_dir(path).into_iter().flatten().flatten();
        let mut files = members.map(|member| member.path()).filter(|path| path.is_file());
        return files.find_map(|path| read(&path, context).err().map(|error| cannot(&path, &error)));
    }
    match read(path, context) {
        Err(error) => Some(cannot(path, &error)),
        Ok(read) => read.problem(engines),
    }
}

fn cannot(path: &Path, error: &io::Error) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    format!("{name} cannot be read to its end: {error}")
}

/// What was seen of a file that was read to its end.
struct Seen {
    head: Vec<u8>,
    tail: Vec<u8>,
    size_bytes: u64,
}

fn read(path: &Path, context: &Context) -> io::Result<Seen> {
    let mut unpacked = Unpacked::begin(File::open(path)?)?;
    let mut seen = Seen { head: unpacked.head.clone(), tail: Vec::new(), size_bytes: 0 };
    let mut bytes = unpacked.bytes();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = bytes.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        context.cancel.check().map_err(|_| io::Error::other("interrupted"))?;
        context.observer.event(Event::Bytes(count as u64));
        seen.size_bytes += count as u64;
        let new = &buffer[count.saturating_sub(TAIL_BYTES)..count];
        seen.tail.extend_from_slice(new);
        seen.tail.drain(..seen.tail.len().saturating_sub(TAIL_BYTES));
    }
    drop(bytes);
    unpacked.finish()?;
    Ok(seen)
}

impl Seen {
    /// Tells why what was read is no whole dump.
    fn problem(&self, engines: &Engines) -> Option<String> {
        if self.size_bytes == 0 {
            return Some("holds nothing".to_owned());
        }
        if let Err(reason) = looks_like_a_dump(engines, &self.head) {
            return Some(reason);
        }
        let says = |text: &[u8], words: &[u8]| text.windows(words.len()).any(|at| at == words);
        let beginning = &self.head[..self.head.len().min(400)];
        if says(beginning, b"PostgreSQL database") {
            let closed = says(&self.tail, b"dump complete");
            return (!closed)
                .then(|| "lacks the line that closes a PostgreSQL dump: it is cut off".to_owned());
        }
        match recognise(engines, &self.head) {
            Ok((_, ExportForm::Image)) => self.image_problem(),
            Ok((_, ExportForm::Sql)) => self.text_problem(),
            _ => None,
        }
    }

    fn image_problem(&self) -> Option<String> {
        let number = |at: usize| {
            self.head.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes)
        };
        let page = match u64::from(number(16) >> 16) {
            1 => 65536,
            other => other,
        };
        // The number of pages counts where the program that wrote last kept it.
        let pages = if number(24) == number(92) { u64::from(number(28)) } else { 0 };
        if page == 0 || !self.size_bytes.is_multiple_of(page) || self.size_bytes < pages * page {
            return Some("is shorter than its pages: it is cut off".to_owned());
        }
        None
    }

    fn text_problem(&self) -> Option<String> {
        let end = self.tail.trim_ascii_end();
        let last = end.rsplit(|byte| *byte == b'\n').next().unwrap_or(end);
        let begins = self.head.windows(18).take(400).any(|at| at.eq_ignore_ascii_case(b"BEGIN TRANSACTION;"));
        let whole = if begins {
            last.eq_ignore_ascii_case(b"COMMIT;") || last.eq_ignore_ascii_case(b"END;")
        } else {
            last.ends_with(b";") || last.starts_with(b"--")
        };
        (!whole).then(|| "ends within a statement or transaction: it is cut off".to_owned())
    }
}
