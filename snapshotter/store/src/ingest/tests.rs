//! Tests of ingesting: one copy of each body, and nothing left of what was given up.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;
use crate::fixtures::{self, file, memory_store, model, path, read_model, scratch, store_model};
use crate::layout;
use crate::objects::read_directory;

fn store() -> (tempfile::TempDir, Store) {
    let root = scratch();
    let store = memory_store(root.path());
    (root, store)
}

fn objects(store: &Store) -> Vec<BlobId> {
    let mut found = Vec::new();
    let visit = |id: Option<BlobId>, path: PathBuf, _| {
        found.push(id.unwrap_or_else(|| panic!("a stray: {}", path.display())));
        Ok(())
    };
    store.objects().each(visit).unwrap();
    found
}

fn temporaries(store: &Store) -> Vec<PathBuf> {
    read_directory(&store.root().join(layout::INGEST)).unwrap()
}

#[test]
fn what_is_committed_is_there_and_can_be_read() {
    let (_root, store) = store();
    let ingest = store.begin();
    let id = ingest.put_blob(b"body").unwrap();
    let tree = store_model(
        &model([("a/b", fixtures::Found::Leaf(file(b"body")))]),
        &ingest,
    )
    .unwrap();
    assert_eq!(
        store.blob_size(id).unwrap(),
        None,
        "nothing is visible before the commit"
    );
    assert!(!store.has_tree(tree.id).unwrap());
    assert_eq!(
        ingest.tree(tree.id).unwrap().entries.len(),
        1,
        "but inside of the ingest it is"
    );
    let mut extra = Batch::new();
    extra.put(Table::Image, b"name", b"row");
    ingest.commit(extra).unwrap();
    assert_eq!(store.blob_size(id).unwrap(), Some(4));
    assert_eq!(store.objects().read_all(id).unwrap(), b"body");
    assert!(store.has_tree(tree.id).unwrap());
    assert_eq!(read_model(tree, &store).unwrap().len(), 3);
    assert!(store.rows().get(Table::Image, b"name").unwrap().is_some());
    let mode = fs::metadata(store.objects().path(id))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o222, 0, "an object is immutable");
    assert_eq!(store.objects().redirect(id), {
        let hex = id.to_string();
        format!("/{}/{}/{}", store.objects().nonce(), &hex[..2], &hex[2..])
    });
}

#[test]
fn a_body_is_stored_once() {
    let (_root, store) = store();
    let inode = |id| fs::metadata(store.objects().path(id)).unwrap().ino();
    let long = vec![3; IN_MEMORY_MAX_BYTES * 2];
    let ingest = store.begin();
    let ids = [
        ingest.put_blob(b"body").unwrap(),
        ingest.put_blob(&long).unwrap(),
    ];
    let first = ids.map(inode);
    assert_eq!(ingest.put_blob(b"body").unwrap(), ids[0]);
    ingest.commit(Batch::new()).unwrap();
    let ingest = store.begin();
    ingest.put_blob(b"body").unwrap();
    let mut writer = ingest.blob_writer();
    writer.write_all(&long).unwrap();
    assert_eq!(writer.commit().unwrap(), (ids[1], long.len() as u64));
    ingest.commit(Batch::new()).unwrap();
    assert_eq!(ids.map(inode), first, "the files were not written again");
    assert_eq!(objects(&store).len(), 2);
    assert_eq!(temporaries(&store), Vec::<PathBuf>::new());
}

#[test]
fn a_written_blob_is_that_of_its_bytes_however_they_come() {
    let (_root, store) = store();
    for length in [
        0,
        1,
        IN_MEMORY_MAX_BYTES,
        IN_MEMORY_MAX_BYTES + 1,
        3 * IN_MEMORY_MAX_BYTES + 7,
    ] {
        let body: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
        for piece in [1 << 10, 100_000, 1 << 20] {
            let ingest = store.begin();
            let mut writer = ingest.blob_writer();
            for piece in body.chunks(piece) {
                writer.write_all(piece).unwrap();
            }
            assert_eq!(writer.commit().unwrap(), (BlobId::of(&body), length as u64));
            ingest.commit(Batch::new()).unwrap();
        }
        assert_eq!(store.objects().read_all(BlobId::of(&body)).unwrap(), body);
    }
}

#[test]
fn what_is_dropped_leaves_no_row_and_no_temporary_file() {
    let (_root, store) = store();
    let ingest = store.begin();
    let mut writer = ingest.blob_writer();
    writer.write_all(&vec![1; IN_MEMORY_MAX_BYTES + 1]).unwrap();
    assert_eq!(temporaries(&store).len(), 1);
    drop(writer);
    assert_eq!(temporaries(&store), Vec::<PathBuf>::new());
    assert_eq!(
        objects(&store),
        [],
        "an unfinished body never gets its name"
    );
    let id = ingest.put_blob(b"orphan").unwrap();
    let tree = ingest
        .put_tree(Tree::empty(fixtures::metadata(0o755)))
        .unwrap();
    drop(ingest);
    assert_eq!(store.blob_size(id).unwrap(), None);
    assert!(!store.has_tree(tree.id).unwrap());
    assert!(matches!(
        store.tree(tree.id),
        Err(Error::TreeMissing { .. })
    ));
    assert_eq!(objects(&store), [], "what was given up is gone");
    // Where others ingest it stays: they may have put the same there.
    let (beside, ingest) = (store.begin(), store.begin());
    ingest.put_blob(b"orphan").unwrap();
    drop(ingest);
    assert_eq!(objects(&store), [id]);
    // The orphan is not relied upon: the next ingest notes it again.
    beside.put_blob(b"orphan").unwrap();
    beside.commit(Batch::new()).unwrap();
    assert_eq!(store.blob_size(id).unwrap(), Some(6));
    // What a row names is nobody's to take away, though its file came from one that gave up.
    fs::remove_file(store.objects().path(id)).unwrap();
    store.begin().put_blob(b"orphan").unwrap();
    assert_eq!(objects(&store), [id]);
}

#[test]
fn a_finished_file_is_taken_over_without_a_copy() {
    let (root, store) = store();
    let given = root.path().join("upper-file");
    fs::write(&given, b"made by a build step").unwrap();
    let inode = fs::metadata(&given).unwrap().ino();
    let ingest = store.begin();
    let (id, size) = ingest.adopt(&given).unwrap();
    assert_eq!((id, size), (BlobId::of(b"made by a build step"), 20));
    ingest.commit(Batch::new()).unwrap();
    assert!(!given.exists(), "it was renamed");
    let found = fs::metadata(store.objects().path(id)).unwrap();
    assert_eq!(
        (found.ino(), found.permissions().mode() & 0o7777),
        (inode, OBJECT_MODE)
    );
    fs::write(&given, b"made by a build step").unwrap();
    let ingest = store.begin();
    assert_eq!(ingest.adopt(&given).unwrap(), (id, size));
    assert!(given.exists(), "a body that is here already is left alone");
    assert!(ingest.adopt(&root.path().join("absent")).is_err());
}

#[test]
fn a_lost_object_file_is_written_again() {
    let (_root, store) = store();
    let put = || {
        let ingest = store.begin();
        let id = ingest.put_blob(b"body").unwrap();
        ingest.commit(Batch::new()).unwrap();
        id
    };
    let id = put();
    fs::remove_file(store.objects().path(id)).unwrap();
    assert!(matches!(
        store.objects().read_all(id),
        Err(Error::BlobMissing { .. })
    ));
    put();
    assert_eq!(store.objects().read_all(id).unwrap(), b"body");
}

#[test]
fn what_a_crash_left_under_a_name_is_not_believed() {
    let (_root, store) = store();
    let part = store.objects().path(BlobId::of(b"body"));
    fs::write(&part, b"bo").unwrap();
    let (beside, ingest) = (store.begin(), store.begin());
    let id = ingest.put_blob(b"body").unwrap();
    assert_eq!(store.objects().read_all(id).unwrap(), b"body");
    // One that fails beside takes nothing away, whatever it had begun.
    beside.pending().parts.push(id);
    drop(beside);
    ingest.commit(Batch::new()).unwrap();
    assert_eq!(store.objects().read_all(id).unwrap(), b"body");
    assert_eq!(temporaries(&store), Vec::<PathBuf>::new());
}

#[test]
fn a_corrupt_object_is_detected_when_it_is_read() {
    let (_root, store) = store();
    let ingest = store.begin();
    let id = ingest.put_blob(b"body").unwrap();
    ingest.commit(Batch::new()).unwrap();
    let path = store.objects().path(id);
    fs::remove_file(&path).unwrap();
    fs::write(&path, b"bodY").unwrap();
    let error = store.objects().read_all(id).unwrap_err();
    assert!(matches!(error, Error::BlobCorrupt { .. }));
    assert!(error.to_string().contains("varve fsck --repair"), "{error}");
}

#[test]
fn eight_threads_put_the_same_bodies_at_once() {
    let (_root, store) = store();
    let ingest = store.begin();
    let bodies: Vec<Vec<u8>> = (0..40u8)
        .map(|n| vec![n; 10 + usize::from(n) * 20_000])
        .collect();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (ingest, bodies) = (&ingest, &bodies);
            scope.spawn(move || {
                for n in 0..bodies.len() {
                    let body = &bodies[(n + thread * 5) % bodies.len()];
                    let mut writer = ingest.blob_writer();
                    writer.write_all(body).unwrap();
                    assert_eq!(writer.commit().unwrap().0, BlobId::of(body));
                }
            });
        }
    });
    ingest.commit(Batch::new()).unwrap();
    assert_eq!(objects(&store).len(), bodies.len());
    assert_eq!(temporaries(&store), Vec::<PathBuf>::new());
    for body in &bodies {
        assert_eq!(store.objects().read_all(BlobId::of(body)).unwrap(), *body);
        assert_eq!(
            store.blob_size(BlobId::of(body)).unwrap(),
            Some(body.len() as u64)
        );
    }
}

#[test]
fn an_edit_inside_an_ingest_stores_only_what_is_new() {
    let (_root, store) = store();
    let ingest = store.begin();
    ingest.put_blob(b"x").unwrap();
    let base = store_model(
        &model([
            ("a/file", fixtures::Found::Leaf(file(b"x"))),
            ("b/file", fixtures::Found::Leaf(file(b"x"))),
        ]),
        &ingest,
    )
    .unwrap();
    ingest.commit(Batch::new()).unwrap();
    let rows = || store.rows().scan(Table::Tree, b"").count();
    assert_eq!(rows(), 2, "a and b are one row");
    let ingest = store.begin();
    let mut editor = crate::Editor::open(&ingest, base);
    editor.remove(&path("a/file")).unwrap();
    let edited = editor.finish().unwrap();
    ingest.commit(Batch::new()).unwrap();
    assert_eq!(rows(), 4, "the new root and the empty a");
    assert_eq!(edited.inodes, 4);
}

#[test]
fn what_is_written_and_what_was_there_already_are_counted_apart() {
    let (root, store) = store();
    let ingest = store.begin();
    let file = root.path().join("file");
    fs::write(&file, b"four").unwrap();
    let mut large = ingest.blob_writer();
    large.write_all(&vec![7; IN_MEMORY_MAX_BYTES + 1]).unwrap();
    large.commit().unwrap();
    ingest.put_blob(b"four").unwrap();
    ingest.put_blob(b"four").unwrap();
    ingest.copy(&file).unwrap();
    ingest.adopt(&file).unwrap();
    let expected = crate::Brought {
        blobs_written: 2,
        bytes_written: IN_MEMORY_MAX_BYTES as u64 + 1 + 4,
        blobs_known: 3,
        bytes_known: 12,
    };
    assert_eq!(store.brought(), expected);
}
