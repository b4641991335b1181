//! How status lines, warnings and errors are said: the least level, and the format of a line, as tools for folders of dump
//! files have them (`%(asctime)s - %(levelname)s - %(message)s`).
//!
//! Pure functions; what a format asks for and nobody knows is an error when it is read, never a hole in a line.

use jiff::Zoned;

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// What only a person who asked for more wants to know.
    Debug,
    /// Status.
    Info,
    /// Warnings.
    Warning,
    /// Errors.
    Error,
}

impl LogLevel {
    /// Reads a level by its name, in capitals or not.
    pub fn parse(text: &str) -> Result<Self, LogProblem> {
        match text.trim().to_ascii_uppercase().as_str() {
            "DEBUG" => Ok(Self::Debug),
            "INFO" => Ok(Self::Info),
            "WARNING" | "WARN" => Ok(Self::Warning),
            "ERROR" | "CRITICAL" | "FATAL" => Ok(Self::Error),
            _ => Err(LogProblem {
                message: format!("there is no level \"{text}\""),
                hint: "write DEBUG, INFO, WARNING or ERROR".to_owned(),
            }),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
        }
    }

    fn number(self) -> u32 {
        match self {
            Self::Debug => 10,
            Self::Info => 20,
            Self::Warning => 30,
            Self::Error => 40,
        }
    }
}

/// Why a level or a format cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogProblem {
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: String,
}

/// The format of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFormat(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field { field: Field, left: bool, zeros: bool, width: usize, precision: Option<usize>, kind: char },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Time,
    Created,
    Milliseconds,
    Level,
    LevelNumber,
    Name,
    Message,
    Process,
}

const FIELDS: [(&str, Field); 8] = [
    ("asctime", Field::Time),
    ("created", Field::Created),
    ("msecs", Field::Milliseconds),
    ("levelname", Field::Level),
    ("levelno", Field::LevelNumber),
    ("name", Field::Name),
    ("message", Field::Message),
    ("process", Field::Process),
];

/// No column is wider.
const WIDTH_MAX: usize = 200;

impl LogFormat {
    /// Reads a format: text, `%%`, and fields as in `%(levelname)-8s`.
    pub fn parse(text: &str) -> Result<Self, LogProblem> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            plain.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                plain.push('%');
                rest = after;
                continue;
            }
            let (piece, after) = field(rest)?;
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(piece);
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        let format = Self(pieces);
        if !format.has(Field::Message) {
            return Err(LogProblem {
                message: "the format has no %(message)s: nothing would be said".to_owned(),
                hint: "write it as in \"%(asctime)s - %(levelname)s - %(message)s\"".to_owned(),
            });
        }
        Ok(format)
    }

    /// Tells whether a line says its level by itself.
    pub fn says_level(&self) -> bool {
        self.has(Field::Level) || self.has(Field::LevelNumber)
    }

    fn has(&self, wanted: Field) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Field { field, .. } if *field == wanted))
    }

    /// Returns a line.
    pub fn line(&self, level: LogLevel, message: &str, now: &Zoned) -> String {
        let mut line = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => line.push_str(text),
                Piece::Field { field, left, zeros, width, precision, kind } => {
                    let mut text = value(*field, *kind, *precision, (level, message), now);
                    if let (Some(most), 's') = (precision, kind) {
                        text = text.chars().take(*most).collect();
                    }
                    let missing = width.saturating_sub(text.chars().count());
                    let filling = if *zeros && *kind != 's' && !left { "0" } else { " " };
                    match left {
                        true => line.push_str(&format!("{text}{}", " ".repeat(missing))),
                        false => line.push_str(&format!("{}{text}", filling.repeat(missing))),
                    }
                }
            }
        }
        line
    }
}

fn value(
    field: Field,
    kind: char,
    precision: Option<usize>,
    (level, message): (LogLevel, &str),
    now: &Zoned,
) -> String {
    let milliseconds = now.timestamp().subsec_millisecond();
    let number = |number: i64| match kind {
        'f' => format!("{number}.{}", "0".repeat(precision.unwrap_or(6))),
        _ => number.to_string(),
    };
    match field {
        Field::Time => format!("{},{milliseconds:03}", now.strftime("%Y-%m-%d %H:%M:%S")),
        Field::Created if kind == 'd' => now.timestamp().as_second().to_string(),
        Field::Created => {
            let seconds = now.timestamp().as_microsecond() as f64 / 1e6;
            format!("{seconds:.*}", precision.filter(|_| kind == 'f').unwrap_or(6))
        }
        Field::Milliseconds => number(milliseconds.into()),
        Field::Level => level.name().to_owned(),
        Field::LevelNumber => number(level.number().into()),
        Field::Name => "backstay".to_owned(),
        Field::Message => message.to_owned(),
        Field::Process => number(std::process::id().into()),
    }
}

/// Reads what follows a `%`.
fn field(text: &str) -> Result<(Piece, &str), LogProblem> {
    let known = || FIELDS.map(|(name, _)| name).join(", ");
    let wrong = |message: String| LogProblem {
        message,
        hint: format!("write %% for a %, and fields as in %(levelname)-8s; there are: {}", known()),
    };
    let after = text.strip_prefix('(').and_then(|text| text.split_once(')'));
    let Some((name, mut rest)) = after else {
        return Err(wrong("the format has a % that begins no field".to_owned()));
    };
    let Some((_, field)) = FIELDS.iter().find(|(known, _)| *known == name) else {
        return Err(wrong(format!("the format asks for %({name})s, which nobody knows")));
    };
    let (mut left, mut zeros) = (false, false);
    while let Some(flag) = rest.chars().next().filter(|letter| ['-', '0', ' ', '+', '#'].contains(letter)) {
        left |= flag == '-';
        zeros |= flag == '0';
        rest = &rest[1..];
    }
    let mut number = || -> Option<usize> {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (text, after) = rest.split_at(digits);
        rest = after;
        text.parse().ok()
    };
    let width = number().unwrap_or(0);
    let precision = match rest.strip_prefix('.') {
        None => None,
        Some(after) => {
            let digits = after.bytes().take_while(u8::is_ascii_digit).count();
            rest = &after[digits..];
            Some(after[..digits].parse().unwrap_or(0))
        }
    };
    let is_text = matches!(field, Field::Time | Field::Level | Field::Name | Field::Message);
    let kind = match rest.chars().next() {
        Some('s') => 's',
        Some('d' | 'i') if !is_text => 'd',
        Some('f') if !is_text => 'f',
        _ => return Err(wrong(format!("the field %({name}) does not end with its kind, as in %({name})s"))),
    };
    if width > WIDTH_MAX || precision.is_some_and(|precision| precision > WIDTH_MAX) {
        return Err(wrong(format!("the field %({name}) is wider than {WIDTH_MAX}")));
    }
    Ok((Piece::Field { field: *field, left, zeros, width, precision, kind }, &rest[1..]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn line(format: &str) -> String {
        let now: Zoned = "2026-01-05T12:00:00.0425+01:00[Europe/Berlin]".parse().unwrap();
        LogFormat::parse(format).unwrap().line(LogLevel::Warning, "late", &now)
    }

    #[test]
    fn lines_are_as_folder_tools_write_them() {
        assert_eq!(
            line("%(asctime)s - %(levelname)s - %(message)s"),
            "2026-01-05 12:00:00,042 - WARNING - late"
        );
        assert_eq!(line("[%(levelname)-9s] %(name)s: %(message)s"), "[WARNING  ] backstay: late");
        assert_eq!(line("%(levelname)9s %(levelname).4s %(message)s 5 %%"), "  WARNING WARN late 5 %");
        assert_eq!(line("%(msecs)03d %(levelno)s %(message)s"), "042 30 late");
        assert_eq!(line("%(created).1f %(created)d %(message)s"), "1767610800.0 1767610800 late");
        assert_eq!(line("%(process)d %(message)s"), format!("{} late", std::process::id()));
    }

    #[test]
    fn what_nobody_knows_is_an_error() {
        for (format, words) in [
            ("%(thread)s %(message)s", "%(thread)s"),
            ("%(asctime)s", "no %(message)s"),
            ("%s %(message)s", "begins no field"),
            ("%(message)d", "its kind"),
            ("%(message)", "its kind"),
            ("%(message", "begins no field"),
            ("100% %(message)s", "begins no field"),
            ("%(levelname)900s %(message)s", "wider"),
        ] {
            let problem = LogFormat::parse(format).unwrap_err();
            assert!(problem.message.contains(words), "{format}: {problem:?}");
        }
        assert_eq!(LogLevel::parse("warn"), Ok(LogLevel::Warning));
        assert!(LogLevel::parse("loud").is_err());
    }
}
