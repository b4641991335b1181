//! How names of targets, databases and entries become names of nodes in a restic tree, and tags.
//!
//! Database names may hold slashes, quotes and anything else; a file system that stock restic restores to holds less.
//! What a node's name cannot hold is percent-encoded; what is too long keeps its beginning and gets a digest. The true
//! names are in `databases.jsonl` and in the manifest. Fixed in FORMAT.md: changing it would hide old backups from
//! `restic forget --path` and from people.

use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// The key of the tag of a run of one database alone.
pub(super) const ONLY: &str = "database";
/// The key of the tag of a run that holds a part of its databases alone.
pub(super) const SELECTION: &str = "selection";

/// The longest encoded name that is kept as it is: file systems end at 255 bytes.
const LENGTH_MAX_BYTES: usize = 200;
/// How much of a longer one is kept.
const LENGTH_KEPT_BYTES: usize = 120;

/// Returns the node name for a target's or database's name, or for one part of an entry's.
pub(super) fn encode(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    if name == "." || name == ".." {
        return name.replace('.', "%2E");
    }
    for letter in name.chars() {
        if matches!(letter, '/' | '%' | '\\' | '"') || letter.is_control() {
            let mut bytes = [0; 4];
            for byte in letter.encode_utf8(&mut bytes).bytes() {
                // Writing to a string cannot fail.
                let _ = write!(encoded, "%{byte:02X}");
            }
        } else {
            encoded.push(letter);
        }
    }
    if encoded.len() <= LENGTH_MAX_BYTES {
        return encoded;
    }
    let digest = Sha256::digest(name.as_bytes());
    let mut kept = LENGTH_KEPT_BYTES;
    while !encoded.is_char_boundary(kept) {
        kept -= 1;
    }
    encoded.truncate(kept);
    format!("{encoded}%~{}", hex::encode(&digest[..16]))
}

/// Returns the name that was encoded as this; of one that was too long, and of what was never encoded, what it says.
pub(super) fn decode(encoded: &str) -> String {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..2).filter(|_| *first == b'%');
        match digits.and_then(|digits| hex::decode(digits).ok()) {
            Some(byte) => {
                bytes.extend(byte);
                rest = behind.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| encoded.to_owned())
}

/// Returns a tag `key=value`; restic takes a comma for the end of a tag.
pub(super) fn tag(key: &str, value: &str) -> String {
    format!("{key}={}", value.replace('%', "%25").replace(',', "%2C"))
}

/// Returns the value of the tag of that key.
pub(super) fn tag_value(tags: &[String], key: &str) -> Option<String> {
    let value = tags.iter().find_map(|tag| tag.strip_prefix(key)?.strip_prefix('='))?;
    Some(value.replace("%2C", ",").replace("%25", "%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_fixed() {
        assert_eq!(encode("shop"), "shop");
        assert_eq!(encode("/srv/a b.db"), "%2Fsrv%2Fa b.db");
        assert_eq!(encode("100%\\\"\n"), "100%25%5C%22%0A");
        assert_eq!(encode(".."), "%2E%2E");
        assert_eq!(encode("Kürbis"), "Kürbis");
        let long = encode(&"ä".repeat(150));
        assert_eq!(long, format!("{}%~{}", "ä".repeat(60), "a9f41bcd127a4715750da4ac9f1831ea"));
    }

    #[test]
    fn names_come_back() {
        for name in ["shop", "/srv/a b.db", "100%\\\"\n", "..", "Kürbis", "%41", "%"] {
            assert_eq!(decode(&encode(name)), name);
        }
        assert_eq!(decode("%~%FF"), "%~%FF", "what nobody encoded");
    }

    #[test]
    fn tags_survive_commas() {
        let tags = vec![tag("plan", "nightly"), tag("target", "a,b%2C")];
        assert_eq!(tag_value(&tags, "target").as_deref(), Some("a,b%2C"));
        assert_eq!(tag_value(&tags, "plan").as_deref(), Some("nightly"));
        assert_eq!(tag_value(&tags, "tar"), None);
    }
}
