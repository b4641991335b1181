//! A dump that passed every check, loaded into scratch as a restore would load it, and asked what somebody wants to know.
//!
//! Scratch is gone afterwards, whatever comes of it; a killed process leaves a folder that the next run removes.

use super::look::{Looking, words};
use super::report::FileItem;
use crate::OperationError;
use crate::dump_files::{Unpacked, recognise, unreadable_at};
use crate::encryption::Encryption;
use crate::import::scratch::{ScratchFolder, TrialPlace};
use crate::import::{enough_space, no_scratch};
use crate::plain_file::Compression;
use engines::{Engine, LoadRequest, Loaded, Query};
use flow::{SourceError, SourceErrorKind};
use std::path::Path;

/// More rows tell nothing more.
const ROWS_MAX: usize = 1;

impl Looking<'_> {
    /// Loads the dump, and asks the questions.
    pub(super) fn try_out(&self, item: &mut FileItem) -> Result<(), OperationError> {
        let Some(kind) = item.engine else { return Ok(()) };
        let Ok(engine) = self.services.engines.get(kind) else {
            item.check("load", Err(format!("cannot be loaded: this version loads no dumps of {kind}")));
            item.untried = Some("leave `--deep` out, or these files".to_owned());
            return Ok(());
        };
        let place = TrialPlace::of(engine, self.options.scratch_given, &self.services.context)?;
        let made = ScratchFolder::make_passable(&place.path).map_err(|error| no_scratch(&place.path, error));
        let mut scratch = made?;
        let folder = scratch.fresh().map_err(|error| no_scratch(&place.path, error))?;
        let loaded = match self.loaded(engine, &folder, &place.path) {
            Ok(loaded) => loaded,
            Err(error) if error.kind == SourceErrorKind::Cancelled => return Err(OperationError::Cancelled),
            Err(error) if error.kind == SourceErrorKind::Unsupported => {
                item.check("load", Err(words(&error)));
                item.untried = Some(error.hint.unwrap_or_default());
                return Ok(());
            }
            Err(error) if error.kind == SourceErrorKind::Failed && error.object != self.file.path => {
                item.check("load", Err(format!("{}: {}", error.object, words(&error))));
                return Ok(());
            }
            Err(error) => {
                item.check("load", Err(words(&error)));
                return Ok(());
            }
        };
        item.check("load", Ok(loaded.detail.clone()));
        (item.tables, item.rows) = (loaded.tables.or(item.tables), loaded.rows.or(item.rows));
        for question in &self.options.questions {
            let query = Query { sql: question.sql.clone(), rows_max: ROWS_MAX };
            let outcome = match engine.query(&loaded.database, &query, &loaded.context) {
                Ok(answer) => question.expected.judge(&answer),
                Err(error) if error.kind == SourceErrorKind::Cancelled => {
                    return Err(OperationError::Cancelled);
                }
                Err(error) => Err(words(&error)),
            };
            // An interruption ends the statement with an error of the database's own.
            self.services.context.cancel.check().map_err(|_| OperationError::Cancelled)?;
            let told = |text: String| format!("{}: {text}", question.sql.trim());
            item.check("query", outcome.map(told).map_err(told));
        }
        Ok(())
    }

    fn loaded(&self, engine: &dyn Engine, folder: &Path, place: &Path) -> Result<Loaded, SourceError> {
        let context = &self.services.context;
        if self.file.is_folder {
            let none =
                || SourceError::new(SourceErrorKind::NotADatabase, self.file.path.as_str(), "is no dump");
            let path = self.source.local_folder()?;
            return engine.try_out_folder(&path, folder, context).unwrap_or_else(|| Err(none()));
        }
        let before = self.source.look()?;
        let undecoded = |error| unreadable_at(self.source.object(), error);
        let mut unpacked =
            Unpacked::begin_with(self.source.open()?, &self.options.keys).map_err(undecoded)?;
        let is_plain = unpacked.compression == Compression::None && unpacked.encryption == Encryption::None;
        let changed =
            |message: String| SourceError::new(SourceErrorKind::Busy, self.file.path.as_str(), message);
        let (_, form) = recognise(&self.services.engines, &unpacked.head).map_err(changed)?;
        enough_space(place, before.size_bytes, unpacked.compression, form)?;
        let path = self.source.local_path().filter(|_| is_plain);
        let mut bytes = unpacked.bytes();
        let request = LoadRequest {
            object: &self.file.path,
            form,
            dump: &mut bytes,
            file: path.as_deref(),
            folder,
            again: Some(self.source.again(&self.options.keys)),
        };
        let loaded = engine.try_out(request, context)?;
        if !self.source.look()?.is_same(&before) {
            return Err(changed(
                "changed while it was loaded: it is still being written, or was replaced".to_owned(),
            ));
        }
        Ok(loaded)
    }
}
