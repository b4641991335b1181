//! Statistics of what was loaded, for the planner: without them the first queries of users are slow ones. A failure is told and
//! ends nothing.

use super::ground::Ground;
use super::job::Job;
use crate::restore::RestoreError;
use flow::Severity;
use std::collections::BTreeSet;

/// Gathers the statistics of all tables but those that are `done`, by their oids.
pub(super) fn gather(job: &mut Job, ground: &Ground, done: &BTreeSet<u32>) -> Result<(), RestoreError> {
    job.phase("analysing", None);
    if let Err(error) = analyze(ground, done) {
        job.check_cancel()?;
        let message = format!("the planner has no statistics of it yet: {error}");
        job.tell(Severity::Warning, message, Some("run ANALYZE in it".to_owned()));
    }
    Ok(())
}

/// Gathers statistics of all tables that have none yet, the largest first.
fn analyze(ground: &Ground, done: &BTreeSet<u32>) -> Result<(), RestoreError> {
    let mut session = ground.session()?;
    let sql = "SELECT '\"' || replace(n.nspname::text, '\"', '\"\"') || '\".\"' ||
                 replace(c.relname::text, '\"', '\"\"') || '\"', c.oid
               FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
               WHERE c.relkind IN ('r', 'm') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
               ORDER BY pg_catalog.pg_relation_size(c.oid) DESC, c.oid";
    let mut names: Vec<String> = Vec::new();
    for row in session.query(sql, &[])? {
        if !done.contains(&session.field(&row, 1)?) {
            names.push(session.field(&row, 0)?);
        }
    }
    drop(session);
    ground.each(&names, |session, name| {
        session.execute("SET synchronous_commit = off")?;
        Ok(session.execute(&format!("ANALYZE {name}"))?)
    })
}
