//! The `varve` binary that demo, tests and benches run: where it is built, and how they find it.

use std::path::{Path, PathBuf};

use crate::checks::run_to_end;
use crate::error::Result;
use crate::workspace::Workspace;

/// Tells tests and workloads which binary to run.
pub(crate) const VARIABLE: &str = "VARVE_BIN";

/// Builds the `varve` binary and returns its path.
///
/// # Errors
/// Where cargo fails.
pub(crate) fn build(workspace: &Workspace, lib_dir: &Path, release: bool) -> Result<PathBuf> {
    let mut build = workspace.cargo(lib_dir);
    // `--workspace` so that the features are the ones every other command builds with.
    build.args(["build", "--workspace", "--bin", "varve"]);
    if release {
        build.arg("--release");
    }
    run_to_end(&mut build)?;
    Ok(workspace
        .target
        .join(if release { "release" } else { "debug" })
        .join("varve"))
}
