//! A snapshot as restic stores it: who took it, when, and the tree that it holds.
//!
//! Fields that newer clients add are kept out of the way: they are ignored on reading.

use crate::id::Id;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

/// One snapshot. Its id is the hash of its sealed file and not part of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// When it was taken.
    pub time: Timestamp,
    /// The snapshot it was compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Id>,
    /// Its root folder.
    pub tree: Id,
    /// What was backed up.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub paths: Vec<String>,
    /// The host that took it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// The user that took it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// The user's number.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub uid: u32,
    /// The user's group.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gid: u32,
    /// What was left out.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub excludes: Vec<String>,
    /// Its tags.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The snapshot that it is a rewritten copy of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<Id>,
    /// The program that wrote it, as `backstay 0.1.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program_version: Option<String>,
    /// Statistics of newer restic clients, as they wrote them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<serde_json::Value>,
}

impl Snapshot {
    /// Makes a snapshot of a tree, by this program, with nothing said about its origin.
    pub fn new(time: Timestamp, tree: Id) -> Self {
        Self {
            time,
            parent: None,
            tree,
            paths: Vec::new(),
            hostname: String::new(),
            username: String::new(),
            uid: 0,
            gid: 0,
            excludes: Vec::new(),
            tags: Vec::new(),
            original: None,
            program_version: Some(concat!("backstay ", env!("CARGO_PKG_VERSION")).to_owned()),
            summary: None,
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn null_is_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::<Vec<String>>::deserialize(deserializer)?.unwrap_or_default())
}
