//! What a statement means for a restore, told by its first words: rows, rights, something about the database itself, or
//! something that reaches beyond it.
//!
//! Not a parser, and no fence: what a function does is not seen. It keeps what a tool writes, and what a person added in good
//! faith, from changing more than the database that is restored.

use super::lines::columns_of;
use super::setting::setting;
use crate::postgres::statements::{after_word, owner};

/// How much of a statement is shown.
const SHOWN_LETTERS: usize = 80;
/// How many of its first words are looked at.
const WORDS: usize = 6;
/// Limits of time are those of whoever restores.
const LIMITS: [&str; 5] = [
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "transaction_timeout",
    "idle_session_timeout",
];

/// What a statement means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::postgres) enum Meaning {
    /// Takes rows that follow it.
    Copy,
    Insert,
    /// Gives an object to a role.
    Owner,
    /// Gives or takes rights.
    Right,
    /// Acts as another role.
    Session,
    /// Names the encoding of the text.
    Encoding,
    /// Sets a limit of time.
    Limit,
    /// Sets something for what follows.
    Setting,
    /// Is about the database itself, whatever it is called.
    Database,
    Begin,
    End,
    Schema,
    /// Takes away what may not be there.
    Drop,
    /// A comment on an extension, which only its owner may write.
    ExtensionComment,
    /// May change rows in a way that does not show.
    Changes,
    /// Reaches beyond the database.
    Outside,
    Other,
}

/// Tells what a statement means.
pub(in crate::postgres) fn meaning(text: &str) -> Meaning {
    let words = first_words(text);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["COPY", ..] => match columns_of(text.as_bytes()) {
            Ok(_) => Meaning::Copy,
            Err(()) => Meaning::Outside,
        },
        ["INSERT", ..] => Meaning::Insert,
        ["CREATE" | "ALTER", "USER", "MAPPING", ..] => Meaning::Other,
        ["DROP", "USER", "MAPPING", ..] => Meaning::Drop,
        ["ALTER", "ROLE" | "USER", ..] if after_word(text, "DATABASE").is_some() => Meaning::Database,
        ["CREATE" | "ALTER" | "DROP", "ROLE" | "USER" | "GROUP" | "TABLESPACE" | "OWNED" | "SYSTEM", ..]
        | ["REASSIGN" | "LOAD", ..]
        | ["PREPARE", "TRANSACTION", ..]
        | ["COMMIT" | "ROLLBACK", "PREPARED", ..] => Meaning::Outside,
        ["CREATE" | "ALTER" | "DROP", "DATABASE", ..] => Meaning::Database,
        ["CREATE", "SCHEMA", ..] => Meaning::Schema,
        ["DROP", ..] => Meaning::Drop,
        ["ALTER", "DEFAULT", "PRIVILEGES", ..] => Meaning::Right,
        ["ALTER", ..] if owner(text).is_some() => Meaning::Owner,
        ["ALTER", ..] if after_word(text, "DROP").or(after_word(text, "DETACH")).is_some() => Meaning::Drop,
        ["GRANT" | "REVOKE", ..] => right(text),
        ["COMMENT", "ON", "EXTENSION", ..] => Meaning::ExtensionComment,
        ["COMMENT", ..] => about(text, Meaning::Other),
        ["SECURITY", "LABEL", ..] => about(text, Meaning::Other),
        ["SET" | "RESET", "SESSION", "AUTHORIZATION", ..] => Meaning::Session,
        ["SET", "NAMES", ..] => Meaning::Encoding,
        ["SET", ..] => set(text),
        ["RESET", ..] => Meaning::Setting,
        ["BEGIN", ..] | ["START", "TRANSACTION", ..] => Meaning::Begin,
        ["ROLLBACK", "TO", ..] => Meaning::Other,
        ["COMMIT" | "END" | "ROLLBACK" | "ABORT", ..] => Meaning::End,
        ["SELECT", function, ..] => match function.strip_prefix("PG_CATALOG.") {
            // What follows would be taken for another encoding than it is.
            Some("SET_CONFIG") if text.contains("client_encoding") => Meaning::Outside,
            Some("SET_CONFIG") => Meaning::Setting,
            Some("LO_UNLINK") => Meaning::Drop,
            Some(_) => Meaning::Other,
            None => Meaning::Changes,
        },
        [
            "SELECT" | "UPDATE" | "DELETE" | "TRUNCATE" | "MERGE" | "WITH" | "DO" | "CALL" | "EXECUTE"
            | "PREPARE",
            ..,
        ] => Meaning::Changes,
        _ => Meaning::Other,
    }
}

/// Returns the first words in capitals.
pub(super) fn first_words(text: &str) -> Vec<String> {
    let ends = |letter: char| letter.is_ascii_whitespace() || matches!(letter, '(' | ')' | ',' | ';' | '=');
    text.split(ends).filter(|word| !word.is_empty()).take(WORDS).map(str::to_ascii_uppercase).collect()
}

fn right(text: &str) -> Meaning {
    match after_word(text, "ON") {
        // Membership in a role.
        None => Meaning::Outside,
        Some(of) => match first_words(of).first().map(String::as_str) {
            Some("DATABASE") => Meaning::Database,
            Some("TABLESPACE" | "PARAMETER") => Meaning::Outside,
            _ => Meaning::Right,
        },
    }
}

fn about(text: &str, otherwise: Meaning) -> Meaning {
    let of = after_word(text, "ON").map(first_words).unwrap_or_default();
    match of.first().map(String::as_str) {
        Some("DATABASE") => Meaning::Database,
        Some("ROLE" | "TABLESPACE") => Meaning::Outside,
        _ => otherwise,
    }
}

fn set(text: &str) -> Meaning {
    if setting(text.as_bytes(), "client_encoding").is_some() {
        return Meaning::Encoding;
    }
    match LIMITS.iter().any(|name| setting(text.as_bytes(), name).is_some()) {
        true => Meaning::Limit,
        false => Meaning::Setting,
    }
}

/// Returns the beginning of a statement as a message may show it: without texts, which may be data or passwords, and
/// without the values of an `INSERT`.
pub(in crate::postgres) fn shown(statement: &[u8]) -> String {
    let head = String::from_utf8_lossy(&statement[..statement.len().min(4 * SHOWN_LETTERS)]);
    let (mut shown, mut letters) = (String::new(), head.chars().peekable());
    let is_insert = head.get(..6).is_some_and(|word| word.eq_ignore_ascii_case("INSERT"));
    while let Some(letter) = letters.next() {
        let count = shown.chars().count();
        if count >= SHOWN_LETTERS {
            shown.push('…');
            return shown;
        }
        match letter {
            '\'' => {
                let mut escaped = false;
                for inside in letters.by_ref() {
                    if inside == '\'' && !escaped {
                        break;
                    }
                    escaped = inside == '\\' && !escaped;
                }
                shown.push_str("'…'");
            }
            '$' if !shown.ends_with(|letter: char| letter.is_alphanumeric()) => {
                shown.push_str("$…");
                return shown;
            }
            letter if letter.is_whitespace() => {
                if !shown.ends_with(' ') {
                    shown.push(' ');
                }
                let upper = shown.to_ascii_uppercase();
                if is_insert && upper.ends_with(" VALUES ") {
                    shown.push('…');
                    return shown;
                }
            }
            letter => shown.push(letter),
        }
    }
    if statement.len() > head.len() {
        format!("{}…", shown.trim_end())
    } else {
        shown.trim_end().to_owned()
    }
}

/// Returns the table into which a `COPY` or an `INSERT` puts rows, as statements quote it, and what follows its name.
pub(in crate::postgres) fn filled(text: &str, meaning: Meaning) -> Option<(String, &str)> {
    let rest = match meaning {
        Meaning::Copy => text.get(4..)?,
        Meaning::Insert => {
            let rest = text.get(6..)?.trim_start();
            rest.get(..4).filter(|word| word.eq_ignore_ascii_case("INTO")).and_then(|_| rest.get(4..))?
        }
        _ => return None,
    };
    leading_relation(rest).map(|(quoted, _, behind)| (quoted, behind))
}

/// Returns the relation that stands at the beginning of a text: as statements quote it, and as a person writes it.
#[cfg(test)]
fn relation(text: &str) -> Option<(String, String)> {
    leading_relation(text).map(|(quoted, plain, _)| (quoted, plain))
}

fn leading_relation(text: &str) -> Option<(String, String, &str)> {
    let (mut quoted, mut plain, mut rest) = (String::new(), String::new(), text.trim_start());
    loop {
        let (name, behind) = match rest.strip_prefix('"') {
            Some(inside) => {
                let end = end_of_name(inside)?;
                (inside[..end].replace("\"\"", "\""), &inside[end + 1..])
            }
            None => {
                let end = rest
                    .find(|letter: char| !(letter.is_alphanumeric() || letter == '_' || letter == '$'))
                    .unwrap_or(rest.len());
                (rest[..end].to_lowercase(), &rest[end..])
            }
        };
        if name.is_empty() {
            return None;
        }
        quoted.push_str(&crate::postgres::statements::quoted(&name));
        plain.push_str(&name);
        match behind.strip_prefix('.') {
            Some(behind) => {
                quoted.push('.');
                plain.push('.');
                rest = behind;
            }
            None => return Some((quoted, plain, behind)),
        }
    }
}

fn end_of_name(inside: &str) -> Option<usize> {
    let bytes = inside.as_bytes();
    let mut at = 0;
    loop {
        at += memchr::memchr(b'"', &bytes[at..])?;
        if bytes.get(at + 1) != Some(&b'"') {
            return Some(at);
        }
        at += 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_told_by_their_first_words() {
        let cases = [
            ("COPY public.t (a) FROM stdin", Meaning::Copy),
            ("COPY t FROM '/etc/passwd'", Meaning::Outside),
            ("COPY t (a) TO PROGRAM 'sh'", Meaning::Outside),
            ("INSERT INTO t VALUES (1)", Meaning::Insert),
            ("CREATE ROLE x", Meaning::Outside),
            ("create user x", Meaning::Outside),
            ("CREATE USER MAPPING FOR x SERVER s", Meaning::Other),
            ("ALTER ROLE r IN DATABASE erp SET x TO '1'", Meaning::Database),
            ("ALTER ROLE r SET x TO '1'", Meaning::Outside),
            ("ALTER SYSTEM SET x = 1", Meaning::Outside),
            ("DROP DATABASE IF EXISTS erp", Meaning::Database),
            ("ALTER DATABASE erp OWNER TO x", Meaning::Database),
            ("GRANT CONNECT ON DATABASE erp TO x", Meaning::Database),
            ("GRANT a TO b", Meaning::Outside),
            ("GRANT SELECT ON TABLE t TO b", Meaning::Right),
            ("REVOKE ALL ON SCHEMA public FROM PUBLIC", Meaning::Right),
            ("ALTER DEFAULT PRIVILEGES FOR ROLE a GRANT SELECT ON TABLES TO b", Meaning::Right),
            ("ALTER TABLE public.t OWNER TO \"The b\"", Meaning::Owner),
            ("ALTER TABLE ONLY public.t DROP CONSTRAINT t_pkey", Meaning::Drop),
            ("ALTER TABLE ONLY public.t ADD CONSTRAINT t_pkey PRIMARY KEY (id)", Meaning::Other),
            ("DROP TABLE public.t", Meaning::Drop),
            ("COMMENT ON DATABASE erp IS 'x'", Meaning::Database),
            ("COMMENT ON EXTENSION plpgsql IS 'x'", Meaning::ExtensionComment),
            ("COMMENT ON ROLE x IS 'y'", Meaning::Outside),
            ("COMMENT ON TABLE t IS 'ON DATABASE'", Meaning::Other),
            ("SET SESSION AUTHORIZATION 'x'", Meaning::Session),
            ("SET client_encoding = 'LATIN1'", Meaning::Encoding),
            ("SET transaction_timeout = 0", Meaning::Limit),
            ("SET default_tablespace = ''", Meaning::Setting),
            ("SELECT pg_catalog.set_config('search_path', '', false)", Meaning::Setting),
            ("SELECT pg_catalog.setval('public.s', 3, true)", Meaning::Other),
            ("SELECT do_it()", Meaning::Changes),
            ("BEGIN", Meaning::Begin),
            ("COMMIT", Meaning::End),
            ("PREPARE TRANSACTION 'x'", Meaning::Outside),
            ("CREATE SCHEMA s", Meaning::Schema),
            ("CREATE TABLE t (a int)", Meaning::Other),
        ];
        for (text, expected) in cases {
            assert_eq!(meaning(text), expected, "{text}");
        }
    }

    #[test]
    fn neither_data_nor_passwords_are_shown() {
        let shown = |text: &str| shown(text.as_bytes());
        assert_eq!(shown("INSERT INTO t (a)\n VALUES (1234, 'x')"), "INSERT INTO t (a) VALUES …");
        assert_eq!(
            shown("CREATE USER MAPPING FOR x SERVER s OPTIONS (password 'it''s', user E'a\\'b')"),
            "CREATE USER MAPPING FOR x SERVER s OPTIONS (password '…''…', user E'…')"
        );
        assert_eq!(shown("CREATE FUNCTION f() AS $_$ SELECT 'secret' $_$"), "CREATE FUNCTION f() AS $…");
        assert_eq!(shown(&"x".repeat(500)), format!("{}…", "x".repeat(80)));
    }

    #[test]
    fn relations_are_read_with_their_schema() {
        let both = |text| relation(text).map(|(quoted, plain)| format!("{quoted} {plain}"));
        assert_eq!(both(" public.T (a)").as_deref(), Some("\"public\".\"t\" public.t"));
        assert_eq!(both("\"My s\".\"a\"\".b\"").as_deref(), Some("\"My s\".\"a\"\".b\" My s.a\".b"));
        assert_eq!(both("(a)"), None);
        assert_eq!(both("\"open"), None);
    }
}
