//! Parts of a blob, for lazy fetching: many small reads from a place that is found once.
//!
//! A part has no digest of its own in OCI, so nothing is verified here but its length: the caller
//! must know what the bytes should be.

use std::sync::{Mutex, PoisonError};

use bytes::{Buf as _, Bytes, BytesMut};
use reqwest::header::{CONTENT_RANGE, HeaderValue, RANGE};
use reqwest::{Method, Url};

use crate::auth::Scopes;
use crate::blob_stream::parse_content_range;
use crate::client::{Client, Plan, Server};
use crate::digest::Digest;
use crate::error::{Error, Result, Subject};
use crate::hosts::Capability;
use crate::names::Repository;
use crate::transport::{Call, Reply};

/// What one read may hold in memory.
pub const RANGE_BYTES_MAX: u64 = 64 << 20;

/// Reads parts of one blob, from any number of tasks.
pub struct RangeReader {
    client: Client,
    subject: Subject,
    digest: Digest,
    /// Where the registry redirected to: good for some minutes, and one exchange less for each
    /// read until then.
    place: Mutex<Option<Url>>,
}

impl std::fmt::Debug for RangeReader {
    /// Without the place: its address may be signed.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RangeReader({})", self.subject)
    }
}

impl Client {
    /// A reader for parts of a blob. Nothing is asked before the first read.
    #[must_use]
    pub fn range_reader(&self, repository: &Repository, digest: &Digest) -> RangeReader {
        RangeReader {
            client: self.clone(),
            subject: Subject::blob(repository, digest),
            digest: *digest,
            place: Mutex::default(),
        }
    }
}

impl RangeReader {
    /// The `length` bytes from `offset` on; all of them, unverified.
    ///
    /// # Errors
    /// See [`Error`]. The blob is shorter: [`Error::SizeMismatch`]. More than [`RANGE_BYTES_MAX`]:
    /// [`Error::TooLarge`].
    pub async fn read(&self, offset: u64, length: u64) -> Result<Bytes> {
        if length == 0 {
            return Ok(Bytes::new());
        }
        let end = offset.checked_add(length);
        let Some(end) = end.filter(|_| length <= RANGE_BYTES_MAX) else {
            return Err(Error::TooLarge {
                subject: self.subject.clone(),
                server: self.subject.repository().host().to_owned(),
                limit: RANGE_BYTES_MAX,
            });
        };
        let range = format!("bytes={offset}-{}", end - 1);
        let mut plan = Plan::new(&self.client, &self.subject, Capability::Pull)?;
        loop {
            let server = plan.server();
            let read = match self.reply(&server, &range).await {
                Ok(reply) => self.bytes(reply, offset, length).await,
                Err(error) => Err(error),
            };
            match read {
                Ok(bytes) => return Ok(bytes),
                Err(error) => {
                    self.remember(None);
                    plan.failed(error).await?;
                }
            }
        }
    }

    async fn reply(&self, server: &Server, range: &str) -> Result<Reply> {
        if let Some(place) = self.place() {
            let mut call = Call::new(Method::GET, place);
            if let Ok(range) = HeaderValue::from_str(range) {
                call = call.header(RANGE, range);
            }
            let scopes = Scopes::default();
            let asked = self
                .client
                .send(server, &self.subject, &scopes, &call)
                .await;
            // It may have expired: then the registry is asked again.
            if let Ok(reply) = asked
                && matches!(reply.status(), 200 | 206)
            {
                return Ok(reply);
            }
            self.remember(None);
        }
        let range = Some(range.to_owned());
        let digest = &self.digest;
        let reply = self
            .client
            .ask_blob(server, &self.subject, digest, range)
            .await?;
        if !matches!(reply.status(), 200 | 206 | 416) {
            return Err(self.client.refusal(reply, &self.subject).await);
        }
        if reply.url().origin() != server.endpoint.base.origin() {
            self.remember(Some(reply.url().clone()));
        }
        Ok(reply)
    }

    async fn bytes(&self, mut reply: Reply, offset: u64, length: u64) -> Result<Bytes> {
        let start = match reply.status() {
            206 => reply
                .header(CONTENT_RANGE)
                .and_then(parse_content_range)
                .map(|(start, _, _)| start)
                .filter(|start| *start <= offset),
            200 => Some(0),
            // Nothing lies there.
            _ => return Err(self.cut_off(&reply, 0, length, "it is shorter", false)),
        };
        let Some(start) = start else {
            return Err(Error::Protocol {
                subject: self.subject.clone(),
                server: reply.server(),
                reason: "a partial answer with another range than was asked for".to_owned(),
            });
        };
        let mut skip = offset - start;
        let mut bytes = BytesMut::new();
        while (bytes.len() as u64) < length {
            let mut chunk = match reply.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => {
                    let received = bytes.len() as u64;
                    return Err(self.cut_off(&reply, received, length, "it is shorter", false));
                }
                Err(Error::Connection { reason, .. }) => {
                    let received = bytes.len() as u64;
                    return Err(self.cut_off(&reply, received, length, &reason, true));
                }
                Err(other) => return Err(other),
            };
            let known = usize::try_from(skip).map_or(chunk.len(), |skip| skip.min(chunk.len()));
            chunk.advance(known);
            skip -= known as u64;
            let missing = usize::try_from(length).unwrap_or(usize::MAX) - bytes.len();
            bytes.extend_from_slice(&chunk[..chunk.len().min(missing)]);
        }
        Ok(bytes.freeze())
    }

    /// A connection may be whole next time; a blob that is too short stays it.
    fn cut_off(
        &self,
        reply: &Reply,
        received: u64,
        expected: u64,
        reason: &str,
        transient: bool,
    ) -> Error {
        let (subject, server) = (self.subject.clone(), reply.server());
        if transient {
            return Error::Truncated {
                subject,
                server,
                received,
                expected: Some(expected),
                reason: reason.to_owned(),
                attempts: 1,
            };
        }
        Error::SizeMismatch {
            subject,
            server,
            expected,
            actual: received,
        }
    }

    fn place(&self) -> Option<Url> {
        let place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        place.clone()
    }

    fn remember(&self, url: Option<Url>) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = url;
    }
}
