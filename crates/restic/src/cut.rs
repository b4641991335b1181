//! Where streams are cut into blobs: a pure function of content, parameters and the repository's secret seed.
//!
//! Cutting another way after a release would store everything again, so golden tests hold the cut points. Public
//! parameters would let the sizes of sealed blobs betray known content; the seed keeps the cut points a secret.

use fastcdc::v2020::{Normalization, cut_gear, get_gear_with_seed, select_masks};
use sha2::{Digest, Sha256};

/// The least size of a content-defined blob, but for the last of a stream.
pub const CONTENT_MIN_BYTES: usize = 256 << 10;
/// The size that content-defined blobs have on average.
pub const CONTENT_AVERAGE_BYTES: usize = 1 << 20;
/// The greatest size of a content-defined blob.
pub const CONTENT_MAX_BYTES: usize = 4 << 20;
/// The greatest distance of fixed cuts.
pub const FIXED_MAX_BYTES: u32 = 16 << 20;

/// How a stream is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// At multiples of a number of bytes, from 512 to [`FIXED_MAX_BYTES`].
    Fixed {
        /// The distance of the cuts.
        bytes: u32,
    },
    /// Where the content says so.
    ContentDefined,
}

/// Returns the seed of the content-defined cuts of a repository, from its chunker polynomial (which restic keeps
/// sealed): the first eight bytes, little endian, of SHA-256(`backstay gear 1` ‖ polynomial as u64 LE); never 0.
pub fn cut_seed(chunker_polynomial: u64) -> u64 {
    let mut hash = Sha256::new();
    hash.update(b"backstay gear 1");
    hash.update(chunker_polynomial.to_le_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_le_bytes(first).max(1)
}

/// Finds content-defined cuts.
#[derive(Debug, Clone)]
pub struct ContentCutter {
    gear: Box<[u64]>,
    gear_shifted: Box<[u64]>,
    mask_strict: u64,
    mask_loose: u64,
}

impl ContentCutter {
    /// Makes a cutter for a repository's seed.
    pub fn new(seed: u64) -> Self {
        let (gear, gear_shifted) = get_gear_with_seed(seed);
        let (mask_strict, mask_loose) = select_masks(CONTENT_AVERAGE_BYTES, Normalization::Level1);
        Self { gear: gear.into(), gear_shifted: gear_shifted.into(), mask_strict, mask_loose }
    }

    /// Returns the length of the blob that `available` begins with, or `None` where more bytes are needed to tell.
    /// `at_end` says that no more will come.
    pub fn next(&self, available: &[u8], at_end: bool) -> Option<usize> {
        if available.is_empty() {
            return None;
        }
        let (_, length) = cut_gear(
            available,
            CONTENT_MIN_BYTES,
            CONTENT_AVERAGE_BYTES,
            CONTENT_MAX_BYTES,
            self.mask_strict,
            self.mask_loose,
            self.mask_strict << 1,
            self.mask_loose << 1,
            &self.gear,
            &self.gear_shifted,
        );
        // A cut at the very end of what is there may only mean that nothing was found yet.
        let certain = length < available.len() || available.len() >= CONTENT_MAX_BYTES || at_end;
        certain.then_some(length)
    }

    /// Returns the lengths of the blobs of a whole content.
    pub fn lengths(&self, content: &[u8]) -> Vec<usize> {
        let mut rest = content;
        let mut lengths = Vec::new();
        while let Some(length) = self.next(rest, true) {
            lengths.push(length);
            rest = &rest[length..];
        }
        lengths
    }
}
