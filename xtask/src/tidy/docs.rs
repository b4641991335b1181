//! The rule about documents: a link to a file leads somewhere.

use super::Breach;
use std::path::{Component, Path, PathBuf};

/// Looks for links to files that do not exist; `exists` is asked with paths relative to the checkout.
pub(super) fn check(path: &Path, text: &str, exists: impl Fn(&Path) -> bool) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let mut in_code = false;
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for (at, _) in line.match_indices("](") {
            let target = line[at + 2..].split([')', ' ']).next().unwrap_or_default();
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains(':') || file.starts_with('<') {
                continue;
            }
            let folder = path.parent().unwrap_or(Path::new(""));
            if !exists(&normal(&folder.join(file))) {
                breaches.push(Breach::new(path, number, format!("the link to `{file}` leads nowhere")));
            }
        }
    }
    breaches
}

/// Returns a path without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut result = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => drop(result.pop()),
            other => result.push(other),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let text = "[a](../README.md) [b](gone.md#x)\n[c](https://example.org/x) [d](#here)\n```\n[e](code.md)\n```\n";
        let found = check(Path::new("docs/a.md"), text, |path| path == Path::new("README.md"));
        assert_eq!(found, [Breach::new(Path::new("docs/a.md"), 1, "the link to `gone.md` leads nowhere")]);
    }
}
