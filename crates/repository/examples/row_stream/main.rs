//! Stores a file of rows as one part of content rows, and reads it back: what a bench of this layer measures.
//!
//! Usage: `row_stream make FILE BYTES`, `row_stream init|backup|read REPOSITORY CACHE [FILE]`; the password is in the
//! variable `BACKSTAY_PASSWORD`. The repository is as the binary opens it: calls watched, cache on, fsync on, every new
//! pack read back before the snapshot.

#![allow(clippy::print_stderr, missing_docs)]

mod rows;

use flow::{
    Cancel, ConsistencyPoint, Context, DatabaseName, DatabaseRef, Dumped, EngineKind, EntryName, Facts,
    Layout, Marks, OpenPart, PartFacts, PartReader, ScratchDir, Secret, Silent, SourceError, SourceErrorKind,
    TargetName,
};
use jiff::Timestamp;
use repository::restic_layout::{LockOwner, ResticLayout, ResticOptions};
use repository::{Repository, SnapshotRequest};
use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use storage::{LocalStorage, StorageError, Watch, WatchOptions, WatchedStorage};

type Outcome = Result<(), Box<dyn Error>>;

const ENTRY: &str = "rows";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["make", file, bytes] => make(Path::new(file), bytes),
        ["init", repository, cache] => init(Path::new(repository), cache),
        ["backup", repository, cache, file] => back_up(Path::new(repository), cache, Path::new(file)),
        ["read", repository, cache] => read_back(Path::new(repository), cache),
        _ => Err("usage: row_stream make FILE BYTES | init|backup|read REPOSITORY CACHE [FILE]".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn make(file: &Path, bytes: &str) -> Outcome {
    Ok(rows::write(file, bytes.parse()?)?)
}

fn options(cache: &str) -> ResticOptions {
    let owner = LockOwner {
        host: "bench".to_owned(),
        user: "bench".to_owned(),
        pid: std::process::id(),
        uid: 0,
        gid: 0,
    };
    ResticOptions { cache: Some(PathBuf::from(cache)), ..ResticOptions::new(owner) }
}

fn watched(
    folder: &Path,
    open: fn(PathBuf) -> Result<LocalStorage, StorageError>,
) -> Result<Arc<WatchedStorage>, StorageError> {
    let watch = Watch::new(Cancel::new(), Arc::new(Silent), WatchOptions::default());
    Ok(Arc::new(WatchedStorage::new(Arc::new(open(folder.to_owned())?), Arc::new(watch))))
}

fn password() -> Result<Secret, Box<dyn Error>> {
    Ok(Secret::new(std::env::var("BACKSTAY_PASSWORD")?))
}

fn init(folder: &Path, cache: &str) -> Outcome {
    let storage = watched(folder, LocalStorage::create)?;
    ResticLayout::create(storage, &password()?, options(cache))?;
    Ok(())
}

fn opened(folder: &Path, cache: &str) -> Result<(ResticLayout, Context), Box<dyn Error>> {
    let storage = watched(folder, LocalStorage::open)?;
    let repository = ResticLayout::open(storage, &password()?, options(cache))?;
    Ok((repository, Context::quiet(ScratchDir::new(std::env::temp_dir()))))
}

fn back_up(folder: &Path, cache: &str, file: &Path) -> Outcome {
    let (repository, context) = opened(folder, cache)?;
    let target = TargetName::new("rows")?;
    let database = DatabaseRef {
        target: target.clone(),
        name: DatabaseName::new("rows")?,
        connection: file.display().to_string(),
    };
    let request = SnapshotRequest {
        target,
        only: None,
        plan: None,
        selection: None,
        host: "bench".to_owned(),
        user: "bench".to_owned(),
        tags: vec![],
        time: Timestamp::now(),
    };
    let writer = repository.begin(request, &context)?;
    let reader = FileReader { file: File::open(file)?, size_bytes: 0 };
    writer.part(OpenPart {
        database: database.clone(),
        entry: EntryName::new(ENTRY)?,
        layout: Layout::Rows,
        index: 0,
        reader: Box::new(reader),
    })?;
    writer.done(&database, dumped()?)?;
    writer.commit()?;
    Ok(())
}

fn dumped() -> Result<Dumped, Box<dyn Error>> {
    let now = Timestamp::now();
    let facts = Facts {
        engine: EngineKind::Sqlite,
        engine_version: "0".to_owned(),
        form: "rows".to_owned(),
        selection: None,
        consistency: ConsistencyPoint { time: now, position: BTreeMap::new() },
        size_bytes: 0,
        tables: vec![],
        schema: vec![],
        properties: BTreeMap::new(),
        tools: BTreeMap::new(),
    };
    let marks = Marks { read_at: now, value: serde_json::Value::Null.into() };
    let entries = BTreeMap::from([(EntryName::new(ENTRY)?, (Layout::Rows, 1))]);
    Ok(Dumped { facts, marks, entries, elapsed_ms: 0 })
}

fn read_back(folder: &Path, cache: &str) -> Outcome {
    let (repository, context) = opened(folder, cache)?;
    let newest = repository.backups(None, &context)?.pop().ok_or("there is no backup")?;
    let backup = repository.open(&newest.id, &context)?;
    let name = EntryName::new(ENTRY)?;
    let size_bytes = backup.manifest().entry(&name).ok_or("there are no rows")?.size_bytes;
    let mut rows = backup.read(&name, 0..size_bytes)?;
    let mut out = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    let read_bytes = std::io::copy(&mut rows, &mut out)?;
    if read_bytes == size_bytes { Ok(()) } else { Err("it came in another length".into()) }
}

/// The file, as a source that ends well.
struct FileReader {
    file: File,
    size_bytes: u64,
}

impl PartReader for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError> {
        let failed =
            |error| SourceError::new(SourceErrorKind::Failed, ENTRY, "cannot be read").with_source(error);
        let count = self.file.read(buffer).map_err(failed)?;
        self.size_bytes += count as u64;
        Ok(count)
    }

    fn finish(self: Box<Self>) -> Result<PartFacts, SourceError> {
        Ok(PartFacts { size_bytes: self.size_bytes, rows: None, digest: None })
    }
}
