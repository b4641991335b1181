//! Write-once named objects: the floor that repositories stand on.
//!
//! [`LocalStorage`] keeps them on a local or mounted disk. [`atomic_write`] is the way to write any other file that
//! must survive a crash.

mod durable;
mod error;
mod files;
mod local;
mod object;

pub use durable::atomic_write;
pub use error::{StorageError, StorageErrorKind};
pub use files::{FileOperations, SystemFiles};
pub use local::LocalStorage;
pub use object::{ObjectName, ObjectStat, Storage};
