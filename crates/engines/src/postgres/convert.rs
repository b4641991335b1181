//! Dumps of other makes as dumps of ours: archives as they lie, SQL text by way of a throwaway server into which it is loaded as
//! a restore loads it, and from which it is dumped as any database is.
//!
//! What that server made up is left out of it: its roles, its locale where the text names none. A crash ends the server.

use super::archive::TableOfContents;
use super::dump::{self, GLOBALS_ENTRY, TOC_ENTRY, in_parts};
use super::given::{BytesPart, Given, GivenPart};
use super::{foreign, needs, trial};
use crate::engine::{Converted, ExportForm, LoadRequest};
use flow::{
    BackupReader, Content, Context, DatabaseRef, DatabaseRequest, Dump, DumpOptions, DumpRequest, Dumped,
    EntryName, Layout, OpenPart, PartReader, Selection, SourceError, SourceErrorKind, Step, TargetRef,
};
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Who owns in the throwaway server what the text gives to nobody.
const SUPERUSER: &[u8] = b"postgres";
const BUFFER_BYTES: usize = 256 << 10;
const ARCHIVES: &str = "import an archive (`pg_dump -Fc`), which takes no server";
/// Tells how many tables a database has that may have rows.
const TABLES: &str =
    "SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";

/// Gives a dump that is one file as a dump of ours.
pub(super) fn convert(
    request: LoadRequest<'_>,
    database: &DatabaseRef,
    context: &Context,
) -> Result<Converted, SourceError> {
    match request.form {
        ExportForm::Sql => text(request, database, context),
        _ => foreign::convert(request, database, context),
    }
}

fn text(
    request: LoadRequest<'_>,
    database: &DatabaseRef,
    context: &Context,
) -> Result<Converted, SourceError> {
    let object = request.object.to_owned();
    let made = trial::make(request, database.name.as_str(), ARCHIVES, context)?;
    let said = table_of_contents(made.backup.as_ref(), &object)?;
    let facts = &made.backup.manifest().facts;
    let tables = made.server.sql(made.database.name.as_str(), TABLES)?;
    let selection = (facts.tables.is_empty() && tables != "0").then(|| Selection {
        content: Content::Schema,
        tables: vec![],
        schemas: vec![],
        exclude_table_data: vec![],
    });
    let text = TextDump {
        object,
        made_by: facts.engine_version.clone(),
        selection: selection.clone(),
        names_its_database: said.entries.iter().any(|entry| {
            entry.is("DATABASE") && entry.definition.as_ref().is_some_and(|text| !text.is_empty())
        }),
        names_superuser: needs::needs(&said).owners.iter().any(|owner| owner.as_bytes() == SUPERUSER),
        inner: dump::begin(&dump_of(&made.database), made.context.clone())?,
        database: made.database.clone(),
        state: Mutex::default(),
        given: Arc::default(),
        context: context.clone(),
    };
    Ok(Converted { dump: Box::new(text), selection, served_by: Some(Box::new(made)) })
}

fn dump_of(database: &DatabaseRef) -> DumpRequest {
    DumpRequest {
        target: TargetRef {
            name: database.target.clone(),
            engine: flow::EngineKind::Postgres,
            connection: database.connection.clone(),
            secret: None,
            tenants: None,
        },
        databases: vec![DatabaseRequest { database: database.clone(), previous: None }],
        options: DumpOptions { jobs: 1, ..DumpOptions::default() },
    }
}

/// Reads what a text says of its database and of the server that takes it.
fn table_of_contents(backup: &dyn BackupReader, object: &str) -> Result<TableOfContents, SourceError> {
    let failed = |error: String| SourceError::new(SourceErrorKind::Failed, object, error);
    let name = EntryName::new(TOC_ENTRY).map_err(|error| failed(error.to_string()))?;
    let size_bytes = backup.manifest().entry(&name).map_or(0, |entry| entry.size_bytes);
    let bytes = backup.read(&name, 0..size_bytes).map_err(|error| failed(error.to_string()))?;
    TableOfContents::read(bytes).map_err(|error| failed(format!("what it says of itself {error}")))
}

/// The dump of a database that a text was loaded into.
struct TextDump {
    inner: Box<dyn Dump>,
    object: String,
    /// The database of the throwaway server.
    database: DatabaseRef,
    /// The server that the text is of.
    made_by: String,
    selection: Option<Selection>,
    /// Whether the text gives something to a role that is called as the throwaway server's superuser is.
    names_superuser: bool,
    /// Whether the text says with which encoding and locale its database is made.
    names_its_database: bool,
    state: Mutex<State>,
    given: Arc<Given>,
    context: Context,
}

#[derive(Default)]
struct State {
    /// The parts of the table of contents that came.
    came: BTreeMap<u32, Vec<u8>>,
    /// Those that are to be given instead.
    ready: VecDeque<(u32, Vec<u8>)>,
    /// How many bytes were left out, or came to it.
    left_out_bytes: u64,
    added_bytes: u64,
    /// What a server must have, by the table of contents that is given.
    needs: Option<(String, serde_json::Value)>,
    /// The verdict, until all that is ready was given.
    done: Option<Dumped>,
}

/// Reads a part to its end: of the table of contents, or of the server's roles.
fn whole(mut reader: Box<dyn PartReader>) -> Result<Vec<u8>, SourceError> {
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; BUFFER_BYTES]);
    loop {
        match reader.read(&mut buffer)? {
            0 => break,
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    }
    reader.finish()?;
    Ok(bytes)
}

impl TextDump {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a part of the table of contents; once it is whole it is given as it is to be.
    fn take_contents(&self, index: u32, bytes: Vec<u8>) -> Result<(), SourceError> {
        let mut state = self.state();
        state.left_out_bytes += bytes.len() as u64;
        state.came.insert(index, bytes);
        if state.came.len() < 2 {
            return Ok(());
        }
        let whole: Vec<u8> = std::mem::take(&mut state.came).into_values().flatten().collect();
        let failed = |error| {
            let message = format!("the table of contents {error}");
            SourceError::new(SourceErrorKind::Failed, self.object.as_str(), message)
        };
        let mut toc = TableOfContents::read(&*whole).map_err(failed)?;
        for entry in &mut toc.entries {
            let is_unnamed = entry.is("DATABASE") && !self.names_its_database;
            if is_unnamed {
                entry.definition = Some(Vec::new());
            }
            // What the text gives to nobody belongs to whoever loads it.
            let is_ours = entry.owner.as_deref() == Some(SUPERUSER) && !self.names_superuser;
            if is_unnamed || is_ours {
                entry.owner = Some(Vec::new());
            }
        }
        state.needs = Some(needs::needs(&toc).property());
        for (index, bytes) in (0..).zip(in_parts(&toc, &self.object)?) {
            state.added_bytes += bytes.len() as u64;
            state.ready.push_back((index, bytes));
        }
        Ok(())
    }

    /// Takes out of the verdict what is of the throwaway server alone.
    fn settled(&self, mut dumped: Dumped) -> Dumped {
        let state = self.state();
        dumped.entries.retain(|name, _| name.as_str() != GLOBALS_ENTRY);
        let facts = &mut dumped.facts;
        facts.selection = self.selection.clone();
        facts.consistency.position.clear();
        facts.size_bytes = (facts.size_bytes + state.added_bytes).saturating_sub(state.left_out_bytes);
        let own = [("globals".to_owned(), json!(false)), ("text_of".to_owned(), json!(self.made_by))];
        facts.properties.extend(own.into_iter().chain(state.needs.clone()));
        dumped
    }
}

impl Dump for TextDump {
    fn next(&self) -> Result<Option<Step>, SourceError> {
        loop {
            let (ready, is_over) = {
                let mut state = self.state();
                // Known as out before anybody may find that nothing is left.
                let ready = state.ready.pop_front().map(|part| (part, self.given.begin()));
                (ready, state.done.is_some())
            };
            if let Some(((index, bytes), ticket)) = ready {
                let entry = EntryName::new(TOC_ENTRY).map_err(|error| {
                    SourceError::new(SourceErrorKind::Failed, self.object.as_str(), error.to_string())
                })?;
                let reader = Box::new(GivenPart::new(Box::new(BytesPart::new(bytes)), ticket));
                let (database, layout) = (self.database.clone(), Layout::Opaque);
                return Ok(Some(Step::Part(OpenPart { database, entry, layout, index, reader })));
            }
            if is_over {
                let failure = self.given.wait(&self.context.cancel, &self.object)?;
                let Some(dumped) = self.state().done.take() else { return Ok(None) };
                let verdict = failure.map_or_else(|| Ok(self.settled(dumped)), Err);
                return Ok(Some(Step::Done(self.database.clone(), verdict)));
            }
            match self.inner.next()? {
                Some(Step::Part(part)) if part.entry.as_str() == TOC_ENTRY => {
                    let ticket = self.given.begin();
                    self.take_contents(part.index, whole(part.reader)?)?;
                    ticket.end();
                }
                Some(Step::Part(part)) if part.entry.as_str() == GLOBALS_ENTRY => {
                    let left_out = whole(part.reader)?.len() as u64;
                    self.state().left_out_bytes += left_out;
                }
                Some(Step::Done(_, Ok(dumped))) => self.state().done = Some(dumped),
                other => return Ok(other),
            }
        }
    }

    fn finish(self: Box<Self>) -> Result<(), SourceError> {
        self.inner.finish()
    }
}
