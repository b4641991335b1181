//! The restic repository format: version 2 written and read, version 1 read.
//!
//! A [`Repository`] is opened with a password; blobs go in through a [`BlobWriter`] and come out through
//! [`Repository::read_blob`] and [`stream`]. Whoever writes takes a lock first ([`Repository::lock`]). The order of
//! writing is packs, index, snapshot: a crash leaves blobs that no snapshot needs, never a snapshot without its blobs.
//! Knows no database, no manifest and no retention.

mod blob;
mod cache;
mod check;
mod check_pack;
mod check_share;
mod crypto;
mod cut;
mod error;
mod evidence;
mod fetch;
mod heal;
mod id;
mod index;
mod index_file;
mod key_file;
mod key_search;
mod keys;
mod lock;
mod pace;
mod pack;
mod parallel;
mod polynomial;
mod prune;
mod quoting;
mod reader;
mod recover;
mod reindex;
mod repack;
mod repository;
mod snapshot;
mod tree;
mod trees;
mod unlock;
mod usage;
mod vault;
mod verify;
mod writer;

pub use check::{CheckOutcome, CheckProblem, Depth, check};
pub use check_share::Share;
pub use cut::{
    CONTENT_AVERAGE_BYTES, CONTENT_MAX_BYTES, CONTENT_MIN_BYTES, ContentCutter, Cut, FIXED_MAX_BYTES,
    cut_seed,
};
pub use error::{LockHolder, ResticError, ResticErrorKind};
pub use heal::{HealAction, HealOptions, HealOutcome, HealPlan, plan_heal};
pub use id::{BlobKind, Id, IdError};
pub use index::{BlobLocation, Index, IndexTotals};
pub use keys::{KeyInfo, KeyOptions};
pub use lock::{LockGuard, LockKind, LockOptions, LockOwner};
pub use parallel::map as map_parallel;
pub use prune::{
    Amount, MaxUnused, PruneFigures, PruneOptions, PruneOutcome, PrunePlan, PruneStep, plan_prune,
};
pub use quoting::{quote, unquote};
pub use reader::{ReadOptions, stream};
pub use recover::{Recovery, recover_packs};
pub use repository::{CreateOptions, OpenOptions, Repository, RepositoryConfig};
pub use snapshot::Snapshot;
pub use tree::{MODE_DIR, Node, NodeKind, Tree, TreeWriter};
pub use unlock::{LockFile, Stale};
pub use usage::StoredBytes;
pub use verify::{BlobProblem, VerifyOutcome, verify_blobs};
pub use writer::{BlobWriter, StoredBlob, StreamError, WriterOptions, WriterReport};
