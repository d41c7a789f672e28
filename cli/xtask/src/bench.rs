//! `cargo xtask bench [NAME] [-- ARGUMENTS]`: a release `varve`, the peers to compare it with, and
//! the workloads of `benches/` on both.

use crate::checks::run_to_end;
use crate::console;
use crate::containerd;
use crate::error::Result;
use crate::go_programs;
use crate::packages::{self, Purpose};
use crate::rocksdb_archive;
use crate::varve_binary;
use crate::workspace::Workspace;

/// Runs one bench target, or all, with `arguments` handed through.
///
/// # Errors
/// Where something does not build or a workload fails.
pub(crate) fn run(workspace: &Workspace, name: Option<&str>, arguments: &[String]) -> Result<()> {
    console::heading("build (release)");
    packages::ensure(Purpose::Bench)?;
    let lib_dir = rocksdb_archive::ensure(workspace)?;
    let binary = varve_binary::build(workspace, &lib_dir, true)?;
    let peers = go_programs::BUILDKIT.ensure(workspace)?;
    containerd::ensure(workspace)?;

    console::heading("bench");
    let mut bench = workspace.cargo(&lib_dir);
    bench
        .args(["bench", "--package", "benches"])
        .env(varve_binary::VARIABLE, &binary);
    if let Some(peers) = &peers {
        bench.env("PATH", go_programs::path_with(peers)?);
    }
    match name {
        Some(name) => bench.args(["--bench", name]),
        None => bench.arg("--benches"),
    };
    run_to_end(bench.arg("--").args(arguments))
}
