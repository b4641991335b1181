//! Where a key stands in a configuration file: TOML by its parser's spans, JSON by a small walk over text that a
//! parser has already accepted.

use std::ops::Range;
use std::path::Path;
use toml::de::{DeTable, DeValue};

/// The language of a configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Toml,
    Json,
}

impl Language {
    /// Returns the language of a file: JSON where its name ends so, else TOML.
    pub(crate) fn of(file: &Path) -> Self {
        let json = file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
        if json { Self::Json } else { Self::Toml }
    }
}

/// A place in a text, both from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl Position {
    /// Takes a place as a parser tells it.
    pub(crate) fn new(line: usize, column: usize) -> Self {
        let narrow = |number: usize| u32::try_from(number.max(1)).unwrap_or(u32::MAX);
        Self { line: narrow(line), column: narrow(column) }
    }

    /// Returns the place of a byte.
    pub(crate) fn of(text: &str, byte: usize) -> Self {
        let before = text.get(..byte).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let column = before.get(line_start..).unwrap_or("").chars().count() + 1;
        Self::new(before.matches('\n').count() + 1, column)
    }
}

/// Returns where the last key of a path stands, or the nearest one above it that can be found.
pub(crate) fn locate(text: &str, language: Language, path: &[String]) -> Option<Position> {
    (1..=path.len()).rev().find_map(|length| {
        let path = path.get(..length)?;
        let byte = match language {
            Language::Toml => in_toml(&DeTable::parse(text).ok()?.into_inner(), path).map(|at| at.key.start),
            Language::Json => Json { text, at: 0 }.find(path),
        };
        byte.map(|byte| Position::of(text, byte))
    })
}

/// Where a key and its value stand in a text, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) key: Range<usize>,
    pub(crate) value: Range<usize>,
}

/// Returns where the key of a path and its value stand.
pub(crate) fn stretch(text: &str, language: Language, path: &[&str]) -> Option<Stretch> {
    let path: Vec<String> = path.iter().map(|key| (*key).to_owned()).collect();
    match language {
        Language::Toml => in_toml(&DeTable::parse(text).ok()?.into_inner(), &path),
        Language::Json => {
            let mut json = Json { text, at: 0 };
            let start = json.find(&path)?;
            json.skip_blanks();
            let value = json.at;
            json.skip_value();
            let end = value + text.get(value..json.at)?.trim_end().len();
            let mut key = Json { text, at: start };
            key.skip_text();
            Some(Stretch { key: start..key.at, value: value..end })
        }
    }
}

fn in_toml(table: &DeTable<'_>, path: &[String]) -> Option<Stretch> {
    let (first, rest) = path.split_first()?;
    let (key, value) = table.iter().find(|(key, _)| key.get_ref() == first.as_str())?;
    match (rest, value.get_ref()) {
        ([], _) => Some(Stretch { key: key.span(), value: value.span() }),
        (rest, DeValue::Table(table)) => in_toml(table, rest),
        _ => None,
    }
}

struct Json<'a> {
    text: &'a str,
    at: usize,
}

impl Json<'_> {
    fn find(&mut self, path: &[String]) -> Option<usize> {
        let (first, rest) = path.split_first()?;
        self.skip_blanks();
        if self.peek()? != b'{' {
            return None;
        }
        self.at += 1;
        loop {
            self.skip_blanks();
            if self.peek()? != b'"' {
                return None;
            }
            let start = self.at;
            self.skip_text();
            let key: String = serde_json::from_str(self.text.get(start..self.at)?).ok()?;
            self.skip_blanks();
            self.at += 1; // the colon
            if key == *first {
                return if rest.is_empty() { Some(start) } else { self.find(rest) };
            }
            self.skip_value();
            self.skip_blanks();
            self.at += 1; // the comma, or the closing brace
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    /// Steps over a text, from its opening quote.
    fn skip_text(&mut self) {
        self.at += 1;
        while let Some(byte) = self.peek() {
            self.at += if byte == b'\\' { 2 } else { 1 };
            if byte == b'"' {
                return;
            }
        }
    }

    /// Steps over a value, up to the comma or brace behind it.
    fn skip_value(&mut self) {
        let mut depth = 0_usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    self.skip_text();
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' | b',' if depth == 0 => return,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(keys: &[&str]) -> Vec<String> {
        keys.iter().map(|key| (*key).to_owned()).collect()
    }

    #[test]
    fn keys_are_found_in_both_languages() {
        let toml = "a = 1\n[b.c]\nd = { e = 2,\n f = 3 }\n";
        let at = |keys: &[&str]| locate(toml, Language::Toml, &path(keys)).map(|p| (p.line, p.column));
        assert_eq!(at(&["b", "c", "d", "f"]), Some((4, 2)));
        assert_eq!(at(&["b", "c", "nowhere"]), Some((2, 4)));
        let json = "{\n \"x\": [\"}\", {\"y\": 1}],\n  \"ä\\\"\": {\"b\": {}, \"c\":\n   2}}";
        let at = |keys: &[&str]| locate(json, Language::Json, &path(keys)).map(|p| (p.line, p.column));
        assert_eq!(at(&["ä\"", "c"]), Some((3, 20)));
        assert_eq!(at(&["y"]), None);
    }
}
