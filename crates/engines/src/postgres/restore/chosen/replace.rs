//! The rows of a live table replaced by those of the backup, in one transaction: what it holds is copied aside, it is
//! emptied and filled, and compared before anybody sees it.
//!
//! The table itself stays, and so does all that depends on it: views, foreign keys, triggers, rights, publications,
//! policies, sequences. Swapping another table in would leave those with the old one. Foreign keys that point to it are
//! taken off while it is filled and put on again, with all rows checked; where those do not fit, nothing is done at all.

use super::blockers::{self, Key, Trigger};
use super::locking;
use super::own::columns;
use super::stage::{Live, Stage, listed, relation};
use crate::postgres::failure;
use crate::postgres::restore::closing;
use crate::postgres::restore::fill::Place;
use crate::postgres::restore::items::Item;
use crate::postgres::restore::names::{beside, literal, quoted};
use crate::restore::{RestoreError, Safety};
use flow::{Severity, SourceError, SourceErrorKind};
use tokio_postgres::error::SqlState;

/// A table whose rows are replaced.
pub(super) struct Replaced<'a> {
    pub(super) item: &'a Item,
    pub(super) live: Live,
}

/// Replaces the rows of all of them, in the transaction that is open. Returns the names of the safety copies.
pub(super) fn make(stage: &mut Stage<'_>, tables: &[Replaced<'_>]) -> Result<Vec<String>, RestoreError> {
    let oids: Vec<u32> = tables.iter().map(|table| table.live.oid).collect();
    let keys = blockers::keys(stage.session, &oids)?;
    lock(stage, tables, &keys)?;
    let triggers = blockers::triggers(stage.session, &oids)?;
    for trigger in &triggers {
        stage.must(&trigger.off(), "the change of a trigger")?;
    }
    let mut kept = Vec::new();
    if stage.request.safety != Safety::None {
        for table in tables {
            kept.push(keep(stage, &table.live)?);
        }
    }
    for key in &keys {
        stage.must(&key.off(), "the change of a foreign key")?;
    }
    let names: Vec<String> = tables.iter().map(|table| only(&table.live)).collect();
    stage.must(&format!("TRUNCATE TABLE {}", names.join(", ")), "the emptied table")?;
    for table in tables {
        let rows = fill(stage, table)?;
        sequences(stage, table.item)?;
        let message = format!("the rows of {} are those of the backup: {rows}", table.live.shown());
        stage.tell(Severity::Notice, message, None);
    }
    for key in &keys {
        put_back(stage, key)?;
    }
    for trigger in &triggers {
        stage.must(&trigger.on(), "the change of a trigger")?;
    }
    for table in tables {
        stage.analyze(&table.live.quoted())?;
    }
    let stale = blockers::stale_views(stage.session, &oids)?;
    if !stale.is_empty() {
        let message = format!("filled before the restore, and not by it: {}", listed(&stale));
        let hint: Vec<String> =
            stale.iter().map(|view| format!("REFRESH MATERIALIZED VIEW {view}")).collect();
        stage.tell(Severity::Warning, message, Some(hint.join("; ")));
    }
    Ok(kept)
}

/// A table that others inherit from is meant without those; a partitioned one with its partitions.
pub(in crate::postgres::restore) fn only(live: &Live) -> String {
    match live.kind {
        'p' => live.quoted(),
        _ => format!("ONLY {}", live.quoted()),
    }
}

/// Takes all locks that will be needed, in one go: nobody reads or writes the tables until the end.
fn lock(stage: &mut Stage<'_>, tables: &[Replaced<'_>], keys: &[Key]) -> Result<(), SourceError> {
    let mut names: Vec<String> = tables.iter().map(|table| only(&table.live)).collect();
    names.extend(keys.iter().map(|key| key.table.clone()));
    let oids: Vec<u32> = tables.iter().map(|table| table.live.oid).collect();
    locking::lock(stage, names, "ACCESS EXCLUSIVE", &oids)
}

/// Copies what a table holds, and returns the copy's name.
fn keep(stage: &mut Stage<'_>, live: &Live) -> Result<String, SourceError> {
    let wanted = beside(&live.name, "safety", stage.request.started);
    let name = format!("{}.{}", quoted(&live.schema), quoted(&wanted));
    let sql = format!("CREATE TABLE {name} AS SELECT * FROM {}", only(live));
    stage.must(&sql, "the safety copy")?;
    closing::relation(stage.session, "TABLE", &name)?;
    let comment = literal(&format!(
        "what {} held before the restore of {}, kept by backstay",
        live.shown(),
        stage.request.started
    ));
    stage.must(&format!("COMMENT ON TABLE {name} IS {comment}"), "the comment of the safety copy")?;
    let owner = "SELECT pg_catalog.pg_get_userbyid(relowner)::text FROM pg_catalog.pg_class WHERE oid = $1";
    let row = stage.session.query_one(owner, &[&live.oid])?;
    let owner: String = stage.session.field(&row, 0)?;
    // Whoever owns what it was made of may drop it; where that cannot be given, the restoring role may.
    stage.may(&format!("ALTER TABLE {name} OWNER TO {}", quoted(&owner)))?.ok();
    Ok(format!("{}.{wanted}", live.schema))
}

/// Loads the rows of a table and of its partitions.
fn fill(stage: &mut Stage<'_>, table: &Replaced<'_>) -> Result<u64, RestoreError> {
    let mut rows = 0;
    for (part, data) in stage.contents.filled(table.item, stage.object())? {
        let Some(file) = &data.file else { continue };
        let columns = columns(stage, data)?;
        let own = data.quoted();
        let by_root = data.root().filter(|_| table.live.kind == 'p');
        let place = Place {
            quoted: by_root.unwrap_or(&own),
            shown: &part.name(),
            columns,
            freeze: by_root.is_none(),
            alone: by_root.is_none(),
        };
        rows += stage.filling.rows(stage.session, &place, file)?;
    }
    Ok(rows)
}

/// Puts a foreign key on again, all rows checked as they were before.
fn put_back(stage: &mut Stage<'_>, key: &Key) -> Result<(), SourceError> {
    let Err(error) = stage.session.try_execute(&key.on())? else { return Ok(()) };
    if !failure::is(&error, &[&SqlState::FOREIGN_KEY_VIOLATION]) {
        let action = format!("the foreign key {} of {} cannot be put back", key.name, key.table);
        return Err(failure::server(stage.object(), &action, &error));
    }
    let message = format!(
        "rows of {} would point at rows that are not in the backup: {}",
        key.table,
        failure::text(&error)
    );
    Err(stage.error(SourceErrorKind::Unwritable, message).with_hint(
        "restore that table too by another `--table`, or leave `--in-place` out and take over single rows from the copy",
    ))
}

/// Makes sequences of the table go on behind the rows of the backup. None is ever set back: numbers that were given out
/// since may stand elsewhere.
fn sequences(stage: &mut Stage<'_>, table: &Item) -> Result<(), SourceError> {
    let contents = stage.contents;
    for owned in &contents.items {
        let is_its = owned.dependencies.contains(&table.id);
        let sequence = match owned.kind.as_str() {
            "SEQUENCE" if is_its => Some(owned),
            "SEQUENCE OWNED BY" if is_its => {
                let below = owned.dependencies.iter().filter_map(|id| contents.get(*id));
                below.into_iter().find(|item| item.is("SEQUENCE"))
            }
            _ => None,
        };
        let Some(sequence) = sequence else { continue };
        let set = |item: &&Item| item.is("SEQUENCE SET") && item.dependencies.contains(&sequence.id);
        let Some(set) = contents.items.iter().find(set) else { continue };
        if relation(stage.session, &sequence.schema, &sequence.tag)?.is_none_or(|live| live.kind != 'S') {
            continue;
        }
        let Some(value) = set.definition.rsplit(", ").nth(1).and_then(|value| value.parse::<i64>().ok())
        else {
            continue;
        };
        let name = sequence.quoted();
        let sql = format!(
            "SELECT (s.seqincrement > 0 AND q.last_value < $1) OR (s.seqincrement < 0 AND q.last_value > $1)
             FROM {name} q, pg_catalog.pg_sequence s WHERE s.seqrelid = {}::regclass",
            literal(&name)
        );
        let row = stage.session.query_one(&sql, &[&value])?;
        if stage.session.field(&row, 0)? {
            stage.must(&set.definition, "the value of a sequence")?;
        }
    }
    Ok(())
}

impl Trigger {
    pub(in crate::postgres::restore) fn off(&self) -> String {
        format!("ALTER TABLE ONLY {} DISABLE TRIGGER {}", self.table, quoted(&self.name))
    }

    pub(in crate::postgres::restore) fn on(&self) -> String {
        let mode = match self.enabled {
            'R' => "ENABLE REPLICA",
            'A' => "ENABLE ALWAYS",
            _ => "ENABLE",
        };
        format!("ALTER TABLE ONLY {} {mode} TRIGGER {}", self.table, quoted(&self.name))
    }
}

impl Key {
    pub(in crate::postgres::restore) fn off(&self) -> String {
        format!("ALTER TABLE {} DROP CONSTRAINT {}", self.table, quoted(&self.name))
    }

    pub(in crate::postgres::restore) fn on(&self) -> String {
        let name = quoted(&self.name);
        let mut sql = format!("ALTER TABLE {} ADD CONSTRAINT {name} {}", self.table, self.definition);
        if let Some(comment) = &self.comment {
            let comment = literal(comment);
            sql.push_str(&format!("; COMMENT ON CONSTRAINT {name} ON {} IS {comment}", self.table));
        }
        sql
    }
}
