//! varve: `varve build`, one process for each build, no server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{BASE, Build, Side, version_line};
use crate::command::{self, DEADLINE, Environment};
use crate::measure::Contestant;

/// The binary, and the state of the present workload.
#[derive(Debug)]
pub struct Varve {
    binary: PathBuf,
    /// OCI layout of the base image.
    base: PathBuf,
    /// More arguments of every build.
    arguments: Vec<String>,
    /// Variables of every build.
    variables: Vec<(String, String)>,
    state: Option<State>,
}

#[derive(Debug)]
struct State {
    environment: Environment,
    root: PathBuf,
    log: PathBuf,
}

impl Varve {
    /// The binary that `cargo xtask bench` has just built; `base` is the OCI layout that
    /// `FROM base` means.
    ///
    /// # Errors
    /// Where `VARVE_BIN` does not name a file.
    pub fn find(base: &Path) -> Result<Self> {
        Ok(Self::new(varve_binary()?, base))
    }

    fn new(binary: PathBuf, base: &Path) -> Self {
        Self {
            binary,
            base: base.to_owned(),
            arguments: Vec::new(),
            variables: Vec::new(),
            state: None,
        }
    }

    /// The same with more arguments, and variables, for every build.
    #[must_use]
    pub fn with(self, arguments: Vec<String>, variables: Vec<(String, String)>) -> Self {
        Self {
            arguments,
            variables,
            ..self
        }
    }
}

impl Varve {
    /// Runs `varve ARGUMENTS` on the present state; how long that took.
    ///
    /// # Errors
    /// Where it fails, or nothing has begun.
    pub fn run(&self, arguments: &[&str]) -> Result<Duration> {
        let state = self.state.as_ref().context("varve has no state yet")?;
        let mut command = state.environment.command(&self.binary);
        command.arg("--root").arg(&state.root).args(arguments);
        command::run(&mut command, &state.log, DEADLINE)
    }
}

impl Contestant for Varve {
    fn name(&self) -> &'static str {
        "varve"
    }
}

impl Side for Varve {
    fn version(&self) -> Result<String> {
        version_line(&self.binary)
    }

    fn begin(&mut self, directory: &Path) -> Result<()> {
        let home = directory.join("home");
        std::fs::create_dir_all(&home).with_context(|| format!("create {}", home.display()))?;
        self.state = Some(State {
            environment: Environment::new(&home),
            root: directory.join("state"),
            log: directory.join("build.log"),
        });
        Ok(())
    }

    fn build(&self, build: &Build) -> Result<Duration> {
        let state = self.state.as_ref().context("varve has no state yet")?;
        let mut command = state.environment.command(&self.binary);
        command
            .arg("--root")
            .arg(&state.root)
            .args(["build", "--progress=plain", "--target", build.target])
            .arg("--build-context")
            .arg(format!("{BASE}=oci-layout://{}", self.base.display()))
            .arg("--file")
            .arg(build.recipe.join("Dockerfile"))
            .args(&self.arguments)
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
        if let Some(export) = &build.export {
            command.arg("--output").arg(export.words());
        }
        command::run(command.arg(&build.context), &state.log, DEADLINE)
    }

    fn end(&mut self) {
        self.state = None;
    }
}

/// The binary that `VARVE_BIN` names: what `cargo xtask bench` has just built.
///
/// # Errors
/// Where it names no file.
pub fn varve_binary() -> Result<PathBuf> {
    let binary = std::env::var_os("VARVE_BIN").map(PathBuf::from);
    match binary {
        Some(binary) if binary.is_file() => Ok(binary),
        Some(binary) => bail!("VARVE_BIN={}: no such file", binary.display()),
        None => bail!("VARVE_BIN does not say which varve to measure; use cargo xtask bench"),
    }
}
