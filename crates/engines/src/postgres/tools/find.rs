//! Which of the installed `pg_dump`s fits a server: of its own major version, else the next newer one. An older one
//! refuses the server, or would leave out what it does not know.

use flow::{Context, SourceError, SourceErrorKind};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Folders in which each version has one of its own, as `before`/VERSION/`after`.
const VERSIONED: [(&str, &str); 4] = [
    ("/usr/lib/postgresql", "bin"),
    ("/usr/lib64/postgresql", "bin"),
    ("/usr/libexec/postgresql", ""),
    ("/Applications/Postgres.app/Contents/Versions", "bin"),
];
/// Folders of packages that have the version in their name.
const NAMED: [&str; 3] = ["/usr", "/opt/homebrew/opt", "/usr/local/opt"];
const PLAIN: [&str; 3] = ["/usr/local/pgsql/bin", "/usr/local/bin", "/usr/bin"];

/// A program that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::postgres) struct Program {
    /// Where it is.
    pub(in crate::postgres) path: PathBuf,
    /// Its major version.
    pub(in crate::postgres) major: u32,
    /// Its version as it says it: `15.14 (Debian 15.14-0+deb12u1)`.
    pub(in crate::postgres) version: String,
}

/// Finds the program of that name that fits a server best: first on the search path, then where packages put it.
pub(in crate::postgres) fn find(
    name: &str,
    server_major: u32,
    object: &str,
    context: &Context,
) -> Result<Program, SourceError> {
    let mut others: Vec<Program> = Vec::new();
    let mut seen = BTreeSet::new();
    for folder in folders(server_major, context) {
        let path = folder.join(name);
        if !path.is_file() || !seen.insert(path.clone()) {
            continue;
        }
        match ask(&path, context) {
            Some(program) if program.major == server_major => return Ok(program),
            Some(program) => others.push(program),
            None => {}
        }
    }
    others.sort_by_key(|program| program.major);
    if let Some(newer) = others.iter().find(|program| program.major > server_major) {
        return Ok(newer.clone());
    }
    let message = match others.last() {
        None => format!("{name} was not found, which is needed for the database's definitions"),
        Some(newest) => format!(
            "the server is PostgreSQL {server_major}, and the newest {name} here is {} ({})",
            newest.version,
            newest.path.display()
        ),
    };
    Err(SourceError::new(SourceErrorKind::Unsupported, object, message).with_hint(format!(
        "install the client programs of version {server_major} or newer (Debian: apt-get install \
         postgresql-client-{server_major}; other versions: https://www.postgresql.org/download), or put their folder \
         on PATH"
    )))
}

/// Returns all programs of that name that are there, each once, however many paths lead to it.
pub(in crate::postgres) fn all(name: &str, server_major: u32, context: &Context) -> Vec<Program> {
    let mut seen = BTreeSet::new();
    let paths = folders(server_major, context).into_iter().map(|folder| folder.join(name));
    paths
        .filter(|path| path.is_file() && path.canonicalize().is_ok_and(|path| seen.insert(path)))
        .filter_map(|path| ask(&path, context))
        .collect()
}

/// Returns the folders to look in; those of the very version first, for they need no asking of others.
fn folders(major: u32, context: &Context) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = VERSIONED
        .iter()
        .map(|(before, after)| Path::new(before).join(major.to_string()).join(after))
        .collect();
    folders.push(PathBuf::from(format!("/usr/pgsql-{major}/bin")));
    folders.extend(context.environment.get("PATH").map(std::env::split_paths).into_iter().flatten());
    let mut rest = Vec::new();
    for (before, after) in VERSIONED {
        rest.extend(children(Path::new(before), |_| true).into_iter().map(|folder| folder.join(after)));
    }
    for folder in NAMED {
        let named =
            |name: &str| name.starts_with("pgsql-") || name.starts_with("postgresql@") || name == "libpq";
        rest.extend(children(Path::new(folder), named).into_iter().map(|folder| folder.join("bin")));
    }
    folders.extend(rest);
    folders.extend(PLAIN.map(PathBuf::from));
    folders
}

fn children(folder: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_str().is_some_and(&wanted))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

/// Asks a program for its version; `None` where it cannot be run or says something else.
fn ask(path: &Path, context: &Context) -> Option<Program> {
    let mut command = Command::new(path);
    command.arg("--version").env_clear().env("LC_ALL", "C").stdin(Stdio::null()).stderr(Stdio::null());
    // Debian's wrapper in /usr/bin is a script that needs one.
    command.env("PATH", context.environment.get("PATH").unwrap_or("/usr/bin:/bin"));
    let output = command.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    let version = text.trim().split_once(") ")?.1.to_owned();
    Some(Program { path: path.to_owned(), major: major_of(&version)?, version })
}

/// Returns the major version of `18.1`, `9.6.24`, `19devel` or `18beta2 (Debian …)`.
fn major_of(version: &str) -> Option<u32> {
    version.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        for (text, major) in
            [("15.14 (Debian 15.14-0+deb12u1)", 15), ("18beta2", 18), ("19devel", 19), ("9.6.24", 9)]
        {
            assert_eq!(major_of(text), Some(major), "{text}");
        }
        assert_eq!(major_of("unknown"), None);
    }
}
