//! The configuration that backups were made by is kept beside them, so that a bare machine gets it back with the data.
//!
//! It is written after the backup, and only where it differs from what is known of that file and host. Whatever goes
//! wrong, the backup is made: that is told, and the next run tries again.

use crate::Services;
use flow::{Event, Finding, Severity};
use jiff::Timestamp;
use repository::{ConfigurationRecord, RepositoryError, RepositoryErrorKind, State};

/// A configuration to be kept. Whoever makes it has seen that there is no secret in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// Its path.
    pub file: String,
    /// Its text.
    pub text: String,
    /// The name that it gives the repository, where it gives one.
    pub repository: Option<String>,
    /// The key file outside of it by which the repository opens, where one does.
    pub key_file: Option<String>,
}

/// Keeps a configuration, where it is new.
pub(crate) fn keep(services: &Services, configuration: &Configuration) {
    match keep_new(services, configuration) {
        Ok(()) => {}
        Err(error) if error.kind == RepositoryErrorKind::Cancelled => {}
        Err(error) => services.context.observer.event(Event::Finding(Finding {
            severity: Severity::Warning,
            object: configuration.file.clone(),
            message: format!("the backup is made, and the configuration was not kept beside it: {error}"),
            hint: Some("the next backup tries again".to_owned()),
        })),
    }
}

fn keep_new(services: &Services, configuration: &Configuration) -> Result<(), RepositoryError> {
    let known = services.repository.state(&services.context)?.configurations;
    let subject = (services.host.clone(), configuration.file.clone());
    if known.get(&subject).is_some_and(|record| record.text == configuration.text) {
        return Ok(());
    }
    // What was kept is replaced by what is used now, also where a clock that was wrong dated it in the future.
    let after = known
        .get(&subject)
        .and_then(|record| record.time.checked_add(jiff::SignedDuration::from_nanos(1)).ok());
    let now = Timestamp::now();
    let record = ConfigurationRecord {
        host: services.host.clone(),
        file: configuration.file.clone(),
        time: after.map_or(now, |after| after.max(now)),
        text: configuration.text.clone(),
        repository: configuration.repository.clone(),
        key_file: configuration.key_file.clone(),
    };
    let state = State { configurations: [record].into_iter().collect(), ..State::default() };
    services.repository.append_state(state, &services.context)
}
