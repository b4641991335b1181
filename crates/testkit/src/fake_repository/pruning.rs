//! Retention of the repository in memory: the real decision, carried out on what is stored, or one of its promises
//! broken.

use super::{FakeRepository, Held, RepositoryFlaw as Flaw, Stored};
use repository::retention::{Candidate, Origin, plan};
use repository::{PruneReport, PruneRequest, State, Unlisted};
use std::collections::BTreeSet;
use std::sync::Arc;

impl FakeRepository {
    /// Hides the snapshot of a backup from the list, as damage would.
    pub fn hide(&self, id: &repository::BackupId) {
        let mut state = self.0.state();
        let found = state.stored.iter().find(|stored| stored.record.id == *id);
        let snapshot = found.map(|stored| stored.record.snapshot.clone());
        state.hidden.extend(snapshot);
    }

    pub(super) fn hidden_snapshots(&self) -> Vec<Unlisted> {
        let state = self.0.state();
        let hidden = state.hidden.iter().filter(|_| !self.0.has(Flaw::HidesUnlisted));
        let of = |snapshot: &flow::Text| {
            let first = state.stored.iter().find(|stored| stored.record.snapshot == *snapshot)?;
            let known = !self.0.has(Flaw::ForgetsWhoseUnlisted);
            Some(Unlisted {
                snapshot: snapshot.to_string(),
                target: known.then(|| first.record.target.clone()),
                host: known.then(|| first.record.host.to_string()),
                time: known.then_some(first.record.time),
                problem: "it is hidden".to_owned(),
            })
        };
        hidden.filter_map(of).collect()
    }

    fn candidate(&self, stored: &Stored, held: &Held) -> Candidate {
        let record = &stored.record;
        let damaged = held.kept.proofs.get(&record.id).is_some_and(|proof| proof.level.is_none());
        let origin = Origin {
            target: record.target.clone(),
            database: record.database.clone(),
            host: record.host.clone(),
            connection: record.connection.clone(),
            plan: stored.plan.as_deref().map(flow::Text::from),
            selection: record.selection.as_ref().map(|selection| selection.to_string().into()),
        };
        Candidate {
            origin: Arc::new(origin),
            snapshot: record.snapshot.clone(),
            alone: record.id.0 == *record.snapshot,
            time: record.time,
            size_bytes: record.size_bytes,
            proven: !damaged || self.0.has(Flaw::PrunesTheNewest),
            suspect: record.suspect.is_some() && !held.accepted(record),
            imported: record.is_imported() && !self.0.has(Flaw::CountsImports),
        }
    }

    pub(super) fn decide_and_remove(&self, request: &PruneRequest) -> PruneReport {
        let mut state = self.0.state();
        let listed = |stored: &&Stored| {
            self.0.has(Flaw::PrunesUnlisted) || !state.hidden.contains(&stored.record.snapshot)
        };
        let candidate = |stored| self.candidate(stored, &state);
        let candidates: Vec<Candidate> = state.stored.iter().filter(listed).map(candidate).collect();
        let mut scopes = request.scopes.clone();
        if self.0.has(Flaw::PrunesAnyTarget) {
            scopes.iter_mut().for_each(|scope| scope.selector = Default::default());
        }
        let decision = plan(&candidates, &scopes, request.now);
        let mut going: BTreeSet<flow::Text> = decision.snapshots.clone();
        if self.0.has(Flaw::PrunesSharedSnapshots) {
            let shared = |reason: &repository::retention::Reason| reason.to_string().starts_with("shares");
            let sharing = decision.verdicts.iter().filter(|verdict| verdict.reasons.iter().any(shared));
            going.extend(sharing.map(|verdict| verdict.backup.snapshot.clone()));
        }
        let (snapshots, unlisted) = (going.len() as u64, state.hidden.len() as u64);
        let freed = state.stored.iter().filter(|stored| going.contains(&stored.record.snapshot));
        let freed_bytes = freed.map(|stored| stored.record.added_bytes).sum();
        if (!request.dry_run || self.0.has(Flaw::PrunesInDryRun)) && !self.0.has(Flaw::PrunesNothing) {
            state.stored.retain(|stored| !going.contains(&stored.record.snapshot));
            state.hidden.retain(|snapshot| !going.contains(snapshot));
            if self.0.has(Flaw::PrunesProofs) {
                state.kept = State::default();
            }
        }
        PruneReport { verdicts: decision.verdicts, snapshots, freed_bytes, foreign: 0, unlisted }
    }
}
