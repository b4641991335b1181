//! SQL text, taken apart as `psql` does it: statements, the rows behind a `COPY … FROM stdin`, commands of `psql`, comments.
//!
//! Quotes, dollar quotes, nested comments, brackets, bodies of functions between BEGIN and END, and what a backslash in quotes
//! means at that place are respected. Of the text a chunk is held at a time, and of a statement as much as is asked for, so
//! memory does not grow with what is read. Nothing is run.

use super::rows::{Marker, row_bytes};
use super::setting::setting;
use super::words::Words;
use memchr::{memchr, memchr_iter, memchr2};
use std::io::{self, Read};

const CHUNK_BYTES: usize = 256 << 10;
/// How much of a comment, or of a command of `psql`, is kept.
const SIDE_BYTES: usize = 400;
/// How much of the beginning of a statement is kept: the list of the columns of the widest table fits.
const HEAD_BYTES: usize = 256 << 10;
/// How much of the beginning of an `INSERT`, of which there may be millions: the name of its table fits.
const INSERT_BYTES: usize = 400;
/// No server takes a longer statement.
const STATEMENT_MAX_BYTES: usize = (1 << 30) - 1024;

/// How much of each statement is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::postgres) enum Keep {
    /// All of it, as far as a server takes it.
    All,
    /// Its beginning, to see what it is.
    Beginning,
}

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::postgres) enum Piece {
    /// A statement, without its semicolon.
    Statement,
    /// A command of `psql`: the rest of its line.
    Command,
    /// A comment of one line outside of statements.
    Comment,
}

/// Why a text cannot be read on.
#[derive(Debug)]
pub(in crate::postgres) enum Broken {
    /// Its bytes do not come.
    Io(io::Error),
    /// It is not whole.
    Damaged(String),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

enum Mode {
    Plain,
    /// In quotes: by what they end, and whether a backslash escapes.
    Quoted {
        end: u8,
        escapes: bool,
        escaped: bool,
    },
    LineComment,
    BlockComment {
        depth: u32,
        last: u8,
    },
    /// Behind a `$` that may begin a dollar quote.
    DollarTag,
    /// In a dollar quote: how much of its mark came.
    Dollars {
        matched: usize,
    },
    /// In a line that is a command of `psql`.
    Command,
}

/// Where the rows behind a `COPY` are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rows {
    None,
    /// The rest of the statement's line comes first.
    BeforeLine,
    /// Within them: whether a line begins here.
    Within(bool),
}

/// SQL text that is being read.
pub(in crate::postgres) struct ScriptReader<R> {
    inner: R,
    keep: Keep,
    buffer: Vec<u8>,
    at: usize,
    end: usize,
    /// Bytes that came so far.
    size_bytes: u64,
    mode: Mode,
    rows: Rows,
    /// The statement, without comments.
    text: Vec<u8>,
    in_statement: bool,
    /// Whether the statement was given out, and the next one begins anew.
    given: bool,
    words: Words,
    /// A comment, a command of `psql` or the mark of a dollar quote, as far as it matters.
    side: Vec<u8>,
    line: u64,
    began: u64,
    /// Behind quotes in which a backslash escapes: what follows them at once goes on with them.
    goes_on: bool,
    /// Whether a backslash in plain quotes is one.
    standard_strings: bool,
}

impl<R: Read> ScriptReader<R> {
    /// Begins with a text from its first byte on.
    pub(in crate::postgres) fn new(inner: R, keep: Keep) -> Self {
        Self {
            inner,
            keep,
            buffer: vec![0; CHUNK_BYTES],
            at: 0,
            end: 0,
            size_bytes: 0,
            mode: Mode::Plain,
            rows: Rows::None,
            text: Vec::new(),
            in_statement: false,
            given: false,
            words: Words::default(),
            side: Vec::new(),
            line: 1,
            began: 1,
            goes_on: false,
            standard_strings: true,
        }
    }

    /// Returns what comes next; `None` at the end of a text that is whole as far as its own signs tell.
    pub(in crate::postgres) fn next(&mut self) -> Result<Option<Piece>, Broken> {
        if std::mem::take(&mut self.given) {
            self.text.clear();
            self.words = Words::default();
            self.in_statement = false;
        }
        loop {
            if self.at == self.end && !self.fill()? {
                return self.finish();
            }
            let piece = match self.mode {
                Mode::Plain => self.plain()?,
                Mode::Quoted { .. } => self.quoted(),
                Mode::LineComment | Mode::Command => self.rest_of_line(),
                Mode::BlockComment { .. } => self.block_comment(),
                Mode::DollarTag => self.dollar_tag(),
                Mode::Dollars { .. } => self.dollars(),
            };
            if self.keep == Keep::All && self.text.len() >= STATEMENT_MAX_BYTES {
                let line = self.began;
                return Err(Broken::Damaged(format!(
                    "line {line}: the statement is longer than a server takes"
                )));
            }
            if piece.is_some() {
                return Ok(piece);
            }
        }
    }

    /// Returns what the text comes from.
    pub(in crate::postgres) fn inner(&self) -> &R {
        &self.inner
    }

    /// Returns the statement that was read last.
    pub(in crate::postgres) fn statement(&self) -> &[u8] {
        &self.text
    }

    /// Hands that statement over.
    pub(in crate::postgres) fn take_statement(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.text)
    }

    /// Returns how many rows the `INSERT` that was read last has in it; `None` where it does not say.
    pub(in crate::postgres) fn inserted(&self) -> Option<u64> {
        self.words.inserted()
    }

    /// Returns the comment or the command that was read last, as far as it is kept.
    pub(in crate::postgres) fn side(&self) -> String {
        String::from_utf8_lossy(self.side.trim_ascii()).into_owned()
    }

    /// Returns the line in which what was read last began.
    pub(in crate::postgres) fn began(&self) -> u64 {
        self.began
    }

    /// Returns the line that is read.
    pub(in crate::postgres) fn line(&self) -> u64 {
        self.line
    }

    /// Returns how many bytes came so far.
    pub(in crate::postgres) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Tells that rows follow the statement that was read last.
    pub(in crate::postgres) fn begin_rows(&mut self) {
        self.rows = Rows::BeforeLine;
    }

    /// Returns the next bytes of the rows, cut anywhere; `None` where they ended.
    pub(in crate::postgres) fn next_rows(&mut self) -> Result<Option<&[u8]>, Broken> {
        loop {
            if self.at == self.end && !self.fill()? {
                return Err(self.within_rows());
            }
            let within = match self.rows {
                Rows::None => return Ok(None),
                Rows::Within(begins) => begins,
                Rows::BeforeLine => {
                    self.before_rows();
                    continue;
                }
            };
            let found = row_bytes(&self.buffer[self.at..self.end], within);
            if found.length > 0 {
                let from = self.at;
                self.at += found.length;
                self.line += found.lines;
                self.rows = Rows::Within(found.begins_line);
                return Ok(Some(&self.buffer[from..self.at]));
            }
            match found.marker {
                Marker::Whole(length) => {
                    self.at += length;
                    self.line += 1;
                    self.rows = Rows::None;
                    return Ok(None);
                }
                // At the end of the text nothing can follow it.
                Marker::Begun if !self.fill()? => {
                    let is_whole = self.buffer[self.at..self.end].starts_with(b"\\.");
                    self.at = self.end;
                    if !is_whole {
                        return Err(self.within_rows());
                    }
                    self.rows = Rows::None;
                    return Ok(None);
                }
                Marker::Begun | Marker::None => {}
            }
        }
    }

    fn before_rows(&mut self) {
        match memchr(b'\n', &self.buffer[self.at..self.end]) {
            Some(at) => {
                self.at += at + 1;
                self.line += 1;
                self.rows = Rows::Within(true);
            }
            None => self.at = self.end,
        }
    }

    fn within_rows(&self) -> Broken {
        Broken::Damaged(format!("line {}: it ends within the rows of a table: it is cut off", self.line))
    }

    /// Reads more behind what is left; false at the end of the text.
    fn fill(&mut self) -> Result<bool, Broken> {
        self.buffer.copy_within(self.at..self.end, 0);
        (self.at, self.end) = (0, self.end - self.at);
        let count = loop {
            match self.inner.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        let new = &self.buffer[self.end..self.end + count];
        if memchr(0, new).is_some() {
            let line = self.line;
            return Err(Broken::Damaged(format!(
                "after line {line}: it holds zero bytes, which no text has"
            )));
        }
        if self.size_bytes == 0 && new.starts_with(b"\xef\xbb\xbf") {
            self.at = 3;
        }
        self.end += count;
        self.size_bytes += count as u64;
        Ok(count > 0)
    }

    fn keep(&mut self, bytes: &[u8]) {
        let most = match self.keep {
            Keep::All => STATEMENT_MAX_BYTES,
            Keep::Beginning if self.words.is_insert() => INSERT_BYTES,
            Keep::Beginning => HEAD_BYTES,
        };
        let room = most.saturating_sub(self.text.len()).min(bytes.len());
        self.text.extend_from_slice(&bytes[..room]);
    }

    fn begin(&mut self) {
        if !self.in_statement {
            self.in_statement = true;
            self.began = self.line;
        }
    }

    /// Reads up to where the text changes its mode.
    fn plain(&mut self) -> Result<Option<Piece>, Broken> {
        while self.at < self.end {
            let byte = self.buffer[self.at];
            self.at += 1;
            if is_of_word(byte) {
                self.begin();
                self.goes_on = false;
                self.keep(&[byte]);
                if byte == b'$' && self.words.is_between() {
                    self.side.clear();
                    self.mode = Mode::DollarTag;
                    return Ok(None);
                }
                self.words.push(byte);
                continue;
            }
            let escapes_by_itself = self.words.is_escape();
            let is_raw = self.words.is_raw();
            self.words.end();
            if byte.is_ascii_whitespace() {
                self.line += u64::from(byte == b'\n');
                if self.in_statement {
                    self.keep(&[byte]);
                }
                continue;
            }
            let goes_on = std::mem::take(&mut self.goes_on);
            match byte {
                b'\\' => {
                    self.side.clear();
                    if !self.in_statement {
                        self.began = self.line;
                    }
                    self.mode = Mode::Command;
                    return Ok(None);
                }
                b'-' | b'/' if self.begins_comment(byte)? => return Ok(None),
                b';' if self.words.is_over() => {
                    if self.in_statement {
                        self.end_statement();
                        return Ok(Some(Piece::Statement));
                    }
                }
                b'\'' | b'"' => {
                    self.begin();
                    self.keep(&[byte]);
                    let escapes =
                        byte == b'\'' && (escapes_by_itself || goes_on || !(self.standard_strings || is_raw));
                    self.mode = Mode::Quoted { end: byte, escapes, escaped: false };
                    return Ok(None);
                }
                _ => {
                    self.begin();
                    self.keep(&[byte]);
                    self.words.sign(byte);
                }
            }
        }
        Ok(None)
    }

    /// Tells whether a comment begins with this sign, and goes on with it.
    fn begins_comment(&mut self, first: u8) -> Result<bool, Broken> {
        if self.at == self.end && !self.fill()? {
            return Ok(false);
        }
        match (first, self.buffer[self.at]) {
            (b'-', b'-') => self.mode = Mode::LineComment,
            (b'/', b'*') => {
                self.mode = Mode::BlockComment { depth: 1, last: 0 };
                if self.in_statement {
                    self.keep(b" ");
                }
            }
            _ => return Ok(false),
        }
        self.at += 1;
        self.side.clear();
        if !self.in_statement {
            self.began = self.line;
        }
        Ok(true)
    }

    fn end_statement(&mut self) {
        self.given = true;
        let length = self.text.trim_ascii_end().len();
        self.text.truncate(length);
        if let Some(value) = setting(&self.text, "standard_conforming_strings") {
            self.standard_strings =
                !["off", "false", "no", "0"].contains(&value.to_ascii_lowercase().as_str());
        }
    }

    fn quoted(&mut self) -> Option<Piece> {
        let Mode::Quoted { end, escapes, escaped } = &mut self.mode else { return None };
        if std::mem::take(escaped) {
            self.pass(1);
            return None;
        }
        let rest = &self.buffer[self.at..self.end];
        let found = if *escapes { memchr2(*end, b'\\', rest) } else { memchr(*end, rest) };
        let length = found.map_or(rest.len(), |at| at + 1);
        match found.and_then(|at| rest.get(at)) {
            Some(b'\\') => *escaped = true,
            // A doubled quote ends this one and begins another one of the same kind.
            Some(_) => {
                self.goes_on = *escapes;
                self.mode = Mode::Plain;
            }
            None => {}
        }
        self.pass(length);
        None
    }

    /// Takes so many bytes into the statement.
    fn pass(&mut self, length: usize) {
        let range = self.at..self.at + length;
        self.line += memchr_iter(b'\n', &self.buffer[range.clone()]).count() as u64;
        let buffer = std::mem::take(&mut self.buffer);
        self.keep(&buffer[range]);
        self.buffer = buffer;
        self.at += length;
    }

    /// Reads a comment, or a command of `psql`, up to the end of its line.
    fn rest_of_line(&mut self) -> Option<Piece> {
        let rest = &self.buffer[self.at..self.end];
        let found = memchr(b'\n', rest);
        let length = found.map_or(rest.len(), |at| at + 1);
        let room = SIDE_BYTES.saturating_sub(self.side.len()).min(length);
        self.side.extend_from_slice(&rest[..room]);
        self.at += length;
        found?;
        self.line += 1;
        self.end_line()
    }

    fn end_line(&mut self) -> Option<Piece> {
        if self.in_statement {
            self.keep(b"\n");
        }
        match std::mem::replace(&mut self.mode, Mode::Plain) {
            Mode::Command => Some(Piece::Command),
            _ if self.in_statement => None,
            _ => Some(Piece::Comment),
        }
    }

    fn block_comment(&mut self) -> Option<Piece> {
        while self.at < self.end {
            let Mode::BlockComment { depth, last } = &mut self.mode else { return None };
            let byte = self.buffer[self.at];
            self.at += 1;
            self.line += u64::from(byte == b'\n');
            match (*last, byte) {
                (b'*', b'/') => {
                    *depth -= 1;
                    *last = 0;
                }
                (b'/', b'*') => {
                    *depth += 1;
                    *last = 0;
                }
                _ => *last = byte,
            }
            if *depth == 0 {
                self.mode = Mode::Plain;
            }
        }
        None
    }

    /// Reads the name between two `$`: what is none was no quote.
    fn dollar_tag(&mut self) -> Option<Piece> {
        let byte = self.buffer[self.at];
        let is_first = self.side.is_empty();
        if byte == b'$' {
            self.side.insert(0, b'$');
            self.side.push(b'$');
            self.mode = Mode::Dollars { matched: 0 };
            self.pass(1);
            return None;
        }
        let fits = byte == b'_'
            || byte >= 0x80
            || byte.is_ascii_alphabetic()
            || (!is_first && byte.is_ascii_digit());
        if fits && self.side.len() < SIDE_BYTES {
            self.side.push(byte);
            self.pass(1);
        } else {
            // What was read is a word, as `$1` is.
            self.words.push(b'$');
            self.mode = Mode::Plain;
        }
        None
    }

    fn dollars(&mut self) -> Option<Piece> {
        let Mode::Dollars { matched } = &mut self.mode else { return None };
        let rest = &self.buffer[self.at..self.end];
        let (mut at, mut ended) = (0, false);
        while at < rest.len() && !ended {
            if *matched == 0 {
                match memchr(b'$', &rest[at..]) {
                    Some(found) => {
                        at += found + 1;
                        *matched = 1;
                    }
                    None => at = rest.len(),
                }
                continue;
            }
            let byte = rest[at];
            at += 1;
            if self.side.get(*matched) == Some(&byte) {
                *matched += 1;
                ended = *matched == self.side.len();
            } else {
                *matched = usize::from(byte == b'$');
            }
        }
        if ended {
            self.mode = Mode::Plain;
        }
        self.pass(at);
        None
    }

    fn finish(&mut self) -> Result<Option<Piece>, Broken> {
        match self.mode {
            Mode::LineComment | Mode::Command => {
                if let Some(piece) = self.end_line() {
                    return Ok(Some(piece));
                }
            }
            Mode::Quoted { .. } | Mode::Dollars { .. } | Mode::BlockComment { .. } => {
                let line = self.began;
                return Err(Broken::Damaged(format!(
                    "line {line}: the text ends within quotes: it is cut off"
                )));
            }
            _ => {}
        }
        if self.in_statement {
            let line = self.began;
            return Err(Broken::Damaged(format!(
                "line {line}: the text ends within a statement: it is cut off"
            )));
        }
        Ok(None)
    }
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}
