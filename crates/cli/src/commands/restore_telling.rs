//! What a restore is going to do, the question for the target's name, and what was done, in words.

use super::restore_options::Options;
use crate::confirm::{self, Question};
use crate::errors::Failure;
use crate::json::Finished;
use crate::session::Session;
use crate::wording::{duration, moment, size};
use engines::RestorePlan;
use flow::DatabaseRef;
use operations::report::Report;
use operations::restore::{Planned, RestoreBody};
use std::path::Path;

pub(super) fn show_plan(session: &Session, options: &Options, planned: &Planned) {
    // Whoever is asked sees what about, also where they want quiet.
    let answered = session.globals.yes || options.confirm.is_some() || options.replaces_nothing();
    let say = |line: &str| match answered {
        true => session.console.say(line),
        false => session.console.note(line),
    };
    say(&format!(
        "Restoring {} of {} to {}.",
        planned.shown,
        moment(planned.time, &session.zone),
        planned.target.connection
    ));
    for line in plan_lines(&planned.plan, planned.estimated_ms) {
        say(&line);
    }
}

fn plan_lines(plan: &RestorePlan, estimated_ms: u64) -> Vec<String> {
    let mut lines: Vec<String> = plan.actions.iter().map(|action| format!("  - {action}")).collect();
    let free = plan
        .free_bytes
        .map_or("an unknown number of bytes is free".to_owned(), |free| format!("{} are free", size(free)));
    if estimated_ms > 0 {
        lines.push(format!(
            "It writes {}, needs {} of space ({free}), and takes about {}.",
            size(plan.write_bytes),
            size(plan.needed_bytes),
            duration(estimated_ms)
        ));
    }
    if !plan.holders.is_empty() {
        let holders: Vec<String> = plan.holders.iter().map(confirm::describe).collect();
        lines.push(format!("The target is in use by {}.", holders.join(", ")));
    }
    lines
}

pub(super) fn ask(session: &Session, options: &Options, planned: &Planned) -> Result<(), Failure> {
    let name = typed_name(session, &planned.target);
    let place = match options.table[..] {
        [] => planned.target.connection.clone(),
        _ => format!("{} of {}", options.table.join(", "), planned.target.connection),
    };
    confirm::ask(
        &Question {
            name: &name,
            place: &place,
            holders: &planned.plan.holders,
            ends_holders: planned.plan.ends_holders,
            confirm: options.confirm.as_deref(),
            yes: session.globals.yes,
        },
        &session.console,
    )
}

/// Returns what a person types: the configured name, or the name of the file or the database.
fn typed_name(session: &Session, target: &DatabaseRef) -> String {
    if session.settings.targets.contains_key(target.target.as_str()) {
        return session.label(target.target.as_str(), Some(target.name.as_str()), None);
    }
    if target.connection.starts_with("postgres://") {
        return target.name.to_string();
    }
    let path = Path::new(&target.connection);
    path.file_name().map_or_else(|| target.connection.clone(), |name| name.to_string_lossy().into_owned())
}

pub(super) fn show_dry_run(session: &Session, report: &Report<RestoreBody>) -> Result<Finished, Failure> {
    if let Some(plan) = &report.body.plan {
        // A way back has no steps of a restore.
        let verb = if plan.steps.is_empty() { "roll back the restore of" } else { "restore to" };
        session.console.data(&format!("would {verb} {}:", report.body.target))?;
        for line in plan_lines(plan, report.body.estimated_ms.unwrap_or(0)) {
            session.console.data(&line)?;
        }
    }
    for refusal in &report.body.refusals {
        session.console.data(&format!("would be refused: {refusal}"))?;
    }
    session.console.say("Nothing was changed: this was a dry run.");
    Finished::new(report)
}

pub(super) fn tell(session: &Session, report: &Report<RestoreBody>) {
    let body = &report.body;
    let proven = if body.verified { ", compared with the backup and checked" } else { "" };
    let verb = if body.rolled_back { "Rolled back" } else { "Restored" };
    let bytes = if body.rolled_back {
        String::new()
    } else {
        format!(" ({}{proven})", size(body.performance.bytes_written))
    };
    session.console.say(&format!("{verb} {}{bytes} in {}.", body.target, duration(report.elapsed_ms)));
    for step in &body.steps {
        session.console.detail(&format!("  {:<10} {}", step.name, duration(step.elapsed_ms)));
    }
    if let Some(copy) = &body.safety_copy {
        session.console.say(&format!("What it held before is kept as {copy}"));
    }
    if body.rolled_back {
        session.console.say("The target is as it was before the restore.");
    }
}
