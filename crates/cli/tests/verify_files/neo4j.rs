//! Neo4j dumps, made as `neo4j-admin database dump` makes them: whole ones pass, and what `load` takes for whole although it is
//! cut fails.

use crate::support::Machine;
use crate::{check, item, problem, tool, verify};
use std::fs;
use std::path::Path;

/// A store as a tar archive of so many files, and the number of their bytes.
fn archive(machine: &Machine, files: usize) -> (Vec<u8>, u64) {
    let store = machine.path("store");
    fs::create_dir_all(store.join("schema/index")).unwrap();
    let mut bytes = 0;
    for number in 0..files {
        let content = vec![u8::try_from(number % 251).unwrap(); 700 * (number + 1)];
        bytes += content.len() as u64;
        // Longer than a header has room for.
        let long = "x".repeat(if number == 1 { 120 } else { 3 });
        let folder = if number % 2 == 0 { "schema/index/" } else { "" };
        fs::write(store.join(format!("{folder}neostore.{long}.{number}")), content).unwrap();
    }
    let folder = store.display().to_string();
    (tool("tar", &["--format=pax", "-C", &folder, "-cf", "-", "."]), bytes)
}

/// What a dump says of itself, before its files.
fn header(files: u64, bytes: u64) -> Vec<u8> {
    [b"zstd\0\0\0\x01".as_slice(), &files.to_be_bytes(), &bytes.to_be_bytes()].concat()
}

fn packed(machine: &Machine, program: &str, content: &[u8]) -> Vec<u8> {
    let path = machine.path("inner");
    fs::write(&path, content).unwrap();
    tool(program, &["-c", &path.display().to_string()])
}

/// Cuts an archive behind the header of its last file, so that what is left are whole files and the end mark.
fn without_the_last_file(tar: &[u8]) -> Vec<u8> {
    let mut starts = (0..tar.len() / 512).filter(|at| tar[at * 512 + 257..].starts_with(b"ustar"));
    let last = starts.rfind(|at| tar[at * 512 + 156] == b'x').unwrap();
    [&tar[..last * 512], &[0; 1024]].concat()
}

#[test]
fn a_dump_passes_only_where_all_of_it_is_there() {
    let machine = Machine::new();
    let (tar, bytes) = archive(&machine, 9);
    let inner = [header(9, bytes), tar.clone()].concat();
    let zstd = packed(&machine, "zstd", &inner);
    let write = |name: &str, content: &[&[u8]]| {
        let path = machine.path(&format!("dumps/{name}"));
        fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
        fs::write(path, content.concat()).unwrap();
    };
    write("new-20260101.dump", &[b"DZV1", &zstd]);
    write("old-20260101.dump", &[&zstd]);
    write("gzip-20260101.dump", &[b"DGV1", &packed(&machine, "gzip", &tar)]);
    let report = verify(&machine, 0, &["dumps"]);
    assert_eq!(report["summary"]["total_files"], 3, "{report}");
    for file in report["files"].as_array().unwrap() {
        assert_eq!((&file["format"], &file["engine"]), (&"neo4j".into(), &"neo4j".into()), "{file}");
        let told = check(file, "format")["detail"].as_str().unwrap();
        assert!(told.starts_with(&format!("read to its end: 9 files, {bytes} bytes")), "{told}");
    }
    assert_eq!(item(&report, "old-20260101.dump")["doubts"].as_array().unwrap().len(), 1, "{report}");
    // What cannot be loaded here is not bad.
    verify(&machine, 20, &["dumps", "--deep"]);

    fs::remove_dir_all(machine.path("dumps")).unwrap();
    let cut = packed(&machine, "zstd", &[header(9, bytes), without_the_last_file(&tar)].concat());
    let endless = packed(
        &machine,
        "zstd",
        &inner
            [..inner.len() - tar.len() + tar.iter().rposition(|byte| *byte != 0).unwrap() / 512 * 512 + 512],
    );
    let more = packed(&machine, "zstd", &[inner.as_slice(), b"more"].concat());
    let mut flipped = zstd.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x10;
    write("cut-20260101.dump", &[b"DZV1", &zstd[..zstd.len() / 2]]);
    write("sum-20260101.dump", &[b"DZV1", &zstd[..zstd.len() - 2]]);
    write("flipped-20260101.dump", &[b"DZV1", &flipped]);
    write("behind-20260101.dump", &[b"DZV1", &zstd, b"more"]);
    write("fewer-20260101.dump", &[b"DZV1", &cut]);
    write("endless-20260101.dump", &[b"DZV1", &endless]);
    write("more-20260101.dump", &[b"DZV1", &more]);
    write("old-20260101.dump", &[&zstd[..zstd.len() - 9]]);
    write("gzip-20260101.dump", &[b"DGV1", &packed(&machine, "gzip", &tar)[..200]]);
    write("mark-20260101.dump", &[b"DZV1"]);
    let report = verify(&machine, 21, &["dumps"]);
    assert_eq!(report["summary"]["valid"], 0, "{report}");
    assert_eq!(report["summary"]["total_files"], 10, "{report}");
    assert!(problem(&report, "fewer-20260101.dump").contains("holds 8 files"), "{report}");
    assert!(problem(&report, "endless-20260101.dump").contains("cut off"), "{report}");
    assert!(problem(&report, "more-20260101.dump").contains("something follows"), "{report}");
}

#[test]
fn a_prune_keeps_the_whole_one_behind_a_cut_one() {
    let machine = Machine::new();
    let (tar, bytes) = archive(&machine, 5);
    let zstd = packed(&machine, "zstd", &[header(5, bytes), tar].concat());
    fs::create_dir(machine.path("dumps")).unwrap();
    for (day, length) in [(1, zstd.len()), (2, zstd.len()), (3, zstd.len() / 2)] {
        let path = machine.path(&format!("dumps/movies_2026010{day}.dump"));
        fs::write(path, [b"DZV1", &zstd[..length]].concat()).unwrap();
    }
    machine.done(&["prune", "dumps", "--keep-last", "1"]);
    let left: Vec<_> =
        fs::read_dir(machine.path("dumps")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(
        machine.path("dumps/movies_20260102.dump").exists()
            && machine.path("dumps/movies_20260103.dump").exists()
    );
}
