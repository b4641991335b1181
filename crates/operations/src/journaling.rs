//! What verbs write into the journal. It is lost without harm: an error of it is a remark, and the work goes on.

use crate::report::{Outcome, Report};
use crate::{OperationError, Services};
use flow::{DatabaseRef, EngineKind, Event};
use jiff::Timestamp;
use journal::{JournalError, RunEnd, RunId, RunStart, Step};
use serde::Serialize;

/// A run that was begun; `None` where there is no journal.
pub(crate) struct Recorded(Option<RunId>);

/// Records that a run began.
pub(crate) fn begin(
    services: &Services,
    command: &str,
    target: Option<String>,
    started: Timestamp,
) -> Recorded {
    let start = RunStart { command: command.to_owned(), target, started };
    Recorded(services.journal.as_ref().and_then(|journal| tolerate(services, journal.begin_run(&start))))
}

/// How many items of a report the journal keeps of each kind: it has a thousand runs, and a run may have thousands of
/// databases.
pub(crate) const ITEMS_KEPT: usize = 100;

/// Records how a run ended.
pub(crate) fn finish<T: Serialize>(
    services: &Services,
    run: &Recorded,
    ended: Result<&Report<T>, &OperationError>,
) {
    let (Some(journal), Some(id)) = (services.journal.as_ref(), run.0) else { return };
    let (outcome, report) = match ended {
        Ok(report) => {
            let outcome = match report.outcome {
                Outcome::Complete | Outcome::Suspect => journal::Outcome::Done,
                Outcome::Incomplete => journal::Outcome::Incomplete,
                Outcome::Failed => journal::Outcome::Failed,
            };
            (outcome, serde_json::to_value(report).unwrap_or_default())
        }
        Err(OperationError::Cancelled) => (journal::Outcome::Interrupted, serde_json::Value::Null),
        Err(error) => {
            let report = serde_json::to_value(crate::report::ErrorReport::from(error));
            (journal::Outcome::Failed, report.unwrap_or_default())
        }
    };
    let end = RunEnd { finished: Timestamp::now(), outcome, report };
    tolerate(services, journal.finish_run(id, &end));
}

/// Records a step of a restore, which is known by its target and its beginning.
pub(crate) fn restore_step(
    services: &Services,
    target: &DatabaseRef,
    step: &str,
    began: Timestamp,
    ok: bool,
) {
    let Some(journal) = services.journal.as_ref() else { return };
    let step = Step {
        restore: target.connection.clone(),
        target: target.connection.clone(),
        step: step.to_owned(),
        started: began,
        finished: Some(Timestamp::now()),
        outcome: Some(if ok { journal::Outcome::Done } else { journal::Outcome::Failed }),
    };
    tolerate(services, journal.restore_step(&step));
}

/// Returns the rate of the last restore that is recorded to a database of that kind, in bytes per second.
pub(crate) fn restore_rate(services: &Services, kind: EngineKind) -> Option<u64> {
    // Below this the fixed costs are most of the time, and the rate says nothing.
    const TELLING_BYTES: u64 = 16 << 20;
    let runs = services.journal.as_ref()?.ended("restore", journal::Outcome::Done).ok()?;
    runs.into_iter().find_map(|run| {
        let report = run.end?.report;
        let is_server = report.get("target")?.as_str()?.contains("://");
        let performance = report.get("performance")?;
        let bytes = performance.get("bytes_written")?.as_u64()?;
        let rate = performance.get("bytes_per_second")?.as_u64()?;
        let fits = is_server == (kind != EngineKind::Sqlite) && bytes >= TELLING_BYTES && rate > 0;
        fits.then_some(rate)
    })
}

fn tolerate<T>(services: &Services, outcome: Result<T, JournalError>) -> Option<T> {
    match outcome {
        Ok(value) => Some(value),
        Err(error) => {
            services.context.observer.event(Event::Finding(error.finding()));
            None
        }
    }
}
