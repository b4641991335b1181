//! The commands, one a file: options from the command line to a verb's options, and its report to text.

pub(crate) mod accept;
pub(crate) mod adopt;
pub(crate) mod backup;
mod backup_file;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod init;
pub(crate) mod key;
pub(crate) mod list;
pub(crate) mod man;
pub(crate) mod prune;
mod prune_folder;
pub(crate) mod restore;
mod restore_dump;
mod restore_files;
mod restore_options;
mod restore_telling;
pub(crate) mod role;
pub(crate) mod show;
pub(crate) mod stats;
pub(crate) mod unlock;
pub(crate) mod verify;
mod verify_files;
