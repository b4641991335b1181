//! A file of another tool as the bytes that it packs, whatever its name ends in, with the digest of the file as it is.
//!
//! Every decoder reads to the end of the last frame and holds its checksums against what came; a file that ends before
//! that, or goes on behind it, is an error, never a shorter dump. The file is opened for reading and read once.

use crate::encryption::{AgeKeys, Encryption, is_encrypted};
use crate::plain_file::Compression;
use sha2::{Digest, Sha256};
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::sync::{Arc, Mutex, PoisonError};

/// How much of the unpacked bytes is looked at to tell what they are.
const HEAD_BYTES: u64 = 64 << 10;
const BUFFER_BYTES: usize = 1 << 18;

/// A file that is being unpacked.
pub(crate) struct Unpacked {
    /// How it is packed.
    pub(crate) compression: Compression,
    /// How it is encrypted.
    pub(crate) encryption: Encryption,
    /// The first bytes, unpacked.
    pub(crate) head: Vec<u8>,
    rest: Box<dyn Read + Send>,
    file: Hashed,
}

/// What a file was, as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    /// SHA-256 in hexadecimal digits.
    pub(crate) sha256: String,
    /// Its length.
    pub(crate) size_bytes: u64,
}

impl Unpacked {
    /// Begins with a file from its first byte on. One that is encrypted is taken as it is.
    pub(crate) fn begin(file: impl Read + Send + 'static) -> io::Result<Self> {
        Self::begin_with(file, &AgeKeys::default())
    }

    /// Begins with a file that may be encrypted. Where no key fits, the error's kind is
    /// [`io::ErrorKind::PermissionDenied`]; without any key it is taken as it is.
    pub(crate) fn begin_with(file: impl Read + Send + 'static, keys: &AgeKeys) -> io::Result<Self> {
        let file = Hashed::new(Box::new(file));
        let (start, file_bytes) = peeked(file.clone())?;
        let encryption = if is_encrypted(&start) { Encryption::Age } else { Encryption::None };
        let (start, raw): (Vec<u8>, Box<dyn BufRead + Send>) = match encryption {
            Encryption::Age if !keys.is_empty() => {
                let (start, opened) = peeked(keys.open(file_bytes)?)?;
                (start, Box::new(opened))
            }
            _ => (start, Box::new(file_bytes)),
        };
        let compression = detect(&start);
        let mut rest: Box<dyn Read + Send> = match compression {
            Compression::None => Box::new(raw),
            Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(raw)),
            Compression::Zstd => Box::new(zstd::Decoder::with_buffer(raw)?),
            Compression::Lz4 => Box::new(Lz4::new(raw)),
            Compression::Xz => Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(raw)),
            Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(raw)),
        };
        let mut head = Vec::new();
        rest.by_ref().take(HEAD_BYTES).read_to_end(&mut head)?;
        Ok(Self { compression, encryption, head, rest, file })
    }

    /// Returns all unpacked bytes, from the first one on.
    pub(crate) fn bytes(&mut self) -> impl Read + '_ {
        Cursor::new(&self.head).chain(&mut self.rest)
    }

    /// Turns into all unpacked bytes, from the first one on.
    pub(crate) fn into_bytes(self) -> Box<dyn Read + Send> {
        Box::new(Cursor::new(self.head).chain(self.rest))
    }

    /// Reads what is left of the file, unpacked or not, and returns what it was as a whole.
    pub(crate) fn finish(self) -> io::Result<Fingerprint> {
        drop(self.rest);
        // It goes on where the decoder stopped.
        let mut hashed = self.file;
        let is_packed = self.compression != Compression::None || self.encryption != Encryption::None;
        if is_packed && hashed.read(&mut [0; 512])? > 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "something follows the packed bytes"));
        }
        io::copy(&mut hashed, &mut io::sink())?;
        Ok(hashed.fingerprint())
    }
}

/// How much tells how a file is packed and encrypted.
const START_BYTES: u64 = 64;

/// Returns the first bytes, however few of them a reader gives at a time, and all of them from the first one on.
fn peeked<R: Read>(mut reader: R) -> io::Result<(Vec<u8>, impl BufRead + use<R>)> {
    let mut start = Vec::new();
    reader.by_ref().take(START_BYTES).read_to_end(&mut start)?;
    let whole = Cursor::new(start.clone()).chain(reader);
    Ok((start, BufReader::with_capacity(BUFFER_BYTES, whole)))
}

/// Returns what a file is, without unpacking it.
pub(crate) fn fingerprint(file: impl Read + Send + 'static) -> io::Result<Fingerprint> {
    let hashed = Hashed::new(Box::new(file));
    io::copy(&mut BufReader::with_capacity(BUFFER_BYTES, hashed.clone()), &mut io::sink())?;
    Ok(hashed.fingerprint())
}

/// Tells how a file is packed, and gives it back from its first byte on.
pub(crate) fn packing_of(mut file: Box<dyn Read + Send>) -> io::Result<(Compression, impl Read + Send)> {
    let mut head = Vec::new();
    file.by_ref().take(8).read_to_end(&mut head)?;
    Ok((detect(&head), Cursor::new(head).chain(file)))
}

/// Tells by its first bytes how a file is packed.
fn detect(head: &[u8]) -> Compression {
    let magics: [(&[u8], Compression); 5] = [
        (&[0x1f, 0x8b], Compression::Gzip),
        (&[0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
        (&[0x04, 0x22, 0x4d, 0x18], Compression::Lz4),
        (&[0xfd, b'7', b'z', b'X', b'Z', 0], Compression::Xz),
        (b"BZh", Compression::Bzip2),
    ];
    magics.iter().find(|(magic, _)| head.starts_with(magic)).map_or(Compression::None, |(_, found)| *found)
}

/// Tells by its first bytes whether a file is packed.
pub(crate) fn is_packed(head: &[u8]) -> bool {
    detect(head) != Compression::None
}

/// Reads a file and hashes what it reads. Clones share the position.
#[derive(Clone)]
struct Hashed(Arc<Mutex<Seen>>);

struct Seen {
    file: Box<dyn Read + Send>,
    hasher: Sha256,
    size_bytes: u64,
}

impl Hashed {
    fn new(file: Box<dyn Read + Send>) -> Self {
        Self(Arc::new(Mutex::new(Seen { file, hasher: Sha256::new(), size_bytes: 0 })))
    }

    fn fingerprint(self) -> Fingerprint {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = std::mem::take(&mut seen.hasher).finalize();
        let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Fingerprint { sha256, size_bytes: seen.size_bytes }
    }
}

impl Read for Hashed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = seen.file.read(buffer)?;
        seen.hasher.update(&buffer[..count]);
        seen.size_bytes += count as u64;
        Ok(count)
    }
}

/// LZ4 frames, one after the other. The decoder below takes a frame that is cut between two blocks for a whole one: it
/// ends where the file does. One that is whole ends before anybody asks for more.
struct Lz4<R: BufRead> {
    decoder: lz4_flex::frame::FrameDecoder<Ending<R>>,
    between: bool,
}

/// A reader that remembers that more was asked for than there was.
struct Ending<R> {
    inner: R,
    ended: bool,
}

impl<R: BufRead> Read for Ending<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.ended |= count == 0 && !buffer.is_empty();
        Ok(count)
    }
}

impl<R: BufRead> Lz4<R> {
    fn new(inner: R) -> Self {
        let ending = Ending { inner, ended: false };
        Self { decoder: lz4_flex::frame::FrameDecoder::new(ending), between: true }
    }
}

impl<R: BufRead> Read for Lz4<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.between && self.decoder.get_mut().inner.fill_buf()?.is_empty() {
                return Ok(0);
            }
            self.between = false;
            let count = self.decoder.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            if self.decoder.get_ref().ended {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the frame has no end mark"));
            }
            self.between = true;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;

    fn lz4(content: &[u8], checksum: bool) -> Vec<u8> {
        let info = lz4_flex::frame::FrameInfo::new()
            .content_checksum(checksum)
            .block_size(lz4_flex::frame::BlockSize::Max64KB);
        let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn unpack(packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(packed).unwrap();
        io::Seek::rewind(&mut file).unwrap();
        let mut unpacked = Unpacked::begin(file)?;
        let mut content = Vec::new();
        unpacked.bytes().read_to_end(&mut content)?;
        let fingerprint = unpacked.finish()?;
        assert_eq!(fingerprint.size_bytes, packed.len() as u64);
        assert_eq!(fingerprint.sha256, format!("{:x}", HexOf(&Sha256::digest(packed))));
        Ok(content)
    }

    struct HexOf<'a>(&'a [u8]);

    impl std::fmt::LowerHex for HexOf<'_> {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
        }
    }

    fn packed(content: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(content).unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 0);
        xz.write_all(content).unwrap();
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bzip2.write_all(content).unwrap();
        let mut zstd = zstd::Encoder::new(Vec::new(), 1).unwrap();
        zstd.include_checksum(true).unwrap();
        zstd.write_all(content).unwrap();
        vec![
            ("gzip", gzip.finish().unwrap()),
            ("xz", xz.finish().unwrap()),
            ("bzip2", bzip2.finish().unwrap()),
            ("zstd", zstd.finish().unwrap()),
            ("lz4", lz4(content, false)),
            ("lz4 with a checksum", lz4(content, true)),
        ]
    }

    #[test]
    fn a_packed_file_is_whole_or_an_error() {
        let content: Vec<u8> = (0..60_000_u32).flat_map(|n| (n / 7).wrapping_mul(n).to_le_bytes()).collect();
        for (name, packed) in packed(&content) {
            assert_eq!(unpack(&packed).unwrap(), content, "{name}");
            let twice = [packed.as_slice(), &packed].concat();
            assert_eq!(unpack(&twice).unwrap().len(), content.len() * 2, "{name}");
            let step = packed.len() / 20;
            for cut in (8..packed.len()).step_by(step).chain(packed.len() - 9..packed.len()) {
                assert!(unpack(&packed[..cut]).is_err(), "{name} cut at {cut} of {}", packed.len());
            }
            assert!(unpack(&[packed.as_slice(), b"garbage behind it"].concat()).is_err(), "{name}");
        }
        assert_eq!(unpack(&content).unwrap(), content);
    }

    #[test]
    fn bytes_that_come_one_at_a_time_are_told_and_unpacked_as_well() {
        struct Slow(Cursor<Vec<u8>>);
        impl Read for Slow {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let one = buffer.len().min(1);
                self.0.read(&mut buffer[..one])
            }
        }
        let content = b"some text, said again and again and again".repeat(20);
        for (name, packed) in packed(&content) {
            let mut unpacked = Unpacked::begin(Slow(Cursor::new(packed))).unwrap();
            let mut found = Vec::new();
            unpacked.bytes().read_to_end(&mut found).unwrap();
            assert!(unpacked.finish().is_ok() && found == content, "{name}");
        }
        let sealed = Slow(Cursor::new(b"age-encryption.org/v1\n-> X25519 abc\n".to_vec()));
        assert_eq!(Unpacked::begin(sealed).unwrap().encryption, Encryption::Age);
    }

    #[test]
    fn an_lz4_frame_that_is_cut_between_two_blocks_is_cut() {
        let content = vec![7; 200_000];
        let packed = lz4(&content, false);
        // The header has 7 bytes; then come blocks, each behind its length.
        let mut at = 7;
        let mut cuts = 0;
        while at + 4 < packed.len() {
            let length = u32::from_le_bytes(packed[at..at + 4].try_into().unwrap()) & 0x7fff_ffff;
            at += 4 + length as usize;
            assert!(unpack(&packed[..at]).is_err(), "cut at {at} of {}", packed.len());
            cuts += 1;
        }
        assert!(cuts >= 3, "{cuts}");
        assert!(unpack(&packed).is_ok());
    }
}
