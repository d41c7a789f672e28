//! Keeps everything a run starts in a process and mount namespace of its own, so that nothing is
//! left behind: not after an error, a panic or Ctrl-C, and no matter what the measured tools do.
//!
//! The program starts itself a second time inside. When that ends or is killed, the kernel kills
//! what else is inside and lets go of every mount; then the process outside removes the directory.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::Options;
use crate::report;

/// Where cgroups are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// What a shell reports for a command that Ctrl-C has ended.
const INTERRUPTED: u8 = 130;

/// How long killed processes and their mounts may hold the directory.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(10);

/// Runs this program again inside, with the same words and `--inside DIRECTORY`, and cleans up.
///
/// # Errors
/// Without root, or where the directory cannot be made or removed.
pub fn run_again_inside(options: &Options) -> Result<ExitCode> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "the workloads mount file systems and run containers: run this as root"
    );
    let directory = tempfile::Builder::new()
        .prefix("varve-bench-")
        .tempdir_in(&options.scratch)
        .with_context(|| format!("make a directory in {}", options.scratch.display()))?;
    let outcome = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(supervise(directory.path()));
    remove_cgroups(directory.path());
    if options.keep {
        let path = directory.keep();
        report::note(&format!("everything is still in {}", path.display()));
    } else {
        remove(directory.path())?;
    }
    outcome
}

/// What was killed a moment ago may still be writing.
fn remove(directory: &Path) -> Result<()> {
    let started = Instant::now();
    loop {
        match fs::remove_dir_all(directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(_) if started.elapsed() < REMOVAL_PATIENCE => {
                thread::sleep(Duration::from_millis(100));
            }
            outcome => {
                return outcome.with_context(|| {
                    format!("cannot remove {0}; run: rm -rf {0}", directory.display())
                });
            }
        }
    }
}

/// What containers were in: cgroups of a containerd's namespace, which has the name of the
/// directory ([`name_of`]), of whatever controller. No process is left in them.
fn remove_cgroups(directory: &Path) {
    let name = name_of(directory);
    let root = Path::new(CGROUPS);
    let controllers = fs::read_dir(root).into_iter().flatten().flatten();
    let places = controllers.map(|entry| entry.path().join(&name));
    for place in places.chain([root.join(&name)]) {
        for inner in fs::read_dir(&place).into_iter().flatten().flatten() {
            fs::remove_dir(inner.path()).ok();
        }
        fs::remove_dir(&place).ok();
    }
}

/// The name of this run: that of its directory, which no other run has.
#[must_use]
pub fn name_of(directory: &Path) -> String {
    let name = directory.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Waits for the end of the second process, and kills it where we are asked to end.
async fn supervise(directory: &Path) -> Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut child = inside(directory)?
        .spawn()
        .context("cannot run setpriv and unshare (package util-linux)")?;
    let ended = tokio::select! {
        status = child.wait() => Some(status?),
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
        _ = hang_up.recv() => None,
    };
    let Some(status) = ended else {
        child.kill().await.context("end what runs inside")?;
        report::note("interrupted; cleaning up");
        return Ok(ExitCode::from(INTERRUPTED));
    };
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// setpriv: should we be killed, everything dies with us. unshare: the namespaces, whose first
/// process is we again.
fn inside(directory: &Path) -> Result<Command> {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--", "unshare"])
        .args([
            "--mount",
            "--pid",
            "--fork",
            "--kill-child=KILL",
            "--mount-proc",
            "--",
        ])
        .arg(std::env::current_exe()?)
        .args(words)
        .arg("--inside")
        .arg(directory);
    Ok(command)
}
