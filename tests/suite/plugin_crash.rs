//! kill -9 of the daemon at any moment: what was acknowledged is there with every byte, nothing is
//! half there, and what is mounted goes on.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use snapshotter::{Kind, Labels, Result, Snapshots};
use support::leftovers::unmount;
use support::remote_snapshots::RemoteSnapshots;
use support::varve_binary;

use super::plugin_contract::{Node, upper};

/// How often the daemon is killed.
const KILLS: u64 = 200;

/// Every so many kills everything is mounted and compared.
const COMPARED_EVERY: u64 = 25;

/// Longest time that a daemon lives.
const LIFE: Duration = Duration::from_millis(120);

/// Says the same on every machine; the moments never are.
const SEED: u64 = 0x5eed_0003;

/// Marsaglia's xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    fn pick<'a>(&mut self, names: &[&'a String]) -> Option<&'a String> {
        let place = self.below(names.len().max(1) as u64);
        names.get(place as usize).copied()
    }
}

/// What a snapshot holds: file names and contents, those of its parents included.
type Files = BTreeMap<String, Vec<u8>>;

#[derive(Clone, Debug, PartialEq)]
struct Known {
    kind: Kind,
    parent: String,
    files: Files,
}

/// What was acknowledged, and the one call of which nobody knows whether it was carried out.
#[derive(Default)]
struct Model {
    known: BTreeMap<String, Known>,
    /// What the lost call would have made of the model.
    perhaps: Option<BTreeMap<String, Known>>,
    next: u64,
}

impl Model {
    fn of_kind(&self, kind: Kind) -> Vec<&String> {
        let of_kind = |(_, known): &(&String, &Known)| known.kind == kind;
        self.known
            .iter()
            .filter(of_kind)
            .map(|(key, _)| key)
            .collect()
    }

    fn has_children(&self, key: &str) -> bool {
        self.known.values().any(|known| known.parent == key)
    }

    /// Notes the outcome of a call that turns the model into `after`.
    fn outcome<T>(&mut self, done: Result<T>, after: BTreeMap<String, Known>) -> Result<T> {
        match &done {
            Ok(_) => self.known = after,
            Err(error) if RemoteSnapshots::is_lost(error) => self.perhaps = Some(after),
            Err(error) => panic!("refused: {error}"),
        }
        done
    }

    /// One call, whichever fits.
    fn step(&mut self, remote: &RemoteSnapshots, random: &mut Random) -> Result<()> {
        match random.below(10) {
            0..=3 => self.prepare(remote, random),
            4..=6 => self.commit(remote, random),
            7 => self.view(remote, random),
            8 => self.remove(remote, random),
            _ => remote.clean_up(),
        }
    }

    fn open(
        &mut self,
        random: &mut Random,
        kind: Kind,
    ) -> (String, String, BTreeMap<String, Known>) {
        self.next += 1;
        let key = format!("key {}", self.next);
        let committed = self.of_kind(Kind::Committed);
        let parent = random.pick(&committed).filter(|_| !committed.is_empty());
        let parent = parent.cloned().unwrap_or_default();
        let files = self.known.get(&parent).map(|known| known.files.clone());
        let mut after = self.known.clone();
        let known = Known {
            kind,
            parent: parent.clone(),
            files: files.unwrap_or_default(),
        };
        after.insert(key.clone(), known);
        (key, parent, after)
    }

    /// Prepares a snapshot and writes to it, as an unpacker does.
    fn prepare(&mut self, remote: &RemoteSnapshots, random: &mut Random) -> Result<()> {
        let (key, parent, after) = self.open(random, Kind::Active);
        let done = remote.prepare(&key, &parent, Labels::new());
        let mounts = self.outcome(done, after)?;
        let upper = upper(&mounts);
        for _ in 0..random.below(4) {
            let name = format!("file {}", random.below(12));
            let content = vec![random.below(256) as u8; random.below(40_000) as usize];
            fs::write(upper.join(&name), &content).unwrap();
            let known = self.known.get_mut(&key).unwrap();
            known.files.insert(name, content);
        }
        Ok(())
    }

    fn view(&mut self, remote: &RemoteSnapshots, random: &mut Random) -> Result<()> {
        let (key, parent, after) = self.open(random, Kind::View);
        let done = remote.view(&key, &parent, Labels::new());
        self.outcome(done, after).map(drop)
    }

    fn commit(&mut self, remote: &RemoteSnapshots, random: &mut Random) -> Result<()> {
        let Some(key) = random.pick(&self.of_kind(Kind::Active)).cloned() else {
            return Ok(());
        };
        self.next += 1;
        let name = format!("name {}", self.next);
        let mut after = self.known.clone();
        let known = after.remove(&key).unwrap();
        let kind = Kind::Committed;
        after.insert(name.clone(), Known { kind, ..known });
        let done = remote.commit(&name, &key, Labels::new());
        self.outcome(done, after)
    }

    fn remove(&mut self, remote: &RemoteSnapshots, random: &mut Random) -> Result<()> {
        let leaves = self.known.keys().filter(|key| !self.has_children(key));
        let leaves: Vec<&String> = leaves.collect();
        let Some(key) = random.pick(&leaves).cloned() else {
            return Ok(());
        };
        let mut after = self.known.clone();
        after.remove(&key);
        let done = remote.remove(&key);
        self.outcome(done, after)
    }

    /// What the daemon says it has must be what it acknowledged, with or without the lost call.
    fn settle(&mut self, remote: &RemoteSnapshots) {
        let found = remote.list(&[]).unwrap().into_iter();
        let found: BTreeMap<String, (Kind, String)> = found
            .map(|info| (info.key, (info.kind, info.parent)))
            .collect();
        let shape = |known: &BTreeMap<String, Known>| -> BTreeMap<String, (Kind, String)> {
            let shape =
                |(key, known): (&String, &Known)| (key.clone(), (known.kind, known.parent.clone()));
            known.iter().map(shape).collect()
        };
        let perhaps = self.perhaps.take();
        if found == shape(&self.known) {
            return;
        }
        let perhaps = perhaps.unwrap_or_else(|| self.known.clone());
        assert_eq!(
            found,
            shape(&perhaps),
            "acknowledged: {:?}",
            shape(&self.known)
        );
        self.known = perhaps;
    }

    /// Every file of every snapshot.
    fn compare(&self, remote: &RemoteSnapshots, target: &Path) {
        for (key, known) in &self.known {
            let mounts = match known.kind {
                Kind::Committed => remote.view("compared", key, Labels::new()).unwrap(),
                Kind::Active | Kind::View => remote.mounts(key).unwrap(),
            };
            let shown = mount::apply(&mounts, target).unwrap();
            let mut found = Files::new();
            for entry in fs::read_dir(target).unwrap() {
                let entry = entry.unwrap();
                let name = entry.file_name().into_string().unwrap();
                found.insert(name, fs::read(entry.path()).unwrap());
            }
            unmount(shown);
            assert!(
                found == known.files,
                "{key} has other files than were written"
            );
            if known.kind == Kind::Committed {
                remote.remove("compared").unwrap();
            }
        }
    }
}

#[test]
fn a_daemon_killed_200_times_loses_nothing_that_it_acknowledged() {
    let mut node = Node::start();
    let target = node.path("mnt");
    fs::create_dir(&target).unwrap();
    let (mut model, mut random) = (Model::default(), Random(SEED));
    for kill in 1..=KILLS {
        let remote = node.connect("varve");
        model.settle(&remote);
        if kill % COMPARED_EVERY == 0 {
            model.compare(&remote, &target);
        }
        let life = LIFE.mul_f64(random.below(1000) as f64 / 1000.0);
        let killed = thread::scope(|scope| {
            let daemon = &mut node.daemon;
            let killer = scope.spawn(move || {
                thread::sleep(life);
                daemon.kill();
            });
            let born = Instant::now();
            while born.elapsed() < life * 20 {
                if let Err(error) = model.step(&remote, &mut random) {
                    assert!(RemoteSnapshots::is_lost(&error), "{error}");
                    break;
                }
            }
            killer.join()
        });
        killed.unwrap();
        node.daemon.restart();
    }
    let remote = node.connect("varve");
    model.settle(&remote);
    model.compare(&remote, &target);
    println!("{} snapshots outlived {KILLS} kills", model.known.len());
    drop(remote);
    assert!(node.daemon.terminate().success(), "{}", node.daemon.log());
    let checked = support::workspace::run(
        std::process::Command::new(varve_binary())
            .args(["fsck", "--root"])
            .arg(node.path("root")),
    );
    let checked = checked.success();
    let said = format!("{}{}", checked.stdout, checked.stderr);
    assert!(!said.contains("DAMAGED"), "{checked}");
}
