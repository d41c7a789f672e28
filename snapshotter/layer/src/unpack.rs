//! An OCI layer, or another archive, to a delta: bodies stream into the store, only names and
//! attributes are in memory.

use std::io::Read;

use store::{BlobId, Delta, Ingest};

use crate::archive::reader::Reader;
use crate::archive::{Entry, Kind, Source};
use crate::assembly::{Assembly, Form, InodeIndex, Placed};
use crate::bodies::{Bodies, Discard, Writers};
use crate::compress::Compression;
use crate::digest::Digest;
use crate::error::Result;
use crate::limits::Limits;
use crate::pipeline::{Totals, with_tar};

/// Warnings that are kept; a layer of a million odd entries says no more than one of fifty.
const WARNINGS_MAX: usize = 50;

/// By this prefix overlayfs steers itself; a layer that sets such an attribute could redirect
/// look-ups, so they are dropped.
const OVERLAY_XATTR_PREFIX: &[u8] = b"trusted.overlay.";

/// A layer that was read to its end.
#[derive(Clone, Debug)]
pub struct Unpacked {
    /// What the layer changes.
    pub delta: Delta,
    /// sha256 of the uncompressed tar: the layer's name in an image config.
    pub diff_id: Digest,
    /// sha256 of the layer as it was read: its name in a manifest.
    pub digest: Digest,
    /// Length of the layer as it was read, in bytes.
    pub size: u64,
    /// Length of the uncompressed tar, in bytes.
    pub tar_size: u64,
    /// Sum of the lengths of all regular files, in bytes.
    pub bytes: u64,
    /// How many entries the tar has.
    pub entries: u64,
    /// How the layer was compressed.
    pub compression: Compression,
    /// What was read otherwise than it stands there, in sentences for a person; the first 50.
    pub warnings: Vec<String>,
}

/// Reads a layer (plain, gzip or zstd, told by its first bytes) into `ingest`.
///
/// The caller compares [`Unpacked::digest`] and [`Unpacked::diff_id`] with what the image says,
/// and commits the ingest only if they agree. Threads of its own read from `reader`, so after an
/// error this returns only when a read that is under way has returned.
///
/// # Errors
/// [`crate::Error::is_bad_layer`] tells whether the layer is to blame. After any error the ingest
/// must be dropped: it has part of the layer.
pub fn unpack(reader: impl Read + Send, ingest: &Ingest<'_>, limits: &Limits) -> Result<Unpacked> {
    unpack_into(reader, None, ingest, limits)
}

/// The same for a layer whose reader compares it with its digest, `known`, and fails at the end
/// where they differ: it is not digested once more.
///
/// # Errors
/// As [`unpack`].
pub fn unpack_verified(
    reader: impl Read + Send,
    known: Digest,
    ingest: &Ingest<'_>,
    limits: &Limits,
) -> Result<Unpacked> {
    unpack_into(reader, Some(known), ingest, limits)
}

/// Reads an archive that a person has made, as ADD and `tar -x` do: no name in it means that
/// something is gone, and what stands behind its end is not looked at. `origin` tells the groups of
/// its hard links from those of others.
///
/// # Errors
/// As [`unpack`].
pub fn unpack_archive(
    reader: impl Read + Send,
    origin: BlobId,
    ingest: &Ingest<'_>,
    limits: &Limits,
) -> Result<Delta> {
    let reserved = ingest.store().objects().nonce().as_bytes();
    std::thread::scope(|scope| {
        let mut writers = Writers::start(scope, ingest);
        let (contents, _) = with_tar(reader, None, limits, |tar| {
            read(tar, Form::Archive, limits, Some(reserved), &mut writers)
        })?;
        let origin = Digest::from_bytes(*origin.as_bytes());
        contents.assembly.finish(writers.finish()?, origin)
    })
}

fn unpack_into(
    reader: impl Read + Send,
    known: Option<Digest>,
    ingest: &Ingest<'_>,
    limits: &Limits,
) -> Result<Unpacked> {
    let reserved = ingest.store().objects().nonce().as_bytes();
    std::thread::scope(|scope| {
        let mut writers = Writers::start(scope, ingest);
        let (contents, totals) = with_tar(reader, known, limits, |tar| {
            read(tar, Form::Layer, limits, Some(reserved), &mut writers)
        })?;
        contents.unpacked(writers.finish()?, totals)
    })
}

/// Reads a layer as [`unpack`] does and keeps nothing of it: checks it, and tells what it has.
///
/// # Errors
/// As [`unpack`], but for those of the store.
pub fn inspect(reader: impl Read + Send, limits: &Limits) -> Result<Unpacked> {
    let mut bodies = Discard::default();
    let (contents, totals) = with_tar(reader, None, limits, |tar| {
        read(tar, Form::Layer, limits, None, &mut bodies)
    })?;
    contents.unpacked(bodies.blobs, totals)
}

/// A tar that was read to its end.
struct Contents<'l> {
    assembly: Assembly<'l>,
    entries: u64,
    bytes: u64,
    warnings: Vec<String>,
}

impl Contents<'_> {
    fn unpacked(self, blobs: Vec<(InodeIndex, BlobId)>, totals: Totals) -> Result<Unpacked> {
        Ok(Unpacked {
            delta: self.assembly.finish(blobs, totals.diff_id)?,
            diff_id: totals.diff_id,
            digest: totals.digest,
            size: totals.size,
            tar_size: totals.tar_size,
            bytes: self.bytes,
            entries: self.entries,
            compression: totals.compression,
            warnings: self.warnings,
        })
    }

    fn warn(&mut self, warning: impl FnOnce() -> String) {
        if self.warnings.len() < WARNINGS_MAX {
            self.warnings.push(warning());
        }
    }

    /// Takes out what would mean something to overlayfs and not to the image.
    fn disarm(&mut self, entry: &mut Entry) {
        let path = String::from_utf8_lossy(&entry.path).into_owned();
        entry.metadata.xattrs.retain(|name, _| {
            let kept = !name.starts_with(OVERLAY_XATTR_PREFIX);
            if !kept && self.warnings.len() < WARNINGS_MAX {
                let name = String::from_utf8_lossy(name);
                self.warnings
                    .push(format!("{path}: the extended attribute {name} was dropped"));
            }
            kept
        });
        if entry.kind == Kind::CharDevice(0, 0) {
            self.warn(|| format!("{path}: the character device 0:0 was read as a whiteout"));
        }
    }
}

/// Reads a whole tar.
fn read<'l>(
    tar: impl Source,
    form: Form,
    limits: &'l Limits,
    reserved: Option<&'l [u8]>,
    bodies: &mut dyn Bodies,
) -> Result<Contents<'l>> {
    let mut reader = Reader::new(tar, limits);
    let assembly = Assembly::new(form, limits, reserved);
    let mut contents = Contents {
        assembly,
        entries: 0,
        bytes: 0,
        warnings: Vec::new(),
    };
    while let Some(mut entry) = reader.next()? {
        if let Kind::Nothing(what) = entry.kind {
            contents.warn(|| format!("{what} was skipped"));
            continue;
        }
        contents.disarm(&mut entry);
        contents.entries += 1;
        let size = match entry.kind {
            Kind::File { size } => size,
            _ => 0,
        };
        if let Placed::File(inode) = contents.assembly.add(entry)? {
            contents.bytes += size;
            bodies.take(inode, size, &mut reader)?;
        }
    }
    // containerd and docker read over whatever is there; it is part of the diff id.
    if form == Form::Layer && reader.trailing()? {
        contents.warn(|| "what stands behind the end of the archive was skipped".to_owned());
    }
    Ok(contents)
}
