//! The archives of `pg_dump`: the table of contents of the formats custom and directory, read and written on byte
//! strings, and the data blocks of a custom archive as a stream.
//!
//! An archive of a database in LATIN1 or SQL_ASCII holds names that are not UTF-8, so nothing here is a `String`. The
//! source is `src/bin/pg_dump/pg_backup_archiver.c` and `pg_backup_custom.c` of PostgreSQL 9.3 to 18 (archive versions
//! 1.12 to 1.16). What is read is written again byte for byte. Sizes come from the file, so none is believed: memory
//! grows with what was read, never with what a number claims.

mod blocks;
mod entry;
mod error;
mod header;
mod packing;
mod scalar;
mod toc;

pub use blocks::{Block, BlockKind, BlockReader, BlockSizes, BlockWriter, LargeObjects};
pub use entry::{DataPlace, Entry, Section};
pub use error::ArchiveError;
pub use header::{ArchiveFormat, ArchiveVersion, Compression, CreationTime, Header};
pub(super) use packing::{Packing, Unpacked};
pub use toc::TableOfContents;
