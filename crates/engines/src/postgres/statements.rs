//! SQL as `pg_dump` and `pg_dumpall` write it, taken apart as far as a restore needs: single statements, the roles that
//! they name, the database that they are about.
//!
//! Not a parser: quotes, comments and brackets are respected, and what is between them is looked at word by word.

use std::ops::Range;

/// Returns a name for statements.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A piece of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// A word without quotes, as it is written.
    Word(String),
    /// A name in quotes, without them.
    Name(String),
    /// A text, a number, whatever else.
    Other,
    /// A single sign.
    Sign(char),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    piece: Piece,
    span: Range<usize>,
    /// How many brackets are open around it.
    depth: usize,
}

impl Token {
    fn is_word(&self, word: &str) -> bool {
        matches!(&self.piece, Piece::Word(own) if own.eq_ignore_ascii_case(word))
    }

    /// Returns the name that it is, folded as the server folds it.
    fn name(&self) -> Option<String> {
        match &self.piece {
            Piece::Word(word) => Some(word.to_lowercase()),
            Piece::Name(name) => Some(name.clone()),
            Piece::Other | Piece::Sign(_) => None,
        }
    }
}

/// Returns the end of what begins with a quote at `start`; quotes within are doubled, or escaped where that counts.
fn end_of_quote(text: &str, start: usize, quote: u8, escapes: bool) -> usize {
    let bytes = text.as_bytes();
    let mut at = start + 1;
    while at < bytes.len() {
        if escapes && bytes[at] == b'\\' {
            at += 2;
        } else if bytes[at] == quote {
            if bytes.get(at + 1) != Some(&quote) {
                return at + 1;
            }
            at += 2;
        } else {
            at += 1;
        }
    }
    bytes.len()
}

/// Returns the end of a text between `$tag$`s that begins at `start`, where it is one.
fn end_of_dollars(text: &str, start: usize) -> Option<usize> {
    let rest = &text[start + 1..];
    let length = rest.find('$')?;
    let tag = &rest[..length];
    if !tag.chars().all(|letter| letter.is_alphanumeric() || letter == '_')
        || tag.starts_with(|letter: char| letter.is_ascii_digit())
    {
        return None;
    }
    let mark = &text[start..start + length + 2];
    let inside = start + mark.len();
    Some(text[inside..].find(mark).map_or(text.len(), |at| inside + at + mark.len()))
}

fn tokens(text: &str) -> Vec<Token> {
    let bytes = text.as_bytes();
    let (mut found, mut at, mut depth) = (Vec::new(), 0, 0usize);
    while at < bytes.len() {
        let start = at;
        let byte = bytes[at];
        let is_letter =
            |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80;
        let piece = if byte.is_ascii_whitespace() {
            at += 1;
            continue;
        } else if text[at..].starts_with("--") {
            at += text[at..].find('\n').unwrap_or(text.len() - at);
            continue;
        } else if byte == b'\'' {
            let escapes = start > 0 && matches!(bytes[start - 1], b'E' | b'e');
            at = end_of_quote(text, at, b'\'', escapes);
            Piece::Other
        } else if byte == b'"' {
            at = end_of_quote(text, at, b'"', false);
            Piece::Name(text[start + 1..(at - 1).max(start + 1)].replace("\"\"", "\""))
        } else if byte == b'$'
            && let Some(end) = end_of_dollars(text, at)
        {
            at = end;
            Piece::Other
        } else if is_letter(byte) {
            while at < bytes.len() && is_letter(bytes[at]) {
                at += 1;
            }
            Piece::Word(text[start..at].to_owned())
        } else {
            at += 1;
            match byte {
                b'(' => depth += 1,
                b')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            Piece::Sign(char::from(byte))
        };
        found.push(Token { piece, span: start..at, depth });
    }
    found
}

/// Returns the statements of a script, each without its semicolon and what stands around it.
pub(super) fn statements(script: &str) -> Vec<&str> {
    let (mut found, mut start) = (Vec::new(), None);
    for token in tokens(script) {
        if token.piece == Piece::Sign(';') {
            if let Some(start) = start.take() {
                found.push(script[start..token.span.start].trim_end());
            }
        } else if start.is_none() {
            start = Some(token.span.start);
        }
    }
    found.extend(start.map(|start| script[start..].trim_end()));
    found
}

/// Returns the roles that a statement names, with their places: whom rights are given to or taken from, in whose name,
/// whom a policy or a mapping is for.
pub(super) fn roles(statement: &str) -> Vec<(Range<usize>, String)> {
    let all = tokens(statement);
    let outer: Vec<&Token> = all.iter().filter(|token| token.depth == 0).collect();
    let begins = |words: &[&str]| {
        words.len() <= outer.len() && words.iter().zip(&outer).all(|(word, token)| token.is_word(word))
    };
    let lists: &[&str] = if begins(&["GRANT"]) || begins(&["REVOKE"]) || begins(&["ALTER", "DEFAULT"]) {
        &["TO", "FROM", "BY", "ROLE"]
    } else if begins(&["CREATE", "POLICY"]) {
        &["TO"]
    } else if begins(&["SET", "SESSION"]) {
        &["AUTHORIZATION"]
    } else if begins(&["CREATE", "USER", "MAPPING"]) || begins(&["ALTER", "USER", "MAPPING"]) {
        &["FOR"]
    } else if begins(&["CREATE", "ROLE"]) || begins(&["ALTER", "ROLE"]) {
        &["ROLE"]
    } else {
        return Vec::new();
    };
    let is_policy = begins(&["CREATE", "POLICY"]);
    let mut found = Vec::new();
    let mut at = 0;
    while at < outer.len() {
        if is_policy && (outer[at].is_word("USING") || outer[at].is_word("WITH")) {
            break;
        }
        let opens = lists.iter().any(|word| outer[at].is_word(word));
        at += 1;
        while opens && at < outer.len() {
            let Some(name) = outer[at].name() else { break };
            let is_public = outer[at].is_word("PUBLIC") || outer[at].is_word("CURRENT_USER");
            if !is_public {
                found.push((outer[at].span.clone(), name));
            }
            at += 1;
            if outer.get(at).is_none_or(|token| token.piece != Piece::Sign(',')) {
                break;
            }
            at += 1;
        }
    }
    found
}

/// Returns a statement with some of its roles replaced.
pub(super) fn with_roles(statement: &str, replaced: impl Fn(&str) -> Option<String>) -> String {
    let mut text = statement.to_owned();
    for (span, name) in roles(statement).into_iter().rev() {
        if let Some(new) = replaced(&name) {
            text.replace_range(span, &quoted(&new));
        }
    }
    text
}

/// Returns a statement about a database with another name of it; `None` where it names none at its usual place:
/// `… DATABASE name`.
pub(super) fn for_database(statement: &str, name: &str) -> Option<String> {
    let all = tokens(statement);
    let at = all.iter().position(|token| token.depth == 0 && token.is_word("DATABASE"))?;
    let named = all.get(at + 1)?;
    named.name()?;
    let mut text = statement.to_owned();
    text.replace_range(named.span.clone(), &quoted(name));
    Some(text)
}

/// Returns the database that a statement is about; `None` where it names none at its usual place.
pub(super) fn database_of(statement: &str) -> Option<String> {
    let all = tokens(statement);
    let at = all.iter().position(|token| token.depth == 0 && token.is_word("DATABASE"))?;
    let rest = &all[at + 1..];
    match rest {
        [first, second, named, ..] if first.is_word("IF") && second.is_word("EXISTS") => named.name(),
        [named, ..] => named.name(),
        [] => None,
    }
}

/// Returns the role that a statement gives an object to, with its place: `ALTER … OWNER TO role`.
pub(super) fn owner(statement: &str) -> Option<(Range<usize>, String)> {
    let all = tokens(statement);
    let [first, .., owner, to, named] = &all[..] else { return None };
    let gives = first.is_word("ALTER") && owner.is_word("OWNER") && to.is_word("TO");
    let is_self = ["CURRENT_USER", "CURRENT_ROLE", "SESSION_USER"].iter().any(|word| named.is_word(word));
    named.name().filter(|_| gives && !is_self).map(|name| (named.span.clone(), name))
}

/// Returns a statement with another name for a relation, wherever it stands with its schema.
pub(super) fn with_relation(statement: &str, schema: &str, relation: &str, new: &str) -> String {
    let all = tokens(statement);
    let mut text = statement.to_owned();
    for three in all.windows(3).rev() {
        let [first, dot, last] = three else { continue };
        let is_it = dot.piece == Piece::Sign('.')
            && first.name().as_deref() == Some(schema)
            && last.name().as_deref() == Some(relation);
        if is_it {
            text.replace_range(last.span.clone(), &quoted(new));
        }
    }
    text
}

/// Returns what follows the first of a word outside of brackets and quotes.
pub(super) fn after_word<'a>(statement: &'a str, word: &str) -> Option<&'a str> {
    let token = tokens(statement).into_iter().find(|token| token.depth == 0 && token.is_word(word))?;
    Some(statement[token.span.end..].trim())
}

/// Returns what stands before the first of a word outside of brackets and quotes; all of it where there is none.
pub(super) fn before_word<'a>(statement: &'a str, word: &str) -> &'a str {
    let found = tokens(statement).into_iter().find(|token| token.depth == 0 && token.is_word(word));
    found.map_or(statement, |token| &statement[..token.span.start]).trim()
}

/// Returns the name that follows the first of a word.
pub(super) fn name_after(statement: &str, word: &str) -> Option<String> {
    let all = tokens(statement);
    let at = all.iter().position(|token| token.depth == 0 && token.is_word(word))?;
    let next = all.get(at + 1).filter(|token| token.piece != Piece::Sign('='));
    next.or_else(|| all.get(at + 2))?.name()
}

/// Returns a statement with another name behind the first of a word; `None` where none stands there.
pub(super) fn renamed_after(statement: &str, word: &str, new: &str) -> Option<String> {
    let all = tokens(statement);
    let at = all.iter().position(|token| token.depth == 0 && token.is_word(word))?;
    let named = all.get(at + 1)?;
    named.name()?;
    let mut text = statement.to_owned();
    text.replace_range(named.span.clone(), &quoted(new));
    Some(text)
}

/// Returns the names of a list in brackets: `("a", b)`.
pub(super) fn names_of(list: &str) -> Vec<String> {
    tokens(list).iter().filter_map(Token::name).collect()
}

/// Returns the names of the list in brackets that a text begins with; `None` where it begins with none, or that has no end.
pub(super) fn leading_names(text: &str) -> Option<Vec<String>> {
    let all = tokens(text);
    let (first, rest) = all.split_first()?;
    let end = rest.iter().position(|token| token.piece == Piece::Sign(')'))?;
    let names = rest[..end].iter().filter_map(Token::name);
    (first.piece == Piece::Sign('(')).then(|| names.collect())
}

/// Returns what a `SELECT pg_catalog.setval(…)` sets: the name as statements have it, the value, and whether that was given
/// out; `None` where the statement is another one.
pub(super) fn sequence_value(statement: &str) -> Option<(String, i64, bool)> {
    let call = after_word(statement, "setval")?.strip_prefix('(')?.trim_start();
    let escapes = call.starts_with(['E', 'e']);
    let text = if escapes { &call[1..] } else { call };
    let end = end_of_quote(text.starts_with('\'').then_some(text)?, 0, b'\'', escapes);
    let name = text.get(1..end - 1)?.replace("''", "'");
    let name = if escapes { name.replace("\\\\", "\\") } else { name };
    let rest = text[end..].trim_end().trim_end_matches(';').trim_end().strip_suffix(')')?;
    let mut values = rest.trim_start().strip_prefix(',')?.split(',').map(str::trim);
    let value = values.next()?.trim_matches('\'').parse().ok()?;
    let called = values.next().is_none_or(|called| called.trim_matches('\'').starts_with('t'));
    Some((name, value, called))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn names(statement: &str) -> Vec<String> {
        roles(statement).into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn a_script_falls_apart_at_its_semicolons() {
        let script =
            "-- a; b\nSET x = 'a;b''c';\nCREATE ROLE \"a;b\";\nDO $x$ ; $x$; SELECT E'\\';'  ;;  rest";
        assert_eq!(
            statements(script),
            ["SET x = 'a;b''c'", "CREATE ROLE \"a;b\"", "DO $x$ ; $x$", "SELECT E'\\';'", "rest"]
        );
        assert!(statements(" -- nothing\n").is_empty());
    }

    #[test]
    fn roles_are_found_where_they_stand() {
        assert_eq!(
            names("GRANT SELECT(id),UPDATE(\"to\") ON TABLE s.t TO reader WITH GRANT OPTION"),
            ["reader"]
        );
        assert_eq!(names("REVOKE ALL ON FUNCTION f(a text, from_x int) FROM PUBLIC"), Vec::<String>::new());
        assert_eq!(names("GRANT a TO \"The b\", C GRANTED BY postgres"), ["The b", "c", "postgres"]);
        assert_eq!(
            names("ALTER DEFAULT PRIVILEGES FOR ROLE owner IN SCHEMA s GRANT SELECT ON TABLES TO reader"),
            ["owner", "reader"]
        );
        assert_eq!(
            names("CREATE POLICY p ON s.t FOR SELECT TO a, b USING ((x = ANY (SELECT y FROM z)))"),
            ["a", "b"]
        );
        assert_eq!(names("CREATE USER MAPPING FOR u SERVER s OPTIONS (password 'x')"), ["u"]);
        assert_eq!(names("SET SESSION AUTHORIZATION boss"), ["boss"]);
        assert_eq!(names("SELECT a FROM b"), Vec::<String>::new());
        let mapped =
            with_roles("GRANT ALL ON SCHEMA s TO old, other", |role| (role == "old").then(|| "New".into()));
        assert_eq!(mapped, "GRANT ALL ON SCHEMA s TO \"New\", other");
    }

    #[test]
    fn a_relation_gets_another_name() {
        let statement = "ALTER TABLE ONLY s.\"My t\" ALTER COLUMN a SET DEFAULT nextval('s.My t'), ADD CHECK (s.f(t) > 0)";
        assert_eq!(
            with_relation(statement, "s", "My t", "new"),
            "ALTER TABLE ONLY s.\"new\" ALTER COLUMN a SET DEFAULT nextval('s.My t'), ADD CHECK (s.f(t) > 0)"
        );
        assert_eq!(
            with_relation("CREATE TABLE s.t (a s.t2)", "s", "t", "n"),
            "CREATE TABLE s.\"n\" (a s.t2)"
        );
    }

    #[test]
    fn a_name_is_replaced_behind_its_word() {
        assert_eq!(
            renamed_after("CREATE UNIQUE INDEX \"my i\" ON s.t (a)", "INDEX", "n").unwrap(),
            "CREATE UNIQUE INDEX \"n\" ON s.t (a)"
        );
        assert_eq!(
            renamed_after("ALTER TABLE ONLY s.t ADD CONSTRAINT t_pkey PRIMARY KEY (id)", "CONSTRAINT", "n")
                .unwrap(),
            "ALTER TABLE ONLY s.t ADD CONSTRAINT \"n\" PRIMARY KEY (id)"
        );
        assert_eq!(renamed_after("SELECT 1", "INDEX", "n"), None);
        assert_eq!(names_of("(\"a, b\", c, \"d\"\"\")"), ["a, b", "c", "d\""]);
    }

    #[test]
    fn lists_and_values_are_read() {
        assert_eq!(leading_names(" (a, \"b)\", C) VALUES (1").unwrap(), ["a", "b)", "c"]);
        assert_eq!(leading_names("VALUES (1)"), None);
        assert_eq!(leading_names("(a, b"), None);
        let value = |text| sequence_value(text).unwrap();
        assert_eq!(
            value("SELECT pg_catalog.setval('public.s', 5, true);\n"),
            ("public.s".to_owned(), 5, true)
        );
        assert_eq!(
            value("SELECT pg_catalog.setval('\"My s\".\"it''s\"', -5, false)"),
            ("\"My s\".\"it's\"".to_owned(), -5, false)
        );
        assert_eq!(sequence_value("SELECT pg_catalog.lo_create('5')"), None);
    }

    #[test]
    fn the_database_of_a_statement_is_replaced() {
        let new = |statement| for_database(statement, "b\"c").unwrap();
        assert_eq!(new("ALTER DATABASE erp SET x TO 'erp'"), "ALTER DATABASE \"b\"\"c\" SET x TO 'erp'");
        assert_eq!(
            new("ALTER ROLE r IN DATABASE \"E r\" SET x TO '1'"),
            "ALTER ROLE r IN DATABASE \"b\"\"c\" SET x TO '1'"
        );
        assert_eq!(new("GRANT CONNECT ON DATABASE erp TO r"), "GRANT CONNECT ON DATABASE \"b\"\"c\" TO r");
        assert_eq!(for_database("SELECT 1", "x"), None);
        assert_eq!(after_word("COMMENT ON DATABASE erp IS 'is IS it'", "IS"), Some("'is IS it'"));
        let create = "CREATE DATABASE erp WITH TEMPLATE = template0 TABLESPACE = \"fast one\"";
        assert_eq!(name_after(create, "TABLESPACE"), Some("fast one".to_owned()));
        assert_eq!(after_word(create, "WITH"), Some("TEMPLATE = template0 TABLESPACE = \"fast one\""));
    }
}
