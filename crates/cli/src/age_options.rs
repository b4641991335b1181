//! By what files of `age` are written and read: recipients and identities by option, a passphrase by the environment alone,
//! so that it is in no argument list.

use crate::errors::Failure;
use crate::password;
use crate::session::Session;
use clap::Args;
use operations::{AgeKeys, AgeLock, FileOut};
use std::path::{Path, PathBuf};

/// Before `_FILE` and `_COMMAND`.
const VARIABLE: &str = "BACKSTAY_AGE_PASSPHRASE";

/// For whom a file is written.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Recipients {
    /// With the ending .age: encrypt for this recipient (age1…); once or more
    ///
    /// Without one: by the passphrase in BACKSTAY_AGE_PASSPHRASE, or in the file or of the command that
    /// BACKSTAY_AGE_PASSPHRASE_FILE or _COMMAND names.
    #[arg(long, value_name = "RECIPIENT", requires = "out")]
    age_recipient: Vec<String>,
}

/// Returns for whom the files of a repository are encrypted whose form says so: its recipients, else whoever knows the
/// passphrase of the environment.
pub(crate) fn lock(
    session: &Session,
    recipients: &[String],
    is_wanted: bool,
) -> Result<Option<AgeLock>, Failure> {
    if !recipients.is_empty() {
        return Ok(AgeLock::new(recipients, None)?);
    }
    if !is_wanted {
        return Ok(None);
    }
    let passphrase = password::from_environment(VARIABLE, &session.context.environment)?;
    Ok(AgeLock::new(&[], passphrase.as_ref())?)
}

impl Recipients {
    /// Returns the file that is written, encrypted where its ending or an option says so.
    pub(crate) fn file(&self, session: &Session, out: &Path) -> Result<FileOut<'static>, Failure> {
        let path = session.absolute(out);
        let ends = out.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("age"));
        if !ends && self.age_recipient.is_empty() {
            return Ok(FileOut::File(path));
        }
        let passphrase = match self.age_recipient.is_empty() {
            true => password::from_environment(VARIABLE, &session.context.environment)?,
            false => None,
        };
        Ok(match AgeLock::new(&self.age_recipient, passphrase.as_ref())? {
            Some(lock) => FileOut::Encrypted(path, lock),
            None => FileOut::File(path),
        })
    }

    /// A stream is encrypted by `age` itself.
    pub(crate) fn refuse_for_stream(&self) -> Result<(), Failure> {
        match self.age_recipient.is_empty() {
            true => Ok(()),
            false => Err(Failure::usage(
                "`--age-recipient` goes with a file that ends in .age",
                "of standard output: backstay … --out - | age -r RECIPIENT",
            )),
        }
    }
}

/// By what a file is read.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Identities {
    /// Read what age encrypted by the identities in this file, as age-keygen writes it; once or more
    ///
    /// What a passphrase encrypts: by BACKSTAY_AGE_PASSPHRASE, or the file or the command that
    /// BACKSTAY_AGE_PASSPHRASE_FILE or _COMMAND names.
    #[arg(long, value_name = "FILE")]
    age_identity: Vec<PathBuf>,
}

impl Identities {
    /// Tells whether one is named.
    pub(crate) fn is_given(&self) -> bool {
        !self.age_identity.is_empty()
    }

    /// What lies in a repository of the other layout is encrypted by its own key.
    pub(crate) fn refuse_for_backups(&self) -> Result<(), Failure> {
        match self.is_given() {
            false => Ok(()),
            true => Err(Failure::usage(
                "`--age-identity` is for dump files, and the backup lies in a repository of layout `restic`",
                "leave it out: the repository has a key of its own",
            )),
        }
    }

    /// Reads them, and those that the configuration names.
    pub(crate) fn keys(&self, session: &Session, configured: &[PathBuf]) -> Result<AgeKeys, Failure> {
        let mut files: Vec<PathBuf> = self.age_identity.iter().map(|file| session.absolute(file)).collect();
        files.extend(configured.iter().filter(|file| !self.age_identity.contains(file)).cloned());
        let passphrase = password::from_environment(VARIABLE, &session.context.environment)?;
        Ok(AgeKeys::read(&files, passphrase.as_ref())?)
    }
}
