//! Progress: a bar with bytes, rate and time left on a terminal; elsewhere a plain line at most every few seconds;
//! nothing where the person wants quiet. Findings are always shown, and the same one once.

use crate::log::Log;
use crate::wording::{duration, size};
use config::LogLevel;
use flow::{Event, Finding, Observer, Phase, Severity, Stall};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::HashSet;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How far apart plain lines are.
const LINE_DISTANCE: Duration = Duration::from_secs(5);

const STYLE_OF_KNOWN: &str =
    "{msg} [{bar:30}] {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left";
const STYLE_OF_UNKNOWN: &str = "{spinner} {msg} {binary_bytes} in {elapsed}";

struct State {
    bar: Option<ProgressBar>,
    phase: String,
    total_bytes: Option<u64>,
    began: Instant,
    last_line: Instant,
    /// What was said, and of what: a list that is read twice in a run finds the same twice.
    told: HashSet<(String, String)>,
}

/// Takes the events of the work and shows them on standard error.
pub(crate) struct Progress {
    log: Arc<Log>,
    on_terminal: bool,
    bytes: AtomicU64,
    findings: AtomicU64,
    state: Mutex<State>,
}

impl Progress {
    pub(crate) fn new(log: Arc<Log>, on_terminal: bool) -> Self {
        let now = Instant::now();
        let state = State {
            bar: None,
            phase: String::new(),
            total_bytes: None,
            began: now,
            last_line: now,
            told: HashSet::new(),
        };
        Self {
            log,
            on_terminal,
            bytes: AtomicU64::new(0),
            findings: AtomicU64::new(0),
            state: Mutex::new(state),
        }
    }

    /// Takes the bar off the screen, so that something else can be written. The next phase draws a new one.
    pub(crate) fn clear(&self) {
        if let Some(bar) = self.lock().bar.take() {
            bar.finish_and_clear();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn phase(&self, phase: Phase) {
        let mut state = self.lock();
        if let Some(bar) = state.bar.take() {
            bar.finish_and_clear();
        }
        self.bytes.store(0, Ordering::Relaxed);
        state.phase = sentence(&phase.name);
        state.total_bytes = phase.total_bytes;
        state.began = Instant::now();
        state.last_line = state.began;
        if self.log.says(LogLevel::Info) && self.on_terminal {
            state.bar = Some(bar(&state.phase, phase.total_bytes));
        }
    }

    fn advance(&self, bytes: u64) {
        let sum = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if !self.log.says(LogLevel::Info) {
            return;
        }
        // Whoever finds the lock taken leaves the drawing to the one that has it: the work is not to wait.
        let Ok(mut state) = self.state.try_lock() else { return };
        if let Some(bar) = &state.bar {
            // What grew while it was read, or was read twice, is more than was known of at first.
            if state.total_bytes.is_some_and(|total| sum > total) {
                bar.set_length(sum);
            }
            bar.set_position(sum);
        } else if !self.on_terminal && state.last_line.elapsed() >= LINE_DISTANCE {
            state.last_line = Instant::now();
            let rate = sum as f64 / state.began.elapsed().as_secs_f64().max(0.001);
            let line =
                format!("{}: {}, {}/s.", state.phase, how_far(sum, state.total_bytes), size(rate as u64));
            let _ = writeln!(std::io::stderr().lock(), "{}", self.log.line(LogLevel::Info, "", &line));
        }
    }

    /// Also said where the person wants quiet: without it nobody knows why nothing happens.
    fn stall(&self, stall: &Stall) {
        if !self.log.says(LogLevel::Warning) {
            return;
        }
        let state = self.lock();
        let line = self.log.line(LogLevel::Warning, "", &told(stall));
        let show = || drop(writeln!(std::io::stderr().lock(), "{line}"));
        match &state.bar {
            Some(bar) => bar.suspend(show),
            None => show(),
        }
    }

    fn finding(&self, finding: &Finding) {
        let mut state = self.lock();
        if !state.told.insert((finding.object.clone(), finding.message.clone())) {
            return;
        }
        self.findings.fetch_add(1, Ordering::Relaxed);
        let show = || {
            let (level, word) = match finding.severity {
                Severity::Notice => (LogLevel::Info, "notice:"),
                Severity::Warning => (LogLevel::Warning, "warning:"),
                Severity::Problem => (LogLevel::Error, "problem:"),
            };
            if !self.log.says(level) {
                return;
            }
            let text = format!("{}: {}", finding.object, finding.message);
            let mut err = std::io::stderr().lock();
            let _ = writeln!(err, "{}", self.log.line(level, word, &text));
            if let Some(hint) = &finding.hint {
                let _ = writeln!(err, "{}", self.log.line(level, "hint:", hint));
            }
        };
        match &state.bar {
            Some(bar) => bar.suspend(show),
            None => show(),
        }
    }
}

/// Returns what is said of a call that hangs, or goes on.
fn told(stall: &Stall) -> String {
    let Stall { verb, object, waited, over } = stall;
    let waited = duration(u64::try_from(waited.as_millis()).unwrap_or(u64::MAX));
    match over {
        false => format!("stalled: {verb} of {object}: no answer for {waited}"),
        true => format!("goes on: {verb} of {object}, after {waited}"),
    }
}

fn bar(phase: &str, total_bytes: Option<u64>) -> ProgressBar {
    let (bar, style) = match total_bytes {
        Some(total) => (ProgressBar::new(total), ProgressStyle::with_template(STYLE_OF_KNOWN)),
        None => (ProgressBar::new_spinner(), ProgressStyle::with_template(STYLE_OF_UNKNOWN)),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
    let bar = bar.with_message(phase.to_owned());
    match style {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}

/// Returns how far the work is. More than was known of at first is never shown as a part of it.
fn how_far(sum: u64, total_bytes: Option<u64>) -> String {
    match total_bytes {
        Some(total) if sum > total => format!("{}, and it had {} at first", size(sum), size(total)),
        Some(total) => format!("{} of {}", size(sum), size(total)),
        None => size(sum),
    }
}

fn sentence(clause: &str) -> String {
    let mut letters = clause.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

impl Observer for Progress {
    fn event(&self, event: Event) {
        match event {
            Event::Phase(phase) => self.phase(phase),
            Event::Bytes(bytes) => self.advance(bytes),
            Event::Finding(finding) => self.finding(&finding),
            Event::Stall(stall) => self.stall(&stall),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_hangs_is_named_with_its_object() {
        let waited = Duration::from_secs(30);
        let mut stall =
            Stall { verb: "put", object: "data/3f/3fa1 in /mnt/nas".to_owned(), waited, over: false };
        assert_eq!(told(&stall), "stalled: put of data/3f/3fa1 in /mnt/nas: no answer for 30 s");
        stall.over = true;
        assert_eq!(told(&stall), "goes on: put of data/3f/3fa1 in /mnt/nas, after 30 s");
    }

    #[test]
    fn a_database_that_grows_is_never_more_than_whole() {
        assert_eq!(how_far(512, Some(1024)), "512 B of 1.0 KiB");
        assert_eq!(how_far(2048, Some(1024)), "2.0 KiB, and it had 1.0 KiB at first");
        assert_eq!(how_far(512, None), "512 B");
        let globals = crate::globals::Globals::plain();
        let progress = Progress::new(Arc::new(Log::new(&globals)), true);
        progress.phase(Phase { name: "reading".to_owned(), total_bytes: Some(1000) });
        progress.advance(600);
        progress.advance(600);
        let state = progress.lock();
        let bar = state.bar.as_ref();
        assert_eq!(bar.and_then(ProgressBar::length), Some(1200));
        assert_eq!(bar.map(ProgressBar::position), Some(1200));
    }
}
