//! A registry on this machine: Debian's `docker-registry`, over plain http.

use std::fs;
use std::path::Path;
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
            rest.split_once('"').map(|(address, _)| address.to_owned())
        });
        Registry { server, address }
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
