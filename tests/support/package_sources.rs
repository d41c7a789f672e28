//! How steps of a build reach the package registries as this machine does: its certificates, its
//! configuration files, its variables and proxies, handed on as secrets and build arguments.
//! Nothing of it is in an image afterwards, and no registry's name is written down here.
//!
//! Tests use it from here; the benches compile this file as a module of theirs. So it leans on
//! nothing beside it.

use std::path::{Path, PathBuf};

/// Where the certificates of a Debian machine are, and where steps look for them.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Variables that tell programs of the certificates.
const CERTIFICATE_VARIABLES: [&str; 4] = [
    "SSL_CERT_FILE",
    "PIP_CERT",
    "NODE_EXTRA_CA_CERTS",
    "CARGO_HTTP_CAINFO",
];

/// Variables that tell where packages come from.
const VARIABLES: [&str; 8] = [
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "NPM_CONFIG_REGISTRY",
    "GOPROXY",
    "GONOSUMDB",
    "CARGO_HTTP_PROXY",
    "CARGO_REGISTRIES_CRATES_IO_PROTOCOL",
];

/// Variables of proxies, as build arguments: they are in no key and in no history.
const PROXIES: [&str; 6] = [
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
];

/// Configuration files: the id of the secret, where it may be (below the home directory if
/// relative; the first that is there counts), where it is shown.
const FILES: [(&str, &[&str], &str); 3] = [
    (
        "pip-conf",
        &[".config/pip/pip.conf", ".pip/pip.conf", "/etc/pip.conf"],
        "/etc/pip.conf",
    ),
    ("npmrc", &[".npmrc"], "/root/.npmrc"),
    (
        "cargo-config",
        &[".cargo/config.toml", ".cargo/config"],
        "/root/.cargo/config.toml",
    ),
];

/// What a build is told of this machine's way to packages.
#[derive(Debug, Default)]
pub struct PackageSources {
    /// Arguments of `varve build`.
    pub arguments: Vec<String>,
    /// Variables that the arguments name.
    pub variables: Vec<(String, String)>,
    mounts: Vec<String>,
}

impl PackageSources {
    /// Looks at this machine.
    #[must_use]
    pub fn of_this_machine() -> Self {
        let mut sources = Self::default();
        if Path::new(CERTIFICATES).is_file() {
            sources.file("certificates", CERTIFICATES.into(), CERTIFICATES);
        }
        let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
        for (id, candidates, target) in FILES {
            let mut candidates = candidates.iter().map(|candidate| home.join(candidate));
            if let Some(found) = candidates.find(|path| path.is_file()) {
                sources.file(id, found, target);
            }
        }
        for name in VARIABLES {
            if let Ok(value) = std::env::var(name) {
                sources.variables.push((name.to_owned(), value));
                sources.secret(format!("id={name},env={name}"));
                sources.mounts.push(format!("id={name},env={name}"));
            }
        }
        for name in PROXIES {
            if let Ok(value) = std::env::var(name) {
                sources.arguments.push("--build-arg".to_owned());
                sources.arguments.push(format!("{name}={value}"));
            }
        }
        sources
    }

    fn file(&mut self, id: &str, path: PathBuf, target: &str) {
        self.secret(format!("id={id},src={}", path.display()));
        self.mounts.push(format!("id={id},target={target}"));
    }

    fn secret(&mut self, fields: String) {
        self.arguments.extend(["--secret".to_owned(), fields]);
    }

    /// Flags of RUN that show the step all of it.
    #[must_use]
    pub fn mounts(&self) -> String {
        let mounts = self.mounts.iter();
        let mounts = mounts.map(|mount| format!("--mount=type=secret,{mount} "));
        mounts.collect()
    }

    /// The ENV instruction that tells programs where the certificates are.
    #[must_use]
    pub fn environment(&self) -> String {
        let named = CERTIFICATE_VARIABLES.map(|name| format!("{name}={CERTIFICATES}"));
        format!("ENV {}\n", named.join(" "))
    }
}
