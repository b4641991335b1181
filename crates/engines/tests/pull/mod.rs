//! A small consumer of dumps for tests: pulls with some threads, puts images together, replaces parts that come
//! again, and holds the dump to its promises on the way.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use engines::{Engine, sqlite::SqliteEngine};
use flow::{
    Context, DatabaseName, DatabaseRef, DatabaseRequest, DumpOptions, DumpRequest, Dumped, EngineKind, Event,
    Layout, MANIFEST_SCHEMA, Manifest, ManifestEntry, ManifestPart, Observer, Previous, ScratchDir,
    SourceError, SourceErrorKind, Step, TargetName, TargetRef, Unchanged,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

pub use rusqlite::Connection;

/// What became of one database.
pub struct Outcome {
    pub database: DatabaseRef,
    pub verdict: Result<Dumped, SourceError>,
    pub unchanged: Option<Unchanged>,
    pub image: Vec<u8>,
}

#[derive(Default)]
struct Store {
    parts: BTreeMap<DatabaseRef, BTreeMap<u32, (Vec<u8>, Layout)>>,
    outcomes: BTreeMap<String, Outcome>,
}

#[derive(Default)]
pub struct Recorder(pub Mutex<Vec<Event>>);

impl Observer for Recorder {
    fn event(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl Recorder {
    pub fn findings(&self) -> Vec<String> {
        let events = self.0.lock().unwrap();
        events
            .iter()
            .filter_map(|event| match event {
                Event::Finding(finding) => Some(finding.message.clone()),
                _ => None,
            })
            .collect()
    }
}

pub fn context(folder: &Path) -> Context {
    Context::quiet(ScratchDir::new(folder.join("scratch")))
}

pub fn target(connection: impl AsRef<Path>) -> TargetRef {
    TargetRef {
        name: TargetName::new("shop").unwrap(),
        engine: EngineKind::Sqlite,
        connection: connection.as_ref().to_str().unwrap().to_owned(),
        secret: None,
        tenants: None,
    }
}

pub fn database(path: impl AsRef<Path>) -> DatabaseRef {
    let path = path.as_ref();
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    DatabaseRef {
        target: TargetName::new("shop").unwrap(),
        name: DatabaseName::new(path.file_name().unwrap().to_str().unwrap()).unwrap(),
        connection: path.to_str().unwrap().to_owned(),
    }
}

pub fn request(path: impl AsRef<Path>, previous: Option<Previous>) -> DumpRequest {
    DumpRequest {
        target: target(&path),
        databases: vec![DatabaseRequest { database: database(&path), previous }],
        options: DumpOptions::default(),
    }
}

/// Pulls a dump to its end with two workers.
pub fn pull(request: &DumpRequest, context: &Context) -> Result<BTreeMap<String, Outcome>, SourceError> {
    let dump = SqliteEngine::default().begin_dump(request, context.clone())?;
    let store = Mutex::new(Store::default());
    let results: Vec<_> = std::thread::scope(|scope| {
        let work = || -> Result<(), SourceError> {
            while let Some(step) = dump.next()? {
                take(step, &store)?;
            }
            Ok(())
        };
        let workers: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    for result in results {
        result?;
    }
    dump.finish()?;
    Ok(store.into_inner().unwrap().outcomes)
}

/// Pulls a dump alone, and does something after each step, which it numbers.
pub fn pull_alone(
    request: &DumpRequest,
    context: &Context,
    mut between: impl FnMut(usize),
) -> Result<BTreeMap<String, Outcome>, SourceError> {
    let dump = SqliteEngine::default().begin_dump(request, context.clone())?;
    let store = Mutex::new(Store::default());
    let mut steps = 0;
    while let Some(step) = dump.next()? {
        take(step, &store)?;
        steps += 1;
        between(steps);
    }
    dump.finish()?;
    Ok(store.into_inner().unwrap().outcomes)
}

fn take(step: Step, store: &Mutex<Store>) -> Result<(), SourceError> {
    match step {
        Step::Part(mut part) => {
            let mut bytes = Vec::new();
            let mut buffer = vec![0; 70_001];
            loop {
                let read = part.reader.read(&mut buffer)?;
                if read == 0 {
                    break;
                }
                bytes.extend_from_slice(&buffer[..read]);
            }
            let facts = part.reader.finish()?;
            assert_eq!(facts.size_bytes, bytes.len() as u64);
            let mut store = store.lock().unwrap();
            assert!(!store.outcomes.contains_key(part.database.name.as_str()), "a part after the verdict");
            let parts = store.parts.entry(part.database).or_default();
            parts.insert(part.index, (bytes, part.layout));
        }
        Step::Reuse(part) => panic!("unexpected reuse: {part:?}"),
        Step::Unchanged(database, unchanged) => {
            let verdict = Err(SourceError::new(SourceErrorKind::Failed, "", "it was not read"));
            let outcome = Outcome {
                database: database.clone(),
                verdict,
                unchanged: Some(unchanged),
                image: Vec::new(),
            };
            let before = store.lock().unwrap().outcomes.insert(database.name.to_string(), outcome);
            assert!(before.is_none(), "two verdicts");
        }
        Step::Done(database, verdict) => {
            let mut store = store.lock().unwrap();
            let parts = store.parts.remove(&database).unwrap_or_default();
            let mut image = Vec::new();
            if let Ok(dumped) = &verdict {
                let (layout, count) = dumped.entries.values().next().copied().unwrap();
                let Layout::Pages { page_bytes, cut_bytes } = layout else { panic!("{layout:?}") };
                assert_eq!(cut_bytes % page_bytes, 0);
                assert_eq!(parts.len(), count as usize, "a surplus of parts");
                for index in 0..count {
                    let (bytes, part_layout) = parts.get(&index).expect("a gap in the parts");
                    assert_eq!(*part_layout, layout);
                    assert!(index + 1 == count || bytes.len() % cut_bytes as usize == 0);
                    image.extend_from_slice(bytes);
                }
                assert_eq!(image.len() as u64, dumped.facts.size_bytes);
            }
            let outcome = Outcome { database: database.clone(), verdict, unchanged: None, image };
            assert!(store.outcomes.insert(database.name.to_string(), outcome).is_none(), "two verdicts");
        }
    }
    Ok(())
}

/// Backs up one database.
pub fn back_up(path: &Path, context: &Context) -> Outcome {
    let mut outcomes = pull(&request(path, None), context).unwrap();
    outcomes.pop_first().unwrap().1
}

/// Backs up one database that must come out well.
pub fn image_of(path: &Path, context: &Context) -> (Vec<u8>, Dumped) {
    let outcome = back_up(path, context);
    (outcome.image, outcome.verdict.unwrap())
}

/// Backs up one database that must fail.
pub fn failure_of(path: &Path, context: &Context) -> SourceError {
    back_up(path, context).verdict.map(|_| ()).unwrap_err()
}

/// Makes what the next run is told of this one.
pub fn previous(dumped: &Dumped) -> Previous {
    let part = ManifestPart { size_bytes: 0, blobs: 1, rows: None, digest: None };
    let entries = dumped
        .entries
        .iter()
        .map(|(name, (layout, count))| ManifestEntry {
            name: name.clone(),
            layout: *layout,
            size_bytes: dumped.facts.size_bytes,
            parts: vec![part.clone(); *count as usize],
        })
        .collect();
    let manifest = Manifest {
        schema: MANIFEST_SCHEMA.to_owned(),
        target: TargetName::new("shop").unwrap(),
        database: DatabaseName::new("db").unwrap(),
        connection: String::new(),
        facts: dumped.facts.clone(),
        entries,
        elapsed_ms: 0,
    };
    Previous::of(dumped.marks.clone(), Arc::new(manifest))
}

/// Opens an image as a database of its own.
pub fn open_image(image: &[u8], folder: &Path) -> (Connection, PathBuf) {
    let file = tempfile::Builder::new().suffix(".image").tempfile_in(folder).unwrap();
    let (_, path) = file.keep().unwrap();
    std::fs::write(&path, image).unwrap();
    (Connection::open(&path).unwrap(), path)
}

/// Asserts that an image is a sound database.
pub fn assert_sound(connection: &Connection) {
    let verdict: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
}

/// Asserts that the rows counted while pages passed are those that SQL counts.
pub fn assert_rows(dumped: &Dumped, connection: &Connection) {
    assert!(dumped.facts.rows().is_some(), "{:?}", dumped.facts.tables);
    for table in &dumped.facts.tables {
        let sql = format!("SELECT count(*) FROM \"{}\"", table.name.replace('"', "\"\""));
        let count: i64 = connection.query_row(&sql, [], |row| row.get(0)).unwrap();
        assert_eq!(table.rows, Some(count as u64), "{}", table.name);
    }
}

/// Runs the stock tool.
pub fn sqlite3(path: &Path, sql: &str) -> String {
    let output = Command::new("sqlite3").arg(path).arg(sql).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Fills a table with rows that do not compress to nothing.
pub fn fill(connection: &Connection, table: &str, rows: u32) {
    connection
        .execute_batch(&format!(
            "CREATE TABLE IF NOT EXISTS {table}(id INTEGER PRIMARY KEY, word TEXT, amount REAL, data BLOB);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<{rows})
             INSERT INTO {table}(word, amount, data)
             SELECT 'word ' || i, i / 7.0, randomblob(i % 300) FROM n;"
        ))
        .unwrap();
}
