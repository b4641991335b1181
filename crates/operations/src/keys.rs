//! Lists, adds, removes, replaces and confirms the keys of a repository. After a crash at any point some password that
//! was known before, or is durable by then, opens it.

use crate::reference::short;
use crate::report::{Outcome, Report};
use crate::{OperationError, Services, journaling};
use flow::Secret;
use jiff::Timestamp;
use repository::{ConfirmationRecord, KeyRecord, Keys, RepositoryError, State};
use serde::Serialize;

/// One key of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyItem {
    /// Its id.
    pub id: String,
    /// Whether the repository was opened by it.
    pub current: bool,
    /// Who made it.
    pub user: Option<String>,
    /// On which host.
    pub host: Option<String>,
    /// When.
    pub created: Option<Timestamp>,
    /// When a copy of it was last seen to open the repository.
    pub confirmed: Option<Timestamp>,
    /// Why it cannot be read.
    pub problem: Option<String>,
}

/// The report's own part.
#[derive(Debug, Clone, Default, Serialize)]
pub struct KeyBody {
    /// What was asked for: `list`, `add`, `remove`, `passwd` or `confirm`.
    pub action: String,
    /// The keys, as they are afterwards.
    pub keys: Vec<KeyItem>,
    /// The id of the new key.
    pub added: Option<String>,
    /// The id of the key that was removed.
    pub removed: Option<String>,
    /// The id of the key whose copy was confirmed.
    pub confirmed: Option<String>,
    /// The key file that was written; filled in by whoever writes it.
    pub key_file: Option<String>,
    /// Whether nothing was done but telling.
    pub dry_run: bool,
}

fn keys(services: &Services) -> Result<&dyn Keys, OperationError> {
    services
        .repository
        .keys()
        .ok_or_else(|| OperationError::usage(format!("{} has no keys", services.repository.location()), None))
}

fn items(services: &Services) -> Result<Vec<KeyItem>, OperationError> {
    let confirmations = services.repository.state(&services.context)?.confirmations;
    let item = |key: KeyRecord| KeyItem {
        confirmed: confirmations.get(&key.id).map(|record| record.time),
        id: key.id,
        current: key.in_use,
        user: key.user,
        host: key.host,
        created: key.created,
        problem: key.problem,
    };
    Ok(keys(services)?.list()?.into_iter().map(item).collect())
}

fn report(
    services: &Services,
    action: &str,
    started: Timestamp,
    body: KeyBody,
) -> Result<Report<KeyBody>, OperationError> {
    let body = KeyBody { action: action.to_owned(), keys: items(services)?, ..body };
    Ok(Report::new("key", started, Outcome::Complete, body))
}

/// Lists the keys.
pub fn list(services: &Services) -> Result<Report<KeyBody>, OperationError> {
    report(services, "list", Timestamp::now(), KeyBody::default())
}

/// Runs what changes keys, and records it in the journal.
fn change(
    services: &Services,
    action: &str,
    work: impl FnOnce() -> Result<KeyBody, OperationError>,
) -> Result<Report<KeyBody>, OperationError> {
    let started = Timestamp::now();
    let recorded = journaling::begin(services, &format!("key {action}"), None, started);
    let outcome = work().and_then(|body| report(services, action, started, body));
    journaling::finish(services, &recorded, outcome.as_ref());
    outcome
}

/// Adds a key, which that password opens.
pub fn add(services: &Services, password: &Secret) -> Result<Report<KeyBody>, OperationError> {
    change(services, "add", || {
        let added = Some(keys(services)?.add(password)?);
        Ok(KeyBody { added, ..KeyBody::default() })
    })
}

/// Returns the one key that the first digits of an id mean.
pub fn find(services: &Services, prefix: &str) -> Result<KeyRecord, OperationError> {
    let mut fitting = keys(services)?.list()?;
    fitting.retain(|key| !prefix.is_empty() && key.id.starts_with(&prefix.to_ascii_lowercase()));
    let hint = || Some("`backstay key list` shows the keys there are".to_owned());
    match (fitting.pop(), fitting.len()) {
        (Some(key), 0) => Ok(key),
        (Some(_), more) => Err(OperationError::usage(format!("`{prefix}` fits {} keys", more + 1), hint())),
        (None, _) => {
            let location = services.repository.location();
            Err(OperationError::usage(format!("{location} has no key `{prefix}`"), hint()))
        }
    }
}

/// Refuses to remove the key in use, which is the last one where there is no other.
pub fn refuse_in_use(services: &Services, key: &KeyRecord) -> Result<(), OperationError> {
    if !key.in_use {
        return Ok(());
    }
    let id = short(&key.id);
    Err(if keys(services)?.list()?.len() == 1 {
        OperationError::usage(
            format!("key {id} is the only one: without it nobody can read the backups"),
            Some("add another one first: `backstay key add`".to_owned()),
        )
    } else {
        OperationError::usage(
            format!("key {id} is in use: the repository was opened by it"),
            Some("open the repository by another key to remove this one".to_owned()),
        )
    })
}

/// Removes a key.
pub fn remove(services: &Services, key: &KeyRecord) -> Result<Report<KeyBody>, OperationError> {
    refuse_in_use(services, key)?;
    change(services, "remove", || {
        keys(services)?.remove(&key.id)?;
        Ok(KeyBody { removed: Some(key.id.clone()), ..KeyBody::default() })
    })
}

/// Puts a new key in the place of the one in use; `kept` makes its password durable wherever the old one is kept.
pub fn replace(
    services: &Services,
    password: &Secret,
    kept: &mut dyn FnMut() -> Result<(), RepositoryError>,
) -> Result<Report<KeyBody>, OperationError> {
    change(services, "passwd", || {
        let removed = Some(keys(services)?.in_use());
        let added = Some(keys(services)?.replace(password, kept)?);
        Ok(KeyBody { added, removed, ..KeyBody::default() })
    })
}

/// Tells whether a password opens the repository.
pub fn opens(services: &Services, password: &Secret) -> Result<Option<String>, OperationError> {
    Ok(keys(services)?.opened_by(password)?)
}

/// Remembers in the repository that a copy of a key opens it: whoever uses that key on another host need not be
/// reminded, and a new key is a reason to ask again.
pub fn confirm(services: &Services, key: &str) -> Result<Report<KeyBody>, OperationError> {
    change(services, "confirm", || {
        let record =
            ConfirmationRecord { key: key.to_owned(), time: Timestamp::now(), host: services.host.clone() };
        let state = State { confirmations: [record].into_iter().collect(), ..State::default() };
        services.repository.append_state(state, &services.context)?;
        Ok(KeyBody { confirmed: Some(key.to_owned()), ..KeyBody::default() })
    })
}

/// Tells whether a copy of the key in use was ever seen to open the repository. Where there are no keys there is
/// nothing to confirm.
pub fn is_confirmed(services: &Services) -> Result<bool, OperationError> {
    let Some(keys) = services.repository.keys() else { return Ok(true) };
    let state = services.repository.state(&services.context)?;
    Ok(state.confirmations.get(&keys.in_use()).is_some())
}
