//! Which servers are asked for the content of a registry, in which order, and how.
//!
//! A person names a *registry* (`docker.io`); asked are its *endpoints*: mirrors first, the
//! registry itself last. What is configured comes from containerd's `certs.d` directories and from
//! the `registry` tables of buildkitd.toml: a directory of the registry's name decides, else its
//! table, else the directory `_default`. Not here: connections.

mod certs_directory;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use reqwest::Url;
use reqwest::header::HeaderMap;

use crate::error::{Error, Result};

/// The registry of images without a host, and where it really is.
const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_SERVER: &str = "registry-1.docker.io";

/// What is known about hosts. Relative paths in it are the caller's to resolve.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    /// Directories with one directory for each host, as containerd's `config_path` and docker's
    /// `certs.d`; the first that has one for a host is used.
    pub certs_directories: Vec<PathBuf>,
    /// buildkitd.toml's `[registry."HOST"]`.
    pub registries: BTreeMap<String, RegistrySettings>,
}

/// A table `[registry."HOST"]` of buildkitd.toml.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistrySettings {
    /// Hosts that are asked before this one, perhaps with a path: `mirror.example/hub`.
    pub mirrors: Vec<String>,
    /// Whether it speaks plain HTTP; if nothing is said, only hosts of this machine do.
    pub http: Option<bool>,
    /// Whether its certificate need not be valid. With `http`, TLS is tried first.
    pub insecure: Option<bool>,
    /// Files with certificates that are trusted besides the system's.
    pub ca: Vec<PathBuf>,
    /// Certificates to show to the server.
    pub keypair: Vec<KeyPair>,
    /// Directories with more of both, as docker's `certs.d/HOST`: `*.crt`, `*.cert` and `*.key`.
    pub tlsconfigdir: Vec<PathBuf>,
}

impl RegistrySettings {
    /// Has relative paths begin in `directory`.
    pub fn resolve(&mut self, directory: &Path) {
        let pairs = self.keypair.iter_mut();
        let pairs = pairs.flat_map(|pair| [&mut pair.key, &mut pair.cert]);
        let files = self.ca.iter_mut().chain(&mut self.tlsconfigdir);
        for path in files.chain(pairs) {
            *path = directory.join(&*path);
        }
    }
}

/// A client certificate and its key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPair {
    /// The file of the key.
    pub key: PathBuf,
    /// The file of the certificate.
    pub cert: PathBuf,
}

/// How TLS is spoken with a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct TlsSettings {
    pub(crate) ca: Vec<PathBuf>,
    pub(crate) keypairs: Vec<KeyPair>,
    pub(crate) skip_verify: bool,
}

/// What an endpoint may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capabilities {
    pub(crate) pull: bool,
    pub(crate) resolve: bool,
    pub(crate) push: bool,
}

impl Capabilities {
    pub(crate) const ALL: Self = Capabilities {
        pull: true,
        resolve: true,
        push: true,
    };
    pub(crate) const MIRROR: Self = Capabilities {
        push: false,
        ..Self::ALL
    };

    pub(crate) fn has(self, capability: Capability) -> bool {
        match capability {
            Capability::Pull => self.pull,
            Capability::Resolve => self.resolve,
            Capability::Push => self.push,
        }
    }
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Capability {
    Pull,
    Resolve,
    Push,
}

impl Capability {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Capability::Pull => "pull",
            Capability::Resolve => "resolve",
            Capability::Push => "push",
        }
    }
}

/// A server to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// What repository names are appended to: `https://registry-1.docker.io/v2/`.
    pub(crate) base: Url,
    pub(crate) capabilities: Capabilities,
    pub(crate) tls: TlsSettings,
    /// Sent to this server and to no other.
    pub(crate) headers: HeaderMap,
    /// For whom a mirror stands; it may hold the content of several registries.
    pub(crate) namespace: Option<String>,
    /// Under which name credentials for it are stored.
    pub(crate) login: String,
}

impl Endpoint {
    /// The server of an address that is no registry: nothing is configured for it.
    pub(crate) fn of_address(url: &Url) -> Self {
        Endpoint {
            base: url.clone(),
            capabilities: Capabilities::MIRROR,
            tls: TlsSettings::default(),
            headers: HeaderMap::new(),
            namespace: None,
            login: authority(url),
        }
    }

    /// Host and port, as messages name it.
    pub(crate) fn server(&self) -> String {
        authority(&self.base)
    }
}

/// `host` or `host:port`.
pub(crate) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Whether the host names this machine, where a network cannot listen.
pub(crate) fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost"
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

impl Hosts {
    /// The endpoints of a registry in the order in which they are asked; reads files.
    pub(crate) fn endpoints(&self, registry: &str) -> Result<Vec<Endpoint>> {
        for directory in &self.certs_directories {
            if let Some(endpoints) = certs_directory::read(directory, registry)? {
                return Ok(endpoints);
            }
        }
        let settings = self.registries.get(registry);
        if settings.is_none() {
            for directory in &self.certs_directories {
                if let Some(endpoints) = certs_directory::read_default(directory, registry)? {
                    return Ok(endpoints);
                }
            }
        }
        let mut endpoints = Vec::new();
        for mirror in settings.map_or(&[][..], |settings| &settings.mirrors) {
            endpoints.extend(self.mirror_endpoints(mirror, registry)?);
        }
        endpoints.extend(own_endpoints(registry, settings)?);
        Ok(endpoints)
    }

    /// A mirror of buildkitd.toml, which may have a table of its own.
    fn mirror_endpoints(&self, mirror: &str, registry: &str) -> Result<Vec<Endpoint>> {
        let (host, path) = mirror.split_once('/').unwrap_or((mirror, ""));
        if !crate::names::is_host(host) || !is_plain_path(path) {
            return Err(Error::Name {
                text: crate::error::shortened(mirror),
                expected: "a mirror: a host and perhaps a path, as in mirror.example/hub",
            });
        }
        let mut endpoints = own_endpoints(host, self.registries.get(host))?;
        for endpoint in &mut endpoints {
            endpoint.capabilities = Capabilities::MIRROR;
            endpoint.namespace = Some(registry.to_owned());
            let path = path.trim_matches('/');
            if !path.is_empty() {
                endpoint.base.set_path(&format!("/v2/{path}/"));
            }
        }
        Ok(endpoints)
    }
}

fn is_plain_path(path: &str) -> bool {
    !path.split('/').any(|part| part == "." || part == "..")
        && path
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte))
}

/// The server of the registry itself; two if it may speak TLS or not. The second one of this
/// machine is asked only if the first one turns out to speak TLS.
fn own_endpoints(registry: &str, settings: Option<&RegistrySettings>) -> Result<Vec<Endpoint>> {
    let settings = settings.cloned().unwrap_or_default();
    let server = server_of(registry);
    let own_machine = is_loopback(server);
    let is_http = settings.http.unwrap_or(own_machine);
    let mut skip_verify = settings.insecure.unwrap_or(false);
    let schemes: &[&str] = match (is_http, skip_verify && settings.http.is_some()) {
        (true, true) => &["https", "http"],
        (true, false) if settings.http.is_none() => &["http", "https"],
        (true, false) => &["http"],
        (false, _) => &["https"],
    };
    // Who is on the way to this machine's own addresses is this machine: docker believes it too,
    // unless somebody has said by what it is to be known.
    if own_machine && settings.insecure.is_none() && settings.http.is_none() {
        skip_verify = settings.ca.is_empty() && settings.tlsconfigdir.is_empty();
    }
    let mut tls = TlsSettings {
        ca: settings.ca,
        keypairs: settings.keypair,
        skip_verify,
    };
    for directory in &settings.tlsconfigdir {
        certs_directory::add_certificates(directory, &mut tls)?;
    }
    let endpoint = |scheme: &&str| {
        Ok(Endpoint {
            base: api_root(&format!("{scheme}://{server}"))?,
            capabilities: Capabilities::ALL,
            tls: tls.clone(),
            headers: HeaderMap::new(),
            namespace: None,
            login: registry.to_owned(),
        })
    };
    schemes.iter().map(endpoint).collect()
}

/// Where a registry is, for those that are elsewhere than their name says.
fn server_of(registry: &str) -> &str {
    match registry {
        DOCKER_HUB | "index.docker.io" => DOCKER_HUB_SERVER,
        other => other,
    }
}

/// Under which name the credentials for a server are stored.
fn login_of(server: &str) -> String {
    match server {
        DOCKER_HUB_SERVER => DOCKER_HUB.to_owned(),
        other => other.to_owned(),
    }
}

fn api_root(server: &str) -> Result<Url> {
    Url::parse(&format!("{server}/v2/")).map_err(|_| Error::Name {
        text: crate::error::shortened(server),
        expected: "the address of a registry",
    })
}

/// Reads a file that a configuration names; absent is an error.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| Error::Config {
        path: path.to_owned(),
        reason: format!("cannot read it: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bases(hosts: &Hosts, registry: &str) -> Vec<String> {
        let endpoints = hosts.endpoints(registry).unwrap();
        endpoints
            .iter()
            .map(|endpoint| endpoint.base.to_string())
            .collect()
    }

    #[test]
    fn without_configuration_a_host_is_asked_over_tls_unless_it_is_this_machine() {
        let check = |registry: &str, expect: &str| {
            let endpoints = Hosts::default().endpoints(registry).unwrap();
            assert_eq!(endpoints[0].base.as_str(), expect);
            let is_here = expect.starts_with("http:");
            assert_eq!(endpoints.len(), if is_here { 2 } else { 1 }, "{registry}");
            for endpoint in &endpoints {
                assert_eq!(endpoint.tls.skip_verify, is_here, "{registry}");
            }
            if is_here {
                assert_eq!(endpoints[1].base.scheme(), "https");
            }
        };
        check("docker.io", "https://registry-1.docker.io/v2/");
        check("ghcr.io", "https://ghcr.io/v2/");
        check("r.example:5000", "https://r.example:5000/v2/");
        check("localhost", "http://localhost/v2/");
        check("localhost:5000", "http://localhost:5000/v2/");
        check("127.0.0.1:5000", "http://127.0.0.1:5000/v2/");
        check("127.9.9.9", "http://127.9.9.9/v2/");
        check("[::1]:5000", "http://[::1]:5000/v2/");
        check("localhost.example", "https://localhost.example/v2/");
        check("10.0.0.1:5000", "https://10.0.0.1:5000/v2/");
    }

    #[test]
    fn tables_of_buildkitd_toml_are_understood() {
        let text = r#"
            ["docker.io"]
            mirrors = ["mirror.example:5000", "other.example/hub/"]
            ["mirror.example:5000"]
            http = true
            ["both.example"]
            http = true
            insecure = true
            ca = ["/etc/ca.pem"]
            [["both.example".keypair]]
            key = "/k"
            cert = "/c"
            ["localhost:5000"]
            http = false
        "#;
        let hosts = Hosts {
            registries: toml::from_str(text).unwrap(),
            ..Hosts::default()
        };
        let docker = hosts.endpoints("docker.io").unwrap();
        assert_eq!(
            bases(&hosts, "docker.io"),
            [
                "http://mirror.example:5000/v2/",
                "https://other.example/v2/hub/",
                "https://registry-1.docker.io/v2/"
            ]
        );
        assert_eq!(docker[0].namespace.as_deref(), Some("docker.io"));
        assert_eq!(docker[0].login, "mirror.example:5000");
        assert!(!docker[0].capabilities.push && docker[2].capabilities.push);
        assert_eq!(
            (&docker[2].namespace, &*docker[2].login),
            (&None, "docker.io")
        );
        assert_eq!(
            bases(&hosts, "both.example"),
            ["https://both.example/v2/", "http://both.example/v2/"]
        );
        assert_eq!(
            bases(&hosts, "localhost:5000"),
            ["https://localhost:5000/v2/"]
        );
        let both = hosts.endpoints("both.example").unwrap();
        assert!(both[0].tls.skip_verify && both[0].tls.keypairs.len() == 1);
    }

    #[test]
    fn a_mirror_that_is_no_host_is_refused() {
        for mirror in [
            "", "/x", "http://x", "a b", "x/../y", "x/?q", "x/%2e", "u@x",
        ] {
            let settings = RegistrySettings {
                mirrors: vec![mirror.into()],
                ..RegistrySettings::default()
            };
            let hosts = Hosts {
                registries: [("docker.io".to_owned(), settings)].into(),
                ..Hosts::default()
            };
            assert!(hosts.endpoints("docker.io").is_err(), "{mirror:?}");
        }
    }
}
