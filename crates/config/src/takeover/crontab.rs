//! A crontab: its lines as commands, each with its time. A `%` ends a command there, unless it is escaped.

use super::{Reader, ScriptPlace, Taken};

/// When a line runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Its number.
    pub line: usize,
    /// The five fields, or `@daily` and its kin.
    pub when: String,
}

/// Tells whether a text is a crontab: lines that begin with a time, and none of a script.
pub fn is_crontab(text: &str) -> bool {
    if text.starts_with("#!") {
        return false;
    }
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut any = false;
    let all = lines.all(|line| {
        let is_time = time(line).is_some();
        any |= is_time;
        is_time || is_setting(line)
    });
    any && all
}

/// `MAILTO=root`, with a command behind it nowhere.
fn is_setting(line: &str) -> bool {
    line.split_once('=').is_some_and(|(name, _)| {
        let name = name.trim();
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    })
}

/// Takes the time and the command apart.
fn time(line: &str) -> Option<(String, &str)> {
    if line.starts_with('@') {
        let (when, command) = line.split_once(char::is_whitespace)?;
        let known =
            ["@reboot", "@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];
        return known.contains(&when).then(|| (when.to_owned(), command.trim_start()));
    }
    let (mut fields, mut rest) = (Vec::new(), line);
    for _ in 0..5 {
        let (field, after) = rest.split_once(char::is_whitespace)?;
        let is_field = field.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"*/,-".contains(&byte))
            && field.bytes().any(|byte| byte.is_ascii_digit() || byte == b'*');
        let is_name = fields.len() > 2
            && field.len() >= 3
            && field.bytes().all(|byte| byte.is_ascii_alphabetic() || b",-".contains(&byte));
        if !is_field && !is_name {
            return None;
        }
        fields.push(field);
        rest = after.trim_start();
    }
    Some((fields.join(" "), rest))
}

pub(super) fn read(text: &str, place: &ScriptPlace, taken: &mut Taken) {
    let mut settings = String::new();
    for (index, line) in text.lines().enumerate() {
        let (number, line) = (index + 1, line.trim());
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((when, command)) = time(line) else {
            settings.push_str(line);
            settings.push('\n');
            continue;
        };
        let command = command_of(command);
        let dumps = taken.dumps.len();
        let mut reader = Reader::new(place, taken);
        // Each runs in the home of its user, with the settings that stand above it.
        reader.variables.folder.clone_from(&place.home);
        reader.read(&settings, 1);
        reader.read(&command, number);
        if taken.dumps.len() > dumps {
            taken.schedules.push(Schedule { line: number, when });
        }
        mend_script_calls(number, &command, taken);
    }
}

/// A line that only calls a script is told so: that script is what is to be taken over.
fn mend_script_calls(number: usize, command: &str, taken: &mut Taken) {
    let first = command.split_whitespace().find(|word| word.starts_with('/'));
    let Some(script) = first.filter(|word| word.ends_with(".sh") || word.contains("backup")) else { return };
    let own = |left: &&mut super::LeftLine| left.line == number && script.ends_with(&left.program);
    if let Some(left) = taken.left.iter_mut().find(own) {
        left.reason = "it calls a script: take that over by `backstay takeover` with its path".to_owned();
    }
}

/// The command itself: up to the first `%` that is not escaped; without the user that /etc/crontab names.
fn command_of(text: &str) -> String {
    let (mut command, mut letters) = (String::new(), text.chars().peekable());
    while let Some(letter) = letters.next() {
        match (letter, letters.peek()) {
            ('\\', Some('%')) => {
                command.push('%');
                letters.next();
            }
            ('%', _) => break,
            _ => command.push(letter),
        }
    }
    let (first, rest) = command.split_once(char::is_whitespace).unwrap_or((&command, ""));
    let users = ["root", "postgres", "backup", "www-data", "nobody"];
    if users.contains(&first) { rest.trim_start().to_owned() } else { command }
}
