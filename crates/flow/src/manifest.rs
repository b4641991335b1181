//! The manifest: what a backup consists of, kept beside its entries.

use crate::{DatabaseName, Digest128, EntryName, Facts, Layout, TargetName};
use serde::{Deserialize, Serialize};

/// The schema that manifests of this version name.
pub const MANIFEST_SCHEMA: &str = "backstay.manifest/1";

/// The facts taken with a backup, its entries and their parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`MANIFEST_SCHEMA`].
    pub schema: String,
    /// The target it was taken of.
    pub target: TargetName,
    /// The database it was taken of.
    pub database: DatabaseName,
    /// Where that database was: a path, or a URL without password.
    pub connection: String,
    /// The facts of its content.
    pub facts: Facts,
    /// Its entries, in the order of their names.
    pub entries: Vec<ManifestEntry>,
    /// How long taking it took, in milliseconds.
    pub elapsed_ms: u64,
}

impl Manifest {
    /// Returns the entry of that name.
    pub fn entry(&self, name: &EntryName) -> Option<&ManifestEntry> {
        self.entries.iter().find(|entry| entry.name == *name)
    }
}

/// One named stream of bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestEntry {
    /// Its name.
    pub name: EntryName,
    /// How its bytes are laid out and cut.
    pub layout: Layout,
    /// Its length.
    pub size_bytes: u64,
    /// Its parts in order; together they are the whole entry.
    pub parts: Vec<ManifestPart>,
}

/// One independent, ordered piece of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestPart {
    /// Its length.
    pub size_bytes: u64,
    /// How many blobs of the entry's list are its own; their order gives which.
    pub blobs: u64,
    /// Rows in it, where the engine counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Digest of its rows, where the engine computes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest128>,
}
