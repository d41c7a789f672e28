//! Tests of mark and sweep: exactly the reachable stays, and nothing in doubt is deleted.

use std::fs;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;
use crate::fixtures::random::any_model;
use crate::fixtures::{
    Found, MemoryTrees, Model, file, memory_store, memory_store_on, model, name, read_model,
    scratch, store_model,
};
use crate::fsck;
use crate::key_value::memory::{Medium, Memory};
use crate::key_value::{KeyValue, Row};
use crate::root_lock::RootLock;
use crate::tree::{TreeRef, TreeSink};

/// Puts a model with the bodies of its files (fixtures' files hold three equal bytes or less).
fn put(store: &Store, model: &Model) -> TreeRef {
    let ingest = store.begin();
    for n in 0..6u8 {
        ingest.put_blob(&[n; 3]).unwrap();
        ingest.put_blob(&[n]).unwrap();
    }
    ingest.put_blob(b"").unwrap();
    let tree = store_model(model, &ingest).unwrap();
    ingest.commit(Batch::new()).unwrap();
    tree
}

fn roots(trees: &[TreeRef]) -> Roots {
    Roots {
        trees: trees.iter().map(|tree| tree.id).collect(),
        blobs: vec![],
    }
}

fn sweep_all(store: &Store, roots: &Roots) -> Report {
    sweep(store, |_| Ok::<_, Error>(roots.clone()), Mode::Delete).unwrap()
}

fn keys(store: &Store, table: Table) -> HashSet<Vec<u8>> {
    store
        .rows()
        .scan(table, b"")
        .map(|row| row.unwrap().0)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_sweep_keeps_exactly_what_is_reachable(
        models in proptest::collection::vec(any_model(), 4),
    ) {
        let root = scratch();
        let store = memory_store(root.path());
        let trees: Vec<_> = models.iter().map(|model| put(&store, model)).collect();
        let kept = roots(&trees[..2]);
        let mut marks = Marks::new();
        marks.extend(&kept, &store).unwrap();
        let report = sweep_all(&store, &kept);
        let as_keys = |ids: HashSet<[u8; 32]>| ids.iter().map(|id| id.to_vec()).collect();
        let expected: HashSet<_> = as_keys(marks.trees.iter().map(|id| *id.as_bytes()).collect());
        prop_assert_eq!(&keys(&store, Table::Tree), &expected);
        let expected: HashSet<_> = as_keys(marks.blobs.iter().map(|id| *id.as_bytes()).collect());
        prop_assert_eq!(&keys(&store, Table::Blob), &expected);
        prop_assert_eq!(report.blobs_kept, marks.blobs.len() as u64);
        for (model, tree) in models.iter().zip(&trees).take(2) {
            prop_assert_eq!(&read_model(*tree, &store).unwrap(), model);
        }
        let options = fsck::Options { quick: false, progress: &|_| {} };
        prop_assert_eq!(fsck::check(&store, &options).unwrap().findings, vec![]);
        let again = sweep_all(&store, &kept);
        prop_assert_eq!((again.trees, again.blobs, again.strays), (0, 0, 0));
    }
}

#[test]
fn a_sweep_tells_what_it_deletes_and_a_dry_run_deletes_nothing() {
    let root = scratch();
    let store = memory_store(root.path());
    let tree = put(&store, &model([("a/b", Found::Leaf(file(&[1; 3])))]));
    fs::write(store.objects().directory().join("stray"), "12345").unwrap();
    let part = store.objects().path(BlobId::of(b""));
    fs::write(part.with_file_name("no-id"), "123").unwrap();
    // Somebody else ingests, so that it is left to the sweep.
    let beside = store.begin();
    let orphan = store
        .begin()
        .put_blob(b"an ingest that was dropped")
        .unwrap();
    drop(beside);
    let kept = Roots {
        trees: vec![tree.id],
        blobs: vec![BlobId::of(&[5])],
    };
    let dry = sweep(&store, |_| Ok::<_, Error>(kept.clone()), Mode::DryRun).unwrap();
    let expected = Report {
        disk_bytes: dry.disk_bytes,
        trees: 0,
        blobs: 11,
        bytes: 5 * 3 + 5,
        strays: 3,
        stray_bytes: 5 + 3 + 26,
        trees_kept: 2,
        blobs_kept: 2,
    };
    assert_eq!(dry, expected);
    assert!(dry.disk_bytes >= dry.bytes + dry.stray_bytes, "{dry:?}");
    assert!(store.objects().has(orphan, 26));
    assert_eq!(sweep_all(&store, &kept), expected);
    assert!(!store.objects().has(orphan, 26));
    assert!(
        store.objects().has(BlobId::of(&[5]), 1),
        "a root blob stays"
    );
    let all = sweep_all(&store, &Roots::default());
    assert_eq!((all.trees, all.blobs, all.blobs_kept), (2, 2, 0));
    assert_eq!(store.trash().reap(100).unwrap().entries, 16);
}

#[test]
fn strays_are_looked_for_after_a_start_and_after_an_ingest_that_was_given_up() {
    let root = scratch();
    let store = memory_store(root.path());
    let stray = store.objects().directory().join("stray");
    for (is_seen, give_up) in [(true, false), (false, false), (true, true)] {
        put(&store, &Model::new());
        if give_up {
            let _beside = store.begin();
            store.begin().put_blob(b"given up").unwrap();
        }
        fs::write(&stray, "12345").unwrap();
        let report = sweep_all(&store, &Roots::default());
        assert_eq!((report.blobs, report.bytes), (13, 6 * 3 + 6));
        assert_eq!(report.strays, u64::from(is_seen) + u64::from(give_up));
        assert_eq!(stray.exists(), !is_seen);
    }
}

#[test]
fn a_missing_tree_below_a_root_stops_the_sweep_before_it_deletes() {
    let root = scratch();
    let store = memory_store(root.path());
    let tree = put(&store, &model([("a/b/c", Found::Leaf(file(&[1; 3])))]));
    put(&store, &model([("unrelated", Found::Leaf(file(&[2; 3])))]));
    let Some(Entry::Directory(child)) = store
        .tree(tree.id)
        .unwrap()
        .entries
        .get(&name("a"))
        .cloned()
    else {
        panic!("a is a directory");
    };
    let mut batch = Batch::new();
    batch.delete(Table::Tree, *child.id.as_bytes());
    store.write(batch, Durability::Disk).unwrap();
    let before = (keys(&store, Table::Tree), keys(&store, Table::Blob));
    let result = sweep(&store, |_| Ok::<_, Error>(roots(&[tree])), Mode::Delete);
    assert!(
        matches!(result, Err(Error::TreeMissing { id }) if id == child.id),
        "{result:?}"
    );
    assert_eq!(
        (keys(&store, Table::Tree), keys(&store, Table::Blob)),
        before
    );
    assert!(store.objects().has(BlobId::of(&[1; 3]), 3));
}

#[test]
fn marks_of_a_walk_that_failed_are_void() {
    let trees = MemoryTrees::new();
    let tree = store_model(&model([("a/b", Found::Leaf(file(&[1; 3])))]), &trees).unwrap();
    let inner = store_model(&model([("b", Found::Leaf(file(&[1; 3])))]), &trees).unwrap();
    trees.lose(inner.id);
    let mut marks = Marks::new();
    assert!(marks.extend(&roots(&[tree]), &trees).is_err());
    assert!(!marks.has_tree(tree.id));
    assert!(
        marks.extend(&roots(&[tree]), &trees).is_err(),
        "it is walked again"
    );
}

#[test]
fn an_error_of_the_roots_stops_the_sweep() {
    #[derive(Debug)]
    struct Mine;
    impl From<Error> for Mine {
        fn from(_: Error) -> Self {
            Mine
        }
    }
    let root = scratch();
    let store = memory_store(root.path());
    put(&store, &Model::new());
    let before = keys(&store, Table::Blob);
    assert!(sweep(&store, |_| Err(Mine), Mode::Delete).is_err());
    assert_eq!(keys(&store, Table::Blob), before);
}

#[test]
fn a_sweep_beside_an_ingest_keeps_what_that_has_found_and_made() {
    let root = scratch();
    let store = memory_store(root.path());
    let old = put(&store, &model([("old", Found::Leaf(file(&[1; 3])))]));
    let unused = put(&store, &model([("unused", Found::Leaf(file(&[2; 3])))]));
    let ingest = store.begin();
    // It relies on what is stored already, although nothing keeps that alive yet.
    assert!(store.has_tree(old.id).unwrap());
    ingest.put_blob(&[3; 3]).unwrap();
    let new = ingest.put_blob(b"new").unwrap();
    let none = Roots::default();
    store.note_strays();
    let report = sweep_all(&store, &none);
    assert_eq!((report.blobs, report.blobs_kept, report.strays), (11, 2, 0));
    assert!(!store.has_tree(unused.id).unwrap());
    ingest.commit(Batch::new()).unwrap();
    assert_eq!(read_model(old, &store).unwrap().len(), 2);
    for (blob, length) in [(BlobId::of(&[1; 3]), 3), (BlobId::of(&[3; 3]), 3), (new, 3)] {
        assert!(store.objects().has(blob, length));
    }
    assert_eq!(findings(&store), vec![]);
    // Nobody relies on it any more.
    assert_eq!(sweep_all(&store, &none).blobs, 3);
}

fn findings(store: &Store) -> Vec<fsck::Finding> {
    let options = fsck::Options {
        quick: false,
        progress: &|_| {},
    };
    fsck::check(store, &options).unwrap().findings
}

#[test]
fn work_keeps_what_it_has_read_until_its_end_and_who_only_looks_keeps_nothing() {
    let root = scratch();
    let store = memory_store(root.path());
    let read = put(&store, &model([("a/b", Found::Leaf(file(&[1; 3])))]));
    let seen = put(&store, &model([("c", Found::Leaf(file(&[2; 3])))]));
    let work = store.work();
    store.tree(read.id).unwrap();
    {
        let _looking = Looking::begin();
        store.tree(seen.id).unwrap();
    }
    sweep_all(&store, &Roots::default());
    assert_eq!(read_model(read, &store).unwrap().len(), 3);
    assert!(!store.has_tree(seen.id).unwrap());
    drop(work);
    sweep_all(&store, &Roots::default());
    assert!(!store.has_tree(read.id).unwrap());
}

#[test]
fn what_comes_back_while_a_sweep_takes_files_is_whole() {
    let root = scratch();
    let store = memory_store(root.path());
    let is_over = AtomicBool::new(false);
    let contents: Vec<Vec<u8>> = (0..40u8).map(|n| vec![n; 9]).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                store.note_strays();
                sweep_all(&store, &Roots::default());
            }
        });
        let writers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..60 {
                        let work = store.work();
                        let ingest = store.begin();
                        let put = contents.iter().map(|one| ingest.put_blob(one).unwrap());
                        let blobs: Vec<_> = put.collect();
                        ingest.commit(Batch::new()).unwrap();
                        for (id, content) in blobs.iter().zip(&contents) {
                            assert_eq!(store.blob_size(*id).unwrap(), Some(9));
                            assert_eq!(&store.objects().read_all(*id).unwrap(), content);
                        }
                        drop(work);
                    }
                })
            })
            .collect();
        for writer in writers {
            let ended = writer.join();
            if ended.is_err() {
                is_over.store(true, Ordering::SeqCst);
            }
            ended.unwrap();
        }
        is_over.store(true, Ordering::SeqCst);
    });
    sweep_all(&store, &Roots::default());
    assert_eq!(findings(&store), vec![]);
}

#[test]
fn what_was_swept_is_not_remembered() {
    let root = scratch();
    let store = memory_store(root.path());
    let tree = put(&store, &model([("a", Found::Leaf(file(&[1; 3])))]));
    assert!(store.tree(tree.id).is_ok(), "it is in the cache");
    sweep_all(&store, &Roots::default());
    assert!(!store.has_tree(tree.id).unwrap());
    assert!(matches!(
        store.tree(tree.id),
        Err(Error::TreeMissing { .. })
    ));
    let again = put(&store, &model([("a", Found::Leaf(file(&[1; 3])))]));
    assert_eq!(again, tree);
    assert_eq!(
        store.objects().read_all(BlobId::of(&[1; 3])).unwrap(),
        [1; 3]
    );
}

/// A database that stops after each read of a tree row until it is told to go on.
#[derive(Debug)]
struct Slow {
    rows: Memory,
    armed: AtomicBool,
    read: Barrier,
    go_on: Barrier,
}

impl KeyValue for Slow {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let found = self.rows.get(table, key);
        if table == Table::Tree && self.armed.swap(false, Ordering::SeqCst) {
            self.read.wait();
            self.go_on.wait();
        }
        found
    }

    fn get_many(&self, table: Table, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
        self.rows.get_many(table, keys)
    }

    fn scan<'a>(
        &'a self,
        table: Table,
        prefix: &[u8],
    ) -> Box<dyn Iterator<Item = Result<Row>> + 'a> {
        self.rows.scan(table, prefix)
    }

    fn write(&self, batch: Batch, durability: Durability) -> Result<()> {
        self.rows.write(batch, durability)
    }

    fn sync(&self) -> Result<()> {
        self.rows.sync()
    }

    fn checkpoint(&self, directory: &Path) -> Result<()> {
        self.rows.checkpoint(directory)
    }

    fn compact(&self) -> Result<()> {
        self.rows.compact()
    }
}

#[test]
fn a_tree_that_is_read_while_it_is_swept_is_not_remembered() {
    let root = scratch();
    let slow = Arc::new(Slow {
        rows: Memory::new(),
        armed: AtomicBool::new(false),
        read: Barrier::new(2),
        go_on: Barrier::new(2),
    });
    let lock = RootLock::acquire(root.path()).unwrap();
    let store = Store::open(lock, Box::new(slow.clone())).unwrap();
    let tree = put(&store, &Model::new());
    store.forget_trees();
    slow.armed.store(true, Ordering::SeqCst);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| store.tree(tree.id).map(drop));
        slow.read.wait();
        sweep_all(&store, &Roots::default());
        slow.go_on.wait();
        reader
            .join()
            .unwrap()
            .expect("it was there when the read began");
    });
    assert!(!store.has_tree(tree.id).unwrap());
}

#[test]
fn a_loss_of_power_during_a_sweep_leaves_no_row_without_its_file() {
    let (root, medium) = (scratch(), Medium::new());
    let store = memory_store_on(root.path(), &medium);
    put(&store, &model([("a", Found::Leaf(file(&[1; 3])))]));
    // Rows that are deleted, but not durably so, by a process that dies then.
    let mut batch = Batch::new();
    for table in [Table::Tree, Table::Blob] {
        for key in keys(&store, table) {
            batch.delete(table, key);
        }
    }
    store.write(batch, Durability::Process).unwrap();
    sweep_all(&store, &Roots::default());
    medium.lose_power();
    drop(store);
    let store = memory_store_on(root.path(), &medium);
    let options = fsck::Options {
        quick: true,
        progress: &|_| {},
    };
    let report = fsck::check(&store, &options).unwrap();
    assert_eq!(
        (report.findings, report.blobs, report.trees),
        (vec![], 0, 0)
    );
}

#[test]
fn marking_needs_no_deep_stack() {
    let work = || {
        let trees = MemoryTrees::new();
        let mut tree = store_model(&Model::new(), &trees).unwrap();
        for _ in 0..20_000 {
            let mut outer = Tree::empty(crate::fixtures::metadata(0o755));
            outer.entries.insert(name("d"), Entry::Directory(tree));
            tree = trees.put_tree(outer).unwrap();
        }
        let mut marks = Marks::new();
        marks.extend(&roots(&[tree]), &trees).unwrap();
        assert_eq!(marks.trees.len(), 20_001);
        let reads = trees.reads();
        marks.extend(&roots(&[tree]), &trees).unwrap();
        assert_eq!(trees.reads(), reads, "what is marked is not read again");
    };
    std::thread::Builder::new()
        .stack_size(256 << 10)
        .spawn(work)
        .unwrap()
        .join()
        .unwrap();
}
