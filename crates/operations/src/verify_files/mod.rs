//! Verifies dump files of any tool: their size and age, the packing and the content read to the end, the SHA-256 where one
//! lies beside.
//!
//! Several files at once, one a core. Files are opened for reading and nothing else; a folder is locked against a prune
//! meanwhile. A crash leaves a scratch folder, which the next run removes.

mod deep;
mod expectation;
mod limits;
mod look;
mod neo4j;
mod report;

pub use expectation::{Comparison, Expectation, Question};
pub use limits::Limits;
pub use report::{FileItem, VerifyFilesBody};

use crate::dump_files::{Choice, DumpFile, DumpSource, FolderLock, Found, find};
use crate::import::scratch::ScratchFolder;
use crate::journaling;
use crate::report::{Outcome, Report, elapsed_ms};
use crate::verify::{VerifyPerformance, VerifySummary};
use crate::{AgeKeys, OperationError, Services};
use flow::{Event, Phase, SourceErrorKind};
use jiff::Timestamp;
use look::Looking;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use storage::LocalFolder;

/// How long a prune of a folder is waited for.
const PRUNE_WAIT: Duration = Duration::from_secs(10);

/// Which files to verify, and how.
#[derive(Debug, Clone)]
pub struct VerifyFilesOptions {
    /// Absolute paths, folders and patterns.
    pub paths: Vec<PathBuf>,
    /// How names are read, and which of a folder are meant.
    pub choice: Choice,
    /// Only the newest of all that match.
    pub latest: bool,
    /// What a file must keep to.
    pub limits: Limits,
    /// Leaves out what only a second look at everything would find.
    pub quick: bool,
    /// Whether a dump may hold nothing at all.
    pub allow_empty: bool,
    /// Loads what passed into scratch.
    pub deep: bool,
    /// What is asked of what was loaded.
    pub questions: Vec<Question>,
    /// Whether somebody named the folder for scratch: then it is taken, and removed where it was not there.
    pub scratch_given: bool,
    /// By what encrypted files are read.
    pub keys: AgeKeys,
    /// Tells which files are meant, and reads none.
    pub dry_run: bool,
}

/// Verifies the files. What is wrong with one is not an error of this call: it is in the report, whose outcome is then
/// `failed`. Fails where there is none, and where a folder is being pruned.
pub fn run(
    services: &Services,
    options: &VerifyFilesOptions,
) -> Result<Report<VerifyFilesBody>, OperationError> {
    let started = Timestamp::now();
    if options.dry_run {
        return verify_all(services, options, started);
    }
    let recorded = journaling::begin(services, "verify", None, started);
    let outcome = verify_all(services, options, started);
    match &outcome {
        Ok(report) => journaling::finish(services, &recorded, Ok(&report.with(report.body.abridged()))),
        Err(error) => journaling::finish::<VerifyFilesBody>(services, &recorded, Err(error)),
    }
    outcome
}

/// Reads one file to its end, and tells why it is worth nothing. What it says of its size, age and emptiness does not
/// count. Nobody is told, and nothing is recorded.
pub(crate) fn problem(
    services: &Services,
    (file, source): (&DumpFile, &DumpSource),
) -> Result<Option<String>, OperationError> {
    let options = VerifyFilesOptions {
        paths: vec![],
        choice: Choice::all(jiff::tz::TimeZone::UTC),
        latest: false,
        limits: Limits::default(),
        quick: true,
        allow_empty: true,
        deep: false,
        questions: vec![],
        scratch_given: false,
        keys: AgeKeys::default(),
        dry_run: false,
    };
    let bytes_read = AtomicU64::new(0);
    let (now, bytes_read) = (Timestamp::now(), &bytes_read);
    let item = Looking { services, options: &options, file, source, now, bytes_read }.run(&mut None)?;
    let failed = item.checks.into_iter().find(|check| !check.passed);
    Ok(failed.map(|check| check.detail).or_else(|| (!item.valid).then(|| "does not pass".to_owned())))
}

fn verify_all(
    services: &Services,
    options: &VerifyFilesOptions,
    started: Timestamp,
) -> Result<Report<VerifyFilesBody>, OperationError> {
    let mut found = find(&options.paths, &options.choice, &services.engines);
    if options.latest
        && let Some(newest) = found.files.pop()
    {
        found.files = vec![newest];
    }
    if found.files.is_empty()
        && let Some((_, error)) = found.failed.pop()
    {
        return Err(error);
    }
    let _locks = lock(services, &found.files)?;
    let scratch = services.context.scratch.path();
    let _made = (options.scratch_given && !options.dry_run && !scratch.exists()).then(|| Made(scratch));
    let mut body = VerifyFilesBody::default();
    let bytes_read = AtomicU64::new(0);
    if options.dry_run {
        body.files.extend(found.files.iter().map(|file| FileItem::planned(file, started)));
    } else {
        body.files = look_at_all(services, options, &found, (started, &bytes_read))?;
    }
    for (path, error) in &found.failed {
        body.files.push(FileItem::unfound(path, error));
    }
    body.skipped = found.skipped;
    close(&mut body, started, bytes_read.into_inner());
    let all = body.summary.all_valid || options.dry_run;
    Ok(Report::new("verify", started, if all { Outcome::Complete } else { Outcome::Failed }, body))
}

/// A folder that is made for this run alone.
struct Made<'a>(&'a Path);

impl Drop for Made<'_> {
    fn drop(&mut self) {
        // It may not have been needed, or somebody else is at work in it.
        let _ = std::fs::remove_dir(self.0);
    }
}

/// Holds the folders against a prune. What cannot be locked is read nevertheless.
fn lock(services: &Services, files: &[DumpFile]) -> Result<Vec<FolderLock>, OperationError> {
    let folders: BTreeSet<&Path> = files.iter().filter_map(|file| Path::new(&file.path).parent()).collect();
    let mut locks = Vec::new();
    for folder in folders {
        match FolderLock::shared_within(&LocalFolder::new(folder), PRUNE_WAIT, &services.context.cancel) {
            Ok(lock) => locks.push(lock),
            Err(error) if error.kind == SourceErrorKind::InUse => return Err(error.into()),
            Err(_) => {}
        }
    }
    Ok(locks)
}

/// Looks at the files, several at once, the largest first, and returns what was found in the order of the files.
fn look_at_all(
    services: &Services,
    options: &VerifyFilesOptions,
    found: &Found,
    (now, bytes_read): (Timestamp, &AtomicU64),
) -> Result<Vec<FileItem>, OperationError> {
    let context = &services.context;
    let total = found.files.iter().map(|file| file.size_bytes).sum();
    let noun = if found.files.len() == 1 { "file" } else { "files" };
    let name = format!("verifying {} {noun}", found.files.len());
    context.observer.event(Event::Phase(Phase { name, total_bytes: Some(total) }));
    let mut order: Vec<usize> = (0..found.files.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(found.files.get(*at).map_or(0, |file| file.size_bytes)));
    let next = AtomicUsize::new(0);
    let items = Mutex::new(vec![None; found.files.len()]);
    let broken = Mutex::new(None);
    let work = || {
        let mut scratch: Option<ScratchFolder> = None;
        while let Some(at) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            let Some(file) = found.files.get(*at) else { break };
            let looked = DumpSource::of(Path::new(&file.path)).map_err(Into::into).and_then(|source| {
                Looking { services, options, file, source: &source, now, bytes_read }.run(&mut scratch)
            });
            match looked {
                Ok(item) => {
                    if let Some(slot) = items.lock().unwrap_or_else(PoisonError::into_inner).get_mut(*at) {
                        *slot = Some(item);
                    }
                }
                Err(error) => {
                    next.store(order.len(), Ordering::Relaxed);
                    broken.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(order.len().max(1));
    std::thread::scope(|scope| {
        for _ in 1..workers {
            scope.spawn(work);
        }
        work();
    });
    if let Some(error) = broken.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    context.cancel.check().map_err(|_| OperationError::Cancelled)?;
    Ok(items.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().flatten().collect())
}

fn close(body: &mut VerifyFilesBody, started: Timestamp, bytes_read: u64) {
    let valid = body.files.iter().filter(|item| item.valid).count();
    body.summary = VerifySummary {
        total_files: body.files.len() as u64,
        valid: valid as u64,
        invalid: (body.files.len() - valid) as u64,
        all_valid: valid == body.files.len() && valid > 0,
    };
    let elapsed_ms = elapsed_ms(started, Timestamp::now());
    body.performance = VerifyPerformance {
        bytes_read,
        bytes_per_second: bytes_read.saturating_mul(1000) / elapsed_ms.max(1),
        elapsed_ms,
    };
}
