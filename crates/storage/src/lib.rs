//! The two floors that everything stands on: write-once named objects, and folders of plain files.
//!
//! Repositories keep objects in a [`Storage`]; [`LocalStorage`] keeps them on a local or mounted disk. A [`Folder`] holds dump
//! files, under names that people and other tools give; [`LocalFolder`] is one of this machine. [`atomic_write`] is the way to write any other file that
//! must survive a crash. [`WatchedStorage`] tells of calls that hang, and lets an interruption end them.

mod durable;
mod error;
mod files;
mod folder;
mod folder_lock;
mod local;
mod local_folder;
mod look;
mod object;
mod open_files;
mod read_back;
mod watch;
mod watched;

pub use durable::{atomic_write, write_new};
pub use error::{StorageError, StorageErrorKind};
pub use files::{FileOperations, SystemFiles};
pub use folder::{Folder, FolderGuard, Leftover, Listed, LockKind, LockRefused, NewFile, Removal, Removed};
pub use folder_lock::LOCK_FILE;
pub use local::LocalStorage;
pub use local_folder::LocalFolder;
pub use look::{FileKind, Look};
pub use object::{Given, ObjectName, ObjectStat, Storage};
pub use open_files::OpenFiles;
pub use watch::{Watch, WatchOptions};
pub use watched::WatchedStorage;
