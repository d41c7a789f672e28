//! A file system of one's own: a tmpfs that is soon full, or one in a file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use crate::privileged;

/// How often a disk is filled anew that others write to.
const ATTEMPTS_MAX: usize = 10;

/// A mounted file system. It goes with the value.
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
        SmallDisk::mounted(path)
    }

    /// A file system that `mkfs.KIND` makes in a file beside `path`, which takes only what is used
    /// of its `mib` MiB.
    ///
    /// # Panics
    /// As [`SmallDisk::mount`], or where the program is missing.
    #[must_use]
    pub fn format(kind: &str, path: &Path, mib: u64) -> Self {
        privileged::assert_root();
        fs::create_dir(path).expect("a mount point");
        let image = path.with_extension(kind);
        let file = fs::File::create(&image).expect("a file for the file system");
        file.set_len(mib << 20).expect("a sparse file");
        let run = |command: &mut Command| {
            let output = command.output();
            let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{command:?}: {text}");
        };
        run(Command::new(format!("mkfs.{kind}")).arg("-q").arg(&image));
        run(Command::new("mount")
            .args(["-o", "loop"])
            .args([&image, path]));
        SmallDisk::mounted(path)
    }

    fn mounted(path: &Path) -> Self {
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
        // Somebody else may take some of it meanwhile.
        for _ in 0..ATTEMPTS_MAX {
            let bytes = usize::try_from(self.free_bytes().saturating_sub(left)).expect("small");
            match fs::write(&filler, vec![0_u8; bytes]) {
                Err(error) if error.kind() == io::ErrorKind::StorageFull && left > 0 => {
                    fs::remove_file(&filler).expect("it was just written");
                }
                // All that was free is taken, by whomever.
                Err(error) if error.kind() == io::ErrorKind::StorageFull => return filler,
                written => {
                    written.expect("what is free can be written");
                    return filler;
                }
            }
        }
        panic!("others write to {} all the time", self.path.display());
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
