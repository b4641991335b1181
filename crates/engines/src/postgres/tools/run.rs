//! A running program: its output is read as it comes, its complaints are collected, and it ends when the work is
//! cancelled or nobody wants it any more: first asked (it then ends its statement at the server), after a moment killed.

use super::environment::{Access, inherited};
use super::find::Program;
use flow::{Cancel, CancelGuard, Environment, SourceError, SourceErrorKind};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How much of a program's complaints is kept: the beginning, which names the reason.
const COMPLAINTS_MAX_BYTES: usize = 64 << 10;
/// How long a program may take to fail by itself, once what it wrote broke off.
const FAILING_MAX: Duration = Duration::from_secs(3);
/// How long one may take that was asked to end. It tells its server, which may have gone silent.
const ENDING_MAX: Duration = Duration::from_secs(1);
/// How long one may take to end whose output ended.
const CLOSING_MAX: Duration = Duration::from_secs(60);

/// A program that runs.
pub(in crate::postgres) struct Running {
    name: String,
    object: String,
    child: Arc<Mutex<Child>>,
    complaints: Option<JoinHandle<Vec<u8>>>,
    over: bool,
    cancel: Cancel,
    _guard: CancelGuard,
}

fn locked(child: &Mutex<Child>) -> std::sync::MutexGuard<'_, Child> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends a signal to a program and to those that it began (`pg_restore -j` does): they hold its output open.
fn signal(child: &mut Child, signal: Signal) {
    // Once waited for, its number may be another process's.
    if let (Ok(None), Ok(pid)) = (child.try_wait(), i32::try_from(child.id())) {
        // Nothing is left to be done where this fails.
        let _ = killpg(Pid::from_raw(pid), signal);
    }
}

/// Ends a program whose output somebody waits for: asked first, and killed where it does not heed that, for its server may
/// have gone silent.
pub(in crate::postgres) struct Ender(Arc<Mutex<Child>>);

impl Ender {
    /// Asks it to end, and sees to it that it does.
    pub(in crate::postgres) fn end(&self) {
        signal(&mut locked(&self.0), Signal::SIGTERM);
        let child = Arc::clone(&self.0);
        std::thread::spawn(move || {
            std::thread::sleep(ENDING_MAX);
            signal(&mut locked(&child), Signal::SIGKILL);
        });
    }
}

impl Running {
    /// Returns what ends it from another thread.
    pub(in crate::postgres) fn ender(&self) -> Ender {
        Ender(Arc::clone(&self.child))
    }

    /// Starts a program; its output is to be read from what is returned beside it.
    pub(in crate::postgres) fn start(
        program: &Program,
        arguments: &[String],
        access: &Access,
        object: &str,
        cancel: &Cancel,
    ) -> Result<(Self, ChildStdout), SourceError> {
        let mut command = Command::new(&program.path);
        command.args(arguments).stdin(Stdio::null());
        access.apply(&mut command);
        Self::spawn(command, object, cancel)
    }

    /// Starts a program that connects to nothing: it turns what is written to it into what is read from it.
    pub(in crate::postgres) fn start_filter(
        program: &Program,
        arguments: &[String],
        environment: &Environment,
        object: &str,
        cancel: &Cancel,
    ) -> Result<(Self, ChildStdin, ChildStdout), SourceError> {
        let mut command = Command::new(&program.path);
        command.args(arguments).stdin(Stdio::piped());
        command.env_clear().envs(inherited(environment)).env("LC_ALL", "C");
        let (running, output) = Self::spawn(command, object, cancel)?;
        let input = locked(&running.child).stdin.take().ok_or_else(|| {
            let message = format!("{} cannot be written to", running.name);
            SourceError::new(SourceErrorKind::Failed, object, message)
        })?;
        Ok((running, input, output))
    }

    fn spawn(
        mut command: Command,
        object: &str,
        cancel: &Cancel,
    ) -> Result<(Self, ChildStdout), SourceError> {
        let name = Path::new(command.get_program()).display().to_string();
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let failed = |message: String| SourceError::new(SourceErrorKind::Failed, object, message);
        let mut child =
            command.spawn().map_err(|error| failed(format!("{name} cannot be started: {error}")))?;
        let (Some(output), Some(mut errors)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(failed(format!("{name} cannot be listened to")));
        };
        let complaints = std::thread::spawn(move || {
            let (mut kept, mut buffer) = (Vec::new(), [0; 4096]);
            while let Ok(count @ 1..) = errors.read(&mut buffer) {
                let room = COMPLAINTS_MAX_BYTES - kept.len();
                kept.extend_from_slice(&buffer[..count.min(room)]);
            }
            kept
        });
        let child = Arc::new(Mutex::new(child));
        let other = Arc::clone(&child);
        let guard = cancel.on_cancel(move || Ender(other).end());
        let running = Self {
            name,
            object: object.to_owned(),
            child,
            complaints: Some(complaints),
            over: false,
            cancel: cancel.clone(),
            _guard: guard,
        };
        Ok((running, output))
    }

    /// Waits for its end, to be called once its output ended. Returns what it complained about, or fails with that.
    pub(in crate::postgres) fn finish(mut self) -> Result<Vec<String>, Ended> {
        let status = self.wait(CLOSING_MAX);
        if status.is_none() {
            signal(&mut locked(&self.child), Signal::SIGKILL);
        }
        let lines = self.complaints();
        let status = match status {
            Some(Ok(status)) => status,
            Some(Err(error)) => return Err(self.ended(format!("was lost: {error}"), lines)),
            None => return Err(self.ended("did not end".to_owned(), lines)),
        };
        match status.success() {
            true => Ok(lines),
            false => Err(self.ended(format!("failed: {status}"), lines)),
        }
    }

    /// Returns what became of a program that ends by itself just now; `None` of one that goes on, which is ended then.
    pub(in crate::postgres) fn finish_soon(mut self) -> Option<Result<Vec<String>, Ended>> {
        self.wait(FAILING_MAX).map(|_| self.finish())
    }

    fn ended(&self, verdict: String, complaints: Vec<String>) -> Ended {
        let cancelled = self.cancel.is_cancelled();
        Ended { name: self.name.clone(), object: self.object.clone(), verdict, complaints, cancelled }
    }

    fn complaints(&mut self) -> Vec<String> {
        let bytes = self.complaints.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect()
    }

    /// Waits, at most so long.
    fn wait(&mut self, limit: Duration) -> Option<std::io::Result<ExitStatus>> {
        let started = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            match locked(&self.child).try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => {
                    self.over = true;
                    return Some(Ok(status));
                }
                Err(error) => return Some(Err(error)),
            }
            if started.elapsed() >= limit {
                return None;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        signal(&mut locked(&self.child), Signal::SIGTERM);
        if self.wait(ENDING_MAX).is_none() {
            let mut child = locked(&self.child);
            signal(&mut child, Signal::SIGKILL);
            let _ = child.wait();
        }
        let _ = self.complaints();
    }
}

/// A program that failed, and what it said.
#[derive(Debug)]
pub(in crate::postgres) struct Ended {
    name: String,
    object: String,
    verdict: String,
    complaints: Vec<String>,
    cancelled: bool,
}

impl Ended {
    /// Tells whether what it said has one of these words.
    pub(in crate::postgres) fn mentions(&self, words: &[&str]) -> bool {
        self.complaints.iter().any(|line| words.iter().any(|word| line.contains(word)))
    }

    /// Tells whether it was not let in by the server, and so has done nothing. What comes from libpq is in our language,
    /// whatever the server speaks.
    pub(in crate::postgres) fn has_not_connected(&self) -> bool {
        self.complaints.iter().any(|line| line.contains("connection to ") && line.contains(" failed: "))
    }

    /// Makes the error of it.
    pub(in crate::postgres) fn into_error(self) -> SourceError {
        if self.cancelled {
            return SourceError::cancelled(self.object);
        }
        let said = match self.complaints.is_empty() {
            true => String::new(),
            false => format!("\n  {}", self.complaints.join("\n  ")),
        };
        SourceError::new(
            SourceErrorKind::Failed,
            self.object,
            format!("{} {}{said}", self.name, self.verdict),
        )
    }
}
