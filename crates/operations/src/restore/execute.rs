//! Runs a planned restore, or what is left of one after a crash.
//!
//! The engine records each step beside the target before it acts; the hooks' state goes into the same record before
//! each hook. So a crash at any moment leaves a record that says what is owed: the rest of the steps or the way back,
//! and the start command where the stop command was begun.

use super::{Hooks, Planned, RestoreBody, RestorePerformance, StepTime};
use crate::hooks::{self, Hook};
use crate::journaling;
use crate::report::{Outcome, Report, elapsed_ms};
use crate::{OperationError, Services};
use engines::{Restore, RestoreMode, RestoreStep, Standing};
use flow::{BackupReader, DatabaseRef, Event, Finding, Phase, Severity, quoted};
use jiff::Timestamp;
use repository::BackupId;

/// A restore under way.
pub(super) struct Running<'a> {
    pub(super) services: &'a Services,
    pub(super) target: DatabaseRef,
    pub(super) restore: Box<dyn Restore>,
    pub(super) hooks: Hooks,
    pub(super) steps: Vec<StepTime>,
    /// Whether it was begun by an earlier run.
    pub(super) taken_up: bool,
}

/// What failed on the way back.
#[derive(Debug, Default)]
pub(super) struct WayBack {
    /// The stop command before it.
    stop: Option<OperationError>,
    /// The way back itself: the old database is not back in place.
    engine: Option<OperationError>,
    /// The start command after it.
    start: Option<OperationError>,
}

impl WayBack {
    /// Tells whether the old database is back and the service up. A stop command that failed had nothing to stop.
    pub(super) fn is_clean(&self) -> bool {
        self.engine.is_none() && self.start.is_none()
    }
}

pub(super) fn execute(
    services: &Services,
    planned: Planned,
    started: Timestamp,
) -> Result<Report<RestoreBody>, OperationError> {
    let recorded = journaling::begin(services, "restore", Some(planned.target.connection.clone()), started);
    let outcome = run_planned(services, planned, started);
    journaling::finish(services, &recorded, outcome.as_ref());
    outcome
}

fn run_planned(
    services: &Services,
    planned: Planned,
    started: Timestamp,
) -> Result<Report<RestoreBody>, OperationError> {
    let mut running = Running {
        services,
        target: planned.target.clone(),
        restore: planned.restore,
        hooks: planned.hooks,
        steps: vec![],
        taken_up: false,
    };
    let steps = running.restore.steps().to_vec();
    running.finish_or_roll_back(&steps, planned.backup.as_ref())?;
    let mut body = running.body(planned.verify, started);
    body.backup = Some(planned.backup_id);
    body.backup_time = Some(planned.time);
    body.plan = Some(planned.plan);
    body.estimated_ms = Some(planned.estimated_ms);
    Ok(Report::new("restore", started, Outcome::Complete, body))
}

impl Running<'_> {
    /// Runs the steps; where one fails, everything is put back.
    pub(super) fn finish_or_roll_back(
        &mut self,
        steps: &[RestoreStep],
        backup: &dyn BackupReader,
    ) -> Result<(), OperationError> {
        let Err(error) = self.run_steps(steps, backup) else { return Ok(()) };
        let cancelled = self.services.context.cancel.is_cancelled();
        let error = if cancelled { OperationError::Cancelled } else { error };
        let way_back = self.put_back();
        // Nothing was changed yet: the failure speaks for itself.
        if !self.taken_up && self.steps.is_empty() && way_back.is_clean() {
            return Err(error);
        }
        Err(self.failure(way_back, Some(error)))
    }

    fn run_steps(&mut self, steps: &[RestoreStep], backup: &dyn BackupReader) -> Result<(), OperationError> {
        for step in steps {
            self.services.context.cancel.check().map_err(|_| OperationError::Cancelled)?;
            match step {
                RestoreStep::Quiesce => self.stop()?,
                // Taken up in the middle of the swap: since the crash the service may have been started again.
                RestoreStep::Swap if steps.first() == Some(step) => self.stop()?,
                RestoreStep::Finish => self.start_and_check()?,
                _ => {}
            }
            self.timed(name(*step), |running| {
                running.restore.run(*step, backup)?;
                // The hooks join the record as soon as there is one.
                if *step == RestoreStep::Preflight { running.note() } else { Ok(()) }
            })?;
        }
        Ok(())
    }

    fn note(&mut self) -> Result<(), OperationError> {
        let notes = serde_json::to_value(&self.hooks).map_err(|error| OperationError::Local {
            object: "the restore record".to_owned(),
            message: error.to_string(),
            hint: None,
            source: Some(error.into()),
        })?;
        Ok(self.restore.note(notes)?)
    }

    fn stop(&mut self) -> Result<(), OperationError> {
        let Some(command) = self.hooks.stop.clone() else { return Ok(()) };
        self.hooks.stop_begun = true;
        self.hooks.started = false;
        self.note()?;
        self.timed("stop", |running| {
            Hook::new("stop", Some(&command), &running.target.target, Some(&running.target.name))
                .run(running.services)
        })
    }

    fn start_and_check(&mut self) -> Result<(), OperationError> {
        self.start()?;
        let Some(url) = self.hooks.health_url.clone() else { return Ok(()) };
        self.timed("health", |running| hooks::health(&url, running.services))
    }

    /// Runs the start command where a stop command was begun, or where there is no stop command to go with it.
    fn start(&mut self) -> Result<(), OperationError> {
        let owed = self.hooks.stop.is_none() || self.hooks.stop_begun;
        let Some(command) = self.hooks.start.clone().filter(|_| owed && !self.hooks.started) else {
            return Ok(());
        };
        self.timed("start", |running| {
            Hook::new("start", Some(&command), &running.target.target, Some(&running.target.name))
                .run(running.services)
        })?;
        self.hooks.started = true;
        self.note()
    }

    /// Puts the old database back and the service up. An interruption does not stop the way back, nor does a stop
    /// command that fails: it may have had nothing to stop, and whether somebody still uses the target is looked at.
    pub(super) fn put_back(&mut self) -> WayBack {
        let calm = Services {
            context: flow::Context { cancel: flow::Cancel::new(), ..self.services.context.clone() },
            ..self.services.clone()
        };
        let stopped = self.hooks.stop_begun;
        let mut way_back = WayBack::default();
        let hook = |moment, command: &Option<Vec<String>>, target: &DatabaseRef| {
            Hook::new(moment, command.as_deref(), &target.target, Some(&target.name)).run(&calm).err()
        };
        // After a failed health check the service runs on the new database: it is stopped again first.
        if stopped && self.hooks.started {
            self.hooks.started = false;
            way_back.stop = hook("stop", &self.hooks.stop, &self.target);
        }
        way_back.engine = self.restore.roll_back().map_err(OperationError::from).err();
        if stopped {
            // The service is owed its start even where the way back failed: the target is then still whole.
            way_back.start = hook("start", &self.hooks.start, &self.target);
            self.hooks.started = way_back.start.is_none();
            if way_back.engine.is_some() {
                // Whoever takes the way back again has to stop the service first. Where the record cannot be written,
                // the next one finds the target in use, and says so.
                self.note().ok();
            }
        }
        if let Some(error) = way_back.stop.as_ref().filter(|_| way_back.engine.is_none()) {
            self.services.context.observer.event(Event::Finding(Finding {
                severity: Severity::Warning,
                object: self.target.connection.clone(),
                message: format!("was put back although, before that, {error}"),
                hint: None,
            }));
        }
        way_back
    }

    /// Makes the error of a restore that failed by `error`, or of a roll-back that was asked for, and tells what the
    /// way back came to.
    pub(super) fn failure(&self, way_back: WayBack, error: Option<OperationError>) -> OperationError {
        let mut attempt = self.body(false, self.restore.state().request.started);
        attempt.backup = Some(BackupId(self.restore.state().request.backup));
        attempt.rolled_back = way_back.engine.is_none();
        let failed = if error.is_some() { "failed and " } else { "" };
        let (end, hint, below) = match way_back {
            WayBack { engine: Some(engine), stop, start } => {
                let standing = standing(self.restore.standing());
                let mut end = format!("{failed}could not be rolled back: {engine}");
                for problem in [stop, start].into_iter().flatten() {
                    end.push_str(&format!("; {problem}"));
                }
                let hint = format!(
                    "mend that, then `backstay restore --rollback --target {}`, where `--stop-command` and \
                     `--start-command` replace those of the restore",
                    quoted(&self.target.connection)
                );
                (format!("{end}; {standing}"), Some(hint), engine)
            }
            WayBack { start: Some(start), .. } => {
                let command = hooks::shown(self.hooks.start.as_deref().unwrap_or_default());
                let end = format!("{failed}was rolled back: {}, but {start}", self.as_it_was());
                (end, Some(format!("start the service by hand: {command}")), start)
            }
            WayBack { stop, .. } => {
                let below = error.or(stop).unwrap_or(OperationError::Cancelled);
                return OperationError::Restore {
                    attempt: Box::new(attempt),
                    end: format!("{failed}was rolled back: {}", self.as_it_was()),
                    hint: None,
                    source: Box::new(below),
                };
            }
        };
        let source = Box::new(error.unwrap_or(below));
        OperationError::Restore { attempt: Box::new(attempt), end, hint, source }
    }

    fn as_it_was(&self) -> &'static str {
        match self.restore.state().request.mode {
            RestoreMode::ToNew => "nothing was made",
            RestoreMode::Swap | RestoreMode::InPlace => "the target is as it was",
        }
    }

    fn timed(
        &mut self,
        name: &str,
        work: impl FnOnce(&mut Self) -> Result<(), OperationError>,
    ) -> Result<(), OperationError> {
        let phase = Phase { name: format!("restoring: {name}"), total_bytes: None };
        self.services.context.observer.event(Event::Phase(phase));
        let began = Timestamp::now();
        let outcome = work(self);
        journaling::restore_step(self.services, &self.target, name, began, outcome.is_ok());
        outcome?;
        self.steps.push(StepTime { name: name.to_owned(), elapsed_ms: elapsed_ms(began, Timestamp::now()) });
        Ok(())
    }

    pub(super) fn body(&self, verified: bool, started: Timestamp) -> RestoreBody {
        let elapsed_ms = elapsed_ms(started, Timestamp::now());
        let bytes_written = self.restore.plan().write_bytes;
        RestoreBody {
            backup: None,
            backup_time: None,
            target: self.target.connection.clone(),
            safety_copy: self.restore.state().safety_copy,
            verified,
            rolled_back: false,
            steps: self.steps.clone(),
            performance: RestorePerformance {
                bytes_written,
                bytes_per_second: bytes_written.saturating_mul(1000) / elapsed_ms.max(1),
                elapsed_ms,
            },
            plan: None,
            estimated_ms: None,
            refusals: vec![],
            dry_run: false,
        }
    }
}

fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Old => "the old database is in place",
        Standing::New => "the restored database is in place",
        Standing::Nothing => "no database is in place",
        Standing::Unknown => "which database is in place cannot be told",
    }
}

fn name(step: RestoreStep) -> &'static str {
    match step {
        RestoreStep::Preflight => "preflight",
        RestoreStep::Beside => "beside",
        RestoreStep::Verify => "verify",
        RestoreStep::Quiesce => "quiesce",
        RestoreStep::Swap => "swap",
        RestoreStep::Finish => "finish",
    }
}
