//! Records: what rows and index entries are made of, as SQLite reads and compares them.
//!
//! Numbers are brought to one form, since a table may keep as an integer what an index keeps as a floating-point number.

use super::Odd;
use super::page::varint;
use std::cmp::Ordering;

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

    fn length(&self) -> usize {
        match self.serial {
            0 | 8 | 9 => 0,
            1..=4 => self.serial as usize,
            5 => 6,
            6 | 7 => 8,
            serial => (serial as usize - 12) / 2,
        }
    }

    /// Returns the value; `None` where it does not lie wholly in `local`.
    pub(super) fn value<'a>(&self, local: &'a [u8]) -> Option<Value<'a>> {
        let at = self.at as usize;
        let bytes = local.get(at..at + self.length())?;
        Some(match self.serial {
            0 => Value::Null,
            8 => Value::Integer(0),
            9 => Value::Integer(1),
            7 => real(f64::from_be_bytes(bytes.try_into().ok()?)),
            1 => Value::Integer(i64::from(i8::from_be_bytes(bytes.try_into().ok()?))),
            2 => Value::Integer(i64::from(i16::from_be_bytes(bytes.try_into().ok()?))),
            4 => Value::Integer(i64::from(i32::from_be_bytes(bytes.try_into().ok()?))),
            3 | 5 | 6 => {
                let sign = if bytes[0] & 0x80 == 0 { 0 } else { -1 };
                Value::Integer(bytes.iter().fold(sign, |value, byte| value << 8 | i64::from(*byte)))
            }
            serial if serial % 2 == 0 => Value::Blob(bytes),
            _ => Value::Text(bytes),
        })
    }
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
    const ODD: Odd = Odd("a record's header does not fit its length");
    out.clear();
    let Some((header, mut next)) = varint(local, 0) else { return Ok(false) };
    if header > payload as u64 {
        return Err(ODD);
    }
    let header = header as usize;
    if header > local.len() {
        return Ok(false);
    }
    let mut at = header;
    while next < header {
        let (serial, length) = varint(local, next).ok_or(ODD)?;
        next += length;
        let serial = u32::try_from(serial).ok().filter(|serial| !matches!(serial, 10 | 11)).ok_or(ODD)?;
        let field = Field { serial, at: u32::try_from(at).map_err(|_| ODD)? };
        at += field.length();
        out.push(field);
    }
    if next != header || at != payload { Err(ODD) } else { Ok(true) }
}

impl Value<'_> {
    /// Appends the value such that different values have different bytes.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let (kind, bytes) = match self {
            Value::Null => return out.push(0),
            Value::Integer(number) => {
                out.push(1);
                return out.extend_from_slice(&number.to_le_bytes());
            }
            Value::Real(number) => {
                out.push(2);
                return out.extend_from_slice(&number.to_bits().to_le_bytes());
            }
            Value::Text(bytes) => (3, bytes),
            Value::Blob(bytes) => (4, bytes),
        };
        out.push(kind);
        out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        out.extend_from_slice(bytes);
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
