//! SQLite: a consistent image of all pages, taken beside whoever uses the database, and restored by rename.
//!
//! Nothing of the source is ever changed: pages are read through a connection of SQLite's own, which alone knows its
//! locks. A crash leaves nothing behind but, at worst, a staged copy in the scratch folder.

mod cut;
mod discover;
mod dump;
mod examine;
mod export;
mod failure;
mod file;
mod header;
mod holders;
mod image;
mod inspect;
mod live;
mod load;
mod load_rights;
mod load_text;
mod loaded;
mod marks;
mod open;
mod pages;
mod read_text;
mod record;
mod restore;
mod rows;
mod safety_names;
mod schema;
mod sql_text;
mod stage;
mod statements;
mod targets;
mod trial;
mod uri;
mod walk;

pub use cut::{IMAGE_ENTRY, cut_bytes, part_bytes};
pub use discover::{DiscoverLimits, discover};

use crate::restore::{Restore, RestoreError, RestoreRequest, RestoreState};
use crate::{
    Answer, DatabaseInfo, Engine, Enumeration, ExamineRequest, Examined, ExportForm, ExportSummary,
    FactsDepth, FileDump, LoadRequest, Loaded, Query, SafetyCopy,
};
use flow::{
    BackupReader, Context, DatabaseName, DatabaseRef, Dump, DumpRequest, EngineKind, Facts, Manifest,
    Previous, SafetySuffix, SourceError, TargetRef,
};
use safety_names::SafetyNames;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

/// The engine for SQLite 3 database files. Holds no state: calls may come from any thread.
#[derive(Debug, Clone, Default)]
pub struct SqliteEngine {
    safety: SafetyNames,
}

impl SqliteEngine {
    /// Takes how safety copies are called. Those of the usual suffix are known whatever it is.
    pub fn new(suffix: SafetySuffix) -> Self {
        Self { safety: SafetyNames::new(suffix) }
    }
}

impl Engine for SqliteEngine {
    fn kind(&self) -> EngineKind {
        EngineKind::Sqlite
    }

    fn databases(&self, target: &TargetRef, context: &Context) -> Result<Enumeration, SourceError> {
        targets::databases(target, &targets::Look::Each, &self.safety, context)
    }

    fn databases_since(
        &self,
        target: &TargetRef,
        previous: &BTreeMap<DatabaseName, Previous>,
        context: &Context,
    ) -> Result<Enumeration, SourceError> {
        targets::databases(target, &targets::Look::Changed(previous), &self.safety, context)
    }

    fn database(
        &self,
        target: &TargetRef,
        name: &DatabaseName,
        context: &Context,
    ) -> Result<Option<DatabaseRef>, SourceError> {
        let found = targets::databases(target, &targets::Look::One(name), &self.safety, context)?;
        Ok(found.databases.into_iter().find(|database| database.name == *name))
    }

    fn probe(
        &self,
        database: &DatabaseRef,
        integrity: bool,
        context: &Context,
    ) -> Result<DatabaseInfo, SourceError> {
        inspect::probe(database, integrity, context)
    }

    fn facts(
        &self,
        database: &DatabaseRef,
        depth: FactsDepth,
        context: &Context,
    ) -> Result<Facts, SourceError> {
        live::facts(database, depth, context)
    }

    fn query(&self, database: &DatabaseRef, query: &Query, context: &Context) -> Result<Answer, SourceError> {
        live::query(database, query, context)
    }

    fn begin_dump(&self, request: &DumpRequest, context: Context) -> Result<Box<dyn Dump>, SourceError> {
        dump::begin(request, context)
    }

    fn begin_restore(
        &self,
        request: &RestoreRequest,
        manifest: &Manifest,
        context: Context,
    ) -> Result<Box<dyn Restore>, RestoreError> {
        restore::begin(request, manifest, self.safety.suffix(), context)
    }

    fn pending_restores(
        &self,
        database: &DatabaseRef,
        context: &Context,
    ) -> Result<Vec<RestoreState>, SourceError> {
        restore::pending(database, context)
    }

    fn with_restores<'a>(&self, databases: &'a [DatabaseRef]) -> Vec<&'a DatabaseRef> {
        restore::beside_which(databases)
    }

    fn safety_copies(
        &self,
        target: &TargetRef,
        folders: &[PathBuf],
        context: &Context,
    ) -> Result<Vec<SafetyCopy>, SourceError> {
        restore::safety::find(target, folders, &self.safety, context)
    }

    fn remove_safety_copy(&self, copy: &SafetyCopy, _context: &Context) -> Result<(), SourceError> {
        restore::safety::remove(copy, &self.safety)
    }

    fn is_safety_copy(&self, name: &str) -> bool {
        self.safety.is_one(name)
    }

    fn resume_restore(
        &self,
        state: RestoreState,
        context: Context,
    ) -> Result<Box<dyn Restore>, RestoreError> {
        restore::resume(state, context)
    }

    fn export(
        &self,
        backup: &dyn BackupReader,
        form: ExportForm,
        out: &mut (dyn Write + Send),
        context: &Context,
    ) -> Result<ExportSummary, RestoreError> {
        export::export(backup, form, out, context)
    }

    fn dump_file(
        &self,
        request: &DumpRequest,
        form: ExportForm,
        out: &mut (dyn Write + Send),
        context: &Context,
    ) -> Result<FileDump, SourceError> {
        file::dump_file(request, form, out, context)
    }

    fn recognise(&self, head: &[u8]) -> Result<ExportForm, Option<String>> {
        load::recognise(head).map_err(Some)
    }

    fn load(&self, request: LoadRequest<'_>, context: &Context) -> Result<PathBuf, SourceError> {
        load::load(request, context)
    }

    fn examine(&self, request: ExamineRequest<'_>, context: &Context) -> Result<Examined, SourceError> {
        examine::examine(request, context)
    }

    fn try_out(&self, request: LoadRequest<'_>, context: &Context) -> Result<Loaded, SourceError> {
        trial::load(request, context)
    }

    fn open_dump(
        &self,
        request: LoadRequest<'_>,
        database: &DatabaseRef,
        context: &Context,
    ) -> Result<Arc<dyn BackupReader>, SourceError> {
        loaded::open(request, database, context)
    }
}
