//! The plain life of a snapshot, with every method and shape.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::sandbox::{Sandbox, stacking, unmount};
use crate::manager::Options;
use crate::snapshots::{Labels, Snapshots};
use crate::{Error, Method};

fn ways() -> [Options; 4] {
    [
        Options::new(Method::Kernel),
        stacking(Method::Kernel),
        Options::new(Method::Directories),
        stacking(Method::Directories),
    ]
}

#[test]
fn what_a_step_wrote_is_seen_by_its_children() {
    for options in ways() {
        let Some(sandbox) = Sandbox::new(options) else {
            return;
        };
        let first = sandbox.step("", "first", |root| {
            fs::create_dir(root.join("etc")).unwrap();
            fs::write(root.join("etc/name"), "varve").unwrap();
            fs::write(root.join("empty"), "").unwrap();
        });
        assert_eq!((first.inodes, first.bytes), (4, 5), "{options:?}");
        sandbox.step("first", "second", |root| {
            assert_eq!(fs::read_to_string(root.join("etc/name")).unwrap(), "varve");
            fs::write(root.join("etc/name"), "changed").unwrap();
            fs::remove_file(root.join("empty")).unwrap();
        });
        sandbox.show("second", |root| {
            assert_eq!(
                fs::read_to_string(root.join("etc/name")).unwrap(),
                "changed"
            );
            assert!(!root.join("empty").exists());
        });
        sandbox.show("first", |root| {
            assert_eq!(fs::read_to_string(root.join("etc/name")).unwrap(), "varve");
            assert_eq!(fs::read(root.join("empty")).unwrap(), b"");
        });
    }
}

#[test]
fn a_step_that_does_nothing_gives_its_parents_tree() {
    for options in ways() {
        let Some(sandbox) = Sandbox::new(options) else {
            return;
        };
        let first = sandbox.step("", "first", |root| fs::write(root.join("a"), "a").unwrap());
        let second = sandbox.step("first", "second", |root| {
            fs::read(root.join("a")).unwrap();
        });
        assert_eq!(first, second, "{options:?}");
        let third = sandbox.step("second", "third", |root| {
            fs::write(root.join("b"), "b").unwrap()
        });
        assert_eq!(third.inodes, 3);
        let usage = sandbox.manager.usage("second").unwrap();
        assert_eq!((usage.bytes, usage.inodes), (0, 0));
    }
}

#[test]
fn a_view_refuses_writes() {
    for options in ways() {
        let Some(sandbox) = Sandbox::new(options) else {
            return;
        };
        sandbox.step("", "one", |root| fs::write(root.join("a"), "a").unwrap());
        for name in ["", "one"] {
            let mounts = sandbox.manager.view("view", name, Labels::new()).unwrap();
            let (guard, target) = sandbox.mount(&mounts);
            let error = fs::write(target.join("b"), "b").unwrap_err();
            assert_eq!(
                error.kind(),
                std::io::ErrorKind::ReadOnlyFilesystem,
                "{options:?}"
            );
            unmount(guard);
            sandbox.manager.remove("view").unwrap();
        }
    }
}

#[test]
fn the_root_directory_keeps_its_attributes() {
    for options in ways() {
        let Some(sandbox) = Sandbox::new(options) else {
            return;
        };
        sandbox.step("", "one", |root| {
            assert_eq!(
                fs::metadata(root).unwrap().mode() & 0o7777,
                0o755,
                "of a new root"
            );
            fs::write(root.join("a"), "a").unwrap();
            std::os::unix::fs::chown(root, Some(7), Some(8)).unwrap();
            rustix::fs::chmod(root, 0o1751.into()).unwrap();
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(root, "user.root", b"yes", flags).unwrap();
        });
        sandbox.step("one", "two", |root| fs::write(root.join("b"), "b").unwrap());
        sandbox.show("two", |root| {
            let found = fs::metadata(root).unwrap();
            assert_eq!(
                (found.mode() & 0o7777, found.uid(), found.gid()),
                (0o1751, 7, 8)
            );
            let xattrs = crate::capture::read_xattrs(root).unwrap();
            assert_eq!(
                xattrs,
                [(b"user.root".to_vec(), b"yes".to_vec())],
                "{options:?}"
            );
        });
    }
}

#[test]
fn an_active_snapshot_can_be_mounted_again_and_goes_on() {
    for options in ways() {
        let Some(sandbox) = Sandbox::new(options) else {
            return;
        };
        sandbox.step("", "one", |root| fs::write(root.join("a"), "a").unwrap());
        let key = sandbox.write("one", "two", |root| fs::write(root.join("b"), "b").unwrap());
        for name in ["c", "d"] {
            let mounts = sandbox.manager.mounts(&key).unwrap();
            let (guard, target) = sandbox.mount(&mounts);
            assert_eq!(fs::read(target.join("b")).unwrap(), b"b");
            fs::write(target.join(name), name).unwrap();
            unmount(guard);
        }
        sandbox.manager.commit("two", &key, Labels::new()).unwrap();
        assert_eq!(
            sandbox.manager.tree("two").unwrap().inodes,
            5,
            "{options:?}"
        );
    }
}

#[test]
fn a_long_chain_is_mounted_by_few_lower_directories() {
    for method in [Method::Kernel, Method::Directories] {
        let options = Options {
            stack_max: 4,
            ..stacking(method)
        };
        let Some(sandbox) = Sandbox::new(options) else {
            return;
        };
        sandbox.step("", "0", |root| fs::write(root.join("0"), "0").unwrap());
        for number in 1..20 {
            let parent = (number - 1).to_string();
            sandbox.step(&parent, &number.to_string(), |root| {
                fs::write(root.join(number.to_string()), number.to_string()).unwrap();
                if number % 3 == 0 {
                    fs::remove_file(root.join((number / 3).to_string())).unwrap();
                }
            });
            let key = format!("view-{number}");
            let mounts = sandbox
                .manager
                .view(&key, &number.to_string(), Labels::new())
                .unwrap();
            let lowers = mounts[0]
                .options
                .iter()
                .find_map(|o| o.strip_prefix("lowerdir="));
            let count = lowers
                .unwrap()
                .split("::")
                .next()
                .unwrap()
                .split(':')
                .count();
            assert!(count <= 4, "{count} lowers at step {number}");
        }
        sandbox.show("19", |root| {
            let mut names: Vec<u32> = fs::read_dir(root)
                .unwrap()
                .map(|entry| {
                    entry
                        .unwrap()
                        .file_name()
                        .into_string()
                        .unwrap()
                        .parse()
                        .unwrap()
                })
                .collect();
            names.sort_unstable();
            assert_eq!(names, [0, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
        });
    }
}

#[test]
fn equal_trees_are_committed_under_one_name() {
    let Some(sandbox) = Sandbox::new(stacking(Method::Kernel)) else {
        return;
    };
    let work = |root: &std::path::Path| {
        fs::write(root.join("a"), "a").unwrap();
        let time = rustix::fs::Timespec {
            tv_sec: 5,
            tv_nsec: 0,
        };
        for path in [root.join("a"), root.to_owned()] {
            let times = rustix::fs::Timestamps {
                last_access: time,
                last_modification: time,
            };
            rustix::fs::utimensat(rustix::fs::CWD, &path, &times, rustix::fs::AtFlags::empty())
                .unwrap();
        }
    };
    let mut names = Vec::new();
    for step in ["one", "two"] {
        let key = sandbox.write("", step, work);
        let (name, tree) = sandbox
            .manager
            .commit_as(&key, |tree| (tree.id.to_string(), store::Batch::new()))
            .unwrap();
        assert_eq!(sandbox.manager.tree(&name).unwrap(), tree);
        assert!(matches!(
            sandbox.manager.stat(&key),
            Err(Error::NotFound { .. })
        ));
        names.push(name);
    }
    assert_eq!(names[0], names[1]);
}

#[test]
fn a_snapshot_that_cannot_be_mounted_is_not_there() {
    let Some(sandbox) = Sandbox::new(stacking(Method::Kernel)) else {
        return;
    };
    sandbox.step("", "one", |root| fs::write(root.join("a"), "a").unwrap());
    let meta = sandbox.root().join("meta");
    fs::remove_dir_all(&meta).unwrap();
    fs::write(&meta, "in the way").unwrap();
    sandbox
        .manager
        .prepare("key", "one", Labels::new())
        .unwrap_err();
    assert!(matches!(
        sandbox.manager.stat("key"),
        Err(Error::NotFound { .. })
    ));
    let left = fs::read_dir(sandbox.root().join("snapshots"))
        .unwrap()
        .count();
    assert_eq!(left, 0);
}
