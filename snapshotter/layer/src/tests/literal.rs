//! Tars written down in tests, entry by entry, good ones and broken ones.

use store::{Metadata, Timestamp};

use crate::archive::header::{CHECKSUM, checksum};
use crate::archive::pax::write_record;
use crate::archive::writer::{END, padding, write_header};
use crate::archive::{BLOCK, Kind};
use crate::error::Result;
use crate::limits::Limits;
use crate::unpack::{Unpacked, inspect};

/// A tar being put together.
#[derive(Clone, Default)]
pub(super) struct Tar {
    bytes: Vec<u8>,
}

/// Attributes that tests can tell apart.
pub(super) fn metadata(mode: u16) -> Metadata {
    Metadata {
        mode,
        mtime: Timestamp::from_seconds(1),
        ..Metadata::default_directory()
    }
}

impl Tar {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn entry(mut self, path: &str, kind: Kind, metadata: &Metadata) -> Self {
        write_header(&mut self.bytes, path.as_bytes(), &kind, metadata).unwrap();
        self
    }

    pub(super) fn file(self, path: &str, content: &str) -> Self {
        let kind = Kind::File {
            size: content.len() as u64,
        };
        self.entry(path, kind, &metadata(0o644))
            .content(content.as_bytes())
    }

    pub(super) fn directory(self, path: &str, mode: u16) -> Self {
        self.entry(path, Kind::Directory, &metadata(mode))
    }

    pub(super) fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(path, Kind::Symlink(target.into()), &metadata(0o777))
    }

    pub(super) fn link(self, path: &str, target: &str) -> Self {
        self.entry(path, Kind::HardLink(target.into()), &metadata(0o644))
    }

    /// Content and padding, behind a header that announced them.
    pub(super) fn content(mut self, content: &[u8]) -> Self {
        self.bytes.extend_from_slice(content);
        self.bytes
            .resize(self.bytes.len() + padding(content.len() as u64), 0);
        self
    }

    /// An extended header for the next entry (`x`), or for all (`g`).
    pub(super) fn extended(self, flag: u8, records: &[(&str, &[u8])]) -> Self {
        let mut body = Vec::new();
        for (key, value) in records {
            write_record(&mut body, key.as_bytes(), value);
        }
        self.special(flag, &body)
    }

    /// An entry of any type with a content.
    pub(super) fn special(self, flag: u8, content: &[u8]) -> Self {
        let kind = Kind::File {
            size: content.len() as u64,
        };
        self.entry("special", kind, &metadata(0))
            .patch(156, &[flag])
            .content(content)
    }

    /// Overwrites bytes of the last header and makes its checksum right again.
    pub(super) fn patch(mut self, at: usize, bytes: &[u8]) -> Self {
        let start = self.bytes.len() - BLOCK;
        let header = self.bytes.last_chunk_mut::<BLOCK>().unwrap();
        header[at..at + bytes.len()].copy_from_slice(bytes);
        let sum = format!("{:06o}\0 ", checksum(header));
        self.bytes[start..][CHECKSUM].copy_from_slice(sum.as_bytes());
        self
    }

    /// Bytes as they are.
    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// The tar with its end mark.
    pub(super) fn ended(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&END);
        self.bytes
    }

    /// The tar without an end mark.
    pub(super) fn open(self) -> Vec<u8> {
        self.bytes
    }

    pub(super) fn read(self) -> Result<Unpacked> {
        inspect(&self.ended()[..], &Limits::default())
    }
}
