//! Config and manifest of a result, and its place among the images of the store.

use dockerfile::config::{DockerImageConfig, History};
use jiff::Timestamp;
use layer::Compression;
use snapshotter::leases::Reference;
use snapshotter::{Manager, catalog};
use store::Batch;

use super::Export;
use super::layers::{self, Packed};
use crate::content::Digest;
use crate::error::{Error, Result};
use crate::images::document::{CONFIG, Descriptor, MANIFEST, Manifest};
use crate::images::{Images, chain_ids};
use crate::progress::Step;
use crate::result::Value;

/// An image with all its documents.
pub(super) struct Assembled {
    pub(super) config: Vec<u8>,
    pub(super) config_digest: Digest,
    pub(super) manifest: Vec<u8>,
    pub(super) manifest_digest: Digest,
    pub(super) layers: Vec<Packed>,
    pub(super) platform: llb::Platform,
    pub(super) epoch: Option<i64>,
    value: Value,
}

/// Packs the layers of a result and writes its documents.
///
/// # Errors
/// [`Error::Layer`], those of the store.
pub(super) fn assemble(
    export: &Export,
    images: &Images,
    snapshots: &Manager,
    compression: Compression,
    step: &Step,
) -> Result<Assembled> {
    let store = snapshots.store();
    let layers = layers::layers(&export.value, images, snapshots)?;
    let pack = |layer| layers::pack(layer, compression, export.epoch, images, store, step);
    let layers = layers.iter().map(pack).collect::<Result<Vec<_>>>()?;
    let config = config(&export.image, &layers, export.epoch)?;
    let config_digest = Digest::of(&config);
    step.status(
        format!("exporting config {config_digest}"),
        config.len() as u64,
        None,
        true,
    );
    let manifest = Manifest {
        schema_version: 2,
        media_type: MANIFEST.into(),
        config: Descriptor::new(CONFIG, config_digest, config.len() as u64),
        layers: layers
            .iter()
            .map(|layer| layer.descriptor.clone())
            .collect(),
    };
    let manifest = json("image manifest", &manifest)?;
    let manifest_digest = Digest::of(&manifest);
    let size = manifest.len() as u64;
    step.status(
        format!("exporting manifest {manifest_digest}"),
        size,
        None,
        true,
    );
    Ok(Assembled {
        config,
        config_digest,
        manifest,
        manifest_digest,
        layers,
        platform: export.platform.clone(),
        epoch: export.epoch,
        value: export.value.clone(),
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
/// step that made its layer (not as the build that found it cached), and the image as its newest
/// layer: building again without a change gives the same image.
fn config(image: &DockerImageConfig, layers: &[Packed], epoch: Option<i64>) -> Result<Vec<u8>> {
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
    let mut latest = layers.iter().find_map(time);
    let newest = layers.iter().filter_map(time).max();
    let mut layers = layers.iter();
    for entry in &mut image.history {
        let layer = if entry.empty_layer {
            None
        } else {
            layers.next()
        };
        latest = layer.and_then(time).or(latest);
        if let (None, Some(time)) = (&entry.created, latest) {
            entry.created = Some(rfc3339(time)?);
        }
    }
    let created = epoch.map(store::Timestamp::from_seconds).or(newest);
    image.created = match created {
        Some(time) => Some(rfc3339(time)?),
        None => image.created.or_else(|| Some(Timestamp::now().to_string())),
    };
    json("image config", &image)
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
    assembled: &Assembled,
    names: &[String],
    images: &Images,
    snapshots: &Manager,
) -> Result<()> {
    if is_named(assembled, names, images, snapshots)? {
        return Ok(());
    }
    let store = snapshots.store();
    let ingest = store.begin();
    let mut batch = Batch::new();
    let content = images.content();
    let (_, config) = content.put(&ingest, &mut batch, &assembled.config)?;
    let (_, manifest) = content.put(&ingest, &mut batch, &assembled.manifest)?;
    let mut held = vec![Reference::Blob(config.blob), Reference::Blob(manifest.blob)];
    for layer in &assembled.layers {
        match &layer.change {
            Some(change) => {
                layers::note_change(&mut batch, layer.diff_id, change);
                held.push(Reference::Tree(change.tree.id));
                held.extend(change.below.map(|below| Reference::Tree(below.id)));
            }
            None => {
                let located = content.find(layer.descriptor.digest)?;
                held.extend(located.map(|located| Reference::Blob(located.blob)));
            }
        }
    }
    let target = Descriptor::new(
        MANIFEST,
        assembled.manifest_digest,
        assembled.manifest.len() as u64,
    );
    let diff_ids: Vec<Digest> = assembled.layers.iter().map(|layer| layer.diff_id).collect();
    let descriptors: Vec<Descriptor> = assembled
        .layers
        .iter()
        .map(|layer| layer.descriptor.clone())
        .collect();
    let snapshot = match (chain_ids(&diff_ids).last(), assembled.value.tree()) {
        (Some(chain), Some(tree)) => Some((
            images.note_snapshot(&mut batch, *chain, &descriptors, &diff_ids),
            tree,
        )),
        _ => None,
    };
    held.extend(
        snapshot
            .iter()
            .map(|(name, _)| Reference::Snapshot(name.clone())),
    );
    for name in names {
        images.name(&mut batch, name, &target, held.clone());
    }
    match snapshot {
        // One that is there already has the same layers; times may differ, by SOURCE_DATE_EPOCH.
        Some((snapshot, tree)) if catalog::find(store, &snapshot)?.is_none() => {
            Ok(snapshots.adopt(ingest, &snapshot, "", tree, batch)?)
        }
        _ => Ok(ingest.commit(batch)?),
    }
}

/// Whether all names stand for this very image already: then there is nothing to write or flush.
fn is_named(
    assembled: &Assembled,
    names: &[String],
    images: &Images,
    snapshots: &Manager,
) -> Result<bool> {
    let diff_ids: Vec<Digest> = assembled.layers.iter().map(|layer| layer.diff_id).collect();
    if let Some(chain) = chain_ids(&diff_ids).last()
        && catalog::find(snapshots.store(), &crate::images::snapshot_name(*chain))?.is_none()
    {
        return Ok(false);
    }
    for change in assembled.layers.iter().filter_map(|layer| layer.change) {
        if !snapshots.store().has_tree(change.tree.id)? {
            return Ok(false);
        }
    }
    for name in names {
        match images.resolve(name)? {
            Some(target) if target.digest == assembled.manifest_digest => {}
            _ => return Ok(false),
        }
    }
    let present = images.content().find(assembled.manifest_digest)?.is_some();
    Ok(present && images.content().find(assembled.config_digest)?.is_some())
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
        let config = config(&image, &layers, epoch).unwrap();
        let read: DockerImageConfig = serde_json::from_slice(&config).unwrap();
        (
            read.created,
            read.history
                .into_iter()
                .map(|entry| entry.created)
                .collect(),
        )
    }

    #[test]
    fn entries_are_as_old_as_their_steps_and_the_image_as_its_newest() {
        let (created, history) = times(None);
        assert_eq!(created.as_deref(), Some("1970-01-01T00:01:40Z"));
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
