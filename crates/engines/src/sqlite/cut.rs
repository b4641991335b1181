//! Where the image of a database is cut, and how large its parts are.
//!
//! Pure functions of the length and the previous cut, so that the same pages give the same blobs from release to
//! release and from machine to machine. They are part of the repository's format: changing them costs every user a
//! full backup.

/// The one entry of a SQLite backup: the image of the database file.
pub const IMAGE_ENTRY: &str = "database.sqlite";

/// The smallest cut, and the largest page of SQLite.
const CUT_BYTES_MIN: u64 = 64 << 10;
/// A fresh cut is doubled until the image has no more pieces than this.
const PIECES_MAX: u64 = 65_536;
/// A cut once chosen is kept until the image has more pieces than this, so that a database that grows a little over
/// its class is not cut anew.
const PIECES_KEPT_MAX: u64 = 131_072;
/// The largest cut that a manifest can name.
const CUT_BYTES_MAX: u64 = 1 << 31;

const PART_BYTES: u64 = 8 << 20;
const SHORT_PART_BYTES: u64 = 1 << 20;
const PART_BYTES_MAX: u64 = 32 << 20;
const PARTS_MAX: u64 = 4096;

/// Returns the distance of the cuts in an image of `length` bytes whose previous backup was cut at `previous`.
///
/// 64 KiB, doubled until there are at most 65,536 pieces; the previous cut is kept while it gives at most 131,072.
/// Always a power of two, so a multiple of every page size.
pub fn cut_bytes(length: u64, previous: Option<u32>) -> u32 {
    if let Some(kept) = previous.map(u64::from)
        && kept.is_power_of_two()
        && (CUT_BYTES_MIN..=CUT_BYTES_MAX).contains(&kept)
        && length.div_ceil(kept) <= PIECES_KEPT_MAX
        && length.div_ceil(kept) > PIECES_MAX / 64
    {
        return kept as u32;
    }
    let mut cut = CUT_BYTES_MIN;
    while length.div_ceil(cut) > PIECES_MAX && cut < CUT_BYTES_MAX {
        cut *= 2;
    }
    cut as u32
}

/// Returns the size of the parts of an image of `length` bytes, a multiple of `cut`.
///
/// 8 MiB; 1 MiB where parts have to be read under `short_locks` (rollback mode); both doubled while there would be
/// more than 4,096 parts, up to 32 MiB, and never below the cut. Part boundaries decide nothing about deduplication.
pub fn part_bytes(length: u64, cut: u32, short_locks: bool) -> u64 {
    let mut part = if short_locks { SHORT_PART_BYTES } else { PART_BYTES };
    while length.div_ceil(part) > PARTS_MAX && part < PART_BYTES_MAX {
        part *= 2;
    }
    part.max(u64::from(cut))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn the_cut_grows_with_the_size_class() {
        assert_eq!(cut_bytes(0, None), 64 << 10);
        assert_eq!(cut_bytes(4 * GIB, None), 64 << 10);
        assert_eq!(cut_bytes(4 * GIB + 1, None), 128 << 10);
        assert_eq!(cut_bytes(100 * GIB, None), 2 << 20);
        assert_eq!(cut_bytes(u64::MAX, None), 1 << 31);
    }

    #[test]
    fn a_previous_cut_is_kept_until_the_database_has_doubled() {
        assert_eq!(cut_bytes(8 * GIB, Some(64 << 10)), 64 << 10);
        assert_eq!(cut_bytes(8 * GIB + 1, Some(64 << 10)), 256 << 10);
        assert_eq!(cut_bytes(3 * GIB, Some(128 << 10)), 128 << 10);
        // Far too coarse for what is left after a VACUUM, or not a cut of ours.
        assert_eq!(cut_bytes(1 << 20, Some(1 << 20)), 64 << 10);
        assert_eq!(cut_bytes(GIB, Some(65_537)), 64 << 10);
        assert_eq!(cut_bytes(GIB, Some(4096)), 64 << 10);
        for cut in [cut_bytes(8 * GIB, Some(64 << 10)), cut_bytes(8 * GIB + 1, Some(64 << 10))] {
            assert!((8 * GIB + 1).div_ceil(u64::from(cut)) <= PIECES_KEPT_MAX + 1);
        }
    }

    #[test]
    fn parts_are_multiples_of_the_cut_and_bounded() {
        for length in [0, 1, GIB, 40 * GIB, 500 * GIB] {
            let cut = cut_bytes(length, None);
            for short in [false, true] {
                let part = part_bytes(length, cut, short);
                assert_eq!(part % u64::from(cut), 0);
                assert!(part <= PART_BYTES_MAX, "{length}: {part}");
            }
        }
        assert_eq!(part_bytes(GIB, 64 << 10, false), 8 << 20);
        assert_eq!(part_bytes(GIB, 64 << 10, true), 1 << 20);
    }
}
