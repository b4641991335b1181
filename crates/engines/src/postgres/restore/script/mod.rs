//! SQL text as a backup: run statement by statement in the new database by one session of ours, its rows streamed into
//! `COPY`; then the rows of each table counted against those of the text.
//!
//! What the text says of the database itself waits for the swap, as with archives. The first statement that fails ends the
//! restore, with its line; begun again after a crash all of it is loaded into another new database.

mod failing;
pub(super) mod loading;
pub(super) mod rows;
mod verify;

pub(super) use verify::run as verify;

use super::ground::Ground;
use super::job::Job;
use super::programs::{self, JIT_SINCE};
use super::{owners, statistics, swap};
use crate::postgres::archive::TableOfContents;
use crate::postgres::script::{
    Keep, Meaning, Passing, Piece, SCRIPT_ENTRY, ScriptFacts, ScriptReader, meaning,
};
use crate::postgres::session::Session;
use crate::restore::RestoreError;
use flow::{BackupReader, Manifest, SourceError, SourceErrorKind};
use loading::Loading;
use std::collections::BTreeSet;
use std::io::Read;

/// Runs the text in the new database. `toc` says what it needs, with roles as they are to be here.
pub(super) fn fill(
    job: &mut Job,
    toc: &TableOfContents,
    missing: &BTreeSet<String>,
    backup: &dyn BackupReader,
) -> Result<(), RestoreError> {
    let manifest = backup.manifest();
    let facts = ScriptFacts::of(manifest).unwrap_or_default();
    let ground = Ground::of(job, manifest)?;
    let others = owners::others(job, toc)?;
    let mut session = ground.session()?;
    surround(&mut session, &ground)?;
    let entry = super::archive::entry(manifest, SCRIPT_ENTRY)?;
    let text = backup.read(&entry.name, 0..entry.size_bytes)?;
    let context = job.context.clone();
    let mut reader = ScriptReader::new(Passing::new(text, &context), Keep::All);
    let target = (ground.object.as_str(), ground.settings.database.as_str());
    let mut loading =
        Loading::new(&mut session, target, manifest, &job.state.request.ownership, missing, others);
    let outcome = run(&mut loading, &mut reader);
    let told = loading.told();
    // Interrupted, whatever else went wrong is what came of that.
    job.check_cancel()?;
    outcome?;
    refuse_another(&reader.inner().sum(), &facts, manifest)?;
    for (severity, message) in told {
        job.tell(severity, message, None);
    }
    drop(session);
    job.work.unlogged_since = swap::unlogged(&mut ground.session()?)?;
    statistics::gather(job, &ground, &BTreeSet::new())
}

/// Fails where a text that was read twice was not the same.
pub(super) fn refuse_another(sum: &str, facts: &ScriptFacts, manifest: &Manifest) -> Result<(), SourceError> {
    if sum == facts.sum {
        return Ok(());
    }
    let message = "is not the text any more that was read before: somebody writes to it";
    Err(SourceError::new(SourceErrorKind::Busy, manifest.connection.as_str(), message)
        .with_hint("restore it when it is finished"))
}

/// Runs the text to its end.
fn run<R: Read>(loading: &mut Loading<'_>, reader: &mut ScriptReader<R>) -> Result<(), RestoreError> {
    loading.lend()?;
    while let Some(piece) = reader.next().map_err(|broken| loading.unread(broken))? {
        // Commands that have a meaning were understood when the text was read before.
        if piece != Piece::Statement {
            continue;
        }
        let line = reader.began();
        let statement = reader.take_statement();
        if loading.is_ours() && std::str::from_utf8(&statement).is_err() {
            loading.raw(line, &statement)?;
            continue;
        }
        let text = loading.decoded(line, statement)?;
        match meaning(&text) {
            Meaning::Insert => loading.insert(line, &text)?,
            Meaning::Copy => {
                loading.flush()?;
                rows::copy(loading, line, &text, reader).map(drop)?;
            }
            meaning => {
                loading.flush()?;
                loading.statement(line, text, meaning)?;
            }
        }
    }
    loading.flush()?;
    Ok(loading.take_back()?)
}

/// Gives a session what programs have that load text: the settings of the server, but for limits of time and for what makes
/// loading fast. What is durable next is the record that says that all of it is done.
fn surround(session: &mut Session, ground: &Ground) -> Result<(), SourceError> {
    let memory_kib = programs::memory_kib(session, ground)?;
    let mut sql = format!(
        "RESET ALL; SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0; \
         SET synchronous_commit = off; SET maintenance_work_mem = '{memory_kib}kB'; SET client_min_messages = warning"
    );
    let since = [
        (JIT_SINCE, "jit = off"),
        (140_000, "idle_session_timeout = 0"),
        (170_000, "transaction_timeout = 0"),
    ];
    for (version, setting) in since {
        if session.version >= version {
            sql.push_str("; SET ");
            sql.push_str(setting);
        }
    }
    session.execute(&sql)
}
