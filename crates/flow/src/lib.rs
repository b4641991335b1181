//! What crosses Backstay's layers: the words, the seams and the errors of the seams.
//!
//! An engine turns a database into a [`Dump`]: named entries, each made of parts that any worker may pull. A
//! repository takes the parts and gives them back through a [`BackupReader`]. Neither knows the other; both know
//! this crate. Nothing here does I/O, prints, or reads the environment.

mod backup;
mod cancel;
mod context;
mod dump;
mod facts;
mod finding;
mod layout;
mod manifest;
mod names;
mod observer;
mod quoting;
mod safety_suffix;
mod secret;
mod selection;
mod source_error;
mod text;

pub use backup::{BackupReader, ReadError, ReadErrorKind};
pub use cancel::{Cancel, CancelGuard, Cancelled};
pub use context::{Context, Environment, ScratchDir};
pub use dump::{
    DatabaseRequest, Dump, DumpOptions, DumpRequest, Dumped, OpenPart, PartFacts, PartReader, PartRef,
    Previous, Step, Unchanged,
};
pub use facts::{ConsistencyPoint, Digest128, Facts, Marks, SchemaObject, TableFacts};
pub use finding::{Finding, Severity};
pub use layout::Layout;
pub use manifest::{MANIFEST_SCHEMA, Manifest, ManifestEntry, ManifestPart};
pub use names::{
    DatabaseName, DatabaseRef, EngineKind, EntryName, NameError, TargetName, TargetRef, TenantQuery,
};
pub use observer::{Event, Observer, Phase, Silent, Stall};
pub use quoting::quoted;
pub use safety_suffix::SafetySuffix;
pub use secret::{NoSecrets, Secret, SecretRef, Secrets};
pub use selection::{Content, Selection};
pub use source_error::{SourceError, SourceErrorKind};
pub use text::Text;
