//! What a restore in place is going to do, and what would refuse it. Looks only.

use super::ground::{self, Schema};
use crate::postgres::archive::TableOfContents;
use crate::postgres::needs::Needs;
use crate::postgres::restore::keeper::Keeper;
use crate::postgres::restore::limits;
use crate::postgres::restore::names::beside;
use crate::postgres::restore::preflight::{free_bytes, missing, needed_bytes};
use crate::postgres::restore::sessions;
use crate::restore::{Ownership, RestorePlan, RestoreRequest, RestoreStep, Safety};
use flow::{Manifest, SourceError};

/// How much of the server's room for locks a restore may take.
const LOCKS_SHARE: f64 = 0.9;

/// Something that would refuse the restore, and what mends it.
pub(super) type Problem = (String, String);

pub(super) fn steps() -> Vec<RestoreStep> {
    use RestoreStep::{Beside, Finish, Preflight, Quiesce, Swap};
    vec![Preflight, Beside, Quiesce, Swap, Finish]
}

pub(super) fn plan(
    request: &RestoreRequest,
    manifest: &Manifest,
    keeper: &mut Keeper,
) -> Result<RestorePlan, SourceError> {
    let schemas = ground::schemas(&mut keeper.session)?;
    let mut found = problems(keeper, &schemas)?;
    found.extend(lacking(keeper, manifest, Needs::of(manifest), &request.ownership)?);
    let kept: Vec<String> =
        schemas.iter().map(|schema| beside(&schema.name, "safety", request.started)).collect();
    let write_bytes = manifest.entries.iter().map(|entry| entry.size_bytes).sum();
    let row = keeper
        .session
        .query_one("SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()", &[])?;
    let oid: u32 = keeper.session.field(&row, 0)?;
    let holders = sessions::of(&mut keeper.session, oid)?.into_iter().map(|one| one.holder).collect();
    Ok(RestorePlan {
        steps: steps(),
        actions: actions(request, keeper, &schemas)?,
        write_bytes,
        needed_bytes: needed_bytes(manifest, write_bytes),
        free_bytes: free_bytes(&mut keeper.session, &keeper.settings),
        safety_copy: (request.safety != Safety::None && !kept.is_empty()).then(|| kept.join(", ")),
        holders,
        ends_holders: false,
        problems: found.into_iter().map(|(message, hint)| format!("{message}; {hint}")).collect(),
    })
}

fn actions(
    request: &RestoreRequest,
    keeper: &mut Keeper,
    schemas: &[Schema],
) -> Result<Vec<String>, SourceError> {
    let mut actions = Vec::new();
    let renames: Vec<String> = schemas
        .iter()
        .map(|schema| format!("{} to {}", schema.name, beside(&schema.name, "safety", request.started)))
        .collect();
    if !renames.is_empty() {
        actions.push(format!("Rename the schemas that are there: {}.", renames.join(", ")));
    }
    let publications = ground::publications(&mut keeper.session)?;
    if !publications.is_empty() {
        actions.push(format!(
            "Rename the publications, which stay with the old tables: {}.",
            publications.join(", ")
        ));
    }
    let compared = if request.verify { ", and compare all rows with it" } else { "" };
    actions.push(format!(
        "Make the backup's schemas under their own names, load it into them by one session{compared}. Nobody sees that \
         yet: the old ones are read and written meanwhile, and what is written stays with them."
    ));
    actions.push(
        "Wait until nobody is in a transaction with the old tables, then commit all of it at once; sessions stay connected."
            .to_owned(),
    );
    if request.safety == Safety::None {
        actions.push("Drop what was there, once the restore is accepted.".to_owned());
    }
    Ok(actions)
}

/// Returns what would refuse it, whatever the archive needs.
pub(super) fn problems(keeper: &mut Keeper, schemas: &[Schema]) -> Result<Vec<Problem>, SourceError> {
    let mut found = Vec::new();
    let target = crate::postgres::restore::names::quoted(&keeper.target);
    let sql = "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.quote_ident(current_user),
                 pg_catalog.has_database_privilege(current_database(), 'CREATE')";
    let row = keeper.session.query_one(sql, &[])?;
    let role: String = keeper.session.field(&row, 1)?;
    if keeper.session.field(&row, 0)? {
        found.push((
            "the server is a standby, which takes no writes".to_owned(),
            "name its primary".to_owned(),
        ));
    }
    if !keeper.session.field::<bool>(&row, 2)? {
        let message = format!("the role {role} may make no schemas in {}", keeper.target);
        found.push((message, format!("GRANT CREATE ON DATABASE {target} TO {role}")));
    }
    for schema in schemas.iter().filter(|schema| !schema.is_ours) {
        let name = crate::postgres::restore::names::quoted(&schema.name);
        let message =
            format!("the role {role} is not the owner of the schema {}, and cannot rename it", schema.name);
        found.push((
            message,
            format!("ALTER SCHEMA {name} OWNER TO {role}, or grant the role {} to it", schema.owner),
        ));
    }
    for extension in ground::extensions(&mut keeper.session)? {
        if schemas.iter().all(|schema| schema.name != extension.schema) {
            continue;
        }
        let (name, schema) = (&extension.name, &extension.schema);
        if !extension.may_move {
            let message = format!(
                "the extension {name} lies in the schema {schema} beside other things, and cannot be moved"
            );
            let hint = "restore into another database with `--target` or `--to-new`, or give the other things a schema of their own";
            found.push((message, hint.to_owned()));
        } else if !extension.is_ours {
            let message = format!(
                "the role {role} is not the owner of the extension {name}, which lies in the schema {schema}"
            );
            found.push((message, "connect as its owner or a superuser".to_owned()));
        }
    }
    let subscriptions = ground::names(
        &mut keeper.session,
        "SELECT subname::text FROM pg_catalog.pg_subscription WHERE subdbid =
           (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) ORDER BY 1",
    )?;
    for name in subscriptions {
        let message = format!(
            "the subscription {name} writes into the tables that are there, and would go on with that"
        );
        found.push((message, "drop it first, or leave `--in-place` out".to_owned()));
    }
    let prepared = ground::names(
        &mut keeper.session,
        "SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE database = current_database() ORDER BY gid LIMIT 5",
    )?;
    if !prepared.is_empty() {
        let message = format!("it has prepared transactions: {}", prepared.join(", "));
        found.push((message, "COMMIT PREPARED or ROLLBACK PREPARED ends them".to_owned()));
    }
    Ok(found)
}

/// Returns what would refuse it by what the archive has: more than one transaction can lock, or what only superusers make.
pub(super) fn problems_of(
    keeper: &mut Keeper,
    schemas: &[Schema],
    toc: &TableOfContents,
) -> Result<Vec<Problem>, SourceError> {
    let mut found = Vec::new();
    let count =
        |kinds: &[&str]| toc.entries.iter().filter(|entry| kinds.iter().any(|kind| entry.is(kind))).count();
    // A table has a toast table with an index.
    let new = 3 * count(&["TABLE"])
        + count(&["INDEX", "CONSTRAINT", "SEQUENCE", "VIEW"])
        + 2 * count(&["MATERIALIZED VIEW"]);
    let names: Vec<String> = schemas.iter().map(|schema| schema.name.clone()).collect();
    let old = ground::tables(&mut keeper.session, &names)?.len();
    let sql = "SELECT current_setting('max_locks_per_transaction')::int8
                 * (current_setting('max_connections')::int8 + current_setting('max_prepared_transactions')::int8)";
    let row = keeper.session.query_one(sql, &[])?;
    let room: i64 = keeper.session.field(&row, 0)?;
    let needed = new + old;
    if needed as f64 > room as f64 * LOCKS_SHARE {
        found.push((
            format!(
                "one transaction would lock {needed} relations, and the server has room for {room} locks"
            ),
            "set max_locks_per_transaction higher and restart the server, or leave `--in-place` out"
                .to_owned(),
        ));
    }
    Ok(found)
}

/// Returns what the server lacks, or the role may not do. An extension that is there need not be made.
pub(super) fn lacking(
    keeper: &mut Keeper,
    manifest: &Manifest,
    mut needs: Needs,
    ownership: &Ownership,
) -> Result<Vec<Problem>, SourceError> {
    let there = ground::extensions(&mut keeper.session)?;
    needs.extensions.retain(|name| there.iter().all(|extension| extension.name != *name));
    let mut found = missing(keeper, &needs, ownership)?;
    found.extend(limits::found(keeper, manifest, &needs, ownership)?);
    Ok(found.into_iter().map(|problem| (problem.message, problem.hint)).collect())
}
