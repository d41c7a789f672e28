//! Files of the web that are no part of an image: what `ADD https://…` names.
//!
//! Nobody knows what bytes are right but whoever asks. A download that breaks off goes on where it
//! was if the server can tell that the file is still the same one (RFC 9110, section 13.1.5).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::{Buf as _, Bytes};
use reqwest::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_RANGE, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH,
    IF_RANGE, LAST_MODIFIED, RANGE,
};
use reqwest::{Method, Url};

use crate::blob_stream::parse_content_range;
use crate::client::{Client, Plan, Server};
use crate::error::{Error, Result, Subject, shortened};
use crate::names::Repository;
use crate::retry::Limits;
use crate::transport::{Call, Reply, exchange};

/// What is asked for.
#[derive(Clone, Debug)]
pub struct WebRequest {
    url: Url,
    subject: Subject,
    /// Further headers, by name.
    pub headers: BTreeMap<String, String>,
    /// The value of `Authorization`; it goes to the server of the address alone.
    pub authorization: Option<String>,
    /// The tag (`ETag`) of the version that is known already.
    pub known: Option<String>,
    /// Whether it is known what must come, so that it may come without TLS.
    pub has_digest: bool,
}

impl WebRequest {
    /// Asks for what is at an address.
    ///
    /// # Errors
    /// [`Error::Name`]: it is none of `http` or `https`.
    pub fn new(address: &str) -> Result<Self> {
        let url = Url::parse(address).ok();
        let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let url = url.ok_or_else(|| Error::Name {
            text: shortened(address),
            expected: "an http or https address",
        })?;
        let subject = Subject::address(Repository::server_of(&url), &url);
        Ok(WebRequest {
            url,
            subject,
            headers: BTreeMap::new(),
            authorization: None,
            known: None,
            has_digest: false,
        })
    }

    /// The name of the server, without a port.
    #[must_use]
    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// By what name [`Observer`](crate::Observer)s are told of its failures.
    #[must_use]
    pub fn server(&self) -> &Repository {
        self.subject.repository()
    }

    fn call(&self) -> Result<Call<'static>> {
        let mut call = Call::new(Method::GET, self.url.clone());
        call.follows_to_plain = self.has_digest;
        for (name, value) in &self.headers {
            let name = HeaderName::try_from(name).ok();
            let (Some(name), Ok(value)) = (name, HeaderValue::try_from(value)) else {
                return Err(Error::Name {
                    text: shortened(value),
                    expected: "the value of a header",
                });
            };
            call = call.header(name, value);
        }
        Ok(call)
    }

    fn authorization(&self) -> Result<Option<HeaderValue>> {
        let Some(value) = &self.authorization else {
            return Ok(None);
        };
        let mut value = HeaderValue::try_from(value.trim()).map_err(|_| Error::Name {
            // Its value is nobody's business.
            text: AUTHORIZATION.to_string(),
            expected: "the name of a header with a value of one line",
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

/// What a server has.
#[derive(Debug)]
pub enum WebAnswer {
    /// The version that was known.
    Unchanged,
    /// This.
    File(Box<WebFile>),
}

/// A file on its way.
pub struct WebFile {
    plan: Plan,
    request: WebRequest,
    /// `None` between two connections.
    reply: Option<Reply>,
    /// Tells this version from others: its tag, if it is a strong one, or its time.
    validator: Option<HeaderValue>,
    etag: Option<String>,
    last_modified: Option<SystemTime>,
    size: Option<u64>,
    is_gzip: bool,
    received: u64,
    resumes: u32,
}

impl std::fmt::Debug for WebFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebFile")
            .field("subject", &self.request.subject)
            .field("size", &self.size)
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Asks a server for a file. Redirects are followed, but from TLS to plain HTTP
    /// only where it is known what must come.
    ///
    /// # Errors
    /// See [`Error`]; all name the address.
    pub async fn web(&self, request: &WebRequest) -> Result<WebAnswer> {
        let mut plan = Plan::elsewhere(self, &request.subject, &request.url)?;
        let reply = loop {
            match ask(self, &plan.server(), request, None).await {
                Ok(reply) => break reply,
                Err(error) => plan.failed(error).await?,
            }
        };
        if reply.status() == 304 {
            return Ok(WebAnswer::Unchanged);
        }
        let etag = reply.header(ETAG);
        let etag = etag.map(|tag| tag.trim_start_matches("W/").to_owned());
        // There are servers that tell versions apart, but do not compare.
        if etag.is_some() && etag == request.known {
            return Ok(WebAnswer::Unchanged);
        }
        let header = |name| reply.headers().get(name);
        let changed = reply.header(LAST_MODIFIED);
        let encoding = reply.header(CONTENT_ENCODING);
        let is_strong = |tag: &&HeaderValue| !tag.as_bytes().starts_with(b"W/");
        let validator = header(ETAG).filter(is_strong).or(header(LAST_MODIFIED));
        Ok(WebAnswer::File(Box::new(WebFile {
            validator: validator.cloned(),
            etag,
            last_modified: changed.and_then(|text| httpdate::parse_http_date(text).ok()),
            size: reply.content_length(),
            is_gzip: encoding.is_some_and(|encoding| encoding.eq_ignore_ascii_case("gzip")),
            plan,
            request: request.clone(),
            reply: Some(reply),
            received: 0,
            resumes: 0,
        })))
    }
}

/// Where a download goes on, and what tells that it is the same file.
struct Rest<'r> {
    start: u64,
    validator: &'r HeaderValue,
}

async fn ask(
    client: &Client,
    server: &Arc<Server>,
    request: &WebRequest,
    rest: Option<Rest<'_>>,
) -> Result<Reply> {
    let mut call = request.call()?;
    if let Some(Rest { start, validator }) = &rest {
        if let Ok(range) = HeaderValue::try_from(format!("bytes={start}-")) {
            call = call.header(RANGE, range);
        }
        call = call.header(IF_RANGE, (*validator).clone());
    } else if let Some(known) = &request.known
        && let Ok(known) = HeaderValue::try_from(known)
    {
        call = call.header(IF_NONE_MATCH, known);
    }
    let (endpoint, connections) = (&server.endpoint, server.connections());
    // What a server makes or fetches when it is asked for takes its time.
    let patience = client.limits().commit_timeout;
    let limits = &Limits {
        stall_timeout: patience,
        ..client.limits().clone()
    };
    let subject = &request.subject;
    let authorization = request.authorization()?;
    let authorization = authorization.as_ref();
    let reply = exchange(endpoint, connections, limits, subject, &call, authorization).await?;
    match reply.status() {
        200 | 201 | 203 => Ok(reply),
        206 if rest.is_some() => Ok(reply),
        304 if request.known.is_some() => Ok(reply),
        _ => {
            let answer = reply.into_answer().await;
            Err(answer.into_error(subject, request.authorization.is_some()))
        }
    }
}

impl WebFile {
    /// How many bytes there are, if that is known.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// The tag of this version, without the mark of a weak one.
    #[must_use]
    pub fn etag(&self) -> Option<&str> {
        self.etag.as_deref()
    }

    /// When it was changed last, as the server says.
    #[must_use]
    pub fn last_modified(&self) -> Option<SystemTime> {
        self.last_modified
    }

    /// Whether what comes is compressed, though nobody has asked for that: the file is what is in
    /// it.
    #[must_use]
    pub fn is_gzip(&self) -> bool {
        self.is_gzip
    }

    /// The next bytes, as they are sent; `None` after all of them.
    ///
    /// # Errors
    /// See [`Error`]; nothing comes after it.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        loop {
            let Some(reply) = &mut self.reply else {
                self.reopen().await?;
                continue;
            };
            let server = reply.server();
            let failure = match reply.chunk().await {
                Ok(Some(bytes)) if bytes.is_empty() => continue,
                Ok(Some(bytes)) => {
                    self.received += bytes.len() as u64;
                    self.plan.progressed();
                    return Ok(Some(bytes));
                }
                Ok(None) if self.size.is_none_or(|size| size == self.received) => return Ok(None),
                Ok(None) => self.cut_off(server, "the answer ends there".to_owned()),
                Err(Error::Connection { reason, .. }) => self.cut_off(server, reason),
                Err(other) => other,
            };
            self.reply = None;
            self.resumes += 1;
            let resumes_max = self.plan.client().limits().resumes_max;
            if self.resumes > resumes_max || self.validator.is_none() {
                return Err(failure.after(self.resumes));
            }
            self.plan.failed(failure).await?;
        }
    }

    /// Asks for what is missing until somebody answers.
    async fn reopen(&mut self) -> Result<()> {
        loop {
            match self.ask_for_rest().await {
                Ok(reply) => {
                    self.reply = Some(reply);
                    return Ok(());
                }
                Err(error) => self.plan.failed(error).await?,
            }
        }
    }

    async fn ask_for_rest(&self) -> Result<Reply> {
        let rest = self.validator.as_ref().map(|validator| Rest {
            start: self.received,
            validator,
        });
        let (client, server) = (self.plan.client(), self.plan.server());
        let asked = ask(client, &server, &self.request, rest).await;
        let mut reply = asked.map_err(|error| match error.answer() {
            Some(answer) if answer.status == 416 => {
                self.cut_off(answer.server.clone(), "the rest is not there".to_owned())
            }
            _ => error,
        })?;
        let server = reply.server();
        let protocol = |reason: &str| Error::Protocol {
            subject: self.request.subject.clone(),
            server: server.clone(),
            reason: reason.to_owned(),
        };
        if reply.status() == 206 {
            let range = reply.header(CONTENT_RANGE).and_then(parse_content_range);
            return match range {
                Some((start, ..)) if start == self.received => Ok(reply),
                _ => Err(protocol("a partial answer that is not the rest")),
            };
        }
        // All of it: of the same version, or of another one.
        let tag = reply
            .headers()
            .get(ETAG)
            .or(reply.headers().get(LAST_MODIFIED));
        if tag != self.validator.as_ref() {
            return Err(protocol("the file has changed while it was fetched"));
        }
        let mut known = self.received;
        while known > 0 {
            let Some(mut bytes) = reply.chunk().await? else {
                return Err(self.cut_off(server, "the answer ends there".to_owned()));
            };
            let length = usize::try_from(known).map_or(bytes.len(), |left| left.min(bytes.len()));
            bytes.advance(length);
            known -= length as u64;
            if !bytes.is_empty() {
                reply.put_back(bytes);
            }
        }
        Ok(reply)
    }

    fn cut_off(&self, server: String, reason: String) -> Error {
        Error::Truncated {
            subject: self.request.subject.clone(),
            server,
            received: self.received,
            expected: self.size,
            reason,
            attempts: 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_of_the_web_and_shows_no_password() {
        for text in ["ftp://h/a", "h/a", "", "http://", "file:///etc/passwd"] {
            assert!(WebRequest::new(text).is_err(), "{text}");
        }
        let request = WebRequest::new("https://me:secret@h.example:8443/a?b=c#d").unwrap();
        assert_eq!(request.host(), "h.example");
        let shown = request.subject.to_string();
        assert_eq!(shown, "https://xxxxx:xxxxx@h.example:8443/a?b=c");
        let request = WebRequest::new("https://token@h.example/a").unwrap();
        assert_eq!(request.subject.to_string(), "https://xxxxx@h.example/a");
    }
}
