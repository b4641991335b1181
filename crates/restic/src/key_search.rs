//! Finds the key file that a password opens, by trying one after the other: nothing in them tells whose they are.

use crate::crypto::SealingKey;
use crate::error::{ResticError, ResticErrorKind};
use crate::id::Id;
use crate::key_file::{self, KeyProblem};
use crate::vault::{ObjectKind, list_objects, object_name};
use flow::Secret;
use storage::{Storage, StorageErrorKind};

/// More key files than that are not tried: each costs half a second.
const KEYS_MAX: usize = 64;

/// Tries the key files in order. Where none opens, a wrong password is the likely reason unless none could be tried.
pub(crate) fn search_key(storage: &dyn Storage, password: &Secret) -> Result<(Id, SealingKey), ResticError> {
    let location = storage.location();
    let mut tried = false;
    let mut problem = None;
    for (id, _) in list_objects(storage, ObjectKind::Key)?.into_iter().take(KEYS_MAX) {
        let object = format!("key {id} in {location}");
        let file = match storage.get(&object_name(ObjectKind::Key, &id)?) {
            Ok(file) => file,
            // Removed a moment ago.
            Err(error) if error.kind == StorageErrorKind::Missing => continue,
            Err(error) => return Err(ResticError::storage(object, error)),
        };
        match key_file::open(&file, password) {
            Ok(key) => return Ok((id, key)),
            // A damaged file is as likely to fail here as a wrong password is.
            Err(KeyProblem::Password) if Id::of(&file) == id => tried = true,
            Err(KeyProblem::Password) => {
                problem = Some(ResticError::damaged(object, "its content is damaged"));
            }
            Err(KeyProblem::Damaged(message)) => problem = Some(ResticError::damaged(object, message)),
            Err(KeyProblem::Unsupported(message)) => {
                problem = Some(ResticError::new(ResticErrorKind::Unsupported, object, message));
            }
        }
    }
    Err(match problem {
        _ if tried => ResticError::new(
            ResticErrorKind::WrongPassword,
            location,
            "the password opens no key of the repository",
        ),
        Some(problem) => problem,
        None => ResticError::damaged(location, "the repository has no key"),
    })
}
