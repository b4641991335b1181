//! Commands that a person configured to run around our work, and health checks after it.
//!
//! A hook gets no shell unless it is given one, no standard input, and the names of target and database as
//! `BACKSTAY_TARGET` and `BACKSTAY_DATABASE`, and none of the variables that give the repository's password. It ends when
//! the work is interrupted.

use crate::{OperationError, Services};
use flow::{DatabaseName, TargetName, quoted};
use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The variables by which the repository's password is given.
const PASSWORD_VARIABLES: &str = "BACKSTAY_PASSWORD";

/// A command to run at a moment that has a name.
pub(crate) struct Hook<'a> {
    moment: &'static str,
    command: Option<&'a [String]>,
    target: &'a TargetName,
    database: Option<&'a DatabaseName>,
}

impl<'a> Hook<'a> {
    pub(crate) fn new(
        moment: &'static str,
        command: Option<&'a [String]>,
        target: &'a TargetName,
        database: Option<&'a DatabaseName>,
    ) -> Self {
        Self { moment, command, target, database }
    }

    /// Runs the command to its end. Its failure is an error with the last lines that it wrote.
    pub(crate) fn run(&self, services: &Services) -> Result<(), OperationError> {
        let Some((program, arguments)) = self.command.and_then(<[String]>::split_first) else {
            return Ok(());
        };
        let local = |message: String, source: Option<std::io::Error>| OperationError::Local {
            object: format!("the {} command `{program}`", self.moment),
            message,
            hint: Some("run it by hand to see why".to_owned()),
            source: source.map(Into::into),
        };
        let mut command = Command::new(self.filled(program));
        // A hook has its own secrets; the repository's password is none of its business.
        let ours = services.context.environment.iter().map(|(name, _)| name);
        for secret in ours.filter(|name| name.starts_with(PASSWORD_VARIABLES)) {
            command.env_remove(secret);
        }
        let mut child = command
            .args(arguments.iter().map(|argument| self.filled(argument)))
            .env("BACKSTAY_TARGET", self.target.as_str())
            .env("BACKSTAY_DATABASE", self.database.map_or("", DatabaseName::as_str))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| local(format!("cannot be run: {error}"), Some(error)))?;
        let output = [child.stdout.take().map(tail), child.stderr.take().map(tail)];
        let status = wait(&mut child, services).map_err(|error| local(error.to_string(), Some(error)))?;
        let Some(status) = status else { return Err(OperationError::Cancelled) };
        if status.success() {
            return Ok(());
        }
        let said: Vec<String> = output
            .into_iter()
            .flatten()
            .filter_map(|reader| reader.recv_timeout(Duration::from_secs(1)).ok())
            .collect();
        let said = said.join("\n");
        let said = said.trim();
        Err(local(
            if said.is_empty() { format!("failed: {status}") } else { format!("failed: {status}: {said}") },
            None,
        ))
    }

    fn filled(&self, text: &str) -> String {
        let name = self.database.map_or(self.target.as_str(), DatabaseName::as_str);
        text.replace("{tenant}", name).replace("{target}", self.target.as_str())
    }
}

/// Returns a command as a person would type it: the words of one that a shell runs are that person's own.
pub(crate) fn shown(command: &[String]) -> String {
    match command {
        [shell, flag, text] if shell == "/bin/sh" && flag == "-c" => text.clone(),
        words => words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
    }
}

/// Waits for the end, or ends the child when the work is interrupted (`None`).
fn wait(child: &mut Child, services: &Services) -> std::io::Result<Option<ExitStatus>> {
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if services.context.cancel.wait(pause) {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// Reads a stream to its end in a thread of its own, and keeps the last of it. A child of the hook that keeps the
/// stream open does not hold us up.
fn tail(mut stream: impl Read + Send + 'static) -> std::sync::mpsc::Receiver<String> {
    const KEPT: usize = 2048;
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            kept.extend_from_slice(buffer.get(..count).unwrap_or_default());
            if kept.len() > 2 * KEPT {
                kept.drain(..kept.len() - KEPT);
            }
        }
        // The receiver may have gone; then nobody wants to know.
        let _ = sender.send(String::from_utf8_lossy(&kept).into_owned());
    });
    receiver
}

/// Runs `work` between two hooks. The second runs also where the work failed; the first failure counts.
pub(crate) fn around(
    before: Hook<'_>,
    after: Hook<'_>,
    dry_run: bool,
    services: &Services,
    work: impl FnOnce() -> Result<(), OperationError>,
) -> Result<(), OperationError> {
    if dry_run {
        return work();
    }
    before.run(services)?;
    let outcome = work();
    let closing = after.run(services);
    outcome.and(closing)
}

/// Asks a health URL until it answers with a 2xx, for half a minute at most.
pub(crate) fn health(url: &str, services: &Services) -> Result<(), OperationError> {
    let deadline = Instant::now() + Duration::from_secs(30);
    let agent: ureq::Agent =
        ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(5))).build().into();
    loop {
        let problem = match agent.get(url).call() {
            Ok(_) => return Ok(()),
            Err(error) => error.to_string(),
        };
        if Instant::now() >= deadline {
            return Err(OperationError::Local {
                object: format!("the health check {url}"),
                message: format!("does not pass: {problem}"),
                hint: Some("look at the service's own log".to_owned()),
                source: None,
            });
        }
        if services.context.cancel.wait(Duration::from_millis(500)) {
            return Err(OperationError::Cancelled);
        }
    }
}
