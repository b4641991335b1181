//! Cheap looks at dump files, and the reading back of one that was just written.
//!
//! Opened for reading and nothing else; nothing is unpacked to disk.

use super::beside::expected;
use super::file::DumpFile;
use super::folder::looks_like_a_dump;
use super::unpack::{Fingerprint, Unpacked, is_packed};
use crate::Engines;
use flow::Context;
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::io::{self, Read};
use storage::{FileKind, Folder};

/// How much of a file the cheap look is at.
const LOOK_BYTES: u64 = 4096;
const BUFFER_BYTES: usize = 1 << 18;

/// Tells by its first bytes why a file is no dump. What is packed may be anything inside.
pub(crate) fn beginning_problem(folder: &dyn Folder, file: &DumpFile, engines: &Engines) -> Option<String> {
    let name = file.file_name();
    if file.size_bytes == 0 {
        return Some("is empty".to_owned());
    }
    if file.path.to_ascii_lowercase().ends_with(".gpg") {
        return None;
    }
    let contents = || folder.below(name);
    let toc = OsStr::new("toc.dat");
    if file.is_folder && !contents().look(toc).is_ok_and(|look| look.kind == FileKind::File) {
        // Its table of contents is packed.
        return None;
    }
    let opened = if file.is_folder { contents().open(toc, 0) } else { folder.open(name, 0) };
    let mut head = Vec::new();
    match opened.and_then(|file| file.take(LOOK_BYTES).read_to_end(&mut head)) {
        Err(error) => Some(format!("cannot be read: {error}")),
        Ok(_) if is_packed(&head) => None,
        Ok(_) => looks_like_a_dump(engines, &head).err(),
    }
}

/// Tells whether nobody here can tell what a file holds: it is encrypted.
pub(crate) fn is_opaque(folder: &dyn Folder, file: &DumpFile) -> bool {
    if file.path.to_ascii_lowercase().ends_with(".gpg") {
        return true;
    }
    let unpacked = folder.open(file.file_name(), 0).and_then(Unpacked::begin);
    let magics: [&[u8]; 2] = [b"age-encryption.org/", b"-----BEGIN AGE ENCRYPTED FILE"];
    unpacked.is_ok_and(|file| magics.iter().any(|magic| file.head.starts_with(magic)))
}

/// Tells why a file of which nobody can tell what it holds is not the one that it was: what lies beside says its SHA-256. An
/// interruption is found out by whoever asks.
pub(crate) fn digest_problem(folder: &dyn Folder, file: &DumpFile, context: &Context) -> Option<String> {
    let expected = expected(folder, file.file_name())?;
    match digest(folder, file.file_name(), context) {
        Ok(found) => (found? != expected.sha256).then(|| format!("is not what {} says", expected.place)),
        Err(error) => Some(format!("cannot be read: {error}")),
    }
}

/// Returns the SHA-256 of a file as it is; `None` where that was interrupted.
pub(crate) fn digest(folder: &dyn Folder, name: &OsStr, context: &Context) -> io::Result<Option<String>> {
    let mut opened = folder.open(name, 0)?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; BUFFER_BYTES]);
    loop {
        match opened.read(&mut buffer)? {
            0 => break,
            count => hasher.update(&buffer[..count]),
        }
        if context.cancel.is_cancelled() {
            return Ok(None);
        }
    }
    Ok(Some(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()))
}

/// What reading back a file that was just written came to.
pub(crate) struct ReadBack {
    /// SHA-256 of what it packs.
    pub(crate) content: [u8; 32],
    /// How long that is.
    pub(crate) content_bytes: u64,
    /// What the file is.
    pub(crate) file: Fingerprint,
}

/// Reads a file that was just written to its end, through what packs it.
pub(crate) fn read_back(file: Box<dyn Read + Send>, context: &Context) -> io::Result<ReadBack> {
    let mut unpacked = Unpacked::begin(file)?;
    let (mut hasher, mut content_bytes) = (Sha256::new(), 0);
    let mut bytes = unpacked.bytes();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = bytes.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        context.cancel.check().map_err(|_| io::Error::other("interrupted"))?;
        hasher.update(&buffer[..count]);
        content_bytes += count as u64;
    }
    drop(bytes);
    Ok(ReadBack { content: hasher.finalize().into(), content_bytes, file: unpacked.finish()? })
}
