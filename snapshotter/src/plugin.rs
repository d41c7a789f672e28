//! What containerd calls: `containerd.services.snapshots.v1.Snapshots` over
//! [`Containers`](crate::containers::Containers), and the differ beside it; with what watches both.
//!
//! Keys, names and labels are opaque. The plugin that a request is meant for is named in it, so
//! one socket serves several; namespaces are part of the keys that containerd makes.
//!
//! containerd waits for an answer without a limit, some calls under a global lock, so every call
//! ends in time here ([`CALL_TIMEOUT`]).

mod content;
mod debug;
mod differ;
pub mod health;
pub mod metrics;
mod status;
mod wire;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use proto::containerd::services::diff::v1::diff_server::DiffServer;
use proto::containerd::services::snapshots::v1 as api;
use proto::containerd::services::snapshots::v1::snapshots_server::{
    Snapshots as Service, SnapshotsServer,
};
use proto::varve::debug::v1::debug_server::DebugServer;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::containers::Plugin;
use crate::error::{Error, Result};
use crate::filters::Filters;
use crate::snapshots::Snapshots;
use debug::DebugService;
use differ::DiffService;
use metrics::Metrics;

/// Longest time that a call may take. Work that is under way goes on, and is found done by whoever
/// asks again.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Threads of the runtime that calls may block. A runtime that serves them needs more than these.
pub const CALL_THREADS: usize = 4;

/// Snapshots in one message of a list.
const LIST_BATCH: usize = 100;

/// Largest message that is taken, in bytes: as containerd's own services do.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Everything that containerd and we ourselves may call, for the snapshots that `metrics` are of.
/// Layers come from and go to the containerd with the socket `containerd`. Needs a running tokio
/// with [`CALL_THREADS`] threads to spare.
#[must_use]
pub fn services(metrics: Arc<Metrics>, containerd: PathBuf) -> Routes {
    let snapshots = SnapshotsService {
        metrics: metrics.clone(),
        threads: Arc::new(Semaphore::new(CALL_THREADS)),
    };
    let health = health::service(metrics.containers().clone());
    let snapshots = SnapshotsServer::new(snapshots);
    let debug = DebugServer::new(DebugService::new(metrics.clone()));
    let differ = DiffServer::new(DiffService::new(metrics, containerd));
    Routes::default()
        .add_service(health)
        .add_service(debug)
        .add_service(snapshots.max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(differ.max_decoding_message_size(MESSAGE_BYTES_MAX))
}

/// Serves the snapshots.
#[derive(Clone, Debug)]
struct SnapshotsService {
    metrics: Arc<Metrics>,
    /// Of the runtime's threads, for [`SnapshotsService::start`].
    threads: Arc<Semaphore>,
}

impl SnapshotsService {
    /// Does a call's work on a thread that may block.
    async fn call<T: Send + 'static>(
        &self,
        method: &'static str,
        plugin: &str,
        work: impl FnOnce(&Plugin) -> Result<T> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let done = async {
            let plugin = self.metrics.containers().plugin(plugin);
            let plugin = plugin.map_err(status::of)?;
            let under_way = plugin.containers().begin(method.into());
            let work = move || {
                // Until the work is done, however long somebody waits for it.
                let _under_way = under_way;
                work(&plugin)
            };
            ended(CALL_TIMEOUT, self.start(work)).await
        };
        Ok(Response::new(self.metrics.call(method, done).await?))
    }

    /// Starts work that takes less than a millisecond, but for exceptions. On the thread that took
    /// the call in, as long as enough others are left: to wake another one, and to be woken by it,
    /// would take a third of the time of the whole call.
    fn start<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> JoinHandle<Result<T>> {
        match self.threads.clone().try_acquire_owned() {
            Ok(permit) => tokio::spawn(async move {
                let done = work();
                drop(permit);
                done
            }),
            Err(_) => tokio::task::spawn_blocking(work),
        }
    }
}

/// Runs `work` where it may block, and waits for so long.
async fn blocking<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T, Status> {
    ended(limit, tokio::task::spawn_blocking(work)).await
}

/// The outcome of a task, if it has one in time.
async fn ended<T>(limit: Duration, task: JoinHandle<Result<T>>) -> Result<T, Status> {
    match tokio::time::timeout(limit, task).await {
        Ok(Ok(done)) => done.map_err(status::of),
        Ok(Err(panicked)) => Err(Status::internal(format!("internal error: {panicked}"))),
        Err(_) => Err(Status::deadline_exceeded(format!(
            "the storage has not answered for {} s; it goes on, try again",
            limit.as_secs()
        ))),
    }
}

#[tonic::async_trait]
impl Service for SnapshotsService {
    async fn prepare(
        &self,
        request: Request<api::PrepareSnapshotRequest>,
    ) -> Result<Response<api::PrepareSnapshotResponse>, Status> {
        let request = request.into_inner();
        let plugin = request.snapshotter.clone();
        self.call("Prepare", &plugin, move |plugin| {
            let mounts = plugin.prepare(&request.key, &request.parent, request.labels)?;
            Ok(api::PrepareSnapshotResponse {
                mounts: wire::mounts(&mounts)?,
            })
        })
        .await
    }

    async fn view(
        &self,
        request: Request<api::ViewSnapshotRequest>,
    ) -> Result<Response<api::ViewSnapshotResponse>, Status> {
        let request = request.into_inner();
        let plugin = request.snapshotter.clone();
        self.call("View", &plugin, move |plugin| {
            let mounts = plugin.view(&request.key, &request.parent, request.labels)?;
            Ok(api::ViewSnapshotResponse {
                mounts: wire::mounts(&mounts)?,
            })
        })
        .await
    }

    async fn mounts(
        &self,
        request: Request<api::MountsRequest>,
    ) -> Result<Response<api::MountsResponse>, Status> {
        let request = request.into_inner();
        self.call("Mounts", &request.snapshotter, move |plugin| {
            Ok(api::MountsResponse {
                mounts: wire::mounts(&plugin.mounts(&request.key)?)?,
            })
        })
        .await
    }

    async fn commit(
        &self,
        request: Request<api::CommitSnapshotRequest>,
    ) -> Result<Response<()>, Status> {
        let request = request.into_inner();
        let plugin = request.snapshotter.clone();
        self.call("Commit", &plugin, move |plugin| {
            let (name, key) = (&request.name, &request.key);
            plugin.commit_on(name, key, &request.parent, request.labels)
        })
        .await
    }

    async fn remove(
        &self,
        request: Request<api::RemoveSnapshotRequest>,
    ) -> Result<Response<()>, Status> {
        let request = request.into_inner();
        self.call("Remove", &request.snapshotter, move |plugin| {
            plugin.remove(&request.key)
        })
        .await
    }

    async fn stat(
        &self,
        request: Request<api::StatSnapshotRequest>,
    ) -> Result<Response<api::StatSnapshotResponse>, Status> {
        let request = request.into_inner();
        let done = async {
            let plugin = self.metrics.containers().plugin(&request.snapshotter);
            // All of it is in memory.
            let info = plugin.and_then(|plugin| plugin.stat(&request.key));
            Ok(api::StatSnapshotResponse {
                info: Some(wire::info(info.map_err(status::of)?)),
            })
        };
        Ok(Response::new(self.metrics.call("Stat", done).await?))
    }

    async fn update(
        &self,
        request: Request<api::UpdateSnapshotRequest>,
    ) -> Result<Response<api::UpdateSnapshotResponse>, Status> {
        let request = request.into_inner();
        let info = request.info.unwrap_or_default();
        let paths = request.update_mask.unwrap_or_default().paths;
        self.call("Update", &request.snapshotter, move |plugin| {
            let info = plugin.update(&info.name, &info.labels, &paths)?;
            Ok(api::UpdateSnapshotResponse {
                info: Some(wire::info(info)),
            })
        })
        .await
    }

    type ListStream = ReceiverStream<Result<api::ListSnapshotsResponse, Status>>;

    async fn list(
        &self,
        request: Request<api::ListSnapshotsRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let request = request.into_inner();
        let found = self.call("List", &request.snapshotter, move |plugin| {
            let filters = Filters::parse(&request.filters)?;
            let mut found = Vec::new();
            plugin.walk(&mut |info| {
                if filters.matches(&info) {
                    found.push(wire::info(info));
                }
                Ok::<(), Error>(())
            })?;
            Ok(found)
        });
        let mut found = found.await?.into_inner();
        let (sender, receiver) = tokio::sync::mpsc::channel(2);
        tokio::spawn(async move {
            while !found.is_empty() {
                let rest = found.split_off(found.len().min(LIST_BATCH));
                let info = std::mem::replace(&mut found, rest);
                let batch = api::ListSnapshotsResponse { info };
                // Nobody listens any more.
                if sender.send(Ok(batch)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn usage(
        &self,
        request: Request<api::UsageRequest>,
    ) -> Result<Response<api::UsageResponse>, Status> {
        let request = request.into_inner();
        self.call("Usage", &request.snapshotter, move |plugin| {
            let usage = plugin.usage(&request.key)?;
            Ok(api::UsageResponse {
                size: i64::try_from(usage.bytes).unwrap_or(i64::MAX),
                inodes: i64::try_from(usage.inodes).unwrap_or(i64::MAX),
            })
        })
        .await
    }

    async fn cleanup(&self, request: Request<api::CleanupRequest>) -> Result<Response<()>, Status> {
        let plugin = request.into_inner().snapshotter;
        self.call("Cleanup", &plugin, |plugin| plugin.containers().clean_up())
            .await
    }
}
