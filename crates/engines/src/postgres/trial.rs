//! A dump loaded into a throwaway server, as a restore loads it: every row that comes is counted against the dump.
//!
//! Roles and tablespaces that the dump names are made there first, so that owners and rights are tried too. All of it lies in
//! the folder that was given; the server ends with what is returned, and where the program is killed.

use super::connection::with_database;
use super::needs::Needs;
use super::throwaway::{self, ThrowawayServer};
use super::{InstalledServer, PostgresEngine, installed_server, restore};
use crate::counting::counted;
use crate::engine::{Engine, LoadRequest, Loaded};
use crate::restore::{Ownership, RestoreError, RestoreMode, RestoreRequest, Safety};
use flow::{
    BackupReader, Context, DatabaseName, DatabaseRef, Environment, Manifest, ScratchDir, Silent, SourceError,
    SourceErrorKind, TargetName,
};
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const DATABASE: &str = "dump";
/// A server cuts longer names off.
const NAME_BYTES_MAX: usize = 64;
const WITHOUT_DEEP: &str = "leave `--deep` out";

/// A dump that was loaded.
pub(super) struct Made {
    pub(super) server: ThrowawayServer,
    pub(super) database: DatabaseRef,
    /// The dump, as a backup.
    pub(super) backup: Arc<dyn BackupReader>,
    /// The surroundings in which the server's programs are used.
    pub(super) context: Context,
    version: String,
}

/// How a dump is loaded.
struct Wish<'a> {
    object: &'a str,
    /// The folder in which all of it is made.
    folder: &'a Path,
    /// The name of the database.
    name: &'a str,
    /// What to do where it cannot be loaded here.
    otherwise: &'a str,
}

/// Gives a dump as a backup: of that database, unpacked into that folder where it has to be.
type Open<'a> =
    &'a mut dyn FnMut(&DatabaseRef, &Path, &Context) -> Result<Arc<dyn BackupReader>, SourceError>;

/// Returns where a throwaway server can be made.
pub(super) fn place(context: &Context) -> Result<PathBuf, SourceError> {
    throwaway::place(context.scratch.path(), context.environment.get("TMPDIR"))
}

/// Loads a dump that is one file.
pub(super) fn load(request: LoadRequest<'_>, context: &Context) -> Result<Loaded, SourceError> {
    Ok(make(request, DATABASE, WITHOUT_DEEP, context)?.into_loaded())
}

/// Loads a dump that is one file into a database of that name. Where that cannot be done here, `otherwise` says what can.
pub(super) fn make(
    request: LoadRequest<'_>,
    name: &str,
    otherwise: &str,
    context: &Context,
) -> Result<Made, SourceError> {
    let LoadRequest { object, form, dump, file, folder, again } = request;
    // The server has some of its own.
    let is_free = name.len() < NAME_BYTES_MAX && !["postgres", "template0", "template1"].contains(&name);
    let name = if is_free { name } else { DATABASE };
    run(&Wish { object, folder, name, otherwise }, context, &mut |database, folder, context| {
        let request = LoadRequest { object, form, dump: &mut *dump, file, folder, again: again.clone() };
        PostgresEngine.open_dump(request, database, context)
    })
}

/// Loads a dump that is a folder; `None` where it is none.
pub(super) fn load_folder(
    dump: &Path,
    folder: &Path,
    context: &Context,
) -> Option<Result<Loaded, SourceError>> {
    if !dump.join("toc.dat").is_file() {
        return None;
    }
    let object = dump.display().to_string();
    let wish = Wish { object: &object, folder, name: DATABASE, otherwise: WITHOUT_DEEP };
    let made = run(&wish, context, &mut |database, _, context| {
        PostgresEngine.open_dump_folder(dump, database, context).unwrap_or_else(|| {
            let message = "is a folder, and no dump of PostgreSQL";
            Err(SourceError::new(SourceErrorKind::NotADatabase, object.as_str(), message))
        })
    });
    Some(made.map(Made::into_loaded))
}

fn run(wish: &Wish<'_>, context: &Context, open: Open<'_>) -> Result<Made, SourceError> {
    let Wish { object, folder, name, otherwise } = *wish;
    // What is wrong is told of the dump, not of a server that nobody knows.
    let of_dump = |error: SourceError| match error.object.as_str() {
        known if known == object => error,
        place if Path::new(place).is_absolute() => error,
        _ => SourceError { object: object.to_owned(), ..error },
    };
    let installed = installed_server(context).ok_or_else(|| {
        let message =
            "cannot be loaded: no PostgreSQL server is installed here whose programs could be started";
        SourceError::new(SourceErrorKind::Unsupported, object, message)
            .with_hint(format!("install one (Debian: apt-get install postgresql), or {otherwise}"))
    })?;
    let work = folder.join("work");
    DirBuilder::new().mode(0o700).create(&work).map_err(|error| {
        SourceError::new(SourceErrorKind::Failed, work.display().to_string(), "cannot be made")
            .with_source(error)
    })?;
    let server = ThrowawayServer::start(&installed, folder, &context.cancel)?;
    let context = surroundings(&installed, &work, context);
    let unnamed = |error: String| SourceError::new(SourceErrorKind::Failed, object, error);
    let database = DatabaseRef {
        target: TargetName::new(DATABASE).map_err(|error| unnamed(error.to_string()))?,
        name: DatabaseName::new(name).map_err(|error| unnamed(error.to_string()))?,
        connection: with_database(&server.url(DATABASE), name),
    };
    let backup = open(&database, &work, &context)?;
    provide(&server, backup.manifest()).map_err(of_dump)?;
    fill(object, &database, backup.as_ref(), &context).map_err(|error| match error {
        RestoreError::Backup(error) => {
            SourceError::new(SourceErrorKind::Damaged, object, error.to_string()).with_source(error)
        }
        RestoreError::Database(error) => of_dump(error),
    })?;
    Ok(Made { server, database, backup, context, version: installed.version })
}

impl Made {
    fn into_loaded(self) -> Loaded {
        let facts = &self.backup.manifest().facts;
        let (tables, rows) = (facts.tables.len() as u64, facts.rows());
        let version = self.version.split(' ').next().unwrap_or_default();
        let counted_rows = rows.map(|rows| format!(", {}", counted(rows, "row", "rows"))).unwrap_or_default();
        Loaded {
            detail: format!(
                "loaded into PostgreSQL {version}: {}{counted_rows}",
                counted(tables, "table", "tables")
            ),
            database: self.database,
            tables: Some(tables),
            rows,
            context: self.context,
            served_by: Some(Box::new(self.server)),
        }
    }
}

/// Returns the surroundings of the server's own programs, and nothing else of the user's: a variable for another server would
/// lead there.
fn surroundings(installed: &InstalledServer, work: &Path, context: &Context) -> Context {
    let path = ("PATH".to_owned(), format!("{}:/usr/bin:/bin", installed.folder.display()));
    Context {
        observer: Arc::new(Silent),
        environment: Environment::new([path]),
        scratch: ScratchDir::new(work),
        ..context.clone()
    }
}

/// Makes the roles and tablespaces that a dump names.
fn provide(server: &ThrowawayServer, manifest: &Manifest) -> Result<(), SourceError> {
    let needs = Needs::of(manifest);
    let mut sql = String::new();
    let roles: BTreeSet<&String> =
        [&needs.owners, &needs.object_owners, &needs.granted, &needs.bound].into_iter().flatten().collect();
    // The system's own are there already.
    for role in roles.into_iter().filter(|role| role.as_str() != "postgres" && !role.starts_with("pg_")) {
        sql.push_str(&format!("CREATE ROLE {} SUPERUSER;\n", quoted(role)));
    }
    for (number, tablespace) in needs.tablespaces.iter().enumerate() {
        if tablespace.starts_with("pg_") {
            continue;
        }
        let place = server.folder_for(&format!("tablespace-{number}"))?.display().to_string();
        let place = place.replace('\'', "''");
        sql.push_str(&format!("CREATE TABLESPACE {} LOCATION '{place}';\n", quoted(tablespace)));
    }
    if sql.is_empty() { Ok(()) } else { server.sql("postgres", &sql).map(drop) }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Restores the dump into the server, with every comparison that a restore makes.
fn fill(
    object: &str,
    database: &DatabaseRef,
    backup: &dyn BackupReader,
    context: &Context,
) -> Result<(), RestoreError> {
    let request = RestoreRequest {
        target: database.clone(),
        mode: RestoreMode::ToNew,
        safety: Safety::None,
        verify: true,
        ownership: Ownership::default(),
        tables: vec![],
        schema_only: false,
        data_only: false,
        backup: object.to_owned(),
        repository: object.to_owned(),
        started: Timestamp::now(),
        host: "localhost".to_owned(),
    };
    let mut restore = restore::begin(&request, backup.manifest(), context.clone())?;
    // What this server lacks says nothing against the dump.
    if let Some(problem) = restore.plan().problems.first() {
        let (message, hint) = problem.split_once("; ").unwrap_or((problem, ""));
        let message = format!("cannot be loaded into the server that is installed here: {message}");
        return Err(SourceError::new(SourceErrorKind::Unsupported, object, message).with_hint(hint).into());
    }
    for step in restore.steps().to_vec() {
        restore.run(step, backup)?;
    }
    Ok(())
}
