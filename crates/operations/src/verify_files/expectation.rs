//! Questions to a database that a dump was loaded into, and what their answers must be.
//!
//! Pure functions. Numbers are compared as numbers where both sides are, everything else as text.

use engines::Answer;
use serde_json::Value;
use std::cmp::Ordering;

/// A question, and what its answer must be.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// One statement that changes nothing.
    pub sql: String,
    /// What the first value of its first row must be.
    pub expected: Expectation,
}

/// What an answer must be.
#[derive(Debug, Clone, PartialEq)]
pub enum Expectation {
    /// There is a row, and its first value is neither null, nor 0, nor false, nor empty.
    Something,
    /// There is no row.
    NoRows,
    /// The first value stands so to this one.
    Compared(Comparison, String),
    /// The first value lies between these, or is one of them.
    Between(String, String),
}

/// How two values stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// They are the same.
    Equal,
    /// They are not.
    Different,
    /// The first is smaller.
    Less,
    /// The first is not larger.
    AtMost,
    /// The first is larger.
    More,
    /// The first is not smaller.
    AtLeast,
}

const SIGNS: [(&str, Comparison); 8] = [
    ("==", Comparison::Equal),
    ("!=", Comparison::Different),
    ("<>", Comparison::Different),
    ("<=", Comparison::AtMost),
    (">=", Comparison::AtLeast),
    ("=", Comparison::Equal),
    ("<", Comparison::Less),
    (">", Comparison::More),
];

impl Expectation {
    /// Reads `> 0`, `>= 10`, `= done`, `!= 0`, `10..20`, `no rows`, or a value alone.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let hint = || Err("write it as in '> 0', '= 12', '10..20', 'no rows', or a value".to_owned());
        if text.eq_ignore_ascii_case("no rows") {
            return Ok(Self::NoRows);
        }
        if let Some((sign, comparison)) = SIGNS.iter().find(|(sign, _)| text.starts_with(sign)) {
            return match text[sign.len()..].trim() {
                "" => hint(),
                value => Ok(Self::Compared(*comparison, value.to_owned())),
            };
        }
        match text.split_once("..") {
            Some((low, high)) => match (low.trim(), high.trim()) {
                ("", _) | (_, "") => hint(),
                (low, high) => Ok(Self::Between(low.to_owned(), high.to_owned())),
            },
            None if text.is_empty() => hint(),
            None => Ok(Self::Compared(Comparison::Equal, text.to_owned())),
        }
    }

    /// Holds an answer against it, and tells what came.
    pub(super) fn judge(&self, answer: &Answer) -> Result<String, String> {
        let first = answer.rows.first().map(|row| row.first().unwrap_or(&Value::Null));
        let came = match first {
            None => "no rows".to_owned(),
            Some(value) => shown(value),
        };
        let wanted = match self {
            Self::Something => "a value that is not null, 0, false or empty".to_owned(),
            Self::NoRows => "no rows".to_owned(),
            Self::Compared(comparison, value) => format!("{} {value}", comparison.sign()),
            Self::Between(low, high) => format!("{low}..{high}"),
        };
        let met = match (self, first) {
            (Self::NoRows, first) => first.is_none(),
            (_, None) => false,
            (Self::Something, Some(value)) => is_something(value),
            (_, Some(Value::Null)) => false,
            (Self::Compared(comparison, value), Some(_)) => comparison.holds(&came, value),
            (Self::Between(low, high), Some(_)) => {
                Comparison::AtLeast.holds(&came, low) && Comparison::AtMost.holds(&came, high)
            }
        };
        if met {
            Ok(format!("{came}, as expected ({wanted})"))
        } else {
            Err(format!("{came}, expected {wanted}"))
        }
    }
}

impl Comparison {
    fn sign(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::Different => "!=",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::More => ">",
            Self::AtLeast => ">=",
        }
    }

    /// A number and a text can be told apart, and not put in an order.
    fn holds(self, left: &str, right: &str) -> bool {
        let order = match (left.parse::<i128>(), right.parse::<i128>()) {
            (Ok(left), Ok(right)) => Some(left.cmp(&right)),
            _ => match (left.parse::<f64>(), right.parse::<f64>()) {
                (Ok(left), Ok(right)) => left.partial_cmp(&right),
                (Err(_), Err(_)) => Some(left.cmp(right)),
                _ => None,
            },
        };
        match self {
            Self::Equal => order == Some(Ordering::Equal),
            Self::Different => order != Some(Ordering::Equal),
            Self::Less => order == Some(Ordering::Less),
            Self::AtMost => order.is_some_and(Ordering::is_le),
            Self::More => order == Some(Ordering::Greater),
            Self::AtLeast => order.is_some_and(Ordering::is_ge),
        }
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn is_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty() && text.parse::<f64>() != Ok(0.0),
        Value::Array(_) | Value::Object(_) => true,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn answer(values: &[Value]) -> Answer {
        let rows = values.iter().map(|value| vec![value.clone()]).collect();
        Answer { columns: vec!["c".to_owned()], rows, truncated: false }
    }

    #[test]
    fn answers_are_held_against_what_was_expected() {
        let cases: &[(&str, Value, bool)] = &[
            ("> 0", 3.into(), true),
            ("> 0", 0.into(), false),
            (">= 3", "3.0".into(), true),
            ("= 12.50", "12.5".into(), true),
            ("12", 12.into(), true),
            ("!= 12", 12.into(), false),
            ("<> done", "open".into(), true),
            ("10..20", 20.into(), true),
            ("10..20", 21.into(), false),
            ("> 2026-01-01", "2026-01-05 12:00:00".into(), true),
            ("2026-01-01..2026-02-01", "2026-03-05".into(), false),
            ("> 0", "none".into(), false),
            ("!= 0", "none".into(), true),
            ("= true", true.into(), true),
            ("= NULL", Value::Null, false),
            ("!= 5", Value::Null, false),
            ("> 9007199254740992", 9_007_199_254_740_993_i64.into(), true),
            ("-5", (-5).into(), true),
            ("no rows", 1.into(), false),
        ];
        for (text, value, met) in cases {
            let expectation = Expectation::parse(text).unwrap();
            let judged = expectation.judge(&answer(std::slice::from_ref(value)));
            assert_eq!(judged.is_ok(), *met, "{text}: {judged:?}");
        }
        assert!(Expectation::NoRows.judge(&answer(&[])).is_ok());
        assert_eq!(
            Expectation::parse("> 0").unwrap().judge(&answer(&[])),
            Err("no rows, expected > 0".to_owned())
        );
        for nothing in [Value::Null, 0.into(), "".into(), false.into(), "0.00".into()] {
            assert!(Expectation::Something.judge(&answer(&[nothing])).is_err());
        }
        assert!(Expectation::Something.judge(&answer(&["x".into()])).is_ok());
        for wrong in ["", ">", "..5", "= "] {
            assert!(Expectation::parse(wrong).is_err(), "{wrong}");
        }
    }
}
