//! Index files as JSON: which packs there are, and what each holds.

use crate::error::ResticError;
use crate::id::{BlobKind, Id};
use crate::pack::PackBlob;
use crate::quoting::to_go_json;
use serde::{Deserialize, Serialize};

/// Keeps index files below restic's 8 MiB.
pub(crate) const INDEX_BLOBS_MAX: usize = 40_000;

/// What an index file says of one pack.
#[derive(Debug, Clone)]
pub(crate) struct IndexedPack {
    pub(crate) id: Id,
    pub(crate) blobs: Vec<PackBlob>,
}

/// An index file, read.
#[derive(Debug)]
pub(crate) struct IndexFile {
    /// The index files that this one replaces.
    pub(crate) supersedes: Vec<Id>,
    pub(crate) packs: Vec<IndexedPack>,
}

#[derive(Serialize, Deserialize)]
struct FileJson {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    supersedes: Option<Vec<Id>>,
    packs: Option<Vec<PackJson>>,
}

#[derive(Serialize, Deserialize)]
struct PackJson {
    id: Id,
    blobs: Vec<BlobJson>,
}

#[derive(Serialize, Deserialize)]
struct BlobJson {
    id: Id,
    #[serde(rename = "type")]
    kind: BlobKind,
    offset: u32,
    length: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    uncompressed_length: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Returns the JSON of an index file that names these packs and replaces other index files.
pub(crate) fn to_json(packs: &[IndexedPack], supersedes: &[Id]) -> Result<Vec<u8>, ResticError> {
    let blob = |blob: &PackBlob| BlobJson {
        id: blob.id,
        kind: blob.kind,
        offset: blob.offset,
        length: blob.length,
        uncompressed_length: blob.uncompressed_length,
    };
    let packs = packs
        .iter()
        .map(|pack| PackJson { id: pack.id, blobs: pack.blobs.iter().map(blob).collect() })
        .collect();
    let supersedes = (!supersedes.is_empty()).then(|| supersedes.to_vec());
    to_go_json(&FileJson { supersedes, packs: Some(packs) })
}

/// Reads the JSON of an index file. Also the oldest form, a bare list of packs.
pub(crate) fn from_json(json: &[u8]) -> Result<IndexFile, serde_json::Error> {
    let file: FileJson = match json.first() {
        Some(b'[') => FileJson { supersedes: None, packs: Some(serde_json::from_slice(json)?) },
        _ => serde_json::from_slice(json)?,
    };
    let blob = |blob: BlobJson| PackBlob {
        kind: blob.kind,
        id: blob.id,
        offset: blob.offset,
        length: blob.length,
        uncompressed_length: blob.uncompressed_length,
    };
    let packs = file.packs.unwrap_or_default();
    Ok(IndexFile {
        supersedes: file.supersedes.unwrap_or_default(),
        packs: packs
            .into_iter()
            .map(|pack| IndexedPack { id: pack.id, blobs: pack.blobs.into_iter().map(blob).collect() })
            .collect(),
    })
}
