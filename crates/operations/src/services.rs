//! What every verb works with.

use engines::Engine;
use flow::{Context, EngineKind, SafetySuffix, SourceError, SourceErrorKind, TargetRef};
use journal::Journal;
use repository::Repository;
use std::sync::Arc;

/// The engines that this program has.
#[derive(Clone, Default)]
pub struct Engines(Vec<Arc<dyn Engine>>);

impl Engines {
    /// Takes the engines.
    pub fn new(engines: Vec<Arc<dyn Engine>>) -> Self {
        Self(engines)
    }

    /// Returns all engines of this release. Safety copies beside files bear that suffix.
    pub fn all(safety: SafetySuffix) -> Self {
        let sqlite = engines::sqlite::SqliteEngine::new(safety);
        Self(vec![Arc::new(sqlite), Arc::new(engines::postgres::PostgresEngine)])
    }

    /// Returns the engines.
    pub fn iter(&self) -> impl Iterator<Item = &dyn Engine> {
        self.0.iter().map(AsRef::as_ref)
    }

    /// Returns the engine of a kind, or says that there is none.
    pub fn get(&self, kind: EngineKind) -> Result<&dyn Engine, SourceError> {
        self.0.iter().find(|engine| engine.kind() == kind).map(AsRef::as_ref).ok_or_else(|| {
            SourceError::new(
                SourceErrorKind::Unsupported,
                kind.to_string(),
                "this version has no such engine",
            )
        })
    }

    /// Returns the engine of a target.
    pub fn of(&self, target: &TargetRef) -> Result<&dyn Engine, SourceError> {
        self.get(target.engine)
    }
}

/// What every verb works with. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    /// The engines.
    pub engines: Engines,
    /// The repository, open.
    pub repository: Arc<dyn Repository>,
    /// The journal; `None` where there is none to be had. Lost without harm: its errors are remarks.
    pub journal: Option<Arc<Journal>>,
    /// Observer, cancellation, secrets, scratch.
    pub context: Context,
    /// The name of this host.
    pub host: String,
    /// The name of this user.
    pub user: String,
}
