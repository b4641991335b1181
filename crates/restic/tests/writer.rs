//! The write pipeline: nothing is stored twice, nothing counts before it is durable, and every failure is told.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use flow::{Cancel, Secret};
use restic::{
    BlobKind, BlobWriter, Cut, Depth, Id, Index, OpenOptions, ReadOptions, Repository, ResticErrorKind,
    StreamError, WriterOptions,
};
use std::io::Read;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use storage::{LocalStorage, ObjectName, ObjectStat, Storage, StorageError, StorageErrorKind};
use support::{PASSWORD, Place, backup, backup_with, check, noise, rows, store};

fn begin(repository: &Arc<Repository>, options: WriterOptions) -> BlobWriter {
    let index = Arc::new(repository.load_index().unwrap());
    BlobWriter::begin(repository.clone(), index, options).unwrap()
}

fn small_packs() -> WriterOptions {
    WriterOptions { pack_bytes: 1 << 20, ..WriterOptions::default() }
}

#[test]
fn writing_the_same_again_adds_no_pack() {
    let (place, repository) = Place::with_our_repository();
    let (random, text) = (noise(9_000_000, 1), rows(5_000_000, 2));
    let files: [(&str, &[u8], Cut); 2] =
        [("random", &random, Cut::ContentDefined), ("text", &text, Cut::Fixed { bytes: 65536 })];
    let (_, first) = backup(&repository, &files);
    assert!(first.added_blobs > 80 && !first.packs.is_empty());
    let (packs, indexes) = (place.objects("data"), place.objects("index"));
    let (_, second) = backup(&repository, &files);
    assert_eq!((second.packs.len(), second.added_blobs, second.added_bytes), (0, 0, 0));
    assert_eq!((place.objects("data"), place.objects("index")), (packs, indexes));
    assert_eq!(repository.snapshots().unwrap().len(), 2);
}

#[test]
fn equal_blobs_at_once_are_stored_once() {
    let (_place, repository) = Place::with_our_repository();
    let writer = Arc::new(begin(&repository, small_packs()));
    let content = Arc::new(noise(6_000_000, 3));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (writer, content) = (writer.clone(), content.clone());
            std::thread::spawn(move || store(&writer, &content, &Cut::Fixed { bytes: 65536 }))
        })
        .collect();
    let lists: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    let ids = |list: &[restic::StoredBlob]| list.iter().map(|blob| blob.id).collect::<Vec<Id>>();
    assert!(lists.iter().all(|list| ids(list) == ids(&lists[0])));
    let added: u64 = lists.iter().flatten().map(|blob| blob.added_bytes).sum();
    let fresh = lists.iter().flatten().filter(|blob| !blob.reused).count();
    let report = Arc::into_inner(writer).unwrap().finish().unwrap();
    assert_eq!((fresh, report.added_blobs as usize), (lists[0].len(), lists[0].len()));
    assert!(added < report.added_bytes && report.added_bytes < 6_100_000);
    assert!(report.packs.len() >= 6);
}

#[test]
fn cuts_are_where_the_pure_functions_say() {
    let (_place, repository) = Place::with_our_repository();
    let writer = begin(&repository, WriterOptions::default());
    let cutter = restic::ContentCutter::new(repository.cut_seed());
    for length in [0, 1, 100_000, 300_000, 4 << 20, (4 << 20) + 1, 17_000_003] {
        let content = rows(length, length as u64);
        // Sources give as little as they like.
        let (mut rest, mut step) = (&content[..], 1);
        let mut read = |buffer: &mut [u8]| {
            step = step * 7 % 1_000_003;
            let most = buffer.len().min(step);
            rest.read(&mut buffer[..most])
        };
        let blobs = writer.write_stream(&mut read, &Cut::ContentDefined).unwrap();
        let lengths: Vec<usize> = blobs.iter().map(|blob| blob.length as usize).collect();
        assert_eq!(lengths, cutter.lengths(&content));
        let blobs = store(&writer, &content, &Cut::Fixed { bytes: 65536 });
        let expected: Vec<u64> = content.chunks(65536).map(|chunk| chunk.len() as u64).collect();
        assert_eq!(blobs.iter().map(|blob| blob.length).collect::<Vec<_>>(), expected);
        assert!(blobs.iter().zip(content.chunks(65536)).all(|(blob, chunk)| blob.id == Id::of(chunk)));
    }
    store(&writer, &noise(40_000_000, 9), &Cut::Fixed { bytes: 16 << 20 });
    for bytes in [0, 511, (16 << 20) + 1] {
        let result = writer.write_stream::<()>(&mut |_| Ok(0), &Cut::Fixed { bytes });
        assert!(matches!(result, Err(StreamError::Write(error)) if error.kind == ResticErrorKind::Failed));
    }
    writer.finish().unwrap();
}

#[test]
fn packs_of_an_interrupted_run_are_used_by_the_next() {
    let (place, repository) = Place::with_our_repository();
    let content = noise(8_000_000, 5);
    let options = WriterOptions { index_after: Duration::from_millis(1), ..small_packs() };
    let writer = begin(&repository, options);
    store(&writer, &content, &Cut::Fixed { bytes: 65536 });
    let deadline = Instant::now() + Duration::from_secs(60);
    while place.objects("index").is_empty() {
        assert!(Instant::now() < deadline, "an index must come while the writer still lives");
        std::thread::sleep(Duration::from_millis(5));
    }
    // As after a kill: nothing more of this writer reaches the disk.
    let index = repository.load_index().unwrap();
    std::mem::forget(writer);
    assert!(index.len() >= 16);
    let known = index.len() as u64;
    let (_, report) = backup(&place.open(), &[("f", &content, Cut::Fixed { bytes: 65536 })]);
    assert!(report.added_blobs + known <= 8_000_000_u64.div_ceil(65536) + 2, "what was indexed is reused");
    place.restic(&["check", "--read-data"]);
}

#[test]
fn a_writer_that_is_dropped_names_what_it_stored() {
    let (place, repository) = Place::with_our_repository();
    let writer = begin(&repository, small_packs());
    store(&writer, &noise(5_000_000, 6), &Cut::ContentDefined);
    drop(writer);
    let index = repository.load_index().unwrap();
    assert_eq!(index.packs().len(), place.objects("data").len());
    assert!(!index.is_empty());
    place.restic(&["check", "--read-data"]);
}

#[test]
fn a_source_that_fails_takes_only_its_stream_with_it() {
    let (_place, repository) = Place::with_our_repository();
    let writer = begin(&repository, small_packs());
    let content = noise(3_000_000, 7);
    for cut in [Cut::ContentDefined, Cut::Fixed { bytes: 4096 }] {
        let mut left = 2_500_000;
        let mut read = |buffer: &mut [u8]| {
            if left == 0 {
                return Err("the source died");
            }
            let count = buffer.len().min(left);
            left -= count;
            Ok(count)
        };
        let error = writer.write_stream(&mut read, &cut).unwrap_err();
        assert!(matches!(error, StreamError::Read("the source died")));
    }
    let blobs = store(&writer, &content, &Cut::ContentDefined);
    writer.finish().unwrap();
    let index = repository.load_index().unwrap();
    assert!(blobs.iter().all(|blob| index.contains(BlobKind::Data, &blob.id)));
    assert_eq!(check(&repository, Depth::Data).errors, vec![]);
}

/// A disk that is full, or that lies, from some put on.
struct Faulty {
    inner: LocalStorage,
    puts_left: AtomicU64,
    kind: StorageErrorKind,
    verb: &'static str,
}

impl Faulty {
    fn fault(&self, name: &ObjectName) -> StorageError {
        let object = format!("{}/{name}", self.inner.location());
        StorageError { kind: self.kind, verb: self.verb, object, message: "made up".into(), source: None }
    }
}

impl Storage for Faulty {
    fn put(&self, name: &ObjectName, content: &[&[u8]]) -> Result<(), StorageError> {
        let left =
            self.puts_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left.is_err() && self.verb == "put" {
            return Err(self.fault(name));
        }
        self.inner.put(name, content)
    }
    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StorageError> {
        self.inner.get(name)
    }
    fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StorageError> {
        self.inner.get_range(name, range)
    }
    fn stat(&self, name: &ObjectName) -> Result<ObjectStat, StorageError> {
        self.inner.stat(name)
    }
    fn list(&self, folder: &str) -> Result<Vec<ObjectStat>, StorageError> {
        self.inner.list(folder)
    }
    fn remove(&self, name: &ObjectName) -> Result<(), StorageError> {
        self.inner.remove(name)
    }
    fn confirm(&self, name: &ObjectName, sha256: &[u8; 32]) -> Result<(), StorageError> {
        if self.puts_left.load(Ordering::SeqCst) == 0 && self.verb == "confirm" {
            return Err(self.fault(name));
        }
        self.inner.confirm(name, sha256)
    }
    fn free_bytes(&self) -> Option<u64> {
        None
    }
    fn location(&self) -> String {
        self.inner.location()
    }
}

#[test]
fn a_storage_that_fails_ends_the_writer_with_its_error() {
    for (verb, fault, expected) in [
        ("put", StorageErrorKind::Full, ResticErrorKind::Storage(StorageErrorKind::Full)),
        ("put", StorageErrorKind::Denied, ResticErrorKind::Storage(StorageErrorKind::Denied)),
        ("confirm", StorageErrorKind::Damaged, ResticErrorKind::Damaged),
    ] {
        for good_puts in [0, 1, 3] {
            let (place, _) = Place::with_our_repository();
            let inner = LocalStorage::open(place.repo()).unwrap();
            let faulty = Faulty { inner, puts_left: AtomicU64::new(good_puts), kind: fault, verb };
            let options = OpenOptions::default();
            let opened = Repository::open(Arc::new(faulty), &Secret::new(PASSWORD), options);
            let repository = Arc::new(opened.unwrap());
            let writer = begin(&repository, small_packs());
            let content = noise(30_000_000, 8);
            let mut rest = &content[..];
            let mut read = |buffer: &mut [u8]| rest.read(buffer);
            let result = writer.write_stream(&mut read, &Cut::Fixed { bytes: 65536 });
            if let Err(StreamError::Write(error)) = result {
                assert_eq!(error.kind, expected);
                assert!(!rest.is_empty(), "it does not go on reading");
                let again = writer.save_blob(BlobKind::Tree, b"{}".to_vec()).unwrap_err();
                assert_eq!(again.kind, expected);
            }
            let error = writer.finish().unwrap_err();
            assert_eq!(error.kind, expected);
            assert!(error.object.starts_with("pack ") || error.object.starts_with("index "), "{error}");
            if good_puts == 0 {
                assert!(error.object.starts_with("pack "), "{error}");
                assert_eq!(place.objects("index").len(), 0, "no index names what was not confirmed");
            }
            // What counts is right; the rest are packs that nothing names.
            assert_eq!(check(&place.open(), Depth::Data).errors, vec![]);
        }
    }
}

#[test]
fn an_interrupted_writer_says_so() {
    let (place, repository) = Place::with_our_repository();
    let cancel = Cancel::new();
    let writer = begin(&repository, WriterOptions { cancel: cancel.clone(), ..small_packs() });
    let mut count = 0;
    let mut read = |buffer: &mut [u8]| {
        count += 1;
        if count == 20 {
            cancel.cancel();
        }
        buffer.fill(count as u8);
        Ok::<_, ()>(buffer.len())
    };
    let error = writer.write_stream(&mut read, &Cut::Fixed { bytes: 4096 }).unwrap_err();
    assert!(matches!(error, StreamError::Write(error) if error.kind == ResticErrorKind::Cancelled));
    assert_eq!(writer.finish().unwrap_err().kind, ResticErrorKind::Cancelled);
    assert_eq!(check(&place.open(), Depth::Data).errors, vec![]);
}

#[test]
fn any_range_is_read() {
    let (_place, repository) = Place::with_our_repository();
    let content = rows(19_000_000, 11);
    let mut blobs = Vec::new();
    let writer = begin(&repository, small_packs());
    for (part, cut) in
        content.chunks(5_000_000).zip([Cut::ContentDefined, Cut::Fixed { bytes: 4096 }].iter().cycle())
    {
        blobs.extend(store(&writer, part, cut).iter().map(|blob| (blob.id, blob.length)));
    }
    writer.finish().unwrap();
    let index = Arc::new(repository.load_index().unwrap());
    let open = |range: Range<usize>, threads| {
        let options = ReadOptions { threads, cancel: Cancel::new() };
        let range = range.start as u64..range.end as u64;
        restic::stream(repository.clone(), index.clone(), blobs.clone(), range, options)
    };
    let end = content.len();
    for threads in [1, 2, 5] {
        for range in
            [0..end, 0..0, end..end, 1..end - 1, 4_999_999..5_000_001, 123_456..9_876_543, end - 1..end]
        {
            let mut read = Vec::new();
            open(range.clone(), threads).unwrap().read_to_end(&mut read).unwrap();
            assert!(read == content[range.clone()], "{range:?} by {threads}");
        }
        // A reader that is dropped early leaves nothing behind that waits.
        let mut some = [0; 100];
        open(0..end, threads).unwrap().read_exact(&mut some).unwrap();
        assert_eq!(some, content[..100]);
    }
    assert!(open(0..end + 1, 1).is_err());
    let mut wrong = blobs.clone();
    wrong[3].0 = Id::of(b"unknown");
    let options = ReadOptions::default();
    let mut reader =
        restic::stream(repository.clone(), index.clone(), wrong, 0..end as u64, options).unwrap();
    let mut read = Vec::new();
    let error = reader.read_to_end(&mut read).unwrap_err();
    assert!(content.starts_with(&read) && !read.is_empty(), "what comes before it is right");
    let error = error.downcast::<restic::ResticError>().unwrap();
    assert_eq!(error.kind, ResticErrorKind::Missing);
    assert!(error.object.contains(&Id::of(b"unknown").to_string()));
}

#[test]
fn index_files_are_split_and_pack_sizes_kept() {
    let (place, repository) = Place::with_our_repository();
    let content = noise(10_000_000, 12);
    let options = WriterOptions { index_after_bytes: 3 << 20, level: 3, ..small_packs() };
    let (_, report) = backup_with(&repository, &[("f", &content, Cut::Fixed { bytes: 65536 })], options);
    assert!((2..=6).contains(&report.indexes.len()), "{}", report.indexes.len());
    for object in place.objects("data") {
        assert!(object.metadata().unwrap().len() < (1 << 20) + 80_000);
    }
    let index: Index = repository.load_index().unwrap();
    assert_eq!(index.packs().len(), report.packs.len());
    place.restic(&["check", "--read-data"]);
}
