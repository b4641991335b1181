//! Rows of a `COPY` in text form, counted and summed up as they pass: each line's XXH3-128, added up, so that the order
//! of rows does not matter.
//!
//! A line feed ends a row and stands nowhere else: within values it is written as `\n`.

use super::contents::TRAILER;
use flow::Digest128;
use xxhash_rust::xxh3::{Xxh3Default, xxh3_128};

/// The property of a manifest whose digests are of rows as a dump of another make holds them: in which time zone and format
/// values were written there nobody knows, so what is read back of a server is compared with them by number alone.
pub(super) const AS_DUMPED: &str = "rows_as_dumped";

/// Counts and sums up rows. However long a row is, it is not kept.
#[derive(Default)]
pub(super) struct RowDigest {
    rows: u64,
    sum: u128,
    /// A row whose end has not come.
    begun: Option<Box<Xxh3Default>>,
}

impl RowDigest {
    /// Takes the next bytes, which end anywhere.
    pub(super) fn take(&mut self, mut bytes: &[u8]) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (row, rest) = bytes.split_at(end + 1);
            let hash = match self.begun.take() {
                None => xxh3_128(row),
                Some(mut begun) => {
                    begun.update(row);
                    begun.digest128()
                }
            };
            self.rows += 1;
            self.sum = self.sum.wrapping_add(hash);
            bytes = rest;
        }
        if !bytes.is_empty() {
            self.begun.get_or_insert_default().update(bytes);
        }
    }

    /// Returns rows and digest; `None` where the last row has no end.
    pub(super) fn finish(self) -> Option<(u64, Digest128)> {
        self.begun.is_none().then_some((self.rows, Digest128(self.sum)))
    }
}

/// Counts and sums up the rows of a table as an archive holds them: what ends them there is no row.
#[derive(Default)]
pub(super) struct ArchivedRows {
    digest: RowDigest,
    /// The last bytes, which may be the end.
    held: Vec<u8>,
}

impl ArchivedRows {
    /// Takes the next bytes, which end anywhere.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        let certain = bytes.len().saturating_sub(TRAILER.len());
        if certain > 0 {
            self.digest.take(&self.held);
            self.held.clear();
            self.digest.take(&bytes[..certain]);
        }
        self.held.extend_from_slice(&bytes[certain..]);
        let surplus = self.held.len().saturating_sub(TRAILER.len());
        self.digest.take(&self.held[..surplus]);
        self.held.drain(..surplus);
    }

    /// Returns rows and digest; `None` where the rows do not end as they must.
    pub(super) fn finish(self) -> Option<(u64, Digest128)> {
        if self.held == TRAILER { self.digest.finish() } else { None }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn digest(pieces: &[&[u8]]) -> Option<(u64, Digest128)> {
        let mut digest = RowDigest::default();
        for piece in pieces {
            digest.take(piece);
        }
        digest.finish()
    }

    #[test]
    fn neither_order_nor_cuts_matter() {
        let whole = digest(&[b"1\ta\n2\tb\n\n"]).unwrap();
        assert_eq!(whole.0, 3);
        assert_eq!(digest(&[b"\n", b"2\t", b"b\n1\ta", b"\n"]), Some(whole));
        assert_ne!(digest(&[b"1\ta\n2\tc\n\n"]), Some(whole));
        assert_ne!(digest(&[b"1\ta\n1\ta\n"]).unwrap().1, digest(&[b"\n\n"]).unwrap().1);
        assert_eq!(digest(&[b"1\ta"]), None);
        assert_eq!(digest(&[]), Some((0, Digest128(0))));
    }

    #[test]
    fn a_row_in_pieces_has_the_digest_of_the_whole() {
        for length in (0..700).step_by(7).chain([1 << 12, 70_000]) {
            let row: Vec<u8> = (0..length).map(|at| b'a' + (at % 23) as u8).chain([b'\n']).collect();
            let whole = digest(&[&row]);
            assert_eq!(whole, Some((1, Digest128(xxh3_128(&row)))));
            for piece in [1, 5, 64, 300, 5000] {
                let pieces: Vec<&[u8]> = row.chunks(piece).collect();
                assert_eq!(digest(&pieces), whole, "{length} {piece}");
            }
        }
    }

    #[test]
    fn what_ends_the_rows_in_an_archive_is_no_row() {
        let whole = b"1\ta\n\n2\t\\\\.\n\\.\n\n\n";
        let expected = digest(&[b"1\ta\n\n2\t\\\\.\n"]);
        for cut in 0..whole.len() {
            for piece in [1, 3, 100] {
                let mut rows = ArchivedRows::default();
                rows.take(&whole[..cut]);
                whole[cut..].chunks(piece).for_each(|bytes| rows.take(bytes));
                assert_eq!(rows.finish(), expected, "{cut} {piece}");
            }
        }
        for bad in [&whole[..whole.len() - 1], b"1\n", b""] {
            let mut rows = ArchivedRows::default();
            rows.take(bad);
            assert_eq!(rows.finish(), None);
        }
    }
}
