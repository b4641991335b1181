//! Settings: as somebody wrote them, and as the program uses them. Every error names the file, the line and the key,
//! and says what to write instead; what this version cannot do is an error, never accepted and ignored.
//!
//! Also how the text of an argument becomes a source or a backup, since both depend on the configured names. Nothing
//! here prints or reads the environment: places and variables come in as values. Files are only read.

mod adapt;
mod argument;
mod error;
mod find;
mod folder_tools;
mod inline_secret;
mod keep;
mod layout;
mod logging;
mod position;
mod problem;
mod read;
mod settings;
mod source;
pub mod takeover;
mod tenants;
mod written;

pub use adapt::{Adapted, Surroundings, adapt};
pub use argument::{ArgumentError, Arguments, BackupArgument, SourceArgument, Which};
pub use error::ConfigError;
pub use find::{Places, find};
pub use folder_tools::{FolderLogging, FolderPruning, FolderRestoration, FolderValidation};
pub use inline_secret::inline_secret;
pub use layout::{FILE_NAMES, RepositoryLayout};
pub use logging::{LogFormat, LogLevel, LogProblem};
pub use read::{read, read_text};
pub use settings::{Plan, RepositoryPlace, RestoreSettings, SafetyKeep, Settings, Target};
pub use source::{SourceTextError, canonical_path, source};
pub use tenants::TenantNames;
