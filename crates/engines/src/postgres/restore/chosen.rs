//! Chosen tables of a backup, made beside the live ones: `orders` as `orders__restored_20261121t020000z`, with its columns
//! and rows, without indexes, constraints and rights.
//!
//! All is done in one transaction of the target's database, and compared with the backup before it is committed: a crash
//! leaves nothing, so there is no record and nothing to be continued.

use super::archive::{self, entry, rows_file};
use super::load::chunk;
use super::names::{fitted, quoted};
use super::tables::{columns, decoded, rows};
use super::verify;
use crate::postgres::archive::{Entry, TableOfContents};
use crate::postgres::session::{self, Session};
use crate::postgres::statements::{after_word, statements, with_relation};
use crate::postgres::{failure, targets};
use crate::restore::{
    Restore, RestoreError, RestoreMode, RestorePlan, RestoreRequest, RestoreState, RestoreStep, Standing,
};
use flow::{
    BackupReader, Cancel, Context, Event, Finding, Manifest, ManifestEntry, Phase, Severity, SourceError,
    SourceErrorKind,
};

const CHUNK_BYTES: usize = 512 << 10;

struct ChosenRestore {
    state: RestoreState,
    plan: RestorePlan,
    context: Context,
    /// The tables that were made, for statements.
    made: Vec<String>,
}

/// A table of the archive that is wanted.
struct Wanted<'a> {
    definition: &'a Entry,
    data: &'a Entry,
}

/// Plans it. Connects to nothing yet.
pub(super) fn begin(
    request: &RestoreRequest,
    manifest: &Manifest,
    context: Context,
) -> Result<Box<dyn Restore>, RestoreError> {
    if request.mode != RestoreMode::Swap {
        let message = "single tables are restored beside the live ones only";
        let object = request.target.connection.clone();
        return Err(SourceError::new(SourceErrorKind::Invalid, object, message)
            .with_hint("leave `--in-place` and `--to-new` out")
            .into());
    }
    let stamp = ending(request);
    let mut actions: Vec<String> = request
        .tables
        .iter()
        .map(|table| format!("Make the table {table}{stamp} of the backup's {table}, beside what is there."))
        .collect();
    if request.verify {
        actions.push(
            "Read its rows back, and compare them with the backup, before they are committed.".to_owned(),
        );
    }
    let plan = RestorePlan {
        steps: vec![RestoreStep::Preflight, RestoreStep::Beside, RestoreStep::Finish],
        actions,
        write_bytes: manifest.entries.iter().map(|entry| entry.size_bytes).sum(),
        needed_bytes: 0,
        free_bytes: None,
        safety_copy: None,
        holders: Vec::new(),
        ends_holders: true,
        problems: Vec::new(),
    };
    let state = RestoreState {
        request: request.clone(),
        step: RestoreStep::Preflight,
        completed: false,
        rolling_back: false,
        safety_copy: None,
        owner_alive: true,
        notes: serde_json::Value::Null,
        engine: serde_json::Value::Null,
    };
    Ok(Box::new(ChosenRestore { state, plan, context, made: Vec::new() }))
}

fn ending(request: &RestoreRequest) -> String {
    format!("__restored_{}", request.started.strftime("%Y%m%dt%H%M%Sz"))
}

impl ChosenRestore {
    fn object(&self) -> &str {
        &self.state.request.target.connection
    }

    fn invalid(&self, message: String, hint: &str) -> SourceError {
        SourceError::new(SourceErrorKind::Invalid, self.object(), message).with_hint(hint)
    }

    /// Finds a table in the archive by its name, with its schema or without.
    fn wanted<'a>(&self, toc: &'a TableOfContents, name: &str) -> Result<Wanted<'a>, SourceError> {
        let called = |entry: &&'a Entry| {
            let text = |bytes: &Option<Vec<u8>>| {
                String::from_utf8_lossy(bytes.as_deref().unwrap_or_default()).into_owned()
            };
            let (schema, tag) = (text(&entry.schema), text(&entry.tag));
            name == tag || name == format!("{schema}.{tag}")
        };
        let found: Vec<&Entry> =
            toc.entries.iter().filter(|entry| entry.is("TABLE")).filter(called).collect();
        let [definition] = found[..] else {
            return Err(match found.is_empty() {
                true => self.invalid(
                    format!("the backup has no table {name}"),
                    "`backstay show` lists its tables; write SCHEMA.TABLE",
                ),
                false => self.invalid(format!("the backup has several tables {name}"), "write SCHEMA.TABLE"),
            });
        };
        let of_it = |data: &&Entry| {
            rows_file(data).is_some() && (&data.schema, &data.tag) == (&definition.schema, &definition.tag)
        };
        let data = toc.entries.iter().find(of_it).ok_or_else(|| {
            let message =
                format!("the backup has no rows of {name}: it is partitioned, or was backed up without");
            self.invalid(message, "name its partitions instead")
        })?;
        Ok(Wanted { definition, data })
    }

    fn connect(&self, cancel: &Cancel) -> Result<Session, SourceError> {
        let settings = targets::settings(self.object(), None, &self.context)?;
        session::connect(&settings, None, self.object(), cancel)
    }

    /// Makes all tables, in one transaction.
    fn make(&mut self, backup: &dyn BackupReader) -> Result<(), RestoreError> {
        let toc = archive::read(backup)?;
        let mut session = self.connect(&self.context.cancel)?;
        if let Some(money) =
            backup.manifest().facts.properties.get("lc_monetary").and_then(|name| name.as_str())
        {
            session.try_execute(&format!("SET lc_monetary = {}", super::names::literal(money)))?.ok();
        }
        session.execute("BEGIN")?;
        let mut made = Vec::new();
        let names = self.state.request.tables.clone();
        for name in &names {
            let wanted = self.wanted(&toc, name)?;
            made.push(self.table(&mut session, &toc, &wanted, backup)?);
        }
        session.execute("COMMIT")?;
        for (name, new) in names.iter().zip(&made) {
            self.context.observer.event(Event::Finding(Finding {
                severity: Severity::Notice,
                object: self.object().to_owned(),
                message: format!("the backup's {name} is there as {new}"),
                hint: Some(format!("DROP TABLE {new} when it is not needed any more")),
            }));
        }
        self.made = made;
        Ok(())
    }

    /// Makes one table and returns its name for statements.
    fn table(
        &self,
        session: &mut Session,
        toc: &TableOfContents,
        wanted: &Wanted<'_>,
        backup: &dyn BackupReader,
    ) -> Result<String, RestoreError> {
        let encoding = super::scratch::encoding_of(toc);
        let bytes = |text: &Option<Vec<u8>>| text.clone().unwrap_or_default();
        let (schema, tag) = (bytes(&wanted.data.schema), bytes(&wanted.data.tag));
        let name = [&b"\""[..], &doubled(&schema), b"\".\"", &doubled(&tag), b"\""].concat();
        let columns = columns(wanted.data, &name, &String::from_utf8_lossy(&tag), self.object())?;
        let texts = vec![bytes(&wanted.definition.definition), schema, tag, columns];
        let texts = decoded(session, texts, &encoding)?;
        let [definition, schema, tag, columns] = &texts[..] else {
            return Err(self.invalid("its names cannot be read".to_owned(), "see the server's log").into());
        };
        let new = fitted(tag, &ending(&self.state.request));
        let shown = format!("{}.{}", quoted(schema), quoted(&new));
        self.define(session, definition, (schema, tag), &new)?;
        let file = rows_file(wanted.data).unwrap_or_default();
        self.fill(
            session,
            &format!("COPY {shown} {columns}"),
            &encoding,
            entry(backup.manifest(), file)?,
            backup,
        )?;
        Ok(shown)
    }

    fn define(
        &self,
        session: &mut Session,
        definition: &str,
        (schema, tag): (&str, &str),
        new: &str,
    ) -> Result<(), SourceError> {
        for statement in statements(definition) {
            if after_word(statement, "INHERITS").is_some() {
                let message = format!("{schema}.{tag} inherits columns from another table");
                return Err(self.invalid(message, "restore the database to a new one with `--to-new`"));
            }
            let statement = with_relation(statement, schema, tag, new);
            session.try_execute(&statement)?.map_err(|error| {
                failure::server(self.object(), &format!("the table {schema}.{new} cannot be made"), &error)
            })?;
        }
        Ok(())
    }

    /// Loads the rows of an entry, reads them back, and compares them. `copy` is the beginning of the statement.
    fn fill(
        &self,
        session: &mut Session,
        copy: &str,
        encoding: &str,
        entry: &ManifestEntry,
        backup: &dyn BackupReader,
    ) -> Result<(), RestoreError> {
        let told = |error: &tokio_postgres::Error| {
            failure::server(self.object(), "the rows cannot be loaded", error)
        };
        let rows = rows(entry)?;
        let encoding = encoding.replace('\'', "''");
        let sql = format!("{copy} FROM STDIN (FREEZE, ENCODING '{encoding}')");
        let mut sink = session.begin_copy_in(&sql)?.map_err(|error| told(&error))?;
        for (range, _) in &rows.parts {
            let mut left = range.end.saturating_sub(range.start);
            let mut reader = backup.read(&entry.name, range.clone())?;
            while left > 0 {
                let bytes = chunk(&mut *reader, left, CHUNK_BYTES, &entry.name)?;
                left -= bytes.len() as u64;
                self.context.observer.event(Event::Bytes(bytes.len() as u64));
                session.put_copy(&mut sink, bytes)?.map_err(|error| told(&error))?;
            }
        }
        let loaded = session.end_copy(&mut sink)?.map_err(|error| told(&error))?;
        drop(sink);
        let found = match self.state.request.verify {
            true => {
                let sql = format!("{copy} TO STDOUT (ENCODING '{encoding}')");
                verify::read(session, &sql, entry.name.as_str(), self.object(), |_| ())?
            }
            false => (loaded, rows.digest.unwrap_or_default()),
        };
        let differs = rows.rows.is_some_and(|rows| rows != found.0)
            || rows.digest.is_some_and(|digest| digest != found.1);
        if differs {
            let message = format!("the rows of {copy} are not those of the backup");
            return Err(SourceError::new(SourceErrorKind::Damaged, self.object(), message).into());
        }
        Ok(())
    }
}

fn doubled(name: &[u8]) -> Vec<u8> {
    let mut made = Vec::with_capacity(name.len());
    for byte in name {
        made.push(*byte);
        if *byte == b'"' {
            made.push(b'"');
        }
    }
    made
}

impl Restore for ChosenRestore {
    fn plan(&self) -> &RestorePlan {
        &self.plan
    }

    fn steps(&self) -> &[RestoreStep] {
        &self.plan.steps
    }

    fn run(&mut self, step: RestoreStep, backup: &dyn BackupReader) -> Result<(), RestoreError> {
        self.context.cancel.check().map_err(|_| SourceError::cancelled(self.object()))?;
        (self.state.step, self.state.completed) = (step, false);
        match step {
            RestoreStep::Preflight => {
                let toc = archive::read(backup)?;
                for name in &self.state.request.tables {
                    self.wanted(&toc, name)?;
                }
                self.connect(&self.context.cancel)?;
            }
            RestoreStep::Beside if self.made.is_empty() => {
                let name = format!("loading tables of {}", self.state.request.target.name);
                self.context.observer.event(Event::Phase(Phase { name, total_bytes: None }));
                self.make(backup)?;
            }
            _ => {}
        }
        self.state.completed = true;
        Ok(())
    }

    fn note(&mut self, notes: serde_json::Value) -> Result<(), SourceError> {
        self.state.notes = notes;
        Ok(())
    }

    fn state(&self) -> RestoreState {
        self.state.clone()
    }

    /// The live tables are never touched.
    fn standing(&self) -> Standing {
        Standing::Old
    }

    fn roll_back(&mut self) -> Result<(), RestoreError> {
        if !self.made.is_empty() {
            let mut session = self.connect(&Cancel::new())?;
            session.execute(&format!("DROP TABLE IF EXISTS {}", self.made.join(", ")))?;
            self.made.clear();
        }
        Ok(())
    }
}
