//! Nine files, or moments, of which the usual line of a script says that all is well.

use super::*;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

/// Fills a machine with a good database, its SQL text, and an empty folder of dumps.
fn machine() -> (Machine, String) {
    let machine = Machine::new();
    let source = machine.database("source.db", 5000);
    fs::create_dir(machine.path("dumps")).unwrap();
    (machine, content(&source))
}

/// Both sides on a file that is worth nothing: the old line is content (exit code 0), ours is not, and says why.
fn lied(machine: &Machine, old: &str, file: &str, words: &str) {
    assert_eq!(code(machine, old), 0, "{old}: {:?}", shell(machine, old));
    let outcome = machine.run(&["verify", file, "--max-age", "400d"]);
    assert_eq!(outcome.code, 21, "{file}: {}{}", outcome.out, outcome.err);
    assert!(outcome.out.contains(words), "{file}: {}", outcome.out);
}

fn today(ending: &str) -> String {
    format!("dumps/app-{}.{ending}", jiff::Timestamp::now().strftime("%Y%m%d"))
}

#[test]
fn a_truncated_gzip() {
    let (machine, text) = machine();
    let file = today("sql.gz");
    machine.write("whole.sql", &text);
    assert_eq!(code(&machine, &format!("gzip -c whole.sql | head -c 20000 > {file}")), 0);
    lied(
        &machine,
        &format!("zcat {file} 2>/dev/null | head -5 | grep -q 'CREATE TABLE'"),
        &file,
        "is cut off",
    );
}

#[test]
fn a_dump_of_nothing() {
    let (machine, _) = machine();
    let file = today("sql.gz");
    // The path is misspelt, and the pipe ends well.
    assert_eq!(code(&machine, &format!("sqlite3 sauce.db .dump | gzip > {file}")), 0);
    lied(&machine, &format!("test -s {file} && gzip -t {file}"), &file, "holds nothing at all");
}

#[test]
fn a_dump_that_ends_within_a_statement() {
    let (machine, text) = machine();
    let file = today("sql.gz");
    machine.write("cut.sql", &text[..text.len() / 2]);
    assert_eq!(code(&machine, &format!("gzip -c cut.sql > {file}")), 0);
    lied(&machine, &format!("gzip -t {file}"), &file, "ends within a statement");
}

#[test]
fn a_gzip_of_garbage() {
    let (machine, _) = machine();
    let file = today("sql.gz");
    assert_eq!(code(&machine, &format!("echo '<html>502 Bad Gateway</html>' | gzip > {file}")), 0);
    lied(&machine, &format!("gzip -t {file}"), &file, "format: ");
}

#[test]
fn a_database_with_a_flipped_page() {
    let (machine, _) = machine();
    let file = today("db");
    let mut bytes = fs::read(machine.path("source.db")).unwrap();
    let page = 4096 * 3;
    bytes[page..page + 200].fill(0xA5);
    fs::write(machine.path(&file), bytes).unwrap();
    // By its first bytes, and by a question that does not reach the page.
    let old =
        format!("head -c 15 {file} | grep -q 'SQLite format 3' && sqlite3 {file} 'SELECT id FROM t LIMIT 1'");
    lied(&machine, &old, &file, "integrity check");
}

#[test]
fn a_file_that_is_still_being_written() {
    let (machine, text) = machine();
    let file = machine.path(&today("sql"));
    let body: String = text.repeat(60).replace("COMMIT;", "COMMIT;\n");
    fs::write(&file, &body).unwrap();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (writes, path) = (std::sync::Arc::clone(&stop), file.clone());
    let writer = std::thread::spawn(move || {
        let mut out = fs::OpenOptions::new().append(true).open(path).unwrap();
        while !writes.load(std::sync::atomic::Ordering::Relaxed) {
            out.write_all(b"SELECT 1;\n").unwrap();
            std::thread::sleep(Duration::from_micros(200));
        }
    });
    let name = today("sql");
    lied(
        &machine,
        &format!("test -s {name} && head -2 {name} | grep -q BEGIN"),
        &name,
        "still being written",
    );
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
}

#[test]
fn a_clock_that_jumped_back() {
    let (machine, text) = machine();
    // The last backup ran while the clock was a year ahead; there was none since.
    let name = "dumps/app.sql";
    let path = machine.write(name, &text);
    let ahead = SystemTime::now() + Duration::from_secs(365 * 86_400);
    fs::File::options().write(true).open(&path).unwrap().set_modified(ahead).unwrap();
    lied(&machine, "find dumps -name 'app*' -mtime -2 | grep -q .", name, "still to come");
}

#[test]
fn a_link_out_of_the_folder() {
    let (old, text) = machine();
    let (ours, _) = machine();
    let long_ago = SystemTime::now() - Duration::from_secs(60 * 86_400);
    for machine in [&old, &ours] {
        for name in ["archive/app-20200101.sql", "dumps/app-20200102.sql", "dumps/app-20200103.sql"] {
            let path = machine.write(name, &text);
            fs::File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
        }
        symlink(machine.path("archive"), machine.path("dumps/archive")).unwrap();
        symlink(machine.path("archive/app-20200101.sql"), machine.path("dumps/app-20200101.sql")).unwrap();
    }
    assert_eq!(code(&old, "find -L dumps -name '*.sql' -mtime +30 -delete"), 0);
    assert!(names(&old.path("archive")).is_empty(), "the old line left what it was not asked for");
    ours.done(&["prune", "dumps", "--max-age", "30d"]);
    assert_eq!(names(&ours.path("archive")), ["app-20200101.sql"]);
    // And the newest of the database, which the old line took too.
    assert_eq!(names(&ours.path("dumps")), ["app-20200101.sql", "app-20200103.sql", "archive"]);
}

#[test]
fn a_name_with_blanks_and_line_ends() {
    let (old, text) = machine();
    let (ours, _) = machine();
    for machine in [&old, &ours] {
        for (days, name) in
            [(1, "my\napp 20260103.sql"), (2, "my\napp 20260102.sql"), (3, "my\napp 20260101.sql")]
        {
            let path = machine.write(&format!("dumps/{name}"), &text);
            let time = SystemTime::now() - Duration::from_secs(days * 86_400);
            fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        }
        // Somebody's file, whose name is a part of another one.
        machine.write("20260101.sql", "somebody's");
    }
    let _ = shell(&old, "ls -t dumps/*.sql | tail -n +2 | xargs rm -f");
    assert!(!old.path("20260101.sql").exists(), "the old line took no file of somebody else");
    assert_eq!(names(&old.path("dumps")).len(), 3, "and none of those that were meant");
    ours.done(&["prune", "dumps", "--keep-last", "1"]);
    assert_eq!(names(&ours.path("dumps")), ["my\napp 20260103.sql"]);
    assert!(ours.path("20260101.sql").exists());
}
