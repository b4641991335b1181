//! A stored backup as one plain file. The sizes of all data are in its manifest, so nothing is kept on the way, and a custom
//! archive has its offsets even on a pipe.

use super::custom::CHUNK_BYTES;
use super::{DataSink, Made, write};
use crate::engine::{ExportForm, ExportSummary};
use crate::postgres::archive::{ArchiveError, BlockSizes, DataPlace, Entry, TableOfContents};
use crate::postgres::script::{SCRIPT_ENTRY, is_script};
use crate::restore::RestoreError;
use flow::{BackupReader, Context, EntryName, ReadError, ReadErrorKind, SourceError, SourceErrorKind};
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};

const TOC_ENTRY: &str = "toc.dat";
const BUFFER_BYTES: usize = 1 << 20;
/// More is no line of a list of large objects.
const LINE_BYTES_MAX: u64 = 4096;

/// Writes a backup in this form.
pub(in crate::postgres) fn export(
    backup: &dyn BackupReader,
    form: ExportForm,
    out: &mut (dyn Write + Send),
    context: &Context,
) -> Result<ExportSummary, RestoreError> {
    let facts = &backup.manifest().facts;
    if is_script(backup.manifest()) {
        return text(backup, form, out);
    }
    let toc =
        TableOfContents::read(BufReader::new(open(backup, TOC_ENTRY)?)).map_err(|error| match error {
            ArchiveError::Io(error) => ReadError::from_io(error, TOC_ENTRY),
            other => ReadError::new(ReadErrorKind::Damaged, TOC_ENTRY, other.to_string()),
        })?;
    let data = data(backup, &toc)?;
    let offsets = match form {
        ExportForm::Custom => Some(offsets(&toc, &data)?),
        _ => None,
    };
    let made = Made {
        form,
        toc: &toc,
        offsets,
        time: facts.consistency.time,
        major: major(&toc),
        object: backup.manifest().connection.as_str(),
    };
    let written = write(made, out, context, |sink| feed(backup, &data, sink, context))?;
    Ok(ExportSummary { size_bytes: written.size_bytes })
}

/// Writes SQL text as it is: what it makes, only a server knows.
fn text(
    backup: &dyn BackupReader,
    form: ExportForm,
    out: &mut (dyn Write + Send),
) -> Result<ExportSummary, RestoreError> {
    let object = backup.manifest().connection.as_str();
    if form != ExportForm::Sql {
        let message = "it is SQL text, of which only a server makes an archive";
        return Err(SourceError::new(SourceErrorKind::Unsupported, object, message)
            .with_hint("name a file that ends in .sql; or restore it, and let `backstay backup --out` write the archive")
            .into());
    }
    let mut bytes = open(backup, SCRIPT_ENTRY)?;
    let (mut buffer, mut size_bytes) = (vec![0; BUFFER_BYTES], 0);
    loop {
        let count = bytes.read(&mut buffer).map_err(|error| ReadError::from_io(error, SCRIPT_ENTRY))?;
        if count == 0 {
            return Ok(ExportSummary { size_bytes });
        }
        out.write_all(&buffer[..count]).map_err(|error| super::refused(object, error))?;
        size_bytes += count as u64;
    }
}

/// The major version of the `pg_dump` that wrote the table of contents: an older `pg_restore` may not read it.
fn major(toc: &TableOfContents) -> u32 {
    let text = toc.header.dump_version.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    text.split(|letter: char| !letter.is_ascii_digit()).next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// The data of an entry of the table of contents.
struct Data {
    dump_id: i32,
    content: Content,
}

enum Content {
    /// Rows: the entry of the backup, and its size.
    Rows(String, u64),
    /// Large objects: oid, entry and size of each.
    Objects(Vec<(u32, String, u64)>),
}

/// Returns the data in the order of the table of contents. Each of it must be there.
fn data(backup: &dyn BackupReader, toc: &TableOfContents) -> Result<Vec<Data>, ReadError> {
    let sizes: BTreeMap<&str, u64> =
        backup.manifest().entries.iter().map(|entry| (entry.name.as_str(), entry.size_bytes)).collect();
    let size = |name: &str| sizes.get(name).copied().ok_or_else(|| missing(name));
    let mut all = Vec::new();
    for entry in toc.entries.iter().filter(|entry| entry.had_dumper) {
        let file = file_of(entry)?;
        let content = match entry.is("BLOBS") {
            false => Content::Rows(file.clone(), size(&file)?),
            true => {
                let objects = listed(backup, &file)?.into_iter();
                let with_sizes = objects.map(|(oid, name)| size(&name).map(|size| (oid, name, size)));
                Content::Objects(with_sizes.collect::<Result<_, _>>()?)
            }
        };
        all.push(Data { dump_id: entry.dump_id, content });
    }
    Ok(all)
}

fn missing(entry: &str) -> ReadError {
    ReadError::new(ReadErrorKind::Missing, entry, "the backup has no such entry")
}

fn file_of(entry: &Entry) -> Result<String, ReadError> {
    match &entry.place {
        DataPlace::File(Some(name)) if !name.is_empty() => Ok(String::from_utf8_lossy(name).into_owned()),
        _ => {
            let message = format!("its entry {} names no file", entry.dump_id);
            Err(ReadError::new(ReadErrorKind::Damaged, TOC_ENTRY, message))
        }
    }
}

/// Reads a list of large objects: a line each, with its oid and its entry.
fn listed(backup: &dyn BackupReader, file: &str) -> Result<Vec<(u32, String)>, ReadError> {
    let damaged = |problem: &str| ReadError::new(ReadErrorKind::Damaged, file, problem);
    let mut list = BufReader::new(open(backup, file)?);
    let mut objects = Vec::new();
    let mut line = String::new();
    loop {
        line.clear();
        let count = (&mut list).take(LINE_BYTES_MAX).read_line(&mut line);
        if count.map_err(|error| ReadError::from_io(error, file))? == 0 {
            return Ok(objects);
        }
        let object = line.trim_end().split_once(' ').and_then(|(oid, name)| Some((oid.parse().ok()?, name)));
        let (oid, name) = object.ok_or_else(|| damaged("a line of it names no large object"))?;
        objects.push((oid, name.to_owned()));
    }
}

fn open(backup: &dyn BackupReader, entry: &str) -> Result<Box<dyn Read + Send>, ReadError> {
    let name = EntryName::new(entry).map_err(|_| missing(entry))?;
    let size = backup.manifest().entry(&name).ok_or_else(|| missing(entry))?.size_bytes;
    backup.read(&name, 0..size)
}

/// Returns where each entry's data will be in a custom archive.
fn offsets(toc: &TableOfContents, data: &[Data]) -> Result<BTreeMap<i32, u64>, SourceError> {
    let failed = |error| super::not_written("the table of contents", error);
    let mut at = toc.for_stream().write(io::sink()).map_err(failed)?;
    let sizes = BlockSizes::of(toc, CHUNK_BYTES as u64);
    let mut offsets = BTreeMap::new();
    for Data { dump_id, content } in data {
        offsets.insert(*dump_id, at);
        at += match content {
            Content::Rows(_, size) => sizes.data(*size),
            Content::Objects(objects) => sizes.objects(objects.iter().map(|(.., size)| *size)),
        };
    }
    Ok(offsets)
}

fn feed(
    backup: &dyn BackupReader,
    data: &[Data],
    sink: &mut dyn DataSink,
    context: &Context,
) -> Result<(), RestoreError> {
    for Data { dump_id, content } in data {
        match content {
            Content::Rows(entry, size) => {
                sink.begin(*dump_id, Some(*size))?;
                copy(backup, (entry, *size), sink, context)?;
                sink.end()?;
            }
            Content::Objects(objects) => {
                sink.begin_objects(*dump_id)?;
                for (oid, entry, size) in objects {
                    sink.begin_object(*oid, Some(*size))?;
                    copy(backup, (entry, *size), sink, context)?;
                    sink.end()?;
                }
                sink.end_objects()?;
            }
        }
    }
    Ok(())
}

fn copy(
    backup: &dyn BackupReader,
    (entry, size): (&str, u64),
    sink: &mut dyn DataSink,
    context: &Context,
) -> Result<(), RestoreError> {
    let name = EntryName::new(entry).map_err(|_| missing(entry))?;
    let mut reader = backup.read(&name, 0..size)?;
    let room = usize::try_from(size).unwrap_or(BUFFER_BYTES).clamp(1, BUFFER_BYTES);
    let (mut buffer, mut copied) = (vec![0; room], 0);
    loop {
        context.cancel.check().map_err(|_| SourceError::cancelled(entry))?;
        let count = reader.read(&mut buffer).map_err(|error| ReadError::from_io(error, entry))?;
        if count == 0 {
            break;
        }
        sink.bytes(&buffer[..count])?;
        copied += count as u64;
    }
    if copied != size {
        let message = format!("ended after {copied} of {size} bytes");
        return Err(ReadError::new(ReadErrorKind::Damaged, entry, message).into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::custom::CustomFile;
    use super::*;
    use crate::postgres::archive::{
        ArchiveFormat, ArchiveVersion, Compression, CreationTime, Header, Section,
    };

    fn entry(dump_id: i32, kind: &str) -> Entry {
        Entry {
            dump_id,
            had_dumper: true,
            table_oid: None,
            oid: None,
            tag: None,
            kind: Some(kind.as_bytes().to_vec()),
            section: Section::Data,
            definition: None,
            drop: None,
            copy: None,
            schema: None,
            tablespace: None,
            access_method: None,
            relation_kind: 0,
            owner: None,
            with_oids: None,
            dependencies: vec![],
            place: DataPlace::File(Some(b"x".to_vec())),
        }
    }

    /// The offsets that are told before are those at which the blocks are.
    #[test]
    fn offsets_are_known_before_anything_is_written() {
        let version = ArchiveVersion { major: 1, minor: 16, revision: 0 };
        let toc = TableOfContents {
            header: Header {
                version,
                int_bytes: 4,
                offset_bytes: 8,
                format: ArchiveFormat::Tar,
                compression: Compression::none(version),
                created: CreationTime([0; 7]),
                database: None,
                server_version: None,
                dump_version: Some(b"18.1 (Debian)".to_vec()),
            },
            entries: vec![entry(3, "TABLE DATA"), entry(9, "BLOBS"), entry(4, "TABLE DATA")],
        };
        assert_eq!(major(&toc), 18);
        let chunk = CHUNK_BYTES as u64;
        let objects = vec![(7, String::new(), 0), (8, String::new(), chunk), (9, String::new(), chunk + 1)];
        let data = [
            Data { dump_id: 3, content: Content::Rows(String::new(), 2 * chunk) },
            Data { dump_id: 9, content: Content::Objects(objects) },
            Data { dump_id: 4, content: Content::Rows(String::new(), 5) },
        ];
        let told = offsets(&toc, &data).unwrap();
        let mut out = Vec::new();
        let mut sink = Box::new(CustomFile::begin(&mut out, &toc, None, "x").unwrap());
        let zeros = vec![0; 2 * CHUNK_BYTES];
        for Data { dump_id, content } in &data {
            match content {
                Content::Rows(_, size) => {
                    sink.begin(*dump_id, None).unwrap();
                    zeros[..*size as usize].chunks(1000).for_each(|piece| sink.bytes(piece).unwrap());
                    sink.end().unwrap();
                }
                Content::Objects(objects) => {
                    sink.begin_objects(*dump_id).unwrap();
                    for (oid, _, size) in objects {
                        sink.begin_object(*oid, None).unwrap();
                        sink.bytes(&zeros[..*size as usize]).unwrap();
                        sink.end().unwrap();
                    }
                    sink.end_objects().unwrap();
                }
            }
        }
        let front = sink.finish().unwrap().front.unwrap();
        let found = TableOfContents::read(&*front).unwrap();
        for entry in &found.entries {
            assert_eq!(entry.place, DataPlace::Offset { state: 2, offset: told[&entry.dump_id] });
        }
        assert_eq!(TableOfContents::read(&*out).unwrap().write(io::sink()).unwrap(), front.len() as u64);
    }
}
