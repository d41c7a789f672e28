//! Manifests: resolve a tag, fetch the bytes, verify them.
//!
//! A manifest stays the bytes that the registry sent: its digest is of them, and of no form that it
//! could be written in again.

mod document;

pub use document::MediaType;

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};

use crate::client::{Client, Plan, Server};
use crate::digest::Digest;
use crate::error::{Error, Result, Subject};
use crate::hosts::Capability;
use crate::names::{ManifestReference, Repository};
use crate::transport::{Call, Reply};

/// The digest of the manifest in an answer.
const CONTENT_DIGEST: &str = "docker-content-digest";

/// What a tag or digest means now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The digest of the manifest or index.
    pub digest: Digest,
    /// What it is.
    pub media_type: MediaType,
    /// Its bytes, if the registry says how many.
    pub size: Option<u64>,
}

/// A manifest or index as the registry has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The digest of `bytes`.
    pub digest: Digest,
    /// What it is.
    pub media_type: MediaType,
    /// Exactly what was sent, verified.
    pub bytes: Bytes,
}

impl Client {
    /// Asks what `reference` means now, without fetching it where the registry allows that.
    ///
    /// # Errors
    /// See [`Error`]. What does not exist is [`Error::is_not_found`].
    pub async fn resolve(
        &self,
        repository: &Repository,
        reference: &ManifestReference,
    ) -> Result<Resolved> {
        let subject = Subject::manifest(repository, reference);
        let mut plan = Plan::new(self, &subject, Capability::Resolve)?;
        loop {
            let server = plan.server();
            match self.resolve_at(&server, &subject, reference).await {
                Ok(resolved) => return Ok(resolved),
                Err(error) => plan.failed(error).await?,
            }
        }
    }

    async fn resolve_at(
        &self,
        server: &Server,
        subject: &Subject,
        reference: &ManifestReference,
    ) -> Result<Resolved> {
        let reply = self
            .ask_manifest(server, subject, reference, Method::HEAD)
            .await?;
        if reply.status() == 200 {
            let digest = promised_digest(&reply, subject)?;
            let media_type = reply.header(CONTENT_TYPE).and_then(MediaType::parse);
            if let (Some(digest), Some(media_type)) = (digest, media_type) {
                let wanted = match reference {
                    ManifestReference::Digest(wanted) => *wanted,
                    ManifestReference::Tag(_) => digest,
                };
                expect_digest(&reply, subject, wanted, digest)?;
                return Ok(Resolved {
                    digest,
                    media_type,
                    size: reply.content_length(),
                });
            }
        } else if matches!(reply.status(), 429 | 500..) {
            return Err(self.refusal(reply, subject).await);
        }
        // An answer to HEAD has no text; GET has it, or even the manifest.
        let manifest = self.manifest_at(server, subject, reference).await?;
        Ok(Resolved {
            digest: manifest.digest,
            media_type: manifest.media_type,
            size: Some(manifest.bytes.len() as u64),
        })
    }

    /// Fetches a manifest or index.
    ///
    /// # Errors
    /// See [`Error`]. What does not exist is [`Error::is_not_found`].
    pub async fn manifest(
        &self,
        repository: &Repository,
        reference: &ManifestReference,
    ) -> Result<Manifest> {
        let subject = Subject::manifest(repository, reference);
        let capability = match reference {
            ManifestReference::Tag(_) => Capability::Resolve,
            ManifestReference::Digest(_) => Capability::Pull,
        };
        let mut plan = Plan::new(self, &subject, capability)?;
        loop {
            let server = plan.server();
            match self.manifest_at(&server, &subject, reference).await {
                Ok(manifest) => return Ok(manifest),
                Err(error) => plan.failed(error).await?,
            }
        }
    }

    async fn manifest_at(
        &self,
        server: &Server,
        subject: &Subject,
        reference: &ManifestReference,
    ) -> Result<Manifest> {
        let mut reply = self
            .ask_manifest(server, subject, reference, Method::GET)
            .await?;
        if reply.status() != 200 {
            return Err(self.refusal(reply, subject).await);
        }
        let promised = promised_digest(&reply, subject)?;
        let bytes = reply.bytes(self.limits().manifest_bytes_max).await?;
        let expected = match (reference, promised) {
            (ManifestReference::Digest(wanted), _) => *wanted,
            (ManifestReference::Tag(_), Some(promised)) => promised,
            (ManifestReference::Tag(_), None) => Digest::sha256(&bytes),
        };
        expect_digest(&reply, subject, expected, expected.same_kind_of(&bytes))?;
        let media_type = document::media_type(&bytes, reply.header(CONTENT_TYPE));
        let media_type = media_type.map_err(|problem| match problem {
            document::Problem::SchemaOne => Error::SchemaOne {
                subject: subject.clone(),
            },
            document::Problem::Other(reason) => Error::NotAManifest {
                subject: subject.clone(),
                server: reply.server(),
                reason,
            },
        })?;
        Ok(Manifest {
            digest: expected,
            media_type,
            bytes,
        })
    }

    async fn ask_manifest(
        &self,
        server: &Server,
        subject: &Subject,
        reference: &ManifestReference,
        method: Method,
    ) -> Result<Reply> {
        let repository = subject.repository();
        let url = server.url(repository, &format!("manifests/{reference}"));
        let call =
            Call::new(method, url).header(ACCEPT, HeaderValue::from_static(MediaType::ACCEPTED));
        let scopes = server.scopes(repository, "pull");
        self.send(server, subject, &scopes, &call).await
    }
}

/// What the registry says the digest is. Algorithms that are unknown here say nothing.
fn promised_digest(reply: &Reply, subject: &Subject) -> Result<Option<Digest>> {
    let Some(text) = reply.header(CONTENT_DIGEST) else {
        return Ok(None);
    };
    match text.parse::<Digest>() {
        Ok(digest) => Ok(Some(digest)),
        Err(_) if text.starts_with("sha256:") || text.starts_with("sha512:") => {
            Err(Error::Protocol {
                subject: subject.clone(),
                server: reply.server(),
                reason: format!(
                    "{:?} is no digest, though it stands where one must be",
                    crate::error::shortened(text)
                ),
            })
        }
        Err(_) => Ok(None),
    }
}

fn expect_digest(reply: &Reply, subject: &Subject, expected: Digest, actual: Digest) -> Result<()> {
    let same_algorithm = expected.algorithm() == actual.algorithm();
    if expected == actual || !same_algorithm {
        return Ok(());
    }
    Err(Error::DigestMismatch {
        subject: subject.clone(),
        server: reply.server(),
        expected: Box::new(expected),
        actual: Box::new(actual),
    })
}
