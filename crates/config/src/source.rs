//! A source as text: a path, a folder, a glob, a template with `{tenant}`, or a URL of a server. The canonical form of a path is
//! a target's name where no configuration gives it one, so the same file has one name from everywhere.

use flow::{EngineKind, TargetName, TargetRef};
use std::path::{Component, Path, PathBuf};

/// A text that names no source. Never quotes a URL: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SourceTextError {
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

fn refuse<T>(message: impl Into<String>, hint: impl Into<Option<String>>) -> Result<T, SourceTextError> {
    Err(SourceTextError { message: message.into(), hint: hint.into() })
}

/// Returns the target behind a text. Relative paths are meant from `folder`, which is absolute. A target without a
/// `name` is named after its canonical path.
pub fn source(name: Option<TargetName>, text: &str, folder: &Path) -> Result<TargetRef, SourceTextError> {
    if let Some((scheme @ ("postgres" | "postgresql"), rest)) = text.split_once("://") {
        return postgres(name, scheme, rest);
    }
    let path = match text.split_once("://") {
        Some((scheme, rest)) if scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+') => {
            PathBuf::from(url_path(scheme, rest)?)
        }
        _ => folder.join(text),
    };
    if text.is_empty() {
        return refuse("the source is empty", "name a SQLite file, a folder or a glob".to_owned());
    }
    if text == "~" || text.starts_with("~/") {
        return refuse("`~` is not expanded here", "write the path in full".to_owned());
    }
    let path = canonical_path(&path);
    let Some(connection) = path.to_str().map(str::to_owned) else {
        return refuse(format!("{}: the path is not UTF-8", path.display()), None);
    };
    let name = match name {
        Some(name) => name,
        None => match TargetName::new(connection.clone()) {
            Ok(name) => name,
            Err(error) => return refuse(error.to_string(), None),
        },
    };
    Ok(TargetRef { name, engine: EngineKind::Sqlite, connection, secret: None, tenants: None })
}

/// Returns the target behind a PostgreSQL URL, which is named by it without the user where it has no other name.
fn postgres(name: Option<TargetName>, scheme: &str, rest: &str) -> Result<TargetRef, SourceTextError> {
    refuse_password(rest)?;
    let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
    let (authority, path) = place.split_once('/').map_or((place, None), |(place, path)| (place, Some(path)));
    if path.is_none_or(str::is_empty) && !query.is_some_and(|query| query.contains("dbname=")) {
        return refuse(
            "the URL names no database",
            format!("write {scheme}://HOST/DATABASE; a cluster on this machine: {scheme}:///DATABASE"),
        );
    }
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let kept = query.into_iter().flat_map(|query| query.split('&'));
    let kept: Vec<&str> =
        kept.filter(|pair| !pair.starts_with("user=") && !pair.starts_with("passfile=")).collect();
    let mut shown = format!("postgres://{host}/{}", path.unwrap_or_default());
    if !kept.is_empty() {
        shown = format!("{shown}?{}", kept.join("&"));
    }
    let name = match name {
        Some(name) => name,
        None => match TargetName::new(shown) {
            Ok(name) => name,
            Err(error) => return refuse(error.to_string(), None),
        },
    };
    let connection = format!("postgres://{rest}");
    Ok(TargetRef { name, engine: EngineKind::Postgres, connection, secret: None, tenants: None })
}

fn refuse_password(rest: &str) -> Result<(), SourceTextError> {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
    let query = rest.split_once('?').map_or("", |(_, query)| query).to_ascii_lowercase();
    if user.contains(':') || query.split('&').any(|pair| pair.starts_with("password=")) {
        return refuse(
            "the URL holds a password, which does not belong here",
            "take it out: the database's own password file or a command gives it".to_owned(),
        );
    }
    Ok(())
}

fn url_path<'a>(scheme: &str, rest: &'a str) -> Result<&'a str, SourceTextError> {
    refuse_password(rest)?;
    match scheme {
        "sqlite" if rest.starts_with('/') => Ok(rest),
        "sqlite" => refuse("a SQLite URL has three slashes", "write sqlite:///path/of/app.db".to_owned()),
        "neo4j" | "neo4j+s" | "bolt" | "bolt+s" => refuse(
            "this version backs up SQLite and PostgreSQL only",
            "name a SQLite file, a folder or a glob, or a postgres:// URL".to_owned(),
        ),
        _ => refuse(
            format!("{scheme}:// is no kind of source"),
            "name a SQLite file, a folder or a glob, or a postgres:// URL".to_owned(),
        ),
    }
}

/// Returns the canonical form of a path: links followed as far as the path exists, the rest as it is written, up to
/// the first wildcard or `{tenant}`. A `..` below a folder that is not there stays, so that it leads nowhere, as the
/// system has it.
pub fn canonical_path(path: &Path) -> PathBuf {
    if let Ok(path) = path.canonicalize() {
        return path;
    }
    let path = normal(path);
    for ancestor in path.ancestors().skip(1) {
        if has_pattern(ancestor) && !ancestor.exists() {
            continue;
        }
        if let (Ok(found), Ok(rest)) = (ancestor.canonicalize(), path.strip_prefix(ancestor)) {
            return found.join(rest);
        }
    }
    path
}

fn has_pattern(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().iter().any(|byte| matches!(byte, b'*' | b'?' | b'[' | b'{'))
}

/// Returns a path without `.`, and without each `..` that the system can resolve. By its text alone `link/../x` would
/// be another file wherever `link` is a symbolic link.
pub(crate) fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.push("..");
                if let Ok(found) = normal.canonicalize() {
                    normal = found;
                }
            }
            other => normal.push(other),
        }
    }
    normal
}

/// Returns the folder of a configuration file, absolute where the file's path is.
pub(crate) fn absolute_folder(file: &Path) -> PathBuf {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    folder.canonicalize().unwrap_or_else(|_| folder.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_file_has_one_name_from_everywhere() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        std::fs::write(root.join("real/app.db"), "").unwrap();
        std::os::unix::fs::symlink(root.join("real"), root.join("link")).unwrap();
        let name = |text: &str| source(None, text, &root).unwrap().name.to_string();
        let expected = root.join("real/app.db").to_str().unwrap().to_owned();
        for text in ["real/app.db", "./link/app.db", "link/../real/./app.db", &format!("sqlite://{expected}")]
        {
            assert_eq!(name(text), expected, "{text}");
        }
        assert_eq!(name("link/gone.db"), root.join("real/gone.db").to_str().unwrap());
        assert_eq!(name("link/*.db"), root.join("real/*.db").to_str().unwrap());
        assert_eq!(name("link/{tenant}/x.db"), root.join("real/{tenant}/x.db").to_str().unwrap());
    }

    #[test]
    fn a_parent_is_the_one_that_the_system_finds() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("real/dir")).unwrap();
        std::fs::write(root.join("y.db"), "").unwrap();
        std::os::unix::fs::symlink("real/dir", root.join("ld")).unwrap();
        for path in ["ld/../y.db", "ld/.././y.db", "ld/../*.db", "ld/../none/{tenant}.db"] {
            let expected = root.join("real").join(path.rsplit("./").next().unwrap());
            assert_eq!(canonical_path(&root.join(path)), expected, "{path}");
            assert_eq!(normal(&root.join(path)), expected, "{path}");
        }
        // What the system cannot resolve leads nowhere, and never to a file that is there.
        for path in ["none/../y.db", "y.db/../y.db", "ld/none/../../y.db"] {
            let canonical = canonical_path(&root.join(path));
            assert!(canonical.is_absolute() && !canonical.exists(), "{path}: {}", canonical.display());
            assert!(!normal(&root.join(path)).exists(), "{path}");
        }
    }

    #[test]
    fn a_password_is_refused_and_not_quoted() {
        for text in ["postgres://u:geheim@db/erp", "postgres://db/erp?password=geheim", "x://a:geheim@b"] {
            let error = source(None, text, Path::new("/")).unwrap_err();
            assert!(error.message.contains("password"), "{error:?}");
            assert!(!format!("{error:?}").contains("geheim"), "{error:?}");
        }
        let error = source(None, "neo4j://u@db/erp", Path::new("/")).unwrap_err();
        assert_eq!(error.message, "this version backs up SQLite and PostgreSQL only");
    }

    #[test]
    fn a_server_is_named_without_its_user() {
        for (text, name) in [
            ("postgres://backup@db1/erp", "postgres://db1/erp"),
            ("postgresql://backup@db1:5433/erp?sslmode=require", "postgres://db1:5433/erp?sslmode=require"),
            ("postgres:///erp?host=/run/pg&user=backup", "postgres:///erp?host=/run/pg"),
        ] {
            let target = source(None, text, Path::new("/")).unwrap();
            assert_eq!((target.name.as_str(), target.engine), (name, EngineKind::Postgres));
            assert_eq!(target.connection, text.replace("postgresql://", "postgres://"));
        }
        let error = source(None, "postgres://backup@db1", Path::new("/")).unwrap_err();
        assert!(error.message.contains("names no database"), "{error:?}");
    }
}
