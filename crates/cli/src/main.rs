//! The binary `backstay`: the only part that prints, reads the environment or exits.
//!
//! A command returns what it came to; here that is shown, written where it was asked for, and turned into the exit
//! code. An interruption reaches the work through its `Cancel`, so that this function is always reached again.

mod absent;
mod age_options;
mod args;
mod commands;
mod confirm;
mod console;
mod doctor_repositories;
mod errors;
mod folder_backups;
mod folder_scopes;
mod globals;
mod json;
mod log;
mod made_configuration;
mod new_password;
mod opening;
mod password;
mod places;
mod plain_output;
mod progress;
mod prune_scopes;
mod references;
mod selecting;
mod session;
mod signals;
mod table;
mod wording;

use args::{Cli, Command};
use clap::{CommandFactory, Parser};
use console::Console;
use errors::{Failure, exit};
use globals::Globals;
use json::Finished;
use session::Session;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A closed pipe is nobody's problem; help was asked for, anything else was wrong usage.
            let _ = error.print();
            if !error.use_stderr() {
                return ExitCode::SUCCESS;
            }
            if std::env::args_os().any(|argument| argument == "--json") {
                let _ = std::io::stdout().write_all(json::misused(&error).as_bytes());
            }
            return ExitCode::from(exit::USAGE);
        }
    };
    let mut globals = cli.globals.normal();
    let console = Console::new(&globals);
    let started = jiff::Timestamp::now();
    let name = cli.command.name();
    let outcome = match check_report_place(&globals) {
        Ok(()) => {
            Session::begin(globals.clone(), console.clone()).and_then(|session| run(session, cli.command))
        }
        Err(failure) => {
            globals.report = None;
            Err(failure)
        }
    };
    console.progress().clear();
    let (object, failure) = match outcome {
        Ok(Some(finished)) => (Some(finished.object), finished.failure),
        Ok(None) => (None, None),
        Err(failure) => (Some(json::failed(name, started, &failure)), Some(failure)),
    };
    if let Some(failure) = &failure {
        failure.show(&console);
    }
    let mut code = failure.map_or(0, |failure| failure.exit_code);
    let mut deliver = |delivery: Result<(), Failure>| {
        if let Err(failure) = delivery {
            failure.show(&console);
            code = if code == 0 { failure.exit_code } else { code };
        }
    };
    if let (Some(path), Some(object)) = (&globals.report, &object) {
        deliver(json::write(path, object));
    }
    if let (true, Some(object)) = (globals.json, &object) {
        deliver(json::print(&console, object).map_err(Failure::from));
    }
    ExitCode::from(code)
}

/// A report that has nowhere to go is found out before the work, not after it.
fn check_report_place(globals: &Globals) -> Result<(), Failure> {
    let Some(report) = &globals.report else { return Ok(()) };
    let folder = report.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if folder.is_dir() && !report.is_dir() {
        return Ok(());
    }
    Err(Failure::usage(
        format!("the report cannot be written to {}", report.display()),
        "name a file in a folder that exists",
    ))
}

fn run(mut session: Session, command: Command) -> Result<Option<Finished>, Failure> {
    signals::listen(session.context.cancel.clone())
        .map_err(|error| Failure::new(exit::FAILED, "signals cannot be listened for").with_cause(&error))?;
    session.dry_run = command.is_dry_run();
    if command.wants_settings() {
        session.read_settings()?;
        session.warn_of_variables()?;
    }
    match command {
        Command::Demo(options) => commands::demo::run(&session, &options).map(Some),
        Command::Init(options) => commands::init::run(&mut session, &options).map(Some),
        Command::Doctor(options) => commands::doctor::run(&session, &options).map(Some),
        Command::Role(options) => commands::role::run(&session, &options).map(Some),
        Command::Backup(options) => commands::backup::run(&session, &options).map(Some),
        Command::List(options) => commands::list::run(&session, &options).map(Some),
        Command::Show(options) => commands::show::run(&session, &options).map(Some),
        Command::Verify(options) => commands::verify::run(&session, &options).map(Some),
        Command::Restore(options) => commands::restore::run(&session, &options).map(Some),
        Command::Export(options) => commands::export::run(&session, &options).map(Some),
        Command::Adopt(options) => commands::adopt::run(&session, &options).map(Some),
        Command::Takeover(options) => commands::takeover::run(&session, &options).map(Some),
        Command::Import(options) => commands::import::run(&session, &options).map(Some),
        Command::Accept(options) => commands::accept::run(&session, &options).map(Some),
        Command::Prune(options) => commands::prune::run(&session, &options).map(Some),
        Command::Check(options) => commands::check::run(&session, &options).map(Some),
        Command::Key(options) => commands::key::run(&session, &options).map(Some),
        Command::Unlock(options) => commands::unlock::run(&session, &options).map(Some),
        Command::Stats(options) => commands::stats::run(&session, &options).map(Some),
        Command::Completions(options) => {
            commands::completions::run(&session, &options, Cli::command()).map(|()| None)
        }
        Command::Man(options) => commands::man::run(&session, &options, Cli::command()).map(|()| None),
    }
}
