//! Archives of `pg_dump` 15 and 18 are read, written again byte for byte, and turned from one format into the other as
//! `pg_dump` itself does; damaged ones are refused wherever they are cut.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use engines::postgres::archive::{
    ArchiveError, ArchiveFormat, BlockKind, BlockReader, BlockWriter, DataPlace, TableOfContents,
};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

fn testdata(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/postgres").join(name)).unwrap()
}

/// What a custom archive holds: the data of each entry, and the large objects.
#[derive(Debug, PartialEq)]
struct Content {
    data: BTreeMap<i32, Vec<u8>>,
    objects: BTreeMap<u32, Vec<u8>>,
}

fn content(archive: &[u8]) -> Result<Content, ArchiveError> {
    let mut reader = BlockReader::begin(archive)?;
    let (mut data, mut objects) = (BTreeMap::new(), BTreeMap::new());
    while let Some(mut block) = reader.next_block()? {
        let number = block.dump_id;
        match block.kind {
            BlockKind::Data => {
                let mut bytes = Vec::new();
                block.read_to_end(&mut bytes)?;
                data.insert(number, bytes);
            }
            BlockKind::LargeObjects => {
                let mut found = block.large_objects();
                while let Some(oid) = found.next_object()? {
                    let mut bytes = Vec::new();
                    found.read_to_end(&mut bytes)?;
                    objects.insert(oid, bytes);
                }
            }
        }
    }
    Ok(Content { data, objects })
}

#[test]
fn a_table_of_contents_is_written_as_it_was_read() {
    for name in ["sample-15.dump", "sample-18.dump", "latin-15.dump", "toc-15.dat", "toc-18.dat"] {
        let archive = testdata(name);
        let toc = TableOfContents::read(archive.as_slice()).unwrap();
        let mut again = Vec::new();
        let size_bytes = toc.write(&mut again).unwrap();
        assert_eq!(size_bytes, again.len() as u64);
        assert!(archive.starts_with(&again), "{name}");
        assert_eq!(name.ends_with(".dat"), again.len() == archive.len(), "{name}");
        assert!(toc.entries.len() > 1, "{name}");
    }
}

#[test]
fn the_table_of_contents_of_a_folder_is_that_of_pg_dump() {
    for version in [15, 18] {
        let custom = TableOfContents::read(testdata(&format!("sample-{version}.dump")).as_slice()).unwrap();
        let folder = TableOfContents::read(testdata(&format!("toc-{version}.dat")).as_slice()).unwrap();
        let mut made = custom.for_directory();
        made.header.created = folder.header.created;
        for entry in &mut made.entries {
            // pg_dump writes an empty name where there are no data.
            if entry.place == DataPlace::File(None) {
                entry.place = DataPlace::File(Some(vec![]));
            }
        }
        assert_eq!(folder.header.format, ArchiveFormat::Tar);
        assert_eq!(made, folder, "{version}");
    }
}

#[test]
fn data_and_large_objects_come_as_they_are() {
    for name in ["sample-15.dump", "sample-18.dump"] {
        let archive = testdata(name);
        let toc = TableOfContents::read(archive.as_slice()).unwrap();
        let found = content(&archive).unwrap();
        let wanted: Vec<i32> = toc
            .entries
            .iter()
            .filter(|entry| entry.had_dumper && !entry.is("BLOBS"))
            .map(|entry| entry.dump_id)
            .collect();
        let mut had: Vec<i32> = found.data.keys().copied().collect();
        had.retain(|number| wanted.contains(number));
        assert_eq!(had.len(), wanted.len(), "{name}");
        let table = toc
            .entries
            .iter()
            .find(|entry| entry.is("TABLE DATA") && entry.tag.as_deref() == Some("Täble \"x\"".as_bytes()));
        let rows = &found.data[&table.unwrap().dump_id];
        assert_eq!(
            rows.iter().filter(|byte| **byte == b'\n').count(),
            503,
            "500 rows, `\\.` and two empty lines"
        );
        assert_eq!(found.objects[&4_000_000_000], b"x");
        assert!(found.objects.values().any(|object| object.len() == 15_000), "{name}");
        assert_eq!(found.objects.len(), 3, "{name}");
    }
}

#[test]
fn an_archive_goes_through_the_writer_unchanged() {
    for name in ["sample-15.dump", "sample-18.dump"] {
        let archive = testdata(name);
        let toc = TableOfContents::read(archive.as_slice()).unwrap();
        let found = content(&archive).unwrap();
        let mut writer = BlockWriter::begin(Vec::new(), &toc).unwrap();
        for (number, data) in &found.data {
            writer.begin_data(*number).unwrap();
            data.chunks(1000).for_each(|chunk| writer.chunk(chunk).unwrap());
            writer.end_chunks().unwrap();
        }
        let objects = toc.entries.iter().find(|entry| entry.is("BLOBS")).unwrap();
        writer.begin_objects(objects.dump_id).unwrap();
        for (oid, object) in &found.objects {
            writer.begin_object(*oid).unwrap();
            writer.chunk(object).unwrap();
            writer.end_chunks().unwrap();
        }
        writer.end_objects().unwrap();
        assert_eq!(content(&writer.into_inner()).unwrap(), found, "{name}");
    }
}

#[test]
fn an_archive_that_is_cut_anywhere_is_damaged_or_lacks_whole_blocks() {
    let archive = testdata("sample-15.dump");
    let whole = content(&archive).unwrap();
    let toc_bytes = TableOfContents::read(archive.as_slice()).unwrap().write(std::io::sink()).unwrap();
    let toc_bytes = usize::try_from(toc_bytes).unwrap();
    for length in (0..archive.len()).filter(|length| *length < toc_bytes + 50 || length % 37 == 0) {
        match content(&archive[..length]) {
            Err(_) => {}
            // It ends where a block could begin: the entries that lack their data tell.
            Ok(found) => assert!(length >= toc_bytes && found != whole, "cut at {length}"),
        }
    }
    assert!(matches!(content(b"PGDUMPX"), Err(ArchiveError::NotAnArchive)));
    assert!(matches!(content(b""), Err(ArchiveError::NotAnArchive)));
}

#[test]
fn no_number_of_a_damaged_archive_is_believed() {
    let archive = testdata("sample-15.dump");
    for place in 0..2000 {
        for value in [0x00, 0x7f, 0xff] {
            let mut damaged = archive.clone();
            damaged[place] = value;
            // Whatever it comes to, it comes to an end and takes no memory that the archive does not have.
            let _ = content(&damaged);
        }
    }
}
