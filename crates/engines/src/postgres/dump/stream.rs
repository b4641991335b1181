//! What `pg_dump` writes, read as it comes: the table of contents, then large objects, and rows where it was asked for them.
//!
//! The end of the stream proves nothing: the program's exit code does, and that each entry which is to have data had
//! them.

use crate::postgres::archive::{ArchiveError, BlockKind, BlockReader, TableOfContents};
use crate::postgres::tools::{Ended, Running};
use flow::{SourceError, SourceErrorKind};
use std::collections::BTreeSet;
use std::io::BufReader;
use std::process::ChildStdout;

const BUFFER_BYTES: usize = 256 << 10;

/// A running `pg_dump` whose table of contents was read.
pub(super) struct ArchiveStream {
    blocks: BlockReader<BufReader<ChildStdout>>,
    running: Running,
    object: String,
    /// The entries whose data came.
    seen: BTreeSet<i32>,
    /// The list of large objects that is being read: its file, and what stands in it so far.
    list: Option<(String, Vec<u8>)>,
    /// Whether rows were asked for.
    with_rows: bool,
    /// The entry whose block was begun last.
    block: i32,
}

/// What comes next.
pub(super) enum Next {
    /// The rows of an entry; they are to be read from the stream.
    Rows(i32, Box<ArchiveStream>),
    /// A large object; its content is to be read from the stream.
    Object(u32, Box<ArchiveStream>),
    /// A list of large objects is complete: its file and what stands in it.
    List(String, Vec<u8>, Box<ArchiveStream>),
    /// Nothing more.
    End(End),
}

/// An archive that came whole.
pub(super) struct End {
    /// Its table of contents.
    pub(super) toc: TableOfContents,
    /// What the program complained about.
    pub(super) complaints: Vec<String>,
}

impl ArchiveStream {
    /// Reads the table of contents. Where the program failed, its own words say why.
    pub(super) fn begin(
        (running, output): (Running, ChildStdout),
        with_rows: bool,
        object: &str,
    ) -> Result<Result<Self, Ended>, SourceError> {
        match BlockReader::begin(BufReader::with_capacity(BUFFER_BYTES, output)) {
            Ok(blocks) => {
                let object = object.to_owned();
                let (seen, list, block) = (BTreeSet::new(), None, 0);
                Ok(Ok(Self { blocks, running, object, seen, list, with_rows, block }))
            }
            Err(error) => match running.finish() {
                Err(ended) => Ok(Err(ended)),
                Ok(_) => Err(damaged(object, &error)),
            },
        }
    }

    /// Returns the table of contents.
    pub(super) fn toc(&self) -> &TableOfContents {
        self.blocks.toc()
    }

    /// Returns the number of the entry whose data are read.
    pub(super) fn block(&self) -> i32 {
        self.block
    }

    /// Goes on, or tells how it ended.
    pub(super) fn next(mut self: Box<Self>) -> Result<Next, SourceError> {
        loop {
            if let Some((file, mut content)) = self.list.take() {
                return match self.blocks.next_object() {
                    Ok(Some(oid)) => {
                        content.extend_from_slice(format!("{oid} blob_{oid}.dat\n").as_bytes());
                        self.list = Some((file, content));
                        Ok(Next::Object(oid, self))
                    }
                    Ok(None) => Ok(Next::List(file, content, self)),
                    Err(error) => Err(self.failed(&error)),
                };
            }
            let next = self.blocks.next_block().map(|block| block.map(|block| (block.dump_id, block.kind)));
            match next {
                Ok(None) => return self.end().map(Next::End),
                Ok(Some((dump_id, BlockKind::LargeObjects))) => {
                    self.seen.insert(dump_id);
                    self.block = dump_id;
                    self.list = Some((self.list_file(dump_id), Vec::new()));
                }
                Ok(Some((dump_id, BlockKind::Data))) if self.with_rows => {
                    if !self.seen.insert(dump_id) {
                        let problem = format!("pg_dump wrote the rows of its entry {dump_id} twice");
                        return Err(SourceError::new(SourceErrorKind::Failed, self.object, problem));
                    }
                    self.block = dump_id;
                    return Ok(Next::Rows(dump_id, self));
                }
                Ok(Some((dump_id, BlockKind::Data))) => {
                    let problem =
                        format!("pg_dump wrote rows for its entry {dump_id}, which were not asked for");
                    return Err(SourceError::new(SourceErrorKind::Failed, self.object, problem));
                }
                Err(error) => return Err(self.failed(&error)),
            }
        }
    }

    fn list_file(&self, dump_id: i32) -> String {
        self.toc().directory_file(dump_id).unwrap_or_else(|| "blobs.toc".to_owned())
    }

    /// Reads on in the current large object, or in the rows; 0 at their end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
        self.blocks.read_chunks(buffer)
    }

    /// Makes the error of a stream that broke off: what the program says of it comes first.
    pub(super) fn failed(self, error: &ArchiveError) -> SourceError {
        let Self { blocks, running, object, .. } = self;
        // One that still writes is all right itself: what it wrote is not. The pipe stays open until that is known.
        let ended = running.finish_soon();
        drop(blocks);
        match ended {
            Some(Err(ended)) => ended.into_error(),
            Some(Ok(_)) | None => damaged(&object, error),
        }
    }

    fn end(self) -> Result<End, SourceError> {
        let Self { blocks, running, object, seen, .. } = self;
        let complaints = running.finish().map_err(Ended::into_error)?;
        let expected = blocks.toc().entries.iter().filter(|entry| entry.had_dumper);
        match expected.map(|entry| entry.dump_id).find(|id| !seen.contains(id)) {
            None => Ok(End { toc: blocks.into_toc(), complaints }),
            Some(id) => {
                let message = format!("pg_dump ended without the data of its entry {id}");
                Err(SourceError::new(SourceErrorKind::Failed, object, message))
            }
        }
    }
}

fn damaged(object: &str, error: &ArchiveError) -> SourceError {
    SourceError::new(SourceErrorKind::Failed, object, format!("what pg_dump wrote {error}"))
}
