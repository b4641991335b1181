//! SQL text of a SQLite database, read to its end without running it: whether its statements are complete, and whether the
//! line that the shell writes last is there.
//!
//! Memory does not grow with the text: of each statement only its beginning is kept. Nothing is written.

use super::failure;
use super::statements::Lexer;
use crate::counting::counted;
use crate::engine::{ExamineRequest, Examined};
use flow::{Context, SourceError, SourceErrorKind};
use memchr::{memchr, memchr_iter};

const CHUNK_BYTES: usize = 256 << 10;
/// How much of a statement is kept to tell what it is.
const HEAD_BYTES: usize = 48;

struct Reading {
    lexer: Lexer,
    /// The beginning of the statement that is read.
    head: Vec<u8>,
    /// What is left of a line that is a command of the shell.
    in_command: bool,
    command: Vec<u8>,
    line: u64,
    began: u64,
    statements: u64,
    tables: u64,
    rows: u64,
    /// How many savepoints and transactions are open.
    in_transaction: bool,
    bracketed: bool,
    by_shell: bool,
    rolled_back: Option<u64>,
    /// What the shell wrote where it could not read on.
    complaint: Option<u64>,
    odd_command: Option<(u64, String)>,
}

/// Reads SQL text to its end.
pub(super) fn examine(request: ExamineRequest<'_>, context: &Context) -> Result<Examined, SourceError> {
    let object = request.object;
    let mut reading = Reading::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut first = true;
    loop {
        context.cancel.check().map_err(|_| SourceError::cancelled(object))?;
        let count = request.dump.read(&mut chunk).map_err(|error| failure::dump(object, error))?;
        if count == 0 {
            break;
        }
        let mut bytes = &chunk[..count];
        if std::mem::take(&mut first) {
            bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        }
        if memchr(0, bytes).is_some() {
            let line = reading.line;
            return Err(damaged(
                object,
                format!("after line {line}: it holds zero bytes, which no text has"),
            ));
        }
        reading.take(bytes);
    }
    reading.finish().map_err(|problem| damaged(object, problem))
}

fn damaged(object: &str, problem: String) -> SourceError {
    SourceError::new(SourceErrorKind::Damaged, object, problem)
}

impl Reading {
    fn new() -> Self {
        Self {
            lexer: Lexer::new(),
            head: Vec::new(),
            in_command: false,
            command: Vec::new(),
            line: 1,
            began: 1,
            statements: 0,
            tables: 0,
            rows: 0,
            in_transaction: false,
            bracketed: false,
            by_shell: false,
            rolled_back: None,
            complaint: None,
            odd_command: None,
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            if self.in_command {
                at += self.command(rest);
                continue;
            }
            if let Some(end) = self.lexer.skips_to() {
                at += self.skip(rest, end);
                continue;
            }
            let passed = self.lexer.means_nothing(rest);
            if passed > 0 {
                self.pass(&rest[..passed]);
                at += passed;
                continue;
            }
            let byte = rest[0];
            at += 1;
            if self.lexer.is_between() {
                if byte == b'.' {
                    (self.in_command, self.began) = (true, self.line);
                    self.command.clear();
                    continue;
                }
                if byte.is_ascii_whitespace() {
                    self.line += u64::from(byte == b'\n');
                    continue;
                }
                self.head.clear();
                self.began = self.line;
            }
            self.line += u64::from(byte == b'\n');
            if self.head.len() < HEAD_BYTES {
                self.head.push(byte);
            }
            if self.lexer.feed(byte) {
                self.statement();
            } else if self.lexer.is_between() {
                self.comment();
            }
        }
    }

    /// Passes over what is quoted or commented, and feeds the byte that may end it.
    fn skip(&mut self, rest: &[u8], end: u8) -> usize {
        let found = memchr(end, rest);
        let length = found.map_or(rest.len(), |at| at + 1);
        self.pass(&rest[..length]);
        if found.is_some() {
            self.lexer.feed(end);
            if self.lexer.is_between() {
                self.comment();
            }
        }
        length
    }

    fn pass(&mut self, piece: &[u8]) {
        self.line += memchr_iter(b'\n', piece).count() as u64;
        let room = HEAD_BYTES.saturating_sub(self.head.len()).min(piece.len());
        self.head.extend_from_slice(&piece[..room]);
    }

    /// The shell writes what it cannot read as a comment between statements.
    fn comment(&mut self) {
        if self.head.starts_with(b"/**** ERROR") {
            self.complaint.get_or_insert(self.began);
        }
        self.head.clear();
    }

    fn command(&mut self, rest: &[u8]) -> usize {
        let (length, ended) = match memchr(b'\n', rest) {
            Some(at) => (at + 1, true),
            None => (rest.len(), false),
        };
        let room = HEAD_BYTES.saturating_sub(self.command.len()).min(length);
        self.command.extend_from_slice(&rest[..room]);
        if ended {
            self.line += 1;
            self.in_command = false;
            self.end_command();
        }
        length
    }

    fn end_command(&mut self) {
        if self.command.trim_ascii_end() != b"dbconfig defensive off" && self.odd_command.is_none() {
            let text = String::from_utf8_lossy(self.command.trim_ascii_end()).into_owned();
            self.odd_command = Some((self.began, format!(".{text}")));
        }
    }

    fn statement(&mut self) {
        let head = self.head.to_ascii_uppercase();
        let mut words = head
            .split(|byte| !(byte.is_ascii_alphanumeric() || *byte == b'_'))
            .filter(|word| !word.is_empty());
        let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if first.is_empty() {
            self.head.clear();
            return;
        }
        if self.statements == 0 {
            self.by_shell = head.starts_with(b"PRAGMA FOREIGN_KEYS=OFF;");
        }
        self.statements += 1;
        match first {
            b"BEGIN" | b"SAVEPOINT" => (self.in_transaction, self.bracketed) = (true, true),
            b"COMMIT" | b"END" | b"RELEASE" => self.in_transaction = false,
            b"ROLLBACK" => {
                self.rolled_back.get_or_insert(self.began);
                self.in_transaction = false;
            }
            b"CREATE" if second == b"TABLE" || second == b"VIRTUAL" => self.tables += 1,
            b"INSERT" | b"REPLACE" => {
                if head.starts_with(b"INSERT INTO SQLITE_SCHEMA")
                    || head.starts_with(b"INSERT INTO SQLITE_MASTER")
                {
                    self.tables += 1;
                } else {
                    self.rows += 1;
                }
            }
            _ => {}
        }
        self.head.clear();
    }

    fn finish(mut self) -> Result<Examined, String> {
        if self.in_command {
            self.end_command();
        }
        if let Some(line) = self.complaint {
            return Err(format!(
                "line {line}: the shell could not read the database, and wrote ERROR into the dump"
            ));
        }
        if let Some(line) = self.rolled_back {
            return Err(format!("line {line}: the dump ends with ROLLBACK: it was broken off by an error"));
        }
        if self.lexer.is_cut() {
            return Err(format!("line {}: the text ends within a statement: it is cut off", self.began));
        }
        if self.in_transaction {
            return Err(format!(
                "line {}: its transaction is never committed, the closing line COMMIT is missing: it is cut off",
                self.line
            ));
        }
        if self.statements == 0 || (self.by_shell && !self.bracketed) {
            return Err(format!("line {}: it ends before its first table: it is cut off", self.line));
        }
        let mut doubts = Vec::new();
        if !self.bracketed {
            doubts
                .push("its statements are in no transaction: whether it is whole cannot be told".to_owned());
        }
        if let Some((line, command)) = self.odd_command {
            doubts.push(format!("line {line}: `{command}` is a command of the shell, no part of a dump"));
        }
        let closing = if self.bracketed { ", closing COMMIT" } else { "" };
        Ok(Examined {
            detail: format!(
                "all {} complete{closing}; {}, {}",
                counted(self.statements, "statement", "statements"),
                counted(self.tables, "table", "tables"),
                counted(self.rows, "row", "rows")
            ),
            tables: Some(self.tables),
            rows: Some(self.rows),
            is_empty: self.tables == 0 && self.rows == 0,
            doubts,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, chunk_bytes: usize) -> Result<Examined, String> {
        let mut reading = Reading::new();
        for chunk in text.as_bytes().chunks(chunk_bytes) {
            reading.take(chunk);
        }
        reading.finish()
    }

    const DUMP: &str = "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n/* a; */ CREATE TABLE t(a, b); -- x;\n\
        INSERT INTO t VALUES('it''s; so\n', X'00');\nINSERT INTO t SELECT \"a;'\",`b;'`,[c;'],'[',3-1/2 /* ;x' */ -- ;'\n;\n\
        CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; SELECT 'END;'; END;\nCOMMIT;\n";

    #[test]
    fn a_whole_dump_is_counted_however_it_comes() {
        for chunk in [1, 2, 3, 7, 4096] {
            let examined = read(DUMP, chunk).unwrap_or_else(|problem| panic!("{chunk}: {problem}"));
            assert_eq!((examined.tables, examined.rows), (Some(1), Some(2)), "{chunk}");
            assert!(examined.doubts.is_empty() && !examined.is_empty, "{examined:?}");
            assert!(examined.detail.starts_with("all 7 statements complete"), "{chunk}: {examined:?}");
        }
    }

    #[test]
    fn a_dump_that_is_cut_anywhere_is_found() {
        for cut in 0..DUMP.len() - 2 {
            assert!(read(&DUMP[..cut], 64).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn what_the_shell_could_not_read_is_no_whole_dump() {
        let broken = DUMP.replace(
            "COMMIT;",
            "/**** ERROR: (11) database disk image is malformed *****/\nROLLBACK; -- due to errors",
        );
        assert!(read(&broken, 4096).is_err_and(|problem| problem.contains("ERROR")));
        let rolled = DUMP.replace("COMMIT;", "/* really */ROLLBACK;");
        assert!(read(&rolled, 4096).is_err_and(|problem| problem.contains("ROLLBACK")));
    }

    #[test]
    fn a_dump_of_nothing_is_empty() {
        let nothing = "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\nCOMMIT;\n";
        assert!(read(nothing, 9).is_ok_and(|examined| examined.is_empty));
    }

    #[test]
    fn commands_of_the_shell_are_told() {
        assert!(
            read(&format!(".dbconfig defensive off\n{DUMP}"), 5).is_ok_and(|found| found.doubts.is_empty())
        );
        let odd = read(&format!("{DUMP}.shell rm x\n"), 5);
        assert!(odd.is_ok_and(|found| found.doubts.iter().any(|doubt| doubt.contains(".shell rm x"))));
    }
}
