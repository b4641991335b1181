//! Configurations that the program writes: of databases that were found, and of what a repository holds. Each can be
//! read by the program itself. Nothing is written here; whoever writes the text does it as a whole.

use crate::errors::{Failure, exit};
use crate::password::make_private_folder;
use crate::wording::{count, moment};
use flow::quoted;
use jiff::tz::TimeZone;
use operations::adopt::{HeldHost, HeldTarget};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use storage::StorageErrorKind;

/// Writes a configuration, durably, where there is none.
pub(crate) fn write(file: &Path, text: &str) -> Result<(), Failure> {
    let failure = |error: &dyn std::error::Error| {
        Failure::new(exit::FAILED, format!("{} cannot be written", file.display()))
            .with_cause(error)
            .with_hint("give this user the right to write there, or name another file by --config")
    };
    if let Some(folder) = file.parent() {
        make_private_folder(folder).map_err(|error| failure(&error))?;
    }
    storage::write_new(file, text.as_bytes(), 0o600).map_err(|error| match error.kind {
        StorageErrorKind::Exists => is_there(file),
        _ => failure(&error),
    })
}

/// Says that a configuration is not written over.
pub(crate) fn is_there(file: &Path) -> Failure {
    Failure::usage(
        format!("{}: there is a configuration already, and it is not written over", file.display()),
        "edit it, or name another one by --config",
    )
}

/// Names each database after its file, with its folder where that is not enough, with a number where nothing is.
pub(crate) fn names(databases: &[PathBuf]) -> BTreeMap<String, &PathBuf> {
    let mut names: BTreeMap<String, &PathBuf> = BTreeMap::new();
    for path in databases {
        let part = |part: Option<&std::ffi::OsStr>| {
            part.map(|part| {
                part.to_string_lossy().replace(['/', '@', ':', '.'], "-").trim_matches('-').to_owned()
            })
        };
        let stem =
            part(path.file_stem()).filter(|stem| !stem.is_empty()).unwrap_or_else(|| "database".to_owned());
        let folder = part(path.parent().and_then(Path::file_name)).unwrap_or_default();
        let longer = format!("{folder}-{stem}");
        let numbered = (2..).map(|number| format!("{longer}-{number}"));
        let name = [stem, longer.clone()].into_iter().chain(numbered).find(|name| !names.contains_key(name));
        if let Some(name) = name {
            names.insert(name, path);
        }
    }
    names
}

pub(crate) fn toml_text(text: &str) -> String {
    // JSON text is TOML text too, but for the escape of DEL, which neither needs.
    serde_json::Value::from(text).to_string()
}

pub(crate) fn toml_key(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !name.is_empty() && name.bytes().all(plain) { name.to_owned() } else { toml_text(name) }
}

/// Returns the beginning of a configuration that has one repository.
pub(crate) fn repository_section(path: &Path, key_file: Option<&Path>) -> String {
    let text = |path: &Path| toml_text(&path.display().to_string());
    let key = key_file.map(|file| format!("password_file = {}\n", text(file))).unwrap_or_default();
    format!("repository = \"main\"\n\n[repositories.main]\npath = {}\n{key}", text(path))
}

/// Returns a configuration by which what a repository holds of a host can be listed, restored and backed up.
pub(crate) fn of_held(
    host: Option<&HeldHost>,
    path: &Path,
    key_file: Option<&Path>,
    zone: &TimeZone,
) -> String {
    let whose = host.map(|host| format!(" of {}", comment(&host.host))).unwrap_or_default();
    let mut text = format!(
        "\
# Made by `backstay adopt`: the repository holds backups{whose}, and no configuration.
# The sources are where the databases were. What else was set (plans, what they keep, hooks, how a service is stopped
# for a restore) is not known: add it, and look the sources through.

{}",
        repository_section(path, key_file)
    );
    let targets = host.map_or(&[][..], |host| host.targets.as_slice());
    let (in_place, named): (Vec<_>, Vec<_>) =
        targets.iter().partition(|target| !is_configurable(target.target.as_str()));
    for target in named {
        text.push_str(&format!(
            "\n# {}, the newest backup of {}\n",
            count(target.databases, "database", "databases"),
            moment(target.newest, zone)
        ));
        text.push_str(&named_target(target));
    }
    if !in_place.is_empty() {
        text.push_str(
            "\n# Backed up by their paths, which are their names: `backstay restore PATH@latest` restores them. Without the\n\
             # signs in front, `backstay backup --all` backs them up under these names from then on.\n",
        );
    }
    let paths: Vec<PathBuf> = in_place.iter().map(|target| PathBuf::from(target.target.as_str())).collect();
    for (name, path) in names(&paths) {
        text.push_str(&format!(
            "#\n# [targets.{}]\n# source = {}\n",
            toml_key(&name),
            toml_text(&path.display().to_string())
        ));
    }
    text
}

fn named_target(target: &HeldTarget) -> String {
    let name = toml_key(target.target.as_str());
    match source(target) {
        Some(source) => format!("[targets.{name}]\nsource = {}\n", toml_text(&source)),
        None => {
            let places: Vec<String> = target
                .members
                .iter()
                .take(5)
                .map(|record| {
                    format!("#   {} in {}\n", comment(record.database.as_str()), comment(&record.connection))
                })
                .collect();
            format!(
                "# No one source has all of them; each is restored by its id:\n{}# [targets.{name}]\n# source = \"…\"\n",
                places.concat()
            )
        }
    }
}

/// Returns a text that ends no comment.
fn comment(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// Tells whether a target of that name can be in a configuration.
fn is_configurable(name: &str) -> bool {
    !name.contains(['/', '@', ':']) && !name.starts_with('.')
}

/// Returns a source by which the databases have the names that their backups have.
fn source(target: &HeldTarget) -> Option<String> {
    let members: Vec<(&str, &str)> =
        target.members.iter().map(|record| (record.database.as_str(), record.connection.as_str())).collect();
    if let [(name, connection)] = members.as_slice()
        && Path::new(connection).file_name().is_some_and(|file| file == *name)
    {
        return Some((*connection).to_owned());
    }
    below_a_folder(&members).or_else(|| template(&members))
}

/// Names that are the ends of the paths: a folder's, or those of a glob.
fn below_a_folder(members: &[(&str, &str)]) -> Option<String> {
    let base = |(name, connection): &(&str, &str)| {
        connection.strip_suffix(name)?.strip_suffix('/').map(str::to_owned)
    };
    let bases: BTreeSet<Option<String>> = members.iter().map(base).collect();
    let base = bases.into_iter().next().flatten().filter(|base| {
        members.iter().all(|member| {
            member.1.strip_suffix(member.0).is_some_and(|head| head.strip_suffix('/') == Some(base))
        })
    })?;
    let depth = |name: &str| name.split('/').count();
    let depths: BTreeSet<usize> = members.iter().map(|(name, _)| depth(name)).collect();
    let [depth] = depths.into_iter().collect::<Vec<_>>().try_into().ok()?;
    let last: BTreeSet<&str> = members.iter().filter_map(|(name, _)| name.rsplit('/').next()).collect();
    let endings: BTreeSet<Option<&str>> =
        last.iter().map(|file| Path::new(file).extension().and_then(|ending| ending.to_str())).collect();
    let folders: String = "/*".repeat(depth.saturating_sub(1));
    let file = match (last.len(), endings.into_iter().collect::<Vec<_>>().as_slice()) {
        (1, _) if depth > 1 => last.first().copied()?.to_owned(),
        (_, [Some(ending)]) => format!("*.{ending}"),
        (_, _) if depth == 1 => return Some(base),
        _ => "*".to_owned(),
    };
    Some(format!("{base}{folders}/{file}"))
}

/// A template that has `{tenant}` where the names stand in the paths.
fn template(members: &[(&str, &str)]) -> Option<String> {
    let templates = |(name, connection): &(&str, &str)| -> BTreeSet<(usize, String)> {
        let filled = |(at, _): (usize, &str)| {
            let (head, rest) = (connection.get(..at)?, connection.get(at + name.len()..)?);
            Some((head.len(), format!("{head}{{tenant}}{rest}")))
        };
        connection.match_indices(name).filter_map(filled).collect()
    };
    let mut members = members.iter().map(templates);
    let first = members.next()?;
    let common = members.fold(first, |common, other| common.intersection(&other).cloned().collect());
    common.into_iter().next_back().map(|(_, template)| template)
}

/// Returns the option by which commands find a configuration that does not lie where they look.
pub(crate) fn config_option(file: &Path) -> String {
    format!(" --config {}", quoted(&file.display().to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sources_give_the_names_that_backups_have() {
        for (members, expected) in [
            (&[("erp.db", "/srv/erp.db")][..], Some("/srv/erp.db")),
            (&[("acme", "/srv/shops/acme.db")], Some("/srv/shops/{tenant}.db")),
            (&[("acme", "/srv/acme/acme.db"), ("b", "/srv/acme/b.db")], Some("/srv/acme/{tenant}.db")),
            (&[("a", "/srv/a/app.db"), ("b", "/srv/b/app.db")], Some("/srv/{tenant}/app.db")),
            (&[("a.db", "/srv/a.db"), ("b.db", "/srv/b.db")], Some("/srv/*.db")),
            (&[("a.db", "/srv/a.db"), ("b.sqlite", "/srv/b.sqlite")], Some("/srv")),
            (&[("a/x.db", "/srv/a/x.db"), ("b/x.db", "/srv/b/x.db")], Some("/srv/*/x.db")),
            (&[("a/x.db", "/srv/a/x.db")], Some("/srv/*/x.db")),
            (&[("a", "/srv/a.db"), ("b", "/mnt/b.db")], None),
        ] {
            let found = match members {
                [(name, connection)] if Path::new(connection).file_name().unwrap() == *name => {
                    Some((*connection).to_owned())
                }
                members => below_a_folder(members).or_else(|| template(members)),
            };
            assert_eq!(found.as_deref(), expected, "{members:?}");
        }
    }
}
