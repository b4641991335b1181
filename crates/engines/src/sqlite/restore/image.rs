//! The backup's image beside the target: written by several threads at once past the page cache, read back past it behind
//! them, and compared.
//!
//! Both may be begun again after a crash: writing starts over with an empty file, and comparing asks the backup again
//! where nobody remembers what it gave. The image is no use to anybody before the swap, so it is removed on failure.

use crate::restore::{RestoreError, RestoreMode};
use crate::sqlite::IMAGE_ENTRY;
use crate::sqlite::restore::files;
use crate::sqlite::restore::integrity;
use crate::sqlite::restore::job::Job;
use crate::sqlite::restore::passing::{self, Passing, Subject};
use crate::sqlite::restore::unbuffered::{AlignedBuffer, BUFFER_BYTES, Unbuffered, UnbufferedReader};
use flow::{
    BackupReader, Cancel, EntryName, Event, Layout, Manifest, ManifestEntry, Observer, ReadError,
    ReadErrorKind, SourceError, SourceErrorKind,
};
use rustix::fs::FallocateFlags;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use xxhash_rust::xxh3::Xxh3;

/// While some wait for the disk others unpack.
const THREADS: usize = 4;
/// How many threads read back what was written, behind those that write and after them.
const FOLLOWERS: usize = 2;
/// Smaller images are read back once they are whole: it takes no time, and what changes them meanwhile shows.
const FOLLOWED_BYTES_MIN: u64 = 16 << 20;
const READERS: usize = 4;
/// Parts are cut further, so that a database of one part is read by all threads too.
const PIECE_BYTES: u64 = 32 << 20;

/// Returns the one entry of a SQLite backup, with the size of its pages.
pub(super) fn entry(manifest: &Manifest) -> Result<(&ManifestEntry, u32), ReadError> {
    let missing = |message: &str| ReadError::new(ReadErrorKind::Missing, IMAGE_ENTRY, message);
    let entry = manifest
        .entries
        .iter()
        .find(|entry| entry.name.as_str() == IMAGE_ENTRY)
        .ok_or_else(|| missing("the backup holds no image of a SQLite database"))?;
    let Layout::Pages { page_bytes, .. } = entry.layout else {
        return Err(missing("the backup's image is not made of pages"));
    };
    if entry.parts.iter().map(|part| part.size_bytes).sum::<u64>() != entry.size_bytes {
        let message = "the parts in its manifest do not add up to its size";
        return Err(ReadError::new(ReadErrorKind::Damaged, IMAGE_ENTRY, message));
    }
    Ok((entry, page_bytes))
}

/// Cuts an entry into the ranges that are read at once: a pure function of the manifest.
fn pieces(entry: &ManifestEntry) -> Vec<Range<u64>> {
    let step = match entry.layout {
        Layout::Pages { cut_bytes, .. } => {
            (PIECE_BYTES / u64::from(cut_bytes.max(1))).max(1) * u64::from(cut_bytes)
        }
        Layout::Rows | Layout::Opaque => PIECE_BYTES,
    };
    let mut pieces = Vec::new();
    let mut start = 0;
    for part in &entry.parts {
        let end = start + part.size_bytes;
        while start < end {
            let stop = (start + step.max(1)).min(end);
            pieces.push(start..stop);
            start = stop;
        }
    }
    pieces
}

/// Writes the image. Durable, with the owner and the mode of the old database, when it returns.
pub(super) fn write(job: &mut Job, backup: &dyn BackupReader) -> Result<(), RestoreError> {
    let (entry, _) = entry(backup.manifest())?;
    if entry.size_bytes != job.work.size_bytes {
        let message = format!(
            "the restore was begun with an image of {} bytes, this one has {}",
            job.work.size_bytes, entry.size_bytes
        );
        let error = job.error(SourceErrorKind::Invalid, message);
        return Err(error.with_hint("continue with the backup that it was begun with").into());
    }
    job.phase("writing beside", Some(entry.size_bytes));
    files::remove(&job.place.image)?;
    let result = write_file(job, backup, entry);
    match result {
        Ok((inode, passing)) => {
            job.work.image_inode = Some(inode);
            job.passing = Some(passing);
            Ok(())
        }
        Err(error) => {
            // Frees the space at once: a full disk hurts others too.
            std::fs::remove_file(&job.place.image).ok();
            Err(error)
        }
    }
}

fn write_file(
    job: &Job,
    backup: &dyn BackupReader,
    entry: &ManifestEntry,
) -> Result<(u64, Passing), RestoreError> {
    let path = &job.place.image;
    let written = |error| RestoreError::from(files::failed(path, "written", error));
    let image = files::create(path)?;
    let replaces = job.mode() != RestoreMode::InPlace && files::look(job.target())?.is_some();
    let old = replaces.then(|| job.target());
    if let Some(old) = old {
        files::copy_owner(old, &image).map_err(|error| {
            job.error(
                SourceErrorKind::Unwritable,
                "belongs to an owner that the restored file cannot be given to",
            )
            .with_hint("run it as root, or as the owner of the database")
            .with_source(error)
        })?;
    }
    reserve(&image, entry.size_bytes).map_err(written)?;
    let mut passing = match job.state.request.verify {
        true => Passing::begin(subject(job), backup, entry, &image, pieces(entry)),
        false => Passing::unknown(subject(job), pieces(entry)),
    };
    write_pieces(job, backup, entry, &Unbuffered::new(path, &image), &passing)?;
    match old {
        Some(old) => files::copy_mode(old, &image).map_err(written)?,
        // Nobody said who else may read it: like all files that are made here, it is its owner's alone.
        None => {
            image.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(written)?;
            if job.mode() == RestoreMode::Swap && rustix::process::geteuid().is_root() {
                // The folder's owner is the best guess at whose database was lost; where the filesystem has no owners,
                // or gives none away, the finding at the end says so.
                files::copy_owner(&job.place.folder, &image).ok();
            }
        }
    }
    image.sync_all().map_err(written)?;
    files::sync_folder(&job.place.folder)?;
    let metadata = image.metadata().map_err(written)?;
    passing.whole(&metadata);
    Ok((metadata.ino(), passing))
}

fn subject(job: &Job) -> Subject {
    let cancel = job.context.cancel.clone();
    Subject { path: job.place.image.clone(), cancel, object: job.object() }
}

/// Writes all pieces, and has them read back behind that where it can be done past the cache.
fn write_pieces(
    job: &Job,
    backup: &dyn BackupReader,
    entry: &ManifestEntry,
    unbuffered: &Unbuffered<'_>,
    passing: &Passing,
) -> Result<(), RestoreError> {
    let written = |error| RestoreError::from(files::failed(&job.place.image, "written", error));
    let write = |index: usize, buffer: &mut AlignedBuffer| {
        let piece = &passing.pieces[index];
        let mut hash = Xxh3::new();
        let mut offset = piece.start;
        read_piece(backup, &entry.name, piece, buffer.bytes(), &job.context.cancel, |bytes| {
            unbuffered.write_all_at(bytes, offset).map_err(written)?;
            hash.update(bytes);
            passing.see(offset, bytes);
            offset += bytes.len() as u64;
            count(&*job.context.observer, bytes.len());
            Ok(())
        })?;
        passing.written(index, hash.digest128());
        Ok(())
    };
    let is_large = entry.size_bytes >= FOLLOWED_BYTES_MIN;
    let follows = is_large && job.state.request.verify && unbuffered.is_direct();
    std::thread::scope(|scope| {
        for _ in 0..if follows { FOLLOWERS } else { 0 } {
            scope.spawn(|| passing.follow());
        }
        let result = each_piece(job, THREADS, passing.pieces.len(), write);
        passing.end();
        result
    })
}

/// Sets the length, and takes the space before it is needed where the filesystem can.
fn reserve(image: &File, size_bytes: u64) -> std::io::Result<()> {
    if size_bytes > 0 {
        match rustix::fs::fallocate(image, FallocateFlags::empty(), 0, size_bytes) {
            Err(rustix::io::Errno::NOSPC) => return Err(rustix::io::Errno::NOSPC.into()),
            Err(rustix::io::Errno::DQUOT) => return Err(rustix::io::Errno::DQUOT.into()),
            _ => {}
        }
    }
    image.set_len(size_bytes)
}

/// Compares the image with the backup, as far as that was not done while it was written, then has SQLite check what its
/// pages did not tell. The image is not changed.
pub(super) fn verify(job: &mut Job, backup: &dyn BackupReader) -> Result<(), RestoreError> {
    let path = job.place.image.clone();
    let path = path.as_path();
    let (entry, _) = entry(backup.manifest())?;
    intact(job)?;
    let image = files::open_read(path)?;
    let metadata = image.metadata().map_err(|error| files::failed(path, "read back", error))?;
    files::drop_cache(&image);
    drop(image);
    let passing = match job.passing.take().filter(|passing| passing.pieces == pieces(entry)) {
        Some(passing) => passing.take_up(&metadata),
        None => asked_again(job, backup, entry)?,
    };
    let reader = UnbufferedReader::open(path).map_err(|error| files::failed(path, "read back", error))?;
    let unread = passing.unread();
    let left = unread.iter().map(|index| passing.pieces[*index].end - passing.pieces[*index].start).sum();
    job.phase("verifying", Some(left));
    each_piece(job, READERS, unread.len(), |number, buffer| {
        let piece = &passing.pieces[unread[number]];
        passing.read_back(&reader, unread[number], buffer)?;
        count(&*job.context.observer, (piece.end - piece.start) as usize);
        Ok(())
    })?;
    if let Some(range) = passing.first_difference() {
        return Err(passing::different(path, range).into());
    }
    let unwalked = passing.unwalked();
    each_piece(job, READERS, unwalked.len(), |number, buffer| {
        passing.walk(&reader, &unwalked[number], buffer)
    })?;
    if entry.size_bytes > 0 {
        let verdict = passing.verdict(job.work.page_bytes);
        integrity::check(job, path, verdict)?;
    }
    Ok(())
}

/// Asks the backup once more what the image must be, where nobody remembers.
fn asked_again(job: &Job, backup: &dyn BackupReader, entry: &ManifestEntry) -> Result<Passing, RestoreError> {
    let passing = Passing::unknown(subject(job), pieces(entry));
    each_piece(job, THREADS, passing.pieces.len(), |index, buffer| {
        let mut hash = Xxh3::new();
        let piece = &passing.pieces[index];
        read_piece(backup, &entry.name, piece, buffer.bytes(), &job.context.cancel, |bytes| {
            hash.update(bytes);
            Ok(())
        })?;
        passing.written(index, hash.digest128());
        Ok(())
    })?;
    Ok(passing)
}

/// Fails where the image is not the file that was written.
pub(super) fn intact(job: &Job) -> Result<(), SourceError> {
    let path = &job.place.image;
    let found = files::look(path)?.map(|metadata| (Some(metadata.ino()), metadata.len()));
    if found == Some((job.work.image_inode, job.work.size_bytes)) {
        return Ok(());
    }
    let message = "is not the image that this restore wrote";
    Err(SourceError::new(SourceErrorKind::Damaged, path.display().to_string(), message)
        .with_hint(format!("undo the restore with {}, then begin it again", job.command("--rollback"))))
}

/// Reads one range of the backup to its end, and makes sure that it was all of it.
fn read_piece(
    backup: &dyn BackupReader,
    entry: &EntryName,
    piece: &Range<u64>,
    buffer: &mut [u8],
    cancel: &Cancel,
    mut take: impl FnMut(&[u8]) -> Result<(), RestoreError>,
) -> Result<(), RestoreError> {
    let mut reader = backup.read(entry, piece.clone())?;
    let mut left = piece.end - piece.start;
    loop {
        if cancel.is_cancelled() {
            return Err(ReadError::new(ReadErrorKind::Cancelled, entry.as_str(), "interrupted").into());
        }
        let count = fill(&mut *reader, buffer).map_err(|error| ReadError::from_io(error, entry.as_str()))?;
        if count > left || (count == 0 && left > 0) {
            let message = format!("bytes {} to {} came in another length", piece.start, piece.end);
            return Err(ReadError::new(ReadErrorKind::Damaged, entry.as_str(), message).into());
        }
        if count == 0 {
            return Ok(());
        }
        left -= count;
        take(&buffer[..count as usize])?;
    }
}

/// Reads until the buffer is full or nothing is left: small writes cost more.
fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> std::io::Result<u64> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled as u64)
}

/// Does the work for each number below `pieces`, on a few threads. The first error ends it.
fn each_piece(
    job: &Job,
    threads: usize,
    pieces: usize,
    work: impl Fn(usize, &mut AlignedBuffer) -> Result<(), RestoreError> + Sync,
) -> Result<(), RestoreError> {
    let next = AtomicUsize::new(0);
    let failure: Mutex<Option<RestoreError>> = Mutex::new(None);
    let has_failed = || failure.lock().unwrap_or_else(PoisonError::into_inner).is_some();
    let worker = || {
        let mut buffer = AlignedBuffer::new(BUFFER_BYTES);
        while let Some(index) =
            Some(next.fetch_add(1, Ordering::Relaxed)).filter(|index| *index < pieces && !has_failed())
        {
            let checked = job.check_cancel().map_err(RestoreError::from);
            if let Err(error) = checked.and_then(|()| work(index, &mut buffer)) {
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(pieces) {
            scope.spawn(worker);
        }
        worker();
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn count(observer: &dyn Observer, bytes: usize) {
    observer.event(Event::Bytes(bytes as u64));
}
