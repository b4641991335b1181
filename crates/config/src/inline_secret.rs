//! Whether a configuration holds a secret itself, where only references to secrets belong. Looked for in the text, so
//! that comments and the arguments of commands count too. It errs on the side of finding one: what is found is kept
//! nowhere but in the file.

use crate::settings::Settings;
use flow::SecretRef;

/// Words behind which a secret stands.
const WORDS: [&str; 13] = [
    "password",
    "passwd",
    "pwd",
    "passphrase",
    "secret",
    "token",
    "api_key",
    "api-key",
    "apikey",
    "access_key",
    "access-key",
    "authorization",
    "credential",
];

/// Returns the line, from 1, on which a configuration seems to hold a secret. The secret is not in it.
pub fn inline_secret(settings: &Settings) -> Option<usize> {
    let lines = settings.text.lines().enumerate();
    let by_text = lines.filter(|(_, line)| holds_secret(line)).map(|(at, _)| at + 1).next();
    by_text.or_else(|| printed_password(settings))
}

fn holds_secret(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    url_password(&line)
        || line.contains("private key-----")
        || ["bearer ", "basic "].iter().any(|scheme| value_behind(&line, scheme))
        || WORDS.iter().any(|word| line.split(word).skip(1).any(assigned))
        || ["\"-u\"", "\"--user\"", "'-u'", "'--user'"].iter().any(|option| {
            line.split(option).skip(1).any(|rest| next_argument(rest).is_some_and(|next| next.contains(':')))
        })
}

/// `scheme://user:password@host`.
fn url_password(line: &str) -> bool {
    line.split("://").skip(1).any(|rest| {
        let authority = rest.split(['/', '?', '#', '"', '\'', ' ']).next().unwrap_or_default();
        let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
        user.split_once(':').is_some_and(|(_, password)| is_value(password))
    })
}

/// `=secret`, `: secret`, or `", "secret"` of an option and its argument.
fn assigned(rest: &str) -> bool {
    let rest = rest.strip_prefix('s').unwrap_or(rest);
    let closed = rest.trim_start_matches(['"', '\'']);
    if closed.len() < rest.len()
        && let Some(argument) = next_argument(closed)
    {
        return is_value(argument);
    }
    let rest = closed.trim_start();
    let value = rest.strip_prefix('=').or_else(|| rest.strip_prefix(':'));
    value.is_some_and(|value| is_value(value.trim_start().trim_start_matches(['"', '\''])))
}

/// The text of the next argument of a list: what stands in quotes behind a comma.
fn next_argument(rest: &str) -> Option<&str> {
    let rest = rest.trim_start().strip_prefix(',')?.trim_start();
    let quote = rest.chars().next().filter(|first| matches!(first, '"' | '\''))?;
    rest.get(1..)?.split(quote).next()
}

fn value_behind(line: &str, scheme: &str) -> bool {
    line.split(scheme).skip(1).any(|rest| {
        let word = rest.split([' ', '"', '\'']).next().unwrap_or_default();
        is_value(word) && word.len() >= 8 && word.bytes().any(|byte| byte.is_ascii_digit() || byte == b'=')
    })
}

/// A path, a variable or a placeholder is a reference; anything else may be the secret itself.
fn is_value(text: &str) -> bool {
    !text.is_empty() && !text.starts_with(['/', '$', '{', '<', '[', '*', '"', '\''])
}

/// A command that prints a password which stands in it.
fn printed_password(settings: &Settings) -> Option<usize> {
    let prints = |command: &[String]| {
        let words = command.iter().flat_map(|argument| argument.split([' ', ';', '|', '&']));
        words
            .map(|word| word.rsplit('/').next().unwrap_or(word))
            .any(|word| ["echo", "printf"].contains(&word))
    };
    let mut places = settings.repositories.values();
    let found =
        places.any(|place| matches!(&place.password, Some(SecretRef::Command(command)) if prints(command)));
    let line = || settings.text.lines().position(|line| line.contains("echo") || line.contains("printf"));
    found.then(|| line().map_or(1, |at| at + 1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::path::Path;

    fn line_of(text: &str) -> Option<usize> {
        inline_secret(&crate::read_text(Path::new("/c/backstay.toml"), text).unwrap())
    }

    #[test]
    fn a_secret_is_found_wherever_it_stands() {
        let hook = |command: &str| {
            format!("[targets.a]\nsource = \"/a.db\"\nhooks = {{ before_backup = [{command}] }}\n")
        };
        for text in [
            "# the password: geheim\n".to_owned(),
            "# password = \"geheim\"\n".to_owned(),
            hook("\"x\", \"--password=geheim\""),
            hook("\"x\", \"--password\", \"geheim\""),
            hook("\"x\", \"--token\" , 'abc'"),
            hook("\"curl\", \"-u\", \"olga:geheim\""),
            hook("\"curl\", \"https://olga:geheim@host/x\""),
            hook("\"curl\", \"-H\", \"Authorization: Bearer x\""),
            hook("\"sh\", \"-c\", \"PGPASSWORD=geheim psql\""),
            hook("\"curl\", \"-H\", \"X: Bearer abcd1234\""),
            "[targets.a]\nsource = \"/a.db\"\nrestore = { health_url = \"http://a:b@h/\" }\n".to_owned(),
            "[repositories.m]\npath = \"/b\"\npassword_command = [\"echo\", \"geheim\"]\n".to_owned(),
            "[repositories.m]\npath = \"/b\"\npassword_command = [\"sh\", \"-c\", \"/bin/echo geheim\"]\n"
                .to_owned(),
        ] {
            let line = line_of(&text);
            assert_eq!(line, Some(text.lines().count()), "{text}");
        }
    }

    #[test]
    fn references_are_none() {
        let shown = include_str!("../../../docs/examples/backstay.toml");
        assert_eq!(line_of(shown), None);
        for text in [
            "# password_file = \"/etc/backstay/main.key\"   # a password has no place here\n",
            "[targets.a]\nsource = \"/a.db\"\nhooks = { before_backup = [\"x\", \"--password-file=/p\", \"--token\", \"/run/t\"] }\n",
            "[targets.a]\nsource = \"/a.db\"\nhooks = { before_backup = [\"sh\", \"-c\", \"PGPASSWORD=$P x http://u@h:80/\"] }\n",
        ] {
            assert_eq!(line_of(text), None, "{text}");
        }
    }
}
