//! BuildKit: a `buildkitd` of our own for each state, and `buildctl build` as its client.
//!
//! The server is set up as people run it (OCI worker, runc, overlayfs snapshotter, seccomp), only
//! without a network: the base image comes from a layout, RUN steps get the host's network as varve
//! gives it to them.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{BASE, Build, Side, find_program, version_line};
use crate::command::{self, DEADLINE, Daemon, Environment};
use crate::measure::Contestant;

/// How long the server may take until it answers.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// Between two questions whether it does.
const START_POLL: Duration = Duration::from_millis(50);

/// The programs, and the server of the present workload.
#[derive(Debug)]
pub struct Buildkit {
    client: PathBuf,
    server: PathBuf,
    /// OCI layout of the base image, and the digest of its manifest.
    base: PathBuf,
    base_digest: String,
    state: Option<State>,
}

#[derive(Debug)]
struct State {
    environment: Environment,
    daemon: Daemon,
    address: String,
    log: PathBuf,
}

impl Buildkit {
    /// Finds the programs on the search path; `base` is the OCI layout that `FROM base` means.
    ///
    /// # Errors
    /// Names the program that is missing, or what is wrong with the layout.
    pub fn find(base: &Path) -> Result<Self> {
        let find =
            |name: &str| find_program(name).with_context(|| format!("there is no {name} on PATH"));
        find("runc")?;
        Ok(Self {
            client: find("buildctl")?,
            server: find("buildkitd")?,
            base: base.to_owned(),
            base_digest: manifest_digest(base)?,
            state: None,
        })
    }

    fn start(&self, directory: &Path) -> Result<State> {
        let home = directory.join("home");
        std::fs::create_dir_all(&home).with_context(|| format!("create {}", home.display()))?;
        let configuration = directory.join("buildkitd.toml");
        // Or it would read the one of the machine.
        std::fs::write(&configuration, "")
            .with_context(|| format!("write {}", configuration.display()))?;
        let environment = Environment::new(&home);
        let address = format!("unix://{}", directory.join("socket").display());
        let mut server = environment.command(&self.server);
        server
            .arg("--config")
            .arg(&configuration)
            .arg("--root")
            .arg(directory.join("state"))
            .args(["--addr", &address])
            .args(["--containerd-worker=false", "--oci-worker=true"])
            .args(["--oci-worker-binary=runc", "--oci-worker-net=host"])
            .arg("--oci-worker-snapshotter=overlayfs")
            // Nothing may be cleaned up in the middle of a measurement.
            .arg("--oci-worker-gc=false");
        let daemon = command::start(&mut server, &directory.join("buildkitd.log"))?;
        let mut state = State {
            environment,
            daemon,
            address,
            log: directory.join("build.log"),
        };
        self.wait_until_ready(&mut state)
            .context("buildkitd does not come up")?;
        Ok(state)
    }

    fn wait_until_ready(&self, state: &mut State) -> Result<()> {
        let started = Instant::now();
        loop {
            state.daemon.check_alive()?;
            let mut question = state.environment.command(&self.client);
            question.args(["--addr", &state.address, "debug", "workers"]);
            let log = state.log.with_extension("ready.log");
            match command::run(&mut question, &log, START_PATIENCE) {
                Ok(_) => return Ok(()),
                Err(error) if started.elapsed() > START_PATIENCE => return Err(error),
                Err(_) => thread::sleep(START_POLL),
            }
        }
    }
}

impl Buildkit {
    /// Runs `buildctl build ARGUMENTS` with the Dockerfile and the context of a directory; how long
    /// that took.
    ///
    /// # Errors
    /// Where it fails, or nothing has begun.
    pub fn build_directory(&self, directory: &Path, arguments: &[&str]) -> Result<Duration> {
        let state = self.state.as_ref().context("buildkitd is not running")?;
        let mut command = state.environment.command(&self.client);
        command
            .args(["--addr", &state.address, "build", "--progress=plain"])
            .args(["--frontend=dockerfile.v0"])
            .arg(format!("--local=context={}", directory.display()))
            .arg(format!("--local=dockerfile={}", directory.display()))
            .args(arguments);
        command::run(&mut command, &state.log, DEADLINE)
    }
}

impl Contestant for Buildkit {
    fn name(&self) -> &'static str {
        "buildkit"
    }
}

impl Side for Buildkit {
    fn version(&self) -> Result<String> {
        version_line(&self.server)
    }

    fn begin(&mut self, directory: &Path) -> Result<()> {
        self.end();
        self.state = Some(self.start(directory)?);
        Ok(())
    }

    fn build(&self, build: &Build) -> Result<Duration> {
        let Some(state) = &self.state else {
            bail!("buildkitd is not running");
        };
        let mut command = state.environment.command(&self.client);
        command
            .args(["--addr", &state.address, "build", "--progress=plain"])
            .args(["--frontend=dockerfile.v0"])
            .arg(format!("--opt=target={}", build.target))
            .arg(format!(
                "--opt=context:{BASE}=oci-layout://{BASE}@{}",
                self.base_digest
            ))
            .arg(format!("--oci-layout={BASE}={}", self.base.display()))
            .arg(format!("--local=context={}", build.context.display()))
            .arg(format!("--local=dockerfile={}", build.recipe.display()));
        if let Some(export) = &build.export {
            command.arg("--output").arg(export.words());
        }
        command::run(&mut command, &state.log, DEADLINE)
    }

    fn end(&mut self) {
        if let Some(mut state) = self.state.take() {
            state.daemon.stop();
        }
    }
}

/// The digest of the only image in an OCI layout.
fn manifest_digest(layout: &Path) -> Result<String> {
    let path = layout.join("index.json");
    let text = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let index: Value = serde_json::from_slice(&text)?;
    index["manifests"][0]["digest"]
        .as_str()
        .map(str::to_owned)
        .with_context(|| format!("{} names no manifest", path.display()))
}
