//! Words as a shell takes them: every command that a hint or a message tells a person to run can be copied as it is,
//! whatever spaces and quotes are in the paths and names.

/// Returns an argument as a shell takes it: as it is where it is plain, else in single quotes.
pub fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=:@%+,~".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) && !argument.starts_with(['~', '=']) {
        argument.to_owned()
    } else {
        format!("'{}'", argument.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_shell_takes_arguments_whole() {
        assert_eq!(quoted("/srv/app.db"), "/srv/app.db");
        assert_eq!(quoted("/srv/my app.db"), "'/srv/my app.db'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted("*.db"), "'*.db'");
    }

    #[test]
    fn a_shell_agrees() {
        for word in
            ["", "a b", "it's", "$HOME", "`id`", "\"", "a;b", "a\nb", "~", "ä", "-n", "!x", "=ls", "\\"]
        {
            let script = format!("printf %s {}", quoted(word));
            let output = std::process::Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
    }
}
