//! Writes a dump file as another plain file: the same form copied and packed anew, or another form, where that needs no
//! server. The file is opened for reading and nothing else; an interrupted export leaves nothing under the new name.
//!
//! What lies beside the file says which bytes it must have. Another form is made of a database in scratch, or of the data of
//! an archive; a crash leaves the scratch folder, which the next run removes.

use crate::dump_files::{DumpFile, DumpSource, recognise, refuse_another_digest, undecodable, unpack};
use crate::export::ExportBody;
use crate::import::scratch::ScratchFolder;
use crate::import::{enough_space, no_scratch};
use crate::plain_file::{self, Compression, FileOut, Place, Wrote};
use crate::report::{Outcome, Report};
use crate::{AgeKeys, Encryption, OperationError, Services};
use engines::{ExportForm, LoadRequest};
use flow::{BackupReader, DatabaseRef, EngineKind, Event, Phase, SourceError, SourceErrorKind};
use jiff::Timestamp;
use repository::BackupId;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

const BUFFER_BYTES: usize = 1 << 18;

/// What is written anew.
#[derive(Debug, Clone)]
pub struct FileExport {
    /// The file.
    pub file: DumpFile,
    /// Of which database it is.
    pub database: DatabaseRef,
    /// By what it is read where it is encrypted.
    pub keys: AgeKeys,
    /// Tells what would be written, and writes nothing.
    pub dry_run: bool,
}

/// Exports a file.
pub fn run(
    services: &Services,
    export: &FileExport,
    out: FileOut<'_>,
) -> Result<Report<ExportBody>, OperationError> {
    let started = Timestamp::now();
    let source = DumpSource::of(Path::new(&export.file.path))?;
    let _lock = source.lock()?;
    let name = format!("exporting {}", export.file.path);
    let phase = Phase { name, total_bytes: Some(export.file.size_bytes) };
    services.context.observer.event(Event::Phase(phase));
    let body = match export.file.is_folder {
        true => of_folder(services, (export, &source), out)?,
        false => of_file(services, (export, &source), out)?,
    };
    Ok(Report::new("export", started, Outcome::Complete, body))
}

fn of_file(
    services: &Services,
    (export, source): (&FileExport, &DumpSource),
    out: FileOut<'_>,
) -> Result<ExportBody, OperationError> {
    let object = export.file.path.as_str();
    let unpacked = unpack(object, source.open()?, &export.keys)?;
    let known = recognise(&services.engines, &unpacked.head);
    let (engine, form) = known.map_err(|reason| {
        SourceError::new(SourceErrorKind::NotADatabase, object, reason)
            .with_hint("`backstay verify` tells what it is")
    })?;
    let out = of_same_form(out, form);
    let place = plain_file::place(&out, services.engines.get(engine)?.forms())?;
    let body = body(export, &place);
    if place.form != form && (engine, form) == (EngineKind::Postgres, ExportForm::Sql) {
        return Err(OperationError::usage(
            format!("{object} is SQL text of PostgreSQL, and only a server makes another form of it"),
            "end the name in .sql; or restore it with --to-new, and write that with `backup --out`"
                .to_owned(),
        ));
    }
    if export.dry_run {
        return Ok(body);
    }
    let mut unpacked = Some(unpacked);
    let sizes = if place.form == form {
        plain_file::write(out, &place, &mut |sink| {
            let Some(mut unpacked) = unpacked.take() else { return Err(written_twice(object)) };
            let size_bytes = copy(services, object, &mut unpacked.bytes(), sink)?;
            let fingerprint = unpacked.finish().map_err(|error| undecodable(object, error))?;
            refuse_another_digest(source, &fingerprint)?;
            Ok(Wrote { size_bytes, front: None })
        })?
    } else {
        let Some(mut unpacked) = unpacked else { return Err(written_twice(object)) };
        let scratch = services.context.scratch.path();
        let mut folder = ScratchFolder::make(scratch).map_err(|error| no_scratch(scratch, error))?;
        let fresh = folder.fresh().map_err(|error| no_scratch(scratch, error))?;
        enough_space(scratch, export.file.size_bytes, unpacked.compression, form)?;
        let plain = unpacked.compression == Compression::None && unpacked.encryption == Encryption::None;
        let path = source.local_path().filter(|_| plain);
        let mut bytes = unpacked.bytes();
        let request = LoadRequest {
            object,
            form,
            dump: &mut bytes,
            file: path.as_deref(),
            folder: &fresh,
            again: Some(source.again(&export.keys)),
        };
        let engine = services.engines.get(engine)?;
        let backup = engine.open_dump(request, &export.database, &services.context)?;
        drop(bytes);
        let fingerprint = unpacked.finish().map_err(|error| undecodable(object, error))?;
        refuse_another_digest(source, &fingerprint)?;
        convert(services, backup.as_ref(), (engine, &place), out)?
    };
    Ok(ExportBody { size_bytes: sizes.0, written_bytes: sizes.1, ..body })
}

/// Writes the form of a directory archive that is asked for.
fn of_folder(
    services: &Services,
    (export, source): (&FileExport, &DumpSource),
    out: FileOut<'_>,
) -> Result<ExportBody, OperationError> {
    let path = source.local_folder()?;
    let context = &services.context;
    let open = |engine: &dyn engines::Engine| -> Option<Result<Arc<dyn BackupReader>, SourceError>> {
        engine.open_dump_folder(&path, &export.database, context)
    };
    let Some((engine, backup)) = services.engines.iter().find_map(|engine| Some((engine, open(engine)?)))
    else {
        let message = "is a folder, and no dump";
        return Err(
            SourceError::new(SourceErrorKind::NotADatabase, export.file.path.as_str(), message).into()
        );
    };
    let backup = backup?;
    let place = plain_file::place(&out, engine.forms())?;
    let body = body(export, &place);
    if export.dry_run {
        return Ok(body);
    }
    let sizes = convert(services, backup.as_ref(), (engine, &place), out)?;
    Ok(ExportBody { size_bytes: sizes.0, written_bytes: sizes.1, ..body })
}

fn convert(
    services: &Services,
    backup: &dyn BackupReader,
    (engine, place): (&dyn engines::Engine, &Place),
    out: FileOut<'_>,
) -> Result<(u64, u64), OperationError> {
    plain_file::write(out, place, &mut |sink| {
        let summary = engine.export(backup, place.form, sink, &services.context)?;
        Ok(Wrote { size_bytes: summary.size_bytes, front: None })
    })
}

/// A stream of which nothing is said has the form of the file.
fn of_same_form(out: FileOut<'_>, form: ExportForm) -> FileOut<'_> {
    match out {
        FileOut::Stream(stream, None) => FileOut::Stream(stream, Some(form)),
        other => other,
    }
}

fn body(export: &FileExport, place: &Place) -> ExportBody {
    ExportBody {
        backup: BackupId(export.file.path.clone()),
        path: place.path.clone(),
        form: place.form,
        compression: place.compression,
        encryption: place.encryption,
        size_bytes: export.file.size_bytes,
        written_bytes: 0,
        dry_run: export.dry_run,
    }
}

/// Copies to the end. What the file's side says is told apart from what the new one does.
fn copy(
    services: &Services,
    object: &str,
    from: &mut dyn Read,
    to: &mut (dyn Write + Send),
) -> Result<u64, OperationError> {
    let (mut buffer, mut copied) = (vec![0; BUFFER_BYTES], 0);
    loop {
        services.context.cancel.check().map_err(|_| OperationError::Cancelled)?;
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(copied),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(undecodable(object, error).into()),
        };
        to.write_all(&buffer[..count]).map_err(|error| OperationError::Local {
            object: "the new file".to_owned(),
            message: format!("cannot be written: {error}"),
            hint: Some("it needs a folder that exists, may be written and has space".to_owned()),
            source: Some(error.into()),
        })?;
        copied += count as u64;
    }
}

fn written_twice(object: &str) -> OperationError {
    SourceError::new(SourceErrorKind::Failed, object, "was asked for twice").into()
}
