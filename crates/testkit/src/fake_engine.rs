//! An engine over databases in memory: dumps, restores with every step of the seam, and a flaw where one is asked for.

use crate::fake_dump::{Act, DatabaseScript, FakeDump};
use crate::memory_backup::{MemoryPart, fake_facts, fake_marks};
use engines::{
    Answer, DatabaseInfo, Engine, Enumeration, ExportForm, ExportSummary, FactsDepth, Query, Restore,
    RestoreError, RestoreMode, RestorePlan, RestoreRequest, RestoreState, RestoreStep,
};
use flow::{
    BackupReader, Context, DatabaseName, DatabaseRef, Dump, DumpRequest, EngineKind, EntryName, Facts,
    Layout, Manifest, ReadError, SourceError, SourceErrorKind, TargetRef,
};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The promise of a restore that a [`FakeEngine`] breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is named after what goes wrong")]
pub enum RestoreFlaw {
    PlanWrites,
    SwapsNothing,
    CannotContinue,
    LosesOld,
    LeavesNew,
    SwapsTwice,
    LetsTwoRun,
    ForgetsRecord,
    StealsLiving,
    ForgetsNotes,
    Overwrites,
    HidesDamage,
    RecordsNothing,
}

#[derive(Default)]
struct State {
    live: BTreeMap<DatabaseName, Vec<u8>>,
    beside: BTreeMap<DatabaseName, Vec<u8>>,
    safety: BTreeMap<DatabaseName, Option<Vec<u8>>>,
    records: BTreeMap<DatabaseName, RestoreState>,
    owned: BTreeSet<DatabaseName>,
}

struct Shared {
    state: Mutex<State>,
    flaw: Option<RestoreFlaw>,
}

/// Databases in memory. Clones share them.
#[derive(Clone)]
pub struct FakeEngine(Arc<Shared>);

const STEPS: [RestoreStep; 6] = [
    RestoreStep::Preflight,
    RestoreStep::Beside,
    RestoreStep::Verify,
    RestoreStep::Quiesce,
    RestoreStep::Swap,
    RestoreStep::Finish,
];

impl FakeEngine {
    /// Makes one without databases; it breaks a promise where one is given.
    pub fn new(flaw: Option<RestoreFlaw>) -> Self {
        Self(Arc::new(Shared { state: Mutex::default(), flaw }))
    }

    /// Puts a database in place.
    pub fn put(&self, name: &DatabaseName, content: Vec<u8>) {
        self.state().live.insert(name.clone(), content);
    }

    /// Returns the content of a database.
    pub fn content(&self, name: &DatabaseName) -> Option<Vec<u8>> {
        self.state().live.get(name).cloned()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, flaw: RestoreFlaw) -> bool {
        self.0.flaw == Some(flaw)
    }

    fn size_bytes(&self, database: &DatabaseRef) -> Result<u64, SourceError> {
        let missing = || error(SourceErrorKind::Missing, database, "there is no such database");
        self.content(&database.name).map(|content| content.len() as u64).ok_or_else(missing)
    }

    fn restore(&self, state: RestoreState) -> Box<dyn Restore> {
        self.state().owned.insert(state.request.target.name.clone());
        let plan = RestorePlan {
            steps: STEPS.to_vec(),
            actions: Vec::new(),
            write_bytes: 0,
            needed_bytes: 0,
            free_bytes: None,
            safety_copy: None,
            holders: Vec::new(),
            ends_holders: false,
            problems: Vec::new(),
        };
        Box::new(FakeRestore { engine: self.clone(), plan, state })
    }
}

fn error(kind: SourceErrorKind, database: &DatabaseRef, message: &str) -> SourceError {
    SourceError::new(kind, database.to_string(), message)
}

fn image() -> Result<EntryName, SourceError> {
    EntryName::new("image")
        .map_err(|error| SourceError::new(SourceErrorKind::Invalid, "image", error.to_string()))
}

fn read_image(backup: &dyn BackupReader) -> Result<Vec<u8>, RestoreError> {
    let (entry, mut content) = (image()?, Vec::new());
    let size_bytes = backup.manifest().entry(&entry).map_or(0, |entry| entry.size_bytes);
    let mut stream = backup.read(&entry, 0..size_bytes)?;
    stream.read_to_end(&mut content).map_err(|error| ReadError::from_io(error, "image"))?;
    Ok(content)
}

impl Engine for FakeEngine {
    fn kind(&self) -> EngineKind {
        EngineKind::Sqlite
    }

    fn databases(&self, target: &TargetRef, _context: &Context) -> Result<Enumeration, SourceError> {
        let reference = |name: &DatabaseName| DatabaseRef {
            target: target.name.clone(),
            name: name.clone(),
            connection: format!("{}/{name}", target.connection),
        };
        let databases: Vec<DatabaseRef> = self.state().live.keys().map(reference).collect();
        if databases.is_empty() {
            let message = "there is no database";
            return Err(SourceError::new(SourceErrorKind::Missing, target.connection.as_str(), message));
        }
        Ok(Enumeration { databases, skipped: Vec::new() })
    }

    fn probe(&self, database: &DatabaseRef, _: bool, _: &Context) -> Result<DatabaseInfo, SourceError> {
        let size_bytes = self.size_bytes(database)?;
        Ok(DatabaseInfo { engine_version: "3.0.0".to_owned(), size_bytes, findings: Vec::new() })
    }

    fn facts(&self, database: &DatabaseRef, _: FactsDepth, _: &Context) -> Result<Facts, SourceError> {
        Ok(fake_facts(self.size_bytes(database)?))
    }

    fn query(&self, database: &DatabaseRef, _: &Query, _: &Context) -> Result<Answer, SourceError> {
        Err(error(SourceErrorKind::Unsupported, database, "a fake database answers no questions"))
    }

    fn begin_dump(&self, request: &DumpRequest, context: Context) -> Result<Box<dyn Dump>, SourceError> {
        let mut scripts = Vec::new();
        for wanted in &request.databases {
            let database = wanted.database.clone();
            let content = self.content(&database.name);
            let fails = content.is_none().then(|| "there is no such database".to_owned());
            let content = content.unwrap_or_default();
            let version = content.iter().fold(7_u64, |hash, byte| hash.wrapping_mul(31) ^ u64::from(*byte));
            let same = wanted.previous.as_ref().is_some_and(|previous| previous.marks == fake_marks(version));
            let act = if same && !request.options.read_all {
                Act::Unchanged
            } else {
                Act::Part(image()?, Layout::Opaque, 0, MemoryPart::new(content))
            };
            scripts.push(DatabaseScript { database, acts: vec![act], fails, version });
        }
        Ok(Box::new(FakeDump::new(scripts, context.cancel)))
    }

    fn begin_restore(
        &self,
        request: &RestoreRequest,
        _manifest: &Manifest,
        _context: Context,
    ) -> Result<Box<dyn Restore>, RestoreError> {
        let (target, name) = (&request.target, &request.target.name);
        let (known, exists) = {
            let state = self.state();
            (state.records.contains_key(name) || state.owned.contains(name), state.live.contains_key(name))
        };
        if known && !self.has(RestoreFlaw::LetsTwoRun) {
            return Err(error(SourceErrorKind::InUse, target, "another restore is not finished").into());
        }
        if request.mode == RestoreMode::ToNew && exists && !self.has(RestoreFlaw::Overwrites) {
            return Err(error(SourceErrorKind::InUse, target, "there is such a database already").into());
        }
        if self.has(RestoreFlaw::PlanWrites) {
            self.put(name, Vec::new());
        }
        Ok(self.restore(RestoreState {
            request: request.clone(),
            step: RestoreStep::Preflight,
            completed: false,
            rolling_back: false,
            safety_copy: None,
            owner_alive: true,
            notes: serde_json::Value::Null,
            engine: serde_json::Value::Null,
        }))
    }

    fn pending_restores(
        &self,
        database: &DatabaseRef,
        _: &Context,
    ) -> Result<Vec<RestoreState>, SourceError> {
        let state = self.state();
        let alive = state.owned.contains(&database.name);
        let found = state.records.get(&database.name).cloned();
        Ok(found.map(|record| RestoreState { owner_alive: alive, ..record }).into_iter().collect())
    }

    fn resume_restore(&self, state: RestoreState, _: Context) -> Result<Box<dyn Restore>, RestoreError> {
        let target = &state.request.target;
        let alive = self.state().owned.contains(&target.name);
        if (alive && !self.has(RestoreFlaw::StealsLiving)) || self.has(RestoreFlaw::CannotContinue) {
            return Err(error(SourceErrorKind::InUse, target, "its owner lives").into());
        }
        Ok(self.restore(state))
    }

    fn export(
        &self,
        backup: &dyn BackupReader,
        _: ExportForm,
        out: &mut (dyn Write + Send),
        _: &Context,
    ) -> Result<ExportSummary, RestoreError> {
        let content = read_image(backup)?;
        out.write_all(&content)
            .map_err(|error| SourceError::new(SourceErrorKind::Unwritable, "export", error.to_string()))?;
        Ok(ExportSummary { size_bytes: content.len() as u64 })
    }
}

struct FakeRestore {
    engine: FakeEngine,
    plan: RestorePlan,
    state: RestoreState,
}

impl FakeRestore {
    fn record(&self) {
        if !self.engine.has(RestoreFlaw::RecordsNothing) {
            let name = self.state.request.target.name.clone();
            self.engine.state().records.insert(name, self.state.clone());
        }
    }

    fn swap(&self) {
        let (name, mut state) = (&self.state.request.target.name, self.engine.state());
        if self.engine.has(RestoreFlaw::SwapsNothing) {
            return;
        }
        if self.engine.has(RestoreFlaw::SwapsTwice) && state.safety.contains_key(name) {
            state.live.remove(name);
            return;
        }
        if let Some(new) = state.beside.remove(name) {
            let old = state.live.insert(name.clone(), new);
            let kept = old.filter(|_| !self.engine.has(RestoreFlaw::LosesOld));
            state.safety.insert(name.clone(), kept);
        }
    }
}

impl Restore for FakeRestore {
    fn plan(&self) -> &RestorePlan {
        &self.plan
    }

    fn steps(&self) -> &[RestoreStep] {
        &STEPS
    }

    fn run(&mut self, step: RestoreStep, backup: &dyn BackupReader) -> Result<(), RestoreError> {
        (self.state.step, self.state.completed) = (step, false);
        self.record();
        let name = self.state.request.target.name.clone();
        match step {
            RestoreStep::Beside => {
                let content = match read_image(backup) {
                    Err(_) if self.engine.has(RestoreFlaw::HidesDamage) => Vec::new(),
                    other => other?,
                };
                self.engine.state().beside.insert(name.clone(), content);
            }
            RestoreStep::Verify => {
                let written = self.engine.state().beside.get(&name).cloned();
                if written != Some(read_image(backup)?) {
                    let target = &self.state.request.target;
                    return Err(error(SourceErrorKind::Damaged, target, "it differs from the backup").into());
                }
            }
            RestoreStep::Swap => self.swap(),
            _ => {}
        }
        self.state.completed = true;
        self.record();
        if step == RestoreStep::Finish && !self.engine.has(RestoreFlaw::ForgetsRecord) {
            let mut state = self.engine.state();
            state.records.remove(&name);
            state.safety.remove(&name);
        }
        Ok(())
    }

    fn note(&mut self, notes: serde_json::Value) -> Result<(), SourceError> {
        if !self.engine.has(RestoreFlaw::ForgetsNotes) {
            self.state.notes = notes;
        }
        self.record();
        Ok(())
    }

    fn state(&self) -> RestoreState {
        self.state.clone()
    }

    fn roll_back(&mut self) -> Result<(), RestoreError> {
        let name = &self.state.request.target.name;
        let mut state = self.engine.state();
        state.beside.remove(name);
        match state.safety.remove(name) {
            Some(Some(old)) => drop(state.live.insert(name.clone(), old)),
            Some(None) if !self.engine.has(RestoreFlaw::LeavesNew) => drop(state.live.remove(name)),
            _ => {}
        }
        state.records.remove(name);
        Ok(())
    }
}

impl Drop for FakeRestore {
    fn drop(&mut self) {
        let name = &self.state.request.target.name;
        self.engine.state().owned.remove(name);
    }
}
