//! What `doctor` finds of the repositories: whether each can be opened and written to, and what the verb says of it. A
//! repository that cannot be opened is a finding, so that the others are looked at too.

use crate::errors::{Failure, exit};
use crate::opening::{self, OpenedBy, Place};
use crate::session::Session;
use crate::wording::{age, count, moment, size};
use config::RepositoryLayout;
use flow::{Finding, SecretRef, Severity, TargetRef, quoted};
use operations::doctor::Examined;
use operations::doctor_repository::{ExaminedRepository, examine};
use rustix::fs::{Access, AtFlags, CWD};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Examines the asked repository, else every configured one, else the default one.
pub(crate) fn repositories(session: &Session) -> Result<Vec<ExaminedRepository>, Failure> {
    let places = match opening::asked_for(session)? {
        Some(asked) => vec![asked],
        None if session.settings.repositories.is_empty() => vec![opening::default_place(session)?],
        None => session.settings.repositories.values().cloned().map(Place::named).collect(),
    };
    places.iter().map(|place| repository(session, place)).collect()
}

fn repository(session: &Session, place: &Place) -> Result<ExaminedRepository, Failure> {
    let path = &place.repository.path;
    let location = path.display().to_string();
    let name = place.repository.name.clone();
    if place.repository.layout != RepositoryLayout::Restic {
        return Ok(folder_of_files(name, path));
    }
    if place.made_on_use && !opening::is_there(session, path)? {
        let message = "there is none yet: the first backup makes it".to_owned();
        let finding = Finding { severity: Severity::Notice, object: location.clone(), message, hint: None };
        return Ok(ExaminedRepository {
            name,
            repository: location,
            findings: vec![finding],
            ..Default::default()
        });
    }
    let opened = match opening::open(session, place) {
        Ok(opened) => opened,
        Err(failure) if failure.exit_code == exit::INTERRUPTED => return Err(failure),
        Err(failure) => {
            let object = location.clone();
            let message = failure.message.trim_start_matches(&format!("{location}: ")).to_owned();
            let finding = Finding { severity: Severity::Problem, object, message, hint: failure.hint };
            return Ok(ExaminedRepository {
                name,
                repository: location,
                findings: vec![finding],
                ..Default::default()
            });
        }
    };
    let key_file = key_file(session, place, &opened.by);
    let services = opening::services(session, opened.repository)?;
    let mut examined = examine(&services, &targets(session, place))?;
    examined.name = name;
    examined.writable = Some(writable(path, &mut examined.findings));
    if let Some(file) = &key_file {
        guarded(file, path, &mut examined.findings);
    }
    examined.key_file = key_file.map(|file| file.display().to_string());
    Ok(examined)
}

/// Looks at a folder of dump files: whether it is there and may be written to.
fn folder_of_files(name: Option<String>, path: &Path) -> ExaminedRepository {
    let location = path.display().to_string();
    let mut examined = ExaminedRepository { name, repository: location.clone(), ..Default::default() };
    if path.is_dir() {
        examined.writable = Some(writable(path, &mut examined.findings));
    } else {
        let hint = format!("mkdir -p {}; or is the disk it lies on not mounted?", quoted(&location));
        let message = "there is no such folder".to_owned();
        examined.findings.push(Finding {
            severity: Severity::Problem,
            object: location,
            message,
            hint: Some(hint),
        });
    }
    examined
}

/// Returns the configured targets of which a plan writes there.
fn targets(session: &Session, place: &Place) -> Vec<TargetRef> {
    let default = opening::default_place(session).ok().map(|place| place.repository.path);
    let here = &place.repository.path;
    let goes_here = |target: &&config::Target| {
        let of_plan =
            |plan: &config::Plan| plan.repository.as_ref().map(|repository| repository.path.clone());
        let mut places = target.plans.values().map(|plan| of_plan(plan).or_else(|| default.clone()));
        if target.plans.is_empty() {
            default.as_ref() == Some(here)
        } else {
            places.any(|place| place.as_ref() == Some(here))
        }
    };
    session.settings.targets.values().filter(goes_here).map(|target| target.target.clone()).collect()
}

fn key_file(session: &Session, place: &Place, by: &OpenedBy) -> Option<PathBuf> {
    match (by, &place.repository.password) {
        (OpenedBy::KeyFile(file), _) => Some(file.clone()),
        (OpenedBy::Given, Some(SecretRef::File(file))) => Some(PathBuf::from(file)),
        (OpenedBy::Given, None) if session.context.environment.get("BACKSTAY_PASSWORD").is_none() => session
            .context
            .environment
            .get("BACKSTAY_PASSWORD_FILE")
            .map(|file| session.absolute(Path::new(file))),
        _ => None,
    }
}

/// Tells whether this user may write wherever a backup does.
fn writable(path: &Path, findings: &mut Vec<Finding>) -> bool {
    let folders = ["", "data", "index", "locks", "snapshots"].map(|folder| path.join(folder));
    let may = |folder: &&PathBuf| {
        rustix::fs::accessat(CWD, folder.as_path(), Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)
            .err()
    };
    let refused =
        folders.iter().filter(|folder| folder.exists()).find_map(|folder| Some((folder, may(&folder)?)));
    if let Some((folder, error)) = &refused {
        findings.push(Finding {
            severity: Severity::Problem,
            object: folder.display().to_string(),
            message: format!("this user cannot write there: {}", std::io::Error::from(*error)),
            hint: Some("mount it for writing, or run as the user who owns the repository".to_owned()),
        });
    }
    refused.is_none()
}

/// Tells of a key that others can read, or that is lost with what it opens.
fn guarded(file: &Path, repository: &Path, findings: &mut Vec<Finding>) {
    let mut warn = |message: String, hint: String| {
        findings.push(Finding {
            severity: Severity::Warning,
            object: file.display().to_string(),
            message,
            hint: Some(hint),
        });
    };
    let mode = file.metadata().map_or(0, |metadata| metadata.permissions().mode()) & 0o7777;
    if mode & 0o077 != 0 {
        warn(
            format!("others may use the key file: its mode is {mode:o}"),
            format!("chmod 600 {}", quoted(&file.display().to_string())),
        );
    }
    if file.starts_with(repository) {
        warn(
            "the key file lies in the repository that it opens: who has the one has the other".to_owned(),
            "move it elsewhere, and copy it to a safe place".to_owned(),
        );
    }
}

/// Warns where every repository lies on the disk of a database that is backed up: the loss of that disk is the loss of both.
/// Of databases that are not files nobody can tell.
pub(crate) fn on_one_disk(examined: &mut [ExaminedRepository], databases: &[Examined]) {
    let device = |path: &str| Path::new(path).metadata().ok().map(|metadata| metadata.dev());
    let beside = |examined: &ExaminedRepository| {
        let disk = device(&examined.repository)?;
        databases.iter().map(|database| &database.connection).find(|path| device(path) == Some(disk))
    };
    let beside: Option<Vec<String>> = examined.iter().map(|one| beside(one).cloned()).collect();
    for (one, database) in examined.iter_mut().zip(beside.into_iter().flatten()) {
        one.findings.push(Finding {
            severity: Severity::Warning,
            object: one.repository.clone(),
            message: format!("it lies on the same disk as {database}: whoever loses the disk loses both"),
            hint: Some("have one elsewhere too: backstay init --repository /mnt/other/backups".to_owned()),
        });
    }
}

/// Shows a repository and what was found of it.
pub(crate) fn show(session: &Session, examined: &ExaminedRepository) -> Result<(), Failure> {
    let console = &session.console;
    let title = match &examined.name {
        Some(name) => format!("repository {name} in {}", examined.repository),
        None => format!("repository {}", examined.repository),
    };
    let mut facts: Vec<String> = Vec::new();
    facts.extend(examined.backups.map(|backups| count(backups, "backup", "backups")));
    facts.extend(examined.free_bytes.map(|free| format!("{} free", size(free))));
    facts.extend(examined.needed_bytes.map(|needed| format!("the next backups add up to {}", size(needed))));
    let colon = if facts.is_empty() { "" } else { ": " };
    console.data(&format!("{title}{colon}{}", facts.join(", ")))?;
    for target in &examined.targets {
        let host = if target.host == session.host { String::new() } else { format!(" on {}", target.host) };
        console.data(&format!(
            "  {}{host}: {}, the newest backup of {} ({})",
            target.target,
            count(target.databases, "database", "databases"),
            moment(target.newest_backup, &session.zone),
            age(target.newest_backup, session.started)
        ))?;
    }
    for finding in &examined.findings {
        console.data(&console.finding(finding))?;
    }
    Ok(())
}
