//! Callers that vanish in the middle of a call: the daemon goes on, and a snapshot is there wholly
//! or not at all.

use std::fs;
use std::path::Path;
use std::thread;

use mount::Mount;
use snapshotter::{Error, Kind, Labels, Snapshots};
use support::containerd::{Containerd, Version};
use support::forged_image::{TarEntry, tar_archive};
use support::leftovers::{eventually, unmount};
use support::remote_differ::{Layer, RemoteDiffer};
use support::remote_snapshots::RemoteSnapshots;
use support::valve::{Valve, Way};

use super::{Node, upper};
use crate::privileged::plugin_contract::SOON;

/// At so many places a call is cut off.
const CUTS: u64 = 24;

/// Bytes of the file of the layer that is unpacked: more than what is buffered on the way.
pub(super) const BIG: usize = 16 << 20;

/// Makes a call through the valve that breaks after `further` bytes of it.
fn cut_off(valve: &Valve, further: u64, call: impl FnOnce(&RemoteSnapshots) + Send) {
    let remote = RemoteSnapshots::connect(valve.path(), "varve");
    // The connection is made, and nothing is on its way.
    remote.stat("nothing").unwrap_err();
    valve.limit(Way::There, Some(further));
    thread::scope(|scope| {
        let call = scope.spawn(|| call(&remote));
        let is_time = || valve.is_full(Way::There) || call.is_finished();
        assert!(eventually(SOON, is_time));
        valve.cut();
    });
}

/// Bytes that a call has, when it gets through.
fn length(valve: &Valve, call: impl FnOnce(&RemoteSnapshots)) -> u64 {
    let remote = RemoteSnapshots::connect(valve.path(), "varve");
    remote.stat("nothing").unwrap_err();
    let before = valve.gone(Way::There);
    call(&remote);
    valve.gone(Way::There) - before
}

/// Places at which a call of so many bytes is cut: spread over it, and after its end.
fn places(length: u64) -> impl Iterator<Item = u64> {
    (0..CUTS).map(move |number| 1 + (length - 1) * number / (CUTS - 1))
}

pub(super) fn remove_everything(node: &Node, remote: &RemoteSnapshots) {
    let all = remote.list(&[]).unwrap();
    for info in all.iter().filter(|info| info.parent == "layer") {
        remote.remove(&info.key).unwrap();
    }
    for info in remote.list(&[]).unwrap() {
        remote.remove(&info.key).unwrap();
    }
    remote.clean_up().unwrap();
    for name in ["containers", "trash"] {
        let directory = node.daemon.root().join(name);
        let is_empty = || fs::read_dir(&directory).unwrap().count() == 0;
        assert!(eventually(SOON, is_empty), "{name} has something left");
    }
}

fn layer(remote: &RemoteSnapshots) {
    let mounts = remote.prepare("base", "", Labels::new()).unwrap();
    fs::write(upper(&mounts).join("file"), "content").unwrap();
    remote.commit("layer", "base", Labels::new()).unwrap();
}

#[test]
fn a_prepare_whose_caller_vanishes_is_done_or_was_never_asked_for() {
    let node = Node::start();
    let valve = Valve::open(&node.path("valve"), node.daemon.address());
    let remote = node.connect("varve");
    layer(&remote);
    let whole = length(&valve, |remote| {
        remote.prepare("key 0000", "layer", Labels::new()).unwrap();
    });
    for further in places(whole) {
        let key = format!("key {further:04}");
        cut_off(&valve, further, |remote| {
            remote.prepare(&key, "layer", Labels::new()).ok();
        });
        // What was cut off may still be under way.
        let mounts = match remote.prepare(&key, "layer", Labels::new()) {
            Err(Error::AlreadyExists { .. }) => remote.mounts(&key).unwrap(),
            prepared => prepared.unwrap(),
        };
        fs::write(upper(&mounts).join("new"), "new").unwrap();
        remote
            .commit(&format!("name {further:04}"), &key, Labels::new())
            .unwrap();
    }
    remove_everything(&node, &remote);
}

#[test]
fn a_commit_whose_caller_vanishes_is_done_or_was_never_asked_for() {
    let node = Node::start();
    let valve = Valve::open(&node.path("valve"), node.daemon.address());
    let remote = node.connect("varve");
    layer(&remote);
    let prepare = |key: &str| {
        let mounts = remote.prepare(key, "layer", Labels::new()).unwrap();
        fs::write(upper(&mounts).join("new"), "new").unwrap();
    };
    prepare("key 0000");
    let whole = length(&valve, |remote| {
        remote
            .commit("name 0000", "key 0000", Labels::new())
            .unwrap();
    });
    for further in places(whole) {
        let (key, name) = (format!("key {further:04}"), format!("name {further:04}"));
        prepare(&key);
        cut_off(&valve, further, |remote| {
            remote.commit(&name, &key, Labels::new()).ok();
        });
        match remote.commit(&name, &key, Labels::new()) {
            Err(Error::NotFound { .. } | Error::AlreadyExists { .. }) => {}
            committed => committed.unwrap(),
        }
        assert_eq!(remote.stat(&name).unwrap().kind, Kind::Committed);
        remote.stat(&key).unwrap_err();
    }
    remove_everything(&node, &remote);
}

/// Content of a layer's file: nothing that compresses, and more than buffers hold.
fn big() -> Vec<u8> {
    let next = |seed: &u64| Some(seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    let words = std::iter::successors(Some(7_u64), next);
    words.take(BIG / 8).flat_map(u64::to_le_bytes).collect()
}

/// A daemon, and a containerd with a layer that it reaches through a valve.
pub(super) struct Unpacking {
    // Ends first: its state is in the directory of the node.
    containerd: Containerd,
    pub(super) node: Node,
    content: Valve,
    layer: Layer,
}

impl Unpacking {
    pub(super) fn of(node: Node) -> Self {
        let containerd = Containerd::start(Version::Second, &node.path("behind"), "");
        // Where the daemon looks for a containerd.
        let place = node.path("containerd");
        fs::create_dir(&place).unwrap();
        let content = Valve::open(&Containerd::address_in(&place), &containerd.address());
        let layer = Layer::ingest(&containerd, &tar_archive(&[TarEntry::file("big", &big())]));
        Unpacking {
            containerd,
            node,
            content,
            layer,
        }
    }

    /// Begins to unpack through `valve`, and goes on when half of the layer has come.
    fn half_unpacked(&self, mounts: &[Mount], socket: &Path, then: impl FnOnce()) -> Error {
        self.content.limit(Way::Back, Some(BIG as u64 / 2));
        let differ = RemoteDiffer::connect(socket, self.containerd.namespace());
        thread::scope(|scope| {
            let applied = scope.spawn(|| differ.apply(&self.layer, mounts));
            self.content.wait_until_full(Way::Back);
            let direct = self.differ();
            let is_applying = |what: &String| what.starts_with("Apply ");
            assert!(direct.under_way().iter().any(is_applying));
            then();
            let is_over = || !direct.under_way().iter().any(is_applying);
            assert!(eventually(SOON, is_over), "{:?}", direct.under_way());
            applied.join().unwrap().unwrap_err()
        })
    }

    fn differ(&self) -> RemoteDiffer {
        RemoteDiffer::connect(self.node.daemon.address(), self.containerd.namespace())
    }

    /// Unpacks without any trouble from here.
    pub(super) fn apply(&self, mounts: &[Mount]) -> Result<(), Error> {
        self.content.limit(Way::Back, None);
        self.differ().apply(&self.layer, mounts)
    }

    /// Nothing of the layer is in the snapshot `key`, and it can be unpacked into.
    pub(super) fn is_as_before(&self, mounts: &[Mount]) {
        let remote = self.node.connect("varve");
        assert_eq!(remote.mounts("key").unwrap(), mounts);
        assert_eq!(remote.usage("key").unwrap().inodes, 1);
        assert_eq!(fs::read_dir(upper(mounts)).unwrap().count(), 0);
        self.apply(mounts).unwrap();
        remote.commit("layer", "key", Labels::new()).unwrap();
        let view = remote.view("view", "layer", Labels::new()).unwrap();
        mount::isolate_thread().unwrap();
        let target = self.node.path("mnt");
        fs::create_dir(&target).unwrap();
        let shown = mount::apply(&view, &target).unwrap();
        assert!(fs::read(target.join("big")).unwrap() == big());
        unmount(shown);
        remote.remove("view").unwrap();
        remove_everything(&self.node, &remote);
    }
}

#[test]
fn an_apply_whose_caller_vanishes_ends_and_leaves_the_snapshot_as_it_was() {
    let unpacking = Unpacking::of(Node::start());
    let remote = unpacking.node.connect("varve");
    let caller = Valve::open(
        &unpacking.node.path("valve"),
        unpacking.node.daemon.address(),
    );
    let mounts = remote.prepare("key", "", Labels::new()).unwrap();
    unpacking.half_unpacked(&mounts, caller.path(), || caller.cut());
    unpacking.is_as_before(&mounts);
}

#[test]
fn an_apply_whose_content_breaks_off_fails_and_leaves_the_snapshot_as_it_was() {
    let unpacking = Unpacking::of(Node::start());
    let remote = unpacking.node.connect("varve");
    let mounts = remote.prepare("key", "", Labels::new()).unwrap();
    let socket = unpacking.node.daemon.address();
    unpacking.half_unpacked(&mounts, socket, || unpacking.content.cut());
    unpacking.is_as_before(&mounts);
}
