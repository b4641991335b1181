//! The rule about edges between crates: they point down, and only where the table allows.

use super::Breach;
use std::path::Path;

/// Each crate, with the crates of this workspace that it may use. `testkit` may be a dev-dependency of any.
const EDGES: [(&str, &[&str]); 11] = [
    ("flow", &[]),
    ("storage", &["flow"]),
    ("restic", &["flow", "storage"]),
    ("repository", &["flow", "storage", "restic"]),
    ("engines", &["flow"]),
    ("journal", &["flow"]),
    ("operations", &["flow", "storage", "repository", "engines", "journal"]),
    ("config", &["flow", "storage", "restic", "repository", "engines", "journal", "operations"]),
    ("testkit", &["flow", "storage", "restic", "repository", "engines", "journal", "operations"]),
    ("backstay", &["flow", "storage", "restic", "repository", "engines", "journal", "operations", "config"]),
    ("xtask", &[]),
];

/// Holds a manifest against the table.
pub(super) fn check(path: &Path, text: &str) -> Vec<Breach> {
    let Ok(manifest) = text.parse::<toml::Table>() else {
        return vec![Breach::new(path, 1, "the manifest cannot be read")];
    };
    let package =
        manifest.get("package").and_then(|package| package.get("name")).and_then(toml::Value::as_str);
    let Some(package) = package else { return Vec::new() };
    let Some((_, allowed)) = EDGES.iter().find(|(name, _)| *name == package) else {
        return vec![Breach::new(path, 1, format!("the crate `{package}` is not in the table of edges"))];
    };
    let mut breaches = Vec::new();
    for kind in ["dependencies", "build-dependencies"] {
        let Some(dependencies) = manifest.get(kind).and_then(toml::Value::as_table) else { continue };
        for name in dependencies.keys() {
            let ours = EDGES.iter().any(|(known, _)| known == name);
            if ours && !allowed.contains(&name.as_str()) {
                let message = format!("`{package}` must not use `{name}`");
                breaches.push(Breach::new(path, line_of(text, name), message));
            }
        }
    }
    let lints = manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool);
    if lints != Some(true) && package != "xtask" {
        breaches.push(Breach::new(path, 1, "the crate does not inherit the workspace's lints"));
    }
    breaches
}

fn line_of(text: &str, name: &str) -> usize {
    let names = |line: &str| {
        line.trim_start().strip_prefix(name).is_some_and(|rest| rest.starts_with(['.', ' ', '=']))
    };
    text.lines().position(names).map_or(1, |line| line + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_that_points_up_is_found() {
        let text = "[package]\nname = \"storage\"\n[lints]\nworkspace = true\n[dependencies]\nflow.workspace = true\nengines = { workspace = true }\n[dev-dependencies]\ntestkit.workspace = true\n";
        let found = check(Path::new("Cargo.toml"), text);
        assert_eq!(found, [Breach::new(Path::new("Cargo.toml"), 7, "`storage` must not use `engines`")]);
    }

    #[test]
    fn strangers_and_missing_lints_are_found() {
        let stranger = "[package]\nname = \"tools\"\n";
        assert_eq!(check(Path::new("Cargo.toml"), stranger).len(), 1);
        let lax = "[package]\nname = \"flow\"\n";
        assert!(check(Path::new("Cargo.toml"), lax)[0].message.contains("lints"));
        assert!(check(Path::new("Cargo.toml"), "[workspace]\nmembers = []\n").is_empty());
    }
}
