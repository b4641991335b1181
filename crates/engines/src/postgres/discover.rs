//! A look for PostgreSQL servers on this machine, for whoever writes a first configuration: by their sockets, and by the
//! configurations that Debian keeps. Changes nothing, asks for no password, and waits for nobody: all servers are asked
//! at once, and one that gives no answer in time is told so.

use super::connection::{Surroundings, resolve};
use super::{session, tools};
use flow::{Cancel, Context, Environment};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Where servers put their sockets.
const SOCKET_FOLDERS: [&str; 3] = ["/run/postgresql", "/var/run/postgresql", "/tmp"];
/// Where Debian keeps a folder for each version, and in that one for each cluster.
const CONFIGURATIONS: &str = "/etc/postgresql";
const SOCKET: &str = ".s.PGSQL.";

/// How long [`discover`] takes at most, and where it looks beside the usual places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoverLimits {
    /// How long a server may take to answer.
    pub time: Duration,
    /// How many servers are asked.
    pub clusters: usize,
    /// How many databases of a server are named.
    pub databases: usize,
}

impl Default for DiscoverLimits {
    fn default() -> Self {
        Self { time: Duration::from_secs(2), clusters: 20, databases: 200 }
    }
}

/// The programs of a server, as they are installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledServer {
    /// The folder of its programs: `initdb`, `postgres`, `psql`, `pg_dump` and `pg_restore` are in it.
    pub folder: PathBuf,
    /// Its version as it says it.
    pub version: String,
}

/// Returns the newest server that is installed here with all its programs, whether one runs or not.
pub fn installed_server(context: &Context) -> Option<InstalledServer> {
    let whole = |folder: &Path| {
        ["initdb", "psql", "pg_dump", "pg_dumpall", "pg_restore"]
            .iter()
            .all(|program| folder.join(program).is_file())
    };
    // Somewhere on the search path there may be but a link to one of them.
    let folder = |path: &Path| path.canonicalize().ok()?.parent().map(Path::to_owned);
    let found = tools::all("postgres", 0, context).into_iter();
    let servers = found.filter_map(|server| Some((folder(&server.path)?, server)));
    let (folder, newest) =
        servers.filter(|(folder, _)| whole(folder)).max_by_key(|(_, server)| server.major)?;
    Some(InstalledServer { folder, version: newest.version })
}

/// A server that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundCluster {
    /// The folder of its socket.
    pub folder: PathBuf,
    /// Its port.
    pub port: u16,
    /// Its version, where it let somebody in.
    pub version: Option<String>,
    /// The databases that hold somebody's data, as URLs without a password; empty where nobody was let in.
    pub databases: Vec<String>,
    /// Why nobody was let in.
    pub refused: Option<String>,
}

/// Finds the servers of this machine and asks each for its databases: as the user who runs this, then as `postgres`.
pub fn discover(environment: &Environment, limits: &DiscoverLimits, cancel: &Cancel) -> Vec<FoundCluster> {
    let (tell, hear) = mpsc::channel();
    let places: Vec<(PathBuf, u16)> = sockets(environment).into_iter().take(limits.clusters).collect();
    for (number, (folder, port)) in places.iter().cloned().enumerate() {
        let (tell, environment, cancel, limits) =
            (tell.clone(), environment.clone(), cancel.clone(), limits.clone());
        // One that hangs is left behind; it ends with the program.
        std::thread::spawn(move || {
            let _ = tell.send((number, ask(&folder, port, &environment, &limits, &cancel)));
        });
    }
    drop(tell);
    let silent = format!("it gave no answer within {} s", limits.time.as_secs());
    let mut found: Vec<FoundCluster> = places
        .into_iter()
        .map(|(folder, port)| FoundCluster {
            folder,
            port,
            version: None,
            databases: vec![],
            refused: Some(silent.clone()),
        })
        .collect();
    let deadline = Instant::now() + limits.time;
    while let Ok((number, cluster)) = hear.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        if let Some(place) = found.get_mut(number) {
            *place = cluster;
        }
    }
    found
}

/// Returns the folder and the port of each socket, those of one server once.
fn sockets(environment: &Environment) -> Vec<(PathBuf, u16)> {
    let mut folders: Vec<PathBuf> = SOCKET_FOLDERS.map(PathBuf::from).to_vec();
    folders.extend(environment.get("PGHOST").filter(|host| host.starts_with('/')).map(PathBuf::from));
    folders.extend(configured_folders(Path::new(CONFIGURATIONS)));
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for folder in folders {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        let ports = entries
            .filter_map(Result::ok)
            .filter_map(|entry| entry.file_name().to_str()?.strip_prefix(SOCKET)?.parse::<u16>().ok());
        let mut ports: Vec<u16> = ports.collect();
        ports.sort_unstable();
        let canonical = folder.canonicalize().unwrap_or_else(|_| folder.clone());
        found.extend(
            ports
                .into_iter()
                .filter(|port| seen.insert((canonical.clone(), *port)))
                .map(|port| (folder.clone(), port)),
        );
    }
    found
}

/// Returns the folders for sockets that configurations name.
fn configured_folders(configurations: &Path) -> Vec<PathBuf> {
    let children = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
        entries.map(|entry| entry.path()).collect()
    };
    let clusters = children(configurations).into_iter().flat_map(|version| children(&version));
    let texts = clusters.filter_map(|cluster| std::fs::read_to_string(cluster.join("postgresql.conf")).ok());
    texts.flat_map(|text| socket_folders(&text)).collect()
}

/// Reads `unix_socket_directories` of a `postgresql.conf`.
fn socket_folders(text: &str) -> Vec<PathBuf> {
    let value = |line: &str| -> Option<String> {
        let rest = line.trim().strip_prefix("unix_socket_directories")?.trim_start();
        let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
        let value = match rest.strip_prefix('\'') {
            Some(quoted) => quoted.split('\'').next()?,
            None => rest.split(['#', ' ', '\t']).next()?,
        };
        Some(value.to_owned())
    };
    // The last line counts.
    let last = text.lines().filter_map(value).next_back().unwrap_or_default();
    last.split(',').map(str::trim).filter(|folder| folder.starts_with('/')).map(PathBuf::from).collect()
}

/// Asks a server for its databases.
fn ask(
    folder: &Path,
    port: u16,
    environment: &Environment,
    limits: &DiscoverLimits,
    cancel: &Cancel,
) -> FoundCluster {
    let mut cluster =
        FoundCluster { folder: folder.to_owned(), port, version: None, databases: vec![], refused: None };
    let mut users = vec![None];
    if environment.get("PGUSER").is_none() {
        users.push(Some("postgres"));
    }
    for user in users {
        match databases(folder, port, user, environment, limits, cancel) {
            Ok((version, databases)) => {
                return FoundCluster { version: Some(version), databases, refused: None, ..cluster };
            }
            // Why the own user was not let in says more than why another was not.
            Err(reason) => {
                cluster.refused.get_or_insert(reason);
            }
        }
    }
    cluster
}

fn databases(
    folder: &Path,
    port: u16,
    user: Option<&str>,
    environment: &Environment,
    limits: &DiscoverLimits,
    cancel: &Cancel,
) -> Result<(String, Vec<String>), String> {
    let own = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.name);
    let surroundings =
        Surroundings { environment, user: own.as_deref().unwrap_or("postgres"), passfile: None };
    let url = |database: &str| url(folder, port, user, database);
    let mut last = String::new();
    for first in ["postgres", "template1"] {
        let place = url(first);
        let mut settings = resolve(&place, &surroundings).map_err(|error| error.to_string())?;
        settings.connect_timeout = Some(limits.time);
        // Anybody may have put a socket into a folder like /tmp: no password goes where nobody said that it should.
        settings.passwords = settings.hosts.iter().map(|_| None).collect();
        let mut session = match session::connect(&settings, None, &place, cancel) {
            Ok(session) => session,
            Err(error) if error.kind == flow::SourceErrorKind::Missing => {
                last = error.message;
                continue;
            }
            Err(error) => return Err(error.message),
        };
        let failed = |error: flow::SourceError| error.message;
        // The one that every server has is named where somebody keeps tables in it: then it is larger than a new one.
        let sql = format!(
            "SELECT current_setting('server_version'), array(
               SELECT d.datname::text FROM pg_catalog.pg_database d
               WHERE d.datallowconn AND NOT d.datistemplate
                 AND pg_catalog.has_database_privilege(d.oid, 'CONNECT')
                 AND (d.datname <> 'postgres' OR current_database() = 'postgres' AND EXISTS (
                   SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                   WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'))
               ORDER BY 1 LIMIT {})",
            limits.databases
        );
        let row = session.query_one(&sql, &[]).map_err(failed)?;
        let version: String = session.field(&row, 0).map_err(failed)?;
        let names: Vec<String> = session.field(&row, 1).map_err(failed)?;
        return Ok((version, names.iter().map(|name| url(name)).collect()));
    }
    Err(last)
}

/// Returns a URL for a database, as a configuration takes it.
fn url(folder: &Path, port: u16, user: Option<&str>, database: &str) -> String {
    let user = user.map(|user| format!("{user}@")).unwrap_or_default();
    let port = if port == 5432 { String::new() } else { format!("&port={port}") };
    let folder = encoded(&folder.display().to_string(), "/");
    format!("postgres://{user}/{}?host={folder}{port}", encoded(database, ""))
}

/// Returns a text as a URL takes it.
fn encoded(text: &str, plain: &str) -> String {
    let is_plain = |byte: u8| {
        byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || plain.as_bytes().contains(&byte)
    };
    text.bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_url_leads_back_to_the_database() {
        let environment = Environment::default();
        let around = Surroundings { environment: &environment, user: "anna", passfile: None };
        for (database, port, user) in [("erp", 5432, None), ("my shop/ä%", 5433, Some("postgres"))] {
            let text = url(Path::new("/run/a b"), port, user, database);
            let settings = resolve(&text, &around).unwrap();
            assert_eq!(
                (settings.database.as_str(), settings.user.as_str()),
                (database, user.unwrap_or("anna"))
            );
            let host = super::super::connection::Host::Socket { folder: PathBuf::from("/run/a b"), port };
            assert_eq!(settings.hosts, [host], "{text}");
        }
    }

    #[test]
    fn folders_are_read_from_a_configuration() {
        let text = "#unix_socket_directories = '/no'\nunix_socket_directories = '/old'\n\
                    unix_socket_directories = '/srv/pg, /tmp'\t# comment\nport = 5433\n";
        assert_eq!(socket_folders(text), [PathBuf::from("/srv/pg"), PathBuf::from("/tmp")]);
        assert_eq!(socket_folders("unix_socket_directories=/a # b\n"), [PathBuf::from("/a")]);
        assert_eq!(socket_folders("port = 1\n"), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_server_that_hangs_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".s.PGSQL.5432");
        let _listening = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let host = folder.path().display().to_string();
        let environment = Environment::new([("PGHOST".to_owned(), host)]);
        let limits = DiscoverLimits { time: Duration::from_millis(300), ..DiscoverLimits::default() };
        let started = Instant::now();
        let found = discover(&environment, &limits, &Cancel::new());
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        let ours = found.iter().find(|cluster| cluster.folder == folder.path()).unwrap();
        assert!(ours.databases.is_empty());
        assert!(ours.refused.as_ref().unwrap().contains("no answer"), "{ours:?}");
    }
}
