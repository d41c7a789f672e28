//! A client of the differ, and of what the daemon says it is doing.

use std::path::Path;
use std::time::Duration;

use mount::Mount;
use proto::containerd::services::diff::v1 as api;
use proto::containerd::services::diff::v1::diff_client::DiffClient;
use proto::containerd::types;
use proto::varve::debug::v1::DumpRequest;
use proto::varve::debug::v1::debug_client::DebugClient;
use snapshotter::Error;
use tokio::runtime::Runtime;
use tonic::Request;
use tonic::transport::Channel;

use crate::containerd::Containerd;
use crate::leftovers::eventually;
use crate::remote_snapshots::{connect, error};
use crate::workspace::run_with_input;

/// No call of a test takes so long.
const LIMIT: Duration = Duration::from_secs(60);

/// A layer in a containerd's content store.
#[derive(Clone, Debug)]
pub struct Layer {
    digest: String,
    size: i64,
}

impl Layer {
    /// Stores an uncompressed layer where no collection takes it.
    ///
    /// # Panics
    /// It cannot be stored.
    #[must_use]
    pub fn ingest(containerd: &Containerd, tar: &[u8]) -> Self {
        let digest = crate::layout::digest_of(tar);
        let mut last = None;
        // A collection that comes in between takes what is not labelled yet.
        let stored = eventually(LIMIT, || {
            let words = ["content", "ingest", "layer"];
            let mut ingest = containerd.ctr_command(containerd.namespace(), words);
            run_with_input(&mut ingest, tar);
            let label = [
                "content",
                "label",
                &digest,
                "containerd.io/gc.root=of-a-test",
            ];
            let labelled = containerd.ctr(label);
            let is_stored = labelled.code == 0;
            last = Some(labelled);
            is_stored
        });
        assert!(stored, "{last:?}");
        Layer {
            digest,
            size: i64::try_from(tar.len()).expect("a small layer"),
        }
    }
}

/// The differ at the other end of a socket.
#[derive(Debug)]
pub struct RemoteDiffer {
    runtime: Runtime,
    channel: Channel,
    namespace: String,
}

impl RemoteDiffer {
    /// The one on this socket, for layers of a namespace of containerd.
    ///
    /// # Panics
    /// Nobody listens.
    #[must_use]
    pub fn connect(socket: &Path, namespace: &str) -> Self {
        let (runtime, channel) = connect(socket, LIMIT);
        RemoteDiffer {
            runtime,
            channel,
            namespace: namespace.to_owned(),
        }
    }

    /// Unpacks a layer into the snapshot of the mounts.
    ///
    /// # Errors
    /// Those of the other side.
    pub fn apply(&self, layer: &Layer, mounts: &[Mount]) -> Result<(), Error> {
        let mount = |mount: &Mount| types::Mount {
            r#type: mount.kind.as_str().into(),
            source: mount.source.display().to_string(),
            target: String::new(),
            options: mount.options.clone(),
        };
        let mut request = Request::new(api::ApplyRequest {
            diff: Some(types::Descriptor {
                media_type: "application/vnd.oci.image.layer.v1.tar".into(),
                digest: layer.digest.clone(),
                size: layer.size,
                ..types::Descriptor::default()
            }),
            mounts: mounts.iter().map(mount).collect(),
            ..api::ApplyRequest::default()
        });
        let namespace = self
            .namespace
            .parse()
            .expect("a name that fits into a header");
        let metadata = request.metadata_mut();
        metadata.insert("containerd-namespace", namespace);
        let mut client = DiffClient::new(self.channel.clone());
        let applied = self.runtime.block_on(client.apply(request));
        applied.map(drop).map_err(error)
    }

    /// What the daemon is doing at this moment.
    ///
    /// # Panics
    /// It does not say.
    #[must_use]
    pub fn under_way(&self) -> Vec<String> {
        let mut client = DebugClient::new(self.channel.clone());
        let dump = self.runtime.block_on(client.dump(DumpRequest {}));
        let work = dump.expect("a dump").into_inner().under_way;
        work.into_iter().map(|work| work.what).collect()
    }
}
