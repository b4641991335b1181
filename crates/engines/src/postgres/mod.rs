//! PostgreSQL: one snapshot, rows by our own parallel `COPY`, everything else by `pg_dump`; together a standard archive
//! in a folder, which stock `pg_restore` loads.
//!
//! Nothing of the source is ever changed. A crash leaves nothing at the server: its transactions end with their
//! connections.

pub mod archive;
mod catalog;
pub mod connection;
mod contents;
mod convert;
mod digest;
mod discover;
mod dump;
mod encoding;
mod examine;
mod failure;
mod foreign;
mod given;
mod live;
mod many;
mod needs;
mod plain;
mod pooler;
mod probe;
mod restore;
mod rights;
mod role;
mod script;
mod session;
mod snapshot;
mod statements;
mod targets;
mod throwaway;
mod tools;
mod trial;

use crate::restore::{Restore, RestoreError, RestoreRequest, RestoreState};
use crate::{
    Answer, Converted, DatabaseInfo, Engine, Enumeration, ExamineRequest, Examined, ExportForm,
    ExportSummary, FactsDepth, FileDump, LoadRequest, Loaded, Query, SafetyCopy,
};
use crate::{RoleReport, RoleRequest};
pub use discover::{DiscoverLimits, FoundCluster, InstalledServer, discover, installed_server};
use flow::{
    BackupReader, Context, DatabaseRef, Dump, DumpRequest, EngineKind, Facts, Manifest, SourceError,
    TargetRef,
};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
pub use throwaway::ThrowawayServer;

/// The engine for PostgreSQL servers. Holds no state: calls may come from any thread.
#[derive(Debug, Clone, Copy, Default)]
pub struct PostgresEngine;

impl Engine for PostgresEngine {
    fn kind(&self) -> EngineKind {
        EngineKind::Postgres
    }

    fn databases(&self, target: &TargetRef, context: &Context) -> Result<Enumeration, SourceError> {
        many::of_target(target, context)
    }

    fn probe(
        &self,
        database: &DatabaseRef,
        integrity: bool,
        context: &Context,
    ) -> Result<DatabaseInfo, SourceError> {
        probe::probe(database, integrity, context)
    }

    fn size_bytes(&self, database: &DatabaseRef, context: &Context) -> Result<u64, SourceError> {
        probe::size_bytes(database, context)
    }

    fn role(&self, request: &RoleRequest, context: &Context) -> Result<RoleReport, SourceError> {
        role::run(request, context)
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
        restore::begin(request, manifest, context)
    }

    fn pending_restores(
        &self,
        database: &DatabaseRef,
        context: &Context,
    ) -> Result<Vec<RestoreState>, SourceError> {
        restore::pending(database, context)
    }

    /// They are beside the database, on its server, and nowhere else.
    fn safety_copies(
        &self,
        target: &TargetRef,
        _folders: &[PathBuf],
        context: &Context,
    ) -> Result<Vec<SafetyCopy>, SourceError> {
        restore::safety::find(target, context)
    }

    fn remove_safety_copy(&self, copy: &SafetyCopy, context: &Context) -> Result<(), SourceError> {
        restore::safety::remove(copy, context)
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
        plain::export(backup, form, out, context)
    }

    fn forms(&self) -> &'static [ExportForm] {
        plain::FORMS
    }

    fn dump_file(
        &self,
        request: &DumpRequest,
        form: ExportForm,
        out: &mut (dyn Write + Send),
        context: &Context,
    ) -> Result<FileDump, SourceError> {
        dump::dump_file(request, form, out, context)
    }

    fn recognise(&self, head: &[u8]) -> Result<ExportForm, Option<String>> {
        examine::recognise(head)
    }

    fn examine(&self, request: ExamineRequest<'_>, context: &Context) -> Result<Examined, SourceError> {
        examine::examine(request, context)
    }

    fn examine_folder(&self, folder: &Path, context: &Context) -> Option<Result<Examined, SourceError>> {
        examine::examine_folder(folder, context)
    }

    fn trial_place(&self, context: &Context) -> Result<PathBuf, SourceError> {
        trial::place(context)
    }

    fn try_out(&self, request: LoadRequest<'_>, context: &Context) -> Result<Loaded, SourceError> {
        trial::load(request, context)
    }

    fn try_out_folder(
        &self,
        dump: &Path,
        folder: &Path,
        context: &Context,
    ) -> Option<Result<Loaded, SourceError>> {
        trial::load_folder(dump, folder, context)
    }

    fn convert(
        &self,
        request: LoadRequest<'_>,
        database: &DatabaseRef,
        context: &Context,
    ) -> Result<Converted, SourceError> {
        convert::convert(request, database, context)
    }

    fn convert_folder(
        &self,
        dump: &Path,
        database: &DatabaseRef,
        context: &Context,
    ) -> Option<Result<Converted, SourceError>> {
        foreign::convert_folder(dump, database, context)
    }

    fn open_dump(
        &self,
        request: LoadRequest<'_>,
        database: &DatabaseRef,
        context: &Context,
    ) -> Result<Arc<dyn BackupReader>, SourceError> {
        foreign::open(request, database, context)
    }

    fn open_dump_folder(
        &self,
        folder: &Path,
        database: &DatabaseRef,
        context: &Context,
    ) -> Option<Result<Arc<dyn BackupReader>, SourceError>> {
        foreign::open_folder(folder, database, context)
    }
}
