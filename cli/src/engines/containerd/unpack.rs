//! The layers of an image as snapshots, made by containerd's own differ: what a container starts
//! from.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use containerd_client::services::v1 as api;
use containerd_client::services::v1::snapshots as snapshots_api;
use solver::content::Digest;
use tonic::Code;

use super::client::{Client, Labels, told};
use super::documents::{Config, Descriptor, Document, Documents, bad};

/// The label by which an image's config keeps its snapshots, followed by the snapshotter's name.
const KEEPS: &str = "containerd.io/gc.ref.snapshot";

/// The label that tells a snapshotter what a layer is going to be.
const BECOMES: &str = "containerd.io/snapshot.ref";

/// Makes the snapshots of an image that are not there.
///
/// # Errors
/// What the snapshotter or the differ have against it.
pub(super) async fn unpack(client: &Client, documents: &Documents, digest: &str) -> io::Result<()> {
    let manifest: Document = documents.read(digest)?;
    let Some(config) = manifest.config else {
        return Err(bad(format!("{digest} is no manifest")));
    };
    let rootfs = documents.read::<Config>(&config.digest)?.rootfs;
    if rootfs.diff_ids.len() != manifest.layers.len() {
        return Err(bad(format!("{digest} has other layers than its config")));
    }
    let mut parent = String::new();
    for (layer, diff_id) in manifest.layers.iter().zip(&rootfs.diff_ids) {
        let name = match parent.is_empty() {
            true => diff_id.clone(),
            false => Digest::of(format!("{parent} {diff_id}").as_bytes()).to_string(),
        };
        let made = one(client, layer, (&parent, &name, diff_id)).await;
        made.map_err(|error| {
            let snapshotter = &client.snapshotter;
            io::Error::other(format!(
                "cannot unpack {} with the snapshotter {snapshotter:?} \
                 (CONTAINERD_SNAPSHOTTER names another): {error}",
                layer.digest
            ))
        })?;
        parent = name;
    }
    if parent.is_empty() {
        return Ok(());
    }
    let label = format!("{KEEPS}.{}", client.snapshotter);
    client.label(&config.digest, [(label, parent)].into()).await
}

/// Makes the snapshot `name` of a layer above `parent`.
async fn one(
    client: &Client,
    layer: &Descriptor,
    (parent, name, diff_id): (&str, &str, &str),
) -> io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let snapshotter = client.snapshotter.clone();
    let mut snapshots = client.snapshots();
    let stat = snapshots_api::StatSnapshotRequest {
        snapshotter: snapshotter.clone(),
        key: name.to_owned(),
    };
    match snapshots.stat(client.request(stat)).await {
        Ok(_) => return Ok(()),
        Err(status) if status.code() == Code::NotFound => {}
        Err(status) => return Err(told(status)),
    }
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let key = format!("extract-varve-{}-{number} {name}", std::process::id());
    let labels: Labels = [(BECOMES.to_owned(), name.to_owned())].into();
    let prepare = snapshots_api::PrepareSnapshotRequest {
        snapshotter: snapshotter.clone(),
        key: key.clone(),
        parent: parent.to_owned(),
        labels: labels.clone(),
    };
    let mounts = match snapshots.prepare(client.request(prepare)).await {
        // The snapshotter has it, without unpacking.
        Err(status) if status.code() == Code::AlreadyExists => return Ok(()),
        prepared => prepared.map_err(told)?.into_inner().mounts,
    };
    let apply = api::ApplyRequest {
        diff: Some(layer.into()),
        mounts,
        ..Default::default()
    };
    let applied = client.differ().apply(client.request(apply)).await;
    let applied = applied.map_err(told).and_then(|answer| {
        let applied = answer.into_inner().applied.unwrap_or_default().digest;
        match applied == diff_id {
            true => Ok(()),
            false => Err(bad(format!("its files are {applied}, not {diff_id}"))),
        }
    });
    let committed = match applied {
        Ok(()) => {
            let commit = snapshots_api::CommitSnapshotRequest {
                snapshotter: snapshotter.clone(),
                name: name.to_owned(),
                key: key.clone(),
                labels,
            };
            snapshots
                .commit(client.request(commit))
                .await
                .map(drop)
                .map_err(|status| (status.code() == Code::AlreadyExists, told(status)))
        }
        Err(error) => Err((false, error)),
    };
    let Err((is_there, error)) = committed else {
        return Ok(());
    };
    let remove = snapshots_api::RemoveSnapshotRequest { snapshotter, key };
    if let Err(status) = snapshots.remove(client.request(remove)).await {
        tracing::debug!(
            error = status.message(),
            "a snapshot stays until the lease ends"
        );
    }
    if is_there { Ok(()) } else { Err(error) }
}
