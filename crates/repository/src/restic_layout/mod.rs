//! Layout `restic`: deduplicated, compressed, encrypted, and a valid restic repository at any moment.
//!
//! A run of a target is a snapshot `/TARGET/DATABASE/…` with `databases.jsonl` at its root; proofs and configurations are
//! kept in small snapshots of their own, tagged `backstay-state`. What exactly is written is fixed in FORMAT.md.

mod assemble;
mod backups;
mod care;
mod check;
mod failure;
mod heal;
mod keys;
mod known;
mod layout;
mod lines;
mod list;
mod losses;
mod memo;
mod names;
mod opened;
mod proving;
mod prune;
mod reader;
mod relist;
mod root;
mod runs;
mod settle;
mod state;
mod whole;
mod writer;

pub use layout::ResticLayout;
pub use opened::ResticOptions;
pub use restic::LockOwner;
