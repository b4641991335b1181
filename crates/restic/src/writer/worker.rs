//! Hashes, looks up, compresses and seals: where a writer's time goes. It is done at benches, as many as there are
//! workers; at each one packs of its own are filled.
//!
//! Compressed bytes are written where the sealed blob will lie in the pack and sealed there; nothing is copied.

use super::shared::{Job, Shared, StoredBlob, Work};
use super::taste::{FAST_LEVEL, Taste, Turn};
use crate::crypto::{IV_BYTES, SEAL_BYTES};
use crate::error::{ResticError, ResticErrorKind};
use crate::id::{BlobKind, Id};
use crate::pack::{PACK_BLOBS_MAX, PackBlob};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::io;
use zstd::bulk::Compressor;

/// A pack being filled, without its header.
pub(super) struct OpenPack {
    pub(super) kind: BlobKind,
    /// Longer than what is used.
    pub(super) bytes: Vec<u8>,
    pub(super) used: usize,
    pub(super) blobs: Vec<PackBlob>,
}

impl OpenPack {
    fn new(kind: BlobKind, bytes: Vec<u8>) -> Self {
        Self { kind, bytes, used: 0, blobs: Vec::new() }
    }

    fn is_full(&self, shared: &Shared) -> bool {
        self.used >= shared.options.pack_bytes as usize || self.blobs.len() >= PACK_BLOBS_MAX
    }

    /// Adds a blob and returns its length as stored. What does not shrink is stored as it is.
    fn add(
        &mut self,
        shared: &Shared,
        compressors: &mut Compressors,
        taste: Option<&Taste>,
        id: Id,
        plain: &[u8],
    ) -> Result<u64, ResticError> {
        let fail = |message: &str| {
            ResticError::new(ResticErrorKind::Failed, format!("{} blob {id}", self.kind), message)
        };
        let plain_length = u32::try_from(plain.len()).map_err(|_| fail("is larger than 4 GiB"))?;
        let offset = u32::try_from(self.used).map_err(|_| fail("has no room in its pack"))?;
        let room = zstd::zstd_safe::compress_bound(plain.len());
        let needed = self.used + room + SEAL_BYTES;
        if self.bytes.len() < needed {
            self.bytes.resize(needed, 0);
        }
        let begin = self.used + IV_BYTES;
        let packed = compressors
            .compress(plain, taste, &mut self.bytes[begin..begin + room])
            .map_err(|error| fail("cannot be compressed").with_source(error))?;
        let (stored, uncompressed_length) = if packed < plain.len() {
            (packed, plain_length)
        } else {
            self.bytes[begin..begin + plain.len()].copy_from_slice(plain);
            (plain.len(), 0)
        };
        let end = self.used + stored + SEAL_BYTES;
        let length = u32::try_from(stored + SEAL_BYTES).map_err(|_| fail("is larger than 4 GiB"))?;
        shared.vault.key.seal_in_place(&mut self.bytes[self.used..end])?;
        self.used = end;
        self.blobs.push(PackBlob { kind: self.kind, id, offset, length, uncompressed_length });
        Ok(u64::from(length))
    }

    /// Takes in the blobs of another pack of the same kind, if both fit into one.
    fn absorb(&mut self, shared: &Shared, other: OpenPack) -> Result<(), OpenPack> {
        let sum = self.used + other.used;
        let fits = sum <= shared.options.pack_bytes as usize
            && self.blobs.len() + other.blobs.len() <= PACK_BLOBS_MAX
            && self.kind == other.kind;
        let Some(begin) = u32::try_from(self.used).ok().filter(|_| fits) else { return Err(other) };
        if self.bytes.len() < sum {
            self.bytes.resize(sum, 0);
        }
        self.bytes[self.used..sum].copy_from_slice(&other.bytes[..other.used]);
        self.used = sum;
        self.blobs
            .extend(other.blobs.into_iter().map(|blob| PackBlob { offset: begin + blob.offset, ..blob }));
        shared.return_pack_buffer(other.bytes);
        Ok(())
    }
}

/// Kept from blob to blob: making one costs more than compressing a small blob with it.
struct Compressors {
    asked: Compressor<'static>,
    /// Where another level than the fastest was asked for.
    fast: Option<Compressor<'static>>,
    tried: Vec<u8>,
}

impl Compressors {
    fn new(level: i32) -> io::Result<Self> {
        let fast = if level > FAST_LEVEL { Some(Compressor::new(FAST_LEVEL)?) } else { None };
        Ok(Self { asked: Compressor::new(level)?, fast, tried: Vec::new() })
    }

    fn compress(&mut self, plain: &[u8], taste: Option<&Taste>, out: &mut [u8]) -> io::Result<usize> {
        let (Some(fast), Some(taste)) = (&mut self.fast, taste) else {
            return self.asked.compress_to_buffer(plain, out);
        };
        match taste.turn(plain.len()) {
            Turn::Asked => self.asked.compress_to_buffer(plain, out),
            Turn::Fast => fast.compress_to_buffer(plain, out),
            Turn::Both => {
                self.tried.resize(out.len(), 0);
                let tried = fast.compress_to_buffer(plain, &mut self.tried[..])?;
                let packed = self.asked.compress_to_buffer(plain, out)?;
                taste.learn(packed, tried);
                Ok(packed)
            }
        }
    }
}

/// Puts the last, partly filled packs of all workers together where they fit into one.
pub(super) fn merge(shared: &Shared, mut packs: Vec<OpenPack>) -> Vec<OpenPack> {
    packs.sort_by_key(|pack| (pack.kind, pack.used));
    let mut merged: Vec<OpenPack> = Vec::new();
    for pack in packs {
        match merged.last_mut() {
            Some(last) => {
                if let Err(pack) = last.absorb(shared, pack) {
                    merged.push(pack);
                }
            }
            None => merged.push(pack),
        }
    }
    merged
}

/// Works until no more jobs can come. After a failure it only empties the queue.
pub(super) fn run(shared: &Shared, jobs: &Receiver<Job>, benches: &Benches) {
    for job in jobs {
        if shared.check().is_err() {
            continue;
        }
        match benches.wait(shared).and_then(|mut bench| bench.work(shared, &job.work)) {
            // Whoever asked may be gone: its source failed meanwhile.
            Ok(blobs) => drop(job.reply.send((job.sequence, blobs))),
            Err(error) => shared.fail(error),
        }
        shared.return_buffer(job.work.buffer);
    }
}

/// Where blobs are sealed: what one thread at a time needs for it.
struct Bench {
    compressors: Compressors,
    /// The packs that are being filled, one for each kind of blob.
    open: [Option<OpenPack>; 2],
    packs: Sender<OpenPack>,
}

impl Bench {
    fn work(&mut self, shared: &Shared, work: &Work) -> Result<Vec<StoredBlob>, ResticError> {
        let mut stored = Vec::with_capacity(work.lengths.len());
        let mut rest = &work.buffer[..];
        for length in &work.lengths {
            let (plain, after) = rest.split_at(*length);
            rest = after;
            let id = Id::of(plain);
            let length = plain.len() as u64;
            let indexed = shared.index.contains(work.kind, &id);
            if indexed || !shared.claim(work.kind, &id) {
                stored.push(StoredBlob { id, length, added_bytes: 0, reused: true, indexed });
                continue;
            }
            let place = &mut self.open[work.kind as usize];
            let pack = place.get_or_insert_with(|| OpenPack::new(work.kind, shared.pack_buffer()));
            let added_bytes = pack.add(shared, &mut self.compressors, work.taste.as_deref(), id, plain)?;
            stored.push(StoredBlob { id, length, added_bytes, reused: false, indexed });
            if pack.is_full(shared)
                && let Some(full) = place.take()
            {
                self.packs.send(full).map_err(|_| shared.failure())?;
            }
        }
        Ok(stored)
    }
}

/// The benches that are free.
pub(super) struct Benches {
    give: Sender<Bench>,
    take: Receiver<Bench>,
}

impl Benches {
    /// Sets up so many benches, whose full packs go to `packs`.
    pub(super) fn new(shared: &Shared, count: usize, packs: &Sender<OpenPack>) -> Result<Self, ResticError> {
        let (give, take) = bounded(count);
        for _ in 0..count {
            let compressors = Compressors::new(shared.options.level).map_err(|error| {
                let message = format!("cannot compress at level {}", shared.options.level);
                let location = shared.vault.storage.location();
                ResticError::new(ResticErrorKind::Failed, location, message).with_source(error)
            })?;
            let bench = Bench { compressors, open: [None, None], packs: packs.clone() };
            give.send(bench).map_err(|_| shared.failure())?;
        }
        Ok(Self { give, take })
    }

    fn wait(&self, shared: &Shared) -> Result<Taken<'_>, ResticError> {
        let bench = self.take.recv().map_err(|_| shared.failure())?;
        Ok(Taken { bench: Some(bench), give: &self.give })
    }

    /// Does a piece of work at once if a bench is free. To hand little over to another thread and wait for it takes longer
    /// than to do it.
    pub(super) fn at_once(
        &self,
        shared: &Shared,
        work: &Work,
    ) -> Option<Result<Vec<StoredBlob>, ResticError>> {
        let bench = self.take.try_recv().ok()?;
        let stored = Taken { bench: Some(bench), give: &self.give }.work(shared, work);
        if let Err(error) = &stored {
            shared.fail(error.clone());
        }
        Some(stored)
    }

    /// Returns the packs that are not full. To be called when nobody works any more.
    pub(super) fn clear(&self) -> Vec<OpenPack> {
        self.take.try_iter().flat_map(|bench| bench.open.into_iter().flatten()).collect()
    }
}

/// A bench that somebody works at; it is free again when this is dropped.
struct Taken<'a> {
    bench: Option<Bench>,
    give: &'a Sender<Bench>,
}

impl Taken<'_> {
    fn work(&mut self, shared: &Shared, work: &Work) -> Result<Vec<StoredBlob>, ResticError> {
        self.bench.as_mut().ok_or_else(|| shared.failure())?.work(shared, work)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(bench) = self.bench.take() {
            drop(self.give.send(bench));
        }
    }
}
