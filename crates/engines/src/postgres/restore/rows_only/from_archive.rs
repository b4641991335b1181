//! Rows of an archive: which of its tables are meant, where those are by now, and their rows loaded as the archive has them.

use super::places::{Found, Wanted, is_empty};
use super::sequences::Value;
use crate::postgres::restore::chosen::contents::Contents;
use crate::postgres::restore::chosen::stage::{Live, Stage, relation};
use crate::postgres::restore::fill::Place;
use crate::postgres::restore::items::{self, Item};
use crate::postgres::restore::{archive, scratch, tables};
use crate::postgres::session::Session;
use crate::postgres::statements::{names_of, sequence_value};
use crate::restore::RestoreError;
use flow::{BackupReader, SourceError, SourceErrorKind};
use std::collections::BTreeMap;

/// What an archive has.
pub(super) struct Archive {
    pub(super) contents: Contents,
    pub(super) encoding: String,
}

impl Archive {
    pub(super) fn read(session: &mut Session, backup: &dyn BackupReader) -> Result<Self, RestoreError> {
        let toc = archive::read(backup)?;
        let encoding = scratch::encoding_of(&toc);
        let contents = Contents::new(items::read(session, &toc, &encoding)?);
        Ok(Self { contents, encoding })
    }

    /// Returns the rows that are meant, in the archive's order: of all tables, or of those that are named, with their
    /// partitions.
    pub(super) fn chosen(&self, named: &[String], object: &str) -> Result<Vec<&Item>, SourceError> {
        let all = || self.contents.items.iter().filter(|item| item.has_rows());
        let invalid = |message: String, hint: &str| {
            Err(SourceError::new(SourceErrorKind::Invalid, object, message).with_hint(hint))
        };
        if all().next().is_none() {
            return invalid(
                "the backup has no rows: it is one of definitions alone".to_owned(),
                "name another one: `backstay list` shows which were made of a part",
            );
        }
        if named.is_empty() {
            return Ok(all().collect());
        }
        let mut ids = Vec::new();
        for name in named {
            let own: Vec<&Item> = all().filter(|item| *name == item.tag || *name == item.name()).collect();
            if own.len() > 1 {
                return invalid(format!("the backup has several tables {name}"), "write SCHEMA.TABLE");
            }
            let root = self.contents.table(name, object).ok();
            let parts = root.map(|root| self.contents.partitions(root)).unwrap_or_default();
            let parts = parts.into_iter().filter_map(|part| self.contents.rows_of(part));
            let by_root = all().filter(|item| destination(item).is_some_and(|root| root.is_called(name)));
            let found: Vec<i32> = own.into_iter().chain(parts).chain(by_root).map(|item| item.id).collect();
            if found.is_empty() {
                return invalid(
                    format!("the backup has no rows of a table {name}"),
                    "`backstay show` lists its tables; write SCHEMA.TABLE",
                );
            }
            ids.extend(found);
        }
        Ok(all().filter(|item| ids.contains(&item.id)).collect())
    }

    /// Returns where rows are to go.
    pub(super) fn wanted(
        chosen: &[&Item],
        backup: &dyn BackupReader,
        object: &str,
    ) -> Result<Vec<Wanted>, RestoreError> {
        let mut wanted = Vec::new();
        for item in chosen {
            let columns = item.columns().ok_or_else(|| {
                let message =
                    format!("the archive's statement for the rows of {} is not one of ours", item.name());
                SourceError::new(SourceErrorKind::Invalid, object, message)
            })?;
            let file = item.file.as_deref().unwrap_or_default();
            let rows = tables::rows(archive::entry(backup.manifest(), file)?)?.rows;
            let own =
                Wanted { schema: Some(item.schema.clone()), name: item.tag.clone(), columns: None, rows };
            let columns = Some(names_of(columns)).filter(|columns| !columns.is_empty());
            wanted.push(Wanted { columns, rows, ..destination(item).unwrap_or(own) });
        }
        Ok(wanted)
    }

    /// Returns what its sequences had.
    pub(super) fn values(&self, session: &mut Session) -> Result<Vec<Value>, SourceError> {
        let mut values = Vec::new();
        for item in self.contents.items.iter().filter(|item| item.is("SEQUENCE SET")) {
            let Some((_, value, called)) = sequence_value(item.definition.trim()) else { continue };
            let live = relation(session, &item.schema, &item.tag)?;
            let oid = live.filter(|live| live.kind == 'S').map(|live| live.oid);
            values.push(Value { oid, shown: item.name(), value, called });
        }
        Ok(values)
    }
}

/// Returns the partitioned table that rows are loaded by, where they may belong to another partition now.
fn destination(item: &Item) -> Option<Wanted> {
    let mut names = names_of(item.root()?);
    let name = names.pop()?;
    Some(Wanted { schema: names.pop(), name, columns: None, rows: None })
}

/// Loads rows, in the transaction that is open. Returns how many there are. Those of a table that had none, and gets them from
/// one place, are read back and compared.
pub(super) fn load(stage: &mut Stage<'_>, chosen: &[&Item], found: &Found) -> Result<u64, RestoreError> {
    let mut shares: BTreeMap<u32, usize> = BTreeMap::new();
    for live in found.live.iter().flatten() {
        *shares.entry(live.oid).or_default() += 1;
    }
    let mut rows = 0;
    for (item, live) in chosen.iter().zip(&found.live) {
        let (Some(live), Some(file)) = (live, &item.file) else { continue };
        let alone = live.kind == 'r' && shares.get(&live.oid) == Some(&1) && is_empty(stage.session, live)?;
        rows += one(stage, item, live, (file, alone))?;
    }
    Ok(rows)
}

fn one(
    stage: &mut Stage<'_>,
    item: &Item,
    live: &Live,
    (file, alone): (&str, bool),
) -> Result<u64, RestoreError> {
    let quoted = live.quoted();
    let place = Place {
        quoted: &quoted,
        shown: &live.shown(),
        columns: item.columns().unwrap_or_default(),
        freeze: false,
        alone,
    };
    stage.filling.rows(stage.session, &place, file)
}
