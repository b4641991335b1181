//! Which repository a command means, and how it is opened or made.
//!
//! The default repository is made on first use by `backup`; one that is named must be there, since the reason why it
//! is not is often a disk that is not mounted. A new key is durable before the repository that it opens: a crash
//! between the two leaves a key of nothing, never a repository without a key.

use crate::absent::Absent;
use crate::errors::{Failure, exit};
use crate::password;
use crate::session::Session;
use config::{BackupArgument, RepositoryLayout, RepositoryPlace, SourceArgument};
use flow::{Secret, quoted};
use journal::Journal;
use operations::{OperationError, Services};
use repository::restic_layout::{LockOwner, ResticLayout, ResticOptions};
use repository::{Repository, RepositoryError, RepositoryErrorKind};
use rustix::fs::FlockOperation;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use storage::{LocalStorage, Storage, StorageError, StorageErrorKind, Watch, WatchOptions, WatchedStorage};

/// A repository that is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Where it is.
    pub(crate) repository: RepositoryPlace,
    /// Whether it is the one that is made on first use.
    pub(crate) made_on_use: bool,
}

impl Place {
    /// A repository that somebody named, here or in a configuration.
    pub(crate) fn named(repository: RepositoryPlace) -> Self {
        Self { repository, made_on_use: false }
    }
}

/// Returns the repository that `--repository` names.
pub(crate) fn asked_for(session: &Session) -> Result<Option<Place>, Failure> {
    let Some(text) = &session.globals.repository else { return Ok(None) };
    Ok(Some(Place::named(session.settings.repository_named(text, &session.working_folder)?)))
}

/// Returns the repository that is meant where nothing else is said.
pub(crate) fn default_place(session: &Session) -> Result<Place, Failure> {
    if let Some(repository) = &session.settings.repository {
        return Ok(Place::named(repository.clone()));
    }
    if !session.settings.repositories.is_empty() {
        let names: Vec<&str> = session.settings.repositories.keys().map(String::as_str).collect();
        return Err(Failure::usage(
            format!("the configuration has {} repositories and no default", names.len()),
            format!("add --repository with one of {}", names.join(", ")),
        ));
    }
    let path = session.places.default_repository();
    Ok(Place { repository: RepositoryPlace::at(path), made_on_use: true })
}

/// Opens the repository that holds the backups of a source: the asked one, that of its plans, or the default.
pub(crate) fn for_source(
    session: &Session,
    source: Option<&SourceArgument<'_>>,
) -> Result<Services, Failure> {
    let place = place_of(session, source)?;
    services(session, open(session, &place)?.repository)
}

/// Opens the asked repository, or the default one, and tells by what.
pub(crate) fn opened(session: &Session) -> Result<Opened, Failure> {
    open(session, &place_of(session, None)?)
}

/// Opens the repository that holds the backup which an argument names.
pub(crate) fn for_backup_argument(session: &Session, text: &str) -> Result<Services, Failure> {
    match session.arguments().backup(text)? {
        BackupArgument::Of { source, .. } => for_source(session, Some(&source)),
        BackupArgument::Only(_) | BackupArgument::Id { .. } => for_source(session, None),
    }
}

/// Opens the repository that a restore record names, or the asked one.
pub(crate) fn at_location(session: &Session, location: &str) -> Result<Services, Failure> {
    let place = match asked_for(session)? {
        Some(place) => place,
        None => Place::named(session.settings.repository_named(location, Path::new("/"))?),
    };
    services(session, open(session, &place)?.repository)
}

/// Opens a repository to back up into; the default one is made where it is missing, unless nothing is to be written.
/// With it comes the key file of ours that opened it, where one did, and it was not made just now.
pub(crate) fn for_backup(
    session: &Session,
    place: &Place,
    dry_run: bool,
) -> Result<(Services, Option<PathBuf>), Failure> {
    let missing = place.made_on_use && !is_there(session, &place.repository.path)?;
    let (repository, key_file): (Arc<dyn Repository>, _) = match (missing, dry_run) {
        (false, _) => {
            let opened = open(session, place)?;
            let key_file = if let OpenedBy::KeyFile(file) = opened.by { Some(file) } else { None };
            (opened.repository, key_file)
        }
        (true, true) => (Arc::new(Absent(place.repository.path.clone())), None),
        (true, false) => (first_use(session, place)?, None),
    };
    Ok((services(session, repository)?, key_file))
}

/// Makes the repository of the first use. Of several processes that come to it at once one makes it, and the others
/// wait for that and use it. A crash gives the turn to the next.
fn first_use(session: &Session, place: &Place) -> Result<Arc<dyn Repository>, Failure> {
    let folder = &session.places.data;
    let fail = |error: std::io::Error| {
        Failure::new(exit::FAILED, format!("the folder {} cannot be used", folder.display()))
            .with_cause(&error)
            .with_hint("give this user the right to write there, or name a repository by --repository")
    };
    password::make_private_folder(folder).map_err(fail)?;
    let turn = std::fs::File::open(folder).map_err(fail)?;
    while let Err(error) = rustix::fs::flock(&turn, FlockOperation::NonBlockingLockExclusive) {
        if error != rustix::io::Errno::WOULDBLOCK {
            // A filesystem without locks: whoever comes second finds the repository there, and says so.
            break;
        }
        if session.context.cancel.wait(Duration::from_millis(50)) {
            return Err(OperationError::Cancelled.into());
        }
    }
    if is_there(session, &place.repository.path)? {
        return Ok(open(session, place)?.repository);
    }
    let made = create(session, &place.repository)?;
    tell(session, &place.repository.path, made.key_file.as_deref());
    Ok(made.repository)
}

/// Returns services without a repository, for work that needs none.
pub(crate) fn without_repository(session: &Session) -> Result<Services, Failure> {
    services(session, Arc::new(Absent(PathBuf::from("no repository"))))
}

/// Returns the repository that holds the backups of a source: the asked one, that of its plans, or the default.
pub(crate) fn place_of(session: &Session, source: Option<&SourceArgument<'_>>) -> Result<Place, Failure> {
    if let Some(asked) = asked_for(session)? {
        return Ok(asked);
    }
    let mut places: Vec<Place> = Vec::new();
    for plan in source.iter().filter_map(|source| source.configured).flat_map(|target| target.plans.values())
    {
        let place = match &plan.repository {
            Some(repository) => Place::named(repository.clone()),
            None => default_place(session)?,
        };
        if !places.contains(&place) {
            places.push(place);
        }
    }
    let default = default_place(session);
    match (places.len(), default) {
        (1, _) => places.pop().map_or_else(|| default_place(session), Ok),
        (0, default) => default,
        (_, Ok(default)) if places.contains(&default) => Ok(default),
        _ => Err(Failure::usage(
            "the plans of this target write to several repositories",
            "say which one by --repository NAME",
        )),
    }
}

/// Puts together what verbs work with.
pub(crate) fn services(session: &Session, repository: Arc<dyn Repository>) -> Result<Services, Failure> {
    Ok(Services {
        engines: session.engines.clone(),
        repository,
        journal: journal(session),
        context: session.context.clone(),
        host: session.host.clone(),
        user: session.user.clone(),
    })
}

/// Opens the journal. Without it the work goes on; a dry run makes none.
fn journal(session: &Session) -> Option<Arc<Journal>> {
    let path = session.places.journal();
    if session.dry_run && !path.exists() {
        return None;
    }
    let warn = |finding: &flow::Finding| {
        let message = format!("{}: {}", finding.object, finding.message);
        session.console.warn(&message, finding.hint.as_deref());
    };
    match Journal::open(path) {
        Ok((journal, findings)) => {
            findings.iter().for_each(warn);
            Some(Arc::new(journal))
        }
        Err(error) => {
            warn(&error.finding());
            None
        }
    }
}

/// Tells whether there is a repository in a folder.
pub(crate) fn is_there(session: &Session, path: &Path) -> Result<bool, Failure> {
    let config = path.join("config");
    let object = config.display().to_string();
    watch(session).run("look for", &object, move || config.exists()).map_err(storage_failure)
}

/// Watches for a disk that gives no answer: that is told, and an interruption does not wait for it.
fn watch(session: &Session) -> Watch {
    let observer = Arc::clone(&session.context.observer);
    Watch::new(session.context.cancel.clone(), observer, WatchOptions::default())
}

fn watched(
    session: &Session,
    path: &Path,
    verb: &'static str,
    open: fn(PathBuf) -> Result<LocalStorage, StorageError>,
) -> Result<Arc<dyn Storage>, Failure> {
    let (watch, folder) = (watch(session), path.to_owned());
    let opened = watch.run(verb, &path.display().to_string(), move || open(folder));
    let local = opened.and_then(|opened| opened).map_err(storage_failure)?;
    Ok(Arc::new(WatchedStorage::new(Arc::new(local), Arc::new(watch))))
}

fn restic_options(session: &Session, place: &RepositoryPlace) -> ResticOptions {
    let owner = LockOwner {
        host: session.host.clone(),
        user: session.user.clone(),
        pid: std::process::id(),
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
    };
    let mut options = ResticOptions::new(owner);
    options.cache = Some(session.places.cache.clone());
    options.level = place.compression_level.unwrap_or(options.level);
    options.pack_bytes = place.pack_bytes.unwrap_or(options.pack_bytes);
    options
}

/// By what a repository was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OpenedBy {
    /// By what the configuration or the environment gives.
    Given,
    /// By a key file in this user's folder.
    KeyFile(PathBuf),
    /// By what a person typed.
    Typed,
}

/// A repository that was opened.
pub(crate) struct Opened {
    pub(crate) repository: Arc<dyn Repository>,
    /// Its folder.
    pub(crate) path: PathBuf,
    pub(crate) secret: Secret,
    pub(crate) by: OpenedBy,
}

/// Opens a repository by the first password that fits: what is configured or in the environment, else the key files
/// of this user, else what a person types.
pub(crate) fn open(session: &Session, place: &Place) -> Result<Opened, Failure> {
    if let Some(opened) = open_without_asking(session, place)? {
        return Ok(opened);
    }
    let path = &place.repository.path;
    let secret = password::prompt(path)?;
    let storage = watched(session, path, "open", LocalStorage::open)?;
    let repository = ResticLayout::open(storage, &secret, restic_options(session, &place.repository))?;
    Ok(Opened { repository: Arc::new(repository), path: path.clone(), secret, by: OpenedBy::Typed })
}

/// Like [`open`], and asks nobody: `None` where neither a given password nor a key file fits.
pub(crate) fn open_without_asking(session: &Session, place: &Place) -> Result<Option<Opened>, Failure> {
    let path = &place.repository.path;
    refuse_files(&place.repository)?;
    if !is_there(session, path)? {
        return Err(not_found(place));
    }
    let storage = watched(session, path, "open", LocalStorage::open)?;
    let attempt = |secret: &Secret| {
        ResticLayout::open(Arc::clone(&storage), secret, restic_options(session, &place.repository))
    };
    let opened = |repository: ResticLayout, secret: Secret, by: OpenedBy| Opened {
        repository: Arc::new(repository),
        path: path.clone(),
        secret,
        by,
    };
    if let Some(secret) = password::given(place.repository.password.as_ref(), &session.context.environment)? {
        return Ok(Some(opened(attempt(&secret)?, secret, OpenedBy::Given)));
    }
    for file in password::key_files(&session.places, path) {
        let Ok(secret) = password::from_file(&file) else { continue };
        match attempt(&secret) {
            Ok(repository) => {
                password::remember(&session.places, path, repository.id());
                return Ok(Some(opened(repository, secret, OpenedBy::KeyFile(file))));
            }
            Err(error) if error.kind == RepositoryErrorKind::WrongPassword => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// What works on packs, keys and snapshots has nothing to do in a folder of dump files.
fn refuse_files(place: &RepositoryPlace) -> Result<(), Failure> {
    if place.layout == RepositoryLayout::Restic {
        return Ok(());
    }
    let folder = place.path.display().to_string();
    Err(Failure::usage(
        format!(
            "{folder} is a folder of dump files (layout `files`), and this needs a repository of layout `restic`"
        ),
        format!(
            "`backup`, `list`, `show`, `verify`, `restore`, `export` and `prune` work there: backstay list {}",
            quoted(&folder)
        ),
    ))
}

fn not_found(place: &Place) -> Failure {
    let path = &place.repository.path;
    let failure = Failure::new(exit::NO_REPOSITORY, format!("{}: there is no repository", path.display()));
    if place.made_on_use {
        return failure.with_hint("`backstay backup SOURCE` makes it, or name another one by --repository");
    }
    let name = place.repository.name.clone().unwrap_or_else(|| path.display().to_string());
    failure.with_hint(format!(
        "`backstay init --repository {}` makes one; or is the disk it lies on not mounted?",
        quoted(&name)
    ))
}

/// A repository that was just made.
pub(crate) struct Made {
    pub(crate) repository: Arc<dyn Repository>,
    /// The new key file; `None` where a password was given.
    pub(crate) key_file: Option<PathBuf>,
}

/// Makes a repository, opened by the password that is given, or by a new key file.
pub(crate) fn create(session: &Session, place: &RepositoryPlace) -> Result<Made, Failure> {
    refuse_files(place)?;
    let given = password::given(place.password.as_ref(), &session.context.environment)?;
    if let Some(secret) = given {
        return Ok(Made { repository: Arc::new(make(session, place, &secret, None)?), key_file: None });
    }
    let keys = session.places.keys();
    let key_failure = |path: &Path, error: &dyn std::error::Error| {
        Failure::new(exit::FAILED, format!("the key file {} cannot be written", path.display()))
            .with_cause(error)
            .with_hint(format!(
                "this user must be able to write to {}; or give a password by BACKSTAY_PASSWORD_FILE, and no key \
                 file is made",
                quoted(&keys.display().to_string())
            ))
    };
    password::make_private_folder(&keys).map_err(|error| key_failure(&keys, &error))?;
    let secret = password::new_key()?;
    // Under a name that is never used twice: one that a crash left may be the only key of a repository.
    let pending = keys.join(format!("new-{}.key", password::random_hex::<8>()?));
    storage::atomic_write(&pending, format!("{}\n", secret.expose()).as_bytes(), 0o600)
        .map_err(|error| key_failure(&pending, &error))?;
    // Passes are there to make guessing slow. A key of 256 random bits is not guessed, and opens eight times as fast.
    let repository = match make(session, place, &secret, Some(1)) {
        Ok(repository) => repository,
        Err(failure) => {
            // Nothing was made that this key could open, unless the disk failed at the very end: then it may.
            if !is_there(session, &place.path)? || failure.exit_code == exit::USAGE {
                let _ = std::fs::remove_file(&pending);
            }
            return Err(failure);
        }
    };
    let file = session.places.key_file(repository.id());
    std::fs::rename(&pending, &file).map_err(|error| key_failure(&file, &error))?;
    password::remember(&session.places, &place.path, repository.id());
    Ok(Made { repository: Arc::new(repository), key_file: Some(file) })
}

fn make(
    session: &Session,
    place: &RepositoryPlace,
    secret: &Secret,
    derivation_passes: Option<u32>,
) -> Result<ResticLayout, Failure> {
    let path = &place.path;
    if is_there(session, path)? {
        return Err(Failure::usage(
            format!("{}: there is a repository already", path.display()),
            format!("use it as it is: backstay list --repository {}", quoted(&path.display().to_string())),
        ));
    }
    let storage = watched(session, path, "create", LocalStorage::create)?;
    let options = ResticOptions { derivation_passes, ..restic_options(session, place) };
    Ok(ResticLayout::create(storage, secret, options)?)
}

fn storage_failure(error: StorageError) -> Failure {
    let (kind, hint) = match error.kind {
        StorageErrorKind::Interrupted => return OperationError::Cancelled.into(),
        StorageErrorKind::Exists => {
            (RepositoryErrorKind::Exists, "name a folder that is empty or not there yet")
        }
        StorageErrorKind::Denied => {
            (RepositoryErrorKind::Denied, "the folder must be writable for this user")
        }
        StorageErrorKind::Full => (RepositoryErrorKind::Full, "free some space, or name another disk"),
        StorageErrorKind::Missing => (RepositoryErrorKind::NotFound, "is the disk mounted?"),
        _ => (RepositoryErrorKind::Failed, "the folder must be on a disk that works"),
    };
    RepositoryError::new(kind, error.object.clone(), error.message.clone()).with_hint(hint).into()
}

/// Tells that a repository was made, and about its key.
pub(crate) fn tell(session: &Session, path: &Path, key_file: Option<&Path>) {
    session.console.say(&format!("Made the repository {}.", path.display()));
    if let Some(key_file) = key_file {
        session.console.warn(
            &format!(
                "copy the key file {} to a safe place: without it nobody can read the backups",
                key_file.display()
            ),
            None,
        );
    }
}
