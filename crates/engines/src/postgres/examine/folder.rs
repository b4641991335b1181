//! An archive in a folder, read to its end: its table of contents, and the file of each entry that has data.

use super::archive::{Totals, name};
use super::tar::list;
use super::{broken, damaged, unread};
use crate::engine::Examined;
use crate::postgres::archive::{DataPlace, Packing, TableOfContents, Unpacked};
use flow::{Context, SourceError, SourceErrorKind};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

/// Reads an archive in a folder to its end; `None` where the folder has no table of contents.
pub(in crate::postgres) fn examine(
    folder: &Path,
    context: &Context,
) -> Option<Result<Examined, SourceError>> {
    let contents = folder.join("toc.dat");
    contents.symlink_metadata().is_ok_and(|metadata| metadata.is_file()).then(|| read(folder, context))
}

fn read(folder: &Path, context: &Context) -> Result<Examined, SourceError> {
    let object = folder.display().to_string();
    let contents = File::open(folder.join("toc.dat")).map_err(|error| unread(&object, error))?;
    let mut contents = BufReader::new(contents);
    let toc = TableOfContents::read(&mut contents).map_err(|error| broken(&object, error))?;
    if contents.read(&mut [0; 1]).map_err(|error| unread(&object, error))? > 0 {
        return Err(damaged(&object, "something follows the table of contents in toc.dat"));
    }
    let mut totals = Totals::default();
    for entry in toc.entries.iter().filter(|entry| entry.had_dumper) {
        context.cancel.check().map_err(|_| SourceError::cancelled(&object))?;
        let DataPlace::File(Some(file)) = &entry.place else { continue };
        if file.is_empty() {
            continue;
        }
        let file = plain_name(&object, &String::from_utf8_lossy(file))?;
        let (reader, packing) = open(folder, &object, &file, &name(Some(entry)))?;
        if !entry.is("BLOBS") {
            totals.data(&object, Some(entry), packing, reader)?;
            continue;
        }
        let mut reader = Unpacked::new(reader, packing).map_err(|error| unread(&object, error))?;
        for member in list(&mut reader, u64::MAX).map_err(|error| unread(&object, error))? {
            let member = plain_name(&object, &member)?;
            let (reader, packing) = open(folder, &object, &member, &format!("the large object {member}"))?;
            totals.object(&object, &member, packing, reader)?;
        }
    }
    Ok(totals.examined(&toc))
}

/// What an archive names is in its own folder, and nowhere else.
fn plain_name(object: &str, file: &str) -> Result<String, SourceError> {
    if file.contains('/') || file == ".." {
        return Err(damaged(object, format!("it names a file outside of its folder: {file}")));
    }
    Ok(file.to_owned())
}

fn open(
    folder: &Path,
    object: &str,
    file: &str,
    what: &str,
) -> Result<(BufReader<File>, Packing), SourceError> {
    for (ending, packing) in Packing::ENDINGS {
        let path = folder.join(format!("{file}{ending}"));
        match path.symlink_metadata() {
            Ok(metadata) if metadata.is_file() => {
                let opened = File::open(&path).map_err(|error| unopened(&path, error))?;
                return Ok((BufReader::with_capacity(256 << 10, opened), packing));
            }
            Ok(_) => return Err(damaged(object, format!("{file}{ending} is no regular file"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unopened(&path, error)),
        }
    }
    Err(damaged(object, format!("the data of {what} are missing: there is no {file}")))
}

fn unopened(path: &Path, error: io::Error) -> SourceError {
    SourceError::new(SourceErrorKind::Unreadable, path.display().to_string(), "cannot be read")
        .with_hint("run as a user who may read the folder and all that is in it")
        .with_source(error)
}
