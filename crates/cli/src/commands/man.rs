//! `man`: the manual pages, of the same definition as the help.

use crate::errors::{Failure, exit};
use crate::globals::DryRun;
use crate::session::Session;
use crate::wording::count;
use clap::Args;
use std::path::PathBuf;

/// Print the manual page, or write all pages into a folder
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  backstay man | man -l -
  backstay man /usr/local/share/man/man1")]
pub(crate) struct Options {
    /// The folder for one page of the program and one of each command; it must exist
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,

    #[command(flatten)]
    dry_run: DryRun,
}

pub(crate) fn run(session: &Session, options: &Options, command: clap::Command) -> Result<(), Failure> {
    if session.globals.json {
        return Err(Failure::usage("a manual page has no JSON form", "leave out --json"));
    }
    let command = command.disable_help_subcommand(true);
    let Some(folder) = &options.folder else {
        session.console.raw(&page(&command)?)?;
        return Ok(());
    };
    let folder = session.absolute(folder);
    let mut built = command;
    built.build();
    let below =
        built.get_subcommands().flat_map(|command| std::iter::once(command).chain(command.get_subcommands()));
    let all = std::iter::once(&built).chain(below);
    let pages = all
        .map(|command| Ok((clap_mangen::Man::new(command.clone()).get_filename(), page(command)?)))
        .collect::<Result<Vec<_>, Failure>>()?;
    for (name, page) in &pages {
        let path = folder.join(name);
        if options.dry_run.dry_run {
            session.console.data(&format!("would write {}", path.display()))?;
            continue;
        }
        storage::atomic_write(&path, page.as_bytes(), 0o644).map_err(|error| {
            Failure::new(exit::FAILED, format!("{} cannot be written", path.display()))
                .with_cause(&error)
                .with_hint("name a folder that exists and may be written")
        })?;
    }
    if !options.dry_run.dry_run {
        session.console.say(&format!(
            "Wrote {} to {}.",
            count(pages.len() as u64, "page", "pages"),
            folder.display()
        ));
    }
    Ok(())
}

fn page(command: &clap::Command) -> Result<String, Failure> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone())
        .render(&mut page)
        .map_err(|error| Failure::new(exit::FAILED, "the manual page cannot be made").with_cause(&error))?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}
