//! `completions`: the script by which a shell completes our command line.

use crate::errors::Failure;
use crate::session::Session;
use clap::Args;
use clap_complete::Shell;

/// Print the completion script of a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  backstay completions bash > /etc/bash_completion.d/backstay
  backstay completions fish > ~/.config/fish/completions/backstay.fish")]
pub(crate) struct Options {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub(crate) fn run(session: &Session, options: &Options, mut command: clap::Command) -> Result<(), Failure> {
    if session.globals.json {
        return Err(Failure::usage("a completion script has no JSON form", "leave out --json"));
    }
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut command, "backstay", &mut script);
    session.console.raw(&String::from_utf8_lossy(&script))?;
    Ok(())
}
