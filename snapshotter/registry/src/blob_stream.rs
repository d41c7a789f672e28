//! Blobs: a stream of bytes that are verified as they pass, and that goes on where a broken
//! connection left off.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _, stream};
use reqwest::header::{CONTENT_RANGE, HeaderValue, RANGE};
use reqwest::{Method, Url};
use tokio::io::{AsyncRead, ReadBuf};

use crate::client::{Client, Plan, Server};
use crate::digest::{Digest, Digester};
use crate::error::{Error, Result, Subject};
use crate::hosts::Capability;
use crate::names::Repository;
use crate::transport::{Call, Reply};

/// The bytes of a blob, in order, as a [`Stream`] and as an [`AsyncRead`].
///
/// They are hashed on their way. The last ones are handed out only if all of them together have
/// the digest; otherwise an error takes their place. So whoever reaches the end has the right
/// bytes, and whoever does not must throw away what came before.
pub struct BlobStream {
    chunks: BoxStream<'static, Result<Bytes>>,
    size: Option<u64>,
    /// What [`AsyncRead`] had no room for.
    rest: Bytes,
}

impl std::fmt::Debug for BlobStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobStream")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl BlobStream {
    /// How many bytes there are, if that is known.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// The next bytes; `None` after all of them.
    ///
    /// # Errors
    /// See [`Error`]; nothing comes after it.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        self.next().await.transpose()
    }
}

impl Stream for BlobStream {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.rest))));
        }
        self.chunks.poll_next_unpin(context)
    }
}

impl AsyncRead for BlobStream {
    /// An error is an [`Error`] inside of an [`io::Error`]; see [`Error::of_io`].
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(self.chunks.poll_next_unpin(context)) {
                Some(Ok(bytes)) => self.rest = bytes,
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest[..length]);
        self.rest.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl Error {
    /// The error of this crate behind an error of a reader, if there is one.
    #[must_use]
    pub fn of_io(error: &io::Error) -> Option<&Error> {
        error.get_ref()?.downcast_ref()
    }
}

impl Client {
    /// Opens a blob. `size` is that of its descriptor; without it, what the registry says counts.
    ///
    /// # Errors
    /// See [`Error`]. What does not exist is [`Error::is_not_found`].
    pub async fn blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        size: Option<u64>,
    ) -> Result<BlobStream> {
        let subject = Subject::blob(repository, digest);
        let plan = Plan::new(self, &subject, Capability::Pull)?;
        Self::download(plan, None, digest, size).await
    }

    /// The same from an address of the web, for layers that are not in registries.
    pub(crate) async fn blob_at(
        &self,
        (subject, digest): (&Subject, &Digest),
        size: Option<u64>,
        url: &Url,
    ) -> Result<BlobStream> {
        let plan = Plan::elsewhere(self, subject, url)?;
        Self::download(plan, Some(url.clone()), digest, size).await
    }

    async fn download(
        plan: Plan,
        url: Option<Url>,
        digest: &Digest,
        size: Option<u64>,
    ) -> Result<BlobStream> {
        let mut download = Download {
            plan,
            url,
            digest: *digest,
            digester: Some(Digester::like(digest)),
            size,
            received: 0,
            resumes: 0,
            body: None,
        };
        download.connect().await?;
        let size = download.size;
        let chunks = stream::try_unfold(download, async |mut download| {
            let chunk = download.chunk().await?;
            Ok(chunk.map(|bytes| (bytes, download)))
        });
        Ok(BlobStream {
            chunks: chunks.boxed(),
            size,
            rest: Bytes::new(),
        })
    }

    /// A whole small blob, such as a config, of at most `limit` bytes. Wrong bytes are asked for
    /// once more.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn blob_bytes(
        &self,
        repository: &Repository,
        digest: &Digest,
        size: Option<u64>,
        limit: u64,
    ) -> Result<Bytes> {
        let first = self.collect(repository, digest, size, limit).await;
        match first {
            Err(error @ Error::DigestMismatch { .. }) => {
                self.observe_repeated(&Subject::blob(repository, digest), &error);
                self.collect(repository, digest, size, limit).await
            }
            other => other,
        }
    }

    async fn collect(
        &self,
        repository: &Repository,
        digest: &Digest,
        size: Option<u64>,
        limit: u64,
    ) -> Result<Bytes> {
        let mut blob = self.blob(repository, digest, size).await?;
        let too_large = || Error::TooLarge {
            subject: Subject::blob(repository, digest),
            server: repository.host().to_owned(),
            limit,
        };
        if blob.size().is_some_and(|size| size > limit) {
            return Err(too_large());
        }
        let mut bytes = bytes::BytesMut::new();
        while let Some(chunk) = blob.chunk().await? {
            if (bytes.len() + chunk.len()) as u64 > limit {
                return Err(too_large());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    }

    /// Asks for the bytes of a blob from `start` on, or for `range` of them, as a header has it.
    pub(crate) async fn ask_blob(
        &self,
        server: &Server,
        subject: &Subject,
        digest: &Digest,
        range: Option<String>,
    ) -> Result<Reply> {
        let repository = subject.repository();
        let url = server.url(repository, &format!("blobs/{digest}"));
        let call = get(url, range);
        let scopes = server.scopes(repository, "pull");
        self.send(server, subject, &scopes, &call).await
    }
}

/// A request for all or, as a header has it, for a part.
fn get(url: Url, range: Option<String>) -> Call<'static> {
    let call = Call::new(Method::GET, url);
    match range.and_then(|range| HeaderValue::try_from(range).ok()) {
        Some(range) => call.header(RANGE, range),
        None => call,
    }
}

/// A blob on its way.
struct Download {
    plan: Plan,
    /// Where it is asked for, if that is no registry.
    url: Option<Url>,
    digest: Digest,
    /// Until the end.
    digester: Option<Digester>,
    size: Option<u64>,
    received: u64,
    resumes: u32,
    body: Option<Body>,
}

/// The body of one answer.
struct Body {
    reply: Reply,
    server: Arc<Server>,
    /// Bytes of it that are here already, from a server that does not know ranges.
    skip: u64,
}

impl Download {
    /// Asks for what is missing until somebody answers.
    async fn connect(&mut self) -> Result<()> {
        while self.body.is_none() {
            match self.open().await {
                Ok(body) => self.body = Some(body),
                Err(error) => self.plan.failed(error).await?,
            }
        }
        Ok(())
    }

    async fn open(&mut self) -> Result<Body> {
        let server = self.plan.server();
        let (client, subject) = (self.plan.client(), self.plan.subject());
        let range = (self.received > 0).then(|| format!("bytes={}-", self.received));
        let reply = match &self.url {
            Some(url) => {
                client
                    .ask_anonymously(&server, subject, &get(url.clone(), range))
                    .await?
            }
            None => {
                client
                    .ask_blob(&server, subject, &self.digest, range)
                    .await?
            }
        };
        let (total, skip) = match reply.status() {
            200 => (reply.content_length(), self.received),
            206 => {
                let (start, total) = self.content_range(&reply)?;
                let skip = self.received.checked_sub(start).ok_or_else(|| {
                    self.protocol(&reply, "the range begins behind the one that was asked for")
                })?;
                (total, skip)
            }
            416 => return Err(self.cut_off(reply.server(), "the rest is not there".to_owned())),
            _ => return Err(client.refusal(reply, subject).await),
        };
        match (self.size, total) {
            (Some(expected), Some(actual)) if expected != actual => {
                return Err(Error::SizeMismatch {
                    subject: subject.clone(),
                    server: reply.server(),
                    expected,
                    actual,
                });
            }
            (None, Some(total)) => self.size = Some(total),
            _ => {}
        }
        Ok(Body {
            reply,
            server,
            skip,
        })
    }

    /// `bytes 100-199/200`; where it begins and how much there is.
    fn content_range(&self, reply: &Reply) -> Result<(u64, Option<u64>)> {
        let header = reply.header(CONTENT_RANGE).unwrap_or_default();
        parse_content_range(header)
            .map(|(start, _, total)| (start, total))
            .ok_or_else(|| self.protocol(reply, "a partial answer without its range"))
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>> {
        loop {
            if self.digester.is_none() {
                return Ok(None);
            }
            if self.body.is_none() {
                self.connect().await?;
            }
            let Some(body) = &mut self.body else { continue };
            let server = body.reply.server();
            let failure = match body.reply.chunk().await {
                Ok(Some(bytes)) => match self.take(bytes)? {
                    Some(bytes) => return Ok(Some(bytes)),
                    None => continue,
                },
                Ok(None) if self.is_complete() => {
                    self.verify()?;
                    return Ok(None);
                }
                Ok(None) => self.cut_off(server, "the answer ends there".to_owned()),
                Err(Error::Connection { reason, .. }) => self.cut_off(server, reason),
                Err(other) => other,
            };
            self.body = None;
            self.resumes += 1;
            if self.resumes > self.plan.client().limits().resumes_max {
                return Err(failure.after(self.resumes));
            }
            self.plan.failed(failure).await?;
        }
    }

    /// Hashes what is new of these bytes; `None` if nothing is.
    fn take(&mut self, mut bytes: Bytes) -> Result<Option<Bytes>> {
        let Some(body) = &mut self.body else {
            return Ok(None);
        };
        let known = usize::try_from(body.skip).map_or(bytes.len(), |skip| skip.min(bytes.len()));
        bytes.advance(known);
        body.skip -= known as u64;
        if bytes.is_empty() {
            return Ok(None);
        }
        if let Some(digester) = &mut self.digester {
            digester.update(&bytes);
        }
        self.received += bytes.len() as u64;
        self.plan.progressed();
        match self.size {
            Some(size) if self.received > size => Err(Error::SizeMismatch {
                subject: self.plan.subject().clone(),
                server: body.reply.server(),
                expected: size,
                actual: self.received,
            }),
            // The last bytes are handed out only if all are right.
            Some(size) if self.received == size => self.verify().map(|()| Some(bytes)),
            _ => Ok(Some(bytes)),
        }
    }

    fn is_complete(&self) -> bool {
        self.size.is_none_or(|size| size == self.received)
    }

    fn verify(&mut self) -> Result<()> {
        let Some(digester) = self.digester.take() else {
            return Ok(());
        };
        let actual = digester.finish();
        let body = self.body.take();
        if actual == self.digest {
            return Ok(());
        }
        let mut asked = self.plan.subject().repository().host().to_owned();
        if let Some(body) = body {
            self.plan.client().distrust(&body.server, &self.digest);
            asked = body.reply.server();
        }
        Err(Error::DigestMismatch {
            subject: self.plan.subject().clone(),
            server: asked,
            expected: Box::new(self.digest),
            actual: Box::new(actual),
        })
    }

    fn cut_off(&self, server: String, reason: String) -> Error {
        Error::Truncated {
            subject: self.plan.subject().clone(),
            server,
            received: self.received,
            expected: self.size,
            reason,
            attempts: 1,
        }
    }

    fn protocol(&self, reply: &Reply, reason: &str) -> Error {
        Error::Protocol {
            subject: self.plan.subject().clone(),
            server: reply.server(),
            reason: reason.to_owned(),
        }
    }
}

/// `bytes FIRST-LAST/TOTAL` or `bytes FIRST-LAST/*`.
pub(crate) fn parse_content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.trim().split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse::<u64>().ok()?),
    };
    let fits = first <= last && total.is_none_or(|total| last < total);
    fits.then_some((first, last, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read_or_refused() {
        let check = |text: &str, expect| assert_eq!(parse_content_range(text), expect, "{text:?}");
        check("bytes 0-9/10", Some((0, 9, Some(10))));
        check("bytes 5-9/*", Some((5, 9, None)));
        for text in [
            "",
            "bytes */10",
            "bytes 9-5/10",
            "bytes 0-10/10",
            "bytes -1-5/10",
            "0-9/10",
            "bytes 0-9",
            "bytes 0-99999999999999999999/*",
        ] {
            check(text, None);
        }
    }
}
