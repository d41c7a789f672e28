//! The calls to containerd that a load needs, in one namespace and under one lease.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, SystemTime};

use containerd_client::services::v1 as api;
use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::diff_client::DiffClient;
use containerd_client::services::v1::images_client::ImagesClient;
use containerd_client::services::v1::leases_client::LeasesClient;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::services::v1::version_client::VersionClient;
use prost_types::FieldMask;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::Containerd;

/// The header that names the namespace of a call.
const NAMESPACE: &str = "containerd-namespace";

/// The header that names the lease to which belongs what a call makes.
const LEASE: &str = "containerd-lease";

/// The label by which a lease ends by itself.
const EXPIRES: &str = "containerd.io/gc.expire";

/// How long what was taken in is kept if the transfer breaks off.
const KEPT: Duration = Duration::from_secs(3_600);

/// Labels of containerd's objects.
pub(super) type Labels = HashMap<String, String>;

/// A connection.
#[derive(Clone, Debug)]
pub(super) struct Client {
    channel: Channel,
    namespace: MetadataValue<Ascii>,
    lease: Option<(String, MetadataValue<Ascii>)>,
    /// The name of the snapshotter that unpacks.
    pub(super) snapshotter: String,
}

impl Client {
    pub(super) async fn connect(to: &Containerd) -> io::Result<Self> {
        let channel = containerd_client::connect(&to.address)
            .await
            .map_err(io::Error::other)?;
        let namespace = to.namespace.parse().map_err(|_| {
            let name = &to.namespace;
            io::Error::other(format!("{name:?} cannot be the name of a namespace"))
        })?;
        Ok(Client {
            channel,
            namespace,
            lease: None,
            snapshotter: to.snapshotter.clone(),
        })
    }

    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let headers = request.metadata_mut();
        headers.insert(NAMESPACE, self.namespace.clone());
        if let Some((_, lease)) = &self.lease {
            headers.insert(LEASE, lease.clone());
        }
        request
    }

    pub(super) async fn version(&self) -> io::Result<()> {
        let mut client = VersionClient::new(self.channel.clone());
        client.version(self.request(())).await.map_err(told)?;
        Ok(())
    }

    /// From now on a lease keeps what is made.
    pub(super) async fn begin_lease(&mut self) -> io::Result<()> {
        let expires = prost_types::Timestamp::from(SystemTime::now() + KEPT).to_string();
        let request = self.request(api::CreateRequest {
            labels: [(EXPIRES.to_owned(), expires)].into(),
            ..Default::default()
        });
        let mut client = LeasesClient::new(self.channel.clone());
        let lease = client.create(request).await.map_err(told)?.into_inner();
        let id = lease.lease.map(|lease| lease.id).unwrap_or_default();
        let header = id.parse().map_err(io::Error::other)?;
        self.lease = Some((id, header));
        Ok(())
    }

    pub(super) async fn end_lease(&mut self) -> io::Result<()> {
        let Some((id, _)) = self.lease.take() else {
            return Ok(());
        };
        let request = self.request(api::DeleteRequest { id, sync: false });
        let mut client = LeasesClient::new(self.channel.clone());
        client.delete(request).await.map_err(told)?;
        Ok(())
    }

    pub(super) fn content(&self) -> ContentClient<Channel> {
        ContentClient::new(self.channel.clone())
    }

    pub(super) fn snapshots(&self) -> SnapshotsClient<Channel> {
        SnapshotsClient::new(self.channel.clone())
    }

    pub(super) fn differ(&self) -> DiffClient<Channel> {
        DiffClient::new(self.channel.clone())
    }

    /// Adds labels to content, by which one document keeps others alive.
    pub(super) async fn label(&self, digest: &str, labels: Labels) -> io::Result<()> {
        let paths = labels.keys().map(|key| format!("labels.{key}")).collect();
        let request = self.request(api::UpdateRequest {
            info: Some(api::Info {
                digest: digest.to_owned(),
                labels,
                ..Default::default()
            }),
            update_mask: Some(FieldMask { paths }),
        });
        self.content().update(request).await.map_err(told)?;
        Ok(())
    }

    /// Gives an image a name, which another one may have had.
    pub(super) async fn name(
        &self,
        name: &str,
        target: containerd_client::types::Descriptor,
    ) -> io::Result<()> {
        let image = Some(api::Image {
            name: name.to_owned(),
            target: Some(target),
            ..Default::default()
        });
        let mut client = ImagesClient::new(self.channel.clone());
        let create = self.request(api::CreateImageRequest {
            image: image.clone(),
            ..Default::default()
        });
        match client.create(create).await {
            Err(status) if status.code() == tonic::Code::AlreadyExists => {}
            created => return created.map(drop).map_err(told),
        }
        let update = self.request(api::UpdateImageRequest {
            image,
            update_mask: Some(FieldMask {
                paths: vec!["target".to_owned()],
            }),
            ..Default::default()
        });
        client.update(update).await.map(drop).map_err(told)
    }
}

/// What containerd says, as an error of a transfer.
pub(super) fn told(status: Status) -> io::Error {
    io::Error::other(status.message().to_owned())
}
