//! The keys of a repository: each is a password's way to the one master key.
//!
//! A key is removed only while another one, which this process opened itself, is stored whole. So a crash leaves one key
//! too many at worst, never one too few.

use crate::error::{ResticError, ResticErrorKind};
use crate::id::Id;
use crate::key_file;
use crate::key_search::search_key;
use crate::repository::Repository;
use crate::vault::{ObjectKind, object_name};
use flow::Secret;
use jiff::Timestamp;
use std::sync::PoisonError;

/// One key, as its file describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// The id of its file.
    pub id: Id,
    /// When it was made; `None` where its file cannot be read.
    pub created: Option<Timestamp>,
    /// Who made it.
    pub user: String,
    /// Where.
    pub host: String,
    /// Why its file cannot be read.
    pub problem: Option<String>,
}

/// How a key is made.
#[derive(Debug, Clone, Default)]
pub struct KeyOptions {
    /// The host, as the key file names it.
    pub host: String,
    /// The user, as the key file names it.
    pub user: String,
    /// As in [`crate::CreateOptions`].
    pub derivation_passes: Option<u32>,
}

impl Repository {
    /// Returns the key that opens this repository here.
    pub fn key_in_use(&self) -> Id {
        *self.key_in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists the keys in the order of their ids.
    pub fn keys(&self) -> Result<Vec<KeyInfo>, ResticError> {
        let mut keys = Vec::new();
        for (id, _) in self.vault().list(ObjectKind::Key)? {
            let mut key =
                KeyInfo { id, created: None, user: String::new(), host: String::new(), problem: None };
            match self.vault().load_sealed(ObjectKind::Key, &id) {
                Ok(file) => match key_file::label(&file) {
                    Some(label) => {
                        key.created = Some(label.created);
                        key.user = label.user;
                        key.host = label.host;
                    }
                    None => key.problem = Some("is not the JSON of a key".to_owned()),
                },
                // Removed a moment ago.
                Err(error) if error.kind == ResticErrorKind::NotFound => continue,
                Err(error) => key.problem = Some(error.message),
            }
            keys.push(key);
        }
        Ok(keys)
    }

    /// Returns the key that a password opens, `None` where it opens none of this repository.
    pub fn key_opened_by(&self, password: &Secret) -> Result<Option<Id>, ResticError> {
        match search_key(&**self.storage(), password) {
            // One that leads to another master key is no key of this repository.
            Ok((id, key)) if key.bytes() == self.vault().key.bytes() => Ok(Some(id)),
            Ok(_) => Ok(None),
            Err(error) if error.kind == ResticErrorKind::WrongPassword => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Adds a key; durable, confirmed, and seen to be opened by its password when it returns. The caller holds a lock.
    pub fn add_key(&self, password: &Secret, options: &KeyOptions) -> Result<Id, ResticError> {
        let (user, host) = (&options.user, &options.host);
        let file = key_file::seal(&self.vault().key, password, user, host, options.derivation_passes)?;
        let id = Id::of(&file);
        let name = object_name(ObjectKind::Key, &id)?;
        let storage = self.storage();
        storage
            .put(&name, &[&file])
            .and_then(|()| storage.confirm(&name, &id.0))
            .map_err(|error| ResticError::storage(self.vault().describe(ObjectKind::Key, &id), error))?;
        let stored = self.vault().load_sealed(ObjectKind::Key, &id)?;
        match key_file::open(&stored, password) {
            Ok(key) if key.bytes() == self.vault().key.bytes() => Ok(id),
            _ => {
                // It was never of use to anybody.
                drop(self.vault().remove(ObjectKind::Key, &id));
                let object = self.vault().describe(ObjectKind::Key, &id);
                Err(ResticError::damaged(object, "its own password does not open it"))
            }
        }
    }

    /// Removes a key that is not in use. Refuses ([`ResticErrorKind::Failed`]) where it is, or where the one in use is
    /// not stored whole any more: then it would be the last way in. The caller holds an exclusive lock.
    pub fn remove_key(&self, id: &Id) -> Result<(), ResticError> {
        let object = || self.vault().describe(ObjectKind::Key, id);
        let in_use = self.key_in_use();
        if *id == in_use {
            return Err(ResticError::new(ResticErrorKind::Failed, object(), "it is the key in use"));
        }
        self.vault().load_sealed(ObjectKind::Key, &in_use).map_err(|error| {
            let message =
                format!("it is not removed, since the key in use is not there whole: {}", error.message);
            ResticError::new(ResticErrorKind::Failed, object(), message).with_source(error)
        })?;
        self.vault().remove(ObjectKind::Key, id)
    }

    /// Takes another key as the one in use, which must be stored whole; returns the earlier one.
    pub fn use_key(&self, id: &Id) -> Result<Id, ResticError> {
        self.vault().load_sealed(ObjectKind::Key, id)?;
        Ok(std::mem::replace(&mut *self.key_in_use.lock().unwrap_or_else(PoisonError::into_inner), *id))
    }
}
