//! Reading a file back from the disk, past the page cache where that is possible, to compare it with what was written.
//!
//! Reads only. What was not written to the disk yet is, before it is read: what a crash would lose proves nothing.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// How much is read at once.
const READ_BYTES: usize = 1 << 20;
/// Direct reads begin and end at multiples of this, in memory and in the file: no block of a disk is larger.
const ALIGNMENT: usize = 4096;

/// Tells whether a file holds the concatenation of `content`, and nothing else.
pub(crate) fn reads_back(path: &Path, content: &[&[u8]]) -> io::Result<bool> {
    let file = File::open(path)?;
    let length = content.iter().map(|bytes| bytes.len() as u64).sum::<u64>();
    if file.metadata()?.len() != length {
        return Ok(false);
    }
    // Pages that are not written yet cannot be forgotten.
    file.sync_data()?;
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    let flags = rustix::fs::OFlags::DIRECT.bits() as i32;
    let mut direct = OpenOptions::new().read(true).custom_flags(flags).open(path).ok();
    let most = (length.min(READ_BYTES as u64) as usize).next_multiple_of(ALIGNMENT);
    let mut memory = vec![0; most + ALIGNMENT];
    let start = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
    let buffer = &mut memory[start..start + most];
    let mut offset = 0;
    while offset < length {
        let size = (length - offset).min(READ_BYTES as u64) as usize;
        read_at(&file, &mut direct, buffer, size, offset)?;
        if !is_part(content, offset, &buffer[..size]) {
            return Ok(false);
        }
        offset += size as u64;
    }
    Ok(true)
}

/// Fills the front of the buffer; what a direct read refuses or leaves out goes through the cache.
fn read_at(
    file: &File,
    direct: &mut Option<File>,
    buffer: &mut [u8],
    size: usize,
    offset: u64,
) -> io::Result<()> {
    let mut filled = 0;
    if let Some(open) = direct {
        match open.read_at(&mut buffer[..size.next_multiple_of(ALIGNMENT)], offset) {
            Ok(count) => filled = count.min(size),
            // What it is that fails, an ordinary read will tell.
            Err(_) => *direct = None,
        }
    }
    file.read_exact_at(&mut buffer[filled..size], offset + filled as u64)
}

/// Tells whether bytes are those of the content from an offset on.
fn is_part(content: &[&[u8]], offset: u64, mut bytes: &[u8]) -> bool {
    let mut skipped = offset;
    for part in content {
        let Some(part) = usize::try_from(skipped).ok().and_then(|skipped| part.get(skipped..)) else {
            skipped -= part.len() as u64;
            continue;
        };
        skipped = 0;
        let (now, later) = bytes.split_at(part.len().min(bytes.len()));
        if now != &part[..now.len()] {
            return false;
        }
        bytes = later;
    }
    bytes.is_empty()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn any_difference_is_found_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("object");
        for length in [0, 1, 4095, 4096, 4097, READ_BYTES, READ_BYTES + 1, 2 * READ_BYTES + 5000] {
            let content: Vec<u8> = (0..length).map(|at| (at / 7 + at % 251) as u8).collect();
            std::fs::write(&path, &content).unwrap();
            for cut in [0, 1, length / 3, length] {
                let (head, tail) = content.split_at(cut.min(length));
                assert!(reads_back(&path, &[head, &[], tail]).unwrap(), "{length} cut at {cut}");
            }
            assert!(!reads_back(&path, &[&content, b"x"]).unwrap(), "{length}: shorter");
            for at in [0, length / 2, length.saturating_sub(1)] {
                let mut other = content.clone();
                if let Some(byte) = other.get_mut(at) {
                    *byte ^= 1;
                    assert!(!reads_back(&path, &[&other]).unwrap(), "{length}: another byte at {at}");
                    assert!(!reads_back(&path, &[&content[..at]]).unwrap(), "{length}: longer");
                }
            }
        }
        assert!(reads_back(&folder.path().join("none"), &[]).is_err());
    }
}
