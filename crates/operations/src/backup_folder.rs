//! Backs up targets into a folder of plain dump files, one file a database, with a manifest beside each.
//!
//! A file is written under a hidden name, synced, read back from the disk and held against what was written, and only then
//! named: a name that is taken gets a number, and none is ever written over. The manifest is whole and synced, hidden too,
//! before the file is named: a crash leaves hidden files, and of a file that has its name the manifest, which the next run
//! puts beside it. A database that fails takes no other with it.

mod names;

pub use names::known_as;

use crate::backup::{BackupBody, BackupItem, BackupResult, BackupTarget, stepping_back};
use crate::dump_files::{self, Choice, FILE_SCHEMA, FileManifest, FolderLock, ReadBack};
use crate::encryption::Encryption;
use crate::hooks::{self, Hook};
use crate::plain_file::{Compression, Partial, Wrote, form_of};
use crate::prune_folder::{self, FolderOptions, MadeBy};
use crate::report::{ErrorReport, Outcome, Report, elapsed_ms};
use crate::tenants::{self, Vanished};
use crate::{AgeLock, OperationError, Pruned, Retention, Services, journaling};
use engines::{Engine, ExportForm};
use flow::{
    DatabaseName, DatabaseRef, DatabaseRequest, DumpOptions, DumpRequest, Event, Facts, Finding, Phase,
    Severity, SourceError, SourceErrorKind,
};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use names::FileName;
use repository::{BackupId, ProofLevel};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use storage::{Folder, NewFile};

/// How long a backup waits for a prune of its folder.
const PRUNE_WAIT: Duration = Duration::from_secs(60);
/// For how long a database that is gone is told of.
const VANISHED_FOR: SignedDuration = SignedDuration::from_hours(30 * 24);

/// A target, and what its files are like.
#[derive(Debug, Clone)]
pub struct FolderTarget {
    /// The target.
    pub target: BackupTarget,
    /// The endings of its files, as in `sql.gz`; `None`: the usual ones of its system.
    pub form: Option<String>,
    /// The zone of local times in names.
    pub zone: TimeZone,
}

/// What to back up into which folder.
#[derive(Debug, Clone)]
pub struct FolderBackup {
    /// The folder, which must be there.
    pub folder: Arc<dyn Folder>,
    /// How the files are called.
    pub names: String,
    /// The targets, one after the other.
    pub targets: Vec<FolderTarget>,
    /// For whom files are encrypted whose form ends in `.age`.
    pub lock: Option<AgeLock>,
    /// Whether no other files may be written.
    pub encrypts_all: bool,
    /// How the databases are read.
    pub dump: DumpOptions,
    /// Tells what would be backed up, and reads and writes nothing.
    pub dry_run: bool,
}

/// Backs up. What the folder's side refuses fails the database that it was for; an interruption ends the run.
pub fn run(services: &Services, options: &FolderBackup) -> Result<BackupResult, OperationError> {
    let started = Timestamp::now();
    if options.dry_run {
        return all_targets(services, options, started);
    }
    let names: Vec<&str> = options.targets.iter().map(|target| target.target.target.name.as_str()).collect();
    let recorded = journaling::begin(services, "backup", Some(names.join(", ")), started);
    let outcome = all_targets(services, options, started);
    journaling::finish(services, &recorded, outcome.as_ref().map(|result| &result.report));
    outcome
}

fn all_targets(
    services: &Services,
    options: &FolderBackup,
    started: Timestamp,
) -> Result<BackupResult, OperationError> {
    // Where somebody prunes at this moment, the next run does it.
    if !options.dry_run
        && let Ok(_lock) = FolderLock::shared(&*options.folder)
    {
        dump_files::settle(&*options.folder, &services.context);
    }
    let mut run = Run { services, options, body: BackupBody::default(), errors: vec![] };
    run.body.dry_run = options.dry_run;
    for target in &options.targets {
        services.context.cancel.check().map_err(|_| OperationError::Cancelled)?;
        run.target(target)?;
    }
    let (body, errors) = (run.body, run.errors);
    let outcome = match (errors.len(), body.backups.len()) {
        (0, _) => Outcome::Complete,
        (failed, all) if failed >= all => Outcome::Failed,
        _ => Outcome::Incomplete,
    };
    Ok(BackupResult { report: Report::new("backup", started, outcome, body), errors })
}

struct Run<'a> {
    services: &'a Services,
    options: &'a FolderBackup,
    body: BackupBody,
    errors: Vec<OperationError>,
}

/// What became of one database.
type Made = (BackupItem, Option<OperationError>);

impl Run<'_> {
    fn target(&mut self, wanted: &FolderTarget) -> Result<(), OperationError> {
        let (services, target) = (self.services, &wanted.target);
        let mut made: Vec<Made> = Vec::new();
        let only = target.only.as_ref();
        let attempt = hooks::around(
            Hook::new("before_backup", target.before.as_deref(), &target.target.name, only),
            Hook::new("after_backup", target.after.as_deref(), &target.target.name, only),
            self.options.dry_run,
            services,
            || {
                let lock = match self.options.dry_run {
                    true => None,
                    false => {
                        let cancel = &services.context.cancel;
                        Some(FolderLock::shared_within(&*self.options.folder, PRUNE_WAIT, cancel)?)
                    }
                };
                made = self.databases(wanted)?;
                drop(lock);
                Ok(())
            },
        );
        let succeeded = made.iter().any(|(_, error)| error.is_none());
        for (item, error) in made {
            self.body.backups.push(item);
            if let Some(error) = error {
                if is_cancelled(&error) {
                    return Err(OperationError::Cancelled);
                }
                self.errors.push(error);
            }
        }
        if let Err(error) = attempt {
            if is_cancelled(&error) {
                return Err(OperationError::Cancelled);
            }
            let item =
                BackupItem { error: Some(ErrorReport::from(&error)), ..BackupItem::of(&target.target) };
            self.body.backups.push(item);
            self.errors.push(error);
        }
        if let Some(retention) = target.retention.as_ref().filter(|_| succeeded && !self.options.dry_run) {
            let pruned = self.retain(target, retention);
            self.body.pruned.get_or_insert_default().add(pruned);
        }
        Ok(())
    }

    /// Backs up the databases of a target, several at once.
    fn databases(&mut self, wanted: &FolderTarget) -> Result<Vec<Made>, OperationError> {
        let (services, target) = (self.services, &wanted.target);
        let engine = services.engines.of(&target.target)?;
        let mut databases = match &target.only {
            Some(only) => {
                let found = engine.database(&target.target, only, &services.context)?;
                vec![found.ok_or_else(|| missing(target, only))?]
            }
            None => {
                let found = engine.databases(&target.target, &services.context)?;
                self.body.skipped.extend(found.skipped);
                self.tell_vanished(target, &found.databases);
                found.databases
            }
        };
        let gone = tenants::keep_named(&target.target.name, target.among.as_ref(), &mut databases)?
            .into_iter()
            .map(|(name, error)| {
                let shown = Some(ErrorReport::from(&error));
                let item =
                    BackupItem { database: Some(name), error: shown, ..BackupItem::of(&target.target) };
                (item, Some(error))
            });
        let gone: Vec<Made> = gone.collect();
        if databases.len() > 1 && !self.options.names.contains("{database}") {
            return Err(OperationError::usage(
                format!(
                    "{} has {} databases, and `names` of the repository does not tell them apart",
                    target.target.name,
                    databases.len()
                ),
                "write {database} into it".to_owned(),
            ));
        }
        let (ending, form, packing) = self.form(wanted, engine)?;
        let one = One { services, options: self.options, wanted, engine, ending: &ending, form, packing };
        let workers = self.options.dump.jobs.clamp(1, 8).min(databases.len().max(1));
        let (next, made) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(database) = databases.get(index) else { break };
                        let done = one.run(database);
                        made.lock().unwrap_or_else(PoisonError::into_inner).insert(index, done);
                    }
                });
            }
        });
        let made = made.into_inner().unwrap_or_else(PoisonError::into_inner).into_values();
        Ok(made.chain(gone).collect())
    }

    /// Returns the endings of a target's files, and what they mean.
    fn form(
        &self,
        wanted: &FolderTarget,
        engine: &dyn Engine,
    ) -> Result<(String, ExportForm, Packing<'_>), OperationError> {
        let usual = match engine.forms().first() {
            Some(ExportForm::Image) | None => "db.zst",
            Some(_) => "dump.zst",
        };
        let sealed = if self.options.encrypts_all { ".age" } else { "" };
        let ending = wanted.form.clone().unwrap_or_else(|| format!("{usual}{sealed}"));
        let (form, compression, encryption) = form_of(&format!("x.{ending}"))?;
        let lock = match (encryption, &self.options.lock) {
            (Encryption::None, _) if self.options.encrypts_all => {
                return Err(OperationError::usage(
                    format!("the files are to be encrypted, and the form `{ending}` is not"),
                    format!("write form = \"{ending}.age\" in the plan"),
                ));
            }
            (Encryption::Age, None) => {
                return Err(OperationError::usage(
                    format!("the form `{ending}` is encrypted, and nothing says for whom"),
                    "write age_recipients = [\"age1…\"] in the repository, or name the file of a passphrase by \
                     BACKSTAY_AGE_PASSPHRASE_FILE"
                        .to_owned(),
                ));
            }
            (Encryption::None, _) => None,
            (Encryption::Age, Some(lock)) => Some(lock),
        };
        Ok((ending, form, Packing { compression, lock }))
    }

    /// Tells of databases that the folder has files of, and the target has no more.
    fn tell_vanished(&mut self, target: &BackupTarget, databases: &[DatabaseRef]) {
        let choice = Choice::all(TimeZone::UTC);
        let folder = &*self.options.folder;
        let Ok(found) = dump_files::list(folder, &choice, &self.services.engines) else { return };
        let mut newest: BTreeMap<DatabaseName, (Timestamp, String)> = BTreeMap::new();
        for manifest in found.files.iter().filter_map(|file| FileManifest::beside(folder, file.file_name())) {
            if manifest.target != target.target.name {
                continue;
            }
            let known = newest.entry(manifest.database).or_insert((manifest.time, manifest.file.clone()));
            if manifest.time > known.0 {
                *known = (manifest.time, manifest.file);
            }
        }
        let there: BTreeSet<&DatabaseName> = databases.iter().map(|database| &database.name).collect();
        let now = Timestamp::now();
        let gone = newest
            .into_iter()
            .filter(|(name, (time, _))| !there.contains(name) && now.duration_since(*time) < VANISHED_FOR);
        self.body.vanished.extend(gone.map(|(database, (time, file))| Vanished {
            target: target.target.name.clone(),
            database,
            backup: BackupId(file),
            time,
        }));
    }

    /// Removes what the plan lets go. It never fails the backup.
    fn retain(&self, target: &BackupTarget, retention: &Retention) -> Pruned {
        let options = FolderOptions {
            folder: self.options.folder.clone(),
            choice: Choice::all(retention.zone.clone()),
            made: Some(MadeBy {
                target: target.target.name.clone(),
                plan: target.plan.clone(),
                databases: target.only.clone().map(|only| BTreeSet::from([only])),
            }),
            rules: retention.rules.clone(),
            dry_run: false,
        };
        let error = match prune_folder::after_backup(self.services, &options) {
            Ok(result) => {
                let body = &result.report.body;
                let error = result.errors.first().map(ToString::to_string);
                let backups = body.files_removed.len() as u64;
                if error.is_none() {
                    return Pruned { backups, freed_bytes: body.freed_bytes, ..Pruned::default() };
                }
                error
            }
            Err(error) => Some(error.to_string()),
        };
        let said = error.clone().unwrap_or_default();
        self.services.context.observer.event(Event::Finding(Finding {
            severity: Severity::Warning,
            object: target.target.name.to_string(),
            message: format!("the backup is made, and old files were not all removed: {said}"),
            hint: Some("the next backup of the plan tries again".to_owned()),
        }));
        Pruned { error, ..Pruned::default() }
    }
}

fn missing(target: &BackupTarget, only: &DatabaseName) -> SourceError {
    let object = format!("{}/{only}", target.target.name);
    SourceError::new(SourceErrorKind::Missing, object, "the target has no such database")
}

fn is_cancelled(error: &OperationError) -> bool {
    matches!(error, OperationError::Cancelled)
        || matches!(error, OperationError::Source(error) if error.kind == SourceErrorKind::Cancelled)
}

/// What the files of one target have in common.
struct One<'a> {
    services: &'a Services,
    options: &'a FolderBackup,
    wanted: &'a FolderTarget,
    engine: &'a dyn Engine,
    ending: &'a str,
    form: ExportForm,
    packing: Packing<'a>,
}

/// How files are packed.
#[derive(Clone, Copy)]
struct Packing<'a> {
    compression: Compression,
    /// For whom they are encrypted.
    lock: Option<&'a AgeLock>,
}

impl One<'_> {
    fn run(&self, database: &DatabaseRef) -> Made {
        let target = &self.wanted.target;
        let mut item = BackupItem {
            database: Some(database.name.clone()),
            selection: target.selection.clone(),
            ..BackupItem::of(&target.target)
        };
        let began = Timestamp::now();
        let attempt = match self.options.dry_run {
            true => {
                self.engine.size_bytes(database, &self.services.context).map_err(Into::into).map(|size| {
                    item.size_bytes = Some(size);
                })
            }
            false => stepping_back(|| self.write(database, &mut item)),
        };
        item.elapsed_ms = Some(elapsed_ms(began, Timestamp::now()));
        match attempt {
            Ok(()) => (item, None),
            Err(error) => (BackupItem { error: Some(ErrorReport::from(&error)), ..item }, Some(error)),
        }
    }

    fn write(&self, database: &DatabaseRef, item: &mut BackupItem) -> Result<(), OperationError> {
        let (context, target) = (&self.services.context, &self.wanted.target);
        context.cancel.check().map_err(|_| OperationError::Cancelled)?;
        let name = format!("backing up {}", database.connection);
        context.observer.event(Event::Phase(Phase { name, total_bytes: None }));
        let request = DumpRequest {
            target: target.target.clone(),
            databases: vec![DatabaseRequest { database: database.clone(), previous: None }],
            options: DumpOptions { selection: target.selection.clone(), ..self.options.dump.clone() },
        };
        let mut names = FileName {
            template: &self.options.names,
            target: &target.target.name,
            database: &database.name,
            plan: target.plan.as_deref(),
            time: Timestamp::now(),
            zone: &self.wanted.zone,
            ending: self.ending,
        };
        let (mut facts, mut passed) = (None, None);
        let name = names.text(1);
        let Packing { compression, lock } = self.packing;
        let folder = &*self.options.folder;
        let mut partial = Partial::write(folder, name.as_ref(), (compression, lock), &mut |sink| {
            let mut hashing = Hashing { sink, hasher: Sha256::new() };
            let written = self.engine.dump_file(&request, self.form, &mut hashing, context)?;
            passed = Some(hashing.hasher.finalize().into());
            facts = Some(written.facts);
            Ok(Wrote { size_bytes: written.size_bytes, front: written.front })
        })?;
        context.cancel.check().map_err(|_| OperationError::Cancelled)?;
        let facts = facts.ok_or_else(|| {
            let message = "it was written without a verdict on it";
            SourceError::new(SourceErrorKind::Failed, database.connection.clone(), message)
        })?;
        names.time = facts.consistency.time;
        let read = self.read_back(&partial, passed)?;
        let read = ReadBack { content_bytes: partial.size_bytes, ..read };
        item.time = Some(facts.consistency.time);
        (item.rows, item.unchanged) = (facts.rows(), Some(false));
        (item.size_bytes, item.read_bytes) = (Some(partial.size_bytes), Some(facts.size_bytes));
        item.added_bytes = Some(partial.written_bytes);
        let verified = Timestamp::now();
        let manifest = self.manifest(database, (facts, read, verified));
        let (name, described) = self.name(&mut partial, &names, manifest)?;
        item.path = Some(folder.location_of(name.as_ref()));
        (item.proof, item.proof_time) = (Some(ProofLevel::Stored), Some(verified));
        // One that another tool left there is of a file that is gone.
        let name = FileManifest::name_of(name.as_ref());
        described.name_over(&name).map_err(|error| OperationError::Local {
            object: folder.location_of(&name),
            message: "the manifest cannot be put there; the file itself is whole".to_owned(),
            hint: Some("check the disk; the next backup tries again".to_owned()),
            source: Some(error.into()),
        })
    }

    /// Reads the file back, and holds it against what passed.
    fn read_back(&self, partial: &Partial, passed: Option<[u8; 32]>) -> Result<ReadBack, OperationError> {
        let failed = |message: String, source: Option<io::Error>| OperationError::Local {
            object: self.options.folder.location(),
            message,
            hint: Some("check the disk: what was written there does not come back".to_owned()),
            source: source.map(Into::into),
        };
        let read = partial
            .read_back()
            .and_then(|file| dump_files::read_back(file, &self.services.context))
            .map_err(|error| failed("what was written cannot be read back".to_owned(), Some(error)));
        self.services.context.cancel.check().map_err(|_| OperationError::Cancelled)?;
        let read = read?;
        // Who encrypts for others cannot look inside: then the file is what was written, byte for byte.
        let same = match partial.sealed {
            Some(sealed) => read.content == sealed,
            None => {
                (partial.is_rewritten || passed == Some(read.content))
                    && read.content_bytes == partial.size_bytes
            }
        };
        if !same || read.file.size_bytes != partial.written_bytes {
            return Err(failed("what was read back is not what was written".to_owned(), None));
        }
        Ok(read)
    }

    /// Names the file: where a name is taken, with the next number. Its manifest is durable before, without a name of its
    /// own, and comes back with it.
    fn name(
        &self,
        partial: &mut Partial,
        names: &FileName<'_>,
        mut manifest: FileManifest,
    ) -> Result<(String, Box<dyn NewFile>), OperationError> {
        const TRIED: u32 = 10_000;
        let folder = &*self.options.folder;
        for number in 1..TRIED {
            let name = names.text(number);
            if folder.look(name.as_ref()).is_ok() {
                continue;
            }
            manifest.file.clone_from(&name);
            let described = self.describe(&manifest)?;
            if partial.try_name(folder, name.as_ref())? {
                return Ok((name, described));
            }
        }
        let folder = folder.location();
        Err(OperationError::usage(format!("{folder}: all names of that moment are taken"), None))
    }

    /// Returns the manifest of a file that has no name yet.
    fn manifest(
        &self,
        database: &DatabaseRef,
        (facts, read, verified): (Facts, ReadBack, Timestamp),
    ) -> FileManifest {
        let target = &self.wanted.target;
        FileManifest {
            schema: FILE_SCHEMA.to_owned(),
            file: String::new(),
            sha256: read.file.sha256,
            file_bytes: read.file.size_bytes,
            target: target.target.name.clone(),
            database: database.name.clone(),
            plan: target.plan.clone(),
            host: self.services.host.as_str().into(),
            connection: database.connection.clone(),
            engine: target.target.engine,
            form: self.form,
            compression: self.packing.compression,
            encryption: self.packing.lock.map_or(Encryption::None, |_| Encryption::Age),
            time: facts.consistency.time,
            verified,
            size_bytes: read.content_bytes,
            rows: facts.rows(),
            selection: target.selection.clone(),
            tags: target.tags.clone(),
            facts,
        }
    }

    /// Writes a manifest, durably and without a name.
    fn describe(&self, manifest: &FileManifest) -> Result<Box<dyn NewFile>, OperationError> {
        let folder = &*self.options.folder;
        let name = FileManifest::name_of(manifest.file.as_ref());
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| OperationError::Local {
            object: folder.location_of(&name),
            message: "the manifest cannot be written, so the file gets no name".to_owned(),
            hint: Some("check the disk and its space".to_owned()),
            source: Some(source),
        };
        let text = serde_json::to_vec_pretty(manifest).map_err(|error| failed(error.into()))?;
        let partial = Partial::write(folder, &name, (Compression::None, None), &mut |sink| {
            sink.write_all(&text).map_err(|error| failed(error.into()))?;
            Ok(Wrote { size_bytes: text.len() as u64, front: None })
        });
        partial.map(Partial::into_file).map_err(|error| failed(error.into()))
    }
}

/// Hashes what passes.
struct Hashing<'a> {
    sink: &'a mut (dyn Write + Send),
    hasher: Sha256,
}

impl Write for Hashing<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.sink.write(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
