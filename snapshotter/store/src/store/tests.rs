//! Tests of opening, locking, poisoning and crashing.

use std::io::Write;

use super::*;
use crate::fixtures::{Found, read_model};
use crate::fixtures::{
    MemoryTrees, file, memory_store, memory_store_on, model, one_of_everything, scratch,
    store_model,
};
use crate::key_value::faulty::{Cause, Faulty, Rates};
use crate::key_value::memory::{Medium, Memory};
use crate::key_value::rocks::Rocks;
use crate::root_lock::ROOT_MODE;

fn rocks_store(root: &Path) -> Result<Store> {
    let lock = RootLock::acquire(root)?;
    let rows = Rocks::open(&root.join(layout::DATABASE))?;
    Store::open(lock, Box::new(rows))
}

/// A store over a faulty database that works so far.
fn faulty_store(root: &Path, rates: Rates, cause: Cause) -> (Arc<Faulty<Memory>>, Store) {
    let rows = Arc::new(Faulty::new(Memory::new(), 1, rates).with_cause(cause));
    rows.disarm();
    let store = Store::open(RootLock::acquire(root).unwrap(), Box::new(rows.clone())).unwrap();
    (rows, store)
}

fn one_row() -> Batch {
    let mut batch = Batch::new();
    batch.put(Table::Image, b"image", b"row");
    batch
}

#[test]
fn whoever_waited_for_the_lock_finds_the_database_closed() {
    let root = tempfile::tempdir().unwrap();
    let store = rocks_store(root.path()).unwrap();
    // More log than closing leaves to the next open, so that it takes its time.
    for number in 0..3_000_u32 {
        let mut batch = Batch::new();
        batch.put(Table::Image, number.to_be_bytes(), [7; 1_000]);
        store.write(batch, Durability::Process).unwrap();
    }
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            loop {
                match rocks_store(root.path()) {
                    Err(Error::Locked { path, .. }) if path == root.path() => {}
                    opened => return opened.map(drop),
                }
            }
        });
        std::thread::sleep(std::time::Duration::from_millis(20));
        drop(store);
        waiting.join().unwrap().unwrap();
    });
}

#[test]
fn a_store_is_the_same_after_it_was_closed() {
    let root = tempfile::tempdir().unwrap();
    let store = rocks_store(root.path()).unwrap();
    let nonce = store.objects().nonce().to_owned();
    let ingest = store.begin();
    let blob = ingest.put_blob(b"body").unwrap();
    let tree = store_model(&one_of_everything(), &ingest).unwrap();
    ingest.commit(one_row()).unwrap();
    drop(store);
    let store = rocks_store(root.path()).unwrap();
    assert_eq!(store.objects().nonce(), nonce);
    assert_eq!(store.objects().read_all(blob).unwrap(), b"body");
    let expected = {
        let trees = MemoryTrees::new();
        read_model(store_model(&one_of_everything(), &trees).unwrap(), &trees).unwrap()
    };
    assert_eq!(read_model(tree, &store).unwrap(), expected);
    assert!(store.rows().get(Table::Image, b"image").unwrap().is_some());
}

#[test]
fn the_directory_of_a_new_store_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let parent = scratch();
    let store = memory_store(&parent.path().join("deep/root"));
    let mode = fs::metadata(store.root()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, ROOT_MODE);
}

#[test]
fn a_root_that_is_in_use_is_refused_with_the_holder() {
    let root = scratch();
    let first = RootLock::acquire(root.path()).unwrap();
    let error = RootLock::acquire(root.path()).unwrap_err();
    assert!(matches!(error, Error::Locked { holder: Some(pid), .. } if pid == std::process::id()));
    assert!(
        error
            .to_string()
            .contains(&format!("pid {}", std::process::id())),
        "{error}"
    );
    drop(first);
    assert!(
        RootLock::acquire(root.path()).is_ok(),
        "the lock goes with its holder"
    );
}

#[test]
fn files_that_the_owner_renames_do_not_confuse_whoever_waits() {
    let root = tempfile::tempdir().unwrap();
    let _owner = RootLock::acquire(root.path()).unwrap();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (new, old) = ("host.json.new", "host.json");
            let (new, old) = (root.path().join(new), root.path().join(old));
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                std::fs::write(&new, "").unwrap();
                std::fs::rename(&new, &old).unwrap();
            }
        });
        let tries = (0..2_000).map(|_| RootLock::acquire(root.path()).unwrap_err());
        let other = tries
            .into_iter()
            .find(|error| !matches!(error, Error::Locked { .. }));
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(other.is_none(), "{other:?}");
    });
}

#[test]
fn a_lock_file_of_a_killed_process_does_not_matter() {
    let root = scratch();
    fs::write(root.path().join(layout::LOCK), "4194303").unwrap();
    let lock = RootLock::acquire(root.path()).unwrap();
    let text = fs::read_to_string(root.path().join(layout::LOCK)).unwrap();
    assert_eq!(text, std::process::id().to_string());
    drop(lock);
}

/// Opens a store whose meta table has been given a value.
fn opened_with_meta(key: &[u8], value: &[u8]) -> Error {
    let (root, medium) = (scratch(), Medium::new());
    let store = memory_store_on(root.path(), &medium);
    let mut batch = Batch::new();
    batch.put(Table::Meta, key, value);
    store.write(batch, Durability::Disk).unwrap();
    drop(store);
    let lock = RootLock::acquire(root.path()).unwrap();
    Store::open(lock, Box::new(medium.open().unwrap())).unwrap_err()
}

#[test]
fn a_newer_format_is_refused_with_both_versions_and_a_way_out() {
    let newer = layout::FORMAT_VERSION + 41;
    let error = opened_with_meta(layout::META_FORMAT, &newer.to_le_bytes());
    assert!(matches!(error, Error::FormatTooNew { found, .. } if found == newer));
    let text = error.to_string();
    for words in ["store format 42", "reads up to 1", "another --root"] {
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn an_unknown_feature_is_refused_by_name() {
    let text = opened_with_meta(layout::META_FEATURES, b"packed-objects").to_string();
    assert!(
        text.contains("\"packed-objects\"") && text.contains("newer varve"),
        "{text}"
    );
}

#[test]
fn a_damaged_head_of_the_store_is_refused() {
    for (key, value, expected) in [
        (layout::META_FORMAT, &b"1"[..], "not 4 bytes"),
        (layout::META_FORMAT, &[0; 4], "not a varve store"),
        (
            layout::META_NONCE,
            b"../../../etc",
            "not 32 hexadecimal digits",
        ),
        (layout::META_NONCE, b"", "not 32 hexadecimal digits"),
    ] {
        let text = opened_with_meta(key, value).to_string();
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn objects_without_a_database_are_not_taken_over() {
    let root = scratch();
    drop(memory_store(root.path()));
    let lock = RootLock::acquire(root.path()).unwrap();
    let error = Store::open(lock, Box::new(Memory::new())).unwrap_err();
    assert!(matches!(error, Error::NotAStore { .. }), "{error}");
}

#[test]
fn leftovers_of_a_killed_process_are_thrown_away() {
    let (root, medium) = (scratch(), Medium::new());
    drop(memory_store_on(root.path(), &medium));
    let ingest = root.path().join(layout::INGEST);
    fs::write(ingest.join("1-1"), "half a bo").unwrap();
    fs::create_dir(ingest.join("directory")).unwrap();
    let store = memory_store_on(root.path(), &medium);
    assert_eq!(read_directory(&ingest).unwrap(), Vec::<PathBuf>::new());
    assert_eq!(store.trash().reap(10).unwrap().entries, 2);
}

#[test]
fn after_a_failed_durable_write_nothing_is_acknowledged() {
    for rates in [
        Rates {
            write_lost: 1_000,
            ..Rates::default()
        },
        Rates {
            write_applied: 1_000,
            ..Rates::default()
        },
    ] {
        let root = scratch();
        let (rows, store) = faulty_store(root.path(), rates, Cause::Device);
        rows.arm();
        let ingest = store.begin();
        ingest.put_blob(b"body").unwrap();
        assert!(matches!(
            ingest.commit(one_row()),
            Err(Error::Database { .. })
        ));
        rows.disarm();
        let error = store.write(one_row(), Durability::Process).unwrap_err();
        assert!(matches!(error, Error::Poisoned { .. }), "{error}");
        assert!(error.to_string().contains("injected fault"), "{error}");
        let ingest = store.begin();
        ingest.put_blob(b"other").unwrap();
        assert!(matches!(
            ingest.commit(Batch::new()),
            Err(Error::Poisoned { .. })
        ));
    }
}

#[test]
fn a_failed_fast_write_does_not_poison() {
    let root = scratch();
    let rates = Rates {
        write_lost: 1_000,
        ..Rates::default()
    };
    let (rows, store) = faulty_store(root.path(), rates, Cause::Device);
    rows.arm();
    assert!(store.write(one_row(), Durability::Process).is_err());
    rows.disarm();
    store.write(one_row(), Durability::Disk).unwrap();
}

#[test]
fn a_database_on_a_full_disk_poisons_and_says_why() {
    let root = scratch();
    let rates = Rates {
        write_lost: 1_000,
        ..Rates::default()
    };
    let (rows, store) = faulty_store(root.path(), rates, Cause::NoSpace);
    rows.arm();
    assert!(
        store
            .write(one_row(), Durability::Disk)
            .unwrap_err()
            .is_no_space()
    );
    rows.disarm();
    let text = store
        .write(one_row(), Durability::Disk)
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("No space left") && text.contains("start varve again"),
        "{text}"
    );
}

#[test]
fn a_store_whose_making_was_cut_off_is_made_again() {
    let root = scratch();
    let rates = Rates {
        write_lost: 1_000,
        ..Rates::default()
    };
    let rows = Faulty::new(Memory::new(), 1, rates);
    let lock = RootLock::acquire(root.path()).unwrap();
    assert!(Store::open(lock, Box::new(rows)).is_err());
    let store = memory_store(root.path());
    assert_eq!(store.objects().nonce().len(), 32);
}

/// Loses the power after each number of database writes of a little history and looks at what is
/// left: each committed unit wholly or not at all, and all of what was acknowledged.
#[test]
fn a_loss_of_power_between_bodies_and_rows_leaves_only_orphans() {
    for commits in 0..3u8 {
        let (root, medium) = (scratch(), Medium::new());
        let store = memory_store_on(root.path(), &medium);
        let body = |n: u8| vec![n; 100];
        let mut ids = Vec::new();
        for n in 0..3 {
            let ingest = store.begin();
            let blob = ingest.put_blob(&body(n)).unwrap();
            let leaf = Found::Leaf(file(&body(n)));
            let tree = store_model(&model([("d/f", leaf)]), &ingest).unwrap();
            ids.push((blob, tree));
            if n >= commits {
                // The process ends here: bodies are placed, rows are not written.
                std::mem::forget(ingest);
                break;
            }
            ingest.commit(Batch::new()).unwrap();
        }
        medium.lose_power();
        drop(store);
        let store = memory_store_on(root.path(), &medium);
        for (n, (blob, tree)) in ids.iter().enumerate() {
            let acknowledged = n < usize::from(commits);
            assert_eq!(store.blob_size(*blob).unwrap().is_some(), acknowledged);
            assert_eq!(store.has_tree(tree.id).unwrap(), acknowledged);
            assert!(
                store.objects().has(*blob, 100),
                "the body is there, as an orphan perhaps"
            );
            if acknowledged {
                assert_eq!(read_model(*tree, &store).unwrap().len(), 3);
            }
        }
        let options = crate::fsck::Options {
            quick: false,
            progress: &|_| {},
        };
        let report = crate::fsck::check(&store, &options).unwrap();
        let orphans = report.findings.iter();
        let orphans = orphans
            .filter(|f| matches!(f, crate::fsck::Finding::Stray { .. }))
            .count();
        assert_eq!(
            orphans,
            report.findings.len(),
            "nothing is missing: {:?}",
            report.findings
        );
        assert_eq!(orphans, ids.len() - usize::from(commits));
    }
}

#[test]
fn a_tree_row_that_was_tampered_with_is_not_believed() {
    let root = scratch();
    let store = memory_store(root.path());
    let trees = MemoryTrees::new();
    let honest = store_model(&one_of_everything(), &trees).unwrap();
    let evil = Tree::empty(crate::fixtures::metadata(0o777)).encode();
    let mut batch = Batch::new();
    batch.put(Table::Tree, *honest.id.as_bytes(), evil);
    store.write(batch, Durability::Process).unwrap();
    let error = store.tree(honest.id).unwrap_err();
    assert!(
        error.to_string().contains("does not match its id"),
        "{error}"
    );
}

/// Tests that need root: they mount something.
mod privileged {
    use super::*;
    use crate::fixtures::SmallDisk;

    #[test]
    fn a_full_disk_is_told_and_survived() {
        let disk = SmallDisk::mount(48 << 20);
        let store = rocks_store(disk.path()).unwrap();
        let ingest = store.begin();
        let kept = ingest.put_blob(&[1; 100_000]).unwrap();
        ingest.commit(one_row()).unwrap();

        let ingest = store.begin();
        let error = (0u32..).find_map(|n| {
            let mut writer = ingest.blob_writer();
            let body = [&n.to_le_bytes()[..], &vec![2; 1 << 20]].concat();
            match writer.write_all(&body) {
                Err(error) => Some(Error::io("write", "blob", error)),
                Ok(()) => writer.commit().err(),
            }
        });
        let error = error.expect("the disk is full at last");
        assert!(error.is_no_space(), "{error}");
        let temporaries = read_directory(&store.root().join(layout::INGEST)).unwrap();
        assert_eq!(
            temporaries,
            Vec::<PathBuf>::new(),
            "the unfinished body is gone"
        );
        // Beside another one, so that its bodies stay for the sweep.
        let beside = store.begin();
        let committed = ingest.commit(Batch::new());
        assert!(
            committed.as_ref().is_err_and(Error::is_no_space),
            "{committed:?}"
        );
        drop(beside);

        // The sweep works on a full disk and makes room.
        let roots = |_: &std::collections::HashSet<String>| {
            Ok::<_, Error>(crate::sweep::Roots {
                trees: vec![],
                blobs: vec![kept],
            })
        };
        let report = crate::sweep::sweep(&store, roots, crate::sweep::Mode::Delete).unwrap();
        assert!(report.strays > 5, "{report:?}");
        while store.trash().reap(1_000).unwrap().more {}
        let ingest = store.begin();
        let later = ingest.put_blob(&vec![3; 5 << 20]).unwrap();
        ingest.commit(Batch::new()).unwrap();
        drop(store);
        let store = rocks_store(disk.path()).unwrap();
        for id in [kept, later] {
            store.objects().read_blob(id, |_| Ok(())).unwrap();
            assert!(store.blob_size(id).unwrap().is_some());
        }
    }
}
