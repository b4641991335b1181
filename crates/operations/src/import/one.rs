//! The import of one file or folder: is it known, is it whole, what is stored of it.
//!
//! A snapshot is written only after the dump was read to its end twice, or was built and checked, and after the file turned out
//! to be still the same.

use super::look::FolderLook;
use super::scratch::{ScratchFolder, TrialPlace};
use super::{
    DumpForm, ImportFile, ImportItem, ImportOptions, ImportStatus, Look, Origin, PROPERTY, enough_space,
    no_scratch, tell_future,
};
use crate::dump_files::{
    self, DumpSource, Fingerprint, Unpacked, is_neo4j, recognise, refuse_another_digest, undecodable, unpack,
    unreadable,
};
use crate::encryption::Encryption;
use crate::plain_file::Compression;
use crate::{OperationError, Services};
use engines::{Converted, Engine, ExportForm, LoadRequest};
use flow::{EngineKind, Event, Phase, SourceError, SourceErrorKind, Step, TargetName};
use repository::{
    BackupId, BackupRecord, IMPORTED_TAG, PartError, RepositoryErrorKind, SnapshotReport, SnapshotRequest,
    SnapshotWriter,
};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The scratch folders of a run.
pub(super) struct Rooms {
    own: ScratchFolder,
    place: PathBuf,
    /// Where throwaway servers are made, once there was one.
    trial: Option<Trial>,
    scratch_given: bool,
}

/// What is in a place goes before the place.
struct Trial {
    folder: ScratchFolder,
    place: TrialPlace,
}

impl Rooms {
    /// Makes one; the other one where it is needed.
    pub(super) fn make(services: &Services, scratch_given: bool) -> Result<Self, SourceError> {
        let place = services.context.scratch.path().to_owned();
        let own = ScratchFolder::make(&place).map_err(|error| no_scratch(&place, error))?;
        Ok(Self { own, place, trial: None, scratch_given })
    }

    /// Returns a new folder, in which a server can be made where `for_server` says so; and the folder around all of them.
    fn fresh(
        &mut self,
        services: &Services,
        for_server: Option<&dyn Engine>,
    ) -> Result<(PathBuf, PathBuf), SourceError> {
        let Some(engine) = for_server else {
            let folder = self.own.fresh().map_err(|error| no_scratch(&self.place, error))?;
            return Ok((folder, self.place.clone()));
        };
        let trial = match &mut self.trial {
            Some(trial) => trial,
            none => {
                let place = TrialPlace::of(engine, self.scratch_given, &services.context)?;
                let made = ScratchFolder::make_passable(&place.path);
                let folder = made.map_err(|error| no_scratch(&place.path, error))?;
                none.insert(Trial { folder, place })
            }
        };
        let path = trial.place.path.clone();
        Ok((trial.folder.fresh().map_err(|error| no_scratch(&path, error))?, path))
    }

    /// Removes what is in them.
    fn clear(&self) -> Result<(), SourceError> {
        self.own.clear().map_err(|error| no_scratch(&self.place, error))?;
        match &self.trial {
            Some(Trial { folder, place }) => folder.clear().map_err(|error| no_scratch(&place.path, error)),
            None => Ok(()),
        }
    }
}

/// What there is of a target: asked for once in a run.
pub(super) type Known = BTreeMap<TargetName, Vec<BackupRecord>>;

/// The import of one file, and what is known of it so far.
pub(super) struct Import<'a> {
    pub(super) services: &'a Services,
    pub(super) options: &'a ImportOptions,
    pub(super) file: &'a ImportFile,
    pub(super) item: &'a mut ImportItem,
    pub(super) known: &'a mut Known,
}

/// Tells whether a file is still what it was.
type Unchanged<'a> = &'a dyn Fn() -> Result<bool, SourceError>;

impl Import<'_> {
    /// Imports it; without scratch folders it is only told what would become of it.
    pub(super) fn run(&mut self, rooms: Option<&mut Rooms>) -> Result<(), OperationError> {
        let context = &self.services.context;
        context.cancel.check().map_err(|_| OperationError::Cancelled)?;
        context.observer.event(Event::Phase(Phase {
            name: format!("importing {}", self.file.file.path),
            total_bytes: None,
        }));
        let (file, database) = (&self.file.file, &self.file.database);
        self.item.target = Some(database.target.clone());
        self.item.database = Some(database.name.clone());
        (self.item.time, self.item.time_source) = (Some(file.time), Some(file.time_source));
        let path = Path::new(&file.path);
        let source = DumpSource::of(path)?;
        let _lock = source.lock()?;
        match file.is_folder {
            true => self.folder(path, rooms),
            false => self.one_file(path, rooms),
        }
    }

    fn one_file(&mut self, path: &Path, rooms: Option<&mut Rooms>) -> Result<(), OperationError> {
        let object = self.file.file.path.as_str();
        let opened = File::open(path).map_err(|error| unreadable(path, error))?;
        let before = Look::at(&opened, path)?;
        self.item.file_bytes = Some(before.size_bytes);
        let fingerprint = || {
            let file = File::open(path).map_err(|error| unreadable(path, error))?;
            dump_files::fingerprint(file).map_err(|error| unreadable(path, error))
        };
        if self.is_known(&fingerprint)? {
            return Ok(());
        }
        let mut unpacked = unpack(object, opened, &self.options.keys)?;
        self.item.compression = Some(unpacked.compression);
        let (engine, form) = self.recognised(&unpacked.head)?;
        (self.item.engine, self.item.form) = (Some(engine), Some(form.into()));
        self.refuse_another_system(engine)?;
        tell_future(&self.services.context, &self.file.file);
        let Some(rooms) = rooms else {
            self.item.status = ImportStatus::Planned;
            return Ok(());
        };
        let converted = self.convert(engine, form, &mut unpacked, before.size_bytes, rooms)?;
        let fingerprint = unpacked.finish().map_err(|error| undecodable(object, error))?;
        refuse_another_digest(&DumpSource::of(path)?, &fingerprint)?;
        let unchanged = || {
            let now = File::open(path).map_err(|error| unreadable(path, error))?;
            Ok(before == Look::at(&now, path)?)
        };
        self.store(converted, fingerprint, &unchanged)?;
        Ok(rooms.clear()?)
    }

    /// Imports a folder that is one dump.
    fn folder(&mut self, path: &Path, rooms: Option<&mut Rooms>) -> Result<(), OperationError> {
        let before = FolderLook::at(path)?;
        self.item.file_bytes = Some(before.size_bytes());
        let fingerprint = || before.fingerprint(path);
        if self.is_known(&fingerprint)? {
            return Ok(());
        }
        (self.item.engine, self.item.form) = (Some(EngineKind::Postgres), Some(DumpForm::Directory));
        self.item.compression = Some(Compression::None);
        self.refuse_another_system(EngineKind::Postgres)?;
        tell_future(&self.services.context, &self.file.file);
        if rooms.is_none() {
            self.item.status = ImportStatus::Planned;
            return Ok(());
        }
        let engine = self.services.engines.get(EngineKind::Postgres)?;
        let converted = engine.convert_folder(path, &self.file.database, &self.services.context);
        let converted = converted.unwrap_or_else(|| {
            let message = "is a folder without a table of contents: no dump, or what is left of one";
            Err(SourceError::new(SourceErrorKind::NotADatabase, path.display().to_string(), message)
                .with_hint("name a folder that `pg_dump -Fd` wrote"))
        })?;
        let fingerprint = fingerprint()?;
        let unchanged = || Ok(before == FolderLook::at(path)?);
        self.store(converted, fingerprint, &unchanged)
    }

    /// Looks whether the same file was imported before, as a backup of the same database and moment. One that was found
    /// damaged since does not count: it is imported anew.
    fn is_known(
        &mut self,
        fingerprint: &dyn Fn() -> Result<Fingerprint, SourceError>,
    ) -> Result<bool, OperationError> {
        let (repository, context) = (&self.services.repository, &self.services.context);
        let database = &self.file.database;
        if !self.known.contains_key(&database.target) {
            let records = match repository.backups(Some(&database.target), context) {
                // The first import makes it.
                Err(error) if error.kind == RepositoryErrorKind::NotFound && self.options.dry_run => vec![],
                other => other?,
            };
            self.known.insert(database.target.clone(), records);
        }
        let same = |record: &&BackupRecord| {
            let counts = record.proof.is_some() && record.is_imported();
            counts && record.database == database.name && record.time == self.file.file.time
        };
        let mut own = None;
        for record in self.known.get(&database.target).into_iter().flatten().filter(same) {
            let Ok(backup) = repository.open(&record.id, context) else { continue };
            let origin = backup.manifest().facts.properties.get(PROPERTY).cloned();
            let Some(origin) = origin.and_then(|origin| serde_json::from_value::<Origin>(origin).ok()) else {
                continue;
            };
            let own = match &mut own {
                Some(own) => own,
                none => none.insert(fingerprint()?),
            };
            if (origin.sha256.as_str(), origin.size_bytes) == (own.sha256.as_str(), own.size_bytes) {
                let id: BackupId = record.id.clone();
                (self.item.status, self.item.id) = (ImportStatus::Known, Some(id));
                self.item.sha256 = Some(origin.sha256);
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn recognised(&self, head: &[u8]) -> Result<(EngineKind, ExportForm), SourceError> {
        let object = self.file.file.path.as_str();
        if is_neo4j(head) {
            let message = "is a Neo4j dump, and those are not imported yet";
            return Err(SourceError::new(SourceErrorKind::Unsupported, object, message).with_hint(
                "keep it where it is: `backstay verify` reads it to its end, and `neo4j-admin database load` restores it",
            ));
        }
        recognise(&self.services.engines, head).map_err(|reason| {
            SourceError::new(SourceErrorKind::NotADatabase, object, reason)
                .with_hint("name a dump of SQLite or PostgreSQL, plain or packed")
        })
    }

    /// Under one name there are backups of one system: the newest of the other one would be restored for it.
    fn refuse_another_system(&self, engine: EngineKind) -> Result<(), SourceError> {
        let (object, database) = (self.file.file.path.as_str(), &self.file.database);
        let refused = |message: String, hint: &str| {
            Err(SourceError::new(SourceErrorKind::Invalid, object, message).with_hint(hint))
        };
        if let Some(wanted) = self.options.engine.filter(|wanted| *wanted != engine) {
            let message = format!("is a dump of {engine}, and {} is {wanted}", database.target);
            return refused(message, "name a target of the same system, or leave --target away");
        }
        let records = self.known.get(&database.target).into_iter().flatten();
        let other = records
            .filter(|record| record.database == database.name)
            .find_map(|record| record.engine.filter(|other| *other != engine));
        match other {
            Some(other) => {
                let message =
                    format!("is a dump of {engine}, and the backups of {} are of {other}", database.name);
                refused(message, "say by --target of which database it is")
            }
            None => Ok(()),
        }
    }

    /// Reads the dump to its end, as one of ours.
    fn convert(
        &self,
        kind: EngineKind,
        form: ExportForm,
        unpacked: &mut Unpacked,
        file_bytes: u64,
        rooms: &mut Rooms,
    ) -> Result<Converted, OperationError> {
        let path = &self.file.file.path;
        let engine = self.services.engines.get(kind)?;
        let of_postgres = kind == EngineKind::Postgres;
        let (folder, place) =
            rooms.fresh(self.services, Some(engine).filter(|_| of_postgres && form == ExportForm::Sql))?;
        let plain = unpacked.compression == Compression::None && unpacked.encryption == Encryption::None;
        // An archive is read where it lies.
        if !(of_postgres && plain && form != ExportForm::Sql) {
            enough_space(&place, file_bytes, unpacked.compression, form)?;
        }
        let mut bytes = unpacked.bytes();
        let request = LoadRequest {
            object: path,
            form,
            dump: &mut bytes,
            file: plain.then(|| Path::new(path)),
            folder: &folder,
            again: Some(DumpSource::of(Path::new(path))?.again(&self.options.keys)),
        };
        Ok(engine.convert(request, &self.file.database, &self.services.context)?)
    }

    /// Stores what the dump holds, as what it is a backup of.
    fn store(
        &mut self,
        converted: Converted,
        fingerprint: Fingerprint,
        unchanged: Unchanged<'_>,
    ) -> Result<(), OperationError> {
        self.refuse_changed(unchanged)?;
        self.item.sha256 = Some(fingerprint.sha256.clone());
        let (services, context) = (self.services, &self.services.context);
        let (file, database) = (&self.file.file, &self.file.database);
        let origin = Origin {
            path: file.path.clone(),
            sha256: fingerprint.sha256,
            size_bytes: fingerprint.size_bytes,
            target_given: self.options.target_given,
        };
        let mut tags = vec![IMPORTED_TAG.to_owned()];
        tags.extend(self.options.tags.iter().cloned());
        // What serves the dump is let go after it.
        let Converted { served_by: _served_by, selection, dump } = converted;
        let writer = services.repository.begin(
            SnapshotRequest {
                target: database.target.clone(),
                only: Some(database.name.clone()),
                plan: None,
                selection,
                host: services.host.clone(),
                user: services.user.clone(),
                tags,
                time: file.time,
            },
            context,
        )?;
        while let Some(step) = dump.next().map_err(|error| self.named(error))? {
            context.cancel.check().map_err(|_| OperationError::Cancelled)?;
            self.take_step(step, writer.as_ref(), &origin)?;
        }
        dump.finish().map_err(|error| self.named(error))?;
        self.refuse_changed(unchanged)?;
        self.stored(writer.commit()?);
        Ok(())
    }

    fn refuse_changed(&self, unchanged: Unchanged<'_>) -> Result<(), SourceError> {
        if unchanged()? {
            return Ok(());
        }
        let message = "changes while it is read: it is still being written";
        Err(SourceError::new(SourceErrorKind::Busy, self.file.file.path.as_str(), message)
            .with_hint("import it when it is finished"))
    }

    /// Whatever fails in scratch is told of the file.
    fn named(&self, error: SourceError) -> SourceError {
        SourceError { object: self.file.file.path.clone(), ..error }
    }

    fn take_step(
        &self,
        step: Step,
        writer: &dyn SnapshotWriter,
        origin: &Origin,
    ) -> Result<(), OperationError> {
        let file = &self.file.file;
        match step {
            Step::Part(mut part) => {
                part.database = self.file.database.clone();
                writer.part(part).map_err(|error| match error {
                    PartError::Source(error) => OperationError::from(self.named(error)),
                    PartError::Write(error) => error.into(),
                })
            }
            Step::Done(_, Ok(mut dumped)) => {
                dumped.facts.consistency.time = file.time;
                let origin = serde_json::to_value(origin).unwrap_or_default();
                dumped.facts.properties.insert(PROPERTY.to_owned(), origin);
                // Marks of scratch would make nothing known again.
                dumped.marks.value = serde_json::Value::Null.into();
                Ok(writer.done(&self.file.database, dumped)?)
            }
            Step::Done(_, Err(error)) => Err(self.named(error).into()),
            Step::Reuse(_) | Step::Unchanged(..) => {
                let message = "was said to be unchanged, and was never backed up";
                Err(SourceError::new(SourceErrorKind::Failed, file.path.as_str(), message).into())
            }
        }
    }

    fn stored(&mut self, report: SnapshotReport) {
        self.item.status = ImportStatus::Imported;
        if let Some(written) = report.databases.into_iter().next() {
            let record = written.record;
            self.known.entry(record.target.clone()).or_default().push(record.clone());
            self.item.id = Some(record.id);
            self.item.size_bytes = Some(record.size_bytes);
            self.item.added_bytes = Some(record.added_bytes);
            self.item.rows = record.rows;
            self.item.proof = record.proof.map(|proof| proof.level);
        }
    }
}
