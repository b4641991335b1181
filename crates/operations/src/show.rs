//! Shows one backup: its place in the list, and its manifest.

use crate::list::ListItem;
use crate::reference::{Reference, resolve_one};
use crate::report::{Outcome, Report};
use crate::{OperationError, Services, candidates, unlisted};
use flow::Manifest;
use jiff::Timestamp;
use repository::StoredFile;
use serde::Serialize;

/// The report's own part.
#[derive(Debug, Clone, Serialize)]
pub struct ShowBody {
    /// The backup as a list shows it.
    pub backup: ListItem,
    /// Its manifest; null for files that stock restic stored, and for what is lost.
    pub manifest: Option<Manifest>,
    /// The files, where stock restic stored it.
    pub files: Option<Vec<StoredFile>>,
}

/// Shows a backup.
pub fn run(services: &Services, reference: &Reference) -> Result<Report<ShowBody>, OperationError> {
    let started = Timestamp::now();
    let records = candidates::load(services, reference)?;
    unlisted::refuse(services, &records, reference)?;
    let record = resolve_one(&records, reference, &services.host)?;
    let (manifest, files) = if record.lost.is_some() {
        (None, None)
    } else if record.engine.is_some() {
        (Some(services.repository.open(&record.id, &services.context)?.manifest().clone()), None)
    } else {
        let files = services.repository.files(&record.snapshot, &services.context)?;
        (None, Some(files.files().to_vec()))
    };
    Ok(Report::new("show", started, Outcome::Complete, ShowBody { backup: record.into(), manifest, files }))
}
