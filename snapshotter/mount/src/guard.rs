//! Ends mounts: at once and completely, or at once to the eye while the rest happens behind.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::UnmountFlags;

use crate::error::Error;

/// Unmounts what is mounted at `target` and waits until the file system is gone; of several
/// mounts on top of each other the highest. A symbolic link is not followed.
///
/// # Errors
/// EBUSY if a file is open in it or something is mounted below it, EINVAL if it is no mount.
pub fn unmount(target: &Path) -> Result<(), Error> {
    rustix::mount::unmount(target, UnmountFlags::NOFOLLOW)
        .map_err(|errno| Error::system("unmount", target, errno))
}

/// Takes what is mounted at `target` out of sight, with all mounts below it, and lets it die in
/// the background as soon as nobody uses it any more.
///
/// `MNT_DETACH` alone would not do: the last user frees the dentries and inodes of the file
/// system, and that would be this call, 0.1 s for an overlay that was walked once (measured). So
/// a thread of its own becomes the last user.
///
/// # Errors
/// EINVAL if it is no mount, EPERM without privilege.
pub fn unmount_detached(target: &Path) -> Result<(), Error> {
    let mount = detach(target)?;
    bury(mount.into_iter().collect());
    Ok(())
}

/// Takes a mount out of sight and returns what keeps it alive.
pub(crate) fn detach(target: &Path) -> Result<Option<File>, Error> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // A FUSE without its server cannot be opened, but it can be unmounted.
    let mount = rustix::fs::open(target, flags, Mode::empty()).ok();
    rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
        .map_err(|errno| Error::system("unmount", target, errno))?;
    Ok(mount.map(File::from))
}

/// Lets detached mounts die, on a thread of their own if there is one to be had.
pub(crate) fn bury(mounts: Vec<File>) {
    if mounts.is_empty() {
        return;
    }
    let thread = std::thread::Builder::new().name("unmount".into());
    if let Err(error) = thread.spawn(move || drop(mounts)) {
        // The closure was dropped with the error, so the mounts died here and now.
        tracing::debug!(%error, "no thread to unmount in the background");
    }
}

/// Unmounts on drop, the last mount first, by [`unmount_detached`]. An error on drop is logged.
#[derive(Debug)]
#[must_use = "dropping the guard unmounts"]
pub struct MountGuard {
    targets: Vec<PathBuf>,
}

impl MountGuard {
    /// A guard over what is mounted at `target`.
    pub fn new(target: PathBuf) -> Self {
        Self {
            targets: vec![target],
        }
    }

    /// A guard over nothing yet.
    pub(crate) fn empty() -> Self {
        Self {
            targets: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, target: PathBuf) {
        self.targets.push(target);
    }

    /// The mount points, in the order in which they were mounted.
    #[must_use]
    pub fn targets(&self) -> &[PathBuf] {
        &self.targets
    }

    /// Unmounts and waits until the file systems are gone, e.g. before their upper directory is
    /// mounted again. A mount that is busy is left to the background, and the error returned.
    ///
    /// # Errors
    /// The first mount that could not be unmounted; the others are tried all the same.
    pub fn unmount(mut self) -> Result<(), Error> {
        let mut result = Ok(());
        while let Some(target) = self.targets.pop() {
            if let Err(error) = unmount(&target) {
                if error.raw_os_error() == Some(libc::EBUSY) {
                    self.end(&target);
                }
                result = result.and(Err(error));
            }
        }
        result
    }

    /// Unmounts in the background, as drop does, but tells what went wrong.
    ///
    /// # Errors
    /// The first mount that could not be unmounted; the others are tried all the same.
    pub fn detach(mut self) -> Result<(), Error> {
        let (mounts, result) = Self::detach_all(std::mem::take(&mut self.targets));
        bury(mounts);
        result
    }

    /// Leaves the mounts in place.
    pub fn keep(mut self) -> Vec<PathBuf> {
        std::mem::take(&mut self.targets)
    }

    fn detach_all(targets: Vec<PathBuf>) -> (Vec<File>, Result<(), Error>) {
        let mut result = Ok(());
        let mut mounts = Vec::with_capacity(targets.len());
        for target in targets.into_iter().rev() {
            match detach(&target) {
                Ok(mount) => mounts.extend(mount),
                Err(error) => result = result.and(Err(error)),
            }
        }
        (mounts, result)
    }

    fn end(&self, target: &Path) {
        if let Err(error) = unmount_detached(target) {
            tracing::warn!(%error, "a mount was left behind");
        }
    }
}

impl Drop for MountGuard {
    fn drop(&mut self) {
        let (mounts, result) = Self::detach_all(std::mem::take(&mut self.targets));
        bury(mounts);
        if let Err(error) = result {
            tracing::warn!(%error, "a mount was left behind");
        }
    }
}
