//! A file system that is soon full: a tmpfs of some megabytes.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use crate::privileged;

/// A mounted tmpfs. It goes with the value.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts it at the new directory `path`; `options` are those of tmpfs, such as `size=40m`.
    ///
    /// # Panics
    /// Without root, or where it cannot be mounted.
    #[must_use]
    pub fn mount(path: &Path, options: &str) -> Self {
        SmallDisk::mount_kind("tmpfs", path, options)
    }

    /// The same with another file system of the kernel's.
    ///
    /// # Panics
    /// Without root, or where it cannot be mounted.
    #[must_use]
    pub fn mount_kind(kind: &str, path: &Path, options: &str) -> Self {
        privileged::assert_root();
        fs::create_dir(path).expect("a mount point");
        let data = std::ffi::CString::new(options).expect("no NUL in options");
        rustix::mount::mount(kind, path, kind, MountFlags::empty(), data.as_c_str())
            .unwrap_or_else(|error| panic!("mount a {kind} at {}: {error}", path.display()));
        // Otherwise each mount namespace of a build running beside gets a copy that keeps it busy.
        rustix::mount::mount_change(path, MountPropagationFlags::PRIVATE).expect("made private");
        SmallDisk {
            path: path.to_owned(),
        }
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Changes its options, such as its size.
    ///
    /// # Panics
    /// The kernel refuses.
    pub fn remount(&self, flags: MountFlags, options: &str) {
        rustix::mount::mount_remount(&self.path, flags, options)
            .unwrap_or_else(|error| panic!("remount {}: {error}", self.path.display()));
    }

    /// Bytes that are free.
    ///
    /// # Panics
    /// It is not mounted.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        let status = rustix::fs::statvfs(&self.path).expect("a mounted file system");
        status.f_bavail * status.f_frsize
    }

    /// Takes all but `left` bytes of what is free; the space is free again without the file that
    /// is returned.
    ///
    /// # Panics
    /// It cannot be written.
    #[must_use]
    pub fn fill(&self, left: u64) -> PathBuf {
        let filler = self.path.join("filler");
        let bytes = usize::try_from(self.free_bytes().saturating_sub(left)).expect("small");
        fs::write(&filler, vec![0_u8; bytes]).expect("as much as is free can be written");
        filler
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = rustix::mount::unmount(&self.path, UnmountFlags::DETACH);
        if !std::thread::panicking() {
            unmounted.expect("the small disk can be unmounted");
        }
    }
}
