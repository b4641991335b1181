//! What a backup holds, asked by table: which table a name means, its partitions, its rows.

use crate::postgres::restore::items::Item;
use crate::postgres::statements::{after_word, statements};
use flow::{SourceError, SourceErrorKind};
use std::collections::BTreeMap;

/// The items of a backup.
pub(in crate::postgres::restore) struct Contents {
    /// In the archive's order.
    pub(in crate::postgres::restore) items: Vec<Item>,
    by_id: BTreeMap<i32, usize>,
}

impl Contents {
    pub(in crate::postgres::restore) fn new(items: Vec<Item>) -> Self {
        let by_id = items.iter().enumerate().map(|(at, item)| (item.id, at)).collect();
        Self { items, by_id }
    }

    pub(in crate::postgres::restore) fn get(&self, id: i32) -> Option<&Item> {
        self.by_id.get(&id).and_then(|at| self.items.get(*at))
    }

    /// Returns the table that a person means, by its name with its schema or without.
    pub(in crate::postgres::restore) fn table(&self, name: &str, object: &str) -> Result<&Item, SourceError> {
        let invalid = |message: String, hint: &str| {
            Err(SourceError::new(SourceErrorKind::Invalid, object, message).with_hint(hint))
        };
        let called = |item: &&Item| item.is("TABLE") && (name == item.tag || name == item.name());
        let found: Vec<&Item> = self.items.iter().filter(called).collect();
        match found[..] {
            [table] => Ok(table),
            [] => invalid(
                format!("the backup has no table {name}"),
                "`backstay show` lists its tables; write SCHEMA.TABLE",
            ),
            _ => invalid(format!("the backup has several tables {name}"), "write SCHEMA.TABLE"),
        }
    }

    /// Returns the partitions of a table, those of partitions too; nothing for one that has none.
    pub(in crate::postgres::restore) fn partitions(&self, root: &Item) -> Vec<&Item> {
        let mut found: Vec<&Item> = Vec::new();
        let mut waiting = vec![root];
        while let Some(parent) = waiting.pop() {
            for item in &self.items {
                let Some(child) = self.attached(item, parent) else { continue };
                if found.iter().all(|known| known.id != child.id) {
                    found.push(child);
                    waiting.push(child);
                }
            }
        }
        found
    }

    /// Returns the partition that an item makes one of `parent`.
    fn attached<'a>(&'a self, item: &'a Item, parent: &Item) -> Option<&'a Item> {
        if !item.dependencies.contains(&parent.id) || item.id == parent.id {
            return None;
        }
        if item.is("TABLE") {
            let first = statements(&item.definition).first().copied().unwrap_or_default();
            return after_word(first, "PARTITION").is_some_and(|rest| rest.starts_with("OF")).then_some(item);
        }
        let same = |table: &&Item| table.is("TABLE") && table.schema == item.schema && table.tag == item.tag;
        self.items.iter().find(same).filter(|child| item.is("TABLE ATTACH") && child.id != parent.id)
    }

    /// Returns the rows of a table itself, without those of its partitions.
    pub(in crate::postgres::restore) fn rows_of(&self, table: &Item) -> Option<&Item> {
        self.items.iter().find(|item| item.has_rows() && item.schema == table.schema && item.tag == table.tag)
    }

    /// Returns what holds the rows of a table: of a partitioned one each of its partitions.
    pub(in crate::postgres::restore) fn filled<'a>(
        &'a self,
        table: &'a Item,
        object: &str,
    ) -> Result<Vec<(&'a Item, &'a Item)>, SourceError> {
        let mut filled = Vec::new();
        for one in std::iter::once(table).chain(self.partitions(table)) {
            match self.rows_of(one) {
                Some(rows) => filled.push((one, rows)),
                None if one.is_partitioned() => {}
                None => {
                    let message =
                        format!("the backup has no rows of {}: it was made without them", one.name());
                    return Err(SourceError::new(SourceErrorKind::Invalid, object, message).with_hint(
                        "name a backup that has them: `backstay list` shows which were made of a part",
                    ));
                }
            }
        }
        Ok(filled)
    }
}
