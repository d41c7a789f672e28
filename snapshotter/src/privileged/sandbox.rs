//! A manager over a real directory, in a mount namespace that dies with the test's thread.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mount::MountGuard;
use store::key_value::faulty::{Cause, Faulty, Rates};
use store::key_value::memory::{Medium, Memory};
use store::{RootLock, Store, TreeRef, fixtures};
use tempfile::TempDir;

use crate::checkout::Form;
use crate::manager::{Manager, Options};
use crate::snapshots::{Labels, Snapshots};
use crate::{Method, Result, checkout, metadata_image};

pub(super) struct Sandbox {
    pub(super) manager: Manager,
    medium: Medium,
    root: PathBuf,
    targets: AtomicU64,
    // Dropped in this order.
    memory: Option<MountGuard>,
    directory: TempDir,
}

/// Small trees are stacked as well, so that stacks are tested with small trees.
pub(super) fn stacking(method: Method) -> Options {
    Options {
        flat_inodes_max: 0,
        volatile: true,
        ..Options::new(method)
    }
}

/// Whether privileged tests are left out on request. Panics if they should run and cannot.
pub(super) fn is_left_out() -> bool {
    if std::env::var_os("VARVE_TEST_UNPRIVILEGED").is_some_and(|value| value == "1") {
        eprintln!("notice: VARVE_TEST_UNPRIVILEGED=1 leaves out the tests that need root");
        return true;
    }
    assert!(
        rustix::process::geteuid().is_root(),
        "this test mounts: run it as root or set VARVE_TEST_UNPRIVILEGED=1"
    );
    false
}

/// Unmounts, if need be in the background: between fork and exec, a child of another test's thread
/// has our open files too.
pub(super) fn unmount(guard: MountGuard) {
    if let Err(error) = guard.unmount() {
        let errno = error
            .raw_os_error()
            .map(rustix::io::Errno::from_raw_os_error);
        assert_eq!(errno, Some(rustix::io::Errno::BUSY), "{error}");
    }
}

impl Sandbox {
    /// In memory, where flushes cost nothing. `None` if privileged tests are left out.
    pub(super) fn new(options: Options) -> Option<Self> {
        Self::sized(options, None)
    }

    /// In memory, with so many bytes of it.
    pub(super) fn sized(options: Options, size: Option<u64>) -> Option<Self> {
        if is_left_out() {
            return None;
        }
        mount::isolate_thread().expect("a private mount namespace");
        let directory = tempfile::tempdir().unwrap();
        let memory = mount::Mount::tmpfs(size, 0o700);
        let memory = mount::apply(&[memory], directory.path()).unwrap();
        Some(Self::inside(directory, Some(memory), options))
    }

    /// On the disk of the temporary directory.
    pub(super) fn on_disk(options: Options) -> Option<Self> {
        if is_left_out() {
            return None;
        }
        mount::isolate_thread().expect("a private mount namespace");
        Some(Self::inside(tempfile::tempdir().unwrap(), None, options))
    }

    /// In memory, on a database whose calls can fail; they do not yet.
    pub(super) fn faulty(
        options: Options,
        seed: u64,
        rates: Rates,
    ) -> Option<(Self, Arc<Faulty<Memory>>)> {
        if is_left_out() {
            return None;
        }
        mount::isolate_thread().expect("a private mount namespace");
        let (directory, medium) = (tempfile::tempdir().unwrap(), Medium::new());
        let memory = mount::apply(&[mount::Mount::tmpfs(None, 0o700)], directory.path()).unwrap();
        let rows = Faulty::new(medium.open().unwrap(), seed, rates).with_cause(Cause::NoSpace);
        rows.disarm();
        let (rows, root) = (Arc::new(rows), directory.path().join("root"));
        let lock = RootLock::acquire(&root).unwrap();
        let store = Arc::new(Store::open(lock, Box::new(rows.clone())).unwrap());
        let manager = Manager::open(store, options).unwrap();
        let (memory, targets) = (Some(memory), AtomicU64::new(0));
        Some((
            Sandbox {
                manager,
                medium,
                root,
                targets,
                memory,
                directory,
            },
            rows,
        ))
    }

    fn inside(directory: TempDir, memory: Option<MountGuard>, options: Options) -> Self {
        let root = directory.path().join("root");
        let medium = Medium::new();
        let store = Arc::new(fixtures::memory_store_on(&root, &medium));
        let manager = Manager::open(store, options).unwrap();
        let targets = AtomicU64::new(0);
        Sandbox {
            manager,
            medium,
            root,
            targets,
            memory,
            directory,
        }
    }

    /// Ends the manager and its store and opens them again, after `between`.
    pub(super) fn reopen(self, between: impl FnOnce(&Path, &Medium)) -> Self {
        let Sandbox {
            manager,
            medium,
            root,
            targets,
            memory,
            directory,
        } = self;
        let options = *manager.options();
        drop(manager);
        between(&root, &medium);
        let store = Arc::new(fixtures::memory_store_on(&root, &medium));
        let manager = Manager::open(store, options).unwrap();
        Sandbox {
            manager,
            medium,
            root,
            targets,
            memory,
            directory,
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn store(&self) -> &Store {
        self.manager.store()
    }

    /// An empty directory.
    pub(super) fn directory(&self) -> PathBuf {
        let number = self.targets.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.path().join(format!("target{number}"));
        fs::create_dir(&path).unwrap();
        path
    }

    pub(super) fn mount(&self, mounts: &[mount::Mount]) -> (MountGuard, PathBuf) {
        let target = self.directory();
        (mount::apply(mounts, &target).unwrap(), target)
    }

    /// Prepares the snapshot `<name>-active` on `parent` and lets `work` write to it.
    pub(super) fn write(&self, parent: &str, name: &str, work: impl FnOnce(&Path)) -> String {
        let key = format!("{name}-active");
        let mounts = self.manager.prepare(&key, parent, Labels::new()).unwrap();
        let (guard, target) = self.mount(&mounts);
        work(&target);
        unmount(guard);
        key
    }

    /// A whole step: prepare, mount, `work`, unmount, commit.
    pub(super) fn step(&self, parent: &str, name: &str, work: impl FnOnce(&Path)) -> TreeRef {
        let key = self.write(parent, name, work);
        self.manager.commit(name, &key, Labels::new()).unwrap();
        self.manager.tree(name).unwrap()
    }

    /// As [`Sandbox::step`], but tells how the commit ended.
    pub(super) fn try_step(
        &self,
        parent: &str,
        name: &str,
        work: impl FnOnce(&Path),
    ) -> Result<()> {
        let key = self.write(parent, name, work);
        self.manager.commit(name, &key, Labels::new())
    }

    /// Lets `look` see a committed snapshot through a view.
    pub(super) fn show<R>(&self, name: &str, look: impl FnOnce(&Path) -> R) -> R {
        let key = format!("{name}-view");
        let mounts = self.manager.view(&key, name, Labels::new()).unwrap();
        let (guard, target) = self.mount(&mounts);
        let seen = look(&target);
        unmount(guard);
        self.manager.remove(&key).unwrap();
        seen
    }

    /// Lets `look` see a tree through one image (or checkout) of the whole of it, made apart: the
    /// manager would use it from then on.
    pub(super) fn show_flat<R>(&self, tree: TreeRef, look: impl FnOnce(&Path) -> R) -> R {
        let (store, objects) = (self.store(), self.store().objects());
        if self.manager.method() == Method::Directories {
            let target = self.directory();
            let delta = store::diff(None, tree, store).unwrap();
            checkout::write(&delta, store, objects, Form::default(), &target).unwrap();
            return look(&target);
        }
        let image = self.directory.path().join("flat.erofs");
        fs::write(&image, metadata_image::flat(tree, store, objects).unwrap()).unwrap();
        let point = self.directory();
        let erofs = mount::mount_erofs(&image, &point).unwrap();
        let options = mount::OverlayOptions {
            lowers: vec![mount::Lower::Metadata(point)],
            data_only: vec![objects.directory().into()],
            ..Default::default()
        };
        let (guard, target) = self.mount(&[options.to_mount().unwrap()]);
        let seen = look(&target);
        unmount(guard);
        unmount(erofs);
        seen
    }
}
