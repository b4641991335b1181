//! One plain file: the form and the compression follow from the name's ending.
//!
//! The file appears under its name only when it is whole and synced; killed before, nothing is under that name, and what
//! was written so far lies beside it, hidden and named `.NAME.PID.partial`, and is in nobody's way. A process locks its own:
//! what nobody has locked was left by one that is gone. A file that exists is never written over.

use crate::OperationError;
use crate::encryption::{AgeLock, Encryption};
use engines::ExportForm;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use storage::{Folder, LocalFolder, NewFile};

/// How the file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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

/// Returns form, compression and encryption by the endings of a file's name.
pub(crate) fn form_of(name: &str) -> Result<(ExportForm, Compression, Encryption), OperationError> {
    let lower = name.to_ascii_lowercase();
    let (lower, encryption) = match lower.strip_suffix(".age") {
        Some(stem) => (stem, Encryption::Age),
        None => (lower.as_str(), Encryption::None),
    };
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
        .unwrap_or((lower, Compression::None));
    let form = match stem.rsplit_once('.').map(|(_, ending)| ending) {
        Some("sql") => ExportForm::Sql,
        Some("db" | "sqlite" | "sqlite3") => ExportForm::Image,
        Some("dump") => ExportForm::Custom,
        Some("tar") => ExportForm::Tar,
        _ => {
            return Err(OperationError::usage(
                format!("the ending of `{name}` names no form that a database can have as one file"),
                "end it in .db (SQLite), .sql, .dump or .tar (PostgreSQL), then .gz, .zst, .lz4, .xz or .bz2 where it \
                 shall be compressed, then .age where it shall be encrypted"
                    .to_owned(),
            ));
        }
    };
    Ok((form, compression, encryption))
}

/// The file that a database was written into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WrittenFile {
    /// The file; null where it went to a stream.
    pub path: Option<String>,
    /// The form.
    pub form: ExportForm,
    /// How it is compressed.
    pub compression: Compression,
    /// How it is encrypted.
    pub encryption: Encryption,
    /// Bytes of the form; null where nothing was done but telling.
    pub size_bytes: Option<u64>,
    /// Bytes that were written.
    pub written_bytes: Option<u64>,
}

/// Where a plain file goes.
pub enum FileOut<'a> {
    /// A file that must not exist yet.
    File(PathBuf),
    /// A file that must not exist yet, encrypted. Its name ends in `.age`.
    Encrypted(PathBuf, AgeLock),
    /// A stream, in that form; where none is said, in the one that suits the database system.
    Stream(&'a mut (dyn Write + Send), Option<ExportForm>),
}

/// Where a plain file goes, looked at.
pub(crate) struct Place {
    /// The file; `None` for a stream.
    pub(crate) path: Option<String>,
    pub(crate) form: ExportForm,
    pub(crate) compression: Compression,
    pub(crate) encryption: Encryption,
}

/// Looks at where a file is to go. Fails where there is one already, or where a database cannot have that form.
pub(crate) fn place(out: &FileOut<'_>, forms: &[ExportForm]) -> Result<Place, OperationError> {
    let (path, form, compression, encryption) = match out {
        FileOut::File(path) | FileOut::Encrypted(path, _) => {
            let (form, compression, encryption) = form_of(&path.to_string_lossy())?;
            (Some(path), form, compression, encryption)
        }
        FileOut::Stream(_, form) => {
            let usual = forms.first().copied().unwrap_or(ExportForm::Sql);
            (None, form.unwrap_or(usual), Compression::None, Encryption::None)
        }
    };
    match (out, encryption) {
        (FileOut::File(path), Encryption::Age) => {
            return Err(OperationError::usage(
                format!("{} is to be encrypted, and nothing says for whom", path.display()),
                "name --age-recipient age1…, or the file of a passphrase by BACKSTAY_AGE_PASSPHRASE_FILE"
                    .to_owned(),
            ));
        }
        (FileOut::Encrypted(path, _), Encryption::None) => {
            return Err(OperationError::usage(
                format!("{} is to be encrypted, and its name does not end in .age", path.display()),
                format!("write it to {}.age", path.display()),
            ));
        }
        _ => {}
    }
    if !forms.contains(&form) {
        let named = |form: &ExportForm| format!(".{}", ending(*form));
        let known: Vec<String> = forms.iter().map(named).collect();
        let of = path.map(|path| format!("{}: ", path.display())).unwrap_or_default();
        return Err(OperationError::usage(
            format!("{of}a database of this system has no form .{}", ending(form)),
            format!("it can be written as {}", known.join(", ")),
        ));
    }
    if let Some(path) = path {
        refuse_existing(path)?;
    }
    Ok(Place { path: path.map(|path| path.display().to_string()), form, compression, encryption })
}

fn ending(form: ExportForm) -> &'static str {
    match form {
        ExportForm::Image => "db",
        ExportForm::Sql => "sql",
        ExportForm::Custom => "dump",
        ExportForm::Tar => "tar",
    }
}

fn refuse_existing(path: &Path) -> Result<(), OperationError> {
    if path.symlink_metadata().is_ok() { Err(exists(path)) } else { Ok(()) }
}

fn exists(path: &Path) -> OperationError {
    OperationError::usage(
        format!("{} exists already", path.display()),
        "give another name, or move the file away first".to_owned(),
    )
}

/// What was written into an output.
pub(crate) struct Wrote {
    /// Bytes of the form.
    pub(crate) size_bytes: u64,
    /// What the beginning is to be replaced by, where the output can go back.
    pub(crate) front: Option<Vec<u8>>,
}

pub(crate) type WriteForm<'a> = dyn FnMut(&mut (dyn Write + Send)) -> Result<Wrote, OperationError> + 'a;

/// Writes, and returns how many bytes the form has and how many were written.
pub(crate) fn write(
    out: FileOut<'_>,
    place: &Place,
    write: &mut WriteForm<'_>,
) -> Result<(u64, u64), OperationError> {
    match out {
        FileOut::Stream(stream, _) => {
            let size_bytes = write(stream)?.size_bytes;
            Ok((size_bytes, size_bytes))
        }
        FileOut::File(path) => to_file(&path, place.compression, None, write),
        FileOut::Encrypted(path, lock) => to_file(&path, place.compression, Some(&lock), write),
    }
}

fn to_file(
    path: &Path,
    compression: Compression,
    lock: Option<&AgeLock>,
    write: &mut WriteForm<'_>,
) -> Result<(u64, u64), OperationError> {
    let (folder, name) =
        LocalFolder::of(path).map_err(|error| cannot(path.display(), "cannot be made", error))?;
    let mut partial = Partial::write(&folder, &name, (compression, lock), write)?;
    match partial.try_name(&folder, &name)? {
        true => Ok((partial.size_bytes, partial.written_bytes)),
        false => Err(exists(path)),
    }
}

/// A file that is whole and synced, and has no name yet that anybody looks for. Dropped it is gone.
pub(crate) struct Partial {
    file: Box<dyn NewFile>,
    /// Bytes of the form.
    pub(crate) size_bytes: u64,
    /// Bytes of the file.
    pub(crate) written_bytes: u64,
    /// Whether the beginning was written over at the end.
    pub(crate) is_rewritten: bool,
    /// SHA-256 of the file, where it is encrypted: nothing else tells what is in it.
    pub(crate) sealed: Option<[u8; 32]>,
}

impl Partial {
    /// Writes it into the folder in which it is to get that name, encrypted where there is a lock.
    pub(crate) fn write(
        folder: &dyn Folder,
        name: &OsStr,
        (compression, lock): (Compression, Option<&AgeLock>),
        write: &mut WriteForm<'_>,
    ) -> Result<Self, OperationError> {
        let failed = |message: &str, error: io::Error| cannot(folder.location_of(name), message, error);
        let file = folder.create(name).map_err(|error| failed("cannot be made", error))?;
        let refused = Refused::default();
        let digest = lock.map(|_| Arc::new(Mutex::new(Sha256::new())));
        let mut is_rewritten = false;
        let mut noting = |sink: &mut (dyn Write + Send)| {
            let wrote = write(sink)?;
            is_rewritten = wrote.front.is_some() && compression == Compression::None && lock.is_none();
            Ok(wrote)
        };
        let watched = (file, Arc::clone(&refused), digest.clone());
        let written = compress(watched, (compression, lock), &mut noting, &failed);
        let refused = refused.lock().unwrap_or_else(PoisonError::into_inner).take();
        let ((size_bytes, written_bytes), mut file) = match (written, refused) {
            // The database side is not to blame where the file took no more.
            (Err(OperationError::Source(_)), Some(error)) => return Err(failed("cannot be written", error)),
            (written, _) => written?,
        };
        file.sync().map_err(|error| failed("cannot be synced", error))?;
        let taken = |digest: &Mutex<Sha256>| {
            std::mem::take(&mut *digest.lock().unwrap_or_else(PoisonError::into_inner)).finalize().into()
        };
        let sealed = digest.as_deref().map(taken);
        Ok(Self { file, size_bytes, written_bytes, is_rewritten, sealed })
    }

    /// Opens it, as its place gives it back.
    pub(crate) fn read_back(&self) -> io::Result<Box<dyn Read + Send>> {
        self.file.read_back()
    }

    /// Gives it its name, durably; `false` where that is taken, and then it is still there without one.
    pub(crate) fn try_name(&mut self, folder: &dyn Folder, name: &OsStr) -> Result<bool, OperationError> {
        let named = self.file.name(name);
        named.map_err(|error| cannot(folder.location_of(name), "cannot be named", error))
    }

    /// Turns into the file.
    pub(crate) fn into_file(self) -> Box<dyn NewFile> {
        self.file
    }
}

fn cannot(object: impl ToString, message: &str, error: io::Error) -> OperationError {
    OperationError::Local {
        object: object.to_string(),
        message: format!("{message}: {error}"),
        hint: Some("the file needs a folder that exists, may be written and has space".to_owned()),
        source: Some(error.into()),
    }
}

/// Counts what passes, and keeps the first error of the file: whoever writes into it may say it as its own.
struct Counted<W>(W, u64, Refused, Option<Arc<Mutex<Sha256>>>);

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
        if let (Some(digest), Some(taken)) = (&self.3, buffer.get(..count)) {
            digest.lock().unwrap_or_else(PoisonError::into_inner).update(taken);
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// What the compressed bytes go into.
enum Sealed<W: Write> {
    Open(W),
    Age(Box<age::stream::StreamWriter<W>>),
}

impl<W: Write> Sealed<W> {
    fn finish(self) -> io::Result<W> {
        match self {
            Self::Open(mut inner) => inner.flush().map(|()| inner),
            Self::Age(writer) => writer.finish(),
        }
    }
}

impl<W: Write> Write for Sealed<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Self::Open(inner) => inner.write(buffer),
            Self::Age(writer) => writer.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Open(inner) => inner.flush(),
            Self::Age(writer) => writer.flush(),
        }
    }
}

/// Bytes of the form and of the file, and the file.
type Compressed = ((u64, u64), Box<dyn NewFile>);

fn compress(
    (file, refused, digest): (Box<dyn NewFile>, Refused, Option<Arc<Mutex<Sha256>>>),
    (compression, lock): (Compression, Option<&AgeLock>),
    write: &mut WriteForm<'_>,
    failed: &dyn Fn(&str, io::Error) -> OperationError,
) -> Result<Compressed, OperationError> {
    let cannot = |error| failed("cannot be written", error);
    let counted = Counted(BufWriter::with_capacity(1 << 20, file), 0, refused, digest);
    let counted = match lock {
        Some(lock) => Sealed::Age(Box::new(lock.wrap(counted).map_err(cannot)?)),
        None => Sealed::Open(counted),
    };
    let (size, counted) = match compression {
        Compression::None => {
            let mut sink = counted;
            let wrote = write(&mut sink)?;
            sink.flush().map_err(cannot)?;
            if let (Some(front), Sealed::Open(counted)) = (wrote.front, &mut sink) {
                counted.0.get_mut().put_front(&front).map_err(cannot)?;
            }
            (wrote.size_bytes, sink)
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
    let counted = counted.finish().map_err(cannot)?;
    let written = counted.1;
    let file = counted.0.into_inner().map_err(|error| cannot(error.into_error()))?;
    Ok(((size, written), file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_of_the_same_number_left_is_in_nobodys_way() -> Result<(), io::Error> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("a.sql");
        let left = folder.path().join(format!(".a.sql.{}.partial", std::process::id()));
        std::fs::write(&left, "half")?;
        let mut write = |sink: &mut (dyn Write + Send)| {
            sink.write_all(b"whole")
                .map_err(|error| OperationError::usage(error.to_string(), String::new()))?;
            Ok(Wrote { size_bytes: 5, front: None })
        };
        assert!(matches!(to_file(&path, Compression::None, None, &mut write), Ok((5, 5))));
        assert_eq!(std::fs::read(&path)?, b"whole");
        assert_eq!(std::fs::read(&left)?, b"half");
        assert_eq!(std::fs::read_dir(folder.path())?.count(), 2);
        Ok(())
    }

    #[test]
    fn the_ending_decides() {
        assert!(matches!(form_of("a.db"), Ok((ExportForm::Image, Compression::None, Encryption::None))));
        assert!(matches!(
            form_of("/x.y/a.SQL.zst"),
            Ok((ExportForm::Sql, Compression::Zstd, Encryption::None))
        ));
        assert!(matches!(form_of("a.sqlite.xz"), Ok((ExportForm::Image, Compression::Xz, Encryption::None))));
        assert!(matches!(
            form_of("a.dump.gz"),
            Ok((ExportForm::Custom, Compression::Gzip, Encryption::None))
        ));
        assert!(matches!(form_of("a.tar.lz4"), Ok((ExportForm::Tar, Compression::Lz4, Encryption::None))));
        assert!(matches!(form_of("a.sql.gz.AGE"), Ok((ExportForm::Sql, Compression::Gzip, Encryption::Age))));
        for bad in ["a", "a.gz", "a.zip", "a.age", "a.sql.age.gz", "-", ""] {
            assert!(matches!(form_of(bad), Err(OperationError::Usage { .. })), "{bad}");
        }
    }
}
