//! A full disk under the daemon: calls fail with the reason, nothing is half there, and with space
//! all is well again.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use mount::Mount;
use rustix::mount::MountFlags;
use snapshotter::{Error, Kind, Labels, Snapshots};
use support::leftovers::{eventually, unmount};
use support::remote_snapshots::RemoteSnapshots;
use support::small_disk::SmallDisk;
use support::varve_binary;
use support::workspace::run;

use super::callers::{BIG, Unpacking, remove_everything};
use super::{Node, labels, upper};

/// RocksDB looks every 5 seconds whether there is space again; it wants 16 MiB.
const AGAIN_LIMIT: Duration = Duration::from_secs(60);

/// A daemon with its root on a tmpfs with these options.
fn on_disk(options: &str) -> (Node, SmallDisk) {
    let mut disk = None;
    let node = Node::start_with_root("disk/root", &[], |directory| {
        disk = Some(SmallDisk::mount(&directory.join("disk"), options));
    });
    (node, disk.unwrap())
}

/// That the caller is told what is wrong, with a code that says so too.
#[track_caller]
fn is_told<T: std::fmt::Debug>(result: Result<T, Error>) {
    let text = result.unwrap_err().to_string();
    assert!(
        text.contains("ResourceExhausted") && text.contains("No space left on device"),
        "{text}"
    );
}

/// Mounts in a namespace that has what the daemon has mounted so far.
fn shows(node: &Node, mounts: &[Mount], name: &str, content: &[u8]) {
    let target = node.path("mnt");
    fs::create_dir_all(&target).unwrap();
    let see = || {
        mount::isolate_thread().unwrap();
        let shown = mount::apply(mounts, &target).unwrap();
        assert!(fs::read(target.join(name)).unwrap() == content, "{name}");
        unmount(shown);
    };
    thread::scope(|scope| scope.spawn(see).join()).unwrap();
}

/// Everything goes, then the daemon; what it leaves is sound.
fn end(mut node: Node, disk: SmallDisk) {
    remove_everything(&node, &node.connect("varve"));
    assert!(node.daemon.terminate().success(), "{}", node.daemon.log());
    let root = node.daemon.root();
    run(Command::new(varve_binary())
        .args(["fsck", "--root"])
        .arg(root))
    .succeeded();
    drop(disk);
}

fn keys(remote: &RemoteSnapshots) -> Vec<(String, Kind)> {
    let all = remote.list(&[]).unwrap().into_iter();
    all.map(|info| (info.key, info.kind)).collect()
}

#[test]
fn without_a_free_byte_calls_are_refused_and_with_space_all_goes_on() {
    let (node, disk) = on_disk("size=40m");
    let remote = node.connect("varve");
    let base = remote.prepare("base", "", Labels::new()).unwrap();
    fs::write(upper(&base).join("file"), "content").unwrap();
    remote.commit("layer", "base", Labels::new()).unwrap();
    let active = remote.prepare("active", "layer", Labels::new()).unwrap();
    fs::write(upper(&active).join("new"), "written").unwrap();
    let before = keys(&remote);
    let filler = disk.fill(0);
    // Longer than what is left of the log's last page.
    let long = labels(&[("l", &"v".repeat(4090))]);
    for _ in 0..3 {
        is_told(remote.prepare("new", "", long.clone()));
        is_told(remote.view("new", "", long.clone()));
        is_told(remote.commit("name", "active", long.clone()));
        assert_eq!(keys(&remote), before);
        assert_eq!(remote.mounts("active").unwrap(), active);
        shows(&node, &active, "new", b"written");
    }
    fs::remove_file(filler).unwrap();
    let mut last = None;
    let goes_on = eventually(AGAIN_LIMIT, || {
        let prepared = remote.prepare("new", "layer", Labels::new());
        let is_there = prepared.is_ok();
        last = Some(prepared);
        is_there
    });
    assert!(goes_on, "without a restart: {last:?}");
    remote.commit("name", "active", Labels::new()).unwrap();
    let view = remote.view("view", "name", Labels::new()).unwrap();
    shows(&node, &view, "new", b"written");
    shows(&node, &view, "file", b"content");
    for key in ["view", "new", "name"] {
        remote.remove(key).unwrap();
    }
    end(node, disk);
}

/// Makes files until there is no inode left.
fn take_inodes(directory: &Path) {
    fs::create_dir(directory).unwrap();
    let mut made = 0;
    while fs::write(directory.join(made.to_string()), "").is_ok() {
        made += 1;
    }
}

#[test]
fn without_a_free_inode_nothing_is_prepared_and_with_some_it_is_at_once() {
    let (node, disk) = on_disk("size=300m,nr_inodes=2000");
    let remote = node.connect("varve");
    remote.prepare("active", "", Labels::new()).unwrap();
    take_inodes(&disk.path().join("files"));
    for _ in 0..3 {
        is_told(remote.prepare("new", "", Labels::new()));
        is_told(remote.view("new", "", Labels::new()));
        assert_eq!(keys(&remote), [("active".to_owned(), Kind::Active)]);
    }
    fs::remove_dir_all(disk.path().join("files")).unwrap();
    remote.prepare("new", "", Labels::new()).unwrap();
    remote.commit("layer", "active", Labels::new()).unwrap();
    end(node, disk);
}

#[test]
fn a_layer_too_large_to_become_a_tree_stays_a_directory_until_there_is_space() {
    let (node, disk) = on_disk("size=300m");
    let remote = node.connect("varve");
    let content = vec![7; 32 << 20];
    let mounts = remote.prepare("key", "", Labels::new()).unwrap();
    fs::write(upper(&mounts).join("big"), &content).unwrap();
    let filler = disk.fill(8 << 20);
    remote.commit("layer", "key", Labels::new()).unwrap();
    let failed = || node.daemon.log().contains("stays a directory for now");
    assert!(eventually(AGAIN_LIMIT, failed), "{}", node.daemon.log());
    let view = remote.view("view", "layer", Labels::new()).unwrap();
    shows(&node, &view, "big", &content);
    remote.remove("view").unwrap();
    fs::remove_file(filler).unwrap();
    // The next commit is an occasion to try again.
    remote.prepare("other", "", Labels::new()).unwrap();
    remote.commit("second", "other", Labels::new()).unwrap();
    let directories = node.daemon.root().join("containers");
    let is_tree = || fs::read_dir(&directories).unwrap().count() == 0;
    assert!(eventually(AGAIN_LIMIT, is_tree), "{}", node.daemon.log());
    let view = remote.view("view", "layer", Labels::new()).unwrap();
    shows(&node, &view, "big", &content);
    remote.remove("view").unwrap();
    end(node, disk);
}

#[test]
fn an_apply_that_does_not_fit_leaves_the_snapshot_as_it_was() {
    let (node, disk) = on_disk("size=300m");
    let mut unpacking = Unpacking::of(node);
    let remote = unpacking.node.connect("varve");
    let mounts = remote.prepare("key", "", Labels::new()).unwrap();
    let filler = disk.fill(BIG as u64 / 2);
    is_told(unpacking.apply(&mounts));
    disk.remount(MountFlags::empty(), "size=400m");
    unpacking.is_as_before(&mounts);
    fs::remove_file(filler).unwrap();
    assert!(unpacking.node.daemon.terminate().success());
    drop(disk);
}
