//! Which files an argument means where repositories of layout `files` hold the backups: of all the folders that the plans of
//! a target write to, its newest file, or that of a moment, and behind it the older ones.
//!
//! A file is of a target where its manifest says so, or, without one, by its name: then it has the name of the target, of the
//! database, or of the repository's template. Looks, and changes nothing.

use crate::errors::{Failure, exit};
use crate::opening::{self, Place};
use crate::references::database;
use crate::session::Session;
use crate::wording::{duration, moment};
use config::{BackupArgument, RepositoryLayout, SourceArgument, Target, Which};
use flow::{DatabaseName, EngineKind, TargetName, quoted};
use jiff::tz::TimeZone;
use operations::Services;
use operations::backup_folder::known_as;
use operations::dump_files::{Choice, TimeSource};
use operations::list_folder::{self, FolderFile, FolderFilter};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use storage::LocalFolder;

/// A folder that is a repository.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    /// How its files are called.
    names: String,
    /// By what encrypted ones are read.
    pub(crate) identity: Option<PathBuf>,
    /// In which zone a name's time is meant that says none.
    zone: TimeZone,
}

/// The files of one database that an argument means.
#[derive(Debug, Clone)]
pub(crate) struct Chosen {
    pub(crate) target: TargetName,
    pub(crate) database: DatabaseName,
    /// The chosen one, and behind it the older ones, newest first.
    pub(crate) files: Vec<FolderFile>,
    /// Of how many it was chosen.
    of: usize,
}

/// What an argument means in folders.
#[derive(Debug)]
pub(crate) struct Meant<'a> {
    pub(crate) source: Option<SourceArgument<'a>>,
    pub(crate) folders: Vec<Folder>,
    pub(crate) databases: Vec<Chosen>,
    text: String,
    which: Which,
}

impl Folder {
    /// Returns the folder of a repository of layout `files`; `None` of another one.
    fn of(place: &Place, zone: TimeZone) -> Option<Self> {
        let RepositoryLayout::Files { names, age_identity, .. } = &place.repository.layout else {
            return None;
        };
        let path = config::canonical_path(&place.repository.path);
        Some(Self { path, names: names.clone(), identity: age_identity.clone(), zone })
    }
}

/// Returns the folders that hold the backups of a source, or of the default repository: `None` where that is no folder. Of
/// a target whose plans write to folders alone it is all of them.
pub(crate) fn folders(
    session: &Session,
    source: Option<&SourceArgument<'_>>,
) -> Result<Option<Vec<Folder>>, Failure> {
    let local = || session.zone.clone();
    if let Some(asked) = opening::asked_for(session)? {
        let plans =
            source.into_iter().filter_map(|source| source.configured).flat_map(|own| own.plans.values());
        let of_asked =
            plans.filter(|plan| plan.repository.as_ref().is_none_or(|own| own.path == asked.repository.path));
        let zone = of_asked.into_iter().find_map(|plan| plan.time_zone.clone()).unwrap_or_else(local);
        return Ok(Folder::of(&asked, zone).map(|folder| vec![folder]));
    }
    let mut places: Vec<(Place, TimeZone)> = Vec::new();
    for plan in source.into_iter().filter_map(|source| source.configured).flat_map(|own| own.plans.values()) {
        let place = match &plan.repository {
            Some(repository) => Place::named(repository.clone()),
            None => opening::default_place(session)?,
        };
        if !places.iter().any(|(known, _)| *known == place) {
            places.push((place, plan.time_zone.clone().unwrap_or_else(local)));
        }
    }
    let folders: Vec<Folder> =
        places.iter().filter_map(|(place, zone)| Folder::of(place, zone.clone())).collect();
    if !folders.is_empty() && folders.len() == places.len() {
        return Ok(Some(folders));
    }
    // Where there is a repository of the other layout too, that one is asked, or which one is meant.
    let place = opening::place_of(session, source)?;
    Ok(Folder::of(&place, local()).map(|folder| vec![folder]))
}

/// Returns the files of a source, or all of them, oldest first. A folder that is not there is told where another one is.
pub(crate) fn files(
    session: &Session,
    services: &Services,
    folders: &[Folder],
    source: Option<&SourceArgument<'_>>,
) -> Result<Vec<FolderFile>, Failure> {
    if let Some(source) = source.filter(|source| source.configured.is_none()) {
        let own = |(name, target): (&String, &Target)| {
            (target.target.connection == source.target.connection).then(|| name.clone())
        };
        let path = Path::new(&source.target.connection);
        let hint = match (&source.near, session.settings.targets.iter().find_map(own)) {
            (_, Some(name)) => format!("it is configured as {name}: name a configured target by its name"),
            (Some(near), None) => format!("did you mean `{near}`?"),
            (None, None) if folders.iter().any(|folder| path.parent() == Some(&folder.path)) => {
                "a file of the folder is restored by --target NAME; or name a configured target".to_owned()
            }
            (None, None) => "name a configured target, or list the whole folder".to_owned(),
        };
        return Err(Failure::usage(
            format!("`{}` is no configured target, and a folder of dump files knows no others", source.text),
            hint,
        ));
    }
    let there: Vec<&Folder> = folders.iter().filter(|folder| folder.path.is_dir()).collect();
    let mut missing = folders.iter().filter(|folder| !folder.path.is_dir());
    if let Some(folder) = missing.next() {
        let message = format!("{}: there is no such folder", folder.path.display());
        let hint = "is the disk it lies on mounted?";
        if there.is_empty() {
            return Err(Failure::new(exit::NO_REPOSITORY, message).with_hint(hint));
        }
        session.console.warn(&format!("{message}, so what it holds does not count here"), Some(hint));
    }
    let mut all = Vec::new();
    for folder in there {
        let filter = source.map(|source| FolderFilter {
            target: source.target.name.clone(),
            database: source.only.clone(),
            known_as: names_of(session, source, folder),
        });
        let choice = Choice::all(folder.zone.clone());
        all.extend(list_folder::files(services, &LocalFolder::new(&folder.path), &choice, filter.as_ref())?);
    }
    all.sort_by(|a, b| (a.file.time, &a.file.path).cmp(&(b.file.time, &b.file.path)));
    Ok(all)
}

/// Returns by which names files without a manifest are known as dumps of a target, and of which of its databases.
fn names_of(
    session: &Session,
    source: &SourceArgument<'_>,
    folder: &Folder,
) -> BTreeMap<String, DatabaseName> {
    let target = source.target.name.as_str();
    let others = || session.settings.targets.iter().filter(|(name, _)| name.as_str() != target);
    // What two targets could mean is nobody's.
    let mut taken: BTreeSet<String> = others().map(|(name, _)| name.clone()).collect();
    taken.extend(others().filter_map(|(_, other)| file_name(other)).flat_map(|name| [stem(&name), name]));
    let plans = source.configured.into_iter().flat_map(|own| own.plans.keys());
    let plans: Vec<Option<&str>> = plans.map(|plan| Some(plan.as_str())).chain([None]).collect();
    let many = session.has_many(target);
    let mut known = BTreeMap::new();
    for database in databases(session, source, many) {
        let name = database.as_str();
        let mut texts: Vec<String> = vec![name.to_owned(), stem(name)];
        texts.extend([format!("{target}_{name}"), format!("{target}-{name}")]);
        texts.retain(|text| !taken.contains(text));
        if !many {
            texts.push(target.to_owned());
        }
        let by_template =
            plans.iter().filter_map(|plan| known_as(&folder.names, &source.target.name, &database, *plan));
        for text in by_template.chain(texts) {
            known.entry(text).or_insert_with(|| database.clone());
        }
    }
    known
}

fn stem(name: &str) -> String {
    Path::new(name).file_stem().map_or_else(|| name.to_owned(), |stem| stem.to_string_lossy().into_owned())
}

fn file_name(target: &Target) -> Option<String> {
    let path = Path::new(&target.target.connection);
    let is_file = target.target.engine == EngineKind::Sqlite;
    path.file_name().filter(|_| is_file).map(|name| name.to_string_lossy().into_owned())
}

/// Returns the databases of a source as far as they are known without a server. What cannot be found out is none.
fn databases(session: &Session, source: &SourceArgument<'_>, many: bool) -> Vec<DatabaseName> {
    if let Some(only) = &source.only {
        return vec![only.clone()];
    }
    if let Some(names) = source.configured.and_then(|own| own.tenants.as_ref()) {
        let names = names.read().unwrap_or_default();
        return names.into_iter().filter_map(|name| DatabaseName::new(name).ok()).collect();
    }
    if !many {
        return database(session, source).map(|found| found.name).into_iter().collect();
    }
    if source.target.engine != EngineKind::Sqlite {
        return vec![];
    }
    let found = session.engines.of(&source.target);
    let found = found.and_then(|engine| engine.databases(&source.target, &session.context));
    found.map(|found| found.databases.into_iter().map(|one| one.name).collect()).unwrap_or_default()
}

/// Returns what a text means where its backups lie in folders: of each database that it names the file and those before it.
/// `None` where they lie elsewhere. Fails where there is no such file.
pub(crate) fn meant<'a>(session: &'a Session, text: &str) -> Result<Option<Meant<'a>>, Failure> {
    let argument = session.arguments().backup(text)?;
    let (source, which) = match argument {
        BackupArgument::Of { source, which } => (Some(source), which.unwrap_or(Which::Latest(0))),
        BackupArgument::Only(which) => (None, which),
        BackupArgument::Id { .. } => {
            let Some(folders) = folders(session, None)? else { return Ok(None) };
            let folder = folders.first().map(|folder| folder.path.display().to_string()).unwrap_or_default();
            return Err(Failure::usage(
                format!("`{text}` is an id, and the files of {folder} have none"),
                "name a configured target, as in NAME@latest; or the file by its path, where the command takes one",
            ));
        }
    };
    let Some(folders) = folders(session, source.as_ref())? else { return Ok(None) };
    let services = opening::without_repository(session)?;
    let found = files(session, &services, &folders, source.as_ref())?;
    let databases = chosen(found, which);
    if databases.is_empty() {
        let shown: Vec<String> = folders.iter().map(|folder| folder.path.display().to_string()).collect();
        return Err(Failure::usage(
            format!("{} holds no such file of {text}", shown.join(", ")),
            "`backstay list` shows what there is",
        ));
    }
    if source.is_none() && databases.len() > 1 {
        return Err(ambiguous(text, &databases));
    }
    Ok(Some(Meant { source, folders, databases, text: text.to_owned(), which }))
}

/// Chooses of each database.
fn chosen(files: Vec<FolderFile>, which: Which) -> Vec<Chosen> {
    let mut databases: BTreeMap<(TargetName, DatabaseName), Vec<FolderFile>> = BTreeMap::new();
    for file in files {
        databases.entry((file.target.clone(), file.database.clone())).or_default().push(file);
    }
    let choose = |((target, database), mut files): (_, Vec<FolderFile>)| {
        // A part stands for the whole only where there is none of it.
        let is_part = |file: &FolderFile| file.manifest.as_ref().is_some_and(|own| own.selection.is_some());
        if !files.iter().all(is_part) {
            files.retain(|file| !is_part(file));
        }
        let of = files.len();
        let end = match which {
            Which::Latest(back) => of.checked_sub(usize::try_from(back).unwrap_or(usize::MAX)),
            Which::At(time) => Some(files.iter().filter(|file| file.file.time <= time).count()),
        };
        files.truncate(end.unwrap_or(0));
        files.reverse();
        (!files.is_empty()).then_some(Chosen { target, database, files, of })
    };
    databases.into_iter().filter_map(choose).collect()
}

fn ambiguous(text: &str, databases: &[Chosen]) -> Failure {
    // A file of which nobody says a target has the folder for one.
    let name = |one: &Chosen| match one.target.as_str().starts_with('/') {
        true => one.database.to_string(),
        false => format!("{}/{}", one.target, one.database),
    };
    let shown: Vec<String> = databases.iter().take(10).map(name).collect();
    let more = if databases.len() > shown.len() { ", …" } else { "" };
    let hint = match shown.iter().find(|name| name.contains('/')) {
        Some(name) => format!("name one of them, as in {}", quoted(&format!("{name}@latest"))),
        None => "name a configured target; or a file by its path, where the command takes one".to_owned(),
    };
    Failure::usage(
        format!("`{text}` means files of {} databases: {}{more}", databases.len(), shown.join(", ")),
        hint,
    )
}

impl Meant<'_> {
    /// Returns the one database that is meant, and says which of its files was chosen.
    pub(crate) fn one(&self, session: &Session) -> Result<&Chosen, Failure> {
        match self.databases.as_slice() {
            [one] => {
                self.announce(session, one);
                Ok(one)
            }
            all => Err(ambiguous(&self.text, all)),
        }
    }

    /// Returns the identity files of the folders that are there.
    pub(crate) fn identities(&self) -> Vec<PathBuf> {
        let all = self.folders.iter().filter_map(|folder| folder.identity.clone());
        all.filter(|path| path.exists()).collect()
    }

    /// Says which file was chosen, and of how many.
    fn announce(&self, session: &Session, chosen: &Chosen) {
        let Some(first) = chosen.files.first() else { return };
        let from = match (&first.manifest, first.file.time_source) {
            (Some(_), _) => "",
            (None, TimeSource::Name) => " by its name",
            (None, TimeSource::Modified) => " by the time at which it was modified",
        };
        let place = match self.which {
            Which::Latest(0) => format!("the newest of {}{from}", chosen.of),
            Which::Latest(back) => format!("number {} of {} from the newest on{from}", back + 1, chosen.of),
            Which::At(time) => {
                let distance = time.as_millisecond() - first.file.time.as_millisecond();
                let distance = duration(u64::try_from(distance).unwrap_or(0));
                format!("{distance} before the time asked for{from}")
            }
        };
        session.console.say(&format!(
            "Chose {} of {}, {place}.",
            first.file.path,
            moment(first.file.time, &session.zone)
        ));
    }
}
