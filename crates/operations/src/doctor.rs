//! Tells what would stop or spoil a backup, each with its fix.

use crate::doctor_repository::{ExaminedRepository, finding};
use crate::{Engines, OperationError, unfinished};
use engines::Skipped;
use flow::{Context, DatabaseName, EngineKind, Finding, Severity, TargetName, TargetRef};
use serde::Serialize;

/// What was found of one database.
#[derive(Debug, Clone, Serialize)]
pub struct Examined {
    /// The target.
    pub target: TargetName,
    /// The database.
    pub database: DatabaseName,
    /// Where it is.
    pub connection: String,
    /// The engine.
    pub engine: EngineKind,
    /// The version of the server or library.
    pub engine_version: Option<String>,
    /// Its size.
    pub size_bytes: Option<u64>,
    /// What would stop or spoil a backup; notices too.
    pub findings: Vec<Finding>,
}

/// The report's own part.
#[derive(Debug, Clone, Default, Serialize)]
pub struct DoctorBody {
    /// The repositories that were looked at.
    pub repositories: Vec<ExaminedRepository>,
    /// The databases that were looked at.
    pub databases: Vec<Examined>,
    /// What lay beside them and is none.
    pub skipped: Vec<Skipped>,
    /// What belongs to no one database or repository.
    pub findings: Vec<Finding>,
}

impl DoctorBody {
    /// Returns all findings.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        let of_repositories = self.repositories.iter().flat_map(|examined| &examined.findings);
        let of_databases = self.databases.iter().flat_map(|examined| &examined.findings);
        of_repositories.chain(&self.findings).chain(of_databases)
    }
}

/// Examines the databases of a target. With `integrity`, the database system checks their whole content. A problem is
/// not an error of this call: it is among the findings.
pub fn run(
    engines: &Engines,
    target: &TargetRef,
    only: Option<&DatabaseName>,
    integrity: bool,
    context: &Context,
) -> Result<DoctorBody, OperationError> {
    let engine = engines.of(target)?;
    let found = engine.databases(target, context)?;
    let mut body = DoctorBody { skipped: found.skipped, ..DoctorBody::default() };
    for database in found.databases {
        if only.is_some_and(|name| database.name != *name) {
            continue;
        }
        context.cancel.check().map_err(|_| OperationError::Cancelled)?;
        let mut examined = Examined {
            target: database.target.clone(),
            database: database.name.clone(),
            connection: database.connection.clone(),
            engine: target.engine,
            engine_version: None,
            size_bytes: None,
            findings: vec![],
        };
        match engine.probe(&database, integrity, context) {
            Ok(info) => {
                examined.engine_version = Some(info.engine_version);
                examined.size_bytes = Some(info.size_bytes);
                examined.findings = info.findings;
            }
            Err(error) if error.kind == flow::SourceErrorKind::Cancelled => {
                return Err(OperationError::Cancelled);
            }
            Err(error) => {
                examined.findings.push(finding(Severity::Problem, error.object, error.message, error.hint));
            }
        }
        examined.findings.extend(unfinished::finding(engine, &database, context));
        body.databases.push(examined);
    }
    Ok(body)
}
