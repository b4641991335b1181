//! What knows one database system. An [`Engine`] finds databases, tells what state they are in, takes dumps of them
//! and restores them; it knows no repository. Entries leave as plain, ordered, dedupe-friendly bytes and come back
//! through a [`flow::BackupReader`].

mod counting;
mod engine;
pub mod postgres;
mod restore;
pub mod sqlite;

pub use engine::{
    Again, Answer, Converted, DatabaseInfo, Engine, Enumeration, ExamineRequest, Examined, ExportForm,
    ExportSummary, FactsDepth, FileDump, LoadRequest, Loaded, Query, RoleAction, RoleReport, RoleRequest,
    SafetyCopy, Skipped,
};
pub use restore::{
    Holder, Ownership, Restore, RestoreError, RestoreMode, RestorePlan, RestoreRequest, RestoreState,
    RestoreStep, Safety, Standing,
};
