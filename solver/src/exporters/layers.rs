//! The layers of a result: which there are, and each as a tar.

mod keeping;

use std::io;

use layer::{Below, Compression, Encoding, PackOptions};
use snapshotter::{Manager, catalog};
use store::codec::{Decoder, Encoder};
use store::{Batch, Durability, Store, Table, Timestamp, TreeRef, diff};

pub(super) use self::keeping::Keeping;
use super::damage;
use super::meter::Meter;
use crate::content::Digest;
use crate::error::{Error, Result};
use crate::images::Images;
use crate::images::document::{self, Descriptor};
use crate::ops::merge::LAID_LABEL;
use crate::progress::Step;
use crate::request::ImageAttributes;
use crate::result::Value;

/// Raised when packing changes: packed layers of before are then not reused.
const PACK_VERSION: u8 = 2;

/// A layer of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Layer {
    /// Packed by whoever made the base image; goes out byte by byte as it came in.
    Foreign(Descriptor, Digest),
    /// Of a base image that was built here: packed again as it was then.
    Base(Packing, Digest),
    /// What one step changed, and when.
    Own(Change, Option<Timestamp>),
}

/// How a layer was packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packing {
    change: Change,
    /// Latest mtime of its files, in seconds since 1970.
    clamp: Option<i64>,
}

/// What lies between two trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) below: Option<TreeRef>,
    pub(crate) tree: TreeRef,
}

impl Change {
    fn options(&self, epoch: Option<i64>) -> PackOptions {
        PackOptions {
            clamp_mtime: epoch,
            below: self.below.map_or(Below::Nothing, Below::Tree),
        }
    }
}

/// A layer as it stands in a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packed {
    pub(super) descriptor: Descriptor,
    pub(super) diff_id: Digest,
    /// What to pack again where the bytes are not kept.
    pub(super) change: Option<Change>,
    /// Latest mtime of its files then, in seconds since 1970.
    pub(super) clamp: Option<i64>,
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
                    Some(change) => {
                        let clamp = noted_clamp(store, diff_id)?;
                        Layer::Base(Packing { change, clamp }, diff_id)
                    }
                    None => Layer::Foreign(descriptor, diff_id),
                });
            }
            break;
        }
        let row = catalog::get(store, &name)?;
        let tree = snapshots.tree(&name)?;
        let (parent, created) = (row.info.parent, row.info.created);
        let laid = row.info.labels.get(LAID_LABEL);
        let change = match laid.map(|laid| catalog::find(store, laid)).transpose()? {
            Some(Some(laid)) => laid.tree().map(|tree| Change { below: None, tree }),
            _ => None,
        };
        let change = match change {
            Some(change) => change,
            None if parent.is_empty() => Change { below: None, tree },
            None => Change {
                below: Some(snapshots.tree(&parent)?),
                tree,
            },
        };
        layers.push(Layer::Own(change, Some(created)));
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
    match images.content().find(descriptor.digest)? {
        Some(_) => Ok(None),
        None => noted_change(store, diff_id),
    }
}

/// What a layer that is packed here changes, if that is known.
///
/// # Errors
/// Database errors.
pub(crate) fn noted_change(store: &Store, diff_id: Digest) -> Result<Option<Change>> {
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

/// Adds to a batch how a layer that is not kept can be packed again; tells by what change, which
/// whoever has the layer is to keep alive. That may be another one that gives the same layer, and
/// was there before: images of which it is the layer too keep that one.
///
/// # Errors
/// Database errors.
pub(super) fn note_change(
    batch: &mut Batch,
    diff_id: Digest,
    (change, clamp): (&Change, Option<i64>),
    store: &Store,
) -> Result<Change> {
    if let Some(known) = noted_change(store, diff_id)? {
        let has_below = known
            .below
            .map_or(Ok(true), |below| store.has_tree(below.id))?;
        if has_below && store.has_tree(known.tree.id)? {
            return Ok(known);
        }
    }
    let mut row = Encoder::new();
    catalog::encode_tree(&mut row, &change.tree);
    row.byte(change.below.is_some().into());
    if let Some(below) = &change.below {
        catalog::encode_tree(&mut row, below);
    }
    batch.put(Table::Layer, change_key(diff_id), row.finish());
    // Of this change: another one gives the same layer with another clamp, perhaps.
    match clamp {
        None => batch.delete(Table::Layer, clamp_key(diff_id)),
        Some(clamp) => {
            let mut row = Encoder::new();
            row.signed(clamp);
            batch.put(Table::Layer, clamp_key(diff_id), row.finish());
        }
    };
    Ok(*change)
}

fn change_key(diff_id: Digest) -> Vec<u8> {
    [b"change/", &diff_id.as_bytes()[..]].concat()
}

/// The latest mtime that the noted change of a layer was packed with, if it was clamped.
fn noted_clamp(store: &Store, diff_id: Digest) -> Result<Option<i64>> {
    let Some(row) = store.rows().get(Table::Layer, &clamp_key(diff_id))? else {
        return Ok(None);
    };
    let mut row = Decoder::new("clamp row", &row);
    let clamp = row.signed()?;
    row.finish()?;
    Ok(Some(clamp))
}

/// With which latest mtimes a layer of an image may have been packed, as old as the image says it
/// is: with SOURCE_DATE_EPOCH no file was newer.
///
/// # Errors
/// Database errors.
pub(super) fn clamps(
    store: &Store,
    diff_id: Digest,
    created: Option<&str>,
) -> Result<Vec<Option<i64>>> {
    if let Some(clamp) = noted_clamp(store, diff_id)? {
        return Ok(vec![Some(clamp)]);
    }
    let created = created.and_then(|text| text.parse().ok());
    let created = created.map(|time: jiff::Timestamp| time.as_second());
    Ok([None].into_iter().chain(created.map(Some)).collect())
}

fn clamp_key(diff_id: Digest) -> Vec<u8> {
    [b"clamp/", &diff_id.as_bytes()[..]].concat()
}

/// How the layers of an image are to look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) encoding: Encoding,
    /// Layers of a base that are compressed otherwise are compressed anew.
    pub(super) is_forced: bool,
    /// Docker's media types.
    pub(super) is_docker: bool,
    /// Types that forbid distribution stay.
    pub(super) keeps_nondistributable: bool,
    /// Latest mtime, in seconds since 1970.
    pub(super) clamp: Option<i64>,
}

impl Look {
    /// # Errors
    /// [`Error::Layer`] for a level that the compression does not have.
    pub(super) fn new(
        attributes: &ImageAttributes,
        usual: Compression,
        epoch: Option<i64>,
    ) -> Result<Self> {
        let compression = attributes.compression.unwrap_or(usual);
        let rewrites = attributes.rewrite_timestamp.unwrap_or(true);
        Ok(Look {
            encoding: Encoding::new(compression, attributes.compression_level)?,
            is_forced: attributes.force_compression,
            is_docker: attributes.docker_media_types,
            keeps_nondistributable: attributes.keeps_nondistributable,
            clamp: epoch.filter(|_| rewrites),
        })
    }

    fn compression(&self) -> Compression {
        self.encoding.compression()
    }

    /// A descriptor with its type in the right words.
    fn descriptor(&self, media_type: &str, digest: Digest, size: u64) -> Descriptor {
        let keeps = self.keeps_nondistributable;
        let media_type = document::layer_type(media_type, self.is_docker, keeps);
        Descriptor::new(media_type, digest, size)
    }
}

/// What the bytes of a layer depend on besides its files, as text for a key.
fn look_words(encoding: Encoding, clamp: Option<i64>) -> String {
    let version = encoding.stream_version();
    format!(" {encoding:?} {version} {clamp:?}")
}

fn packed_key(change: &Change, look: &Look) -> Vec<u8> {
    let mut key = blake3::Hasher::new_derive_key("varve 2026-11 packed layer v1");
    key.update(&[PACK_VERSION])
        .update(change.tree.id.as_bytes());
    if let Some(below) = &change.below {
        key.update(below.id.as_bytes());
    }
    key.update(look_words(look.encoding, look.clamp).as_bytes());
    [b"packed/", &key.finalize().as_bytes()[..]].concat()
}

/// Packs layers, or finds that they were packed before. Compressed layers are kept as content,
/// plain ones are not: they are made again where they are needed.
pub(super) fn pack_all(
    layers: &[Layer],
    look: &Look,
    images: &Images,
    step: &Step,
) -> Result<Vec<Packed>> {
    let mut keeping = Keeping::new(images.content().store());
    let pack = |layer| pack(layer, look, images, &mut keeping, step);
    let packed = layers.iter().map(pack).collect::<Result<_>>()?;
    keeping.commit()?;
    Ok(packed)
}

/// Packs one layer, as [`pack_all`]; it can be found in the store once `keeping` is committed.
pub(super) fn pack(
    layer: &Layer,
    look: &Look,
    images: &Images,
    keeping: &mut Keeping<'_>,
    step: &Step,
) -> Result<Packed> {
    match layer {
        Layer::Own(change, created) => own((change, *created), look, images, keeping, step),
        Layer::Base(Packing { change, clamp }, diff_id) => {
            // A base is what it is, whatever SOURCE_DATE_EPOCH says of what is built on it.
            let as_before = Look {
                clamp: *clamp,
                ..*look
            };
            let packed = own((change, None), &as_before, images, keeping, step)?;
            match packed.diff_id == *diff_id {
                true => Ok(packed),
                // Packed by a varve that did not note how.
                false => own((change, None), look, images, keeping, step),
            }
        }
        Layer::Foreign(descriptor, diff_id) => {
            foreign(descriptor, *diff_id, look, images, keeping, step)
        }
    }
}

fn own(
    (change, created): (&Change, Option<Timestamp>),
    look: &Look,
    images: &Images,
    keeping: &mut Keeping<'_>,
    step: &Step,
) -> Result<Packed> {
    let key = packed_key(change, look);
    let is_plain = look.compression() == Compression::None;
    let found = known(&key, is_plain, images)?;
    let (digest, size, diff_id) = match found {
        Some(found) => found,
        None => pack_anew(change, look, key, keeping, step)?,
    };
    Ok(Packed {
        descriptor: look.descriptor(look.compression().media_type(), digest, size),
        diff_id,
        change: Some(*change),
        clamp: look.clamp,
        created,
    })
}

/// Digits of a tree's id that tell one layer in the making from another.
const ID_DIGITS: usize = 12;

/// Digest, size and diff id of a layer.
type Known = (Digest, u64, Digest);

fn pack_anew(
    change: &Change,
    look: &Look,
    key: Vec<u8>,
    keeping: &mut Keeping<'_>,
    step: &Step,
) -> Result<Known> {
    let store = keeping.store();
    let id = format!("packing layer {}", &change.tree.id.to_string()[..ID_DIGITS]);
    let pack = |out: &mut (dyn io::Write + Send)| {
        let mut meter = Meter::new(out, step, id, None);
        let packed = write(change, look.clamp, store, look.encoding, &mut meter);
        meter.end(false);
        packed
    };
    let packed = match look.compression() {
        Compression::None => {
            let packed = pack(&mut io::sink())?;
            // Nothing to flush: losing the row costs one more packing.
            store.write(note_packed(key, &packed), Durability::Process)?;
            packed
        }
        Compression::Gzip | Compression::Zstd => {
            keeping.keep(pack, |packed| note_packed(key, packed))?
        }
    };
    for socket in &packed.skipped {
        tracing::warn!(socket, "a socket cannot be part of a layer and is left out");
    }
    report(&packed, step);
    Ok((packed.digest, packed.size, packed.diff_id))
}

fn note_packed(key: Vec<u8>, packed: &layer::Packed) -> Batch {
    let mut row = Encoder::new();
    row.raw(packed.diff_id.as_bytes())
        .raw(packed.digest.as_bytes())
        .number(packed.size);
    let mut batch = Batch::new();
    batch.put(Table::Layer, key, row.finish());
    batch
}

fn report(packed: &layer::Packed, step: &Step) {
    let title = format!("exporting layer {}", packed.digest);
    step.status(title, packed.size, None, true);
}

/// A layer of a base: as it came, or compressed anew where that is asked for.
fn foreign(
    descriptor: &Descriptor,
    diff_id: Digest,
    look: &Look,
    images: &Images,
    keeping: &mut Keeping<'_>,
    step: &Step,
) -> Result<Packed> {
    let (compression, wanted) = (
        Compression::from_media_type(&descriptor.media_type),
        look.compression(),
    );
    let (media_type, digest, size) = match compression {
        Some(compression) if look.is_forced && compression != wanted => {
            let (digest, size) = recompress(descriptor, diff_id, look, images, keeping, step)?;
            (wanted.media_type(), digest, size)
        }
        _ => (&*descriptor.media_type, descriptor.digest, descriptor.size),
    };
    Ok(Packed {
        descriptor: look.descriptor(media_type, digest, size),
        diff_id,
        change: None,
        clamp: None,
        created: None,
    })
}

fn recompress(
    descriptor: &Descriptor,
    diff_id: Digest,
    look: &Look,
    images: &Images,
    keeping: &mut Keeping<'_>,
    step: &Step,
) -> Result<(Digest, u64)> {
    let mut key = blake3::Hasher::new_derive_key("varve 2026-11 recompressed layer v1");
    key.update(descriptor.digest.as_bytes());
    key.update(look_words(look.encoding, None).as_bytes());
    let key = [b"packed/", &key.finalize().as_bytes()[..]].concat();
    if let Some((digest, size, _)) = known(&key, false, images)? {
        return Ok((digest, size));
    }
    let what = || format!("layer {}", descriptor.digest);
    let located = images.content().find(descriptor.digest)?;
    let located = located.ok_or_else(|| Error::bad_image(what(), "it is not in the store"))?;
    let store = keeping.store();
    let make = |out: &mut (dyn io::Write + Send)| {
        let body = io::BufReader::new(store.objects().open_blob(located.blob)?);
        let packed = layer::recompress(body, look.encoding, out)?;
        if packed.diff_id != diff_id {
            let reason = format!("it unpacks to {}, not to {diff_id}", packed.diff_id);
            return Err(Error::bad_image(what(), reason));
        }
        Ok(packed)
    };
    let packed = keeping.keep(make, |packed| note_packed(key, packed));
    let packed =
        packed.map_err(|error| damage::blame(images.content().store(), located.blob, error))?;
    report(&packed, step);
    Ok((packed.digest, packed.size))
}

/// What a layer was packed to before, if that can be used again.
fn known(key: &[u8], is_plain: bool, images: &Images) -> Result<Option<Known>> {
    let Some(row) = images.content().store().rows().get(Table::Layer, key)? else {
        return Ok(None);
    };
    let mut row = Decoder::new("packed layer row", &row);
    let (diff_id, digest) = (
        Digest::from_bytes(row.array()?),
        Digest::from_bytes(row.array()?),
    );
    let size = row.number()?;
    row.finish()?;
    let usable = is_plain || images.content().find(digest)?.is_some();
    Ok(usable.then_some((digest, size, diff_id)))
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
    let options = change.options(epoch);
    Ok(layer::pack_layer(
        &delta,
        store,
        store.objects(),
        &options,
        encoding,
        out,
    )?)
}

/// Writes the tar of a change whose digest and size are known from an earlier time. Packing is a
/// function of the trees and bodies are checked on their way, so nothing is digested again.
///
/// # Errors
/// Those of packing; [`Error::BadImage`] if the tar has another size than that.
pub(super) fn write_again(
    change: &Change,
    (epoch, size): (Option<i64>, u64),
    store: &Store,
    out: &mut (dyn io::Write + Send),
) -> Result<()> {
    let delta = diff(change.below, change.tree, store)?;
    let options = change.options(epoch);
    let mut counted = Counted { out, count: 0 };
    layer::pack(&delta, store, store.objects(), &options, &mut counted)?;
    if counted.count != size {
        let reason = format!("it packs to {} bytes now, not to {size}", counted.count);
        return Err(Error::bad_image(
            format!("layer {}", change.tree.id),
            reason,
        ));
    }
    Ok(())
}

struct Counted<'w> {
    out: &'w mut (dyn io::Write + Send),
    count: u64,
}

impl io::Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.count += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
