//! The data of a custom archive, block by block, as a stream: each block belongs to an entry and is a row of chunks; a
//! block of large objects is a row of objects, each a row of chunks.
//!
//! Data of another compression than none are passed on as they are: whoever asked for plain data gets plain data. The
//! stream ends where a block could begin; an end anywhere else is damage, and so is a block for no entry.

use super::error::ArchiveError;
use super::scalar::{Input, Output};
use super::toc::TableOfContents;
use std::io::{self, Read, Write};

const DATA: u8 = 1;
const LARGE_OBJECTS: u8 = 3;

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockKind {
    /// The rows of a table, or what else one entry has.
    Data,
    /// Large objects.
    LargeObjects,
}

/// Reads the blocks that follow a table of contents.
pub struct BlockReader<R> {
    input: Input<R>,
    toc: TableOfContents,
    /// What of the current block is not read yet.
    open: Open,
}

enum Open {
    /// Between blocks.
    Nothing,
    /// In a row of chunks: how many bytes of this chunk are left.
    Chunks(u64),
    /// In a block of large objects, between two of them.
    Objects,
    /// In a row of chunks of a large object.
    ObjectChunks(u64),
}

/// One block; it must be read to its end before the next is asked for, or what is left is passed over.
pub struct Block<'a, R> {
    reader: &'a mut BlockReader<R>,
    /// The entry that it belongs to.
    pub dump_id: i32,
    /// What it holds.
    pub kind: BlockKind,
}

/// The large objects of a block.
pub struct LargeObjects<'a, R> {
    reader: &'a mut BlockReader<R>,
}

impl<R: Read> BlockReader<R> {
    /// Reads the table of contents of a custom archive.
    pub fn begin(reader: R) -> Result<Self, ArchiveError> {
        let mut input = Input::new(reader);
        let toc = TableOfContents::read_from(&mut input)?;
        if toc.header.format != super::ArchiveFormat::Custom {
            let message = "is a table of contents without data, not a custom archive".to_owned();
            return Err(ArchiveError::Unsupported(message));
        }
        Ok(Self { input, toc, open: Open::Nothing })
    }

    /// Returns the table of contents.
    pub fn toc(&self) -> &TableOfContents {
        &self.toc
    }

    /// Returns the table of contents, where no more blocks are wanted.
    pub fn into_toc(self) -> TableOfContents {
        self.toc
    }

    /// Returns how many bytes were read so far: within a block, where its next chunk begins.
    pub(crate) fn position(&self) -> u64 {
        self.input.at()
    }

    /// Returns the next block, or `None` at the archive's end.
    pub fn next_block(&mut self) -> Result<Option<Block<'_, R>>, ArchiveError> {
        self.pass_over()?;
        let kind = match self.input.byte_or_end()? {
            None => return Ok(None),
            Some(DATA) => BlockKind::Data,
            Some(LARGE_OBJECTS) => BlockKind::LargeObjects,
            Some(other) => return Err(self.input.damaged(format!("a block is of the unknown kind {other}"))),
        };
        let dump_id = self.input.number("the number of a block's entry")?;
        if !self.toc.entry(dump_id).is_some_and(|entry| entry.had_dumper) {
            return Err(self.input.damaged(format!("a block is for the entry {dump_id}, which has no data")));
        }
        self.open = match kind {
            BlockKind::Data => Open::Chunks(0),
            BlockKind::LargeObjects => Open::Objects,
        };
        Ok(Some(Block { reader: self, dump_id, kind }))
    }

    /// Reads what is left of the current block.
    fn pass_over(&mut self) -> Result<(), ArchiveError> {
        if matches!(self.open, Open::Nothing) {
            return Ok(());
        }
        let mut buffer = vec![0; 64 << 10];
        loop {
            match self.open {
                Open::Nothing => return Ok(()),
                Open::Objects => drop(self.next_object()?),
                Open::Chunks(_) | Open::ObjectChunks(_) => drop(self.read_chunks(&mut buffer)?),
            }
        }
    }

    /// Reads on in the data of the current block or large object; 0 at its end.
    pub(crate) fn read_chunks(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
        let (left, of_object) = match self.open {
            Open::Chunks(left) => (left, false),
            Open::ObjectChunks(left) => (left, true),
            Open::Nothing | Open::Objects => return Ok(0),
        };
        let mut left = left;
        if left == 0 {
            let length = self.input.integer()?;
            left = u64::try_from(length)
                .map_err(|_| self.input.damaged(format!("a chunk has {length} bytes")))?;
            if left == 0 {
                self.open = if of_object { Open::Objects } else { Open::Nothing };
                return Ok(0);
            }
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let count = match buffer.get_mut(..most) {
            Some(part) if most > 0 => self.input.read_some(part)?,
            _ => 0,
        };
        if count == 0 && most > 0 {
            return Err(self.input.damaged("it ends there, in the data of an entry"));
        }
        left -= count as u64;
        // A chunk that is read to its end leaves 0, which is where the next one's length stands.
        self.open = if of_object { Open::ObjectChunks(left) } else { Open::Chunks(left) };
        Ok(count)
    }

    /// Goes to the next object of the current block of large objects; `None` at its end.
    pub(crate) fn next_object(&mut self) -> Result<Option<u32>, ArchiveError> {
        if matches!(self.open, Open::ObjectChunks(_)) {
            let mut buffer = vec![0; 64 << 10];
            while matches!(self.open, Open::ObjectChunks(_)) {
                self.read_chunks(&mut buffer)?;
            }
        }
        if !matches!(self.open, Open::Objects) {
            return Ok(None);
        }
        let oid = self.input.integer()?;
        // An oid is unsigned, and written through a signed integer.
        let oid = u32::try_from(oid).or_else(|_| i32::try_from(oid).map(i32::cast_unsigned));
        match oid.map_err(|_| self.input.damaged("the number of a large object is none"))? {
            0 => {
                self.open = Open::Nothing;
                Ok(None)
            }
            oid => {
                self.open = Open::ObjectChunks(0);
                Ok(Some(oid))
            }
        }
    }
}

impl<'a, R: Read> Block<'a, R> {
    /// Returns the objects of a block of large objects; of another block there are none.
    pub fn large_objects(self) -> LargeObjects<'a, R> {
        LargeObjects { reader: self.reader }
    }
}

impl<R: Read> Read for Block<'_, R> {
    /// The data of the block, chunks joined. Of a block of large objects nothing: ask for them one by one.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.reader.open {
            Open::Chunks(_) => self.reader.read_chunks(buffer).map_err(as_io),
            _ => Ok(0),
        }
    }
}

impl<R: Read> LargeObjects<'_, R> {
    /// Goes to the next object and returns its oid; `None` at the end. What was left of the one before is passed over.
    pub fn next_object(&mut self) -> Result<Option<u32>, ArchiveError> {
        self.reader.next_object()
    }
}

impl<R: Read> Read for LargeObjects<'_, R> {
    /// The content of the current object.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.reader.open {
            Open::ObjectChunks(_) => self.reader.read_chunks(buffer).map_err(as_io),
            _ => Ok(0),
        }
    }
}

fn as_io(error: ArchiveError) -> io::Error {
    match error {
        ArchiveError::Io(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    }
}

/// Writes a custom archive as a stream: the table of contents, then block by block, plain.
pub struct BlockWriter<W> {
    output: Output<W>,
}

/// How many bytes a block has whose data come in chunks of one size, the last of them shorter.
#[derive(Debug, Clone, Copy)]
pub struct BlockSizes {
    /// How many bytes an integer has, its sign counted.
    integer_bytes: u64,
    chunk_bytes: u64,
}

impl BlockSizes {
    /// Tells of the blocks of an archive with that table of contents.
    pub fn of(toc: &TableOfContents, chunk_bytes: u64) -> Self {
        Self { integer_bytes: u64::from(toc.header.int_bytes) + 1, chunk_bytes: chunk_bytes.max(1) }
    }

    fn row_of_chunks(self, size_bytes: u64) -> u64 {
        size_bytes + (size_bytes.div_ceil(self.chunk_bytes) + 1) * self.integer_bytes
    }

    /// Returns how many bytes the block of an entry has.
    pub fn data(self, size_bytes: u64) -> u64 {
        1 + self.integer_bytes + self.row_of_chunks(size_bytes)
    }

    /// Returns how many bytes a block of large objects of these sizes has.
    pub fn objects(self, sizes: impl Iterator<Item = u64>) -> u64 {
        let objects: u64 = sizes.map(|size| self.integer_bytes + self.row_of_chunks(size)).sum();
        1 + 2 * self.integer_bytes + objects
    }
}

impl<W: Write> BlockWriter<W> {
    /// Writes the table of contents, with no offset known: a stream cannot go back to fill them in.
    pub fn begin(writer: W, toc: &TableOfContents) -> Result<Self, ArchiveError> {
        Self::begin_with(writer, toc.for_stream())
    }

    /// Writes a table of contents of a custom archive as it is, with the offsets that it has.
    pub fn begin_with(mut writer: W, toc: TableOfContents) -> Result<Self, ArchiveError> {
        let at = toc.write(&mut writer)?;
        let mut output = Output::new(writer, toc.header.int_bytes, toc.header.offset_bytes);
        output.at = at;
        Ok(Self { output })
    }

    /// Returns how many bytes were written: the offset of a block that begins now.
    pub fn position(&self) -> u64 {
        self.output.at
    }

    /// Begins the data of an entry, to be followed by chunks and [`Self::end_chunks`].
    pub fn begin_data(&mut self, dump_id: i32) -> Result<(), ArchiveError> {
        self.output.bytes(&[DATA])?;
        self.output.integer(i64::from(dump_id))
    }

    /// Begins a block of large objects, to be followed by objects and [`Self::end_objects`].
    pub fn begin_objects(&mut self, dump_id: i32) -> Result<(), ArchiveError> {
        self.output.bytes(&[LARGE_OBJECTS])?;
        self.output.integer(i64::from(dump_id))
    }

    /// Begins an object, to be followed by chunks and [`Self::end_chunks`].
    pub fn begin_object(&mut self, oid: u32) -> Result<(), ArchiveError> {
        self.output.integer(i64::from(oid.cast_signed()))
    }

    /// Writes one chunk; nothing of an empty one, since that would end the row.
    pub fn chunk(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        for part in bytes.chunks(1 << 30) {
            self.output.integer(part.len() as i64)?;
            self.output.bytes(part)?;
        }
        Ok(())
    }

    /// Ends a row of chunks.
    pub fn end_chunks(&mut self) -> Result<(), ArchiveError> {
        self.output.integer(0)
    }

    /// Ends a block of large objects.
    pub fn end_objects(&mut self) -> Result<(), ArchiveError> {
        self.output.integer(0)
    }

    /// Returns what it wrote to; the archive is whole once every row was ended.
    pub fn into_inner(self) -> W {
        self.output.into_inner()
    }
}
