//! A look at a database before its backup: whether a pooler stands in between, whether the programs fit the server,
//! whether the role may read everything, what of the server's settings would end or spoil a long read. What a backup
//! would stumble over is named with what mends it. Nothing is changed.

mod content;
mod integrity;
mod server;

use super::connection::Settings;
use super::dump::SERVER_MAJOR_MIN;
use super::rights;
use super::session::{self, Session};
use super::tools::Program;
use super::{encoding, failure, pooler, targets, tools};
use crate::engine::DatabaseInfo;
use flow::{Context, DatabaseRef, Finding, Severity, SourceError, SourceErrorKind};
use tokio_postgres::SimpleQueryMessage;

/// What was found so far, of one database.
struct Findings {
    object: String,
    list: Vec<Finding>,
}

impl Findings {
    fn add(&mut self, severity: Severity, object: &str, message: String, hint: Option<String>) {
        self.list.push(Finding { severity, object: object.to_owned(), message, hint });
    }

    fn notice(&mut self, message: String, hint: Option<&str>) {
        let object = self.object.clone();
        self.add(Severity::Notice, &object, message, hint.map(str::to_owned));
    }

    fn warning(&mut self, message: String, hint: &str) {
        let object = self.object.clone();
        self.add(Severity::Warning, &object, message, Some(hint.to_owned()));
    }

    fn problem(&mut self, message: String, hint: Option<String>) {
        let object = self.object.clone();
        self.add(Severity::Problem, &object, message, hint);
    }
}

/// Looks at a database.
pub(super) fn probe(
    database: &DatabaseRef,
    integrity: bool,
    context: &Context,
) -> Result<DatabaseInfo, SourceError> {
    let object = database.connection.as_str();
    let settings = targets::settings(object, None, context)?;
    let mut session = session::connect_plain(&settings, None, object, &context.cancel)?;
    let (engine_version, size_bytes) = version_and_size(&mut session, object)?;
    let mut findings = Findings { object: object.to_owned(), list: Vec::new() };
    match pooler::look(&mut session, &settings, object, &context.cancel)? {
        // Nothing more is asked of it: what would be set for that stays behind.
        Some(shared) => {
            findings.problem(shared.message().to_owned(), Some(pooler::HINT.to_owned()));
        }
        None => {
            session.prepare()?;
            look(&mut session, &settings, integrity, context, &mut findings)?;
        }
    }
    Ok(DatabaseInfo { engine_version, size_bytes, findings: findings.list })
}

/// Returns how large a database is, and asks nothing else.
pub(super) fn size_bytes(database: &DatabaseRef, context: &Context) -> Result<u64, SourceError> {
    let object = database.connection.as_str();
    let settings = targets::settings(object, None, context)?;
    let mut session = session::connect_plain(&settings, None, object, &context.cancel)?;
    Ok(version_and_size(&mut session, object)?.1)
}

fn version_and_size(session: &mut Session, object: &str) -> Result<(String, u64), SourceError> {
    let sql = "SELECT current_setting('server_version'), pg_catalog.pg_database_size(current_database())";
    let answer = session.try_text_query(sql)?.map_err(|error| failure::server(object, "", &error))?;
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some((row.get(0)?.to_owned(), row.get(1)?.parse().ok()?)),
        _ => None,
    });
    row.ok_or_else(|| SourceError::new(SourceErrorKind::Failed, object, "the server gave no answer"))
}

fn look(
    session: &mut Session,
    settings: &Settings,
    integrity: bool,
    context: &Context,
    findings: &mut Findings,
) -> Result<(), SourceError> {
    if session.major() < SERVER_MAJOR_MIN {
        let major = session.major();
        findings.problem(
            format!("the server is PostgreSQL {major}, and {SERVER_MAJOR_MIN} is the oldest known"),
            Some("upgrade it; until then, `pg_dump` of its own version backs it up".to_owned()),
        );
        return Ok(());
    }
    programs(session, context, findings);
    let unreadable = encoding::unreadable_names(session)?;
    if !unreadable.is_empty() {
        // What else is asked names things too.
        findings.problem(encoding::message(&unreadable), Some(encoding::HINT.to_owned()));
        return Ok(());
    }
    if let Some(role) = rights::role(session, None)? {
        let lacking = rights::lacking(session, &role)?;
        findings.list.extend(lacking.findings(&role, &findings.object));
        if !role.superuser {
            content::subscriptions(session, findings)?;
        }
    }
    findings.list.extend(server::restriction(session, &findings.object));
    server::time_limits(session, findings)?;
    server::room(session, findings)?;
    server::standby(session, findings)?;
    content::look(session, findings)?;
    integrity::checksums(session, integrity, findings)?;
    if integrity {
        integrity::check(session, settings, context, findings)?;
    }
    Ok(())
}

/// Says which `pg_dump` is taken, and of which others it was chosen.
fn programs(session: &Session, context: &Context, findings: &mut Findings) {
    let major = session.major();
    match tools::find("pg_dump", major, &findings.object, context) {
        Ok(program) => {
            let shown = |program: &Program| format!("{} at {}", program.version, program.path.display());
            let others: Vec<String> = tools::all("pg_dump", major, context)
                .iter()
                .filter(|other| other.version != program.version)
                .map(shown)
                .collect();
            let chosen = match others.as_slice() {
                [] => String::new(),
                others => format!("; it was chosen, {} is there too", others.join(", ")),
            };
            findings.notice(format!("pg_dump {} reads it{chosen}", shown(&program)), None);
        }
        Err(error) => findings.problem(error.message, error.hint),
    }
}
