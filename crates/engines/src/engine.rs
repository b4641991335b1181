//! The seam between operations and a database system.

use crate::restore::{Restore, RestoreError, RestoreRequest, RestoreState};
use flow::{
    BackupReader, Context, DatabaseName, DatabaseRef, DatabaseRequest, Dump, DumpOptions, DumpRequest,
    EngineKind, Facts, Finding, Manifest, Previous, Selection, SourceError, SourceErrorKind, TargetRef,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The databases of a target, and what was passed over while looking for them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Enumeration {
    /// The databases, in the order of their names.
    pub databases: Vec<DatabaseRef>,
    /// What lies beside them and is none: safety copies, restore records, other files.
    pub skipped: Vec<Skipped>,
}

/// Something that was passed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// What it is: a path.
    pub object: String,
    /// Why it was passed over.
    pub reason: String,
}

/// What a look at a database says, without reading its content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatabaseInfo {
    /// The version of the server or library.
    pub engine_version: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// What would stop or spoil a backup, each with its fix; notices too.
    pub findings: Vec<Finding>,
}

/// How deep [`Engine::facts`] looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FactsDepth {
    /// Schema and properties.
    Schema,
    /// Rows of each table too.
    Counts,
    /// A digest of all rows of each table too.
    Digests,
}

/// What is to be done about a role for backups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoleAction {
    /// Tell the statements that make it.
    Print,
    /// Run them, all or none.
    Apply,
    /// Ask whether it can read everything.
    Check,
}

/// A question about a role for backups, or the wish for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleRequest {
    /// The database that it is to read, with the role by which we connect.
    pub database: DatabaseRef,
    /// The role; without it the one that the connection names, or one of the engine's choice where that may do anything.
    pub role: Option<String>,
    /// Grants object by object where the system has a right that covers all of them, in other databases too.
    pub object_by_object: bool,
    /// What to do.
    pub action: RoleAction,
}

/// A role for backups.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoleReport {
    /// Its name.
    pub role: String,
    /// Whether it was there before.
    pub exists: bool,
    /// The statements that make it what it is to be, in their order; run again they change nothing. They hold no
    /// password. Empty where it was only checked.
    pub statements: Vec<String>,
    /// Whether they were run.
    pub applied: bool,
    /// What it gains beyond reading this database, and what is left to a person; after a check or an application, what it
    /// cannot read.
    pub findings: Vec<Finding>,
}

/// A read-only question to a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    /// One statement that changes nothing.
    pub sql: String,
    /// How many rows to return at most.
    pub rows_max: usize,
}

/// The answer to a [`Query`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The rows; a blob is given as hexadecimal text with `x'…'` around it.
    pub rows: Vec<Vec<serde_json::Value>>,
    /// Whether there were more rows than asked for.
    pub truncated: bool,
}

/// The form of a backup as one plain file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExportForm {
    /// The database file itself, byte for byte (`.db`).
    Image,
    /// SQL text (`.sql`).
    Sql,
    /// A custom-format archive (`.dump`).
    Custom,
    /// A tar archive (`.tar`).
    Tar,
}

/// What an export came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportSummary {
    /// Bytes written, before any compression around it.
    pub size_bytes: u64,
}

/// A database that was written as one plain file.
#[derive(Debug, Clone, PartialEq)]
pub struct FileDump {
    /// The facts of its content.
    pub facts: Facts,
    /// Bytes written, before any compression around them.
    pub size_bytes: u64,
    /// What the first bytes would be, had everything been known at the beginning; to be written over them where the
    /// output can go back. As they are, they are right too.
    pub front: Option<Vec<u8>>,
}

/// A dump that some tool made, to be loaded into scratch.
pub struct LoadRequest<'a> {
    /// What messages call it: the path of its file.
    pub object: &'a str,
    /// What [`Engine::recognise`] took it for.
    pub form: ExportForm,
    /// Its bytes, unpacked, from the first one on. Read to their end, or to the first error.
    pub dump: &'a mut dyn Read,
    /// Its file, where that is the dump byte for byte: then what lies beside it may belong to it.
    pub file: Option<&'a Path>,
    /// An empty folder for this call alone. Whatever is made is made there.
    pub folder: &'a Path,
    /// Gives its bytes again, for as long as what is made of it is used; `None` where they come only once.
    pub again: Option<Again>,
}

/// Gives the bytes of a dump once more, unpacked, from the first one on.
pub type Again = Arc<dyn Fn() -> io::Result<Box<dyn Read + Send>> + Send + Sync>;

/// A dump that some tool made, to be read to its end.
pub struct ExamineRequest<'a> {
    /// What messages call it: the path of its file.
    pub object: &'a str,
    /// What [`Engine::recognise`] took it for.
    pub form: ExportForm,
    /// Its bytes, unpacked, from the first one on. Read as far as the form needs: what is left is for the caller.
    pub dump: &'a mut dyn Read,
    /// Its file, where that is the dump byte for byte: then what lies beside it may belong to it.
    pub file: Option<&'a Path>,
    /// Leaves out what only a second look at everything would find.
    pub quick: bool,
    /// Makes an empty folder for this call alone, where one is needed.
    pub folder: &'a mut dyn FnMut() -> Result<PathBuf, SourceError>,
}

/// What a dump that is whole holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Examined {
    /// How it was found out, and what it holds, as one sentence: `integrity check passed, 12 tables`.
    pub detail: String,
    /// How many tables it makes; `None` where that is not known.
    pub tables: Option<u64>,
    /// How many rows it holds; `None` where that is not known.
    pub rows: Option<u64>,
    /// Whether it holds nothing at all: no table, no row, no definition.
    pub is_empty: bool,
    /// What may be wrong with it although it is whole, each as a sentence about it.
    pub doubts: Vec<String>,
}

/// A database in scratch that a dump was loaded into, for questions. Its files are its maker's to remove, once this is dropped.
pub struct Loaded {
    /// How it was loaded, and what it holds, as one sentence.
    pub detail: String,
    /// The database.
    pub database: DatabaseRef,
    /// How many tables it has; `None` where that is not known.
    pub tables: Option<u64>,
    /// How many rows it holds; `None` where that is not known.
    pub rows: Option<u64>,
    /// The surroundings in which it is asked.
    pub context: Context,
    /// What serves it, ended when this is dropped.
    pub served_by: Option<Box<dyn Send>>,
}

/// A dump that some tool made, as a dump of ours.
pub struct Converted {
    /// Gives what [`Engine::begin_dump`] would give of the database that it holds.
    pub dump: Box<dyn Dump>,
    /// What of that database it holds; `None` for all of it, as far as it tells.
    pub selection: Option<Selection>,
    /// What serves the database, ended when this is dropped: not before the dump is.
    pub served_by: Option<Box<dyn Send>>,
}

/// What a restore kept of the database that it replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SafetyCopy {
    /// The database that was replaced.
    pub database: DatabaseRef,
    /// Where it is: a path, or whatever names it.
    pub path: String,
    /// When the restore began.
    pub time: Timestamp,
    /// How much space it takes.
    pub size_bytes: u64,
    /// Whether place and name tell that it is of that database and of no other. Else another one of the same name, or a
    /// person, may have left it.
    pub beside: bool,
    /// Whether something of a restore lies beside that database, finished or not, readable or not.
    pub restoring: bool,
}

/// One database system. Calls take the [`Context`] for progress, cancellation and secrets; none of them prints,
/// reads the environment or keeps state between calls.
pub trait Engine: Send + Sync {
    /// Returns which system it is.
    fn kind(&self) -> EngineKind;

    /// Finds the databases of a target: a glob, a folder, a pattern, SQL. Only the engine can. Fails when there is
    /// none, or when one that is named is none.
    fn databases(&self, target: &TargetRef, context: &Context) -> Result<Enumeration, SourceError>;

    /// Finds the databases of a target whose previous backups are known, as [`Engine::databases`] does: of one that
    /// shows itself as its backup left it, nothing is read.
    fn databases_since(
        &self,
        target: &TargetRef,
        _previous: &BTreeMap<DatabaseName, Previous>,
        context: &Context,
    ) -> Result<Enumeration, SourceError> {
        self.databases(target, context)
    }

    /// Finds one database of a target by its name, and looks into no other; `None` where there is no such one.
    fn database(
        &self,
        target: &TargetRef,
        name: &DatabaseName,
        context: &Context,
    ) -> Result<Option<DatabaseRef>, SourceError> {
        Ok(self.databases(target, context)?.databases.into_iter().find(|database| database.name == *name))
    }

    /// Looks at a database: versions, size, rights, what is missing. With `integrity`, asks the database system to
    /// check the whole content. What a backup would stumble over is a finding, not an error; an error means that it
    /// cannot even be looked at.
    fn probe(
        &self,
        database: &DatabaseRef,
        integrity: bool,
        context: &Context,
    ) -> Result<DatabaseInfo, SourceError>;

    /// Returns how large a database is, without any other look at it.
    fn size_bytes(&self, database: &DatabaseRef, context: &Context) -> Result<u64, SourceError> {
        Ok(self.probe(database, false, context)?.size_bytes)
    }

    /// Tells, makes or checks a role that may read everything that a backup needs, and no more. Where the system knows no
    /// roles there is nothing to be done.
    fn role(&self, request: &RoleRequest, _context: &Context) -> Result<RoleReport, SourceError> {
        let message = "this database system knows no roles: who may read the file may back it up";
        Err(SourceError::new(SourceErrorKind::Invalid, request.database.connection.as_str(), message)
            .with_hint("the rights of the file and its folder say who that is"))
    }

    /// Returns the facts of a live or scratch database, from one consistent view of it.
    fn facts(
        &self,
        database: &DatabaseRef,
        depth: FactsDepth,
        context: &Context,
    ) -> Result<Facts, SourceError>;

    /// Asks a question. A statement that would change something is refused.
    fn query(&self, database: &DatabaseRef, query: &Query, context: &Context) -> Result<Answer, SourceError>;

    /// Begins a dump of one or many databases. A database that cannot even be opened is the dump's
    /// [`flow::Step::Done`] with its error, not an error of this call.
    fn begin_dump(&self, request: &DumpRequest, context: Context) -> Result<Box<dyn Dump>, SourceError>;

    /// Plans a restore. Changes nothing: what is durable begins with the first step that is run. Fails where another
    /// restore of the target runs, or waits to be finished ([`flow::SourceErrorKind::InUse`]).
    fn begin_restore(
        &self,
        request: &RestoreRequest,
        manifest: &Manifest,
        context: Context,
    ) -> Result<Box<dyn Restore>, RestoreError>;

    /// Returns the restores that lie unfinished beside a database, running ones too (`owner_alive`).
    fn pending_restores(
        &self,
        database: &DatabaseRef,
        context: &Context,
    ) -> Result<Vec<RestoreState>, SourceError>;

    /// Returns those of the databases of a target, named by their true places, beside which something of a restore
    /// lies. Of thousands it is cheaper to ask than to look beside each; one too many does no harm.
    fn with_restores<'a>(&self, databases: &'a [DatabaseRef]) -> Vec<&'a DatabaseRef> {
        databases.iter().collect()
    }

    /// Returns the safety copies that finished and unfinished restores kept of the databases of a target: beside them, and
    /// in `folders`. Whether one may go is for the caller to find out. An engine that lists none keeps them all.
    fn safety_copies(
        &self,
        _target: &TargetRef,
        _folders: &[PathBuf],
        _context: &Context,
    ) -> Result<Vec<SafetyCopy>, SourceError> {
        Ok(Vec::new())
    }

    /// Tells whether a file of that name is a safety copy, or belongs to one.
    fn is_safety_copy(&self, _name: &str) -> bool {
        false
    }

    /// Removes a safety copy that [`Engine::safety_copies`] listed. Fails where it is not the same any more, or somebody
    /// uses it ([`SourceErrorKind::InUse`]).
    fn remove_safety_copy(&self, copy: &SafetyCopy, _context: &Context) -> Result<(), SourceError> {
        let message = "this version removes no safety copies of this system";
        Err(SourceError::new(SourceErrorKind::Unsupported, copy.path.clone(), message))
    }

    /// Takes up an unfinished restore, to run its remaining steps or to roll it back. Fails while its owner lives.
    fn resume_restore(&self, state: RestoreState, context: Context)
    -> Result<Box<dyn Restore>, RestoreError>;

    /// Writes a backup as one plain file. Streams: never holds it in memory; scratch is used where the form needs a
    /// database that is open.
    fn export(
        &self,
        backup: &dyn BackupReader,
        form: ExportForm,
        out: &mut (dyn Write + Send),
        context: &Context,
    ) -> Result<ExportSummary, RestoreError>;

    /// Returns the forms that a database of this system can have as one plain file; the first is that of a stream of which
    /// nothing else is said.
    fn forms(&self) -> &'static [ExportForm] {
        &[ExportForm::Image, ExportForm::Sql]
    }

    /// Writes the one database of a request as one plain file: consistent as a dump is, with the source's verdict before
    /// this returns. What was written before an error is worth nothing. Streams as far as the form and the system allow;
    /// what else is needed lies in scratch.
    fn dump_file(
        &self,
        request: &DumpRequest,
        _form: ExportForm,
        _out: &mut (dyn Write + Send),
        _context: &Context,
    ) -> Result<FileDump, SourceError> {
        let message = "this version writes no plain files of this system";
        Err(SourceError::new(SourceErrorKind::Unsupported, request.target.connection.clone(), message))
    }

    /// Tells by the first bytes of a file (4 KiB or more, or all of it), unpacked, which form of dump of this system it
    /// is, or why it is none, as the end of a sentence that begins with its name; no reason where this version reads no
    /// dump files of this system. Never goes by a name.
    fn recognise(&self, _head: &[u8]) -> Result<ExportForm, Option<String>> {
        Err(None)
    }

    /// Makes a scratch database of a dump that some tool made, for [`Engine::begin_dump`], and returns where it is. Fails
    /// where the dump is not whole and sound. What the dump says has no effect outside of the request's folder.
    fn load(&self, request: LoadRequest<'_>, _context: &Context) -> Result<PathBuf, SourceError> {
        let message = "this version reads no dump files of this system";
        Err(SourceError::new(SourceErrorKind::Unsupported, request.object, message))
    }

    /// Gives a dump that some tool made as a dump of ours, of `database`: what is stored of it is a backup like others. Fails
    /// where it is not whole and sound; what shows later only fails the dump that is returned. What is needed on the way lies
    /// in the request's folder, or in its file where that is the dump byte for byte: both must stay until that dump is over.
    /// Where it cannot be done here, which says nothing of the dump, the kind is [`SourceErrorKind::Unsupported`].
    fn convert(
        &self,
        request: LoadRequest<'_>,
        database: &DatabaseRef,
        context: &Context,
    ) -> Result<Converted, SourceError> {
        let connection = self.load(request, context)?.display().to_string();
        let target = TargetRef {
            name: database.target.clone(),
            engine: self.kind(),
            connection: connection.clone(),
            secret: None,
            tenants: None,
        };
        let database = DatabaseRef { connection, ..database.clone() };
        let request = DumpRequest {
            target,
            databases: vec![DatabaseRequest { database, previous: None }],
            options: DumpOptions { jobs: 1, ..DumpOptions::default() },
        };
        let dump = self.begin_dump(&request, context.clone())?;
        Ok(Converted { dump, selection: None, served_by: None })
    }

    /// Like [`Engine::convert`], for a dump that is a folder. `None` where it is none of this system.
    fn convert_folder(
        &self,
        _dump: &Path,
        _database: &DatabaseRef,
        _context: &Context,
    ) -> Option<Result<Converted, SourceError>> {
        None
    }

    /// Reads a dump that some tool made to its end, and tells whether it is whole and what it holds. Fails where it is
    /// not ([`SourceErrorKind::Damaged`]). What the dump says has no effect.
    fn examine(&self, request: ExamineRequest<'_>, _context: &Context) -> Result<Examined, SourceError> {
        let message = "this version reads no dump files of this system";
        Err(SourceError::new(SourceErrorKind::Unsupported, request.object, message))
    }

    /// Like [`Engine::examine`], for a dump that is a folder. `None` where it is none of this system.
    fn examine_folder(&self, _folder: &Path, _context: &Context) -> Option<Result<Examined, SourceError>> {
        None
    }

    /// Returns the folder in which [`Engine::try_out`] can make what it makes, where nobody named one. It may have to be made.
    fn trial_place(&self, context: &Context) -> Result<PathBuf, SourceError> {
        Ok(context.scratch.path().to_owned())
    }

    /// Loads a dump that some tool made into a database in scratch, as a restore would, for [`Engine::query`]. Fails where the
    /// dump is not whole and sound; where it cannot be tried here, which says nothing of the dump, the kind is
    /// [`SourceErrorKind::Unsupported`]. What the dump says has no effect outside of the request's folder, as far as the
    /// database system keeps it there.
    fn try_out(&self, request: LoadRequest<'_>, _context: &Context) -> Result<Loaded, SourceError> {
        let message = "cannot be loaded: this version loads no dump files of this system";
        Err(SourceError::new(SourceErrorKind::Unsupported, request.object, message)
            .with_hint("leave `--deep` out"))
    }

    /// Like [`Engine::try_out`], for a dump that is a folder; `folder` is where the database is made. `None` where it is none
    /// of this system.
    fn try_out_folder(
        &self,
        _dump: &Path,
        _folder: &Path,
        _context: &Context,
    ) -> Option<Result<Loaded, SourceError>> {
        None
    }

    /// Reads a dump that some tool made to its end, and gives it as a backup that [`Engine::begin_restore`] can plan with:
    /// taken of `database`, as far as the manifest speaks of that. What is needed again lies in the request's folder, or in
    /// its file where that is the dump byte for byte: both must stay as long as the backup is used. Fails where the dump is
    /// not whole and sound.
    fn open_dump(
        &self,
        request: LoadRequest<'_>,
        _database: &DatabaseRef,
        _context: &Context,
    ) -> Result<Arc<dyn BackupReader>, SourceError> {
        let message = "this version restores no dump files of this system";
        Err(SourceError::new(SourceErrorKind::Unsupported, request.object, message))
    }

    /// Like [`Engine::open_dump`], for a dump that is a folder. `None` where it is none of this system.
    fn open_dump_folder(
        &self,
        _folder: &Path,
        _database: &DatabaseRef,
        _context: &Context,
    ) -> Option<Result<Arc<dyn BackupReader>, SourceError>> {
        None
    }
}
