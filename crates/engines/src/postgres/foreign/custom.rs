//! A custom archive, read to its end. One that comes unpacked from something else is laid into scratch as it passes, since
//! its data are read again.

use super::super::archive::{ArchiveError, BlockKind, BlockReader, Packing, Unpacked};
use super::broken;
use super::place::Place;
use super::survey::Survey;
use crate::engine::LoadRequest;
use flow::{Context, SourceError, SourceErrorKind};
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

const BUFFER_BYTES: usize = 256 << 10;

/// Reads a custom archive to its end.
pub(super) fn read(request: LoadRequest<'_>, context: &Context) -> Result<Survey, SourceError> {
    let object = request.object;
    let (path, kept) = keep(&request)?;
    let reader = BufReader::with_capacity(BUFFER_BYTES, Kept { inner: request.dump, kept });
    let mut blocks = BlockReader::begin(reader).map_err(|error| broken(object, error))?;
    let packing =
        Packing::of_custom(blocks.toc().header.compression).map_err(|error| broken(object, error))?;
    let int_bytes = blocks.toc().header.int_bytes;
    let mut survey = Survey::begin(blocks.toc().clone(), object)?;
    let place = |offset| Place::Chunks { path: path.clone(), offset, int_bytes, packing };
    loop {
        let next = blocks.next_block().map(|block| block.map(|block| (block.dump_id, block.kind)));
        let Some((dump_id, kind)) = next.map_err(|error| broken(object, error))? else { return Ok(survey) };
        if kind == BlockKind::Data {
            let offset = blocks.position();
            let unread = |error| super::unread(object, "its data", error);
            let mut data = Unpacked::new(Raw(&mut blocks), packing).map_err(unread)?;
            survey.rows(dump_id, &mut data, place(offset), context)?;
            continue;
        }
        while let Some(oid) = blocks.next_object().map_err(|error| broken(object, error))? {
            let offset = blocks.position();
            let unread = |error| super::unread(object, "a large object", error);
            let mut data = Unpacked::new(Raw(&mut blocks), packing).map_err(unread)?;
            survey.object(oid, &mut data, place(offset), context)?;
        }
        survey.end_objects(dump_id);
    }
}

/// Returns the file in which the archive can be read again, and, where that is one of scratch, the file to be written.
pub(super) fn keep(request: &LoadRequest<'_>) -> Result<(PathBuf, Option<Scratch>), SourceError> {
    if let Some(file) = request.file {
        return Ok((file.to_owned(), None));
    }
    let path = request.folder.join("archive");
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let file = file.map_err(|error| {
        SourceError::new(
            SourceErrorKind::Failed,
            path.display().to_string(),
            "scratch space cannot be written",
        )
        .with_hint("make room there")
        .with_source(error)
    })?;
    Ok((path, Some(Scratch(file))))
}

/// A file of scratch.
pub(super) struct Scratch(File);

/// Writes what passes into a file of scratch.
pub(super) struct Kept<'a> {
    pub(super) inner: &'a mut dyn Read,
    pub(super) kept: Option<Scratch>,
}

impl Read for Kept<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if let Some(Scratch(file)) = &mut self.kept {
            file.write_all(&buffer[..count])?;
        }
        Ok(count)
    }
}

/// The chunks that are read now.
struct Raw<'a, R>(&'a mut BlockReader<R>);

impl<R: Read> Read for Raw<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_chunks(buffer).map_err(|error| match error {
            ArchiveError::Io(error) => error,
            other => io::Error::new(io::ErrorKind::InvalidData, other),
        })
    }
}
