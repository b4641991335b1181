//! The suites of dumps and restores on the engine in memory, and on a mutant for each promise of a restore.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use engines::Engine;
use flow::{Context, DatabaseName, DatabaseRef, EngineKind, ScratchDir, TargetName, TargetRef};
use std::sync::Arc;
use testkit::{
    FakeEngine, Random, RestoreFlaw as Flaw, RestoreSubject, assert_caught, broken_restore_promises,
    restore_conformance,
};

struct Subject(FakeEngine);

impl RestoreSubject for Subject {
    fn engine(&self) -> Arc<dyn Engine> {
        Arc::new(self.0.clone())
    }

    fn target(&self) -> TargetRef {
        TargetRef {
            name: TargetName::new("shops").unwrap(),
            engine: EngineKind::Sqlite,
            connection: "/srv/shops".to_owned(),
            secret: None,
            tenants: None,
        }
    }

    fn context(&self) -> Context {
        Context::quiet(ScratchDir::new("/nowhere"))
    }

    fn name(&self, name: &str) -> DatabaseRef {
        let name = DatabaseName::new(name).unwrap();
        DatabaseRef { target: self.target().name, connection: format!("/srv/shops/{name}"), name }
    }

    fn make(&self, name: &str, number: u64) -> DatabaseRef {
        let database = self.name(name);
        self.0.put(&database.name, Random::new(number).bytes(10_000));
        database
    }

    fn content(&self, database: &DatabaseRef) -> Option<Vec<u8>> {
        self.0.content(&database.name)
    }
}

#[test]
fn the_engine_in_memory_keeps_every_promise() {
    restore_conformance(|| Subject(FakeEngine::new(None)));
}

#[test]
fn each_mutant_is_caught() {
    let flaws = [
        (Flaw::PlanWrites, "a plan changes nothing"),
        (Flaw::SwapsNothing, "all steps bring the backup's content"),
        (Flaw::CannotContinue, "a restore is continued after any step"),
        (Flaw::LosesOld, "a roll-back after any step brings the old content"),
        (Flaw::LeavesNew, "a roll-back removes what was not there before"),
        (Flaw::SwapsTwice, "a step may be run again"),
        (Flaw::LetsTwoRun, "a second restore is refused"),
        (Flaw::ForgetsRecord, "nothing is left pending at the end"),
        (Flaw::StealsLiving, "a restore whose owner lives is not taken over"),
        (Flaw::ForgetsNotes, "notes are kept"),
        (Flaw::Overwrites, "to-new refuses what exists"),
        (Flaw::HidesDamage, "a damaged backup is an error and the old content stays"),
        (Flaw::RecordsNothing, "each step is recorded"),
    ];
    for (flaw, promise) in flaws {
        assert_caught(&broken_restore_promises(|| Subject(FakeEngine::new(Some(flaw)))), promise);
    }
}
