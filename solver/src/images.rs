//! Images by name, and how their layers become a snapshot.

pub(crate) mod arrival;
mod claims;
pub mod compare;
pub mod document;
pub mod find;
pub(crate) mod intake;
pub mod lookups;
pub mod mounted;
pub(crate) mod origins;
pub(crate) mod parts;
pub(crate) mod sizes;

use std::sync::Arc;

use snapshotter::leases::{self, Lease, Reference};
use snapshotter::{Manager, catalog};
use store::codec::{Decoder, Encoder};
use store::{Batch, Durability, Store, Table, TreeRef};

use crate::cache::now;
use crate::content::{ContentStore, Digest};
use crate::error::{Error, Result};

use self::claims::Claims;
use self::document::{Descriptor, ImageConfig, Index, Manifest, Platform};

/// Version byte of rows in this module.
const ROW_VERSION: u8 = 1;

/// What stands in a list for a name that there is not.
const NO_NAME: &str = "<none>";

/// The images of a store.
#[derive(Clone, Debug)]
pub struct Images {
    snapshots: Arc<Manager>,
    content: ContentStore,
    /// What is being taken in.
    claims: Arc<Claims>,
}

/// A name and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Normalised reference: `docker.io/library/busybox:latest`.
    pub name: String,
    /// The manifest or index.
    pub target: Descriptor,
    /// When the name was given, seconds since 1970.
    pub created: i64,
}

/// One image for one platform.
#[derive(Clone, Debug)]
pub struct Image {
    /// Digest of its manifest.
    pub digest: Digest,
    /// Its manifest.
    pub manifest: Manifest,
    /// Its config, byte by byte.
    pub config_bytes: Vec<u8>,
    /// Its config, read.
    pub config: ImageConfig,
}

impl Image {
    /// Name of the snapshot that has all its layers, once it was unpacked; `None` without layers.
    pub fn snapshot(&self) -> Option<String> {
        let chains = chain_ids(&self.config.rootfs.diff_ids);
        chains.last().map(|chain| snapshot_name(*chain))
    }
}

/// The row of an image without a name, as docker shows it: no reference begins like that.
pub(crate) fn without_name(target: Digest) -> String {
    format!("{NO_NAME}@{target}")
}

/// Whether a name of [`Images::list`] is none: that of an image without a name.
pub fn is_dangling(name: &str) -> bool {
    name.strip_prefix(NO_NAME)
        .is_some_and(|rest| rest.starts_with('@'))
}

/// The lease of what a name stands for.
pub fn lease_id(name: &str) -> String {
    format!("image/{name}")
}

impl Images {
    /// The images of the store below `snapshots`.
    pub fn new(snapshots: Arc<Manager>) -> Self {
        let content = ContentStore::new(snapshots.store().clone());
        Images {
            snapshots,
            content,
            claims: Arc::default(),
        }
    }

    /// The content that images are made of.
    pub fn content(&self) -> &ContentStore {
        &self.content
    }

    fn store(&self) -> &Arc<Store> {
        self.snapshots.store()
    }

    /// What a normalised reference stands for here: a name, or `name@digest` of known content.
    ///
    /// # Errors
    /// Database errors; a broken row.
    pub fn resolve(&self, reference: &str) -> Result<Option<Descriptor>> {
        if let Some((_, digest)) = reference.split_once('@') {
            let Ok(digest) = digest.parse() else {
                return Ok(None);
            };
            let Some(located) = self.content.find(digest)? else {
                return Ok(None);
            };
            let bytes = self.content.document(reference, digest)?;
            let media_type = document::media_type_of(reference, &bytes)?;
            return Ok(Some(Descriptor::new(media_type, digest, located.size)));
        }
        loop {
            let named = self.row(reference)?;
            // Whoever takes the name away meanwhile does not take away what it stands for.
            leases::claim(self.store(), &lease_id(reference))?;
            if self.row(reference)? == named {
                return Ok(named.map(|named| named.target));
            }
        }
    }

    fn row(&self, name: &str) -> Result<Option<Named>> {
        let row = self.store().rows().get(Table::Image, name.as_bytes())?;
        Ok(row.map(|row| decode(name, &row)).transpose()?)
    }

    /// Whether something has exactly that name.
    ///
    /// # Errors
    /// Database errors.
    pub fn has_name(&self, name: &str) -> Result<bool> {
        let row = self.store().rows().get(Table::Image, name.as_bytes())?;
        Ok(row.is_some())
    }

    /// Whether a name stands for a manifest or index.
    ///
    /// # Errors
    /// Those of [`Images::list`].
    pub fn has_target(&self, digest: Digest) -> Result<bool> {
        let names = self.list()?;
        Ok(names.iter().any(|named| named.target.digest == digest))
    }

    /// All names, sorted.
    ///
    /// # Errors
    /// Database errors; a broken row.
    pub fn list(&self) -> Result<Vec<Named>> {
        let rows = self.store().rows().scan(Table::Image, b"");
        rows.map(|row| {
            let (key, value) = row?;
            Ok(decode(&String::from_utf8_lossy(&key), &value)?)
        })
        .collect()
    }

    /// Adds to a batch: `name` stands for `target` and keeps alive what it consists of. An image
    /// that had no name has one then.
    pub fn name(&self, batch: &mut Batch, name: &str, target: &Descriptor, held: Vec<Reference>) {
        if !is_dangling(name) {
            let without = without_name(target.digest);
            batch.delete(Table::Image, without.as_bytes());
            leases::delete(batch, &lease_id(&without));
        }
        let mut row = Encoder::new();
        row.byte(ROW_VERSION).string(target.media_type.as_bytes());
        row.raw(target.digest.as_bytes())
            .number(target.size)
            .signed(now().seconds);
        batch.put(Table::Image, name.as_bytes(), row.finish());
        let id = lease_id(name);
        leases::put(
            batch,
            &Lease {
                id,
                created: now(),
                references: held,
            },
        );
    }

    /// Whether a lease of that id is there, and with it everything that it was made for.
    ///
    /// # Errors
    /// Database errors.
    pub(crate) fn is_held(&self, id: &str) -> Result<bool> {
        for lease in leases::all(self.store(), id)? {
            if lease.id == id {
                let gone = |reference: &Reference| match reference {
                    Reference::Blob(blob) => !self.has_blob(*blob),
                    Reference::Snapshot(_) | Reference::Tree(_) => false,
                };
                return Ok(!lease.references.iter().any(gone));
            }
        }
        Ok(false)
    }

    fn has_blob(&self, blob: store::BlobId) -> bool {
        let size = self.store().blob_size(blob).ok().flatten();
        size.is_some_and(|size| self.store().objects().has(blob, size))
    }

    /// Takes a name away; tells if it was there. What it stood for goes with the next collection.
    ///
    /// # Errors
    /// Database errors.
    pub fn remove(&self, name: &str) -> Result<bool> {
        if self
            .store()
            .rows()
            .get(Table::Image, name.as_bytes())?
            .is_none()
        {
            return Ok(false);
        }
        let mut batch = Batch::new();
        batch.delete(Table::Image, name.as_bytes());
        leases::delete(&mut batch, &lease_id(name));
        self.store().write(batch, Durability::Disk)?;
        Ok(true)
    }

    /// The image for a platform that a descriptor leads to, through indexes.
    ///
    /// # Errors
    /// [`Error::NoPlatform`] if it has none for the platform, or only others were pulled;
    /// [`Error::BadImage`] for broken documents.
    pub fn open(&self, what: &str, target: &Descriptor, platform: &Platform) -> Result<Image> {
        let chosen = self.choose(what, target, platform, &|digest| {
            self.content.document(what, digest)
        });
        let opened = chosen.and_then(|digest| {
            let bytes = self.content.document(what, digest)?;
            self.open_manifest(what, digest, &bytes)
        });
        let Err(error @ Error::BadImage { .. }) = opened else {
            return opened;
        };
        // Of an index that was pulled for one platform, the others are not here.
        let here = self.platforms_here(what, target)?;
        if here.is_empty() || here.contains(&platform.to_string()) {
            return Err(error);
        }
        Err(Error::NoPlatform {
            what: what.to_owned(),
            platform: platform.to_string(),
            there: here.join(", "),
        })
    }

    /// The platforms of an index of which the images are here; none of a manifest.
    fn platforms_here(&self, what: &str, target: &Descriptor) -> Result<Vec<String>> {
        let bytes = self.content.document(what, target.digest)?;
        if !document::is_index(&bytes) {
            return Ok(Vec::new());
        }
        let index: Index = document::parse(what, &bytes)?;
        let here = self.parts(what, &index)?.images;
        let platforms = here.iter().filter_map(|one| one.platform.as_ref());
        Ok(platforms.map(ToString::to_string).collect())
    }

    /// The image of this name, or `name@digest`, for a platform; `None` if it is not here, or only
    /// for other platforms.
    ///
    /// # Errors
    /// [`Error::BadImage`] for broken documents; database errors.
    pub fn find(
        &self,
        reference: &str,
        platform: &Platform,
    ) -> Result<Option<(Descriptor, Image)>> {
        let found = self.find_any(reference, platform)?;
        Ok(found.filter(|(_, image)| image.config.is_for(platform)))
    }

    /// As [`Self::find`]; but an image that has only one platform is taken whatever that is.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub(crate) fn find_any(
        &self,
        reference: &str,
        platform: &Platform,
    ) -> Result<Option<(Descriptor, Image)>> {
        let Some(target) = self.resolve(reference)? else {
            return Ok(None);
        };
        let document = |digest| match self.content.find(digest)? {
            Some(_) => self.content.document(reference, digest),
            None => Err(Error::NoImage {
                reference: reference.to_owned(),
            }),
        };
        let found = self
            .choose(reference, &target, platform, &document)
            .and_then(|digest| {
                let bytes = document(digest)?;
                let manifest: Manifest = document::parse(reference, &bytes)?;
                document(manifest.config.digest)?;
                self.open_manifest(reference, digest, &bytes)
            });
        match found {
            Ok(image) => Ok(Some((target, image))),
            Err(Error::NoImage { .. } | Error::NoPlatform { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The manifest for a platform that a descriptor leads to; `document` gives what it needs.
    fn choose(
        &self,
        what: &str,
        target: &Descriptor,
        platform: &Platform,
        document: &dyn Fn(Digest) -> Result<Vec<u8>>,
    ) -> Result<Digest> {
        let mut digest = target.digest;
        for _ in 0..=document::INDEX_DEPTH_MAX {
            let bytes = document(digest)?;
            if !document::is_index(&bytes) {
                return Ok(digest);
            }
            let index: Index = document::parse(what, &bytes)?;
            digest = index.choose_for(what, platform)?.digest;
        }
        Err(Error::bad_image(what, "its indexes are nested too deeply"))
    }

    fn open_manifest(&self, what: &str, digest: Digest, bytes: &[u8]) -> Result<Image> {
        let manifest: Manifest = document::parse(what, bytes)?;
        let config_bytes = self.content.document(what, manifest.config.digest)?;
        let config = document::check(what, &manifest, &config_bytes)?;
        Ok(Image {
            digest,
            manifest,
            config_bytes,
            config,
        })
    }

    /// Adds to a batch what [`Images::unpack`] and [`Images::layers_of`] look up for an image of
    /// these layers; gives the name that its snapshot must have.
    pub(crate) fn note_snapshot(
        &self,
        batch: &mut Batch,
        chain: Digest,
        layers: &[Descriptor],
        diff_ids: &[Digest],
    ) -> String {
        note_layers(batch, chain, layers, diff_ids);
        snapshot_name(chain)
    }

    fn chain_tree(&self, chain: Digest) -> Result<Option<TreeRef>> {
        let Some(row) = self
            .store()
            .rows()
            .get(Table::Layer, &chain_key(b"chain/", chain))?
        else {
            return Ok(None);
        };
        let mut row = Decoder::new("chain row", &row);
        let tree = catalog::decode_tree(&mut row)?;
        row.finish()?;
        // The row may have outlived its tree: then the layer is unpacked again.
        Ok(self.store().has_tree(tree.id)?.then_some(tree))
    }

    /// The layers, as they were packed by whoever made the image, of a snapshot that
    /// [`Images::unpack`] made; `None` for other snapshots.
    ///
    /// # Errors
    /// Database errors; a broken row.
    pub fn layers_of(&self, snapshot: &str) -> Result<Option<Vec<(Descriptor, Digest)>>> {
        let Some(chain) = snapshot.strip_prefix("image/") else {
            return Ok(None);
        };
        let Ok(chain) = chain.parse::<Digest>() else {
            return Ok(None);
        };
        let Some(row) = self
            .store()
            .rows()
            .get(Table::Layer, &chain_key(b"layers/", chain))?
        else {
            return Ok(None);
        };
        let mut row = Decoder::new("layers row", &row);
        let mut layers = Vec::new();
        for _ in 0..row.number()? {
            let media_type = String::from_utf8_lossy(row.string()?).into_owned();
            let (digest, size) = (Digest::from_bytes(row.array()?), row.number()?);
            let diff_id = Digest::from_bytes(row.array()?);
            layers.push((Descriptor::new(media_type, digest, size), diff_id));
        }
        row.finish()?;
        Ok(Some(layers))
    }
}

pub(crate) fn snapshot_name(chain: Digest) -> String {
    format!("image/{chain}")
}

fn chain_key(kind: &[u8], chain: Digest) -> Vec<u8> {
    [kind, chain.as_bytes()].concat()
}

fn note_chain(batch: &mut Batch, chain: Digest, tree: TreeRef) {
    let mut row = Encoder::new();
    catalog::encode_tree(&mut row, &tree);
    batch.put(Table::Layer, chain_key(b"chain/", chain), row.finish());
}

fn note_layers(batch: &mut Batch, chain: Digest, layers: &[Descriptor], diff_ids: &[Digest]) {
    let mut row = Encoder::new();
    row.number(layers.len() as u64);
    for (layer, diff_id) in layers.iter().zip(diff_ids) {
        row.string(layer.media_type.as_bytes())
            .raw(layer.digest.as_bytes());
        row.number(layer.size).raw(diff_id.as_bytes());
    }
    batch.put(Table::Layer, chain_key(b"layers/", chain), row.finish());
}

/// Chain ids as the OCI image specification defines them, one for each layer.
pub(crate) fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chains: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let chain = match chains.last() {
            None => *diff_id,
            Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
        };
        chains.push(chain);
    }
    chains
}

fn decode(name: &str, bytes: &[u8]) -> store::Result<Named> {
    let mut row = Decoder::new("image row", bytes);
    if row.byte()? != ROW_VERSION {
        return Err(row.error("it has an unknown version"));
    }
    let media_type = String::from_utf8_lossy(row.string()?).into_owned();
    let (digest, size) = (Digest::from_bytes(row.array()?), row.number()?);
    let created = row.signed()?;
    row.finish()?;
    Ok(Named {
        name: name.into(),
        target: Descriptor::new(media_type, digest, size),
        created,
    })
}
