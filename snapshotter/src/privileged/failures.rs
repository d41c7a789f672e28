//! Full disks, failing databases, and processes that die.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use store::fsck;
use store::key_value::faulty::Rates;

use super::listing::{assert_same, list};
use super::sandbox::{Sandbox, stacking, unmount};
use crate::gc;
use crate::manager::Options;
use crate::snapshots::{Kind, Labels, Snapshots};
use crate::{Error, Method};

/// Size of a small disk; the store leaves 8 MiB of it free.
const DISK_BYTES: u64 = 32 << 20;

fn file(root: &Path, name: &str) {
    fs::write(root.join(name), name).unwrap();
}

/// Fills the file system of `directory` to the last byte.
fn fill(directory: &Path) -> PathBuf {
    let path = directory.join("filler");
    let mut filler = fs::File::create(&path).unwrap();
    for size in [1 << 20, 4096, 1] {
        while std::io::Write::write_all(&mut filler, &vec![1; size]).is_ok() {}
    }
    path
}

fn assert_disk_full(error: &Error) {
    let text = error.to_string();
    assert!(text.contains("No space left on device"), "{text}");
}

#[test]
fn a_full_disk_stops_a_commit_and_leaves_the_snapshot_as_it_was() {
    let sandbox = Sandbox::sized(stacking(Method::Kernel), Some(DISK_BYTES));
    let Some(sandbox) = sandbox else { return };
    sandbox.step("", "base", |root| file(root, "a"));
    let key = sandbox.write("base", "next", |root| {
        for number in 0..200 {
            file(root, &number.to_string());
        }
        fs::create_dir(root.join("dir")).unwrap();
        file(&root.join("dir"), "deeper");
        rustix::fs::chmod(root.join("7"), 0o4711.into()).unwrap();
        fs::hard_link(root.join("8"), root.join("9 too")).unwrap();
        fs::remove_file(root.join("a")).unwrap();
    });
    let upper = sandbox.root().join("snapshots/2/upper");
    let before = list(&upper);
    for _ in 0..2 {
        let filler = fill(sandbox.root());
        let commit = || sandbox.manager.commit("next", &key, Labels::new());
        assert_disk_full(&commit().unwrap_err());
        let name = |_: &store::TreeRef| ("next".to_owned(), store::Batch::new());
        assert_disk_full(&sandbox.manager.commit_as(&key, name).unwrap_err());
        fs::remove_file(filler).unwrap();
        assert_eq!(sandbox.manager.stat(&key).unwrap().kind, Kind::Active);
        assert!(matches!(
            sandbox.manager.stat("next"),
            Err(Error::NotFound { .. })
        ));
        let mut after = list(&upper);
        // The object files that were made of them are still there, as names without rows.
        for (name, listed) in &mut after {
            listed.links = before[name].links;
        }
        assert_same("after a failed commit", &after, &before);
    }
    // It can be mounted, written to, and committed.
    let (guard, target) = sandbox.mount(&sandbox.manager.mounts(&key).unwrap());
    file(&target, "b");
    unmount(guard);
    sandbox.manager.commit("next", &key, Labels::new()).unwrap();
    sandbox.show("next", |root| {
        assert_eq!(fs::read_dir(root).unwrap().count(), 203);
        assert_eq!(fs::read(root.join("7")).unwrap(), b"7");
        assert_eq!(fs::read(root.join("b")).unwrap(), b"b");
    });
    let options = fsck::Options {
        quick: false,
        progress: &|_| {},
    };
    let report = fsck::check(sandbox.store(), &options).unwrap();
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn a_full_disk_stops_a_prepare_and_nothing_of_it_is_left() {
    for method in [Method::Kernel, Method::Directories] {
        let Some(sandbox) = Sandbox::sized(stacking(method), Some(DISK_BYTES)) else {
            return;
        };
        sandbox.step("", "base", |root| {
            fs::write(root.join("a"), vec![7; 100_000]).unwrap()
        });
        let filler = fill(sandbox.root());
        for _ in 0..2 {
            let error = sandbox
                .manager
                .prepare("key", "base", Labels::new())
                .unwrap_err();
            assert_disk_full(&error);
            assert!(matches!(
                sandbox.manager.stat("key"),
                Err(Error::NotFound { .. })
            ));
        }
        let left = ["snapshots", "meta", "checkouts"]
            .map(|name| fs::read_dir(sandbox.root().join(name)).unwrap().count());
        assert_eq!(left, [0, 0, 0], "{method:?}");
        fs::remove_file(filler).unwrap();
        sandbox.step("base", "next", |root| file(root, "b"));
        sandbox.show("next", |root| {
            assert_eq!(fs::read(root.join("a")).unwrap(), vec![7; 100_000]);
        });
    }
}

#[test]
fn a_step_that_filled_the_disk_can_be_removed() {
    let sandbox = Sandbox::sized(stacking(Method::Kernel), Some(DISK_BYTES));
    let Some(sandbox) = sandbox else { return };
    sandbox.step("", "base", |root| file(root, "a"));
    let key = sandbox.write("base", "full", |root| drop(fill(root)));
    let error = sandbox
        .manager
        .commit("full", &key, Labels::new())
        .unwrap_err();
    assert_disk_full(&error);
    sandbox.manager.remove(&key).unwrap();
    while sandbox.store().trash().reap(100).unwrap().more {}
    // What the commit had already made of the files.
    gc::collect(&sandbox.manager, false).unwrap();
    while sandbox.store().trash().reap(100).unwrap().more {}
    sandbox.step("", "again", |root| {
        fs::write(root.join("a"), vec![7; 4 << 20]).unwrap()
    });
}

#[test]
fn reads_that_fail_now_and_then_stop_calls_and_break_nothing() {
    let rates = Rates {
        get: 20,
        scan: 20,
        ..Rates::default()
    };
    for seed in 0..6 {
        let faulty = Sandbox::faulty(stacking(Method::Kernel), seed, rates);
        let Some((sandbox, rows)) = faulty else {
            return;
        };
        let mut random = StdRng::seed_from_u64(seed);
        let (mut parent, mut expected) = (String::new(), BTreeMap::new());
        for step in 0..25 {
            let (name, key) = (format!("step {step}"), format!("key {step}"));
            rows.arm();
            let Ok(mounts) = sandbox.manager.prepare(&key, &parent, Labels::new()) else {
                rows.disarm();
                // It is there only if taking it back failed too.
                sandbox.manager.remove(&key).ok();
                continue;
            };
            let (guard, target) = sandbox.mount(&mounts);
            let written = random.random_range(0..5).to_string();
            fs::write(target.join(&written), &name).unwrap();
            unmount(guard);
            for attempt in 1.. {
                let commit = sandbox.manager.commit(&name, &key, Labels::new());
                let Err(error) = commit else { break };
                assert!(attempt < 100, "seed {seed}: {name}: {error}");
            }
            rows.disarm();
            expected.insert(written, name.clone());
            sandbox.show(&name, |root| assert_shows(root, &expected, seed));
            parent = name;
        }
        assert!(expected.len() > 2, "seed {seed}: most succeeds");
    }
}

#[test]
fn a_write_that_fails_loses_no_step_once_the_store_is_opened_again() {
    let rates = Rates {
        write_lost: 100,
        ..Rates::default()
    };
    // Not volatile: the upper is to outlive the manager.
    let options = Options {
        volatile: false,
        ..stacking(Method::Kernel)
    };
    for seed in 0..6 {
        let Some((sandbox, rows)) = Sandbox::faulty(options, seed, rates) else {
            return;
        };
        let (mut parent, mut expected) = (String::new(), BTreeMap::new());
        rows.arm();
        let failed = loop {
            let step = expected.len();
            let (name, key) = (format!("step {step}"), format!("key {step}"));
            let Ok(mounts) = sandbox.manager.prepare(&key, &parent, Labels::new()) else {
                break None;
            };
            let (guard, target) = sandbox.mount(&mounts);
            fs::write(target.join(step.to_string()), &name).unwrap();
            unmount(guard);
            expected.insert(step.to_string(), name.clone());
            if sandbox.manager.commit(&name, &key, Labels::new()).is_err() {
                break Some((name, key));
            }
            parent = name;
        };
        drop(rows);
        let sandbox = sandbox.reopen(|_, _| {});
        if let Some((name, key)) = failed {
            assert!(sandbox.manager.stat(&name).is_err(), "seed {seed}");
            sandbox.manager.commit(&name, &key, Labels::new()).unwrap();
            parent = name;
        }
        if !parent.is_empty() {
            sandbox.show(&parent, |root| assert_shows(root, &expected, seed));
        }
    }
}

fn assert_shows(root: &Path, expected: &BTreeMap<String, String>, seed: u64) {
    for (file, content) in expected {
        let found = fs::read_to_string(root.join(file)).unwrap();
        assert_eq!(found, *content, "seed {seed}: {file}");
    }
}

#[test]
fn a_dead_process_leaves_nothing_but_what_was_committed() {
    let options = stacking(Method::Kernel);
    let Some(sandbox) = Sandbox::new(options) else {
        return;
    };
    sandbox.step("", "base", |root| file(root, "a"));
    sandbox.step("base", "next", |root| file(root, "b"));
    sandbox.write("next", "lost", |root| file(root, "c"));
    sandbox.manager.view("view", "next", Labels::new()).unwrap();
    sandbox
        .manager
        .prepare("never mounted", "next", Labels::new())
        .unwrap();
    let sandbox = sandbox.reopen(|root, _| {
        fs::create_dir_all(root.join("snapshots/99/upper")).unwrap();
        fs::create_dir_all(root.join("snapshots/stray")).unwrap();
        fs::write(root.join("meta/0123.tmp-1"), "half").unwrap();
        fs::create_dir_all(root.join("checkouts/0123.tmp-1/dir")).unwrap();
    });
    let kinds = ["base", "next", "view", "never mounted"]
        .map(|key| sandbox.manager.stat(key).unwrap().kind);
    assert_eq!(
        kinds,
        [Kind::Committed, Kind::Committed, Kind::View, Kind::Active]
    );
    // It was mounted volatile: nobody knows what of it is there.
    assert!(matches!(
        sandbox.manager.stat("lost-active"),
        Err(Error::NotFound { .. })
    ));
    let count = |name: &str| fs::read_dir(sandbox.root().join(name)).unwrap().count();
    assert_eq!(count("snapshots"), 2);
    assert_eq!(count("checkouts"), 0);
    sandbox.step("next", "lost", |root| file(root, "c"));
    sandbox.show("lost", |root| {
        assert_eq!(fs::read_dir(root).unwrap().count(), 3)
    });
}

#[test]
fn an_upper_that_is_not_volatile_survives_its_process() {
    let Some(sandbox) = Sandbox::new(Options::new(Method::Kernel)) else {
        return;
    };
    sandbox.step("", "base", |root| file(root, "a"));
    let key = sandbox.write("base", "next", |root| file(root, "b"));
    let sandbox = sandbox.reopen(|_, _| {});
    let (guard, target) = sandbox.mount(&sandbox.manager.mounts(&key).unwrap());
    file(&target, "c");
    unmount(guard);
    sandbox.manager.commit("next", &key, Labels::new()).unwrap();
    sandbox.show("next", |root| {
        assert_eq!(fs::read_dir(root).unwrap().count(), 3)
    });
}

#[test]
fn a_loss_of_power_loses_no_committed_snapshot() {
    let Some(sandbox) = Sandbox::new(stacking(Method::Kernel)) else {
        return;
    };
    sandbox.step("", "base", |root| file(root, "a"));
    sandbox.step("base", "next", |root| file(root, "b"));
    sandbox
        .manager
        .prepare("open", "next", Labels::new())
        .unwrap();
    let sandbox = sandbox.reopen(|root, medium| {
        medium.lose_power();
        fs::remove_dir_all(root.join("meta")).unwrap();
    });
    // Its row was not worth a flush.
    assert!(matches!(
        sandbox.manager.stat("open"),
        Err(Error::NotFound { .. })
    ));
    assert_eq!(
        fs::read_dir(sandbox.root().join("snapshots"))
            .unwrap()
            .count(),
        0
    );
    sandbox.show("next", |root| {
        assert_eq!(fs::read_dir(root).unwrap().count(), 2)
    });
}

#[test]
fn an_open_snapshot_whose_directory_is_gone_is_gone() {
    let Some(sandbox) = Sandbox::new(Options::new(Method::Kernel)) else {
        return;
    };
    sandbox.manager.prepare("one", "", Labels::new()).unwrap();
    sandbox.manager.prepare("two", "", Labels::new()).unwrap();
    let sandbox = sandbox.reopen(|root, _| fs::remove_dir_all(root.join("snapshots/1")).unwrap());
    assert!(matches!(
        sandbox.manager.stat("one"),
        Err(Error::NotFound { .. })
    ));
    sandbox
        .manager
        .commit("layer", "two", Labels::new())
        .unwrap();
}

#[test]
fn a_torn_image_file_is_made_again() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 4] = [
        ("truncated", |path| {
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_len(fs::metadata(path).unwrap().len() / 2).unwrap();
        }),
        ("emptied", |path| fs::write(path, "").unwrap()),
        ("flipped", |path| {
            let mut bytes = fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).unwrap();
        }),
        ("zeroed", |path| {
            let length = fs::metadata(path).unwrap().len() as usize;
            fs::write(path, vec![0; length]).unwrap();
        }),
    ];
    for (what, damage) in damages {
        let Some(sandbox) = Sandbox::new(stacking(Method::Kernel)) else {
            return;
        };
        sandbox.step("", "base", |root| file(root, "a"));
        sandbox.step("base", "next", |root| file(root, "b"));
        sandbox.show("next", |_| ());
        let sandbox = sandbox.reopen(|root, _| {
            let images: Vec<_> = fs::read_dir(root.join("meta")).unwrap().collect();
            assert_eq!(images.len(), 2);
            images
                .into_iter()
                .for_each(|image| damage(&image.unwrap().path()));
        });
        sandbox.show("next", |root| {
            assert_eq!(fs::read(root.join("a")).unwrap(), b"a", "{what}");
            assert_eq!(fs::read(root.join("b")).unwrap(), b"b", "{what}");
        });
    }
}

#[test]
fn a_row_that_cannot_be_read_keeps_nobody_from_opening_the_store() {
    let Some(sandbox) = Sandbox::new(Options::new(Method::Kernel)) else {
        return;
    };
    sandbox.manager.prepare("one", "", Labels::new()).unwrap();
    let mut batch = store::Batch::new();
    batch.put(store::Table::Snapshot, b"torn", b"\xff");
    sandbox
        .store()
        .write(batch, store::Durability::Process)
        .unwrap();
    let sandbox = sandbox.reopen(|root, _| {
        fs::create_dir_all(root.join("snapshots/7/upper")).unwrap();
    });
    sandbox.manager.stat("one").unwrap();
    // It may be the torn row's.
    assert!(sandbox.root().join("snapshots/7").exists());
    sandbox.manager.prepare("two", "", Labels::new()).unwrap();
    assert!(sandbox.root().join("snapshots/8").exists());
}
