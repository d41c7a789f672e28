//! The tar format: headers, PAX and GNU extensions, sparse maps; read and written as streams.
//!
//! A reader of its own, because what crates offer knows neither PAX sparse files nor limits for
//! extension headers. It follows Go's archive/tar wherever tar dialects leave a choice: docker and
//! containerd read every layer through that package, so its reading *is* what a layer means.

pub(crate) mod header;
pub(crate) mod pax;
pub(crate) mod reader;
pub(crate) mod sparse;
pub(crate) mod writer;

use store::Metadata;

use crate::error::Result;

/// Everything in a tar is padded to multiples of this many bytes.
pub(crate) const BLOCK: usize = 512;

/// One entry as it stands in the tar, extensions applied, nothing interpreted.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The name, as it stands there.
    pub(crate) path: Vec<u8>,
    /// What it is.
    pub(crate) kind: Kind,
    /// Attributes; every extended attribute that was found.
    pub(crate) metadata: Metadata,
}

/// What a tar entry is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A regular file of this many bytes, holes included.
    File { size: u64 },
    /// A directory.
    Directory,
    /// A symbolic link to this target.
    Symlink(Vec<u8>),
    /// One more name of the entry that has this name.
    HardLink(Vec<u8>),
    /// A character device with its major and minor number.
    CharDevice(u32, u32),
    /// A block device with its major and minor number.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
    /// Something that makes no file; tells what.
    Nothing(&'static str),
}

/// The bytes of a tar, piece by piece.
pub(crate) trait Source {
    /// Makes sure that something is there to read; tells how many bytes, 0 at the end.
    fn fill(&mut self) -> Result<usize>;

    /// What [`Source::fill`] made available.
    fn available(&self) -> &[u8];

    /// Steps over the first bytes of what is available.
    fn consume(&mut self, count: usize);
}

impl Source for &[u8] {
    fn fill(&mut self) -> Result<usize> {
        Ok(self.len())
    }

    fn available(&self) -> &[u8] {
        self
    }

    fn consume(&mut self, count: usize) {
        *self = &self[count..];
    }
}
