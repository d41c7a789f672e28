//! Images of registries as sources: manifests as they are, layers as one stream from the network
//! into the store.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};

use registry::{BlobStream, Client, ManifestReference, Repository};
use store::{Batch, BlobId, Ingest};
use tokio::runtime::Handle;

use crate::content::{ContentStore, Digest};
use crate::error::{Error, Result};
use crate::images::document::{self, Descriptor, Index, Manifest, Platform};
use crate::progress::{Progress, Step};
use crate::sources::layout::Copied;

/// Layers that are fetched at the same time, as docker and containerd do.
const PARALLEL: usize = 3;

/// Bytes between two reports of progress.
const REPORTED_BYTES: u64 = 1 << 20;

/// Largest config of an image, in bytes.
const CONFIG_BYTES_MAX: u64 = 8 << 20;

/// Brings images from registries.
#[derive(Clone, Debug)]
pub struct Puller {
    client: Client,
    runtime: Handle,
}

impl Puller {
    /// One that asks by `client`, on the threads of `runtime`.
    pub fn new(client: Client, runtime: Handle) -> Self {
        Puller { client, runtime }
    }

    /// Brings an image for one platform into the store: the index, if there is one, the manifest,
    /// the config and the layers. `name` is a full reference. It waits, so it must not be called
    /// on an asynchronous thread.
    ///
    /// # Errors
    /// [`Error::Registry`], which names registry, repository and reference; [`Error::BadImage`].
    pub fn pull(
        &self,
        name: &str,
        platform: &Platform,
        content: &ContentStore,
        ingest: &Ingest<'_>,
        batch: &mut Batch,
        progress: &Progress,
    ) -> Result<Copied> {
        let (repository, reference) = split(name)?;
        let pull = Pull {
            client: &self.client,
            runtime: &self.runtime,
            name,
            repository,
            content,
            ingest,
        };
        let step = progress.step(format!("[internal] load metadata for {name}"));
        let found = step.end(pull.manifests(reference, platform, batch))?;
        let Found {
            target,
            manifest,
            mut blobs,
        } = found;
        let step = progress.step(format!("pull {name}"));
        let fetched = pull.layers(&manifest.layers, &step, batch);
        blobs.extend(step.end(fetched)?);
        Ok(Copied {
            names: vec![name.to_owned()],
            target,
            blobs,
        })
    }
}

/// One image on its way.
struct Pull<'p> {
    client: &'p Client,
    runtime: &'p Handle,
    name: &'p str,
    repository: Repository,
    content: &'p ContentStore,
    ingest: &'p Ingest<'p>,
}

/// An image without its layers.
struct Found {
    target: Descriptor,
    manifest: Manifest,
    blobs: Vec<BlobId>,
}

impl Pull<'_> {
    /// Fetches what leads to the manifest of the platform, the manifest and its config.
    fn manifests(
        &self,
        reference: ManifestReference,
        platform: &Platform,
        batch: &mut Batch,
    ) -> Result<Found> {
        let (mut reference, mut target, mut blobs) = (reference, None, Vec::new());
        for _ in 0..=document::INDEX_DEPTH_MAX {
            let fetched = self.client.manifest(&self.repository, &reference);
            let fetched = self.runtime.block_on(fetched)?;
            let (digest, located) = self.content.put(self.ingest, batch, &fetched.bytes)?;
            blobs.push(located.blob);
            let media_type = fetched.media_type.as_str();
            target.get_or_insert_with(|| Descriptor::new(media_type, digest, located.size));
            if !document::is_index(&fetched.bytes) {
                let manifest: Manifest = document::parse(self.name, &fetched.bytes)?;
                blobs.push(self.config(&manifest, platform, batch)?);
                let target = target.expect("the first manifest was noted");
                return Ok(Found {
                    target,
                    manifest,
                    blobs,
                });
            }
            let index: Index = document::parse(self.name, &fetched.bytes)?;
            let chosen = index
                .choose(platform)
                .ok_or_else(|| no_match(self.name, platform, &index.platforms().join(", ")))?;
            reference = ManifestReference::Digest(remote(chosen.digest)?);
        }
        Err(Error::bad_image(
            self.name,
            "its indexes are nested too deeply",
        ))
    }

    fn config(
        &self,
        manifest: &Manifest,
        platform: &Platform,
        batch: &mut Batch,
    ) -> Result<BlobId> {
        let Descriptor { digest, size, .. } = manifest.config;
        let digest = remote(digest)?;
        let bytes = self
            .client
            .blob_bytes(&self.repository, &digest, Some(size), CONFIG_BYTES_MAX);
        let bytes = self.runtime.block_on(bytes)?;
        let config = document::check(self.name, manifest, &bytes)?;
        let there = Platform {
            architecture: config.architecture,
            os: config.os,
            variant: config.variant,
        };
        // Old images do not say what they are for.
        let says = !there.architecture.is_empty() && !there.os.is_empty();
        if says && (&there.architecture, &there.os) != (&platform.architecture, &platform.os) {
            return Err(no_match(self.name, platform, &there.to_string()));
        }
        Ok(self.content.put(self.ingest, batch, &bytes)?.1.blob)
    }

    /// Fetches layers, some at a time; those that are here already are not asked for.
    fn layers(&self, layers: &[Descriptor], step: &Step, batch: &mut Batch) -> Result<Vec<BlobId>> {
        let mut waiting: VecDeque<&Descriptor> = VecDeque::new();
        for layer in layers {
            if !waiting.iter().any(|other| other.digest == layer.digest) {
                waiting.push_back(layer);
            }
        }
        let waiting = Mutex::new(waiting);
        let next = || {
            waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front()
        };
        let work = || -> Result<(Batch, Vec<BlobId>)> {
            let (mut batch, mut blobs) = (Batch::new(), Vec::new());
            while let Some(layer) = next() {
                let fetched = self.layer(layer, step, &mut batch);
                if fetched.is_err() {
                    // Nobody needs the others any more.
                    waiting
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .clear();
                }
                blobs.push(fetched?);
            }
            Ok((batch, blobs))
        };
        let done: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..PARALLEL).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|thread| thread.join()).collect()
        });
        let mut blobs = Vec::new();
        for done in done {
            let (part, fetched) = done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            batch.append(part);
            blobs.extend(fetched);
        }
        Ok(blobs)
    }

    fn layer(&self, layer: &Descriptor, step: &Step, batch: &mut Batch) -> Result<BlobId> {
        let (digest, size) = (layer.digest, layer.size);
        let id = digest.to_string();
        if let Some(located) = self.content.find(digest)? {
            step.status(id, size, Some(size), true);
            return Ok(located.blob);
        }
        let remote = remote(digest)?;
        let stream = self.client.blob(&self.repository, &remote, Some(size));
        let mut body = Body {
            runtime: self.runtime,
            stream: self.runtime.block_on(stream)?,
            rest: bytes::Bytes::new(),
            failed: None,
            read: 0,
            reported: 0,
            report: |read| step.status(id.clone(), read, Some(size), read == size),
            progress: step.progress(),
        };
        let what = format!("{digest} of {}", self.name);
        let stored =
            self.content
                .put_stream(self.ingest, batch, &what, digest, Some(size), &mut body);
        match body.failed {
            // What the registry did, without "read" around it.
            Some(error) => Err(error.into()),
            None => Ok(stored?.blob),
        }
    }
}

/// A blob's bytes for a thread that may wait.
struct Body<'p, R> {
    runtime: &'p Handle,
    stream: BlobStream,
    rest: bytes::Bytes,
    /// Why the bytes ended early.
    failed: Option<registry::Error>,
    read: u64,
    reported: u64,
    report: R,
    progress: &'p Progress,
}

impl<R: Fn(u64)> Read for Body<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.runtime.block_on(self.stream.chunk()) {
                Ok(Some(bytes)) => {
                    self.progress.count_downloaded(bytes.len() as u64);
                    self.rest = bytes;
                }
                Ok(None) => {
                    (self.report)(self.read);
                    return Ok(0);
                }
                Err(error) => {
                    let text = error.to_string();
                    self.failed = Some(error);
                    return Err(io::Error::other(text));
                }
            }
        }
        let length = self.rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.rest.split_to(length));
        self.read += length as u64;
        if self.read >= self.reported + REPORTED_BYTES {
            self.reported = self.read;
            (self.report)(self.read);
        }
        Ok(length)
    }
}

/// The parts of a full reference: `docker.io/library/busybox:1.36`, or with `@sha256:…`.
fn split(name: &str) -> Result<(Repository, ManifestReference)> {
    let bad = || Error::bad_image(name, "it is no full reference");
    let (path, reference) = match name.split_once('@') {
        Some((path, digest)) => {
            let digest = digest.parse().map_err(Error::Registry)?;
            (path, ManifestReference::Digest(digest))
        }
        None => {
            let (path, tag) = name.rsplit_once(':').ok_or_else(bad)?;
            let tag = tag.parse().map_err(Error::Registry)?;
            (path, ManifestReference::Tag(tag))
        }
    };
    let (host, repository) = path.split_once('/').ok_or_else(bad)?;
    // A tag beside a digest says nothing.
    let repository = match &reference {
        ManifestReference::Digest(_) => repository.split(':').next().unwrap_or(repository),
        ManifestReference::Tag(_) => repository,
    };
    Ok((Repository::new(host, repository)?, reference))
}

/// An image is there, but not for this platform.
fn no_match(name: &str, platform: &Platform, there: &str) -> Error {
    Error::bad_image(
        name,
        format!("no match for platform {platform} (has: {there})"),
    )
}

/// The digest as the client of registries has it.
fn remote(digest: Digest) -> Result<registry::Digest> {
    Ok(digest.to_string().parse::<registry::Digest>()?)
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn a_reference_has_a_repository_and_a_tag_or_digest() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let with_both = format!("host:5000/a/b:tag@{digest}");
        for (name, repository, reference) in [
            (
                "docker.io/library/busybox:1.36",
                "docker.io/library/busybox",
                "1.36",
            ),
            ("host:5000/a:v1", "host:5000/a", "v1"),
            (&with_both, "host:5000/a/b", &digest),
        ] {
            let found = split(name).unwrap();
            assert_eq!(found.0.to_string(), repository);
            assert_eq!(found.1.to_string(), reference);
        }
        for name in ["busybox", "host/a", "host/A:tag", "host/a@sha256:1"] {
            split(name).unwrap_err();
        }
    }
}
