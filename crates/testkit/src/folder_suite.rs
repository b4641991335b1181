//! The conformance suite of [`Folder`]: one check for each promise of its documentation.

use crate::suite::{Broken, Outcome, Random, demand, ensure, run, text};
use std::any::Any;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use storage::{FileKind, Folder, LockKind, LockRefused, NewFile, Removed};

/// An empty folder to be tried, and what keeps it alive.
pub struct FreshFolder {
    folder: Arc<dyn Folder>,
    _keep: Box<dyn Any + Sync>,
}

impl FreshFolder {
    /// Takes an empty folder, and what must not be dropped before it (a temporary one).
    pub fn new(folder: Arc<dyn Folder>, keep: impl Any + Sync) -> Self {
        Self { folder, _keep: Box::new(keep) }
    }
}

/// Panics unless the folders that `make` makes keep every promise.
#[track_caller]
pub fn folder_conformance(make: impl Fn() -> FreshFolder) {
    demand(&broken_folder_promises(make));
}

/// Returns the promises that the folders that `make` makes do not keep.
pub fn broken_folder_promises(make: impl Fn() -> FreshFolder) -> Vec<Broken> {
    run(
        &make,
        &[
            ("what is written has no name", unnamed),
            ("what is dropped is gone", dropped),
            ("what is named is there, whole", named),
            ("a name that is taken stays whose it is", taken),
            ("of many who want a name one gets it", race),
            ("name_over takes the place of another", over),
            ("put_front writes over the beginning", front),
            ("read_back gives what was written", read_back),
            ("what is left is taken over by one", left),
            ("what was taken over can be named", adopted),
            ("a look tells whether it is the same", same),
            ("what is missing is NotFound", missing),
            ("open begins where it is told to", from),
            ("remove removes what was seen", removed),
            ("remove leaves what is not what was seen", changed),
            ("one may remove while none reads", locked),
            ("a folder in it is another one", below),
            ("a location names the file", located),
        ],
    )
}

fn name(text: &str) -> &OsStr {
    OsStr::new(text)
}

fn begin(folder: &FreshFolder, wanted: &str, content: &[u8]) -> Result<Box<dyn NewFile>, String> {
    let mut file = folder.folder.create(name(wanted)).map_err(text)?;
    file.write_all(content).map_err(text)?;
    file.sync().map_err(text)?;
    Ok(file)
}

fn put(folder: &FreshFolder, wanted: &str, content: &[u8]) -> Outcome {
    begin(folder, wanted, content)?.name_over(name(wanted)).map_err(text)
}

fn get(folder: &FreshFolder, wanted: &str) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    folder.folder.open(name(wanted), 0).and_then(|mut file| file.read_to_end(&mut content)).map_err(text)?;
    Ok(content)
}

/// The names that anybody looks for.
fn names(folder: &FreshFolder) -> Result<Vec<String>, String> {
    let listed = folder.folder.list().map_err(text)?.into_iter();
    let mut names: Vec<String> = listed.map(|file| file.name.to_string_lossy().into_owned()).collect();
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    Ok(names)
}

fn unnamed(folder: &FreshFolder) -> Outcome {
    let file = begin(folder, "a.sql", b"text")?;
    ensure!(names(folder)?.is_empty(), "{:?} is listed", names(folder)?);
    ensure!(folder.folder.look(name("a.sql")).is_err(), "it has its name before it was given");
    drop(file);
    Ok(())
}

fn dropped(folder: &FreshFolder) -> Outcome {
    drop(begin(folder, "a.sql", b"text")?);
    ensure!(folder.folder.list().map_err(text)?.is_empty(), "something is listed");
    ensure!(folder.folder.leftovers().map_err(text)?.is_empty(), "something is left");
    Ok(())
}

fn named(folder: &FreshFolder) -> Outcome {
    let content = Random::new(1).bytes(3 << 20);
    let mut file = begin(folder, "a.sql", &content)?;
    ensure!(file.name(name("b ä.sql")).map_err(text)?, "the name was free");
    drop(file);
    ensure!(names(folder)? == ["b ä.sql"], "{:?}", names(folder)?);
    ensure!(get(folder, "b ä.sql")? == content, "the content is another one");
    let listed = folder.folder.list().map_err(text)?;
    let look = listed.iter().find_map(|file| file.look.as_ref().ok()).ok_or("it cannot be looked at")?;
    ensure!((look.kind, look.size_bytes) == (FileKind::File, 3 << 20), "{look:?}");
    ensure!(folder.folder.leftovers().map_err(text)?.is_empty(), "something is left");
    Ok(())
}

fn taken(folder: &FreshFolder) -> Outcome {
    put(folder, "a.sql", b"old")?;
    let mut file = begin(folder, "a.sql", b"new")?;
    ensure!(!file.name(name("a.sql")).map_err(text)?, "a name was given twice");
    ensure!(get(folder, "a.sql")? == b"old", "the old file is gone");
    ensure!(file.name(name("a-2.sql")).map_err(text)?, "another name was free");
    drop(file);
    ensure!(get(folder, "a-2.sql")? == b"new", "the new file is another one");
    Ok(())
}

fn race(folder: &FreshFolder) -> Outcome {
    let won = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for writer in 0..8_u8 {
            let won = &won;
            scope.spawn(move || {
                let mut file = begin(folder, "a.sql", &[writer; 1000])?;
                let got = file.name(name("a.sql")).map_err(text)?;
                won.fetch_add(usize::from(got), Ordering::SeqCst);
                Ok::<(), String>(())
            });
        }
    });
    ensure!(won.into_inner() == 1, "not one got it");
    let content = get(folder, "a.sql")?;
    ensure!(content.len() == 1000 && content.iter().all(|byte| *byte == content[0]), "it is mixed");
    Ok(())
}

fn over(folder: &FreshFolder) -> Outcome {
    put(folder, "a.sql", b"old")?;
    put(folder, "a.sql", b"newer")?;
    ensure!(get(folder, "a.sql")? == b"newer", "it is the old one");
    ensure!(names(folder)? == ["a.sql"], "{:?}", names(folder)?);
    Ok(())
}

fn front(folder: &FreshFolder) -> Outcome {
    let mut file = begin(folder, "a.dump", b"?????rest")?;
    file.put_front(b"PGDMP").map_err(text)?;
    file.sync().map_err(text)?;
    file.name(name("a.dump")).map_err(text)?;
    ensure!(get(folder, "a.dump")? == b"PGDMPrest", "{:?}", get(folder, "a.dump")?);
    Ok(())
}

fn read_back(folder: &FreshFolder) -> Outcome {
    let content = Random::new(2).bytes(100_000);
    let file = begin(folder, "a.sql", &content)?;
    for _ in 0..2 {
        let mut read = Vec::new();
        file.read_back().and_then(|mut file| file.read_to_end(&mut read)).map_err(text)?;
        ensure!(read == content, "something else came back");
    }
    Ok(())
}

fn left(folder: &FreshFolder) -> Outcome {
    let living = begin(folder, "living.sql", b"1")?;
    begin(folder, "a.sql", b"2")?.leave();
    let found = folder.folder.leftovers().map_err(text)?;
    ensure!(found.len() == 1 && found[0].name == name("a.sql"), "{} were found", found.len());
    ensure!(folder.folder.leftovers().map_err(text)?.is_empty(), "it was given to two");
    drop(found);
    ensure!(folder.folder.leftovers().map_err(text)?.is_empty(), "it is still there");
    living.leave();
    ensure!(folder.folder.leftovers().map_err(text)?.len() == 1, "what lived before is not found");
    Ok(())
}

fn adopted(folder: &FreshFolder) -> Outcome {
    begin(folder, "a.sql", b"content")?.leave();
    for left in folder.folder.leftovers().map_err(text)? {
        let mut read = Vec::new();
        left.file.read_back().and_then(|mut file| file.read_to_end(&mut read)).map_err(text)?;
        ensure!(read == b"content", "something else came back");
        left.file.name_over(&left.name).map_err(text)?;
    }
    ensure!(get(folder, "a.sql")? == b"content", "it is another one");
    Ok(())
}

fn same(folder: &FreshFolder) -> Outcome {
    put(folder, "a.sql", b"one")?;
    let look = || folder.folder.look(name("a.sql")).map_err(text);
    let first = look()?;
    ensure!(first.is_same(&look()?), "it changed by being looked at");
    put(folder, "a.sql", b"two")?;
    ensure!(!first.is_same(&look()?), "another file of that length seems the same");
    Ok(())
}

fn missing(folder: &FreshFolder) -> Outcome {
    let is_missing =
        |error: Option<io::Error>| error.is_some_and(|error| error.kind() == io::ErrorKind::NotFound);
    ensure!(is_missing(folder.folder.look(name("a.sql")).err()), "look");
    ensure!(is_missing(folder.folder.open(name("a.sql"), 0).err()), "open");
    Ok(())
}

fn from(folder: &FreshFolder) -> Outcome {
    put(folder, "a.sql", b"0123456789")?;
    for (from, expected) in [(0, &b"0123456789"[..]), (7, b"789"), (10, b""), (99, b"")] {
        let mut read = Vec::new();
        folder
            .folder
            .open(name("a.sql"), from)
            .and_then(|mut file| file.read_to_end(&mut read))
            .map_err(text)?;
        ensure!(read == expected, "from {from}: {read:?}");
    }
    Ok(())
}

fn removed(folder: &FreshFolder) -> Outcome {
    put(folder, "a.sql", b"x")?;
    put(folder, "b.sql", b"x")?;
    let seen = folder.folder.look(name("a.sql")).map_err(text)?;
    let mut removal = folder.folder.removal().map_err(text)?;
    let mut remove = || removal.remove(name("a.sql"), &seen).map_err(text);
    ensure!(remove()? == Removed::Done && remove()? == Removed::Missing, "it says something else");
    removal.finish().map_err(text)?;
    ensure!(names(folder)? == ["b.sql"], "{:?}", names(folder)?);
    Ok(())
}

fn changed(folder: &FreshFolder) -> Outcome {
    put(folder, "a.sql", b"one")?;
    let seen = folder.folder.look(name("a.sql")).map_err(text)?;
    put(folder, "a.sql", b"two")?;
    let mut removal = folder.folder.removal().map_err(text)?;
    let outcome = removal.remove(name("a.sql"), &seen).map_err(text)?;
    removal.finish().map_err(text)?;
    ensure!(outcome == Removed::Changed, "{outcome:?}");
    ensure!(get(folder, "a.sql")? == b"two", "another file went");
    Ok(())
}

fn locked(folder: &FreshFolder) -> Outcome {
    let lock = |kind| folder.folder.try_lock(kind);
    let is_held = |kind| matches!(lock(kind), Err(LockRefused::Held));
    let readers = (lock(LockKind::Shared), lock(LockKind::Shared));
    ensure!(readers.0.is_ok() && readers.1.is_ok(), "two may read");
    ensure!(is_held(LockKind::Exclusive), "one removes while others read");
    drop(readers);
    let alone = lock(LockKind::Exclusive);
    ensure!(alone.is_ok(), "none reads any more");
    ensure!(
        is_held(LockKind::Shared) && is_held(LockKind::Exclusive),
        "another one works beside who removes"
    );
    drop(alone);
    ensure!(lock(LockKind::Shared).is_ok(), "the lock outlived its owner");
    Ok(())
}

fn below(folder: &FreshFolder) -> Outcome {
    put(folder, "toc.dat", b"x")?;
    let below = folder.folder.below(name("archive"));
    let look = below.look(name("toc.dat"));
    ensure!(
        look.is_err_and(|error| error.kind() == io::ErrorKind::NotFound),
        "it holds what its folder holds"
    );
    Ok(())
}

fn located(folder: &FreshFolder) -> Outcome {
    let (place, file) = (folder.folder.location(), folder.folder.location_of(name("a.sql")));
    ensure!(file.starts_with(&place) && file.ends_with("/a.sql"), "{file} in {place}");
    Ok(())
}
