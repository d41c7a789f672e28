//! The one error type of this crate.
//!
//! A message names what was wanted, who was asked, what came back, and what to do next. Texts of
//! servers are quoted, bounded, and cannot move the cursor of a terminal.

mod hints;
mod quoted;
mod subject;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use self::hints::{
    after, attempt, denied_hint, https_hint, known, login_hint, peer, protocol, rate_hint,
    refused_hint, seconds, tls_hint, unauthorized, unknown_hint,
};
pub(crate) use self::quoted::shortened;
pub use self::subject::{Subject, Thing};
use crate::digest::Digest;

/// What a server answered where another answer was hoped for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Host and port that answered.
    pub server: String,
    /// The status; 0 if there was none.
    pub status: u16,
    /// The codes of the distribution specification: `MANIFEST_UNKNOWN`.
    pub codes: Vec<String>,
    /// Its own words, shortened and without control characters; may be empty.
    pub text: String,
    /// How long it wants to be left alone.
    pub retry_after: Option<Duration>,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answers {}", self.server, self.status)?;
        if !self.text.is_empty() {
            write!(f, ": {}", self.text)?;
        }
        Ok(())
    }
}

/// Why no TLS connection came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsCause {
    /// Nobody that this host trusts has signed the certificate.
    UnknownIssuer,
    /// The certificate is for another name.
    WrongName,
    /// The certificate is not valid yet, or not any more.
    Expired,
    /// The server wants a certificate of the client, or another one.
    ClientCertificate,
    /// The server does not speak TLS.
    PlainHttp,
    /// Anything else.
    Other,
}

/// What can go wrong between here and a registry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Text that is not what it should be.
    #[error("{text:?} is not {expected}")]
    Name {
        /// The text, shortened.
        text: String,
        /// What it should be.
        expected: &'static str,
    },
    /// The configuration of a host cannot be used.
    #[error("{}: {reason}; mend the file, or remove it", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Stored credentials cannot be had.
    #[error(
        "cannot get credentials for {registry}: {reason}; log in again with `varve login {registry}`, or correct docker's config.json"
    )]
    Credentials {
        /// The registry as a person names it.
        registry: String,
        /// What is wrong.
        reason: String,
    },
    /// The registry has the repository, but no such manifest.
    #[error("{subject} does not exist: {answer}; {}", unknown_hint(subject))]
    ManifestUnknown {
        /// What was asked for.
        subject: Subject,
        /// What came back.
        answer: Box<Answer>,
    },
    /// The registry does not know the repository.
    #[error("{subject}: there is no repository {}: {answer}; check its spelling, and if it is private, log in with `varve login {}`", subject.repository(), subject.repository().host())]
    RepositoryUnknown {
        /// What was asked for.
        subject: Subject,
        /// What came back.
        answer: Box<Answer>,
    },
    /// The registry has the repository, but no such blob.
    #[error("{subject} does not exist: {answer}; the image there is incomplete: push it again")]
    BlobUnknown {
        /// What was asked for.
        subject: Subject,
        /// What came back.
        answer: Box<Answer>,
    },
    /// The registry wants to know who asks, or does not accept who does.
    #[error("{subject} {}: {answer}; {}", unauthorized(subject), login_hint(subject, *had_credentials, *expired))]
    Unauthorized {
        /// What was asked for.
        subject: Subject,
        /// What came back, from the registry or its token server.
        answer: Box<Answer>,
        /// Whether there were credentials to show.
        had_credentials: bool,
        /// Whether a token that was accepted before is not any more.
        expired: bool,
    },
    /// The registry knows who asks, and refuses.
    #[error("access to {subject} is denied: {answer}; {}", denied_hint(subject))]
    Denied {
        /// What was asked for.
        subject: Subject,
        /// What came back.
        answer: Box<Answer>,
    },
    /// The registry wants fewer requests.
    #[error(
        "too many requests for {subject}: {answer}{}; {}",
        after(*attempts),
        rate_hint(subject, answer)
    )]
    RateLimited {
        /// What was asked for.
        subject: Subject,
        /// What came back last.
        answer: Box<Answer>,
        /// How often it was asked.
        attempts: u32,
    },
    /// The registry has a problem of its own.
    #[error(
        "{subject}: {answer}{}; the {} has a problem: try again later",
        after(*attempts),
        peer(subject)
    )]
    Server {
        /// What was asked for.
        subject: Subject,
        /// What came back last.
        answer: Box<Answer>,
        /// How often it was asked.
        attempts: u32,
    },
    /// The registry refuses a request for another reason.
    #[error("{subject}: {answer}; {}", refused_hint(subject))]
    Refused {
        /// What was asked for.
        subject: Subject,
        /// What came back.
        answer: Box<Answer>,
    },
    /// No connection, or it ended before the answer was complete.
    #[error(
        "{subject}: no answer from {server}: {reason}{}; check the network, the name of the {} and the proxy settings",
        after(*attempts),
        peer(subject)
    )]
    Connection {
        /// What was asked for.
        subject: Subject,
        /// Host and port that were asked.
        server: String,
        /// What the network says.
        reason: String,
        /// How often it was tried.
        attempts: u32,
        /// Whether the server was not even reached: there is nobody of this name or address.
        is_unreachable: bool,
    },
    /// No TLS connection.
    #[error("{subject}: no TLS connection to {server}: {reason}; {}", tls_hint(subject, *cause, server))]
    Tls {
        /// What was asked for.
        subject: Subject,
        /// Host and port that were asked.
        server: String,
        /// The kind of failure.
        cause: TlsCause,
        /// What the TLS library says.
        reason: String,
    },
    /// A server that speaks TLS was asked without.
    #[error(
        "{subject}: {server} was asked over plain HTTP, and speaks TLS; {}",
        https_hint(server)
    )]
    WantsTls {
        /// What was asked for.
        subject: Subject,
        /// Host and port that were asked.
        server: String,
    },
    /// What the environment says of proxies cannot be used.
    #[error(
        "{variable} is no address of a proxy: {reason}; write it as http://HOST:PORT, or unset it"
    )]
    Proxy {
        /// The variable. Its value may hold a password.
        variable: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The registry keeps the connection and says nothing.
    #[error("{subject}: {server} hangs: not a byte for {} s{}; try again later, or use a mirror", seconds(*silence), after(*attempts))]
    Hang {
        /// What was asked for.
        subject: Subject,
        /// Host and port that were asked.
        server: String,
        /// How long was waited.
        silence: Duration,
        /// How often it was tried.
        attempts: u32,
    },
    /// The bytes are not those that were asked for.
    #[error(
        "{subject}: {server} sent other bytes: they have {actual}, expected is {expected}; nothing of them was kept. Pull again; if it stays so, the registry or a proxy before it is damaged"
    )]
    DigestMismatch {
        /// What was asked for.
        subject: Subject,
        /// Host and port that sent them.
        server: String,
        /// What was asked for, or promised.
        expected: Box<Digest>,
        /// What came.
        actual: Box<Digest>,
    },
    /// The content has another size than its descriptor says.
    #[error(
        "{subject}: {server} sends {actual} bytes, expected are {expected}; the registry or a proxy before it is damaged, or the image is: push it again"
    )]
    SizeMismatch {
        /// What was asked for.
        subject: Subject,
        /// Host and port that sent them.
        server: String,
        /// What was asked for.
        expected: u64,
        /// What is offered.
        actual: u64,
    },
    /// The content ended too early, however often the rest was asked for.
    #[error("{subject} is cut off at {server}: {received} of {} bytes arrived{} ({reason}); {} again", known(*expected), after(*attempts), attempt(subject))]
    Truncated {
        /// What was asked for.
        subject: Subject,
        /// Host and port that sent it.
        server: String,
        /// Bytes that arrived.
        received: u64,
        /// Bytes that should have, if that is known.
        expected: Option<u64>,
        /// How the last connection ended.
        reason: String,
        /// How often it was tried without a byte of progress.
        attempts: u32,
    },
    /// A document larger than any honest one.
    #[error(
        "{subject}: {server} sends more than the {limit} bytes that it may have; this is no image that varve can use"
    )]
    TooLarge {
        /// What was asked for.
        subject: Subject,
        /// Host and port that sent it.
        server: String,
        /// The bound.
        limit: u64,
    },
    /// A manifest of 2015.
    #[error(
        "{subject} is a Docker image manifest of schema version 1, which is obsolete and cannot be verified; have its owner push the image again with a current tool"
    )]
    SchemaOne {
        /// What was asked for.
        subject: Subject,
    },
    /// A document that is no manifest.
    #[error(
        "{subject}: what {server} sends is no image manifest: {reason}; check that the address is a registry, and the name an image"
    )]
    NotAManifest {
        /// What was asked for.
        subject: Subject,
        /// Host and port that sent it.
        server: String,
        /// What it is instead.
        reason: String,
    },
    /// An answer that the distribution specification does not allow.
    #[error(
        "{subject}: the answer of {server} breaks the {}: {reason}; {}", protocol(subject).0, protocol(subject).1
    )]
    Protocol {
        /// What was asked for.
        subject: Subject,
        /// Host and port that answered.
        server: String,
        /// Which rule.
        reason: String,
    },
    /// What is to be pushed cannot be read.
    #[error("{subject}: cannot read what is to be pushed: {source}")]
    Body {
        /// What was to be pushed.
        subject: Subject,
        /// The reader's answer.
        #[source]
        source: std::io::Error,
    },
    /// Neither the registry has it nor the addresses that its image names.
    #[error("{subject}: neither its registry has it nor where the image says it is: {}; ask whoever made the image where its layers are", asked.join("; "))]
    Nowhere {
        /// What was asked for.
        subject: Subject,
        /// The addresses, each with what came of it.
        asked: Vec<String>,
    },
    /// No configured host may be asked.
    #[error("{subject}: no host is configured that may {capability} for {}; add the capability in its hosts.toml", subject.repository().host())]
    NoEndpoint {
        /// What was asked for.
        subject: Subject,
        /// `pull`, `resolve` or `push`.
        capability: &'static str,
    },
}

/// The result of every fallible function of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether the same request may succeed in a while.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Error::RateLimited { .. }
                | Error::Server { .. }
                | Error::Connection { .. }
                | Error::Hang { .. }
                | Error::Truncated { .. }
        )
    }

    /// Whether the registry says that there is no such thing.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(
            self,
            Error::ManifestUnknown { .. }
                | Error::RepositoryUnknown { .. }
                | Error::BlobUnknown { .. }
        )
    }

    /// Whether another login could help.
    #[must_use]
    pub fn is_unauthorized(&self) -> bool {
        matches!(self, Error::Unauthorized { .. } | Error::Denied { .. })
    }

    /// The registry's answer, if there was one.
    #[must_use]
    pub fn answer(&self) -> Option<&Answer> {
        match self {
            Error::ManifestUnknown { answer, .. }
            | Error::RepositoryUnknown { answer, .. }
            | Error::BlobUnknown { answer, .. }
            | Error::Unauthorized { answer, .. }
            | Error::Denied { answer, .. }
            | Error::RateLimited { answer, .. }
            | Error::Server { answer, .. }
            | Error::Refused { answer, .. } => Some(answer),
            _ => None,
        }
    }

    /// What happened, in short: without advice, and without how often.
    #[must_use]
    pub fn brief(&self) -> String {
        match self {
            Error::RateLimited {
                subject, answer, ..
            }
            | Error::Server {
                subject, answer, ..
            } => {
                format!("{subject}: {answer}")
            }
            Error::Connection {
                subject,
                server,
                reason,
                ..
            } => format!("{subject}: no answer from {server}: {reason}"),
            Error::Hang {
                subject,
                server,
                silence,
                ..
            } => format!(
                "{subject}: not a byte from {server} for {} s",
                seconds(*silence)
            ),
            Error::Truncated {
                subject,
                server,
                received,
                expected,
                ..
            } => {
                let expected = known(*expected);
                format!("{subject} is cut off at {server} after {received} of {expected} bytes")
            }
            Error::DigestMismatch {
                subject, server, ..
            } => format!("{subject}: {server} sent other bytes than its digest is of"),
            Error::WantsTls { server, .. } => format!("{server} speaks TLS"),
            other => other.to_string(),
        }
    }

    /// The same error of a connection, which went through a proxy.
    pub(crate) fn through(mut self, proxy: &str) -> Self {
        if let Error::Connection { reason, .. } = &mut self {
            *reason = format!("{reason} (through the proxy {proxy})");
        }
        self
    }

    /// The same error with the number of attempts that ended in it.
    pub(crate) fn after(mut self, count: u32) -> Self {
        match &mut self {
            Error::RateLimited { attempts, .. }
            | Error::Server { attempts, .. }
            | Error::Connection { attempts, .. }
            | Error::Hang { attempts, .. }
            | Error::Truncated { attempts, .. } => *attempts = count,
            _ => {}
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Repository;

    #[test]
    fn messages_name_subject_server_cause_and_next_step() {
        let repository = Repository::new("r.example:5000", "team/app").unwrap();
        let subject = Subject::manifest(&repository, &"v9".parse::<crate::Tag>().unwrap().into());
        let answer = Box::new(Answer {
            server: "r.example:5000".into(),
            status: 404,
            codes: vec!["MANIFEST_UNKNOWN".into()],
            text: "MANIFEST_UNKNOWN: manifest unknown".into(),
            retry_after: None,
        });
        let error = Error::ManifestUnknown {
            subject: subject.clone(),
            answer,
        };
        assert_eq!(
            error.to_string(),
            "r.example:5000/team/app:v9 does not exist: r.example:5000 answers 404: \
             MANIFEST_UNKNOWN: manifest unknown; check the spelling of the tag"
        );
        let error = Error::Tls {
            subject,
            server: "r.example:5000".into(),
            cause: TlsCause::UnknownIssuer,
            reason: "invalid peer certificate: UnknownIssuer".into(),
        };
        assert!(
            error
                .to_string()
                .contains("`ca` in /etc/varve/certs.d/r.example:5000/hosts.toml")
        );
        assert!(
            std::mem::size_of::<Error>() <= 128,
            "an error is cheap to return"
        );
    }
}
