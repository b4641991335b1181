//! A dump of one or many databases: who reads what next.
//!
//! Workers pull. A few databases are open at a time, no more than there may be workers, and each is read by one
//! worker at a time while others store what was read. A database's verdict comes when its last part is stored; one
//! that fails is closed and takes no other with it. Dropping the dump closes all: nothing is left behind.

use super::cut::IMAGE_ENTRY;
use super::image::{Image, Piece};
use super::marks;
use flow::{
    CancelGuard, Context, DatabaseRef, DatabaseRequest, Dump, DumpOptions, DumpRequest, Dumped, EntryName,
    Layout, OpenPart, PartFacts, PartReader, SourceError, SourceErrorKind, Step, Unchanged,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

/// How long after a part's end its worker is waited for. A worker that asks for the next piece is done with the one
/// before; one that never asks again has failed or handed its part to another.
const STORING_MAX: Duration = Duration::from_secs(1);
const BUFFERS_KEPT: usize = 3;
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// An image is the whole database.
pub(super) fn refuse_selection(request: &DumpRequest) -> Result<(), SourceError> {
    if request.options.selection.is_none() {
        return Ok(());
    }
    let message = "a part of a SQLite database cannot be backed up: its image is the whole of it";
    Err(SourceError::new(SourceErrorKind::Invalid, request.target.connection.clone(), message)
        .with_hint("back up all of it; `export` writes SQL text"))
}

/// Begins a dump. Opens nothing yet.
pub(super) fn begin(request: &DumpRequest, context: Context) -> Result<Box<dyn Dump>, SourceError> {
    refuse_selection(request)?;
    let entry = EntryName::new(IMAGE_ENTRY).map_err(|error| {
        SourceError::new(SourceErrorKind::Failed, request.target.connection.clone(), error.to_string())
    })?;
    let shared = Arc::new(Shared::default());
    shared.lock().queue = request.databases.iter().cloned().collect();
    let woken = shared.clone();
    let wake = context.cancel.on_cancel(move || {
        // Under the lock, or a worker that is about to wait would miss it.
        let _state = woken.lock();
        woken.wake.notify_all();
    });
    Ok(Box::new(SqliteDump { shared, options: request.options.clone(), entry, context, _wake: wake }))
}

struct SqliteDump {
    shared: Arc<Shared>,
    options: DumpOptions,
    entry: EntryName,
    context: Context,
    _wake: CancelGuard,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<DatabaseRequest>,
    slots: BTreeMap<u64, Slot>,
    tickets: BTreeMap<u64, Ticket>,
    issued: u64,
    buffers: Vec<Vec<u8>>,
}

/// One database that is under way.
struct Slot {
    database: DatabaseRef,
    work: Work,
    /// A worker did not read a part to its end.
    spoiled: bool,
}

enum Work {
    /// A worker has it.
    Away,
    /// Ready to be read.
    Idle(Box<Image>),
    /// To be read when this part is stored.
    Blocked(Box<Image>, u32),
    /// Over.
    Over(Box<Result<Dumped, SourceError>>),
}

/// One part that is on its way.
struct Ticket {
    slot: u64,
    index: u32,
    worker: ThreadId,
    asked_again: bool,
    ended: Option<Instant>,
}

/// What a worker is to do, found under the lock and done without it.
enum Errand {
    Open(u64, DatabaseRequest),
    Read(u64, Box<Image>, BTreeSet<u32>),
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Keeps a few buffers for the parts to come.
    fn keep(&mut self, buffers: impl IntoIterator<Item = Vec<u8>>) {
        self.buffers.extend(buffers);
        self.buffers.truncate(BUFFERS_KEPT);
    }

    /// Forgets the parts that are stored.
    fn sweep(&mut self) {
        self.tickets.retain(|_, ticket| match ticket.ended {
            Some(ended) => !ticket.asked_again && ended.elapsed() < STORING_MAX,
            None => true,
        });
    }

    fn on_the_way(&self, slot: u64) -> BTreeSet<u32> {
        self.tickets.values().filter(|ticket| ticket.slot == slot).map(|ticket| ticket.index).collect()
    }

    /// Returns the verdict on a database that is over and whose parts are stored.
    fn take_verdict(&mut self) -> Option<Step> {
        let mut spoiled = Vec::new();
        for (id, slot) in &mut self.slots {
            let failed = matches!(&slot.work, Work::Over(verdict) if verdict.is_err());
            if slot.spoiled && !failed && !matches!(slot.work, Work::Away) {
                let message = "a part of it was not read to its end";
                let object = slot.database.connection.clone();
                let error = SourceError::new(SourceErrorKind::Failed, object, message);
                spoiled.push(std::mem::replace(&mut slot.work, Work::Over(Box::new(Err(error)))));
            }
            if matches!(slot.work, Work::Over(_)) && !self.tickets.values().any(|ticket| ticket.slot == *id) {
                let id = *id;
                let slot = self.slots.remove(&id)?;
                let Work::Over(verdict) = slot.work else { return None };
                return Some(Step::Done(slot.database, *verdict));
            }
        }
        None
    }

    fn take_errand(&mut self, jobs: usize) -> Option<Errand> {
        let ready = self.slots.iter().find_map(|(id, slot)| match &slot.work {
            Work::Idle(_) => Some(*id),
            Work::Blocked(_, index) if !self.on_the_way(*id).contains(index) => Some(*id),
            _ => None,
        });
        if let Some(id) = ready {
            let on_the_way = self.on_the_way(id);
            let slot = self.slots.get_mut(&id)?;
            match std::mem::replace(&mut slot.work, Work::Away) {
                Work::Idle(image) | Work::Blocked(image, _) => {
                    return Some(Errand::Read(id, image, on_the_way));
                }
                other => slot.work = other,
            }
        }
        if self.slots.len() >= jobs.max(1) {
            return None;
        }
        let request = self.queue.pop_front()?;
        self.issued += 1;
        let database = request.database.clone();
        self.slots.insert(self.issued, Slot { database, work: Work::Away, spoiled: false });
        Some(Errand::Open(self.issued, request))
    }
}

impl SqliteDump {
    /// Opens a database, or finds that it need not be opened.
    fn open(&self, id: u64, request: &DatabaseRequest) -> Option<Step> {
        let started = Instant::now();
        let mut spare: Vec<_> = self.shared.lock().buffers.pop().into_iter().collect();
        let opened = marks::take(Path::new(&request.database.connection)).and_then(|marks| {
            let unchanged = request
                .previous
                .as_ref()
                .filter(|previous| !self.options.read_all && marks::unchanged(&previous.marks, &marks));
            if unchanged.is_some() {
                let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
                return Ok(Err(Unchanged { marks, elapsed_ms }));
            }
            Image::open(request, marks, &self.options, &self.context, &mut spare).map(Ok)
        });
        let mut state = self.shared.lock();
        state.keep(spare);
        let step = match opened {
            Ok(Ok(image)) => {
                self.put(&mut state, id, Work::Idle(Box::new(image)));
                None
            }
            Ok(Err(unchanged)) => {
                state.slots.remove(&id);
                Some(Step::Unchanged(request.database.clone(), unchanged))
            }
            Err(error) => {
                self.put(&mut state, id, Work::Over(Box::new(Err(error))));
                None
            }
        };
        drop(state);
        self.shared.wake.notify_all();
        step
    }

    fn put(&self, state: &mut State, id: u64, work: Work) {
        if let Some(slot) = state.slots.get_mut(&id) {
            slot.work = work;
        }
    }

    /// Reads the next piece of a database.
    fn read(&self, id: u64, mut image: Box<Image>, on_the_way: &BTreeSet<u32>) -> Option<Step> {
        let mut spare: Vec<_> = self.shared.lock().buffers.pop().into_iter().collect();
        let piece = image.next(on_the_way, &mut spare);
        let layout = image.layout();
        self.shared.lock().keep(spare);
        let work = match piece {
            Ok(Piece::Part(index, bytes)) => {
                let step = self.give(id, layout, index, bytes, image);
                self.shared.wake.notify_all();
                return step;
            }
            Ok(Piece::Blocked(index)) => Work::Blocked(image, index),
            Ok(Piece::Done(dumped)) => {
                // Closed before anything waits for it: closing may write back what others left in the -wal.
                drop(image);
                Work::Over(Box::new(Ok(*dumped)))
            }
            Err(error) => {
                drop(image);
                Work::Over(Box::new(Err(error)))
            }
        };
        self.put(&mut self.shared.lock(), id, work);
        self.shared.wake.notify_all();
        None
    }

    /// Makes a part of what was read, and the image ready for the next worker.
    fn give(&self, id: u64, layout: Layout, index: u32, bytes: Vec<u8>, image: Box<Image>) -> Option<Step> {
        let mut state = self.shared.lock();
        state.issued += 1;
        let ticket = state.issued;
        let worker = std::thread::current().id();
        state.tickets.insert(ticket, Ticket { slot: id, index, worker, asked_again: false, ended: None });
        let slot = state.slots.get_mut(&id)?;
        slot.work = Work::Idle(image);
        let database = slot.database.clone();
        let reader = BufferedPart { shared: self.shared.clone(), ticket, bytes, at: 0, finished: false };
        Some(Step::Part(OpenPart {
            database,
            entry: self.entry.clone(),
            layout,
            index,
            reader: Box::new(reader),
        }))
    }
}

impl Dump for SqliteDump {
    fn next(&self) -> Result<Option<Step>, SourceError> {
        let worker = std::thread::current().id();
        for ticket in self.shared.lock().tickets.values_mut().filter(|ticket| ticket.worker == worker) {
            ticket.asked_again = true;
        }
        self.shared.wake.notify_all();
        loop {
            if self.context.cancel.is_cancelled() {
                return Err(SourceError::cancelled("the backup"));
            }
            let mut state = self.shared.lock();
            state.sweep();
            if let Some(step) = state.take_verdict() {
                drop(state);
                self.shared.wake.notify_all();
                return Ok(Some(step));
            }
            let errand = state.take_errand(self.options.jobs);
            if errand.is_none() {
                if state.slots.is_empty() && state.queue.is_empty() {
                    return Ok(None);
                }
                if !self.context.cancel.is_cancelled() {
                    let waited = self.shared.wake.wait_timeout(state, LOOK_AGAIN);
                    drop(waited.unwrap_or_else(PoisonError::into_inner));
                }
                continue;
            }
            drop(state);
            let step = match errand {
                Some(Errand::Open(id, request)) => self.open(id, &request),
                Some(Errand::Read(id, image, on_the_way)) => self.read(id, image, &on_the_way),
                None => None,
            };
            if step.is_some() {
                return Ok(step);
            }
        }
    }

    fn finish(self: Box<Self>) -> Result<(), SourceError> {
        let state = self.shared.lock();
        if state.slots.is_empty() && state.queue.is_empty() {
            return Ok(());
        }
        if self.context.cancel.is_cancelled() {
            return Err(SourceError::cancelled("the backup"));
        }
        let left = state.slots.len() + state.queue.len();
        let message = format!("{left} databases were not read to their end");
        Err(SourceError::new(SourceErrorKind::Failed, "the backup", message))
    }
}

/// A part that was read already.
struct BufferedPart {
    shared: Arc<Shared>,
    ticket: u64,
    bytes: Vec<u8>,
    at: usize,
    finished: bool,
}

impl PartReader for BufferedPart {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError> {
        let rest = &self.bytes[self.at..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }

    fn finish(mut self: Box<Self>) -> Result<PartFacts, SourceError> {
        if self.at < self.bytes.len() {
            let message = "a part of it was not read to its end";
            return Err(SourceError::new(SourceErrorKind::Failed, IMAGE_ENTRY, message));
        }
        self.finished = true;
        Ok(PartFacts { size_bytes: self.bytes.len() as u64, rows: None, digest: None })
    }
}

impl Drop for BufferedPart {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let mut slot = None;
        if let Some(ticket) = state.tickets.get_mut(&self.ticket) {
            ticket.ended = Some(Instant::now());
            slot = Some(ticket.slot);
        }
        if !self.finished
            && let Some(slot) = slot.and_then(|slot| state.slots.get_mut(&slot))
        {
            slot.spoiled = true;
        }
        let bytes = std::mem::take(&mut self.bytes);
        state.keep([bytes]);
        drop(state);
        self.shared.wake.notify_all();
    }
}
