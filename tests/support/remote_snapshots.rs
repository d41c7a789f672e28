//! A client of the snapshots service, as the contract's own trait: what passes in process must
//! pass over a socket.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use mount::Mount;
use proto::containerd::services::snapshots::v1 as api;
use proto::containerd::services::snapshots::v1::snapshots_client::SnapshotsClient;
use proto::containerd::types;
use snapshotter::{Error, Info, Kind, Labels, Result, Snapshots};
use store::{Timestamp, Usage};
use tokio::runtime::Runtime;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

/// No call may take longer: containerd's locks wait for it.
const CALL_LIMIT: Duration = Duration::from_secs(20);

/// A connection whose calls take no longer, and the thread that serves it.
pub(crate) fn connect(socket: &Path, call_limit: Duration) -> (Runtime, Channel) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let endpoint = Endpoint::try_from(format!("unix://{}", socket.display()));
    let endpoint = endpoint.expect("the path of a socket").timeout(call_limit);
    let channel = runtime.block_on(endpoint.connect());
    let channel = channel.expect("the socket can be connected to");
    (runtime, channel)
}

/// What containerd reads beside a request.
#[derive(Clone, Debug, Default)]
struct Headers(Vec<(&'static str, MetadataValue<Ascii>)>);

impl Interceptor for Headers {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        for (name, value) in &self.0 {
            request.metadata_mut().insert(*name, value.clone());
        }
        Ok(request)
    }
}

type Client = SnapshotsClient<InterceptedService<Channel, Headers>>;

/// Snapshots at the other end of a socket.
#[derive(Debug)]
pub struct RemoteSnapshots {
    runtime: Runtime,
    client: Mutex<Client>,
    plugin: String,
}

impl RemoteSnapshots {
    /// Those that the plugin `plugin` has on this socket.
    ///
    /// # Panics
    /// Nobody listens.
    #[must_use]
    pub fn connect(socket: &Path, plugin: &str) -> Self {
        RemoteSnapshots::connect_with(socket, plugin, Headers::default())
    }

    /// Those that containerd itself, with this socket, has of the plugin in a namespace. What is
    /// made there belongs to the lease, so that it is not collected.
    ///
    /// # Panics
    /// Nobody listens.
    #[must_use]
    pub fn connect_to_containerd(
        socket: &Path,
        plugin: &str,
        namespace: &str,
        lease: &str,
    ) -> Self {
        let value = |text: &str| text.parse().expect("a name that fits into a header");
        let headers = vec![
            ("containerd-namespace", value(namespace)),
            ("containerd-lease", value(lease)),
        ];
        RemoteSnapshots::connect_with(socket, plugin, Headers(headers))
    }

    fn connect_with(socket: &Path, plugin: &str, headers: Headers) -> Self {
        let (runtime, channel) = connect(socket, CALL_LIMIT);
        RemoteSnapshots {
            runtime,
            client: Mutex::new(SnapshotsClient::with_interceptor(channel, headers)),
            plugin: plugin.into(),
        }
    }

    fn client(&self) -> Client {
        self.client.lock().expect("no test has panicked").clone()
    }

    /// Waits for a call; its message is that of the error.
    fn call<T>(&self, call: impl Future<Output = Result<T, Status>>) -> Result<T> {
        let limited = async { tokio::time::timeout(CALL_LIMIT, call).await };
        let done = self.runtime.block_on(limited);
        done.expect("a call ends in time").map_err(error)
    }

    /// Whether an error says that the other side is gone, so that nobody knows what it did.
    #[must_use]
    pub fn is_lost(error: &Error) -> bool {
        matches!(error, Error::Unsupported { .. })
    }

    /// The snapshots that filters of containerd's language let through.
    ///
    /// # Errors
    /// Those of the other side.
    pub fn list(&self, filters: &[&str]) -> Result<Vec<Info>> {
        let mut client = self.client();
        let request = api::ListSnapshotsRequest {
            snapshotter: self.plugin.clone(),
            filters: filters.iter().map(|filter| (*filter).to_owned()).collect(),
        };
        self.call(async move {
            let mut stream = client.list(request).await?.into_inner();
            let mut found = Vec::new();
            while let Some(batch) = stream.message().await? {
                found.extend(batch.info.into_iter().map(info));
            }
            Ok(found)
        })
    }

    /// As [`Snapshots::commit`], below a parent that it did not have.
    ///
    /// # Errors
    /// Those of the other side.
    pub fn commit_on(&self, name: &str, key: &str, parent: &str, labels: Labels) -> Result<()> {
        let mut client = self.client();
        let request = api::CommitSnapshotRequest {
            snapshotter: self.plugin.clone(),
            name: name.into(),
            key: key.into(),
            labels,
            parent: parent.into(),
        };
        self.call(async move { client.commit(request).await.map(drop) })
    }

    /// Changes labels by a field mask; the row as it is then.
    ///
    /// # Errors
    /// Those of the other side.
    pub fn update(&self, changed: Info, paths: &[&str]) -> Result<Info> {
        let mut client = self.client();
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        let request = api::UpdateSnapshotRequest {
            snapshotter: self.plugin.clone(),
            info: Some(api::Info {
                name: changed.key,
                parent: changed.parent,
                labels: changed.labels,
                ..api::Info::default()
            }),
            update_mask: Some(prost_types::FieldMask { paths }),
        };
        self.call(async move {
            let answer = client.update(request).await?.into_inner();
            Ok(info(answer.info.unwrap_or_default()))
        })
    }

    /// Asks for the space of what was removed.
    ///
    /// # Errors
    /// Those of the other side.
    pub fn clean_up(&self) -> Result<()> {
        let mut client = self.client();
        let request = api::CleanupRequest {
            snapshotter: self.plugin.clone(),
        };
        self.call(async move { client.cleanup(request).await.map(drop) })
    }
}

impl Snapshots for RemoteSnapshots {
    fn prepare(&self, key: &str, parent: &str, labels: Labels) -> Result<Vec<Mount>> {
        let mut client = self.client();
        let request = api::PrepareSnapshotRequest {
            snapshotter: self.plugin.clone(),
            key: key.into(),
            parent: parent.into(),
            labels,
        };
        self.call(async move { Ok(mounts(client.prepare(request).await?.into_inner().mounts)) })
    }

    fn view(&self, key: &str, parent: &str, labels: Labels) -> Result<Vec<Mount>> {
        let mut client = self.client();
        let request = api::ViewSnapshotRequest {
            snapshotter: self.plugin.clone(),
            key: key.into(),
            parent: parent.into(),
            labels,
        };
        self.call(async move { Ok(mounts(client.view(request).await?.into_inner().mounts)) })
    }

    fn mounts(&self, key: &str) -> Result<Vec<Mount>> {
        let mut client = self.client();
        let request = api::MountsRequest {
            snapshotter: self.plugin.clone(),
            key: key.into(),
        };
        self.call(async move { Ok(mounts(client.mounts(request).await?.into_inner().mounts)) })
    }

    fn commit(&self, name: &str, key: &str, labels: Labels) -> Result<()> {
        self.commit_on(name, key, "", labels)
    }

    fn remove(&self, key: &str) -> Result<()> {
        let mut client = self.client();
        let request = api::RemoveSnapshotRequest {
            snapshotter: self.plugin.clone(),
            key: key.into(),
        };
        self.call(async move { client.remove(request).await.map(drop) })
    }

    fn stat(&self, key: &str) -> Result<Info> {
        let mut client = self.client();
        let request = api::StatSnapshotRequest {
            snapshotter: self.plugin.clone(),
            key: key.into(),
        };
        self.call(async move {
            let answer = client.stat(request).await?.into_inner();
            Ok(info(answer.info.unwrap_or_default()))
        })
    }

    fn walk(&self, visit: &mut dyn FnMut(Info) -> Result<()>) -> Result<()> {
        self.list(&[])?.into_iter().try_for_each(visit)
    }

    fn usage(&self, key: &str) -> Result<Usage> {
        let mut client = self.client();
        let request = api::UsageRequest {
            snapshotter: self.plugin.clone(),
            key: key.into(),
        };
        self.call(async move {
            let usage = client.usage(request).await?.into_inner();
            Ok(Usage {
                bytes: usage.size.unsigned_abs(),
                inodes: usage.inodes.unsigned_abs(),
            })
        })
    }
}

fn mounts(mounts: Vec<types::Mount>) -> Vec<Mount> {
    let mount = |mount: types::Mount| Mount {
        kind: mount.r#type.parse().expect("a plain type of mount"),
        source: mount.source.into(),
        target: Some(mount.target)
            .filter(|target| !target.is_empty())
            .map(Into::into),
        options: mount.options,
    };
    mounts.into_iter().map(mount).collect()
}

fn info(info: api::Info) -> Info {
    let time = |time: Option<prost_types::Timestamp>| {
        let time = time.expect("every snapshot has its times");
        Timestamp {
            seconds: time.seconds,
            nanoseconds: time.nanos.unsigned_abs(),
        }
    };
    Info {
        kind: match info.kind() {
            api::Kind::View => Kind::View,
            api::Kind::Active => Kind::Active,
            api::Kind::Committed => Kind::Committed,
            api::Kind::Unknown => panic!("a snapshot of no kind: {info:?}"),
        },
        key: info.name,
        parent: info.parent,
        created: time(info.created_at),
        updated: time(info.updated_at),
        labels: info.labels,
    }
}

/// The error that the code stands for; whom it is about is quoted in the message, or else somewhere
/// in it.
pub(crate) fn error(status: Status) -> Error {
    let message = status.message().to_owned();
    let key = message.split('"').nth(1).unwrap_or(&message).to_owned();
    match status.code() {
        Code::NotFound => Error::NotFound { key },
        Code::AlreadyExists => Error::AlreadyExists { key },
        Code::InvalidArgument => Error::InvalidArgument { reason: message },
        Code::FailedPrecondition => Error::FailedPrecondition {
            operation: "call",
            key,
            reason: message,
        },
        _ => Error::Unsupported {
            what: format!("{:?}: {message}", status.code()),
        },
    }
}
