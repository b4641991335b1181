//! From a connection string, a service, variables and defaults to [`Settings`], in libpq's order.

use super::settings::{Host, Settings, SslMode};
use super::text::{ConnectionTextError, Keywords, parse};
use super::{passfile, service};
use flow::{Environment, Secret};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const DEFAULT_PORT: u16 = 5432;
/// Where a server of Debian and one built from source have their sockets.
const SOCKET_FOLDERS: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// Variables and the keywords that they stand for (PostgreSQL documentation, 34.15).
const VARIABLES: [(&str, &str); 27] = [
    ("PGHOST", "host"),
    ("PGHOSTADDR", "hostaddr"),
    ("PGPORT", "port"),
    ("PGDATABASE", "dbname"),
    ("PGUSER", "user"),
    ("PGPASSWORD", "password"),
    ("PGPASSFILE", "passfile"),
    ("PGREQUIREAUTH", "require_auth"),
    ("PGCHANNELBINDING", "channel_binding"),
    ("PGSERVICE", "service"),
    ("PGOPTIONS", "options"),
    ("PGAPPNAME", "application_name"),
    ("PGSSLMODE", "sslmode"),
    ("PGREQUIRESSL", "requiressl"),
    ("PGSSLNEGOTIATION", "sslnegotiation"),
    ("PGSSLCOMPRESSION", "sslcompression"),
    ("PGSSLCERT", "sslcert"),
    ("PGSSLKEY", "sslkey"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGSSLCRL", "sslcrl"),
    ("PGSSLCRLDIR", "sslcrldir"),
    ("PGSSLSNI", "sslsni"),
    ("PGREQUIREPEER", "requirepeer"),
    ("PGGSSENCMODE", "gssencmode"),
    ("PGKRBSRVNAME", "krbsrvname"),
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
    ("PGTARGETSESSIONATTRS", "target_session_attrs"),
];

/// What a connection is resolved against, beside its own text.
#[derive(Debug, Clone)]
pub struct Surroundings<'a> {
    /// The variables.
    pub environment: &'a Environment,
    /// The name of the user on this machine.
    pub user: &'a str,
    /// A password file that goes before all others: that of the configuration.
    pub passfile: Option<&'a Path>,
}

impl Surroundings<'_> {
    fn home(&self) -> Option<PathBuf> {
        self.environment.get("HOME").map(PathBuf::from)
    }
}

fn refuse<T>(message: impl Into<String>) -> Result<T, ConnectionTextError> {
    Err(ConnectionTextError(message.into()))
}

/// Resolves a connection string. An error names what is wrong, never the string.
pub fn resolve(text: &str, around: &Surroundings<'_>) -> Result<Settings, ConnectionTextError> {
    let mut keywords = parse(text)?;
    let service =
        keywords.remove("service").or_else(|| around.environment.get("PGSERVICE").map(str::to_owned));
    if let Some(name) = service {
        for (key, value) in service_keywords(&name, around)? {
            keywords.entry(key).or_insert(value);
        }
    }
    for (variable, keyword) in VARIABLES {
        if let Some(value) = around.environment.get(variable).filter(|_| keyword != "service") {
            keywords.entry(keyword.to_owned()).or_insert_with(|| value.to_owned());
        }
    }
    settings(keywords, around)
}

fn service_keywords(name: &str, around: &Surroundings<'_>) -> Result<Keywords, ConnectionTextError> {
    let own = match around.environment.get("PGSERVICEFILE") {
        Some(file) => Some(PathBuf::from(file)),
        None => around.home().map(|home| home.join(".pg_service.conf")),
    };
    let folder = around.environment.get("PGSYSCONFDIR").unwrap_or("/etc/postgresql-common");
    for file in own.into_iter().chain([Path::new(folder).join("pg_service.conf")]) {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        let found = service::find(&text, name)
            .map_err(|error| ConnectionTextError(format!("{error} ({})", file.display())))?;
        if let Some(found) = found {
            return Ok(found);
        }
    }
    refuse(format!("no service file has the service {name:?}"))
}

fn settings(mut keywords: Keywords, around: &Surroundings<'_>) -> Result<Settings, ConnectionTextError> {
    let hosts = hosts(&mut keywords)?;
    let user = keywords.remove("user").unwrap_or_else(|| around.user.to_owned());
    let database = keywords.remove("dbname").unwrap_or_else(|| user.clone());
    let password = keywords.remove("password").map(Secret::new);
    let file = keywords.remove("passfile");
    let passwords = match password {
        Some(password) => hosts.iter().map(|_| Some(password.clone())).collect(),
        None => passwords(&hosts, &database, &user, file.map(PathBuf::from), around)?,
    };
    // `system` means the roots that the machine trusts, and then the name counts: anybody can have their signature.
    let root = keywords.remove("sslrootcert");
    let by_system = root.as_deref() == Some("system");
    let ssl_mode = match keywords.remove("sslmode") {
        None if by_system => SslMode::VerifyFull,
        Some(word) if by_system && word != "verify-full" => {
            return refuse(format!("`sslmode` is {word:?}, and `sslrootcert=system` needs `verify-full`"));
        }
        None if keywords.remove("requiressl").is_some_and(|word| word == "1") => SslMode::Require,
        None => SslMode::Prefer,
        Some(word) => match SslMode::parse(&word) {
            Some(mode) => mode,
            None => return refuse(format!("`sslmode` is {word:?}")),
        },
    };
    let in_home = |name: &str| around.home().map(|home| home.join(".postgresql").join(name));
    let file = |given: Option<String>, name: &str| {
        given.map(PathBuf::from).or_else(|| in_home(name).filter(|file| file.exists()))
    };
    let ssl_root = if by_system { None } else { file(root, "root.crt") };
    let certificate = file(keywords.remove("sslcert"), "postgresql.crt");
    let key = file(keywords.remove("sslkey"), "postgresql.key");
    let connect_timeout = match keywords.remove("connect_timeout").map(|text| text.trim().parse::<i64>()) {
        None | Some(Ok(..=0)) => None,
        // One second is too short for libpq, which takes two.
        Some(Ok(seconds)) => Some(Duration::from_secs(seconds.max(2).unsigned_abs())),
        Some(Err(_)) => return refuse("`connect_timeout` is no number"),
    };
    Ok(Settings {
        hosts,
        user,
        database,
        passwords,
        ssl_mode,
        ssl_root,
        ssl_identity: certificate.zip(key),
        connect_timeout,
        options: keywords.remove("options"),
        session_attributes: keywords.remove("target_session_attrs"),
        others: keywords,
    })
}

fn hosts(keywords: &mut Keywords) -> Result<Vec<Host>, ConnectionTextError> {
    let split = |text: Option<String>| -> Vec<String> {
        text.map_or_else(Vec::new, |text| text.split(',').map(|one| one.trim().to_owned()).collect())
    };
    let names = split(keywords.remove("host"));
    let addresses = split(keywords.remove("hostaddr"));
    let ports = split(keywords.remove("port"));
    let count = names.len().max(addresses.len()).max(1);
    if !addresses.is_empty() && !names.is_empty() && addresses.len() != names.len() {
        return refuse("there are not as many addresses as hosts");
    }
    if ports.len() > 1 && ports.len() != count {
        return refuse("there are not as many ports as hosts");
    }
    (0..count)
        .map(|number| {
            let port = match ports.get(number).or(ports.first()).filter(|port| !port.is_empty()) {
                None => DEFAULT_PORT,
                Some(port) => match port.parse::<u16>() {
                    Ok(port) if port > 0 => port,
                    _ => return refuse(format!("the port {port:?} is none")),
                },
            };
            let name = names.get(number).filter(|name| !name.is_empty());
            let address = addresses.get(number).filter(|address| !address.is_empty());
            Ok(match (name, address) {
                (Some(folder), None) if folder.starts_with('/') => {
                    Host::Socket { folder: PathBuf::from(folder), port }
                }
                (None, None) => Host::Socket { folder: default_socket_folder(port), port },
                (name, address) => Host::Tcp {
                    name: name.or(address).cloned().unwrap_or_default(),
                    address: address.cloned(),
                    port,
                },
            })
        })
        .collect()
}

/// Of the folders in use the one that has the socket, else the first.
fn default_socket_folder(port: u16) -> PathBuf {
    let socket = |folder: &&&str| Path::new(folder).join(format!(".s.PGSQL.{port}")).exists();
    PathBuf::from(SOCKET_FOLDERS.iter().find(socket).unwrap_or(&SOCKET_FOLDERS[0]))
}

fn passwords(
    hosts: &[Host],
    database: &str,
    user: &str,
    named: Option<PathBuf>,
    around: &Surroundings<'_>,
) -> Result<Vec<Option<Secret>>, ConnectionTextError> {
    let configured = around.passfile.map(Path::to_owned);
    let file = configured.clone().or(named).or_else(|| around.home().map(|home| home.join(".pgpass")));
    let Some(file) = file else { return Ok(vec![None; hosts.len()]) };
    let text = match std::fs::metadata(&file) {
        // libpq passes over a password file that others can read, with a warning. A backup that then fails for want of
        // a password would not say why.
        Ok(status) if status.is_file() && status.mode() & 0o077 != 0 => {
            return refuse(format!(
                "the password file {} can be read by others; `chmod 600` makes it count",
                file.display()
            ));
        }
        Ok(status) if status.is_file() => std::fs::read_to_string(&file)
            .map_err(|error| ConnectionTextError(format!("the password file {}: {error}", file.display())))?,
        _ if configured.is_some() => {
            return refuse(format!("the password file {} is not there", file.display()));
        }
        _ => String::new(),
    };
    let password = |host: &Host| {
        let known_as = match host {
            Host::Socket { folder, .. } if SOCKET_FOLDERS.iter().any(|known| Path::new(known) == folder) => {
                "localhost".to_owned()
            }
            Host::Socket { folder, .. } => folder.display().to_string(),
            Host::Tcp { name, .. } => name.clone(),
        };
        passfile::find(&text, &known_as, host.port(), database, user)
    };
    Ok(hosts.iter().map(password).collect())
}
