//! A registry on this machine: Debian's `docker-registry`, over plain http.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::server::{HOST_PATH, Server};
use crate::workspace::{Outcome, run};

/// What its log says before the address that it has got.
const LISTENING: &str = "listening on ";

/// `me` with the password `secret`, as `htpasswd -B` writes it.
const HTPASSWD: &str = "me:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

/// A running registry. It ends with the value; what it holds stays in its directory.
#[derive(Debug)]
pub struct Registry {
    server: Server,
    address: String,
    storage: PathBuf,
}

impl Registry {
    /// Starts an empty one with its files in the new directory `directory`, on a free port.
    ///
    /// # Panics
    /// It is not installed, or does not start.
    #[must_use]
    pub fn start(directory: &Path) -> Self {
        Self::start_with(directory, "")
    }

    /// The same, open only to `me` with the password `secret`.
    ///
    /// # Panics
    /// It is not installed, or does not start.
    #[must_use]
    pub fn with_password(directory: &Path) -> Self {
        let users = directory.with_extension("htpasswd");
        fs::write(&users, HTPASSWD).expect("a file of passwords");
        let users = users.display();
        let auth = format!("auth:\n  htpasswd:\n    realm: test\n    path: {users}\n");
        Self::start_with(directory, &auth)
    }

    /// The same, open to the tokens of a server at `realm`, a
    /// [`TokenServer`](crate::token_server::TokenServer).
    ///
    /// # Panics
    /// It is not installed, or does not start.
    #[must_use]
    pub fn with_tokens(directory: &Path, realm: &str) -> Self {
        let ca = crate::fixture("ca.pem");
        let auth = format!(
            "auth:\n  token:\n    realm: {realm}\n    service: the-registry\n    \
             issuer: varve-test\n    rootcertbundle: {}\n",
            ca.display()
        );
        Self::start_with(directory, &auth)
    }

    /// The same over TLS, with a certificate that no system trusts; `wants_client` asks for one in
    /// return.
    ///
    /// # Panics
    /// It is not installed, or does not start.
    #[must_use]
    pub fn with_tls(directory: &Path, wants_client: bool) -> Self {
        let [server, key, ca] = ["server.pem", "server.key", "ca.pem"].map(crate::fixture);
        let mut tls = format!(
            "  tls:\n    certificate: {}\n    key: {}\n",
            server.display(),
            key.display()
        );
        if wants_client {
            tls += &format!("    clientcas:\n      - {}\n", ca.display());
        }
        Self::start_with(directory, &tls)
    }

    /// `more` goes on with the section `http`.
    fn start_with(directory: &Path, more: &str) -> Self {
        fs::create_dir(directory).expect("a directory for the registry");
        let config = directory.join("config.yml");
        let text = config_text(&directory.join("storage")) + more;
        fs::write(&config, text).expect("its configuration");
        let mut command = Command::new("docker-registry");
        command
            .arg("serve")
            .arg(&config)
            .env_clear()
            .env("PATH", HOST_PATH);
        let log = directory.join("log");
        let mut server = Server::start(&mut command, &log);
        let address = server.wait_for(|| {
            let log = fs::read_to_string(&log).ok()?;
            let (_, rest) = log.split_once(LISTENING)?;
            rest.split_once(['"', ','])
                .map(|(address, _)| address.to_owned())
        });
        Registry {
            server,
            address,
            storage: directory.join("storage"),
        }
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What an image of this name is called here: `127.0.0.1:PORT/NAME:latest`.
    #[must_use]
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}:latest", self.address)
    }

    /// Puts the image `latest` of an OCI layout here under `name`, its layers packed by gzip where
    /// they are not; returns its reference.
    ///
    /// # Panics
    /// It cannot.
    #[track_caller]
    pub fn push(&self, layout: &Path, name: &str) -> String {
        self.copy(layout, name, &[]).succeeded();
        self.reference(name)
    }

    /// The same with layers and manifest left as they are.
    ///
    /// # Panics
    /// It cannot.
    #[track_caller]
    pub fn push_unchanged(&self, layout: &Path, name: &str) -> String {
        self.copy(layout, name, &["--preserve-digests"]).succeeded();
        self.reference(name)
    }

    /// The same as skopeo puts it with these options, such as `--format=v2s2`.
    ///
    /// # Panics
    /// It cannot.
    #[track_caller]
    pub fn push_with(&self, layout: &Path, name: &str, options: &[&str]) -> String {
        self.copy(layout, name, options).succeeded();
        self.reference(name)
    }

    fn copy(&self, layout: &Path, name: &str, options: &[&str]) -> Outcome {
        let mut skopeo = Command::new("skopeo");
        skopeo
            .env_clear()
            .env("PATH", HOST_PATH)
            .args(["--insecure-policy", "copy", "--quiet"])
            .arg("--dest-tls-verify=false")
            .args(options)
            .arg(format!("oci:{}:latest", layout.display()))
            .arg(format!("docker://{}", self.reference(name)));
        run(&mut skopeo)
    }

    /// The requests that it has answered, as `GET /v2/app/manifests/latest`, in their order.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        let log = self.log();
        let lines = log.lines().filter_map(|line| line.split_once("] \""));
        lines
            .filter_map(|(_, rest)| rest.split_once(" HTTP/"))
            .map(|(request, _)| request.to_owned())
            .collect()
    }

    /// How many requests were made for blobs, as to get (`GET`) or to ask for them (`HEAD`).
    #[must_use]
    pub fn blob_requests(&self, method: &str) -> usize {
        let requests = self.requests();
        let is_counted =
            |line: &&String| line.starts_with(&format!("{method} ")) && line.contains("/blobs/sha");
        requests.iter().filter(is_counted).count()
    }

    /// Digests of the layers of `NAME:latest`, as it is stored here.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn layers(&self, name: &str) -> Vec<String> {
        let tag = "_manifests/tags/latest/current/link";
        let repositories = self.storage.join("docker/registry/v2/repositories");
        let link = repositories.join(name).join(tag);
        let digest = fs::read_to_string(link).expect("a tag");
        let manifest = fs::read(self.blob_file(&digest)).expect("a manifest");
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).expect("JSON");
        let layers = manifest["layers"].as_array().expect("layers").iter();
        let digest = |layer: &serde_json::Value| layer["digest"].as_str().map(str::to_owned);
        layers.filter_map(digest).collect()
    }

    /// The file of a blob or manifest, where a test can damage it.
    #[must_use]
    pub fn blob_file(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        let blobs = self.storage.join("docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }

    /// All it has said.
    #[must_use]
    pub fn log(&self) -> String {
        self.server.log()
    }
}

/// Port 0 is a free one; the log tells which. With the access log, tests can see what was fetched.
fn config_text(storage: &Path) -> String {
    format!(
        "version: 0.1\n\
         log:\n  level: info\n\
         storage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\n\
         http:\n  addr: 127.0.0.1:0\n  secret: of-a-test\n",
        storage.display()
    )
}
