//! The text of a shell script as commands: words with quotes taken away, pipes, redirections, loops. Nothing is run.
//!
//! Only as much of the language as scripts that write dumps have. What is beyond it comes out as a command that nobody
//! recognises, with its line, and never as another command than the one that stands there.

use std::iter::Peekable;
use std::str::Chars;

/// A part of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// Text as it is.
    Text(String),
    /// `*` or `?` outside of quotes.
    Wild(char),
    /// A variable, and what stands behind its name within braces.
    Variable(String, String),
    /// The text of a command whose output stands here.
    Command(String),
}

pub(super) type Word = Vec<Piece>;

/// A command with its words and redirections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Simple {
    pub(super) words: Vec<Word>,
    /// Where its output goes, and whether it is added to what is there.
    pub(super) output: Option<(Word, bool)>,
    /// What it is given as its input, where that stands in the script.
    pub(super) input: Option<String>,
}

/// What a script does, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// Commands that are connected by pipes, and the line on which they begin.
    Pipeline(usize, Vec<Simple>),
    /// A loop begins: its variable, and the words that it goes over; other loops have neither.
    Loop(usize, Option<(String, Vec<Word>)>),
    /// The innermost loop ends.
    Done,
    /// A function of that name is defined; what it does stands where it is defined.
    Function(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(Word),
    /// `|`, `&&`, `;`, a newline, a bracket: what ends a command.
    End(&'static str),
    /// `>`, `>>`, `<`, with the number before it.
    Redirect(u32, &'static str),
    /// A text that follows in the lines below.
    Here(String),
}

/// Takes a script apart. `first` is the number of its first line.
pub(super) fn parse(text: &str, first: usize) -> Vec<Event> {
    let mut lexer = Lexer { rest: text.chars().peekable(), line: first, tokens: vec![], pending: vec![] };
    lexer.run();
    Parser { tokens: lexer.tokens, at: 0, events: vec![], cases: 0 }.run()
}

struct Lexer<'a> {
    rest: Peekable<Chars<'a>>,
    line: usize,
    tokens: Vec<(usize, Token)>,
    /// Which tokens wait for the lines below, until which word.
    pending: Vec<(usize, String)>,
}

impl Lexer<'_> {
    fn next(&mut self) -> Option<char> {
        let letter = self.rest.next()?;
        self.line += usize::from(letter == '\n');
        Some(letter)
    }

    fn eat(&mut self, wanted: char) -> bool {
        let found = self.rest.peek() == Some(&wanted);
        if found {
            self.next();
        }
        found
    }

    fn push(&mut self, token: Token) {
        self.tokens.push((self.line, token));
    }

    fn run(&mut self) {
        while let Some(&letter) = self.rest.peek() {
            match letter {
                ' ' | '\t' | '\r' => drop(self.next()),
                '\n' => {
                    self.push(Token::End("\n"));
                    self.next();
                    self.here();
                }
                '#' => {
                    while self.rest.peek().is_some_and(|letter| *letter != '\n') {
                        self.next();
                    }
                }
                '|' | '&' | ';' | '(' | ')' => self.operator(),
                '<' | '>' => self.redirect(1),
                _ => self.word(),
            }
        }
        self.push(Token::End("\n"));
    }

    fn operator(&mut self) {
        let end = match self.next() {
            Some('|') if self.eat('|') => "||",
            Some('|') => {
                self.eat('&');
                "|"
            }
            Some('&') if self.eat('&') => "&&",
            Some('&') if self.rest.peek() == Some(&'>') => return self.redirect(1),
            Some('&') => "&",
            Some('(') => "(",
            Some(')') => ")",
            _ => {
                self.eat(';');
                ";"
            }
        };
        self.push(Token::End(end));
    }

    fn redirect(&mut self, descriptor: u32) {
        let kind = match self.next() {
            Some('<') if self.eat('<') => {
                if self.eat('<') {
                    "<"
                } else {
                    return self.here_word();
                }
            }
            Some('<') => "<",
            _ if self.eat('>') => ">>",
            _ => {
                self.eat('|');
                ">"
            }
        };
        // `2>&1` leads to what is open already.
        if self.eat('&') {
            while self.rest.peek().is_some_and(|letter| letter.is_ascii_digit() || *letter == '-') {
                self.next();
            }
            return;
        }
        self.push(Token::Redirect(descriptor, kind));
    }

    fn here_word(&mut self) {
        self.eat('-');
        while self.rest.peek() == Some(&' ') {
            self.next();
        }
        let mut until = String::new();
        while let Some(letter) = self.rest.peek().filter(|letter| !letter.is_whitespace() && **letter != ';')
        {
            if !matches!(letter, '\'' | '"' | '\\') {
                until.push(*letter);
            }
            self.next();
        }
        self.pending.push((self.tokens.len(), until));
        self.push(Token::Here(String::new()));
    }

    fn here(&mut self) {
        for (index, until) in std::mem::take(&mut self.pending) {
            let mut text = String::new();
            while self.rest.peek().is_some() {
                let mut line = String::new();
                while let Some(letter) = self.next().filter(|letter| *letter != '\n') {
                    line.push(letter);
                }
                if line.trim() == until {
                    break;
                }
                text.push_str(&line);
                text.push('\n');
            }
            if let Some((_, token)) = self.tokens.get_mut(index) {
                *token = Token::Here(text);
            }
        }
    }

    fn word(&mut self) {
        let line = self.line;
        let mut word = Builder::default();
        while let Some(&letter) = self.rest.peek() {
            match letter {
                ' ' | '\t' | '\r' | '\n' | '|' | '&' | ';' | '(' | ')' => break,
                '<' | '>' => {
                    if let Some(descriptor) = word.number() {
                        return self.redirect(descriptor);
                    }
                    break;
                }
                '\'' => {
                    self.next();
                    word.quoted = true;
                    while let Some(letter) = self.next().filter(|letter| *letter != '\'') {
                        word.text.push(letter);
                    }
                }
                '"' => self.double_quoted(&mut word),
                '\\' => {
                    self.next();
                    // A newline behind it continues the line.
                    if let Some(letter) = self.next().filter(|letter| *letter != '\n') {
                        word.text.push(letter);
                        word.quoted = true;
                    }
                }
                '$' | '`' => self.expansion(&mut word),
                '*' | '?' => {
                    self.next();
                    word.push(Piece::Wild(letter));
                }
                _ => {
                    self.next();
                    word.text.push(letter);
                }
            }
        }
        if let Some(word) = word.finish() {
            self.tokens.push((line, Token::Word(word)));
        }
    }

    fn double_quoted(&mut self, word: &mut Builder) {
        self.next();
        word.quoted = true;
        while let Some(&letter) = self.rest.peek() {
            match letter {
                '"' => {
                    self.next();
                    return;
                }
                '\\' => {
                    self.next();
                    match self.next() {
                        Some('\n') | None => {}
                        Some(letter @ ('"' | '\\' | '$' | '`')) => word.text.push(letter),
                        Some(letter) => word.text.extend(['\\', letter]),
                    }
                }
                '$' | '`' => self.expansion(word),
                _ => {
                    self.next();
                    word.text.push(letter);
                }
            }
        }
    }

    fn expansion(&mut self, word: &mut Builder) {
        if self.next() == Some('`') {
            let mut text = String::new();
            while let Some(letter) = self.next().filter(|letter| *letter != '`') {
                text.push(letter);
            }
            return word.push(Piece::Command(text));
        }
        match self.rest.peek().copied() {
            Some('(') => {
                self.next();
                let text = self.until(')', '(');
                word.push(Piece::Command(text));
            }
            Some('{') => {
                self.next();
                let text = self.until('}', '{');
                let end = text.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
                let (name, rest) = text.split_at(end.unwrap_or(text.len()));
                word.push(Piece::Variable(name.to_owned(), rest.to_owned()));
            }
            Some(letter) if letter.is_ascii_alphabetic() || letter == '_' => {
                let mut name = String::new();
                while let Some(letter) =
                    self.rest.peek().filter(|letter| letter.is_ascii_alphanumeric() || **letter == '_')
                {
                    name.push(*letter);
                    self.next();
                }
                word.push(Piece::Variable(name, String::new()));
            }
            Some(letter) if letter.is_ascii_digit() || "@*#?$!".contains(letter) => {
                self.next();
                word.push(Piece::Variable(letter.to_string(), String::new()));
            }
            _ => word.text.push('$'),
        }
    }

    /// Returns what stands before the bracket that closes, whatever is opened and quoted in between.
    fn until(&mut self, close: char, open: char) -> String {
        let (mut text, mut depth, mut quote) = (String::new(), 0_u32, None);
        while let Some(letter) = self.next() {
            match (quote, letter) {
                (Some(mark), letter) if letter == mark => quote = None,
                (None, '\'' | '"') => quote = Some(letter),
                (None, letter) if letter == open => depth += 1,
                (None, letter) if letter == close && depth == 0 => break,
                (None, letter) if letter == close => depth -= 1,
                _ => {}
            }
            text.push(letter);
        }
        text
    }
}

#[derive(Default)]
struct Builder {
    pieces: Word,
    text: String,
    quoted: bool,
}

impl Builder {
    fn push(&mut self, piece: Piece) {
        if !self.text.is_empty() {
            self.pieces.push(Piece::Text(std::mem::take(&mut self.text)));
        }
        self.pieces.push(piece);
    }

    /// The number before a redirection: it is no word.
    fn number(&self) -> Option<u32> {
        if self.pieces.is_empty() && !self.quoted { self.text.parse().ok() } else { None }
    }

    fn finish(mut self) -> Option<Word> {
        if !self.text.is_empty() || (self.quoted && self.pieces.is_empty()) {
            self.pieces.push(Piece::Text(self.text));
        }
        (!self.pieces.is_empty()).then_some(self.pieces)
    }
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    at: usize,
    events: Vec<Event>,
    /// How many `case` are open.
    cases: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(_, token)| token)
    }

    fn literal(&self) -> Option<&str> {
        match self.peek() {
            Some(Token::Word(word)) => literal(word),
            _ => None,
        }
    }

    fn run(mut self) -> Vec<Event> {
        while let Some((line, token)) = self.tokens.get(self.at).cloned() {
            match token {
                Token::End(_) | Token::Here(_) => self.at += 1,
                Token::Redirect(..) => self.at += 2,
                Token::Word(word) => self.statement(line, literal(&word)),
            }
        }
        self.events
    }

    fn statement(&mut self, line: usize, first: Option<&str>) {
        match first {
            Some("for") => self.for_loop(line),
            Some("while" | "until") => {
                self.at += 1;
                self.events.push(Event::Loop(line, None));
            }
            Some("done") => {
                self.at += 1;
                self.events.push(Event::Done);
            }
            Some("case") => {
                self.cases += 1;
                while self.peek().is_some() && self.literal() != Some("in") {
                    self.at += 1;
                }
                self.at += 1;
            }
            Some("esac") => {
                self.cases = self.cases.saturating_sub(1);
                self.at += 1;
            }
            // `a|b)`: what is asked for, and no command.
            _ if self.cases > 0 && self.is_choice() => {}
            Some("do" | "then" | "else" | "elif" | "fi" | "if" | "{" | "}" | "!" | "time" | "function") => {
                self.at += 1;
            }
            _ => self.pipeline(line),
        }
    }

    /// Passes over the pattern of a `case`.
    fn is_choice(&mut self) -> bool {
        let mut at = self.at;
        while let Some((_, Token::Word(_) | Token::End("|"))) = self.tokens.get(at) {
            at += 1;
        }
        let is_one = matches!(self.tokens.get(at), Some((_, Token::End(")"))));
        if is_one {
            self.at = at + 1;
        }
        is_one
    }

    fn for_loop(&mut self, line: usize) {
        self.at += 1;
        let name = self.literal().unwrap_or_default().to_owned();
        self.at += 1;
        let mut words = Vec::new();
        if self.literal() == Some("in") {
            self.at += 1;
            while let Some(Token::Word(word)) = self.peek() {
                words.push(word.clone());
                self.at += 1;
            }
        }
        self.events.push(Event::Loop(line, Some((name, words))));
    }

    fn pipeline(&mut self, line: usize) {
        let mut commands = vec![Simple::default()];
        let mut in_test = false;
        while let Some((_, token)) = self.tokens.get(self.at).cloned() {
            let Some(command) = commands.last_mut() else { break };
            match token {
                Token::End("|") => {
                    commands.push(Simple::default());
                    self.at += 1;
                    // A pipe goes on in the next line.
                    while matches!(self.peek(), Some(Token::End("\n"))) {
                        self.at += 1;
                    }
                    continue;
                }
                // `NAME=(a b c)`
                Token::End("(") if command.words.len() == 1 && ends_in_equals(command.words.first()) => {
                    self.at += 1;
                    while let Some((_, token)) = self.tokens.get(self.at) {
                        let Some(list) = command.words.first_mut() else { break };
                        match token {
                            Token::Word(word) => {
                                list.push(Piece::Text(" ".to_owned()));
                                list.extend(word.clone());
                            }
                            Token::End(")") => break,
                            _ => {}
                        }
                        self.at += 1;
                    }
                }
                // The definition of a function: its body is looked at where it stands.
                Token::End("(") if command.words.len() == 1 => {
                    let name = command.words.first().and_then(literal).unwrap_or_default();
                    self.events.push(Event::Function(name.to_owned()));
                    self.at += 2;
                    return;
                }
                Token::End(_) if !in_test => break,
                Token::End(_) => {}
                Token::Word(word) => {
                    in_test |= command.words.is_empty() && literal(&word) == Some("[[");
                    in_test &= literal(&word) != Some("]]");
                    command.words.push(word);
                }
                Token::Here(text) => command.input = Some(text),
                Token::Redirect(descriptor, kind) => {
                    self.at += 1;
                    if let Some(Token::Word(word)) = self.peek().cloned() {
                        match (kind, descriptor) {
                            (">", 1) => command.output = Some((word, false)),
                            (">>", 1) => command.output = Some((word, true)),
                            _ => {}
                        }
                    } else {
                        continue;
                    }
                }
            }
            self.at += 1;
        }
        self.events.push(Event::Pipeline(line, commands));
    }
}

fn ends_in_equals(word: Option<&Word>) -> bool {
    word.and_then(literal).is_some_and(|text| text.ends_with('='))
}

/// Returns a word that is nothing but text.
pub(super) fn literal(word: &Word) -> Option<&str> {
    match word.as_slice() {
        [Piece::Text(text)] => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let word = |word: &Word| {
            let piece = |piece: &Piece| match piece {
                Piece::Text(text) => text.clone(),
                Piece::Wild(letter) => format!("<{letter}>"),
                Piece::Variable(name, rest) => format!("<${name}{rest}>"),
                Piece::Command(text) => format!("<({text})>"),
            };
            word.iter().map(piece).collect::<String>()
        };
        let command = |simple: &Simple| {
            let mut words: Vec<String> = simple.words.iter().map(&word).collect();
            words.extend(
                simple
                    .output
                    .iter()
                    .map(|(to, more)| format!("{}{}", if *more { ">>" } else { ">" }, word(to))),
            );
            words.extend(simple.input.iter().map(|text| format!("<<{}", text.trim_end())));
            words.join(" ")
        };
        let event = |event: &Event| match event {
            Event::Pipeline(line, commands) => {
                format!("{line}: {}", commands.iter().map(&command).collect::<Vec<_>>().join(" | "))
            }
            Event::Loop(line, Some((name, words))) => {
                format!("{line}: for {name}: {}", words.iter().map(&word).collect::<Vec<_>>().join(" "))
            }
            Event::Loop(line, None) => format!("{line}: loop"),
            Event::Done => "done".to_owned(),
            Event::Function(name) => format!("function {name}"),
        };
        parse(text, 1).iter().map(event).collect()
    }

    #[test]
    fn words_pipes_and_redirections() {
        assert_eq!(
            shown("pg_dump -U \"$U\" erp 2>>log | gzip -9 >/b/erp-$(date +%F).sql.gz # nightly\n"),
            ["1: pg_dump -U <$U> erp | gzip -9 >/b/erp-<(date +%F)>.sql.gz"]
        );
        assert_eq!(
            shown("a 'x y'\\\n  b\\ c && d > f 2>&1; e >> 'g h'\n|| i &>/dev/null &"),
            ["1: a x y b c", "2: d >f", "2: e >>g h", "3: i >/dev/null"]
        );
        assert_eq!(
            shown("pg_dump erp |\n  gzip > x\nsqlite3 a.db <<'EOF'\n.backup b.db\nEOF\necho"),
            ["1: pg_dump erp | gzip >x", "3: sqlite3 a.db <<.backup b.db", "6: echo"]
        );
        assert_eq!(shown("find /b -name *.gz -exec rm {} \\;"), ["1: find /b -name <*>.gz -exec rm {} ;"]);
        assert_eq!(shown("X=${A:-`b`} \"${C%.*}$1\" ''"), ["1: X=<$A:-`b`> <$C%.*><$1> "]);
        assert_eq!(shown("unclosed \"quote $( never"), ["1: unclosed quote <( never)>"]);
    }

    #[test]
    fn loops_functions_and_conditions() {
        assert_eq!(shown("A=(x 'y z'\n w)\necho"), ["1: A= x y z w", "3: echo"]);
        assert_eq!(
            shown("for t in a b *.db; do\n  dump $t\ndone\nwhile read x; do y; done < list"),
            ["1: for t: a b <*>.db", "2: dump <$t>", "done", "4: loop", "4: read x", "4: y", "done"]
        );
        assert_eq!(
            shown("fail() {\n echo x\n}\nif [[ -f a && -d b ]]; then c; elif ! d; then e; else f; fi"),
            ["function fail", "2: echo x", "4: [[ -f a -d b ]]", "4: c", "4: d", "4: e", "4: f"]
        );
        assert_eq!(shown("case \"$1\" in\n a|b) x;;\n*) y ;;\nesac\nz"), ["2: x", "3: y", "5: z"]);
        assert_eq!(shown("(cd /x; y) | z"), ["1: cd /x", "1: y", "1: z"]);
    }
}
