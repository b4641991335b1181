//! Restoring: a plan of named steps, each safe to repeat, each recorded beside the target before it is taken.

use flow::{BackupReader, DatabaseRef, ReadError, SourceError};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A step of a restore, in the order in which they are taken. An engine lists those that its restore has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestoreStep {
    /// Space, versions, rights, lock. Changes nothing but the restore record, which is also the target's lock.
    Preflight,
    /// The backup is written beside the target.
    Beside,
    /// What was written is compared with the backup and checked by the database system.
    Verify,
    /// Nobody uses the target any more, or this fails and names who does.
    Quiesce,
    /// The new database takes the target's place; the old one becomes the safety copy.
    Swap,
    /// The restore is accepted: the record goes, and with it the way back by `roll_back`.
    Finish,
}

/// Where the result of a restore goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestoreMode {
    /// Takes the target's place by rename (whether or not there is one yet).
    Swap,
    /// A new database that must not exist yet.
    ToNew,
    /// Written through the database system into the live target, which its users keep open.
    InPlace,
}

/// What becomes of the database that the target held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Safety {
    /// Kept beside the target.
    Beside,
    /// Kept in that folder.
    Folder(PathBuf),
    /// Not kept.
    None,
}

/// To whom what is restored belongs, where the database system has owners.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ownership {
    /// Everything belongs to whoever restores; rights of roles that are not there are left out.
    pub no_owner: bool,
    /// Roles that have another name here: old names to new ones.
    pub role_map: BTreeMap<String, String>,
    /// Roles that are not there are made as the backup has them, without passwords. They stay, whatever becomes of the
    /// restore.
    pub create_roles: bool,
}

impl Ownership {
    /// Tells whether nothing is asked for.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What to restore where, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreRequest {
    /// The database to be replaced, made, or written into.
    pub target: DatabaseRef,
    /// How the result gets there.
    pub mode: RestoreMode,
    /// What becomes of the old one.
    pub safety: Safety,
    /// Whether what was written is compared and checked before it is swapped in.
    pub verify: bool,
    /// To whom it belongs.
    #[serde(default)]
    pub ownership: Ownership,
    /// Only these tables, beside the live ones of the target, which nothing is done to; all of the database where there
    /// is none.
    #[serde(default)]
    pub tables: Vec<String>,
    /// Only definitions: no rows, no values of sequences, no large objects.
    #[serde(default)]
    pub schema_only: bool,
    /// Only rows, values of sequences and large objects, added to a database whose tables are there.
    #[serde(default)]
    pub data_only: bool,
    /// The backup, as its id.
    pub backup: String,
    /// The repository that holds it, without secrets, for whoever continues from another host.
    pub repository: String,
    /// When the restore began.
    pub started: Timestamp,
    /// The host that began it.
    pub host: String,
}

/// Somebody who uses a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process id, where it is a process of this host.
    pub pid: Option<u32>,
    /// What it is: a command line (without arguments that could be secret), a session.
    pub name: String,
}

/// What a restore is going to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestorePlan {
    /// The steps it will take.
    pub steps: Vec<RestoreStep>,
    /// What it will do, a sentence each.
    pub actions: Vec<String>,
    /// Bytes to be written.
    pub write_bytes: u64,
    /// Free bytes needed where the target is.
    pub needed_bytes: u64,
    /// Free bytes there now, where that can be told.
    pub free_bytes: Option<u64>,
    /// Where the old database will be kept; `None` where there is none or it is not kept.
    pub safety_copy: Option<String>,
    /// Who uses the target now.
    pub holders: Vec<Holder>,
    /// Whether the swap ends them by itself.
    pub ends_holders: bool,
    /// What would refuse the restore as things are, with what mends it.
    pub problems: Vec<String>,
}

impl RestorePlan {
    /// What is left of a restore that was begun before: nobody uses the target, and nothing new is needed.
    pub(crate) fn to_be_finished(
        steps: Vec<RestoreStep>,
        write_bytes: u64,
        safety_copy: Option<String>,
    ) -> Self {
        Self {
            steps,
            actions: vec!["Finish the restore that was begun, or undo it.".to_owned()],
            write_bytes,
            needed_bytes: 0,
            free_bytes: None,
            safety_copy,
            holders: Vec::new(),
            ends_holders: false,
            problems: Vec::new(),
        }
    }
}

/// A restore that was begun: what is durable beside the target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RestoreState {
    /// What was asked for.
    pub request: RestoreRequest,
    /// The step that was begun last.
    pub step: RestoreStep,
    /// Whether that step was completed.
    pub completed: bool,
    /// Whether a roll-back was begun.
    pub rolling_back: bool,
    /// Where the old database is kept.
    pub safety_copy: Option<String>,
    /// Whether whoever began it still runs (known on its own host only).
    #[serde(skip)]
    pub owner_alive: bool,
    /// What operations keep in the same record: hooks, health checks and their outcome.
    pub notes: serde_json::Value,
    /// The engine's own: paths, owners, modes.
    pub engine: serde_json::Value,
}

impl RestoreState {
    /// Where a restore stands that was planned now: before its preflight, with nothing done.
    pub(crate) fn begun(request: &RestoreRequest, plan: &RestorePlan) -> Self {
        Self {
            request: request.clone(),
            step: RestoreStep::Preflight,
            completed: false,
            rolling_back: false,
            safety_copy: plan.safety_copy.clone(),
            owner_alive: true,
            notes: serde_json::Value::Null,
            engine: serde_json::Value::Null,
        }
    }
}

/// A restore failed, on one side or the other.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup cannot be read.
    #[error(transparent)]
    Backup(#[from] ReadError),
    /// The database side failed.
    #[error(transparent)]
    Database(#[from] SourceError),
}

/// Which database is under the target's name while a restore is not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// What was there before, which may be nothing.
    Old,
    /// The restored one.
    New,
    /// None, in the middle of a swap.
    Nothing,
    /// That cannot be told.
    Unknown,
}

/// A restore under way. `run` makes its state durable beside the target before it acts; every step may be run again
/// after a crash in the middle of it. Dropped, it leaves the record for [`crate::Engine::resume_restore`] and gives
/// up its lock.
pub trait Restore: Send {
    /// Returns what it is going to do.
    fn plan(&self) -> &RestorePlan;

    /// Returns its steps in order.
    fn steps(&self) -> &[RestoreStep];

    /// Runs one step. The steps before it must have been run, by this process or by the one that began.
    fn run(&mut self, step: RestoreStep, backup: &dyn BackupReader) -> Result<(), RestoreError>;

    /// Keeps `notes` in the restore record; durable when it returns.
    fn note(&mut self, notes: serde_json::Value) -> Result<(), SourceError>;

    /// Returns the state as it is recorded.
    fn state(&self) -> RestoreState;

    /// Tells which database is in place. Only looks.
    fn standing(&self) -> Standing {
        Standing::Unknown
    }

    /// Puts the old database back (or removes what was not there before), whatever step was reached, and removes the
    /// record. Safe to repeat after a crash in the middle of it.
    fn roll_back(&mut self) -> Result<(), RestoreError>;
}
