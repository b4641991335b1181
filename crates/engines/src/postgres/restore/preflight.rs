//! What can be known before anything is made: whether this server takes the backup, whether the role may do what a
//! restore does, what is missing, how much room there is.
//!
//! Looks only, but for roles that are asked for. It is run when the restore is planned, where a problem is shown and
//! nothing more, and again when it begins, where it is an error.

use super::archive;
use super::ground::is_local;
use super::job::Job;
use super::keeper::{Keeper, Listed};
use super::names::beside;
use super::problem::{Problem, listed, problem};
use super::{limits, programs, record, scratch, sessions};
use crate::postgres::archive::TableOfContents;
use crate::postgres::connection::Settings;
use crate::postgres::needs::{self, Needs};
use crate::postgres::script::is_script;
use crate::postgres::session::{self, Session};
use crate::restore::{
    Ownership, RestoreError, RestoreMode, RestorePlan, RestoreRequest, RestoreStep, Safety,
};
use flow::{BackupReader, Context, Manifest, Severity, SourceError, SourceErrorKind};
use std::collections::BTreeSet;

/// Returns the steps of a restore.
pub(super) fn steps(request: &RestoreRequest) -> Vec<RestoreStep> {
    use RestoreStep::{Beside, Finish, Preflight, Quiesce, Swap, Verify};
    let mut steps = vec![Preflight, Beside, Verify, Quiesce, Swap, Finish];
    steps.retain(|step| request.verify || *step != Verify);
    steps
}

/// Looks at the target and returns what the restore is going to do.
pub(super) fn plan(
    request: &RestoreRequest,
    manifest: &Manifest,
    keeper: &mut Keeper,
    context: &Context,
) -> Result<RestorePlan, SourceError> {
    let target = keeper.target.clone();
    let old = keeper.listed(&target)?;
    if request.mode == RestoreMode::ToNew && old.is_some() {
        let message = "exists already";
        return Err(SourceError::new(SourceErrorKind::Unwritable, keeper.object.clone(), message)
            .with_hint("name another new database, or leave `--to-new` out to replace this one"));
    }
    let connected = match &old {
        Some(old) => sessions::of(&mut keeper.session, old.oid)?,
        None => Vec::new(),
    };
    // Looked at afterwards: a look into it is a session too.
    let is_empty = old.is_some() && holds_nothing(keeper, &target, context);
    let safety_copy = match (&old, &request.safety) {
        (Some(_), Safety::Beside) if !is_empty => Some(beside(&target, "safety", request.started)),
        _ => None,
    };
    let write_bytes = manifest.entries.iter().map(|entry| entry.size_bytes).sum();
    let needed_bytes = needed_bytes(manifest, write_bytes);
    let free_bytes = free_bytes(&mut keeper.session, &keeper.settings);
    let mut problems = problems(keeper, request, manifest, old.as_ref())?;
    let needs = Needs::of(manifest);
    problems.extend(missing(keeper, &needs, &request.ownership)?);
    problems.extend(limits::found(keeper, manifest, &needs, &request.ownership)?);
    let stay = connected.iter().filter(|one| !one.may_end);
    let holders = connected.iter().map(|one| one.holder.clone()).collect();
    let mut told: Vec<String> =
        problems.iter().map(|problem| format!("{}; {}", problem.message, problem.hint)).collect();
    told.extend(stay.map(|one| format!("{} may not be ended by this role; end it by hand", one.holder.name)));
    Ok(RestorePlan {
        steps: steps(request),
        actions: actions(
            request,
            keeper,
            (old.as_ref(), is_empty),
            safety_copy.as_deref(),
            is_script(manifest),
        )?,
        write_bytes,
        needed_bytes,
        free_bytes,
        safety_copy,
        holders,
        ends_holders: true,
        problems: told,
    })
}

fn actions(
    request: &RestoreRequest,
    keeper: &mut Keeper,
    (old, is_empty): (Option<&Listed>, bool),
    safety_copy: Option<&str>,
    is_text: bool,
) -> Result<Vec<String>, SourceError> {
    let target = keeper.target.clone();
    let scratch = beside(&target, record::SCRATCH, request.started);
    let what = if request.schema_only { "make the backup's definitions in" } else { "load the backup into" };
    let mut actions = vec![format!("Make the database {scratch} beside it, and {what} that.")];
    if request.verify && !request.schema_only {
        actions.push(match is_text {
            true => "Count the rows of all tables, and compare that with the text.".to_owned(),
            false => "Read all rows back, and compare them with the backup.".to_owned(),
        });
    }
    if request.ownership.create_roles {
        actions[0].push_str(" Roles that are missing are made first; they stay.");
    }
    let Some(old) = old else {
        actions.push(format!("Rename it to {target}, which does not exist yet."));
        return Ok(actions);
    };
    actions.push(format!("End all sessions of {target}, and roll their transactions back."));
    actions.push(match safety_copy {
        Some(copy) => {
            format!("Rename {target} to {copy}, and the new database to {target}, in one transaction.")
        }
        None if is_empty => format!("Put it in the place of {target}, which holds nothing."),
        None => format!("Put it in the place of {target}, which is dropped once the restore is accepted."),
    });
    actions.push("Give it the owner, the rights and the settings of the old one.".to_owned());
    let bound = bound_to(keeper, old.oid)?;
    if !bound.is_empty() && safety_copy.is_some() {
        actions.push(format!("Leave with the old database: {}.", bound.join(", ")));
    }
    Ok(actions)
}

/// Returns what belongs to a database wherever it is renamed to: slots and subscriptions.
fn bound_to(keeper: &mut Keeper, oid: u32) -> Result<Vec<String>, SourceError> {
    let sql = "SELECT 'replication slot ' || s.slot_name::text FROM pg_catalog.pg_replication_slots s
                 JOIN pg_catalog.pg_database d ON d.datname = s.database WHERE d.oid = $1
               UNION ALL SELECT 'subscription ' || subname::text FROM pg_catalog.pg_subscription WHERE subdbid = $1
               ORDER BY 1";
    let rows = keeper.session.query(sql, &[&oid])?;
    rows.iter().map(|row| keeper.session.field(row, 0)).collect()
}

/// Tells whether a database holds nothing of anybody's. One that cannot be looked into counts as full.
pub(super) fn holds_nothing(keeper: &Keeper, name: &str, context: &Context) -> bool {
    let settings = Settings { database: name.to_owned(), ..keeper.settings.clone() };
    let look = || -> Result<bool, SourceError> {
        let mut session =
            session::connect(&settings, Some(keeper.session.reached), &keeper.object, &context.cancel)?;
        let sql = "SELECT NOT EXISTS (SELECT 1 FROM pg_catalog.pg_class WHERE oid >= 16384 AND relnamespace NOT IN
                        (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname ~ '^pg_'))
                     AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_proc WHERE oid >= 16384)
                     AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_type WHERE oid >= 16384)
                     AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_namespace WHERE oid >= 16384 AND nspname !~ '^pg_')
                     AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_extension WHERE oid >= 16384)
                     AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_largeobject_metadata)";
        let row = session.query_one(sql, &[])?;
        session.field(&row, 0)
    };
    look().unwrap_or(false)
}

/// Returns how much room the new database takes: what it took where it came from, or a guess by its rows where that had
/// grown beyond them.
pub(super) fn needed_bytes(manifest: &Manifest, write_bytes: u64) -> u64 {
    let guess = write_bytes.saturating_mul(3).saturating_add(16 << 20);
    let origin = manifest.facts.properties.get("database_bytes").and_then(serde_json::Value::as_u64);
    origin.map_or(guess, |origin| origin.min(guess))
}

/// Returns how much room the server has, where it is on this machine and says where its files are.
pub(super) fn free_bytes(session: &mut Session, settings: &Settings) -> Option<u64> {
    if !is_local(settings, session.reached) {
        return None;
    }
    let sql = "SELECT current_setting('data_directory')";
    let row = session.try_query(sql, &[]).ok()?.ok()?.pop()?;
    let folder: String = session.field(&row, 0).ok()?;
    let filesystem = rustix::fs::statvfs(folder.as_str()).ok()?;
    Some(filesystem.f_bavail.saturating_mul(filesystem.f_frsize))
}

/// Returns what would refuse the restore whatever the archive needs.
fn problems(
    keeper: &mut Keeper,
    request: &RestoreRequest,
    manifest: &Manifest,
    old: Option<&Listed>,
) -> Result<Vec<Problem>, SourceError> {
    let mut found = Vec::new();
    let sql =
        "SELECT rolsuper OR rolcreatedb, pg_catalog.quote_ident(rolname), pg_catalog.pg_is_in_recovery()
               FROM pg_catalog.pg_roles WHERE rolname = current_user";
    let row = keeper.session.query_one(sql, &[])?;
    let (may_make, role): (bool, String) = (keeper.session.field(&row, 0)?, keeper.session.field(&row, 1)?);
    if keeper.session.field(&row, 2)? {
        found.push(problem("the server is a standby, which takes no writes", "name its primary"));
    }
    if !may_make {
        found.push(problem(
            format!("the role {role} may not make databases"),
            format!("ALTER ROLE {role} CREATEDB"),
        ));
    }
    let origin = manifest.facts.properties.get("server_major").and_then(serde_json::Value::as_u64);
    if let Some(origin) = origin.filter(|origin| *origin > u64::from(keeper.session.major())) {
        let message =
            format!("the backup is of PostgreSQL {origin}, and the server is {}", keeper.session.major());
        if origin >= 17 && keeper.session.major() < 17 {
            let hint = format!("restore it to a server of version {origin} or newer");
            found.push(Problem { kind: SourceErrorKind::Unsupported, ..problem(message, hint) });
        }
    }
    let Some(old) = old else { return Ok(found) };
    if !old.is_ours {
        let message = format!("the role {role} is not the owner of {}, and cannot rename it", keeper.target);
        found.push(problem(message, format!("grant the owner's role to {role}")));
    }
    if request.safety == Safety::None {
        let bound = bound_to(keeper, old.oid)?;
        if !bound.is_empty() {
            let message = format!("the old database cannot be dropped: it has {}", bound.join(", "));
            found.push(problem(message, "drop those first, or leave `--no-safety` out"));
        }
    }
    Ok(found)
}

/// Returns those of the names that a query does not find.
fn not_among(
    keeper: &mut Keeper,
    wanted: &BTreeSet<String>,
    sql: &str,
) -> Result<BTreeSet<String>, SourceError> {
    if wanted.is_empty() {
        return Ok(BTreeSet::new());
    }
    let mut there = BTreeSet::new();
    for row in keeper.session.query(sql, &[])? {
        there.insert(keeper.session.field::<String>(&row, 0)?);
    }
    Ok(wanted - &there)
}

const ROLES: &str = "SELECT rolname::text FROM pg_catalog.pg_roles";

/// Returns what an archive needs and the server does not have, a problem for each kind.
pub(super) fn missing(
    keeper: &mut Keeper,
    needs: &Needs,
    ownership: &Ownership,
) -> Result<Vec<Problem>, SourceError> {
    let mut found = Vec::new();
    let roles = not_among(keeper, &needs.roles(ownership), ROLES)?;
    if !roles.is_empty() && !ownership.create_roles {
        found.push(problem(
            format!("roles that the backup names are not on the server: {}", listed(&roles)),
            "`--create-roles` makes them as the backup's globals.sql says (without passwords), `--role-map OLD=NEW` \
             takes others, `--no-owner` does without owners and their rights",
        ));
    }
    let sql = "SELECT name::text FROM pg_catalog.pg_available_extensions";
    let extensions = not_among(keeper, &needs.extensions, sql)?;
    if !extensions.is_empty() {
        found.push(problem(
            format!("extensions of the backup are not installed on the server: {}", listed(&extensions)),
            "install their packages there (Debian: postgresql-contrib, postgresql-VERSION-NAME)",
        ));
    }
    let tablespaces =
        not_among(keeper, &needs.tablespaces, "SELECT spcname::text FROM pg_catalog.pg_tablespace")?;
    if let Some(first) = tablespaces.first() {
        found.push(problem(
            format!("tablespaces of the backup are not on the server: {}", listed(&tablespaces)),
            format!("make them there: CREATE TABLESPACE {first} LOCATION '/a/folder'"),
        ));
    }
    Ok(found)
}

/// Returns those of an archive's roles that are not on the server, as they are called there.
pub(super) fn missing_roles(job: &mut Job, toc: &TableOfContents) -> Result<BTreeSet<String>, SourceError> {
    let everything = Ownership { no_owner: false, ..job.state.request.ownership.clone() };
    not_among(&mut job.keeper, &needs::needs(toc).roles(&everything), ROLES)
}

/// Fails where a transaction of the target is prepared: it would be lost with a rename that cannot be.
pub(super) fn no_prepared_transactions(job: &mut Job) -> Result<(), SourceError> {
    let target = job.work.target.clone();
    let sql = "SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE database = $1 ORDER BY gid LIMIT 5";
    let mut ids: Vec<String> = Vec::new();
    for row in job.keeper.session.query(sql, &[&target])? {
        ids.push(job.keeper.session.field(&row, 0)?);
    }
    if ids.is_empty() {
        return Ok(());
    }
    let message = format!("has prepared transactions: {}", ids.join(", "));
    Err(job
        .error(SourceErrorKind::InUse, message)
        .with_hint("COMMIT PREPARED or ROLLBACK PREPARED ends them"))
}

/// The preflight: the lock, all checks, then the database that holds the record.
pub(super) fn run(job: &mut Job, backup: &dyn BackupReader) -> Result<(), RestoreError> {
    job.phase("looking at", None);
    let toc = job.toc(backup)?;
    if !job.keeper.lock()? {
        return Err(record::in_use(&mut job.keeper, None).into());
    }
    let outcome = with_lock(job, &toc, backup);
    if outcome.is_err() && !job.recorded {
        job.keeper.unlock();
    }
    outcome
}

fn with_lock(job: &mut Job, toc: &TableOfContents, backup: &dyn BackupReader) -> Result<(), RestoreError> {
    let found = record::of_target(&mut job.keeper)?;
    if let Some(other) = found.iter().find(|other| other.oid != job.work.scratch_oid) {
        return Err(record::in_use(&mut job.keeper, Some(&other.state)).into());
    }
    // SQL text is run by our own sessions.
    if !is_script(backup.manifest()) {
        programs::program(toc, job.keeper.session.major(), &job.keeper.object, &job.context)?;
    }
    check(job, toc, backup)?;
    if !job.recorded {
        scratch::drop_unrecorded(job)?;
        scratch::make(job, toc)?;
        job.recorded = true;
    }
    (job.state.step, job.state.completed) = (RestoreStep::Preflight, true);
    job.state.safety_copy.clone_from(&job.plan.safety_copy);
    let saved = job.save();
    if saved.is_err() && !job.work.loading {
        // Nothing else was made: without its record the restore was never begun.
        job.keeper.drop_database(job.work.scratch_oid).ok();
        job.recorded = false;
        job.work.scratch_oid = 0;
    }
    Ok(saved?)
}

fn check(job: &mut Job, toc: &TableOfContents, backup: &dyn BackupReader) -> Result<(), RestoreError> {
    let request = job.state.request.clone();
    let target = job.work.target.clone();
    let old = job.keeper.listed(&target)?;
    if request.mode == RestoreMode::ToNew && old.is_some() {
        return Err(job.error(SourceErrorKind::Unwritable, "exists already").into());
    }
    let mut found = problems(&mut job.keeper, &request, backup.manifest(), old.as_ref())?;
    if found.is_empty() && request.ownership.create_roles {
        make_roles(job, toc, backup)?;
    }
    let strict = Ownership { create_roles: false, ..request.ownership.clone() };
    let needs = needs::needs(toc);
    found.extend(missing(&mut job.keeper, &needs, &strict)?);
    found.extend(limits::found(&mut job.keeper, backup.manifest(), &needs, &strict)?);
    if let Some(first) = found.first() {
        let messages: Vec<&str> = found.iter().map(|problem| problem.message.as_str()).collect();
        let hints: Vec<&str> = found.iter().map(|problem| problem.hint.as_str()).collect();
        return Err(job.error(first.kind, messages.join("; ")).with_hint(hints.join("; ")).into());
    }
    let free = free_bytes(&mut job.keeper.session, &job.keeper.settings);
    if let Some(free) = free.filter(|free| *free < job.plan.needed_bytes) {
        let message =
            format!("{free} bytes are free at the server, and the restore needs {}", job.plan.needed_bytes);
        return Err(job
            .error(SourceErrorKind::Unwritable, message)
            .with_hint("free some space there, or restore to another server with `--target`")
            .into());
    }
    if old.is_some() {
        no_prepared_transactions(job)?;
    }
    Ok(())
}

/// Makes the roles that are missing, as the backup has them.
fn make_roles(job: &mut Job, toc: &TableOfContents, backup: &dyn BackupReader) -> Result<(), RestoreError> {
    let wanted = needs::needs(toc).roles(&job.state.request.ownership);
    let wanted = not_among(&mut job.keeper, &wanted, ROLES)?;
    if wanted.is_empty() {
        return Ok(());
    }
    let globals = archive::globals(backup)?;
    let made = archive::making(&globals, &wanted);
    if made.is_empty() {
        return Ok(());
    }
    job.keeper.session.execute(&format!("BEGIN; {}; COMMIT", made.join("; "))).map_err(|error| {
        job.keeper.session.execute("ROLLBACK").ok();
        SourceError { message: format!("the roles cannot be made: {}", error.message), ..error }
    })?;
    let message = format!("made the roles {}; they have no passwords", listed(&wanted));
    job.tell(Severity::Notice, message, Some("\\password ROLE in psql sets one".to_owned()));
    Ok(())
}
