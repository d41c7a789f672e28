//! Runs a process on a snapshot's mounts: the seam between storage and the container runtime.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use executor::{Cancel, Executor, Exit, OutputSender, Process};
use mount::Mount;

use crate::error::{Error, Result};

/// Directory of mount points and bundles of running processes, below the root.
const RUN: &str = "run";

/// Mounts, runs, unmounts.
#[derive(Debug)]
pub struct Execution {
    executor: Executor,
    directory: PathBuf,
    next: AtomicU64,
}

impl Execution {
    /// Works below `<root>/run`; what an earlier process left there is removed.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(root: &std::path::Path, executor: Executor) -> Result<Arc<Self>> {
        let directory = root.join(RUN);
        mount::unmount_all_below(&directory)?;
        if directory.exists() {
            fs::remove_dir_all(&directory).map_err(|e| Error::io("remove", &directory, e))?;
        }
        fs::create_dir_all(&directory).map_err(|e| Error::io("create", &directory, e))?;
        Ok(Arc::new(Execution {
            executor,
            directory,
            next: AtomicU64::new(1),
        }))
    }

    /// Runs a process on mounts that make its root file system. When this returns nothing is
    /// mounted and nothing runs any more, whatever the outcome.
    ///
    /// # Errors
    /// [`Error::Mount`]; [`Error::Executor`]. A process that ends with a code other than 0 is no
    /// error here.
    pub async fn run(
        &self,
        mounts: &[Mount],
        process: Process,
        output: OutputSender,
        cancel: Cancel,
    ) -> Result<Exit> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let directory = self.directory.join(number.to_string());
        let rootfs = directory.join("rootfs");
        fs::create_dir_all(&rootfs).map_err(|e| Error::io("create", &rootfs, e))?;
        let guard = mount::apply(mounts, &rootfs)?;
        let id = format!("varve-{}-{number}", std::process::id());
        let request = executor::RunRequest {
            id,
            rootfs,
            process,
            output,
            cancel,
        };
        let exit = self.executor.run(request).await;
        drop(guard);
        if let Err(error) = fs::remove_dir_all(&directory) {
            tracing::warn!(directory = %directory.display(), %error, "cannot remove");
        }
        Ok(exit?)
    }
}
