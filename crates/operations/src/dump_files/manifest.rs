//! The manifest beside a file that we wrote: whose backup it is, of which moment, and what it holds. A file is worth as much
//! without one; where it is gone or damaged, the name tells what it can.

use super::folder::MANIFEST_ENDING;
use crate::encryption::Encryption;
use crate::plain_file::Compression;
use engines::ExportForm;
use flow::{DatabaseName, EngineKind, Facts, Selection, TargetName, Text};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::io::Read;
use storage::Folder;

/// No manifest is longer.
const BYTES_MAX: u64 = 64 << 20;

/// The schema of the manifests that this version writes.
pub const FILE_SCHEMA: &str = "backstay.file/1";

/// What a file that we wrote is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileManifest {
    /// `backstay.file/1`. Stands first.
    pub schema: String,
    /// The file's name.
    pub file: String,
    /// SHA-256 of the file, in hexadecimal digits.
    pub sha256: String,
    /// Its length.
    pub file_bytes: u64,
    /// The target.
    pub target: TargetName,
    /// The database.
    pub database: DatabaseName,
    /// The plan that made it.
    pub plan: Option<String>,
    /// The host whose run it was.
    pub host: Text,
    /// Where the database was.
    pub connection: String,
    /// The engine.
    pub engine: EngineKind,
    /// The form.
    pub form: ExportForm,
    /// How it is packed.
    pub compression: Compression,
    /// How it is encrypted.
    #[serde(default)]
    pub encryption: Encryption,
    /// The consistency point.
    pub time: Timestamp,
    /// When the file was read back and found whole.
    pub verified: Timestamp,
    /// Bytes of the form, unpacked.
    pub size_bytes: u64,
    /// Rows of all its tables.
    pub rows: Option<u64>,
    /// What of the database it holds; null for all of it.
    pub selection: Option<Selection>,
    /// The tags that its run was given.
    pub tags: Vec<String>,
    /// The facts of its content.
    pub facts: Facts,
}

impl FileManifest {
    /// Returns the name that the manifest of a file has.
    pub(crate) fn name_of(file: &OsStr) -> OsString {
        let mut name = file.to_owned();
        name.push(MANIFEST_ENDING);
        name
    }

    /// Reads the manifest beside a file; `None` where there is none that is ours, whole and of that file.
    pub(crate) fn beside(folder: &dyn Folder, file: &OsStr) -> Option<Self> {
        Self::read(folder.open(&Self::name_of(file), 0).ok()?, file)
    }

    /// Reads a manifest; `None` where it is none of that file.
    pub(crate) fn read(manifest: impl Read, file: &OsStr) -> Option<Self> {
        let mut text = Vec::new();
        manifest.take(BYTES_MAX).read_to_end(&mut text).ok()?;
        let manifest: Self = serde_json::from_slice(&text).ok()?;
        (manifest.schema == FILE_SCHEMA && file == manifest.file.as_str()).then_some(manifest)
    }
}
