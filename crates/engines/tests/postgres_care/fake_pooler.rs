//! A pooler as PgBouncer is one with `pool_mode = transaction`, as small as a test needs it: it greets clients by itself,
//! gives each transaction the connection that was free last, and refuses `options` at the start.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use tempfile::TempDir;

/// How the fake shares its connections.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Session,
    Transaction,
    Statement,
}

pub(crate) struct FakePooler {
    folder: TempDir,
}

struct Pool {
    server: PathBuf,
    mode: Mode,
    free: Mutex<Vec<UnixStream>>,
    freed: Condvar,
}

impl FakePooler {
    /// Stands before the database `erp` of a server, with so many connections to it.
    pub(crate) fn start(server: &Path, mode: Mode, connections: usize) -> Self {
        let folder = tempfile::Builder::new().prefix("pool").tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join(".s.PGSQL.6432")).unwrap();
        let pool = Arc::new(Pool {
            server: server.join(".s.PGSQL.5432"),
            mode,
            free: Mutex::default(),
            freed: Condvar::new(),
        });
        let shared = if mode == Mode::Session { 0 } else { connections };
        for _ in 0..shared {
            let connection = pool.open();
            pool.free.lock().unwrap().push(connection);
        }
        // It ends with the test's process: the socket goes with its folder.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let pool = Arc::clone(&pool);
                std::thread::spawn(move || pool.serve(client));
            }
        });
        Self { folder }
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@/erp?host={}&port=6432", self.folder.path().display())
    }
}

type Message = (u8, Vec<u8>);

fn read(stream: &mut UnixStream) -> Option<Message> {
    let mut head = [0; 5];
    stream.read_exact(&mut head).ok()?;
    let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
    let mut body = vec![0; length - 4];
    stream.read_exact(&mut body).ok()?;
    Some((head[0], body))
}

fn write(stream: &mut UnixStream, (kind, body): &Message) -> Option<()> {
    let mut bytes = vec![*kind];
    bytes.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    bytes.extend_from_slice(body);
    stream.write_all(&bytes).ok()
}

fn error(text: &str) -> Message {
    let fields = ["SFATAL", "VFATAL", "C08P01", &format!("M{text}"), ""].map(|field| format!("{field}\0"));
    (b'E', fields.concat().into_bytes())
}

impl Pool {
    /// Opens a connection to the server.
    fn open(&self) -> UnixStream {
        let mut stream = UnixStream::connect(&self.server).unwrap();
        let parameters = b"user\0postgres\0database\0erp\0\0";
        let mut start = u32::try_from(parameters.len() + 8).unwrap().to_be_bytes().to_vec();
        start.extend_from_slice(&196_608_u32.to_be_bytes());
        start.extend_from_slice(parameters);
        stream.write_all(&start).unwrap();
        while read(&mut stream).expect("the server takes the fake pooler").0 != b'Z' {}
        stream
    }

    fn take(&self) -> UnixStream {
        let mut free = self.free.lock().unwrap();
        loop {
            match free.pop() {
                Some(server) => return server,
                None => free = self.freed.wait(free).unwrap(),
            }
        }
    }

    fn give(&self, server: UnixStream) {
        self.free.lock().unwrap().push(server);
        self.freed.notify_one();
    }

    /// Greets a client and passes on what it asks.
    fn serve(&self, mut client: UnixStream) -> Option<()> {
        let mut length = [0; 4];
        client.read_exact(&mut length).ok()?;
        let mut start = vec![0; u32::from_be_bytes(length) as usize - 4];
        client.read_exact(&mut start).ok()?;
        if start[..4] != 196_608_u32.to_be_bytes() {
            return None;
        }
        if start.split(|byte| *byte == 0).any(|word| word == b"options") {
            return write(&mut client, &error("unsupported startup parameter: options"));
        }
        write(&mut client, &(b'R', vec![0; 4]))?;
        let greeting: [&[u8]; 3] =
            [b"server_version\x0015.0\0", b"client_encoding\0UTF8\0", b"standard_conforming_strings\0on\0"];
        for parameter in greeting {
            write(&mut client, &(b'S', parameter.to_vec()))?;
        }
        write(&mut client, &(b'K', vec![1; 8]))?;
        write(&mut client, &(b'Z', b"I".to_vec()))?;
        let mut server = (self.mode == Mode::Session).then(|| self.open());
        let outcome = self.pass(&mut client, &mut server);
        if let Some(mut server) = server.filter(|_| self.mode != Mode::Session) {
            write(&mut server, &(b'Q', b"ROLLBACK\0".to_vec()))?;
            while read(&mut server)?.0 != b'Z' {}
            self.give(server);
        }
        outcome
    }

    fn pass(&self, client: &mut UnixStream, server: &mut Option<UnixStream>) -> Option<()> {
        loop {
            let message = read(client)?;
            if message.0 == b'X' {
                return Some(());
            }
            if self.mode == Mode::Statement && message.1.starts_with(b"BEGIN") {
                write(client, &error("transaction blocks not allowed in statement pooling mode"))?;
                write(client, &(b'Z', b"I".to_vec()))?;
                continue;
            }
            let open = server.get_or_insert_with(|| self.take());
            write(open, &message)?;
            if !matches!(message.0, b'Q' | b'S') {
                continue;
            }
            let last = loop {
                let answer = read(open)?;
                if answer.0 == b'Z' {
                    break answer;
                }
                write(client, &answer)?;
            };
            // It is free before the client knows that it is.
            if last.1 == b"I" && self.mode != Mode::Session {
                self.give(server.take()?);
            }
            write(client, &last)?;
        }
    }
}
