//! Rules about one file: its length, its opening prose, its functions, its words.

use super::Breach;
use super::scrub::scrub;
use std::path::Path;

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
const VAGUE_MODULES: [&str; 4] = ["util", "misc", "common", "helpers"];

/// Marks of unfinished work. Written in two pieces, so that this file holds none of them.
const UNFINISHED: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];

/// Places and hosts that must not be named: where the project happens to be worked on, and package registries (a
/// mirror may stand in for any of them).
const FORBIDDEN: [&str; 9] = [
    concat!("/wor", "k/"),
    concat!("../sha", "red"),
    concat!("crates", ".io"),
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("proxy.", "golang.org"),
    concat!("npmjs", ".org"),
    concat!("repo1.", "maven.org"),
    concat!("deb.", "debian.org"),
];

/// Holds any text file against the rules about words.
pub(super) fn check_words(path: &Path, text: &str) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for word in FORBIDDEN.iter().filter(|word| line.contains(**word)) {
            breaches.push(Breach::new(path, number, format!("`{word}` must not be named")));
        }
        let words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for word in words.filter(|word| UNFINISHED.contains(word)) {
            breaches.push(Breach::new(path, number, format!("unfinished work: `{word}`")));
        }
    }
    breaches
}

/// Holds a Rust file against the rules about its shape.
pub(super) fn check(path: &Path, text: &str) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        breaches.push(Breach::new(
            path,
            lines,
            format!("the file has {lines} lines, {FILE_LINES_MAX} are allowed"),
        ));
    }
    if !text.starts_with("//!") {
        breaches.push(Breach::new(path, 1, "the file does not open with `//!` prose"));
    }
    let code = scrub(text);
    breaches.extend(long_functions(path, &code));
    for (number, line) in (1..).zip(code.lines()) {
        let mut words =
            line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
        let module = words.find(|word| *word == "mod").and_then(|_| words.next());
        if let Some(name) = module.filter(|name| VAGUE_MODULES.contains(name)) {
            breaches.push(Breach::new(path, number, format!("the module name `{name}` says nothing")));
        }
    }
    breaches
}

fn long_functions(path: &Path, code: &str) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let line_of = |at: usize| code[..at].matches('\n').count() + 1;
    for (at, _) in code.match_indices("fn ") {
        let starts_word = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let Some(end) = starts_word.then(|| function_end(&code[at..])).flatten() else { continue };
        let (first, last) = (line_of(at), line_of(at + end));
        let lines = last - first + 1;
        if lines > FUNCTION_LINES_MAX {
            let message = format!("the function has {lines} lines, {FUNCTION_LINES_MAX} are allowed");
            breaches.push(Breach::new(path, first, message));
        }
    }
    breaches
}

/// Returns where the body of a function ends, if it has one.
fn function_end(code: &str) -> Option<usize> {
    let (mut braces, mut brackets) = (0_i32, 0_i32);
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets -= 1,
            '{' => braces += 1,
            '}' => {
                braces -= 1;
                if braces <= 0 {
                    return (braces == 0).then_some(at);
                }
            }
            // A trait's function without a body.
            ';' if braces == 0 && brackets <= 0 => return None,
            _ => {}
        }
        if brackets < 0 {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(breaches: Vec<Breach>) -> Vec<String> {
        breaches.iter().map(Breach::to_string).collect()
    }

    #[test]
    fn a_long_file_without_prose_is_found() {
        let text = "fn a() {}\n".repeat(601);
        let found = messages(check(Path::new("a.rs"), &text));
        assert_eq!(found[0], "a.rs:601: the file has 601 lines, 600 are allowed");
        assert_eq!(found[1], "a.rs:1: the file does not open with `//!` prose");
        assert!(check(Path::new("a.rs"), "//! Prose.\nfn a() {}\n").is_empty());
    }

    #[test]
    fn a_long_function_is_found_and_a_short_one_is_not() {
        let body = |lines| {
            format!(
                "//! Prose.\n\nfn a<T>(x: [u8; 4]) -> T\nwhere T: Fn(u8) -> u8,\n{{\n{}}}\n",
                "f();\n".repeat(lines)
            )
        };
        let found = messages(check(Path::new("a.rs"), &body(80)));
        assert_eq!(found, ["a.rs:3: the function has 84 lines, 70 are allowed"]);
        let plain = |lines| format!("//! Prose.\n\npub fn a() {{\n{}}}\n", "f({});\n".repeat(lines));
        assert_eq!(
            messages(check(Path::new("a.rs"), &plain(69))),
            ["a.rs:3: the function has 71 lines, 70 are allowed"]
        );
        assert!(check(Path::new("a.rs"), &plain(68)).is_empty());
    }

    #[test]
    fn vague_modules_are_found() {
        let found = messages(check(Path::new("a.rs"), "//! Prose.\npub(crate) mod util;\nmod utility;\n"));
        assert_eq!(found, ["a.rs:2: the module name `util` says nothing"]);
    }

    #[test]
    fn unfinished_work_and_forbidden_places_are_found() {
        let text = format!("a\n// {}: later\n{}main\n", UNFINISHED[0], FORBIDDEN[0]);
        let found = messages(check_words(Path::new("a.rs"), &text));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("a.rs:2: unfinished") && found[1].starts_with("a.rs:3: "), "{found:?}");
        assert!(check_words(Path::new("a.rs"), "TODOS homework/x").is_empty());
    }
}
