//! A dump that another tool made, as a backup to restore from: the database that it loads to lies in scratch, and is one
//! image without a log beside it.
//!
//! Nothing but the scratch folder is written. After a crash it is left there, and loaded anew by whoever goes on.

use super::cut::{IMAGE_ENTRY, cut_bytes};
use super::failure;
use super::header::{Content, classify};
use super::live;
use super::load;
use super::marks::beside;
use super::stage::COMPANIONS;
use crate::engine::{FactsDepth, LoadRequest};
use flow::{
    BackupReader, Context, DatabaseRef, EntryName, Layout, MANIFEST_SCHEMA, Manifest, ManifestEntry,
    ManifestPart, ReadError, ReadErrorKind, SourceError, SourceErrorKind,
};
use rusqlite::{Connection, OpenFlags};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// A database in scratch, read as a backup.
struct Loaded {
    manifest: Manifest,
    path: PathBuf,
}

/// Loads a dump, and gives it as a backup.
pub(super) fn open(
    request: LoadRequest<'_>,
    database: &DatabaseRef,
    context: &Context,
) -> Result<Arc<dyn BackupReader>, SourceError> {
    let began = Instant::now();
    let object = request.object.to_owned();
    let path = load::load(request, context)?;
    let named = |error: SourceError| SourceError { object: object.clone(), ..error };
    settle(&path).map_err(named)?;
    let scratch = DatabaseRef { connection: path.display().to_string(), ..database.clone() };
    let facts = live::facts(&scratch, FactsDepth::Schema, context).map_err(named)?;
    let (size_bytes, page_bytes) = measure(&path).map_err(named)?;
    let name = EntryName::new(IMAGE_ENTRY)
        .map_err(|error| SourceError::new(SourceErrorKind::Failed, object.as_str(), error.to_string()))?;
    let layout = Layout::Pages { page_bytes, cut_bytes: cut_bytes(size_bytes, None) };
    let part = ManifestPart { size_bytes, blobs: 0, rows: None, digest: None };
    let manifest = Manifest {
        schema: MANIFEST_SCHEMA.to_owned(),
        target: database.target.clone(),
        database: database.name.clone(),
        connection: object,
        facts,
        entries: vec![ManifestEntry { name, layout, size_bytes, parts: vec![part] }],
        elapsed_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    Ok(Arc::new(Loaded { manifest, path }))
}

/// Brings what a log holds into the image, so that the image alone is the database.
fn settle(path: &Path) -> Result<(), SourceError> {
    let failed = |error| failure::sqlite(path, error);
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(failed)?;
    connection.close().map_err(|(_, error)| failed(error))?;
    for suffix in COMPANIONS {
        let log = beside(path, suffix);
        if std::fs::metadata(&log).is_ok_and(|metadata| metadata.len() > 0) {
            let message = format!("what its {suffix} holds cannot be brought into it");
            return Err(SourceError::new(SourceErrorKind::Damaged, path.display().to_string(), message));
        }
    }
    Ok(())
}

/// Returns the size of an image and of its pages.
fn measure(path: &Path) -> Result<(u64, u32), SourceError> {
    let mut file = File::open(path).map_err(|error| failure::io(path, error))?;
    let mut head = Vec::new();
    file.by_ref().take(4096).read_to_end(&mut head).map_err(|error| failure::io(path, error))?;
    let size_bytes = file.metadata().map_err(|error| failure::io(path, error))?.len();
    match classify(&head) {
        Content::Database(header) => Ok((size_bytes, header.page_bytes)),
        _ => Err(failure::damaged(path, "the database that it loads to is none".to_owned())),
    }
}

impl BackupReader for Loaded {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn read(&self, entry: &EntryName, range: Range<u64>) -> Result<Box<dyn Read + Send>, ReadError> {
        let refused =
            |message: &str| ReadError::new(ReadErrorKind::Missing, entry.as_str(), message.to_owned());
        let known = self.manifest.entry(entry).ok_or_else(|| refused("the dump has no such entry"))?;
        if range.start > range.end || range.end > known.size_bytes {
            return Err(refused("the dump ends before that"));
        }
        let failed = |error: std::io::Error| {
            ReadError::new(ReadErrorKind::Storage, self.path.display().to_string(), error.to_string())
                .with_source(error)
        };
        let mut file = File::open(&self.path).map_err(failed)?;
        file.seek(SeekFrom::Start(range.start)).map_err(failed)?;
        Ok(Box::new(file.take(range.end - range.start)))
    }
}
