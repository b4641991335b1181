//! Repositories that we write, judged by stock restic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use restic::{BlobWriter, Cut, Depth, MODE_DIR, Node, Snapshot, Tree, WriterOptions};
use std::sync::Arc;
use support::{Place, backup, check, noise, rows, time};

const PAGES: Cut = Cut::Fixed { bytes: 64 << 10 };

#[test]
fn stock_restic_reads_what_we_wrote() {
    let (place, repository) = Place::with_our_repository();
    let random = noise(40 << 20, 1);
    let text = rows(9_000_001, 2);
    let files: [(&str, &[u8], Cut); 7] = [
        ("random", &random, Cut::ContentDefined),
        ("rows.copy", &text, Cut::ContentDefined),
        ("pages", &text[..6_000_000], PAGES),
        ("zeros", &[0; 5_000_000], PAGES),
        ("empty", b"", Cut::ContentDefined),
        ("one byte", b"x", PAGES),
        ("na\"me <&> \\ \u{e4}\u{2028}\n", b"odd name", PAGES),
    ];
    let (id, report) = backup(&repository, &files);
    assert!(report.packs.len() > 2 && report.indexes.len() == 1);

    place.restic(&["check", "--read-data"]);
    let snapshots: serde_json::Value = serde_json::from_str(&place.restic(&["snapshots", "--json"])).unwrap();
    assert_eq!(snapshots[0]["id"], id.to_string());
    assert_eq!(snapshots[0]["tags"][1], "plan=daily");
    assert!(place.restic(&["ls", "latest"]).contains("/target/one byte"));
    let total: usize = files.iter().map(|(_, content, _)| content.len()).sum();
    let stats: serde_json::Value =
        serde_json::from_str(&place.restic(&["stats", "latest", "--json"])).unwrap();
    assert_eq!(stats["total_size"], total as u64);
    assert_eq!(stats["total_file_count"], files.len() as u64 + 1);
    let dumped = place.try_restic(&["dump", "latest", "/target/rows.copy"]);
    assert!(dumped.status.success() && dumped.stdout == text);

    let out = place.path("out");
    place.restic(&["restore", "latest", "--target", out.to_str().unwrap()]);
    for (name, content, _) in files {
        assert!(std::fs::read(out.join("target").join(name)).unwrap() == content, "{name:?}");
    }
    let outcome = check(&place.open(), Depth::Data);
    assert_eq!((outcome.errors, outcome.remarks), (vec![], vec![]));
    assert_eq!((outcome.snapshots, outcome.packs), (1, report.packs.len() as u64));
    assert!(outcome.read_bytes >= report.added_bytes);
}

#[test]
fn our_folders_are_the_blobs_that_restic_would_write() {
    let place = Place::with_stock_repository(2);
    let source = place.path("source");
    for name in
        ["a", "b \"q\" \\", "ä <&> \u{2028}", "tab\t\u{7f}\u{1}", "日本\u{a0}\u{200b}", "sub/x", "sub/.y"]
    {
        std::fs::create_dir_all(source.join("sub")).unwrap();
        std::fs::write(source.join(name), name.repeat(1000)).unwrap();
    }
    std::os::unix::fs::symlink("a<b", source.join("link")).unwrap();
    place.restic(&["backup", "source"]);
    let repository = place.open();
    let index = repository.load_index().unwrap();
    let (_, snapshot) = repository.snapshots().unwrap().remove(0);
    let mut trees = 0;
    for (kind, id) in repository.blobs_of(&index, &snapshot.tree).unwrap() {
        if kind == restic::BlobKind::Tree {
            let blob = repository.read_blob(&index, kind, &id).unwrap();
            let tree = Tree::from_blob(&blob).unwrap();
            assert_eq!(support::lossy(&tree.to_blob().unwrap()), support::lossy(&blob));
            trees += 1;
        }
    }
    assert_eq!(trees, 3);
}

#[test]
fn two_clients_work_on_one_repository() {
    let (place, repository) = Place::with_our_repository();
    let text = rows(3_000_000, 3);
    let (first, _) = backup(&repository, &[("rows", &text, Cut::ContentDefined)]);
    std::fs::write(place.path("file"), &text).unwrap();
    place.restic(&["backup", "file"]);
    let (second, _) = backup(&repository, &[("rows", &text[1..], Cut::ContentDefined)]);
    place.restic(&["check", "--read-data"]);
    place.restic(&["forget", "--prune", &first.to_string()]);
    place.restic(&["check", "--read-data"]);

    let repository = place.open();
    let snapshots = repository.snapshots().unwrap();
    assert_eq!(snapshots.len(), 2);
    assert_eq!(snapshots[1].0, second);
    assert!(snapshots[1].1.program_version.as_ref().unwrap().starts_with("backstay "));
    let index = Arc::new(repository.load_index().unwrap());
    let files = support::read_all(&repository, &index, &snapshots[1].1.tree);
    assert!(files[0].1.as_ref().unwrap() == &text[1..]);
    assert_eq!(check(&repository, Depth::Data).errors, vec![]);
}

#[test]
fn a_folder_of_thousands_restores_with_modes_and_times() {
    let (place, repository) = Place::with_our_repository();
    let index = Arc::new(repository.load_index().unwrap());
    let writer = BlobWriter::begin(repository.clone(), index, WriterOptions::default()).unwrap();
    let mut root = Tree::default();
    for number in 0..500 {
        let content = format!("tenant {number}");
        let ids = support::store(&writer, content.as_bytes(), &PAGES).iter().map(|blob| blob.id).collect();
        let mut file = Node::file("db.sqlite", time(), content.len() as u64, ids);
        file.mode = 0o640;
        let tree = Tree { nodes: vec![file] };
        let tree = writer.save_blob(restic::BlobKind::Tree, tree.to_blob().unwrap()).unwrap().id;
        let mut dir = Node::dir(format!("tenant-{number}"), time(), tree);
        dir.mode = MODE_DIR | 0o750;
        root.nodes.push(dir);
    }
    let root = writer.save_blob(restic::BlobKind::Tree, root.to_blob().unwrap()).unwrap().id;
    let report = writer.finish().unwrap();
    assert_eq!(report.packs.len(), 2, "small packs of all workers are put together");
    repository.save_snapshot(&Snapshot { paths: vec!["/".into()], ..Snapshot::new(time(), root) }).unwrap();

    let out = place.path("out");
    place.restic(&["restore", "latest", "--target", out.to_str().unwrap()]);
    let file = out.join("tenant-321/db.sqlite");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "tenant 321");
    let metadata = std::fs::metadata(&file).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!(metadata.mode() & 0o7777, 0o640);
    assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (time().as_second(), 123_456_789));
    assert_eq!(std::fs::metadata(out.join("tenant-321")).unwrap().mode() & 0o7777, 0o750);
}
