//! The keys of the layout are restic's: what is added here opens for stock restic too.
//!
//! A crash while a key takes another's place leaves both.

use super::failure::repository_error;
use super::opened::ResticRepository;
use crate::{KeyRecord, Keys, RepositoryError, RepositoryErrorKind};
use flow::Secret;
use restic::{Id, KeyOptions, LockKind, ResticErrorKind};

impl ResticRepository {
    fn key_options(&self) -> KeyOptions {
        KeyOptions {
            host: self.owner_host().to_owned(),
            user: self.owner_user().to_owned(),
            derivation_passes: self.derivation_passes(),
        }
    }
}

impl Keys for ResticRepository {
    fn list(&self) -> Result<Vec<KeyRecord>, RepositoryError> {
        let in_use = self.restic().key_in_use();
        let record = |key: restic::KeyInfo| KeyRecord {
            id: key.id.to_string(),
            in_use: key.id == in_use,
            user: key.created.map(|_| key.user),
            host: key.created.map(|_| key.host),
            created: key.created,
            problem: key.problem,
        };
        Ok(self.restic().keys().map_err(repository_error)?.into_iter().map(record).collect())
    }

    fn in_use(&self) -> String {
        self.restic().key_in_use().to_string()
    }

    fn opened_by(&self, password: &Secret) -> Result<Option<String>, RepositoryError> {
        let opened = self.restic().key_opened_by(password).map_err(repository_error)?;
        Ok(opened.map(|id| id.to_string()))
    }

    fn add(&self, password: &Secret) -> Result<String, RepositoryError> {
        let _lock = self.lock(LockKind::Shared)?;
        let id = self.restic().add_key(password, &self.key_options()).map_err(repository_error)?;
        Ok(id.to_string())
    }

    fn remove(&self, id: &str) -> Result<(), RepositoryError> {
        let unknown = || {
            let location = self.location_text();
            let message = format!("{location} has no such key");
            RepositoryError::new(RepositoryErrorKind::Invalid, format!("key {id}"), message)
                .with_hint("`backstay key list` shows the keys there are")
        };
        let parsed: Id = id.parse().map_err(|_| unknown())?;
        let _lock = self.lock(LockKind::Exclusive)?;
        self.restic().remove_key(&parsed).map_err(|error| match error.kind {
            ResticErrorKind::NotFound => unknown(),
            ResticErrorKind::Failed => RepositoryError::new(
                RepositoryErrorKind::Invalid,
                error.object.clone(),
                error.message.clone(),
            )
            .with_hint("open the repository by another key to remove this one"),
            _ => repository_error(error),
        })
    }

    fn replace(
        &self,
        password: &Secret,
        kept: &mut dyn FnMut() -> Result<(), RepositoryError>,
    ) -> Result<String, RepositoryError> {
        let _lock = self.lock(LockKind::Exclusive)?;
        let id = self.restic().add_key(password, &self.key_options()).map_err(repository_error)?;
        let old = self.restic().use_key(&id).map_err(repository_error)?;
        kept()?;
        self.restic().remove_key(&old).map_err(repository_error)?;
        Ok(id.to_string())
    }
}
