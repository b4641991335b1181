//! Rows of an archive that are `INSERT` statements (`pg_dump -Fc --inserts`), as the rows of a `COPY`: so they are counted, loaded
//! in parallel and compared as all others.
//!
//! Only what `pg_dump` writes is understood: lists of texts, numbers, bits, `true`, `false`, `NULL`, and `DEFAULT` for columns that
//! are generated. Anything else is an error, never a guess. Of the data a chunk is held, and the longest value.

use super::super::contents::TRAILER;
use std::io::{self, Read};

const BUFFER_BYTES: usize = 256 << 10;
/// Rows are given out from so many bytes on.
const READY_BYTES: usize = 64 << 10;
/// No word of these statements is longer: numbers have up to 150,000 digits.
const WORD_MAX_BYTES: usize = 256 << 10;

/// The rows of `INSERT` statements, as those of a `COPY`, with what ends them.
pub(super) struct Inserts<R> {
    inner: R,
    buffer: Vec<u8>,
    at: usize,
    end: usize,
    /// Whether a backslash in plain quotes is one.
    standard_strings: bool,
    /// Rows that were not given out yet.
    out: Vec<u8>,
    given: usize,
    over: bool,
    shape: Option<Shape>,
}

/// What all rows have in common.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Shape {
    /// The columns as the statements write them, where they name them.
    names: Vec<Vec<u8>>,
    /// Which of the values are rows' own, and not generated.
    own: Vec<bool>,
}

fn strange(message: &str) -> io::Error {
    let message = format!("its INSERT statements are not as pg_dump writes them: {message}");
    io::Error::new(io::ErrorKind::InvalidData, message)
}

impl<R: Read> Inserts<R> {
    /// Begins with data from their first byte on.
    pub(super) fn new(inner: R, standard_strings: bool) -> Self {
        let buffer = vec![0; BUFFER_BYTES];
        let (out, shape) = (Vec::new(), None);
        Self { inner, buffer, at: 0, end: 0, standard_strings, out, given: 0, over: false, shape }
    }

    /// Returns the columns of the rows in brackets, as far as they were read; nothing where the statements name none.
    pub(super) fn columns(&self) -> Vec<u8> {
        let Some(shape) = self.shape.as_ref().filter(|shape| !shape.names.is_empty()) else {
            return Vec::new();
        };
        let own = shape.names.iter().zip(&shape.own).filter(|(_, own)| **own);
        let names: Vec<&[u8]> = own.map(|(name, _)| name.as_slice()).collect();
        if names.is_empty() { Vec::new() } else { [b"(", &names.join(&b", "[..])[..], b")"].concat() }
    }

    fn peek(&mut self) -> io::Result<Option<u8>> {
        while self.at == self.end {
            match self.inner.read(&mut self.buffer) {
                Ok(0) => return Ok(None),
                Ok(count) => (self.at, self.end) = (0, count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.buffer.get(self.at).copied())
    }

    fn next(&mut self) -> io::Result<u8> {
        let byte = self.peek()?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        self.at += 1;
        Ok(byte)
    }

    fn skip_blanks(&mut self) -> io::Result<Option<u8>> {
        loop {
            match self.peek()? {
                Some(byte) if byte.is_ascii_whitespace() => self.at += 1,
                other => return Ok(other),
            }
        }
    }

    fn expect(&mut self, wanted: u8) -> io::Result<()> {
        match self.skip_blanks()? {
            Some(byte) if byte == wanted => {
                self.at += 1;
                Ok(())
            }
            Some(_) => Err(strange(&format!("a `{}` is missing", char::from(wanted)))),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Reads letters, digits and what numbers have.
    fn word(&mut self) -> io::Result<Vec<u8>> {
        self.skip_blanks()?;
        let mut word = Vec::new();
        while let Some(byte) = self.peek()? {
            if !(byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'+' | b'-' | b'.')) {
                break;
            }
            word.push(byte);
            self.at += 1;
            if word.len() > WORD_MAX_BYTES {
                return Err(strange("a word is too long"));
            }
        }
        Ok(word)
    }

    fn keyword(&mut self, wanted: &str) -> io::Result<()> {
        match self.word()? {
            word if word == wanted.as_bytes() => Ok(()),
            _ if self.peek()?.is_none() => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Err(strange(&format!("{wanted} is missing"))),
        }
    }

    /// Reads a name as it is written, with its quotes and its schema.
    fn name(&mut self) -> io::Result<Vec<u8>> {
        self.skip_blanks()?;
        let (mut name, mut quoted) = (Vec::new(), false);
        loop {
            let byte = self.peek()?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
            if !quoted && (byte.is_ascii_whitespace() || matches!(byte, b'(' | b')' | b',' | b';')) {
                return if name.is_empty() { Err(strange("a name is missing")) } else { Ok(name) };
            }
            quoted ^= byte == b'"';
            name.push(byte);
            self.at += 1;
        }
    }

    /// Reads one statement; `false` at the end of the data.
    fn statement(&mut self) -> io::Result<bool> {
        if self.skip_blanks()?.is_none() {
            return Ok(false);
        }
        self.keyword("INSERT")?;
        self.keyword("INTO")?;
        self.name()?;
        let mut names = Vec::new();
        if self.skip_blanks()? == Some(b'(') {
            self.at += 1;
            loop {
                names.push(self.name()?);
                match self.skip_blanks()? {
                    Some(b',') => self.at += 1,
                    _ => break,
                }
            }
            self.expect(b')')?;
        }
        let mut word = self.word()?;
        if word == b"OVERRIDING" {
            self.keyword("SYSTEM")?;
            self.keyword("VALUE")?;
            word = self.word()?;
        }
        match word.as_slice() {
            b"VALUES" => self.rows(&names)?,
            b"DEFAULT" => {
                self.keyword("VALUES")?;
                self.fits(&names, Vec::new())?;
                self.out.push(b'\n');
            }
            _ => return Err(strange("VALUES is missing")),
        }
        if self.skip_blanks()? == Some(b'O') {
            for word in ["ON", "CONFLICT", "DO", "NOTHING"] {
                self.keyword(word)?;
            }
        }
        self.expect(b';')?;
        Ok(true)
    }

    fn rows(&mut self, names: &[Vec<u8>]) -> io::Result<()> {
        loop {
            self.expect(b'(')?;
            let (mut own, mut is_first) = (Vec::new(), true);
            loop {
                own.push(self.value(is_first)?);
                is_first &= own.last() == Some(&false);
                match self.skip_blanks()? {
                    Some(b',') => self.at += 1,
                    _ => break,
                }
            }
            self.expect(b')')?;
            self.out.push(b'\n');
            self.fits(names, own)?;
            match self.skip_blanks()? {
                Some(b',') => self.at += 1,
                _ => return Ok(()),
            }
        }
    }

    /// All rows of a table have the same columns.
    fn fits(&mut self, names: &[Vec<u8>], own: Vec<bool>) -> io::Result<()> {
        if !names.is_empty() && names.len() != own.len() {
            return Err(strange("a row has not as many values as columns"));
        }
        let Some(shape) = &self.shape else {
            self.shape = Some(Shape { names: names.to_vec(), own });
            return Ok(());
        };
        match shape.names == names && shape.own == own {
            true => Ok(()),
            false => Err(strange("its rows have different columns")),
        }
    }

    /// Writes the next value; `false` where it is one that is generated.
    fn value(&mut self, is_first: bool) -> io::Result<bool> {
        let begins = self.skip_blanks()?;
        let word = match begins {
            Some(b'\'') => Vec::new(),
            _ => self.word()?,
        };
        if word == b"DEFAULT" {
            return Ok(false);
        }
        if !is_first {
            self.out.push(b'\t');
        }
        let is_text = self.peek()? == Some(b'\'');
        match word.as_slice() {
            b"" | b"B" if is_text => self.text()?,
            b"NULL" => self.out.extend_from_slice(b"\\N"),
            b"true" => self.out.push(b't'),
            b"false" => self.out.push(b'f'),
            number if number.iter().any(u8::is_ascii_digit) && !is_text => {
                let is_number = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
                if !number.iter().all(is_number) {
                    return Err(strange("a value is none that it writes"));
                }
                self.out.extend_from_slice(number);
            }
            _ if self.peek()?.is_none() => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ => return Err(strange("a value is none that it writes")),
        }
        Ok(true)
    }

    /// Writes a text in quotes as a `COPY` has it.
    fn text(&mut self) -> io::Result<()> {
        self.next()?;
        loop {
            let mut byte = self.next()?;
            if byte == b'\'' {
                if self.peek()? != Some(b'\'') {
                    return Ok(());
                }
                self.at += 1;
            } else if byte == b'\\' && !self.standard_strings {
                byte = self.next()?;
                if !matches!(byte, b'\\' | b'\'') {
                    return Err(strange("an escape is none that it writes"));
                }
            }
            match byte {
                b'\\' => self.out.extend_from_slice(b"\\\\"),
                b'\n' => self.out.extend_from_slice(b"\\n"),
                b'\r' => self.out.extend_from_slice(b"\\r"),
                b'\t' => self.out.extend_from_slice(b"\\t"),
                0x08 => self.out.extend_from_slice(b"\\b"),
                0x0b => self.out.extend_from_slice(b"\\v"),
                0x0c => self.out.extend_from_slice(b"\\f"),
                other => self.out.push(other),
            }
        }
    }
}

impl<R: Read> Read for Inserts<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given == self.out.len() {
            self.out.clear();
            self.given = 0;
            while !self.over && self.out.len() < READY_BYTES {
                if !self.statement()? {
                    self.over = true;
                    self.out.extend_from_slice(TRAILER);
                }
            }
        }
        let left = &self.out[self.given..];
        let count = left.len().min(buffer.len());
        buffer[..count].copy_from_slice(&left[..count]);
        self.given += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str, standard_strings: bool) -> io::Result<(String, String)> {
        let mut inserts = Inserts::new(text.as_bytes(), standard_strings);
        let mut rows = String::new();
        inserts.read_to_string(&mut rows)?;
        Ok((rows, String::from_utf8(inserts.columns()).unwrap()))
    }

    #[test]
    fn statements_become_rows() {
        let text = "INSERT INTO public.t VALUES (1, 'a''b\\c\n\td', NULL, true, B'101', -1.5e+30, DEFAULT);\n\
                    INSERT INTO public.t VALUES (2, '', 'NaN', false, B'', 0, DEFAULT) ON CONFLICT DO NOTHING;\n\n\n";
        let rows = "1\ta'b\\\\c\\n\\td\t\\N\tt\t101\t-1.5e+30\n2\t\tNaN\tf\t\t0\n\\.\n\n\n";
        assert_eq!(read(text, true).unwrap(), (rows.to_owned(), String::new()));
        let text = "INSERT INTO \"S (x\".\"t;\" (id, gone, \"B, b\") OVERRIDING SYSTEM VALUE VALUES\n\t(1, DEFAULT, 'a'),\n\t(2, DEFAULT, 'b');\n";
        let expected = ("1\ta\n2\tb\n\\.\n\n\n".to_owned(), "(id, \"B, b\")".to_owned());
        assert_eq!(read(text, true).unwrap(), expected);
        let text = "INSERT INTO t VALUES (DEFAULT, 'a\\\\b''d'), (DEFAULT, 'c');";
        assert_eq!(read(text, false).unwrap().0, "a\\\\b'd\nc\n\\.\n\n\n");
        let generated = "INSERT INTO t (a) VALUES (DEFAULT);";
        assert_eq!(read(generated, true).unwrap(), ("\n\\.\n\n\n".to_owned(), String::new()));
        assert_eq!(read("INSERT INTO t DEFAULT VALUES;\n", true).unwrap().0, "\n\\.\n\n\n");
        assert_eq!(read("\n\n", true).unwrap().0, "\\.\n\n\n");
    }

    #[test]
    fn what_is_cut_or_strange_is_an_error() {
        let text = "INSERT INTO public.t (a, b) VALUES (1, 'it''s');";
        for cut in 1..text.len() {
            assert!(read(&text[..cut], true).is_err(), "{cut}");
        }
        for bad in [
            "UPDATE t SET a = 1;",
            "INSERT INTO t SELECT 1;",
            "INSERT INTO t VALUES (1 + 1);",
            "INSERT INTO t VALUES (now());",
            "INSERT INTO t VALUES (E'a');",
            "INSERT INTO t VALUES (1), (1, 2);",
            "INSERT INTO t (a) VALUES (1, 2);",
            "INSERT INTO t VALUES (1); DROP TABLE t;",
            "INSERT INTO t VALUES (1) RETURNING 1;",
        ] {
            assert!(read(bad, true).is_err(), "{bad}");
        }
    }
}
