//! A dump file opened as what it holds: decrypted, unpacked, and held against the digest beside it.
//!
//! Files are opened for reading and nothing else.

use super::file::unreadable;
use super::source::DumpSource;
use super::unpack::{Fingerprint, Unpacked};
use crate::AgeKeys;
use crate::encryption::Encryption;
use flow::{SourceError, SourceErrorKind};
use std::io::{self, Read};
use std::path::Path;

/// Begins with a file that may be encrypted. A key that is missing or wrong says nothing of the dump.
pub(crate) fn unpack(
    object: &str,
    file: impl Read + Send + 'static,
    keys: &AgeKeys,
) -> Result<Unpacked, SourceError> {
    let sealed = |message: String| {
        SourceError::new(SourceErrorKind::Unreadable, object, message).with_hint(
            "name the identity file by --age-identity, or as `age_identity` of the repository; of a passphrase the file, by \
             BACKSTAY_AGE_PASSPHRASE_FILE",
        )
    };
    let unpacked = Unpacked::begin_with(file, keys).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied if error.raw_os_error().is_none() => sealed(error.to_string()),
        _ => undecodable(object, error),
    })?;
    match unpacked.encryption == Encryption::Age && keys.is_empty() {
        true => Err(sealed("is encrypted by age, and no key was given".to_owned())),
        false => Ok(unpacked),
    }
}

/// What lies beside a file says which bytes it must have.
pub(crate) fn refuse_another_digest(source: &DumpSource, found: &Fingerprint) -> Result<(), SourceError> {
    match source.expected() {
        Some(expected) if expected.sha256 != found.sha256 => {
            let place = &expected.place;
            let message = format!(
                "is not what {place} says: its SHA-256 is {}, and not {}",
                found.sha256, expected.sha256
            );
            Err(SourceError::new(SourceErrorKind::Damaged, source.object(), message)
                .with_hint("the file changed since it was written: take another one"))
        }
        _ => Ok(()),
    }
}

/// Makes the error of a file that cannot be unpacked.
pub(crate) fn undecodable(path: &str, error: std::io::Error) -> SourceError {
    if error.raw_os_error().is_some() {
        return unreadable(Path::new(path), error);
    }
    SourceError::new(SourceErrorKind::Damaged, path, "cannot be unpacked: it is damaged or cut off")
        .with_hint("take another dump file")
        .with_source(error)
}
