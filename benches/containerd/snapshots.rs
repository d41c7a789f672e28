//! Snapshots over containerd's own socket, as its clients make and remove them: without the start
//! of a `ctr` for each.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use benches::report;
use containerd_client::services::v1::leases_client::LeasesClient;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::services::v1::snapshots::{
    MountsRequest, PrepareSnapshotRequest, RemoveSnapshotRequest,
};
use containerd_client::services::v1::{CreateRequest, DeleteRequest};
use containerd_client::tonic::metadata::MetadataValue;
use containerd_client::tonic::{Request, transport::Channel};

/// Protects what is prepared: containerd collects what nothing refers to.
const LEASE: &str = "of-a-bench";

/// Of one snapshotter of a containerd.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Service<'a> {
    /// containerd's.
    pub(crate) socket: &'a Path,
    pub(crate) namespace: &'a str,
    pub(crate) snapshotter: &'a str,
}

impl Service<'_> {
    /// Prepares a snapshot above `parent`, asks for its mounts and removes it, `count` times, one
    /// after the other; then has containerd collect what it has only marked as removed. Returns how
    /// long all that took.
    pub(crate) fn churn(self, parent: &str, count: usize) -> Result<Duration> {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(self.churn_inside(parent, count))
    }

    async fn churn_inside(self, parent: &str, count: usize) -> Result<Duration> {
        let channel = containerd_client::connect(self.socket)
            .await
            .with_context(|| format!("connect to {}", self.socket.display()))?;
        let mut leases = LeasesClient::new(channel.clone());
        let lease = CreateRequest {
            id: LEASE.into(),
            ..CreateRequest::default()
        };
        leases.create(self.request(lease)?).await?;
        let outcome = self.each(channel, parent, count).await;
        let started = Instant::now();
        let delete = DeleteRequest {
            id: LEASE.into(),
            sync: true,
        };
        leases.delete(self.request(delete)?).await?;
        let [prepare, mounts, remove] = outcome?;
        let collect = started.elapsed();
        report::note(&format!(
            "{}: prepare {prepare:.2?}, mounts {mounts:.2?}, remove {remove:.2?}, \
             the last collection {collect:.2?}",
            self.snapshotter
        ));
        Ok(prepare + mounts + remove + collect)
    }

    /// How long all calls of each kind took: of `Prepare`, `Mounts` and `Remove`.
    async fn each(self, channel: Channel, parent: &str, count: usize) -> Result<[Duration; 3]> {
        let mut snapshots = SnapshotsClient::new(channel);
        let mut times = [Duration::ZERO; 3];
        for number in 0..count {
            let key = format!("churn-{number}");
            let prepare = PrepareSnapshotRequest {
                snapshotter: self.snapshotter.into(),
                key: key.clone(),
                parent: parent.into(),
                ..PrepareSnapshotRequest::default()
            };
            let started = Instant::now();
            snapshots.prepare(self.request(prepare)?).await?;
            times[0] += started.elapsed();
            let question = MountsRequest {
                snapshotter: self.snapshotter.into(),
                key: key.clone(),
            };
            let started = Instant::now();
            let answer = snapshots.mounts(self.request(question)?).await?;
            times[1] += started.elapsed();
            let mounts = answer.into_inner().mounts;
            ensure!(mounts.len() == 1, "one mount was expected: {mounts:?}");
            let remove = RemoveSnapshotRequest {
                snapshotter: self.snapshotter.into(),
                key,
            };
            let started = Instant::now();
            snapshots.remove(self.request(remove)?).await?;
            times[2] += started.elapsed();
        }
        Ok(times)
    }

    fn request<T>(self, message: T) -> Result<Request<T>> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        let namespace = MetadataValue::try_from(self.namespace)?;
        metadata.insert("containerd-namespace", namespace);
        metadata.insert("containerd-lease", MetadataValue::from_static(LEASE));
        Ok(request)
    }
}
