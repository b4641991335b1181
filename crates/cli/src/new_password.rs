//! A new password for a repository: from a file, the environment, a prompt, or a new key file that is made here. Never
//! from an argument list, which others can read.

use crate::errors::{Failure, exit};
use crate::password;
use crate::session::Session;
use crate::signals::Waiting;
use clap::Args;
use flow::Secret;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// Where a new password comes from.
#[derive(Debug, Args)]
pub(crate) struct NewPassword {
    /// File whose first line is the new password; BACKSTAY_NEW_PASSWORD (or _FILE, _COMMAND) gives it too
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,

    /// Make a new random key instead, and write it to this file, which must not be there yet
    #[arg(long, value_name = "FILE", conflicts_with = "new_password_file")]
    new_key_file: Option<PathBuf>,
}

/// A new password, and where it is to be written.
pub(crate) struct Chosen {
    pub(crate) secret: Secret,
    /// The key file to be made.
    pub(crate) key_file: Option<PathBuf>,
}

/// Returns the new password. Where none is given: a random one with `fresh`, else what a person types twice.
pub(crate) fn choose(session: &Session, options: &NewPassword, fresh: bool) -> Result<Chosen, Failure> {
    if let Some(file) = &options.new_key_file {
        let path = session.absolute(file);
        if std::fs::symlink_metadata(&path).is_ok() {
            return Err(Failure::usage(
                format!("{}: the file is there already, and a key file never replaces one", path.display()),
                "name a file that is not there yet",
            ));
        }
        return Ok(Chosen { secret: password::new_key()?, key_file: Some(path) });
    }
    let secret = match given(session, options)? {
        Some(secret) => secret,
        None if fresh => password::new_key()?,
        None => prompt()?,
    };
    if secret.expose().is_empty() {
        return Err(Failure::usage("the new password is empty", "choose one that is long"));
    }
    Ok(Chosen { secret, key_file: None })
}

fn given(session: &Session, options: &NewPassword) -> Result<Option<Secret>, Failure> {
    // A new password that cannot be had is a wrong use, not a wrong password.
    let wrong_use = |failure: Failure| Failure { exit_code: exit::USAGE, ..failure };
    if let Some(file) = &options.new_password_file {
        return password::from_file(&session.absolute(file)).map(Some).map_err(wrong_use);
    }
    password::from_environment("BACKSTAY_NEW_PASSWORD", &session.context.environment).map_err(wrong_use)
}

fn prompt() -> Result<Secret, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(
            "no new password is given, and without a terminal nobody can type one",
            "add --new-password-file FILE, or --new-key-file FILE to have one made",
        ));
    }
    let _waiting = Waiting::begin();
    let ask = |question: &str| {
        rpassword::prompt_password(question).map_err(|error| {
            Failure::usage("the new password cannot be read", "add --new-password-file FILE")
                .with_cause(&error)
        })
    };
    let first = ask("New password: ")?;
    if first != ask("The same again: ")? {
        return Err(Failure::usage("the two are not the same; nothing was changed", "type it twice"));
    }
    Ok(Secret::new(first))
}

/// Writes a key file, durably and readable by its owner alone.
pub(crate) fn write_key_file(path: &Path, secret: &Secret) -> Result<(), Failure> {
    let failure = |error: &dyn std::error::Error| {
        Failure::new(exit::FAILED, format!("the key file {} cannot be written", path.display()))
            .with_cause(error)
            .with_hint("name a folder that is there and may be written")
    };
    storage::atomic_write(path, format!("{}\n", secret.expose()).as_bytes(), 0o600)
        .map_err(|error| failure(&error))
}

/// Returns a name for a key file whose key no repository has yet. It is never used twice: one that a crash left may be
/// the only key of a repository. [`password::key_files`] finds it.
pub(crate) fn pending_key_file(session: &Session) -> Result<PathBuf, Failure> {
    let keys = session.places.keys();
    password::make_private_folder(&keys).map_err(|error| {
        Failure::new(exit::FAILED, format!("the folder {} cannot be made", keys.display())).with_cause(&error)
    })?;
    Ok(keys.join(format!("new-{}.key", password::random_hex::<8>()?)))
}
