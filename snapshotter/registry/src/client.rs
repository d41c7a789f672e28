//! The client: what it is made of, and how a request finds its server, its login and its second
//! attempt.
//!
//! What is asked is in `pull.rs`, `blob_stream.rs`, `range.rs` and `push.rs`; all of them follow
//! one pattern: a [`Plan`] names the server to ask, and is told of each failure.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Url;

use crate::auth::{Asker, Authorization, Scheme, Scopes, Tokens};
use crate::credentials::{Anonymous, Credentials};
use crate::digest::Digest;
use crate::error::{Error, Result, Subject};
use crate::hosts::{Capability, Endpoint, Hosts};
use crate::names::Repository;
use crate::proxies::Proxies;
use crate::retry::{Limits, Next, Observer, Retry, Unobserved};
use crate::transport::{Call, Connections, Reply, exchange};

/// How often one request is sent with other logins: without, with a stale token, with a token for
/// fewer rights than are needed, with the right one.
const LOGIN_ATTEMPTS_MAX: usize = 4;

/// What is remembered of servers that sent wrong bytes.
const DISTRUSTED_MAX: usize = 1024;

/// Talks to registries. Cheap to clone; all clones share connections and tokens, and may be used
/// from any number of tasks. Dropping a future ends its request.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    hosts: Hosts,
    proxies: Proxies,
    credentials: Arc<dyn Credentials>,
    observer: Arc<dyn Observer>,
    limits: Limits,
    tokens: Tokens,
    /// By the registry as a person names it.
    servers: Mutex<HashMap<String, Arc<[Arc<Server>]>>>,
    /// Servers that sent other bytes than the digest says, so that the next attempt asks another.
    distrusted: Mutex<HashSet<(String, Digest)>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("hosts", &self.shared.hosts)
            .field("limits", &self.shared.limits)
            .finish_non_exhaustive()
    }
}

/// What a client is made of; each part has a default.
#[derive(Default)]
pub struct ClientBuilder {
    hosts: Hosts,
    proxies: Proxies,
    credentials: Option<Arc<dyn Credentials>>,
    observer: Option<Arc<dyn Observer>>,
    limits: Limits,
}

impl std::fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientBuilder").finish_non_exhaustive()
    }
}

impl ClientBuilder {
    /// Mirrors, certificates, plain HTTP. Default: nothing is configured.
    #[must_use]
    pub fn hosts(mut self, hosts: Hosts) -> Self {
        self.hosts = hosts;
        self
    }

    /// What is between here and registries. Default: nothing.
    #[must_use]
    pub fn proxies(mut self, proxies: Proxies) -> Self {
        self.proxies = proxies;
        self
    }

    /// Where logins come from. Default: anonymous.
    #[must_use]
    pub fn credentials(mut self, credentials: Arc<dyn Credentials>) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Who is told of retries. Default: nobody but the log of those who debug.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Other limits than the usual.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The client. Files of the configuration are read when a host is first asked, and remembered:
    /// a new client reads them again.
    #[must_use]
    pub fn build(self) -> Client {
        Client {
            shared: Arc::new(Shared {
                hosts: self.hosts,
                proxies: self.proxies,
                credentials: self.credentials.unwrap_or_else(|| Arc::new(Anonymous)),
                observer: self.observer.unwrap_or_else(|| Arc::new(Unobserved)),
                limits: self.limits,
                tokens: Tokens::default(),
                servers: Mutex::default(),
                distrusted: Mutex::default(),
            }),
        }
    }
}

/// An endpoint with its connections and what was learnt of it.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) endpoint: Endpoint,
    connections: Connections,
    scheme: Mutex<Option<Scheme>>,
    /// Whether it wants to be spoken to in another way.
    is_unfit: AtomicBool,
    /// Whether anything ever came from it: its name is right then.
    has_answered: AtomicBool,
}

impl Server {
    pub(crate) fn connections(&self) -> &Connections {
        &self.connections
    }

    pub(crate) fn scheme(&self) -> Option<Scheme> {
        self.scheme
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn set_scheme(&self, scheme: Scheme) {
        *self.scheme.lock().unwrap_or_else(PoisonError::into_inner) = Some(scheme);
    }

    fn set_unfit(&self) {
        self.is_unfit.store(true, Ordering::Relaxed);
    }

    /// Whether `other` is the same server, spoken to in another way.
    fn is_twin_of(&self, other: &Server) -> bool {
        self.endpoint.server() == other.endpoint.server()
    }

    /// The name that a repository has here: a mirror may keep it below a path.
    pub(crate) fn repository_name(&self, name: &str) -> String {
        let path = self.endpoint.base.path();
        let prefix = path.strip_prefix("/v2/").unwrap_or_default();
        format!("{prefix}{name}")
    }

    /// `BASE/NAME/PATH`, for mirrors with the registry that they stand for.
    pub(crate) fn url(&self, repository: &Repository, path: &str) -> Url {
        let mut url = self.endpoint.base.clone();
        let place = format!("{}{}/{path}", url.path(), repository.name());
        url.set_path(&place);
        if let Some(namespace) = &self.endpoint.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        url
    }

    pub(crate) fn scopes(&self, repository: &Repository, actions: &str) -> Scopes {
        let mut scopes = Scopes::default();
        scopes.add(&self.repository_name(repository.name()), actions);
        scopes
    }
}

impl Client {
    /// A client with other parts than the usual.
    #[must_use]
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// The limits that it was given.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    pub(crate) fn tokens(&self) -> &Tokens {
        &self.shared.tokens
    }

    pub(crate) fn credentials(&self) -> &dyn Credentials {
        &*self.shared.credentials
    }

    /// The servers of a registry, in order. Configuration is read once for each.
    fn servers(&self, registry: &str) -> Result<Arc<[Arc<Server>]>> {
        let lock = || {
            let servers = &self.shared.servers;
            servers.lock().unwrap_or_else(PoisonError::into_inner)
        };
        if let Some(servers) = lock().get(registry) {
            return Ok(servers.clone());
        }
        let mut servers = Vec::new();
        for endpoint in self.shared.hosts.endpoints(registry)? {
            servers.push(Arc::new(self.server(endpoint)?));
        }
        // Whoever was first decides, so that all share one pool of connections.
        let mut known = lock();
        Ok(known
            .entry(registry.to_owned())
            .or_insert_with(|| servers.into())
            .clone())
    }

    fn server(&self, endpoint: Endpoint) -> Result<Server> {
        let shared = &self.shared;
        Ok(Server {
            connections: Connections::new(&endpoint, &shared.limits, &shared.proxies)?,
            endpoint,
            scheme: Mutex::default(),
            is_unfit: AtomicBool::new(false),
            has_answered: AtomicBool::new(false),
        })
    }

    pub(crate) fn distrust(&self, server: &Server, digest: &Digest) {
        let mut distrusted = self
            .shared
            .distrusted
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if distrusted.len() >= DISTRUSTED_MAX {
            distrusted.clear();
        }
        distrusted.insert((server.endpoint.server(), *digest));
    }

    /// Tells that wrong bytes are asked for once more.
    pub(crate) fn observe_repeated(&self, subject: &Subject, cause: &Error) {
        self.shared.observer.retrying(&Retry {
            subject,
            server: subject.repository().host(),
            cause,
            attempt: 1,
            attempts_max: 2,
            next: Next::Again {
                wait: Duration::ZERO,
            },
        });
    }

    fn is_distrusted(&self, server: &Server, digest: &Digest) -> bool {
        let distrusted = self
            .shared
            .distrusted
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        distrusted.contains(&(server.endpoint.server(), *digest))
    }

    /// Sends a request with the login that the server wants. Every answer but a 401 is an answer.
    pub(crate) async fn send(
        &self,
        server: &Server,
        subject: &Subject,
        scopes: &Scopes,
        call: &Call<'_>,
    ) -> Result<Reply> {
        let asker = Asker {
            client: self,
            server,
            subject,
            scopes,
        };
        // An address elsewhere, as for uploads, is signed by itself.
        let is_own = call.url.origin() == server.endpoint.base.origin();
        let mut sent: Option<Authorization> = match is_own {
            true => asker.prepare().await?,
            false => None,
        };
        let mut attempts_left = LOGIN_ATTEMPTS_MAX;
        loop {
            let header = sent.as_ref().map(|sent| &sent.header);
            let connections = server.connections();
            let limits = self.limits();
            let reply =
                exchange(&server.endpoint, connections, limits, subject, call, header).await?;
            if is_own {
                server.has_answered.store(true, Ordering::Relaxed);
            }
            if is_answer_to_plain_http(&reply) {
                server.set_unfit();
                let (subject, server) = (subject.clone(), reply.server());
                return Err(Error::WantsTls { subject, server });
            }
            if reply.status() != 401 {
                return Ok(reply);
            }
            attempts_left -= 1;
            let is_elsewhere = reply.url().origin() != server.endpoint.base.origin();
            if attempts_left == 0 || is_elsewhere {
                return Err(asker.unauthorized(reply.into_answer().await, sent.as_ref()));
            }
            sent = Some(asker.challenged(reply, sent.as_ref()).await?);
        }
    }

    /// Sends a request without telling who asks, whatever the server wants.
    pub(crate) async fn ask_anonymously(
        &self,
        server: &Server,
        subject: &Subject,
        call: &Call<'_>,
    ) -> Result<Reply> {
        let (endpoint, connections) = (&server.endpoint, server.connections());
        exchange(endpoint, connections, self.limits(), subject, call, None).await
    }

    /// The error that an answer is which nobody wanted.
    pub(crate) async fn refusal(&self, reply: Reply, subject: &Subject) -> Error {
        reply.into_answer().await.into_error(subject, false)
    }
}

/// Whether a server says that it wants TLS. What is written in Go does so without any header, and a
/// HEAD gets no text to tell it by.
fn is_answer_to_plain_http(reply: &Reply) -> bool {
    reply.status() == 400 && reply.url().scheme() == "http" && reply.headers().is_empty()
}

/// Whom to ask for something, and what to do when that fails: wait and ask again, ask the next
/// server, or give up.
pub(crate) struct Plan {
    client: Client,
    subject: Subject,
    servers: Vec<Arc<Server>>,
    at: usize,
    /// Failures in a row at the present server.
    failures: u32,
    /// Whether wrong bytes came.
    has_mismatched: bool,
}

impl Plan {
    /// Asks the servers of the registry that may be asked for this.
    pub(crate) fn new(client: &Client, subject: &Subject, capability: Capability) -> Result<Self> {
        let servers = client.servers(subject.repository().host())?;
        let mut servers: Vec<_> = servers
            .iter()
            .filter(|server| server.endpoint.capabilities.has(capability))
            .cloned()
            .collect();
        let fit = |server: &Arc<Server>| !server.is_unfit.load(Ordering::Relaxed);
        if servers.iter().any(fit) {
            servers.retain(fit);
        }
        if servers.is_empty() {
            return Err(Error::NoEndpoint {
                subject: subject.clone(),
                capability: capability.name(),
            });
        }
        if let crate::error::Thing::Blob(digest) = subject.thing() {
            // Stable, and none is left out: the only one may have been mended.
            servers.sort_by_key(|server| client.is_distrusted(server, digest));
        }
        Ok(Plan {
            client: client.clone(),
            subject: subject.clone(),
            servers,
            at: 0,
            failures: 0,
            has_mismatched: false,
        })
    }

    /// Asks the one server of an address outside of registries.
    pub(crate) fn elsewhere(client: &Client, subject: &Subject, url: &Url) -> Result<Self> {
        let server = client.server(Endpoint::of_address(url))?;
        Ok(Plan {
            client: client.clone(),
            subject: subject.clone(),
            servers: vec![Arc::new(server)],
            at: 0,
            failures: 0,
            has_mismatched: false,
        })
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Whom to ask now.
    pub(crate) fn server(&self) -> Arc<Server> {
        self.servers[self.at].clone()
    }

    /// Something came: the server is alive.
    pub(crate) fn progressed(&mut self) {
        self.failures = 0;
    }

    /// Returns when it is time to ask [`server`](Self::server) again, which may be another now.
    ///
    /// # Errors
    /// There is nothing left to try: `cause`.
    pub(crate) async fn failed(&mut self, cause: Error) -> Result<()> {
        self.failures += 1;
        let cause = cause.after(self.failures);
        if matches!(cause, Error::DigestMismatch { .. }) && self.repeats_mismatch(&cause) {
            self.observe(
                &cause,
                2,
                Next::Again {
                    wait: Duration::ZERO,
                },
            );
            return Ok(());
        }
        let limits = self.client.limits();
        let next = self.next(&cause);
        let failures_max = self.failures_max(&cause, next.is_none());
        if cause.is_transient()
            && self.failures < failures_max
            && let Some(wait) = limits.wait(self.failures, &cause)
        {
            self.observe(&cause, failures_max, Next::Again { wait });
            tokio::time::sleep(wait).await;
            return Ok(());
        }
        let Some(next) = next.filter(|_| self.may_move_on(&cause)) else {
            return Err(cause);
        };
        let server = self.servers[next].endpoint.server();
        self.observe(&cause, failures_max, Next::Server(&server));
        self.at = next;
        self.failures = 0;
        Ok(())
    }

    /// After how many failures in a row the present server is given up.
    fn failures_max(&self, cause: &Error, is_last: bool) -> u32 {
        let limits = self.client.limits();
        let is_unreachable = matches!(
            cause,
            Error::Connection {
                is_unreachable: true,
                ..
            }
        );
        match is_last {
            false => limits.mirror_attempts_max,
            true if is_unreachable && !self.server().has_answered.load(Ordering::Relaxed) => {
                limits.connect_attempts_max
            }
            true => limits.attempts_max,
        }
    }

    /// Whether wrong bytes are asked for once more here: they may have been changed on their way.
    fn repeats_mismatch(&mut self, cause: &Error) -> bool {
        !std::mem::replace(&mut self.has_mismatched, true) && self.next(cause).is_none()
    }

    /// Who is asked when the present server has failed in this way, if there is somebody.
    fn next(&self, cause: &Error) -> Option<usize> {
        let here = self.server();
        // Who does not answer at all does not do it over TLS either.
        let is_plain = here.endpoint.base.scheme() == "http";
        let wants_tls = matches!(cause, Error::WantsTls { .. });
        let is_asked = |at: &usize| {
            let is_twin = self.servers[*at].is_twin_of(&here);
            !(is_plain && is_twin) || wants_tls
        };
        (self.at + 1..self.servers.len()).find(is_asked)
    }

    /// What is wrong here is not wrong everywhere. An answer of the registry itself is the answer,
    /// though it may have a second address without TLS.
    fn may_move_on(&self, cause: &Error) -> bool {
        let is_mirror = self.server().endpoint.namespace.is_some();
        match cause {
            Error::Body { .. } | Error::Name { .. } | Error::Config { .. } => false,
            Error::Tls { .. }
            | Error::WantsTls { .. }
            | Error::Connection { .. }
            | Error::DigestMismatch { .. } => true,
            _ => is_mirror,
        }
    }

    fn observe(&self, cause: &Error, attempts_max: u32, next: Next<'_>) {
        let server = self.server().endpoint.server();
        tracing::debug!(%cause, ?next, attempt = self.failures, "a registry request failed");
        self.client.shared.observer.retrying(&Retry {
            subject: &self.subject,
            server: &server,
            cause,
            attempt: self.failures,
            attempts_max,
            next,
        });
    }
}
