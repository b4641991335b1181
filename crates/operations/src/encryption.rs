//! Files that `age` encrypts: by which keys they are read, and for whom they are written.
//!
//! Identities are read once, at the beginning; nothing of them or of a passphrase reaches a message. The header is checked
//! when a file is opened, each part of the content as it passes, and a file that is cut ends in an error.

use crate::OperationError;
use age::secrecy::SecretString;
use age::{DecryptError, Decryptor, Encryptor, Identity, IdentityFile, Recipient, x25519};
use flow::Secret;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

/// How much work a passphrase may take at most, as a power of two: what the `age` program takes. The library would measure
/// what this machine does in some seconds, and a busy machine, or one slower than that which wrote the file, would refuse it.
const WORK_FACTOR_MAX: u8 = 22;

/// How a file is encrypted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encryption {
    /// Not at all.
    #[default]
    None,
    /// `.age`
    Age,
}

/// What encrypted files begin with, binary and as text.
const MAGICS: [&[u8]; 2] = [b"age-encryption.org/", b"-----BEGIN AGE ENCRYPTED FILE-----"];

/// Tells by its first bytes whether a file is encrypted.
pub(crate) fn is_encrypted(head: &[u8]) -> bool {
    MAGICS.iter().any(|magic| head.starts_with(magic))
}

/// The keys by which encrypted files are read.
#[derive(Clone, Default)]
pub struct AgeKeys {
    identities: Arc<Vec<Box<dyn Identity + Send + Sync>>>,
    passphrase: Option<SecretString>,
}

impl std::fmt::Debug for AgeKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgeKeys").field("identities", &self.identities.len()).finish_non_exhaustive()
    }
}

impl AgeKeys {
    /// Reads identity files as `age-keygen` writes them. Fails where one cannot be read or holds none.
    pub fn read(files: &[PathBuf], passphrase: Option<&Secret>) -> Result<Self, OperationError> {
        let mut identities = Vec::new();
        for path in files {
            let refused = |problem: String| {
                OperationError::usage(
                    format!("the identity file {} {problem}", path.display()),
                    "name a file as `age-keygen` writes it, which this user may read".to_owned(),
                )
            };
            let file = File::open(path).map_err(|error| refused(format!("cannot be read: {error}")))?;
            let read = IdentityFile::from_buffer(BufReader::new(file))
                .map_err(|_| refused("holds no identity of age".to_owned()))?;
            let found = read.into_identities().map_err(|_| refused("holds no identity of age".to_owned()))?;
            if found.is_empty() {
                return Err(refused("holds no identity of age".to_owned()));
            }
            identities.extend(found);
        }
        let passphrase = passphrase.map(|secret| SecretString::from(secret.expose().to_owned()));
        Ok(Self { identities: Arc::new(identities), passphrase })
    }

    /// Tells whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.identities.is_empty() && self.passphrase.is_none()
    }

    /// Opens an encrypted file. Where no key fits, the error's kind is [`io::ErrorKind::PermissionDenied`].
    pub(crate) fn open(&self, raw: impl BufRead + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
        let damaged = |error: &DecryptError| {
            io::Error::new(io::ErrorKind::InvalidData, format!("the header of the encryption: {error}"))
        };
        let decryptor =
            Decryptor::new_buffered(age::armor::ArmoredReader::new(raw)).map_err(|error| match error {
                DecryptError::Io(error) => error,
                other => damaged(&other),
            })?;
        let by_passphrase = decryptor.is_scrypt();
        let asked = self.passphrase.clone().map(|passphrase| {
            let mut identity = age::scrypt::Identity::new(passphrase);
            identity.set_max_work_factor(WORK_FACTOR_MAX);
            identity
        });
        let keys: Vec<&dyn Identity> = match (&asked, by_passphrase) {
            (Some(passphrase), true) => vec![passphrase],
            (None, true) => vec![],
            (_, false) => self.identities.iter().map(|identity| identity.as_ref() as &dyn Identity).collect(),
        };
        let refused = |message: &str| io::Error::new(io::ErrorKind::PermissionDenied, message);
        if keys.is_empty() {
            return Err(refused(match by_passphrase {
                true => "is encrypted by a passphrase, and none was given: set BACKSTAY_AGE_PASSPHRASE_FILE",
                false => "is encrypted for recipients, and no identity was given: name one by --age-identity",
            }));
        }
        match decryptor.decrypt(keys.into_iter()) {
            Ok(reader) => Ok(Box::new(reader)),
            Err(
                DecryptError::NoMatchingKeys
                | DecryptError::DecryptionFailed
                | DecryptError::KeyDecryptionFailed,
            ) => Err(refused(match by_passphrase {
                true => "is encrypted by another passphrase than the one that was given",
                false => "is encrypted for others: no identity that was given opens it",
            })),
            Err(DecryptError::Io(error)) => Err(error),
            Err(other) => Err(damaged(&other)),
        }
    }
}

impl std::fmt::Debug for AgeLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Recipients(_) => "Recipients",
            Self::Passphrase(_) => "Passphrase",
        })
    }
}

/// For whom a file is encrypted.
#[derive(Clone)]
pub enum AgeLock {
    /// For whoever has the identity of one of these.
    Recipients(Vec<x25519::Recipient>),
    /// For whoever knows a passphrase.
    Passphrase(SecretString),
}

impl AgeLock {
    /// Takes recipients (`age1…`), or else a passphrase; `None` where there is neither.
    pub fn new(recipients: &[String], passphrase: Option<&Secret>) -> Result<Option<Self>, OperationError> {
        if recipients.is_empty() {
            let secret = passphrase.map(|secret| SecretString::from(secret.expose().to_owned()));
            return Ok(secret.map(Self::Passphrase));
        }
        let parse = |text: &String| {
            text.parse::<x25519::Recipient>().map_err(|_| {
                // Somebody may have given the identity instead: it is not shown.
                OperationError::usage(
                    "a recipient is none of age".to_owned(),
                    "a recipient begins with age1; `age-keygen -y FILE` tells that of an identity file"
                        .to_owned(),
                )
            })
        };
        Ok(Some(Self::Recipients(recipients.iter().map(parse).collect::<Result<_, _>>()?)))
    }

    /// Encrypts what is written, until [`age::stream::StreamWriter::finish`].
    pub(crate) fn wrap<W: Write>(&self, output: W) -> io::Result<age::stream::StreamWriter<W>> {
        let encryptor = match self {
            Self::Passphrase(passphrase) => Encryptor::with_user_passphrase(passphrase.clone()),
            Self::Recipients(recipients) => {
                let recipients = recipients.iter().map(|recipient| recipient as &dyn Recipient);
                Encryptor::with_recipients(recipients).map_err(io::Error::other)?
            }
        };
        encryptor.wrap_output(output)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Cursor;

    fn sealed(lock: &AgeLock, content: &[u8]) -> Vec<u8> {
        let mut writer = lock.wrap(Vec::new()).unwrap();
        writer.write_all(content).unwrap();
        writer.finish().unwrap()
    }

    fn opened(keys: &AgeKeys, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        keys.open(Cursor::new(bytes.to_vec()))?.read_to_end(&mut content)?;
        Ok(content)
    }

    #[test]
    fn who_has_the_key_reads_all_of_it_or_an_error() {
        use age::secrecy::ExposeSecret;
        let content: Vec<u8> = (0..200_000_u32).map(|n| (n / 7) as u8).collect();
        let (own, other) = (x25519::Identity::generate(), x25519::Identity::generate());
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, identity: &x25519::Identity| {
            let path = folder.path().join(name);
            std::fs::write(&path, format!("# created\n{}\n", identity.to_string().expose_secret())).unwrap();
            path
        };
        let (own_file, other_file) = (file("own", &own), file("other", &other));
        let lock = AgeLock::new(&[own.to_public().to_string()], None).unwrap().unwrap();
        let bytes = sealed(&lock, &content);
        assert!(is_encrypted(&bytes));
        let keys = AgeKeys::read(&[other_file.clone(), own_file], None).unwrap();
        assert_eq!(opened(&keys, &bytes).unwrap(), content);
        for cut in [30, bytes.len() / 2, bytes.len() - 1] {
            assert!(opened(&keys, &bytes[..cut]).is_err(), "{cut}");
        }
        let mut flipped = bytes.clone();
        *flipped.last_mut().unwrap() ^= 1;
        assert!(opened(&keys, &flipped).is_err());
        let stranger = AgeKeys::read(&[other_file], None).unwrap();
        assert_eq!(opened(&stranger, &bytes).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert!(AgeKeys::read(&[folder.path().join("none")], None).is_err());
        assert!(AgeLock::new(&["age1nonsense".to_owned()], None).is_err());
    }
}
