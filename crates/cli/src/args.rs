//! The command line: one definition, of which parsing, help, completions, man pages and `docs/cli.md` are made.

use crate::commands::{
    accept, adopt, backup, check, completions, demo, doctor, export, import, init, key, list, man, prune,
    restore, role, show, stats, takeover, unlock, verify,
};
use crate::globals::Globals;
use clap::{Parser, Subcommand};

const ABOUT: &str = "Backs up databases, restores them, and proves that every restore will work";

const AFTER_HELP: &str = "\
Examples:
  backstay demo                              see it all happen with a sample database
  backstay backup /srv/shop/shop.db          back up a SQLite database
  backstay backup postgres://backup@db1/erp  back up a PostgreSQL database
  backstay list                              the backups there are
  backstay restore /srv/shop/shop.db@latest  put the newest one back
  backstay verify                            read back the newest backup of each database

Exit codes:
    0  done
    1  failed: the repository's side, its disk full among it
    2  wrong usage or configuration, an ambiguous name, or a question and no terminal
    3  finished, but some databases or files failed
   10  repository not found
   11  repository locked, or restore target in use
   12  wrong password, or none
   20  the database side failed: missing, unreadable, not a database, busy
   21  a FAIL of verify or check, or a problem that doctor found
  130  interrupted";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "backstay", version, about = ABOUT, after_help = AFTER_HELP, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands, in the order in which a person meets them.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(demo::Options),
    Init(init::Options),
    Doctor(doctor::Options),
    Role(role::Options),
    Backup(backup::Options),
    List(list::Options),
    Show(show::Options),
    Verify(verify::Options),
    Restore(restore::Options),
    Export(export::Options),
    Import(import::Options),
    Prune(prune::Options),
    Check(check::Options),
    Key(key::Options),
    Accept(accept::Options),
    Unlock(unlock::Options),
    Stats(stats::Options),
    Adopt(adopt::Options),
    Takeover(takeover::Options),
    Completions(completions::Options),
    Man(man::Options),
}

impl Command {
    /// Returns the name by which reports call the command.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Demo(_) => "demo",
            Self::Init(_) => "init",
            Self::Doctor(_) => "doctor",
            Self::Role(_) => "role",
            Self::Backup(_) => "backup",
            Self::List(_) => "list",
            Self::Show(_) => "show",
            Self::Verify(_) => "verify",
            Self::Restore(_) => "restore",
            Self::Export(_) => "export",
            Self::Import(_) => "import",
            Self::Prune(_) => "prune",
            Self::Check(_) => "check",
            Self::Key(_) => "key",
            Self::Accept(_) => "accept",
            Self::Unlock(_) => "unlock",
            Self::Stats(_) => "stats",
            Self::Adopt(_) => "adopt",
            Self::Takeover(_) => "takeover",
            Self::Completions(_) => "completions",
            Self::Man(_) => "man",
        }
    }

    /// Tells whether nothing is to be changed, not even the journal.
    pub(crate) fn is_dry_run(&self) -> bool {
        match self {
            Self::Backup(options) => options.dry_run.dry_run,
            Self::Role(options) => options.dry_run.dry_run,
            Self::Adopt(options) => options.dry_run.dry_run,
            Self::Takeover(options) => options.dry_run.dry_run,
            Self::Accept(options) => options.dry_run.dry_run,
            Self::Verify(options) => options.dry_run.dry_run,
            Self::Restore(options) => options.dry_run.dry_run,
            Self::Export(options) => options.dry_run.dry_run,
            Self::Import(options) => options.dry_run.dry_run,
            Self::Key(options) => options.is_dry_run(),
            Self::Unlock(options) => options.dry_run.dry_run,
            Self::Prune(options) => options.dry_run.dry_run,
            Self::Check(options) => options.dry_run,
            _ => false,
        }
    }

    /// Tells whether the command reads the configuration. `init` looks for one by itself, `adopt` and
    /// `takeover` write it.
    pub(crate) fn wants_settings(&self) -> bool {
        !matches!(
            self,
            Self::Demo(_)
                | Self::Init(_)
                | Self::Adopt(_)
                | Self::Takeover(_)
                | Self::Completions(_)
                | Self::Man(_)
        )
    }
}
