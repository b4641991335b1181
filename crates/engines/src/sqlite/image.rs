//! The image of one database while it is taken: which pages are read when, under which lock.
//!
//! In WAL mode one read transaction holds the moment and hinders nobody; parts are read as they are asked for. In
//! rollback mode a reader keeps writers out, so parts are read under short locks and given at once; what a writer
//! changed meanwhile is read again and given again, for a few rounds; what then still changes is read in one locked
//! pass, announced. No lock is held while a part is on its way, but in a locked pass that finds more changed than fits
//! in memory. The image is whole only when every part was seen in the same state of the database as the facts.

use super::cut::IMAGE_ENTRY;
use super::open::{Opened, OpenedAs, open_locked};
use super::pages::{PageReader, Version};
use super::rows::RowCounter;
use super::{cut, marks, schema};
use flow::{
    Context, DatabaseRequest, DumpOptions, Dumped, EntryName, Event, Finding, Layout, Marks, Severity,
    SourceError, SourceErrorKind, TableFacts,
};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::time::{Duration, Instant};
use xxhash_rust::xxh3::xxh3_128;

/// How long writers may be kept out at a time without notice.
const SHORT_LOCK: Duration = Duration::from_millis(50);
/// How often what changed is read again before the locked pass.
const ROUNDS: u32 = 3;
/// How much of what changed a locked pass keeps in memory.
const PENDING_BYTES_MAX: usize = 64 << 20;

/// What comes next of an image.
pub(super) enum Piece {
    /// These bytes are the part with this index; they replace what was given under it before.
    Part(u32, Vec<u8>),
    /// The part with this index is to be replaced, but its earlier bytes are still on their way.
    Blocked(u32),
    /// The image is complete.
    Done(Box<Dumped>),
}

/// A part as it was given last.
#[derive(Debug, Clone, Copy, Default)]
struct Given {
    hash: u128,
    /// The state of the database throughout the reading of it; `None` where that changed.
    version: Option<Version>,
    given: bool,
}

enum Stage {
    /// Under one read transaction that hinders nobody.
    Snapshot { next: u32 },
    /// Under short locks. Round 0 gives every part.
    Round { round: u32, next: u32 },
    /// Under a lock that keeps writers out, looking for what changed.
    Locked { next: u32, since: Instant, time: Timestamp },
    /// The lock is free; what is left in memory goes out.
    Flush(Box<Dumped>),
    /// Over, or failed.
    Over,
}

/// The image of one database.
pub(super) struct Image {
    opened: Opened,
    context: Context,
    lock_wait: Duration,
    marks: Marks,
    started: Instant,
    version: Version,
    cut_bytes: u32,
    part_bytes: u64,
    stage: Stage,
    time: Timestamp,
    parts: Vec<Given>,
    rows: RowCounter,
    pending: VecDeque<(u32, Vec<u8>)>,
    /// How long the last lock was held, if a writer was seen at work: as long it is left alone.
    last_lock: Option<Duration>,
    read_bytes: u64,
    read_time: Duration,
}

/// Empty buffers that parts are read into, used again and again.
pub(super) type Spare = Vec<Vec<u8>>;

impl Image {
    /// Opens the database and looks at it; reads it where that is done in a moment. `before` are the marks from before
    /// it was opened.
    pub(super) fn open(
        request: &DatabaseRequest,
        before: Marks,
        options: &DumpOptions,
        context: &Context,
        spare: &mut Spare,
    ) -> Result<Self, SourceError> {
        let started = Instant::now();
        let opened = open_locked(Path::new(&request.database.connection), options.lock_wait, context)?;
        let since = Instant::now();
        let mut version = opened.version;
        let staged = opened.access == OpenedAs::Staged;
        if version.wal && !staged {
            // Writers go on: what they commit before the marks are taken must be in what is read after them.
            opened.unlock()?;
        }
        // Opening may roll back what a crash left, and renews times of a -wal: what counts is how things stand now,
        // before any content is read. A staged copy has been read already.
        let marks = if staged { before } else { marks::take(&opened.path)? };
        if version.wal && !staged {
            opened.lock(options.lock_wait, &context.cancel)?;
            version = Version::look(opened.connection()).map_err(|error| opened.error(error))?;
        }
        let time = Timestamp::now();
        let previous = request.previous.as_ref().and_then(|previous| {
            let manifest = previous.manifest().ok()?;
            let entry = manifest.entries.iter().find(|entry| entry.name.as_str() == IMAGE_ENTRY)?;
            match entry.layout {
                Layout::Pages { cut_bytes, .. } => Some(cut_bytes),
                Layout::Rows | Layout::Opaque => None,
            }
        });
        let cut_bytes = cut::cut_bytes(version.length(), previous);
        let mut image = Self {
            part_bytes: cut::part_bytes(version.length(), cut_bytes, !version.wal),
            opened,
            context: context.clone(),
            lock_wait: options.lock_wait,
            marks,
            started,
            version,
            cut_bytes,
            stage: Stage::Snapshot { next: 0 },
            time,
            parts: Vec::new(),
            rows: RowCounter::default(),
            pending: VecDeque::new(),
            last_lock: None,
            read_bytes: 0,
            read_time: Duration::ZERO,
        };
        if !version.wal {
            image.stage = Stage::Round { round: 0, next: 0 };
            image.at_once(since, spare)?;
        }
        Ok(image)
    }

    /// Reads a database in rollback mode that has no more than one part, with all that is to be known of it, under the
    /// lock that it was opened with: one short lock instead of those of a round. Where it does not come to its end in
    /// time, rounds are taken as for a large one. Gives the lock back.
    fn at_once(&mut self, since: Instant, spare: &mut Spare) -> Result<(), SourceError> {
        if self.part_count() > 1 {
            return self.opened.unlock();
        }
        let mut bytes = self.buffer(spare);
        if self.part_count() == 1 {
            if !self.read(0, Some(since + SHORT_LOCK), &mut bytes)? {
                spare.push(bytes);
                return self.opened.unlock();
            }
            self.rows.see(1, &bytes, self.version.page_bytes);
            self.remember(0, Given { hash: 0, version: Some(self.version), given: true });
            self.pending.push_back((0, bytes));
        }
        self.finish_locked(self.time)
    }

    /// Returns the layout of the image; the same from beginning to end.
    pub(super) fn layout(&self) -> Layout {
        Layout::Pages { page_bytes: self.version.page_bytes, cut_bytes: self.cut_bytes }
    }

    /// Returns the size of each part but the last.
    pub(super) fn part_bytes(&self) -> u64 {
        self.part_bytes
    }

    /// Returns the next piece. `on_the_way` are the parts that were given and are not stored yet.
    pub(super) fn next(
        &mut self,
        on_the_way: &BTreeSet<u32>,
        spare: &mut Spare,
    ) -> Result<Piece, SourceError> {
        loop {
            self.context.cancel.check().map_err(|_| SourceError::cancelled(self.object()))?;
            let piece = match self.stage {
                Stage::Snapshot { next } => Some(self.snapshot(next, spare)?),
                Stage::Round { round, next } if next < self.part_count() => {
                    self.round(round, next, on_the_way, spare)?
                }
                Stage::Round { round, .. } => self.end_round(round)?,
                Stage::Locked { next, since, time } => self.locked(next, since, time, on_the_way, spare)?,
                Stage::Flush(_) => Some(self.flush(on_the_way)),
                Stage::Over => {
                    return Err(SourceError::new(SourceErrorKind::Failed, self.object(), "is over already"));
                }
            };
            if let Some(piece) = piece {
                return Ok(piece);
            }
        }
    }

    fn object(&self) -> String {
        self.opened.path.display().to_string()
    }

    fn part_count(&self) -> u32 {
        u32::try_from(self.version.length().div_ceil(self.part_bytes)).unwrap_or(u32::MAX)
    }

    /// Returns the first and the last page of a part.
    fn pages_of(&self, index: u32) -> (u32, u32) {
        let pages = (self.part_bytes / u64::from(self.version.page_bytes)) as u32;
        let first = index.saturating_mul(pages) + 1;
        (first, self.version.pages.min(first.saturating_add(pages - 1)))
    }

    fn snapshot(&mut self, next: u32, spare: &mut Spare) -> Result<Piece, SourceError> {
        if next >= self.part_count() {
            let dumped = self.dumped(self.time)?;
            self.opened.unlock()?;
            self.stage = Stage::Over;
            return Ok(Piece::Done(Box::new(dumped)));
        }
        let mut bytes = self.buffer(spare);
        self.read(next, None, &mut bytes)?;
        self.rows.see(self.pages_of(next).0, &bytes, self.version.page_bytes);
        self.stage = Stage::Snapshot { next: next + 1 };
        Ok(Piece::Part(next, bytes))
    }

    /// Reads pages of a part under the lock that is held, until `deadline`; `bytes` holds those before.
    fn read(
        &mut self,
        index: u32,
        deadline: Option<Instant>,
        bytes: &mut Vec<u8>,
    ) -> Result<bool, SourceError> {
        let (first, last) = self.pages_of(index);
        let (before, started) = (bytes.len(), Instant::now());
        let from = first + (bytes.len() / self.version.page_bytes as usize) as u32;
        let next = PageReader::new(self.opened.connection())
            .and_then(|mut reader| reader.read_until(from, last, deadline, bytes))
            .map_err(|error| self.opened.error(error))?;
        self.read_bytes += (bytes.len() - before) as u64;
        self.read_time += started.elapsed();
        Ok(next > last)
    }

    /// Takes a short lock and looks at the state of the database.
    fn short_lock(&mut self) -> Result<(Instant, Version), SourceError> {
        if let Some(gap) = self.last_lock.take() {
            // A writer is at work: it gets at least as long as we had.
            self.context.cancel.wait(gap.max(Duration::from_millis(1)));
        }
        self.opened.lock(self.lock_wait, &self.context.cancel)?;
        let since = Instant::now();
        let version = Version::look(self.opened.connection()).map_err(|error| self.opened.error(error))?;
        if version.page_bytes != self.version.page_bytes && self.version.pages > 0 {
            let message = "its page size was changed while it was backed up";
            return Err(SourceError::new(SourceErrorKind::Failed, self.object(), message)
                .with_hint("run the backup again"));
        }
        Ok((since, version))
    }

    /// Gives the lock back, and the time that was held to the writer if there is one.
    fn end_lock(&mut self, since: Instant, version: Version) -> Result<(), SourceError> {
        self.opened.unlock()?;
        if version != self.version {
            self.last_lock = Some(since.elapsed());
            self.version = version;
        }
        Ok(())
    }

    fn round(
        &mut self,
        round: u32,
        next: u32,
        on_the_way: &BTreeSet<u32>,
        spare: &mut Spare,
    ) -> Result<Option<Piece>, SourceError> {
        if on_the_way.contains(&next) {
            return Ok(Some(Piece::Blocked(next)));
        }
        let (since, version) = self.short_lock()?;
        if version.wal {
            // Somebody changed the journal mode: from here on one read transaction hinders nobody.
            self.version = version;
            self.stage = Stage::Locked { next: 0, since, time: Timestamp::now() };
            return Ok(None);
        }
        self.stage = Stage::Round { round, next: next + 1 };
        let known = self.parts.get(next as usize).is_some_and(|part| part.version == Some(version));
        if known || version.length() <= u64::from(next) * self.part_bytes {
            self.end_lock(since, version)?;
            return Ok(None);
        }
        let moved = version != self.version;
        let mut bytes = self.buffer(spare);
        self.version = version;
        let mut whole = self.read(next, Some(since + SHORT_LOCK), &mut bytes)?;
        self.opened.unlock()?;
        self.last_lock = (moved || round > 0).then(|| since.elapsed());
        let mut steady = Some(version);
        while !whole && steady.is_some() {
            let (since, version) = self.short_lock()?;
            if steady == Some(version) {
                whole = self.read(next, Some(since + SHORT_LOCK), &mut bytes)?;
            } else {
                steady = None;
            }
            self.end_lock(since, version)?;
        }
        if !whole {
            // It changed in the middle of the part: not worth storing, the next round reads it.
            self.remember(next, Given { version: None, ..self.given(next) });
            return Ok(None);
        }
        if self.differs(next, &bytes, steady) {
            return Ok(Some(Piece::Part(next, bytes)));
        }
        spare.push(bytes);
        Ok(None)
    }

    fn buffer(&self, spare: &mut Spare) -> Vec<u8> {
        let mut bytes = spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.reserve(self.part_bytes.min(self.version.length()) as usize);
        bytes
    }

    fn given(&self, index: u32) -> Given {
        self.parts.get(index as usize).copied().unwrap_or_default()
    }

    fn remember(&mut self, index: u32, given: Given) {
        let at = index as usize;
        if self.parts.len() <= at {
            self.parts.resize(at + 1, Given::default());
        }
        self.parts[at] = given;
    }

    /// Takes note of a part's bytes; tells whether they are others than those given before.
    fn differs(&mut self, index: u32, bytes: &[u8], version: Option<Version>) -> bool {
        let hash = xxh3_128(bytes);
        let before = self.given(index);
        self.remember(index, Given { hash, version, given: true });
        let changed = !before.given || before.hash != hash;
        if changed {
            self.rows.see(self.pages_of(index).0, bytes, self.version.page_bytes);
        }
        changed
    }

    fn end_round(&mut self, round: u32) -> Result<Option<Piece>, SourceError> {
        let (since, version) = self.short_lock()?;
        let known = version.length().div_ceil(self.part_bytes);
        let whole = !version.wal && (0..known).all(|index| self.given(index as u32).version == Some(version));
        if whole {
            self.version = version;
            self.finish_locked(Timestamp::now())?;
            return Ok(None);
        }
        let bytes_per_second = self.read_bytes as f64 / self.read_time.as_secs_f64().max(1e-6);
        let estimate = version.length() as f64 / bytes_per_second.max(1.0);
        let short = estimate <= SHORT_LOCK.as_secs_f64() && version.length() <= PENDING_BYTES_MAX as u64;
        if !short && !version.wal && round + 1 < ROUNDS {
            self.end_lock(since, version)?;
            self.stage = Stage::Round { round: round + 1, next: 0 };
            return Ok(None);
        }
        self.version = version;
        self.stage = Stage::Locked { next: 0, since, time: Timestamp::now() };
        if !short && !version.wal {
            self.announce(estimate);
        }
        Ok(None)
    }

    fn announce(&self, estimate: f64) {
        let message = format!(
            "is written to all the time, so its writers wait while it is read once under a lock (about {estimate:.1} s)"
        );
        self.context.observer.event(Event::Finding(Finding {
            severity: Severity::Notice,
            object: self.object(),
            message,
            hint: Some("`PRAGMA journal_mode=WAL` lets backups and writers work at once".to_owned()),
        }));
    }

    /// Goes on with the locked pass until something is to be given or all of it is over.
    fn locked(
        &mut self,
        mut next: u32,
        since: Instant,
        time: Timestamp,
        on_the_way: &BTreeSet<u32>,
        spare: &mut Spare,
    ) -> Result<Option<Piece>, SourceError> {
        let pending_max = (PENDING_BYTES_MAX / self.part_bytes as usize).max(1);
        while next < self.part_count() {
            self.context.cancel.check().map_err(|_| SourceError::cancelled(self.object()))?;
            if self.pending.len() >= pending_max {
                return Ok(Some(self.pop_pending(on_the_way)));
            }
            if self.given(next).version != Some(self.version) || self.version.wal {
                let mut bytes = self.buffer(spare);
                self.read(next, None, &mut bytes)?;
                if self.differs(next, &bytes, Some(self.version)) {
                    self.pending.push_back((next, bytes));
                } else {
                    spare.push(bytes);
                }
            }
            next += 1;
            self.stage = Stage::Locked { next, since, time };
        }
        self.finish_locked(time)?;
        Ok(None)
    }

    fn pop_pending(&mut self, on_the_way: &BTreeSet<u32>) -> Piece {
        let free = self.pending.iter().position(|(index, _)| !on_the_way.contains(index));
        match free.and_then(|at| self.pending.remove(at)) {
            Some((index, bytes)) => Piece::Part(index, bytes),
            None => Piece::Blocked(self.pending.front().map_or(0, |(index, _)| *index)),
        }
    }

    /// Takes the facts in the moment that is held, and lets go of it.
    fn finish_locked(&mut self, time: Timestamp) -> Result<(), SourceError> {
        self.fold_surplus()?;
        let dumped = self.dumped(time)?;
        self.opened.unlock()?;
        self.stage = Stage::Flush(Box::new(dumped));
        Ok(())
    }

    /// Returns how many parts the image has: those that were given cannot be taken back.
    fn declared_parts(&self) -> u32 {
        let given = self.parts.iter().rposition(|part| part.given).map_or(0, |last| last as u32 + 1);
        self.part_count().max(given)
    }

    /// Deals with a database that shrank below what was given: the parts beyond its end become empty, and the last of
    /// them takes the bytes after the last cut, so that every part but the last still ends at a cut.
    fn fold_surplus(&mut self) -> Result<(), SourceError> {
        let (count, declared) = (self.part_count(), self.declared_parts());
        if declared == count {
            return Ok(());
        }
        self.pending.retain(|(index, _)| *index + 1 < count);
        let mut tail = Vec::new();
        if let Some(last) = count.checked_sub(1) {
            let mut bytes = Vec::new();
            self.read(last, None, &mut bytes)?;
            self.rows.see(self.pages_of(last).0, &bytes, self.version.page_bytes);
            tail = bytes.split_off(bytes.len() - bytes.len() % self.cut_bytes as usize);
            self.pending.push_back((last, bytes));
        }
        self.pending.extend((count..declared - 1).map(|index| (index, Vec::new())));
        self.pending.push_back((declared - 1, tail));
        Ok(())
    }

    fn flush(&mut self, on_the_way: &BTreeSet<u32>) -> Piece {
        if !self.pending.is_empty() {
            return self.pop_pending(on_the_way);
        }
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Flush(dumped) => Piece::Done(dumped),
            other => {
                self.stage = other;
                Piece::Blocked(0)
            }
        }
    }

    /// Collects what is known of the database in the moment that is held.
    fn dumped(&self, time: Timestamp) -> Result<Dumped, SourceError> {
        let failed = |error| self.opened.error(error);
        let connection = self.opened.connection();
        let schema = schema::read(connection).map_err(failed)?;
        let mut reader = PageReader::new(connection).map_err(failed)?;
        let tables = schema
            .tables
            .iter()
            .map(|table| TableFacts {
                name: table.name.clone(),
                rows: self.rows.rows(table.root, self.version.pages, &mut reader),
                digest: None,
            })
            .collect();
        let facts = schema::facts(connection, time, &self.version, schema, tables).map_err(failed)?;
        let entry = EntryName::new(IMAGE_ENTRY)
            .map_err(|error| SourceError::new(SourceErrorKind::Failed, self.object(), error.to_string()))?;
        Ok(Dumped {
            facts,
            marks: self.marks.clone(),
            entries: BTreeMap::from([(entry, (self.layout(), self.declared_parts()))]),
            elapsed_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        })
    }
}
