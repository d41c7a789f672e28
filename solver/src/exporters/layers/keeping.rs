//! Brings layers in that were made: many small ones with one flush, large ones each with its own,
//! so that what an interrupted export has made is not made again.

use std::io;

use store::{Batch, Ingest, Store};

use crate::content::{Located, note};
use crate::error::Result;

/// Bytes after which what was made is brought in.
const COMMITTED_BYTES: u64 = 64 << 20;

/// Layers on their way into the store. Visible after [`Keeping::commit`]; drop is abort.
pub(crate) struct Keeping<'s> {
    store: &'s Store,
    /// Begun with the first layer.
    open: Option<(Ingest<'s>, Batch)>,
    /// Of layers that are not visible yet.
    bytes: u64,
}

impl<'s> Keeping<'s> {
    pub(crate) fn new(store: &'s Store) -> Self {
        Keeping {
            store,
            open: None,
            bytes: 0,
        }
    }

    pub(crate) fn store(&self) -> &'s Store {
        self.store
    }

    /// Makes a layer and keeps its bytes as content, with the rows that `noted` gives for it.
    pub(crate) fn keep(
        &mut self,
        make: impl FnOnce(&mut (dyn io::Write + Send)) -> Result<layer::Packed>,
        noted: impl FnOnce(&layer::Packed) -> Batch,
    ) -> Result<layer::Packed> {
        let store = self.store;
        let (ingest, batch) = self
            .open
            .get_or_insert_with(|| (store.begin(), Batch::new()));
        let mut body = ingest.blob_writer();
        let packed = make(&mut body)?;
        let (blob, size) = body.commit()?;
        batch.append(noted(&packed));
        note(batch, packed.digest, Located { blob, size });
        self.bytes += size;
        if self.bytes >= COMMITTED_BYTES {
            self.commit()?;
        }
        Ok(packed)
    }

    /// Makes all layers durable and visible.
    pub(crate) fn commit(&mut self) -> Result<()> {
        self.bytes = 0;
        match self.open.take() {
            Some((ingest, batch)) => Ok(ingest.commit(batch)?),
            None => Ok(()),
        }
    }
}
