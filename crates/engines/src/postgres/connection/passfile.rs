//! Password files: `host:port:database:user:password`, the first line that fits (PostgreSQL documentation, 34.16).

use flow::Secret;

/// Returns the password of the first line that fits. A socket counts as `localhost` where its folder is the default
/// one, and by its folder otherwise.
pub(super) fn find(file: &str, host: &str, port: u16, database: &str, user: &str) -> Option<Secret> {
    let port = port.to_string();
    file.lines().find_map(|line| {
        if line.starts_with('#') {
            return None;
        }
        let mut rest = line;
        for wanted in [host, &port, database, user] {
            let (field, after) = field(rest)?;
            if field != "*" && unescaped(field) != wanted {
                return None;
            }
            rest = after;
        }
        // What comes after the fourth colon is the password, to the end of the line.
        Some(Secret::new(unescaped(rest)))
    })
}

/// Splits at the first colon that no backslash escapes.
fn field(text: &str) -> Option<(&str, &str)> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b':' => return Some((&text[..at], &text[at + 1..])),
            _ => {}
        }
    }
    None
}

fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => out.extend(letters.next()),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_line_that_fits_counts() {
        let file = "# comment\ndb1:5432:erp:anna:one\ndb1:*:*:anna:two\n*:*:*:o\\:b\\\\c:a\\:b:c\nlocalhost:5432:x:y:\n";
        let password = |host, port, database, user| {
            find(file, host, port, database, user).map(|secret| secret.expose().to_owned())
        };
        assert_eq!(password("db1", 5432, "erp", "anna").as_deref(), Some("one"));
        assert_eq!(password("db1", 5433, "erp", "anna").as_deref(), Some("two"));
        assert_eq!(password("any", 1, "db", "o:b\\c").as_deref(), Some("a:b:c"));
        assert_eq!(password("localhost", 5432, "x", "y").as_deref(), Some(""));
        assert_eq!(password("db2", 5432, "erp", "anna"), None);
    }
}
