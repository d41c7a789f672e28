//! The layers of a result: which there are, and each as a tar.

use std::io;

use layer::{Below, Compression, Encoding, PackOptions};
use snapshotter::{Manager, catalog};
use store::codec::{Decoder, Encoder};
use store::{Batch, Durability, Store, Table, Timestamp, TreeRef, diff};

use crate::content::{Digest, Located, note};
use crate::error::Result;
use crate::images::Images;
use crate::images::document::Descriptor;
use crate::progress::Step;
use crate::result::Value;

/// Raised when packing changes: packed layers of before are then not reused.
const PACK_VERSION: u8 = 1;

/// A layer of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Layer {
    /// Packed by whoever made the base image; goes out byte by byte as it came in.
    Foreign(Descriptor, Digest),
    /// What one step changed, and when.
    Own(Change, Option<Timestamp>),
}

/// What lies between two trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) below: Option<TreeRef>,
    pub(super) tree: TreeRef,
}

/// A layer as it stands in a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packed {
    pub(super) descriptor: Descriptor,
    pub(super) diff_id: Digest,
    /// What to pack again where the bytes are not kept.
    pub(super) change: Option<Change>,
    /// When the step ran; `None` for layers of a base image.
    pub(super) created: Option<Timestamp>,
}

/// Options of packing; `epoch` is SOURCE_DATE_EPOCH.
pub(super) fn pack_options(epoch: Option<i64>) -> PackOptions {
    PackOptions {
        clamp_mtime: epoch,
        below: Below::Nothing,
    }
}

/// The layers of a result, lowest first.
pub(super) fn layers(value: &Value, images: &Images, snapshots: &Manager) -> Result<Vec<Layer>> {
    let store = snapshots.store();
    let mut layers = Vec::new();
    let mut name = value.name().to_owned();
    while !name.is_empty() {
        if let Some(base) = images.layers_of(&name)? {
            for (descriptor, diff_id) in base.into_iter().rev() {
                layers.push(match unpacked(images, store, &descriptor, diff_id)? {
                    Some(change) => Layer::Own(change, None),
                    None => Layer::Foreign(descriptor, diff_id),
                });
            }
            break;
        }
        let row = catalog::get(store, &name)?;
        let tree = snapshots.tree(&name)?;
        let (parent, created) = (row.info.parent, row.info.created);
        let below = if parent.is_empty() {
            None
        } else {
            Some(snapshots.tree(&parent)?)
        };
        layers.push(Layer::Own(Change { below, tree }, Some(created)));
        name = parent;
    }
    layers.reverse();
    Ok(layers)
}

/// What a layer of an image that was built here changes, if its bytes are not kept.
pub(super) fn unpacked(
    images: &Images,
    store: &Store,
    descriptor: &Descriptor,
    diff_id: Digest,
) -> Result<Option<Change>> {
    if images.content().find(descriptor.digest)?.is_some() {
        return Ok(None);
    }
    let Some(row) = store.rows().get(Table::Layer, &change_key(diff_id))? else {
        return Ok(None);
    };
    let mut row = Decoder::new("layer row", &row);
    let tree = catalog::decode_tree(&mut row)?;
    let below = match row.byte()? {
        0 => None,
        _ => Some(catalog::decode_tree(&mut row)?),
    };
    row.finish()?;
    Ok(Some(Change { below, tree }))
}

/// Adds to a batch how a layer that is not kept can be packed again.
pub(super) fn note_change(batch: &mut Batch, diff_id: Digest, change: &Change) {
    let mut row = Encoder::new();
    catalog::encode_tree(&mut row, &change.tree);
    row.byte(change.below.is_some().into());
    if let Some(below) = &change.below {
        catalog::encode_tree(&mut row, below);
    }
    batch.put(Table::Layer, change_key(diff_id), row.finish());
}

fn change_key(diff_id: Digest) -> Vec<u8> {
    [b"change/", &diff_id.as_bytes()[..]].concat()
}

fn packed_key(change: &Change, compression: Compression, epoch: Option<i64>) -> Vec<u8> {
    let mut key = blake3::Hasher::new_derive_key("varve 2026-11 packed layer v1");
    key.update(&[PACK_VERSION])
        .update(change.tree.id.as_bytes());
    if let Some(below) = &change.below {
        key.update(below.id.as_bytes());
    }
    key.update(format!(" {compression:?} {epoch:?}").as_bytes());
    [b"packed/", &key.finalize().as_bytes()[..]].concat()
}

/// Packs a layer, or finds that it was packed before. Compressed layers are kept as content, plain
/// ones are not: they are made again where they are needed.
pub(super) fn pack(
    layer: &Layer,
    compression: Compression,
    epoch: Option<i64>,
    images: &Images,
    store: &Store,
    step: &Step,
) -> Result<Packed> {
    let (change, created) = match layer {
        Layer::Own(change, created) => (change, *created),
        Layer::Foreign(descriptor, diff_id) => {
            let (descriptor, diff_id) = (descriptor.clone(), *diff_id);
            return Ok(Packed {
                descriptor,
                diff_id,
                change: None,
                created: None,
            });
        }
    };
    let key = packed_key(change, compression, epoch);
    if let Some((descriptor, diff_id)) = known(&key, compression, images, store)? {
        return Ok(Packed {
            descriptor,
            diff_id,
            change: Some(*change),
            created,
        });
    }
    let ingest = store.begin();
    let mut batch = Batch::new();
    let encoding = match compression {
        Compression::None => Encoding::PLAIN,
        Compression::Gzip => Encoding::GZIP,
        Compression::Zstd => Encoding::ZSTD,
    };
    let packed = match compression {
        Compression::None => write(change, epoch, store, encoding, io::sink())?,
        Compression::Gzip | Compression::Zstd => {
            let mut body = ingest.blob_writer();
            let packed = write(change, epoch, store, encoding, &mut body)?;
            let (blob, size) = body.commit()?;
            note(&mut batch, packed.digest, Located { blob, size });
            packed
        }
    };
    for socket in &packed.skipped {
        tracing::warn!(socket, "a socket cannot be part of a layer and is left out");
    }
    let mut row = Encoder::new();
    row.raw(packed.diff_id.as_bytes())
        .raw(packed.digest.as_bytes())
        .number(packed.size);
    batch.put(Table::Layer, key, row.finish());
    if compression == Compression::None {
        // Nothing to flush: losing the row costs one more packing.
        store.write(batch, Durability::Process)?;
    } else {
        ingest.commit(batch)?;
    }
    step.status(
        format!("exporting layer {}", packed.digest),
        packed.size,
        None,
        true,
    );
    let descriptor = Descriptor::new(compression.media_type(), packed.digest, packed.size);
    Ok(Packed {
        descriptor,
        diff_id: packed.diff_id,
        change: Some(*change),
        created,
    })
}

/// What a layer was packed to before, if that can be used again.
fn known(
    key: &[u8],
    compression: Compression,
    images: &Images,
    store: &Store,
) -> Result<Option<(Descriptor, Digest)>> {
    let Some(row) = store.rows().get(Table::Layer, key)? else {
        return Ok(None);
    };
    let mut row = Decoder::new("packed layer row", &row);
    let (diff_id, digest) = (
        Digest::from_bytes(row.array()?),
        Digest::from_bytes(row.array()?),
    );
    let descriptor = Descriptor::new(compression.media_type(), digest, row.number()?);
    row.finish()?;
    let usable = compression == Compression::None || images.content().find(digest)?.is_some();
    Ok(usable.then_some((descriptor, diff_id)))
}

/// Writes the tar of a change.
pub(super) fn write(
    change: &Change,
    epoch: Option<i64>,
    store: &Store,
    encoding: Encoding,
    out: impl io::Write + Send,
) -> Result<layer::Packed> {
    let delta = diff(change.below, change.tree, store)?;
    let below = change.below.map_or(Below::Nothing, Below::Tree);
    let options = PackOptions {
        clamp_mtime: epoch,
        below,
    };
    Ok(layer::pack_layer(
        &delta,
        store,
        store.objects(),
        &options,
        encoding,
        out,
    )?)
}
