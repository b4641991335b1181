//! A database as one plain file: its image is taken into the scratch folder as a backup takes it, where parts may come
//! again, and what is whole is passed on. The scratch copy goes when this ends; after a crash it stays there.

use super::dump::refuse_selection;
use super::export::{refused, text};
use super::image::{Image, Piece};
use super::stage::{Staged, unwritable};
use super::{failure, marks};
use crate::engine::{ExportForm, FileDump};
use flow::{Context, DatabaseRequest, DumpOptions, DumpRequest, Dumped, Event, SourceError, SourceErrorKind};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Writes the database of a request.
pub(super) fn dump_file(
    request: &DumpRequest,
    form: ExportForm,
    out: &mut (dyn Write + Send),
    context: &Context,
) -> Result<FileDump, SourceError> {
    refuse_selection(request)?;
    let [one] = request.databases.as_slice() else {
        let message = "one database is written into one file";
        return Err(SourceError::new(SourceErrorKind::Invalid, request.target.connection.clone(), message));
    };
    let database = one.database.connection.as_str();
    if !matches!(form, ExportForm::Image | ExportForm::Sql) {
        let message = "a SQLite database has no such form";
        return Err(SourceError::new(SourceErrorKind::Unsupported, database, message)
            .with_hint("use .db for the database file or .sql for SQL text"));
    }
    let staged = Staged::empty(context)?;
    let dumped = take(one, &request.options, staged.path(), context)?;
    let size_bytes = match form {
        ExportForm::Sql => text(staged.path(), database, out, context)?,
        _ => pass(staged.path(), database, out, context)?,
    };
    Ok(FileDump { facts: dumped.facts, size_bytes, front: None })
}

/// Takes the image of a database into a new file.
fn take(
    request: &DatabaseRequest,
    options: &DumpOptions,
    path: &Path,
    context: &Context,
) -> Result<Dumped, SourceError> {
    let unwritable = |error| unwritable(path, error);
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
    let file = file.map_err(unwritable)?;
    let before = marks::take(Path::new(&request.database.connection))?;
    let (nothing_on_the_way, mut spare) = (BTreeSet::new(), Vec::new());
    let mut image = Image::open(request, before, options, context, &mut spare)?;
    let part_bytes = image.part_bytes();
    let mut lengths: BTreeMap<u32, u64> = BTreeMap::new();
    loop {
        match image.next(&nothing_on_the_way, &mut spare)? {
            Piece::Part(index, bytes) => {
                file.write_all_at(&bytes, u64::from(index) * part_bytes).map_err(unwritable)?;
                lengths.insert(index, bytes.len() as u64);
                context.observer.event(Event::Bytes(bytes.len() as u64));
                spare.push(bytes);
            }
            Piece::Blocked(_) => {}
            Piece::Done(dumped) => {
                join(&file, part_bytes, &lengths).map_err(unwritable)?;
                return Ok(*dumped);
            }
        }
    }
}

/// Of a database that shrank while it was read, the last part follows at once on what is left before it.
fn join(file: &File, part_bytes: u64, lengths: &BTreeMap<u32, u64>) -> io::Result<()> {
    let mut end = 0;
    for (index, length) in lengths {
        let at = u64::from(*index) * part_bytes;
        if *length > 0 && at != end {
            let mut bytes = vec![0; usize::try_from(*length).unwrap_or(0)];
            file.read_exact_at(&mut bytes, at)?;
            file.write_all_at(&bytes, end)?;
        }
        end += length;
    }
    file.set_len(end)
}

fn pass(
    path: &Path,
    database: &str,
    out: &mut (dyn Write + Send),
    context: &Context,
) -> Result<u64, SourceError> {
    let mut file = File::open(path).map_err(|error| failure::io(path, error))?;
    let (mut buffer, mut passed) = (vec![0; 1 << 20], 0);
    loop {
        context.cancel.check().map_err(|_| SourceError::cancelled(database))?;
        let count = file.read(&mut buffer).map_err(|error| failure::io(path, error))?;
        if count == 0 {
            break;
        }
        out.write_all(&buffer[..count]).map_err(|error| refused(database, error))?;
        passed += count as u64;
    }
    out.flush().map_err(|error| refused(database, error))?;
    Ok(passed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn parts_are_joined_where_the_database_shrank() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"aaaabbbbccccdd", 0).unwrap();
        file.write_all_at(b"xy", 12).unwrap();
        join(&file, 4, &BTreeMap::from([(0, 4), (1, 2), (2, 0), (3, 2)])).unwrap();
        let mut bytes = vec![0; 8];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!((bytes.as_slice(), file.metadata().unwrap().len()), (&b"aaaabbxy"[..], 8));
    }
}
