//! One blob on its way to one server: distribution specification, "Pushing Blobs".

use std::sync::Arc;

use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RANGE};
use reqwest::{Method, Url};

use super::{Pushed, UploadOptions, check_digest, refusal, with_parameter};
use crate::auth::Scopes;
use crate::body::BlobBody;
use crate::client::{Client, Plan, Server};
use crate::digest::Digest;
use crate::error::{Error, Result, Subject};
use crate::transport::{Call, Payload, Reply};

/// The smallest part that the registry takes.
const CHUNK_MIN: HeaderName = HeaderName::from_static("oci-chunk-min-length");

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

pub(super) struct Upload<'a> {
    client: &'a Client,
    server: &'a Arc<Server>,
    subject: &'a Subject,
    digest: &'a Digest,
    from: Option<&'a str>,
    scopes: Scopes,
}

/// What `POST` has opened.
struct Session {
    location: Url,
    chunk_min: u64,
}

/// How an upload begins.
enum Start {
    Mounted,
    Session(Session),
}

impl<'a> Upload<'a> {
    pub(super) fn new(
        client: &'a Client,
        server: &'a Arc<Server>,
        subject: &'a Subject,
        digest: &'a Digest,
        from: Option<&'a str>,
    ) -> Self {
        Upload {
            client,
            server,
            subject,
            digest,
            from,
            scopes: server.scopes(subject.repository(), "pull,push"),
        }
    }

    /// Failures are the caller's to repeat, except those between two parts of a chunked upload.
    pub(super) async fn run(
        &self,
        plan: &mut Plan,
        body: &dyn BlobBody,
        options: &UploadOptions,
    ) -> Result<Pushed> {
        if self.exists().await? {
            return Ok(Pushed::Existed);
        }
        let session = match self.start().await? {
            Start::Mounted => return Ok(Pushed::Mounted),
            Start::Session(session) => session,
        };
        match options.chunk_bytes {
            None => self.send_whole(&session, body).await?,
            Some(size) => self.send_parts(plan, session, body, size).await?,
        }
        Ok(Pushed::Uploaded)
    }

    pub(super) async fn exists(&self) -> Result<bool> {
        let path = format!("blobs/{}", self.digest);
        let url = self.server.url(self.subject.repository(), &path);
        let reply = self.send(&Call::new(Method::HEAD, url)).await?;
        match reply.status() {
            200 => Ok(true),
            404 => Ok(false),
            // An address of storage may be signed for GET alone: then it is sent once more.
            403 | 405 if reply.url().origin() != self.server.endpoint.base.origin() => Ok(false),
            _ => Err(refusal(reply, self.subject).await),
        }
    }

    async fn start(&self) -> Result<Start> {
        let url = self.server.url(self.subject.repository(), "blobs/uploads/");
        if let Some(from) = self.from {
            let digest = self.digest.to_string();
            let mount = with_parameter(&with_parameter(&url, "mount", &digest), "from", from);
            let mut scopes = self.scopes.clone();
            scopes.add(&self.server.repository_name(from), "pull");
            let call = Call::new(Method::POST, mount);
            let asked = self
                .client
                .send(self.server, self.subject, &scopes, &call)
                .await;
            match asked {
                Ok(reply) if reply.status() == 201 => return Ok(Start::Mounted),
                Ok(reply) if reply.status() == 202 => {
                    return self.session(&reply).map(Start::Session);
                }
                // Mounting is a favour; who refuses it may still take the bytes.
                Ok(reply) if reply.status() < 500 && reply.status() != 429 => {}
                Ok(reply) => return Err(refusal(reply, self.subject).await),
                Err(error) if error.is_unauthorized() => {}
                Err(error) => return Err(error),
            }
        }
        let reply = self.send(&Call::new(Method::POST, url)).await?;
        match reply.status() {
            202 => self.session(&reply).map(Start::Session),
            _ => Err(refusal(reply, self.subject).await),
        }
    }

    async fn send_whole(&self, session: &Session, body: &dyn BlobBody) -> Result<()> {
        let payload = Payload::Body {
            body,
            offset: 0,
            length: body.size(),
        };
        self.commit(&session.location, payload).await
    }

    /// `PUT` with the digest: the registry checks it, and the blob is there.
    async fn commit(&self, location: &Url, payload: Payload<'_>) -> Result<()> {
        let url = with_parameter(location, "digest", &self.digest.to_string());
        let call = Call::new(Method::PUT, url)
            .header(CONTENT_TYPE, OCTETS)
            .payload(payload);
        let reply = self.send(&call).await?;
        match reply.status() {
            200 | 201 | 204 => check_digest(&reply, self.subject, *self.digest),
            _ => Err(refusal(reply, self.subject).await),
        }
    }

    async fn send_parts(
        &self,
        plan: &mut Plan,
        mut session: Session,
        body: &dyn BlobBody,
        chunk_bytes: u64,
    ) -> Result<()> {
        let chunk_bytes = chunk_bytes.max(session.chunk_min).max(1);
        let size = body.size();
        let mut offset = 0;
        while offset < size {
            let length = chunk_bytes.min(size - offset);
            match self.send_part(&mut session, body, offset, length).await {
                Ok(next) => {
                    plan.progressed();
                    offset = next;
                }
                Err(error) if error.is_transient() => {
                    plan.failed(error).await?;
                    if !Arc::ptr_eq(&plan.server(), self.server) {
                        // What is sent so far is elsewhere.
                        return self.restart(plan).await;
                    }
                    offset = self.received(&mut session).await?.min(size);
                }
                Err(error) => return Err(error),
            }
        }
        self.commit(&session.location, Payload::None).await
    }

    /// Ends this attempt with an error that begins another one.
    async fn restart(&self, plan: &Plan) -> Result<()> {
        Err(Error::Connection {
            subject: self.subject.clone(),
            server: plan.server().endpoint.server(),
            reason: "the upload begins again at another server".to_owned(),
            attempts: 1,
            is_unreachable: false,
        })
    }

    /// Sends one part; returns where the next one begins.
    async fn send_part(
        &self,
        session: &mut Session,
        body: &dyn BlobBody,
        offset: u64,
        length: u64,
    ) -> Result<u64> {
        let range = format!("{offset}-{}", offset + length - 1);
        let mut call = Call::new(Method::PATCH, session.location.clone())
            .header(CONTENT_TYPE, OCTETS)
            .payload(Payload::Body {
                body,
                offset,
                length,
            });
        if let Ok(range) = HeaderValue::try_from(range) {
            call = call.header(CONTENT_RANGE, range);
        }
        let reply = self.send(&call).await?;
        if !matches!(reply.status(), 201 | 202 | 204) {
            return Err(refusal(reply, self.subject).await);
        }
        session.location = self.location(&reply)?;
        let end = offset + length;
        match received(&reply) {
            Some(0) if end == 1 => Ok(1),
            Some(next) if next > offset && next <= end => Ok(next),
            Some(_) => Err(self.protocol(&reply, "it has other bytes than it was sent")),
            None => Ok(end),
        }
    }

    /// Asks how much of an upload has arrived.
    async fn received(&self, session: &mut Session) -> Result<u64> {
        let call = Call::new(Method::GET, session.location.clone());
        let reply = self.send(&call).await?;
        if !matches!(reply.status(), 200 | 202 | 204) {
            return Err(refusal(reply, self.subject).await);
        }
        if reply.headers().contains_key(LOCATION) {
            session.location = self.location(&reply)?;
        }
        Ok(received(&reply).unwrap_or(0))
    }

    async fn send(&self, call: &Call<'_>) -> Result<Reply> {
        self.client
            .send(self.server, self.subject, &self.scopes, call)
            .await
    }

    fn session(&self, reply: &Reply) -> Result<Session> {
        let chunk_min = reply.header(CHUNK_MIN).and_then(|text| text.parse().ok());
        Ok(Session {
            location: self.location(reply)?,
            chunk_min: chunk_min.unwrap_or(0),
        })
    }

    fn location(&self, reply: &Reply) -> Result<Url> {
        let from = reply.url();
        let url = reply
            .header(LOCATION)
            .and_then(|text| from.join(text).ok())
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| self.protocol(reply, "it does not say where to upload to"))?;
        if from.scheme() == "https" && url.scheme() == "http" {
            let reason = "it wants the upload over plain HTTP, though it speaks TLS";
            return Err(self.protocol(reply, reason));
        }
        Ok(url)
    }

    fn protocol(&self, reply: &Reply, reason: &str) -> Error {
        Error::Protocol {
            subject: self.subject.clone(),
            server: reply.server(),
            reason: reason.to_owned(),
        }
    }
}

/// `Range: 0-99` says that 100 bytes are there. `0-0` may mean none or one: who has just
/// sent one knows.
fn received(reply: &Reply) -> Option<u64> {
    parse_received(reply.header(RANGE)?)
}

fn parse_received(text: &str) -> Option<u64> {
    let text = text.trim();
    let text = text.strip_prefix("bytes=").unwrap_or(text);
    match text.split_once('-')? {
        ("0", "0") => Some(0),
        ("0", last) => last.parse::<u64>().ok()?.checked_add(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_arrived_is_read_from_the_range() {
        for (text, expect) in [
            ("0-99", Some(100)),
            ("bytes=0-9", Some(10)),
            ("0-0", Some(0)),
            ("5-9", None),
            ("0-", None),
            ("", None),
            ("0-18446744073709551615", None),
        ] {
            assert_eq!(parse_received(text), expect, "{text:?}");
        }
    }
}
