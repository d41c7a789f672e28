//! Runs a process on a snapshot's mounts: the seam between storage and the container runtime.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use executor::{Cancel, Executor, Exit, ExtraMount, ExtraMountKind, OutputSender, Process};
use mount::{Mount, MountGuard};

use crate::error::{Error, Result};
use crate::exec_mounts::{Shown, ShownKind};
use crate::foreign::Foreign;

/// Directory of mount points and bundles of running processes, below the root.
const RUN: &str = "run";

/// Mounts, runs, unmounts.
#[derive(Debug)]
pub struct Execution {
    executor: Executor,
    directory: PathBuf,
    next: AtomicU64,
    foreign: Foreign,
}

impl Execution {
    /// Works below `<root>/run`; what an earlier process left there is removed.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(root: &Path, executor: Executor) -> Result<Arc<Self>> {
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
            foreign: Foreign::default(),
        }))
    }

    /// Checks that programs of a platform run here.
    ///
    /// # Errors
    /// [`Error::ForeignPlatform`] tells what is missing.
    pub(crate) async fn check_platform(&self, platform: &llb::Platform) -> Result<()> {
        self.foreign.check(platform, self, &self.directory).await
    }

    /// Runs a process on mounts that make its root file system, with others shown inside it. When
    /// this returns nothing is mounted and nothing runs any more, whatever the outcome.
    ///
    /// # Errors
    /// [`Error::Mount`]; [`Error::Executor`]. A process that ends with a code other than 0 is no
    /// error here.
    pub async fn run(
        &self,
        mounts: &[Mount],
        shown: &[Shown],
        mut process: Process,
        output: OutputSender,
        cancel: Cancel,
    ) -> Result<Exit> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let directory = Directory::create(self.directory.join(number.to_string()))?;
        let rootfs = directory.part("rootfs")?;
        let mut guards = vec![mount::apply(mounts, &rootfs)?];
        check_mount_points(&rootfs)?;
        for (index, one) in shown.iter().enumerate() {
            let place = directory.part(&format!("mount-{index}"))?;
            let kind = show(one, place, shown, &mut guards)?;
            process.mounts.push(ExtraMount {
                target: one.target.clone(),
                kind,
            });
        }
        let request = executor::RunRequest {
            id: executor::container_id(number),
            rootfs,
            process,
            output,
            cancel,
        };
        let exit = self.executor.run(request).await;
        // Before the directory goes: a mount point cannot be removed.
        drop(guards);
        Ok(exit?)
    }
}

/// Makes one of the things that a process is `shown` ready to be bound into its container.
fn show(
    one: &Shown,
    place: PathBuf,
    shown: &[Shown],
    guards: &mut Vec<MountGuard>,
) -> Result<ExtraMountKind> {
    let read_only = one.read_only;
    match &one.kind {
        ShownKind::Memory { size_bytes } => Ok(ExtraMountKind::Tmpfs {
            size_bytes: *size_bytes,
            read_only,
        }),
        ShownKind::Files {
            mounts,
            path,
            is_directory,
            is_scratch,
        } => {
            guards.push(mount::apply(mounts, &place)?);
            let source = match path.as_os_str().is_empty() {
                true => place,
                false => place.join(path),
            };
            if *is_scratch && *is_directory {
                make_mount_points(&source, &one.target, shown)?;
            }
            Ok(ExtraMountKind::Bind {
                source,
                read_only,
                is_data: false,
            })
        }
    }
}

/// Makes the mount points of what is shown inside `target`, whose content `directory` is.
fn make_mount_points(directory: &Path, target: &str, shown: &[Shown]) -> Result<()> {
    for other in shown {
        let inside = Path::new(&other.target).strip_prefix(target);
        let Some(inside) = inside.ok().filter(|path| !path.as_os_str().is_empty()) else {
            continue;
        };
        executor::create_mount_point(directory, inside, other.is_directory())?;
    }
    Ok(())
}

/// The runtime makes /dev and its links before it enters the root: through a symbolic link of the
/// image it would reach the host.
fn check_mount_points(rootfs: &Path) -> Result<()> {
    for name in ["proc", "sys", "dev"] {
        let found = fs::symlink_metadata(rootfs.join(name));
        if found.is_ok_and(|found| !found.is_dir()) {
            let reason = "the image has something other than a directory there";
            return Err(Error::FileOp {
                path: format!("/{name}"),
                reason,
            });
        }
    }
    Ok(())
}

/// A directory of mount points, removed on drop. Only empty directories are: should something
/// still be mounted there, nothing of it is touched.
struct Directory(PathBuf);

impl Directory {
    fn create(path: PathBuf) -> Result<Self> {
        fs::create_dir_all(&path).map_err(|e| Error::io("create", &path, e))?;
        Ok(Directory(path))
    }

    fn part(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        fs::create_dir(&path).map_err(|e| Error::io("create", &path, e))?;
        Ok(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let parts = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let paths = parts.map(|part| part.path()).chain([self.0.clone()]);
        for path in paths {
            if let Err(error) = fs::remove_dir(&path) {
                tracing::warn!(path = %path.display(), %error, "cannot remove a mount point");
            }
        }
    }
}
