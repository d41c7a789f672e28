//! Tests of fsck: each kind of damage is planted, found, named and repaired.

use std::sync::atomic::AtomicU64;

use super::*;
use crate::fixtures::{Found, file, memory_store, model, name, read_model, scratch, store_model};
use crate::tree::TreeSource;

const BODY: &[u8] = b"the body of a file";
const OTHER: &[u8] = b"the body of another";

fn options(quick: bool) -> Options<'static> {
    Options {
        quick,
        progress: &|_| {},
    }
}

/// A store with `a/deep/file`, `b/other` and a tree of its own, `lonely`.
fn store() -> (tempfile::TempDir, Store, TreeRef, TreeRef) {
    let root = scratch();
    let store = memory_store(root.path());
    let ingest = store.begin();
    ingest.put_blob(BODY).unwrap();
    ingest.put_blob(OTHER).unwrap();
    let files = [
        ("a/deep/file", Found::Leaf(file(BODY))),
        ("b/other", Found::Leaf(file(OTHER))),
    ];
    let tree = store_model(&model(files), &ingest).unwrap();
    let lonely = store_model(&model([("lonely", Found::Leaf(file(OTHER)))]), &ingest).unwrap();
    ingest.commit(Batch::new()).unwrap();
    (root, store, tree, lonely)
}

/// The tree at a path of one-component directories.
fn child(store: &Store, tree: TreeRef, path: &[&str]) -> TreeRef {
    path.iter().fold(tree, |tree, component| {
        match store.tree(tree.id).unwrap().entries.get(&name(component)) {
            Some(Entry::Directory(child)) => *child,
            other => panic!("{component}: {other:?}"),
        }
    })
}

fn write(store: &Store, fill: impl FnOnce(&mut Batch)) {
    let mut batch = Batch::new();
    fill(&mut batch);
    store.write(batch, Durability::Disk).unwrap();
    store.forget_trees();
}

fn replace_object(store: &Store, id: BlobId, content: &[u8]) {
    let path = store.objects().path(id);
    fs::remove_file(&path).unwrap();
    fs::write(path, content).unwrap();
}

/// Plants damage and expects these findings and broken things; repairs; expects a sound store.
#[track_caller]
fn expect(
    plant: impl FnOnce(&Store, TreeRef),
    expected: impl FnOnce(&Store, TreeRef) -> (Vec<Finding>, Vec<TreeId>, Vec<BlobId>),
) {
    let (_root, store, tree, lonely) = store();
    let (mut findings, trees, blobs) = expected(&store, tree);
    findings.sort();
    plant(&store, tree);
    let report = check(&store, &options(false)).unwrap();
    assert_eq!(report.findings, findings);
    for finding in &report.findings {
        assert!(finding.to_string().len() > 20, "{finding}");
    }
    let broken = Broken {
        trees: trees.into_iter().collect(),
        blobs: blobs.into_iter().collect(),
    };
    assert_eq!(report.broken, broken);
    // Whoever reads meanwhile fills the cache.
    for tree in &broken.trees {
        drop(store.tree(*tree));
    }
    let repaired = repair(&store, &options(false), |found| {
        assert_eq!(*found, broken);
        let mut batch = Batch::new();
        batch.put(Table::Snapshot, b"dropped by the caller", b"");
        Ok::<_, Error>(batch)
    });
    assert_eq!(repaired.unwrap().findings, findings);
    assert!(
        store
            .rows()
            .get(Table::Snapshot, b"dropped by the caller")
            .unwrap()
            .is_some()
    );
    assert_eq!(check(&store, &options(false)).unwrap().findings, []);
    for tree in &broken.trees {
        assert!(
            !store.has_tree(*tree).unwrap(),
            "nothing broken is relied upon"
        );
    }
    for tree in [tree, lonely] {
        if !broken.trees.contains(&tree.id) && store.has_tree(tree.id).unwrap() {
            read_model(tree, &store).unwrap();
        }
    }
    // What is broken is a miss, and can be brought in again.
    let ingest = store.begin();
    for body in [BODY, OTHER] {
        ingest.put_blob(body).unwrap();
    }
    ingest.commit(Batch::new()).unwrap();
    assert_eq!(store.objects().read_all(BlobId::of(BODY)).unwrap(), BODY);
}

fn path_of(store: &Store, tree: TreeRef, path: &[&str]) -> Vec<TreeId> {
    (0..=path.len())
        .map(|depth| child(store, tree, &path[..depth]).id)
        .collect()
}

#[test]
fn a_sound_store_has_no_findings_and_progress_is_told() {
    let (_root, store, ..) = store();
    let (bytes, rows) = (AtomicU64::new(0), AtomicU64::new(0));
    let progress = |progress| match progress {
        Progress::Blobs { done, total } => {
            assert_eq!(total, (BODY.len() + OTHER.len()) as u64);
            bytes.fetch_max(done, Ordering::SeqCst);
        }
        Progress::Trees { done } => {
            rows.fetch_max(done, Ordering::SeqCst);
        }
    };
    let report = check(
        &store,
        &Options {
            quick: false,
            progress: &progress,
        },
    )
    .unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!((report.trees, report.blobs, report.bytes_read), (5, 2, 37));
    assert_eq!((bytes.into_inner(), rows.into_inner()), (37, 5));
    assert_eq!(check(&store, &options(true)).unwrap().bytes_read, 0);
}

#[test]
fn a_missing_object_breaks_what_names_it() {
    let blob = BlobId::of(BODY);
    expect(
        |store, _| fs::remove_file(store.objects().path(blob)).unwrap(),
        |store, tree| {
            let trees = path_of(store, tree, &["a", "deep"]);
            let findings = vec![
                Finding::ObjectMissing { blob },
                Finding::BlobUnknown {
                    tree: trees[2],
                    name: name("file"),
                    blob,
                },
            ];
            (findings, trees, vec![blob])
        },
    );
}

#[test]
fn an_object_with_a_flipped_bit_is_found_unless_quick() {
    let blob = BlobId::of(BODY);
    let (_root, store, ..) = store();
    replace_object(&store, blob, b"the bodY of a file");
    assert!(check(&store, &options(true)).unwrap().is_clean());
    expect(
        |store, _| replace_object(store, blob, b"the bodY of a file"),
        |store, tree| {
            let trees = path_of(store, tree, &["a", "deep"]);
            let other = BlobId::of(b"the bodY of a file");
            let findings = vec![
                Finding::ObjectCorrupt {
                    blob,
                    reason: format!("its content is that of {other}"),
                },
                Finding::BlobUnknown {
                    tree: trees[2],
                    name: name("file"),
                    blob,
                },
            ];
            (findings, trees, vec![blob])
        },
    );
}

#[test]
fn a_cut_off_object_is_found_even_when_quick() {
    let blob = BlobId::of(BODY);
    let (_root, store, ..) = store();
    replace_object(&store, blob, b"the");
    assert_eq!(
        check(&store, &options(true)).unwrap().broken.blobs,
        [blob].into()
    );
    let reason = "it has 3 bytes instead of 18".to_owned();
    expect(
        |store, _| replace_object(store, blob, b"the"),
        |store, tree| {
            let trees = path_of(store, tree, &["a", "deep"]);
            let findings = vec![
                Finding::ObjectCorrupt { blob, reason },
                Finding::BlobUnknown {
                    tree: trees[2],
                    name: name("file"),
                    blob,
                },
            ];
            (findings, trees, vec![blob])
        },
    );
}

#[test]
fn an_object_that_is_no_file_is_moved_away() {
    let blob = BlobId::of(BODY);
    expect(
        |store, _| {
            fs::remove_file(store.objects().path(blob)).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", store.objects().path(blob)).unwrap();
        },
        |store, tree| {
            let trees = path_of(store, tree, &["a", "deep"]);
            let reason = "it is no regular file".into();
            let findings = vec![
                Finding::ObjectCorrupt { blob, reason },
                Finding::BlobUnknown {
                    tree: trees[2],
                    name: name("file"),
                    blob,
                },
            ];
            (findings, trees, vec![blob])
        },
    );
}

#[test]
fn a_lost_blob_row_breaks_trees_and_leaves_a_stray() {
    let blob = BlobId::of(BODY);
    expect(
        |store, _| write(store, |batch| batch.delete(Table::Blob, *blob.as_bytes())),
        |store, tree| {
            let trees = path_of(store, tree, &["a", "deep"]);
            let findings = vec![
                Finding::Stray {
                    path: store.objects().path(blob),
                },
                Finding::BlobUnknown {
                    tree: trees[2],
                    name: name("file"),
                    blob,
                },
            ];
            (findings, trees, vec![])
        },
    );
}

#[test]
fn a_damaged_blob_row_is_removed_with_its_file() {
    let blob = BlobId::of(BODY);
    expect(
        |store, _| {
            write(store, |batch| {
                batch.put(Table::Blob, *blob.as_bytes(), [0x80])
            })
        },
        |store, tree| {
            let trees = path_of(store, tree, &["a", "deep"]);
            let findings = vec![
                Finding::BlobRowDamaged { blob },
                Finding::BlobUnknown {
                    tree: trees[2],
                    name: name("file"),
                    blob,
                },
            ];
            (findings, trees, vec![blob])
        },
    );
}

#[test]
fn a_wrong_length_in_a_blob_row_is_found() {
    let blob = BlobId::of(BODY);
    expect(
        |store, _| {
            write(store, |batch| {
                batch.put(Table::Blob, *blob.as_bytes(), [19])
            })
        },
        |store, tree| {
            let trees = path_of(store, tree, &["a", "deep"]);
            let reason = "it has 18 bytes instead of 19".into();
            let findings = vec![
                Finding::ObjectCorrupt { blob, reason },
                Finding::BlobUnknown {
                    tree: trees[2],
                    name: name("file"),
                    blob,
                },
            ];
            (findings, trees, vec![blob])
        },
    );
}

#[test]
fn a_missing_directory_breaks_what_is_above() {
    expect(
        |store, tree| {
            let id = child(store, tree, &["a", "deep"]).id;
            write(store, |batch| batch.delete(Table::Tree, *id.as_bytes()));
        },
        |store, tree| {
            let trees = path_of(store, tree, &["a", "deep"]);
            let name = name("deep");
            let findings = vec![Finding::ChildMissing {
                tree: trees[1],
                name,
                child: trees[2],
            }];
            (findings, trees[..2].to_vec(), vec![])
        },
    );
}

#[test]
fn a_damaged_tree_row_breaks_itself_and_what_is_above() {
    expect(
        |store, tree| {
            let tree = child(store, tree, &["a", "deep"]);
            let mut row = store.tree(tree.id).unwrap().encode();
            row[0] ^= 1;
            write(store, |batch| {
                batch.put(Table::Tree, *tree.id.as_bytes(), row)
            });
        },
        |store, tree| {
            let trees = path_of(store, tree, &["a", "deep"]);
            let reason = "it does not match its id".into();
            (
                vec![Finding::TreeDamaged {
                    tree: trees[2],
                    reason,
                }],
                trees,
                vec![],
            )
        },
    );
}

/// Puts a row under its right id whatever it says, as a bug of a writer would.
fn put_row(store: &Store, row: Vec<u8>) -> TreeId {
    let id = tree_id(&row);
    write(store, |batch| batch.put(Table::Tree, *id.as_bytes(), row));
    id
}

#[test]
fn rows_that_a_buggy_writer_made_are_found_although_their_digests_match() {
    let (_root, store, tree, lonely) = store();
    let garbage = put_row(&store, b"garbage".to_vec());
    let mut wrong_sum = (*store.tree(tree.id).unwrap()).clone();
    let mut a = child(&store, tree, &["a"]);
    a.bytes += 1;
    wrong_sum.entries.insert(name("a"), Entry::Directory(a));
    let wrong_sum = put_row(&store, wrong_sum.encode());
    let mut wrong_size = (*store.tree(lonely.id).unwrap()).clone();
    let content = Content::File {
        blob: BlobId::of(OTHER),
        size: 1,
    };
    let leaf = crate::Leaf {
        content,
        ..file(OTHER)
    };
    wrong_size.entries.insert(name("lonely"), Entry::Leaf(leaf));
    let wrong_size = put_row(&store, wrong_size.encode());
    let report = check(&store, &options(false)).unwrap();
    let found = |wanted: &dyn Fn(&Finding) -> bool| report.findings.iter().any(wanted);
    assert!(found(
        &|f| matches!(f, Finding::TreeDamaged { tree, .. } if *tree == garbage)
    ));
    assert!(found(
        &|f| matches!(f, Finding::ChildDiffers { tree, .. } if *tree == wrong_sum)
    ));
    assert!(found(
        &|f| matches!(f, Finding::SizeDiffers { tree, .. } if *tree == wrong_size)
    ));
    assert_eq!(report.findings.len(), 3);
    assert_eq!(report.broken.trees, [garbage, wrong_sum, wrong_size].into());
    repair(&store, &options(false), |_| Ok::<_, Error>(Batch::new())).unwrap();
    assert!(check(&store, &options(false)).unwrap().is_clean());
    assert_eq!(read_model(tree, &store).unwrap().len(), 6);
}

#[test]
fn keys_that_are_no_ids_and_strays_are_found_and_removed() {
    let (_root, store, tree, _) = store();
    write(&store, |batch| {
        batch.put(Table::Tree, b"short", b"");
        batch.put(Table::Blob, [7; 33], b"");
    });
    let strays = [
        store.objects().directory().join("0123"),
        store
            .objects()
            .path(BlobId::of(BODY))
            .with_file_name("stray"),
        store.objects().path(BlobId::of(b"never ingested")),
        store.root().join(layout::INGEST).join("leftover"),
    ];
    for stray in &strays {
        fs::write(stray, "x").unwrap();
    }
    let report = check(&store, &options(false)).unwrap();
    assert_eq!(report.findings.len(), 6, "{:?}", report.findings);
    for path in &strays {
        assert!(
            report
                .findings
                .contains(&Finding::Stray { path: path.clone() })
        );
    }
    assert_eq!(
        report.broken,
        Broken::default(),
        "none of it breaks anything"
    );
    repair(&store, &options(false), |_| Ok::<_, Error>(Batch::new())).unwrap();
    assert!(check(&store, &options(false)).unwrap().is_clean());
    assert!(strays.iter().all(|stray| !stray.exists()));
    assert_eq!(read_model(tree, &store).unwrap().len(), 6);
}

#[test]
fn a_repair_whose_caller_fails_changes_nothing() {
    let (_root, store, ..) = store();
    fs::remove_file(store.objects().path(BlobId::of(BODY))).unwrap();
    let before = check(&store, &options(false)).unwrap();
    let failing = |_: &Broken| {
        Err(Error::BlobMissing {
            id: BlobId::of(b""),
        })
    };
    assert!(repair(&store, &options(false), failing).is_err());
    assert_eq!(check(&store, &options(false)).unwrap(), before);
    assert!(!before.is_clean());
}
