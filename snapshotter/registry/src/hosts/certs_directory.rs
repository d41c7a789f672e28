//! `certs.d/HOST/`: containerd's hosts.toml, and docker's certificates without one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use toml::Spanned;

use super::{
    Capabilities, Endpoint, KeyPair, RegistrySettings, TlsSettings, login_of, own_endpoints,
    server_of,
};
use crate::error::{Error, Result, shortened};

/// The directory of hosts that have none of their own.
const DEFAULT_DIRECTORY: &str = "_default";

/// The endpoints that `directory` has for this very registry; `None` if it has none.
pub(super) fn read(directory: &Path, registry: &str) -> Result<Option<Vec<Endpoint>>> {
    for name in directory_names(registry) {
        let inside = directory.join(&name);
        if let Some(endpoints) = read_hosts_file(&inside, registry)? {
            return Ok(Some(endpoints));
        }
        if inside.is_dir() {
            return docker_certificates(&inside, registry).map(Some);
        }
    }
    Ok(None)
}

/// The endpoints that `directory` has for registries of which nothing else is known.
pub(super) fn read_default(directory: &Path, registry: &str) -> Result<Option<Vec<Endpoint>>> {
    read_hosts_file(&directory.join(DEFAULT_DIRECTORY), registry)
}

fn read_hosts_file(directory: &Path, registry: &str) -> Result<Option<Vec<Endpoint>>> {
    let path = directory.join("hosts.toml");
    match std::fs::read_to_string(&path) {
        Ok(text) => parse(&text, &path, registry).map(Some),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(config_error(&path, format!("cannot read it: {error}"))),
    }
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
    )
}

/// containerd writes `host_port_` where a file system does not take a colon.
fn directory_names(registry: &str) -> Vec<String> {
    let mut names = Vec::new();
    if let Some((host, port)) = registry
        .rsplit_once(':')
        .filter(|_| !registry.ends_with(']'))
    {
        names.push(format!("{host}_{port}_"));
    }
    names.push(registry.to_owned());
    names
}

/// The registry itself with the certificates of a directory without hosts.toml.
fn docker_certificates(directory: &Path, registry: &str) -> Result<Vec<Endpoint>> {
    let settings = RegistrySettings {
        tlsconfigdir: vec![directory.to_owned()],
        ..RegistrySettings::default()
    };
    own_endpoints(registry, Some(&settings))
}

/// docker: `*.crt` are CAs, `NAME.cert` and `NAME.key` a client's certificate.
pub(super) fn add_certificates(directory: &Path, tls: &mut TlsSettings) -> Result<()> {
    let failed =
        |error: std::io::Error| config_error(directory, format!("cannot read it: {error}"));
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        files.push(entry.map_err(failed)?.path());
    }
    files.sort();
    for file in files {
        match file.extension().and_then(|ending| ending.to_str()) {
            Some("crt") => tls.ca.push(file),
            Some("cert") => {
                let key = file.with_extension("key");
                if !key.exists() {
                    return Err(config_error(
                        &file,
                        format!("its key {} is missing", key.display()),
                    ));
                }
                tls.keypairs.push(KeyPair { key, cert: file });
            }
            _ => {}
        }
    }
    Ok(())
}

/// hosts.toml. Fields that it does not know are left alone, as containerd does.
#[derive(serde::Deserialize)]
struct HostsFile {
    server: Option<String>,
    #[serde(flatten)]
    origin: HostBlock,
    /// In the file's order once sorted by their place.
    #[serde(default)]
    host: BTreeMap<Spanned<String>, HostBlock>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct HostBlock {
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMany>,
    client: Option<Clients>,
    skip_verify: Option<bool>,
    header: BTreeMap<String, OneOrMany>,
    override_path: bool,
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn list(&self) -> &[String] {
        match self {
            OneOrMany::One(text) => std::slice::from_ref(text),
            OneOrMany::Many(texts) => texts,
        }
    }
}

/// One file with certificate and key, several of them, or pairs.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Clients {
    One(String),
    Many(Vec<OneOrMany>),
}

fn parse(text: &str, path: &Path, registry: &str) -> Result<Vec<Endpoint>> {
    let file: HostsFile =
        toml::from_str(text).map_err(|error| config_error(path, shortened(&error.to_string())))?;
    let mut blocks: Vec<(&Spanned<String>, &HostBlock)> = file.host.iter().collect();
    blocks.sort_by_key(|(name, _)| name.span().start);
    let mut endpoints = Vec::new();
    for (address, block) in blocks {
        endpoints.push(block.endpoint(address.get_ref(), path, registry)?);
    }
    match &file.server {
        Some(server) => endpoints.push(file.origin.endpoint(server, path, registry)?),
        None => {
            for own in own_endpoints(registry, None)? {
                let address = format!("{}://{}", own.base.scheme(), own.server());
                endpoints.push(file.origin.endpoint(&address, path, registry)?);
            }
        }
    }
    Ok(endpoints)
}

impl HostBlock {
    fn endpoint(&self, address: &str, path: &Path, registry: &str) -> Result<Endpoint> {
        let base = self.base(address, path)?;
        let server = super::authority(&base);
        let mut headers = HeaderMap::new();
        for (name, values) in &self.header {
            for value in values.list() {
                let (Ok(name), Ok(value)) =
                    (name.parse::<HeaderName>(), value.parse::<HeaderValue>())
                else {
                    let reason = format!("`{}` cannot be a header", shortened(name));
                    return Err(config_error(path, reason));
                };
                headers.append(name, value);
            }
        }
        Ok(Endpoint {
            capabilities: self.capabilities(path)?,
            tls: TlsSettings {
                ca: self
                    .ca
                    .iter()
                    .flat_map(|ca| files(ca.list(), path))
                    .collect(),
                keypairs: self.keypairs(path)?,
                skip_verify: self.skip_verify.unwrap_or(false),
            },
            headers,
            namespace: (server != server_of(registry)).then(|| registry.to_owned()),
            login: if server == server_of(registry) {
                registry.to_owned()
            } else {
                login_of(&server)
            },
            base,
        })
    }

    fn base(&self, address: &str, path: &Path) -> Result<Url> {
        let refused = || {
            config_error(
                path,
                format!("`{}` is not the address of a registry", shortened(address)),
            )
        };
        let with_scheme = if address.contains("://") {
            address.to_owned()
        } else if super::is_loopback(address) {
            format!("http://{address}")
        } else {
            format!("https://{address}")
        };
        let mut base = Url::parse(&with_scheme).map_err(|_| refused())?;
        let is_plain = base.query().is_none()
            && base.fragment().is_none()
            && base.username().is_empty()
            && base.password().is_none();
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() || !is_plain {
            return Err(refused());
        }
        let given = base.path().trim_end_matches('/').to_owned();
        let root = if self.override_path || given.ends_with("/v2") {
            format!("{given}/")
        } else {
            format!("{given}/v2/")
        };
        base.set_path(&root);
        Ok(base)
    }

    fn capabilities(&self, path: &Path) -> Result<Capabilities> {
        let Some(names) = &self.capabilities else {
            return Ok(Capabilities::ALL);
        };
        let mut capabilities = Capabilities {
            pull: false,
            resolve: false,
            push: false,
        };
        for name in names {
            match name.to_ascii_lowercase().as_str() {
                "pull" => capabilities.pull = true,
                "resolve" => capabilities.resolve = true,
                "push" => capabilities.push = true,
                // containerd 2.1 has more of them, for requests that are not made here.
                "referrers" => {}
                _ => {
                    let reason = format!(
                        "capability `{}` is unknown; known are pull, resolve and push",
                        shortened(name)
                    );
                    return Err(config_error(path, reason));
                }
            }
        }
        Ok(capabilities)
    }

    fn keypairs(&self, path: &Path) -> Result<Vec<KeyPair>> {
        let pair = |names: &[String]| {
            let files: Vec<PathBuf> = files(names, path).collect();
            match files.as_slice() {
                [both] => Ok(KeyPair {
                    key: both.clone(),
                    cert: both.clone(),
                }),
                [cert, key] => Ok(KeyPair {
                    key: key.clone(),
                    cert: cert.clone(),
                }),
                _ => Err(config_error(
                    path,
                    "each `client` is a file, or a certificate and its key".to_owned(),
                )),
            }
        };
        match &self.client {
            None => Ok(Vec::new()),
            Some(Clients::One(name)) => Ok(vec![pair(std::slice::from_ref(name))?]),
            Some(Clients::Many(list)) => list.iter().map(|one| pair(one.list())).collect(),
        }
    }
}

/// Names in a hosts.toml are relative to its directory.
fn files<'a>(names: &'a [String], path: &'a Path) -> impl Iterator<Item = PathBuf> + 'a {
    let directory = path.parent().unwrap_or(Path::new("/"));
    names.iter().map(move |name| directory.join(name))
}

fn config_error(path: &Path, reason: String) -> Error {
    Error::Config {
        path: path.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str, registry: &str) -> Result<Vec<Endpoint>> {
        parse(text, Path::new("/certs.d/x/hosts.toml"), registry)
    }

    #[test]
    fn hosts_are_asked_in_the_order_of_the_file() {
        let endpoints = parsed(
            r#"
            server = "https://registry-1.docker.io"
            ca = "own.pem"
            [host."https://z.example"]
            capabilities = ["pull", "resolve"]
            ca = ["a.pem", "/b.pem"]
            client = [["c.cert", "c.key"], "both.pem"]
            header = { x-one = "1", X-Many = ["2", "3"] }
            [host."http://a.example:5000/v2/hub"]
            override_path = true
            skip_verify = true
            [host."m.example/prefix"]
            capabilities = ["pull"]
            unknown_field = 1
            "#,
            "docker.io",
        )
        .unwrap();
        let bases: Vec<&str> = endpoints.iter().map(|e| e.base.as_str()).collect();
        assert_eq!(
            bases,
            [
                "https://z.example/v2/",
                "http://a.example:5000/v2/hub/",
                "https://m.example/prefix/v2/",
                "https://registry-1.docker.io/v2/"
            ]
        );
        let first = &endpoints[0];
        assert_eq!(
            first.tls.ca,
            [Path::new("/certs.d/x/a.pem"), Path::new("/b.pem")]
        );
        assert_eq!(first.tls.keypairs[0].key, Path::new("/certs.d/x/c.key"));
        assert_eq!(first.tls.keypairs[1].key, first.tls.keypairs[1].cert);
        assert_eq!(first.headers.get_all("x-many").iter().count(), 2);
        assert_eq!(first.namespace.as_deref(), Some("docker.io"));
        assert!(endpoints[1].tls.skip_verify);
        assert!(endpoints[2].capabilities.pull && !endpoints[2].capabilities.resolve);
        let origin = &endpoints[3];
        assert_eq!((&origin.namespace, &*origin.login), (&None, "docker.io"));
        assert_eq!(origin.tls.ca, [Path::new("/certs.d/x/own.pem")]);
    }

    #[test]
    fn without_a_server_the_registry_itself_comes_last() {
        let endpoints = parsed("skip_verify = true", "r.example:5000").unwrap();
        assert_eq!(endpoints.len(), 1);
        assert_eq!(endpoints[0].base.as_str(), "https://r.example:5000/v2/");
        assert!(endpoints[0].tls.skip_verify && endpoints[0].namespace.is_none());
        let endpoints = parsed("", "docker.io").unwrap();
        assert_eq!(
            endpoints[0].base.as_str(),
            "https://registry-1.docker.io/v2/"
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_the_file() {
        for (text, part) in [
            ("server = 1", "invalid type"),
            ("server = \"ftp://x\"", "not the address"),
            ("server = \"https://u:p@x\"", "not the address"),
            ("server = \"https://x?y\"", "not the address"),
            ("capabilities = [\"pul\"]", "`pul` is unknown"),
            (
                "client = [[\"a\", \"b\", \"c\"]]",
                "a certificate and its key",
            ),
            ("header = { \"a b\" = \"c\" }", "cannot be a header"),
            ("header = { a = \"c\\n\" }", "cannot be a header"),
            ("[host", "TOML parse error"),
        ] {
            let error = parsed(text, "r.example").unwrap_err().to_string();
            assert!(
                error.starts_with("/certs.d/x/hosts.toml: ") && error.contains(part),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn directories_are_found_by_host_port_and_default() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, file: &str, text: &str| {
            std::fs::create_dir_all(root.path().join(name)).unwrap();
            std::fs::write(root.path().join(name).join(file), text).unwrap();
        };
        assert_eq!(read(root.path(), "a.example").unwrap(), None);
        write(
            "_default",
            "hosts.toml",
            "server = \"https://default.example\"",
        );
        write(
            "a.example_5000_",
            "hosts.toml",
            "server = \"https://one.example\"",
        );
        write(
            "b.example:5000",
            "hosts.toml",
            "server = \"https://two.example\"",
        );
        write("c.example", "ca.crt", "");
        write("c.example", "me.cert", "");
        write("c.example", "me.key", "");
        let base = |registry: &str| {
            let endpoints = read(root.path(), registry).unwrap().unwrap();
            endpoints[0].base.host_str().unwrap().to_owned()
        };
        assert_eq!(base("a.example:5000"), "one.example");
        assert_eq!(base("b.example:5000"), "two.example");
        for registry in ["d.example", "[::1]"] {
            assert_eq!(read(root.path(), registry).unwrap(), None);
            let found = read_default(root.path(), registry).unwrap().unwrap();
            assert_eq!(found[0].base.host_str(), Some("default.example"));
        }
        let docker = &read(root.path(), "c.example").unwrap().unwrap()[0];
        assert_eq!((docker.tls.ca.len(), docker.tls.keypairs.len()), (1, 1));
        write("e.example", "me.cert", "");
        assert!(read(root.path(), "e.example").is_err());
    }
}
