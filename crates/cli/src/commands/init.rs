//! `init`: looks for databases, writes a commented configuration, makes the repository and its key. With
//! `--repository` and no folder to look into: makes just that repository. Nothing that exists is written over.
//!
//! The repository is made before the configuration that names it, so that a crash leaves one of use without the other.

use crate::errors::Failure;
use crate::globals::DryRun;
use crate::json::Finished;
use crate::made_configuration::{names, toml_key, toml_text, write};
use crate::opening::{self, asked_for};
use crate::session::Session;
use crate::wording::count;
use clap::Args;
use config::RepositoryPlace;
use engines::postgres::{self, FoundCluster};
use engines::sqlite::{DiscoverLimits, discover};
use operations::report::{Outcome, Report};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Find databases, write a configuration, make the repository and its key
///
/// With --repository and no FOLDER: makes just that repository, opened by BACKSTAY_PASSWORD (or _FILE, _COMMAND) where one is
/// given, else by a new key file.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  backstay init                                    looks in the usual folders
  backstay init /srv/shops                         looks there
  backstay init --repository /mnt/backups/shop     just that repository")]
pub(crate) struct Options {
    /// Where to look for SQLite files; without it: the home folder, the working folder, /srv, /opt and /var/lib, and for
    /// PostgreSQL servers of this machine by their sockets
    #[arg(value_name = "FOLDER")]
    folders: Vec<PathBuf>,

    #[command(flatten)]
    dry_run: DryRun,
}

/// The report's own part.
#[derive(Debug, Serialize)]
struct InitBody {
    /// The configuration that was written; null where only a repository was made.
    config: Option<String>,
    /// The repository.
    repository: String,
    /// Its new key file; null where a password was given or nothing was made.
    key_file: Option<String>,
    /// The databases that were found.
    databases: Vec<String>,
    /// Whether nothing was done but telling.
    dry_run: bool,
}

pub(crate) fn run(session: &mut Session, options: &Options) -> Result<Finished, Failure> {
    let found = config::find(&config::Places { named: None, ..session.config_places() })?;
    let named = session.globals.config.clone().map(|file| session.absolute(&file));
    if session.globals.repository.is_some() && options.folders.is_empty() {
        // The name may be a configured one.
        if let Some(file) = named.filter(|file| file.exists()).or(found) {
            session.settings = config::read(&file)?;
        }
        return repository_alone(session, options);
    }
    let file = named.clone().unwrap_or_else(|| session.places.config.join("config.toml"));
    let existing = if file.exists() { Some(file.clone()) } else { found.filter(|_| named.is_none()) };
    if let Some(existing) = existing {
        return Err(Failure::usage(
            format!("{}: there is a configuration already, and it is not written over", existing.display()),
            "edit it, or name another one by --config; `backstay init --repository NAME` makes a repository of it",
        ));
    }
    whole(session, options, &file)
}

fn repository_alone(session: &Session, options: &Options) -> Result<Finished, Failure> {
    let Some(place) = asked_for(session)? else {
        return Err(Failure::usage("no repository is named", "name one"));
    };
    let path = &place.repository.path;
    let mut body = InitBody {
        config: None,
        repository: path.display().to_string(),
        key_file: None,
        databases: vec![],
        dry_run: options.dry_run.dry_run,
    };
    if options.dry_run.dry_run {
        if opening::is_there(session, path)? {
            return Err(Failure::usage(
                format!("{}: there is a repository already", path.display()),
                "use it as it is",
            ));
        }
        session.console.say(&format!(
            "Would make the repository {}. Nothing was made: this was a dry run.",
            path.display()
        ));
    } else {
        let made = opening::create(session, &place.repository)?;
        opening::tell(session, path, made.key_file.as_deref());
        body.key_file = made.key_file.map(|file| file.display().to_string());
    }
    Finished::new(&Report::new("init", session.started, Outcome::Complete, body))
}

fn whole(session: &Session, options: &Options, file: &Path) -> Result<Finished, Failure> {
    let repository = match asked_for(session)? {
        Some(asked) => asked.repository.path,
        None => session.places.default_repository(),
    };
    session.console.say("Looking for databases.");
    let databases = discover(&folders(session, options), DiscoverLimits::default());
    let own: Vec<PathBuf> = databases
        .into_iter()
        .filter(|path| {
            [&session.places.state, &session.places.cache, &session.places.data]
                .iter()
                .all(|folder| !path.starts_with(folder))
        })
        .collect();
    for path in &own {
        session.console.data(&path.display().to_string())?;
    }
    let clusters = clusters(session, options)?;
    let mut names: Vec<String> = own.iter().map(|path| path.display().to_string()).collect();
    names.extend(clusters.iter().flat_map(|cluster| cluster.databases.clone()));
    let number = count(names.len() as u64, "database", "databases");
    let mut body = InitBody {
        config: Some(file.display().to_string()),
        repository: repository.display().to_string(),
        key_file: None,
        databases: names,
        dry_run: options.dry_run.dry_run,
    };
    let text = configuration(&repository, &own, &clusters);
    if options.dry_run.dry_run {
        session.console.say(&format!(
            "Found {number}. Would write {}. Nothing was written: this was a dry run.",
            file.display()
        ));
        return Finished::new(&Report::new("init", session.started, Outcome::Complete, body));
    }
    if opening::is_there(session, &repository)? {
        session.console.say(&format!("The repository {} is there already.", repository.display()));
    } else {
        let place = RepositoryPlace::at(repository.clone());
        let made = opening::create(session, &place)?;
        opening::tell(session, &repository, made.key_file.as_deref());
        body.key_file = made.key_file.map(|file| file.display().to_string());
    }
    write(file, &text)?;
    session.console.say(&format!("Found {number}, and wrote {}.", file.display()));
    session.console.say(if body.databases.is_empty() {
        "Add your databases to it, then: backstay backup --all"
    } else {
        "Look it through, then: backstay backup --all"
    });
    Finished::new(&Report::new("init", session.started, Outcome::Complete, body))
}

/// Asks the servers of this machine, unless a folder is named: then that is where to look.
fn clusters(session: &Session, options: &Options) -> Result<Vec<FoundCluster>, Failure> {
    if !options.folders.is_empty() {
        return Ok(vec![]);
    }
    let limits = postgres::DiscoverLimits::default();
    let found = postgres::discover(&session.context.environment, &limits, &session.context.cancel);
    for cluster in &found {
        for url in &cluster.databases {
            session.console.data(url)?;
        }
        if let Some(reason) = &cluster.refused {
            session
                .console
                .say(&format!("The PostgreSQL server at {} let nobody in: {reason}.", place(cluster)));
        }
    }
    Ok(found)
}

fn place(cluster: &FoundCluster) -> String {
    format!("{}, port {}", cluster.folder.display(), cluster.port)
}

fn folders(session: &Session, options: &Options) -> Vec<PathBuf> {
    if !options.folders.is_empty() {
        return options
            .folders
            .iter()
            .map(|folder| config::canonical_path(&session.absolute(folder)))
            .collect();
    }
    let usual = ["/srv", "/opt", "/var/lib"].map(PathBuf::from);
    let mut folders: Vec<PathBuf> =
        session.places.home.iter().cloned().chain([session.working_folder.clone()]).chain(usual).collect();
    folders.sort();
    folders.dedup();
    // A folder inside of another one would be looked at twice.
    let all = folders.clone();
    folders.retain(|folder| !all.iter().any(|other| other != folder && folder.starts_with(other)));
    folders
}

/// Returns a commented configuration for the databases that were found.
fn configuration(repository: &Path, databases: &[PathBuf], clusters: &[FoundCluster]) -> String {
    let mut text = format!(
        "\
# The configuration of Backstay. Every key is checked; an unknown one is an error with its line.

repository = \"main\"                       # where backups go unless a plan says otherwise

[repositories.main]
path = {}
# password_file = \"/etc/backstay/main.key\"   # unless the key lies where `backstay init` put it
# password_command = [\"pass\", \"backstay\"]    # or a command that prints it
",
        toml_text(&repository.display().to_string())
    );
    if databases.is_empty() && clusters.iter().all(|cluster| cluster.databases.is_empty()) {
        text.push_str(
            "
# A target is a database, a folder of them, a glob, or a template:
#
# [targets.shop]
# source = \"/srv/shop/shop.db\"
# hooks = { before_backup = [\"/usr/local/bin/quiet\", \"on\"] }
# restore = { stop = [\"systemctl\", \"stop\", \"shop\"], start = [\"systemctl\", \"start\", \"shop\"] }
#
# [targets.shops]
# source = \"/srv/shops/{tenant}.db\"          # shops/acme, shops/bolt, …
#
# [targets.erp]
# source = \"postgres://backup@db1/erp\"
# passfile = \"/etc/backstay/pgpass\"
",
        );
    }
    let names = names(databases);
    for (name, path) in &names {
        text.push_str(&format!(
            "\n[targets.{}]\nsource = {}\n",
            toml_key(name),
            toml_text(&path.display().to_string())
        ));
    }
    text.push_str(&of_servers(clusters, &names));
    text
}

/// Returns the part for the databases of servers; of those that let nobody in a comment with what is to be filled in.
fn of_servers(clusters: &[FoundCluster], taken: &BTreeMap<String, &PathBuf>) -> String {
    let mut text = String::new();
    let mut names: Vec<String> = taken.keys().cloned().collect();
    for cluster in clusters {
        let version = cluster.version.as_deref().map(|version| format!(" {version}")).unwrap_or_default();
        text.push_str(&format!("\n# PostgreSQL{version} at {}", place(cluster)));
        if let Some(reason) = &cluster.refused {
            text.push_str(&format!(
                ", which let nobody in ({}). For each of its databases:\n#\n# [targets.NAME]\n# source = {}\n",
                reason.replace(char::is_control, " "),
                toml_text(&format!(
                    "postgres://ROLE@/DATABASE?host={}&port={}",
                    cluster.folder.display(),
                    cluster.port
                ))
            ));
            continue;
        }
        text.push_str(
            ". `backstay doctor NAME` tells whether a backup may read everything, and\n\
             # `backstay role NAME` writes the SQL for a role that may.\n",
        );
        for url in &cluster.databases {
            let name = server_name(url, &names);
            text.push_str(&format!("\n[targets.{}]\nsource = {}\n", toml_key(&name), toml_text(url)));
            names.push(name);
        }
    }
    text
}

/// Names a target after its database, with a number where that name is taken.
fn server_name(url: &str, taken: &[String]) -> String {
    let path = url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or(url, |(_, path)| path);
    let database = path.split('?').next().unwrap_or(path);
    let letters = |letter: char| if letter.is_alphanumeric() || "-_".contains(letter) { letter } else { '-' };
    let plain: String = database.chars().map(letters).collect();
    let plain = plain.trim_matches('-');
    let base = if plain.is_empty() { "database" } else { plain };
    let numbered = (2..).map(|number| format!("{base}-{number}"));
    let free = |name: &String| !taken.contains(name);
    [base.to_owned(), format!("{base}-postgres")]
        .into_iter()
        .chain(numbered)
        .find(free)
        .unwrap_or_else(|| base.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let found: Vec<PathBuf> =
            ["/srv/a/shop.db", "/srv/b/shop.db", "/srv/c d/b/shop.db", "/x/\"q\".db", "/x/.db"]
                .map(PathBuf::from)
                .into();
        let cluster = |databases: &[&str], refused: Option<&str>| FoundCluster {
            folder: PathBuf::from("/run/postgresql"),
            port: 5432,
            version: refused.is_none().then(|| "15.14 (Debian)".to_owned()),
            databases: databases.iter().map(|url| (*url).to_owned()).collect(),
            refused: refused.map(str::to_owned),
        };
        let urls =
            ["postgres:///shop?host=/run/postgresql", "postgres://postgres@/my%20b?host=/run/postgresql"];
        let servers = [cluster(&urls, None), cluster(&urls, None), cluster(&[], Some("no\n[targets.x]"))];
        for (databases, clusters) in
            [(&found[..], &servers[..]), (&[], &servers[..1]), (&[], &servers[2..]), (&[], &[])]
        {
            let text = configuration(Path::new("/var/b"), databases, clusters);
            let settings = config::read_text(Path::new("/etc/backstay/config.toml"), &text).unwrap();
            let of_servers: usize = clusters.iter().map(|cluster| cluster.databases.len()).sum();
            assert_eq!(settings.targets.len(), databases.len() + of_servers, "{text}");
            assert_eq!(settings.repository.unwrap().path, Path::new("/var/b"));
        }
    }
}
