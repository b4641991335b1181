//! Which level a stream is compressed at: the one that was asked for, or the fastest where that stores no more.
//!
//! On rows of numbers and codes the fastest level is a quarter faster and stores less; on words it stores a tenth more.
//! So one blob in a few is compressed both ways, and the outcome holds until the next one. Nothing else depends on it:
//! blobs are cut and named by their plaintext.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// The fastest level.
pub(super) const FAST_LEVEL: i32 = 1;
/// One large blob in so many is tried.
const EVERY: u32 = 24;
/// One smaller blob in so many.
const EVERY_SMALL: u32 = 64;
/// Smaller blobs are not worth a trial.
const TRIED_BYTES_MIN: usize = 32 << 10;
/// A stream of smaller blobs than this gets its first trial later: it may end soon.
const LARGE_BYTES: usize = 256 << 10;
/// The first blob that is tried of large ones, and of others. Not the very first: that may be a heading, and all there is.
const FIRST_LARGE: u32 = 1;
const FIRST_SMALL: u32 = 8;

/// What to do with a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// The level that was asked for.
    Asked,
    /// The fastest level.
    Fast,
    /// Both, to compare them; the level that was asked for is stored.
    Both,
}

/// What suits one stream. Shared by the workers that store it.
#[derive(Debug, Default)]
pub(super) struct Taste {
    blobs: AtomicU32,
    fast: AtomicBool,
}

impl Taste {
    /// Returns what to do with the next blob.
    pub(super) fn turn(&self, bytes: usize) -> Turn {
        if bytes < TRIED_BYTES_MIN {
            return Turn::Asked;
        }
        let (first, every) =
            if bytes < LARGE_BYTES { (FIRST_SMALL, EVERY_SMALL) } else { (FIRST_LARGE, EVERY) };
        if self.blobs.fetch_add(1, Ordering::Relaxed) % every == first {
            Turn::Both
        } else if self.fast.load(Ordering::Relaxed) {
            Turn::Fast
        } else {
            Turn::Asked
        }
    }

    /// Learns how long a blob became both ways: half a percent more is no matter.
    pub(super) fn learn(&self, asked_bytes: usize, fast_bytes: usize) {
        self.fast.store(fast_bytes * 200 <= asked_bytes * 201, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(taste: &Taste, count: u32) -> Vec<Turn> {
        (0..count).map(|_| taste.turn(1 << 20)).collect()
    }

    #[test]
    fn the_fastest_level_is_taken_only_where_it_was_found_as_good() {
        let taste = Taste::default();
        assert_eq!(turns(&taste, 3), [Turn::Asked, Turn::Both, Turn::Asked]);
        taste.learn(1000, 1005);
        assert_eq!(taste.turn(1 << 20), Turn::Fast);
        assert_eq!(taste.turn(16 << 10), Turn::Asked, "small blobs are left alone");
        let until_next = turns(&taste, EVERY - 3);
        assert_eq!(until_next.iter().filter(|turn| **turn == Turn::Both).count(), 0);
        assert_eq!(taste.turn(1 << 20), Turn::Both, "it is looked at again");
        taste.learn(1000, 1006);
        assert_eq!(taste.turn(1 << 20), Turn::Asked);
    }

    #[test]
    fn a_short_stream_of_small_blobs_is_never_compressed_twice() {
        let taste = Taste::default();
        let turns: Vec<Turn> = (0..10).map(|_| taste.turn(64 << 10)).collect();
        assert_eq!(turns.iter().position(|turn| *turn == Turn::Both), Some(8));
        assert_eq!(turns.iter().filter(|turn| **turn == Turn::Both).count(), 1);
    }
}
