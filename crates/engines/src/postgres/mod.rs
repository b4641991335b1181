//! PostgreSQL: one snapshot, rows by our own parallel `COPY`, everything else by `pg_dump`; together a standard archive
//! in a folder, which stock `pg_restore` loads.
//!
//! Nothing of the source is ever changed. A crash leaves nothing at the server: its transactions end with their
//! connections.

pub mod archive;
mod catalog;
pub mod connection;
mod contents;
mod digest;
mod discover;
mod dump;
mod failure;
mod live;
mod needs;
mod pooler;
mod probe;
mod restore;
mod rights;
mod role;
mod session;
mod snapshot;
mod statements;
mod targets;
mod tools;

use crate::restore::{Restore, RestoreError, RestoreRequest, RestoreState};
use crate::{Answer, DatabaseInfo, Engine, Enumeration, ExportForm, ExportSummary, FactsDepth, Query};
use crate::{RoleReport, RoleRequest};
pub use discover::{DiscoverLimits, FoundCluster, InstalledServer, discover, installed_server};
use flow::{
    BackupReader, Context, DatabaseRef, Dump, DumpRequest, EngineKind, Facts, Manifest, SourceError,
    SourceErrorKind, TargetRef,
};
use std::io::Write;

/// The engine for PostgreSQL servers. Holds no state: calls may come from any thread.
#[derive(Debug, Clone, Copy, Default)]
pub struct PostgresEngine;

impl Engine for PostgresEngine {
    fn kind(&self) -> EngineKind {
        EngineKind::Postgres
    }

    fn databases(&self, target: &TargetRef, context: &Context) -> Result<Enumeration, SourceError> {
        targets::databases(target, context)
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
        _form: ExportForm,
        _out: &mut (dyn Write + Send),
        _context: &Context,
    ) -> Result<ExportSummary, RestoreError> {
        let origin = backup.manifest().connection.as_str();
        Err(by_stock_programs(origin, "export a PostgreSQL backup as one file").into())
    }
}

/// What this version does not do by itself, stock programs do with what is stored.
fn by_stock_programs(object: &str, what: &str) -> SourceError {
    SourceError::new(SourceErrorKind::Unsupported, object, format!("this version does not {what} by itself"))
        .with_hint(
            "`restic restore SNAPSHOT --target FOLDER` writes a directory archive; `createdb NEW` and \
             `pg_restore -j 4 --exit-on-error -d NEW FOLDER/TARGET/DATABASE` load it",
        )
}
