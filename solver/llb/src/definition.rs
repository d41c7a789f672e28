//! A marshalled graph with its metadata: what crosses a socket and what lies in a file.
//!
//! A definition is not checked beyond its form; [`Graph::try_from`](crate::Graph) checks it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::digest::VertexDigest;
use crate::error::Error;
use crate::metadata::{Metadata, SourceFile};
use crate::wire;

/// Largest encoded definition that is read, in bytes. BuildKit's gRPC messages end at 16 MiB;
/// files may be larger because they hold inline file contents.
pub const DEFINITION_BYTES_MAX: usize = 64 << 20;

/// Most operations that a definition may have. A vertex costs about a kilobyte of memory.
pub const OPS_MAX: usize = 65_536;

/// Marshalled operations and what is known of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Definition {
    /// Marshalled operations; the last one is terminal. Empty for an empty file system.
    pub ops: Vec<Arc<[u8]>>,
    /// What is known of them, by digest.
    pub metadata: BTreeMap<VertexDigest, Metadata>,
    /// The files that [`Metadata::locations`] point into.
    pub files: Vec<SourceFile>,
}

impl Definition {
    /// Reads an encoded `pb.Definition`, such as buildctl writes.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond [`DEFINITION_BYTES_MAX`] or [`OPS_MAX`], [`Error::Malformed`]
    /// and [`Error::MissingSourceFile`] for bytes that are no definition.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > DEFINITION_BYTES_MAX {
            return Err(Error::TooLarge {
                what: "definition (bytes)",
                count: bytes.len(),
                limit: DEFINITION_BYTES_MAX,
            });
        }
        wire::definition_from_bytes(bytes)
    }

    /// Encodes it as a `pb.Definition`. Equal definitions give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        wire::definition_to_bytes(self)
    }
}
