//! docker's config.json: `auths`, `credHelpers`, `credsStore`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::helper::{HELPER_TIMEOUT, Helper};
use super::{Credential, Credentials};
use crate::error::{Error, Result, shortened};

/// Under which docker stores the login of docker.io, for reasons of history.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// What else may stand for docker.io.
const DOCKER_HUB_HOSTS: &[&str] = &["docker.io", "index.docker.io", "registry-1.docker.io"];

/// Some tools write padding, some do not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The logins of a config.json.
#[derive(Debug)]
pub struct DockerConfig {
    file: File,
    helper_directories: Option<Vec<PathBuf>>,
    helper_timeout: Duration,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct File {
    auths: BTreeMap<String, Entry>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entry(…)")
    }
}

impl DockerConfig {
    /// The logins in this text; where it comes from is only for messages.
    ///
    /// # Errors
    /// It is not JSON of the right form.
    pub fn parse(text: &[u8], path: impl Into<PathBuf>) -> Result<Self> {
        let file = serde_json::from_slice(text).map_err(|error| Error::Config {
            path: path.into(),
            reason: shortened(&error.to_string()),
        })?;
        Ok(DockerConfig {
            file,
            helper_directories: None,
            helper_timeout: HELPER_TIMEOUT,
        })
    }

    /// Looks for credential helpers in these directories instead of the PATH of this process.
    #[must_use]
    pub fn with_helper_directories(mut self, directories: Vec<PathBuf>) -> Self {
        self.helper_directories = Some(directories);
        self
    }

    /// Gives up a credential helper after this time.
    #[must_use]
    pub fn with_helper_timeout(mut self, timeout: Duration) -> Self {
        self.helper_timeout = timeout;
        self
    }

    async fn find(&self, registry: &str) -> Result<Option<Credential>> {
        let keys = keys_of(registry);
        let own = keys.iter().find_map(|key| self.file.cred_helpers.get(*key));
        let name = own.or(self.file.creds_store.as_ref());
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            let helper = Helper {
                name,
                directories: self.helper_directories.as_deref(),
                timeout: self.helper_timeout,
            };
            let found = helper.get(keys[0]).await;
            let found = found.map_err(|reason| Error::Credentials {
                registry: registry.to_owned(),
                reason,
            })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        let is_for = |key: &str| keys.iter().any(|wanted| host_of(key) == host_of(wanted));
        let exact = keys.iter().find_map(|key| self.file.auths.get(*key));
        let similar = || {
            let mut entries = self.file.auths.iter();
            entries.find_map(|(key, entry)| is_for(key).then_some(entry))
        };
        match exact.or_else(similar) {
            Some(entry) => entry.credential(registry),
            None => Ok(None),
        }
    }
}

impl Credentials for DockerConfig {
    fn credential<'a>(&'a self, registry: &'a str) -> BoxFuture<'a, Result<Option<Credential>>> {
        self.find(registry).boxed()
    }
}

impl Entry {
    fn credential(&self, registry: &str) -> Result<Option<Credential>> {
        if !self.identitytoken.is_empty() {
            return Ok(Some(Credential::IdentityToken(self.identitytoken.clone())));
        }
        if !self.registrytoken.is_empty() {
            return Ok(Some(Credential::RegistryToken(self.registrytoken.clone())));
        }
        if self.auth.is_empty() {
            let known = !self.username.is_empty() || !self.password.is_empty();
            return Ok(known.then(|| Credential::Password {
                username: self.username.clone(),
                password: self.password.clone(),
            }));
        }
        let refused = |reason: &str| Error::Credentials {
            registry: registry.to_owned(),
            reason: format!("the `auth` that is stored for it {reason}"),
        };
        let bytes = BASE64
            .decode(self.auth.trim())
            .map_err(|_| refused("is not base64"))?;
        let text = String::from_utf8(bytes).map_err(|_| refused("is not UTF-8"))?;
        let (username, password) = text
            .split_once(':')
            .ok_or_else(|| refused("has no colon between name and password"))?;
        Ok(Some(Credential::Password {
            username: username.to_owned(),
            // Old versions of docker filled the end with zeros.
            password: password.trim_end_matches('\0').to_owned(),
        }))
    }
}

/// The registry that somebody means who gives the address of a server, as `docker login` takes it:
/// `https://index.docker.io/v1/` is `docker.io`.
#[must_use]
pub fn registry_of(server: &str) -> &str {
    match host_of(server) {
        host if DOCKER_HUB_HOSTS.contains(&host) => DOCKER_HUB_HOSTS[0],
        host => host,
    }
}

/// Under which keys the login for a registry may be stored; the first is what helpers are asked.
pub(super) fn keys_of(registry: &str) -> Vec<&str> {
    if DOCKER_HUB_HOSTS.contains(&registry) {
        return std::iter::once(DOCKER_HUB_KEY)
            .chain(DOCKER_HUB_HOSTS.iter().copied())
            .collect();
    }
    vec![registry]
}

/// `https://host:port/v1/` is stored where `host:port` is meant.
pub(super) fn host_of(key: &str) -> &str {
    let without_scheme = key.split_once("://").map_or(key, |(_, rest)| rest);
    without_scheme.split('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn look_up(config: &str, registry: &str) -> Result<Option<Credential>> {
        let config = DockerConfig::parse(config.as_bytes(), "config.json")?;
        config.credential(registry).await
    }

    fn password(username: &str, password: &str) -> Option<Credential> {
        Some(Credential::Password {
            username: username.into(),
            password: password.into(),
        })
    }

    #[tokio::test]
    async fn entries_are_found_by_host() {
        // me:secret, me:se:cret without padding, me:secret\0\0
        let config = r#"{
            "auths": {
                "https://index.docker.io/v1/": {"auth": "bWU6c2VjcmV0"},
                "a.example": {"auth": "bWU6c2U6Y3JldA"},
                "https://b.example:5000/v1/": {"username": "u", "password": "p"},
                "c.example": {"identitytoken": "i", "auth": "bWU6c2VjcmV0"},
                "d.example": {"registrytoken": "r"},
                "e.example": {"auth": "bWU6c2VjcmV0AAA="},
                "empty.example": {}
            },
            "HttpHeaders": {"x": "y"}, "psFormat": 1
        }"#;
        let check = async |registry: &str, expect: Option<Credential>| {
            assert_eq!(
                look_up(config, registry).await.unwrap(),
                expect,
                "{registry}"
            );
        };
        check("docker.io", password("me", "secret")).await;
        check("registry-1.docker.io", password("me", "secret")).await;
        check("a.example", password("me", "se:cret")).await;
        check("a.example:5000", None).await;
        check("b.example:5000", password("u", "p")).await;
        check("c.example", Some(Credential::IdentityToken("i".into()))).await;
        check("d.example", Some(Credential::RegistryToken("r".into()))).await;
        check("e.example", password("me", "secret")).await;
        check("empty.example", None).await;
        check("unknown.example", None).await;
    }

    #[tokio::test]
    async fn what_cannot_be_understood_is_said() {
        for (config, part) in [
            ("", "config.json: EOF"),
            ("1", "config.json: invalid type"),
            ("{\"auths\": []}", "config.json: invalid type"),
            ("{\"auths\": {\"x\": {\"auth\": \"!\"}}}", "not base64"),
            ("{\"auths\": {\"x\": {\"auth\": \"/w==\"}}}", "not UTF-8"),
            ("{\"auths\": {\"x\": {\"auth\": \"YQ==\"}}}", "no colon"),
        ] {
            let error = look_up(config, "x").await.unwrap_err().to_string();
            assert!(error.contains(part), "{config}: {error}");
        }
        assert_eq!(look_up("{}", "x").await.unwrap(), None);
    }

    #[tokio::test]
    async fn secrets_are_not_in_debug_output() {
        let config = r#"{"auths": {"x": {"auth": "bWU6c2VjcmV0", "password": "hunter2"}}}"#;
        let parsed = DockerConfig::parse(config.as_bytes(), "c").unwrap();
        let credential = parsed.credential("x").await.unwrap();
        let shown = format!("{parsed:?} {credential:?}");
        assert!(
            !shown.contains("secret") && !shown.contains("hunter2"),
            "{shown}"
        );
        assert!(!shown.contains("bWU6"), "{shown}");
    }
}
