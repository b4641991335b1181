//! Write-once named objects: the floor that repositories stand on.
//!
//! [`LocalStorage`] keeps them on a local or mounted disk. [`atomic_write`] is the way to write any other file that
//! must survive a crash. [`WatchedStorage`] tells of calls that hang, and lets an interruption end them.

mod durable;
mod error;
mod files;
mod local;
mod object;
mod read_back;
mod watch;
mod watched;

pub use durable::{atomic_write, write_new};
pub use error::{StorageError, StorageErrorKind};
pub use files::{FileOperations, SystemFiles};
pub use local::LocalStorage;
pub use object::{Given, ObjectName, ObjectStat, Storage};
pub use watch::{Watch, WatchOptions};
pub use watched::WatchedStorage;
