//! Dump files of any tool: what their names say, which of them a person means, and their bytes behind whatever packs them.
//!
//! Files are opened for reading and nothing else. What a file is follows from its content, its ending only says what
//! somebody meant it to be.

mod beside;
mod file;
mod find;
mod folder;
mod in_use;
mod lock;
mod manifest;
mod name;
mod open;
mod pattern;
mod sound;
mod unpack;

pub(crate) use beside::expected;
pub use file::{Choice, DumpFile, Found, Likeness, TimeSource};
pub(crate) use file::{is_neo4j, recognise, unreadable};
pub use find::find;
pub(crate) use folder::{LOGS, MANIFEST_ENDING, list};
pub(crate) use in_use::OpenFiles;
pub use lock::FolderLock;
pub use manifest::{FILE_SCHEMA, FileManifest};
pub(crate) use name::parse as parse_name;
pub(crate) use open::{again, refuse_another_digest, undecodable, unpack};
pub use pattern::{Pattern, expand};
pub(crate) use sound::{ReadBack, beginning_problem, digest_problem, is_opaque, read_back};
pub(crate) use unpack::{Fingerprint, Unpacked, fingerprint, packing_of};
