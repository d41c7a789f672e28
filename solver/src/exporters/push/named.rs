//! An image of the store as it goes to a registry: what came from one goes out byte by byte; layers
//! that are trees here are packed and compressed, once, and those of archives compressed.

use std::collections::BTreeSet;

use bytes::Bytes;
use engine::CancelToken;
use layer::Compression;
use snapshotter::leases::Reference;

use super::{Cargo, Payload};
use crate::cache::now;
use crate::content::Digest;
use crate::error::{Error, Result};
use crate::exporters::layers::{self, Change, Keeping, Layer, Look};
use crate::exporters::missing::Bringing;
use crate::frontend::familiar_tagged;
use crate::images::document::{self, Descriptor, ImageConfig, Index, Manifest, Platform};
use crate::images::{Images, Named, origins};
use crate::progress::Step;
use crate::request::ImageAttributes;
use crate::sources::registry::Remote;

/// What a push of an image consists of.
struct Gathered {
    cargo: Cargo,
    /// What the name stands for in the store.
    known: Descriptor,
    /// What the registry will call it.
    target: Descriptor,
    /// Whether it is all that the name stands for, and not one platform of several.
    is_whole: bool,
    /// Layers, to be kept with the image.
    held: Vec<Reference>,
}

/// Pushes the image of a normalised name; `platform` chooses one of an index.
///
/// # Errors
/// [`Error::BadImage`] if it is not here, or only parts of it are; [`Error::Registry`];
/// [`Error::Cancelled`]; those of packing.
pub(crate) fn push(
    name: &str,
    platform: Option<&Platform>,
    images: &Images,
    remote: &Remote,
    (step, cancel): (&Step, &CancelToken),
) -> Result<Named> {
    let bringing = Bringing {
        images,
        remote,
        cancel,
    };
    let gathered = gather(name, platform, bringing, step)?;
    let Gathered { cargo, target, .. } = &gathered;
    let store = images.content().store();
    let names = [name.to_owned()];
    remote.push(cargo, &names, false, store, (&step.reporter(), cancel))?;
    if gathered.is_whole && gathered.known.digest != target.digest {
        // From now on it is here what it is there.
        let (documents, held) = (cargo_documents(cargo), gathered.held.clone());
        images.rename_target(name, &gathered.known, target, documents, held)?;
    }
    Ok(Named {
        name: name.to_owned(),
        target: target.clone(),
        created: now().seconds,
    })
}

fn cargo_documents(cargo: &Cargo) -> Vec<Bytes> {
    let documents = cargo.documents.iter();
    documents.map(|(_, bytes)| bytes.clone()).collect()
}

/// Gathers the image of a normalised name; for one platform, or with all that its index lists.
fn gather(
    name: &str,
    platform: Option<&Platform>,
    bringing: Bringing<'_>,
    step: &Step,
) -> Result<Gathered> {
    let images = bringing.images;
    let known = images.resolve(name)?.ok_or_else(|| {
        let reason = "no image of this name is in the store; `varve images` lists those that are, \
                      and `varve tag` gives one a further name";
        Error::bad_image(familiar_tagged(name), reason)
    })?;
    let mut gathering = Gathering {
        name,
        images,
        bringing,
        step,
        cargo: Cargo::default(),
        held: Vec::new(),
        left_out: BTreeSet::new(),
    };
    let selected = gathering.select(known.clone(), platform)?;
    let is_whole = selected.digest == known.digest && gathering.left_out.is_empty();
    let target = gathering.add(&selected, 0)?;
    Ok(Gathered {
        cargo: gathering.cargo,
        known,
        target,
        is_whole,
        held: gathering.held,
    })
}

struct Gathering<'g> {
    name: &'g str,
    images: &'g Images,
    bringing: Bringing<'g>,
    step: &'g Step,
    cargo: Cargo,
    held: Vec<Reference>,
    /// What indexes name and does not go out.
    left_out: BTreeSet<Digest>,
}

impl Gathering<'_> {
    fn document(&self, digest: Digest) -> Result<Vec<u8>> {
        self.images.content().document(self.name, digest)
    }

    /// What is to be pushed of an image: as docker does, the only platform that is here if the
    /// others are not.
    fn select(&mut self, target: Descriptor, platform: Option<&Platform>) -> Result<Descriptor> {
        let bytes = self.document(target.digest)?;
        if !document::is_index(&bytes) {
            let manifest: Manifest = document::parse(self.name, &bytes)?;
            let config = self.document(manifest.config.digest)?;
            let config: ImageConfig = document::parse(self.name, &config)?;
            let Some(platform) = platform.filter(|platform| !config.is_for(platform)) else {
                return Ok(target);
            };
            return Err(Error::NoPlatform {
                what: self.name.to_owned(),
                platform: platform.to_string(),
                there: config
                    .platform()
                    .map(|own| own.to_string())
                    .unwrap_or_default(),
            });
        }
        let index: Index = document::parse(self.name, &bytes)?;
        let parts = self.images.parts(self.name, &index)?;
        if let Some(platform) = platform {
            let chosen = index.choose_for(self.name, platform)?;
            if self.images.content().find(chosen.digest)?.is_some() {
                return Ok(chosen.clone());
            }
            return Err(Error::NoPlatform {
                what: familiar_tagged(self.name),
                platform: platform.to_string(),
                there: parts.here(),
            });
        }
        if parts.is_whole() {
            return Ok(target);
        }
        let (name, here) = (familiar_tagged(self.name), parts.here());
        if !parts.lacks_images() {
            self.step.reporter().warn(format!(
                "attestations of {name} are not in the store; it is pushed without them (`varve \
                 pull` fetches them)"
            ));
            let (selected, left_out) = parts.reduced(&target);
            self.left_out = left_out;
            return Ok(selected);
        }
        let missing = parts.elsewhere();
        match parts.images.as_slice() {
            [only] => {
                self.step.reporter().warn(format!(
                    "of the platforms of {name} only {here} is in the store; that one is pushed, \
                     without the others ({missing})"
                ));
                Ok(only.clone())
            }
            _ => {
                let reason = format!(
                    "of its platforms {missing} are not in the store; fetch them with `varve pull \
                     --platform`, or push one with --platform (has: {here})"
                );
                Err(Error::bad_image(name, reason))
            }
        }
    }

    /// Adds what a descriptor leads to; what it is called as it goes out.
    fn add(&mut self, descriptor: &Descriptor, depth: usize) -> Result<Descriptor> {
        if depth > document::INDEX_DEPTH_MAX {
            let reason = "its indexes are nested too deeply";
            return Err(Error::bad_image(self.name, reason));
        }
        let bytes = self.document(descriptor.digest)?;
        let changed = match document::is_index(&bytes) {
            true => self.add_index(&bytes, depth)?,
            false => self.add_manifest(&bytes)?,
        };
        let mut descriptor = descriptor.clone();
        let bytes = changed.unwrap_or(bytes);
        descriptor.digest = Digest::of(&bytes);
        descriptor.size = bytes.len() as u64;
        self.cargo
            .documents
            .push((descriptor.clone(), Bytes::from(bytes)));
        Ok(descriptor)
    }

    /// The index with the manifests as they go out, if those are others.
    fn add_index(&mut self, bytes: &[u8], depth: usize) -> Result<Option<Vec<u8>>> {
        document::index_as(self.name, bytes, |manifest| {
            let is_left_out = self.left_out.contains(&manifest.digest);
            let pushed = (!is_left_out).then(|| self.add(manifest, depth + 1));
            pushed.transpose()
        })
    }

    /// The manifest with the layers as they go out, if those are others.
    fn add_manifest(&mut self, bytes: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut manifest: Manifest = document::parse(self.name, bytes)?;
        let config = self.document(manifest.config.digest)?;
        let parsed: ImageConfig = document::parse(self.name, &config)?;
        let mut keeping = Keeping::new(self.images.content().store());
        let mut is_changed = false;
        for (place, layer) in manifest.layers.iter_mut().enumerate() {
            let diff_id = parsed.rootfs.diff_ids.get(place).copied();
            let packed = self.layer(layer, diff_id, &parsed, &mut keeping)?;
            is_changed |= packed.digest != layer.digest;
            *layer = packed;
        }
        keeping.commit()?;
        let content = self.images.content();
        for layer in &manifest.layers {
            let located = content.find(layer.digest)?;
            let blob = located.ok_or_else(|| super::missing(layer))?.blob;
            self.held.push(Reference::Blob(blob));
            self.cargo.add_blob(layer, Payload::Object(blob));
        }
        let config = Payload::Memory(config.into());
        self.cargo.add_blob(&manifest.config, config);
        let changed = is_changed.then(|| document::write("image manifest", &manifest));
        changed.transpose()
    }

    /// What a layer is called as it goes out; its bytes are here then, or were kept.
    fn layer(
        &self,
        layer: &Descriptor,
        diff_id: Option<Digest>,
        config: &ImageConfig,
        keeping: &mut Keeping<'_>,
    ) -> Result<Descriptor> {
        let change = match diff_id {
            Some(diff_id) => layers::unpacked(self.images, keeping.store(), layer, diff_id)?,
            None => None,
        };
        if let (Some(change), Some(diff_id)) = (change, diff_id) {
            return self.pack(layer, &change, diff_id, config, keeping);
        }
        if let Some(diff_id) = diff_id
            && self.is_loaded(layer)?
        {
            let look = Look {
                is_forced: true,
                is_docker: document::is_docker_layer(&layer.media_type),
                ..Look::new(&ImageAttributes::default(), Compression::Gzip, None)?
            };
            let layer = Layer::Foreign(layer.clone(), diff_id);
            let packed = layers::pack(&layer, &look, self.images, keeping, self.step)?;
            return Ok(packed.descriptor);
        }
        self.bringing.bring(layer, self.step)?;
        Ok(layer.clone())
    }

    /// Whether a layer lies here uncompressed, as archives have them, and no registry has it so:
    /// then it goes out compressed, as with docker.
    fn is_loaded(&self, layer: &Descriptor) -> Result<bool> {
        let content = self.images.content();
        let is_plain = Compression::from_media_type(&layer.media_type) == Some(Compression::None);
        Ok(is_plain
            && content.find(layer.digest)?.is_some()
            && origins::of(content.store(), layer.digest)?.is_empty())
    }

    /// Packs a layer that is a tree here.
    fn pack(
        &self,
        layer: &Descriptor,
        change: &Change,
        diff_id: Digest,
        config: &ImageConfig,
        keeping: &mut Keeping<'_>,
    ) -> Result<Descriptor> {
        let clamps = layers::clamps(keeping.store(), diff_id, config.created.as_deref())?;
        for clamp in clamps {
            let own = Layer::Own(*change, None);
            let look = Look {
                is_docker: document::is_docker_layer(&layer.media_type),
                ..Look::new(&ImageAttributes::default(), Compression::Gzip, clamp)?
            };
            let packed = layers::pack(&own, &look, self.images, keeping, self.step)?;
            if packed.diff_id == diff_id {
                return Ok(packed.descriptor);
            }
        }
        Err(super::missing(layer))
    }
}
