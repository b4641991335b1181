//! The first bytes of a file: whether it is a SQLite database, and if not, what it looks like.
//!
//! Pure functions on bytes. Reading them is [`super::open`]'s, which knows when a file may be opened at all.

/// What every database begins with.
pub(super) const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// How much of a file is enough to tell what it is.
pub(super) const SNIFF_BYTES: usize = 4096;

/// The fields of a database header that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) page_bytes: u32,
    /// Whether the file says that it is in WAL mode.
    pub(super) wal: bool,
    pub(super) change_counter: u32,
    /// The length in pages as the header tells it; `None` where a writer of old left it stale.
    pub(super) page_count: Option<u32>,
}

impl Header {
    /// Reads the header from the first 100 bytes of page 1; `None` where it is none.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < 100 || !bytes.starts_with(MAGIC) {
            return None;
        }
        let page_bytes = match u16::from_be_bytes([bytes[16], bytes[17]]) {
            1 => 65_536,
            size => u32::from(size),
        };
        if !page_bytes.is_power_of_two() || page_bytes < 512 {
            return None;
        }
        let change_counter = big_endian(bytes, 24);
        let page_count =
            Some(big_endian(bytes, 28)).filter(|n| *n > 0 && change_counter == big_endian(bytes, 92));
        Some(Self { page_bytes, wal: bytes[18] == 2 && bytes[19] == 2, change_counter, page_count })
    }
}

/// Returns the four bytes at `at` as a number; 0 beyond the end.
pub(super) fn big_endian(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_be_bytes)
}

/// What a file is, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// No bytes at all: a database that nobody has written to yet.
    Empty,
    /// A database.
    Database(Header),
    /// Something else: why it is no database, and what to do.
    Other { reason: &'static str, hint: &'static str },
}

const WRONG_FILE: &str = "check the path; the source must be the SQLite file itself";

/// Tells what a file is by its first [`SNIFF_BYTES`] bytes, or all of them if it has fewer.
pub(super) fn classify(bytes: &[u8]) -> Content {
    if bytes.is_empty() {
        return Content::Empty;
    }
    if let Some(header) = Header::parse(bytes) {
        return Content::Database(header);
    }
    let (reason, hint) = if bytes.starts_with(MAGIC) {
        if bytes.len() < 100 {
            ("is cut off within its header", "restore it from a backup; this file cannot be read any more")
        } else {
            ("has a damaged SQLite header", "restore it from a backup; this file cannot be read any more")
        }
    } else if bytes.starts_with(&[0x1f, 0x8b]) || bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        ("is a compressed file, not a SQLite database", "unpack it first, or name the live database instead")
    } else if bytes.iter().all(|byte| *byte == 0) {
        ("begins with zeros, not with a SQLite header", "the file may be lost; restore it from a backup")
    } else if is_text(bytes) {
        ("is a text file, not a SQLite database", WRONG_FILE)
    } else if bytes.len() >= 512 && entropy_bits(bytes) > 7.0 {
        (
            "is encrypted, or not a SQLite database",
            "an encrypted database (SQLCipher, SEE) cannot be read; back up a decrypted copy made by its own tools",
        )
    } else {
        ("is not a SQLite database", WRONG_FILE)
    };
    Content::Other { reason, hint }
}

fn is_text(bytes: &[u8]) -> bool {
    // A character may be cut at the end of what was read.
    let whole = match std::str::from_utf8(bytes) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none() && error.valid_up_to() > 0,
    };
    whole && bytes.iter().all(|byte| *byte >= 0x20 || b"\t\n\r\x0c\x1b".contains(byte))
}

fn entropy_bits(bytes: &[u8]) -> f64 {
    let mut counts = [0u32; 256];
    for byte in bytes {
        counts[usize::from(*byte)] += 1;
    }
    let total = bytes.len() as f64;
    let part = |count: &u32| f64::from(*count) / total;
    -counts.iter().filter(|count| **count > 0).map(|count| part(count) * part(count).log2()).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(bytes: &[u8]) -> &'static str {
        match classify(bytes) {
            Content::Other { reason, .. } => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn other_files_are_told_apart() {
        assert_eq!(classify(b""), Content::Empty);
        assert!(reason("Grüße,\n".as_bytes()).contains("text"));
        assert!(reason(&[0; 4096]).contains("zeros"));
        assert!(reason(b"\x1f\x8b\x08\0\0").contains("compressed"));
        assert!(reason(b"SQLite format 3\0\x10\0").contains("cut off"));
        assert!(reason(&[b"SQLite format 3\0".as_slice(), &[7; 200]].concat()).contains("damaged"));
        let mut state = 1u64;
        let noise: Vec<u8> = (0..4096)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect();
        assert!(reason(&noise).contains("encrypted"));
        assert!(reason(b"\x7fELF\x01\x01\0\0\0").contains("is not"));
    }
}
