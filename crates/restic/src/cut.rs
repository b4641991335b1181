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

#[cfg(test)]
mod tests {
    use super::*;

    /// A fixed pseudorandom text: xorshift64.
    fn text(length: usize, seed: u64) -> Vec<u8> {
        let mut state = seed;
        let mut text = Vec::with_capacity(length + 8);
        while text.len() < length {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            text.extend_from_slice(&state.to_le_bytes());
        }
        text.truncate(length);
        text
    }

    #[test]
    fn the_seed_of_a_polynomial_stays_as_it_is() {
        assert_eq!(cut_seed(0x003D_A335_8B4D_C173), GOLDEN_SEED);
        assert_ne!(cut_seed(0x003D_A335_8B4D_C173), cut_seed(0x0025_B468_838D_CB75));
    }

    #[test]
    fn the_cuts_of_a_seed_stay_as_they_are() {
        let text = text(12 << 20, 0x9E37_79B9_7F4A_7C15);
        assert_eq!(ContentCutter::new(0x0123_4567_89AB_CDEF).lengths(&text), GOLDEN_CUTS);
        assert_eq!(ContentCutter::new(1).lengths(&vec![0; 9 << 20]), GOLDEN_CUTS_OF_ZEROS);
    }

    #[test]
    fn cuts_depend_on_the_content_alone() {
        let cutter = ContentCutter::new(42);
        let text = text(20 << 20, 77);
        let whole = cutter.lengths(&text);
        // However much is there beyond what is needed to tell, the answer is the same.
        for shown in [300 << 10, 1 << 20, 3 << 20, 4 << 20, 8 << 20] {
            let (mut at, mut lengths) = (0, Vec::new());
            let mut visible = shown.min(text.len());
            while at < text.len() {
                match cutter.next(&text[at..visible], visible == text.len()) {
                    Some(length) => {
                        lengths.push(length);
                        at += length;
                        visible = visible.max((at + shown).min(text.len()));
                    }
                    None => visible = (visible + 100_000).min(text.len()),
                }
            }
            assert_eq!(lengths, whole, "{shown}");
        }
        assert!(whole.iter().rev().skip(1).all(|n| (CONTENT_MIN_BYTES..=CONTENT_MAX_BYTES).contains(n)));
    }

    #[test]
    fn an_insertion_moves_few_cuts() {
        let cutter = ContentCutter::new(42);
        let old = text(20 << 20, 5);
        let mut new = old.clone();
        new.splice(7_000_000..7_000_000, *b"inserted");
        let hashes = |text: &[u8]| -> std::collections::HashSet<crate::Id> {
            let mut rest = text;
            let cut = |length: usize| {
                let (blob, after) = rest.split_at(length);
                rest = after;
                crate::Id::of(blob)
            };
            cutter.lengths(text).into_iter().map(cut).collect()
        };
        assert!(hashes(&new).difference(&hashes(&old)).count() <= 3);
    }

    const GOLDEN_SEED: u64 = 9_491_615_048_172_796_986;
    const GOLDEN_CUTS: &[usize] = &[
        611_431, 1_280_385, 275_545, 936_862, 2_036_415, 1_042_496, 1_171_289, 742_099, 1_240_506, 1_204_344,
        1_104_413, 937_127,
    ];
    const GOLDEN_CUTS_OF_ZEROS: &[usize] = &[4 << 20, 4 << 20, 1 << 20];
}
