//! The packed data of one entry of an archive, unpacked: zlib, gzip, LZ4 frames, zstd. A stream that ends before its own
//! end, or goes on behind it, is an error.

use flate2::{Decompress, FlushDecompress, Status};
use lz4_flex::frame::FrameDecoder;
use std::io::{self, BufRead, BufReader, Read};

const CHUNK_BYTES: usize = 64 << 10;

/// How the data of an entry are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    /// Deflate with zlib's frame, as a custom archive has it.
    Zlib,
    /// Deflate with gzip's frame, as a folder has it.
    Gzip,
    Lz4,
    Zstd,
}

/// Reads packed data to their end and hands on what they hold. Returns how many bytes that were.
pub(super) fn unpack(
    packing: Packing,
    mut packed: impl Read,
    take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<u64> {
    match packing {
        Packing::Plain => drain(&mut packed, take),
        Packing::Zlib => inflate(packed, take),
        Packing::Gzip => drain(&mut flate2::read::MultiGzDecoder::new(packed), take),
        Packing::Lz4 => lz4(packed, take),
        Packing::Zstd => drain(&mut zstd::Decoder::new(packed)?, take),
    }
}

fn drain(reader: &mut dyn Read, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<u64> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut total = 0;
    loop {
        match reader.read(&mut chunk) {
            Ok(0) => return Ok(total),
            Ok(count) => {
                take(&chunk[..count])?;
                total += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The library's reader takes the end of what it reads for the end of the stream: here the stream must end by itself.
fn inflate(packed: impl Read, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<u64> {
    let mut packed = BufReader::with_capacity(CHUNK_BYTES, packed);
    let mut state = Decompress::new(true);
    let mut out = vec![0; CHUNK_BYTES];
    let mut ended = false;
    loop {
        let input = packed.fill_buf()?;
        // An empty large object may be no stream at all.
        if input.is_empty() && (ended || state.total_in() == 0) {
            return Ok(state.total_out());
        }
        if ended {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "something follows the packed data"));
        }
        let (read, written) = (state.total_in(), state.total_out());
        let status = state
            .decompress(input, &mut out, FlushDecompress::None)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the packed data are damaged"))?;
        let produced = usize::try_from(state.total_out() - written).unwrap_or(0);
        let consumed = usize::try_from(state.total_in() - read).unwrap_or(0);
        take(&out[..produced])?;
        packed.consume(consumed);
        ended = status == Status::StreamEnd;
        if !ended && produced == 0 && consumed == 0 {
            return Err(cut());
        }
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the packed data end too early")
}

/// A reader that remembers that more was asked for than there was.
struct Ending<R> {
    inner: R,
    total: u64,
    ended: bool,
}

impl<R: Read> Read for Ending<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.total += count as u64;
        self.ended |= count == 0 && !buffer.is_empty();
        Ok(count)
    }
}

/// The decoder takes a frame that is cut between two blocks for a whole one; one that is whole ends before anybody asks
/// for more.
fn lz4(packed: impl Read, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<u64> {
    let mut decoder = FrameDecoder::new(Ending { inner: packed, total: 0, ended: false });
    let total = drain(&mut decoder, take)?;
    if decoder.get_ref().ended {
        return if decoder.get_ref().total == 0 { Ok(0) } else { Err(cut()) };
    }
    match decoder.get_mut().read(&mut [0; 1])? {
        0 => Ok(total),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "something follows the packed data")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;

    fn unpacked(packing: Packing, packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut found = Vec::new();
        unpack(packing, packed, &mut |bytes| {
            found.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn packed_data_are_whole_or_an_error() {
        let content: Vec<u8> = (0..50_000_u32).flat_map(|n| (n / 7).wrapping_mul(n).to_le_bytes()).collect();
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(&content).unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&content).unwrap();
        let info = lz4_flex::frame::FrameInfo::new().block_size(lz4_flex::frame::BlockSize::Max64KB);
        let mut lz4 = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
        lz4.write_all(&content).unwrap();
        let zstd = zstd::encode_all(content.as_slice(), 1).unwrap();
        let all = [
            (Packing::Zlib, zlib.finish().unwrap()),
            (Packing::Gzip, gzip.finish().unwrap()),
            (Packing::Lz4, lz4.finish().unwrap()),
            (Packing::Zstd, zstd),
        ];
        for (packing, packed) in all {
            assert_eq!(unpacked(packing, &packed).unwrap(), content, "{packing:?}");
            for cut in (1..packed.len()).step_by(packed.len() / 20).chain(packed.len() - 9..packed.len()) {
                assert!(unpacked(packing, &packed[..cut]).is_err(), "{packing:?} cut at {cut}");
            }
            let behind = [packed.as_slice(), b"garbage behind it"].concat();
            assert!(unpacked(packing, &behind).is_err(), "{packing:?}");
        }
    }
}
