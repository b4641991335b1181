//! One dump file, looked at from its first byte to its last.
//!
//! What a decoder says and what the format says are two checks: a file may be packed well and hold nothing, or hold what
//! was right as far as it could be unpacked.

use super::VerifyFilesOptions;
use super::neo4j;
use super::report::FileItem;
use crate::dump_files::{DumpFile, DumpSource, Fingerprint, Unpacked, packing_of, recognise, unreadable_at};
use crate::encryption::Encryption;
use crate::import::no_scratch;
use crate::import::scratch::ScratchFolder;
use crate::plain_file::Compression;
use crate::{OperationError, Services};
use engines::{Engine, ExamineRequest, Examined, ExportForm};
use flow::{EngineKind, Event, SourceError, SourceErrorKind};
use jiff::Timestamp;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use storage::Look;

const WITHOUT_A_KEY: &str = "is encrypted by age: name an identity file by --age-identity, or the file of its passphrase by \
    BACKSTAY_AGE_PASSPHRASE_FILE";

/// The look at one file.
pub(super) struct Looking<'a> {
    pub(super) services: &'a Services,
    pub(super) options: &'a VerifyFilesOptions,
    pub(super) file: &'a DumpFile,
    /// Where it lies.
    pub(super) source: &'a DumpSource,
    pub(super) now: Timestamp,
    pub(super) bytes_read: &'a AtomicU64,
}

impl Looking<'_> {
    /// Looks at the file. Fails only where the whole run ends: it was interrupted.
    pub(super) fn run(&self, scratch: &mut Option<ScratchFolder>) -> Result<FileItem, OperationError> {
        self.services.context.cancel.check().map_err(|_| OperationError::Cancelled)?;
        let mut item = FileItem::planned(self.file, self.now);
        let limits = &self.options.limits;
        let size = limits.size(self.file.size_bytes);
        let is_empty = self.file.size_bytes == 0;
        item.checks.push(size);
        item.checks.extend(limits.age(self.file, self.now, &self.options.choice.zone));
        if !is_empty {
            let looked = match self.file.is_folder {
                true => self.folder(&mut item),
                false => self.stream(&mut item, scratch),
            };
            match looked {
                Ok(()) => {}
                Err(OperationError::Source(error)) if error.kind == SourceErrorKind::Cancelled => {
                    return Err(OperationError::Cancelled);
                }
                Err(OperationError::Source(error)) => item.check("file", Err(words(&error))),
                Err(error) => return Err(error),
            }
        }
        if self.options.deep && item.checks.iter().all(|check| check.passed) {
            match self.try_out(&mut item) {
                Err(OperationError::Source(error)) => item.check("load", Err(words(&error))),
                other => other?,
            }
        }
        self.services.context.observer.event(Event::Bytes(self.file.size_bytes));
        self.bytes_read.fetch_add(self.file.size_bytes, Ordering::Relaxed);
        Ok(item.judged())
    }

    /// Reads a directory archive.
    fn folder(&self, item: &mut FileItem) -> Result<(), OperationError> {
        let path = self.source.local_folder()?;
        let look = |engine: &dyn Engine| {
            Some((engine.kind(), engine.examine_folder(&path, &self.services.context)?))
        };
        let Some((engine, examined)) = self.services.engines.iter().find_map(look) else {
            item.check("format", Err("is a folder, and no dump".to_owned()));
            return Ok(());
        };
        (item.engine, item.format) = (Some(engine), Some("postgres-directory"));
        self.format(item, examined)
    }

    fn stream(&self, item: &mut FileItem, scratch: &mut Option<ScratchFolder>) -> Result<(), OperationError> {
        let before = self.source.look()?;
        let opened = packing_of(self.source.open()?);
        let (packing, opened) = opened.map_err(|error| unreadable_at(self.source.object(), error))?;
        item.compression = Some(packing);
        let mut unpacked = match Unpacked::begin_with(opened, &self.options.keys) {
            Ok(unpacked) => unpacked,
            Err(error) => return self.undecoded(item, &before, error),
        };
        let compression = unpacked.compression;
        let is_plain = compression == Compression::None && unpacked.encryption == Encryption::None;
        (item.compression, item.encryption) = (Some(compression), Some(unpacked.encryption));
        if unpacked.encryption == Encryption::Age {
            if self.options.keys.is_empty() {
                item.compression = None;
                item.check("encryption", Err(WITHOUT_A_KEY.to_owned()));
                return self.settled(item, &before);
            }
            item.check("encryption", Ok("a key that was given opens it".to_owned()));
        }
        let recognised = recognise(&self.services.engines, &unpacked.head);
        let known = recognised.as_ref().ok().copied();
        let of_neo4j = neo4j::recognise(&unpacked.head);
        (item.engine, item.format) = match of_neo4j {
            Some(_) => (Some(EngineKind::Neo4j), Some("neo4j")),
            None => {
                (known.map(|(engine, _)| engine), known.and_then(|(engine, form)| format_name(engine, form)))
            }
        };
        let in_place = is_plain && known.is_some_and(|(_, form)| form == ExportForm::Image);
        let digest = self.source.expected();
        let mut failed = None;
        let examined = {
            let mut bytes = unpacked.bytes();
            let mut dump = Watched { inner: &mut bytes, failed: &mut failed };
            let cancel = &self.services.context.cancel;
            let examined = match (of_neo4j, recognised) {
                (Some(container), _) => neo4j::examine(container, &self.file.path, &mut dump, cancel),
                (None, Ok(known)) => self.examine(known, is_plain, &mut dump, scratch)?,
                (None, Err(reason)) => Err(self.unknown(reason, is_plain)),
            };
            // What the format does not need is read too: the packing has its checksum at the end.
            let is_over = in_place || is_plain && digest.is_none();
            if !is_over && dump.failed.is_none() {
                drop(io::copy(&mut Stopping { inner: &mut dump, cancel }, &mut io::sink()));
            }
            examined
        };
        self.services.context.cancel.check().map_err(|_| OperationError::Cancelled)?;
        let fingerprint = self.packing(item, failed.as_ref(), digest.is_some(), unpacked);
        match failed {
            Some(_) => item.check("format", Err("could not be read to its end".to_owned())),
            None => self.format(item, examined)?,
        }
        if let (Some(expected), Some(fingerprint)) = (digest, fingerprint) {
            let place =
                Path::new(&expected.place).file_name().map(|name| name.to_string_lossy().into_owned());
            let place = place.unwrap_or_default();
            let outcome = match expected.sha256 == fingerprint.sha256 {
                true => Ok(format!("is the one in {place}")),
                false => Err(format!("is {}, and {place} says {}", fingerprint.sha256, expected.sha256)),
            };
            item.check("sha256", outcome);
        }
        self.settled(item, &before)
    }

    /// Takes a file that cannot even be begun with.
    fn undecoded(&self, item: &mut FileItem, before: &Look, error: io::Error) -> Result<(), OperationError> {
        if error.raw_os_error().is_some() {
            return Err(unreadable_at(self.source.object(), error).into());
        }
        match error.kind() {
            io::ErrorKind::PermissionDenied => {
                item.encryption = Some(Encryption::Age);
                item.compression = None;
                item.check("encryption", Err(error.to_string()));
            }
            _ => item.check("compression", Err(decoding(&error))),
        }
        self.settled(item, before)
    }

    /// Says what the packing came to, and what the file was where somebody wants to know.
    fn packing(
        &self,
        item: &mut FileItem,
        failed: Option<&io::Error>,
        wanted: bool,
        unpacked: Unpacked,
    ) -> Option<Fingerprint> {
        let name = match (unpacked.compression, unpacked.encryption) {
            (Compression::None, Encryption::None) => None,
            (Compression::None, Encryption::Age) => Some("encryption"),
            _ => Some("compression"),
        };
        if let Some(error) = failed {
            item.check(name.unwrap_or("file"), Err(decoding(error)));
            return None;
        }
        if name.is_none() && !wanted {
            return None;
        }
        let finished = unpacked.finish();
        if let Some(name) = name {
            let outcome = match &finished {
                Ok(_) => Ok("was read to its end, its checksums match".to_owned()),
                Err(error) => Err(decoding(error)),
            };
            item.check(name, outcome);
        }
        finished.ok()
    }

    fn examine(
        &self,
        (engine, form): (EngineKind, ExportForm),
        is_plain: bool,
        dump: &mut dyn Read,
        scratch: &mut Option<ScratchFolder>,
    ) -> Result<Result<Examined, SourceError>, OperationError> {
        let context = &self.services.context;
        let path = self.source.local_path().filter(|_| is_plain);
        let mut folder = || fresh(scratch, context.scratch.path());
        let request = ExamineRequest {
            object: &self.file.path,
            form,
            dump,
            file: path.as_deref(),
            quick: self.options.quick,
            folder: &mut folder,
        };
        let examined = self.services.engines.get(engine)?.examine(request, context);
        if let Some(scratch) = scratch {
            scratch.clear().map_err(|error| no_scratch(context.scratch.path(), error))?;
        }
        Ok(examined)
    }

    /// Says what the format came to.
    fn format(
        &self,
        item: &mut FileItem,
        examined: Result<Examined, SourceError>,
    ) -> Result<(), OperationError> {
        match examined {
            Ok(examined) => {
                item.check("format", Ok(examined.detail));
                (item.tables, item.rows) = (examined.tables, examined.rows);
                item.doubts.extend(examined.doubts);
                if examined.is_empty && !self.options.allow_empty {
                    let problem =
                        "holds nothing at all: the database was empty, or another one than was meant";
                    item.check("content", Err(problem.to_owned()));
                }
                Ok(())
            }
            Err(error) if error.kind == SourceErrorKind::Cancelled => Err(error.into()),
            Err(error) => {
                item.check("format", Err(words(&error)));
                Ok(())
            }
        }
    }

    /// Makes the error of what nobody knows; a name that promises another packing is said.
    fn unknown(&self, reason: String, is_plain: bool) -> SourceError {
        let name = self.file.path.to_ascii_lowercase();
        let endings = [".gz", ".zst", ".zstd", ".lz4", ".xz", ".bz2"];
        let promised = endings.iter().find(|ending| name.ends_with(*ending));
        let reason = match promised {
            Some(ending) if is_plain => {
                format!("{reason}; its name ends in {ending}, and it is not packed so")
            }
            _ => reason,
        };
        SourceError::new(SourceErrorKind::NotADatabase, self.file.path.as_str(), reason)
    }

    /// Looks whether the file is still the one that was read.
    fn settled(&self, item: &mut FileItem, before: &Look) -> Result<(), OperationError> {
        if !self.source.look().is_ok_and(|now| now.is_same(before)) {
            let problem = "changed while it was read: it is still being written, or was replaced";
            item.check("unchanged", Err(problem.to_owned()));
        }
        Ok(())
    }
}

/// Returns an empty folder in scratch.
fn fresh(scratch: &mut Option<ScratchFolder>, place: &Path) -> Result<PathBuf, SourceError> {
    let folder = match scratch {
        Some(folder) => folder,
        none => none.insert(ScratchFolder::make(place).map_err(|error| no_scratch(place, error))?),
    };
    folder.fresh().map_err(|error| no_scratch(place, error))
}

/// Returns how reports call what a file is.
fn format_name(engine: EngineKind, form: ExportForm) -> Option<&'static str> {
    match (engine, form) {
        (EngineKind::Sqlite, ExportForm::Image) => Some("sqlite"),
        (EngineKind::Sqlite, ExportForm::Sql) => Some("sqlite-sql"),
        (EngineKind::Postgres, ExportForm::Sql) => Some("postgres-sql"),
        (EngineKind::Postgres, ExportForm::Custom) => Some("postgres-custom"),
        (EngineKind::Postgres, ExportForm::Tar) => Some("postgres-tar"),
        _ => None,
    }
}

/// Returns an error's own words, with its cause.
pub(super) fn words(error: &SourceError) -> String {
    match &error.source {
        Some(cause) if !error.message.contains(&cause.to_string()) => format!("{}: {cause}", error.message),
        _ => error.message.clone(),
    }
}

fn decoding(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "is cut off: it ends too early".to_owned(),
        _ => format!("cannot be unpacked: {error}"),
    }
}

/// Remembers why what is read does not come: whoever reads may say it as its own.
struct Watched<'a> {
    inner: &'a mut dyn Read,
    failed: &'a mut Option<io::Error>,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).inspect_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted {
                let same = io::Error::new(error.kind(), error.to_string());
                self.failed.get_or_insert(same);
            }
        })
    }
}

/// Stops where the run was interrupted.
struct Stopping<'a, R> {
    inner: R,
    cancel: &'a flow::Cancel,
}

impl<R: Read> Read for Stopping<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.cancel.check() {
            Ok(()) => self.inner.read(buffer),
            Err(_) => Err(io::Error::other("interrupted")),
        }
    }
}
