//! What a daemon has acknowledged, and calls that fit it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use mount::Mount;
use snapshotter::{Kind, Labels, Result, Snapshots};
use support::forged_image::{TarEntry, tar_archive};
use support::leftovers::unmount;
use support::remote_differ::{self, RemoteDiffer};
use support::remote_snapshots::RemoteSnapshots;

use super::super::plugin_contract::upper;

/// Marsaglia's xorshift.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, limit: u64) -> u64 {
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
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// A layer in the content store, and the files in it.
pub(super) struct Layer {
    pub(super) stored: remote_differ::Layer,
    pub(super) files: Files,
}

/// The tar of a layer of these files.
pub(super) fn tar_of(files: &Files) -> Vec<u8> {
    let entry = |(name, content): (&'_ String, &'_ Vec<u8>)| (name.clone(), content.clone());
    let entries: Vec<_> = files.iter().map(entry).collect();
    let entries: Vec<_> = entries
        .iter()
        .map(|(name, content)| TarEntry::file(name, content))
        .collect();
    tar_archive(&entries)
}

/// The services of a daemon, and what can be unpacked.
pub(super) struct Remote<'l> {
    pub(super) snapshots: RemoteSnapshots,
    pub(super) differ: RemoteDiffer,
    pub(super) layers: &'l [Layer],
}

#[derive(Clone, Debug, PartialEq)]
struct Known {
    kind: Kind,
    parent: String,
    files: Files,
}

/// What was acknowledged, and the one call of which nobody knows whether it was carried out.
#[derive(Default)]
pub(super) struct Model {
    known: BTreeMap<String, Known>,
    /// What the lost call would have made of the model.
    perhaps: Option<BTreeMap<String, Known>>,
    /// The key of a snapshot into which a layer was unpacked by a lost call, and what it holds if
    /// that was done.
    unpacked_perhaps: Option<(String, Files)>,
    next: u64,
}

impl Model {
    /// How many snapshots there are.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

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
    pub(super) fn step(&mut self, remote: &Remote<'_>, random: &mut Random) -> Result<()> {
        let snapshots = &remote.snapshots;
        match random.below(12) {
            0..=3 => self.prepare(snapshots, random).map(drop),
            4..=5 => self.import(remote, random),
            6..=8 => self.commit(snapshots, random),
            9 => self.view(snapshots, random),
            10 => self.remove(snapshots, random),
            _ => snapshots.clean_up(),
        }
    }

    /// Removes everything, and has the space given back.
    pub(super) fn remove_all(
        &mut self,
        remote: &RemoteSnapshots,
        random: &mut Random,
    ) -> Result<()> {
        while !self.known.is_empty() {
            self.remove(remote, random)?;
        }
        remote.clean_up()
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
        let count = random.below(4);
        self.write(&key, &mounts, random, count);
        Ok(())
    }

    /// Prepares a snapshot and has a layer unpacked into it; sometimes something is written too.
    fn import(&mut self, remote: &Remote<'_>, random: &mut Random) -> Result<()> {
        let (key, parent, after) = self.open(random, Kind::Active);
        let done = remote.snapshots.prepare(&key, &parent, Labels::new());
        let mounts = self.outcome(done, after)?;
        let layer = &remote.layers[random.below(remote.layers.len() as u64) as usize];
        let mut files = self.known[&key].files.clone();
        files.extend(layer.files.clone());
        match remote.differ.apply(&layer.stored, &mounts) {
            Ok(()) => {}
            Err(error) if RemoteSnapshots::is_lost(&error) => {
                self.unpacked_perhaps = Some((key, files));
                return Err(error);
            }
            Err(error) => panic!("refused: {error}"),
        }
        self.known.get_mut(&key).unwrap().files = files;
        let mounts = remote.snapshots.mounts(&key)?;
        let count = random.below(3).saturating_sub(1);
        self.write(&key, &mounts, random, count);
        Ok(())
    }

    /// Writes so many files.
    fn write(&mut self, key: &str, mounts: &[Mount], random: &mut Random, count: u64) {
        let upper = upper(mounts);
        for _ in 0..count {
            let name = format!("file {}", random.below(12));
            // Some are more than the store writes at once.
            let length_max = [40_000, 400_000][usize::from(random.below(8) == 0)];
            let content = vec![random.below(256) as u8; random.below(length_max) as usize];
            fs::write(upper.join(&name), &content).unwrap();
            let known = self.known.get_mut(key).unwrap();
            known.files.insert(name, content);
        }
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
    pub(super) fn settle(&mut self, remote: &RemoteSnapshots, target: &Path) {
        let found = remote.list(&[]).unwrap().into_iter();
        let found: BTreeMap<String, (Kind, String)> = found
            .map(|info| (info.key, (info.kind, info.parent)))
            .collect();
        let shape = |known: &BTreeMap<String, Known>| -> BTreeMap<String, (Kind, String)> {
            let shape =
                |(key, known): (&String, &Known)| (key.clone(), (known.kind, known.parent.clone()));
            known.iter().map(shape).collect()
        };
        if let Some((key, with)) = self.unpacked_perhaps.take() {
            let shown = shown(&remote.mounts(&key).unwrap(), target);
            let known = self.known.get_mut(&key).unwrap();
            assert!(
                shown == known.files || shown == with,
                "{key}: a layer is there by half"
            );
            known.files = shown;
        }
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
    pub(super) fn compare(&self, remote: &RemoteSnapshots, target: &Path) {
        for (key, known) in &self.known {
            let mounts = match known.kind {
                Kind::Committed => remote.view("compared", key, Labels::new()).unwrap(),
                Kind::Active | Kind::View => remote.mounts(key).unwrap(),
            };
            let found = shown(&mounts, target);
            let sizes = |files: &Files| -> Vec<_> {
                let size = |(name, content): (&String, &Vec<u8>)| {
                    format!("{name}: {} x {:?}", content.len(), content.first())
                };
                files.iter().map(size).collect()
            };
            assert!(
                found == known.files,
                "{key} on {:?} has other files than were written: {:#?} and not {:#?} in {mounts:#?}",
                known.parent,
                sizes(&found),
                sizes(&known.files)
            );
            if known.kind == Kind::Committed {
                remote.remove("compared").unwrap();
            }
        }
    }
}

/// The files that mounts show.
fn shown(mounts: &[Mount], target: &Path) -> Files {
    let shown = mount::apply(mounts, target).unwrap();
    let mut found = Files::new();
    for entry in fs::read_dir(target).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        found.insert(name, fs::read(entry.path()).unwrap());
    }
    unmount(shown);
    found
}
