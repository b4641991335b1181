//! Rows alone, added to the tables of a database that is there: of an archive, of SQL text, of a stored backup.
//!
//! All of it is one transaction, compared with the backup before it is committed at the very end: a failure or a crash leaves
//! nothing, so there is no record and nothing to be continued. Only sequences may be further on than before: no transaction
//! takes those back, and they are set just before its end.

mod from_archive;
mod from_text;
mod keys;
mod objects;
mod places;
mod planning;
mod sequences;

use super::chosen::blockers;
use super::chosen::contents::Contents;
use super::chosen::locking;
use super::chosen::replace::only;
use super::chosen::stage::{LOCK_TIMEOUT, Stage, listed};
use super::fill::Filling;
use super::keeper::Keeper;
use super::{ending, in_place, names, record};
use crate::postgres::script::ScriptFacts;
use crate::postgres::session::Session;
use crate::postgres::{pooler, targets};
use crate::restore::{
    Restore, RestoreError, RestoreMode, RestorePlan, RestoreRequest, RestoreState, RestoreStep, Standing,
};
use flow::{
    BackupReader, Context, Event, Finding, Layout, Manifest, Phase, Severity, SourceError, SourceErrorKind,
};
use from_archive::Archive;
use from_text::Text;
use places::Found;
use sequences::Value;

/// What may be set for the transaction alone. Constraints that may be looked at later are looked at at once: nothing of
/// that may be pending while tables are changed.
const SURROUNDINGS: &str = "SET LOCAL check_function_bodies = off; SET LOCAL client_min_messages = warning; SET CONSTRAINTS ALL IMMEDIATE";

struct RowsRestore {
    state: RestoreState,
    plan: RestorePlan,
    context: Context,
    /// The lock of the target, as long as it lives.
    keeper: Keeper,
    /// The session with the transaction, from the first step to the last.
    session: Option<Session>,
    /// What waits for its commit.
    made: Option<Made>,
    /// Whether nobody can tell what became of the commit.
    unknown: bool,
}

/// What was loaded.
struct Made {
    /// What is told once it is true.
    told: Vec<Finding>,
    values: Vec<Value>,
}

/// Where rows come from.
enum Source {
    Archive(Archive),
    Text(Text),
}

/// Fails where a backup has rows and no definitions of their tables, which a new database does not have.
pub(super) fn refuse_alone(manifest: &Manifest) -> Result<(), SourceError> {
    let is_alone = match ScriptFacts::of(manifest) {
        Some(facts) => facts.tables == 0 && !facts.loaded.is_empty(),
        None => {
            let makes = |kind: &str| ["table", "extension", "foreign table"].contains(&kind);
            let has_rows =
                manifest.entries.iter().any(|entry| entry.layout == Layout::Rows && entry.size_bytes > 0);
            has_rows && !manifest.facts.schema.iter().any(|object| makes(&object.kind))
        }
    };
    if !is_alone {
        return Ok(());
    }
    let message = "it holds rows and no definitions of their tables, which a new database does not have";
    Err(SourceError::new(SourceErrorKind::Unsupported, manifest.connection.as_str(), message)
        .with_hint("`--data-only` adds these rows to the tables of a database that has them"))
}

/// Plans it. Looks only.
pub(super) fn begin(
    request: &RestoreRequest,
    manifest: &Manifest,
    context: Context,
) -> Result<Box<dyn Restore>, RestoreError> {
    let object = request.target.connection.clone();
    if request.mode != RestoreMode::Swap || request.schema_only {
        let message = "rows alone are added to the tables of a database that is there";
        return Err(SourceError::new(SourceErrorKind::Invalid, object, message)
            .with_hint("leave `--to-new`, `--in-place` and `--schema-only` out of `--data-only`")
            .into());
    }
    let mut keeper = Keeper::inside(&object, &context).map_err(|error| match error.kind {
        SourceErrorKind::Missing => error.with_hint(
            "`--data-only` adds rows to tables that are there: restore definitions first, by `--schema-only`",
        ),
        _ => error,
    })?;
    refuse_another(request, &mut keeper, &context)?;
    let mut session = connect(&object, &context)?;
    let plan = planning::plan(request, manifest, &mut session, &context)?;
    let state = RestoreState::begun(request, &plan);
    Ok(Box::new(RowsRestore {
        state,
        plan,
        context,
        keeper,
        session: Some(session),
        made: None,
        unknown: false,
    }))
}

/// What another restore is about to replace gets no rows.
fn refuse_another(
    request: &RestoreRequest,
    keeper: &mut Keeper,
    context: &Context,
) -> Result<(), SourceError> {
    let in_place = in_place::pending(&request.target, context)?;
    let left = match in_place {
        Some(left) => Some(left),
        None => record::of_target(keeper)?.pop().map(|recorded| recorded.state),
    };
    if left.is_some() || keeper.owner()?.is_some() {
        return Err(record::in_use(keeper, left.as_ref()));
    }
    Ok(())
}

/// Connects, past a pooler that gives each transaction another session.
fn connect(object: &str, context: &Context) -> Result<Session, SourceError> {
    let settings = targets::settings(object, None, context)?;
    pooler::connect_past(&settings, object, &context.cancel)
}

impl RowsRestore {
    fn object(&self) -> String {
        self.keeper.object.clone()
    }

    fn error(&self, kind: SourceErrorKind, message: impl Into<String>) -> SourceError {
        SourceError::new(kind, self.object(), message)
    }

    /// Hands the session out; there is always one but after the end.
    fn session(&mut self) -> Result<Session, SourceError> {
        match self.session.take() {
            Some(session) => Ok(session),
            None => connect(&self.object(), &self.context),
        }
    }

    fn source(&self, session: &mut Session, backup: &dyn BackupReader) -> Result<Source, RestoreError> {
        let manifest = backup.manifest();
        match ScriptFacts::of(manifest) {
            Some(facts) => {
                Ok(Source::Text(Text::of(facts, &self.state.request.tables, &manifest.connection)?))
            }
            None => Ok(Source::Archive(Archive::read(session, backup)?)),
        }
    }

    /// Finds where the rows are to go. Fails where something stands in the way, and names all of it.
    fn places(
        &self,
        session: &mut Session,
        source: &Source,
        backup: &dyn BackupReader,
    ) -> Result<Found, RestoreError> {
        let (object, tables) = (self.object(), &self.state.request.tables);
        let mut found = match source {
            Source::Text(text) => places::find(session, &text.wanted)?,
            Source::Archive(archive) => {
                let chosen = archive.chosen(tables, &object)?;
                let mut found = places::find(session, &Archive::wanted(&chosen, backup, &object)?)?;
                let values = archive.values(session)?;
                let values = self.meant(session, values, &found)?;
                found.blockers.extend(sequences::blockers(session, &values)?);
                if tables.is_empty() {
                    found.blockers.extend(objects::blockers(session, backup.manifest())?);
                }
                found
            }
        };
        let inner = keys::inner(session, &found.oids())?;
        found.blockers.extend(inner.iter().filter_map(keys::Inner::blocker));
        Ok(found.checked(&object)?)
    }

    /// Leaves out the values of sequences of tables that are not meant.
    fn meant(
        &self,
        session: &mut Session,
        mut values: Vec<Value>,
        found: &Found,
    ) -> Result<Vec<Value>, SourceError> {
        if !self.state.request.tables.is_empty() {
            let own = keys::sequences(session, &found.oids())?;
            values.retain(|value| value.oid.is_some_and(|oid| own.contains(&oid)));
        }
        Ok(values)
    }

    /// Looks whether it can be done, and takes the lock of the target.
    fn preflight(&mut self, session: &mut Session, backup: &dyn BackupReader) -> Result<(), RestoreError> {
        if !self.keeper.lock()? {
            return Err(record::in_use(&mut self.keeper, None).into());
        }
        if let (Some(free), needed) = (self.plan.free_bytes, self.plan.needed_bytes)
            && free < needed
        {
            let message = format!("{free} bytes are free at the server, and the restore needs {needed}");
            return Err(self
                .error(SourceErrorKind::Unwritable, message)
                .with_hint("free some space there")
                .into());
        }
        let source = self.source(session, backup)?;
        self.places(session, &source, backup).map(drop)
    }

    /// Loads everything, in one transaction that stays open.
    fn make(&mut self, session: &mut Session, backup: &dyn BackupReader) -> Result<Made, RestoreError> {
        let source = self.source(session, backup)?;
        let money = backup.manifest().facts.properties.get("lc_monetary").and_then(|name| name.as_str());
        if let Some(money) = money {
            session.try_execute(&format!("SET lc_monetary = {}", names::literal(money)))?.ok();
        }
        session.execute(&format!("BEGIN; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; {SURROUNDINGS}"))?;
        let found = self.places(session, &source, backup)?;
        let (object, request, context) = (self.object(), self.state.request.clone(), self.context.clone());
        let (nothing, none) = (Contents::new(Vec::new()), String::new());
        let (contents, encoding) = match &source {
            Source::Archive(archive) => (&archive.contents, &archive.encoding),
            Source::Text(_) => (&nothing, &none),
        };
        let filling = Filling {
            backup,
            context: &context,
            encoding,
            object: &object,
            verify: request.verify,
            adds: true,
        };
        let mut told = Vec::new();
        let mut stage = Stage { session, contents, filling, request: &request, told: &mut told };
        let values = self.load(&mut stage, &source, &found)?;
        Ok(Made { told, values })
    }

    fn load(
        &self,
        stage: &mut Stage<'_>,
        source: &Source,
        found: &Found,
    ) -> Result<Vec<Value>, RestoreError> {
        let oids = found.oids();
        let inner = keys::inner(stage.session, &oids)?;
        let tied = inner.iter().flat_map(|one| [one.key.table.clone(), one.to.clone()]).collect();
        locking::lock(stage, tied, "ACCESS EXCLUSIVE", &oids)?;
        let all = found.live.iter().flatten().map(only).collect();
        locking::lock(stage, all, "SHARE ROW EXCLUSIVE", &oids)?;
        let triggers = blockers::triggers(stage.session, &oids)?;
        for trigger in &triggers {
            stage.must(&trigger.off(), "the change of a trigger")?;
        }
        for one in &inner {
            stage.must(&one.key.off(), "the change of a foreign key")?;
        }
        let (rows, values) = match source {
            Source::Archive(archive) => {
                let chosen = archive.chosen(&self.state.request.tables, stage.object())?;
                let rows = from_archive::load(stage, &chosen, found)?;
                if self.state.request.tables.is_empty() {
                    objects::load(stage)?;
                }
                (rows, archive.values(stage.session)?)
            }
            Source::Text(text) => {
                let loaded = from_text::load(stage, text, found, (&self.keeper, &self.context))?;
                (loaded.rows, loaded.values)
            }
        };
        for one in &inner {
            keys::put_back(stage, one)?;
        }
        for trigger in &triggers {
            stage.must(&trigger.on(), "the change of a trigger")?;
        }
        for live in found.live.iter().flatten() {
            stage.analyze(&live.quoted())?;
        }
        let values = self.meant(stage.session, values, found)?;
        let blockers = sequences::blockers(stage.session, &values)?;
        if let Some(blocker) = blockers.into_iter().next() {
            return Err(stage
                .error(SourceErrorKind::Unwritable, blocker.message)
                .with_hint(blocker.hint)
                .into());
        }
        tell(stage, rows, &oids, &values)?;
        Ok(values)
    }

    fn finish(&mut self, session: &mut Session) -> Result<(), SourceError> {
        let Some(made) = self.made.take() else {
            return Err(self.error(SourceErrorKind::Invalid, "nothing was loaded that could be accepted"));
        };
        let object = self.object();
        sequences::advance(session, &made.values, &object)?;
        if let Err(uncommitted) = ending::commit(session, &object, &self.context) {
            self.unknown = !uncommitted.known;
            return Err(uncommitted.error);
        }
        for finding in made.told {
            self.context.observer.event(Event::Finding(finding));
        }
        self.keeper.unlock();
        Ok(())
    }

    fn step(
        &mut self,
        step: RestoreStep,
        session: &mut Session,
        backup: &dyn BackupReader,
    ) -> Result<(), RestoreError> {
        match step {
            RestoreStep::Preflight => self.preflight(session, backup),
            RestoreStep::Beside if self.made.is_none() => {
                let name = format!("loading rows into {}", self.state.request.target.name);
                let total_bytes = Some(self.plan.write_bytes);
                self.context.observer.event(Event::Phase(Phase { name, total_bytes }));
                self.made = Some(self.make(session, backup)?);
                Ok(())
            }
            RestoreStep::Finish => Ok(self.finish(session)?),
            _ => Ok(()),
        }
    }
}

/// Says what was done, once it is committed.
fn tell(stage: &mut Stage<'_>, rows: u64, oids: &[u32], values: &[Value]) -> Result<(), SourceError> {
    let tables = match oids.len() {
        1 => "1 table".to_owned(),
        count => format!("{count} tables"),
    };
    stage.tell(Severity::Notice, format!("{rows} rows were added to {tables}"), None);
    let gone: Vec<String> =
        values.iter().filter(|value| value.oid.is_none()).map(|value| value.shown.clone()).collect();
    if !gone.is_empty() {
        let message = format!("sequences of the backup are not there, and were not set: {}", gone.join(", "));
        stage.tell(Severity::Warning, message, None);
    }
    let stale = blockers::stale_views(stage.session, oids)?;
    if !stale.is_empty() {
        let message = format!("filled before the restore, and not by it: {}", listed(&stale));
        let hint: Vec<String> =
            stale.iter().map(|view| format!("REFRESH MATERIALIZED VIEW {view}")).collect();
        stage.tell(Severity::Warning, message, Some(hint.join("; ")));
    }
    Ok(())
}

impl Restore for RowsRestore {
    fn plan(&self) -> &RestorePlan {
        &self.plan
    }

    fn steps(&self) -> &[RestoreStep] {
        &self.plan.steps
    }

    fn run(&mut self, step: RestoreStep, backup: &dyn BackupReader) -> Result<(), RestoreError> {
        self.context.cancel.check().map_err(|_| SourceError::cancelled(self.object()))?;
        (self.state.step, self.state.completed) = (step, false);
        let mut session = self.session()?;
        let outcome = self.step(step, &mut session, backup);
        // Dropped, it takes the transaction with it.
        if outcome.is_ok() && step != RestoreStep::Finish {
            self.session = Some(session);
        }
        self.state.completed = outcome.is_ok();
        outcome
    }

    fn note(&mut self, notes: serde_json::Value) -> Result<(), SourceError> {
        self.state.notes = notes;
        Ok(())
    }

    fn state(&self) -> RestoreState {
        self.state.clone()
    }

    /// Before the commit nobody sees anything of it.
    fn standing(&self) -> Standing {
        if self.unknown { Standing::Unknown } else { Standing::Old }
    }

    fn roll_back(&mut self) -> Result<(), RestoreError> {
        if self.unknown {
            let message = "whether it was committed cannot be told";
            return Err(self
                .error(SourceErrorKind::Failed, message)
                .with_hint("connect to it and see which rows the tables have; where they are the old ones, run it again")
                .into());
        }
        if let Some(mut session) = self.session.take() {
            // After a cancellation the end of the connection does it.
            session.execute("ROLLBACK").ok();
        }
        self.made = None;
        self.keeper.unlock();
        Ok(())
    }
}
