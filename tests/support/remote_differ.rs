//! A client of the differ, whose layers lie in a containerd's content store.

use std::path::Path;
use std::sync::Mutex;

use mount::Mount;
use proto::containerd::services::diff::v1::ApplyRequest;
use proto::containerd::services::diff::v1::diff_client::DiffClient;
use proto::containerd::types::{self, Descriptor};
use snapshotter::Result;
use tokio::runtime::Runtime;
use tonic::Request;
use tonic::transport::Channel;

use crate::remote_snapshots::{self, error};

/// A layer tar in the content store.
#[derive(Clone, Debug)]
pub struct StoredLayer {
    /// Digest of the tar.
    pub digest: String,
    /// Its length in bytes.
    pub size: u64,
}

/// The differ at the other end of a socket.
#[derive(Debug)]
pub struct RemoteDiffer {
    runtime: Runtime,
    client: Mutex<DiffClient<Channel>>,
    namespace: String,
}

impl RemoteDiffer {
    /// That of the daemon on this socket, for layers of this namespace.
    ///
    /// # Panics
    /// Nobody listens.
    #[must_use]
    pub fn connect(socket: &Path, namespace: &str) -> Self {
        let (runtime, channel) = remote_snapshots::connect(socket);
        RemoteDiffer {
            runtime,
            client: Mutex::new(DiffClient::new(channel)),
            namespace: namespace.into(),
        }
    }

    /// Unpacks a layer into the snapshot of these mounts.
    ///
    /// # Errors
    /// Those of the other side, see [`remote_snapshots::RemoteSnapshots::is_lost`].
    ///
    /// # Panics
    /// A test has panicked meanwhile.
    pub fn apply(&self, mounts: &[Mount], layer: &StoredLayer) -> Result<()> {
        let mut request = Request::new(ApplyRequest {
            diff: Some(Descriptor {
                media_type: "application/vnd.oci.image.layer.v1.tar".into(),
                digest: layer.digest.clone(),
                size: layer.size.cast_signed(),
                ..Descriptor::default()
            }),
            mounts: mounts.iter().map(sent).collect(),
            ..ApplyRequest::default()
        });
        let namespace = self.namespace.parse().expect("the name of a namespace");
        let metadata = request.metadata_mut();
        metadata.insert("containerd-namespace", namespace);
        let mut client = self.client.lock().expect("no test has panicked").clone();
        let applied = self.runtime.block_on(client.apply(request));
        applied.map(drop).map_err(error)
    }
}

fn sent(mount: &Mount) -> types::Mount {
    let target = mount.target.as_deref().unwrap_or(Path::new(""));
    types::Mount {
        r#type: mount.kind.to_string(),
        source: mount.source.display().to_string(),
        target: target.display().to_string(),
        options: mount.options.clone(),
    }
}
