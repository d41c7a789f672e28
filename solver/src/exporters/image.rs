//! Config and manifest of a result, and its place among the images of the store.

use dockerfile::config::{DockerImageConfig, History};
use jiff::Timestamp;
use layer::Compression;
use snapshotter::leases::Reference;
use snapshotter::{Manager, catalog};
use store::{Batch, TreeRef};

use super::layers::{self, Look, Packed};
use super::{Export, PlatformResult, annotations};
use crate::content::Digest;
use crate::error::{Error, Result};
use crate::images::document::{
    self, CONFIG, DOCKER_CONFIG, DOCKER_LIST, DOCKER_MANIFEST, Descriptor, INDEX, Index, MANIFEST,
    Manifest,
};
use crate::images::{Images, chain_ids, snapshot_name};
use crate::ops::{build_lease, source_platform};
use crate::progress::{EventKind, Step};
use crate::request::{AnnotationTarget, BuiltLayer, ImageAttributes};
use crate::result::Value;

/// A config, manifest or index, and how others refer to it.
pub(super) struct Document {
    pub(super) bytes: Vec<u8>,
    pub(super) descriptor: Descriptor,
}

impl Document {
    fn new(media_type: &str, bytes: Vec<u8>) -> Self {
        let descriptor = Descriptor::new(media_type, Digest::of(&bytes), bytes.len() as u64);
        Document { bytes, descriptor }
    }

    pub(super) fn digest(&self) -> Digest {
        self.descriptor.digest
    }

    fn report(&self, what: &str, step: &Step) {
        let title = format!("exporting {what} {}", self.digest());
        step.status(title, self.descriptor.size, None, true);
    }
}

/// The image of one platform with all its documents.
pub(super) struct Assembled {
    pub(super) config: Document,
    pub(super) manifest: Document,
    pub(super) layers: Vec<Packed>,
    created: Option<String>,
    value: Value,
}

/// An image as it goes out: of one platform, or of several under an index.
pub(super) struct Image {
    pub(super) platforms: Vec<Assembled>,
    pub(super) index: Option<Document>,
}

impl Image {
    /// What a name of the image stands for: its index or its only manifest.
    pub(super) fn target(&self) -> &Document {
        match (&self.index, self.platforms.as_slice()) {
            (Some(index), _) => index,
            (None, platforms) => &platforms[0].manifest,
        }
    }

    /// Docker's image id, which is the config; an index has none.
    pub(super) fn config_digest(&self) -> Option<Digest> {
        match self.index {
            Some(_) => None,
            None => Some(self.platforms[0].config.digest()),
        }
    }

    /// When it was made, RFC 3339.
    pub(super) fn created(&self) -> Option<&str> {
        let created = self.platforms.iter().map(|one| one.created.as_deref());
        created.max().flatten()
    }

    /// Its layers with the entries of the history that made them.
    pub(super) fn described_layers(&self) -> Vec<BuiltLayer> {
        let mut described = Vec::new();
        for one in &self.platforms {
            // What was written a moment ago can be read.
            let config = serde_json::from_slice::<DockerImageConfig>(&one.config.bytes);
            let history = config.map(|config| config.history).unwrap_or_default();
            let made = history.into_iter().filter(|entry| !entry.empty_layer);
            let made = made
                .map(|entry| entry.created_by)
                .chain(std::iter::repeat(String::new()));
            let platform = one
                .manifest
                .descriptor
                .platform
                .as_ref()
                .map(ToString::to_string);
            described.extend(
                one.layers
                    .iter()
                    .zip(made)
                    .map(|(layer, created_by)| BuiltLayer {
                        digest: layer.descriptor.digest,
                        size: layer.descriptor.size,
                        created_by,
                        is_base: layer.created.is_none(),
                        platform: platform.clone().filter(|_| self.index.is_some()),
                    }),
            );
        }
        described
    }

    /// All its documents, each after those that it refers to.
    pub(super) fn documents(&self) -> impl Iterator<Item = &Document> {
        let ofs = self.platforms.iter();
        let below = ofs.flat_map(|one| [&one.config, &one.manifest]);
        below.chain(&self.index)
    }
}

/// Packs the layers of all results and writes their documents.
///
/// # Errors
/// [`Error::Layer`], those of the store.
pub(super) fn assemble(
    export: &Export,
    images: &Images,
    snapshots: &Manager,
    attributes: &ImageAttributes,
    usual: Compression,
    step: &Step,
) -> Result<Image> {
    let results = export.results.iter();
    let one = |result| assemble_one(result, images, snapshots, attributes, usual, step);
    let platforms = results.map(one).collect::<Result<Vec<_>>>()?;
    if !export.is_multi_platform {
        return Ok(Image {
            platforms,
            index: None,
        });
    }
    let media_type = match attributes.docker_media_types {
        true => DOCKER_LIST,
        false => INDEX,
    };
    let notes = |target| annotations::of(&attributes.annotations, target, None);
    let manifests = platforms.iter().map(|one| one.manifest.descriptor.clone());
    let index = Index {
        schema_version: 2,
        media_type: media_type.into(),
        manifests: manifests.collect(),
        annotations: notes(AnnotationTarget::Index),
    };
    let mut index = Document::new(media_type, document::write("image index", &index)?);
    index.descriptor.annotations = notes(AnnotationTarget::IndexDescriptor);
    index.report("manifest list", step);
    Ok(Image {
        platforms,
        index: Some(index),
    })
}

fn assemble_one(
    result: &PlatformResult,
    images: &Images,
    snapshots: &Manager,
    attributes: &ImageAttributes,
    usual: Compression,
    step: &Step,
) -> Result<Assembled> {
    let epoch = attributes.epoch.unwrap_or(result.epoch);
    if attributes.rewrite_timestamp == Some(true) && epoch.is_none() {
        step.show(EventKind::Warning {
            message: "rewrite-timestamp is given, but there is no SOURCE_DATE_EPOCH".into(),
        });
    }
    let look = Look::new(attributes, usual, epoch)?;
    let layers = layers::layers(&result.value, images, snapshots)?;
    let layers = layers::pack_all(&layers, &look, images, step)?;
    let config = config(&result.image, &layers, epoch)?;
    let created = config.created.clone();
    let (manifest_type, config_type) = match attributes.docker_media_types {
        true => (DOCKER_MANIFEST, DOCKER_CONFIG),
        false => (MANIFEST, CONFIG),
    };
    let config = Document::new(config_type, json("image config", &config)?);
    config.report("config", step);
    let notes = |target| annotations::of(&attributes.annotations, target, Some(&result.platform));
    let layer_descriptors = layers.iter().map(|layer| layer.descriptor.clone());
    let manifest = Manifest {
        schema_version: 2,
        media_type: manifest_type.into(),
        artifact_type: String::new(),
        config: config.descriptor.clone(),
        layers: layer_descriptors.collect(),
        annotations: notes(AnnotationTarget::Manifest),
    };
    let mut manifest = Document::new(manifest_type, document::write("image manifest", &manifest)?);
    manifest.descriptor.platform = Some(source_platform(&result.platform));
    manifest.descriptor.annotations = notes(AnnotationTarget::ManifestDescriptor);
    manifest.report("manifest", step);
    Ok(Assembled {
        config,
        manifest,
        layers,
        created,
        value: result.value.clone(),
    })
}

/// RFC 3339, as Go writes it.
fn rfc3339(time: store::Timestamp) -> Result<String> {
    // Below 10^9, so it fits.
    let nanoseconds = time.nanoseconds.cast_signed();
    Timestamp::new(time.seconds, nanoseconds)
        .map(|time| time.to_string())
        .map_err(|e| Error::Unsupported {
            what: format!("the time {} seconds after 1970 ({e})", time.seconds),
        })
}

/// The image config with layers and times filled in. As in BuildKit, an entry is as old as the
/// step that made its layer (not as the build that found it cached), others as the one before them,
/// and the image as its last entry: building again without a change gives the same image.
fn config(
    image: &DockerImageConfig,
    layers: &[Packed],
    epoch: Option<i64>,
) -> Result<DockerImageConfig> {
    let mut image = image.clone();
    image.rootfs.kind = "layers".into();
    image.rootfs.diff_ids = layers
        .iter()
        .map(|layer| layer.diff_id.to_string())
        .collect();
    match_history(&mut image.history, layers.len());
    let time = |layer: &Packed| match epoch {
        Some(seconds) => layer
            .created
            .map(|_| store::Timestamp::from_seconds(seconds)),
        None => layer.created,
    };
    let first_made = layers.iter().find_map(time).map(rfc3339).transpose()?;
    let mut layers = layers.iter();
    let (mut latest, mut layers_made) = (None, 0_usize);
    for entry in &mut image.history {
        let layer = match entry.empty_layer {
            true => None,
            false => layers.next(),
        };
        if let (None, Some(time)) = (&entry.created, layer.and_then(time)) {
            entry.created = Some(rfc3339(time)?);
        }
        // What a Dockerfile sets before its first layer is as old as that, not as the base.
        if entry.created.is_none() {
            entry.created = first_made.clone().filter(|_| layers_made == 0).or(latest);
        }
        layers_made += usize::from(layer.and_then(time).is_some());
        latest = entry.created.clone();
    }
    image.created = match epoch {
        Some(seconds) => Some(rfc3339(store::Timestamp::from_seconds(seconds))?),
        None => latest.or(image.created),
    };
    Ok(image)
}

/// As many entries that say "a layer" as there are layers: tools count them against each other.
/// A base image may come without history, or with less than it has layers.
fn match_history(history: &mut Vec<History>, layers: usize) {
    let said = history.iter().filter(|entry| !entry.empty_layer).count();
    if said < layers {
        let missing = History {
            created_by: "<missing>".into(),
            ..History::default()
        };
        history.splice(0..0, std::iter::repeat_n(missing, layers - said));
    }
    let mut excess = said.saturating_sub(layers);
    for entry in history.iter_mut().rev().filter(|entry| !entry.empty_layer) {
        if excess == 0 {
            break;
        }
        entry.empty_layer = true;
        excess -= 1;
    }
}

fn json(what: &str, document: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(document).map_err(|source| Error::Json {
        what: what.into(),
        source,
    })
}

/// Gives an image names in the store. Its layers stay trees; they become tars when somebody needs
/// one.
///
/// # Errors
/// Those of the store; the names are all given or none.
pub(super) fn name(
    image: &Image,
    names: &[String],
    images: &Images,
    snapshots: &Manager,
) -> Result<()> {
    if is_named(image, names, images, snapshots)? {
        return Ok(());
    }
    let content = images.content();
    let ingest = content.begin();
    let mut batch = Batch::new();
    let mut held = Vec::new();
    for document in image.documents() {
        let (_, located) = content.put(&ingest, &mut batch, &document.bytes)?;
        held.push(Reference::Blob(located.blob));
    }
    let mut adopted: Vec<(String, TreeRef)> = Vec::new();
    for one in &image.platforms {
        hold_layers(one, images, &mut batch, &mut held)?;
        let (diff_ids, descriptors) = (one.diff_ids(), one.layer_descriptors());
        if let (Some(chain), Some(tree)) = (chain_ids(&diff_ids).last(), one.value.tree()) {
            let name = images.note_snapshot(&mut batch, *chain, &descriptors, &diff_ids);
            held.push(Reference::Snapshot(name.clone()));
            // One that is there already has the same layers; times may differ, by
            // SOURCE_DATE_EPOCH.
            let is_new = catalog::find(snapshots.store(), &name)?.is_none();
            if is_new && adopted.iter().all(|(known, _)| *known != name) {
                adopted.push((name, tree));
            }
        }
    }
    let target = &image.target().descriptor;
    for name in names {
        images.name(&mut batch, name, target, held.clone());
    }
    let Some((last, tree)) = adopted.pop() else {
        return Ok(ingest.commit(batch)?);
    };
    for (name, tree) in adopted {
        // Until the names hold it, which they do in the batch of the last one.
        let lease = build_lease(&name);
        snapshots.adopt(content.begin(), &name, "", tree, lease)?;
    }
    Ok(snapshots.adopt(ingest, &last, "", tree, batch)?)
}

/// Adds what keeps the layers of an image alive.
fn hold_layers(
    one: &Assembled,
    images: &Images,
    batch: &mut Batch,
    held: &mut Vec<Reference>,
) -> Result<()> {
    for layer in &one.layers {
        if let Some(change) = &layer.change {
            let (packing, store) = ((change, layer.clamp), images.content().store());
            let noted = layers::note_change(batch, layer.diff_id, packing, store)?;
            for change in [*change, noted] {
                held.push(Reference::Tree(change.tree.id));
                held.extend(change.below.map(|below| Reference::Tree(below.id)));
            }
        }
        // A compressed layer is kept, also one that could be packed again.
        let located = images.content().find(layer.descriptor.digest)?;
        held.extend(located.map(|located| Reference::Blob(located.blob)));
    }
    Ok(())
}

impl Assembled {
    fn diff_ids(&self) -> Vec<Digest> {
        self.layers.iter().map(|layer| layer.diff_id).collect()
    }

    fn layer_descriptors(&self) -> Vec<Descriptor> {
        let layers = self.layers.iter();
        layers.map(|layer| layer.descriptor.clone()).collect()
    }
}

/// Whether all names stand for this very image already: then there is nothing to write or flush.
fn is_named(image: &Image, names: &[String], images: &Images, snapshots: &Manager) -> Result<bool> {
    let store = snapshots.store();
    for one in &image.platforms {
        if let Some(chain) = chain_ids(&one.diff_ids()).last()
            && catalog::find(store, &snapshot_name(*chain))?.is_none()
        {
            return Ok(false);
        }
        for change in one.layers.iter().filter_map(|layer| layer.change) {
            if !store.has_tree(change.tree.id)? {
                return Ok(false);
            }
        }
    }
    for name in names {
        match images.resolve(name)? {
            // A name with a digest resolves without being one.
            Some(target)
                if target.digest == image.target().digest() && images.has_name(name)? => {}
            _ => return Ok(false),
        }
    }
    for document in image.documents() {
        if images.content().find(document.digest())?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(empty_layer: bool) -> History {
        History {
            empty_layer,
            ..History::default()
        }
    }

    fn layers_said(history: &[History]) -> usize {
        history.iter().filter(|entry| !entry.empty_layer).count()
    }

    #[test]
    fn history_says_as_many_layers_as_there_are() {
        for (said, layers) in [(0, 0), (0, 3), (2, 2), (2, 5), (5, 2)] {
            let mut history = vec![entry(true)];
            history.extend(std::iter::repeat_with(|| entry(false)).take(said));
            match_history(&mut history, layers);
            assert_eq!(layers_said(&history), layers, "{said} said, {layers} there");
        }
    }

    fn layer(created: Option<i64>) -> Packed {
        let digest = Digest::of(b"layer");
        Packed {
            descriptor: Descriptor::new("t", digest, 1),
            diff_id: digest,
            change: None,
            clamp: None,
            created: created.map(store::Timestamp::from_seconds),
        }
    }

    fn times(epoch: Option<i64>) -> (Option<String>, Vec<Option<String>>) {
        let base = History {
            created: Some("2020-01-01T00:00:00Z".into()),
            ..entry(false)
        };
        let history = vec![base, entry(true), entry(false), entry(true), entry(false)];
        let image = DockerImageConfig {
            history,
            ..DockerImageConfig::default()
        };
        let layers = [layer(None), layer(Some(100)), layer(Some(50))];
        let read = config(&image, &layers, epoch).unwrap();
        (
            read.created,
            read.history
                .into_iter()
                .map(|entry| entry.created)
                .collect(),
        )
    }

    #[test]
    fn entries_are_as_old_as_their_steps_and_the_image_as_its_last() {
        let (created, history) = times(None);
        assert_eq!(created.as_deref(), Some("1970-01-01T00:00:50Z"));
        let history: Vec<_> = history
            .iter()
            .map(|time| time.as_deref().unwrap())
            .collect();
        let (base, first, second) = (
            "2020-01-01T00:00:00Z",
            "1970-01-01T00:01:40Z",
            "1970-01-01T00:00:50Z",
        );
        assert_eq!(history, [base, first, first, first, second]);
    }

    #[test]
    fn an_image_without_a_layer_of_its_own_is_as_old_as_its_base() {
        let time = "2020-01-01T00:00:00Z";
        let base = History {
            created: Some(time.into()),
            ..entry(false)
        };
        let image = DockerImageConfig {
            history: vec![base, entry(true)],
            ..DockerImageConfig::default()
        };
        let read = config(&image, &[layer(None)], None).unwrap();
        assert_eq!(read.created.as_deref(), Some(time));
        assert_eq!(read.history[1].created.as_deref(), Some(time));
    }

    #[test]
    fn source_date_epoch_is_the_time_of_all_that_was_built() {
        let (created, history) = times(Some(7));
        let epoch = "1970-01-01T00:00:07Z";
        assert_eq!(created.as_deref(), Some(epoch));
        assert!(
            history[1..]
                .iter()
                .all(|time| time.as_deref() == Some(epoch)),
            "{history:?}"
        );
        assert_eq!(
            history[0].as_deref(),
            Some("2020-01-01T00:00:00Z"),
            "the base keeps its own"
        );
    }
}
