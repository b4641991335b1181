//! Restoring into a database that keeps its name: for a role that may make no databases, or a server that has but one.
//!
//! The schemas that are there are renamed, those of the backup made under their names, loaded and compared, all in one
//! transaction; only its commit shows any of it. The old schemas are the safety copy, and the way back are renames. A
//! crash before the commit leaves the old content as it was; the record tells which of both is in place.

mod aside;
mod ground;
mod load;
pub(super) mod objects;
mod planning;
mod record;
mod stage;
mod swap;

use super::fill::Filling;
use super::keeper::Keeper;
use super::{archive, items, names, record as database_record, roles, scratch};
use crate::postgres::archive::TableOfContents;
use crate::postgres::session::{self, Session};
use crate::restore::{
    Restore, RestoreError, RestorePlan, RestoreRequest, RestoreState, RestoreStep, Standing,
};
use flow::{
    BackupReader, Cancel, Context, DatabaseRef, Event, Finding, Manifest, Phase, Severity, SourceError,
    SourceErrorKind, quoted,
};
use record::Work;
use stage::Load;
use std::collections::BTreeSet;

struct InPlaceRestore {
    state: RestoreState,
    work: Work,
    plan: RestorePlan,
    context: Context,
    keeper: Keeper,
    /// The session with the transaction in which everything is made.
    loading: Option<Session>,
    /// Whether there is a record.
    recorded: bool,
    /// Whether the restore was accepted or undone.
    over: bool,
    /// Whether nobody can tell what became of the commit.
    unknown: bool,
}

/// Plans it. Looks only.
pub(super) fn begin(
    request: &RestoreRequest,
    manifest: &Manifest,
    context: Context,
) -> Result<Box<dyn Restore>, RestoreError> {
    let object = request.target.connection.clone();
    let mut keeper = Keeper::inside(&object, &context)?;
    if let Some(left) = record::find(&mut keeper)? {
        return Err(database_record::in_use(&mut keeper, Some(&left.state)).into());
    }
    if let Some(left) = database_record::of_target(&mut keeper)?.last() {
        return Err(database_record::in_use(&mut keeper, Some(&left.state)).into());
    }
    if keeper.owner()?.is_some() {
        return Err(database_record::in_use(&mut keeper, None).into());
    }
    let plan = planning::plan(request, manifest, &mut keeper)?;
    let work = Work { schema: record::schema_of(request), size_bytes: plan.write_bytes, moved: None };
    let state = RestoreState::begun(request, &plan);
    Ok(Box::new(InPlaceRestore {
        state,
        work,
        plan,
        context,
        keeper,
        loading: None,
        recorded: false,
        over: false,
        unknown: false,
    }))
}

/// Returns the restore in place that was left in a database; `None` too where it cannot be connected to.
pub(super) fn pending(
    database: &DatabaseRef,
    context: &Context,
) -> Result<Option<RestoreState>, SourceError> {
    let Ok(mut keeper) = Keeper::inside(&database.connection, context) else { return Ok(None) };
    let Some(found) = record::find(&mut keeper)? else { return Ok(None) };
    let mut state = found.state;
    state.owner_alive = keeper.owner()?.is_some();
    state.request.target.connection.clone_from(&database.connection);
    Ok(Some(state))
}

/// Takes up a restore that was left; `None` where the record is not one of a restore in place.
pub(super) fn resume(
    state: &RestoreState,
    context: &Context,
) -> Result<Option<Box<dyn Restore>>, RestoreError> {
    if serde_json::from_value::<Work>(state.engine.clone()).is_err() {
        return Ok(None);
    }
    let connection = state.request.target.connection.clone();
    let mut keeper = Keeper::inside(&connection, context)?;
    if !keeper.lock()? {
        return Err(database_record::in_use(&mut keeper, Some(state)).into());
    }
    let Some(found) = record::find(&mut keeper)? else {
        let message = "there is no restore to be finished";
        return Err(SourceError::new(SourceErrorKind::Missing, connection, message).into());
    };
    let mut own = found.state;
    if (own.request.started, &own.request.backup) != (state.request.started, &state.request.backup) {
        let message = "it is another restore that waits to be finished now";
        let hint = format!("look again with `backstay restore --continue --target {}`", quoted(&connection));
        return Err(SourceError::new(SourceErrorKind::InUse, connection, message).with_hint(hint).into());
    }
    own.request.target.connection = connection;
    own.owner_alive = true;
    let plan = RestorePlan {
        ..RestorePlan::to_be_finished(planning::steps(), found.work.size_bytes, own.safety_copy.clone())
    };
    Ok(Some(Box::new(InPlaceRestore {
        state: own,
        work: found.work,
        plan,
        context: context.clone(),
        keeper,
        loading: None,
        recorded: true,
        over: false,
        unknown: false,
    })))
}

impl InPlaceRestore {
    fn error(&self, kind: SourceErrorKind, message: impl Into<String>) -> SourceError {
        SourceError::new(kind, self.keeper.object.clone(), message)
    }

    fn phase(&self, what: &str, total_bytes: Option<u64>) {
        let name = format!("{what} {}", self.keeper.target);
        self.context.observer.event(Event::Phase(Phase { name, total_bytes }));
    }

    fn tell(&self, severity: Severity, message: String, hint: Option<String>) {
        let object = self.keeper.object.clone();
        self.context.observer.event(Event::Finding(Finding { severity, object, message, hint }));
    }

    fn save(&mut self) -> Result<(), SourceError> {
        if !self.recorded || self.over {
            return Ok(());
        }
        let sql = record::statement(&self.state, &self.work, &self.keeper.object)?;
        self.keeper.session.execute(&sql)
    }

    /// Looks whether it can be done, then makes the record.
    fn preflight(&mut self, backup: &dyn BackupReader) -> Result<(), RestoreError> {
        self.phase("looking at", None);
        let toc = archive::read(backup)?;
        if !self.keeper.lock()? {
            return Err(database_record::in_use(&mut self.keeper, None).into());
        }
        let outcome = self.check(&toc, backup.manifest()).and_then(|()| {
            if !self.recorded {
                (self.state.step, self.state.completed) = (RestoreStep::Preflight, true);
                let object = self.keeper.object.clone();
                record::make(&mut self.keeper.session, &self.state, &self.work, &object)?;
                self.recorded = true;
            }
            Ok(())
        });
        if outcome.is_err() && !self.recorded {
            self.keeper.unlock();
        }
        outcome
    }

    fn check(&mut self, toc: &TableOfContents, manifest: &Manifest) -> Result<(), RestoreError> {
        if let Some(left) = record::find(&mut self.keeper)?.filter(|_| !self.recorded) {
            return Err(database_record::in_use(&mut self.keeper, Some(&left.state)).into());
        }
        let schemas = ground::schemas(&mut self.keeper.session)?;
        let mut found = planning::problems(&mut self.keeper, &schemas)?;
        found.extend(planning::problems_of(&mut self.keeper, &schemas, toc)?);
        let needs = crate::postgres::needs::needs(toc);
        let ownership = self.state.request.ownership.clone();
        found.extend(planning::lacking(&mut self.keeper, manifest, needs, &ownership)?);
        if !found.is_empty() {
            let messages: Vec<&str> = found.iter().map(|(message, _)| message.as_str()).collect();
            let hints: Vec<&str> = found.iter().map(|(_, hint)| hint.as_str()).collect();
            return Err(self
                .error(SourceErrorKind::Unwritable, messages.join("; "))
                .with_hint(hints.join("; "))
                .into());
        }
        if let Some(free) = self.plan.free_bytes.filter(|free| *free < self.plan.needed_bytes) {
            let needed = self.plan.needed_bytes;
            let message = format!("{free} bytes are free at the server, and the restore needs {needed}");
            return Err(self
                .error(SourceErrorKind::Unwritable, message)
                .with_hint("free some space there: the old content stays beside the new")
                .into());
        }
        Ok(())
    }

    /// Makes everything in a transaction that stays open.
    fn load(&mut self, backup: &dyn BackupReader) -> Result<(), RestoreError> {
        self.phase("loading", Some(self.work.size_bytes));
        let toc = archive::read(backup)?;
        let object = self.keeper.object.clone();
        let (settings, reached) = (self.keeper.settings.clone(), self.keeper.session.reached);
        let mut session = session::connect(&settings, Some(reached), &object, &self.context.cancel)?;
        let encoding = scratch::encoding_of(&toc);
        let all: BTreeSet<i32> = toc.entries.iter().map(|entry| entry.dump_id).collect();
        let toc = roles::adapted(&mut session, &toc, &all, &self.state.request.ownership, &object)?;
        let items = items::read(&mut session, &toc, &encoding)?;
        let money = backup.manifest().facts.properties.get("lc_monetary").and_then(|name| name.as_str());
        if let Some(money) = money {
            session.try_execute(&format!("SET lc_monetary = {}", names::literal(money)))?.ok();
        }
        let filling = Filling {
            backup,
            context: &self.context,
            encoding: &encoding,
            object: &object,
            verify: self.state.request.verify,
            adds: false,
        };
        let mut load = Load::begin(&mut session, &items, filling, &self.state.request)?;
        load.run()?;
        let moved = load.moved;
        let mut kept: Vec<String> = moved.schemas.iter().map(|(_, kept)| kept.clone()).collect();
        kept.extend(moved.objects.clone());
        let wanted = self.state.request.safety != crate::restore::Safety::None && !kept.is_empty();
        self.state.safety_copy = wanted.then(|| kept.join(", "));
        self.work.moved = Some(moved);
        self.loading = Some(session);
        Ok(())
    }

    fn swap(&mut self) -> Result<(), RestoreError> {
        self.phase("swapping", None);
        let Some(mut session) = self.loading.take() else {
            return Err(self
                .error(SourceErrorKind::Invalid, "nothing was loaded that could take its place")
                .into());
        };
        (self.state.step, self.state.completed) = (RestoreStep::Swap, true);
        let object = self.keeper.object.clone();
        let done = swap::commit(&mut session, &self.state, &self.work, &object, &self.context);
        if let Err(uncommitted) = done {
            (self.state.step, self.state.completed) = (RestoreStep::Preflight, true);
            self.unknown = !uncommitted.known;
            return Err(uncommitted.error.into());
        }
        Ok(())
    }

    /// Returns whether the restored content is in place, as the record says.
    fn is_swapped(&self) -> Result<Option<bool>, SourceError> {
        let calm = Context { cancel: Cancel::new(), ..self.context.clone() };
        let mut keeper = Keeper::inside(&self.keeper.object, &calm)?;
        let found = record::find(&mut keeper)?;
        let own = found.filter(|found| found.state.request.started == self.state.request.started);
        Ok(own.map(|own| own.work.moved.is_some()))
    }

    fn undo(&mut self) -> Result<(), SourceError> {
        // The transaction goes with its session.
        self.loading = None;
        if self.over || !self.recorded {
            self.keeper.unlock();
            return Ok(());
        }
        self.phase("rolling back", None);
        let context = self.context.clone();
        self.revive(&context)?;
        let Some(found) = record::find(&mut self.keeper)? else {
            (self.over, self.recorded) = (true, false);
            return Ok(());
        };
        self.work = found.work;
        let aside = swap::back(&mut self.keeper, &self.state, &self.work, &context)?;
        if self.work.moved.is_none() {
            record::remove(&mut self.keeper.session, &self.work.schema)?;
        }
        for schema in aside {
            let message = format!("{schema} holds what had been restored before it was rolled back");
            let hint = format!("DROP SCHEMA {} CASCADE when it is not needed", names::quoted(&schema));
            self.tell(Severity::Warning, message, Some(hint));
        }
        self.keeper.unlock();
        (self.over, self.recorded) = (true, false);
        self.state.safety_copy = None;
        Ok(())
    }

    /// Makes sure of a session that is not bound to what was cancelled, and that has the lock.
    fn revive(&mut self, context: &Context) -> Result<(), SourceError> {
        let calm = Context { cancel: Cancel::new(), ..context.clone() };
        let object = self.keeper.object.clone();
        self.keeper.unlock();
        let started = std::time::Instant::now();
        let mut keeper = loop {
            match Keeper::inside(&object, &calm) {
                Ok(keeper) => break keeper,
                // A server that was restarted needs a moment.
                Err(error) if started.elapsed() >= std::time::Duration::from_secs(20) => return Err(error),
                Err(_) => std::thread::sleep(std::time::Duration::from_millis(250)),
            }
        };
        if !keeper.lock()? {
            return Err(self.error(SourceErrorKind::InUse, "another restore of it began meanwhile"));
        }
        self.keeper = keeper;
        Ok(())
    }

    fn is_next(&self, step: RestoreStep) -> Result<(), SourceError> {
        if self.over {
            return Err(self.error(SourceErrorKind::Invalid, "the restore is over"));
        }
        let swapped = self.state.step >= RestoreStep::Swap && self.state.completed;
        if swapped != (step == RestoreStep::Finish) {
            let message = match swapped {
                true => "the restored content is in place already",
                false => "an earlier step of the restore has not been completed",
            };
            let target = quoted(&self.state.request.target.connection);
            return Err(self.error(SourceErrorKind::Invalid, message).with_hint(format!(
                "undo the restore with `backstay restore --rollback --target {target}`"
            )));
        }
        Ok(())
    }
}

impl Restore for InPlaceRestore {
    fn plan(&self) -> &RestorePlan {
        &self.plan
    }

    fn steps(&self) -> &[RestoreStep] {
        &self.plan.steps
    }

    fn run(&mut self, step: RestoreStep, backup: &dyn BackupReader) -> Result<(), RestoreError> {
        if step == RestoreStep::Swap && self.state.step == RestoreStep::Swap && self.state.completed {
            return Ok(());
        }
        self.is_next(step)?;
        self.context.cancel.check().map_err(|_| SourceError::cancelled(self.keeper.object.clone()))?;
        match step {
            RestoreStep::Preflight => self.preflight(backup),
            RestoreStep::Beside => self.load(backup),
            RestoreStep::Verify | RestoreStep::Quiesce => Ok(()),
            RestoreStep::Swap => self.swap(),
            RestoreStep::Finish => {
                let context = self.context.clone();
                swap::accept(&mut self.keeper, &self.state, &self.work, &context)?;
                self.keeper.unlock();
                self.over = true;
                Ok(())
            }
        }
    }

    fn note(&mut self, notes: serde_json::Value) -> Result<(), SourceError> {
        self.state.notes = notes;
        // What was moved is recorded by the transaction that moves it.
        let moved = match self.state.step < RestoreStep::Swap {
            true => self.work.moved.take(),
            false => None,
        };
        let saved = self.save();
        if moved.is_some() {
            self.work.moved = moved;
        }
        saved
    }

    fn state(&self) -> RestoreState {
        self.state.clone()
    }

    fn standing(&self) -> Standing {
        match self.is_swapped() {
            Ok(Some(true)) => Standing::New,
            Ok(Some(false)) => Standing::Old,
            Ok(None) if !self.recorded && !self.over => Standing::Old,
            Ok(None) | Err(_) => Standing::Unknown,
        }
    }

    fn roll_back(&mut self) -> Result<(), RestoreError> {
        Ok(self.undo()?)
    }
}
