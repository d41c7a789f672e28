//! How large images are, as docker says it: the contents of their layers, a file once in each, that
//! of several names too. It depends on the layers alone, so it is the same before an image is used
//! and afterwards, and on every machine.

use store::codec::{Decoder, Encoder};
use store::{Batch, Durability, Table, delta, diff};

use super::document::Descriptor;
use super::{Image, Images};
use crate::content::Digest;
use crate::error::Result;
use crate::exporters::layers::noted_change;

fn key(diff_id: Digest) -> Vec<u8> {
    [b"size/", &diff_id.as_bytes()[..]].concat()
}

/// Adds to a batch how many bytes the files of a layer have.
pub(crate) fn note(batch: &mut Batch, diff_id: Digest, bytes: u64) {
    let mut row = Encoder::new();
    row.number(bytes);
    batch.put(Table::Layer, key(diff_id), row.finish());
}

impl Images {
    /// Bytes of the files of an image: the sum of [`Images::layer_sizes`].
    ///
    /// # Errors
    /// Database errors.
    pub fn size(&self, image: &Image) -> Result<u64> {
        Ok(self.layer_sizes(image)?.iter().sum())
    }

    /// Bytes of the files of each layer of an image, lowest first. Of a layer that is not here, or
    /// damaged, it is the size that its manifest says: that is what is known of it.
    ///
    /// # Errors
    /// Database errors.
    pub fn layer_sizes(&self, image: &Image) -> Result<Vec<u64>> {
        let layers = image.manifest.layers.iter();
        layers
            .zip(&image.config.rootfs.diff_ids)
            .map(|(layer, diff_id)| self.layer_size(layer, *diff_id))
            .collect()
    }

    fn layer_size(&self, layer: &Descriptor, diff_id: Digest) -> Result<u64> {
        let store = self.store();
        if let Some(row) = store.rows().get(Table::Layer, &key(diff_id))? {
            let mut row = Decoder::new("layer size row", &row);
            let bytes = row.number()?;
            row.finish()?;
            return Ok(bytes);
        }
        let Some(bytes) = self.measured(layer, diff_id)? else {
            return Ok(layer.size);
        };
        let mut batch = Batch::new();
        note(&mut batch, diff_id, bytes);
        // Losing it costs measuring once more.
        store.write(batch, Durability::Process)?;
        Ok(bytes)
    }

    /// What is found out by looking at the layer itself, or at the trees that it is made from.
    fn measured(&self, layer: &Descriptor, diff_id: Digest) -> Result<Option<u64>> {
        let store = self.store();
        if let Some(change) = noted_change(store, diff_id)? {
            let found = diff(change.below, change.tree, &**store)
                .and_then(|delta| delta::file_bytes(&delta, &**store));
            match found {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(error) => tracing::debug!(%error, "the trees of a layer are gone"),
            }
        }
        let Some(located) = self.content().find(layer.digest)? else {
            return Ok(None);
        };
        let measured = store
            .objects()
            .open_blob(located.blob)
            .map_err(layer::Error::from)
            .and_then(|body| layer::inspect(body, &layer::Limits::default()));
        Ok(match measured {
            Ok(found) if found.diff_id == diff_id => Some(found.bytes),
            Ok(_) => None,
            Err(error) => {
                tracing::debug!(%error, "a layer cannot be measured");
                None
            }
        })
    }
}
