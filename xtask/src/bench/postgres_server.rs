//! The PostgreSQL server of the bench: of Debian's version, in a folder of its own, reached by a socket in that folder.
//! Its databases are made once and kept for the next run; the server ends with the bench.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";

/// Settings of a server that is to be fast at all of it: the same for all that are compared.
const SETTINGS: [&str; 8] = [
    "listen_addresses=",
    "shared_buffers=512MB",
    "max_wal_size=8GB",
    "checkpoint_timeout=30min",
    "maintenance_work_mem=256MB",
    "wal_compression=on",
    "autovacuum=off",
    "max_connections=40",
];

pub(super) struct Server {
    folder: PathBuf,
    child: Child,
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Server {
    /// Starts the server of a folder, which is made where it is not there.
    pub(super) fn start(folder: &Path) -> Result<Self, String> {
        let data = folder.join("data");
        if !data.join("PG_VERSION").exists() {
            std::fs::create_dir_all(folder).map_err(text)?;
            give(folder)?;
            let mut init = as_server("initdb");
            init.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-D"]).arg(&data);
            run(&mut init)?;
        }
        let mut server = as_server("postgres");
        server.arg("-D").arg(&data).arg("-k").arg(folder);
        for setting in SETTINGS {
            server.args(["-c", setting]);
        }
        let log = std::fs::File::create(folder.join("log")).map_err(text)?;
        server.stdin(Stdio::null()).stdout(log.try_clone().map_err(text)?).stderr(log);
        let child = server.spawn().map_err(|error| format!("the server cannot be started: {error}"))?;
        let started = Self { folder: folder.to_owned(), child };
        let began = Instant::now();
        while started.sql("postgres", "SELECT 1").is_err() {
            if began.elapsed() > Duration::from_secs(120) {
                return Err(format!("the server does not start: see {}", folder.join("log").display()));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(started)
    }

    /// Returns the URL of a database.
    pub(super) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@/{database}?host={}", self.folder.display())
    }

    /// Lets a command reach the server, and find its programs.
    pub(super) fn reach<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .env("PATH", format!("{PROGRAMS}:{path}"))
            .env("PGHOST", &self.folder)
            .env("PGUSER", "postgres")
    }

    /// Runs SQL and returns what it says.
    pub(super) fn sql(&self, database: &str, sql: &str) -> Result<String, String> {
        let mut command = Command::new(format!("{PROGRAMS}/psql"));
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-", "-d", database]);
        self.reach(&mut command).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(text)?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(sql.as_bytes()).map_err(text)?;
        }
        let output = child.wait_with_output().map_err(text)?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Makes a database where it is not there yet; one that was left half made is made anew.
    pub(super) fn provide(&self, database: &str, script: &str) -> Result<(), String> {
        let known = |name: &str| {
            self.sql("postgres", &format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'"))
        };
        if known(database)? == "1" {
            return Ok(());
        }
        eprintln!("making the database {database} …");
        self.sql("postgres", "DROP DATABASE IF EXISTS partial")?;
        self.sql("postgres", "CREATE DATABASE partial")?;
        self.sql("partial", script)?;
        self.sql("partial", "VACUUM (FREEZE, ANALYZE)")?;
        self.sql("postgres", &format!("ALTER DATABASE partial RENAME TO {database}; CHECKPOINT"))?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-INT", &pid]).status();
        let _ = self.child.wait();
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// Returns a command as a user who may run a server; it ends with this program.
fn as_server(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "INT"]);
    if is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    command.arg("--").arg(format!("{PROGRAMS}/{program}")).env("LC_ALL", "C").current_dir("/");
    command
}

fn give(folder: &Path) -> Result<(), String> {
    if is_root() { run(Command::new("chown").arg("postgres:postgres").arg(folder)) } else { Ok(()) }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|status| status.uid() == 0)
}
