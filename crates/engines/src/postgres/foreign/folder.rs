//! An archive in a folder, read to its end. Its files stay where they are, and are read again from there.

use super::super::archive::{DataPlace, Entry, Packing, TableOfContents};
use super::place::Place;
use super::survey::{Survey, shown};
use super::{broken, damaged};
use flow::{Context, SourceError};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// Reads an archive in a folder to its end.
pub(super) fn read(folder: &Path, context: &Context) -> Result<Survey, SourceError> {
    let object = folder.display().to_string();
    let unread = |error| super::unread(&object, "its table of contents", error);
    let mut file = BufReader::new(File::open(folder.join("toc.dat")).map_err(unread)?);
    let toc = TableOfContents::read(&mut file).map_err(|error| broken(&object, error))?;
    if file.read(&mut [0]).map_err(unread)? > 0 {
        return Err(damaged(&object, "something follows its table of contents in toc.dat"));
    }
    let mut survey = Survey::begin(toc, &object)?;
    let entries: Vec<Entry> = survey.toc().entries.iter().filter(|entry| entry.had_dumper).cloned().collect();
    for entry in entries {
        let DataPlace::File(Some(name)) = &entry.place else { continue };
        if name.is_empty() {
            continue;
        }
        let name = String::from_utf8_lossy(name).into_owned();
        let what = shown(&entry);
        if !entry.is("BLOBS") {
            let (place, mut data) = open(folder, &object, &name, &what)?;
            survey.rows(entry.dump_id, &mut data, place, context)?;
            continue;
        }
        let (_, list) = open(folder, &object, &name, &what)?;
        for line in BufReader::new(list).lines() {
            let line = line.map_err(|error| super::unread(&object, &name, error))?;
            let found = line.split_once(' ').and_then(|(oid, file)| Some((oid.parse::<u32>().ok()?, file)));
            let (oid, file) =
                found.ok_or_else(|| damaged(&object, format!("a line of {name} names no large object")))?;
            let (place, mut data) = open(folder, &object, file, &format!("the large object {oid}"))?;
            survey.object(oid, &mut data, place, context)?;
        }
        survey.end_objects(entry.dump_id);
    }
    Ok(survey)
}

/// Opens a file of the folder, by whichever ending it has. What an archive names is in its own folder and nowhere else.
fn open(
    folder: &Path,
    object: &str,
    name: &str,
    what: &str,
) -> Result<(Place, Box<dyn Read + Send>), SourceError> {
    if name.contains('/') || name == ".." {
        return Err(damaged(object, format!("it names a file outside of its folder: {name}")));
    }
    for (ending, packing) in Packing::ENDINGS {
        let path = folder.join(format!("{name}{ending}"));
        let is_file = path.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
        if is_file {
            let place = Place::Whole { path, packing };
            let data = place.open().map_err(|error| super::unread(object, what, error))?;
            return Ok((place, data));
        }
    }
    Err(damaged(object, format!("the file {name} of {what} is missing")))
}
