//! Write-once named objects: the floor that repositories stand on.

mod error;
mod object;

pub use error::{StorageError, StorageErrorKind};
pub use object::{ObjectName, ObjectStat, Storage};
