//! Mount namespaces: mounts that nobody else sees and that cannot outlive their maker.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;

use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::CWD;
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount_change, move_mount, open_tree,
};

use crate::apply::apply;
use crate::error::Error;
use crate::mount::Mount;

/// Moves the whole process to a mount namespace of its own: from now on its mounts are seen by it
/// and its children only, and vanish with the last of them, also after SIGKILL.
///
/// What is mounted around it from now on is seen nevertheless: a build may begin long after the
/// process and name a directory on a disk that was mounted in between.
///
/// Call it before any thread starts: a thread that exists already would stay where it is.
///
/// # Errors
/// Several threads are running; no privilege.
pub fn enter_private_namespace() -> Result<(), Error> {
    check_single_thread()?;
    leave(MountPropagationFlags::DOWNSTREAM)
}

/// What is done to a thread is done to the process while it has no other.
pub(crate) fn check_single_thread() -> Result<(), Error> {
    let tasks = Path::new("/proc/self/task");
    let count = std::fs::read_dir(tasks)
        .map_err(|error| Error::system("count the threads in", tasks, error))?
        .count();
    if count > 1 {
        return Err(Error::ThreadsRunning { count });
    }
    Ok(())
}

/// Moves only the calling thread (and the threads and processes that it starts from now on) to a
/// mount namespace of its own. Meant for tests and single-purpose threads.
///
/// # Errors
/// No privilege.
pub fn isolate_thread() -> Result<(), Error> {
    leave(MountPropagationFlags::PRIVATE)
}

fn leave(propagation: MountPropagationFlags) -> Result<(), Error> {
    let root = Path::new("/");
    unshare(CloneFlags::CLONE_NEWNS)
        .map_err(|errno| Error::system("make a mount namespace for", root, errno))?;
    mount_change(root, propagation | MountPropagationFlags::REC)
        .map_err(|errno| Error::system("keep to this process the mounts below", root, errno))
}

/// A mount namespace in which something can be done: that of whoever calls, or another one.
#[derive(Clone, Debug, Default)]
pub struct Namespace(Option<Arc<File>>);

impl Namespace {
    /// That of this process, also after it has left.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn of_process() -> Result<Self, Error> {
        Self::open(Path::new("/proc/self/ns/mnt"))
    }

    /// That of a thread of this process.
    ///
    /// # Errors
    /// There is no such thread.
    pub fn of_thread(id: u32) -> Result<Self, Error> {
        Self::open(Path::new(&format!("/proc/self/task/{id}/ns/mnt")))
    }

    fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(|error| Error::system("open", path, error))?;
        Ok(Namespace(Some(Arc::new(file))))
    }

    /// Does some work there, on a thread of its own unless that is where the caller is. Relative
    /// paths begin at the root directory there.
    ///
    /// # Errors
    /// No privilege.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        let Some(file) = &self.0 else {
            return Ok(work());
        };
        on_a_thread(|| {
            let failed = |errno| Error::system("enter a mount namespace", Path::new("/"), errno);
            // Threads of a process have their root and working directory in common, and only one
            // that has its own may go to another tree of mounts.
            unshare(CloneFlags::CLONE_FS).map_err(failed)?;
            setns(file, CloneFlags::CLONE_NEWNS).map_err(failed)?;
            Ok(work())
        })
    }
}

/// Makes mounts that are nowhere yet. `scratch` is any directory; nobody sees that something is
/// mounted there for a moment.
///
/// # Errors
/// As [`apply`].
pub fn detached(mounts: &[Mount], scratch: &Path) -> Result<OwnedFd, Error> {
    on_a_thread(|| {
        isolate_thread()?;
        let made = apply(mounts, scratch)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = open_tree(CWD, scratch, flags)
            .map_err(|errno| Error::system("take the mount from", scratch, errno))?;
        made.unmount()?;
        Ok(tree)
    })
}

/// Puts what [`detached`] gave at a directory.
///
/// # Errors
/// There is no such directory; no privilege.
pub fn attach(mount: impl AsFd, target: &Path) -> Result<(), Error> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(mount, "", CWD, target, flags)
        .map_err(|errno| Error::system("mount at", target, errno))
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("mounting".into());
        let thread = thread.spawn_scoped(scope, work);
        let thread =
            thread.map_err(|error| Error::system("start a thread for", "/".as_ref(), error))?;
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}
