//! What the words of a script come to: variables put in, `$(date …)` as a moment, the variable of a loop as a tenant. What
//! only a run would tell stays unknown, and says what it depends on.

use super::shell::{self, Event, Piece, Word, literal};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A part of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    Wild(char),
    /// A moment: whether in UTC.
    Time(bool),
    /// The value of the innermost loop's variable, without its folder and its ending where that is said.
    Tenant,
    /// What it depends on.
    Unknown(String),
}

pub(super) type Value = Vec<Part>;

/// What is known of the machine on which a script runs.
#[derive(Debug, Clone, Default)]
pub struct ScriptPlace {
    /// The script; `None` where its text came from elsewhere.
    pub file: Option<PathBuf>,
    /// The home of the user whose it is.
    pub home: Option<PathBuf>,
    /// That user.
    pub user: String,
    /// The machine.
    pub host: String,
}

/// The variables of a script, as far as it was read.
pub(super) struct Variables<'a> {
    pub(super) known: BTreeMap<String, Value>,
    pub(super) place: &'a ScriptPlace,
    /// The variables of the loops around, outermost first.
    pub(super) loops: Vec<Option<String>>,
    /// The working folder, where the script says one.
    pub(super) folder: Option<PathBuf>,
}

impl Variables<'_> {
    /// Returns what the variables hold whose names say that it is secret.
    pub(super) fn secrets(&self) -> impl Iterator<Item = String> + '_ {
        let is_secret = |name: &str| {
            let name = name.to_ascii_uppercase();
            ["PASS", "SECRET", "TOKEN", "KEY", "PWD"].iter().any(|word| name.contains(word))
        };
        let values = self.known.iter().filter(move |(name, _)| is_secret(name));
        values.filter_map(|(_, value)| text_of(value)).filter(|text| text.len() > 3)
    }

    /// Returns what a word comes to.
    pub(super) fn expand(&self, word: &Word) -> Value {
        let mut value = Vec::new();
        for piece in word {
            match piece {
                Piece::Text(text) => value.push(Part::Text(text.clone())),
                Piece::Wild(letter) => value.push(Part::Wild(*letter)),
                Piece::Variable(name, rest) => value.extend(self.variable(name, rest)),
                Piece::Command(text) => value.push(self.command(text)),
            }
        }
        if let (Some(Part::Text(first)), Some(home)) = (value.first_mut(), &self.place.home)
            && let Some(rest) = first.strip_prefix("~/")
        {
            *first = format!("{}/{rest}", home.display());
        }
        joined(value)
    }

    fn variable(&self, name: &str, rest: &str) -> Value {
        let unknown = || vec![Part::Unknown(format!("${name}"))];
        if self.loops.iter().any(|own| own.as_deref() == Some(name)) {
            let innermost = self.loops.iter().rev().flatten().next().map(String::as_str) == Some(name);
            let plain = rest.is_empty() || ["%.*", "%.db", "%.sqlite", "##*/"].contains(&rest);
            return if innermost && plain { vec![Part::Tenant] } else { unknown() };
        }
        let rest = if ["[@]", "[*]"].contains(&rest) { "" } else { rest };
        let default = || {
            let text = rest.strip_prefix(":-").or(rest.strip_prefix('-')).or(rest.strip_prefix(":="))?;
            match shell::parse(text, 1).as_slice() {
                [Event::Pipeline(_, commands)] => match commands.as_slice() {
                    [command] if command.words.len() == 1 => Some(self.expand(command.words.first()?)),
                    _ => None,
                },
                [] => Some(vec![]),
                _ => None,
            }
        };
        match (self.known.get(name), rest) {
            (Some(value), "") => value.clone(),
            (Some(value), rest) if rest.starts_with(":-") || rest.starts_with('-') => value.clone(),
            (Some(_), _) => unknown(),
            (None, _) => match (name, &self.place.home) {
                ("HOME", Some(home)) => vec![Part::Text(home.display().to_string())],
                ("USER" | "LOGNAME", _) => vec![Part::Text(self.place.user.clone())],
                ("HOSTNAME", _) => vec![Part::Text(self.place.host.clone())],
                _ => default().unwrap_or_else(unknown),
            },
        }
    }

    fn command(&self, text: &str) -> Part {
        let unknown = |name: &str| Part::Unknown(format!("what `{name}` prints"));
        let events = shell::parse(text, 1);
        let [Event::Pipeline(_, commands)] = events.as_slice() else { return unknown("a command") };
        let words: Vec<Value> =
            commands.iter().flat_map(|command| &command.words).map(|word| self.expand(word)).collect();
        let texts: Vec<Option<String>> = words.iter().map(text_of).collect();
        let program = texts.first().cloned().flatten().unwrap_or_default();
        let name = Path::new(&program).file_name().map(|name| name.to_string_lossy().into_owned());
        match name.as_deref() {
            Some("date") if commands.len() == 1 => self.date(&texts),
            Some("basename") if words.get(1) == Some(&vec![Part::Tenant]) => Part::Tenant,
            Some("hostname") => Part::Text(self.place.host.clone()),
            Some("whoami") => Part::Text(self.place.user.clone()),
            Some("dirname") => match self.place.file.as_deref().and_then(Path::parent) {
                Some(folder) if matches!(words.get(1).map(Vec::as_slice), Some([Part::Unknown(of)]) if of == "$0") => {
                    Part::Text(folder.display().to_string())
                }
                _ => unknown("dirname"),
            },
            // Its words may hold a secret; its name does not.
            Some(name)
                if commands.first().is_some_and(|first| first.words.first().and_then(literal).is_some()) =>
            {
                unknown(name)
            }
            _ => unknown("a command"),
        }
    }

    /// A moment, where it is now that is asked for, to the day at least.
    fn date(&self, words: &[Option<String>]) -> Part {
        let (mut utc, mut now, mut has_format) = (false, true, false);
        for word in words.iter().skip(1) {
            match word.as_deref() {
                Some("-u" | "--utc" | "--universal") => utc = true,
                Some(text) if text.starts_with('+') => has_format = text.contains('%'),
                Some(text) if text.starts_with("-I") || text.starts_with("--iso-8601") => has_format = true,
                _ => now = false,
            }
        }
        match has_format && now {
            true => Part::Time(utc),
            false => Part::Unknown("what `date` prints".to_owned()),
        }
    }

    /// Returns a value as an absolute path, where it begins as one or the script says its folder.
    pub(super) fn path(&self, mut value: Value) -> Result<Value, String> {
        if let Some(Part::Unknown(of)) = value.iter().find(|part| matches!(part, Part::Unknown(_))) {
            return Err(format!("it depends on {of}, which the script does not say"));
        }
        if matches!(value.first(), Some(Part::Text(text)) if text.starts_with('/')) {
            return Ok(value);
        }
        // The words of a loop are paths of their own.
        if value.first() == Some(&Part::Tenant) && value.len() == 1 {
            return Ok(value);
        }
        match &self.folder {
            Some(folder) => {
                value.insert(0, Part::Text(format!("{}/", folder.display())));
                Ok(joined(value))
            }
            None => Err("its path is not absolute, and the script does not say from where".to_owned()),
        }
    }
}

/// Puts neighbouring texts together.
fn joined(value: Value) -> Value {
    let mut all: Value = Vec::new();
    for part in value {
        match (all.last_mut(), part) {
            (Some(Part::Text(before)), Part::Text(text)) => before.push_str(&text),
            (_, part) => all.push(part),
        }
    }
    all
}

/// Returns a value that is nothing but text.
pub(super) fn text_of(value: &Value) -> Option<String> {
    match value.as_slice() {
        [] => Some(String::new()),
        [Part::Text(text)] => Some(text.clone()),
        _ => None,
    }
}

/// Returns a value as text with marks for what it is not: to be told apart, never to be shown.
pub(super) fn marked(value: &Value) -> String {
    let mark = |part: &Part| match part {
        Part::Text(text) => text.clone(),
        Part::Wild(letter) => letter.to_string(),
        Part::Time(_) => "20260105".to_owned(),
        Part::Tenant => "{tenant}".to_owned(),
        Part::Unknown(_) => "?".to_owned(),
    };
    value.iter().map(mark).collect()
}

/// Takes a path apart at its last slash: the folder, and the file's name.
pub(super) fn split(value: &Value) -> (Value, Value) {
    let at = value.iter().rposition(|part| matches!(part, Part::Text(text) if text.contains('/')));
    let Some(at) = at else { return (vec![], value.clone()) };
    let (mut folder, mut name) = (value[..at].to_vec(), value[at + 1..].to_vec());
    if let Some(Part::Text(text)) = value.get(at)
        && let Some((before, after)) = text.rsplit_once('/')
    {
        folder.push(Part::Text(before.to_owned()));
        if !after.is_empty() {
            name.insert(0, Part::Text(after.to_owned()));
        }
    }
    (joined(folder), name)
}
