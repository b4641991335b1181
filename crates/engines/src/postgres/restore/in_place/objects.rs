//! Large objects, which have a number and no schema, and so cannot be moved aside: what those held that the backup has
//! too is copied into a table first. Those that the backup does not have stay.

use super::record::Moved;
use super::stage::Load;
use crate::postgres::failure;
use crate::postgres::restore::archive::large_objects;
use crate::postgres::restore::fill::Filling;
use crate::postgres::restore::items::Item;
use crate::postgres::restore::load::chunk;
use crate::postgres::restore::names::{beside, quoted};
use crate::postgres::session::Session;
use crate::restore::RestoreError;
use flow::{Event, Severity, SourceError};

/// How much of one is sent at once, and is a row of the table that keeps them.
const CHUNK_BYTES: usize = 1 << 20;
const TABLE: &str = "content";

/// Copies what the large objects hold that will be replaced, and removes them.
pub(super) fn keep(load: &mut Load<'_>) -> Result<(), SourceError> {
    let wanted: Vec<u32> =
        large_objects(load.filling.backup.manifest()).into_iter().map(|(oid, _)| oid).collect();
    let sql = "SELECT count(*) FILTER (WHERE oid = ANY($1)), count(*) FILTER (WHERE NOT oid = ANY($1))
               FROM pg_catalog.pg_largeobject_metadata";
    let row = load.session.query_one(sql, &[&wanted])?;
    let (replaced, others): (i64, i64) = (load.session.field(&row, 0)?, load.session.field(&row, 1)?);
    if others > 0 {
        let message = format!("{others} large objects that the backup does not have stay as they are");
        load.tell(Severity::Notice, message, None);
    }
    if replaced == 0 {
        return Ok(());
    }
    let schema = beside("large_objects", "safety", load.request.started);
    let table = format!("{}.{TABLE}", quoted(&schema));
    load.must(
        &format!(
            "CREATE SCHEMA {}; CREATE TABLE {table} (object oid, owner name, rights aclitem[], comment text, number int,
               data bytea)",
            quoted(&schema)
        ),
        "the safety copy of large objects",
    )?;
    let rows = load.session.query(
        "SELECT oid FROM pg_catalog.pg_largeobject_metadata WHERE oid = ANY($1) ORDER BY oid",
        &[&wanted],
    )?;
    for row in rows {
        let oid: u32 = load.session.field(&row, 0)?;
        copy(load, oid, &table)?;
        load.must(&format!("SELECT pg_catalog.lo_unlink({oid})"), "the safety copy of large objects")?;
    }
    load.moved.objects = Some(schema);
    Ok(())
}

/// Copies the content of a large object, piece by piece.
fn copy(load: &mut Load<'_>, oid: u32, table: &str) -> Result<(), SourceError> {
    let sql = format!(
        "INSERT INTO {table} SELECT m.oid, pg_catalog.pg_get_userbyid(m.lomowner), m.lomacl,
           pg_catalog.obj_description(m.oid, 'pg_largeobject'), $2::int4,
           pg_catalog.lo_get(m.oid, $2::int4::int8 * {CHUNK_BYTES}, {CHUNK_BYTES})
         FROM pg_catalog.pg_largeobject_metadata m WHERE m.oid = $1 RETURNING pg_catalog.length(data)"
    );
    for number in 0..i32::MAX {
        let done = load.session.try_query(&sql, &[&oid, &number])?;
        let rows = done.map_err(|error| {
            failure::server(load.filling.object, &format!("large object {oid} cannot be read"), &error)
        })?;
        let length = rows.first().map(|row| load.session.field::<i32>(row, 0)).transpose()?;
        if length.is_none_or(|length| (length as usize) < CHUNK_BYTES) {
            break;
        }
    }
    Ok(())
}

/// Makes large objects, without content.
pub(super) fn make(load: &mut Load<'_>, item: &Item) -> Result<(), SourceError> {
    let mut sql = String::new();
    for oid in numbers(item) {
        sql.push_str(&format!("SELECT pg_catalog.lo_create('{oid}');"));
        if !load.request.ownership.no_owner && !item.owner.is_empty() {
            sql.push_str(&format!("ALTER LARGE OBJECT {oid} OWNER TO {};", quoted(&item.owner)));
        }
    }
    load.must(&sql, "a large object")
}

/// Returns the numbers of the large objects that an item makes: its own, or a list of them.
pub(in crate::postgres::restore) fn numbers(item: &Item) -> Vec<u32> {
    match item.is("BLOB") {
        true => item.tag.parse().into_iter().collect(),
        false => item.definition.lines().filter_map(|line| line.trim().parse().ok()).collect(),
    }
}

/// Gives the rights of the first of several large objects to all of them.
pub(super) fn rights(load: &mut Load<'_>, item: &Item) -> Result<(), SourceError> {
    for statement in rights_of(load.items, item) {
        load.must(&statement, &item.shown())?;
    }
    Ok(())
}

/// Returns the statements that give the rights of the first of several large objects to all of them.
pub(in crate::postgres::restore) fn rights_of(items: &[Item], item: &Item) -> Vec<String> {
    let of = |id: &i32| items.iter().find(|below| below.id == *id && below.is("BLOB METADATA"));
    let Some(group) = item.dependencies.iter().find_map(of) else { return vec![item.definition.clone()] };
    let all = numbers(group);
    let Some(first) = all.first() else { return Vec::new() };
    let named = format!("LARGE OBJECT {first} ");
    all.iter().map(|oid| item.definition.replace(&named, &format!("LARGE OBJECT {oid} "))).collect()
}

/// Loads their content.
pub(super) fn load(load: &mut Load<'_>) -> Result<(), RestoreError> {
    content(load.session, &load.filling)
}

/// Loads the content of large objects that are there.
pub(in crate::postgres::restore) fn content(
    session: &mut Session,
    filling: &Filling<'_>,
) -> Result<(), RestoreError> {
    for (oid, entry) in large_objects(filling.backup.manifest()) {
        if entry.size_bytes == 0 {
            continue;
        }
        let mut reader = filling.backup.read(&entry.name, 0..entry.size_bytes)?;
        let mut at = 0u64;
        while at < entry.size_bytes {
            let bytes = chunk(&mut *reader, entry.size_bytes - at, CHUNK_BYTES, &entry.name)?;
            let offset = i64::try_from(at).unwrap_or(i64::MAX);
            at += bytes.len() as u64;
            filling.context.observer.event(Event::Bytes(bytes.len() as u64));
            let put =
                session.try_query("SELECT pg_catalog.lo_put($1, $2, $3)", &[&oid, &offset, &&bytes[..]])?;
            put.map_err(|error| {
                failure::server(filling.object, &format!("large object {oid} cannot be loaded"), &error)
            })?;
        }
    }
    Ok(())
}

/// Puts back what large objects held, with their owners and rights.
pub(super) fn put_back(session: &mut Session, moved: &Moved) -> Result<(), SourceError> {
    let Some(schema) = &moved.objects else { return Ok(()) };
    let table = format!("{}.{TABLE}", quoted(schema));
    let rights = "SELECT format('ALTER LARGE OBJECT %s OWNER TO %I', object, owner)
         FROM (SELECT DISTINCT object, owner FROM {table}) o
         UNION ALL
         SELECT DISTINCT format('COMMENT ON LARGE OBJECT %s IS %L', object, comment) FROM {table}
         WHERE comment IS NOT NULL
         UNION ALL
         SELECT format('GRANT %s ON LARGE OBJECT %s TO %s%s', x.privilege_type, o.object,
                  CASE WHEN x.grantee = 0 THEN 'PUBLIC'
                       ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(x.grantee)) END,
                  CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
         FROM (SELECT DISTINCT ON (object) object, rights FROM {table} WHERE rights IS NOT NULL ORDER BY object) o,
              pg_catalog.aclexplode(o.rights) x"
        .replace("{table}", &table);
    session.execute(&format!(
        "SELECT pg_catalog.lo_unlink(m.oid) FROM pg_catalog.pg_largeobject_metadata m
           WHERE m.oid IN (SELECT object FROM {table});
         SELECT pg_catalog.lo_create(object) FROM (SELECT DISTINCT object FROM {table}) o;
         SELECT pg_catalog.lo_put(object, number::int8 * {CHUNK_BYTES}, data) FROM {table}"
    ))?;
    for statement in super::ground::names(session, &rights)? {
        session.execute(&statement)?;
    }
    session.execute(&format!("DROP SCHEMA {} CASCADE", quoted(schema)))
}
