//! The restic layout as operations use it, judged by stock restic: what is committed passes its check, restores byte
//! for byte, and nothing of what failed is visible.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use flow::{Dumped, Layout, SourceError, SourceErrorKind, Unchanged};
use repository::{CheckDepth, PartError, ProofLevel, ProofRecord, Repository, RepositoryErrorKind};
use std::io::Read;
use support::{Bench, database, dumped, entry, noise, pages, part};

#[test]
fn parts_from_many_threads_become_one_file_that_stock_restic_restores() {
    let bench = Bench::new();
    let (content, rows) = (noise(1, 40 << 20), noise(2, 3_000_000));
    let database = database("/srv/shop \"1\".db");
    let repository = bench.open();
    let writer = repository.begin(bench.request(), &bench.context).unwrap();
    std::thread::scope(|scope| {
        for (index, piece) in content.chunks(8 << 20).enumerate().rev() {
            let (writer, database) = (&writer, &database);
            scope.spawn(move || {
                writer.part(part(database, "database.sqlite", pages(), index as u32, piece)).unwrap()
            });
        }
    });
    writer.part(part(&database, "data/rows.txt", Layout::Rows, 0, &rows)).unwrap();
    let entries =
        [("database.sqlite", pages(), 5), ("data/rows.txt", Layout::Rows, 1), ("empty", Layout::Opaque, 0)];
    writer.done(&database, dumped(&entries)).unwrap();
    let report = writer.commit().unwrap();
    assert_eq!(report.databases.len(), 1);
    assert_eq!(report.databases[0].record.size_bytes, (content.len() + rows.len()) as u64);

    bench.restic(&["check", "--read-data"]);
    let out = bench.folder.path().join("out");
    bench.restic(&["restore", "latest", "--target", out.to_str().unwrap()]);
    let folder = out.join("%2Fsrv%2Fshop %221%22.db").join("shop %221%22.db");
    assert!(std::fs::read(folder.join("database.sqlite")).unwrap() == content);
    assert!(std::fs::read(folder.join("data/rows.txt")).unwrap() == rows);
    assert_eq!(std::fs::read(folder.join("empty")).unwrap(), b"");

    let backup = bench.open().open(&report.databases[0].record.id, &bench.context).unwrap();
    for range in [0..0, 0..1, 5_000_001..33_000_000, 40 << 20..40 << 20, 0..40 << 20] {
        let mut read = Vec::new();
        backup.read(&entry("database.sqlite"), range.clone()).unwrap().read_to_end(&mut read).unwrap();
        assert!(read == content[range.start as usize..range.end as usize], "{range:?}");
    }
    assert!(backup.read(&entry("database.sqlite"), 0..(40 << 20) + 1).is_err());
    assert!(backup.read(&entry("nothing"), 0..0).is_err());
}

#[test]
fn a_gap_a_surplus_a_wrong_size_or_a_crooked_cut_is_refused() {
    let bench = Bench::new();
    let repository = bench.open();
    let database = database("/srv/a.db");
    let attempt = |parts: &[(u32, usize)], declared: u32| {
        let writer = repository.begin(bench.request(), &bench.context).unwrap();
        for (index, size) in parts {
            writer.part(part(&database, "e", pages(), *index, &vec![1; *size])).unwrap();
        }
        writer.done(&database, dumped(&[("e", pages(), declared)])).map_err(|error| error.kind)
    };
    assert_eq!(attempt(&[(0, 65536), (2, 65536)], 3), Err(RepositoryErrorKind::Invalid));
    assert_eq!(attempt(&[(0, 65536), (2, 65536)], 2), Err(RepositoryErrorKind::Invalid));
    assert_eq!(attempt(&[(0, 65536), (1, 65536)], 1), Err(RepositoryErrorKind::Invalid));
    assert_eq!(attempt(&[(0, 4096), (1, 65536)], 2), Err(RepositoryErrorKind::Invalid));
    assert_eq!(attempt(&[], 1), Err(RepositoryErrorKind::Invalid));
    assert_eq!(attempt(&[(1, 4096), (0, 65536)], 2), Ok(()));
    let writer = repository.begin(bench.request(), &bench.context).unwrap();
    let mut lying = part(&database, "e", pages(), 0, &[7; 4096]);
    lying.reader = support::lying(&[7; 4096], 8192);
    assert!(matches!(writer.part(lying), Err(PartError::Source(_))));
    assert!(writer.commit().is_err(), "a snapshot without a database");
    assert!(bench.open().backups(None, &bench.context).unwrap().is_empty());
}

#[test]
fn one_database_that_fails_takes_no_other_with_it() {
    let bench = Bench::new();
    let repository = bench.open();
    let (good, bad) = (database("/srv/good.db"), database("/srv/bad.db"));
    let writer = repository.begin(bench.request(), &bench.context).unwrap();
    writer.part(part(&good, "e", Layout::Rows, 0, b"right")).unwrap();
    let mut broken = part(&bad, "e", Layout::Rows, 0, b"");
    broken.reader = support::failing(SourceError::new(SourceErrorKind::Damaged, "/srv/bad.db", "is cut"));
    assert!(matches!(writer.part(broken), Err(PartError::Source(_))));
    writer.discard(&bad, "is cut");
    writer.done(&good, dumped(&[("e", Layout::Rows, 1)])).unwrap();
    writer.commit().unwrap();
    let listed = bench.open().backups(None, &bench.context).unwrap();
    assert_eq!(listed.iter().map(|record| record.database.as_str()).collect::<Vec<_>>(), ["good.db"]);
    bench.restic(&["check", "--read-data"]);
}

#[test]
fn an_unchanged_database_keeps_its_folder_and_no_data_is_added() {
    let bench = Bench::new();
    let database = database("/srv/a.db");
    let content = noise(3, 3 << 20);
    let first = bench.back_up(&database, &content);
    let repository = bench.open();
    let previous = repository.previous(&database.target, "host", &bench.context).unwrap();
    assert_eq!(previous.len(), 1);
    assert!(repository.previous(&database.target, "another", &bench.context).unwrap().is_empty());
    let packs = bench.data_bytes();
    let writer = repository.begin(bench.request(), &bench.context).unwrap();
    let Dumped { marks, elapsed_ms, .. } = dumped(&[("e", pages(), 1)]);
    writer.unchanged(&database, Unchanged { marks, elapsed_ms }).unwrap();
    let second = writer.commit().unwrap();
    assert!(bench.data_bytes() - packs < 8192, "only the list and the root are new");
    let record = &second.databases[0].record;
    assert!(record.unchanged && record.size_bytes == first.databases[0].record.size_bytes);
    let again = bench.back_up(&database, &content);
    assert!(again.databases[0].record.added_bytes < 16384);
    assert!(!again.databases[0].record.unchanged);
    bench.restic(&["check", "--read-data"]);
    assert_eq!(bench.open().backups(None, &bench.context).unwrap().len(), 3);
}

#[test]
fn a_part_of_the_previous_backup_is_taken_by_its_blobs() {
    let bench = Bench::new();
    let database = database("/srv/a.db");
    let (one, two) = (noise(4, 2 << 20), noise(5, 3 << 20));
    let store = |second: Option<&[u8]>| {
        let repository = bench.open();
        let writer = repository.begin(bench.request(), &bench.context).unwrap();
        writer.part(part(&database, "e", Layout::Rows, 0, &one)).unwrap();
        match second {
            Some(content) => writer.part(part(&database, "e", Layout::Rows, 1, content)).unwrap(),
            None => writer
                .reuse(flow::PartRef {
                    database: database.clone(),
                    entry: entry("e"),
                    layout: Layout::Rows,
                    index: 1,
                    previous_index: 1,
                })
                .unwrap(),
        }
        writer.done(&database, dumped(&[("e", Layout::Rows, 2)])).unwrap();
        writer.commit().unwrap()
    };
    store(Some(&two));
    let second = store(None);
    let backup = bench.open().open(&second.databases[0].record.id, &bench.context).unwrap();
    let mut read = Vec::new();
    backup.read(&entry("e"), 0..(5 << 20)).unwrap().read_to_end(&mut read).unwrap();
    assert!(read == [one.as_slice(), &two].concat());
}

#[test]
fn a_proof_holds_for_every_backup_of_the_same_content_and_damage_withdraws_it() {
    let bench = Bench::new();
    let database = database("/srv/a.db");
    let first = bench.back_up(&database, &noise(6, 1 << 20));
    let second = bench.back_up(&database, &noise(7, 1 << 20));
    let (one, two) = (&first.databases[0].record, &second.databases[0].record);
    let repository = bench.open();
    assert!(repository.verify(&one.id, &bench.context).unwrap().errors.is_empty());
    let record = |level| ProofRecord {
        backup: one.id.clone(),
        time: jiff::Timestamp::now(),
        level,
        problem: level.is_none().then(|| "pack x is cut".to_owned()),
        damaged_packs: vec![],
        host: "host".to_owned(),
        rows: Default::default(),
    };
    repository.append_proofs(vec![record(Some(ProofLevel::Restorable))], &bench.context).unwrap();
    let levels = || {
        let listed = bench.open().backups(None, &bench.context).unwrap();
        listed.into_iter().map(|record| record.proof.map(|proof| proof.level)).collect::<Vec<_>>()
    };
    assert_eq!(levels(), [Some(ProofLevel::Restorable), Some(ProofLevel::Stored)]);
    std::thread::sleep(std::time::Duration::from_millis(2));
    bench.open().append_proofs(vec![record(None)], &bench.context).unwrap();
    assert_eq!(levels(), [None, Some(ProofLevel::Stored)]);
    assert_eq!(bench.open().proofs(&bench.context).unwrap().len(), 1);
    assert!(two.proof.is_some());
    bench.restic(&["check", "--read-data"]);
}

#[test]
fn damage_is_named_with_the_backups_that_it_affects_and_the_rest_restores() {
    let bench = Bench::new();
    let (one, two) = (database("/srv/one.db"), database("/srv/two.db"));
    let (kept, lost) = (noise(8, 1 << 20), noise(9, 1 << 20));
    let first = bench.back_up(&one, &kept);
    let before = bench.packs();
    let second = bench.back_up(&two, &lost);
    let pack = bench
        .packs()
        .into_iter()
        .filter(|pack| !before.contains(pack))
        .max_by_key(|pack| std::fs::metadata(pack).unwrap().len());
    let pack = pack.unwrap();
    let mut bytes = std::fs::read(&pack).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&pack, bytes).unwrap();
    let repository = bench.open();
    let report = repository.check(CheckDepth::Data, &bench.context).unwrap();
    let name = pack.file_name().unwrap().to_str().unwrap();
    assert!(report.errors.iter().any(|damage| damage.object.contains(name)), "{report:?}");
    let affected: Vec<_> = report.errors.iter().flat_map(|damage| &damage.backups).collect();
    assert!(
        affected.iter().all(|id| **id == second.databases[0].record.id) && !affected.is_empty(),
        "{report:?}"
    );
    let damage = repository.verify(&second.databases[0].record.id, &bench.context).unwrap();
    assert!(!damage.errors.is_empty());
    assert!(repository.verify(&first.databases[0].record.id, &bench.context).unwrap().errors.is_empty());
    let backup = repository.open(&second.databases[0].record.id, &bench.context).unwrap();
    let mut read = Vec::new();
    assert!(backup.read(&entry("e"), 0..1 << 20).unwrap().read_to_end(&mut read).is_err());
}

#[test]
fn what_stock_restic_stored_is_listed_verified_and_read() {
    let bench = Bench::new();
    let source = bench.folder.path().join("files");
    std::fs::create_dir_all(source.join("below")).unwrap();
    std::fs::write(source.join("below/a \"b\"\n.txt"), noise(10, 3_000_000)).unwrap();
    std::os::unix::fs::symlink("below", source.join("link")).unwrap();
    bench.restic(&["backup", source.to_str().unwrap()]);
    let repository = bench.open();
    let listed = repository.backups(None, &bench.context).unwrap();
    assert_eq!((listed.len(), listed[0].engine, listed[0].size_bytes), (1, None, 3_000_000));
    assert!(repository.verify(&listed[0].id, &bench.context).unwrap().errors.is_empty());
    let files = repository.files(&listed[0].snapshot, &bench.context).unwrap();
    let index = files.files().iter().position(|file| file.path.ends_with("a \"b\"\n.txt")).unwrap();
    let mut read = Vec::new();
    files.read(index).unwrap().read_to_end(&mut read).unwrap();
    assert!(read == noise(10, 3_000_000));
    assert!(files.files().iter().any(|file| file.link_target.as_deref() == Some("below")));
}
