//! Whether the layers of an archive unpack to what its configs say: asked before anything of the
//! archive is kept, so that nobody finds out when the image is used.

use std::collections::HashSet;
use std::io::Read;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};

use store::{Batch, BlobId};

use super::Layout;
use crate::content::{ContentStore, Digest};
use crate::error::{Error, Result};
use crate::images::sizes;

/// A layer of which nobody knows yet whether it is what this config says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Unverified {
    /// Where it lies in the archive.
    pub(super) member: String,
    /// Where it lies in the store, if it was there before: then the archive need not have it.
    pub(super) kept: Option<BlobId>,
    /// The layer as it lies there.
    pub(super) layer: Digest,
    /// What its config says that it unpacks to.
    pub(super) diff_id: Digest,
}

impl Layout {
    /// Unpacks layers to nothing and compares them with their configs, several at once. What is
    /// learned of their sizes goes into the batch.
    pub(super) fn verify(
        &self,
        layers: &HashSet<Unverified>,
        content: &ContentStore,
        batch: &mut Batch,
    ) -> Result<()> {
        let layers: Vec<_> = layers.iter().collect();
        let parallel = std::thread::available_parallelism().map_or(1, usize::from);
        let next = AtomicUsize::new(0);
        let work = || -> Result<Vec<(Digest, u64)>> {
            let mut sizes = Vec::new();
            while let Some(layer) = layers.get(next.fetch_add(1, Ordering::Relaxed)) {
                sizes.push((layer.diff_id, self.verify_one(layer, content)?));
            }
            Ok(sizes)
        };
        std::thread::scope(|scope| {
            let threads = (0..parallel.min(layers.len())).map(|_| scope.spawn(work));
            let threads: Vec<_> = threads.collect();
            let ended = threads.into_iter().map(|thread| thread.join());
            // All of them are waited for.
            let ended: Vec<_> = ended.collect();
            for result in ended {
                for (diff_id, bytes) in result.unwrap_or_else(|panic| resume_unwind(panic))? {
                    sizes::note(batch, diff_id, bytes);
                }
            }
            Ok(())
        })
    }

    /// Gives the bytes of its files.
    fn verify_one(&self, expected: &Unverified, content: &ContentStore) -> Result<u64> {
        let Unverified {
            member,
            kept,
            layer,
            diff_id,
        } = expected;
        // Under its own digest it is known better than as a member.
        let name = match *member == super::blob_name(*layer) {
            true => layer.to_string(),
            false => member.clone(),
        };
        let body: Box<dyn Read + Send> = match kept {
            Some(blob) => Box::new(content.store().objects().open_blob(*blob)?),
            None => self.read(member)?,
        };
        let found = layer::inspect(body, &layer::Limits::default());
        let found = found.map_err(|error| match error.is_bad_layer() {
            true => Error::bad_image(self.what(), format!("layer {name} is damaged: {error}")),
            false => error.into(),
        })?;
        if found.diff_id != *diff_id {
            let reason = format!(
                "layer {name} unpacks to {}, the diff_id of its config says {diff_id}",
                found.diff_id
            );
            return Err(Error::bad_image(self.what(), reason));
        }
        Ok(found.bytes)
    }
}
