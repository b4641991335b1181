//! `key`: the keys of a repository, and whether a copy of ours was seen to open it.
//!
//! What is killed in the middle of a change leaves a password on this machine that opens the repository: a new key file
//! is durable before the key that it opens, and the old key goes last.

use crate::errors::{Failure, exit};
use crate::globals::DryRun;
use crate::json::Finished;
use crate::new_password::{self, Chosen, NewPassword, pending_key_file, write_key_file};
use crate::opening::{self, Opened, OpenedBy};
use crate::password;
use crate::session::Session;
use crate::signals::Waiting;
use crate::wording::{age, moment, table};
use clap::{Args, Subcommand};
use flow::Secret;
use operations::Services;
use operations::keys::{self, KeyBody};
use operations::reference::short;
use operations::report::{Outcome, Report};
use repository::{RepositoryError, RepositoryErrorKind};
use std::io::{BufRead, IsTerminal};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// List, add, remove, replace and confirm the keys of a repository
///
/// A key is a password by which a repository opens; stock restic takes each of them too. There is always at least one.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  backstay key list
  backstay key confirm /media/usb/backstay.key       the copy of the key file opens the repository
  backstay key add --new-key-file /root/second.key   another way in, for another machine or person
  backstay key passwd                                a new key in the place of the one in use
  backstay key remove 3fa1c09b")]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the keys
    List,
    /// Add a key
    Add(AddOptions),
    /// Remove a key; neither the one in use nor the last one
    Remove(RemoveOptions),
    /// Put a new password in the place of the one in use
    ///
    /// Without a new password that is given: where the repository opens by a key file of this user, that file gets a new random
    /// key; else the new password is asked for. The old key is removed last.
    Passwd(PasswdOptions),
    /// Show that a copy of the key, kept elsewhere, opens the repository
    ///
    /// Until then each backup reminds of it. What was confirmed is kept in the repository.
    Confirm(ConfirmOptions),
}

#[derive(Debug, Args)]
struct AddOptions {
    #[command(flatten)]
    new: NewPassword,

    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Debug, Args)]
struct RemoveOptions {
    /// The key: the first digits of its id
    #[arg(value_name = "ID")]
    id: String,

    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Debug, Args)]
struct PasswdOptions {
    #[command(flatten)]
    new: NewPassword,

    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Debug, Args)]
struct ConfirmOptions {
    /// The copy of the key file; without it: standard input, or what is typed
    #[arg(value_name = "COPY")]
    copy: Option<PathBuf>,

    #[command(flatten)]
    dry_run: DryRun,
}

impl Options {
    /// Tells whether nothing is to be changed.
    pub(crate) fn is_dry_run(&self) -> bool {
        match &self.action {
            Action::List => false,
            Action::Add(options) => options.dry_run.dry_run,
            Action::Remove(options) => options.dry_run.dry_run,
            Action::Passwd(options) => options.dry_run.dry_run,
            Action::Confirm(options) => options.dry_run.dry_run,
        }
    }
}

pub(crate) fn run(session: &Session, options: &Options) -> Result<Finished, Failure> {
    let opened = opening::opened(session)?;
    let services = opening::services(session, opened.repository.clone())?;
    let report = match &options.action {
        Action::List => keys::list(&services)?,
        Action::Add(options) => add(session, &services, options)?,
        Action::Remove(options) => remove(session, &services, options)?,
        Action::Passwd(options) => passwd(session, &services, &opened, options)?,
        Action::Confirm(options) => confirm(session, &services, options)?,
    };
    if matches!(options.action, Action::List) {
        session.console.data(&rows(session, &report.body))?;
    }
    Finished::new(&report)
}

fn rows(session: &Session, body: &KeyBody) -> String {
    let now = session.started;
    let unknown = || "-".to_owned();
    let rows = body.keys.iter().map(|key| {
        vec![
            format!("{}{}", if key.current { "*" } else { " " }, short(&key.id)),
            key.user.clone().unwrap_or_else(unknown),
            key.host.clone().unwrap_or_else(unknown),
            key.created.map_or_else(unknown, |time| moment(time, &session.zone)),
            key.confirmed.map_or_else(unknown, |time| age(time, now)),
            key.problem.clone().unwrap_or_default(),
        ]
    });
    table(&[" ID", "USER", "HOST", "CREATED", "COPY CONFIRMED", ""], rows.collect(), &[])
}

/// The report of what would be done.
fn told(
    session: &Session,
    services: &Services,
    action: &str,
    sentence: &str,
) -> Result<Report<KeyBody>, Failure> {
    session.console.say(&format!("{sentence} Nothing was changed: this was a dry run."));
    let listed = keys::list(services)?.body;
    let body = KeyBody { action: action.to_owned(), dry_run: true, ..listed };
    Ok(Report::new("key", session.started, Outcome::Complete, body))
}

fn add(session: &Session, services: &Services, options: &AddOptions) -> Result<Report<KeyBody>, Failure> {
    // Nobody is asked for a password that is not used.
    let chosen = new_password::choose(session, &options.new, options.dry_run.dry_run)?;
    if options.dry_run.dry_run {
        return told(session, services, "add", "Would add a key.");
    }
    if let Some(file) = &chosen.key_file {
        write_key_file(file, &chosen.secret)?;
    }
    let mut report = match keys::add(services, &chosen.secret) {
        Ok(report) => report,
        Err(error) => {
            remove_unused(services, &chosen.secret, chosen.key_file.as_deref());
            return Err(error.into());
        }
    };
    report.body.key_file = chosen.key_file.as_ref().map(|file| file.display().to_string());
    let added = short(report.body.added.as_deref().unwrap_or_default());
    session.console.say(&match &chosen.key_file {
        Some(file) => format!("Added key {added}, which {} opens.", file.display()),
        None => format!("Added key {added}."),
    });
    Ok(report)
}

/// Removes a key file of a key that the repository surely does not have.
fn remove_unused(services: &Services, secret: &Secret, file: Option<&Path>) {
    if let (Some(file), Ok(None)) = (file, keys::opens(services, secret)) {
        let _ = std::fs::remove_file(file);
    }
}

fn remove(
    session: &Session,
    services: &Services,
    options: &RemoveOptions,
) -> Result<Report<KeyBody>, Failure> {
    let key = keys::find(services, &options.id)?;
    keys::refuse_in_use(services, &key)?;
    if options.dry_run.dry_run {
        return told(session, services, "remove", &format!("Would remove key {}.", short(&key.id)));
    }
    let own = session.places.key_file(services.repository.id());
    let opened_by_own = password::from_file(&own)
        .ok()
        .is_some_and(|secret| keys::opens(services, &secret).is_ok_and(|id| id.as_deref() == Some(&key.id)));
    let report = keys::remove(services, &key)?;
    session.console.say(&format!("Removed key {}.", short(&key.id)));
    if opened_by_own {
        session.console.warn(
            &format!("the key file {} opened that key, and opens nothing now", own.display()),
            Some("put a key file there that opens, or give the password otherwise"),
        );
    }
    Ok(report)
}

fn passwd(
    session: &Session,
    services: &Services,
    opened: &Opened,
    options: &PasswdOptions,
) -> Result<Report<KeyBody>, Failure> {
    // Every key file of ours that holds the old password gets the new one.
    let mut own = password::key_files(&session.places, &opened.path);
    own.retain(|file| password::from_file(file).is_ok_and(|secret| secret == opened.secret));
    let fresh = !own.is_empty() || options.dry_run.dry_run;
    let chosen = new_password::choose(session, &options.new, fresh)?;
    if options.dry_run.dry_run {
        return told(session, services, "passwd", "Would put a new key in the place of the one in use.");
    }
    if chosen.secret == opened.secret {
        return Err(Failure::usage("the new password is the old one", "choose another one"));
    }
    let mut report = replace(session, services, &chosen, &own)?;
    let written = own.first().or(chosen.key_file.as_ref());
    report.body.key_file = written.map(|file| file.display().to_string());
    session
        .console
        .say("Put a new key in the place of the one in use; the old password opens nothing any more.");
    for file in own.iter().chain(&chosen.key_file) {
        session.console.warn(
            &format!(
                "copy the key file {} to a safe place: copies of the old one are of no use",
                file.display()
            ),
            None,
        );
    }
    if opened.by == OpenedBy::Given {
        session.console.warn(
            "what gives this program the password (configuration, environment) still gives the old one",
            Some("change it there before the next backup"),
        );
    }
    Ok(report)
}

/// In this order: the new password durable in a file of its own, the new key in the repository, the new password in the
/// place of the old one, the old key gone. Killed anywhere in between, a key file opens the repository.
fn replace(
    session: &Session,
    services: &Services,
    chosen: &Chosen,
    own: &[PathBuf],
) -> Result<Report<KeyBody>, Failure> {
    let pending = if own.is_empty() { None } else { Some(pending_key_file(session)?) };
    for file in pending.iter().chain(&chosen.key_file) {
        write_key_file(file, &chosen.secret)?;
    }
    let mut kept = || {
        own.iter().try_for_each(|file| {
            write_key_file(file, &chosen.secret).map_err(|failure| {
                RepositoryError::new(RepositoryErrorKind::Failed, file.display().to_string(), failure.message)
                    .with_hint(
                        "the old password and the new one both open the repository; `backstay key list`",
                    )
            })
        })
    };
    match keys::replace(services, &chosen.secret, &mut kept) {
        Ok(report) => {
            if let Some(pending) = pending {
                // The same key lies in its own place by now: where this one stays it does no harm.
                let _ = std::fs::remove_file(pending);
            }
            Ok(report)
        }
        Err(error) => {
            remove_unused(services, &chosen.secret, pending.as_deref());
            remove_unused(services, &chosen.secret, chosen.key_file.as_deref());
            Err(error.into())
        }
    }
}

fn confirm(
    session: &Session,
    services: &Services,
    options: &ConfirmOptions,
) -> Result<Report<KeyBody>, Failure> {
    let copy = options.copy.as_ref().map(|path| session.absolute(path));
    if let Some(copy) = &copy {
        refuse_original(session, copy)?;
    }
    let secret = match &copy {
        Some(copy) => password::from_file(copy)?,
        None => typed()?,
    };
    let object = copy.map_or("what was given".to_owned(), |copy| copy.display().to_string());
    let Some(key) = keys::opens(services, &secret)? else {
        return Err(Failure::new(
            exit::WRONG_PASSWORD,
            format!("{object}: it does not open {}", services.repository.location()),
        )
        .with_hint("copy the key file again, and confirm that copy"));
    };
    if options.dry_run.dry_run {
        return told(session, services, "confirm", &format!("{object} opens key {}.", short(&key)));
    }
    let report = keys::confirm(services, &key)?;
    session.console.say(&format!("Confirmed: {object} opens the repository by key {}.", short(&key)));
    if !report.body.keys.iter().any(|item| item.current && item.id == key) {
        session.console.warn("the key in use is another one, of which no copy was shown", None);
    }
    Ok(report)
}

/// The key file itself proves nothing: what is asked for is a copy in another place.
fn refuse_original(session: &Session, copy: &Path) -> Result<(), Failure> {
    let identity = |path: &Path| std::fs::metadata(path).ok().map(|status| (status.dev(), status.ino()));
    let shown = identity(copy);
    let own = std::fs::read_dir(session.places.keys()).into_iter().flatten().flatten();
    if shown.is_some() && own.into_iter().any(|file| identity(&file.path()) == shown) {
        return Err(Failure::usage(
            format!("{}: that is the key file in use here, not a copy of it", copy.display()),
            "copy it to another disk or machine, and name the copy",
        ));
    }
    Ok(())
}

fn typed() -> Result<Secret, Failure> {
    let nothing =
        || Failure::usage("no copy of the key is given", "name it: backstay key confirm /path/of/the/copy");
    let line = if std::io::stdin().is_terminal() {
        let _waiting = Waiting::begin();
        rpassword::prompt_password("The key, as its copy has it: ")
    } else {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|_| line)
    };
    let line = line.map_err(|error| nothing().with_cause(&error))?;
    match line.trim_end() {
        "" => Err(nothing()),
        key => Ok(Secret::new(key)),
    }
}
