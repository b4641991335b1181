//! SQL text as a stream of statements, so that a dump of any size is read a statement at a time.
//!
//! Where a statement ends is decided as SQLite's own shell decides it: at a semicolon outside of quotes and comments, and
//! for a trigger at the one after its END. Lines that begin with a dot are commands of the shell, given as they are.

use std::io::{self, BufRead};

/// The longest statement: SQLite itself takes no longer one.
const LENGTH_MAX_BYTES: usize = 1_000_000_000;

/// One piece of the text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A statement with its semicolon.
    Statement(Vec<u8>),
    /// A command of the shell, without the end of its line.
    Command(Vec<u8>),
    /// What is left at the end and is no whole statement.
    Rest(Vec<u8>),
}

/// Reads the pieces one after the other.
pub(super) struct Statements<R> {
    reader: R,
    /// The line that is read, from 1.
    line: u64,
    /// The line on which the last piece began.
    began: u64,
}

/// Where in a statement the text is, as in SQLite's `sqlite3_complete`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    Normal,
    Explain,
    Create,
    Trigger,
    Semicolon,
    End,
}

/// What the bytes at hand are part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Plain,
    Quoted(u8),
    LineComment,
    BlockComment { star: bool },
}

/// What ends a statement, or may begin a text in quotes or a comment.
const SIGNS: [bool; 256] = {
    let (mut signs, marks) = ([false; 256], b";'\"`[-/");
    let mut at = 0;
    while at < marks.len() {
        signs[marks[at] as usize] = true;
        at += 1;
    }
    signs
};

pub(super) struct Lexer {
    state: State,
    mode: Mode,
    word: Vec<u8>,
    /// A `-` or `/` that may begin a comment.
    pending: Option<u8>,
}

impl Lexer {
    pub(super) fn new() -> Self {
        Self { state: State::Start, mode: Mode::Plain, word: Vec::new(), pending: None }
    }

    /// Takes a byte; tells whether a statement ended with it.
    pub(super) fn feed(&mut self, byte: u8) -> bool {
        match self.mode {
            Mode::Quoted(end) => {
                if byte == end {
                    self.mode = Mode::Plain;
                }
                return false;
            }
            Mode::LineComment => {
                if byte == b'\n' {
                    self.mode = Mode::Plain;
                }
                return false;
            }
            Mode::BlockComment { star } => {
                self.mode = if star && byte == b'/' {
                    Mode::Plain
                } else {
                    Mode::BlockComment { star: byte == b'*' }
                };
                return false;
            }
            Mode::Plain => {}
        }
        match (self.pending.take(), byte) {
            (Some(b'-'), b'-') => {
                self.mode = Mode::LineComment;
                return false;
            }
            (Some(b'/'), b'*') => {
                self.mode = Mode::BlockComment { star: false };
                return false;
            }
            (Some(_), _) => self.other(),
            (None, _) => {}
        }
        if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80 {
            // No keyword that matters is longer.
            if self.word.len() < 16 {
                self.word.push(byte.to_ascii_lowercase());
            }
            return false;
        }
        self.end_word();
        match byte {
            b';' => return self.semicolon(),
            b'-' | b'/' => self.pending = Some(byte),
            b'\'' | b'"' | b'`' => {
                self.other();
                self.mode = Mode::Quoted(byte);
            }
            b'[' => {
                self.other();
                self.mode = Mode::Quoted(b']');
            }
            _ if byte.is_ascii_whitespace() => {}
            _ => self.other(),
        }
        false
    }

    fn semicolon(&mut self) -> bool {
        self.state = match self.state {
            State::Trigger | State::Semicolon => State::Semicolon,
            _ => State::Start,
        };
        self.state == State::Start
    }

    fn other(&mut self) {
        self.state = match self.state {
            State::Trigger | State::Semicolon | State::End => State::Trigger,
            State::Explain => State::Explain,
            _ => State::Normal,
        };
    }

    fn end_word(&mut self) {
        if self.word.is_empty() {
            return;
        }
        let next = match (self.state, self.word.as_slice()) {
            (State::Start, b"explain") => Some(State::Explain),
            (State::Start | State::Explain, b"create") => Some(State::Create),
            (State::Create, b"temp" | b"temporary") => Some(State::Create),
            (State::Create, b"trigger") => Some(State::Trigger),
            (State::Semicolon, b"end") => Some(State::End),
            _ => None,
        };
        match next {
            Some(next) => self.state = next,
            None => self.other(),
        }
        self.word.clear();
    }

    /// Returns how many bytes come before the next one that means anything, where none but a few signs does: that is so in
    /// most of most statements. They need not be fed.
    pub(super) fn means_nothing(&self, bytes: &[u8]) -> usize {
        if self.state != State::Normal || self.mode != Mode::Plain || self.pending.is_some() {
            return 0;
        }
        bytes.iter().position(|byte| SIGNS[usize::from(*byte)]).unwrap_or(bytes.len())
    }

    /// Returns the byte up to which everything is quoted or commented away, where the text is in such a piece.
    pub(super) fn skips_to(&self) -> Option<u8> {
        match self.mode {
            Mode::Quoted(end) => Some(end),
            Mode::LineComment => Some(b'\n'),
            Mode::BlockComment { star: false } => Some(b'*'),
            Mode::BlockComment { star: true } | Mode::Plain => None,
        }
    }

    /// Tells, at the end of a text, whether it ends within a statement, a text in quotes or a comment.
    pub(super) fn is_cut(&mut self) -> bool {
        let open = !matches!(self.mode, Mode::Plain | Mode::LineComment);
        self.end_word();
        open || self.pending.is_some() || self.state != State::Start
    }

    /// Tells whether nothing but blanks and comments came since the last statement.
    pub(super) fn is_between(&self) -> bool {
        self.state == State::Start
            && self.mode == Mode::Plain
            && self.word.is_empty()
            && self.pending.is_none()
    }
}

impl<R: BufRead> Statements<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, line: 1, began: 1 }
    }

    /// Returns the line on which the last piece began.
    pub(super) fn began(&self) -> u64 {
        self.began
    }

    /// Returns the next piece; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Piece>> {
        let mut lexer = Lexer::new();
        let mut text = Vec::new();
        loop {
            let chunk = match self.reader.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if chunk.is_empty() {
                // What is quoted or commented is no blank, and an open comment swallowed the rest.
                return Ok(lexer.is_cut().then_some(Piece::Rest(text)));
            }
            let mut used = 0;
            let mut ended = false;
            for byte in chunk {
                used += 1;
                if lexer.is_between() {
                    if *byte == b'.' {
                        used -= 1;
                        break;
                    }
                    // What came before, a comment, is no part of what follows.
                    text.clear();
                    if byte.is_ascii_whitespace() {
                        self.line += u64::from(*byte == b'\n');
                        continue;
                    }
                    self.began = self.line;
                }
                self.line += u64::from(*byte == b'\n');
                text.push(*byte);
                ended = lexer.feed(*byte);
                if ended {
                    break;
                }
            }
            let command = !ended && lexer.is_between() && chunk.get(used) == Some(&b'.');
            self.reader.consume(used);
            if ended {
                return Ok(Some(Piece::Statement(text)));
            }
            if command {
                return self.command().map(Some);
            }
            if text.len() > LENGTH_MAX_BYTES {
                return Err(io::Error::other("a statement is longer than SQLite takes"));
            }
        }
    }

    fn command(&mut self) -> io::Result<Piece> {
        let mut text = Vec::new();
        self.began = self.line;
        self.reader.read_until(b'\n', &mut text)?;
        self.line += 1;
        Ok(Piece::Command(text.trim_ascii_end().to_vec()))
    }
}

/// Returns the first word of SQL text in capitals, after blanks, comments and empty statements; `None` where there is none.
pub(super) fn first_word(text: &[u8]) -> Option<String> {
    let mut rest = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text).trim_ascii_start();
    loop {
        let after = if rest.starts_with(b"--") {
            rest.iter().position(|byte| *byte == b'\n')? + 1
        } else if rest.starts_with(b"/*") {
            rest.windows(2).skip(2).position(|two| two == b"*/")? + 4
        } else if rest.starts_with(b".dbconfig ") {
            rest.iter().position(|byte| *byte == b'\n')? + 1
        } else if rest.starts_with(b";") {
            1
        } else {
            let word = rest.iter().take_while(|byte| byte.is_ascii_alphabetic());
            let word: String = word.map(|byte| char::from(byte.to_ascii_uppercase())).collect();
            return (!word.is_empty()).then_some(word);
        };
        rest = rest.get(after..)?.trim_ascii_start();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pieces(text: &str, chunk_bytes: usize) -> Vec<(u64, Piece)> {
        let reader = io::BufReader::with_capacity(chunk_bytes, text.as_bytes());
        let mut statements = Statements::new(reader);
        let mut found = Vec::new();
        while let Some(piece) = statements.next().unwrap() {
            found.push((statements.began(), piece));
        }
        found
    }

    fn statement(text: &str) -> Piece {
        Piece::Statement(text.as_bytes().to_vec())
    }

    #[test]
    fn statements_end_where_sqlite_ends_them() {
        let trigger = "CREATE TEMP TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; SELECT 'END;'; -- END;\n END;";
        let text = format!(
            "-- a dump; of\nBEGIN;\n\nINSERT INTO \"a;b\" VALUES('it''s; so', [x;y]);/* ; */ SELECT 1-2/3;\n{trigger}\n.dbconfig defensive off\nCOMMIT;\n-- the end"
        );
        for chunk_bytes in [1, 2, 3, 7, 4096] {
            assert_eq!(
                pieces(&text, chunk_bytes),
                [
                    (2, statement("BEGIN;")),
                    (4, statement("INSERT INTO \"a;b\" VALUES('it''s; so', [x;y]);")),
                    (4, statement("SELECT 1-2/3;")),
                    (5, statement(trigger)),
                    (7, Piece::Command(b".dbconfig defensive off".to_vec())),
                    (8, statement("COMMIT;")),
                ],
                "{chunk_bytes}"
            );
        }
    }

    #[test]
    fn the_first_word_comes_after_blanks_and_comments() {
        let text = "\u{feff}\n-- a dump;\n/* of */\r\n.dbconfig defensive off\n  pragma foreign_keys=OFF;";
        assert_eq!(first_word(text.as_bytes()).as_deref(), Some("PRAGMA"));
        assert_eq!(first_word(b"/*/ x */;create").as_deref(), Some("CREATE"));
        for none in ["", "-- never", "/* never", "7", "'CREATE'"] {
            assert_eq!(first_word(none.as_bytes()), None, "{none}");
        }
    }

    #[test]
    fn what_is_cut_is_a_rest() {
        for cut in ["COMMIT", "INSERT INTO a VALUES('x", "/* never", "CREATE TRIGGER t BEGIN SELECT 1;", "-"]
        {
            let found = pieces(&format!("BEGIN; {cut}"), 5);
            assert_eq!(found.len(), 2, "{cut}: {found:?}");
            assert!(matches!(found[1].1, Piece::Rest(_)), "{cut}: {found:?}");
        }
        for whole in ["", "\n\n", "-- done", "/* done */ ", "/* */-- x\n"] {
            assert_eq!(pieces(&format!("BEGIN; {whole}"), 5).len(), 1, "{whole:?}");
        }
    }
}
