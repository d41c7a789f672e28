//! Who we are to a registry: the contract, and docker's config.json as its usual source.
//!
//! Not here: what is done with a login at a token server (`auth.rs`).

mod docker_config;
mod helper;
mod login_file;

pub use docker_config::{DockerConfig, registry_of};
pub use login_file::LoginFile;

use std::fmt;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::error::Result;

/// A login as it is stored.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A name and a password or personal token.
    Password {
        /// The name.
        username: String,
        /// The secret.
        password: String,
    },
    /// A refresh token, which only the token server accepts (docker's `identitytoken`).
    IdentityToken(String),
    /// A token for the registry itself (docker's `registrytoken`).
    RegistryToken(String),
}

impl fmt::Debug for Credential {
    /// Without the secret: it may end in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credential::Password { username, .. } => write!(f, "Password({username:?}, …)"),
            Credential::IdentityToken(_) => f.write_str("IdentityToken(…)"),
            Credential::RegistryToken(_) => f.write_str("RegistryToken(…)"),
        }
    }
}

/// What a token is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRequest {
    /// The registry as a person names it, or the host of a mirror.
    pub registry: String,
    /// Address of the token server.
    pub realm: String,
    /// Who the token is for.
    pub service: Option<String>,
    /// `repository:NAME:ACTIONS`, in order, without repetition.
    pub scopes: Vec<String>,
}

/// A bearer token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// What is sent.
    pub token: String,
    /// How long it is good for, from now.
    pub expires_in: Option<Duration>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token(…, {:?})", self.expires_in)
    }
}

/// Where logins come from. Asked from many tasks at once, and again whenever a token is needed, so
/// that a new login counts at once; an implementation that is slow should remember its answers.
pub trait Credentials: Send + Sync {
    /// The login for this host; `None` asks anonymously.
    ///
    /// # Errors
    /// It cannot be had, though there should be one: nothing is asked anonymously then.
    fn credential<'a>(&'a self, registry: &'a str) -> BoxFuture<'a, Result<Option<Credential>>>;

    /// A token that somebody else gets, as a client of the daemon does for its own builds; `None`
    /// leaves it to this crate, which uses [`credential`](Self::credential).
    ///
    /// # Errors
    /// It cannot be had.
    fn token<'a>(&'a self, request: &'a TokenRequest) -> BoxFuture<'a, Result<Option<Token>>> {
        let _ = request;
        async { Ok(None) }.boxed()
    }
}

/// One login for one registry, before it is stored anywhere.
#[derive(Clone, Debug)]
pub struct LoneLogin {
    registry: String,
    credential: Credential,
}

impl LoneLogin {
    /// A name and a password.
    #[must_use]
    pub fn new(registry: &str, username: &str, password: &str) -> Self {
        LoneLogin {
            registry: registry.to_owned(),
            credential: Credential::Password {
                username: username.to_owned(),
                password: password.to_owned(),
            },
        }
    }
}

impl Credentials for LoneLogin {
    fn credential<'a>(&'a self, registry: &'a str) -> BoxFuture<'a, Result<Option<Credential>>> {
        let is_for = registry == self.registry;
        async move { Ok(is_for.then(|| self.credential.clone())) }.boxed()
    }
}

/// Nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anonymous;

impl Credentials for Anonymous {
    fn credential<'a>(&'a self, _registry: &'a str) -> BoxFuture<'a, Result<Option<Credential>>> {
        async { Ok(None) }.boxed()
    }
}
