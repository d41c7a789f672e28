//! Mount namespaces: mounts that nobody else sees and that cannot outlive their maker.

use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountPropagationFlags, mount_change};

use crate::error::Error;

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
