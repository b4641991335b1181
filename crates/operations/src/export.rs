//! Writes a stored backup as one plain file (`plain_file`): the form and the compression follow from the name's ending. An
//! interrupted export leaves nothing under that name.

use crate::encryption::Encryption;
use crate::plain_file::{self, Compression, FileOut, Wrote};
use crate::reference::{Reference, resolve_one, short};
use crate::report::{Outcome, Report};
use crate::{OperationError, Services, candidates, unlisted};
use engines::ExportForm;
use flow::{Event, Phase};
use jiff::Timestamp;
use repository::BackupId;
use serde::Serialize;
use std::io::Write;

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
    /// How it is encrypted.
    pub encryption: Encryption,
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
    out: FileOut<'_>,
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
    let engine = services.engines.get(kind)?;
    let place = plain_file::place(&out, engine.forms())?;
    let mut body = ExportBody {
        backup: record.id.clone(),
        path: place.path.clone(),
        form: place.form,
        compression: place.compression,
        encryption: place.encryption,
        size_bytes: record.size_bytes,
        written_bytes: 0,
        dry_run,
    };
    if !dry_run {
        let backup = services.repository.open(&record.id, &services.context)?;
        let phase = Phase {
            name: format!("exporting {}", short(&record.id.0)),
            total_bytes: Some(record.size_bytes),
        };
        services.context.observer.event(Event::Phase(phase));
        let mut write = |sink: &mut (dyn Write + Send)| {
            let summary = engine.export(backup.as_ref(), place.form, sink, &services.context)?;
            Ok(Wrote { size_bytes: summary.size_bytes, front: None })
        };
        (body.size_bytes, body.written_bytes) = plain_file::write(out, &place, &mut write)?;
    }
    Ok(Report::new("export", started, Outcome::Complete, body))
}
