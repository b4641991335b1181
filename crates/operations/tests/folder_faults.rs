//! A folder of dump files any of whose calls fails, once or for good: what has a name is whole, a plan's own files go by its
//! rules from the next run on, and a file of somebody else is never touched.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use flow::{Context, DumpOptions, EngineKind, SafetySuffix, ScratchDir, TargetName, TargetRef};
use jiff::tz::TimeZone;
use operations::backup::BackupTarget;
use operations::backup_folder::{self, FolderBackup, FolderTarget};
use operations::dump_files::Choice;
use operations::prune_folder::{self, FolderOptions, MadeBy};
use operations::{Engines, Retention, Services, list_folder};
use repository::retention::Rules;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use storage::{FileKind, Folder, LocalFolder};
use testkit::{FakeRepository, FaultyFolder, MemoryFolder};

const KEPT: u32 = 2;
/// By its name one of the plan's, and nobody's by any manifest.
const FOREIGN: &str = "app_backup_app.db_20200101T000000Z.sql";

struct Stage {
    folder: tempfile::TempDir,
    services: Services,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("dumps")).unwrap();
        let database = rusqlite::Connection::open(folder.path().join("app.db")).unwrap();
        database.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES (1), (2), (3)").unwrap();
        std::fs::write(folder.path().join("dumps").join(FOREIGN), "somebody's").unwrap();
        let services = Services {
            engines: Engines::all(SafetySuffix::default()),
            repository: Arc::new(FakeRepository::new()),
            journal: None,
            context: Context::quiet(ScratchDir::new(folder.path().join("scratch"))),
            host: "host".to_owned(),
            user: "user".to_owned(),
        };
        Self { folder, services }
    }

    fn dumps(&self) -> PathBuf {
        self.folder.path().join("dumps")
    }

    fn local(&self) -> Arc<dyn Folder> {
        Arc::new(LocalFolder::new(self.dumps()))
    }

    /// Backs up; tells whether nothing failed.
    fn backup(&self, folder: Arc<dyn Folder>, keep: bool) -> bool {
        let connection = self.folder.path().join("app.db").display().to_string();
        let retention =
            Retention { rules: Rules { last: KEPT, ..Rules::default() }, zone: TimeZone::UTC, safety: None };
        let target = BackupTarget {
            target: TargetRef {
                name: TargetName::new("app").unwrap(),
                engine: EngineKind::Sqlite,
                connection,
                secret: None,
                tenants: None,
            },
            plan: Some("often".to_owned()),
            only: None,
            among: None,
            selection: None,
            before: None,
            after: None,
            tags: vec![],
            retention: keep.then_some(retention),
        };
        let options = FolderBackup {
            folder,
            names: "{target}_backup_{database}_{timestamp}.{ext}".to_owned(),
            targets: vec![FolderTarget { target, form: Some("sql".to_owned()), zone: TimeZone::UTC }],
            lock: None,
            encrypts_all: false,
            dump: DumpOptions::default(),
            dry_run: false,
        };
        backup_folder::run(&self.services, &options).is_ok_and(|result| result.errors.is_empty())
    }

    fn prune(&self, folder: Arc<dyn Folder>) -> bool {
        let options = FolderOptions {
            folder,
            choice: Choice::all(TimeZone::UTC),
            made: Some(MadeBy {
                target: TargetName::new("app").unwrap(),
                plan: Some("often".to_owned()),
                databases: None,
            }),
            rules: Rules { last: KEPT, ..Rules::default() },
            dry_run: false,
        };
        prune_folder::run(&self.services, &options).is_ok_and(|result| result.errors.is_empty())
    }
}

/// What lies in a folder, with the file of somebody else in it.
fn memory() -> MemoryFolder {
    let folder = MemoryFolder::new();
    folder.put(FOREIGN, b"somebody's");
    folder
}

/// The dump files that have names, but for the foreign one; each is whole and the database's.
fn dump_files(folder: &MemoryFolder, at: &str) -> BTreeSet<String> {
    let mut files = BTreeSet::new();
    for (name, content) in folder.contents() {
        let name = name.into_string().unwrap();
        if name == FOREIGN {
            assert_eq!(content, b"somebody's", "{at}");
        } else if !name.ends_with(".json") {
            let text = String::from_utf8(content).unwrap();
            assert!(
                text.contains("VALUES(3)") && text.trim_end().ends_with("COMMIT;"),
                "{at}: {name}: {text}"
            );
            files.insert(name);
        }
    }
    assert!(folder.look(FOREIGN.as_ref()).is_ok(), "{at}: somebody's file is gone");
    files
}

/// The manifests that have names.
fn manifests(folder: &MemoryFolder) -> BTreeSet<String> {
    let names = folder.contents().into_keys().map(|name| name.into_string().unwrap());
    names.filter_map(|name| name.strip_suffix(".json").map(str::to_owned)).collect()
}

#[test]
fn a_backup_whose_folder_fails_anywhere_leaves_what_the_next_one_settles() {
    let stage = Stage::new();
    let before = memory();
    for _ in 0..KEPT {
        assert!(stage.backup(Arc::new(before.clone()), false));
    }
    for for_good in [false, true] {
        let (mut failed, mut fails_at) = (0, 0);
        loop {
            let at = format!("call {fails_at}, for good: {for_good}");
            let folder = before.fork();
            let faulty = Arc::new(FaultyFolder::new(Arc::new(folder.clone()), fails_at, for_good));
            failed += u32::from(!stage.backup(faulty.clone(), true));
            let named = dump_files(&folder, &at);
            assert!(named.len() >= KEPT as usize, "{at}: {named:?}");
            assert!(stage.backup(Arc::new(folder.clone()), true), "{at}");
            let named = dump_files(&folder, &at);
            assert_eq!(named.len(), KEPT as usize, "{at}: {named:?}");
            // Of a file that went a manifest may be left, where its removal failed.
            assert!(manifests(&folder).is_superset(&named), "{at}: {named:?}");
            assert!(folder.leftovers().unwrap().is_empty(), "{at}");
            if faulty.calls() <= fails_at {
                break;
            }
            fails_at += 1;
        }
        assert!(failed >= 8, "only {failed} calls of {fails_at} failed a backup");
    }
}

#[test]
fn a_prune_whose_folder_fails_anywhere_removes_nothing_that_stays() {
    let stage = Stage::new();
    let before = memory();
    for _ in 0..KEPT + 3 {
        assert!(stage.backup(Arc::new(before.clone()), false));
    }
    let all = list_folder::files(&stage.services, &before, &Choice::all(TimeZone::UTC), None).unwrap();
    let newest = all.iter().rev().take(KEPT as usize);
    let newest: BTreeSet<String> =
        newest.map(|file| file.file.file_name().to_string_lossy().into_owned()).collect();
    for for_good in [false, true] {
        let mut fails_at = 0;
        loop {
            let at = format!("call {fails_at}, for good: {for_good}");
            let folder = before.fork();
            let faulty = Arc::new(FaultyFolder::new(Arc::new(folder.clone()), fails_at, for_good));
            stage.prune(faulty.clone());
            let named = dump_files(&folder, &at);
            assert!(newest.is_subset(&named), "{at}: {named:?}");
            assert!(stage.prune(Arc::new(folder.clone())), "{at}");
            assert_eq!(dump_files(&folder, &at), newest, "{at}");
            if faulty.calls() <= fails_at {
                break;
            }
            fails_at += 1;
        }
        assert!(fails_at > 15, "only {fails_at} calls");
    }
}

#[test]
fn a_manifest_that_was_left_is_put_beside_its_own_file_alone() {
    let stage = Stage::new();
    assert!(stage.backup(stage.local(), false));
    let names = std::fs::read_dir(stage.dumps()).unwrap();
    let own = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .find(|name| name.ends_with(".sql") && name != FOREIGN)
        .unwrap();
    let manifest = |name: &str| stage.dumps().join(format!("{name}.json"));
    let hidden = stage.dumps().join(format!(".{own}.json.4711.partial"));
    let text = std::fs::read(manifest(&own)).unwrap();
    // Killed between the two names: it comes back.
    std::fs::rename(manifest(&own), &hidden).unwrap();
    assert!(stage.prune(stage.local()));
    assert_eq!(std::fs::read(manifest(&own)).unwrap(), text);
    assert!(!hidden.exists());
    // Another file took the name, of the same length.
    let file = stage.dumps().join(&own);
    let content = std::fs::read(&file).unwrap();
    std::fs::remove_file(manifest(&own)).unwrap();
    std::fs::write(&hidden, &text).unwrap();
    std::fs::write(&file, content.to_ascii_uppercase()).unwrap();
    assert!(stage.prune(stage.local()));
    assert!(!hidden.exists() && !manifest(&own).exists() && file.exists());
    // A manifest that was cut, or is of another file, is none.
    std::fs::write(&file, &content).unwrap();
    for wrong in [&text[..text.len() / 2], b"", b"{}"] {
        std::fs::write(&hidden, wrong).unwrap();
        assert!(stage.prune(stage.local()));
        assert!(!hidden.exists() && !manifest(&own).exists());
    }
    std::fs::write(stage.dumps().join(format!(".{FOREIGN}.json.4711.partial")), &text).unwrap();
    assert!(stage.prune(stage.local()));
    assert!(!manifest(FOREIGN).exists());
    assert_eq!(std::fs::read(stage.dumps().join(FOREIGN)).unwrap(), b"somebody's");
}

#[test]
fn backups_lists_and_prunes_need_no_disk_under_their_folder() {
    let stage = Stage::new();
    let folder = MemoryFolder::new();
    folder.put("notes.txt", b"not a dump");
    for _ in 0..2 {
        assert!(stage.backup(Arc::new(folder.clone()), false));
    }
    let files = list_folder::files(&stage.services, &folder, &Choice::all(TimeZone::UTC), None).unwrap();
    assert_eq!(files.len(), 2);
    for found in &files {
        let manifest = found.manifest.as_ref().unwrap();
        assert!(found.file.path.starts_with("memory:/app_backup_app.db_"), "{}", found.file.path);
        let mut content = String::new();
        folder.open(found.file.file_name(), 0).unwrap().read_to_string(&mut content).unwrap();
        assert_eq!((manifest.file_bytes, manifest.rows), (content.len() as u64, Some(3)));
        assert!(content.contains("VALUES(3)"));
    }
    assert_eq!(folder.contents().len(), 5, "{:?}", folder.contents().keys());
    for _ in 0..2 {
        assert!(stage.backup(Arc::new(folder.clone()), false));
    }
    assert!(stage.prune(Arc::new(folder.clone())));
    let left = list_folder::files(&stage.services, &folder, &Choice::all(TimeZone::UTC), None).unwrap();
    assert_eq!(left.len(), KEPT as usize);
    assert!(left[0].file.time > files[1].file.time, "the newest stay");
    assert_eq!(folder.contents().len(), 5, "{:?}", folder.contents().keys());
    assert_eq!(folder.look(OsStr::new("notes.txt")).unwrap().kind, FileKind::File);
}
