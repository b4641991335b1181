//! A throwaway PostgreSQL server for the demonstration: made and started from installed programs in the demonstration's
//! folder, reached by a socket in it and by nothing else, ended with it. A server does not run as root: then it runs as
//! the user `postgres`, or as `nobody`.
//!
//! It ends when this is dropped. Where the program is killed, the system ends the server too, if it has `setpriv`.

use crate::errors::{Failure, exit};
use engines::postgres::InstalledServer;
use flow::Cancel;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longer names of sockets are refused by the system.
const SOCKET_PATH_MAX: usize = 100;
const STARTING_MAX: Duration = Duration::from_secs(60);
const ENDING_MAX: Duration = Duration::from_secs(10);

/// A server that runs.
pub(super) struct Server {
    programs: PathBuf,
    folder: PathBuf,
    child: Child,
}

fn failed(message: impl Into<String>, error: &dyn std::error::Error) -> Failure {
    Failure::new(exit::FAILED, message).with_cause(error)
}

impl Server {
    /// Makes and starts one in a folder that exists.
    pub(super) fn start(installed: &InstalledServer, root: &Path, cancel: &Cancel) -> Result<Self, Failure> {
        let folder = root.join("server");
        if folder.join(".s.PGSQL.5432").as_os_str().len() > SOCKET_PATH_MAX {
            return Err(Failure::new(exit::FAILED, format!("{} is too long for a socket", folder.display()))
                .with_hint("set TMPDIR to a folder with a shorter path"));
        }
        let owner = owner()?;
        let prepared = || -> std::io::Result<()> {
            std::fs::create_dir(&folder)?;
            std::fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
            if let Some(owner) = &owner {
                // It goes through the demonstration's folder, and sees nothing of what is in it.
                std::fs::set_permissions(root, Permissions::from_mode(0o711))?;
                chown(&folder, Some(owner.uid.as_raw()), Some(owner.gid.as_raw()))?;
            }
            Ok(())
        };
        prepared()
            .map_err(|error| failed(format!("the folder {} cannot be made", folder.display()), &error))?;
        let data = folder.join("data");
        let mut init = command(&installed.folder.join("initdb"), owner.as_ref());
        init.args([
            "--username=postgres",
            "--auth=trust",
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C",
            "-D",
        ]);
        let output = init.arg(&data).output().map_err(|error| failed("initdb cannot be started", &error))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Failure::new(exit::FAILED, format!("initdb made no server: {said}")));
        }
        let child = launch(installed, &folder, owner.as_ref())?;
        let mut server = Self { programs: installed.folder.clone(), folder, child };
        server.wait(cancel)?;
        Ok(server)
    }

    fn wait(&mut self, cancel: &Cancel) -> Result<(), Failure> {
        let started = Instant::now();
        while self.sql("postgres", "SELECT 1").is_err() {
            let ended = self.child.try_wait().map_err(|error| failed("the server was lost", &error))?;
            if ended.is_some() || started.elapsed() > STARTING_MAX {
                let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                let last = log.lines().next_back().unwrap_or("it said nothing");
                return Err(Failure::new(exit::FAILED, format!("the server does not start: {last}")));
            }
            if cancel.wait(Duration::from_millis(50)) {
                return Err(Failure::new(exit::INTERRUPTED, "interrupted"));
            }
        }
        Ok(())
    }

    /// Returns the URL of one of its databases.
    pub(super) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@/{database}?host={}", self.folder.display())
    }

    /// Runs SQL by `psql`, and returns what it says: a line a row, columns with a `|` between them.
    pub(super) fn sql(&self, database: &str, sql: &str) -> Result<String, Failure> {
        let run = || -> std::io::Result<std::process::Output> {
            let mut command = Command::new(self.programs.join("psql"));
            command.args([
                "-X",
                "-q",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-U",
                "postgres",
                "-f",
                "-",
                "-d",
            ]);
            command.arg(database).arg("-h").arg(&self.folder).env_clear().env("LC_ALL", "C");
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn()?;
            if let Some(mut input) = child.stdin.take() {
                input.write_all(sql.as_bytes())?;
            }
            child.wait_with_output()
        };
        let output = run().map_err(|error| failed("psql cannot be run", &error))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let line =
            said.lines().find(|line| line.contains("ERROR")).or(said.lines().next()).unwrap_or_default();
        let line = line.split_once("ERROR:").map_or(line, |(_, message)| message).trim();
        Err(Failure::new(exit::FAILED, line.to_owned()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let signal = |signal| {
            let pid = i32::try_from(self.child.id()).map(Pid::from_raw);
            // What has ended needs no signal.
            let _ = pid.map(|pid| kill(pid, signal));
        };
        // At once, without asking anybody: nothing of it is needed any more.
        signal(Signal::SIGQUIT);
        let started = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if started.elapsed() > ENDING_MAX {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Returns who is to run the server where we may not.
fn owner() -> Result<Option<User>, Failure> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let known = ["postgres", "nobody"].iter().find_map(|name| User::from_name(name).ok().flatten());
    known.map(Some).ok_or_else(|| {
        Failure::new(exit::FAILED, "a PostgreSQL server does not run as root, and there is no user for it")
            .with_hint("run the demonstration as an ordinary user")
    })
}

fn command(program: &Path, owner: Option<&User>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").stdin(Stdio::null()).current_dir("/");
    if let Some(owner) = owner {
        command.uid(owner.uid.as_raw()).gid(owner.gid.as_raw());
    }
    command
}

fn launch(installed: &InstalledServer, folder: &Path, owner: Option<&User>) -> Result<Child, Failure> {
    let program = installed.folder.join("postgres");
    let setpriv = Path::new("/usr/bin/setpriv");
    let mut server = if setpriv.is_file() {
        let mut server = command(setpriv, owner);
        server.args(["--pdeathsig", "QUIT", "--"]).arg(program);
        server
    } else {
        command(&program, owner)
    };
    server.arg("-D").arg(folder.join("data")).arg("-k").arg(folder);
    for setting in
        ["listen_addresses=", "port=5432", "unix_socket_permissions=0700", "fsync=off", "max_connections=30"]
    {
        server.args(["-c", setting]);
    }
    // A group of its own: an interruption from the keyboard is for us, and what is left to do needs the server.
    server.process_group(0);
    let started = File::create(folder.join("log")).and_then(|log| {
        server.stdout(log.try_clone()?).stderr(log);
        server.spawn()
    });
    started.map_err(|error| failed("the server cannot be started", &error))
}
