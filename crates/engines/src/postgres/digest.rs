//! Rows of a `COPY` in text form, counted and summed up as they pass: each line's XXH3-128, added up, so that the order
//! of rows does not matter.
//!
//! A line feed ends a row and stands nowhere else: within values it is written as `\n`.

use flow::Digest128;
use xxhash_rust::xxh3::xxh3_128;

/// Counts and sums up rows.
#[derive(Debug, Default)]
pub(super) struct RowDigest {
    rows: u64,
    sum: u128,
    /// The beginning of a row whose end has not come.
    begun: Vec<u8>,
}

impl RowDigest {
    /// Takes the next bytes, which end anywhere.
    pub(super) fn take(&mut self, mut bytes: &[u8]) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (row, rest) = bytes.split_at(end + 1);
            if self.begun.is_empty() {
                self.row(row);
            } else {
                self.begun.extend_from_slice(row);
                let whole = std::mem::take(&mut self.begun);
                self.row(&whole);
            }
            bytes = rest;
        }
        self.begun.extend_from_slice(bytes);
    }

    fn row(&mut self, row: &[u8]) {
        self.rows += 1;
        self.sum = self.sum.wrapping_add(xxh3_128(row));
    }

    /// Returns rows and digest; `None` where the last row has no end.
    pub(super) fn finish(self) -> Option<(u64, Digest128)> {
        self.begun.is_empty().then_some((self.rows, Digest128(self.sum)))
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
}
