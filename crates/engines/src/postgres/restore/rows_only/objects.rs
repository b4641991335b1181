//! Large objects of an archive, made anew by their numbers. One that is there already is not touched, and stands in the way.

use crate::postgres::failure;
use crate::postgres::restore::archive::large_objects;
use crate::postgres::restore::chosen::blockers::Blocker;
use crate::postgres::restore::chosen::stage::Stage;
use crate::postgres::restore::in_place::objects::{content, numbers, rights_of};
use crate::postgres::restore::items::Item;
use crate::postgres::restore::names::quoted;
use crate::postgres::session::Session;
use crate::restore::RestoreError;
use flow::{Manifest, Severity, SourceError};

/// Returns what is there of them already.
pub(super) fn blockers(session: &mut Session, manifest: &Manifest) -> Result<Vec<Blocker>, SourceError> {
    let wanted: Vec<u32> = large_objects(manifest).into_iter().map(|(oid, _)| oid).collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let sql = "SELECT count(*), min(oid::int8) FROM pg_catalog.pg_largeobject_metadata WHERE oid = ANY($1)";
    let row = session.query_one(sql, &[&wanted])?;
    let (count, first): (i64, Option<i64>) = (session.field(&row, 0)?, session.field(&row, 1)?);
    let Some(first) = first else { return Ok(Vec::new()) };
    Ok(vec![Blocker {
        message: format!("{count} large objects of the backup are there already, {first} among them"),
        hint: "naming tables by `--table` leaves large objects as they are".to_owned(),
    }])
}

/// Makes and loads them, and returns how many there are. Their owners and rights are those of the backup where they can be.
pub(super) fn load(stage: &mut Stage<'_>) -> Result<u64, RestoreError> {
    let contents = stage.contents;
    let is_one = |item: &&Item| item.is("BLOB") || item.is("BLOB METADATA");
    let (mut made, mut left_out) = (0, None);
    for item in contents.items.iter().filter(is_one) {
        for oid in numbers(item) {
            stage
                .must(&format!("SELECT pg_catalog.lo_create('{oid}')"), &format!("the large object {oid}"))?;
            made += 1;
            if !item.owner.is_empty() {
                let sql = format!("ALTER LARGE OBJECT {oid} OWNER TO {}", quoted(&item.owner));
                left_out = left_out.or(stage.may(&sql)?.err());
            }
        }
    }
    content(stage.session, &stage.filling)?;
    let said = |item: &&Item| {
        ["ACL", "COMMENT", "SECURITY LABEL"].iter().any(|kind| item.is(kind))
            && item.tag.starts_with("LARGE OBJECT")
    };
    for item in contents.items.iter().filter(said) {
        let of_many = item.is("ACL") && item.tag.starts_with("LARGE OBJECTS ");
        let all = if of_many { rights_of(&contents.items, item) } else { vec![item.definition.clone()] };
        for statement in all {
            left_out = left_out.or(stage.may(&statement)?.err());
        }
    }
    if let Some(error) = left_out {
        let message = format!(
            "not all owners, rights and comments of large objects could be given: {}",
            failure::text(&error)
        );
        stage.tell(Severity::Warning, message, None);
    }
    Ok(made)
}
