//! Which images of the store cannot be used as a whole any more: what they consist of was damaged,
//! and taken out by a repair.

use store::{BlobId, Store};

use super::layers;
use crate::content::Digest;
use crate::error::{Error, Result};
use crate::images::document::{self, Descriptor, Index, Manifest};
use crate::images::{Images, Named};

/// An image of which something is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// Its name, in full.
    pub name: String,
    /// What of it is lost: a document or a layer.
    pub lost: Digest,
}

/// Why something failed that has read an object: its damage, if it is damaged.
pub(crate) fn blame(store: &Store, object: BlobId, failure: Error) -> Error {
    match store.objects().read_blob(object, |_| Ok(())) {
        Err(damage @ (store::Error::BlobCorrupt { .. } | store::Error::BlobMissing { .. })) => {
            damage.into()
        }
        _ => failure,
    }
}

/// The named images of which something is neither here nor can be made again from what is here. Of
/// an index that was pulled in part the rest does not count.
///
/// # Errors
/// Database errors.
pub fn damaged(images: &Images) -> Result<Vec<Damaged>> {
    let mut found = Vec::new();
    for Named { name, target, .. } in images.list()? {
        if let Some(lost) = lost_of(images, &name, &target, 0)? {
            found.push(Damaged { name, lost });
        }
    }
    Ok(found)
}

fn lost_of(
    images: &Images,
    name: &str,
    target: &Descriptor,
    depth: usize,
) -> Result<Option<Digest>> {
    let content = images.content();
    if content.find(target.digest)?.is_none() || depth > document::INDEX_DEPTH_MAX {
        return Ok(Some(target.digest));
    }
    let Ok(bytes) = content.document(name, target.digest) else {
        return Ok(Some(target.digest));
    };
    if document::is_index(&bytes) {
        let Ok(index) = document::parse::<Index>(name, &bytes) else {
            return Ok(Some(target.digest));
        };
        let mut is_any_here = false;
        for manifest in &index.manifests {
            if content.find(manifest.digest)?.is_some() {
                is_any_here = true;
                if let Some(lost) = lost_of(images, name, manifest, depth + 1)? {
                    return Ok(Some(lost));
                }
            }
        }
        return Ok((!is_any_here).then_some(target.digest));
    }
    let Ok(manifest) = document::parse::<Manifest>(name, &bytes) else {
        return Ok(Some(target.digest));
    };
    // Of another platform than was pulled, or an attestation.
    let Ok(config) = content.document(name, manifest.config.digest) else {
        return Ok((depth == 0).then_some(manifest.config.digest));
    };
    let Ok(config) = document::check(name, &manifest, &config) else {
        return Ok(None);
    };
    let store = content.store();
    for (layer, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
        if content.find(layer.digest)?.is_some() {
            continue;
        }
        let is_here = match layers::unpacked(images, store, layer, *diff_id)? {
            None => false,
            Some(change) => {
                let below = change
                    .below
                    .map_or(Ok(true), |below| store.has_tree(below.id))?;
                below && store.has_tree(change.tree.id)?
            }
        };
        if !is_here {
            return Ok(Some(layer.digest));
        }
    }
    Ok(None)
}
