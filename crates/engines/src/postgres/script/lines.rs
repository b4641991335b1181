//! The rows of a table as `COPY` writes them, however they are cut into pieces: each line a row with as many columns as the
//! table, then a line that ends them.

use memchr::{memchr, memchr_iter};

/// What is read of the rows of one table.
pub(in crate::postgres) struct CopyLines {
    /// How many columns each row must have; `None` where that is not known.
    columns: Option<usize>,
    /// The beginning of the line that is read.
    head: [u8; 3],
    /// How many bytes of that line came.
    length: usize,
    tabs: usize,
    rows: u64,
    ended: bool,
    wrong: Option<String>,
}

impl CopyLines {
    /// Begins with a table whose rows have so many columns.
    pub(in crate::postgres) fn new(columns: Option<usize>) -> Self {
        Self { columns, head: [0; 3], length: 0, tabs: 0, rows: 0, ended: false, wrong: None }
    }

    /// Takes what comes next, up to the line that ends the rows; returns how many bytes that were.
    pub(in crate::postgres) fn take(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() && !self.ended {
            let rest = &bytes[at..];
            let end = memchr(b'\n', rest);
            let piece = &rest[..end.unwrap_or(rest.len())];
            for (place, byte) in piece.iter().enumerate().take(3usize.saturating_sub(self.length)) {
                self.head[self.length + place] = *byte;
            }
            if self.columns.is_some() {
                self.tabs += memchr_iter(b'\t', piece).count();
            }
            self.length += piece.len();
            at += piece.len();
            if end.is_some() {
                at += 1;
                self.line();
            }
        }
        at
    }

    fn line(&mut self) {
        let head = &self.head[..self.length.min(3)];
        if head == b"\\." || head == b"\\.\r" {
            self.ended = true;
        } else {
            self.rows += 1;
            if let Some(columns) = self.columns
                && self.tabs + 1 != columns
                && !(columns == 0 && self.length == 0)
                && self.wrong.is_none()
            {
                let found = self.tabs + 1;
                self.wrong = Some(format!("row {} has {found} columns instead of {columns}", self.rows));
            }
        }
        (self.length, self.tabs) = (0, 0);
    }

    /// Returns how many rows came.
    pub(in crate::postgres) fn rows(&self) -> u64 {
        self.rows
    }

    /// Returns what is wrong with a row.
    pub(in crate::postgres) fn wrong(&self) -> Option<&str> {
        self.wrong.as_deref()
    }

    /// Tells whether the last line has no end.
    pub(in crate::postgres) fn is_within_line(&self) -> bool {
        self.length > 0
    }
}

/// Returns the number of columns of a `COPY table (a, b) FROM stdin` statement; `None` where it says no list, or has
/// another format than the usual one, and `Err` where it is no such statement.
pub(in crate::postgres) fn columns_of(statement: &[u8]) -> Result<Option<usize>, ()> {
    let text = statement.trim_ascii_end();
    let text = text.strip_suffix(b";").unwrap_or(text).trim_ascii_end();
    if !starts_with_word(text, b"COPY") {
        return Err(());
    }
    let (mut quoted, mut depth, mut commas, mut list, mut after) = (false, 0_u32, 0, None, 0);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'(' => depth += 1,
            b')' => {
                depth = depth.saturating_sub(1);
                if depth == 0 && list.is_none() {
                    (list, after) = (Some(commas + 1), at + 1);
                }
            }
            b',' if depth == 1 && list.is_none() => commas += 1,
            _ => {}
        }
    }
    let rest = text[after..].trim_ascii();
    let from_stdin = |text: &[u8]| text.eq_ignore_ascii_case(b"FROM stdin");
    if list.is_some() && from_stdin(rest) {
        return Ok(list);
    }
    let lower = text.to_ascii_lowercase();
    let found = memchr::memmem::find(&lower, b"from stdin").is_some();
    if found { Ok(None) } else { Err(()) }
}

fn starts_with_word(text: &[u8], word: &[u8]) -> bool {
    text.get(..word.len()).is_some_and(|first| first.eq_ignore_ascii_case(word))
        && text.get(word.len()).is_some_and(u8::is_ascii_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_end_at_their_line_however_they_come() {
        let text = b"1\ta\\tb\n\\.x\t\\N\n\\N\t\n\\.\nSELECT";
        for chunk in [1, 2, 5, 100] {
            let mut lines = CopyLines::new(Some(2));
            let mut taken = 0;
            for piece in text.chunks(chunk) {
                taken += lines.take(piece);
            }
            assert!(lines.ended && lines.wrong().is_none(), "{chunk}: {:?}", lines.wrong());
            assert_eq!((lines.rows(), taken), (3, text.len() - 6), "{chunk}");
        }
    }

    #[test]
    fn a_row_with_other_columns_is_told() {
        let mut lines = CopyLines::new(Some(3));
        lines.take(b"1\t2\t3\n1\t2\n\\.\n");
        assert_eq!(lines.wrong(), Some("row 2 has 2 columns instead of 3"));
        let mut none = CopyLines::new(Some(0));
        none.take(b"\n\n\\.\n");
        assert_eq!((none.rows(), none.wrong()), (2, None));
    }

    #[test]
    fn columns_are_counted_in_the_statement() {
        let columns = |text: &str| columns_of(text.as_bytes());
        assert_eq!(columns("COPY public.t (a, \"b, (c\", d) FROM stdin;"), Ok(Some(3)));
        assert_eq!(columns("COPY \"s (x\".t (a) FROM stdin;\n"), Ok(Some(1)));
        assert_eq!(columns("COPY public.t FROM stdin;"), Ok(None));
        assert_eq!(columns("COPY public.t (a) FROM stdin WITH (FORMAT csv);"), Ok(None));
        assert_eq!(columns("COPY public.t (a) FROM '/etc/passwd';"), Err(()));
        assert_eq!(columns("COPYRIGHT"), Err(()));
    }
}
