//! Healing of the repository in memory: what is damaged stays so until a backup of the same content, and is lost after
//! one of another content; or one of these promises broken.

use super::{FakeRepository, RepositoryFlaw as Flaw, Stored};
use flow::{BackupReader, Context};
use repository::{
    BackupId, CheckReport, HealAction, HealReport, Repository, RepositoryError, RepositoryErrorKind, Settled,
};
use std::io::Read;

/// The content of all entries, in their order.
fn content(stored: &Stored) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in &stored.backup.manifest().entries {
        if let Ok(mut stream) = stored.backup.read(&entry.name, 0..entry.size_bytes) {
            let _read = stream.read_to_end(&mut all);
        }
    }
    all
}

impl FakeRepository {
    /// Fails for a backup that is lost.
    pub(super) fn refuse_lost(&self, stored: &Stored) -> Result<(), RepositoryError> {
        match &stored.record.lost {
            Some(reason) if !self.0.has(Flaw::OpensLost) => {
                let id = stored.record.id.to_string();
                Err(RepositoryError::new(RepositoryErrorKind::Damaged, id, reason.clone()))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn heal_damaged(
        &self,
        dry_run: bool,
        context: &Context,
    ) -> Result<HealReport, RepositoryError> {
        let listed: Vec<BackupId> =
            self.backups(None, context)?.into_iter().map(|record| record.id).collect();
        let errors = self.damages(&listed);
        let mut state = self.0.state();
        let mut affected: Vec<BackupId> =
            errors.iter().flat_map(|damage| damage.backups.iter().cloned()).collect();
        let action = |id: &BackupId| HealAction { object: format!("backup {id}"), action: "it waits".into() };
        let actions = affected.iter().map(action).collect();
        if !dry_run || self.0.has(Flaw::HealsInDryRun) {
            state.open.extend(affected.iter().cloned());
            for stored in state.stored.iter_mut().filter(|stored| affected.contains(&stored.record.id)) {
                stored.record.proof = None;
            }
        }
        if self.0.has(Flaw::HealsInSilence) {
            affected.clear();
        }
        let found = CheckReport { errors, ..CheckReport::default() };
        Ok(HealReport { found, actions, affected, removed_snapshots: vec![] })
    }

    pub(super) fn settle_open(&self, run: &str) -> Settled {
        let mut state = self.0.state();
        let mut settled = Settled::default();
        if self.0.has(Flaw::NeverSettles) {
            return settled;
        }
        let new: Vec<Stored> =
            state.stored.iter().filter(|stored| stored.record.snapshot == run).cloned().collect();
        for new in new {
            let same = |stored: &Stored| {
                (&stored.record.target, &stored.record.database, &stored.record.host)
                    == (&new.record.target, &new.record.database, &new.record.host)
            };
            let open: Vec<Stored> = state.stored.iter().filter(|stored| same(stored)).cloned().collect();
            for mut old in open {
                let id = old.record.id.clone();
                if !state.open.remove(&id) {
                    continue;
                }
                state.damaged.remove(&id);
                if content(&old) == content(&new) {
                    old.record.proof = new.record.proof;
                    settled.healed.push(id.clone());
                } else {
                    old.record.lost = Some("no later backup brought it back".to_owned());
                    settled.lost.push((id.clone(), "no later backup brought it back".to_owned()));
                }
                state.stored.retain(|stored| stored.record.id != id);
                if old.record.lost.is_none() || !self.0.has(Flaw::LosesInSilence) {
                    state.stored.push(old);
                }
            }
        }
        settled
    }
}
