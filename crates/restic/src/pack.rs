//! Packs: sealed blobs one after another, then a sealed header that lists them, then the header's length.
//!
//! Pure functions over bytes. A header that contradicts itself or its pack is refused.

use crate::crypto::{SEAL_BYTES, SealingKey};
use crate::error::ResticError;
use crate::id::{BlobKind, Id};

/// Length of a header entry of a blob that is stored as it is.
const ENTRY_BYTES: usize = 37;
/// Length of a header entry of a compressed blob.
const COMPRESSED_ENTRY_BYTES: usize = 41;
/// The length of the header, in four bytes at the end of a pack.
pub(crate) const TRAILER_BYTES: usize = 4;

/// A header of so many blobs is far below restic's limit of 16 MiB.
pub(crate) const PACK_BLOBS_MAX: usize = 32_768;

/// One blob of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PackBlob {
    pub(crate) kind: BlobKind,
    pub(crate) id: Id,
    pub(crate) offset: u32,
    /// As stored.
    pub(crate) length: u32,
    /// 0 where the blob is not compressed.
    pub(crate) uncompressed_length: u32,
}

/// What is wrong with a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeaderError {
    #[error("the pack is shorter than its header")]
    Short,
    #[error("its header cannot be opened")]
    Sealed,
    #[error("its header has an entry of the unknown type {0}")]
    Type(u8),
    #[error("its header ends within an entry")]
    Cut,
    #[error("its header does not add up to the pack's size")]
    Sum,
}

pub(crate) fn entry_bytes(uncompressed_length: u32) -> usize {
    if uncompressed_length == 0 { ENTRY_BYTES } else { COMPRESSED_ENTRY_BYTES }
}

/// Returns what a pack has beside its blobs.
pub(crate) fn overhead_bytes(uncompressed_lengths: impl Iterator<Item = u32>) -> u64 {
    let entries: usize = uncompressed_lengths.map(entry_bytes).sum();
    (entries + SEAL_BYTES + TRAILER_BYTES) as u64
}

/// Returns the end of a pack that holds these blobs in this order: sealed header and its length.
pub(crate) fn seal_header(key: &SealingKey, blobs: &[PackBlob]) -> Result<Vec<u8>, ResticError> {
    let mut header = Vec::with_capacity(blobs.len() * COMPRESSED_ENTRY_BYTES);
    for blob in blobs {
        let compressed = blob.uncompressed_length != 0;
        let kind = match blob.kind {
            BlobKind::Data => 0,
            BlobKind::Tree => 1,
        };
        header.push(kind | if compressed { 2 } else { 0 });
        header.extend_from_slice(&blob.length.to_le_bytes());
        if compressed {
            header.extend_from_slice(&blob.uncompressed_length.to_le_bytes());
        }
        header.extend_from_slice(&blob.id.0);
    }
    let mut sealed = key.seal(&header)?;
    let length = u32::try_from(sealed.len())
        .map_err(|_| ResticError::new(crate::ResticErrorKind::Failed, "pack", "has too many blobs"))?;
    sealed.extend_from_slice(&length.to_le_bytes());
    Ok(sealed)
}

/// Reads the header of a whole pack.
pub(crate) fn open_header(key: &SealingKey, pack: &[u8]) -> Result<Vec<PackBlob>, HeaderError> {
    let (rest, trailer) = pack.split_last_chunk::<TRAILER_BYTES>().ok_or(HeaderError::Short)?;
    let length = u32::from_le_bytes(*trailer) as usize;
    let begin = rest.len().checked_sub(length).ok_or(HeaderError::Short)?;
    open_sealed_header(key, rest[begin..].to_vec(), begin as u64)
}

/// Opens a sealed header that begins at this offset of its pack.
pub(crate) fn open_sealed_header(
    key: &SealingKey,
    sealed: Vec<u8>,
    begin: u64,
) -> Result<Vec<PackBlob>, HeaderError> {
    let header = key.open(sealed).map_err(|_| HeaderError::Sealed)?;
    parse(&header, begin)
}

fn parse(header: &[u8], blobs_bytes: u64) -> Result<Vec<PackBlob>, HeaderError> {
    let mut blobs = Vec::with_capacity(header.len() / ENTRY_BYTES);
    let mut offset = 0u32;
    let mut rest = header;
    while let Some(kind) = take(&mut rest, 1) {
        let blob_kind = match kind[0] & 1 {
            0 => BlobKind::Data,
            _ => BlobKind::Tree,
        };
        if kind[0] > 3 {
            return Err(HeaderError::Type(kind[0]));
        }
        let length = number(&mut rest)?;
        let uncompressed_length = if kind[0] & 2 != 0 { number(&mut rest)? } else { 0 };
        let mut id = [0; 32];
        id.copy_from_slice(take(&mut rest, 32).ok_or(HeaderError::Cut)?);
        blobs.push(PackBlob { kind: blob_kind, id: Id(id), offset, length, uncompressed_length });
        offset = offset.checked_add(length).ok_or(HeaderError::Sum)?;
    }
    if u64::from(offset) != blobs_bytes {
        return Err(HeaderError::Sum);
    }
    Ok(blobs)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

fn number(rest: &mut &[u8]) -> Result<u32, HeaderError> {
    let bytes = take(rest, 4).ok_or(HeaderError::Cut)?;
    Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_header_survives_and_its_damage_shows() {
        let key = SealingKey::new(&[7; 64]);
        let blob = |kind, text: &[u8], offset, length, uncompressed_length| PackBlob {
            kind,
            id: Id::of(text),
            offset,
            length,
            uncompressed_length,
        };
        let blobs = [
            blob(BlobKind::Data, b"a", 0, 40, 0),
            blob(BlobKind::Data, b"b", 40, 50, 900),
            blob(BlobKind::Tree, b"c", 90, 10, 1),
            blob(BlobKind::Tree, b"d", 100, 33, 0),
        ];
        let mut pack = vec![1; 133];
        pack.extend(seal_header(&key, &blobs).unwrap());
        let overhead = overhead_bytes(blobs.iter().map(|blob| blob.uncompressed_length));
        assert_eq!(pack.len() as u64, 133 + overhead);
        assert_eq!(open_header(&key, &pack).unwrap(), blobs);
        assert_eq!(open_header(&key, &pack[1..]), Err(HeaderError::Sum));
        assert!(open_header(&key, &pack[..pack.len() - 1]).is_err());
        assert_eq!(open_header(&key, &[9, 9]), Err(HeaderError::Short));
        let at = pack.len() - 30;
        pack[at] ^= 1;
        assert_eq!(open_header(&key, &pack), Err(HeaderError::Sealed));
    }
}
