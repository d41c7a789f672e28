//! Runs a process on a snapshot's mounts: the seam between storage and the container runtime.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use executor::{
    Cancel, Executor, Exit, ExtraMount, ExtraMountKind, Process, Stdio, TMPFS_MODE_DEFAULT,
};
use mount::{Mount, MountGuard};
use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::agents::Forwarding;
use crate::error::{Error, Result};
use crate::exec_mounts::{Shown, ShownKind};
use crate::foreign::Foreign;
use crate::secrets::SecretFile;

/// Directory of mount points and bundles of running processes, below the root.
const RUN: &str = "run";

/// Most that lies there at once: configurations, secrets, nothing large.
const MEMORY_BYTES_MAX: u64 = 256 << 20;

/// Mounts, runs, unmounts.
#[derive(Debug)]
pub struct Execution {
    executor: Executor,
    directory: PathBuf,
    next: AtomicU64,
    foreign: Foreign,
    /// The file system in memory that `directory` is; `None` where none can be mounted.
    memory: Option<MountGuard>,
}

impl Execution {
    /// Works below `<root>/run`; what an earlier process left there is removed. It is kept in
    /// memory, where that is possible: configurations of containers hold secrets, and what a
    /// killed process leaves goes with its mounts.
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
            memory: in_memory(&directory),
            directory,
            next: AtomicU64::new(1),
            foreign: Foreign::default(),
        }))
    }

    /// Where mount points of running processes lie.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Checks that processes can be run here at all, before anything is mounted for one.
    ///
    /// # Errors
    /// [`Error::Executor`] tells why not.
    pub(crate) fn check(&self) -> Result<()> {
        Ok(self.executor.check()?)
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
        stdio: Stdio,
        cancel: Cancel,
    ) -> Result<Exit> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let directory = Directory::create(self.directory.join(number.to_string()))?;
        let rootfs = directory.part("rootfs")?;
        let mut held = Held::default();
        held.mounts.push(mount::apply(mounts, &rootfs)?);
        check_mount_points(&rootfs)?;
        for (index, one) in shown.iter().enumerate() {
            let place = directory.part(&format!("mount-{index}"))?;
            if matches!(one.kind, ShownKind::Own) {
                executor::create_mount_point(&rootfs, Path::new(&one.target), true)?;
            }
            let kind = self.show(one, place, &rootfs, shown, &mut held)?;
            let mount = ExtraMount {
                target: one.target.clone(),
                kind,
            };
            match one.kind {
                ShownKind::Own => process.mounts.insert(0, mount),
                _ => process.mounts.push(mount),
            }
        }
        let request = executor::RunRequest {
            id: executor::container_id(number),
            rootfs,
            process,
            stdio,
            cancel,
        };
        let exit = self.executor.run(request).await;
        // Before the directory goes: a mount point cannot be removed.
        drop(held);
        Ok(exit?)
    }

    /// Makes one of the things that a process is `shown` ready to be bound into its container.
    fn show(
        &self,
        one: &Shown,
        place: PathBuf,
        rootfs: &Path,
        shown: &[Shown],
        held: &mut Held,
    ) -> Result<ExtraMountKind> {
        let bind = |source, is_data| ExtraMountKind::Bind {
            source,
            read_only: one.read_only,
            is_data,
        };
        Ok(match &one.kind {
            ShownKind::Memory { size_bytes } => ExtraMountKind::Tmpfs {
                size_bytes: *size_bytes,
                mode: TMPFS_MODE_DEFAULT,
                // As with BuildKit: compilers' checks start programs there.
                has_programs: true,
                read_only: one.read_only,
            },
            ShownKind::Directory { path, selector } if selector.as_os_str().is_empty() => {
                bind(path.clone(), false)
            }
            ShownKind::Directory { path, selector } => {
                held.mounts.push(show_inside(path, selector, &place)?);
                bind(place, false)
            }
            ShownKind::Own => {
                let selector = one.target.trim_start_matches('/');
                held.mounts
                    .push(show_inside(rootfs, Path::new(selector), &place)?);
                bind(place, false)
            }
            ShownKind::Secret { value, owner } => {
                if self.memory.is_none() {
                    return Err(Error::Secret {
                        id: owner.id.clone(),
                        reason: "no file system in memory can be mounted to keep it in; `varve \
                                 doctor` tells why",
                    });
                }
                let file = SecretFile::create(&place, value, owner)?;
                let source = file.path().to_owned();
                held.secrets.push(file);
                ExtraMountKind::Bind {
                    source,
                    read_only: true,
                    is_data: true,
                }
            }
            ShownKind::Agent { socket, owner } => {
                let forwarding = Forwarding::start(&place, socket.clone(), owner)?;
                let source = forwarding.path().to_owned();
                held.agents.push(forwarding);
                bind(source, false)
            }
            ShownKind::Files {
                mounts,
                path,
                is_directory,
                is_scratch,
            } => {
                held.mounts.push(mount::apply(mounts, &place)?);
                let source = match path.as_os_str().is_empty() {
                    true => place,
                    false => place.join(path),
                };
                if *is_scratch && *is_directory {
                    make_mount_points(&source, &one.target, shown)?;
                }
                bind(source, false)
            }
        })
    }
}

/// What there is for one run only. All of it goes with the value.
#[derive(Debug, Default)]
struct Held {
    mounts: Vec<MountGuard>,
    secrets: Vec<SecretFile>,
    agents: Vec<Forwarding>,
}

/// Mounts a file system in memory at `directory`, one that is never swapped out if the kernel has
/// that (Linux 6.4).
fn in_memory(directory: &Path) -> Option<MountGuard> {
    let memory = Mount::tmpfs(Some(MEMORY_BYTES_MAX), 0o700);
    let mut pinned = memory.clone();
    pinned.options.push("noswap".to_owned());
    let mounted =
        mount::apply(&[pinned], directory).or_else(|_| mount::apply(&[memory], directory));
    mounted
        .inspect_err(|error| tracing::debug!(%error, "run/ is not in memory"))
        .ok()
}

/// Shows a directory at `place` that lies where others may write at the same time: it is opened
/// first, links lead nowhere outside, and what was opened is what is mounted.
fn show_inside(directory: &Path, selector: &Path, place: &Path) -> Result<MountGuard> {
    let failed = |errno: rustix::io::Errno| match errno {
        rustix::io::Errno::NOENT => Error::NotFound {
            path: format!("/{}", selector.display()),
        },
        errno => Error::io("open", directory.join(selector), errno.into()),
    };
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::DIRECTORY;
    let root = rustix::fs::open(directory, flags, Mode::empty()).map_err(failed)?;
    let scope = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let found = rustix::fs::openat2(&root, selector, flags, Mode::empty(), scope);
    let found = found.map_err(failed)?;
    let source = format!("/proc/self/fd/{}", found.as_raw_fd());
    Ok(mount::apply(&[Mount::bind(source, false)], place)?)
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
