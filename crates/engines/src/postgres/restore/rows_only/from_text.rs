//! Rows of SQL text: of all that stands in it, `COPY` and `INSERT`, the settings that they are read by, values of sequences and
//! large objects. Definitions, owners and rights are passed over, so a whole dump serves as well as one of rows alone.
//!
//! That can be told of a text only where nothing in it changes rows unseen: another one is refused before anything is done.

use super::places::{Found, Wanted};
use super::sequences::Value;
use crate::postgres::failure;
use crate::postgres::restore::chosen::replace::only;
use crate::postgres::restore::chosen::stage::{Live, Stage};
use crate::postgres::restore::script::loading::Loading;
use crate::postgres::restore::script::{refuse_another, rows};
use crate::postgres::restore::{archive, keeper::Keeper};
use crate::postgres::script::{
    Keep, Meaning, Passing, Piece, SCRIPT_ENTRY, ScriptFacts, ScriptReader, filled, meaning, setting,
};
use crate::postgres::session::Session;
use crate::postgres::statements::{after_word, names_of, sequence_value};
use crate::restore::RestoreError;
use flow::{Context, Severity, SourceError, SourceErrorKind};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

/// The settings by which rows are read.
const SETTINGS: [&str; 9] = [
    "standard_conforming_strings",
    "search_path",
    "datestyle",
    "intervalstyle",
    "timezone",
    "xmloption",
    "backslash_quote",
    "array_nulls",
    "lc_monetary",
];

/// What a text has rows of.
pub(super) struct Text {
    /// The tables as the text calls them, in the order of `wanted`.
    names: Vec<String>,
    pub(super) wanted: Vec<Wanted>,
    facts: ScriptFacts,
    /// Whether these are all that it has.
    is_all: bool,
}

impl Text {
    /// Finds out which rows are meant. Fails where they cannot be told from the rest.
    pub(super) fn of(facts: ScriptFacts, named: &[String], object: &str) -> Result<Self, SourceError> {
        if let Some((line, statement)) = &facts.unclear {
            let message = format!(
                "line {line}: `{statement}` changes rows in a way that does not show, so its rows cannot be told from the rest"
            );
            return Err(SourceError::new(SourceErrorKind::Unsupported, object, message).with_hint(
                "restore all of it to a new database and take the rows from there, or leave that statement out; of an archive \
                 (`pg_dump -Fc`) they always can",
            ));
        }
        let invalid = |message: String| SourceError::new(SourceErrorKind::Invalid, object, message);
        if facts.loaded.is_empty() {
            return Err(invalid("it has no rows".to_owned()).with_hint("name a dump that has them"));
        }
        let (mut names, mut wanted) = (Vec::new(), Vec::new());
        for (name, rows) in &facts.loaded {
            let mut parts = names_of(name);
            let own = parts.pop().unwrap_or_default();
            let columns = facts.columns.get(name).cloned();
            let one = Wanted { schema: parts.pop(), name: own, columns, rows: *rows };
            if named.is_empty() || named.iter().any(|name| one.is_called(name)) {
                names.push(name.clone());
                wanted.push(one);
            }
        }
        for name in named {
            let count = wanted.iter().filter(|one| one.is_called(name)).count();
            if count != 1 {
                let many = if count == 0 { "no rows of a table" } else { "rows of several tables" };
                return Err(invalid(format!("it has {many} {name}"))
                    .with_hint("write SCHEMA.TABLE, as the dump calls it"));
            }
        }
        Ok(Self { names, wanted, facts, is_all: named.is_empty() })
    }
}

/// What was loaded.
#[derive(Default)]
pub(super) struct Loaded {
    pub(super) rows: u64,
    pub(super) values: Vec<Value>,
    /// Why something that is said of a large object could not be done.
    left_out: Option<String>,
    /// The tables that got rows by `INSERT`, each with what it had before and how many it must have more, where that is
    /// known.
    inserted: BTreeMap<String, (u64, Option<u64>)>,
}

/// A text on its way into the tables.
struct Way<'a, 'b> {
    loading: Loading<'a>,
    live: BTreeMap<&'b str, Option<&'b Live>>,
    is_all: bool,
    verify: bool,
    loaded: Loaded,
}

/// Loads rows, in the transaction that is open.
pub(super) fn load(
    stage: &mut Stage<'_>,
    text: &Text,
    found: &Found,
    (keeper, context): (&Keeper, &Context),
) -> Result<Loaded, RestoreError> {
    let backup = stage.filling.backup;
    let manifest = backup.manifest();
    // A text is written for what a session has by itself.
    let defaults: Vec<String> = SETTINGS.iter().map(|name| format!("SET LOCAL {name} TO DEFAULT")).collect();
    stage.session.execute(&defaults.join("; "))?;
    let entry = archive::entry(manifest, SCRIPT_ENTRY)?;
    let reader = backup.read(&entry.name, 0..entry.size_bytes)?;
    let mut reader = ScriptReader::new(Passing::new(reader, context), Keep::All);
    let nobody = BTreeSet::new();
    let target = (keeper.object.as_str(), keeper.target.as_str());
    let ownership = &stage.request.ownership;
    let loading = Loading::new(&mut *stage.session, target, manifest, ownership, &nobody, BTreeSet::new());
    let mut way = Way {
        loading: loading.into_live(),
        live: text.names.iter().map(String::as_str).zip(found.live.iter().map(Option::as_ref)).collect(),
        is_all: text.is_all,
        verify: stage.request.verify,
        loaded: Loaded::default(),
    };
    let outcome = way.run(&mut reader);
    context.cancel.check().map_err(|_| SourceError::cancelled(target.0))?;
    outcome?;
    refuse_another(&reader.inner().sum(), &text.facts, manifest)?;
    let Way { loaded, .. } = way;
    if let Some(why) = &loaded.left_out {
        let message = format!("not all owners, rights and comments of large objects could be given: {why}");
        stage.tell(Severity::Warning, message, None);
    }
    stage.session.execute("SET LOCAL search_path = ''")?;
    Ok(loaded)
}

impl Way<'_, '_> {
    fn run<R: Read>(&mut self, reader: &mut ScriptReader<R>) -> Result<(), RestoreError> {
        while let Some(piece) = reader.next().map_err(|broken| self.loading.unread(broken))? {
            if piece != Piece::Statement {
                continue;
            }
            let line = reader.began();
            let rows = reader.inserted();
            let text = self.loading.decoded(line, reader.take_statement())?;
            match meaning(&text) {
                Meaning::Insert => self.insert(line, &text, rows)?,
                Meaning::Copy => self.copy(line, &text, reader)?,
                meaning => {
                    self.loading.flush()?;
                    self.other(line, text, meaning)?;
                }
            }
        }
        self.loading.flush()?;
        if self.verify { self.count() } else { Ok(()) }
    }

    /// Returns the table that a statement fills; `None` where its rows are passed over.
    fn table(&self, line: u64, text: &str, meaning: Meaning) -> Result<Option<(String, Live)>, SourceError> {
        let name = filled(text, meaning).map(|(name, _)| name).unwrap_or_default();
        match self.live.get(name.as_str()) {
            Some(live) => Ok(live.map(|live| (name, live.clone()))),
            None if !self.is_all => Ok(None),
            None => {
                let message = format!(
                    "line {line}: the name of the table could not be read when the text was looked through"
                );
                Err(SourceError::new(SourceErrorKind::Unsupported, self.loading.object, message)
                    .with_hint("`iconv` makes UTF-8 of it; change its `SET client_encoding` too"))
            }
        }
    }

    fn insert(&mut self, line: u64, text: &str, rows: Option<u64>) -> Result<(), RestoreError> {
        let Some((name, live)) = self.table(line, text, Meaning::Insert)? else { return Ok(()) };
        if self.verify && !self.loaded.inserted.contains_key(&name) {
            self.loading.flush()?;
            let before = count(self.loading.session, &live)?;
            self.loaded.inserted.insert(name.clone(), (before, Some(0)));
        }
        if let Some((_, more)) = self.loaded.inserted.get_mut(&name) {
            *more = more.zip(rows).map(|(more, rows)| more + rows);
        }
        self.loaded.rows += rows.unwrap_or(0);
        Ok(self.loading.insert(line, text)?)
    }

    fn copy<R: Read>(
        &mut self,
        line: u64,
        text: &str,
        reader: &mut ScriptReader<R>,
    ) -> Result<(), RestoreError> {
        let Some((name, _)) = self.table(line, text, Meaning::Copy)? else {
            reader.begin_rows();
            while reader.next_rows().map_err(|broken| self.loading.unread(broken))?.is_some() {}
            return Ok(());
        };
        self.loading.flush()?;
        let rows = rows::copy(&mut self.loading, line, text, reader)?;
        self.loaded.rows += rows;
        if let Some((_, Some(more))) = self.loaded.inserted.get_mut(&name) {
            *more += rows;
        }
        Ok(())
    }

    fn other(&mut self, line: u64, text: String, meaning: Meaning) -> Result<(), RestoreError> {
        let is_call = |name: &str| {
            text.split_ascii_whitespace()
                .nth(1)
                .is_some_and(|word| word.to_ascii_lowercase().starts_with(name))
        };
        let runs = match meaning {
            Meaning::Encoding => return Ok(self.loading.statement(line, text, meaning)?),
            Meaning::Setting => {
                let set = SETTINGS.iter().any(|name| setting(text.as_bytes(), name).is_some());
                set || (is_call("pg_catalog.set_config(") && text.contains("search_path"))
            }
            Meaning::Other if is_call("pg_catalog.setval(") => return Ok(self.value(&text)?),
            Meaning::Other => self.is_all && (is_call("pg_catalog.lo_") || is_call("pg_catalog.lowrite(")),
            _ => false,
        };
        if text.get(..8).is_some_and(|word| word.eq_ignore_ascii_case("ROLLBACK")) {
            let message = format!("line {line}: it takes back a part of what it does");
            return Err(SourceError::new(SourceErrorKind::Unsupported, self.loading.object, message)
                .with_hint("restore all of it to a new database, and take the rows from there")
                .into());
        }
        if self.is_all && after_word(&text, "LARGE").is_some_and(|rest| rest.starts_with("OBJECT ")) {
            let done = self.loading.session.try_apart(&text)?;
            self.loaded.left_out =
                self.loaded.left_out.take().or(done.err().map(|error| failure::text(&error)));
            return Ok(());
        }
        if !runs {
            return Ok(());
        }
        let done = self.loading.session.try_execute(&text)?;
        Ok(done.map_err(|error| self.loading.failed(line, &text, &error))?)
    }

    /// Keeps what a sequence had, for the end. The name is meant as the text stands there.
    fn value(&mut self, text: &str) -> Result<(), SourceError> {
        let Some((name, value, called)) = sequence_value(text) else { return Ok(()) };
        let session = &mut *self.loading.session;
        let row = session.query_one("SELECT pg_catalog.to_regclass($1)::oid", &[&name])?;
        let oid: Option<u32> = session.field(&row, 0)?;
        self.loaded.values.push(Value { oid, shown: name, value, called });
        Ok(())
    }

    /// Compares how many rows tables got by `INSERT` with how many stand in the text.
    fn count(&mut self) -> Result<(), RestoreError> {
        for (name, (before, more)) in &self.loaded.inserted {
            let (Some(Some(live)), Some(more)) = (self.live.get(name.as_str()), more) else { continue };
            let now = count(self.loading.session, live)?;
            // Rows of a partitioned table may come by the names of its partitions too.
            if now < before + more || (live.kind != 'p' && now != before + more) {
                let found = i128::from(now) - i128::from(*before);
                let message =
                    format!("{} has {found} more rows than before, and the text has {more}", live.shown());
                return Err(SourceError::new(SourceErrorKind::Damaged, self.loading.target, message)
                    .with_hint("a rule of the table may change what is put into it; `--no-verify` accepts it")
                    .into());
            }
        }
        Ok(())
    }
}

fn count(session: &mut Session, live: &Live) -> Result<u64, SourceError> {
    let row = session.query_one(&format!("SELECT count(*) FROM {}", only(live)), &[])?;
    let rows: i64 = session.field(&row, 0)?;
    Ok(u64::try_from(rows).unwrap_or(0))
}
