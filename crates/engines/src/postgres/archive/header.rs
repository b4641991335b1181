//! What stands before the table of contents.

use super::error::ArchiveError;
use super::scalar::{Input, Output};
use std::fmt;
use std::io::{Read, Write};

const MAGIC: &[u8; 5] = b"PGDMP";

/// The version of the archive's format, which is not that of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArchiveVersion {
    /// Always 1 so far.
    pub major: u8,
    /// From 12 (PostgreSQL 9.0) to 16 (PostgreSQL 17 and 18).
    pub minor: u8,
    /// Always 0 so far.
    pub revision: u8,
}

impl ArchiveVersion {
    pub(in crate::postgres) fn is_at_least(self, minor: u8) -> bool {
        (self.major, self.minor) >= (1, minor)
    }
}

impl fmt::Display for ArchiveVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.revision)
    }
}

/// How data are laid out around the table of contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ArchiveFormat {
    /// One file: table of contents, then blocks of data.
    Custom,
    /// `toc.dat` of a tar archive, or of a folder, as `pg_dump` writes it.
    Tar,
    /// `toc.dat` of a folder that says so; `pg_restore` takes it too.
    Directory,
}

impl ArchiveFormat {
    fn code(self) -> u8 {
        match self {
            ArchiveFormat::Custom => 1,
            ArchiveFormat::Tar => 3,
            ArchiveFormat::Directory => 5,
        }
    }
}

/// How data are compressed, as the header says it: a level before 1.15, an algorithm since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// The level of gzip; 0 for none, -1 for its default.
    Level(i32),
    /// 0 none, 1 gzip, 2 lz4, 3 zstd.
    Algorithm(u8),
}

impl Compression {
    /// Tells whether data are plain.
    pub fn is_none(self) -> bool {
        matches!(self, Compression::Level(0) | Compression::Algorithm(0))
    }

    /// Returns that of plain data for a version.
    pub fn none(version: ArchiveVersion) -> Self {
        if version.is_at_least(15) { Compression::Algorithm(0) } else { Compression::Level(0) }
    }
}

/// When the archive was made: second, minute, hour, day, month from 0, years since 1900, daylight saving, in the local
/// time of whoever made it, as C's `struct tm` has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CreationTime(pub [i32; 7]);

/// What stands before the table of contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The format's version.
    pub version: ArchiveVersion,
    /// How many bytes an integer has, beside its sign.
    pub int_bytes: u8,
    /// How many bytes an offset has.
    pub offset_bytes: u8,
    /// The layout.
    pub format: ArchiveFormat,
    /// Of the data.
    pub compression: Compression,
    /// When it was made.
    pub created: CreationTime,
    /// The database's name.
    pub database: Option<Vec<u8>>,
    /// The server's version, as text.
    pub server_version: Option<Vec<u8>>,
    /// The version of `pg_dump`, as text.
    pub dump_version: Option<Vec<u8>>,
}

impl Header {
    pub(super) fn read<R: Read>(input: &mut Input<R>) -> Result<Self, ArchiveError> {
        for expected in MAGIC {
            match input.byte_or_end()? {
                Some(byte) if byte == *expected => {}
                _ => return Err(ArchiveError::NotAnArchive),
            }
        }
        let version = ArchiveVersion { major: input.byte()?, minor: input.byte()?, revision: input.byte()? };
        if version.major != 1 || !(12..=16).contains(&version.minor) {
            let message = format!("has the archive version {version}, and 1.12 to 1.16 are known");
            return Err(ArchiveError::Unsupported(message));
        }
        let (int_bytes, offset_bytes) = (input.byte()?, input.byte()?);
        if !(1..=32).contains(&int_bytes) || !(1..=32).contains(&offset_bytes) {
            return Err(input.damaged("its numbers have no size"));
        }
        (input.int_bytes, input.offset_bytes) = (int_bytes, offset_bytes);
        let format = match input.byte()? {
            1 => ArchiveFormat::Custom,
            3 => ArchiveFormat::Tar,
            5 => ArchiveFormat::Directory,
            other => return Err(ArchiveError::Unsupported(format!("has the unknown format {other}"))),
        };
        let compression = if version.is_at_least(15) {
            Compression::Algorithm(input.byte()?)
        } else {
            Compression::Level(input.number("the compression")?)
        };
        let mut created = [0; 7];
        for field in &mut created {
            *field = input.number("a field of the time")?;
        }
        Ok(Self {
            version,
            int_bytes,
            offset_bytes,
            format,
            compression,
            created: CreationTime(created),
            database: input.string()?,
            server_version: input.string()?,
            dump_version: input.string()?,
        })
    }

    pub(super) fn write<W: Write>(&self, output: &mut Output<W>) -> Result<(), ArchiveError> {
        output.bytes(MAGIC)?;
        output.bytes(&[self.version.major, self.version.minor, self.version.revision])?;
        output.bytes(&[self.int_bytes, self.offset_bytes, self.format.code()])?;
        match self.compression {
            Compression::Algorithm(algorithm) => output.bytes(&[algorithm])?,
            Compression::Level(level) => output.integer(i64::from(level))?,
        }
        for field in self.created.0 {
            output.integer(i64::from(field))?;
        }
        for text in [&self.database, &self.server_version, &self.dump_version] {
            output.string(text.as_deref())?;
        }
        Ok(())
    }
}
