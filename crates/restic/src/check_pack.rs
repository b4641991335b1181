//! Checking one whole pack against its name, its header and the index.

use crate::blob::open_blob;
use crate::crypto::SealingKey;
use crate::error::ResticError;
use crate::id::{BlobKind, Id};
use crate::pack::{HeaderError, PackBlob, TRAILER_BYTES, open_header, open_sealed_header};
use crate::vault::{ObjectKind, Vault, object_name};

/// What became of a pack.
#[derive(Debug, Default)]
pub(crate) struct PackVerdict {
    pub(crate) problem: Option<String>,
    /// The blobs that cannot be read from it.
    pub(crate) bad_blobs: Vec<(BlobKind, Id)>,
    /// Whether the storage gave all of it.
    pub(crate) is_read: bool,
}

impl PackVerdict {
    /// A pack that the storage does not give.
    pub(crate) fn unreadable(problem: String, blobs: &[PackBlob]) -> Self {
        let bad_blobs = blobs.iter().map(|blob| (blob.kind, blob.id)).collect();
        Self { problem: Some(problem), bad_blobs, is_read: false }
    }
}

/// Reads the header of a stored pack of that size, and no more of it.
pub(crate) fn read_header(vault: &Vault, id: &Id, size_bytes: u64) -> Result<Vec<PackBlob>, ResticError> {
    let object = || vault.describe(ObjectKind::Pack, id);
    let name = object_name(ObjectKind::Pack, id)?;
    let get = |range: std::ops::Range<u64>| {
        vault.storage.get_range(&name, range).map_err(|error| ResticError::storage(object(), error))
    };
    let damaged = |error: HeaderError| ResticError::damaged(object(), error.to_string());
    let end = size_bytes.checked_sub(TRAILER_BYTES as u64).ok_or_else(|| damaged(HeaderError::Short))?;
    let trailer = <[u8; TRAILER_BYTES]>::try_from(get(end..size_bytes)?);
    let length = u64::from(u32::from_le_bytes(trailer.map_err(|_| damaged(HeaderError::Short))?));
    let begin = end.checked_sub(length).ok_or_else(|| damaged(HeaderError::Short))?;
    open_sealed_header(&vault.key, get(begin..end)?, begin).map_err(damaged)
}

/// Examines a pack: its hash is its name, its header is what the index says, each blob opens and has its hash.
pub(crate) fn examine_pack(key: &SealingKey, id: &Id, content: &[u8], indexed: &[PackBlob]) -> PackVerdict {
    let mut problems = Vec::new();
    if Id::of(content) != *id {
        problems.push("its content is damaged: its hash is not its name".to_owned());
    }
    match open_header(key, content) {
        Ok(header) if same_blobs(&header, indexed) => {}
        Ok(_) => problems.push("its header and the index differ".to_owned()),
        Err(error) => problems.push(error.to_string()),
    }
    let mut bad_blobs = Vec::new();
    for blob in indexed {
        let begin = blob.offset as usize;
        let sealed = content.get(begin..begin + blob.length as usize);
        let length = (blob.uncompressed_length != 0).then_some(blob.uncompressed_length);
        let good = sealed.is_some_and(|sealed| open_blob(key, sealed.to_vec(), &blob.id, length).is_ok());
        if !good {
            bad_blobs.push((blob.kind, blob.id));
        }
    }
    if !bad_blobs.is_empty() {
        problems.push(format!("{} of its {} blobs cannot be read", bad_blobs.len(), indexed.len()));
    }
    let problem = (!problems.is_empty()).then(|| problems.join("; "));
    PackVerdict { problem, bad_blobs, is_read: true }
}

/// Blobs of no length share an offset: the order among them says nothing.
fn same_blobs(header: &[PackBlob], indexed: &[PackBlob]) -> bool {
    let mut header = header.to_vec();
    header.sort_by_key(|blob| (blob.offset, blob.id));
    header == indexed
}
