//! The seam between operations and a layout.

use crate::retention::Verdict;
use crate::{
    BackupId, BackupRecord, Baseline, CheckDepth, CheckReport, HealReport, HealRequest, Keys, LockRecord,
    ProofRecord, PruneReport, PruneRequest, RecentRuns, RepositoryError, RepositoryErrorKind, Settled,
    SnapshotReport, SnapshotRequest, State, StoredFile, Unlisted, Usage, VerifyReport, Wanted,
};
use flow::{
    BackupReader, Context, DatabaseName, DatabaseRef, Dumped, EntryName, OpenPart, PartRef, Previous,
    ReadError, SourceError, TargetName, Unchanged,
};
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

/// A part could not be stored: one side or the other failed.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// The source failed: fatal for that database.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The repository failed: fatal for the run.
    #[error(transparent)]
    Write(#[from] RepositoryError),
}

/// The files of a snapshot that stock restic wrote.
pub trait StoredFiles: Send + Sync {
    /// Returns the files, folders before what is in them.
    fn files(&self) -> &[StoredFile];

    /// Returns a reader of the content of the file of that index. Verified as [`BackupReader::read`] is.
    fn read(&self, index: usize) -> Result<Box<dyn Read + Send>, ReadError>;
}

/// A place that keeps backups, open.
pub trait Repository: Send + Sync {
    /// Returns the repository's own id.
    fn id(&self) -> &str;

    /// Returns where it is, without secrets.
    fn location(&self) -> String;

    /// Lists the backups, oldest first, of one target or of all. Those of failed databases are not listed.
    fn backups(
        &self,
        target: Option<&TargetName>,
        context: &Context,
    ) -> Result<Vec<BackupRecord>, RepositoryError>;

    /// Lists the backups that are asked for, as [`Repository::backups`] does.
    fn backups_of(&self, wanted: &Wanted, context: &Context) -> Result<Vec<BackupRecord>, RepositoryError> {
        let mut records = self.backups(None, context)?;
        records.retain(|record| wanted.fits(record));
        Ok(records)
    }

    /// Shows the backups that are asked for one after the other: those of a snapshot by their times, and the snapshots
    /// by theirs. For whoever keeps little of each of hundreds of thousands.
    fn each_backup(
        &self,
        wanted: &Wanted,
        context: &Context,
        take: &mut dyn FnMut(BackupRecord),
    ) -> Result<(), RepositoryError> {
        self.backups_of(wanted, context)?.into_iter().for_each(take);
        Ok(())
    }

    /// Returns the snapshots that [`Repository::backups`] had to leave out. Whoever means the newest backup must ask:
    /// one of these may be newer than what is listed. A layout in which nothing can be left out has none.
    fn unlisted(&self, _context: &Context) -> Result<Vec<Unlisted>, RepositoryError> {
        Ok(vec![])
    }

    /// Returns those of [`Repository::unlisted`] that may hold what is asked for, as far as what is left of them tells.
    fn unlisted_of(&self, wanted: &Wanted, context: &Context) -> Result<Vec<Unlisted>, RepositoryError> {
        let mut unlisted = self.unlisted(context)?;
        unlisted.retain(|unlisted| match wanted {
            Wanted::All | Wanted::Place(_) => true,
            Wanted::Target(wanted) | Wanted::Database(wanted, _) => {
                unlisted.target.as_ref().is_none_or(|target| target == wanted)
            }
            Wanted::Snapshot(digits) => unlisted.snapshot.starts_with(digits),
        });
        Ok(unlisted)
    }

    /// Opens a backup by its full id.
    fn open(&self, id: &BackupId, context: &Context) -> Result<Arc<dyn BackupReader>, RepositoryError>;

    /// Opens the files of any snapshot, by its full id: for those that stock restic wrote.
    fn files(&self, snapshot: &str, context: &Context) -> Result<Box<dyn StoredFiles>, RepositoryError>;

    /// Returns what is known of the previous backup of each database of a target taken by this host, where its every
    /// blob is indexed. Backups of a part of a database are none.
    fn previous(
        &self,
        target: &TargetName,
        host: &str,
        context: &Context,
    ) -> Result<BTreeMap<DatabaseName, Previous>, RepositoryError>;

    /// Returns which databases of a target the recent runs of this host found, for whoever tells new and vanished ones. Where
    /// it has no run, and the target a name that is no path, those of any host: containers change their host names. Runs of
    /// a part of the databases are none.
    fn recent(
        &self,
        target: &TargetName,
        host: &str,
        context: &Context,
    ) -> Result<RecentRuns, RepositoryError>;

    /// Begins a snapshot. Nothing is visible before its `commit`.
    fn begin(
        &self,
        request: SnapshotRequest,
        context: &Context,
    ) -> Result<Box<dyn SnapshotWriter>, RepositoryError>;

    /// Reads a backup's every byte back and compares it.
    fn verify(&self, id: &BackupId, context: &Context) -> Result<VerifyReport, RepositoryError>;

    /// Checks the repository as a whole.
    fn check(&self, depth: CheckDepth, context: &Context) -> Result<CheckReport, RepositoryError>;

    /// Returns the locks that lie there, stale ones too. A layout without locks has none.
    fn locks(&self) -> Result<Vec<LockRecord>, RepositoryError> {
        Ok(vec![])
    }

    /// Removes a lock, whoever holds it. One that is gone already is no error.
    fn remove_lock(&self, _id: &str) -> Result<(), RepositoryError> {
        Ok(())
    }

    /// Tells what it takes up, without reading content.
    fn usage(&self, context: &Context) -> Result<Usage, RepositoryError>;

    /// Returns the keys; `None` for a layout that has none.
    fn keys(&self) -> Option<&dyn Keys> {
        None
    }

    /// Removes the backups that rules let go ([`crate::retention::plan`]), and frees the space that nobody needs any more.
    /// Decided and done under one exclusive lock ([`crate::RepositoryErrorKind::Locked`] where somebody is in the way):
    /// what others wrote until then counts. Never touches what a scope does not select, what other programs wrote, and
    /// what cannot be listed. A dry run tells the same and changes nothing. Interrupted, fewer backups may have gone
    /// than were to, each of them whole, and the next prune goes on.
    fn prune(&self, request: &PruneRequest, context: &Context) -> Result<PruneReport, RepositoryError>;

    /// Prunes as [`Repository::prune`] does, where that removes anything: it looks first, without an exclusive lock, and
    /// does no more where nothing goes. `leaves_space` tells by the verdicts whether the space is left for later
    /// (`forget_only` of the request counts for nothing). What was read for the look is not read again, unless others
    /// wrote in between.
    fn prune_if_any(
        &self,
        request: &PruneRequest,
        leaves_space: &dyn Fn(&[Verdict]) -> bool,
        context: &Context,
    ) -> Result<PruneReport, RepositoryError> {
        let look = PruneRequest { dry_run: true, forget_only: true, ..request.clone() };
        let expected = self.prune(&look, context)?;
        if expected.snapshots == 0 || request.dry_run {
            return Ok(expected);
        }
        let forget_only = leaves_space(&expected.verdicts);
        self.prune(&PruneRequest { forget_only, ..request.clone() }, context)
    }

    /// Checks, and mends what can be mended: what is good stays or is saved, what is damaged goes, and what backups need
    /// and nobody holds is remembered until [`Repository::settle`]. What cannot be read at this moment stays. With
    /// `dry_run` it changes nothing. A layout that cannot heal refuses, and so does one of which much is missing.
    fn heal(&self, _request: &HealRequest, _context: &Context) -> Result<HealReport, RepositoryError> {
        let message = "a repository of this layout cannot be healed";
        Err(RepositoryError::new(RepositoryErrorKind::Unsupported, self.location(), message))
    }

    /// Settles what a heal left open, after a run of the same target (its snapshot's full id): backups whose every byte
    /// is there again are whole; those of databases that were backed up now, or are no longer there, and still lack
    /// something, are lost and listed as such from now on. Costs nothing where nothing is open.
    fn settle(&self, _run: &str, _context: &Context) -> Result<Settled, RepositoryError> {
        Ok(Settled::default())
    }

    /// Returns the records of all writers, of each subject the newest.
    fn state(&self, context: &Context) -> Result<State, RepositoryError>;

    /// Adds records, of as many kinds as there are in one go; durable when it returns. Those of other subjects stay;
    /// each counts from now on, even where one of its subject is known by a clock that was ahead: it is told as just later.
    fn append_state(&self, records: State, context: &Context) -> Result<(), RepositoryError>;

    /// Returns the proof records of all writers.
    fn proofs(&self, context: &Context) -> Result<Vec<ProofRecord>, RepositoryError> {
        Ok(self.state(context)?.proofs.into_iter().collect())
    }

    /// Adds proof records; durable when it returns.
    fn append_proofs(&self, records: Vec<ProofRecord>, context: &Context) -> Result<(), RepositoryError> {
        self.append_state(State { proofs: records.into_iter().collect(), ..State::default() }, context)
    }
}

/// A snapshot being written. All calls may come from any thread. Dropped, nothing of it becomes visible; blobs that
/// were stored and indexed are used by the next run.
pub trait SnapshotWriter: Send + Sync {
    /// Stores a part. Returns once all of it is cut and hashed; a source error leaves the database without it.
    fn part(&self, part: OpenPart) -> Result<(), PartError>;

    /// Takes a part of the previous backup as it is.
    fn reuse(&self, part: PartRef) -> Result<(), RepositoryError>;

    /// Takes the whole previous backup of a database as it is.
    fn unchanged(&self, database: &DatabaseRef, unchanged: Unchanged) -> Result<(), RepositoryError>;

    /// Closes a database: every entry's parts must be there, without gap or surplus, with the sizes that their
    /// producers told.
    fn done(&self, database: &DatabaseRef, dumped: Dumped) -> Result<(), RepositoryError>;

    /// Returns the newest earlier backup of the same part of a database by this host that is not suspect, or was accepted:
    /// what its new content is measured by; by any host where [`Repository::recent`] would look there too. `None` where
    /// there is none that can be read. Reads nothing before it is asked.
    fn baseline(&self, database: &DatabaseRef) -> Result<Option<Baseline>, RepositoryError>;

    /// Marks a database that is `done` as suspect: the snapshot keeps the reasons, and the list shows them. No reasons
    /// take the mark away. One that is `unchanged` has the mark of the backup that it takes, without this call, unless
    /// that was accepted.
    fn suspect(&self, database: &DatabaseRef, reasons: Vec<String>) -> Result<(), RepositoryError>;

    /// Forgets what was stored of a database, with the reason that the snapshot keeps of it.
    fn discard(&self, database: &DatabaseRef, reason: &str);

    /// Returns the size so far of an entry of a database, for progress.
    fn entry_bytes(&self, database: &DatabaseRef, entry: &EntryName) -> u64;

    /// Makes all durable, confirms what was written, and writes the snapshot. Databases that were neither done nor
    /// unchanged nor discarded make it fail. A snapshot without any database is refused.
    fn commit(self: Box<Self>) -> Result<SnapshotReport, RepositoryError>;
}
