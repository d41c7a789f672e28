//! Somebody has put symbolic links where the root's directories were: whatever is called then,
//! nothing outside of the root changes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use snapshotter::{Labels, Snapshots};
use support::leftovers::eventually;
use support::remote_snapshots::RemoteSnapshots;
use support::tree;

use super::{Node, upper};
use crate::privileged::plugin_contract::SOON;

/// Somebody else's directory: what varve might take for its own is there.
fn outside(node: &Node) -> PathBuf {
    let outside = node.path("outside");
    for name in ["upper/directory", "work/work", "empty"] {
        fs::create_dir_all(outside.join(name)).unwrap();
    }
    for name in [
        "file",
        "upper/file",
        "upper/directory/file",
        "work/work/file",
    ] {
        fs::write(outside.join(name), "mine").unwrap();
    }
    outside
}

/// Puts a link to `target` in the place of `path`.
fn replace(path: &Path, target: &Path) {
    let away = path.with_extension("away");
    fs::rename(path, away).unwrap();
    symlink(target, path).unwrap();
}

/// A committed snapshot that stays a directory: a file in it has no body.
fn directory_layer(remote: &RemoteSnapshots) -> PathBuf {
    remote.prepare("bottom", "", Labels::new()).unwrap();
    remote.commit("lowest", "bottom", Labels::new()).unwrap();
    let mounts = remote.prepare("base", "lowest", Labels::new()).unwrap();
    let directory = upper(&mounts);
    let file = directory.join("odd");
    fs::write(&file, "").unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&file, "trusted.overlay.metacopy", b"", flags).unwrap();
    remote.commit("layer", "base", Labels::new()).unwrap();
    directory
}

/// Calls whatever looks at a snapshot; every answer will do.
fn call_everything(remote: &RemoteSnapshots) {
    for key in ["key", "view", "layer"] {
        remote.mounts(key).ok();
        remote.usage(key).ok();
        remote.stat(key).unwrap();
    }
    remote.prepare("new", "layer", Labels::new()).ok();
    remote.view("look", "layer", Labels::new()).ok();
    remote.mounts("new").ok();
    remote.commit("committed", "key", Labels::new()).ok();
    remote.clean_up().ok();
    remote.mounts("key").ok();
    for key in ["new", "look", "view", "key", "committed", "layer"] {
        remote.remove(key).ok();
    }
    remote.clean_up().ok();
}

/// Replaces what `victim` chooses of the directories of the active snapshot and of the layer below.
fn nothing_outside_changes(name: &str, victim: impl Fn(&Path, &Path) -> PathBuf, target: &str) {
    let mut node = Node::start();
    let outside = outside(&node);
    let remote = node.connect("varve");
    let layer = directory_layer(&remote);
    let active = remote.prepare("key", "layer", Labels::new()).unwrap();
    remote.view("view", "layer", Labels::new()).unwrap();
    let active = upper(&active);
    fs::write(active.join("file"), "ours").unwrap();
    let before = tree::list(&outside);
    let victim = victim(&active, &layer);
    replace(&victim, &outside.join(target));
    if victim.starts_with(of(&active)) {
        let refused = remote.mounts("key").unwrap_err().to_string();
        assert!(refused.contains("not a directory"), "{name}: {refused}");
    }
    call_everything(&remote);
    tree::assert_same(&before, &tree::list(&outside));
    assert!(node.daemon.runs(), "{name}: {}", node.daemon.log());
    // And what is done at a start, and in the background after it.
    node.daemon.restart();
    let remote = node.connect("varve");
    for info in remote.list(&[]).unwrap() {
        remote.mounts(&info.key).ok();
        remote.remove(&info.key).ok();
    }
    remote.clean_up().unwrap();
    let trash = node.path("root/trash");
    let is_empty = || fs::read_dir(&trash).unwrap().count() == 0;
    assert!(eventually(SOON, is_empty), "{name}: the trash is emptied");
    tree::assert_same(&before, &tree::list(&outside));
}

fn of(directory: &Path) -> PathBuf {
    directory.parent().unwrap().to_owned()
}

#[test]
fn a_link_in_the_place_of_an_upper_changes_nothing_outside() {
    nothing_outside_changes("upper", |active, _| active.to_owned(), "upper");
    nothing_outside_changes("to nothing", |active, _| active.to_owned(), "nowhere");
}

#[test]
fn a_link_in_the_place_of_a_work_directory_changes_nothing_outside() {
    nothing_outside_changes("work", |active, _| of(active).join("work"), "work");
    nothing_outside_changes("to nothing", |active, _| of(active).join("work"), "nowhere");
}

#[test]
fn a_link_in_the_place_of_a_snapshots_directory_changes_nothing_outside() {
    nothing_outside_changes("all of it", |active, _| of(active), ".");
    nothing_outside_changes("to an empty one", |active, _| of(active), "empty");
    nothing_outside_changes("to a file", |active, _| of(active), "file");
}

#[test]
fn a_link_in_the_place_of_a_lower_changes_nothing_outside() {
    nothing_outside_changes("lower", |_, layer| layer.to_owned(), "upper");
    nothing_outside_changes("all of it", |_, layer| of(layer), ".");
}

#[test]
fn a_link_in_the_place_of_a_metadata_image_changes_nothing_outside() {
    let mut node = Node::start();
    let outside = outside(&node);
    let remote = node.connect("varve");
    let mounts = remote.prepare("key", "", Labels::new()).unwrap();
    fs::write(upper(&mounts).join("file"), "content").unwrap();
    remote.commit("layer", "key", Labels::new()).unwrap();
    let images = node.path("root/meta");
    let count = || fs::read_dir(&images).unwrap().count();
    let has_image = || {
        remote.view("view", "layer", Labels::new()).unwrap();
        remote.remove("view").unwrap();
        count() > 0
    };
    assert!(eventually(SOON, has_image));
    remote.view("view", "layer", Labels::new()).unwrap();
    node.daemon.terminate();
    let before = tree::list(&outside);
    for image in fs::read_dir(&images).unwrap() {
        let image = image.unwrap().path();
        fs::remove_file(&image).unwrap();
        symlink(outside.join("file"), &image).unwrap();
    }
    node.daemon.restart();
    let remote = node.connect("varve");
    remote.mounts("view").ok();
    remote.prepare("new", "layer", Labels::new()).ok();
    tree::assert_same(&before, &tree::list(&outside));
    for key in ["new", "view", "layer"] {
        remote.remove(key).ok();
    }
    remote.clean_up().unwrap();
    tree::assert_same(&before, &tree::list(&outside));
}
