//! Damage to what the plugin keeps: found, told, taken out, and nothing else with it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use snapshotter::{Labels, Snapshots};
use support::forged_image::{TarEntry, tar_archive};
use support::leftovers::{eventually, unmount};
use support::varve_binary;
use support::workspace::{Outcome, run};

use super::plugin_contract::{Node, upper};

/// A directory has become a tree by then, on however busy a machine.
const INGESTED: Duration = Duration::from_secs(30);

fn fsck(node: &Node, options: &[&str]) -> Outcome {
    let mut command = Command::new(varve_binary());
    command.args(["fsck", "--root"]).arg(node.path("root"));
    run(command.args(options))
}

/// Object files of the store, sorted.
fn objects(node: &Node) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![node.path("root/objects")];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => waiting.push(entry.path()),
                false => found.push(entry.path()),
            }
        }
    }
    found.sort();
    found
}

/// Waits until all directories have become trees.
fn wait_for_trees(node: &Node) {
    let directories = node.path("root/containers");
    let is_done = || fs::read_dir(&directories).unwrap().count() == 0;
    assert!(eventually(INGESTED, is_done), "{directories:?}");
}

/// A committed snapshot with one file.
fn layer(node: &Node, name: &str, parent: &str, content: &str) {
    let remote = node.connect("varve");
    let mounts = remote.prepare("key", parent, Labels::new()).unwrap();
    fs::write(upper(&mounts).join(name), content).unwrap();
    remote.commit(name, "key", Labels::new()).unwrap();
}

/// Damages the object with the content `damaged`; its path.
fn damage(node: &Node) -> PathBuf {
    let is_damaged = |path: &PathBuf| fs::read(path).unwrap() == b"damaged";
    let damaged = objects(node).into_iter().find(is_damaged).unwrap();
    // Not through the other names of the file.
    fs::remove_file(&damaged).unwrap();
    fs::write(&damaged, "DAMAGED").unwrap();
    damaged
}

#[test]
fn a_damaged_object_takes_only_the_snapshots_that_rest_on_it() {
    let mut node = Node::start();
    layer(&node, "sound", "", "sound");
    layer(&node, "damaged", "", "damaged");
    layer(&node, "above", "damaged", "above");
    wait_for_trees(&node);
    node.daemon.terminate();
    damage(&node);
    fsck(&node, &[]).code(1);
    let repaired = fsck(&node, &["--repair"]).success();
    for name in ["varve:damaged", "varve:above"] {
        let told = format!("gave up snapshot {name}");
        assert!(repaired.stdout.contains(&told), "{repaired}");
    }
    node.daemon.restart();
    let remote = node.connect("varve");
    let left: Vec<String> = remote
        .list(&[])
        .unwrap()
        .into_iter()
        .map(|info| info.key)
        .collect();
    assert_eq!(left, ["sound"]);
    let mounts = remote.view("view", "sound", Labels::new()).unwrap();
    mount::isolate_thread().unwrap();
    let target = node.path("mnt");
    fs::create_dir(&target).unwrap();
    let shown = mount::apply(&mounts, &target).unwrap();
    assert_eq!(fs::read_to_string(target.join("sound")).unwrap(), "sound");
    unmount(shown);
    layer(&node, "damaged", "", "damaged");
    node.daemon.terminate();
    fsck(&node, &[]).succeeded();
}

#[test]
fn a_damaged_object_comes_back_from_another_copy_and_no_snapshot_is_given_up() {
    let mut node = Node::start();
    layer(&node, "damaged", "", "damaged");
    wait_for_trees(&node);
    node.daemon.terminate();
    let damaged = damage(&node);
    let copies = node.path("copies");
    fs::create_dir(&copies).unwrap();
    let entry = TarEntry::file("anywhere", b"damaged");
    fs::write(copies.join("layer.tar"), tar_archive(&[entry])).unwrap();
    let repaired = fsck(&node, &["--repair", "--source", copies.to_str().unwrap()]);
    let told = repaired.success().stdout;
    assert!(told.contains("brought back 1 files from "), "{told}");
    assert!(!told.contains("gave up"), "{told}");
    assert_eq!(fs::read(damaged).unwrap(), b"damaged");
    node.daemon.restart();
    let remote = node.connect("varve");
    assert_eq!(remote.list(&[]).unwrap().len(), 1);
}

#[test]
fn torn_images_and_databases_of_a_killed_daemon_are_made_again_or_refused_by_name() {
    let mut node = Node::start();
    layer(&node, "layer", "", "content");
    wait_for_trees(&node);
    let remote = node.connect("varve");
    remote.view("view", "layer", Labels::new()).unwrap();
    node.daemon.kill();
    let images = fs::read_dir(node.path("root/meta")).unwrap();
    let mut torn = 0;
    for image in images {
        fs::write(image.unwrap().path(), "torn").unwrap();
        torn += 1;
    }
    assert_eq!(torn, 1, "one image for one tree");
    node.daemon.restart();
    let remote = node.connect("varve");
    let mounts = remote.mounts("view").unwrap();
    mount::isolate_thread().unwrap();
    let target = node.path("mnt");
    fs::create_dir(&target).unwrap();
    let shown = mount::apply(&mounts, &target).unwrap();
    assert_eq!(fs::read_to_string(target.join("layer")).unwrap(), "content");
    unmount(shown);
    node.daemon.terminate();
    fs::write(node.path("root/db/CURRENT"), "MANIFEST-torn\n").unwrap();
    let mut command = Command::new(varve_binary());
    command.args(["daemon", "--root"]).arg(node.path("root"));
    command.arg("--snapshotter-address").arg(node.path("s2"));
    run(&mut command).refused_with(1, &["root/db"]);
}
