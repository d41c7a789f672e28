//! Images of registries as sources: manifests and configs when a name is looked up, layers as
//! streams when somebody needs them.

mod attestations;
mod retries;
mod stream;
mod tags;
pub(crate) mod upload;
pub(crate) mod web;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use engine::CancelToken;
use futures::FutureExt as _;
use futures::future::select;
use registry::{
    Anonymous, Client, Credentials, Hosts, Limits, ManifestReference, Observer, Proxies, Repository,
};
use tokio::runtime::Handle;

use self::retries::Retries;
use self::stream::LayerStream;
use crate::content::Digest;
use crate::error::{Error, Result};
use crate::images::arrival::Arrival;
use crate::images::document::{self, Descriptor, Index, Manifest, Platform};
use crate::images::intake::{Chunks, LayerSource};
use crate::images::{Image, Images};
use crate::progress::{Progress, Reporter};

/// Largest config of an image, in bytes.
const CONFIG_BYTES_MAX: u64 = 8 << 20;

/// How registries are asked: what a person has configured.
#[derive(Clone)]
pub struct Registries {
    /// Mirrors, certificates, plain HTTP.
    pub hosts: Hosts,
    /// What is between here and them.
    pub proxies: Proxies,
    /// Logins.
    pub credentials: Arc<dyn Credentials>,
    /// How long and how often.
    pub limits: Limits,
}

impl Default for Registries {
    /// Nothing is configured.
    fn default() -> Self {
        Registries {
            hosts: Hosts::default(),
            proxies: Proxies::default(),
            credentials: Arc::new(Anonymous),
            limits: Limits::default(),
        }
    }
}

impl Registries {
    /// The same for pushing to these names where nobody can prove who they are: certificates are
    /// not checked, and plain HTTP is spoken with who does not know TLS.
    pub(crate) fn insecure(&self, names: &[String]) -> Self {
        let mut changed = self.clone();
        for (host, _) in names.iter().filter_map(|name| name.split_once('/')) {
            // What a directory says about the host would go before.
            changed.hosts.certs_directories.clear();
            let settings = changed.hosts.registries.entry(host.to_owned()).or_default();
            settings.insecure = Some(true);
            settings.http = Some(true);
        }
        changed
    }
}

impl fmt::Debug for Registries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registries")
            .field("hosts", &self.hosts)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// The registries, asked by one build or command: it shares connections and logins. What waits
/// here must not be called on an asynchronous thread.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    client: Client,
    runtime: Handle,
    retries: Arc<Retries>,
    progress: Progress,
}

/// An image as its registry has it, without its layers.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) image: Image,
    pub(crate) arrival: Arrival,
}

impl Found {
    /// The same under another name.
    fn named(mut self, name: &str) -> Self {
        self.arrival.names = vec![name.to_owned()];
        self
    }
}

impl Remote {
    /// Begins; connections are made when they are needed. What comes is counted by `progress`.
    /// Needs a tokio runtime.
    pub(crate) fn new(registries: &Registries, progress: &Progress) -> Self {
        let retries = Arc::new(Retries::default());
        let observer: Arc<dyn Observer> = retries.clone();
        let client = Client::builder()
            .hosts(registries.hosts.clone())
            .proxies(registries.proxies.clone())
            .credentials(registries.credentials.clone())
            .limits(registries.limits.clone())
            .observer(observer)
            .build();
        Remote {
            client,
            runtime: Handle::current(),
            retries,
            progress: progress.clone(),
        }
    }

    /// The same for the same build or command, asking in another way.
    pub(crate) fn within(other: &Remote, registries: &Registries) -> Self {
        let _entered = other.runtime.enter();
        Self::new(registries, &other.progress)
    }

    /// Looks an image up: what its name means now, and then its documents, from the store as far as
    /// they are there. `name` is a full reference. Nothing is stored. `is_any`: an image that has
    /// only one platform is taken whatever that is.
    ///
    /// # Errors
    /// As [`Remote::find`]; those of the store.
    pub(crate) fn look_up(
        &self,
        images: &Images,
        name: &str,
        (platform, is_any): (&Platform, bool),
        reporter: &Reporter,
        cancel: &CancelToken,
    ) -> Result<Found> {
        let (repository, reference) = split(name)?;
        let told = self.retries.tell(&repository, reporter);
        let digest = match &reference {
            ManifestReference::Digest(digest) => *digest,
            ManifestReference::Tag(_) => {
                let resolved = self.client.resolve(&repository, &reference);
                self.wait(cancel, resolved)?.digest
            }
        };
        drop(told);
        let pinned = format!("{repository}@{digest}");
        let known = match is_any {
            true => images.find_any(&pinned, platform)?,
            false => images.find(&pinned, platform)?,
        };
        let Some((target, image)) = known else {
            let found = self.find(&pinned, (platform, is_any), reporter, cancel);
            return found
                .map(|found| found.named(name))
                .map_err(|error| match error {
                    // A person knows it by its tag.
                    Error::NoPlatform {
                        platform, there, ..
                    } => Error::NoPlatform {
                        what: name.to_owned(),
                        platform,
                        there,
                    },
                    Error::BadImage { reason, .. } => Error::bad_image(name, reason),
                    other => other,
                });
        };
        let documents = images.documents(name, &target, platform)?;
        let arrival = Arrival {
            names: vec![name.to_owned()],
            target,
            documents,
        };
        Ok(Found { image, arrival })
    }

    /// Fetches an image's documents: the index, if there is one, the manifest for the platform, the
    /// config. `name` is a full reference. Nothing is stored.
    ///
    /// # Errors
    /// [`Error::Registry`], which names registry, repository and reference; [`Error::BadImage`],
    /// [`Error::NoPlatform`]; [`Error::Cancelled`].
    fn find(
        &self,
        name: &str,
        (platform, is_any): (&Platform, bool),
        reporter: &Reporter,
        cancel: &CancelToken,
    ) -> Result<Found> {
        let (repository, mut reference) = split(name)?;
        let _told = self.retries.tell(&repository, reporter);
        let (mut target, mut documents) = (None, Vec::new());
        for _ in 0..=document::INDEX_DEPTH_MAX {
            let fetched = self.client.manifest(&repository, &reference);
            let fetched = self.wait(cancel, fetched)?;
            let digest = Digest::of(&fetched.bytes);
            let media_type = fetched.media_type.as_str();
            let size = fetched.bytes.len() as u64;
            documents.push(fetched.bytes.clone());
            target.get_or_insert_with(|| Descriptor::new(media_type, digest, size));
            if !document::is_index(&fetched.bytes) {
                let manifest: Manifest = document::parse(name, &fetched.bytes)?;
                let config_bytes = self.config(&repository, &manifest, cancel)?;
                let config = document::check(name, &manifest, &config_bytes)?;
                if !is_any && !config.is_for(platform) {
                    let there = config.platform().as_ref().map(ToString::to_string);
                    return Err(Error::NoPlatform {
                        what: name.to_owned(),
                        platform: platform.to_string(),
                        there: there.unwrap_or_default(),
                    });
                }
                documents.push(config_bytes.clone());
                let image = Image {
                    digest,
                    manifest,
                    config_bytes: config_bytes.into(),
                    config,
                };
                let arrival = Arrival {
                    names: vec![name.to_owned()],
                    target: target.expect("the first manifest was noted"),
                    documents,
                };
                return Ok(Found { image, arrival });
            }
            let index: Index = document::parse(name, &fetched.bytes)?;
            let chosen = index.choose_for(name, platform)?;
            reference = ManifestReference::Digest(remote(chosen.digest)?);
        }
        Err(Error::bad_image(name, "its indexes are nested too deeply"))
    }

    fn config(
        &self,
        repository: &Repository,
        manifest: &Manifest,
        cancel: &CancelToken,
    ) -> Result<Bytes> {
        let Descriptor { digest, size, .. } = manifest.config;
        let digest = remote(digest)?;
        let bytes = self
            .client
            .blob_bytes(repository, &digest, Some(size), CONFIG_BYTES_MAX);
        self.wait(cancel, bytes)
    }

    /// The layers of the image with this full reference.
    ///
    /// # Errors
    /// [`Error::BadImage`] if it is none.
    pub(crate) fn layers(
        &self,
        name: &str,
        reporter: Reporter,
        cancel: CancelToken,
    ) -> Result<RemoteLayers> {
        self.layers_in(&split(name)?.0.to_string(), reporter, cancel)
    }

    /// The layers of a repository: `docker.io/library/busybox`.
    ///
    /// # Errors
    /// [`Error::BadImage`] if it is none.
    pub(crate) fn layers_in(
        &self,
        repository: &str,
        reporter: Reporter,
        cancel: CancelToken,
    ) -> Result<RemoteLayers> {
        let parts = repository.split_once('/');
        let (host, name) =
            parts.ok_or_else(|| Error::bad_image(repository, "it is no full repository name"))?;
        Ok(RemoteLayers {
            remote: self.clone(),
            repository: Repository::new(host, name)?,
            reporter,
            cancel,
        })
    }

    fn wait<T>(
        &self,
        cancel: &CancelToken,
        request: impl Future<Output = registry::Result<T>>,
    ) -> Result<T> {
        let answer = self.runtime.block_on(unless(cancel, request));
        answer.map_or(Err(Error::Cancelled), |answer| Ok(answer?))
    }
}

/// The outcome of `work`; `None` if the end was asked for before.
async fn unless<T>(cancel: &CancelToken, work: impl Future<Output = T>) -> Option<T> {
    let cancelled = Box::pin(cancel.cancelled().map(|()| None));
    let work = Box::pin(work.map(Some));
    select(cancelled, work).await.factor_first().0
}

/// The layers of one repository.
#[derive(Debug)]
pub(crate) struct RemoteLayers {
    remote: Remote,
    repository: Repository,
    reporter: Reporter,
    cancel: CancelToken,
}

impl LayerSource for RemoteLayers {
    fn open(&self, layer: &Descriptor, stop: &CancelToken) -> Result<Box<dyn Chunks>> {
        let told = self.remote.retries.tell(&self.repository, &self.reporter);
        let digest = remote(layer.digest)?;
        let (client, repository) = (self.remote.client.clone(), self.repository.clone());
        let (size, urls) = (Some(layer.size), layer.urls.clone());
        let stream = async move {
            client
                .blob_or_foreign(&repository, &digest, size, &urls)
                .await
        };
        let ends = [self.cancel.clone(), stop.clone()];
        let stream = LayerStream::start(&self.remote, stream, ends, told);
        Ok(Box::new(stream))
    }

    fn origin(&self) -> String {
        self.repository.to_string()
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
