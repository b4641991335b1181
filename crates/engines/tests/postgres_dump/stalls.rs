//! Programs that hang and networks that go silent in the middle of a dump: an interruption ends it soon, the first failure
//! ends whatever else is still read, and what is only beside the content is not waited for.

use crate::pulled::{context, request};
use engines::Engine;
use engines::postgres::PostgresEngine;
use flow::{Context, Dump, Environment, OpenPart, SourceError, SourceErrorKind, Step};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use testkit::{Cluster, drain};

/// What ends at all ends within this time, on a busy machine too.
const SOON: Duration = Duration::from_secs(6);

/// Stock programs, one of them replaced by a script in which `$REAL` is the stock one; `$0.mark` is for it to make.
struct Fakes {
    folder: tempfile::TempDir,
    program: &'static str,
}

impl Fakes {
    fn new(cluster: &Cluster, program: &'static str, script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["pg_dump", "pg_dumpall"] {
            let real = cluster.programs().join(name).display().to_string();
            let body = if name == program { script } else { "exec \"$REAL\" \"$@\"" };
            let version = "[ \"$1\" = --version ] && exec \"$REAL\" --version";
            let path = folder.path().join(name);
            std::fs::write(&path, format!("#!/bin/sh\nREAL={real}\n{version}\n{body}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { folder, program }
    }

    fn instead(&self, context: &mut Context) {
        let path = format!("{}:/usr/bin:/bin", self.folder.path().display());
        context.environment = Environment::new([("PATH".to_owned(), path)]);
    }

    /// Waits for the script's mark and returns what is in it.
    fn mark(&self) -> String {
        wait_for_file(&self.folder.path().join(format!("{}.mark", self.program)))
    }
}

fn wait_for_file(path: &PathBuf) -> String {
    let started = Instant::now();
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text.trim().to_owned(),
            _ => assert!(started.elapsed() < Duration::from_secs(60), "{} never came", path.display()),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn make(cluster: &Cluster) -> String {
    cluster.create("erp");
    cluster.sql(
        "erp",
        "CREATE TABLE a AS SELECT i, repeat(md5(i::text), 30) AS body FROM generate_series(1, 20000) AS i;
         SELECT lo_from_bytea(5, decode(repeat(md5('x'), 1000000), 'hex'));",
    );
    cluster.url("erp")
}

fn begin(url: &str, context: Context) -> Box<dyn Dump> {
    PostgresEngine.begin_dump(&request(url, 2), context).unwrap()
}

fn part(dump: &dyn Dump) -> OpenPart {
    match dump.next().unwrap() {
        Some(Step::Part(part)) => part,
        other => panic!("{other:?}"),
    }
}

/// Reads until that fails; tells when that was.
fn read_to_failure(mut part: OpenPart) -> (SourceError, Instant) {
    let mut buffer = vec![0; 65_536];
    loop {
        match part.reader.read(&mut buffer) {
            Ok(0) => panic!("{} came to its end", part.entry),
            Ok(_) => {}
            Err(error) => return (error, Instant::now()),
        }
    }
}

#[test]
fn programs_that_hang_are_ended() {
    // The programs of this version are found by the search path alone.
    let cluster = Cluster::start(18);
    let url = make(&cluster);
    interrupted_before_the_table_of_contents(&cluster, &url);
    ended_by_the_failure_of_another_part(&cluster, &url);
    roles_that_never_come(&cluster, &url);
    assert_eq!(cluster.sessions_left(), Vec::<String>::new());
}

fn interrupted_before_the_table_of_contents(cluster: &Cluster, url: &str) {
    let script = "trap '' TERM\necho $$ > \"$0.mark\"\nwhile :; do sleep 1; done";
    let fakes = Fakes::new(cluster, "pg_dump", script);
    let folder = tempfile::tempdir().unwrap();
    let (mut context, _) = context(cluster, folder.path());
    fakes.instead(&mut context);
    let cancel = context.cancel.clone();
    let dump = begin(url, context);
    std::thread::scope(|scope| {
        let opening = scope.spawn(|| dump.next().map(drop).unwrap_err().kind);
        let process = fakes.mark();
        let began = Instant::now();
        cancel.cancel();
        assert_eq!(opening.join().unwrap(), SourceErrorKind::Cancelled);
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        assert!(!Path::new("/proc").join(process).exists(), "pg_dump still runs");
    });
}

fn ended_by_the_failure_of_another_part(cluster: &Cluster, url: &str) {
    let script = "trap '' TERM\n\"$REAL\" \"$@\" | { head -c 3000000; echo > \"$0.mark\"; sleep 600; }";
    let fakes = Fakes::new(cluster, "pg_dump", script);
    let folder = tempfile::tempdir().unwrap();
    let (mut context, _) = context(cluster, folder.path());
    fakes.instead(&mut context);
    let dump = begin(url, context);
    let object = part(&*dump);
    assert!(object.entry.as_str().starts_with("blob_5"), "{}", object.entry);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| read_to_failure(object));
        fakes.mark();
        let rows = part(&*dump);
        let began = Instant::now();
        drop(rows);
        let (error, ended) = reading.join().unwrap();
        assert!(ended - began < SOON, "{:?}", ended - began);
        assert!(error.to_string().contains("a part of it was not read to its end"), "{error}");
    });
    match dump.next().unwrap() {
        Some(Step::Done(_, Err(error))) => assert_eq!(error.kind, SourceErrorKind::Failed, "{error}"),
        other => panic!("{other:?}"),
    }
}

/// The content is there; that the roles are not is said.
fn roles_that_never_come(cluster: &Cluster, url: &str) {
    let fakes = Fakes::new(cluster, "pg_dumpall", "trap '' TERM\nsleep 600");
    let folder = tempfile::tempdir().unwrap();
    let (mut context, findings) = context(cluster, folder.path());
    fakes.instead(&mut context);
    let mut request = request(url, 2);
    request.options.lock_wait = Duration::from_secs(2);
    let began = Instant::now();
    let drained = drain(PostgresEngine.begin_dump(&request, context).unwrap(), 2);
    assert!(drained.error.is_none(), "{:?}", drained.error);
    let found = drained.databases.into_values().next().unwrap();
    let dumped = found.dumped().unwrap_or_else(|| panic!("{:?}", found.verdicts));
    assert_eq!(dumped.facts.rows(), Some(20_000));
    assert_eq!(dumped.facts.properties["globals"], false);
    let told = findings.all().join("\n");
    assert!(
        told.contains("roles and tablespaces are not in the backup: pg_dumpall was not done 2 s"),
        "{told}"
    );
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

/// A network between a client and a server that can go silent, or break.
struct Network {
    port: u16,
    silent: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<(TcpStream, UnixStream)>>>,
}

impl Network {
    fn before(cluster: &Cluster) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (silent, open) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let network = Self { port, silent: Arc::clone(&silent), open: Arc::clone(&open) };
        let socket = cluster.socket_folder().join(".s.PGSQL.5432");
        // It ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = UnixStream::connect(&socket) else { continue };
                let (from_client, to_client) = (client.try_clone().unwrap(), client.try_clone().unwrap());
                let (from_server, to_server) = (server.try_clone().unwrap(), server.try_clone().unwrap());
                pass(from_client, to_server, Arc::clone(&silent));
                pass(from_server, to_client, Arc::clone(&silent));
                open.lock().unwrap().push((client, server));
            }
        });
        network
    }

    fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/erp", self.port)
    }

    /// Passes on nothing any more, and tells nobody.
    fn fall_silent(&self) {
        self.silent.store(true, Ordering::SeqCst);
    }

    /// Closes every connection.
    fn break_off(&self) {
        for (client, server) in self.open.lock().unwrap().drain(..) {
            let _ = client.shutdown(std::net::Shutdown::Both);
            let _ = server.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn pass(mut from: impl Read + Send + 'static, mut to: impl Write + Send + 'static, silent: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 16_384];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            while silent.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(20));
            }
            if to.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
    });
}

#[test]
fn a_network_that_goes_silent_or_breaks_ends_the_dump() {
    let cluster = Cluster::start(15);
    make(&cluster);
    for broken in [false, true] {
        let network = Network::before(&cluster);
        let folder = tempfile::tempdir().unwrap();
        let (context, _) = context(&cluster, folder.path());
        let cancel = context.cancel.clone();
        let dump = begin(&network.url(), context);
        let parts = [part(&*dump), part(&*dump)];
        if broken {
            network.break_off();
        } else {
            network.fall_silent();
        }
        std::thread::scope(|scope| {
            let reading = parts.map(|part| scope.spawn(|| read_to_failure(part)));
            if !broken {
                std::thread::sleep(Duration::from_millis(300));
                assert!(reading.iter().all(|reading| !reading.is_finished()), "nothing was waited for");
            }
            let began = Instant::now();
            if !broken {
                cancel.cancel();
            }
            for reading in reading {
                let (error, ended) = reading.join().unwrap();
                assert!(ended - began < SOON, "{:?}", ended - began);
                assert_eq!(error.kind == SourceErrorKind::Cancelled, !broken, "{error}");
            }
        });
        match dump.next() {
            Ok(Some(Step::Done(_, Err(error)))) if broken => {
                let told = error.to_string();
                assert!(told.contains("closed") || told.contains("pg_dump"), "{told}");
            }
            Err(error) if !broken => assert_eq!(error.kind, SourceErrorKind::Cancelled),
            other => panic!("{broken}: {other:?}"),
        }
        let began = Instant::now();
        drop(dump);
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        assert_eq!(std::fs::read_dir(folder.path().join("scratch")).into_iter().flatten().count(), 0);
        network.break_off();
        assert_eq!(cluster.sessions_left(), Vec::<String>::new());
    }
}
