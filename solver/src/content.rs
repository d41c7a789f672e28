//! OCI content by sha256: manifests, configs and packed layers, as blobs of the store.

use std::io::{self, Read, Write};
use std::sync::Arc;

use layer::digest::Digester;
use store::codec::{Decoder, Encoder};
use store::{Batch, BlobId, Ingest, Store, Table};

use crate::error::{Error, Result};

pub use layer::Digest;

/// Largest document (manifest, index, config) that is read into memory, in bytes; containerd's
/// own limit.
pub const DOCUMENT_MAX_BYTES: u64 = 8 * 1024 * 1024;

/// Bytes copied at a time.
const COPY_BUFFER_BYTES: usize = 256 * 1024;

/// OCI content in a store.
#[derive(Clone, Debug)]
pub struct ContentStore {
    store: Arc<Store>,
}

/// Where content lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located {
    /// The blob with its bytes.
    pub blob: BlobId,
    /// Its length in bytes.
    pub size: u64,
}

impl ContentStore {
    /// The content of a store.
    pub fn new(store: Arc<Store>) -> Self {
        ContentStore { store }
    }

    /// The store that the content is in.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Starts to bring content in.
    pub fn begin(&self) -> Ingest<'_> {
        self.store.begin()
    }

    /// Where the content of that digest is, `None` if it is not here. A lost object file counts
    /// as not here.
    ///
    /// # Errors
    /// Database errors.
    pub fn find(&self, digest: Digest) -> Result<Option<Located>> {
        let Some(row) = self.store.rows().get(Table::Content, digest.as_bytes())? else {
            return Ok(None);
        };
        let mut row = Decoder::new("content row", &row);
        let blob = BlobId::from_bytes(row.id()?);
        let size = row.number()?;
        row.finish()?;
        // The row too: its file may be there still when the blob has been collected.
        let is_here = self.store.blob_size(blob)? == Some(size);
        let is_here = is_here && self.store.objects().has(blob, size);
        Ok(is_here.then_some(Located { blob, size }))
    }

    /// The bytes of a document, checked.
    ///
    /// # Errors
    /// [`Error::BadImage`] if it is missing or too large; those of reading the blob.
    pub fn document(&self, what: &str, digest: Digest) -> Result<Vec<u8>> {
        let located = self.find(digest)?;
        let located = located.ok_or_else(|| Error::bad_image(what, missing(digest)))?;
        if located.size > DOCUMENT_MAX_BYTES {
            return Err(Error::bad_image(
                what,
                format!("{digest} is larger than 8 MiB"),
            ));
        }
        Ok(self.store.objects().read_all(located.blob)?)
    }

    /// Copies content out, checked on the way.
    ///
    /// # Errors
    /// [`Error::BadImage`] if it is missing; those of reading; what `sink` returns.
    pub fn copy_to(&self, digest: Digest, mut sink: impl Write) -> Result<u64> {
        let located = self.find(digest)?;
        let located = located.ok_or_else(|| Error::bad_image("content", missing(digest)))?;
        Ok(self
            .store
            .objects()
            .read_blob(located.blob, |piece| sink.write_all(piece))?)
    }

    /// Brings content in and checks its digest and, if known, its size. The row goes to `batch`.
    ///
    /// # Errors
    /// [`Error::BadImage`] if the bytes are not those of the digest.
    pub fn put_stream(
        &self,
        ingest: &Ingest<'_>,
        batch: &mut Batch,
        what: &str,
        digest: Digest,
        size: Option<u64>,
        from: impl Read,
    ) -> Result<Located> {
        if let Some(located) = self.find(digest)? {
            return Ok(located);
        }
        // One byte more than there may be tells a body that is too long.
        let mut from = from.take(size.map_or(u64::MAX, |size| size.saturating_add(1)));
        let mut writer = ingest.blob_writer();
        let mut digester = Digester::new();
        let mut buffer = vec![0; COPY_BUFFER_BYTES];
        loop {
            let count = from
                .read(&mut buffer)
                .map_err(|e| Error::io("read", what, e))?;
            if count == 0 {
                break;
            }
            digester.update(&buffer[..count]);
            writer
                .write_all(&buffer[..count])
                .map_err(|e| Error::io("store", what, e))?;
        }
        let (blob, length) = writer.commit()?;
        let (found, _) = digester.finish();
        if let Some(size) = size.filter(|size| *size != length) {
            let reason = format!(
                "{digest} has {length} bytes or more, its descriptor says the size is {size}"
            );
            return Err(Error::bad_image(what, reason));
        }
        if found != digest {
            return Err(Error::bad_image(
                what,
                format!("{digest} has the bytes of {found}"),
            ));
        }
        let located = Located { blob, size: length };
        note(batch, digest, located);
        Ok(located)
    }

    /// Brings in bytes that are in memory. The row goes to `batch`.
    ///
    /// # Errors
    /// Those of the store.
    pub fn put(
        &self,
        ingest: &Ingest<'_>,
        batch: &mut Batch,
        bytes: &[u8],
    ) -> Result<(Digest, Located)> {
        let digest = Digest::of(bytes);
        let located = Located {
            blob: ingest.put_blob(bytes)?,
            size: bytes.len() as u64,
        };
        note(batch, digest, located);
        Ok((digest, located))
    }
}

fn missing(digest: Digest) -> String {
    format!(
        "{digest} is missing from the store; run `varve fsck --repair`, then import the image again"
    )
}

/// Adds the row of content to a batch.
pub(crate) fn note(batch: &mut Batch, digest: Digest, located: Located) {
    let mut row = Encoder::new();
    row.raw(located.blob.as_bytes()).number(located.size);
    batch.put(Table::Content, *digest.as_bytes(), row.finish());
}

/// Reads at most [`DOCUMENT_MAX_BYTES`].
pub(crate) fn read_document(what: &str, from: impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = from.take(DOCUMENT_MAX_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|e| Error::io("read", what, e))?;
    if bytes.len() as u64 > DOCUMENT_MAX_BYTES {
        return Err(Error::io(
            "read",
            what,
            io::Error::other("it is larger than 8 MiB"),
        ));
    }
    Ok(bytes)
}
