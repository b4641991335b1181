//! Where the rows behind a `COPY` end: at a line that is `\.`, however the bytes are cut.

use memchr::memchr;

/// What ends rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marker {
    None,
    /// It may be one: more has to come.
    Begun,
    /// One of so many bytes.
    Whole(usize),
}

/// What some bytes of rows hold.
pub(super) struct RowBytes {
    /// How many bytes are rows for certain.
    pub(super) length: usize,
    pub(super) lines: u64,
    /// Whether a line begins behind them.
    pub(super) begins_line: bool,
    /// What stands behind them, where a line begins there.
    pub(super) marker: Marker,
}

/// Tells how much of some bytes is rows: up to the line that ends them.
pub(super) fn row_bytes(bytes: &[u8], mut begins_line: bool) -> RowBytes {
    let (mut length, mut lines, mut marker) = (0, 0, Marker::None);
    while length < bytes.len() {
        let rest = &bytes[length..];
        if begins_line {
            marker = marker_of(rest);
            if marker != Marker::None {
                break;
            }
        }
        match memchr(b'\n', rest) {
            Some(at) => {
                length += at + 1;
                lines += 1;
                begins_line = true;
            }
            None => {
                length = bytes.len();
                begins_line = false;
            }
        }
    }
    RowBytes { length, lines, begins_line, marker }
}

fn marker_of(line: &[u8]) -> Marker {
    match line {
        [b'\\', b'.', b'\n', ..] => Marker::Whole(3),
        [b'\\', b'.', b'\r', b'\n', ..] => Marker::Whole(4),
        [b'\\'] | [b'\\', b'.'] | [b'\\', b'.', b'\r'] => Marker::Begun,
        _ => Marker::None,
    }
}
