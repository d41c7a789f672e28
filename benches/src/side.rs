//! The two sides of a comparison: tools that turn a Dockerfile into an image.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::measure::Contestant;

mod buildkit;
mod varve;

pub use buildkit::Buildkit;
pub use varve::{Varve, varve_binary};

/// The name under which Dockerfiles of workloads know the base image.
pub const BASE: &str = "base";

/// One build, the same for every side.
#[derive(Debug, Clone)]
pub struct Build {
    /// Directory that COPY reads from.
    pub context: PathBuf,
    /// Directory that holds the file `Dockerfile`, and nothing else.
    pub recipe: PathBuf,
    /// Stage to build.
    pub target: &'static str,
    /// What to write besides the cache; nothing is the usual.
    pub export: Option<Export>,
}

/// An OCI archive to write.
#[derive(Debug, Clone)]
pub struct Export {
    /// Where to.
    pub file: PathBuf,
    /// Of its layers.
    pub compression: Compression,
}

/// How layers of an archive are compressed: named, since the sides differ in their defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// gzip, at each side's usual level.
    Gzip,
    /// zstd, at each side's usual level.
    Zstd,
    /// None.
    Uncompressed,
}

impl Export {
    /// Removes the archive, so that the next one is a new file.
    ///
    /// # Errors
    /// Where there is none.
    pub fn remove(&self) -> Result<()> {
        let file = &self.file;
        std::fs::remove_file(file).with_context(|| format!("remove {}", file.display()))
    }

    /// For `-o` and `--output`: both sides understand the same words.
    fn words(&self) -> String {
        format!(
            "type=oci,dest={},compression={}",
            self.file.display(),
            self.compression.word()
        )
    }
}

impl Compression {
    /// As both sides call it; media types of compressed layers end with it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Uncompressed => "uncompressed",
        }
    }
}

/// A tool with its state.
pub trait Side: Contestant {
    /// What it says about its version.
    ///
    /// # Errors
    /// Where it does not run.
    fn version(&self) -> Result<String>;

    /// Begins with empty state, which lies below `directory` (it does not exist yet). A server is
    /// up when this returns; what had been running is stopped.
    ///
    /// # Errors
    /// Where the state cannot be made, or a server does not come up.
    fn begin(&mut self, directory: &Path) -> Result<()>;

    /// Builds, and returns how long the command took from start to end.
    ///
    /// # Errors
    /// Where the build fails or does not end, or nothing has begun.
    fn build(&self, build: &Build) -> Result<Duration>;

    /// Stops what is running, if anything is.
    fn end(&mut self);
}

/// Finds a program on the search path.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}

/// The first line that `program --version` prints.
///
/// # Errors
/// Where it does not run.
pub fn version_line(program: &Path) -> Result<String> {
    let output = std::process::Command::new(program)
        .arg("--version")
        .output()
        .with_context(|| format!("run {} --version", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
