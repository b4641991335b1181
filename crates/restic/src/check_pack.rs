//! Checking one whole pack against its name, its header and the index.

use crate::blob::open_blob;
use crate::crypto::SealingKey;
use crate::id::{BlobKind, Id};
use crate::pack::{PackBlob, open_header};

/// What became of a pack.
#[derive(Debug, Default)]
pub(crate) struct PackVerdict {
    pub(crate) problem: Option<String>,
    /// The blobs that cannot be read from it.
    pub(crate) bad_blobs: Vec<(BlobKind, Id)>,
}

impl PackVerdict {
    /// A pack that the storage does not give.
    pub(crate) fn unreadable(problem: String, blobs: &[PackBlob]) -> Self {
        Self { problem: Some(problem), bad_blobs: blobs.iter().map(|blob| (blob.kind, blob.id)).collect() }
    }
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
    PackVerdict { problem: (!problems.is_empty()).then(|| problems.join("; ")), bad_blobs }
}

/// Blobs of no length share an offset: the order among them says nothing.
fn same_blobs(header: &[PackBlob], indexed: &[PackBlob]) -> bool {
    let mut header = header.to_vec();
    header.sort_by_key(|blob| (blob.offset, blob.id));
    header == indexed
}
