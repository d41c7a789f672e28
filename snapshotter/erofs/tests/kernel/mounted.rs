//! Mounts for tests. Each test thread gets a mount namespace of its own, so that nothing is left
//! behind whatever happens: the namespace dies with the thread.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, unshare};
use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_change,
    move_mount, unmount,
};
use tempfile::TempDir;

/// A directory for images and mount points, seen by the test's own thread only.
pub(crate) struct Sandbox {
    directory: TempDir,
    /// In the order in which they were mounted.
    mounted: RefCell<Vec<PathBuf>>,
}

impl Sandbox {
    /// `None` if privileged tests are left out on request.
    pub(crate) fn new() -> Option<Self> {
        if std::env::var_os("VARVE_TEST_UNPRIVILEGED").is_some_and(|value| value == "1") {
            notice();
            return None;
        }
        unshare(CloneFlags::CLONE_NEWNS).expect(
            "a private mount namespace: run as root, or set VARVE_TEST_UNPRIVILEGED=1 to leave \
             these tests out",
        );
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).expect("make mounts private");
        Some(Self {
            directory: tempfile::tempdir().expect("a temporary directory"),
            mounted: RefCell::default(),
        })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn make_directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).expect("make a directory");
        path
    }

    pub(crate) fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).expect("make a directory");
        }
        std::fs::write(&path, content).expect("write a file");
        path
    }

    /// Mounts `image` at the directory `name`.
    pub(crate) fn mount_image(&self, name: &str, image: &[u8]) -> PathBuf {
        self.try_mount_image(name, image).expect("mount the image")
    }

    pub(crate) fn try_mount_image(&self, name: &str, image: &[u8]) -> rustix::io::Result<PathBuf> {
        let file = self.write(&format!("{name}.erofs"), image);
        let target = self.make_directory(name);
        mount_new(
            "erofs",
            &target,
            &[("source", &file), ("ro", Path::new(""))],
        )?;
        self.mounted.borrow_mut().push(target.clone());
        Ok(target)
    }

    /// Mounts an overlay with these options at the directory `name`; an empty value is a flag.
    pub(crate) fn mount_overlay(&self, name: &str, options: &[(&str, &Path)]) -> PathBuf {
        let target = self.make_directory(name);
        mount_new("overlay", &target, options).expect("mount the overlay");
        self.mounted.borrow_mut().push(target.clone());
        target
    }
}

impl Drop for Sandbox {
    /// The directory can be removed only when nothing is mounted there any more.
    fn drop(&mut self) {
        for target in self.mounted.get_mut().drain(..).rev() {
            // Where it fails a directory stays; the mount goes with the thread.
            unmount(&target, UnmountFlags::DETACH).ok();
        }
    }
}

fn mount_new(kind: &str, target: &Path, options: &[(&str, &Path)]) -> rustix::io::Result<()> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        if value.as_os_str().is_empty() {
            fsconfig_set_flag(&context, *key)?;
        } else {
            fsconfig_set_string(&context, *key, *value)?;
        }
    }
    fsconfig_create(&context)?;
    let mount = fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )?;
    move_mount(
        &mount,
        "",
        CWD,
        target,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
}

/// Says once, past the harness that captures the output of tests, that tests are left out.
fn notice() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let text = "NOTICE: VARVE_TEST_UNPRIVILEGED=1 leaves out the tests that need root\n";
        std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes()).expect("write");
    });
}
