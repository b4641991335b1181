//! The backup's image beside the target: written by two threads at once past the page cache, read back past it, and
//! compared.
//!
//! Both may be begun again after a crash: writing starts over with an empty file, and comparing asks the backup again
//! where nobody remembers what it gave. The image is no use to anybody before the swap, so it is removed on failure.

use crate::restore::{RestoreError, RestoreMode};
use crate::sqlite::IMAGE_ENTRY;
use crate::sqlite::restore::files;
use crate::sqlite::restore::integrity;
use crate::sqlite::restore::job::Job;
use crate::sqlite::restore::unbuffered::{AlignedBuffer, Unbuffered};
use flow::{
    BackupReader, Cancel, EntryName, Event, Layout, Manifest, ManifestEntry, Observer, ReadError,
    ReadErrorKind, SourceError, SourceErrorKind,
};
use rustix::fs::FallocateFlags;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use xxhash_rust::xxh3::Xxh3;

const THREADS: usize = 2;
const BUFFER_BYTES: usize = 1 << 20;
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
        Ok((inode, hashes)) => {
            job.work.image_inode = Some(inode);
            job.hashes = Some(hashes);
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
) -> Result<(u64, Vec<u128>), RestoreError> {
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
    let unbuffered = Unbuffered::new(path, &image);
    let pieces = pieces(entry);
    let hashes = each_piece(job, &pieces, |piece, buffer| {
        let mut hash = Xxh3::new();
        let mut offset = piece.start;
        read_piece(backup, &entry.name, piece, buffer, &job.context.cancel, |bytes| {
            unbuffered.write_all_at(bytes, offset).map_err(written)?;
            hash.update(bytes);
            offset += bytes.len() as u64;
            count(&*job.context.observer, bytes.len());
            Ok(())
        })?;
        Ok(hash.digest128())
    })?;
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
    Ok((image.metadata().map_err(written)?.ino(), hashes))
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

/// Compares the image with the backup, then has SQLite check it. The image is not changed.
pub(super) fn verify(job: &Job, backup: &dyn BackupReader) -> Result<(), RestoreError> {
    let path = &job.place.image;
    let (entry, _) = entry(backup.manifest())?;
    job.phase("verifying", Some(entry.size_bytes));
    intact(job)?;
    let image = files::open_read(path)?;
    files::drop_cache(&image);
    let pieces = pieces(entry);
    let known = job.hashes.as_ref().filter(|hashes| hashes.len() == pieces.len());
    let wanted = match known {
        Some(hashes) => hashes.clone(),
        None => each_piece(job, &pieces, |piece, buffer| {
            let mut hash = Xxh3::new();
            read_piece(backup, &entry.name, piece, buffer, &job.context.cancel, |bytes| {
                hash.update(bytes);
                Ok(())
            })?;
            Ok(hash.digest128())
        })?,
    };
    let found = each_piece(job, &pieces, |piece, buffer| hash_range(job, &image, piece, buffer))?;
    if let Some(index) = (0..pieces.len()).find(|index| wanted[*index] != found[*index]) {
        let range = &pieces[index];
        let message = format!("bytes {} to {} do not read back as they were written", range.start, range.end);
        return Err(SourceError::new(SourceErrorKind::Damaged, path.display().to_string(), message)
            .with_hint("check that disk, then restore again")
            .into());
    }
    drop(image);
    if entry.size_bytes > 0 {
        integrity::check(job, path)?;
    }
    Ok(())
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

fn hash_range(job: &Job, image: &File, piece: &Range<u64>, buffer: &mut [u8]) -> Result<u128, RestoreError> {
    let mut hash = Xxh3::new();
    let mut offset = piece.start;
    while offset < piece.end {
        job.check_cancel()?;
        let length = (piece.end - offset).min(buffer.len() as u64) as usize;
        image
            .read_exact_at(&mut buffer[..length], offset)
            .map_err(|error| files::failed(&job.place.image, "read back", error))?;
        hash.update(&buffer[..length]);
        offset += length as u64;
        count(&*job.context.observer, length);
    }
    Ok(hash.digest128())
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

/// Does the work for each piece, on a few threads, and returns the results in order. The first error ends it.
fn each_piece(
    job: &Job,
    pieces: &[Range<u64>],
    work: impl Fn(&Range<u64>, &mut [u8]) -> Result<u128, RestoreError> + Sync,
) -> Result<Vec<u128>, RestoreError> {
    let next = AtomicUsize::new(0);
    let failure: Mutex<Option<RestoreError>> = Mutex::new(None);
    let results = Mutex::new(vec![0u128; pieces.len()]);
    let has_failed = || failure.lock().unwrap_or_else(PoisonError::into_inner).is_some();
    let worker = || {
        let mut buffer = AlignedBuffer::new(BUFFER_BYTES);
        while let Some((index, piece)) = Some(next.fetch_add(1, Ordering::Relaxed))
            .filter(|_| !has_failed())
            .and_then(|index| Some((index, pieces.get(index)?)))
        {
            let result =
                job.check_cancel().map_err(RestoreError::from).and_then(|()| work(piece, buffer.bytes()));
            match result {
                Ok(hash) => results.lock().unwrap_or_else(PoisonError::into_inner)[index] = hash,
                Err(error) => {
                    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..THREADS.min(pieces.len()) {
            scope.spawn(worker);
        }
        worker();
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(results.into_inner().unwrap_or_else(PoisonError::into_inner)),
    }
}

fn count(observer: &dyn Observer, bytes: usize) {
    observer.event(Event::Bytes(bytes as u64));
}
