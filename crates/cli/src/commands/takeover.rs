//! `takeover`: an existing script or crontab as a configuration, shown as a diff, and written where somebody accepts it.
//!
//! The script is read and never run. What was configured is kept beside as `.old`; a crash leaves the old configuration or
//! the new one.

use crate::errors::{Failure, exit};
use crate::globals::DryRun;
use crate::json::Finished;
use crate::made_configuration;
use crate::session::Session;
use crate::signals::Waiting;
use crate::wording::{count, printable};
use clap::Args;
use config::Settings;
use config::takeover::{self, Draft, Drafted, ScriptPlace, Taken, unified_diff};
use flow::quoted;
use operations::report::{Outcome, Report};
use serde::Serialize;
use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Make a configuration of an existing script or crontab
///
/// Recognised are pg_dump, pg_dumpall, sqlite3 .backup and .dump, and cp of databases, with what packs them, where they write
/// to, find -mtime -delete, loops over tenants, and variables. The script is read and never run. What would be added to the
/// configuration is shown as a diff, and written with --yes, or when the question is answered. Each line that was not
/// understood is named; then the exit code is 3.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  backstay takeover /usr/local/bin/backup.sh --dry-run
  backstay takeover /etc/cron.d/backup --yes
  backstay takeover crontab                 the lines of `crontab -l`")]
pub(crate) struct Options {
    /// A shell script, a file of cron lines, or crontab for those of this user
    #[arg(value_name = "FILE|crontab")]
    script: String,

    #[command(flatten)]
    pub(crate) dry_run: DryRun,
}

/// The report's own part.
#[derive(Debug, Serialize)]
struct TakeoverBody {
    script: String,
    configuration: String,
    /// Empty where nothing is to be added.
    diff: String,
    targets: Vec<TargetItem>,
    understood: Vec<UnderstoodItem>,
    not_understood: Vec<LeftItem>,
    schedules: Vec<ScheduleItem>,
    notes: Vec<String>,
    /// Where the configuration that was there is kept; null where there was none, or nothing was written.
    old: Option<String>,
    written: bool,
    dry_run: bool,
}

#[derive(Debug, Serialize)]
struct TargetItem {
    name: String,
    source: String,
    plan: String,
    repository: String,
    folder: String,
    names: String,
    form: String,
    keep: Option<String>,
    lines: Vec<usize>,
}

#[derive(Debug, Serialize)]
struct UnderstoodItem {
    line: usize,
    what: String,
}

#[derive(Debug, Serialize)]
struct LeftItem {
    line: usize,
    program: String,
    reason: String,
}

#[derive(Debug, Serialize)]
struct ScheduleItem {
    line: usize,
    when: String,
    command: String,
}

pub(crate) fn run(session: &Session, options: &Options) -> Result<Finished, Failure> {
    let (text, place) = script(session, &options.script)?;
    let file = configuration_file(session)?;
    let existing = match file.try_exists() {
        Ok(true) => Some(config::read(&file)?),
        _ => None,
    };
    if file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json")) {
        return Err(Failure::usage(
            format!("{} is JSON, and what is taken over is written as TOML", file.display()),
            "name a file that ends in .toml by --config",
        ));
    }
    let origin = place.shown();
    let mut taken = takeover::takeover(&text, &place);
    let default = Some(session.places.default_repository()).filter(|path| path.join("config").exists());
    let draft =
        Draft { file: &file, existing: existing.as_ref(), default: default.as_deref(), origin: &origin };
    let (new, drafted) = takeover::draft(&mut taken, draft)?;
    let old = existing.as_ref().map(|own| own.text.as_str());
    let diff = unified_diff(&file.display().to_string(), old, &new);
    let mut body = body(session, (&origin, &file, diff), &taken, &drafted);
    body.dry_run = options.dry_run.dry_run;
    tell(session, &body)?;
    if taken.is_empty() {
        let failure = Failure::usage(
            format!("nothing in {origin} writes a dump that can be taken over"),
            "`backstay init` writes a configuration of the databases that it finds",
        );
        return Finished::failing(Report::new("takeover", session.started, Outcome::Failed, body), failure);
    }
    if !body.diff.is_empty() && !body.dry_run && is_accepted(session, &file)? {
        body.old = write(&file, existing.as_ref(), &new)?;
        body.written = true;
    }
    tell_end(session, &body);
    let left = body.not_understood.len() as u64;
    let outcome = if left == 0 { Outcome::Complete } else { Outcome::Incomplete };
    let report = Report::new("takeover", session.started, outcome, body);
    if left == 0 {
        return Finished::new(&report);
    }
    let failure =
        Failure::new(exit::INCOMPLETE, format!("{} not understood", count(left, "line was", "lines were")))
            .with_hint("keep them in the script, or say in the configuration what they are for");
    Finished::failing(report, failure)
}

/// Reads the script, or what `crontab -l` prints.
fn script(session: &Session, named: &str) -> Result<(String, ScriptPlace), Failure> {
    let home = session.context.environment.get("HOME").map(PathBuf::from);
    let mut place = ScriptPlace { file: None, home, user: session.user.clone(), host: session.host.clone() };
    if named == "crontab" {
        return Ok((crontab()?, place));
    }
    let path = session.absolute(Path::new(named));
    let failed = |message: &str| {
        Failure::new(exit::DATABASE, format!("{}: {message}", path.display())).with_hint(
            "name a shell script or a file of cron lines; `crontab` alone means those of this user",
        )
    };
    let bytes = std::fs::read(&path).map_err(|error| failed("cannot be read").with_cause(&error))?;
    let text = String::from_utf8(bytes).map_err(|_| failed("is no text"))?;
    place.file = Some(config::canonical_path(&path));
    Ok((text, place))
}

fn crontab() -> Result<String, Failure> {
    let failed = |message: &str| {
        Failure::new(exit::DATABASE, format!("`crontab -l` {message}"))
            .with_hint("name the file that has the lines, as in /etc/cron.d/backup")
    };
    let output = Command::new("crontab").arg("-l").output();
    let output = output.map_err(|error| failed("cannot be run").with_cause(&error))?;
    if !output.status.success() {
        return Err(failed("says that this user has no crontab"));
    }
    String::from_utf8(output.stdout).map_err(|_| failed("prints no text"))
}

/// Returns the configuration in effect, by its true place; where there is none, the one that would be found.
fn configuration_file(session: &Session) -> Result<PathBuf, Failure> {
    let places = session.config_places();
    let named = places.named.as_ref().map(|file| session.absolute(file));
    let file = match named {
        Some(file) => file,
        None => config::find(&places)?.unwrap_or_else(|| {
            let [_, user, _] = places.candidates();
            user
        }),
    };
    Ok(config::canonical_path(&file))
}

fn body(
    session: &Session,
    (origin, file, diff): (&str, &Path, String),
    taken: &Taken,
    drafted: &[Drafted],
) -> TakeoverBody {
    let notes: BTreeSet<String> = drafted
        .iter()
        .flat_map(|own| own.notes.iter().map(|note| format!("{}: {note}", own.target)))
        .collect();
    let item = |own: &Drafted| TargetItem {
        name: own.target.clone(),
        source: own.source.clone(),
        plan: own.plan.clone(),
        repository: own.repository.clone(),
        folder: own.folder.display().to_string(),
        names: own.names.clone(),
        form: own.form.clone(),
        keep: own.keep.clone(),
        lines: own.lines.clone(),
    };
    let config = match session.globals.config {
        Some(_) => format!(" --config {}", quoted(&file.display().to_string())),
        None => String::new(),
    };
    let schedule = |own: &takeover::Schedule| {
        let targets: BTreeSet<&str> = drafted
            .iter()
            .filter(|plan| plan.lines.contains(&own.line))
            .map(|plan| plan.target.as_str())
            .collect();
        let targets = targets.into_iter().collect::<Vec<_>>().join(" ");
        ScheduleItem {
            line: own.line,
            when: own.when.clone(),
            command: format!("backstay backup {targets} --quiet{config}"),
        }
    };
    TakeoverBody {
        script: origin.to_owned(),
        configuration: file.display().to_string(),
        diff,
        targets: drafted.iter().map(item).collect(),
        understood: taken
            .understood
            .iter()
            .map(|own| UnderstoodItem { line: own.line, what: own.what.clone() })
            .collect(),
        not_understood: taken
            .left
            .iter()
            .map(|own| LeftItem { line: own.line, program: own.program.clone(), reason: own.reason.clone() })
            .collect(),
        schedules: taken.schedules.iter().map(schedule).collect(),
        notes: notes.into_iter().collect(),
        old: None,
        written: false,
        dry_run: false,
    }
}

fn tell(session: &Session, body: &TakeoverBody) -> Result<(), Failure> {
    if !body.diff.is_empty() {
        session.console.data(&body.diff)?;
    }
    for own in &body.understood {
        session.console.detail(&format!("Line {}: {}.", own.line, printable(&own.what)));
    }
    for own in &body.not_understood {
        let place = format!("{}:{}", body.script, own.line);
        session.console.warn(&format!("{place}: {}: {}", printable(&own.program), own.reason), None);
    }
    for note in &body.notes {
        session.console.say(&format!("note: {}", printable(note)));
    }
    Ok(())
}

fn tell_end(session: &Session, body: &TakeoverBody) {
    let say = |text: &str| session.console.say(text);
    match (body.diff.is_empty(), body.written) {
        (true, _) => return say(&format!("{} has all of that already.", body.configuration)),
        (false, false) if body.dry_run => return say("Nothing was written: this was a dry run."),
        (false, false) => return say("Nothing was written; --yes writes it."),
        (false, true) => say(&format!("Wrote {}.", body.configuration)),
    }
    if let Some(old) = &body.old {
        say(&format!("What it was before is kept as {old}"));
    }
    let targets: BTreeSet<&str> = body.targets.iter().map(|own| own.name.as_str()).collect();
    say("Next:");
    for target in targets {
        say(&format!("  backstay backup {target}"));
    }
    for own in &body.schedules {
        say(&format!("  in place of line {}:  {} {}", own.line, own.when, own.command));
    }
}

fn is_accepted(session: &Session, file: &Path) -> Result<bool, Failure> {
    if session.globals.yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    let waiting = Waiting::begin();
    let _ = write!(std::io::stderr().lock(), "Write this to {}? [y/N] ", file.display());
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    drop(waiting);
    read.map_err(|error| Failure::usage("the answer cannot be read", "add --yes").with_cause(&error))?;
    Ok(["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
}

/// Writes the configuration; returns where the one that was there is kept.
fn write(file: &Path, existing: Option<&Settings>, text: &str) -> Result<Option<String>, Failure> {
    let Some(existing) = existing else {
        return made_configuration::write(file, text).map(|()| None);
    };
    let failed = |path: &Path, error: &dyn std::error::Error| {
        Failure::new(exit::FAILED, format!("{} cannot be written", path.display()))
            .with_cause(error)
            .with_hint("give this user the right to write there, or name another file by --config")
    };
    let now = std::fs::read_to_string(file).map_err(|error| failed(file, &error))?;
    if now != existing.text {
        return Err(Failure::usage(
            format!("{} was changed meanwhile, and is not written over", file.display()),
            "run it again",
        ));
    }
    let mode = std::fs::metadata(file).map_or(0o600, |metadata| metadata.permissions().mode() & 0o777);
    let name = |number: u32| {
        let number = if number > 1 { format!("-{number}") } else { String::new() };
        PathBuf::from(format!("{}.old{number}", file.display()))
    };
    const TRIED: u32 = 1000;
    for number in 1..TRIED {
        let old = name(number);
        match storage::write_new(&old, existing.text.as_bytes(), mode) {
            Ok(()) => {
                storage::atomic_write(file, text.as_bytes(), mode).map_err(|error| failed(file, &error))?;
                return Ok(Some(old.display().to_string()));
            }
            Err(error) if error.kind == storage::StorageErrorKind::Exists => {}
            Err(error) => return Err(failed(&old, &error)),
        }
    }
    Err(Failure::usage(format!("{} has a thousand old versions", file.display()), "remove some of them"))
}
