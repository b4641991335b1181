//! One verb a file: accept, adopt, backup, import, list, show, restore, export, verify, check, prune, keys, unlock, stats,
//! doctor, role. The only place where engines meet repositories. Each verb takes options and returns a report; whoever called
//! renders it. Nothing here prints, reads the environment, or exits.

pub mod accept;
pub mod adopt;
pub mod backup;
pub mod backup_file;
pub mod backup_folder;
pub mod candidates;
pub mod check;
pub mod doctor;
pub mod doctor_repository;
pub mod dump_files;
mod encryption;
mod error;
pub mod export;
pub mod export_file;
mod hooks;
pub mod import;
mod journaling;
mod kept_configuration;
pub mod keys;
pub mod list;
pub mod list_folder;
mod plain_file;
mod plan_retention;
mod plausibility;
pub mod prune;
pub mod prune_folder;
pub mod reference;
pub mod report;
pub mod restore;
mod restored;
pub mod role;
mod safety_copies;
mod services;
mod settle;
pub mod show;
pub mod stats;
pub mod tenants;
mod unfinished;
pub mod unlisted;
pub mod unlock;
pub mod verify;
pub mod verify_files;

pub use encryption::{AgeKeys, AgeLock, Encryption};
pub use error::OperationError;
pub use kept_configuration::Configuration;
pub use plain_file::{Compression, FileOut, WrittenFile};
pub use plan_retention::{MetDamage, Pruned, Retention};
pub use safety_copies::{SafetyItem, SafetyRule};
pub use services::{Engines, Services};
pub use settle::LostBackup;
