//! The database of a target: the one that its connection names, resolved as libpq does.

use super::connection::{Settings, Surroundings, resolve};
use crate::engine::Enumeration;
use flow::{Context, DatabaseName, DatabaseRef, SourceError, SourceErrorKind, TargetRef};

/// Finds the database of a target. Connects to nothing: whether it is there its backup tells.
pub(super) fn databases(target: &TargetRef, context: &Context) -> Result<Enumeration, SourceError> {
    let settings = settings(&target.connection, Some(target), context)?;
    let name = DatabaseName::new(settings.database).map_err(|error| {
        SourceError::new(SourceErrorKind::Invalid, target.connection.clone(), error.to_string())
    })?;
    let database = DatabaseRef { target: target.name.clone(), name, connection: target.connection.clone() };
    Ok(Enumeration { databases: vec![database], skipped: vec![] })
}

/// Resolves a connection. The target's own secret goes before all other passwords.
pub(super) fn settings(
    connection: &str,
    target: Option<&TargetRef>,
    context: &Context,
) -> Result<Settings, SourceError> {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.name);
    let around = Surroundings {
        environment: &context.environment,
        user: user.as_deref().unwrap_or("postgres"),
        passfile: None,
    };
    let mut settings = resolve(connection, &around)
        .map_err(|error| SourceError::new(SourceErrorKind::Invalid, connection, error.to_string()))?;
    if let Some(secret) = target.and_then(|target| target.secret.as_ref()) {
        let password = context.secrets.get(secret)?;
        settings.passwords = settings.hosts.iter().map(|_| Some(password.clone())).collect();
    }
    Ok(settings)
}
