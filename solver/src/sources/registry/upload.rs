//! Images on their way to registries: blobs first, several at once, then the manifests that name
//! them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use engine::CancelToken;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use registry::{
    BlobBody, BodyReader, Client, FileBody, ManifestReference, Pushed, Repository, UploadOptions,
};
use store::{Batch, BlobId, Durability, Store};
use tokio::io::{AsyncRead, ReadBuf};

use super::{Remote, remote, split};
use crate::content::Digest;
use crate::error::{Error, Result};
use crate::exporters::damage;
use crate::images::document::Descriptor;
use crate::images::origins;
use crate::progress::Reporter;

/// Blobs that are pushed at the same time, as docker does.
const PARALLEL: usize = 5;

/// Bytes between two reports of progress.
const REPORTED_BYTES: u64 = 1 << 20;

/// An image to be pushed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cargo {
    /// Layers and configs.
    pub(crate) blobs: Vec<(Descriptor, Payload)>,
    /// Manifests and indexes, each after those that it refers to; the last one is the image.
    pub(crate) documents: Vec<(Descriptor, Bytes)>,
}

/// Where the bytes of a blob are.
#[derive(Clone, Debug)]
pub(crate) enum Payload {
    /// In an object of the store.
    Object(BlobId),
    /// In memory.
    Memory(Bytes),
}

impl Cargo {
    /// Adds a blob, once.
    pub(crate) fn add_blob(&mut self, descriptor: &Descriptor, payload: Payload) {
        let mut known = self.blobs.iter();
        if !known.any(|(known, _)| known.digest == descriptor.digest) {
            self.blobs.push((descriptor.clone(), payload));
        }
    }

    /// What it is as a whole.
    fn target(&self) -> Option<&(Descriptor, Bytes)> {
        self.documents.last()
    }
}

/// A repository with the names that an image gets there.
struct Destination {
    repository: Repository,
    references: Vec<ManifestReference>,
}

impl Remote {
    /// Pushes an image to all names, or, `by_digest`, to their repositories under its digest alone.
    /// What a repository has is not sent.
    ///
    /// # Errors
    /// [`Error::Registry`]; [`Error::BadImage`] for a name that nothing can be pushed to;
    /// [`Error::Cancelled`]. A name stands for the image only if all of it is there.
    pub(crate) fn push(
        &self,
        cargo: &Cargo,
        names: &[String],
        by_digest: bool,
        store: &Store,
        (reporter, cancel): (&Reporter, &CancelToken),
    ) -> Result<()> {
        let Some((target, _)) = cargo.target() else {
            return Ok(());
        };
        for mut destination in destinations(names)? {
            if by_digest {
                let digest = remote(target.digest)?;
                destination.references = vec![ManifestReference::Digest(digest)];
            }
            let _told = self.retries.tell(&destination.repository, reporter);
            let upload = Upload {
                client: &self.client,
                store,
                cargo,
                destination: &destination,
                reporter,
            };
            let pushed = super::unless(cancel, upload.run());
            let pushed = self.runtime.block_on(pushed);
            pushed.unwrap_or(Err(Error::Cancelled))?;
            note_origins(store, cargo, &destination.repository)?;
        }
        Ok(())
    }
}

/// The repositories of names, each once.
fn destinations(names: &[String]) -> Result<Vec<Destination>> {
    let mut destinations: Vec<Destination> = Vec::new();
    for name in names {
        let (repository, reference) = split(name)?;
        if let ManifestReference::Digest(_) = reference {
            let reason = "an image is pushed to a name with a tag, not to a digest";
            return Err(Error::bad_image(name, reason));
        }
        let mut known = destinations.iter_mut();
        match known.find(|known| known.repository == repository) {
            Some(known) if known.references.contains(&reference) => {}
            Some(known) => known.references.push(reference),
            None => destinations.push(Destination {
                repository,
                references: vec![reference],
            }),
        }
    }
    Ok(destinations)
}

/// Remembers what a repository has, so that another one there can have it mounted.
fn note_origins(store: &Store, cargo: &Cargo, repository: &Repository) -> Result<()> {
    let mut batch = Batch::new();
    for (blob, _) in &cargo.blobs {
        origins::note(store, &mut batch, blob.digest, &repository.to_string())?;
    }
    if !batch.is_empty() {
        // Nothing to flush: losing it costs an upload.
        store.write(batch, Durability::Process)?;
    }
    Ok(())
}

/// One image on its way to one repository.
struct Upload<'u> {
    client: &'u Client,
    store: &'u Store,
    cargo: &'u Cargo,
    destination: &'u Destination,
    reporter: &'u Reporter,
}

impl Upload<'_> {
    async fn run(&self) -> Result<()> {
        let blobs = stream::iter(&self.cargo.blobs);
        let pushes = blobs.map(|(blob, payload)| self.blob(blob, payload));
        let pushed = pushes.buffer_unordered(PARALLEL).try_collect::<()>();
        pushed.await?;
        let Some(((target, bytes), below)) = self.cargo.documents.split_last() else {
            return Ok(());
        };
        for (descriptor, bytes) in below {
            let reference = ManifestReference::Digest(remote(descriptor.digest)?);
            self.manifest(descriptor, bytes, &reference).await?;
        }
        for reference in &self.destination.references {
            self.manifest(target, bytes, reference).await?;
        }
        Ok(())
    }

    async fn blob(&self, blob: &Descriptor, payload: &Payload) -> Result<()> {
        let repository = &self.destination.repository;
        let digest = remote(blob.digest)?;
        let mount_from = self.neighbour(blob.digest)?;
        let body = Counted {
            inner: match payload {
                Payload::Object(id) => {
                    Box::new(FileBody::new(self.store.objects().path(*id), blob.size))
                }
                Payload::Memory(bytes) => Box::new(bytes.clone()),
            },
            id: format!("pushing {digest}"),
            reporter: self.reporter.clone(),
        };
        let options = UploadOptions {
            mount_from: mount_from.clone(),
            chunk_bytes: None,
        };
        let pushed = self.client.push_blob(repository, &digest, &body, &options);
        let pushed = pushed.await.map_err(|error| self.explain(error, payload));
        let id = match pushed? {
            Pushed::Existed => format!("{digest} already exists"),
            Pushed::Mounted => format!("{digest} mounted from {}", mount_from.unwrap_or_default()),
            Pushed::Uploaded => {
                self.reporter
                    .status(body.id.as_str(), blob.size, Some(blob.size), true);
                return Ok(());
            }
        };
        self.reporter.status(id, blob.size, None, true);
        Ok(())
    }

    /// A registry refuses what has other bytes than its digest says; then it is told whose fault
    /// that is.
    fn explain(&self, refused: registry::Error, payload: &Payload) -> Error {
        match payload {
            Payload::Object(id) => damage::blame(self.store, *id, refused.into()),
            Payload::Memory(_) => refused.into(),
        }
    }

    /// Another repository of the same registry that has the blob.
    fn neighbour(&self, digest: Digest) -> Result<Option<String>> {
        let own = &self.destination.repository;
        let known = origins::of(self.store, digest)?;
        let names = known.iter().filter_map(|origin| {
            let (host, name) = origin.split_once('/')?;
            (host == own.host() && name != own.name()).then(|| name.to_owned())
        });
        Ok(names.into_iter().next())
    }

    async fn manifest(
        &self,
        descriptor: &Descriptor,
        bytes: &Bytes,
        reference: &ManifestReference,
    ) -> Result<()> {
        let repository = &self.destination.repository;
        let media_type = &descriptor.media_type;
        self.client
            .push_manifest(repository, reference, media_type, bytes.clone())
            .await?;
        let digest = descriptor.digest;
        let id = match reference {
            ManifestReference::Tag(tag) => {
                format!(
                    "pushing manifest for {repository}:{}@{digest}",
                    tag.as_str()
                )
            }
            ManifestReference::Digest(_) => {
                format!("pushing manifest for {repository}@{digest}")
            }
        };
        self.reporter.status(id, descriptor.size, None, true);
        Ok(())
    }
}

/// A body that tells how much of it was read.
struct Counted {
    inner: Box<dyn BlobBody>,
    id: String,
    reporter: Reporter,
}

impl BlobBody for Counted {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn open(&self, offset: u64) -> BoxFuture<'_, io::Result<BodyReader>> {
        async move {
            let reader = self.inner.open(offset).await?;
            let counting = Counting {
                reader,
                read: offset,
                reported: offset,
                size: self.size(),
                id: self.id.clone(),
                reporter: self.reporter.clone(),
            };
            Ok(Box::new(counting) as BodyReader)
        }
        .boxed()
    }
}

/// One pass over a [`Counted`].
struct Counting {
    reader: BodyReader,
    read: u64,
    reported: u64,
    size: u64,
    id: String,
    reporter: Reporter,
}

impl AsyncRead for Counting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.reader).poll_read(context, buffer);
        self.read += (buffer.filled().len() - before) as u64;
        if self.read >= self.reported + REPORTED_BYTES {
            self.reported = self.read;
            let id = self.id.as_str();
            self.reporter.status(id, self.read, Some(self.size), false);
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_repository_are_pushed_together_and_digests_are_refused() {
        let name = |text: &str| text.to_owned();
        let names = [
            name("h:1/a:x"),
            name("h:1/b:x"),
            name("h:1/a:y"),
            name("h:1/a:x"),
        ];
        let found = destinations(&names).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|one| (one.repository.to_string(), one.references.len()))
            .collect();
        assert_eq!(found, [(name("h:1/a"), 2), (name("h:1/b"), 1)]);
        let digest = format!("h:1/a@sha256:{}", "0".repeat(64));
        assert!(destinations(&[digest]).is_err());
    }
}
