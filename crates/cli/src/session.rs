//! What every command works with: the options, the settings, the places, and whom to tell.

use crate::console::Console;
use crate::errors::{Failure, exit};
use crate::globals::Globals;
use crate::places::Places;
use config::{Arguments, LogLevel, Settings, SourceArgument};
use flow::{Cancel, Context, EngineKind, Environment, NoSecrets, SafetySuffix, ScratchDir};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use operations::Engines;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What every command works with.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) globals: Globals,
    pub(crate) console: Console,
    pub(crate) settings: Settings,
    pub(crate) places: Places,
    pub(crate) working_folder: PathBuf,
    pub(crate) zone: TimeZone,
    pub(crate) context: Context,
    pub(crate) engines: Engines,
    pub(crate) host: String,
    pub(crate) user: String,
    pub(crate) started: Timestamp,
    /// Whether nothing is to be changed, not even the journal.
    pub(crate) dry_run: bool,
}

impl Session {
    /// Begins without a configuration. This is where the environment is read.
    pub(crate) fn begin(globals: Globals, console: Console) -> Result<Self, Failure> {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let environment = Environment::new(variables);
        let places = Places::new(&environment);
        let working_folder = std::env::current_dir().map_err(|error| {
            Failure::new(exit::FAILED, "the working folder cannot be found").with_cause(&error)
        })?;
        let user = ["USER", "LOGNAME"]
            .iter()
            .find_map(|name| environment.get(name).map(str::to_owned))
            .unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()));
        let context = Context {
            observer: console.progress(),
            cancel: Cancel::new(),
            secrets: Arc::new(NoSecrets),
            environment,
            scratch: ScratchDir::new(places.scratch()),
        };
        Ok(Self {
            globals,
            console,
            settings: Settings::default(),
            places,
            working_folder,
            zone: TimeZone::system(),
            context,
            engines: Engines::all(SafetySuffix::default()),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            user,
            started: Timestamp::now(),
            dry_run: false,
        })
    }

    /// Returns where configuration files may lie.
    pub(crate) fn config_places(&self) -> config::Places {
        config::Places {
            named: self.globals.config.clone(),
            working_folder: self.working_folder.clone(),
            user_folder: self.places.config.clone(),
            machine_folder: PathBuf::from("/etc/backstay"),
        }
    }

    /// Reads the configuration, where there is one.
    pub(crate) fn read_settings(&mut self) -> Result<(), Failure> {
        if let Some(file) = config::find(&self.config_places())? {
            self.settings = config::read(&file)?;
            self.engines = Engines::all(self.settings.restoration.safety_suffix.clone());
            self.settle_lines()?;
            self.console.detail(&format!("Using the configuration {}.", file.display()));
        }
        self.settle_lines()
    }

    /// Has lines on standard error look as variables and the configuration say.
    fn settle_lines(&mut self) -> Result<(), Failure> {
        let settled = self.console.settle(&self.context.environment, &self.settings.logging);
        let level = settled.map_err(|problem| Failure::usage(problem.message, problem.hint))?;
        (self.globals.quiet, self.globals.verbose) = (level >= LogLevel::Warning, level == LogLevel::Debug);
        Ok(())
    }

    /// Warns of a variable that asks for what is never done.
    pub(crate) fn warn_of_variables(&self) -> Result<(), Failure> {
        if self.switch("BACKUP_SAFETY_CHECKS")? == Some(false) {
            self.console.warn(
                "BACKUP_SAFETY_CHECKS says that checks are to be left out, and they are not",
                Some("take the variable away: what the checks guard is never given up"),
            );
        }
        Ok(())
    }

    /// Returns what a variable says that is true or false; `None` where it is not set.
    pub(crate) fn switch(&self, name: &str) -> Result<Option<bool>, Failure> {
        let Some(text) = self.context.environment.get(name) else { return Ok(None) };
        match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(Some(true)),
            "false" | "0" | "no" | "off" => Ok(Some(false)),
            _ => Err(Failure::usage(
                format!("the variable {name} says neither yes nor no"),
                "write true or false, or take it away",
            )),
        }
    }

    /// Returns what the meaning of arguments depends on.
    pub(crate) fn arguments(&self) -> Arguments<'_> {
        Arguments { settings: &self.settings, working_folder: &self.working_folder, zone: self.zone.clone() }
    }

    /// Returns a source that is to be read. A slip of the pen in a configured name is found out here.
    pub(crate) fn live_source(&self, text: &str) -> Result<SourceArgument<'_>, Failure> {
        let source = self.arguments().source(text)?;
        match &source.near {
            Some(near) if !Path::new(&source.target.connection).exists() => {
                Err(Failure::new(exit::DATABASE, format!("{text}: neither a configured target nor a file"))
                    .with_hint(format!("did you mean `{near}`?")))
            }
            _ => Ok(source),
        }
    }

    /// Returns how a database is called: `erp` for a target of one database, `shops/acme` for one of many; the path
    /// where it was named in place.
    pub(crate) fn label(&self, target: &str, database: Option<&str>, connection: Option<&str>) -> String {
        self.label_of(target, self.has_many(target), database, connection)
    }

    /// Tells whether a target has many databases: it is a folder or a pattern.
    pub(crate) fn has_many(&self, target: &str) -> bool {
        let configured = self.settings.targets.get(target);
        let source = configured.map_or(target, |configured| configured.target.connection.as_str());
        if let Some(url) = source.strip_prefix("postgres://") {
            let place = url.split('?').next().unwrap_or(url);
            return place.contains('*') || place.contains("{tenant}");
        }
        source.contains(['*', '?', '[', '{']) || Path::new(source).is_dir()
    }

    /// Like [`Session::label`], for a target of which it is known whether it has many databases.
    pub(crate) fn label_of(
        &self,
        target: &str,
        has_many: bool,
        database: Option<&str>,
        connection: Option<&str>,
    ) -> String {
        let Some(database) = database else { return target.to_owned() };
        match self.settings.targets.get(target) {
            Some(configured) if configured.target.engine != EngineKind::Sqlite && !has_many => {
                target.to_owned()
            }
            Some(configured) if !has_many => {
                // What is gone may have been a folder: of a file the database has the name.
                let source = Path::new(&configured.target.connection);
                let one = source.file_name().is_some_and(|name| name == database) || source.exists();
                if one { target.to_owned() } else { format!("{target}/{database}") }
            }
            // One database each, which the URL names.
            None if target.starts_with("postgres://") && !has_many => target.to_owned(),
            None if target.starts_with("postgres://") => connection.unwrap_or(database).to_owned(),
            None if target.starts_with('/') => match connection {
                Some(connection) => connection.to_owned(),
                None if has_many => format!("{target}: {database}"),
                None => target.to_owned(),
            },
            _ => format!("{target}/{database}"),
        }
    }

    /// Returns the zone in which times in names are read: the one that an option names, else the local one.
    pub(crate) fn named_zone(&self, name: Option<&str>) -> Result<TimeZone, Failure> {
        let Some(name) = name else { return Ok(self.zone.clone()) };
        TimeZone::get(name).map_err(|_| {
            Failure::usage(
                format!("there is no time zone `{name}`"),
                "write a name of the time zone database, as in Europe/Berlin or UTC",
            )
        })
    }

    /// Returns a path of the command line as an absolute one.
    pub(crate) fn absolute(&self, path: &Path) -> PathBuf {
        self.working_folder.join(path)
    }
}
