//! The snapshots service over its socket: the contract, and what only a service can break.

use std::fs;
use std::path::{Path, PathBuf};

use mount::Mount;
use snapshotter::{Error, Info, Kind, Labels, Snapshots, conformance};
use support::containerd::Containerd;
use support::daemon::{Addresses, Daemon};
use support::leftovers::unmount;
use support::remote_snapshots::RemoteSnapshots;
use support::varve_binary;
use tempfile::TempDir;

/// What happens in the background has happened by then.
pub(crate) const SOON: std::time::Duration = std::time::Duration::from_secs(30);

/// A daemon with a root directory of its own.
pub(crate) struct Node {
    pub(crate) daemon: Daemon,
    pub(crate) directory: TempDir,
}

impl Node {
    pub(crate) fn start() -> Self {
        Node::start_with(&[])
    }

    /// With further options of the daemon; `{}` in them is the node's directory.
    pub(crate) fn start_with(options: &[&str]) -> Self {
        Node::start_with_root("root", options, |_| {})
    }

    /// With another root below the node's directory, in which `prepare` has made what it needs.
    pub(crate) fn start_with_root(
        root: &str,
        options: &[&str],
        prepare: impl FnOnce(&Path),
    ) -> Self {
        support::privileged::assert_root();
        // Short, for the name of the socket; on a disk, for the overlays.
        let directory = tempfile::Builder::new()
            .prefix("varve-")
            .tempdir_in("/var/tmp")
            .unwrap();
        prepare(directory.path());
        let path = |name: &str| directory.path().join(name);
        let addresses = Addresses {
            root: path(root),
            snapshotter: path("s"),
            containerd: Containerd::address_in(&path("containerd")),
            log: path("log"),
        };
        let place = directory.path().to_str().unwrap();
        let options: Vec<_> = options.iter().map(|o| o.replace("{}", place)).collect();
        let options: Vec<_> = options.iter().map(String::as_str).collect();
        let daemon = Daemon::start_with(&varve_binary(), addresses, &options);
        Node { daemon, directory }
    }

    pub(crate) fn connect(&self, plugin: &str) -> RemoteSnapshots {
        RemoteSnapshots::connect(self.daemon.address(), plugin)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// Where what is written to a snapshot lies, as containerd's own differ finds it.
pub(crate) fn upper(mounts: &[Mount]) -> PathBuf {
    let [mount] = mounts else {
        panic!("one mount is expected: {mounts:?}")
    };
    let upper = |option: &String| option.strip_prefix("upperdir=").map(PathBuf::from);
    let upper = mount.options.iter().find_map(upper);
    upper.unwrap_or_else(|| mount.source.clone())
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(own).collect()
}

fn keys(found: &[Info]) -> Vec<&str> {
    found.iter().map(|info| info.key.as_str()).collect()
}

#[test]
fn the_service_keeps_the_contract() {
    let node = Node::start();
    let number = std::cell::Cell::new(0);
    conformance::check(&|check| {
        // A name of a plugin each: none sees what belongs to another.
        number.set(number.get() + 1);
        check(&node.connect(&format!("plugin-{}", number.get())));
    });
}

#[test]
fn filters_choose_what_is_listed() {
    let node = Node::start();
    let remote = node.connect("varve");
    remote.prepare("base", "", Labels::new()).unwrap();
    remote
        .commit("layer", "base", labels(&[("l", "1")]))
        .unwrap();
    remote
        .prepare("active", "layer", labels(&[("l", "2"), ("a.b/c", "2")]))
        .unwrap();
    remote.view("view", "layer", Labels::new()).unwrap();
    for (filters, expected) in [
        (vec![], vec!["active", "layer", "view"]),
        (vec!["kind==active"], vec!["active"]),
        (vec!["kind==committed", "name==view"], vec!["layer", "view"]),
        (vec!["parent==layer,kind!=view"], vec!["active"]),
        (vec!["labels.l"], vec!["active", "layer"]),
        (vec!["labels.\"a.b/c\"==2"], vec!["active"]),
        (vec!["name~=^l"], vec!["layer"]),
    ] {
        let found = remote.list(&filters).unwrap();
        assert_eq!(keys(&found), expected, "{filters:?}");
    }
    let refused = remote.list(&["kind=active"]).unwrap_err();
    assert!(
        matches!(refused, Error::InvalidArgument { .. }),
        "{refused}"
    );
}

#[test]
fn labels_are_updated_by_mask_and_nothing_else_is() {
    let node = Node::start();
    let remote = node.connect("varve");
    remote
        .prepare("key", "", labels(&[("a", "1"), ("b", "2")]))
        .unwrap();
    let before = remote.stat("key").unwrap();
    let with = |pairs: &[(&str, &str)]| Info {
        labels: labels(pairs),
        parent: "changed".into(),
        ..before.clone()
    };
    let one = remote.update(with(&[("a", "3")]), &["labels.a"]).unwrap();
    assert_eq!(one.labels, labels(&[("a", "3"), ("b", "2")]));
    assert!(one.updated > before.updated && one.created == before.created);
    let gone = remote.update(with(&[]), &["labels.a"]).unwrap();
    assert_eq!(gone.labels, labels(&[("b", "2")]));
    let all = remote.update(with(&[("c", "")]), &["labels"]).unwrap();
    assert_eq!(all.labels, Labels::new(), "an empty value deletes");
    let whole = remote.update(with(&[("d", "4")]), &[]).unwrap();
    assert_eq!((whole.parent.as_str(), whole.kind), ("", Kind::Active));
    assert_eq!(remote.stat("key").unwrap(), whole);
    for path in ["parent", "kind", "created_at", "name", "label.x"] {
        let refused = remote.update(with(&[]), &[path]).unwrap_err();
        assert!(
            matches!(refused, Error::InvalidArgument { .. }),
            "{path}: {refused}"
        );
    }
}

#[test]
fn a_snapshot_prepared_on_nothing_can_be_put_on_a_parent_when_it_is_committed() {
    let node = Node::start();
    let remote = node.connect("varve");
    let base = remote.prepare("one", "", Labels::new()).unwrap();
    fs::write(upper(&base).join("lower"), "lower").unwrap();
    remote.commit("layer 1", "one", Labels::new()).unwrap();
    let above = remote.prepare("two", "", Labels::new()).unwrap();
    fs::write(upper(&above).join("upper"), "upper").unwrap();
    let missing = remote.commit_on("layer 2", "two", "nowhere", Labels::new());
    assert!(
        matches!(missing, Err(Error::NotFound { .. })),
        "{missing:?}"
    );
    remote
        .commit_on("layer 2", "two", "layer 1", Labels::new())
        .unwrap();
    assert_eq!(remote.stat("layer 2").unwrap().parent, "layer 1");
    let view = remote.view("view", "layer 2", Labels::new()).unwrap();
    let target = node.path("mnt");
    fs::create_dir(&target).unwrap();
    mount::isolate_thread().unwrap();
    let shown = mount::apply(&view, &target).unwrap();
    assert_eq!(fs::read_to_string(target.join("lower")).unwrap(), "lower");
    assert_eq!(fs::read_to_string(target.join("upper")).unwrap(), "upper");
    assert!(
        fs::write(target.join("new"), "").is_err(),
        "a view refuses writes"
    );
    unmount(shown);
    remote.prepare("three", "layer 1", Labels::new()).unwrap();
    let second = remote.commit_on("layer 3", "three", "layer 2", Labels::new());
    assert!(
        matches!(second, Err(Error::InvalidArgument { .. })),
        "{second:?}"
    );
}

#[test]
fn a_second_daemon_on_the_socket_is_refused_and_the_first_goes_on() {
    let node = Node::start();
    let refused = support::workspace::run(
        std::process::Command::new(varve_binary())
            .args(["daemon", "--root"])
            .arg(node.path("other"))
            .arg("--snapshotter-address")
            .arg(node.daemon.address()),
    );
    refused.refused_with(1, &["is in use", "--snapshotter-address"]);
    node.connect("varve")
        .prepare("key", "", Labels::new())
        .unwrap();
}

#[test]
fn the_usage_of_a_large_directory_is_known_soon_and_without_waiting_for_it() {
    let node = Node::start();
    let remote = node.connect("varve");
    let directory = upper(&remote.prepare("key", "", Labels::new()).unwrap());
    for number in 0..3000 {
        fs::write(directory.join(format!("{number}")), "12345").unwrap();
    }
    let is_known = || {
        let usage = remote.usage("key").unwrap();
        (usage.bytes, usage.inodes) == (15_000, 3001)
    };
    assert!(support::leftovers::eventually(SOON, is_known));
    remote.commit("layer", "key", Labels::new()).unwrap();
    assert!(support::leftovers::eventually(SOON, || remote
        .usage("layer")
        .unwrap()
        .bytes
        == 15_000));
}

#[test]
fn a_root_that_can_hold_no_upper_directory_is_refused_with_what_to_do() {
    support::privileged::assert_root();
    mount::isolate_thread().unwrap();
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = |name: &str| directory.path().join(name);
    for name in ["lower", "upper", "work", "merged"] {
        fs::create_dir(path(name)).unwrap();
    }
    let overlay = mount::OverlayOptions {
        lowers: vec![mount::Lower::Directory(path("lower"))],
        upper: Some((path("upper"), path("work"))),
        ..mount::OverlayOptions::default()
    };
    let merged = mount::mount_overlay(&overlay, &path("merged")).unwrap();
    let refused = support::workspace::run(
        std::process::Command::new(varve_binary())
            .args(["daemon", "--root"])
            .arg(path("merged/root"))
            .arg("--snapshotter-address")
            .arg(path("s")),
    );
    refused.refused_with(1, &["cannot be mounted from", "choose a --root on ext4"]);
    unmount(merged);
}

#[test]
fn other_commands_do_not_wait_for_a_daemon_but_say_who_has_the_root() {
    let node = Node::start();
    for command in [
        &["images"][..],
        &["prune"],
        &["daemon", "--snapshotter-address", "/var/tmp/no"],
    ] {
        let refused = support::workspace::run(
            std::process::Command::new(varve_binary())
                .args(command)
                .arg("--root")
                .arg(node.path("root")),
        );
        let pid = format!("pid {}", node.daemon.id());
        refused.refused_with(1, &["belongs to the varve daemon", &pid, "--root"]);
    }
}

#[test]
fn mounts_stay_the_same_when_what_they_rest_on_becomes_a_tree() {
    let node = Node::start();
    let remote = node.connect("varve");
    let mounts = remote.prepare("key", "", Labels::new()).unwrap();
    fs::write(upper(&mounts).join("file"), "content").unwrap();
    remote.commit("layer", "key", Labels::new()).unwrap();
    let early = remote.view("early", "layer", Labels::new()).unwrap();
    let directories = node.path("root/containers");
    let has_tree = || {
        let mounts = remote.view("late", "layer", Labels::new()).unwrap();
        remote.remove("late").unwrap();
        mounts[0].options.iter().any(|option| option.contains("::"))
    };
    assert!(support::leftovers::eventually(SOON, has_tree));
    assert_eq!(remote.mounts("early").unwrap(), early);
    remote.clean_up().unwrap();
    let target = node.path("mnt");
    fs::create_dir(&target).unwrap();
    mount::isolate_thread().unwrap();
    let shown = mount::apply(&early, &target).unwrap();
    assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "content");
    unmount(shown);
    remote.remove("early").unwrap();
    let is_empty = || fs::read_dir(&directories).unwrap().count() == 0;
    assert!(
        support::leftovers::eventually(SOON, is_empty),
        "the directory goes then"
    );
}

#[test]
fn mounts_fit_into_a_page_however_many_layers_there_are() {
    let node = Node::start();
    let remote = node.connect("varve");
    let mut parent = String::new();
    for number in 0..130 {
        let key = format!("extract-{number}");
        let mounts = remote.prepare(&key, &parent, Labels::new()).unwrap();
        assert!(options_length(&mounts) < 4096, "layer {number}: {mounts:?}");
        fs::write(upper(&mounts).join(format!("{number}")), "x").unwrap();
        let name = format!("sha256:{number:064}");
        remote.commit(&name, &key, Labels::new()).unwrap();
        parent = name;
    }
    let view = remote.view("view", &parent, Labels::new()).unwrap();
    assert!(options_length(&view) < 4096, "{view:?}");
    let target = node.path("mnt");
    fs::create_dir(&target).unwrap();
    mount::isolate_thread().unwrap();
    let shown = mount::apply(&view, &target).unwrap();
    assert_eq!(fs::read_dir(&target).unwrap().count(), 130);
    unmount(shown);
}

fn options_length(mounts: &[Mount]) -> usize {
    let length = |mount: &Mount| mount.options.iter().map(|option| option.len() + 1).sum();
    mounts.iter().map(length).max().unwrap_or(0)
}
