//! From a challenge to the header that meets it: basic logins, tokens, and the cache of tokens.
//!
//! Distribution, "Token Authentication Specification" and "OAuth2". One token for each realm,
//! service, login and set of scopes; whoever needs the same waits for the one request.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Method, Url};
use tokio::time::Instant;

use crate::challenge::{self, Bearer, Challenge};
use crate::client::{Client, Server};
use crate::credentials::{Credential, Token, TokenRequest};
use crate::error::{Answer, Error, Result, Subject, shortened};
use crate::transport::{Call, Payload, Reply, exchange};

/// What the specification says of tokens that do not say it.
const LIFETIME_DEFAULT: Duration = Duration::from_secs(60);

/// For so long a login is not asked for again: a credential helper is a process.
const LOGIN_LIFETIME: Duration = Duration::from_secs(60);

/// A token that ends sooner is not sent any more: it may end on its way.
const LIFETIME_MARGIN: Duration = Duration::from_secs(5);

/// Tokens are some kilobytes.
const TOKEN_BYTES_MAX: u64 = 1 << 20;

/// Entries of the cache; beyond, all are dropped and asked for again.
const CACHED_TOKENS_MAX: usize = 1024;

/// Rights that are asked for: resource to actions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Scopes(BTreeMap<String, BTreeSet<String>>);

impl Scopes {
    /// `repository:NAME:ACTIONS`
    pub(crate) fn add(&mut self, name: &str, actions: &str) {
        let resource = format!("repository:{name}");
        let actions = actions.split(',').map(str::to_owned);
        self.0.entry(resource).or_default().extend(actions);
    }

    /// Adds what a challenge names, parted by blanks; the type may hold a class in parentheses.
    fn extend(&mut self, text: &str) {
        for scope in text.split_ascii_whitespace() {
            if let Some((resource, actions)) = scope.rsplit_once(':') {
                let actions = actions.split(',').map(str::to_owned);
                self.0
                    .entry(resource.to_owned())
                    .or_default()
                    .extend(actions);
            }
        }
    }

    fn list(&self) -> Vec<String> {
        let scope = |(resource, actions): (&String, &BTreeSet<String>)| {
            let actions: Vec<&str> = actions.iter().map(String::as_str).collect();
            format!("{resource}:{}", actions.join(","))
        };
        self.0.iter().map(scope).collect()
    }
}

/// How a server wants to be shown who asks; learnt from its challenges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Basic,
    Bearer(Bearer),
}

/// The header to send, and what it was made of.
#[derive(Clone)]
pub(crate) struct Authorization {
    pub(crate) header: HeaderValue,
    /// Whether a login stands behind it.
    had_credentials: bool,
    /// Whether it was used before.
    is_cached: bool,
}

impl Authorization {
    fn is_old_token(&self) -> bool {
        self.is_cached && self.header.as_bytes().starts_with(b"Bearer ")
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorization(…, cached: {})", self.is_cached)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct TokenKey {
    login: String,
    realm: String,
    service: Option<String>,
    scopes: Scopes,
}

#[derive(Clone)]
struct Cached {
    header: HeaderValue,
    had_credentials: bool,
    /// `None` for what does not end by itself.
    until: Option<Instant>,
}

/// One token; whoever holds the lock gets it.
type Slot = Arc<tokio::sync::Mutex<Option<Cached>>>;

/// All tokens of a client.
#[derive(Default)]
pub(crate) struct Tokens(Mutex<HashMap<TokenKey, Slot>>);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(…)")
    }
}

impl Tokens {
    fn slot(&self, key: TokenKey) -> Slot {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= CACHED_TOKENS_MAX && !slots.contains_key(&key) {
            slots.clear();
        }
        slots.entry(key).or_default().clone()
    }
}

/// A request that needs to show who asks.
pub(crate) struct Asker<'a> {
    pub(crate) client: &'a Client,
    pub(crate) server: &'a Server,
    pub(crate) subject: &'a Subject,
    pub(crate) scopes: &'a Scopes,
}

impl Asker<'_> {
    /// What to send at first, by what is known of the server; nothing if nothing is.
    pub(crate) async fn prepare(&self) -> Result<Option<Authorization>> {
        match self.server.scheme() {
            None => Ok(None),
            Some(scheme) => self.meet(&scheme, self.scopes, None).await,
        }
    }

    /// What to send after `reply`, which is a 401 to a request with `sent`.
    pub(crate) async fn challenged(
        &self,
        reply: Reply,
        sent: Option<&Authorization>,
    ) -> Result<Authorization> {
        let headers = reply.headers().get_all(WWW_AUTHENTICATE);
        let values = headers.iter().filter_map(|value| value.to_str().ok());
        let scheme = challenge::parse(values).into_iter().next();
        let scheme = match scheme {
            Some(Challenge::Basic) => Some(Scheme::Basic),
            Some(Challenge::Bearer(bearer)) => Some(Scheme::Bearer(bearer)),
            None => None,
        };
        let Some(scheme) = scheme else {
            return Err(self.unauthorized(reply.into_answer().await, sent));
        };
        let mut scopes = self.scopes.clone();
        let known = match &scheme {
            Scheme::Bearer(bearer) => {
                scopes.extend(bearer.scope.as_deref().unwrap_or_default());
                // The scope belongs to the request, the rest to the server.
                Scheme::Bearer(Bearer {
                    scope: None,
                    error: None,
                    ..bearer.clone()
                })
            }
            Scheme::Basic => Scheme::Basic,
        };
        self.server.set_scheme(known.clone());
        // What was made anew for this very request is not accepted: it will not be next time.
        let is_new = sent.is_some_and(|sent| !sent.is_cached && scopes == *self.scopes);
        if is_new {
            return Err(self.unauthorized(reply.into_answer().await, sent));
        }
        match self.meet(&known, &scopes, sent).await? {
            Some(authorization) => Ok(authorization),
            None => Err(self.unauthorized(reply.into_answer().await, sent)),
        }
    }

    /// The error for an answer that refuses what was sent.
    pub(crate) fn unauthorized(&self, answer: Answer, sent: Option<&Authorization>) -> Error {
        let error = answer.into_error(self.subject, sent.is_some_and(|sent| sent.had_credentials));
        match error {
            Error::Unauthorized {
                subject,
                answer,
                had_credentials,
                ..
            } => Error::Unauthorized {
                expired: sent.is_some_and(Authorization::is_old_token),
                subject,
                answer,
                had_credentials,
            },
            other => other,
        }
    }

    /// `refused` was sent and not accepted, so it is not taken from the cache. `None` if there is
    /// nothing else to show.
    async fn meet(
        &self,
        scheme: &Scheme,
        scopes: &Scopes,
        refused: Option<&Authorization>,
    ) -> Result<Option<Authorization>> {
        let slot = self.client.tokens().slot(self.key(scheme, scopes));
        let mut slot = slot.lock().await;
        let is_refused =
            |header: &HeaderValue| refused.is_some_and(|refused| refused.header == *header);
        if let Some(cached) = slot.as_ref() {
            let is_over = cached.until.is_some_and(|until| until <= Instant::now());
            if !is_refused(&cached.header) && !is_over {
                return Ok(Some(Authorization {
                    header: cached.header.clone(),
                    had_credentials: cached.had_credentials,
                    is_cached: true,
                }));
            }
        }
        *slot = None;
        let fresh = match scheme {
            Scheme::Basic => self.basic().await?,
            Scheme::Bearer(bearer) => Some(self.fetch(bearer, scopes).await?),
        };
        let Some(fresh) = fresh.filter(|fresh| !is_refused(&fresh.header)) else {
            return Ok(None);
        };
        *slot = Some(fresh.clone());
        Ok(Some(Authorization {
            header: fresh.header,
            had_credentials: fresh.had_credentials,
            is_cached: false,
        }))
    }

    fn key(&self, scheme: &Scheme, scopes: &Scopes) -> TokenKey {
        let login = self.server.endpoint.login.clone();
        match scheme {
            Scheme::Basic => TokenKey {
                login,
                realm: String::new(),
                service: None,
                scopes: Scopes::default(),
            },
            Scheme::Bearer(bearer) => TokenKey {
                login,
                realm: bearer.realm.clone(),
                service: bearer.service.clone(),
                scopes: scopes.clone(),
            },
        }
    }

    async fn basic(&self) -> Result<Option<Cached>> {
        let login = &self.server.endpoint.login;
        let header = match self.client.credentials().credential(login).await? {
            Some(Credential::Password { username, password }) => basic_header(&username, &password),
            Some(Credential::RegistryToken(token)) => self.bearer_header(&token)?,
            Some(Credential::IdentityToken(token)) => basic_header("<token>", &token),
            None => return Ok(None),
        };
        Ok(Some(Cached {
            header,
            had_credentials: true,
            until: Instant::now().checked_add(LOGIN_LIFETIME),
        }))
    }

    async fn fetch(&self, bearer: &Bearer, scopes: &Scopes) -> Result<Cached> {
        let login = &self.server.endpoint.login;
        let request = TokenRequest {
            registry: login.clone(),
            realm: bearer.realm.clone(),
            service: bearer.service.clone(),
            scopes: scopes.list(),
        };
        let credentials = self.client.credentials();
        if let Some(token) = credentials.token(&request).await? {
            return self.cached(&token, true);
        }
        let credential = credentials.credential(login).await?;
        if let Some(Credential::RegistryToken(token)) = &credential {
            return Ok(Cached {
                header: self.bearer_header(token)?,
                had_credentials: true,
                until: None,
            });
        }
        let realm = self.realm(&request, credential.is_some())?;
        // A failure here is one of the whole request, which is tried again with a new look-up.
        let token = self.ask(&realm, &request, credential.as_ref()).await?;
        self.cached(&token, credential.is_some())
    }

    /// A password must not travel less safely to the token server than to the registry.
    fn realm(&self, request: &TokenRequest, has_secret: bool) -> Result<Url> {
        let refused = |reason: &str| Error::Protocol {
            subject: self.subject.clone(),
            server: self.server.endpoint.server(),
            reason: format!("its token server {:?} {reason}", shortened(&request.realm)),
        };
        let realm = Url::parse(&request.realm).map_err(|_| refused("has no valid address"))?;
        match (realm.scheme(), self.server.endpoint.base.scheme()) {
            ("https", _) | ("http", "http") => Ok(realm),
            ("http", _) if !has_secret => Ok(realm),
            ("http", _) => Err(refused("wants the login over plain HTTP")),
            _ => Err(refused("has no valid address")),
        }
    }

    async fn ask(
        &self,
        realm: &Url,
        request: &TokenRequest,
        credential: Option<&Credential>,
    ) -> Result<Token> {
        let reply = match credential {
            Some(Credential::IdentityToken(token)) => {
                let form = [("grant_type", "refresh_token"), ("refresh_token", token)];
                self.post(realm, request, &form).await?
            }
            Some(Credential::Password { username, password }) => {
                let header = basic_header(username, password);
                let reply = self
                    .get(realm, request, Some(username), Some(header))
                    .await?;
                if !matches!(reply.status(), 404 | 405) {
                    return self.token(reply, true).await;
                }
                let form = [
                    ("grant_type", "password"),
                    ("username", username),
                    ("password", password),
                ];
                self.post(realm, request, &form).await?
            }
            Some(Credential::RegistryToken(_)) | None => {
                self.get(realm, request, None, None).await?
            }
        };
        self.token(reply, credential.is_some()).await
    }

    async fn get(
        &self,
        realm: &Url,
        request: &TokenRequest,
        account: Option<&str>,
        header: Option<HeaderValue>,
    ) -> Result<Reply> {
        let mut url = realm.clone();
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = &request.service {
                query.append_pair("service", service);
            }
            for scope in &request.scopes {
                query.append_pair("scope", scope);
            }
            if let Some(account) = account {
                query.append_pair("account", account);
            }
        }
        self.exchange(Call::new(Method::GET, url), header).await
    }

    async fn post(
        &self,
        realm: &Url,
        request: &TokenRequest,
        grant: &[(&str, &str)],
    ) -> Result<Reply> {
        // Only for its encoding of a query, which is that of a form.
        let mut form = realm.clone();
        form.query_pairs_mut()
            .clear()
            .extend_pairs(grant)
            .append_pair("service", request.service.as_deref().unwrap_or_default())
            .append_pair("client_id", "varve")
            .append_pair("scope", &request.scopes.join(" "));
        let body = Bytes::from(form.query().unwrap_or_default().to_owned());
        let content_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        let call = Call::new(Method::POST, realm.clone())
            .header(CONTENT_TYPE, content_type)
            .payload(Payload::Bytes(body));
        self.exchange(call, None).await
    }

    /// The login goes to the realm, even where that is another host, and on redirects nowhere else.
    async fn exchange(&self, call: Call<'_>, header: Option<HeaderValue>) -> Result<Reply> {
        let mut endpoint = self.server.endpoint.clone();
        let mut connections = self.server.connections().clone();
        if call.url.origin() != endpoint.base.origin() {
            endpoint.headers.clear();
            endpoint.base = call.url.clone();
            connections = connections.elsewhere();
        }
        let limits = self.client.limits();
        debug_assert!(!call.headers.contains_key(AUTHORIZATION));
        exchange(
            &endpoint,
            &connections,
            limits,
            self.subject,
            &call,
            header.as_ref(),
        )
        .await
    }

    async fn token(&self, mut reply: Reply, had_credentials: bool) -> Result<Token> {
        #[derive(serde::Deserialize)]
        struct Document {
            #[serde(default)]
            token: Option<String>,
            #[serde(default)]
            access_token: Option<String>,
            #[serde(default)]
            expires_in: Option<serde_json::Number>,
        }
        if !(200..300).contains(&reply.status()) {
            let mut answer = reply.into_answer().await;
            let status = answer.status;
            // Whatever it is that it refuses, it is the login.
            if (400..500).contains(&status) && !matches!(status, 408 | 429) {
                answer.codes.clear();
                return Err(Error::Unauthorized {
                    subject: self.subject.clone(),
                    answer: Box::new(answer),
                    had_credentials,
                    expired: false,
                });
            }
            return Err(answer.into_error(self.subject, had_credentials));
        }
        let server = reply.server();
        let refused = |reason: &str| Error::Protocol {
            subject: self.subject.clone(),
            server: server.clone(),
            reason: reason.to_owned(),
        };
        let body = reply.bytes(TOKEN_BYTES_MAX).await?;
        let document: Document = serde_json::from_slice(&body)
            .map_err(|_| refused("the token server's answer is not JSON of the right form"))?;
        let token = [document.token, document.access_token]
            .into_iter()
            .flatten()
            .find(|token| !token.is_empty())
            .ok_or_else(|| refused("the token server's answer has no token"))?;
        let seconds = document.expires_in.and_then(|number| number.as_u64());
        Ok(Token {
            token,
            expires_in: seconds
                .filter(|seconds| *seconds > 0)
                .map(Duration::from_secs),
        })
    }

    fn cached(&self, token: &Token, had_credentials: bool) -> Result<Cached> {
        let lifetime = token.expires_in.unwrap_or(LIFETIME_DEFAULT);
        let margin = LIFETIME_MARGIN.min(lifetime / 2);
        Ok(Cached {
            header: self.bearer_header(&token.token)?,
            had_credentials,
            until: Instant::now().checked_add(lifetime.saturating_sub(margin)),
        })
    }

    fn bearer_header(&self, token: &str) -> Result<HeaderValue> {
        let mut header =
            HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| Error::Protocol {
                subject: self.subject.clone(),
                server: self.server.endpoint.server(),
                reason: "the token cannot be sent in a header".to_owned(),
            })?;
        header.set_sensitive(true);
        Ok(header)
    }
}

fn basic_header(username: &str, password: &str) -> HeaderValue {
    let text = format!(
        "Basic {}",
        STANDARD.encode(format!("{username}:{password}"))
    );
    // Base64 is always fit for a header.
    let mut header = HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("Basic"));
    header.set_sensitive(true);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_merged_by_resource() {
        let mut scopes = Scopes::default();
        scopes.add("team/app", "pull,push");
        scopes.add("base", "pull");
        scopes.extend("repository:team/app:pull repository(plugin):x:pull registry:catalog:*");
        scopes.extend("nonsense : ::");
        let list = scopes.list();
        for wanted in [
            "repository:base:pull",
            "repository:team/app:pull,push",
            "repository(plugin):x:pull",
            "registry:catalog:*",
        ] {
            assert!(list.iter().any(|scope| scope == wanted), "{list:?}");
        }
    }

    #[test]
    fn a_header_does_not_show_its_secret() {
        let header = basic_header("me", "secret");
        assert_eq!(header.to_str().unwrap(), "Basic bWU6c2VjcmV0");
        assert_eq!(format!("{header:?}"), "Sensitive");
    }
}
