//! One exchange with a server: connect, send, wait for the head of the answer, follow redirects;
//! each with its time limit. Neither logins nor second attempts: see `client.rs`.

mod failure;
mod tls;

pub(crate) use failure::connection_error;
pub(crate) use tls::Connections;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderValue, LOCATION,
};
use reqwest::{Method, Url};
use tokio::io::AsyncReadExt as _;
use tokio::time::Instant;

use crate::answer::{self, ERROR_BYTES_MAX};
use crate::body::{BlobBody, BodyReader};
use crate::error::{Answer, Error, Result, Subject};
use crate::hosts::{Endpoint, authority};
use crate::retry::Limits;

/// Storage behind registries needs one or two.
const REDIRECTS_MAX: usize = 10;

/// What is read of a body to be pushed at once.
const UPLOAD_BUFFER_BYTES: usize = 128 * 1024;

/// What a request carries.
pub(crate) enum Payload<'a> {
    None,
    Bytes(Bytes),
    /// A part of a body, which is opened anew whenever the request is sent anew.
    Body {
        body: &'a dyn BlobBody,
        offset: u64,
        length: u64,
    },
}

/// A request before it is known who sends it.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Payload<'a>,
    /// Whether a redirect from TLS to plain HTTP is followed.
    pub(crate) follows_to_plain: bool,
}

impl<'a> Call<'a> {
    pub(crate) fn new(method: Method, url: Url) -> Self {
        Call {
            method,
            url,
            headers: HeaderMap::new(),
            payload: Payload::None,
            follows_to_plain: false,
        }
    }

    pub(crate) fn header(mut self, name: reqwest::header::HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    pub(crate) fn payload(mut self, payload: Payload<'a>) -> Self {
        self.payload = payload;
        self
    }
}

/// The head of an answer; its body comes by [`Reply::chunk`].
#[derive(Debug)]
pub(crate) struct Reply {
    response: reqwest::Response,
    subject: Subject,
    stall_timeout: Duration,
    ended: bool,
    /// Bytes that somebody did not want yet.
    returned: Option<Bytes>,
}

/// Sends a request to `endpoint`, or to where it redirects to. Secrets (`authorization` and the
/// endpoint's own headers) go to the endpoint's scheme, host and port only.
pub(crate) async fn exchange(
    endpoint: &Endpoint,
    connections: &Connections,
    limits: &Limits,
    subject: &Subject,
    call: &Call<'_>,
    authorization: Option<&HeaderValue>,
) -> Result<Reply> {
    let mut url = call.url.clone();
    for _ in 0..=REDIRECTS_MAX {
        let is_own = url.origin() == endpoint.base.origin();
        let client = connections.client(is_own);
        let mut headers = call.headers.clone();
        // A compressed transfer has other bytes than its digest is of.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if is_own {
            headers.extend(endpoint.headers.clone());
            if let Some(value) = authorization {
                headers.insert(AUTHORIZATION, value.clone());
            }
        }
        let sent = send(client, limits, subject, call, url.clone(), headers).await;
        let response = sent.map_err(|error| match connections.proxy(is_own, &url) {
            Some(proxy) => error.through(&proxy),
            None => error,
        })?;
        let Some(next) = redirection(call, &response, subject)? else {
            return Ok(Reply {
                response,
                subject: subject.clone(),
                stall_timeout: limits.stall_timeout,
                ended: false,
                returned: None,
            });
        };
        url = next;
    }
    Err(Error::Protocol {
        subject: subject.clone(),
        server: authority(&url),
        reason: format!("more than {REDIRECTS_MAX} redirects"),
    })
}

/// Where the answer sends us, if it does.
fn redirection(
    call: &Call<'_>,
    response: &reqwest::Response,
    subject: &Subject,
) -> Result<Option<Url>> {
    let reading = matches!(call.method, Method::GET | Method::HEAD);
    let follows = match response.status().as_u16() {
        301..=303 => reading,
        307 | 308 => true,
        _ => false,
    };
    if !follows {
        return Ok(None);
    }
    let refused = |reason: &str| Error::Protocol {
        subject: subject.clone(),
        server: authority(response.url()),
        reason: reason.to_owned(),
    };
    let location = response.headers().get(LOCATION);
    let location = location
        .and_then(|value| value.to_str().ok())
        .and_then(|value| response.url().join(value).ok())
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| refused("a redirect without an address"))?;
    let is_downgrade = response.url().scheme() == "https" && location.scheme() == "http";
    if is_downgrade && !call.follows_to_plain {
        let reason = "a redirect from TLS to plain HTTP, which only a known digest would make safe";
        return Err(refused(reason));
    }
    Ok(Some(location))
}

async fn send(
    client: &reqwest::Client,
    limits: &Limits,
    subject: &Subject,
    call: &Call<'_>,
    url: Url,
    headers: HeaderMap,
) -> Result<reqwest::Response> {
    let server = authority(&url);
    let activity = Activity::default();
    let mut request = client.request(call.method.clone(), url).headers(headers);
    match &call.payload {
        Payload::None => {
            if !matches!(call.method, Method::GET | Method::HEAD) {
                request = request.header(CONTENT_LENGTH, 0);
            }
        }
        Payload::Bytes(bytes) => request = request.body(bytes.clone()),
        Payload::Body {
            body,
            offset,
            length,
        } => {
            let failed = |source| Error::Body {
                subject: subject.clone(),
                source,
            };
            let reader = body.open(*offset).await.map_err(failed)?;
            let stream = body_stream(reader, *length, activity.clone());
            request = request
                .header(CONTENT_LENGTH, *length)
                .body(reqwest::Body::wrap_stream(stream));
            activity.begin();
        }
    }
    let sent = tokio::select! {
        sent = request.send() => sent,
        silence = activity.silence(limits) => {
            return Err(Error::Hang { subject: subject.clone(), server, silence, attempts: 1 });
        }
    };
    sent.map_err(|error| match activity.take_failure() {
        Some(source) => Error::Body {
            subject: subject.clone(),
            source,
        },
        None => connection_error(subject, server, &error),
    })
}

/// When the last byte of a request was taken, so that a long upload is no hang.
#[derive(Clone, Debug)]
struct Activity(Arc<Mutex<Progress>>);

#[derive(Debug)]
struct Progress {
    last: Instant,
    /// Whether there is more to send.
    sending: bool,
    /// Whether there was something to send at all.
    is_upload: bool,
    /// Why the body could not be read.
    failure: Option<std::io::Error>,
}

impl Default for Activity {
    fn default() -> Self {
        Activity(Arc::new(Mutex::new(Progress {
            last: Instant::now(),
            sending: false,
            is_upload: false,
            failure: None,
        })))
    }
}

impl Activity {
    fn with<T>(&self, change: impl FnOnce(&mut Progress) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn begin(&self) {
        self.with(|progress| {
            progress.sending = true;
            progress.is_upload = true;
            progress.last = Instant::now();
        });
    }

    fn take_failure(&self) -> Option<std::io::Error> {
        self.with(|progress| progress.failure.take())
    }

    /// Returns once nothing has happened for too long, with the time that was waited.
    async fn silence(&self, limits: &Limits) -> Duration {
        loop {
            let (last, patience) = self.with(|progress| {
                let patience = if progress.is_upload && !progress.sending {
                    limits.commit_timeout
                } else {
                    limits.stall_timeout
                };
                (progress.last, patience)
            });
            if last.elapsed() >= patience {
                return patience;
            }
            tokio::time::sleep_until(last + patience).await;
        }
    }
}

/// Reads a body piece by piece; each piece that is asked for tells that the one before is sent.
fn body_stream(
    reader: BodyReader,
    size: u64,
    activity: Activity,
) -> impl futures::Stream<Item = std::io::Result<Bytes>> {
    futures::stream::try_unfold(
        (reader, size, activity),
        async |(mut reader, left, activity)| {
            activity.with(|progress| {
                progress.last = Instant::now();
                progress.sending = left > 0;
            });
            if left == 0 {
                return Ok(None);
            }
            let wanted = usize::try_from(left)
                .map_or(UPLOAD_BUFFER_BYTES, |left| left.min(UPLOAD_BUFFER_BYTES));
            let mut buffer = bytes::BytesMut::with_capacity(wanted);
            let read = (&mut reader)
                .take(left.min(wanted as u64))
                .read_buf(&mut buffer)
                .await;
            let failed = |error: std::io::Error| {
                let copy = std::io::Error::new(error.kind(), error.to_string());
                activity.with(|progress| progress.failure = Some(error));
                copy
            };
            match read {
                Ok(0) => Err(failed(std::io::Error::new(
                    std::io::ErrorKind::UnexpectedEof,
                    format!("it ends {left} bytes before its size"),
                ))),
                Ok(count) => {
                    let left = left - count as u64;
                    // Nobody asks for what comes after the last piece.
                    activity.with(|progress| progress.sending = left > 0);
                    Ok(Some((buffer.freeze(), (reader, left, activity))))
                }
                Err(error) => Err(failed(error)),
            }
        },
    )
}

impl Reply {
    pub(crate) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// A header as text, if it is there and is text.
    pub(crate) fn header(&self, name: impl reqwest::header::AsHeaderName) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// The address that answered, after redirects.
    pub(crate) fn url(&self) -> &Url {
        self.response.url()
    }

    /// Host and port that answered, after redirects.
    pub(crate) fn server(&self) -> String {
        authority(self.url())
    }

    pub(crate) fn content_length(&self) -> Option<u64> {
        self.header(CONTENT_LENGTH)?.parse().ok()
    }

    /// The next bytes of the body; `None` at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>> {
        if let Some(bytes) = self.returned.take() {
            return Ok(Some(bytes));
        }
        match tokio::time::timeout(self.stall_timeout, self.response.chunk()).await {
            Ok(Ok(Some(bytes))) => Ok(Some(bytes)),
            Ok(Ok(None)) => {
                self.ended = true;
                Ok(None)
            }
            Ok(Err(error)) => Err(connection_error(&self.subject, self.server(), &error)),
            Err(_) => Err(Error::Hang {
                subject: self.subject.clone(),
                server: self.server(),
                silence: self.stall_timeout,
                attempts: 1,
            }),
        }
    }

    /// Gives bytes back: they are the next ones again.
    pub(crate) fn put_back(&mut self, bytes: Bytes) {
        self.returned = Some(bytes);
    }

    /// The whole body; more than `limit` bytes are an error.
    pub(crate) async fn bytes(&mut self, limit: u64) -> Result<Bytes> {
        let too_large = |reply: &Reply| Error::TooLarge {
            subject: reply.subject.clone(),
            server: reply.server(),
            limit,
        };
        if self.content_length().is_some_and(|length| length > limit) {
            return Err(too_large(self));
        }
        let mut body = bytes::BytesMut::new();
        while let Some(bytes) = self.chunk().await? {
            if (body.len() + bytes.len()) as u64 > limit {
                return Err(too_large(self));
            }
            body.extend_from_slice(&bytes);
        }
        Ok(body.freeze())
    }

    /// The answer as a refusal, with what there is of its text.
    pub(crate) async fn into_answer(mut self) -> Answer {
        let mut text = Vec::new();
        // The text is a courtesy: whatever breaks it off, the status is the answer.
        while let Ok(Some(bytes)) = self.chunk().await {
            text.extend_from_slice(&bytes[..bytes.len().min(ERROR_BYTES_MAX - text.len())]);
            if text.len() == ERROR_BYTES_MAX {
                break;
            }
        }
        answer::parse(self.server(), self.status(), self.headers(), &text)
    }
}
