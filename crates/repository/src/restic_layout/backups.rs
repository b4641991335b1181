//! The backups of snapshots, as their lists tell: a few snapshots at a time, whatever is made of each. Only reads.

use super::lines::{self, LineOutcome, Listing, Only};
use super::list::{Said, damaged_list, foreign, foreign_tags, may_hold, may_hold_files, remark};
use super::names;
use super::opened::ResticRepository;
use super::state;
use crate::{BackupRecord, RepositoryError, RepositoryErrorKind, Wanted};
use flow::Context;
use jiff::Timestamp;
use restic::{Id, Snapshot};

/// How many lists are read at once.
const THREADS: usize = 2;

impl ResticRepository {
    /// Loads the backups that are asked for, oldest first, with what later verifications said.
    pub(super) fn backups(
        &self,
        wanted: &Wanted,
        said: &Said,
        context: &Context,
    ) -> Result<Vec<BackupRecord>, RepositoryError> {
        let mut records = self.backups_as(wanted, said, context, Some)?;
        // Nearly sorted already: a list is in the order of names, and seldom does one reach into the next.
        records.sort_by(|a, b| (a.time, &a.id).cmp(&(b.time, &b.id)));
        Ok(records)
    }

    /// Loads the backups that are asked for as what somebody needs of them, and those that nobody needs not at all: of
    /// hundreds of thousands only that is kept. Those of a snapshot come in the order of its list.
    pub(super) fn backups_as<R: Send>(
        &self,
        wanted: &Wanted,
        said: &Said,
        context: &Context,
        needed: impl Fn(BackupRecord) -> Option<R> + Sync,
    ) -> Result<Vec<R>, RepositoryError> {
        let names = lines::Names::default();
        let lists = self.each_list(wanted, context, |id, snapshot| {
            let mut kept = Vec::new();
            let mut take = |record| kept.extend(needed(record));
            self.each_record(id, snapshot, wanted, (said, &names), context, &mut take)?;
            kept.shrink_to_fit();
            Ok(kept)
        })?;
        let mut all = Vec::with_capacity(lists.iter().map(Vec::len).sum());
        all.extend(lists.into_iter().flatten());
        Ok(all)
    }

    /// Shows the backups that are asked for, snapshot by snapshot, and keeps those of a few only.
    pub(super) fn each_backup(
        &self,
        wanted: &Wanted,
        said: &Said,
        context: &Context,
        take: &mut dyn FnMut(BackupRecord),
    ) -> Result<(), RepositoryError> {
        let names = lines::Names::default();
        for few in self.listed(wanted, context)?.chunks(2 * THREADS) {
            let work = |id: &Id, snapshot: &Snapshot| {
                let mut records = Vec::new();
                let mut push = |record| records.push(record);
                self.each_record(id, snapshot, wanted, (said, &names), context, &mut push)?;
                records.sort_by(|a, b| (a.time, &a.id).cmp(&(b.time, &b.id)));
                Ok(records)
            };
            self.each_of(few, context, work)?.into_iter().flatten().for_each(&mut *take);
        }
        Ok(())
    }

    /// Returns the oldest time at which what a listed backup needs was last read.
    pub(super) fn oldest_proof(
        &self,
        said: &Said,
        context: &Context,
    ) -> Result<Option<Timestamp>, RepositoryError> {
        let lists = self.each_list(&Wanted::All, context, |id, snapshot| {
            let mut oldest: Option<Timestamp> = None;
            let is_ours = self.scan(id, snapshot, None, context, |_, line| {
                let proof = said.proof(line.subtree, line.proof_time);
                let proof = proof.filter(|_| line.outcome == LineOutcome::Complete);
                oldest = oldest.into_iter().chain(proof.map(|proof| proof.time)).min();
                Ok(())
            })?;
            let of_files = said.proofs.get(&snapshot.tree).filter(|(_, level)| !is_ours && level.is_some());
            Ok(oldest.or(of_files.map(|(time, _)| *time)))
        })?;
        Ok(lists.into_iter().flatten().min())
    }

    /// Does the work for each snapshot that may hold what is asked for, a few at a time, and returns the results from
    /// the oldest to the newest. One whose list cannot be read is named and passed over.
    fn each_list<R: Send>(
        &self,
        wanted: &Wanted,
        context: &Context,
        work: impl Fn(&Id, &Snapshot) -> Result<R, RepositoryError> + Sync,
    ) -> Result<Vec<R>, RepositoryError> {
        self.each_of(&self.listed(wanted, context)?, context, work)
    }

    /// Returns the snapshots that may hold what is asked for, oldest first.
    fn listed(&self, wanted: &Wanted, context: &Context) -> Result<Vec<(Id, Snapshot)>, RepositoryError> {
        let mut snapshots = self.snapshots(context)?;
        snapshots.retain(|(id, snapshot)| !state::is_state(snapshot) && may_hold(wanted, id, snapshot));
        Ok(snapshots)
    }

    fn each_of<R: Send>(
        &self,
        snapshots: &[(Id, Snapshot)],
        context: &Context,
        work: impl Fn(&Id, &Snapshot) -> Result<R, RepositoryError> + Sync,
    ) -> Result<Vec<R>, RepositoryError> {
        let mut results = Vec::with_capacity(snapshots.len());
        let work = |(id, snapshot): &(Id, Snapshot)| self.settled(id, || work(id, snapshot));
        let done = restic::map_parallel(snapshots, THREADS, work);
        for ((id, _), result) in snapshots.iter().zip(done) {
            match result {
                Ok(result) => results.extend(result),
                Err(error) if error.kind == RepositoryErrorKind::Cancelled => return Err(error),
                Err(error) => remark(context, &format!("snapshot {id}"), &error.to_string()),
            }
        }
        Ok(results)
    }

    /// Shows the backups of one snapshot that are asked for, in the order of its list.
    fn each_record(
        &self,
        id: &Id,
        snapshot: &Snapshot,
        wanted: &Wanted,
        (said, names): (&Said, &lines::Names),
        context: &Context,
        take: &mut dyn FnMut(BackupRecord),
    ) -> Result<(), RepositoryError> {
        let tags = foreign_tags(snapshot);
        let original = snapshot.original.as_ref().map(Id::to_string);
        let mut of = Listing {
            snapshot: id.to_string().into(),
            alone: false,
            host: snapshot.hostname.as_str().into(),
            tags: &tags,
            original: original.as_deref(),
            names,
        };
        let of_target = names::tag_value(&snapshot.tags, "target");
        let only = match wanted {
            Wanted::Database(_, name) => Some(Only::new("database", name.as_str())),
            Wanted::Place(place) if of_target.as_deref() != Some(place) => {
                Some(Only::new("connection", place))
            }
            _ => None,
        };
        let mut take = |record: BackupRecord| {
            if wanted.fits(&record) {
                take(record);
            }
        };
        let is_ours = self.scan(id, snapshot, only.as_ref(), context, |lines, line| {
            if line.outcome == LineOutcome::Complete || line.lost {
                of.alone = lines == 1;
                let proof = said.proof(line.subtree, line.proof_time).filter(|_| !line.lost);
                let record = line.record(&of, proof);
                let mut record = record.map_err(|error| damaged_list(id, &error))?;
                record.suspect.take_if(|_| line.lost || said.accepts(line.subtree));
                take(record);
            }
            Ok(())
        })?;
        if !is_ours && may_hold_files(wanted, snapshot) {
            let files = foreign(id, snapshot, self.size(&snapshot.tree, context), said);
            files.into_iter().for_each(take);
        }
        Ok(())
    }
}
