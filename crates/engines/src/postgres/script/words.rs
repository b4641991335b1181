//! The words and brackets of a statement as they pass: whether a semicolon ends it there, and how many rows an `INSERT` has.
//!
//! A semicolon within brackets is one of a rule, and one between BEGIN and END one of a function's body, as `psql` sees it.

/// No word that matters is longer.
const WORD_BYTES: usize = 12;

/// What an `INSERT` said so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Insert {
    /// It is another statement.
    #[default]
    None,
    BeforeValues,
    /// So many rows.
    Rows(u64),
    /// Its rows come from elsewhere, or not all of them need to stay.
    Unknown,
}

/// What is known of a statement by its words.
#[derive(Debug, Default)]
pub(super) struct Words {
    word: [u8; WORD_BYTES],
    length: usize,
    /// How many words came before.
    count: usize,
    /// The first letters of its first words, as far as those make a function.
    making: [u8; 4],
    brackets: u32,
    bodies: u32,
    insert: Insert,
}

impl Words {
    /// Takes a byte of a word.
    pub(super) fn push(&mut self, byte: u8) {
        if let Some(place) = self.word.get_mut(self.length) {
            *place = byte.to_ascii_lowercase();
        }
        self.length += 1;
    }

    /// Tells whether no word is being read.
    pub(super) fn is_between(&self) -> bool {
        self.length == 0
    }

    /// Tells whether the word that is read makes the quotes behind it take backslashes.
    pub(super) fn is_escape(&self) -> bool {
        self.length == 1 && self.word[0] == b'e'
    }

    /// Tells whether the word that is read makes the quotes behind it take none, whatever is set.
    pub(super) fn is_raw(&self) -> bool {
        self.length == 1 && matches!(self.word[0], b'b' | b'x')
    }

    /// Tells whether the statement is an `INSERT`.
    pub(super) fn is_insert(&self) -> bool {
        self.insert != Insert::None
    }

    /// Returns how many rows the `INSERT` has in it; `None` where it does not say.
    pub(super) fn inserted(&self) -> Option<u64> {
        match self.insert {
            Insert::Rows(rows) => Some(rows),
            _ => None,
        }
    }

    /// Tells whether a semicolon ends the statement.
    pub(super) fn is_over(&self) -> bool {
        self.brackets == 0 && self.bodies == 0
    }

    /// Takes a sign that is no part of a word.
    pub(super) fn sign(&mut self, sign: u8) {
        match sign {
            b'(' => {
                if self.brackets == 0
                    && let Insert::Rows(rows) = &mut self.insert
                {
                    *rows += 1;
                }
                self.brackets += 1;
            }
            b')' => self.brackets = self.brackets.saturating_sub(1),
            _ => {}
        }
    }

    /// Ends a word.
    pub(super) fn end(&mut self) {
        let length = std::mem::take(&mut self.length);
        if length == 0 {
            return;
        }
        let bytes = self.word;
        let word = bytes.get(..length).unwrap_or_default();
        if bytes[0].is_ascii_digit() {
            return;
        }
        let makes = [b"create".as_slice(), b"function", b"procedure", b"or", b"replace"];
        if let Some(place) = self.making.get_mut(self.count)
            && makes.contains(&word)
        {
            *place = word[0];
        }
        if self.brackets == 0 {
            self.body(word);
            self.insert(word);
        }
        self.count += 1;
    }

    fn body(&mut self, word: &[u8]) {
        let makes_one = matches!(self.making, [b'c', b'f' | b'p', ..] | [b'c', b'o', b'r', b'f' | b'p']);
        match word {
            b"begin" if makes_one => self.bodies += 1,
            // It has an END of its own.
            b"case" if self.bodies > 0 => self.bodies += 1,
            b"end" => self.bodies = self.bodies.saturating_sub(1),
            _ => {}
        }
    }

    fn insert(&mut self, word: &[u8]) {
        self.insert = match (self.insert, word) {
            (Insert::None, b"insert") if self.count == 0 => Insert::BeforeValues,
            (Insert::BeforeValues, b"default") => Insert::Rows(1),
            (Insert::BeforeValues, b"values") => Insert::Rows(0),
            (Insert::BeforeValues, b"select" | b"table" | b"with")
            | (
                Insert::Rows(_),
                b"on" | b"returning" | b"union" | b"except" | b"intersect" | b"limit" | b"offset",
            ) => Insert::Unknown,
            (other, _) => other,
        };
    }
}
