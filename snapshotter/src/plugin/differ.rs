//! `containerd.services.diff.v1.Diff`: a layer goes straight into the store, without a mount, and
//! comes out of it without a walk over two directories.
//!
//! What is not ours (foreign mounts, media types that some stream processor has to decode) is
//! answered with UNIMPLEMENTED: containerd then asks the next differ of its list.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use layer::{Below, Compression, Encoding, Limits, PackOptions, Packed, Unpacked};
use mount::Mount;
use proto::containerd::services::diff::v1 as api;
use proto::containerd::services::diff::v1::diff_server::Diff as Service;
use proto::containerd::types::Descriptor;
use store::{Batch, Delta, delta, diff, failpoint};
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::{Request, Response, Status};

use super::content::{self, ContentStore, NAMESPACE, PieceWriter};
use super::metrics::Metrics;
use super::{blocking, status, wire};
use crate::containers::Containers;
use crate::error::{Error, Result};

/// Longest time that a layer may take: the largest are some ten gigabytes.
const LAYER_TIMEOUT: Duration = Duration::from_secs(3600);

/// Media type of a layer that the answer to an unpacked one names.
const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

/// The label by which containerd knows what is in a compressed layer.
const UNCOMPRESSED: &str = "containerd.io/uncompressed";

/// Serves the differ.
#[derive(Clone, Debug)]
pub(super) struct DiffService {
    containers: Arc<Containers>,
    metrics: Arc<Metrics>,
    containerd: PathBuf,
}

impl DiffService {
    /// For the snapshots that `metrics` are of; layers come from and go to the containerd with this
    /// socket.
    pub(super) fn new(metrics: Arc<Metrics>, containerd: PathBuf) -> Self {
        DiffService {
            containers: metrics.containers().clone(),
            metrics,
            containerd,
        }
    }

    async fn content(&self, metadata: &MetadataMap) -> Result<ContentStore, Status> {
        let namespace: Option<MetadataValue<Ascii>> = metadata.get(NAMESPACE).cloned();
        let namespace = namespace
            .ok_or_else(|| Status::failed_precondition(format!("no {NAMESPACE} in the request")))?;
        ContentStore::connect(&self.containerd, namespace).await
    }
}

#[tonic::async_trait]
impl Service for DiffService {
    async fn apply(
        &self,
        request: Request<api::ApplyRequest>,
    ) -> Result<Response<api::ApplyResponse>, Status> {
        self.metrics.call("Apply", self.applied(request)).await
    }

    async fn diff(
        &self,
        request: Request<api::DiffRequest>,
    ) -> Result<Response<api::DiffResponse>, Status> {
        self.metrics.call("Diff", self.packed(request)).await
    }
}

impl DiffService {
    async fn applied(
        &self,
        request: Request<api::ApplyRequest>,
    ) -> Result<Response<api::ApplyResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let layer = request
            .diff
            .ok_or_else(|| Status::invalid_argument("no layer is named"))?;
        check_media_type(&layer.media_type).map_err(status::of)?;
        let mounts = wire::parse_mounts(&request.mounts).map_err(status::of)?;
        let content = self.content(&metadata).await?;
        let (sender, body) = content::body();
        let containers = self.containers.clone();
        let wanted = layer.clone();
        let under_way = containers.begin(format!("Apply {}", layer.digest));
        let applied = blocking(LAYER_TIMEOUT, move || {
            let _under_way = under_way;
            apply(&containers, &mounts, &wanted, body)
                .inspect_err(|_| containers.note_garbage())
                .map_err(|error| containers.explained(error))
        });
        let (read, applied) = tokio::join!(content.read(&layer.digest, sender), applied);
        // What the content store says is why the reading ended early.
        read?;
        let applied = applied?;
        Ok(Response::new(api::ApplyResponse {
            applied: Some(Descriptor {
                media_type: TAR.into(),
                digest: applied.diff_id.to_string(),
                size: i64::try_from(applied.tar_size).unwrap_or(i64::MAX),
                annotations: BTreeMap::new(),
            }),
        }))
    }

    async fn packed(
        &self,
        request: Request<api::DiffRequest>,
    ) -> Result<Response<api::DiffResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let compression = match &*request.media_type {
            "" => Compression::Gzip,
            media_type => check_media_type(media_type).map_err(status::of)?,
        };
        let encoding =
            Encoding::new(compression, None).map_err(|error| status::of(Error::Layer(error)))?;
        let left = wire::parse_mounts(&request.left).map_err(status::of)?;
        let right = wire::parse_mounts(&request.right).map_err(status::of)?;
        let clamp_mtime = request.source_date_epoch.map(|time| time.seconds);
        let reference = match &*request.r#ref {
            "" => format!("varve-diff-{}", request_number()),
            reference => reference.to_owned(),
        };
        let mut content = self.content(&metadata).await?;
        let (writer, mut upload) = content.write(&reference).await?;
        let containers = self.containers.clone();
        let under_way = containers.begin(format!("Diff {reference}"));
        let packed = blocking(LAYER_TIMEOUT, move || {
            let _under_way = under_way;
            let packed = pack(&containers, &left, &right, clamp_mtime, encoding, writer);
            // What was written to a snapshot was stored for the time of the packing.
            containers.note_garbage();
            packed
        });
        let packed = upload.answers(packed).await??;
        let mut labels = request.labels;
        if compression != Compression::None {
            labels.insert(UNCOMPRESSED.into(), packed.diff_id.to_string());
        }
        let digest = packed.digest.to_string();
        upload.finish(&digest, packed.size, labels).await?;
        let media_type = match &*request.media_type {
            "" => compression.media_type().to_owned(),
            media_type => media_type.to_owned(),
        };
        Ok(Response::new(api::DiffResponse {
            diff: Some(Descriptor {
                media_type,
                digest,
                size: i64::try_from(packed.size).unwrap_or(i64::MAX),
                annotations: BTreeMap::new(),
            }),
        }))
    }
}

/// A name for a write that the caller has not named.
fn request_number() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn check_media_type(media_type: &str) -> Result<Compression> {
    Compression::from_media_type(media_type).ok_or_else(|| Error::Unsupported {
        what: format!("layers of type {media_type}"),
    })
}

/// Unpacks the layer that `body` has into the snapshot of the mounts.
fn apply(
    containers: &Containers,
    mounts: &[Mount],
    layer: &Descriptor,
    body: impl Read + Send,
) -> Result<Unpacked> {
    containers.check_space()?;
    let (id, directory, base) = containers.to_unpack(mounts)?;
    let manager = containers.manager();
    let store = manager.store();
    // Keeps sweeps away until a row names the tree.
    let _shield = store.begin();
    let ingest = store.begin();
    let unpacked = layer::unpack(body, &ingest, &Limits::default())?;
    if unpacked.digest.to_string() != layer.digest {
        return Err(Error::Content {
            digest: layer.digest.clone(),
            reason: format!("it has the bytes of {}", unpacked.digest),
        });
    }
    let tree = unpacked.delta.apply(base, &ingest).map_err(Error::from)?;
    manager.check_root(tree, &ingest)?;
    let usage = delta::usage(&diff(base, tree, &ingest)?);
    ingest.commit(Batch::new())?;
    failpoint::passed("apply.stored");
    containers.set_applied(&id, directory, tree, usage)?;
    containers.count_layer(unpacked.tar_size);
    for warning in &unpacked.warnings {
        tracing::warn!(
            layer = layer.digest,
            warning,
            "read otherwise than it stands there"
        );
    }
    Ok(unpacked)
}

/// Packs what leads from the one file system to the other.
fn pack(
    containers: &Containers,
    left: &[Mount],
    right: &[Mount],
    clamp_mtime: Option<i64>,
    encoding: Encoding,
    mut writer: PieceWriter,
) -> Result<Packed> {
    let store = containers.manager().store();
    // What a writable snapshot holds at this moment is stored for the time of the packing.
    let ingest = store.begin();
    let before = containers.tree_of_mounts(left, &ingest)?;
    let after = containers.tree_of_mounts(right, &ingest)?;
    let delta = match after {
        Some(after) => diff(before, after, &ingest)?,
        None => Delta::default(),
    };
    let options = PackOptions {
        clamp_mtime,
        below: before.map_or(Below::Nothing, Below::Tree),
    };
    let objects = store.objects();
    let packed = layer::pack_layer(&delta, &ingest, objects, &options, encoding, &mut writer)?;
    writer
        .finish()
        .map_err(|e| Error::io("send the layer to", "containerd", e))?;
    Ok(packed)
}
