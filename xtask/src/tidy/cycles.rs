//! The rule about modules: those beside each other in one crate use each other in one direction only.
//!
//! A module counts with all that is below it. Names that a parent re-exports are followed to the module that defines
//! them. A parent and what is below it may know each other.

use super::scrub::scrub;
use super::{Breach, TextFile};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A module by its path in the crate: `["sqlite", "dump"]`.
type Module = Vec<String>;

/// Edges between modules, with the first file and line where each is found.
type Edges = BTreeMap<(Module, Module), (String, usize)>;

/// Looks for cycles in every crate of the workspace.
pub(super) fn check(files: &[TextFile]) -> Vec<Breach> {
    let mut crates: BTreeMap<String, Vec<(Module, &TextFile)>> = BTreeMap::new();
    for file in files.iter().filter(|file| file.has_extension("rs")) {
        let path = file.path.to_string_lossy().replace('\\', "/");
        if let Some((home, below)) = path.split_once("/src/") {
            crates.entry(home.to_owned()).or_default().push((module_of(below), file));
        }
    }
    crates.values().flat_map(|modules| check_crate(modules)).collect()
}

fn module_of(path: &str) -> Module {
    let mut parts: Module = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if parts.last().is_some_and(|last| last == "mod" || last == "lib" || last == "main") {
        parts.pop();
    }
    parts
}

fn check_crate(files: &[(Module, &TextFile)]) -> Vec<Breach> {
    let modules: BTreeSet<Module> = files.iter().map(|(module, _)| module.clone()).collect();
    let sources: Vec<(Module, String, String)> = files
        .iter()
        .map(|(module, file)| (module.clone(), file.path.display().to_string(), scrub(&file.text)))
        .collect();
    let exports = exports(&sources, &modules);
    let mut edges = Edges::new();
    for (module, path, code) in &sources {
        for (line, target) in references(code, module) {
            let target = resolve(&target, &modules, &exports);
            let shared = module.iter().zip(&target).take_while(|(one, other)| one == other).count();
            // Only those beside each other: one below the other may know it.
            if shared < module.len() && shared < target.len() {
                let edge = (module[..=shared].to_vec(), target[..=shared].to_vec());
                edges.entry(edge).or_insert_with(|| (path.clone(), line));
            }
        }
    }
    edges
        .iter()
        .filter(|((from, to), _)| from != to && reaches(&edges, to, from))
        .map(|((from, to), (path, line))| {
            let message = format!("`{}` and `{}` use each other", from.join("::"), to.join("::"));
            Breach::new(Path::new(path), *line, message)
        })
        .collect()
}

fn reaches(edges: &Edges, from: &Module, to: &Module) -> bool {
    let mut seen = BTreeSet::from([from]);
    let mut waiting = vec![from];
    while let Some(module) = waiting.pop() {
        if module == to {
            return true;
        }
        let next = edges.keys().filter(|(start, _)| start == module).map(|(_, end)| end);
        waiting.extend(next.filter(|end| seen.insert(end)));
    }
    false
}

/// Returns what each module re-exports from below itself: by module and name, the full path.
fn exports(
    sources: &[(Module, String, String)],
    modules: &BTreeSet<Module>,
) -> BTreeMap<(Module, String), Module> {
    let mut exports = BTreeMap::new();
    for (module, _, code) in sources {
        for (start, _) in code.match_indices("use ") {
            let statement = code[start + 4..].split(';').next().unwrap_or_default();
            let mut paths = Vec::new();
            flatten(statement, &[], &mut paths);
            for path in paths {
                let path: Module = path.into_iter().filter(|part| part != "self").collect();
                let full: Module = module.iter().cloned().chain(path.iter().cloned()).collect();
                if let Some(name) = path.last().cloned()
                    && path.len() > 1
                    && modules.contains(&full[..module.len() + 1])
                {
                    exports.insert((module.clone(), name), full);
                }
            }
        }
    }
    exports
}

/// Returns the paths that begin with `crate` or `super`, with their lines, as full paths.
fn references(code: &str, module: &Module) -> Vec<(usize, Module)> {
    let mut found = Vec::new();
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
                continue;
            }
            let line = code[..at].matches('\n').count() + 1;
            let end = code[at..].find(';').map_or(code.len(), |end| at + end);
            let mut paths = Vec::new();
            flatten(path_at(&code[at..end]), &[], &mut paths);
            found.extend(paths.into_iter().map(|path| (line, absolute(path, module))));
        }
    }
    found
}

/// Returns the front of the text that is a path: with the whole `{…}` where it ends in one.
fn path_at(text: &str) -> &str {
    let plain = text.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(text.len());
    if !text[plain..].starts_with('{') || !text[..plain].ends_with("::") {
        return &text[..plain];
    }
    let mut depth = 0;
    for (at, c) in text.char_indices().skip(plain) {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if depth == 0 {
            return &text[..=at];
        }
    }
    text
}

/// Turns `crate::…` and `super::…` into a path from the crate's root.
fn absolute(path: Module, module: &Module) -> Module {
    let mut base = module.clone();
    let mut rest = path.as_slice();
    while let Some((first, below)) = rest.split_first() {
        match first.as_str() {
            "crate" => base.clear(),
            "super" => drop(base.pop()),
            "self" => {}
            _ => break,
        }
        rest = below;
    }
    base.extend_from_slice(rest);
    base
}

/// Follows re-exports to the module that holds what a path names.
fn resolve(
    path: &Module,
    modules: &BTreeSet<Module>,
    exports: &BTreeMap<(Module, String), Module>,
) -> Module {
    let mut path = path.clone();
    for _ in 0..8 {
        let length = (0..=path.len()).rev().find(|length| modules.contains(&path[..*length])).unwrap_or(0);
        let Some(name) = path.get(length) else { break };
        match exports.get(&(path[..length].to_vec(), name.clone())) {
            Some(full) => path = full.iter().chain(&path[length + 1..]).cloned().collect(),
            None => return path[..length].to_vec(),
        }
    }
    let length = (0..=path.len()).rev().find(|length| modules.contains(&path[..*length])).unwrap_or(0);
    path[..length].to_vec()
}

/// Writes a use tree out: `a::{b, c::d}` becomes `a::b` and `a::c::d`.
fn flatten(tree: &str, prefix: &[String], paths: &mut Vec<Module>) {
    let tree = tree.trim();
    let Some((head, group)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        let parts = path.split("::").map(|part| part.trim().to_owned()).filter(|part| !part.is_empty());
        paths.push(prefix.iter().cloned().chain(parts).collect());
        return;
    };
    let mut base = prefix.to_vec();
    base.extend(head.split("::").map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()));
    let group = group.trim_end().strip_suffix('}').unwrap_or(group);
    let (mut depth, mut start) = (0, 0);
    for (at, c) in group.char_indices().chain([(group.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !group[start..at].trim().is_empty() {
                    flatten(&group[start..at], &base, paths);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> TextFile {
        TextFile { path: path.into(), text: text.to_owned() }
    }

    #[test]
    fn a_cycle_is_found_through_a_re_export() {
        let files = [
            file("crates/x/src/lib.rs", "mod a;\nmod b;\npub use a::{Alpha, other::Thing};\n"),
            file("crates/x/src/a.rs", "use std::io;\nuse crate::b::Beta;\n"),
            file("crates/x/src/b.rs", "//! Prose.\nfn f(_: &crate::Alpha) {}\n"),
        ];
        let found: Vec<String> = check(&files).iter().map(Breach::to_string).collect();
        assert_eq!(
            found,
            [
                "crates/x/src/a.rs:2: `a` and `b` use each other",
                "crates/x/src/b.rs:2: `b` and `a` use each other"
            ]
        );
    }

    #[test]
    fn a_longer_cycle_is_found_below_a_module() {
        let files = [
            file("crates/x/src/m/mod.rs", "mod a; mod b; mod c;"),
            file("crates/x/src/m/a.rs", "use super::b::{self, B};"),
            file("crates/x/src/m/b.rs", "use crate::m::c::C;"),
            file("crates/x/src/m/c.rs", "fn f() { super::a::f() }"),
        ];
        assert_eq!(check(&files).len(), 3);
    }

    #[test]
    fn one_direction_and_parents_are_fine() {
        let files = [
            file("crates/x/src/lib.rs", "mod a;\nmod b;\nuse a::A;\npub struct Root;\nfn f() { a::f() }"),
            file(
                "crates/x/src/a.rs",
                "use crate::Root;\n// use crate::b::B;\nconst C: &str = \"crate::b::B\";",
            ),
            file("crates/x/src/b.rs", "use crate::{A, Root};\n"),
            file("crates/y/src/b.rs", "use crate::a::A;"),
        ];
        assert_eq!(check(&files), []);
    }
}
