//! What a person sees. Data goes to standard output, everything else to standard error; a reader of standard output
//! that went away (`| head`) ends the program quietly.

use crate::globals::{Color, Globals};
use crate::log::Log;
use crate::progress::Progress;
use config::{FolderLogging, LogLevel, LogProblem};
use flow::{Environment, Finding, Severity};
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

/// How the program speaks.
#[derive(Clone)]
pub(crate) struct Console {
    log: Arc<Log>,
    json: bool,
    color_out: bool,
    color_err: bool,
    progress: Arc<Progress>,
}

impl Console {
    pub(crate) fn new(globals: &Globals) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let choose = |terminal: bool| match globals.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && !plain,
        };
        let on_terminal = io::stderr().is_terminal();
        let log = Arc::new(Log::new(globals));
        Self {
            log: Arc::clone(&log),
            json: globals.json,
            color_out: choose(io::stdout().is_terminal()),
            color_err: choose(on_terminal),
            progress: Arc::new(Progress::new(log, on_terminal)),
        }
    }

    /// Returns whom the work tells about its progress.
    pub(crate) fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    /// Prints data on standard output, unless an object is printed there instead.
    pub(crate) fn data(&self, text: &str) -> io::Result<()> {
        if self.json { Ok(()) } else { self.raw(text) }
    }

    /// Prints on standard output.
    pub(crate) fn raw(&self, text: &str) -> io::Result<()> {
        self.progress.clear();
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        if !text.ends_with('\n') {
            out.write_all(b"\n")?;
        }
        out.flush()
    }

    /// Takes what variables and the configuration say about the lines on standard error, and returns the least level
    /// that is said.
    pub(crate) fn settle(
        &self,
        environment: &Environment,
        settings: &FolderLogging,
    ) -> Result<LogLevel, LogProblem> {
        self.log.settle(environment, settings)?;
        Ok(self.log.level())
    }

    /// Says a status sentence on standard error, unless the person wants quiet.
    pub(crate) fn say(&self, sentence: &str) {
        self.line(LogLevel::Info, "", sentence);
    }

    /// Says what only a person who asked for more wants to know.
    pub(crate) fn detail(&self, sentence: &str) {
        self.line(LogLevel::Debug, "", sentence);
    }

    /// Says a warning; also where the person wants quiet.
    pub(crate) fn warn(&self, message: &str, hint: Option<&str>) {
        self.line(LogLevel::Warning, &self.yellow("warning:"), message);
        if let Some(hint) = hint {
            self.line(LogLevel::Warning, "hint:", hint);
        }
    }

    /// Says what belongs to an error.
    pub(crate) fn error(&self, word: &str, message: &str) {
        self.line(LogLevel::Error, word, message);
    }

    fn line(&self, level: LogLevel, word: &str, text: &str) {
        if self.log.says(level) {
            self.write(&self.log.line(level, word, text));
        }
    }

    /// Says what has to be said even where the person wants quiet.
    pub(crate) fn note(&self, line: &str) {
        self.write(&self.log.line(LogLevel::Info, "", line));
    }

    /// Writes a line to standard error. Where that is closed there is nobody left to tell.
    fn write(&self, line: &str) {
        self.progress.clear();
        let _ = writeln!(io::stderr().lock(), "{line}");
    }

    /// Shows a finding as a line of data.
    pub(crate) fn finding(&self, finding: &Finding) -> String {
        let word = match finding.severity {
            Severity::Notice => "notice:".to_owned(),
            Severity::Warning => paint(self.color_out, "33", "warning:"),
            Severity::Problem => paint(self.color_out, "31;1", "problem:"),
        };
        let hint = finding.hint.as_ref().map(|hint| format!("\n  hint: {hint}")).unwrap_or_default();
        format!("{word} {}: {}{hint}", finding.object, finding.message)
    }

    /// Returns `PASS` or `FAIL` for standard output.
    pub(crate) fn verdict(&self, passed: bool) -> String {
        if passed { paint(self.color_out, "32", "PASS") } else { paint(self.color_out, "31;1", "FAIL") }
    }

    pub(crate) fn red(&self, text: &str) -> String {
        paint(self.color_err, "31;1", text)
    }

    pub(crate) fn yellow(&self, text: &str) -> String {
        paint(self.color_err, "33", text)
    }

    pub(crate) fn bold(&self, text: &str) -> String {
        paint(self.color_err, "1", text)
    }
}

fn paint(color: bool, code: &str, text: &str) -> String {
    if color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}
