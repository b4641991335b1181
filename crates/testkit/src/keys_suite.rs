//! The promises of [`Keys`], as checks of the repository suite. A layout without keys keeps them all.

use crate::fresh_repository::FreshRepository;
use crate::suite::{Outcome, ensure, text};
use flow::Secret;
use repository::{Keys, RepositoryError, RepositoryErrorKind};

fn ids(keys: &dyn Keys) -> Result<Vec<String>, String> {
    Ok(keys.list().map_err(text)?.into_iter().map(|key| key.id).collect())
}

/// What is added opens and is listed until it is removed; the key in use stays.
pub(crate) fn added_and_removed(subject: &FreshRepository) -> Outcome {
    let Some(keys) = subject.repository.keys() else { return Ok(()) };
    let (one, wrong) = (Secret::new("one"), Secret::new("wrong"));
    let first = keys.in_use();
    ensure!(ids(keys)? == [first.clone()], "a new repository has {:?}", ids(keys)?);
    let added = keys.add(&one).map_err(text)?;
    let again = (subject.reopen)();
    let Some(seen) = again.keys() else { return Err("reopened, it has no keys".to_owned()) };
    ensure!(ids(seen)?.contains(&added) && ids(seen)?.contains(&first), "listed are {:?}", ids(seen)?);
    ensure!(seen.opened_by(&one).map_err(text)?.as_ref() == Some(&added), "it does not open");
    ensure!(seen.opened_by(&wrong).map_err(text)?.is_none(), "a wrong password opens");
    for refused in [&first, &"0123456789abcdef".repeat(4)] {
        let found = keys.remove(refused).map_err(|error| error.kind);
        ensure!(found == Err(RepositoryErrorKind::Invalid), "removing {refused} gave {found:?}");
    }
    keys.remove(&added).map_err(text)?;
    ensure!(ids(keys)? == [first], "left are {:?}", ids(keys)?);
    ensure!(keys.opened_by(&one).map_err(text)?.is_none(), "a removed key opens");
    Ok(())
}

/// The old key goes last, and not at all where the new password could not be kept.
pub(crate) fn replaced(subject: &FreshRepository) -> Outcome {
    let Some(keys) = subject.repository.keys() else { return Ok(()) };
    let old = keys.in_use();
    let unkept = || RepositoryError::new(RepositoryErrorKind::Failed, "the key file", "the disk is full");
    let refused = keys.replace(&Secret::new("lost"), &mut || Err(unkept()));
    ensure!(refused.is_err(), "it went on although the password was not kept");
    ensure!(ids(keys)?.contains(&old), "the old key is gone, and the new password was not kept");
    let again = (subject.reopen)();
    let Some(keys) = again.keys() else { return Err("reopened, it has no keys".to_owned()) };
    let (new, old) = (Secret::new("new"), keys.in_use());
    let mut both = false;
    let id = keys.replace(&new, &mut || {
        both = keys.opened_by(&new)?.is_some() && keys.list()?.iter().any(|key| key.id == old);
        Ok(())
    });
    let id = id.map_err(text)?;
    ensure!(both, "while the password is kept, both keys must open");
    ensure!(keys.in_use() == id && !ids(keys)?.contains(&old), "in use is {}", keys.in_use());
    ensure!(keys.opened_by(&new).map_err(text)? == Some(id), "the new password does not open");
    Ok(())
}
