//! `cargo xtask bench containerd`: varve as containerd's snapshotter, against containerd's own
//! overlayfs snapshotter.
//!
//! Each side is a containerd of its own; they run side by side and take turns at each workload of
//! `containerd/workloads.rs`. `--help` lists the flags.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use benches::arguments::Sides;
use benches::confinement::name_of;
use benches::containerd_config::Version;
use benches::images::Images;
use benches::node::Snapshotter;
use benches::report::{self, Row};
use benches::side::{varve_binary, version_line};
use benches::{Options, machine, program};

#[path = "containerd/snapshots.rs"]
mod snapshots;
#[path = "containerd/workloads.rs"]
mod workloads;

use workloads::{Bench, WORKLOADS};

/// The name of this bench.
const TARGET: &str = "containerd";

/// Whom varve is compared with.
const PEER: &str = "overlayfs";

/// What `--help` says besides the flags.
const NEEDS: &str = "\
VARVE_BIN names the binary to measure. containerd 2 is the one that `cargo xtask setup` puts into
the cache; runc, docker-registry, skopeo and mmdebstrap are looked for on PATH.";

/// Where containerd, its shims and runc keep what cannot be told to lie elsewhere.
const RUN: &str = "/run/containerd";

fn main() -> ExitCode {
    let names = WORKLOADS.iter().map(|one| (one.name, one.title));
    program::run(TARGET, NEEDS, names, measure_all)
}

fn measure_all(options: &Options, home: &Path) -> Result<ExitCode> {
    let version = match options.system {
        true => Version::System,
        false => Version::Second,
    };
    let programs = version.find().map_err(anyhow::Error::msg)?;
    let mut versions = vec![("containerd", version_line(&programs.join("containerd"))?)];
    let mut snapshotters = Vec::new();
    if options.sides != Sides::Varve {
        snapshotters.push(Snapshotter::Overlayfs);
    }
    if options.sides != Sides::Peer {
        let binary: PathBuf = varve_binary()?;
        versions.push(("varve", version_line(&binary)?));
        snapshotters.push(Snapshotter::Varve(binary));
    }
    let machine = machine::describe(home, &versions)?;
    hide_run()?;
    let mut bench = Bench {
        home: home.to_owned(),
        programs,
        namespace: name_of(home),
        rounds: options.rounds,
        snapshotters,
        images: Images::new(home)?,
        nodes: Vec::new(),
    };
    let mut rows = Vec::new();
    for workload in WORKLOADS
        .iter()
        .filter(|workload| options.selects(workload.name))
    {
        let outcomes = workload
            .measure(&mut bench)
            .with_context(|| workload.name)?;
        rows.push(Row::new(
            workload.name,
            workload.title,
            workload.target,
            outcomes,
        ));
    }
    report::finish(PEER, &rows, &machine, options)
}

/// Puts a file system of our own in its place: we are in a mount namespace of our own, so it is
/// gone with us, and the machine's containerd sees nothing of it.
fn hide_run() -> Result<()> {
    fs::create_dir_all(RUN).with_context(|| format!("create {RUN}"))?;
    let status = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "mode=0711", "varve-bench", RUN])
        .status()
        .context("run mount")?;
    ensure!(status.success(), "cannot mount a tmpfs at {RUN}");
    Ok(())
}
