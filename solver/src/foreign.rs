//! Programs for other platforms: whether this machine runs them, and what it lacks if not.
//!
//! The kernel hands them to an emulator that somebody registered with binfmt_misc. Whether that
//! works is found by trying: a program of a few bytes is run the way a step is. The registrations
//! are only read to say what is missing: in a container they are often out of sight and work all
//! the same.

mod handlers;
mod program;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use executor::{Cancel, Process, Stdio};
use llb::Platform;
use mount::Mount;
use rustix::fs::{MemfdFlags, memfd_create};
use tokio::sync::{Mutex, mpsc};

use self::program::Architecture;
use crate::error::{Error, Result};
use crate::executing::Execution;

/// Where the kernel shows what is registered.
const BINFMT_MISC: &str = "/proc/sys/fs/binfmt_misc";

/// Name of the program that is tried.
const PROBE: &str = "probe";

/// Which architectures were tried, and with what outcome.
#[derive(Debug, Default)]
pub(crate) struct Foreign {
    /// `None`: it runs. Otherwise what to do about it.
    tried: Mutex<BTreeMap<String, Option<String>>>,
}

impl Foreign {
    /// Checks that programs of a platform run here.
    ///
    /// # Errors
    /// [`Error::ForeignPlatform`] tells what is missing; those of running a container.
    pub(crate) async fn check(
        &self,
        platform: &Platform,
        execution: &Execution,
        directory: &Path,
    ) -> Result<()> {
        let (platform, host) = (platform.normalized(), Platform::host().normalized());
        let refused = |reason: String| {
            Err(Error::ForeignPlatform {
                platform: platform.to_string(),
                host: host.to_string(),
                reason,
            })
        };
        if platform.os != host.os {
            return refused(format!("it takes a kernel of {}", platform.os));
        }
        if platform.architecture == host.architecture {
            return Ok(());
        }
        let mut tried = self.tried.lock().await;
        let reason = match tried.get(&platform.architecture) {
            Some(known) => known.clone(),
            None => {
                let found = try_out(&platform, execution, directory).await?;
                tried.insert(platform.architecture.clone(), found.clone());
                found
            }
        };
        reason.map_or(Ok(()), refused)
    }
}

/// The platforms whose programs this machine runs, its own and others: small ones are tried.
#[must_use]
pub fn platforms() -> Vec<String> {
    let handlers = handlers::read(Path::new(BINFMT_MISC)).unwrap_or_default();
    let is_run = |architecture: &Architecture| {
        let program = architecture.program();
        runs(&program).unwrap_or_default() && !handlers::is_lost_in_roots(&handlers, &program)
    };
    Architecture::all()
        .filter(is_run)
        .map(|architecture| format!("linux/{}", architecture.name))
        .collect()
}

/// Whether a program runs here, outside of any container.
fn runs(program: &[u8]) -> io::Result<bool> {
    let mut file = fs::File::from(memfd_create(PROBE, MemfdFlags::CLOEXEC)?);
    file.write_all(program)?;
    // By the number of this process: an emulator opens it again.
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    Ok(Command::new(path).status()?.success())
}

/// Runs a small program for the platform; tells what is missing if it does not run.
async fn try_out(
    platform: &Platform,
    execution: &Execution,
    directory: &Path,
) -> Result<Option<String>> {
    let Some(architecture) = Architecture::of(&platform.architecture) else {
        // Nothing is known of it: the step itself will show.
        return Ok(None);
    };
    let root = Root::create(directory.join(format!("foreign-{}", platform.architecture)))?;
    root.write(PROBE, &architecture.program())?;
    let mounts = [Mount::bind(&root.0, false)];
    let process = Process {
        args: vec![format!("/{PROBE}")],
        cwd: "/".into(),
        network: executor::Network::None,
        ..Process::default()
    };
    let (sender, mut lines) = mpsc::channel(16);
    let drain = async { while lines.recv().await.is_some() {} };
    let run = execution.run(&mounts, &[], process, Stdio::Lines(sender), Cancel::new());
    let (exit, ()) = tokio::join!(run, drain);
    match exit {
        Ok(exit) if exit.code() == 0 => Ok(None),
        outcome => {
            tracing::debug!(?outcome, %platform, "a foreign program does not run");
            let handlers = handlers::read(Path::new(BINFMT_MISC));
            Ok(Some(handlers::advice(handlers.as_deref(), &architecture)))
        }
    }
}

/// A root file system with one program, removed on drop.
struct Root(PathBuf);

impl Root {
    fn create(path: PathBuf) -> Result<Self> {
        fs::create_dir_all(&path).map_err(|e| Error::io("create", &path, e))?;
        Ok(Root(path))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.0.join(name);
        let failed = |e| Error::io("write", &path, e);
        let mut options = fs::File::options();
        let file = options.write(true).create(true).truncate(true).mode(0o755);
        let mut file = file.open(&path).map_err(failed)?;
        file.write_all(bytes).map_err(failed)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "cannot remove a probe");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_this_machine_run_and_what_is_no_program_does_not() {
        let own = Platform::host().normalized();
        assert!(platforms().contains(&format!("linux/{}", own.architecture)));
        assert!(!runs(b"no program").unwrap_or_default());
    }
}
