//! Which lines are said on standard error, and how they look: by `--quiet` and `--verbose`, by the variables
//! `BACKUP_LOG_LEVEL` and `BACKUP_LOG_FORMAT`, by the section `logging` of the configuration, in this order.
//!
//! Until the configuration is read, and where nothing else is said, lines are plain.

use crate::globals::Globals;
use config::{FolderLogging, LogFormat, LogLevel, LogProblem};
use flow::Environment;
use jiff::Zoned;
use std::sync::OnceLock;

/// How the program speaks on standard error. Shared by all that do.
#[derive(Debug)]
pub(crate) struct Log {
    /// What the command line says.
    given: Option<LogLevel>,
    settled: OnceLock<Settled>,
}

#[derive(Debug, PartialEq)]
struct Settled {
    level: LogLevel,
    format: Option<LogFormat>,
}

impl Log {
    /// Begins with what the command line says.
    pub(crate) fn new(globals: &Globals) -> Self {
        let given = match (globals.quiet, globals.verbose) {
            (true, _) => Some(LogLevel::Warning),
            (_, true) => Some(LogLevel::Debug),
            _ => None,
        };
        Self { given, settled: OnceLock::new() }
    }

    /// Takes what variables and the configuration say, once.
    pub(crate) fn settle(
        &self,
        environment: &Environment,
        settings: &FolderLogging,
    ) -> Result<(), LogProblem> {
        let of = |name: &'static str| {
            move |problem: LogProblem| LogProblem {
                message: format!("the variable {name}: {}", problem.message),
                ..problem
            }
        };
        let level = environment.get("BACKUP_LOG_LEVEL").map(LogLevel::parse).transpose();
        let level = level.map_err(of("BACKUP_LOG_LEVEL"))?;
        let format = environment.get("BACKUP_LOG_FORMAT").map(LogFormat::parse).transpose();
        let format = format.map_err(of("BACKUP_LOG_FORMAT"))?;
        let settled = Settled {
            level: self.given.or(level).or(settings.level).unwrap_or(LogLevel::Info),
            format: format.or_else(|| settings.format.clone()),
        };
        // Asked for once; a second answer would be the same.
        let _ = self.settled.set(settled);
        Ok(())
    }

    /// Returns the least level that is said.
    pub(crate) fn level(&self) -> LogLevel {
        self.settled.get().map_or_else(|| self.given.unwrap_or(LogLevel::Info), |settled| settled.level)
    }

    /// Tells whether a line of that level is said.
    pub(crate) fn says(&self, level: LogLevel) -> bool {
        level >= self.level()
    }

    /// Returns a line as it is to look; `word` stands before it where the format does not tell the level.
    pub(crate) fn line(&self, level: LogLevel, word: &str, text: &str) -> String {
        let with_word = || match word {
            "" => text.to_owned(),
            word => format!("{word} {text}"),
        };
        match self.settled.get().and_then(|settled| settled.format.as_ref()) {
            None => with_word(),
            Some(format) if format.says_level() => format.line(level, text, &Zoned::now()),
            Some(format) => format.line(level, &with_word(), &Zoned::now()),
        }
    }
}
