//! The packed data of an entry of an archive, unpacked: zlib, gzip, LZ4 frames, zstd.
//!
//! The libraries below take the end of what they read for the end of a zlib or LZ4 stream, so that one that is cut would be
//! a shorter one. Here a stream that ends before its own end, or goes on behind it, is an error for whoever reads to the
//! end: one reader for those that examine an archive and those that restore it.

use super::ArchiveError;
use super::header::Compression;
use flate2::{Decompress, FlushDecompress, Status};
use lz4_flex::frame::FrameDecoder;
use std::io::{self, BufRead, BufReader, Read};

const CHUNK_BYTES: usize = 64 << 10;

/// How the data of an entry are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::postgres) enum Packing {
    Plain,
    /// Deflate with zlib's frame, as a custom archive has it.
    Zlib,
    /// Deflate with gzip's frame, as a folder has it.
    Gzip,
    Lz4,
    Zstd,
}

impl Packing {
    /// By what the files of an archive in a folder end.
    pub(in crate::postgres) const ENDINGS: [(&'static str, Self); 4] =
        [("", Self::Plain), (".gz", Self::Gzip), (".lz4", Self::Lz4), (".zst", Self::Zstd)];

    /// Tells how the data of a custom archive are packed.
    pub(in crate::postgres) fn of_custom(compression: Compression) -> Result<Self, ArchiveError> {
        match compression {
            Compression::Level(0) | Compression::Algorithm(0) => Ok(Self::Plain),
            Compression::Level(_) | Compression::Algorithm(1) => Ok(Self::Zlib),
            Compression::Algorithm(2) => Ok(Self::Lz4),
            Compression::Algorithm(3) => Ok(Self::Zstd),
            Compression::Algorithm(other) => Err(ArchiveError::Unsupported(format!(
                "its data are packed by the unknown algorithm {other}"
            ))),
        }
    }
}

/// What a reader gives, unpacked. Whoever reads it to its end has read a whole stream with nothing behind it.
pub(in crate::postgres) enum Unpacked<R: Read> {
    Plain(R),
    Zlib(Inflate<R>),
    Gzip(flate2::read::MultiGzDecoder<R>),
    Lz4(Box<Lz4<R>>),
    Zstd(zstd::Decoder<'static, BufReader<R>>),
}

impl<R: Read> Unpacked<R> {
    pub(in crate::postgres) fn new(reader: R, packing: Packing) -> io::Result<Self> {
        Ok(match packing {
            Packing::Plain => Self::Plain(reader),
            Packing::Zlib => Self::Zlib(Inflate::new(reader)),
            Packing::Gzip => Self::Gzip(flate2::read::MultiGzDecoder::new(reader)),
            Packing::Lz4 => Self::Lz4(Box::new(Lz4::new(reader))),
            Packing::Zstd => Self::Zstd(zstd::Decoder::new(reader)?),
        })
    }
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(reader) => reader.read(buffer),
            Self::Zlib(reader) => reader.read(buffer),
            Self::Gzip(reader) => reader.read(buffer),
            Self::Lz4(reader) => reader.read(buffer),
            Self::Zstd(reader) => reader.read(buffer),
        }
    }
}

/// One zlib stream. No bytes at all are an empty one: an empty large object may be packed as nothing.
pub(in crate::postgres) struct Inflate<R> {
    packed: BufReader<R>,
    state: Decompress,
    ended: bool,
}

impl<R: Read> Inflate<R> {
    fn new(packed: R) -> Self {
        let packed = BufReader::with_capacity(CHUNK_BYTES, packed);
        Self { packed, state: Decompress::new(true), ended: false }
    }
}

impl<R: Read> Read for Inflate<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let input = self.packed.fill_buf()?;
            if input.is_empty() && (self.ended || self.state.total_in() == 0) {
                return Ok(0);
            }
            if self.ended {
                return Err(behind());
            }
            let is_over = input.is_empty();
            let (read, written) = (self.state.total_in(), self.state.total_out());
            let status = self
                .state
                .decompress(input, buffer, FlushDecompress::None)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the packed data are damaged"))?;
            self.packed.consume(usize::try_from(self.state.total_in() - read).unwrap_or(0));
            self.ended = status == Status::StreamEnd;
            let produced = usize::try_from(self.state.total_out() - written).unwrap_or(0);
            if produced > 0 {
                return Ok(produced);
            }
            if is_over && !self.ended {
                return Err(cut());
            }
        }
    }
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

/// One LZ4 frame. The decoder takes a frame that is cut between two blocks for a whole one; one that is whole ends before
/// anybody asks for more.
pub(in crate::postgres) struct Lz4<R: Read> {
    decoder: FrameDecoder<Ending<R>>,
    over: bool,
}

impl<R: Read> Lz4<R> {
    fn new(inner: R) -> Self {
        Self { decoder: FrameDecoder::new(Ending { inner, total: 0, ended: false }), over: false }
    }
}

impl<R: Read> Read for Lz4<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.over || buffer.is_empty() {
            return Ok(0);
        }
        let count = self.decoder.read(buffer)?;
        if count > 0 {
            return Ok(count);
        }
        let packed = self.decoder.get_mut();
        if packed.ended && packed.total > 0 {
            return Err(cut());
        }
        if !packed.ended && packed.read(&mut [0; 1])? > 0 {
            return Err(behind());
        }
        self.over = true;
        Ok(0)
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the packed data end too early")
}

fn behind() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "something follows the packed data")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;

    /// Reads as a restore does, by pieces of any size.
    fn unpacked(packing: Packing, packed: &[u8], piece: usize) -> io::Result<Vec<u8>> {
        let mut reader = Unpacked::new(packed, packing)?;
        let (mut found, mut buffer) = (Vec::new(), vec![0; piece]);
        loop {
            match reader.read(&mut buffer)? {
                0 => break,
                count => found.extend_from_slice(&buffer[..count]),
            }
        }
        assert_eq!(reader.read(&mut buffer).unwrap(), 0);
        Ok(found)
    }

    fn lz4(content: &[u8]) -> Vec<u8> {
        let info = lz4_flex::frame::FrameInfo::new().block_size(lz4_flex::frame::BlockSize::Max64KB);
        let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn packed_data_are_whole_or_an_error() {
        let content: Vec<u8> = (0..50_000_u32).flat_map(|n| (n / 7).wrapping_mul(n).to_le_bytes()).collect();
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(&content).unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&content).unwrap();
        let all = [
            (Packing::Zlib, zlib.finish().unwrap()),
            (Packing::Gzip, gzip.finish().unwrap()),
            (Packing::Lz4, lz4(&content)),
            (Packing::Zstd, zstd::encode_all(content.as_slice(), 1).unwrap()),
        ];
        for (packing, packed) in all {
            for piece in [997, 64 << 10, 1 << 20] {
                assert_eq!(unpacked(packing, &packed, piece).unwrap(), content, "{packing:?}");
            }
            for cut in (1..packed.len()).step_by(packed.len() / 20).chain(packed.len() - 9..packed.len()) {
                assert!(unpacked(packing, &packed[..cut], 1 << 16).is_err(), "{packing:?} cut at {cut}");
            }
            let behind = [packed.as_slice(), b"garbage behind it"].concat();
            assert!(unpacked(packing, &behind, 1 << 16).is_err(), "{packing:?}");
        }
    }

    #[test]
    fn an_lz4_frame_that_is_cut_between_two_blocks_is_cut() {
        let packed = lz4(&vec![7; 200_000]);
        // The header has 7 bytes; then come blocks, each behind its length.
        let (mut at, mut cuts) = (7, 0);
        while at + 4 < packed.len() {
            let length = u32::from_le_bytes(packed[at..at + 4].try_into().unwrap()) & 0x7fff_ffff;
            at += 4 + length as usize;
            assert!(
                unpacked(Packing::Lz4, &packed[..at], 1 << 16).is_err(),
                "cut at {at} of {}",
                packed.len()
            );
            cuts += 1;
        }
        assert!(cuts >= 3, "{cuts}");
    }
}
