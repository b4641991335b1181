//! What lies beside a dump file and says what it must be: the manifest that we write (`FILE.json`), or what `sha256sum`
//! printed (`FILE.sha256`).
//!
//! Read and nothing else; a file beside that says nothing of it counts as none.

use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;
use storage::Folder;

/// No such file is longer.
const BYTES_MAX: u64 = 64 << 20;

/// What is said of a file's digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    /// SHA-256 in small hexadecimal digits.
    pub(crate) sha256: String,
    /// Where it is said.
    pub(crate) place: String,
}

/// Returns the digest that a file must have; `None` where nothing beside it says one.
pub(crate) fn expected(folder: &dyn Folder, name: &OsStr) -> Option<Expected> {
    let with = |ending: &str| {
        let mut name = name.to_owned();
        name.push(ending);
        name
    };
    let manifest = with(".json");
    let said = read(folder, &manifest).and_then(|text| {
        let value: serde_json::Value = serde_json::from_str(&text).ok()?;
        value.get("sha256")?.as_str().and_then(digest)
    });
    if let Some(sha256) = said {
        return Some(Expected { sha256, place: folder.location_of(&manifest) });
    }
    let sums = with(".sha256");
    let name = name.to_str()?;
    let text = read(folder, &sums)?;
    let of_line = |line: &str| {
        let (first, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let named = rest.trim_start_matches([' ', '\t', '*']);
        let fits = named.is_empty() || Path::new(named).file_name().is_some_and(|own| own == name);
        digest(first).filter(|_| fits)
    };
    let sha256 = text.lines().find_map(of_line)?;
    Some(Expected { sha256, place: folder.location_of(&sums) })
}

fn read(folder: &dyn Folder, name: &OsStr) -> Option<String> {
    let mut text = String::new();
    folder.open(name, 0).ok()?.take(BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

fn digest(text: &str) -> Option<String> {
    let is_one = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_one.then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use storage::LocalFolder;

    #[test]
    fn a_digest_is_found_beside_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let place = LocalFolder::new(folder.path());
        let expected = |name: &str| expected(&place, name.as_ref());
        let one = "0123456789abcdef".repeat(4);
        assert_eq!(expected("a.sql"), None);
        std::fs::write(
            folder.path().join("a.sql.sha256"),
            format!("{}  other.sql\n{}  ./a.sql\n", "f".repeat(64), one.to_uppercase()),
        )
        .unwrap();
        assert_eq!(expected("a.sql").unwrap().sha256, one);
        std::fs::write(folder.path().join("a.sql.json"), format!("{{\"sha256\":\"{}\"}}", "a".repeat(64)))
            .unwrap();
        assert_eq!(expected("a.sql").unwrap().sha256, "a".repeat(64));
        std::fs::write(folder.path().join("a.sql.json"), "{}").unwrap();
        assert_eq!(expected("a.sql").unwrap().sha256, one);
    }
}
