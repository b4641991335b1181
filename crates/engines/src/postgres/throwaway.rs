//! A throwaway PostgreSQL server: made and started from installed programs in a folder of its own, reached by a socket in it
//! and by nothing else, ended with it. A server does not run as root: then it runs as the user `postgres`, or as `nobody`.
//!
//! It ends when this is dropped. Where the program is killed, the system ends the server too, if it has `setpriv`; else the
//! server ends by itself once its folder is removed.

use super::InstalledServer;
use flow::{Cancel, SourceError, SourceErrorKind};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Longer names of sockets are refused by the system.
const SOCKET_PATH_MAX: usize = 100;
const SOCKET: &str = ".s.PGSQL.5432";
const STARTING_MAX: Duration = Duration::from_secs(60);
const ENDING_MAX: Duration = Duration::from_secs(10);

/// A server that runs.
pub struct ThrowawayServer {
    programs: PathBuf,
    folder: PathBuf,
    owner: Option<User>,
    child: Child,
}

fn failed(object: &Path, message: impl Into<String>) -> SourceError {
    SourceError::new(SourceErrorKind::Failed, object.display().to_string(), message)
}

impl ThrowawayServer {
    /// Makes and starts one in `server`, a new folder in one that exists. Where it runs as another user, that one is opened
    /// for passing through, and shows nothing of what is in it.
    pub fn start(installed: &InstalledServer, root: &Path, cancel: &Cancel) -> Result<Self, SourceError> {
        let folder = root.join("server");
        if folder.join(SOCKET).as_os_str().len() > SOCKET_PATH_MAX {
            return Err(failed(&folder, "is too long for the name of a socket").with_hint(
                "take a folder with a shorter path: TMPDIR, or `--scratch` where there is that option",
            ));
        }
        let owner = owner()?;
        if let Some(owner) = &owner {
            let opened = std::fs::set_permissions(root, Permissions::from_mode(0o711));
            opened
                .map_err(|error| failed(root, "cannot be opened for the server's user").with_source(error))?;
            if let Some(closed) = first_closed(root, owner) {
                let message = format!(
                    "cannot be entered by the user {}, as whom the server runs: a PostgreSQL server does not run as root",
                    owner.name
                );
                return Err(failed(&closed, message).with_hint(
                    "name a folder that others may pass through, as /var/tmp is, or run as another user",
                ));
            }
        }
        provide(&folder, owner.as_ref())?;
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
        let output = init.arg(&data).output();
        let output =
            output.map_err(|error| failed(&folder, "initdb cannot be started").with_source(error))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(failed(&folder, format!("initdb made no server: {said}"))
                .with_hint("is there room on the disk of that folder?"));
        }
        let child = launch(installed, &folder, owner.as_ref())
            .map_err(|error| failed(&folder, "the server cannot be started").with_source(error))?;
        let mut server = Self { programs: installed.folder.clone(), folder, owner, child };
        server.wait(cancel)?;
        Ok(server)
    }

    fn wait(&mut self, cancel: &Cancel) -> Result<(), SourceError> {
        let started = Instant::now();
        while self.sql("postgres", "SELECT 1").is_err() {
            let ended = self.child.try_wait();
            let ended =
                ended.map_err(|error| failed(&self.folder, "the server was lost").with_source(error))?;
            if ended.is_some() || started.elapsed() > STARTING_MAX {
                let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                let last = log.lines().next_back().unwrap_or("it said nothing");
                return Err(failed(&self.folder, format!("the server does not start: {last}")));
            }
            if cancel.wait(Duration::from_millis(50)) {
                return Err(SourceError::cancelled(self.folder.display().to_string()));
            }
        }
        Ok(())
    }

    /// Returns the URL of one of its databases.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@/{database}?host={}", self.folder.display())
    }

    /// Runs SQL by `psql`, and returns what it says: a line a row, columns with a `|` between them. An error has the words of
    /// the server alone.
    pub fn sql(&self, database: &str, sql: &str) -> Result<String, SourceError> {
        let output = self
            .psql(database, sql)
            .map_err(|error| failed(&self.folder, "psql cannot be run").with_source(error))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let line =
            said.lines().find(|line| line.contains("ERROR")).or(said.lines().next()).unwrap_or_default();
        Err(failed(&self.folder, line.split_once("ERROR:").map_or(line, |(_, message)| message).trim()))
    }

    fn psql(&self, database: &str, sql: &str) -> io::Result<Output> {
        let mut command = Command::new(self.programs.join("psql"));
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-f", "-", "-d"]);
        command.arg(database).arg("-h").arg(&self.folder).env_clear().env("LC_ALL", "C");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(sql.as_bytes())?;
        }
        child.wait_with_output()
    }

    /// Makes an empty folder that the server may write to, and returns where it is.
    pub(super) fn folder_for(&self, name: &str) -> Result<PathBuf, SourceError> {
        let folder = self.folder.join(name);
        provide(&folder, self.owner.as_ref())?;
        Ok(folder)
    }
}

impl Drop for ThrowawayServer {
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

/// Returns a folder in which a server can be made: scratch, or, where the server's user cannot get there or the name of its
/// socket would be too long, a folder of this user's in the one for temporary files.
pub(super) fn place(scratch: &Path, temporary: Option<&str>) -> Result<PathBuf, SourceError> {
    let owner = owner()?;
    // What is made in it has names of its own before the socket's.
    let is_short = |path: &Path| path.as_os_str().len() + 52 < SOCKET_PATH_MAX;
    let is_open = |path: &Path| owner.as_ref().is_none_or(|owner| first_closed(path, owner).is_none());
    // Where it does not exist yet, nobody else may get there once it is made.
    if is_short(scratch) && (owner.is_none() || scratch.is_dir() && is_open(scratch)) {
        return Ok(scratch.to_owned());
    }
    let own = format!("backstay-{}", geteuid());
    let folders = [temporary.unwrap_or("/tmp"), "/tmp", "/var/tmp"].map(Path::new);
    let fits = |folder: &&Path| folder.is_dir() && is_open(folder) && is_short(&folder.join(&own));
    let Some(folder) = folders.into_iter().find(fits) else {
        return Err(failed(scratch, "is no place for a throwaway server, and neither is /tmp")
            .with_hint("name a folder with a short path that others may pass through, by `--scratch`"));
    };
    let place = folder.join(own);
    let made = DirBuilder::new().mode(0o700).create(&place);
    // Whatever is masked out of the folders that this process makes.
    match made.and_then(|()| std::fs::set_permissions(&place, Permissions::from_mode(0o711))) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            let hint = "name a folder by `--scratch`";
            return Err(failed(&place, "cannot be made").with_source(error).with_hint(hint));
        }
        _ => {}
    }
    // Anybody may make folders there: one of somebody else is none of ours.
    let metadata =
        place.symlink_metadata().map_err(|error| failed(&place, "cannot be read").with_source(error))?;
    if !metadata.is_dir() || metadata.uid() != geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
        return Err(failed(&place, "belongs to somebody else, or others may write to it")
            .with_hint("remove it, or name another folder by `--scratch`"));
    }
    Ok(place)
}

/// Returns the first folder on the way to `path` that a user cannot pass through.
fn first_closed(path: &Path, user: &User) -> Option<PathBuf> {
    let may_pass = |folder: &Path| {
        folder.metadata().is_ok_and(|metadata| {
            let bit = match (metadata.uid() == user.uid.as_raw(), metadata.gid() == user.gid.as_raw()) {
                (true, _) => 0o100,
                (_, true) => 0o010,
                _ => 0o001,
            };
            metadata.mode() & bit != 0
        })
    };
    let ancestors: Vec<&Path> = path.ancestors().filter(|folder| !folder.as_os_str().is_empty()).collect();
    ancestors.into_iter().rev().find(|folder| !may_pass(folder)).map(Path::to_owned)
}

/// Makes a folder that belongs to the server's user.
fn provide(folder: &Path, owner: Option<&User>) -> Result<(), SourceError> {
    let made = || -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(folder)?;
        match owner {
            Some(owner) => chown(folder, Some(owner.uid.as_raw()), Some(owner.gid.as_raw())),
            None => Ok(()),
        }
    };
    made().map_err(|error| failed(folder, "cannot be made").with_source(error))
}

/// Returns who is to run the server where we may not.
fn owner() -> Result<Option<User>, SourceError> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let known = ["postgres", "nobody"].iter().find_map(|name| User::from_name(name).ok().flatten());
    known.map(Some).ok_or_else(|| {
        let message = "a PostgreSQL server does not run as root, and there is no user for it";
        SourceError::new(SourceErrorKind::Unsupported, "a throwaway server", message)
            .with_hint("run this as an ordinary user")
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

fn launch(installed: &InstalledServer, folder: &Path, owner: Option<&User>) -> io::Result<Child> {
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
    let log = File::create(folder.join("log"))?;
    server.stdout(log.try_clone()?).stderr(log);
    server.spawn()
}
