//! Writes the files of a snapshot that stock restic made into a new folder.
//!
//! The folder must not exist. What is written gets its content, permission bits and time of modification; owners are
//! the caller's. Nothing is written outside the folder, whatever the snapshot's names say.

use crate::report::{Outcome, Report};
use crate::{OperationError, Services};
use flow::{Event, Phase};
use jiff::Timestamp;
use repository::{StoredFile, StoredFiles};
use serde::Serialize;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

/// What to write where.
#[derive(Debug, Clone)]
pub struct FilesOptions {
    /// The snapshot's full id.
    pub snapshot: String,
    /// Only this path of it, and what is below.
    pub path: Option<String>,
    /// The folder, which must not exist.
    pub folder: PathBuf,
    /// Tells what would be written, and writes nothing.
    pub dry_run: bool,
}

/// The report's own part.
#[derive(Debug, Clone, Serialize)]
pub struct FilesBody {
    /// The snapshot.
    pub backup: String,
    /// The folder.
    pub target: String,
    /// Files that were written.
    pub files: u64,
    /// Their bytes.
    pub bytes_written: u64,
    /// What was left out, and why: devices, sockets.
    pub skipped: Vec<String>,
    /// Whether nothing was done but telling.
    pub dry_run: bool,
}

/// Writes the files.
pub fn restore_files(
    services: &Services,
    options: &FilesOptions,
) -> Result<Report<FilesBody>, OperationError> {
    let started = Timestamp::now();
    let stored = services.repository.files(&options.snapshot, &services.context)?;
    let chosen = choose(stored.as_ref(), options)?;
    let total = chosen.iter().map(|(_, file)| file.size_bytes).sum();
    let phase = Phase { name: format!("restoring {} files", chosen.len()), total_bytes: Some(total) };
    services.context.observer.event(Event::Phase(phase));
    let mut body = FilesBody {
        backup: options.snapshot.clone(),
        target: options.folder.display().to_string(),
        files: 0,
        bytes_written: 0,
        skipped: vec![],
        dry_run: options.dry_run,
    };
    if !options.dry_run {
        make_root(&options.folder)?;
    }
    let mut folders = Vec::new();
    for (index, file) in chosen {
        services.context.cancel.check().map_err(|_| OperationError::Cancelled)?;
        let Some(path) = inside(&options.folder, &file.path) else {
            body.skipped.push(format!("{}: leads out of the folder", file.path));
            continue;
        };
        match file.kind.as_str() {
            "dir" if !options.dry_run => {
                make_folder(&path)?;
                folders.push((path, file));
            }
            "dir" => {}
            "file" | "symlink" => {
                if !options.dry_run {
                    write(services, stored.as_ref(), index, file, &path)?;
                }
                body.files += 1;
                body.bytes_written += file.size_bytes;
            }
            other => body.skipped.push(format!("{}: a {other} is not written", file.path)),
        }
    }
    // Folders last and inside out: their own modes may forbid, and writing into them moves their times.
    for (path, file) in folders.into_iter().rev() {
        finish(&path, file)?;
    }
    Ok(Report::new("restore", started, Outcome::Complete, body))
}

fn choose<'a>(
    stored: &'a dyn StoredFiles,
    options: &FilesOptions,
) -> Result<Vec<(usize, &'a StoredFile)>, OperationError> {
    let files = stored.files().iter().enumerate();
    let Some(wanted) = options.path.as_deref() else { return Ok(files.collect()) };
    let wanted = format!("/{}", wanted.trim_matches('/'));
    let below = format!("{wanted}/");
    let above = |file: &StoredFile| file.kind == "dir" && below.starts_with(&format!("{}/", file.path));
    let chosen: Vec<_> = files
        .filter(|(_, file)| file.path == wanted || file.path.starts_with(&below) || above(file))
        .collect();
    if chosen.iter().any(|(_, file)| file.path == wanted) {
        return Ok(chosen);
    }
    Err(OperationError::usage(
        format!("the snapshot holds no `{wanted}`"),
        format!("`backstay show {}` lists what it holds", crate::reference::short(&options.snapshot)),
    ))
}

fn inside(folder: &Path, path: &str) -> Option<PathBuf> {
    let relative = Path::new(path.trim_start_matches('/'));
    let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
    plain.then(|| folder.join(relative))
}

fn local(path: &Path, error: io::Error) -> OperationError {
    OperationError::Local {
        object: path.display().to_string(),
        message: format!("cannot be written: {error}"),
        hint: Some(
            "give a folder that does not exist yet, where there is space and the right to write".to_owned(),
        ),
        source: Some(error.into()),
    }
}

fn make_root(folder: &Path) -> Result<(), OperationError> {
    if folder.symlink_metadata().is_ok() {
        return Err(OperationError::usage(
            format!("{} exists already", folder.display()),
            "give a folder that does not exist yet".to_owned(),
        ));
    }
    make_folder(folder)
}

fn make_folder(path: &Path) -> Result<(), OperationError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| local(path, error))
}

fn write(
    services: &Services,
    stored: &dyn StoredFiles,
    index: usize,
    file: &StoredFile,
    path: &Path,
) -> Result<(), OperationError> {
    if let Some(parent) = path.parent() {
        make_folder(parent)?;
    }
    if let Some(target) = file.link_target.as_deref().filter(|_| file.kind == "symlink") {
        return std::os::unix::fs::symlink(target, path).map_err(|error| local(path, error));
    }
    let out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut out = out.map_err(|error| local(path, error))?;
    let mut reader = stored.read(index)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        services.context.cancel.check().map_err(|_| OperationError::Cancelled)?;
        let count = reader.read(&mut buffer).map_err(|error| flow::ReadError::from_io(error, &file.path))?;
        if count == 0 {
            break;
        }
        out.write_all(buffer.get(..count).unwrap_or_default()).map_err(|error| local(path, error))?;
        services.context.observer.event(Event::Bytes(count as u64));
    }
    out.sync_all().map_err(|error| local(path, error))?;
    drop(out);
    finish(path, file)
}

fn finish(path: &Path, file: &StoredFile) -> Result<(), OperationError> {
    let mode = fs::Permissions::from_mode(file.mode & 0o7777);
    fs::set_permissions(path, mode).map_err(|error| local(path, error))?;
    if let Some(time) = file.modified {
        let time = std::time::SystemTime::from(time);
        // A folder without the right to read cannot be opened; its time is then its own.
        if let Ok(open) = File::open(path) {
            open.set_modified(time).map_err(|error| local(path, error))?;
        }
    }
    Ok(())
}
