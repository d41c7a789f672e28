//! Push: blobs that the registry does not have yet, then the manifests that name them.
//!
//! A blob is asked for first, then taken from another repository there, and only then sent. Nothing
//! of it is visible before the registry has checked its digest.

mod upload;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Url};

use crate::body::BlobBody;
use crate::client::{Client, Plan, Server};
use crate::digest::Digest;
use crate::error::{Error, Result, Subject, Thing};
use crate::hosts::Capability;
use crate::names::{ManifestReference, Repository};
use crate::transport::{Call, Payload, Reply};

use upload::Upload;

/// How a blob came to be at the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It was there.
    Existed,
    /// It was in another repository of the registry.
    Mounted,
    /// It was sent.
    Uploaded,
}

/// How a blob is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadOptions {
    /// The name of another repository at the same registry that has the blob, as far as is known.
    pub mount_from: Option<String>,
    /// Sends the blob in parts of so many bytes, each of which can be sent again by itself; `None`
    /// sends it in one request, which is faster.
    pub chunk_bytes: Option<u64>,
}

impl Client {
    /// Whether the repository has the blob.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn has_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool> {
        let subject = Subject::blob(repository, digest);
        let mut plan = Plan::new(self, &subject, Capability::Push)?;
        loop {
            let server = plan.server();
            let upload = Upload::new(self, &server, &subject, digest, None);
            match upload.exists().await {
                Ok(exists) => return Ok(exists),
                Err(error) => plan.failed(error).await?,
            }
        }
    }

    /// Brings a blob to the repository.
    ///
    /// # Errors
    /// See [`Error`]. Nothing is there then: the registry shows a blob once it has checked it.
    pub async fn push_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        body: &dyn BlobBody,
        options: &UploadOptions,
    ) -> Result<Pushed> {
        let subject = Subject::blob(repository, digest);
        if let Some(from) = &options.mount_from {
            Repository::new(repository.host(), from)?;
        }
        let mut plan = Plan::new(self, &subject, Capability::Push)?;
        loop {
            let server = plan.server();
            let from = options.mount_from.as_deref();
            let upload = Upload::new(self, &server, &subject, digest, from);
            match upload.run(&mut plan, body, options).await {
                Ok(pushed) => return Ok(pushed),
                Err(error) => plan.failed(error).await?,
            }
        }
    }

    /// Puts a manifest or index, exactly these bytes, under a tag or its digest. What it names must
    /// be there already. Returns its digest.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn push_manifest(
        &self,
        repository: &Repository,
        reference: &ManifestReference,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<Digest> {
        let subject = Subject::manifest(repository, reference);
        let digest = match reference {
            ManifestReference::Tag(_) => Digest::sha256(&bytes),
            ManifestReference::Digest(expected) => {
                let actual = expected.same_kind_of(&bytes);
                if actual != *expected {
                    return Err(mismatch(
                        &subject,
                        "the caller".to_owned(),
                        *expected,
                        actual,
                    ));
                }
                actual
            }
        };
        let content_type = HeaderValue::from_str(media_type).map_err(|_| Error::Name {
            text: crate::error::shortened(media_type),
            expected: "a media type",
        })?;
        let mut plan = Plan::new(self, &subject, Capability::Push)?;
        loop {
            let server = plan.server();
            let url = server.url(repository, &format!("manifests/{reference}"));
            let call = Call::new(Method::PUT, url)
                .header(CONTENT_TYPE, content_type.clone())
                .payload(Payload::Bytes(bytes.clone()));
            let put = self.put_manifest(&server, &subject, &call, digest).await;
            match put {
                Ok(()) => return Ok(digest),
                Err(error) => plan.failed(error).await?,
            }
        }
    }

    async fn put_manifest(
        &self,
        server: &Server,
        subject: &Subject,
        call: &Call<'_>,
        digest: Digest,
    ) -> Result<()> {
        let scopes = server.scopes(subject.repository(), "pull,push");
        let reply = self.send(server, subject, &scopes, call).await?;
        if !matches!(reply.status(), 200..=202) {
            return Err(refusal(reply, subject).await);
        }
        check_digest(&reply, subject, digest)
    }
}

/// What the registry says that it has taken is what was sent.
fn check_digest(reply: &Reply, subject: &Subject, expected: Digest) -> Result<()> {
    let taken = reply.header("docker-content-digest");
    match taken.and_then(|text| text.parse::<Digest>().ok()) {
        Some(taken) if taken != expected && taken.algorithm() == expected.algorithm() => {
            Err(mismatch(subject, reply.server(), expected, taken))
        }
        _ => Ok(()),
    }
}

fn mismatch(subject: &Subject, server: String, expected: Digest, actual: Digest) -> Error {
    Error::DigestMismatch {
        subject: subject.clone(),
        server,
        expected: Box::new(expected),
        actual: Box::new(actual),
    }
}

/// The error for an answer to a push. A 404 is not about what is pushed: that is not there yet.
async fn refusal(reply: Reply, subject: &Subject) -> Error {
    let answer = reply.into_answer().await;
    let upload_is_lost = answer
        .codes
        .iter()
        .any(|code| matches!(code.as_str(), "BLOB_UPLOAD_UNKNOWN" | "BLOB_UPLOAD_INVALID"));
    let is_blob = matches!(subject.thing(), Thing::Blob(_));
    if is_blob && (upload_is_lost || answer.status == 416) {
        return Error::Server {
            subject: subject.clone(),
            answer: Box::new(answer),
            attempts: 1,
        };
    }
    match answer.into_error(subject, false) {
        Error::ManifestUnknown { subject, answer } | Error::BlobUnknown { subject, answer } => {
            Error::Refused { subject, answer }
        }
        other => other,
    }
}

/// The address with one more parameter; what was there stays as it was, for it may be signed.
fn with_parameter(url: &Url, name: &str, value: &str) -> Url {
    let mut url = url.clone();
    url.query_pairs_mut().append_pair(name, value);
    url
}
