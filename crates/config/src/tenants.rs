//! Who the tenants of a target are, where somebody keeps a list of them: in the configuration itself, or in a file of
//! shell variables that scripts read too (`TENANTS="acme bolt"`). The file is read at each run, and no shell reads it.

use crate::ConfigError;
use crate::error::unreadable_hint;
use crate::problem::Problem;
use std::path::PathBuf;

/// Where the names of tenants are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TenantNames {
    /// Here.
    List(Vec<String>),
    /// In a variable of a file.
    File {
        /// The file.
        path: PathBuf,
        /// The variable.
        variable: String,
    },
}

impl TenantNames {
    /// Returns the names, each once, in their order. A file is read now.
    pub fn read(&self) -> Result<Vec<String>, ConfigError> {
        match self {
            TenantNames::List(names) => Ok(names.clone()),
            TenantNames::File { path, variable } => {
                let text = std::fs::read_to_string(path).map_err(|error| {
                    let mut refusal = ConfigError::new(path, "the file of tenants cannot be read");
                    refusal.hint = Some(unreadable_hint(&error).to_owned());
                    refusal.source = Some(error);
                    refusal
                })?;
                named(&text, variable).map_err(|problem| {
                    let hint = format!(
                        "write {variable}=\"acme bolt\", without a command or another variable in it"
                    );
                    ConfigError::new(path, problem).hint(hint)
                })
            }
        }
    }
}

/// Takes names apart, as a shell does between blanks; commas part them too.
fn named(text: &str, variable: &str) -> Result<Vec<String>, String> {
    let mut value = None;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        let Some(said) = line.strip_prefix(variable).and_then(|rest| rest.strip_prefix('=')) else {
            continue;
        };
        let close = match said.chars().next() {
            Some(quote @ ('"' | '\'')) => Some(quote),
            Some('(') => Some(')'),
            _ => None,
        };
        let Some(close) = close else {
            value = Some(said.split([' ', '\t', '#', ';']).next().unwrap_or_default().to_owned());
            continue;
        };
        // What is quoted may go over several lines.
        let mut inner = said[1..].to_owned();
        while !inner.contains(close) {
            let Some(next) = lines.next() else {
                return Err(format!("the value of {variable} does not end"));
            };
            inner.push('\n');
            inner.push_str(next);
        }
        value = inner.split(close).next().map(str::to_owned);
    }
    let value = value.ok_or_else(|| format!("there is no {variable}= in it"))?;
    if value.contains(['$', '`', '\\']) {
        return Err(format!("the value of {variable} has something in it that only a shell understands"));
    }
    let mut names: Vec<String> = Vec::new();
    let quotes = ['"', '\''];
    for name in value.split(|letter: char| letter.is_whitespace() || letter == ',') {
        let name = name.trim_matches(quotes);
        if !name.is_empty() && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    if names.is_empty() { Err(format!("{variable} names nobody")) } else { Ok(names) }
}

/// Checks a list, or where one is to be found.
pub(crate) fn names(
    list: Option<Vec<String>>,
    file: Option<PathBuf>,
    variable: Option<String>,
    source: &str,
    at: &[&str],
) -> Result<TenantNames, Problem> {
    if !source.contains("{tenant}") {
        let hint = "write the source as in \"/srv/tenants/{tenant}.db\"".to_owned();
        return Err(Problem::new(at, "the source does not say where a tenant's database is", hint));
    }
    match (list, file, variable) {
        (Some(names), None, None) if !names.is_empty() && !names.contains(&String::new()) => {
            Ok(TenantNames::List(names))
        }
        (None, Some(path), variable) => {
            Ok(TenantNames::File { path, variable: variable.unwrap_or_else(|| "TENANTS".to_owned()) })
        }
        _ => Err(Problem::new(
            at,
            "who the tenants are is said by `names`, by `file` and `variable`, or by `database` and `sql`",
            "write { names = [\"acme\", \"bolt\"] } or { file = \"/etc/shops.env\", variable = \"TENANTS\" }"
                .to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn variables_are_read_as_scripts_write_them() {
        for text in [
            "TENANTS=\"acme bolt\"",
            "# TENANTS=\"old\"\nexport TENANTS='acme  bolt acme' # all",
            "TENANTS=old\nOTHER=1\nTENANTS=(acme \"bolt\")\nTENANTS_OLD=\"x\"",
            "TENANTS=\"acme\n  bolt\"\n",
            "TENANTS=acme,bolt",
        ] {
            assert_eq!(named(text, "TENANTS").unwrap(), ["acme", "bolt"], "{text}");
        }
        for text in ["", "TENANTS=", "TENANTS=\"$(ls)\"", "TENANTS=\"a", "TENANTS=`ls`", "XTENANTS=\"a\""] {
            assert!(named(text, "TENANTS").is_err(), "{text}");
        }
    }
}
