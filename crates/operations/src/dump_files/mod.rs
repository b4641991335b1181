//! Dump files of any tool: what their names say, which of them a person means, and their bytes behind whatever packs them.
//!
//! Files are opened for reading and nothing else. What a file is follows from its content, its ending only says what
//! somebody meant it to be.

mod beside;
mod file;
mod find;
mod folder;
mod lock;
mod manifest;
mod name;
mod open;
mod pattern;
mod settle;
mod sound;
mod source;
mod unpack;

pub use file::{Choice, DumpFile, Found, Likeness, TimeSource};
pub(crate) use file::{is_neo4j, recognise, unreadable, unreadable_at};
pub use find::find;
pub(crate) use folder::{LOGS, list};
pub use lock::FolderLock;
pub use manifest::{FILE_SCHEMA, FileManifest};
pub(crate) use name::parse as parse_name;
pub(crate) use open::{refuse_another_digest, undecodable, unpack};
pub use pattern::{Pattern, expand};
pub(crate) use settle::settle;
pub(crate) use sound::{ReadBack, beginning_problem, digest_problem, is_opaque, read_back};
pub(crate) use source::DumpSource;
pub(crate) use unpack::{Fingerprint, Unpacked, fingerprint, packing_of};
