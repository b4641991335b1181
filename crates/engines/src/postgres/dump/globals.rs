//! Roles and tablespaces: what `pg_dumpall` writes, taken as it comes, so that it never waits for us and its connection is
//! soon free again.
//!
//! A dump goes on without them where they cannot be had, or not in time, and says so.

use crate::postgres::tools::Running;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::process::ChildStdout;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// More is no list of roles.
const MAX_BYTES: u64 = 256 << 20;
/// The commands to psql that keep a script from giving it others, each with the same key.
const GUARDS: [&[u8]; 2] = [b"\\restrict ", b"\\unrestrict "];

/// A running `pg_dumpall`.
pub(super) struct Globals {
    running: Running,
    read: Receiver<std::io::Result<Vec<u8>>>,
}

impl Globals {
    /// Takes what it writes from now on. Dropped, the program ends, and with it the thread that reads.
    pub(super) fn read((running, output): (Running, ChildStdout)) -> Self {
        let (tell, read) = channel();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            // Nobody may listen any more.
            let _ = tell.send(output.take(MAX_BYTES).read_to_end(&mut bytes).map(|_| bytes));
        });
        Self { running, read }
    }

    /// Waits for its end and returns the script, or why there is none. It had the time of the whole dump: where it is not
    /// over by then it waits for somebody, and is ended after `limit`.
    pub(super) fn finish(self, limit: Duration) -> Result<Vec<u8>, String> {
        let read = match self.read.recv_timeout(limit) {
            Err(RecvTimeoutError::Timeout) => {
                let seconds = limit.as_secs_f32();
                return Err(format!("pg_dumpall was not done {seconds:.0} s after everything else"));
            }
            read => read,
        };
        self.running.finish().map_err(|ended| ended.into_error().message)?;
        match read {
            Ok(Ok(bytes)) => Ok(with_own_key(&bytes)),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("what pg_dumpall wrote was lost".to_owned()),
        }
    }
}

/// Gives the guards a key that follows from the script: by chance it is another one each time, and the same roles would be
/// stored again with each backup. Nobody can put into the script what ends a guard whose key depends on all of it.
fn with_own_key(script: &[u8]) -> Vec<u8> {
    let guard = |line: &[u8]| GUARDS.into_iter().find(|guard| line.starts_with(guard));
    let mut content = Sha256::new();
    for line in script.split_inclusive(|byte| *byte == b'\n').filter(|line| guard(line).is_none()) {
        content.update(line);
    }
    let key = hex::encode(content.finalize());
    let mut whole = Vec::with_capacity(script.len());
    for line in script.split_inclusive(|byte| *byte == b'\n') {
        match guard(line) {
            Some(guard) => {
                whole.extend_from_slice(guard);
                whole.extend_from_slice(key.as_bytes());
                whole.push(b'\n');
            }
            None => whole.extend_from_slice(line),
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_key_of_the_guards_follows_from_the_rest() {
        let script = |key: &str| {
            format!("--\n\\restrict {key}\n\nCREATE ROLE a;\n\\unrestrict {key}\n\n-- \\restrict z\n")
                .into_bytes()
        };
        let one = with_own_key(&script("x1y2"));
        assert_eq!(one, with_own_key(&script("other")));
        let text = String::from_utf8(one).unwrap();
        let keys: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with('\\'))
            .map(|line| line.split_once(' ').unwrap().1)
            .collect();
        assert!(keys.len() == 2 && keys[0] == keys[1] && keys[0].len() == 64, "{text}");
        assert!(text.ends_with("\n-- \\restrict z\n"));
        assert_eq!(with_own_key(b"CREATE ROLE a;\n"), b"CREATE ROLE a;\n");
    }
}
