//! Takes up a restore that a crash left unfinished: to its end, or back. Needs nothing but what lies beside the
//! target (and, to go on, the repository).

use super::execute::Running;
use super::plan::{refusals, start_actions};
use super::{Hooks, RestoreBody};
use crate::hooks;
use crate::report::{Outcome, Report};
use crate::{Engines, OperationError, Services};
use engines::{RestorePlan, RestoreState, RestoreStep, Standing};
use flow::{BackupReader, Context, DatabaseRef, EngineKind, SourceError, SourceErrorKind, quoted};
use jiff::Timestamp;
use repository::BackupId;
use std::sync::Arc;

/// Which unfinished restore is meant.
#[derive(Debug, Clone)]
pub struct PendingOptions {
    /// The database it lies beside.
    pub target: DatabaseRef,
    /// Its engine.
    pub engine: EngineKind,
    /// Commands and checks that replace those of the record.
    pub hooks: Hooks,
    /// Tells what would happen, and changes nothing.
    pub dry_run: bool,
}

impl PendingOptions {
    /// Returns the state of the unfinished restore, so that whoever calls can open the repository that it names. Fails
    /// where there is none, or where it still runs.
    pub fn state(&self, engines: &Engines, context: &Context) -> Result<RestoreState, OperationError> {
        let states = engines.get(self.engine)?.pending_restores(&self.target, context)?;
        let Some(state) = states.into_iter().next() else {
            return Err(OperationError::usage(
                format!("no unfinished restore lies beside {}", self.target.connection),
                "nothing is to be done: the target is what the last restore made of it".to_owned(),
            ));
        };
        if state.owner_alive {
            return Err(SourceError::new(
                SourceErrorKind::InUse,
                self.target.connection.clone(),
                "the restore that lies beside it still runs",
            )
            .with_hint("wait for it, or end that process first")
            .into());
        }
        Ok(state)
    }
}

/// Runs the remaining steps.
pub fn resume(services: &Services, options: &PendingOptions) -> Result<Report<RestoreBody>, OperationError> {
    resume_from(services, options, &mut |state| {
        let id = BackupId(state.request.backup.clone());
        Ok(services.repository.open(&id, &services.context)?)
    })
}

/// Opens what a restore was begun with.
pub(super) type Open<'a> = dyn FnMut(&RestoreState) -> Result<Arc<dyn BackupReader>, OperationError> + 'a;

/// Runs the remaining steps, of whatever `open` says the restore was begun with.
pub(super) fn resume_from(
    services: &Services,
    options: &PendingOptions,
    open: &mut Open<'_>,
) -> Result<Report<RestoreBody>, OperationError> {
    let started = Timestamp::now();
    let state = options.state(&services.engines, &services.context)?;
    if state.rolling_back {
        return Err(OperationError::usage(
            format!("the restore of {} was already being rolled back", options.target.connection),
            format!(
                "`backstay restore --rollback --target {}` finishes that",
                quoted(&options.target.connection)
            ),
        ));
    }
    let id = BackupId(state.request.backup.clone());
    let verify = state.request.verify;
    let backup = open(&state)?;
    let mut running = take_up(services, options, state.clone())?;
    let left: Vec<RestoreStep> = running
        .restore
        .steps()
        .iter()
        .copied()
        .filter(|step| {
            *step > state.step || (*step == state.step && !state.completed) || repeated(*step, &state)
        })
        .collect();
    let mut body;
    if options.dry_run {
        body = running.body(false, started);
        body.plan =
            Some(RestorePlan { actions: running.actions_left(&left), ..running.restore.plan().clone() });
        if left.contains(&RestoreStep::Quiesce) {
            body.refusals = refusals(running.restore.plan(), state.request.mode, &running.hooks);
        }
        body.dry_run = true;
    } else {
        running.finish_or_roll_back(&left, backup.as_ref())?;
        body = running.body(verify, started);
    }
    body.backup = Some(id);
    Ok(Report::new("restore", started, Outcome::Complete, body))
}

/// Nobody may use the target at the swap: that is looked at again, whatever was seen before the crash. A swap that was
/// begun looks itself, and after it the old database is no longer there to be looked at.
fn repeated(step: RestoreStep, state: &RestoreState) -> bool {
    step == RestoreStep::Quiesce && state.step < RestoreStep::Swap
}

/// Puts the old database back. Works without the repository.
pub fn roll_back(
    engines: &Engines,
    services: &Services,
    options: &PendingOptions,
) -> Result<Report<RestoreBody>, OperationError> {
    let started = Timestamp::now();
    let state = options.state(engines, &services.context)?;
    let id = BackupId(state.request.backup.clone());
    let mut running = take_up(services, options, state)?;
    // Whoever names a command wants it to run, whatever the restore did.
    running.hooks.stop_begun |= options.hooks.stop.is_some() || options.hooks.start.is_some();
    running.hooks.started |= options.hooks.stop.is_some();
    if !options.dry_run {
        let way_back = running.put_back();
        if !way_back.is_clean() {
            return Err(running.failure(way_back, None));
        }
    }
    let mut body = running.body(false, started);
    body.backup = Some(id);
    body.safety_copy = None;
    body.rolled_back = !options.dry_run;
    if options.dry_run {
        let (actions, plan) = (running.actions_back(), running.restore.plan().clone());
        body.plan = Some(RestorePlan { steps: vec![], actions, write_bytes: 0, needed_bytes: 0, ..plan });
    }
    body.dry_run = options.dry_run;
    Ok(Report::new("restore", started, Outcome::Complete, body))
}

impl Running<'_> {
    /// Tells what is left to do, a sentence each.
    fn actions_left(&self, left: &[RestoreStep]) -> Vec<String> {
        let mut actions = Vec::new();
        let stop =
            self.hooks.stop.as_ref().map(|stop| format!("Run the stop command: {}", hooks::shown(stop)));
        for step in left {
            match step {
                RestoreStep::Preflight => actions.push("Look at the target again.".to_owned()),
                RestoreStep::Beside => actions.push("Write the backup beside the target.".to_owned()),
                RestoreStep::Verify => actions.push("Compare it with the backup, and check it.".to_owned()),
                RestoreStep::Quiesce => {
                    actions.extend(stop.clone());
                    actions.push("Make sure that nobody uses the target.".to_owned());
                }
                RestoreStep::Swap => {
                    actions.extend(stop.clone().filter(|_| left.first() == Some(step)));
                    actions.push("Put the restored database in place.".to_owned());
                }
                RestoreStep::Finish => {
                    actions.extend(start_actions(&self.hooks));
                    actions.push("Accept the restore.".to_owned());
                }
            }
        }
        actions
    }

    /// Tells what the way back does, a sentence each.
    fn actions_back(&self) -> Vec<String> {
        let owed = self.hooks.stop_begun;
        let command = |what: &str, words: &Option<Vec<String>>| {
            words.as_ref().map(|words| format!("Run the {what} command: {}", hooks::shown(words)))
        };
        let stop = command("stop", &self.hooks.stop).filter(|_| owed && self.hooks.started);
        let start = command("start", &self.hooks.start).filter(|_| owed);
        let back = match (self.restore.standing(), self.restore.state().safety_copy) {
            (Standing::Old, _) => "Leave the old database in place.".to_owned(),
            (_, Some(copy)) => format!("Put back what the target held before, from {copy}."),
            (_, None) => "Put back what the target held before.".to_owned(),
        };
        let remove = "Remove what the restore made beside the target.".to_owned();
        stop.into_iter().chain([back, remove]).chain(start).collect()
    }
}

fn take_up<'a>(
    services: &'a Services,
    options: &PendingOptions,
    state: RestoreState,
) -> Result<Running<'a>, OperationError> {
    // A record from before the hooks were noted has none: nothing was stopped then.
    let mut hooks: Hooks = serde_json::from_value(state.notes.clone()).unwrap_or_default();
    let given = options.hooks.clone();
    hooks.stop = given.stop.or(hooks.stop);
    hooks.start = given.start.or(hooks.start);
    hooks.health_url = given.health_url.or(hooks.health_url);
    let target = state.request.target.clone();
    let restore = services.engines.get(options.engine)?.resume_restore(state, services.context.clone())?;
    Ok(Running { services, target, restore, hooks, steps: vec![], taken_up: true })
}
