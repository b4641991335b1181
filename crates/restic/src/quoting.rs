//! Text as Go writes it: quoted names, and JSON with Go's escapes.
//!
//! A folder's blob is named by the hash of its text, so the text must be the one that restic would write.

use crate::error::{ResticError, ResticErrorKind};
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter};
use std::io;

/// Quotes a name as Go's `strconv.Quote` does, without the quotes around it.
pub fn quote(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if is_printable(c) => out.push(c),
            c if (c as u32) < 0x1_0000 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push_str(&format!("\\U{:08x}", c as u32)),
        }
    }
    out
}

/// Tells whether Go shows a character as it is. Rust's `escape_debug` draws nearly the same line; spaces other than
/// the ASCII one are escaped by Go, and combining marks are not.
fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    if c.is_whitespace() || c.is_control() {
        return false;
    }
    // A character that Rust escapes only at the start of a text (a combining mark) is not escaped behind a letter.
    let text = ['a', c].iter().collect::<String>();
    text.escape_debug().count() == 2
}

/// Undoes [`quote`]. `None` where the text is not what `strconv.Quote` could have written. Bytes that are not UTF-8
/// come back as the replacement character.
pub fn unquote(text: &str) -> Option<String> {
    if !text.contains('\\') {
        return (!text.contains(['"', '\n'])).then(|| text.to_owned());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '"' || c == '\n' {
            return None;
        }
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        unescape(&mut chars, &mut out)?;
    }
    Some(String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
}

fn unescape(chars: &mut std::str::Chars<'_>, out: &mut Vec<u8>) -> Option<()> {
    let simple = match chars.next()? {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        '\\' => b'\\',
        '"' => b'"',
        'x' => u8::try_from(number(chars, 2, 16)?).ok()?,
        c @ '0'..='7' => {
            let rest = number(chars, 2, 8)?;
            u8::try_from(c.to_digit(8)? * 64 + rest).ok()?
        }
        c @ ('u' | 'U') => {
            let c = char::from_u32(number(chars, if c == 'u' { 4 } else { 8 }, 16)?)?;
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(());
        }
        _ => return None,
    };
    out.push(simple);
    Some(())
}

fn number(chars: &mut std::str::Chars<'_>, digits: usize, radix: u32) -> Option<u32> {
    (0..digits).try_fold(0u32, |sum, _| sum.checked_mul(radix)?.checked_add(chars.next()?.to_digit(radix)?))
}

/// Serialises as Go's `encoding/json` does: no spaces, and `<`, `>`, `&` and the two line separators escaped.
pub(crate) fn to_go_json<T: Serialize>(value: &T) -> Result<Vec<u8>, ResticError> {
    let mut out = Vec::with_capacity(256);
    write_go_json(value, &mut out)?;
    Ok(out)
}

/// Writes a value behind what is there already.
pub(crate) fn write_go_json<T: Serialize>(value: &T, out: &mut Vec<u8>) -> Result<(), ResticError> {
    let mut serializer = serde_json::Serializer::with_formatter(out, GoFormatter);
    value.serialize(&mut serializer).map_err(|error| {
        ResticError::new(ResticErrorKind::Failed, "JSON document", "cannot be written").with_source(error)
    })
}

struct GoFormatter;

impl Formatter for GoFormatter {
    fn write_string_fragment<W: io::Write + ?Sized>(&mut self, out: &mut W, text: &str) -> io::Result<()> {
        let mut from = 0;
        for (at, c) in text.char_indices() {
            let escape = match c {
                '<' => "\\u003c",
                '>' => "\\u003e",
                '&' => "\\u0026",
                '\u{2028}' => "\\u2028",
                '\u{2029}' => "\\u2029",
                _ => continue,
            };
            CompactFormatter.write_string_fragment(out, &text[from..at])?;
            out.write_all(escape.as_bytes())?;
            from = at + c.len_utf8();
        }
        CompactFormatter.write_string_fragment(out, &text[from..])
    }
}

/// A serde form for names.
pub(crate) mod as_go_quotes {
    use serde::{Deserialize, Deserializer, Serializer};

    #[allow(clippy::ptr_arg, reason = "serde passes the field")]
    pub(crate) fn serialize<S: Serializer>(name: &String, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::quote(name))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::unquote(&text)
            .ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not a quoted name")))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_quoted_as_go_does() {
        for (name, quoted) in [
            ("plain name.sql", "plain name.sql"),
            ("q\"b\\", "q\\\"b\\\\"),
            ("\x07\x08\x0c\n\r\t\x0b", "\\a\\b\\f\\n\\r\\t\\v"),
            ("\0\x1f\x7f", "\\x00\\x1f\\x7f"),
            ("größe 日本 🦀 e\u{301}", "größe 日本 🦀 e\u{301}"),
            ("\u{a0}\u{2028}\u{200b}\u{feff}\u{ad}", "\\u00a0\\u2028\\u200b\\ufeff\\u00ad"),
            ("\u{10ffff}\u{e000}\u{85}", "\\U0010ffff\\ue000\\u0085"),
            ("it's <&>", "it's <&>"),
        ] {
            assert_eq!(quote(name), quoted);
            assert_eq!(unquote(quoted).as_deref(), Some(name));
        }
    }

    #[test]
    fn what_go_cannot_have_written_is_refused() {
        for text in ["\"", "a\nb", "\\", "\\q", "\\x1", "\\xzz", "\\ud800", "\\U00110000", "\\400", "\\'"] {
            assert_eq!(unquote(text), None, "{text:?}");
        }
        assert_eq!(unquote("\\xff\\377").as_deref(), Some("\u{fffd}\u{fffd}"));
        assert_eq!(unquote("\\xc3\\xa4").as_deref(), Some("ä"));
    }

    #[test]
    fn json_is_escaped_as_go_does() {
        let json = to_go_json(&["<a & b>\u{2028}\"\\\n\u{1}ä"]).unwrap();
        assert_eq!(json, br#"["\u003ca \u0026 b\u003e\u2028\"\\\n\u0001"#.iter().chain("ä\"]".as_bytes()).copied().collect::<Vec<u8>>());
    }

    proptest! {
        #[test]
        fn every_name_survives(name in any::<String>()) {
            prop_assert_eq!(unquote(&quote(&name)), Some(name));
        }
    }
}
