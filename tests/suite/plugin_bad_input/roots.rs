//! Root directories on which nothing can be mounted, or which are none.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::mount::MountFlags;
use snapshotter::{Labels, Snapshots};
use support::leftovers::{eventually, unmount};
use support::small_disk::SmallDisk;
use support::tree;

use super::{Node, daemon, upper};
use crate::privileged::plugin_contract::SOON;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn refused(root: &Path, socket: &Path, words: &[&str]) {
    let options = ["--root", text(root), "--snapshotter-address", text(socket)];
    daemon(options).refused_with(1, words);
    // It was bound before the root was looked at; the next daemon would take its place.
    fs::remove_file(socket).ok();
}

fn directory() -> tempfile::TempDir {
    support::privileged::assert_root();
    tempfile::tempdir_in("/var/tmp").unwrap()
}

/// An overlay can be mounted from there, but removing a directory in it is an input/output error.
#[test]
fn a_root_without_extended_attributes_is_refused_with_what_to_do() {
    let directory = directory();
    let disk = SmallDisk::mount_kind("ramfs", &directory.path().join("disk"), "");
    let words = [
        "disk/root",
        "trusted.* attributes",
        "choose a --root on ext4",
    ];
    refused(
        &disk.path().join("root"),
        &directory.path().join("socket"),
        &words,
    );
}

#[test]
fn a_root_on_a_read_only_file_system_is_refused_by_its_path() {
    let directory = directory();
    let disk = SmallDisk::mount(&directory.path().join("disk"), "size=64m");
    let made = disk.path().join("made");
    fs::create_dir(&made).unwrap();
    disk.remount(MountFlags::RDONLY, "size=64m");
    let socket = directory.path().join("socket");
    for root in [made, disk.path().join("new")] {
        refused(&root, &socket, &[text(&root), "Read-only file system"]);
    }
}

#[test]
fn a_root_that_is_no_directory_is_refused_by_its_path_and_not_touched() {
    let directory = directory();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("file"), "mine").unwrap();
    symlink("file", path("link")).unwrap();
    symlink("nowhere", path("dangling")).unwrap();
    let before = tree::list(directory.path());
    for root in ["file", "link", "dangling"] {
        refused(&path(root), &path("socket"), &[text(&path(root))]);
    }
    refused(
        &path("file/root"),
        &path("socket"),
        &["file/root", "--root"],
    );
    tree::assert_same(&before, &tree::list(directory.path()));
}

#[test]
fn a_root_behind_a_symbolic_link_is_as_good_as_any() {
    let mut node = Node::start_with_root("link/root", &[], |directory| {
        fs::create_dir(directory.join("real")).unwrap();
        symlink("real", directory.join("link")).unwrap();
    });
    let remote = node.connect("varve");
    let mounts = remote.prepare("key", "", Labels::new()).unwrap();
    fs::write(upper(&mounts).join("file"), "content").unwrap();
    remote.commit("layer", "key", Labels::new()).unwrap();
    let directories = node.path("real/root/containers");
    let is_tree = || fs::read_dir(&directories).unwrap().count() == 0;
    assert!(eventually(SOON, is_tree));
    node.daemon.restart();
    let remote = node.connect("varve");
    let view = remote.view("view", "layer", Labels::new()).unwrap();
    mount::isolate_thread().unwrap();
    let target = node.path("mnt");
    fs::create_dir(&target).unwrap();
    let shown = mount::apply(&view, &target).unwrap();
    assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "content");
    unmount(shown);
}
