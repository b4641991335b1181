//! Tells, makes or checks a role for backups, database by database of a target. Whatever is made is made by the engine in
//! one transaction of each database; a crash leaves all of it or nothing.

use crate::report::{Outcome, Report};
use crate::{Engines, OperationError};
use engines::{RoleAction, RoleRequest};
use flow::{Context, DatabaseName, Finding, Severity, SourceError, SourceErrorKind, TargetName, TargetRef};
use jiff::Timestamp;
use serde::Serialize;

/// What is wanted.
#[derive(Debug, Clone)]
pub struct RoleOptions {
    /// The role's name; without it the engine chooses.
    pub role: Option<String>,
    /// Grants object by object instead of a right that covers other databases too.
    pub object_by_object: bool,
    /// What to do.
    pub action: RoleAction,
}

/// The role, as it is for one database.
#[derive(Debug, Clone, Serialize)]
pub struct RoleItem {
    /// The target.
    pub target: TargetName,
    /// The database.
    pub database: DatabaseName,
    /// Where it is.
    pub connection: String,
    /// The role.
    pub role: String,
    /// Whether it was there before.
    pub exists: bool,
    /// The statements that make it; empty where it was only checked.
    pub statements: Vec<String>,
    /// Whether they were run.
    pub applied: bool,
    /// Whether it can read everything; null where that was not asked.
    pub readable: Option<bool>,
    /// What to know of it, and what it cannot read.
    pub findings: Vec<Finding>,
}

/// The report's own part.
#[derive(Debug, Clone, Serialize)]
pub struct RoleBody {
    /// What was done.
    pub action: RoleAction,
    /// One for each database.
    pub databases: Vec<RoleItem>,
}

impl RoleBody {
    /// Returns how many problems there are.
    pub fn problems(&self) -> u64 {
        let findings = self.databases.iter().flat_map(|item| &item.findings);
        findings.filter(|finding| finding.severity == Severity::Problem).count() as u64
    }
}

/// Does what is wanted for the databases of a target. What the role cannot read is a finding, not an error.
pub fn run(
    engines: &Engines,
    target: &TargetRef,
    only: Option<&DatabaseName>,
    options: &RoleOptions,
    context: &Context,
) -> Result<Report<RoleBody>, OperationError> {
    let started = Timestamp::now();
    let engine = engines.of(target)?;
    let mut databases = engine.databases(target, context)?.databases;
    databases.retain(|database| only.is_none_or(|name| database.name == *name));
    if databases.is_empty() {
        let message = "the target has no such database";
        return Err(SourceError::new(SourceErrorKind::Missing, target.name.as_str(), message).into());
    }
    let mut body = RoleBody { action: options.action, databases: vec![] };
    for database in databases {
        context.cancel.check().map_err(|_| OperationError::Cancelled)?;
        let request = RoleRequest {
            database: database.clone(),
            role: options.role.clone(),
            object_by_object: options.object_by_object,
            action: options.action,
        };
        let report = engine.role(&request, context)?;
        let problem = report.findings.iter().any(|finding| finding.severity == Severity::Problem);
        body.databases.push(RoleItem {
            target: database.target,
            database: database.name,
            connection: database.connection,
            role: report.role,
            exists: report.exists,
            statements: report.statements,
            applied: report.applied,
            readable: (options.action != RoleAction::Print).then_some(!problem),
            findings: report.findings,
        });
    }
    let outcome = if body.problems() > 0 { Outcome::Failed } else { Outcome::Complete };
    Ok(Report::new("role", started, outcome, body))
}
