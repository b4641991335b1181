//! Writes a stored backup as one plain file: the form and the compression follow from the name's ending.
//!
//! The file appears under its name only when it is whole and synced; an interrupted export leaves nothing under that
//! name. A file that exists is never written over.

use crate::reference::{Reference, resolve_one, short};
use crate::report::{Outcome, Report};
use crate::{OperationError, Services, candidates, unlisted};
use engines::ExportForm;
use flow::{Event, Phase};
use jiff::Timestamp;
use repository::BackupId;
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// How the file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// `.gz`
    Gzip,
    /// `.zst`
    Zstd,
    /// `.lz4`
    Lz4,
    /// `.xz`
    Xz,
    /// `.bz2`
    Bzip2,
}

/// Returns form and compression by the endings of a file's name.
pub fn form_of(name: &str) -> Result<(ExportForm, Compression), OperationError> {
    let lower = name.to_ascii_lowercase();
    let endings = [
        (".gz", Compression::Gzip),
        (".zst", Compression::Zstd),
        (".lz4", Compression::Lz4),
        (".xz", Compression::Xz),
        (".bz2", Compression::Bzip2),
    ];
    let (stem, compression) = endings
        .iter()
        .find_map(|(ending, compression)| lower.strip_suffix(ending).map(|stem| (stem, *compression)))
        .unwrap_or((&lower, Compression::None));
    let form = match stem.rsplit_once('.').map(|(_, ending)| ending) {
        Some("sql") => ExportForm::Sql,
        Some("db" | "sqlite" | "sqlite3") => ExportForm::Image,
        _ => {
            return Err(OperationError::usage(
                format!("the ending of `{name}` names no form that a backup can be exported in"),
                "end it in .db or .sql, then .gz, .zst, .lz4, .xz or .bz2 where it shall be compressed"
                    .to_owned(),
            ));
        }
    };
    Ok((form, compression))
}

/// Where an export goes.
pub enum ExportOut<'a> {
    /// A file that must not exist yet.
    File(PathBuf),
    /// A stream, with the form that it gets.
    Stream(&'a mut (dyn Write + Send), ExportForm),
}

/// The report's own part.
#[derive(Debug, Clone, Serialize)]
pub struct ExportBody {
    /// The backup.
    pub backup: BackupId,
    /// The file; null where it went to a stream.
    pub path: Option<String>,
    /// The form.
    pub form: ExportForm,
    /// How it is compressed.
    pub compression: Compression,
    /// Bytes of the form.
    pub size_bytes: u64,
    /// Bytes that were written.
    pub written_bytes: u64,
    /// Whether nothing was done but telling.
    pub dry_run: bool,
}

/// Exports a backup.
pub fn run(
    services: &Services,
    reference: &Reference,
    out: ExportOut<'_>,
    dry_run: bool,
) -> Result<Report<ExportBody>, OperationError> {
    let started = Timestamp::now();
    let records = candidates::load(services, reference)?;
    unlisted::refuse(services, &records, reference)?;
    let record = resolve_one(&records, reference, &services.host)?;
    let Some(kind) = record.engine else {
        return Err(OperationError::usage(
            format!("{} was stored by restic and holds files, no database", short(&record.id.0)),
            format!("`backstay restore {} --to-new FOLDER` writes its files", short(&record.id.0)),
        ));
    };
    let (form, compression) = match &out {
        ExportOut::File(path) => form_of(&path.to_string_lossy())?,
        ExportOut::Stream(_, form) => (*form, Compression::None),
    };
    let mut body = ExportBody {
        backup: record.id.clone(),
        path: None,
        form,
        compression,
        size_bytes: record.size_bytes,
        written_bytes: 0,
        dry_run,
    };
    if let ExportOut::File(path) = &out {
        refuse_existing(path)?;
        body.path = Some(path.display().to_string());
    }
    if !dry_run {
        let backup = services.repository.open(&record.id, &services.context)?;
        let engine = services.engines.get(kind)?;
        let phase = Phase {
            name: format!("exporting {}", short(&record.id.0)),
            total_bytes: Some(record.size_bytes),
        };
        services.context.observer.event(Event::Phase(phase));
        let mut write = |sink: &mut (dyn Write + Send)| {
            engine.export(backup.as_ref(), form, sink, &services.context).map_err(OperationError::from)
        };
        match out {
            ExportOut::Stream(stream, _) => {
                body.size_bytes = write(stream)?.size_bytes;
                body.written_bytes = body.size_bytes;
            }
            ExportOut::File(path) => {
                (body.size_bytes, body.written_bytes) = to_file(&path, compression, &mut write)?;
            }
        }
    }
    Ok(Report::new("export", started, Outcome::Complete, body))
}

fn refuse_existing(path: &Path) -> Result<(), OperationError> {
    if path.symlink_metadata().is_ok() {
        return Err(OperationError::usage(
            format!("{} exists already", path.display()),
            "give another name, or move the file away first".to_owned(),
        ));
    }
    Ok(())
}

type WriteForm<'a> =
    dyn FnMut(&mut (dyn Write + Send)) -> Result<engines::ExportSummary, OperationError> + 'a;

fn to_file(
    path: &Path,
    compression: Compression,
    write: &mut WriteForm<'_>,
) -> Result<(u64, u64), OperationError> {
    let failed = |message: &str, error: io::Error| OperationError::Local {
        object: path.display().to_string(),
        message: format!("{message}: {error}"),
        hint: Some("the file needs a folder that exists, may be written and has space".to_owned()),
        source: Some(error.into()),
    };
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let partial = path.with_file_name(format!(".{name}.{}.partial", std::process::id()));
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&partial)
        .map_err(|error| failed("cannot be made", error))?;
    let removal = RemoveOnDrop(&partial);
    let refused = Refused::default();
    let written = compress((file, Arc::clone(&refused)), compression, write, &failed);
    let refused = refused.lock().unwrap_or_else(PoisonError::into_inner).take();
    let (sizes, file) = match (written, refused) {
        // The database side is not to blame where the file took no more.
        (Err(OperationError::Source(_)), Some(error)) => return Err(failed("cannot be written", error)),
        (written, _) => written?,
    };
    file.sync_all().map_err(|error| failed("cannot be synced", error))?;
    // A hard link never replaces what came to that name meanwhile; a filesystem without them gets a checked rename.
    if std::fs::hard_link(&partial, path).is_err() {
        refuse_existing(path)?;
        std::fs::rename(&partial, path).map_err(|error| failed("cannot be named", error))?;
    }
    drop(removal);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| failed("cannot be synced", error))?;
    Ok(sizes)
}

struct RemoveOnDrop<'a>(&'a Path);

impl Drop for RemoveOnDrop<'_> {
    fn drop(&mut self) {
        // Where it cannot be removed it stays, hidden and named as partial.
        let _ = std::fs::remove_file(self.0);
    }
}

/// Counts what passes, and keeps the first error of the file: whoever writes into it may say it as its own.
struct Counted<W>(W, u64, Refused);

/// The first error of the file that is written.
type Refused = Arc<Mutex<Option<io::Error>>>;

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.0.write(buffer).inspect_err(|error| {
            let mut refused = self.2.lock().unwrap_or_else(PoisonError::into_inner);
            let same = error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error);
            refused.get_or_insert(same);
        })?;
        self.1 += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn compress(
    (file, refused): (File, Refused),
    compression: Compression,
    write: &mut WriteForm<'_>,
    failed: &dyn Fn(&str, io::Error) -> OperationError,
) -> Result<((u64, u64), File), OperationError> {
    let counted = Counted(BufWriter::with_capacity(1 << 20, file), 0, refused);
    let cannot = |error| failed("cannot be written", error);
    let (size, counted) = match compression {
        Compression::None => {
            let mut sink = counted;
            (write(&mut sink)?.size_bytes, sink)
        }
        Compression::Gzip => {
            let mut sink = flate2::write::GzEncoder::new(counted, flate2::Compression::new(6));
            (write(&mut sink)?.size_bytes, sink.finish().map_err(cannot)?)
        }
        Compression::Zstd => {
            let mut sink = zstd::Encoder::new(counted, 3).map_err(cannot)?;
            sink.include_checksum(true).map_err(cannot)?;
            (write(&mut sink)?.size_bytes, sink.finish().map_err(cannot)?)
        }
        Compression::Lz4 => {
            let frame = lz4_flex::frame::FrameInfo::new().content_checksum(true);
            let mut sink = lz4_flex::frame::FrameEncoder::with_frame_info(frame, counted);
            let size = write(&mut sink)?.size_bytes;
            (size, sink.finish().map_err(|error| cannot(io::Error::other(error)))?)
        }
        Compression::Xz => {
            let mut sink = liblzma::write::XzEncoder::new(counted, 6);
            (write(&mut sink)?.size_bytes, sink.finish().map_err(cannot)?)
        }
        Compression::Bzip2 => {
            let mut sink = bzip2::write::BzEncoder::new(counted, bzip2::Compression::new(9));
            (write(&mut sink)?.size_bytes, sink.finish().map_err(cannot)?)
        }
    };
    let written = counted.1;
    let file = counted.0.into_inner().map_err(|error| cannot(error.into_error()))?;
    Ok(((size, written), file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_decides() {
        assert!(matches!(form_of("a.db"), Ok((ExportForm::Image, Compression::None))));
        assert!(matches!(form_of("/x.y/a.SQL.zst"), Ok((ExportForm::Sql, Compression::Zstd))));
        assert!(matches!(form_of("a.sqlite.xz"), Ok((ExportForm::Image, Compression::Xz))));
        for bad in ["a", "a.gz", "a.tar", "a.dump", "a.sql.age", "-", ""] {
            assert!(matches!(form_of(bad), Err(OperationError::Usage { .. })), "{bad}");
        }
    }
}
