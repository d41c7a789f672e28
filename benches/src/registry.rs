//! A registry on this machine to pull from: Debian's `docker-registry`, over plain http.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::command::{self, DEADLINE, Daemon, Environment};

/// What its log says before the address that it has got.
const LISTENING: &str = "listening on ";

/// How long it may take until it says so.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks.
const START_POLL: Duration = Duration::from_millis(50);

/// A running registry. It ends with the value.
#[derive(Debug)]
pub struct Registry {
    environment: Environment,
    log: PathBuf,
    address: String,
    _daemon: Daemon,
}

impl Registry {
    /// Starts an empty one with its files in the new directory, on a free port.
    ///
    /// # Errors
    /// Where it is not installed or does not come up.
    pub fn start(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
        let environment = Environment::new(directory);
        let config = directory.join("config.yml");
        fs::write(&config, config_text(&directory.join("storage")))?;
        let log = directory.join("registry.log");
        let mut command = environment.command("docker-registry");
        let mut daemon = command::start(command.arg("serve").arg(&config), &log)?;
        let started = Instant::now();
        let address = loop {
            daemon.check_alive().context("docker-registry")?;
            let text = fs::read_to_string(&log)?;
            let rest = text.split_once(LISTENING).map(|(_, rest)| rest);
            if let Some((address, _)) = rest.and_then(|rest| rest.split_once('"')) {
                break address.to_owned();
            }
            ensure!(
                started.elapsed() < START_PATIENCE,
                "docker-registry does not say where it listens"
            );
            thread::sleep(START_POLL);
        };
        Ok(Self {
            environment,
            log: directory.join("skopeo.log"),
            address,
            _daemon: daemon,
        })
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Digests of the layers of an image here, as skopeo reads them.
    ///
    /// # Errors
    /// Where there is none.
    pub fn layers(&self, reference: &str) -> Result<Vec<String>> {
        let output = self
            .environment
            .command("skopeo")
            .args(["inspect", "--raw", "--tls-verify=false"])
            .arg(format!("docker://{reference}"))
            .output()?;
        ensure!(output.status.success(), "skopeo cannot inspect {reference}");
        let manifest: Value = serde_json::from_slice(&output.stdout)?;
        let layers = manifest["layers"].as_array().map(Vec::as_slice);
        let digests = layers.unwrap_or_default().iter();
        Ok(digests.map(|layer| layer["digest"].to_string()).collect())
    }

    /// Puts the image of a layout here under `name`, as it is; returns its reference.
    ///
    /// # Errors
    /// Where skopeo is missing or fails.
    pub fn push(&self, layout: &Path, name: &str) -> Result<String> {
        let reference = format!("{}/{name}:latest", self.address);
        let mut skopeo = self.environment.command("skopeo");
        skopeo
            .args(["--insecure-policy", "copy", "--quiet"])
            .args(["--dest-tls-verify=false", "--preserve-digests"])
            .arg(format!("oci:{}:latest", layout.display()))
            .arg(format!("docker://{reference}"));
        command::run(&mut skopeo, &self.log, DEADLINE)?;
        Ok(reference)
    }
}

/// Port 0 is a free one; the log tells which.
fn config_text(storage: &Path) -> String {
    format!(
        "version: 0.1\n\
         log:\n  level: info\n  accesslog:\n    disabled: true\n\
         storage:\n  filesystem:\n    rootdirectory: {}\n\
         http:\n  addr: 127.0.0.1:0\n  secret: of-a-bench\n",
        storage.display()
    )
}
