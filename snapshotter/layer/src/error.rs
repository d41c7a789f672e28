//! The one error type of this crate.

use std::io;

use crate::compress::Compression;
use crate::digest::ParseDigestError;

/// What can go wrong between a layer's bytes and a delta.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source of the layer's bytes failed.
    #[error("cannot read the layer behind its first {offset} bytes: {source}")]
    Read {
        /// Bytes that were read before, compressed ones.
        offset: u64,
        /// The source's answer.
        #[source]
        source: io::Error,
    },
    /// The compressed stream breaks its format.
    #[error(
        "the layer's {compression} data is damaged behind its first {offset} bytes ({source}); \
         fetch the layer again"
    )]
    Damaged {
        /// The format that was recognised.
        compression: Compression,
        /// Compressed bytes that were read before.
        offset: u64,
        /// What the decompressor says.
        #[source]
        source: io::Error,
    },
    /// The layer is compressed in a way that OCI does not know.
    #[error("the layer is compressed with {name}; OCI layers are plain, gzip or zstd")]
    UnsupportedCompression {
        /// The tool's name.
        name: &'static str,
    },
    /// A compression level that the format does not have.
    #[error("{compression} has no compression level {level}; use {lowest} to {highest}")]
    CompressionLevel {
        /// The format.
        compression: Compression,
        /// What was asked for.
        level: i32,
        /// The lowest level.
        lowest: i32,
        /// The highest level.
        highest: i32,
    },
    /// The tar stream ends where more must follow.
    #[error("the layer ends too early, in {place} at byte {offset} of its tar; fetch it again")]
    Truncated {
        /// What was being read.
        place: String,
        /// Offset in the uncompressed tar.
        offset: u64,
    },
    /// A tar header that cannot be read.
    #[error("the tar header at byte {offset} is invalid: {reason}")]
    Header {
        /// Offset in the uncompressed tar.
        offset: u64,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// A readable tar entry that no layer may have.
    #[error("the layer's entry {path:?} is refused: {reason}")]
    Entry {
        /// The entry's name as it stands in the tar.
        path: String,
        /// Why.
        reason: String,
    },
    /// A layer that costs more than it may.
    #[error("the layer has {what}: more than the {limit} that are allowed")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// The bound, in the unit that `what` names.
        limit: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The destination of the packed layer failed.
    #[error("cannot write the layer behind its first {offset} bytes: {source}")]
    Write {
        /// Bytes of the tar that were written before.
        offset: u64,
        /// The destination's answer.
        #[source]
        source: io::Error,
    },
    /// Something in a delta that a layer tar cannot say.
    #[error("{path} cannot be put into a layer: {reason}")]
    Unpackable {
        /// The path inside the tree.
        path: String,
        /// Why.
        reason: &'static str,
    },
    /// Text that is no digest.
    #[error(transparent)]
    Digest(#[from] ParseDigestError),
}

impl Error {
    /// Whether the cause is a full disk or an exhausted quota.
    pub fn is_no_space(&self) -> bool {
        match self {
            Error::Store(error) => error.is_no_space(),
            Error::Write { source, .. } => {
                matches!(
                    source.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                )
            }
            _ => false,
        }
    }

    /// Whether the layer's own bytes are to blame, so that trying again with the same bytes will
    /// fail again.
    pub fn is_bad_layer(&self) -> bool {
        match self {
            Error::Damaged { .. }
            | Error::UnsupportedCompression { .. }
            | Error::Truncated { .. }
            | Error::Header { .. }
            | Error::Entry { .. }
            | Error::Limit { .. } => true,
            Error::Read { .. }
            | Error::CompressionLevel { .. }
            | Error::Store(_)
            | Error::Write { .. }
            | Error::Unpackable { .. }
            | Error::Digest(_) => false,
        }
    }

    /// An [`Error::Entry`] about a name that need not be UTF-8.
    pub(crate) fn entry(path: &[u8], reason: impl Into<String>) -> Self {
        Error::Entry {
            path: String::from_utf8_lossy(path).into_owned(),
            reason: reason.into(),
        }
    }
}

/// The result of every fallible function of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
