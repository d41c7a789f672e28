//! A delta to an OCI layer: a deterministic tar, sorted, streamed, compressed and digested.
//!
//! Equal deltas give equal bytes, whatever made them. Directories come before what they hold,
//! names in byte order; a whiteout stands where the name that it deletes would stand.

mod output;
mod walk;

use std::io::{self, BufRead, Read, Write};

use store::{BlobId, Delta, Objects, TreeRef, TreeSource};

use crate::compress::{Compression, Decoder, Encoding, MAGIC_BYTES};
use crate::digest::Digest;
use crate::error::{Error, Result};
use walk::Walk;

/// Bytes of a tar that are copied at a time.
const COPY_BYTES: usize = 256 * 1024;

/// Where the contents of files come from.
pub trait BlobSource {
    /// Hands all bytes of the blob to `sink` and checks on the way that they are the right ones.
    /// Tells how many they are.
    ///
    /// # Errors
    /// Those of the store, and of `sink`.
    fn read_blob(
        &self,
        id: BlobId,
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> store::Result<u64>;
}

impl BlobSource for Objects {
    fn read_blob(
        &self,
        id: BlobId,
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> store::Result<u64> {
        Objects::read_blob(self, id, sink)
    }
}

/// What the layer will lie on.
///
/// A tar cannot say "this directory, in place of the one below": [`store::DeltaEntry::Graft`]
/// becomes a directory with an opaque mark. Where there is no directory below, the mark is
/// needless, and other tools do not write it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Below {
    /// Anything: every graft gets its mark.
    #[default]
    Unknown,
    /// Nothing: this is the first layer.
    Nothing,
    /// This tree.
    Tree(TreeRef),
}

/// How a delta is packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PackOptions {
    /// Latest mtime, in seconds since 1970; later ones become this one (SOURCE_DATE_EPOCH).
    pub clamp_mtime: Option<i64>,
    /// What the layer will lie on.
    pub below: Below,
}

/// A layer that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// sha256 of the uncompressed tar: the layer's name in an image config.
    pub diff_id: Digest,
    /// sha256 of what was written: the layer's name in a manifest.
    pub digest: Digest,
    /// Length of what was written, in bytes.
    pub size: u64,
    /// Length of the uncompressed tar, in bytes.
    pub tar_size: u64,
    /// How many entries the tar has.
    pub entries: u64,
    /// Sockets, which no tar can hold, and which were left out; the first 50 paths.
    pub skipped: Vec<String>,
}

/// Writes a delta as a plain tar.
///
/// `trees` has the trees that the delta grafts and, with [`Below::Tree`], the one below. Tells how
/// many entries were written and which sockets were not.
///
/// # Errors
/// [`crate::Error::Unpackable`] for what a tar cannot say, [`crate::Error::Write`],
/// [`crate::Error::Store`].
pub fn pack(
    delta: &Delta,
    trees: &dyn TreeSource,
    blobs: &dyn BlobSource,
    options: &PackOptions,
    writer: &mut dyn Write,
) -> Result<(u64, Vec<String>)> {
    let mut walk = Walk::new(trees, blobs, options, writer);
    walk.delta(delta)?;
    walk.finish()
}

/// Writes a delta as a layer: tar, compression and digests, on threads of its own.
///
/// # Errors
/// As [`pack`].
pub fn pack_layer(
    delta: &Delta,
    trees: &dyn TreeSource,
    blobs: &dyn BlobSource,
    options: &PackOptions,
    encoding: Encoding,
    writer: impl Write + Send,
) -> Result<Packed> {
    let ((entries, skipped), totals) = output::with_encoder(encoding, writer, |tar| {
        pack(delta, trees, blobs, options, tar)
    })?;
    let output::Totals {
        diff_id,
        tar_size,
        digest,
        size,
    } = totals;
    Ok(Packed {
        diff_id,
        digest,
        size,
        tar_size,
        entries,
        skipped,
    })
}

/// Writes a layer with another compression; its tar stays as it is, byte by byte. The number of
/// its entries is not known afterwards.
///
/// # Errors
/// [`crate::Error::Damaged`] for a stream that breaks its format, [`crate::Error::Write`].
pub fn recompress(
    mut reader: impl BufRead,
    encoding: Encoding,
    writer: impl Write + Send,
) -> Result<Packed> {
    let read_failed = |source| Error::Read { offset: 0, source };
    let start = reader.fill_buf().map_err(read_failed)?;
    let compression = Compression::detect(&start[..start.len().min(MAGIC_BYTES)])?;
    let mut tar_in = Decoder::new(compression, reader).map_err(read_failed)?;
    let ((), totals) = output::with_encoder(encoding, writer, |tar| {
        let mut buffer = vec![0; COPY_BYTES];
        let mut offset = 0;
        loop {
            let count = tar_in.read(&mut buffer).map_err(|source| Error::Damaged {
                compression,
                offset,
                source,
            })?;
            if count == 0 {
                return Ok(());
            }
            let written = tar.write_all(&buffer[..count]);
            written.map_err(|source| Error::Write { offset, source })?;
            offset += count as u64;
        }
    })?;
    Ok(Packed {
        diff_id: totals.diff_id,
        digest: totals.digest,
        size: totals.size,
        tar_size: totals.tar_size,
        entries: 0,
        skipped: Vec::new(),
    })
}
