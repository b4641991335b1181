//! `adopt`: a bare machine, the repository and its key are enough. Shows what the repository holds, and writes the
//! configuration that its backups were made by, or one made from them, with the place and the key of this machine.
//!
//! Nothing is written into the repository, and no file is written over. A crash leaves the configuration whole, or none.

use crate::errors::{Failure, exit};
use crate::globals::DryRun;
use crate::json::Finished;
use crate::made_configuration::{self, config_option};
use crate::opening::{self, Opened, OpenedBy, Place};
use crate::session::Session;
use crate::wording::{age, count, grouped, moment, size, table};
use clap::Args;
use config::{Settings, Surroundings};
use flow::quoted;
use jiff::Timestamp;
use operations::adopt::{Held, HeldHost};
use operations::report::{Outcome, Report};
use repository::ConfigurationRecord;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Take over a repository on a machine that does not know it
///
/// Shows whose backups are in it, and writes the configuration that they were made by: as it was, but for the place of the
/// repository and its key. Where no configuration was kept, one is made from the backups. The key is given as to every other
/// command: by BACKSTAY_PASSWORD_FILE, a key file in this user's folder, or when asked.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  BACKSTAY_PASSWORD_FILE=/media/usb/main.key backstay adopt /mnt/backups
  backstay adopt /mnt/backups --dry-run                 prints the configuration
  backstay adopt /mnt/backups --host db1 --config /etc/backstay/config.toml")]
pub(crate) struct Options {
    /// The folder of the repository; without it: --repository
    #[arg(value_name = "REPOSITORY")]
    folder: Option<String>,

    /// Whose configuration, where several hosts wrote to the repository
    #[arg(long, value_name = "HOST")]
    host: Option<String>,

    /// Which of that host's configurations, by its path there
    #[arg(long, value_name = "PATH")]
    file: Option<String>,

    #[command(flatten)]
    pub(crate) dry_run: DryRun,
}

/// The report's own part.
#[derive(Debug, Serialize)]
struct AdoptBody {
    /// Where the repository is.
    repository: String,
    /// Its id.
    repository_id: String,
    /// Whose backups it holds, and the configurations that are kept.
    hosts: Vec<HeldHost>,
    /// How many snapshots cannot be listed.
    unlisted: u64,
    /// The file that was written.
    config: String,
    /// The host whose configuration it is; null where the repository holds nothing.
    host: Option<String>,
    /// The path that it had there; null where it was made from the backups.
    file: Option<String>,
    /// The key file that it names; null where none is needed, or none was used.
    key_file: Option<String>,
    /// The keys that differ from what was kept.
    changed: Vec<String>,
    /// Its text.
    text: String,
    /// Commands that go on from here.
    next: Vec<String>,
    /// Whether nothing was done but telling.
    dry_run: bool,
}

/// A configuration for this machine.
struct Ready {
    text: String,
    settings: Settings,
    /// The name of the repository in it.
    name: String,
    changed: Vec<String>,
}

pub(crate) fn run(session: &Session, options: &Options) -> Result<Finished, Failure> {
    let dry_run = options.dry_run.dry_run;
    let output = output(session, dry_run)?;
    let opened = open(session, options)?;
    let (path, key) = (opened.path.clone(), key(session, &opened));
    let services = opening::services(session, opened.repository)?;
    let held = operations::adopt::held(&services)?;
    show(session, &path, &held, dry_run)?;
    let (host, record) = choose(&held, options)?;
    let found = key.as_ref().is_some_and(|(_, found)| *found);
    let key_file = key.map(|(file, _)| file);
    let ready = match record {
        Some(record) => adapted(record, &output, &path, key_file.as_deref(), found)?,
        None => made(session, host, &output, &path, key_file.as_deref().filter(|_| !found))?,
    };
    if !dry_run {
        made_configuration::write(&output, &ready.text)?;
    }
    let body = AdoptBody {
        repository: services.repository.location(),
        repository_id: services.repository.id().to_owned(),
        config: output.display().to_string(),
        host: host.map(|host| host.host.clone()),
        file: record.map(|record| record.file.clone()),
        key_file: key_file.map(|file| file.display().to_string()),
        next: next(session, &output, &ready, host),
        changed: ready.changed,
        text: ready.text,
        unlisted: held.unlisted,
        hosts: held.hosts,
        dry_run,
    };
    tell(session, &body)?;
    Finished::new(&Report::new("adopt", session.started, Outcome::Complete, body))
}

/// Returns where the configuration goes. One that is there is not written over.
fn output(session: &Session, dry_run: bool) -> Result<PathBuf, Failure> {
    let named = session.globals.config.clone().map(|file| session.absolute(&file));
    let file = named.clone().unwrap_or_else(|| session.places.config.join("config.toml"));
    let found = match named {
        Some(_) => None,
        None => config::find(&session.config_places())?,
    };
    match Some(file.clone()).filter(|file| file.symlink_metadata().is_ok()).or(found) {
        Some(existing) if !dry_run => Err(made_configuration::is_there(&existing)),
        _ => Ok(file),
    }
}

fn open(session: &Session, options: &Options) -> Result<Opened, Failure> {
    let Some(text) = options.folder.as_ref().or(session.globals.repository.as_ref()) else {
        return Err(Failure::usage("no repository is named", "name its folder: backstay adopt /mnt/backups"));
    };
    // A folder, whatever it is called: there is no configuration whose names it could be.
    let text = if text.contains('/') { text.clone() } else { format!("./{text}") };
    let place = Place::named(session.settings.repository_named(&text, &session.working_folder)?);
    opening::open(session, &place).map_err(|failure| match failure.exit_code {
        exit::NO_REPOSITORY => failure.with_hint(
            "name the folder that has `config`, `keys` and `snapshots` in it; or is its disk not mounted?",
        ),
        exit::WRONG_PASSWORD => failure.with_hint(format!(
            "give its key file, as in: BACKSTAY_PASSWORD_FILE=/path/of/the.key backstay adopt {}",
            quoted(&text)
        )),
        _ => failure,
    })
}

/// Returns the key file that opened the repository, and whether it is found without a configuration.
fn key(session: &Session, opened: &Opened) -> Option<(PathBuf, bool)> {
    let environment = &session.context.environment;
    match &opened.by {
        OpenedBy::KeyFile(file) => Some((file.clone(), true)),
        OpenedBy::Given if environment.get("BACKSTAY_PASSWORD").is_none() => {
            environment.get("BACKSTAY_PASSWORD_FILE").map(|file| (session.absolute(Path::new(file)), false))
        }
        OpenedBy::Given | OpenedBy::Typed => None,
    }
}

/// Shows what the repository holds.
fn show(session: &Session, path: &Path, held: &Held, dry_run: bool) -> Result<(), Failure> {
    let rows = held.hosts.iter().flat_map(|host| {
        host.targets.iter().map(|target| {
            vec![
                host.host.clone(),
                target.target.to_string(),
                grouped(target.databases),
                grouped(target.backups),
                size(target.newest_bytes),
                moment(target.newest, &session.zone),
                age(target.newest, session.started),
            ]
        })
    });
    let header = ["HOST", "TARGET", "DATABASES", "BACKUPS", "SIZE", "NEWEST", "AGE"];
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        session.console.say(&format!("{} holds no backup of a database.", path.display()));
    } else {
        let shown = table(&header, rows, &[2, 3, 4, 6]);
        // Of a dry run the configuration is the data.
        if dry_run { session.console.say(&shown) } else { session.console.data(&shown)? }
    }
    if held.unlisted > 0 {
        session.console.warn(
            &format!("{} cannot be listed and not shown", count(held.unlisted, "snapshot", "snapshots")),
            Some("`backstay check` names what is damaged"),
        );
    }
    Ok(())
}

/// Chooses the host and its configuration: the only ones, or those that are named.
fn choose<'a>(
    held: &'a Held,
    options: &Options,
) -> Result<(Option<&'a HeldHost>, Option<&'a ConfigurationRecord>), Failure> {
    let names =
        |hosts: &[&HeldHost]| hosts.iter().map(|host| host.host.clone()).collect::<Vec<_>>().join(", ");
    let all: Vec<&HeldHost> = held.hosts.iter().collect();
    let configured: Vec<&HeldHost> =
        held.hosts.iter().filter(|host| !host.configurations.is_empty()).collect();
    let host = match &options.host {
        Some(name) => Some(all.iter().copied().find(|host| host.host == *name).ok_or_else(|| {
            Failure::usage(
                format!("the repository holds nothing of a host {name}"),
                format!("name one of {}", names(&all)),
            )
        })?),
        None => match if configured.is_empty() { &all } else { &configured }.as_slice() {
            [] => None,
            [one] => Some(*one),
            several => {
                let what = if configured.is_empty() { "backups" } else { "configurations" };
                return Err(Failure::usage(
                    format!("the repository holds {what} of {} hosts: {}", several.len(), names(several)),
                    format!("say whose by --host, as in --host {}", quoted(&newest_host(several))),
                ));
            }
        },
    };
    let configurations = host.map_or(&[][..], |host| host.configurations.as_slice());
    let files = || configurations.iter().map(|held| held.file.clone()).collect::<Vec<_>>();
    match (&options.file, configurations) {
        (Some(file), known) => match known.iter().find(|held| held.file == *file) {
            Some(held) => Ok((host, Some(&held.record))),
            None => Err(Failure::usage(
                format!("no configuration {file} is kept"),
                match known {
                    [] => "leave --file out: one is made from the backups".to_owned(),
                    _ => format!("name one of {}", files().join(", ")),
                },
            )),
        },
        (None, []) => Ok((host, None)),
        (None, [one]) => Ok((host, Some(&one.record))),
        (None, [newest, ..]) => Err(Failure::usage(
            format!("that host used {} configurations: {}", configurations.len(), files().join(", ")),
            format!("say which by --file; the newest is {}", quoted(&newest.file)),
        )),
    }
}

/// Returns the host whose backup is the newest.
fn newest_host(hosts: &[&HeldHost]) -> String {
    let newest = |host: &&HeldHost| host.targets.iter().map(|target| target.newest).max();
    hosts.iter().copied().max_by_key(newest).map(|host| host.host.clone()).unwrap_or_default()
}

fn adapted(
    record: &ConfigurationRecord,
    output: &Path,
    repository: &Path,
    key_file: Option<&Path>,
    key_is_found: bool,
) -> Result<Ready, Failure> {
    let now =
        Surroundings { repository, name: record.repository.as_deref(), key_file, key_is_found, file: output };
    let adapted = config::adapt(Path::new(&record.file), &record.text, now)?;
    let config::Adapted { text, settings, name, changed } = adapted;
    Ok(Ready { text, settings, name, changed })
}

fn made(
    session: &Session,
    host: Option<&HeldHost>,
    output: &Path,
    repository: &Path,
    key_file: Option<&Path>,
) -> Result<Ready, Failure> {
    let text = made_configuration::of_held(host, repository, key_file, &session.zone);
    let settings = config::read_text(&output.with_extension("toml"), &text)?;
    if output.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json")) {
        return Err(Failure::usage(
            format!("{}: no configuration was kept, and one that is made is TOML", output.display()),
            "name a file that ends in .toml by --config",
        ));
    }
    Ok(Ready { text, settings, name: "main".to_owned(), changed: vec![] })
}

/// Returns the commands that go on from here, to be copied as they are.
fn next(session: &Session, output: &Path, ready: &Ready, host: Option<&HeldHost>) -> Vec<String> {
    let place = config::Places { named: None, ..session.config_places() };
    let is_looked_for = place.candidates().contains(&output.to_owned())
        || session.context.environment.get("BACKSTAY_CONFIG").is_some();
    let default = ready.settings.repository.as_ref().and_then(|place| place.name.as_deref());
    let mut options = if is_looked_for { String::new() } else { config_option(output) };
    if default != Some(ready.name.as_str()) {
        options.push_str(&format!(" --repository {}", quoted(&ready.name)));
    }
    let mut next = vec![format!("backstay list{options}")];
    let newest = host.and_then(|host| {
        let known = |target: &&operations::adopt::HeldTarget| {
            let name = target.target.as_str();
            ready.settings.targets.contains_key(name) || name.starts_with('/')
        };
        host.targets.iter().filter(known).flat_map(|target| &target.members).max_by_key(|record| record.time)
    });
    if let Some(newest) = newest {
        let session = Session { settings: ready.settings.clone(), ..session.clone() };
        let name = match newest.target.as_str() {
            target if target.starts_with('/') => newest.connection.to_string(),
            target => session.label(target, Some(newest.database.as_str()), None),
        };
        let backup = quoted(&format!("{name}@latest"));
        let file = Path::new(newest.connection.as_str())
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        next.push(format!("backstay restore{options} {backup} --to-new {}", quoted(&format!("./{file}"))));
        next.push(format!("backstay restore{options} {backup} --dry-run"));
    }
    next.push(format!("backstay doctor{options}"));
    next
}

fn tell(session: &Session, body: &AdoptBody) -> Result<(), Failure> {
    let console = &session.console;
    let ago = |time: Timestamp| moment(time, &session.zone);
    let kept = body
        .hosts
        .iter()
        .filter(|host| Some(&host.host) == body.host.as_ref())
        .find_map(|host| host.configurations.iter().find(|held| Some(&held.file) == body.file.as_ref()));
    let verb = if body.dry_run { "Would write" } else { "Wrote" };
    console.say(&match (kept, &body.host) {
        (Some(kept), Some(host)) => format!(
            "{verb} {}: the configuration {} of {host}, kept since {}.",
            body.config,
            kept.file,
            ago(kept.time)
        ),
        (_, Some(host)) => format!(
            "{verb} {}: made from the backups of {host}, for no configuration was kept. Look it through.",
            body.config
        ),
        _ => format!("{verb} {}.", body.config),
    });
    if !body.changed.is_empty() {
        console.say(&format!("Changed in it for this machine: {}.", body.changed.join(", ")));
    }
    if body.key_file.is_none() {
        console.say(
            "The password is not in it: keep it in a file that only this user reads, and name that as `password_file`.",
        );
    }
    if body.dry_run {
        console.data(&body.text)?;
        console.say("Nothing was written: this was a dry run.");
        return Ok(());
    }
    console.say("Next:");
    body.next.iter().for_each(|command| console.say(&format!("  {command}")));
    Ok(())
}
