//! Which backups are loaded to find the one that a person means: of a repository with thousands of tenants, only those
//! of the one that was named.

use crate::reference::{Reference, Selector, resolve};
use crate::{OperationError, Services};
use repository::{BackupRecord, Wanted};

/// Loads the backups among which a reference is resolved: all that it may mean. Where it means none of them, all there
/// are, so that an error can say what there is.
pub fn load(services: &Services, reference: &Reference) -> Result<Vec<BackupRecord>, OperationError> {
    let wanted = wanted(&reference.selector);
    let records = services.repository.backups_of(&wanted, &services.context)?;
    if wanted == Wanted::All || resolve(&records, reference, &services.host).is_ok() {
        return Ok(records);
    }
    Ok(services.repository.backups(None, &services.context)?)
}

/// Returns what a selector asks a repository for.
pub(crate) fn wanted(selector: &Selector) -> Wanted {
    match selector {
        Selector::Target { target, database: Some(database) } => {
            Wanted::Database(target.clone(), database.clone())
        }
        Selector::Target { target, database: None } => Wanted::Target(target.clone()),
        Selector::Place(place) => Wanted::Place(place.clone()),
        Selector::Id { prefix, .. } => Wanted::Snapshot(prefix.clone()),
        Selector::Only => Wanted::All,
    }
}
