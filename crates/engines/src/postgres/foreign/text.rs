//! SQL text, read to its end, as a backup: a list of what it needs of a server, made up as the table of contents of an
//! archive without definitions, and the text itself, which a restore reads once more where it lies.
//!
//! What only `psql` can run, and what would change more than the database that is restored, is refused here, before anything
//! is made.

use super::super::archive::{
    ArchiveFormat, ArchiveVersion, Compression, CreationTime, DataPlace, Entry, Header, Section,
    TableOfContents,
};
use super::super::needs::Needs;
use super::super::script::{Broken, Passing, SCRIPT_ENTRY, SCRIPT_FORM, ScriptFacts, Survey, survey};
use super::super::statements::{after_word, owner, quoted};
use super::custom::{Kept, keep};
use super::damaged;
use crate::engine::{Again, LoadRequest};
use flow::{
    BackupReader, ConsistencyPoint, Context, DatabaseRef, EngineKind, EntryName, Event, Facts, Finding,
    Layout, MANIFEST_SCHEMA, Manifest, ManifestEntry, ManifestPart, ReadError, ReadErrorKind, Severity,
    SourceError, SourceErrorKind, TableFacts,
};
use jiff::Timestamp;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

const TOC_ENTRY: &str = "toc.dat";

/// SQL text as a backup.
pub(super) struct Text {
    manifest: Manifest,
    toc: Vec<u8>,
    again: Again,
}

/// Reads SQL text to its end.
pub(super) fn read(
    request: LoadRequest<'_>,
    database: &DatabaseRef,
    context: &Context,
) -> Result<Text, SourceError> {
    let (began, object) = (Instant::now(), request.object);
    let (again, kept): (Again, _) = match request.again.clone() {
        Some(again) => (again, None),
        None => {
            let (path, kept) = keep(&request)?;
            (Arc::new(move || Ok(Box::new(File::open(&path)?) as Box<dyn Read + Send>)), kept)
        }
    };
    let mut passing = Passing::new(Kept { inner: request.dump, kept }, context);
    let found = survey(&mut passing).map_err(|error| match error {
        _ if context.cancel.is_cancelled() => SourceError::cancelled(object),
        Broken::Io(error) => super::unread(object, "it", error),
        Broken::Damaged(problem) => damaged(object, problem),
    })?;
    let sum = passing.sum();
    refuse(&found, object)?;
    if !found.is_closed {
        let message = "no line of the tool that wrote it says that it is whole: whether it was cut between two statements \
                       cannot be told";
        context.observer.event(Event::Finding(Finding {
            severity: Severity::Warning,
            object: object.to_owned(),
            message: message.to_owned(),
            hint: None,
        }));
    }
    let mut toc = Vec::new();
    contents(&found, database).write(&mut toc).map_err(|error| super::broken(object, error))?;
    let mut manifest = manifest(&found, sum, object, database, toc.len() as u64);
    manifest.elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Text { manifest, toc, again })
}

/// Fails where the text is none that can be loaded into a database of its own.
fn refuse(found: &Survey, object: &str) -> Result<(), SourceError> {
    let unsupported = |message: String, hint: &str| {
        Err(SourceError::new(SourceErrorKind::Unsupported, object, message).with_hint(hint))
    };
    if found.is_cluster {
        return unsupported(
            "it is a dump of all databases of a server, as pg_dumpall writes it".to_owned(),
            "`psql -X -f FILE postgres` loads it into an empty server; of single databases, `pg_dump -Fc` makes dumps that \
             are restored here",
        );
    }
    if let Some((line, word)) = found.commands.first() {
        let hint = match word.as_str() {
            "connect" => {
                "only a text that makes one database and connects to that, as `pg_dump --create` writes it, can do so"
            }
            _ => "look at it first; without that line, or by `psql` itself, the rest can be loaded",
        };
        return unsupported(format!("line {line}: `\\{word}` is a command of psql, and is not run"), hint);
    }
    if let Some((line, statement)) = &found.outside {
        return unsupported(
            format!("line {line}: `{statement}` reaches beyond the database that is restored"),
            "run it by `psql` before, where it is wanted, and leave it out of the text",
        );
    }
    if found.content == 0 {
        return Err(damaged(object, "it makes nothing at all: so looks a dump of an empty database"));
    }
    Ok(())
}

/// Makes up what an archive would say of itself.
fn contents(found: &Survey, database: &DatabaseRef) -> TableOfContents {
    let header = Header {
        version: ArchiveVersion { major: 1, minor: 14, revision: 0 },
        int_bytes: 4,
        offset_bytes: 8,
        format: ArchiveFormat::Tar,
        compression: Compression::Level(0),
        created: CreationTime([0; 7]),
        database: found.database.clone().map(String::into_bytes),
        server_version: found.server.clone().map(String::into_bytes),
        dump_version: found.made_by.clone().map(String::into_bytes),
    };
    let mut toc = TableOfContents { header, entries: Vec::new() };
    let encoding = found.encoding.as_deref().unwrap_or("UTF8");
    add(&mut toc, "ENCODING", "ENCODING", format!("SET client_encoding = '{encoding}';\n"), None);
    about_database(&mut toc, found, database);
    needed(&mut toc, &found.needs);
    toc
}

/// Adds what is said of the database itself, as archives have it.
fn about_database(toc: &mut TableOfContents, found: &Survey, database: &DatabaseRef) {
    let name = found.database.clone().unwrap_or_else(|| database.name.to_string());
    let tag = format!("DATABASE {name}");
    let (mut create, mut given) = (String::new(), None);
    let mut others: BTreeMap<&str, String> = BTreeMap::new();
    for statement in &found.about_database {
        let first = statement.split_ascii_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        let kind = match first.as_str() {
            // Another template, or an owner, is nothing that a tool writes.
            "CREATE" => {
                let options = after_word(statement, "WITH").unwrap_or_default();
                if options.contains("template0") && after_word(options, "OWNER").is_none() {
                    create = format!("{statement};\n");
                }
                continue;
            }
            "DROP" => continue,
            "GRANT" | "REVOKE" => "ACL",
            "COMMENT" => "COMMENT",
            "SECURITY" => "SECURITY LABEL",
            _ => match owner(statement) {
                Some((_, role)) => {
                    given = Some(role);
                    continue;
                }
                None => "DATABASE PROPERTIES",
            },
        };
        let text = others.entry(kind).or_default();
        text.push_str(statement);
        text.push_str(";\n");
    }
    add(toc, "DATABASE", &name, create, given);
    for (kind, text) in others {
        add(toc, kind, if kind == "DATABASE PROPERTIES" { &name } else { &tag }, text, None);
    }
}

/// Adds what is needed of a server.
fn needed(toc: &mut TableOfContents, needs: &Needs) {
    for role in &needs.object_owners {
        add(toc, "OWNER", role, String::new(), Some(role.clone()));
    }
    for role in &needs.granted {
        add(toc, "ACL", role, format!("GRANT USAGE ON SCHEMA public TO {};\n", quoted(role)), None);
    }
    for role in &needs.bound {
        add(toc, "POLICY", role, format!("CREATE POLICY p ON t TO {};\n", quoted(role)), None);
    }
    for extension in &needs.extensions {
        add(toc, "EXTENSION", extension, String::new(), None);
    }
    for tablespace in &needs.tablespaces {
        add(toc, "TABLESPACE", tablespace, String::new(), None);
        if let Some(entry) = toc.entries.last_mut() {
            entry.tablespace = Some(tablespace.clone().into_bytes());
        }
    }
}

fn add(toc: &mut TableOfContents, kind: &str, tag: &str, definition: String, owner: Option<String>) {
    let dump_id = i32::try_from(toc.entries.len()).unwrap_or(i32::MAX - 1) + 1;
    toc.entries.push(Entry {
        dump_id,
        had_dumper: false,
        table_oid: Some(b"0".to_vec()),
        oid: Some(b"0".to_vec()),
        tag: Some(tag.as_bytes().to_vec()),
        kind: Some(kind.as_bytes().to_vec()),
        section: Section::PreData,
        definition: Some(definition.into_bytes()),
        drop: Some(Vec::new()),
        copy: Some(Vec::new()),
        schema: Some(Vec::new()),
        tablespace: Some(Vec::new()),
        access_method: Some(Vec::new()),
        relation_kind: 0,
        owner: Some(owner.unwrap_or_default().into_bytes()),
        with_oids: Some(b"false".to_vec()),
        dependencies: Vec::new(),
        place: DataPlace::File(Some(Vec::new())),
    });
}

fn manifest(found: &Survey, sum: String, object: &str, database: &DatabaseRef, toc_bytes: u64) -> Manifest {
    let entry = |name: EntryName, size_bytes, rows| ManifestEntry {
        name,
        layout: Layout::Opaque,
        size_bytes,
        parts: vec![ManifestPart { size_bytes, blobs: 0, rows, digest: None }],
    };
    let names = [(TOC_ENTRY, toc_bytes, None), (SCRIPT_ENTRY, found.size_bytes, Some(found.rows))];
    let entries = names
        .into_iter()
        .filter_map(|(name, size_bytes, rows)| Some(entry(EntryName::new(name).ok()?, size_bytes, rows)));
    let facts = ScriptFacts {
        loaded: found.loaded.clone(),
        is_certain: found.is_certain,
        columns: found.columns.clone(),
        tables: found.tables,
        unclear: found.unclear.clone(),
        sum,
    };
    let tables = found.loaded.iter().map(|(name, rows)| TableFacts {
        name: name.split('"').collect::<Vec<_>>().join(""),
        rows: *rows,
        digest: None,
    });
    Manifest {
        schema: MANIFEST_SCHEMA.to_owned(),
        target: database.target.clone(),
        database: database.name.clone(),
        connection: object.to_owned(),
        facts: Facts {
            engine: EngineKind::Postgres,
            engine_version: found.server.clone().unwrap_or_default(),
            form: SCRIPT_FORM.to_owned(),
            selection: None,
            consistency: ConsistencyPoint { time: Timestamp::now(), position: BTreeMap::new() },
            size_bytes: found.size_bytes,
            tables: tables.collect(),
            schema: Vec::new(),
            properties: BTreeMap::from([
                ("encoding".to_owned(), json!(found.encoding.as_deref().unwrap_or("UTF8"))),
                ("globals".to_owned(), json!(false)),
                found.needs.property(),
                (SCRIPT_FORM.to_owned(), json!(facts)),
            ]),
            tools: found.made_by.iter().map(|tool| ("pg_dump".to_owned(), tool.clone())).collect(),
        },
        entries: entries.collect(),
        elapsed_ms: 0,
    }
}

impl BackupReader for Text {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn read(&self, entry: &EntryName, range: Range<u64>) -> Result<Box<dyn Read + Send>, ReadError> {
        let failed = |error: io::Error| {
            ReadError::new(ReadErrorKind::Damaged, entry.as_str(), error.to_string()).with_source(error)
        };
        let mut data: Box<dyn Read + Send> = match entry.as_str() {
            TOC_ENTRY => Box::new(Cursor::new(self.toc.clone())),
            SCRIPT_ENTRY => (self.again)().map_err(failed)?,
            _ => {
                let message = "the dump has no such entry";
                return Err(ReadError::new(ReadErrorKind::Missing, entry.as_str(), message));
            }
        };
        io::copy(&mut data.by_ref().take(range.start), &mut io::sink()).map_err(failed)?;
        Ok(Box::new(data.take(range.end.saturating_sub(range.start))))
    }
}
