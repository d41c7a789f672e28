//! Writes images of the store into one archive or layout, as `docker save` does: each with the
//! digest that it has here.

use std::collections::{BTreeMap, BTreeSet};

use layer::Compression;
use serde_json::json;

use super::layers::{self, Change, Keeping, Layer, Look};
use super::layout::{self, Members, blob_name};
use crate::content::Digest;
use crate::error::{Error, Result};
use crate::frontend::familiar_tagged;
use crate::images::Images;
use crate::images::document::{self, Descriptor, ImageConfig, Index, Manifest, Platform};
use crate::images::find::platform;
use crate::images::parts::Parts;
use crate::progress::Step;
use crate::request::{Destination, ImageAttributes, ImageFormat};

/// What to save, and how.
#[derive(Clone, Debug)]
pub struct Saved {
    /// Names or ids of images, as a person writes them.
    pub images: Vec<String>,
    /// A docker archive has one platform of each image, and is an OCI layout too.
    pub format: ImageFormat,
    /// A directory in place of an archive.
    pub is_directory: bool,
    /// Where to.
    pub destination: Destination,
    /// Only these platforms; all that are here when there are none, or this machine's in a docker
    /// archive.
    pub platforms: Vec<String>,
}

/// An image that goes out, with all its names.
struct Entry {
    target: Descriptor,
    names: Vec<String>,
    created: Option<String>,
    /// What docker's `manifest.json` refers to: the config, and the layers.
    docker: Option<(Digest, Vec<Digest>)>,
}

/// Everything that the entries consist of.
#[derive(Default)]
struct Contents {
    entries: Vec<Entry>,
    /// In the order in which they were found: each after what it refers to.
    documents: Vec<(Digest, Vec<u8>)>,
    layers: BTreeMap<Digest, Source>,
    known: BTreeSet<Digest>,
}

/// Where the bytes of a layer come from.
struct Source {
    size: u64,
    /// Packed again, with files no newer than that; `None` for bytes that are kept.
    packed: Option<(Change, Option<i64>)>,
}

/// Saves.
///
/// # Errors
/// [`Error::NoImage`]; [`Error::BadImage`] for an image of which something is missing: nothing is
/// written then. [`Error::Io`]; a file that was begun is removed.
pub(crate) fn save(saved: &Saved, images: &Images, step: &Step) -> Result<()> {
    let own = platform(None)?;
    let said = saved.platforms.iter().map(|text| platform(Some(text)));
    let mut said = said.collect::<Result<Vec<_>>>()?;
    said.dedup();
    let chosen = Chosen {
        is_said: !said.is_empty(),
        platforms: match (saved.format, said.is_empty()) {
            (ImageFormat::Docker, true) => vec![own.clone()],
            _ => said,
        },
        own,
    };
    let mut contents = Contents::default();
    for text in &saved.images {
        add(text, &chosen, images, step, &mut contents)?;
    }
    let write = |members: &mut dyn Members| contents.write(members, saved.format, images);
    let destination = &saved.destination;
    layout::write_members(destination, saved.is_directory, (step, None), write)
}

/// The platforms that go out.
struct Chosen {
    /// All that are here when there are none.
    platforms: Vec<Platform>,
    /// Whether a person has named them.
    is_said: bool,
    own: Platform,
}

/// What of an image goes out.
struct Selected {
    target: Descriptor,
    /// What its indexes name and what stays here, or is not here.
    left_out: BTreeSet<Digest>,
    /// The manifest that docker's `manifest.json` speaks of, if that matters.
    for_docker: Option<Digest>,
}

impl Chosen {
    /// The platform for which ids of images stand.
    fn main(&self) -> &Platform {
        match self.platforms.contains(&self.own) {
            true => &self.own,
            false => self.platforms.first().unwrap_or(&self.own),
        }
    }

    fn select(
        &self,
        text: &str,
        target: &Descriptor,
        images: &Images,
        step: &Step,
    ) -> Result<Selected> {
        let mut manifests = Vec::new();
        let mut for_docker = None;
        for platform in &self.platforms {
            let image = images.open(text, target, platform)?;
            if self.is_said && !image.config.is_for(platform) {
                let reason = format!("it is not for {platform}");
                return Err(Error::bad_image(text, reason));
            }
            if platform == self.main() {
                for_docker = Some(image.digest);
            }
            if !manifests.contains(&image.digest) {
                manifests.push(image.digest);
            }
        }
        let document = |digest| images.content().document(text, digest);
        let (target, left_out) = match manifests.as_slice() {
            [] => {
                let bytes = document(target.digest)?;
                match document::is_index(&bytes) {
                    true => {
                        let index: Index = document::parse(text, &bytes)?;
                        whole(text, target, &images.parts(text, &index)?, step)?
                    }
                    false => (target.clone(), BTreeSet::new()),
                }
            }
            [only] => {
                let bytes = document(*only)?;
                let media_type = document::media_type_of(text, &bytes)?;
                let one = Descriptor::new(media_type, *only, bytes.len() as u64);
                (one, BTreeSet::new())
            }
            several => {
                let index: Index = document::parse(text, &document(target.digest)?)?;
                let parts = images.parts(text, &index)?;
                (target.clone(), parts.all_but(&index, several))
            }
        };
        Ok(Selected {
            target,
            left_out,
            for_docker,
        })
    }
}

fn add(
    text: &str,
    chosen: &Chosen,
    images: &Images,
    step: &Step,
    contents: &mut Contents,
) -> Result<()> {
    let found = images.meant_by(text, chosen.main())?;
    let Selected {
        target,
        left_out,
        for_docker,
    } = chosen.select(text, &found.target, images, step)?;
    let name = found.name.filter(|name| !name.contains('@'));
    let mut entries = contents.entries.iter_mut();
    if let Some(entry) = entries.find(|entry| entry.target.digest == target.digest) {
        entry.names.extend(name);
        return Ok(());
    }
    let mut walk = Walk {
        what: text,
        images,
        step,
        contents,
        left_out,
        for_docker,
        entry: Entry {
            target: target.clone(),
            names: name.into_iter().collect(),
            created: None,
            docker: None,
        },
    };
    let written = walk.document(&target, 0)?;
    let mut entry = walk.entry;
    // Again: an index that leaves something out is known as that only now.
    let mut entries = contents.entries.iter_mut();
    if let Some(known) = entries.find(|known| known.target.digest == written.digest) {
        known.names.extend(entry.names);
        return Ok(());
    }
    entry.target = written;
    contents.entries.push(entry);
    Ok(())
}

/// What goes out of an index: of one that was pulled, one platform may be all that there is.
fn whole(
    text: &str,
    target: &Descriptor,
    parts: &Parts,
    step: &Step,
) -> Result<(Descriptor, BTreeSet<Digest>)> {
    if parts.images.is_empty() {
        let reason = format!(
            "nothing of what its index lists is here ({}); pull it again",
            parts.elsewhere()
        );
        return Err(Error::bad_image(text, reason));
    }
    if parts.lacks_images() {
        step.reporter().warn(format!(
            "of the platforms of {text} only {} is in the store; the archive is without the \
             others ({})",
            parts.here(),
            parts.elsewhere(),
        ));
    } else if !parts.is_whole() {
        step.reporter().warn(format!(
            "attestations of {text} are not in the store; the archive is without them (`varve \
             pull` fetches them)"
        ));
    }
    Ok(parts.reduced(target))
}

struct Walk<'w> {
    what: &'w str,
    images: &'w Images,
    step: &'w Step,
    contents: &'w mut Contents,
    /// What indexes name and is not here.
    left_out: BTreeSet<Digest>,
    for_docker: Option<Digest>,
    entry: Entry,
}

impl Walk<'_> {
    /// Adds what a descriptor leads to; what it is called in the archive.
    fn document(&mut self, descriptor: &Descriptor, depth: usize) -> Result<Descriptor> {
        let bytes = self
            .images
            .content()
            .document(self.what, descriptor.digest)?;
        if !document::is_index(&bytes) {
            self.manifest(descriptor.digest, bytes)?;
            return Ok(descriptor.clone());
        }
        if depth >= document::INDEX_DEPTH_MAX {
            let reason = "its indexes are nested too deeply";
            return Err(Error::bad_image(self.what, reason));
        }
        let changed = document::index_as(self.what, &bytes, |child| {
            let is_left_out = self.left_out.contains(&child.digest);
            let written = (!is_left_out).then(|| self.document(child, depth + 1));
            written.transpose()
        })?;
        let bytes = changed.unwrap_or(bytes);
        let mut descriptor = descriptor.clone();
        descriptor.digest = Digest::of(&bytes);
        descriptor.size = bytes.len() as u64;
        self.keep(descriptor.digest, bytes);
        Ok(descriptor)
    }

    fn keep(&mut self, digest: Digest, bytes: Vec<u8>) {
        if self.contents.known.insert(digest) {
            self.contents.documents.push((digest, bytes));
        }
    }

    fn manifest(&mut self, digest: Digest, bytes: Vec<u8>) -> Result<()> {
        let content = self.images.content();
        let manifest: Manifest = document::parse(self.what, &bytes)?;
        let config_bytes = content.document(self.what, manifest.config.digest)?;
        // An attestation is no image; its parts go along as they are.
        let config = document::check(self.what, &manifest, &config_bytes).ok();
        for (at, layer) in manifest.layers.iter().enumerate() {
            if !self.contents.layers.contains_key(&layer.digest) {
                let source = self.source(layer, at, config.as_ref())?;
                self.contents.layers.insert(layer.digest, source);
            }
        }
        if let Some(config) = config {
            self.entry.created = config.created.max(self.entry.created.take());
            if self.for_docker.is_none_or(|wanted| wanted == digest) {
                let layers = manifest.layers.iter().map(|layer| layer.digest);
                self.entry.docker = Some((manifest.config.digest, layers.collect()));
            }
        }
        self.keep(manifest.config.digest, config_bytes);
        self.keep(digest, bytes);
        Ok(())
    }

    /// Where a layer's bytes come from: layers of images that were built here are packed again.
    fn source(
        &self,
        layer: &Descriptor,
        at: usize,
        config: Option<&ImageConfig>,
    ) -> Result<Source> {
        let content = self.images.content();
        if let Some(located) = content.find(layer.digest)? {
            let size = located.size;
            return Ok(Source { size, packed: None });
        }
        let missing = || {
            let reason = format!(
                "layer {} is not in the store any more; pull, import or build the image again",
                layer.digest
            );
            Error::bad_image(self.what, reason)
        };
        let config = config.ok_or_else(missing)?;
        let diff_id = config
            .rootfs
            .diff_ids
            .get(at)
            .copied()
            .ok_or_else(missing)?;
        let store = content.store();
        let change = layers::unpacked(self.images, store, layer, diff_id)?;
        let change = change.ok_or_else(missing)?;
        for clamp in layers::clamps(store, diff_id, config.created.as_deref())? {
            let look = Look::new(&ImageAttributes::default(), Compression::None, clamp)?;
            let own = Layer::Own(change, None);
            // Plain, so nothing is kept.
            let mut keeping = Keeping::new(store);
            let packed = layers::pack(&own, &look, self.images, &mut keeping, self.step)?;
            if packed.descriptor.digest == layer.digest {
                return Ok(Source {
                    size: packed.descriptor.size,
                    packed: Some((change, clamp)),
                });
            }
        }
        Err(missing())
    }
}

impl Contents {
    fn write(&self, members: &mut dyn Members, format: ImageFormat, images: &Images) -> Result<()> {
        let content = images.content();
        for (digest, source) in &self.layers {
            let name = blob_name(*digest);
            members.stream(&name, source.size, &mut |out| match &source.packed {
                None => content.copy_to(*digest, out).map(drop),
                Some((change, clamp)) => {
                    layers::write_again(change, (*clamp, source.size), content.store(), out)
                }
            })?;
        }
        for (digest, bytes) in &self.documents {
            members.bytes(&blob_name(*digest), bytes)?;
        }
        if format == ImageFormat::Docker {
            members.bytes("manifest.json", &self.docker_manifest()?)?;
        }
        members.bytes("oci-layout", layout::VERSION)?;
        let listed = self.entries.iter().flat_map(|entry| {
            let created = entry.created.as_deref();
            layout::listed(&entry.target, created, &entry.names)
        });
        layout::write_index(members, &listed.collect::<Vec<_>>())
    }

    fn docker_manifest(&self) -> Result<Vec<u8>> {
        let image = |entry: &Entry| {
            let (config, layers) = entry.docker.as_ref()?;
            let tags = entry.names.iter().map(|name| familiar_tagged(name));
            let tags: Vec<_> = tags.collect();
            Some(json!({
                "Config": blob_name(*config),
                "RepoTags": if tags.is_empty() { None } else { Some(tags) },
                "Layers": layers.iter().map(|layer| blob_name(*layer)).collect::<Vec<_>>(),
            }))
        };
        let entries: Vec<_> = self.entries.iter().filter_map(image).collect();
        layout::json("manifest.json", &entries)
    }
}
