//! The options that every command has.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// When output is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// The options that every command has.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Globals {
    /// Configuration file, TOML or JSON by its ending
    ///
    /// Without it: ./backstay.toml, $XDG_CONFIG_HOME/backstay/config.toml, /etc/backstay/config.toml; the first that
    /// is there. None is needed.
    #[arg(long, value_name = "FILE", global = true, env = "BACKSTAY_CONFIG", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,

    /// Repository: a configured name, or a folder
    ///
    /// Without it: the one that the configuration says, else $XDG_DATA_HOME/backstay/repository.
    #[arg(
        long,
        value_name = "NAME|PATH",
        global = true,
        env = "BACKSTAY_REPOSITORY",
        hide_env_values = true
    )]
    pub(crate) repository: Option<String>,

    /// Print one JSON object on standard output
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Write the same JSON object to a file
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) report: Option<PathBuf>,

    /// Say nothing but data, warnings and errors
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Say more
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,

    /// Answer prompts with yes
    #[arg(long, short, global = true)]
    pub(crate) yes: bool,

    /// Colours
    #[arg(long, value_name = "WHEN", global = true, default_value = "auto")]
    pub(crate) color: Color,
}

impl Globals {
    /// Returns the options with empty variables of the environment taken as unset.
    pub(crate) fn normal(mut self) -> Self {
        self.config = self.config.filter(|path| !path.as_os_str().is_empty());
        self.repository = self.repository.filter(|text| !text.is_empty());
        self
    }

    /// Returns what holds where nothing is given.
    #[cfg(test)]
    pub(crate) fn plain() -> Self {
        Self {
            config: None,
            repository: None,
            json: false,
            report: None,
            quiet: false,
            verbose: false,
            yes: false,
            color: Color::Never,
        }
    }
}

/// The option of every command that changes something.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct DryRun {
    /// Tell what would be done, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}
