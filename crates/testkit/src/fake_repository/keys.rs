//! The keys of the repository in memory: passwords, in a list.

use super::{FakeRepository, RepositoryFlaw as Flaw};
use flow::Secret;
use repository::{KeyRecord, Keys, RepositoryError, RepositoryErrorKind};

/// The passwords by id, and which of them is in use.
pub(super) struct Ring {
    keys: Vec<(String, Secret)>,
    in_use: String,
    made: u32,
}

impl Default for Ring {
    fn default() -> Self {
        let first = "key-0".to_owned();
        Self { keys: vec![(first.clone(), Secret::new("first"))], in_use: first, made: 0 }
    }
}

impl Keys for FakeRepository {
    fn list(&self) -> Result<Vec<KeyRecord>, RepositoryError> {
        let state = self.0.state();
        let record = |(id, _): &(String, Secret)| KeyRecord {
            id: id.clone(),
            in_use: *id == state.ring.in_use,
            user: None,
            host: None,
            created: None,
            problem: None,
        };
        Ok(state.ring.keys.iter().map(record).collect())
    }

    fn in_use(&self) -> String {
        self.0.state().ring.in_use.clone()
    }

    fn opened_by(&self, password: &Secret) -> Result<Option<String>, RepositoryError> {
        let state = self.0.state();
        Ok(state.ring.keys.iter().find(|(_, known)| known == password).map(|(id, _)| id.clone()))
    }

    fn add(&self, password: &Secret) -> Result<String, RepositoryError> {
        let mut state = self.0.state();
        state.ring.made += 1;
        let id = format!("key-{}", state.ring.made);
        state.ring.keys.push((id.clone(), password.clone()));
        Ok(id)
    }

    fn remove(&self, id: &str) -> Result<(), RepositoryError> {
        let invalid = |message: &str| RepositoryError::new(RepositoryErrorKind::Invalid, id, message);
        let mut state = self.0.state();
        if id == state.ring.in_use && !self.0.has(Flaw::RemovesKeyInUse) {
            return Err(invalid("it is the key in use"));
        }
        if !state.ring.keys.iter().any(|(known, _)| known == id) {
            return Err(invalid("there is no such key"));
        }
        if !self.0.has(Flaw::KeepsRemovedKeys) {
            state.ring.keys.retain(|(known, _)| known != id);
        }
        Ok(())
    }

    fn replace(
        &self,
        password: &Secret,
        kept: &mut dyn FnMut() -> Result<(), RepositoryError>,
    ) -> Result<String, RepositoryError> {
        let id = self.add(password)?;
        let old = std::mem::replace(&mut self.0.state().ring.in_use, id.clone());
        if self.0.has(Flaw::ReplacesBeforeKept) {
            self.remove(&old)?;
            kept()?;
        } else {
            kept()?;
            self.remove(&old)?;
        }
        Ok(id)
    }
}
