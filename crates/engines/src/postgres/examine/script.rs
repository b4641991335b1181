//! SQL text of `pg_dump` and `pg_dumpall`, read to its end without running it: whether its statements and the rows between
//! them are complete, and whether the closing line of the tool that wrote it is there.
//!
//! Quotes, dollar quotes, comments and `COPY` data are told apart as psql does it. Of a statement only its beginning is
//! kept, so memory does not grow with the text.

use super::lines::{CopyLines, columns_of};
use super::{damaged, unread};
use crate::counting::counted;
use crate::engine::{ExamineRequest, Examined};
use flow::{Context, SourceError};
use memchr::{memchr, memchr_iter, memchr2};

const CHUNK_BYTES: usize = 256 << 10;
/// How much of a statement is kept: the list of the columns of the widest table fits.
const HEAD_BYTES: usize = 256 << 10;
/// How much of an `INSERT`, of which there may be millions, and of a comment.
const SHORT_BYTES: usize = 120;

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
    /// In a line that is a command of psql.
    Command,
    Rows(CopyLines),
    /// The rest of the line behind a `COPY … FROM stdin;` of so many columns.
    BeforeRows(Option<usize>),
}

struct Reading {
    mode: Mode,
    /// The beginning of the statement that is read, without comments before it.
    head: Vec<u8>,
    in_statement: bool,
    /// The last two bytes outside of quotes and comments.
    last: [u8; 2],
    /// A comment, a command of psql or the name of a dollar quote, as far as it matters.
    side: Vec<u8>,
    line: u64,
    began: u64,
    found: Found,
}

/// What was found so far.
#[derive(Default)]
struct Found {
    statements: u64,
    content: u64,
    tables: u64,
    rows: u64,
    /// Headers of databases whose closing line did not come yet.
    open_databases: u64,
    closed_databases: u64,
    cluster: Option<bool>,
    made_by: Option<String>,
    commands: Vec<String>,
    wrong: Option<(u64, String)>,
    copy_line: u64,
}

/// Reads SQL text to its end.
pub(super) fn examine(request: ExamineRequest<'_>, context: &Context) -> Result<Examined, SourceError> {
    let object = request.object;
    let mut reading = Reading::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        context.cancel.check().map_err(|_| SourceError::cancelled(object))?;
        let count = request.dump.read(&mut chunk).map_err(|error| unread(object, error))?;
        if count == 0 {
            break;
        }
        let bytes = &chunk[..count];
        if memchr(0, bytes).is_some() {
            let line = reading.line;
            return Err(damaged(
                object,
                format!("after line {line}: it holds zero bytes, which no text has"),
            ));
        }
        reading.take(bytes);
        if let Some((line, problem)) = reading.found.wrong.take() {
            return Err(damaged(object, format!("line {line}: {problem}")));
        }
    }
    reading.finish().map_err(|problem| damaged(object, problem))
}

impl Reading {
    fn new() -> Self {
        Self {
            mode: Mode::Plain,
            head: Vec::new(),
            in_statement: false,
            last: [b'\n'; 2],
            side: Vec::new(),
            line: 1,
            began: 1,
            found: Found::default(),
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            at += match &self.mode {
                Mode::Plain => self.plain(rest),
                Mode::Quoted { .. } => self.quoted(rest),
                Mode::LineComment | Mode::Command => self.rest_of_line(rest),
                Mode::BlockComment { .. } => self.block_comment(rest),
                Mode::DollarTag => self.dollar_tag(rest),
                Mode::Dollars { .. } => self.dollars(rest),
                Mode::Rows(_) => self.rows(rest),
                Mode::BeforeRows(columns) => {
                    let columns = *columns;
                    self.before_rows(columns, rest)
                }
            };
        }
    }

    /// How much of the statement is kept.
    fn most(&self) -> usize {
        if self.head.starts_with(b"INSERT") { SHORT_BYTES } else { HEAD_BYTES }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = self.most().saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..room]);
    }

    fn count_lines(&mut self, bytes: &[u8]) {
        self.line += memchr_iter(b'\n', bytes).count() as u64;
    }

    /// Reads up to where the text changes its mode.
    fn plain(&mut self, rest: &[u8]) -> usize {
        for (at, byte) in rest.iter().copied().enumerate() {
            let [before, last] = self.last;
            self.last = [last, byte];
            self.line += u64::from(byte == b'\n');
            if !self.in_statement {
                if byte.is_ascii_whitespace() {
                    continue;
                }
                self.side.clear();
                self.began = self.line;
                if byte == b'\\' {
                    self.mode = Mode::Command;
                    return at + 1;
                }
                self.head.clear();
                self.in_statement = true;
            }
            self.keep(&[byte]);
            self.mode = match (last, byte) {
                (_, b'\'') => {
                    let escapes = matches!(last, b'E' | b'e') && !is_of_word(before);
                    Mode::Quoted { end: byte, escapes, escaped: false }
                }
                (_, b'"') => Mode::Quoted { end: byte, escapes: false, escaped: false },
                (b'-', b'-') => self.begin_comment(Mode::LineComment),
                (b'/', b'*') => self.begin_comment(Mode::BlockComment { depth: 1, last: 0 }),
                (last, b'$') if !is_of_word(last) => Mode::DollarTag,
                (_, b';') => {
                    self.statement();
                    return at + 1;
                }
                _ => continue,
            };
            self.side.clear();
            return at + 1;
        }
        rest.len()
    }

    /// A comment is no part of a statement, nor are the two signs by which it began.
    fn begin_comment(&mut self, mode: Mode) -> Mode {
        if self.head.len() < self.most() {
            self.head.truncate(self.head.len().saturating_sub(2));
        }
        self.in_statement = !self.head.trim_ascii().is_empty();
        mode
    }

    fn quoted(&mut self, rest: &[u8]) -> usize {
        let Mode::Quoted { end, escapes, escaped } = &mut self.mode else { return rest.len() };
        if std::mem::take(escaped) {
            let piece = &rest[..1];
            self.count_lines(piece);
            self.keep(piece);
            return 1;
        }
        let found = if *escapes { memchr2(*end, b'\\', rest) } else { memchr(*end, rest) };
        let length = found.map_or(rest.len(), |at| at + 1);
        match found.and_then(|at| rest.get(at)) {
            Some(b'\\') => *escaped = true,
            // A doubled quote ends this one and begins another one of the same kind.
            Some(_) => {
                self.last = if *escapes { *b" E" } else { *b"''" };
                self.mode = Mode::Plain;
            }
            None => {}
        }
        let piece = &rest[..length];
        self.count_lines(piece);
        self.keep(piece);
        length
    }

    /// Reads a comment, or a command of psql, up to the end of its line.
    fn rest_of_line(&mut self, rest: &[u8]) -> usize {
        let found = memchr(b'\n', rest);
        let length = found.map_or(rest.len(), |at| at + 1);
        let room = SHORT_BYTES.saturating_sub(self.side.len()).min(length);
        self.side.extend_from_slice(&rest[..room]);
        if found.is_some() {
            self.end_line();
            self.line += 1;
            self.last = [b'\n'; 2];
        }
        length
    }

    fn end_line(&mut self) {
        let text = String::from_utf8_lossy(self.side.trim_ascii()).into_owned();
        match self.mode {
            Mode::Command => self.command(&text),
            _ if !self.in_statement => self.comment(&text),
            _ => {}
        }
        self.mode = Mode::Plain;
    }

    fn comment(&mut self, text: &str) {
        let found = &mut self.found;
        match text {
            "PostgreSQL database cluster dump" => found.cluster = Some(false),
            "PostgreSQL database cluster dump complete" => found.cluster = Some(true),
            "PostgreSQL database dump" => found.open_databases += 1,
            "PostgreSQL database dump complete" => {
                found.open_databases = found.open_databases.saturating_sub(1);
                found.closed_databases += 1;
            }
            _ => {
                if let Some(tool) = text.strip_prefix("Dumped by ") {
                    found.made_by.get_or_insert_with(|| tool.replace(" version", ""));
                }
            }
        }
    }

    fn command(&mut self, text: &str) {
        let word = text.split_ascii_whitespace().next().unwrap_or_default();
        if !["restrict", "unrestrict", "connect", "."].contains(&word) && self.found.commands.len() < 3 {
            self.found.commands.push(format!("line {}: `\\{word}`", self.began));
        }
    }

    fn block_comment(&mut self, rest: &[u8]) -> usize {
        for (at, byte) in rest.iter().copied().enumerate() {
            let Mode::BlockComment { depth, last } = &mut self.mode else { return at };
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
                (self.mode, self.last) = (Mode::Plain, [b' '; 2]);
                return at + 1;
            }
        }
        rest.len()
    }

    /// Reads the name between two `$`: what is none was no quote.
    fn dollar_tag(&mut self, rest: &[u8]) -> usize {
        let byte = rest[0];
        let first = self.side.is_empty();
        if byte == b'$' {
            self.side.insert(0, b'$');
            self.side.push(b'$');
            self.keep(&[byte]);
            self.mode = Mode::Dollars { matched: 0 };
            return 1;
        }
        let fits =
            byte == b'_' || byte >= 0x80 || byte.is_ascii_alphabetic() || (!first && byte.is_ascii_digit());
        if fits && self.side.len() < SHORT_BYTES {
            self.side.push(byte);
            self.keep(&[byte]);
            return 1;
        }
        (self.mode, self.last) = (Mode::Plain, [b'$'; 2]);
        0
    }

    fn dollars(&mut self, rest: &[u8]) -> usize {
        let Mode::Dollars { matched } = &mut self.mode else { return rest.len() };
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
            (self.mode, self.last) = (Mode::Plain, [b'$'; 2]);
        }
        self.count_lines(&rest[..at]);
        self.keep(&rest[..at]);
        at
    }

    fn statement(&mut self) {
        let head = std::mem::take(&mut self.head);
        self.in_statement = false;
        let text = head.trim_ascii();
        if text == b";" {
            return;
        }
        self.found.statements += 1;
        let mut words = text.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
        let first = words.next().unwrap_or_default().to_ascii_uppercase();
        match first.as_slice() {
            b"SET" | b"RESET" | b"BEGIN" | b"BEGIN;" | b"COMMIT;" | b"START" => return,
            b"SELECT" if text.starts_with(b"SELECT pg_catalog.set_config(") => return,
            b"CREATE" => {
                let table = words
                    .find(|word| !matches!(word.to_ascii_uppercase().as_slice(), b"UNLOGGED" | b"FOREIGN"))
                    .is_some_and(|word| word.eq_ignore_ascii_case(b"TABLE"));
                self.found.tables += u64::from(table);
            }
            b"INSERT" => self.found.rows += 1,
            b"COPY" => {
                if let Ok(columns) = columns_of(text) {
                    self.found.copy_line = self.began;
                    self.mode = Mode::BeforeRows(columns);
                }
            }
            _ => {}
        }
        self.found.content += 1;
    }

    fn before_rows(&mut self, columns: Option<usize>, rest: &[u8]) -> usize {
        let Some(at) = memchr(b'\n', rest) else { return rest.len() };
        self.line += 1;
        self.mode = Mode::Rows(CopyLines::new(columns));
        at + 1
    }

    fn rows(&mut self, rest: &[u8]) -> usize {
        let Mode::Rows(lines) = &mut self.mode else { return rest.len() };
        let before = lines.rows();
        let taken = lines.take(rest);
        self.line += lines.rows() - before + u64::from(lines.has_ended());
        if let Some(problem) = lines.wrong() {
            self.found.wrong.get_or_insert((self.found.copy_line, format!("of its rows, {problem}")));
        }
        if lines.has_ended() {
            self.found.rows += lines.rows();
            (self.mode, self.last) = (Mode::Plain, [b'\n'; 2]);
        }
        taken
    }

    fn finish(mut self) -> Result<Examined, String> {
        match self.mode {
            Mode::Rows(_) | Mode::BeforeRows(_) => {
                return Err(format!("line {}: it ends within the rows of a table: it is cut off", self.line));
            }
            Mode::LineComment | Mode::Command => self.end_line(),
            Mode::Quoted { .. } | Mode::Dollars { .. } | Mode::BlockComment { .. } => {
                return Err(format!("line {}: the text ends within quotes: it is cut off", self.began));
            }
            Mode::Plain | Mode::DollarTag => {}
        }
        if self.in_statement && !self.head.trim_ascii().is_empty() {
            return Err(format!("line {}: the text ends within a statement: it is cut off", self.began));
        }
        let found = self.found;
        if found.open_databases > 0 {
            return Err("the closing line `-- PostgreSQL database dump complete` is missing: it is cut off"
                .to_owned());
        }
        if found.cluster == Some(false) {
            return Err(
                "the closing line `-- PostgreSQL database cluster dump complete` is missing: it is cut off"
                    .to_owned(),
            );
        }
        if found.statements == 0 {
            return Err(format!("line {}: it ends before its first statement: it is cut off", self.line));
        }
        Ok(found.examined())
    }
}

impl Found {
    fn examined(self) -> Examined {
        let mut doubts = Vec::new();
        let closed = self.cluster == Some(true) || self.closed_databases > 0;
        if !closed {
            doubts.push(
                "no line of the tool that wrote it says that it is whole: whether it was cut between two statements \
                 cannot be told"
                    .to_owned(),
            );
        }
        if !self.commands.is_empty() {
            doubts.push(format!("it holds commands of psql: {}", self.commands.join(", ")));
        }
        let by = self.made_by.map(|tool| format!(" by {tool}")).unwrap_or_default();
        Examined {
            detail: format!(
                "all {} complete{}{by}; {}, {}",
                counted(self.statements, "statement", "statements"),
                if closed { ", closing line" } else { "" },
                counted(self.tables, "table", "tables"),
                counted(self.rows, "row", "rows")
            ),
            tables: Some(self.tables),
            rows: Some(self.rows),
            is_empty: self.content == 0,
            doubts,
        }
    }
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "--\n-- PostgreSQL database dump\n--\n\n\\restrict abc\n\n-- Dumped by pg_dump version 15.9\n\n\
        SET statement_timeout = 0;\nSELECT pg_catalog.set_config('search_path', '', false);\n\n\
        CREATE TABLE public.t (\n    a integer, -- it's; so\n    \"b;\" text DEFAULT E'\\';'::text\n);\n\n\
        CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $_$ SELECT 1; -- $x$ \n SELECT $1 $_$;\n\n/* a /* b; */ ' */\n\
        COPY public.t (a, \"b;\") FROM stdin;\n1\tit's\n2\t\\N\n\\.\n\n\nINSERT INTO public.t VALUES (3, 'x''y;');\n\n\
        --\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict abc\n\n";

    fn read(text: &str, chunk_bytes: usize) -> Result<Examined, String> {
        let mut reading = Reading::new();
        for chunk in text.as_bytes().chunks(chunk_bytes) {
            reading.take(chunk);
        }
        match reading.found.wrong.take() {
            Some((line, problem)) => Err(format!("line {line}: {problem}")),
            None => reading.finish(),
        }
    }

    #[test]
    fn a_whole_dump_is_counted_however_it_comes() {
        for chunk in [1, 2, 3, 5, 17, 4096] {
            let found = read(DUMP, chunk).unwrap_or_else(|problem| panic!("{chunk}: {problem}"));
            assert_eq!((found.tables, found.rows), (Some(1), Some(3)), "{chunk}: {found:?}");
            assert!(found.doubts.is_empty() && !found.is_empty, "{chunk}: {found:?}");
            assert!(
                found.detail.starts_with("all 6 statements complete, closing line by pg_dump 15.9"),
                "{found:?}"
            );
        }
    }

    #[test]
    fn a_dump_that_is_cut_anywhere_before_its_closing_line_is_found() {
        let closing = DUMP.find("dump complete").map_or(0, |at| at + 12);
        for cut in 0..closing {
            assert!(read(&DUMP[..cut], 64).is_err(), "cut at {cut}: {}", &DUMP[..cut]);
        }
    }

    #[test]
    fn a_cluster_closes_with_its_own_line() {
        let cluster = format!(
            "--\n-- PostgreSQL database cluster dump\n--\nCREATE ROLE a;\n\\connect x\n{DUMP}\
             --\n-- PostgreSQL database cluster dump complete\n--\n"
        );
        assert!(read(&cluster, 100).is_ok_and(|found| found.doubts.is_empty()));
        let cut = cluster.len() - 40;
        assert!(read(&cluster[..cut], 100).is_err_and(|problem| problem.contains("cluster dump complete")));
    }

    #[test]
    fn a_row_that_lost_a_column_and_lines_of_windows() {
        let lost = DUMP.replace("1\tit's", "1 it's");
        assert!(read(&lost, 50).is_err_and(|problem| problem.contains("1 columns instead of 2")));
        let windows = DUMP.replace('\n', "\r\n");
        assert!(read(&windows, 50).is_ok_and(|found| found.rows == Some(3)));
    }

    #[test]
    fn what_is_not_said_to_be_whole_is_doubted() {
        let plain: String =
            DUMP.lines().filter(|line| !line.starts_with("--")).flat_map(|line| [line, "\n"]).collect();
        assert!(read(&plain, 50).is_ok_and(|found| found.doubts.len() == 1));
        let command = DUMP.replace("\\restrict abc", "\\! rm x");
        assert!(
            read(&command, 50).is_ok_and(|found| found.doubts.iter().any(|doubt| doubt.contains("`\\!`")))
        );
    }

    #[test]
    fn a_dump_of_nothing_is_empty() {
        let nothing = "--\n-- PostgreSQL database dump\n--\nSET a = 0;\n\
            SELECT pg_catalog.set_config('search_path', '', false);\n--\n-- PostgreSQL database dump complete\n--\n";
        assert!(read(nothing, 9).is_ok_and(|found| found.is_empty));
    }
}
