//! Reads a configuration file: text, then keys, then what they mean. A parser's own message may quote a value, and a
//! value may be a secret, so its messages are put in our words.

use crate::error::{did_you_mean, unreadable_hint};
use crate::position::{Language, Position, locate};
use crate::settings::{Settings, resolve};
use crate::written::{Written, not_yet};
use crate::{ConfigError, source::absolute_folder};
use serde::de::Deserializer;
use serde_path_to_error::Segment;
use std::path::Path;

/// Reads the configuration of a file: JSON where its name ends so, else TOML. Relative paths in it are meant from the
/// folder of the file.
pub fn read(file: &Path) -> Result<Settings, ConfigError> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        let mut refusal = ConfigError::new(file, "the configuration cannot be read");
        refusal.hint = Some(unreadable_hint(&error).to_owned());
        refusal.source = Some(error);
        refusal
    })?;
    read_text(file, &text)
}

/// Reads a configuration from text; `file` gives its language, and the folder from which relative paths are meant.
pub fn read_text(file: &Path, text: &str) -> Result<Settings, ConfigError> {
    let language = Language::of(file);
    let written = match language {
        Language::Toml => {
            let parser = toml::Deserializer::parse(text).map_err(|error| {
                let position = error.span().map(|span| Position::of(text, span.start));
                ConfigError::new(file, first_line(error.message())).at(position)
            })?;
            keys(parser, file, text, language, |error: &toml::de::Error| {
                (error.message().to_owned(), error.span().map(|span| Position::of(text, span.start)))
            })?
        }
        Language::Json => {
            let mut parser = serde_json::Deserializer::from_str(text);
            let written = keys(&mut parser, file, text, language, json_error)?;
            parser.end().map_err(|error| {
                let (message, position) = json_error(&error);
                ConfigError::new(file, message).at(position)
            })?;
            written
        }
    };
    let folder = absolute_folder(file);
    let settings = resolve(file, &folder, written).map_err(|problem| {
        ConfigError::new(file, problem.message)
            .at(locate(text, language, &problem.path))
            .key(problem.path.join("."))
            .hint(problem.hint)
    })?;
    Ok(Settings { text: text.to_owned(), ..settings })
}

fn json_error(error: &serde_json::Error) -> (String, Option<Position>) {
    let text = error.to_string();
    let message = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message).to_owned();
    (message, Some(Position::new(error.line(), error.column())))
}

fn first_line(message: &str) -> &str {
    message.lines().next().unwrap_or(message)
}

/// Fills the keys, and turns the parser's complaint into ours.
fn keys<'de, D, F>(
    parser: D,
    file: &Path,
    text: &str,
    language: Language,
    explain: F,
) -> Result<Written, ConfigError>
where
    D: Deserializer<'de>,
    F: Fn(&D::Error) -> (String, Option<Position>),
{
    serde_path_to_error::deserialize(parser).map_err(|error| {
        let mut path: Vec<String> = Vec::new();
        for segment in error.path() {
            match segment {
                Segment::Map { key } => path.push(key.clone()),
                _ => break,
            }
        }
        let (message, position) = explain(error.inner());
        let refusal = rephrase(file, &message, &mut path);
        let found = locate(text, language, &path);
        let key = (!path.is_empty()).then(|| path.join("."));
        let mut refusal = refusal.at(found.or(position));
        refusal.key = key;
        refusal
    })
}

/// Puts a message of the parsers in our words, without any value in it.
fn rephrase(file: &Path, message: &str, path: &mut Vec<String>) -> ConfigError {
    let message = first_line(message);
    if let Some(rest) = message.strip_prefix("unknown field `") {
        let (key, known) = rest.split_once('`').unwrap_or((rest, ""));
        if path.last().is_none_or(|last| last != key) {
            path.push(key.to_owned());
        }
        return unknown_key(file, key, known);
    }
    if let Some(rest) = message.strip_prefix("missing field `") {
        let key = rest.trim_end_matches('`');
        return ConfigError::new(file, format!("`{key}` is missing here"));
    }
    for prefix in ["invalid type: ", "invalid value: "] {
        if let Some(rest) = message.strip_prefix(prefix) {
            let found = rest.split([' ', ',']).next().unwrap_or("this");
            let expected = rest.rsplit_once("expected ").map_or("something else", |(_, expected)| expected);
            let hint = match (found, expected, path.last().map(String::as_str)) {
                ("string", "a sequence", Some("tags")) => Some("write it as a list: [\"weekly\"]".to_owned()),
                ("string", "a sequence", Some("tables" | "schemas" | "exclude_table_data")) => {
                    Some("write it as a list: [\"sales\"]".to_owned())
                }
                ("string", "a sequence", Some("password_command")) => {
                    Some("write it as a list: [\"pass\", \"show\", \"backup\"]".to_owned())
                }
                ("string", "a sequence", _) => {
                    Some("write it as a list: [\"systemctl\", \"stop\", \"x\"]".to_owned())
                }
                _ => None,
            };
            return ConfigError::new(file, format!("expected {expected}, found {found}")).hint(hint);
        }
    }
    if message.starts_with("duplicate field") {
        return ConfigError::new(file, "the key is here twice");
    }
    ConfigError::new(file, message)
}

fn unknown_key(file: &Path, key: &str, known: &str) -> ConfigError {
    if let Some(what) = not_yet(key) {
        return ConfigError::new(file, format!("this version does not {what} yet"))
            .hint("take the key out".to_owned());
    }
    let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
    let hint = if key == "password" {
        Some("a password does not belong here; write `password_file` or `password_command`".to_owned())
    } else if let Some(near) = did_you_mean(key, known.iter().copied()) {
        Some(format!("did you mean `{near}`?"))
    } else if known.is_empty() {
        None
    } else {
        Some(format!("known keys: `{}`", known.join("`, `")))
    };
    ConfigError::new(file, "unknown key").hint(hint)
}
