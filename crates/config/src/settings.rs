//! Settings resolved: names looked up, paths made absolute, commands and references checked.

use crate::error::did_you_mean;
use crate::folder_tools::{
    FolderLogging, FolderPruning, FolderRestoration, FolderValidation, logging, pruning, restoration,
    validation,
};
use crate::keep::rules;
use crate::layout::{OfFiles, RepositoryLayout, form, layout};
use crate::problem::Problem;
use crate::source::{SourceTextError, normal, source};
use crate::tenants::{TenantNames, names};
use crate::written::{
    Written, WrittenPlan, WrittenRepository, WrittenRestore, WrittenTarget, WrittenTenants,
};
use flow::{Content, EngineKind, SecretRef, Selection, TargetName, TargetRef, TenantQuery};
use jiff::tz::TimeZone;
use repository::retention::{Rules, Span, SpanError};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// A configuration, ready to use. Without a file it is empty, and everything is named in arguments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// The file it came from.
    pub file: Option<PathBuf>,
    /// Its text, as it was read.
    pub text: String,
    /// The repository of plans that name none: the one that the configuration says, or its only one.
    pub repository: Option<RepositoryPlace>,
    /// The repositories by name.
    pub repositories: BTreeMap<String, RepositoryPlace>,
    /// The targets by name.
    pub targets: BTreeMap<String, Target>,
    /// What stands for the rules of `prune FOLDER` that are not given.
    pub pruning: FolderPruning,
    /// What stands for the options of `restore` that are not given.
    pub restoration: FolderRestoration,
    /// What stands for the options of `verify` of dump files that are not given.
    pub validation: FolderValidation,
    /// How status lines, warnings and errors are said.
    pub logging: FolderLogging,
}

/// Where a repository is and how it is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryPlace {
    /// Its configured name; `None` where only its path is given.
    pub name: Option<String>,
    /// Its folder, absolute.
    pub path: PathBuf,
    /// How it keeps backups.
    pub layout: RepositoryLayout,
    /// Where its password is to be had, where the configuration says so.
    pub password: Option<SecretRef>,
    /// The zstd level that new blobs get; `None`: the one that measured best.
    pub compression_level: Option<i32>,
    /// The size of new packs; `None`: the one that measured best.
    pub pack_bytes: Option<u32>,
}

impl RepositoryPlace {
    /// A repository of which only the folder is known.
    pub fn at(path: PathBuf) -> Self {
        let layout = RepositoryLayout::Restic;
        Self { name: None, path, layout, password: None, compression_level: None, pack_bytes: None }
    }
}

/// A configured target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The target, as engines need it.
    pub target: TargetRef,
    /// Who its tenants are, where somebody keeps a list: what else fits the source is none of its databases.
    pub tenants: Option<TenantNames>,
    /// A command to run before each backup: program and arguments.
    pub before_backup: Option<Vec<String>>,
    /// A command to run after each backup.
    pub after_backup: Option<Vec<String>>,
    /// How it is restored.
    pub restore: RestoreSettings,
    /// Its plans by name.
    pub plans: BTreeMap<String, Plan>,
}

/// How a target is restored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoreSettings {
    /// A command that stops what uses the database. `{tenant}` in it stands for the database's name.
    pub stop: Option<Vec<String>>,
    /// A command that starts it again.
    pub start: Option<Vec<String>>,
    /// A URL that answers once the service is well again.
    pub health_url: Option<String>,
    /// The folder for safety copies.
    pub safety_dir: Option<PathBuf>,
    /// How long they stay.
    pub safety_keep: SafetyKeep,
}

/// How long safety copies stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SafetyKeep {
    /// So long at least, and while no newer backup is proven.
    For(Span),
    /// Until a person removes them.
    Forever,
}

impl Default for SafetyKeep {
    fn default() -> Self {
        Self::For(Span::of_days(7))
    }
}

impl SafetyKeep {
    /// Returns after which time a prune may remove them.
    pub fn span(self) -> Option<Span> {
        match self {
            SafetyKeep::For(span) => Some(span),
            SafetyKeep::Forever => None,
        }
    }
}

/// One plan of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Where its backups go; `None`: the default repository.
    pub repository: Option<RepositoryPlace>,
    /// The endings of its files, as in `sql.gz`, where it writes into a folder of dump files; `None`: the usual ones.
    pub form: Option<String>,
    /// Tags for its snapshots.
    pub tags: Vec<String>,
    /// What is kept of its backups; `None`: everything.
    pub keep: Option<Rules>,
    /// The zone in which its days begin; `None`: the local one.
    pub time_zone: Option<TimeZone>,
    /// Which part of its databases it backs up; `None`: all.
    pub selection: Option<Selection>,
}

pub(crate) fn resolve(file: &Path, folder: &Path, written: Written) -> Result<Settings, Problem> {
    let mut repositories = BTreeMap::new();
    for (name, repository) in written.repositories {
        let place = repository_place(&name, repository, folder)?;
        repositories.insert(name, place);
    }
    let repository = match &written.repository {
        Some(text) => Some(look_up(text, &repositories, folder, &["repository"])?),
        None if repositories.len() == 1 => repositories.values().next().cloned(),
        None => None,
    };
    let mut targets = BTreeMap::new();
    for (name, target) in written.targets {
        let resolved = target_settings(&name, target, &repositories, folder)?;
        refuse_form_without_files(&name, &resolved, repository.as_ref())?;
        targets.insert(name, resolved);
    }
    let pruning = pruning(&written.pruning)?;
    let restoration = restoration(&written.restoration)?;
    let (validation, logging) = (validation(&written.validation)?, logging(&written.logging)?);
    let (file, text) = (Some(file.to_owned()), String::new());
    Ok(Settings { file, text, repository, repositories, targets, pruning, restoration, validation, logging })
}

/// A form is for plans that write files.
fn refuse_form_without_files(
    name: &str,
    target: &Target,
    default: Option<&RepositoryPlace>,
) -> Result<(), Problem> {
    for (plan_name, plan) in &target.plans {
        let Some(form) = &plan.form else { continue };
        let place = plan.repository.as_ref().or(default);
        if let Some(RepositoryLayout::Files { age_recipients, .. }) = place.map(|place| &place.layout)
            && !age_recipients.is_empty()
            && !form.ends_with(".age")
        {
            return Err(Problem::new(
                &["targets", name, "plans", plan_name, "form"],
                "the repository has `age_recipients`, and this form is not encrypted",
                format!("write \"{form}.age\", or take the recipients out of the repository"),
            ));
        }
        if place.is_none_or(|place| place.layout == RepositoryLayout::Restic) {
            return Err(Problem::new(
                &["targets", name, "plans", plan_name, "form"],
                "the plan writes into a repository of layout `restic`, which keeps no single files",
                "name a repository with layout = \"files\" in the plan, or take the key out".to_owned(),
            ));
        }
    }
    Ok(())
}

fn repository_place(
    name: &str,
    written: WrittenRepository,
    folder: &Path,
) -> Result<RepositoryPlace, Problem> {
    let at = |key| ["repositories", name, key];
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(Problem::new(
            &["repositories", name],
            "the name of a repository has no slash, and does not begin with a dot",
            None,
        ));
    }
    let age_identity =
        written.age_identity.map(|path| local_path(&path, folder, &at("age_identity"))).transpose()?;
    let files = OfFiles { names: written.names, age_recipients: written.age_recipients, age_identity };
    let layout = layout(name, written.layout.as_deref(), files)?;
    let of_restic = [
        ("password_file", written.password_file.is_some()),
        ("password_command", written.password_command.is_some()),
        ("compression_level", written.compression_level.is_some()),
        ("pack_mib", written.pack_mib.is_some()),
    ];
    if let (true, Some((key, _))) =
        (layout != RepositoryLayout::Restic, of_restic.into_iter().find(|(_, given)| *given))
    {
        let hint = "take the key out: the files of a folder are plain dumps".to_owned();
        return Err(Problem::new(&at(key), "the key is for the layout `restic`", hint));
    }
    let password = match (written.password_file, written.password_command) {
        (None, None) => None,
        (Some(path), None) => {
            let path = local_path(&path, folder, &at("password_file"))?;
            Some(SecretRef::File(path.to_string_lossy().into_owned()))
        }
        (None, Some(command)) => Some(SecretRef::Command(checked_command(command, &at("password_command"))?)),
        (Some(_), Some(_)) => {
            return Err(Problem::new(
                &at("password_command"),
                "`password_file` is given too",
                "keep one of the two".to_owned(),
            ));
        }
    };
    let compression_level = written.compression_level;
    if compression_level.is_some_and(|level| !(1..=22).contains(&level)) {
        let message = "the level of zstd goes from 1 to 22";
        return Err(Problem::new(&at("compression_level"), message, None));
    }
    if written.pack_mib.is_some_and(|size| !(4..=128).contains(&size)) {
        return Err(Problem::new(&at("pack_mib"), "packs have from 4 to 128 MiB", None));
    }
    let path = local_path(&written.path, folder, &at("path"))?;
    let pack_bytes = written.pack_mib.map(|size| size << 20);
    let name = Some(name.to_owned());
    Ok(RepositoryPlace { name, path, layout, password, compression_level, pack_bytes })
}

fn local_path(text: &str, folder: &Path, at: &[&str]) -> Result<PathBuf, Problem> {
    if text.is_empty() {
        return Err(Problem::new(at, "the path is empty", None));
    }
    if text.contains("://") {
        return Err(Problem::new(
            at,
            "this version does not reach other machines yet",
            "name a folder".to_owned(),
        ));
    }
    if text == "~" || text.starts_with("~/") {
        return Err(Problem::new(at, "`~` is not expanded here", "write the path in full".to_owned()));
    }
    Ok(normal(&folder.join(text)))
}

fn checked_command(command: Vec<String>, at: &[&str]) -> Result<Vec<String>, Problem> {
    if command.first().is_none_or(String::is_empty) {
        return Err(Problem::new(
            at,
            "the command is empty",
            "write the program and its arguments, as in [\"systemctl\", \"stop\", \"shop\"]".to_owned(),
        ));
    }
    Ok(command)
}

fn optional_command(command: Option<Vec<String>>, at: &[&str]) -> Result<Option<Vec<String>>, Problem> {
    command.map(|command| checked_command(command, at)).transpose()
}

fn look_up(
    text: &str,
    repositories: &BTreeMap<String, RepositoryPlace>,
    folder: &Path,
    at: &[&str],
) -> Result<RepositoryPlace, Problem> {
    if let Some(place) = repositories.get(text) {
        return Ok(place.clone());
    }
    if text.contains('/') || text.starts_with('~') {
        let path = local_path(text, folder, at)?;
        return Ok(repositories
            .values()
            .find(|place| place.path == path)
            .cloned()
            .unwrap_or_else(|| RepositoryPlace::at(path)));
    }
    let near = did_you_mean(text, repositories.keys().map(String::as_str));
    let hint = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("add [repositories.{text}], or write a path with a slash in it"),
    };
    Err(Problem::new(at, format!("there is no repository {text:?}"), hint))
}

fn target_settings(
    name: &str,
    written: WrittenTarget,
    repositories: &BTreeMap<String, RepositoryPlace>,
    folder: &Path,
) -> Result<Target, Problem> {
    let at = ["targets", name];
    if name.contains(['/', '@', ':']) || name.starts_with('.') {
        return Err(Problem::new(
            &at,
            "the name of a target has no `/`, `@` or `:`, and does not begin with a dot",
            None,
        ));
    }
    let target_name = TargetName::new(name).map_err(|error| Problem::new(&at, error.to_string(), None))?;
    let mut target = source(Some(target_name), &written.source, folder)
        .map_err(|error| Problem::source(&["targets", name, "source"], error))?;
    let mut tenants = None;
    if let Some(written) = written.tenants {
        let at = ["targets", name, "tenants"];
        if written.database.is_none() && written.sql.is_none() {
            let file = written.file.map(|file| local_path(&file, folder, &at)).transpose()?;
            tenants = Some(names(written.names, file, written.variable, &target.connection, &at)?);
        } else {
            target.tenants = Some(tenant_query(&target, written, &at)?);
        }
    }
    if let Some(passfile) = written.passfile {
        add_passfile(&mut target, &passfile, folder, &["targets", name, "passfile"])?;
    }
    let hooks = |key| ["targets", name, "hooks", key];
    let mut plans = BTreeMap::new();
    for (plan_name, plan) in written.plans {
        let resolved = plan_settings((name, target.engine), &plan_name, plan, repositories, folder)?;
        plans.insert(plan_name, resolved);
    }
    Ok(Target {
        target,
        tenants,
        before_backup: optional_command(written.hooks.before_backup, &hooks("before_backup"))?,
        after_backup: optional_command(written.hooks.after_backup, &hooks("after_backup"))?,
        restore: restore_settings(name, written.restore, folder)?,
        plans,
    })
}

/// Who the tenants are is asked of the server, where that can be.
fn tenant_query(target: &TargetRef, written: WrittenTenants, at: &[&str]) -> Result<TenantQuery, Problem> {
    let place = target.connection.split('?').next().unwrap_or_default();
    if target.engine != EngineKind::Postgres || !place.contains("{tenant}") {
        let hint = "write the source as in \"postgres://db1/shop_{tenant}\", or take the key out".to_owned();
        return Err(Problem::new(
            at,
            "tenants are asked for by SQL where the source is a PostgreSQL URL with `{tenant}` in its database",
            hint,
        ));
    }
    let (database, sql) = (written.database.unwrap_or_default(), written.sql.unwrap_or_default());
    let others = written.names.is_some() || written.file.is_some() || written.variable.is_some();
    if database.is_empty() || sql.trim().is_empty() || others {
        let hint =
            "write { database = \"control\", sql = \"SELECT name FROM customers WHERE active\" }".to_owned();
        let message = match others {
            true => "tenants are named by `database` and `sql`, or by a list, not by both",
            false => "`database` and `sql` are both needed",
        };
        return Err(Problem::new(at, message, hint));
    }
    Ok(TenantQuery { database, sql })
}

/// A password file goes with the connection, as libpq's own parameter.
fn add_passfile(target: &mut TargetRef, text: &str, folder: &Path, at: &[&str]) -> Result<(), Problem> {
    if target.engine != EngineKind::Postgres {
        let hint = "take the key out".to_owned();
        return Err(Problem::new(at, "a password file is for PostgreSQL, and this source is none", hint));
    }
    let path = local_path(text, folder, at)?;
    let mut encoded = String::new();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => {
                encoded.push(char::from(*byte));
            }
            // Writing to a string cannot fail.
            other => drop(write!(encoded, "%{other:02X}")),
        }
    }
    let separator = if target.connection.contains('?') { '&' } else { '?' };
    target.connection = format!("{}{separator}passfile={encoded}", target.connection);
    Ok(())
}

fn restore_settings(name: &str, written: WrittenRestore, folder: &Path) -> Result<RestoreSettings, Problem> {
    let at = |key| ["targets", name, "restore", key];
    if written
        .health_url
        .as_deref()
        .is_some_and(|url| !url.starts_with("http://") && !url.starts_with("https://"))
    {
        return Err(Problem::new(
            &at("health_url"),
            "the URL begins neither with `http://` nor with `https://`",
            None,
        ));
    }
    Ok(RestoreSettings {
        stop: optional_command(written.stop, &at("stop"))?,
        start: optional_command(written.start, &at("start"))?,
        health_url: written.health_url,
        safety_dir: written
            .safety_dir
            .map(|path| local_path(&path, folder, &at("safety_dir")))
            .transpose()?,
        safety_keep: written.safety_keep.map_or(Ok(SafetyKeep::default()), |text| {
            safety_keep(&text).map_err(|problem| {
                let hint = "write a span as in \"7d\" or \"2w\", or \"forever\"".to_owned();
                Problem::new(&at("safety_keep"), problem, hint)
            })
        })?,
    })
}

fn safety_keep(text: &str) -> Result<SafetyKeep, &'static str> {
    match text {
        "forever" => Ok(SafetyKeep::Forever),
        span => span.parse().map(SafetyKeep::For).map_err(|error: SpanError| error.problem()),
    }
}

fn plan_settings(
    (target, engine): (&str, EngineKind),
    name: &str,
    mut written: WrittenPlan,
    repositories: &BTreeMap<String, RepositoryPlace>,
    folder: &Path,
) -> Result<Plan, Problem> {
    let at = |key| ["targets", target, "plans", name, key];
    if name.is_empty() || name.contains(',') {
        return Err(Problem::new(
            &["targets", target, "plans", name],
            "the name of a plan is not empty and has no comma",
            None,
        ));
    }
    let ours = |tag: &String| {
        tag.is_empty()
            || tag.contains(',')
            || tag.starts_with("target=")
            || tag.starts_with("plan=")
            || tag.starts_with("database=")
            || tag.starts_with("selection=")
            || ["backstay-state", "imported"].contains(&tag.as_str())
    };
    if written.tags.iter().any(ours) {
        return Err(Problem::new(
            &at("tags"),
            "a tag is not empty, has no comma, and is none of `target=…`, `plan=…`, `database=…`, `selection=…`, \
             `imported` and `backstay-state`",
            None,
        ));
    }
    let selection = selection(target, name, engine, &mut written)?;
    let repository =
        written.repository.map(|text| look_up(&text, repositories, folder, &at("repository"))).transpose()?;
    let zone = |name: String| {
        TimeZone::get(&name).map_err(|_| {
            let hint =
                "write a name of the time zone database, as in \"Europe/Berlin\" or \"UTC\"".to_owned();
            Problem::new(&at("time_zone"), format!("there is no time zone {name:?}"), hint)
        })
    };
    Ok(Plan {
        repository,
        form: written.form.map(|text| form(text, engine, &at("form"))).transpose()?,
        tags: written.tags,
        keep: written.keep.map(|keep| rules(keep, &at("keep"))).transpose()?,
        time_zone: written.time_zone.map(zone).transpose()?,
        selection,
    })
}

/// Returns the part of its databases that a plan is of.
fn selection(
    target: &str,
    plan: &str,
    engine: EngineKind,
    written: &mut WrittenPlan,
) -> Result<Option<Selection>, Problem> {
    let at = |key| ["targets", target, "plans", plan, key];
    let given = [
        ("schema_only", written.schema_only),
        ("data_only", written.data_only),
        ("tables", !written.tables.is_empty()),
        ("schemas", !written.schemas.is_empty()),
    ];
    let key = given.into_iter().find(|(_, given)| *given).map_or("exclude_table_data", |(key, _)| key);
    if written.schema_only && written.data_only {
        let hint = "keep one of the two; without both, definitions and rows are backed up".to_owned();
        return Err(Problem::new(&at("data_only"), "`schema_only` is given too", hint));
    }
    let selection = Selection {
        content: match (written.schema_only, written.data_only) {
            (true, _) => Content::Schema,
            (_, true) => Content::Data,
            _ => Content::All,
        },
        tables: std::mem::take(&mut written.tables),
        schemas: std::mem::take(&mut written.schemas),
        exclude_table_data: std::mem::take(&mut written.exclude_table_data),
    };
    let Some(selection) = selection.normal() else { return Ok(None) };
    if engine != EngineKind::Postgres {
        let hint = "take the key out: a SQLite backup is the whole database".to_owned();
        return Err(Problem::new(&at(key), "parts are for PostgreSQL, and this source is none", hint));
    }
    match selection.problem() {
        Some(problem) => Err(Problem::new(&at(key), problem, None)),
        None => Ok(Some(selection)),
    }
}

impl Settings {
    /// Returns the repository that a name or path stands for. Relative paths are meant from `working_folder`.
    pub fn repository_named(
        &self,
        text: &str,
        working_folder: &Path,
    ) -> Result<RepositoryPlace, SourceTextError> {
        if !text.contains("://")
            && !self.repositories.contains_key(text)
            && working_folder.join(text).exists()
        {
            return self.repository_at(&working_folder.join(text));
        }
        look_up(text, &self.repositories, working_folder, &[]).map_err(|problem| SourceTextError {
            message: match problem.message.contains(text) {
                true => problem.message,
                false => format!("repository {text:?}: {}", problem.message),
            },
            hint: problem.hint,
        })
    }

    /// Returns the repository in a folder, with its configured password where it has one.
    fn repository_at(&self, path: &Path) -> Result<RepositoryPlace, SourceTextError> {
        let path = normal(path);
        let known = self.repositories.values().find(|place| place.path == path).cloned();
        Ok(known.unwrap_or_else(|| RepositoryPlace::at(path)))
    }
}
