//! Dump files of any tool: what their names say, which of them a person means, and their bytes behind whatever packs them.
//!
//! Files are opened for reading and nothing else. What a file is follows from its content, its ending only says what
//! somebody meant it to be.

mod find;
mod name;
mod unpack;

pub use find::{DumpFile, Found, TimeSource, find};
pub(crate) use find::{recognise, unreadable};
pub(crate) use unpack::{Fingerprint, Unpacked, fingerprint};
