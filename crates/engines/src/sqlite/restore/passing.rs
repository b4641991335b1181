//! The image's check while it is written: blocks are read back behind the writers, compared, and their pages walked.
//!
//! What was not read back when the last block is written, and what could not be judged in passing, is left to the step
//! that verifies. A crash loses all of it: then that step reads the backup again, and SQLite checks the whole image.

use crate::restore::RestoreError;
use crate::sqlite::restore::files;
use crate::sqlite::restore::opening::open;
use crate::sqlite::restore::references;
use crate::sqlite::restore::unbuffered::{AlignedBuffer, BUFFER_BYTES, UnbufferedReader};
use crate::sqlite::walk::{PageWalk, Plan, Reference, Verdict, schema_pages};
use flow::{BackupReader, Cancel, ManifestEntry, SourceError, SourceErrorKind};
use std::collections::VecDeque;
use std::fs::{File, Metadata};
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use xxhash_rust::xxh3::Xxh3;

/// The schema is read from the backup in blocks of this size.
const BLOCK_BYTES: u64 = 64 << 10;

/// An image, and who may end the work on it.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    pub(super) path: PathBuf,
    pub(super) cancel: Cancel,
    /// By what name errors call the target.
    pub(super) object: String,
}

/// What is known of an image that is being written, or was.
pub(super) struct Passing {
    subject: Subject,
    pub(super) pieces: Vec<Range<u64>>,
    walk: Option<PageWalk>,
    /// The image as it was when it was whole: what was read of it before holds for this one alone.
    mark: Option<(u64, SystemTime)>,
    progress: Mutex<Progress>,
    changed: Condvar,
}

/// How far the pieces are.
struct Progress {
    /// Hashes of what the backup gave.
    given: Vec<Option<u128>>,
    /// Hashes of what was read back.
    found: Vec<Option<u128>>,
    written: VecDeque<usize>,
    over: bool,
}

impl Passing {
    /// Begins with an empty image, which gets the pages of its schema already.
    pub(super) fn begin(
        subject: Subject,
        backup: &dyn BackupReader,
        entry: &ManifestEntry,
        image: &File,
        pieces: Vec<Range<u64>>,
    ) -> Self {
        let walk = learn(&subject.path, backup, entry, image);
        Self { walk, ..Self::unknown(subject, pieces) }
    }

    /// Begins with an image of which nothing is known, and where only its bytes are of interest.
    pub(super) fn unknown(subject: Subject, pieces: Vec<Range<u64>>) -> Self {
        let empty = vec![None; pieces.len()];
        let progress = Progress { given: empty.clone(), found: empty, written: VecDeque::new(), over: false };
        let progress = Mutex::new(progress);
        Self { subject, pieces, walk: None, mark: None, progress, changed: Condvar::new() }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how the image looks now that it is whole and synced.
    pub(super) fn whole(&mut self, image: &Metadata) {
        self.mark = mark(image);
    }

    /// Takes up what is known of an image. Where it was changed meanwhile, that is only what the backup gave.
    pub(super) fn take_up(mut self, image: &Metadata) -> Self {
        if self.mark.is_none() || self.mark != mark(image) {
            self.walk = None;
            let mut progress = self.progress();
            progress.found.fill(None);
            drop(progress);
        }
        self
    }

    /// Looks at bytes of the image that are being written.
    pub(super) fn see(&self, offset: u64, bytes: &[u8]) {
        if let Some(walk) = &self.walk {
            walk.see(offset, bytes);
        }
    }

    /// Notes that a piece is written.
    pub(super) fn written(&self, index: usize, hash: u128) {
        let mut progress = self.progress();
        progress.given[index] = Some(hash);
        progress.written.push_back(index);
        self.changed.notify_one();
    }

    /// Ends the reading behind the writers, but for the pieces under way.
    pub(super) fn end(&self) {
        self.progress().over = true;
        self.changed.notify_all();
    }

    /// Reads pieces back as they are written, until [`Passing::end`]. What cannot be read is left for later.
    pub(super) fn follow(&self) {
        let reader = UnbufferedReader::open(&self.subject.path);
        let Some(reader) = reader.ok().filter(UnbufferedReader::is_direct) else { return };
        let mut buffer = AlignedBuffer::new(BUFFER_BYTES);
        while let Some(index) = self.next() {
            if self.read_back(&reader, index, &mut buffer).is_err() {
                return;
            }
        }
    }

    fn next(&self) -> Option<usize> {
        let mut progress = self.progress();
        loop {
            if progress.over {
                return None;
            }
            if let Some(index) = progress.written.pop_front() {
                return Some(index);
            }
            progress = self.changed.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Reads one piece back, and keeps its hash.
    pub(super) fn read_back(
        &self,
        reader: &UnbufferedReader,
        index: usize,
        buffer: &mut AlignedBuffer,
    ) -> Result<(), RestoreError> {
        let mut hash = Xxh3::new();
        self.each_block(reader, &self.pieces[index], buffer, |bytes| hash.update(bytes))?;
        self.progress().found[index] = Some(hash.digest128());
        Ok(())
    }

    /// Reads a range of the image, shows its pages to the walk, and hands its bytes on.
    fn each_block(
        &self,
        reader: &UnbufferedReader,
        range: &Range<u64>,
        buffer: &mut AlignedBuffer,
        mut take: impl FnMut(&[u8]),
    ) -> Result<(), RestoreError> {
        let mut offset = range.start;
        while offset < range.end {
            let cancelled = |_| SourceError::cancelled(self.subject.object.clone());
            self.subject.cancel.check().map_err(cancelled)?;
            let length = (range.end - offset).min(BUFFER_BYTES as u64) as usize;
            let bytes = reader
                .read_at(buffer, length, offset)
                .map_err(|error| files::failed(&self.subject.path, "read back", error))?;
            take(bytes);
            if let Some(walk) = &self.walk {
                walk.walk(offset, bytes);
            }
            offset += length as u64;
        }
        Ok(())
    }

    /// Returns the pieces that were not read back yet.
    pub(super) fn unread(&self) -> Vec<usize> {
        let progress = self.progress();
        (0..self.pieces.len()).filter(|index| progress.found[*index].is_none()).collect()
    }

    /// Returns the ranges that have to be read once more, since nobody could tell what they are when they passed.
    pub(super) fn unwalked(&self) -> Vec<Range<u64>> {
        self.walk.as_ref().map_or_else(Vec::new, |walk| walk.left(BUFFER_BYTES as u64))
    }

    /// Reads such a range.
    pub(super) fn walk(
        &self,
        reader: &UnbufferedReader,
        range: &Range<u64>,
        buffer: &mut AlignedBuffer,
    ) -> Result<(), RestoreError> {
        self.each_block(reader, range, buffer, |_| {})
    }

    /// Returns the first piece that was not read back as the backup gave it.
    pub(super) fn first_difference(&self) -> Option<&Range<u64>> {
        let progress = self.progress();
        let differs = |index: &usize| {
            progress.given[*index].is_none() || progress.given[*index] != progress.found[*index]
        };
        (0..self.pieces.len()).find(differs).map(|index| &self.pieces[index])
    }

    /// Ends the walk over an image that is whole; `None` where SQLite has to judge all of it.
    pub(super) fn verdict(self, page_bytes: u32) -> Option<Verdict> {
        let image = files::open_read(&self.subject.path).ok()?;
        let mut read = |page: u32| {
            let mut bytes = vec![0; page_bytes as usize];
            let offset = u64::from(page.checked_sub(1)?) * u64::from(page_bytes);
            image.read_exact_at(&mut bytes, offset).ok()?;
            Some(bytes)
        };
        self.walk?.finish(&mut read).ok()
    }
}

/// Returns by what a later change of a file shows.
fn mark(image: &Metadata) -> Option<(u64, SystemTime)> {
    Some((image.len(), image.modified().ok()?))
}

/// Begins the walk: with the pages of the schema, SQLite says what the trees of the database are.
fn learn(path: &Path, backup: &dyn BackupReader, entry: &ManifestEntry, image: &File) -> Option<PageWalk> {
    let mut block = (u64::MAX, Vec::new());
    let mut read = |offset: u64, length: usize| {
        let start = offset - offset % BLOCK_BYTES;
        if block.0 != start {
            let end = (start + BLOCK_BYTES).min(entry.size_bytes);
            let mut bytes = Vec::new();
            backup.read(&entry.name, start..end).ok()?.read_to_end(&mut bytes).ok()?;
            block = (start, bytes);
        }
        let at = (offset - start) as usize;
        block.1.get(at..at + length).map(<[u8]>::to_vec)
    };
    let header = read(0, 100)?;
    let page_bytes = crate::sqlite::header::Header::parse(&header)?.page_bytes;
    let first = read(0, page_bytes as usize)?;
    let offset = |page: u32| u64::from(page.saturating_sub(1)) * u64::from(page_bytes);
    let pages = schema_pages(&first, entry.size_bytes, &mut |page| read(offset(page), page_bytes as usize))?;
    for (page, bytes) in &pages {
        image.write_all_at(bytes, offset(*page)).ok()?;
    }
    let connection = open(path, 1).ok()?;
    let queries = references::references(&connection).ok()?.queries;
    let references: Vec<Reference> = queries.into_iter().map(|query| query.reference).collect();
    let plan = Plan::of(&connection, &references).ok()??;
    let walk = PageWalk::begin(plan, &first, entry.size_bytes)?;
    walk.look_ahead(&mut |page| read(offset(page), page_bytes as usize));
    Some(walk)
}

/// Says that the image does not hold what was written.
pub(super) fn different(path: &Path, range: &Range<u64>) -> SourceError {
    let message = format!("bytes {} to {} do not read back as they were written", range.start, range.end);
    SourceError::new(SourceErrorKind::Damaged, path.display().to_string(), message)
        .with_hint("check that disk, then restore again")
}
