//! The keys of a repository: each is a password by which it opens. There is always one.
//!
//! A key is removed only while another one that opens is stored. So a crash leaves a key too many at worst.

use crate::RepositoryError;
use flow::Secret;
use jiff::Timestamp;

/// One key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// Its id.
    pub id: String,
    /// Whether the repository was opened by it.
    pub in_use: bool,
    /// Who made it; `None` where that cannot be read.
    pub user: Option<String>,
    /// On which host.
    pub host: Option<String>,
    /// When.
    pub created: Option<Timestamp>,
    /// Why it cannot be read.
    pub problem: Option<String>,
}

/// The keys of an open repository.
pub trait Keys: Send + Sync {
    /// Lists the keys in the order of their ids.
    fn list(&self) -> Result<Vec<KeyRecord>, RepositoryError>;

    /// Returns the id of the key by which the repository is open.
    fn in_use(&self) -> String;

    /// Returns the key that a password opens; `None` where it opens none.
    fn opened_by(&self, password: &Secret) -> Result<Option<String>, RepositoryError>;

    /// Adds a key and returns its id. Durable, and seen to be opened by its password, when it returns.
    fn add(&self, password: &Secret) -> Result<String, RepositoryError>;

    /// Removes a key. That which is in use is refused ([`crate::RepositoryErrorKind::Invalid`]), and so the last one.
    /// An unknown one is [`crate::RepositoryErrorKind::Invalid`] too. Takes an exclusive lock.
    fn remove(&self, id: &str) -> Result<(), RepositoryError>;

    /// Puts a new key in the place of the one in use, and returns its id. In this order: the new key is added and
    /// opened by its password; `kept` makes that password durable wherever the old one is kept; the old key is removed.
    /// Where one of these fails, what comes after it does not happen, and both passwords open. Takes an exclusive lock.
    fn replace(
        &self,
        password: &Secret,
        kept: &mut dyn FnMut() -> Result<(), RepositoryError>,
    ) -> Result<String, RepositoryError>;
}
