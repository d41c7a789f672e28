//! kill -9 of the daemon at any moment: what was acknowledged is there with every byte, nothing is
//! half there, and what is mounted goes on.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use support::containerd::{Containerd, Version};
use support::remote_differ::{self, RemoteDiffer};
use support::remote_snapshots::RemoteSnapshots;
use support::varve_binary;

use super::plugin_contract::Node;
use model::{Files, Layer, Model, Random, Remote, tar_of};

mod failpoints;
mod model;

/// How often the daemon is killed.
const KILLS: u64 = 200;

/// Every so many kills everything is mounted and compared.
const COMPARED_EVERY: u64 = 25;

/// Longest time that a daemon lives.
const LIFE: Duration = Duration::from_millis(120);

/// Says the same on every machine; the moments never are.
const SEED: u64 = 0x5eed_0003;

/// Layers that are unpacked again and again.
const LAYERS: u8 = 4;

/// A daemon, and a containerd that has the layers.
struct Place {
    // Ends first: its state is in the directory of the node.
    containerd: Containerd,
    node: Node,
    layers: Vec<Layer>,
    target: PathBuf,
}

impl Place {
    fn new() -> Self {
        let node = Node::start();
        let containerd = Containerd::start(Version::Second, &node.path("containerd"), "");
        let layers = (0..LAYERS).map(|number| {
            // Each has a file of its own and one that all have; small ones and one that is hashed
            // while it is written.
            let own = vec![number; 300_000 + usize::from(number)];
            let files = Files::from([
                (format!("layer {number}"), own),
                ("file 1".to_owned(), vec![number; 1_000]),
                ("of all layers".to_owned(), vec![7; 50_000]),
            ]);
            let stored = remote_differ::Layer::ingest(&containerd, &tar_of(&files));
            Layer { stored, files }
        });
        let layers = layers.collect();
        let target = node.path("mnt");
        fs::create_dir(&target).unwrap();
        Place {
            containerd,
            node,
            layers,
            target,
        }
    }

    fn connect(&self) -> Remote<'_> {
        let namespace = self.containerd.namespace();
        Remote {
            snapshots: self.node.connect("varve"),
            differ: RemoteDiffer::connect(self.node.daemon.address(), namespace),
            layers: &self.layers,
        }
    }

    /// Ends the daemon and has its store checked.
    fn is_sound(&mut self) {
        let daemon = &mut self.node.daemon;
        assert!(daemon.terminate().success(), "{}", daemon.log());
        let mut fsck = std::process::Command::new(varve_binary());
        fsck.args(["fsck", "--root"]).arg(self.node.path("root"));
        let checked = support::workspace::run(&mut fsck).success();
        let said = format!("{}{}", checked.stdout, checked.stderr);
        assert!(!said.contains("DAMAGED"), "{checked}");
    }
}

#[test]
fn a_daemon_killed_200_times_loses_nothing_that_it_acknowledged() {
    let mut place = Place::new();
    let target = place.target.clone();
    let (mut model, mut random) = (Model::default(), Random(SEED));
    for kill in 1..=KILLS {
        let remote = place.connect();
        model.settle(&remote.snapshots, &target);
        if kill % COMPARED_EVERY == 0 {
            model.compare(&remote.snapshots, &target);
        }
        let life = LIFE.mul_f64(random.below(1000) as f64 / 1000.0);
        let pid = place.node.daemon.id();
        thread::scope(|scope| {
            scope.spawn(move || {
                thread::sleep(life);
                let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            });
            let born = Instant::now();
            while born.elapsed() < life * 20 {
                if let Err(error) = model.step(&remote, &mut random) {
                    assert!(RemoteSnapshots::is_lost(&error), "{error}");
                    break;
                }
            }
        });
        drop(remote);
        place.node.daemon.wait_end();
        place.node.daemon.restart();
    }
    let remote = place.connect();
    model.settle(&remote.snapshots, &target);
    model.compare(&remote.snapshots, &target);
    println!("{} snapshots outlived {KILLS} kills", model.len());
    drop(remote);
    place.is_sound();
}
