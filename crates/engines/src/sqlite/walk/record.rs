//! Records: what rows and index entries are made of, as SQLite reads and compares them.
//!
//! Numbers are brought to one form, since a table may keep as an integer what an index keeps as a floating-point number.

use super::Odd;
use super::page::varint;
use std::cmp::Ordering;
use std::hash::Hasher;

/// Storage classes, as bits.
pub(super) const INTEGER: u8 = 1;
pub(super) const REAL: u8 = 2;
pub(super) const TEXT: u8 = 4;
pub(super) const BLOB: u8 = 8;
pub(super) const NULL: u8 = 16;

/// Where a value lies in its record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    serial: u32,
    at: u32,
}

/// A value. A real number that is a whole one is an [`Value::Integer`], and one that is none (NaN) is [`Value::Null`].
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Null,
    Integer(i64),
    Real(f64),
    Text(&'a [u8]),
    Blob(&'a [u8]),
}

/// How texts compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Collation {
    Binary,
    NoCase,
    RightTrim,
}

impl Field {
    /// Returns the storage class.
    pub(super) fn class(&self) -> u8 {
        match self.serial {
            0 => NULL,
            7 => REAL,
            1..=9 => INTEGER,
            serial if serial % 2 == 0 => BLOB,
            _ => TEXT,
        }
    }

    /// Returns the value; `None` where it does not lie wholly in `local`.
    pub(super) fn value<'a>(&self, local: &'a [u8]) -> Option<Value<'a>> {
        let at = self.at as usize;
        Some(value(self.serial, local.get(at..at + length(self.serial))?))
    }
}

/// How many bytes the values of the first serial types take.
const LENGTHS: [u8; 12] = [0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0];

fn length(serial: u32) -> usize {
    match LENGTHS.get(serial as usize) {
        Some(length) => usize::from(*length),
        None => (serial as usize - 12) / 2,
    }
}

/// Returns the value of a serial type, whose length `bytes` has.
fn value(serial: u32, bytes: &[u8]) -> Value<'_> {
    Value::Integer(match (serial, bytes) {
        (0, _) => return Value::Null,
        (1, &[a]) => i64::from(a as i8),
        (2, &[a, b]) => i64::from(i16::from_be_bytes([a, b])),
        (3, &[a, b, c]) => i64::from(i32::from_be_bytes([a, b, c, 0]) >> 8),
        (4, &[a, b, c, d]) => i64::from(i32::from_be_bytes([a, b, c, d])),
        (5, &[a, b, c, d, e, f]) => i64::from_be_bytes([a, b, c, d, e, f, 0, 0]) >> 16,
        (6, &[a, b, c, d, e, f, g, h]) => i64::from_be_bytes([a, b, c, d, e, f, g, h]),
        (7, &[a, b, c, d, e, f, g, h]) => return real(f64::from_be_bytes([a, b, c, d, e, f, g, h])),
        (8, _) => 0,
        (9, _) => 1,
        (serial, bytes) if serial % 2 == 0 => return Value::Blob(bytes),
        (_, bytes) => return Value::Text(bytes),
    })
}

fn real(number: f64) -> Value<'static> {
    // 2^63, the first that is no integer any more.
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if number.is_nan() {
        Value::Null
    } else if number.fract() == 0.0 && (-LIMIT..LIMIT).contains(&number) {
        Value::Integer(number as i64)
    } else {
        Value::Real(number)
    }
}

/// Lists the fields of a record of `payload` bytes that begins with `local`. `Ok(false)` where its header goes on
/// elsewhere.
pub(super) fn fields(local: &[u8], payload: usize, out: &mut Vec<Field>) -> Result<bool, Odd> {
    out.clear();
    each_field(local, payload, |field| out.push(field))
}

/// Lists the values of a record that is all in `local`. `Ok(false)` where it is not, or where the last one is not stored
/// as an integer, as a row number is.
pub(super) fn values<'a>(local: &'a [u8], payload: usize, out: &mut Vec<Value<'a>>) -> Result<bool, Odd> {
    out.clear();
    let mut last = 0;
    let is_whole = local.len() == payload;
    let is_listed = each_field(local, payload, |field| {
        last = field.class();
        // Beyond the end only where the record is odd, which is told at its end.
        out.extend(field.value(local));
    })?;
    Ok(is_whole && is_listed && last == INTEGER)
}

fn each_field(local: &[u8], payload: usize, mut found: impl FnMut(Field)) -> Result<bool, Odd> {
    const ODD: Odd = Odd("a record's header does not fit its length");
    let Some((header, next)) = varint(local, 0) else { return Ok(false) };
    if header > payload as u64 {
        return Err(ODD);
    }
    let header = header as usize;
    let Some(mut serials) = local.get(next.min(header)..header) else { return Ok(false) };
    let mut at = header;
    while let [first, rest @ ..] = serials {
        let mut serial = u32::from(*first);
        serials = rest;
        if serial >= 0x80 {
            // The header ends where it says, in the middle of a number too.
            let (number, length) = varint(local, header - serials.len() - 1).ok_or(ODD)?;
            serials = serials.get(length - 1..).ok_or(ODD)?;
            serial = u32::try_from(number).map_err(|_| ODD)?;
        }
        if matches!(serial, 10 | 11) {
            return Err(ODD);
        }
        found(Field { serial, at: u32::try_from(at).map_err(|_| ODD)? });
        at += length(serial);
    }
    if next > header || at != payload { Err(ODD) } else { Ok(true) }
}

impl Value<'_> {
    /// Adds the value to a hash, such that different rows of values are different to it.
    pub(super) fn hash(&self, hasher: &mut impl Hasher) {
        let (kind, bytes) = match self {
            Value::Null => return hasher.write_u128(0),
            Value::Integer(number) => return hasher.write_u128(1 << 64 | u128::from(*number as u64)),
            Value::Real(number) => return hasher.write_u128(2 << 64 | u128::from(number.to_bits())),
            Value::Text(bytes) => (3, bytes),
            Value::Blob(bytes) => (4, bytes),
        };
        hasher.write_u128(kind << 64 | bytes.len() as u128);
        hasher.write(bytes);
    }

    fn rank(&self) -> u8 {
        match self {
            Value::Null => 0,
            Value::Integer(_) | Value::Real(_) => 1,
            Value::Text(_) => 2,
            Value::Blob(_) => 3,
        }
    }

    /// Compares as SQLite does.
    pub(super) fn compare(&self, other: &Value<'_>, collation: Collation) -> Ordering {
        match (self, other) {
            (Value::Integer(left), Value::Integer(right)) => left.cmp(right),
            (Value::Text(left), Value::Text(right)) => collation.compare(left, right),
            (Value::Blob(left), Value::Blob(right)) => left.cmp(right),
            (Value::Real(left), Value::Real(right)) => left.total_cmp(right),
            (Value::Integer(left), Value::Real(right)) => whole_and_real(*left, *right),
            (Value::Real(left), Value::Integer(right)) => whole_and_real(*right, *left).reverse(),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

/// Compares an integer with a real number that is none: it has a fraction, or lies beyond all of them.
fn whole_and_real(whole: i64, real: f64) -> Ordering {
    // Beyond the range this gives the end of it, whose order is the right one.
    let below = real.floor();
    if below >= i64::MAX as f64 {
        Ordering::Less
    } else if below < i64::MIN as f64 {
        Ordering::Greater
    } else if whole <= below as i64 {
        Ordering::Less
    } else {
        Ordering::Greater
    }
}

impl Collation {
    fn compare(self, left: &[u8], right: &[u8]) -> Ordering {
        match self {
            Collation::Binary => left.cmp(right),
            Collation::NoCase => without_case(left, right),
            Collation::RightTrim => trimmed(left).cmp(trimmed(right)),
        }
    }
}

/// A text that ends early by a zero byte is compared by its length from there on, as SQLite does it.
fn without_case(left: &[u8], right: &[u8]) -> Ordering {
    for (a, b) in left.iter().zip(right) {
        match a.to_ascii_lowercase().cmp(&b.to_ascii_lowercase()) {
            Ordering::Equal if *a == 0 => break,
            Ordering::Equal => {}
            order => return order,
        }
    }
    left.len().cmp(&right.len())
}

fn trimmed(mut text: &[u8]) -> &[u8] {
    while let [rest @ .., b' '] = text {
        text = rest;
    }
    text
}

/// Tells whether SQLite might take a text for a number: rather once too often.
pub(super) fn may_be_number(text: &[u8]) -> bool {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r');
    let start = text.iter().position(|byte| !is_space(byte)).unwrap_or(text.len());
    let text = &text[start..];
    let text = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+")).unwrap_or(text);
    let digits = text.iter().filter(|byte| byte.is_ascii_digit());
    if digits.clone().count() == 0 {
        return false;
    }
    let end = text.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.').unwrap_or(text.len());
    match text.get(end) {
        None | Some(b'e' | b'E' | 0) => true,
        Some(byte) => is_space(byte) && text[end..].iter().all(|byte| is_space(byte) || *byte == 0),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rusqlite::Connection;

    #[test]
    fn what_sqlite_takes_for_a_number_is_always_suspected() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE t(v NUMERIC)").unwrap();
        let pieces =
            ["", " ", "1", "23", ".", "-", "+", "e", "E5", "\t", "x", "0x1", "_", "\u{b}", "-01", "\0"];
        for a in pieces {
            for b in pieces {
                for c in pieces {
                    let text = format!("{a}{b}{c}");
                    let kind: String = connection
                        .query_row("INSERT INTO t VALUES (?1) RETURNING typeof(v)", [&text], |row| row.get(0))
                        .unwrap();
                    assert!(kind == "text" || may_be_number(text.as_bytes()), "{text:?} is {kind}");
                }
            }
        }
        for date in ["2024-01-01", "2024-01-01 10:00:00", "12:30", "1 piece", ""] {
            assert!(!may_be_number(date.as_bytes()), "{date}");
        }
    }

    #[test]
    fn values_compare_as_in_sqlite() {
        let connection = Connection::open_in_memory().unwrap();
        let texts = [
            "NULL",
            "0",
            "-1",
            "1.5",
            "-1.5",
            "9223372036854775807",
            "-9223372036854775808",
            "9.3e18",
            "-9.3e18",
            "9007199254740993",
            "9007199254740992.0",
            "0.1",
            "'a'",
            "'A'",
            "'a '",
            "''",
            "'ab'",
            "x''",
            "x'00'",
            "1e999",
            "-1e999",
            "9223372036854774784.0",
            "3",
            "2.9999999999999996",
        ];
        for left in texts {
            for right in texts {
                for (collation, name) in [
                    (Collation::Binary, "BINARY"),
                    (Collation::NoCase, "NOCASE"),
                    (Collation::RightTrim, "RTRIM"),
                ] {
                    let read = |text: &str| {
                        let query = format!("SELECT {text}");
                        connection
                            .query_row(&query, [], |row| row.get::<_, rusqlite::types::Value>(0))
                            .unwrap()
                    };
                    let (l, r) = (read(left), read(right));
                    let ours = value(&l).compare(&value(&r), collation);
                    // Sorted, not compared: NULL has its place in an index.
                    let query = format!(
                        "SELECT group_concat(place) FROM (SELECT place FROM (SELECT 1 AS place, {left} AS v UNION ALL
                         SELECT 2, {right}) ORDER BY v COLLATE {name}, place)"
                    );
                    let forward: String = connection.query_row(&query, [], |row| row.get(0)).unwrap();
                    let back: String = connection
                        .query_row(&query.replace(", place)", ", place DESC)"), [], |row| row.get(0))
                        .unwrap();
                    let sqlite = match (forward.as_str(), back.as_str()) {
                        ("1,2", "1,2") => Ordering::Less,
                        ("2,1", "2,1") => Ordering::Greater,
                        _ => Ordering::Equal,
                    };
                    assert_eq!(ours, sqlite, "{left} and {right} by {name}");
                }
            }
        }
    }

    fn value(value: &rusqlite::types::Value) -> Value<'_> {
        use rusqlite::types::Value as Sql;
        match value {
            Sql::Null => Value::Null,
            Sql::Integer(number) => Value::Integer(*number),
            Sql::Real(number) => real(*number),
            Sql::Text(text) => Value::Text(text.as_bytes()),
            Sql::Blob(bytes) => Value::Blob(bytes),
        }
    }
}
