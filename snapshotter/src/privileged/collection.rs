//! Leases, garbage collection and repair.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use store::fixtures::read_model;
use store::{Batch, BlobId, Content, Durability, Found, Leaf, Timestamp, TreeId, TreeRef, fsck};

use super::sandbox::{Sandbox, stacking, unmount};
use crate::gc::{self, Collected, Forgotten};
use crate::leases::{self, Lease, Reference};
use crate::manager::Options;
use crate::repair::{Repaired, repair};
use crate::snapshots::{Labels, Snapshots};
use crate::{Error, Method};

fn lease(sandbox: &Sandbox, id: &str, references: Vec<Reference>) {
    let mut batch = Batch::new();
    leases::put(
        &mut batch,
        &Lease {
            id: id.into(),
            created: Timestamp::EPOCH,
            references,
        },
    );
    sandbox.store().write(batch, Durability::Process).unwrap();
}

fn snapshot(name: &str) -> Reference {
    Reference::Snapshot(name.into())
}

fn keys(sandbox: &Sandbox) -> Vec<String> {
    let mut keys = Vec::new();
    let walked = sandbox.manager.walk(&mut |info| {
        keys.push(info.key);
        Ok(())
    });
    walked.unwrap();
    keys
}

/// A step that writes the file `name` with content `name`.
fn step(sandbox: &Sandbox, parent: &str, name: &str) -> TreeRef {
    sandbox.step(parent, name, |root| {
        fs::write(root.join(name), name).unwrap()
    })
}

fn blob(content: &str) -> BlobId {
    BlobId::of(content.as_bytes())
}

fn has_blob(sandbox: &Sandbox, content: &str) -> bool {
    let row = sandbox.store().blob_size(blob(content)).unwrap().is_some();
    let file = sandbox.store().objects().path(blob(content)).exists();
    assert_eq!(row, file, "row and file of {content}");
    row
}

fn check(sandbox: &Sandbox) -> fsck::Report {
    fsck::check(
        sandbox.store(),
        &fsck::Options {
            quick: false,
            progress: &|_| {},
        },
    )
    .unwrap()
}

fn repaired(sandbox: &Sandbox) -> Repaired {
    repair(
        &sandbox.manager,
        &fsck::Options {
            quick: false,
            progress: &|_| {},
        },
    )
    .unwrap()
}

#[test]
fn what_a_lease_names_stays_with_its_ancestors_and_the_rest_goes() {
    for method in [Method::Kernel, Method::Directories] {
        let Some(sandbox) = Sandbox::new(stacking(method)) else {
            return;
        };
        step(&sandbox, "", "a");
        step(&sandbox, "a", "b");
        step(&sandbox, "b", "c");
        step(&sandbox, "a", "d");
        step(&sandbox, "", "e");
        lease(
            &sandbox,
            "build/1",
            vec![snapshot("b"), snapshot("never there")],
        );
        let planned = gc::collect(&sandbox.manager, true).unwrap();
        assert_eq!(planned.snapshots, 3);
        assert_eq!(
            keys(&sandbox),
            ["a", "b", "c", "d", "e"],
            "a dry run changes nothing"
        );
        let collected = gc::collect(&sandbox.manager, false).unwrap();
        assert_eq!(collected.snapshots, 3);
        assert_eq!(keys(&sandbox), ["a", "b"]);
        for (content, stays) in [
            ("a", true),
            ("b", true),
            ("c", false),
            ("d", false),
            ("e", false),
        ] {
            assert_eq!(has_blob(&sandbox, content), stays, "{content}");
        }
        assert!(check(&sandbox).is_clean());
        sandbox.show("b", |root| {
            assert_eq!(fs::read(root.join("a")).unwrap(), b"a")
        });
        let mut batch = Batch::new();
        leases::delete(&mut batch, "build/1");
        sandbox.store().write(batch, Durability::Process).unwrap();
        assert_eq!(gc::collect(&sandbox.manager, false).unwrap().snapshots, 2);
        assert_eq!(
            sandbox.store().rows().scan(store::Table::Tree, b"").count(),
            0
        );
        let nothing = gc::collect(&sandbox.manager, false).unwrap();
        assert_eq!(nothing, Collected::default());
    }
}

#[test]
fn what_a_dry_run_tells_is_what_a_collection_does() {
    let Some(sandbox) = Sandbox::new(stacking(Method::Kernel)) else {
        return;
    };
    step(&sandbox, "", "a");
    step(&sandbox, "a", "b");
    lease(&sandbox, "build/1", vec![snapshot("a")]);
    let planned = gc::collect(&sandbox.manager, true).unwrap();
    let done = gc::collect(&sandbox.manager, false).unwrap();
    assert_eq!(planned.snapshots, done.snapshots);
    assert_eq!(planned.store, done.store, "dry run, then collection");
}

#[test]
fn leases_keep_single_trees_and_blobs() {
    let Some(sandbox) = Sandbox::new(stacking(Method::Kernel)) else {
        return;
    };
    let a = step(&sandbox, "", "a");
    step(&sandbox, "", "b");
    step(&sandbox, "", "c");
    lease(&sandbox, "tree", vec![Reference::Tree(a.id)]);
    lease(&sandbox, "blob", vec![Reference::Blob(blob("b"))]);
    gc::collect(&sandbox.manager, false).unwrap();
    assert!(keys(&sandbox).is_empty());
    assert!(sandbox.store().has_tree(a.id).unwrap());
    assert!(has_blob(&sandbox, "a") && has_blob(&sandbox, "b") && !has_blob(&sandbox, "c"));
}

#[test]
fn a_lease_that_was_made_anew_meanwhile_is_not_given_up() {
    let Some(sandbox) = Sandbox::new(stacking(Method::Kernel)) else {
        return;
    };
    for name in ["a", "b"] {
        let tree = step(&sandbox, "", name);
        lease(&sandbox, name, vec![Reference::Tree(tree.id)]);
    }
    let seen = |id: &str| leases::find(sandbox.store(), id).unwrap().unwrap();
    let row = |id: &str| (store::Table::Image, id.as_bytes().to_vec());
    let forgotten = Forgotten {
        unchanged: vec![(seen("a"), row("a")), (seen("b"), row("b"))],
        ..Forgotten::default()
    };
    // Somebody names something else like that before the collection begins.
    let other = step(&sandbox, "", "c");
    lease(&sandbox, "b", vec![Reference::Tree(other.id)]);
    gc::collect_without(&sandbox.manager, &forgotten, false).unwrap();
    assert!(!has_blob(&sandbox, "a") && !has_blob(&sandbox, "b") && has_blob(&sandbox, "c"));
    assert_eq!(leases::all(sandbox.store(), "").unwrap().len(), 1);
}

#[test]
fn what_is_pinned_or_found_by_work_stays_with_all_below_it() {
    let Some(sandbox) = Sandbox::new(stacking(Method::Kernel)) else {
        return;
    };
    step(&sandbox, "", "a");
    step(&sandbox, "a", "b");
    step(&sandbox, "", "c");
    step(&sandbox, "", "d");
    let pin = sandbox.store().pin("b");
    let work = sandbox.store().work();
    sandbox.manager.tree("c").unwrap();
    assert_eq!(gc::collect(&sandbox.manager, true).unwrap().snapshots, 1);
    assert_eq!(gc::collect(&sandbox.manager, false).unwrap().snapshots, 1);
    assert_eq!(keys(&sandbox), ["a", "b", "c"]);
    assert_eq!(
        read_model(sandbox.manager.tree("b").unwrap(), sandbox.store())
            .unwrap()
            .len(),
        3
    );
    drop(pin);
    drop(work);
    gc::collect(&sandbox.manager, false).unwrap();
    assert!(keys(&sandbox).is_empty());
}

#[test]
fn an_open_snapshot_keeps_what_it_rests_on() {
    for method in [Method::Kernel, Method::Directories] {
        let Some(sandbox) = Sandbox::new(stacking(method)) else {
            return;
        };
        step(&sandbox, "", "a");
        step(&sandbox, "a", "b");
        step(&sandbox, "b", "c");
        let mounts = sandbox
            .manager
            .prepare("active", "b", Labels::new())
            .unwrap();
        let (guard, target) = sandbox.mount(&mounts);
        fs::write(target.join("new"), "new").unwrap();
        assert_eq!(gc::collect(&sandbox.manager, false).unwrap().snapshots, 1);
        assert_eq!(keys(&sandbox), ["a", "active", "b"]);
        assert_eq!(fs::read(target.join("a")).unwrap(), b"a");
        unmount(guard);
        // What its mounts rest on is still there too.
        let (guard, target) = sandbox.mount(&sandbox.manager.mounts("active").unwrap());
        assert_eq!(fs::read(target.join("b")).unwrap(), b"b");
        unmount(guard);
        sandbox
            .manager
            .commit("d", "active", Labels::new())
            .unwrap();
        sandbox.show("d", |root| {
            assert_eq!(fs::read(root.join("new")).unwrap(), b"new")
        });
    }
}

#[test]
fn images_that_no_snapshot_needs_are_unmounted_and_removed() {
    for options in [
        Options::new(Method::Kernel),
        stacking(Method::Kernel),
        stacking(Method::Directories),
    ] {
        let Some(sandbox) = Sandbox::new(options) else {
            return;
        };
        step(&sandbox, "", "a");
        step(&sandbox, "a", "b");
        step(&sandbox, "", "c");
        for name in ["b", "c"] {
            sandbox.show(name, |root| assert!(root.join(name).exists()));
        }
        let files = || {
            let count = |name: &str| fs::read_dir(sandbox.root().join(name)).unwrap().count();
            count("meta") + count("checkouts")
        };
        let mounts = || {
            mount::mounts_below(&sandbox.root().join("mounts"))
                .unwrap()
                .len()
        };
        let (files_before, mounts_before) = (files(), mounts());
        lease(&sandbox, "build/1", vec![snapshot("b")]);
        let collected = gc::collect(&sandbox.manager, false).unwrap();
        assert!(collected.image_bytes > 0, "{collected:?}");
        assert_eq!(files(), files_before - 1, "one of c was there");
        if options.method == Method::Kernel {
            assert_eq!(mounts(), mounts_before - 1);
        }
        assert_eq!(gc::collect(&sandbox.manager, false).unwrap().image_bytes, 0);
        sandbox.show("b", |root| {
            assert_eq!(fs::read(root.join("a")).unwrap(), b"a")
        });
    }
}

#[test]
fn steps_and_collections_do_not_disturb_each_other() {
    let Some(sandbox) = Sandbox::new(stacking(Method::Kernel)) else {
        return;
    };
    step(&sandbox, "", "base");
    lease(&sandbox, "image/base", vec![snapshot("base")]);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let collector = scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                gc::collect(&sandbox.manager, false).unwrap();
            }
        });
        let builders: Vec<_> = (0..3)
            .map(|builder| {
                let sandbox = &sandbox;
                scope.spawn(move || {
                    let mut parent = "base".to_owned();
                    for number in 0..15 {
                        let key = sandbox.write(&parent, &format!("{builder}-{number}"), |root| {
                            fs::write(root.join("file"), format!("{}", number / 2)).unwrap();
                        });
                        let committed = sandbox.manager.commit_as(&key, |tree| {
                            let name = format!("{builder}/{}", tree.id);
                            let mut batch = Batch::new();
                            let references = vec![snapshot(&name)];
                            let id = format!("build/{builder}");
                            let created = Timestamp::EPOCH;
                            leases::put(
                                &mut batch,
                                &Lease {
                                    id,
                                    created,
                                    references,
                                },
                            );
                            (name, batch)
                        });
                        parent = committed.unwrap().0;
                    }
                    sandbox.show(&parent, |root| {
                        assert_eq!(fs::read(root.join("file")).unwrap(), b"7");
                        assert_eq!(fs::read(root.join("base")).unwrap(), b"base");
                    });
                })
            })
            .collect();
        let builders: Vec<_> = builders.into_iter().map(|builder| builder.join()).collect();
        done.store(true, Ordering::SeqCst);
        collector.join().unwrap();
        builders.into_iter().for_each(|builder| builder.unwrap());
    });
    assert!(check(&sandbox).is_clean());
}

#[test]
fn leases_are_found_by_the_beginning_of_their_ids() {
    let Some(sandbox) = Sandbox::new(stacking(Method::Kernel)) else {
        return;
    };
    let tree = TreeId::from_bytes([7; 32]);
    let references = vec![
        snapshot("a b/ü"),
        Reference::Tree(tree),
        Reference::Blob(blob("x")),
    ];
    lease(&sandbox, "image/one", references.clone());
    lease(&sandbox, "image/two", vec![]);
    lease(&sandbox, "record/three", vec![snapshot("c")]);
    let ids = |prefix: &str| -> Vec<String> {
        leases::all(sandbox.store(), prefix)
            .unwrap()
            .into_iter()
            .map(|lease| lease.id)
            .collect()
    };
    assert_eq!(ids(""), ["image/one", "image/two", "record/three"]);
    assert_eq!(ids("image/"), ["image/one", "image/two"]);
    assert_eq!(ids("none"), [""; 0]);
    assert_eq!(
        leases::all(sandbox.store(), "image/one").unwrap()[0].references,
        references
    );
    lease(&sandbox, "image/one", vec![snapshot("new")]);
    let replaced = &leases::all(sandbox.store(), "image/one").unwrap()[0];
    assert_eq!(replaced.references, [snapshot("new")]);
}

fn corrupt(sandbox: &Sandbox, content: &str) {
    let path = sandbox.store().objects().path(blob(content));
    assert!(path.exists(), "{content}");
    fs::write(path, "X".repeat(content.len())).unwrap();
}

#[test]
fn a_repair_gives_up_what_rests_on_a_corrupt_object_and_nothing_else() {
    let Some(sandbox) = Sandbox::new(stacking(Method::Kernel)) else {
        return;
    };
    step(&sandbox, "", "a");
    step(&sandbox, "a", "b");
    step(&sandbox, "b", "c");
    // It no longer has the file that will break, but rests on a layer that has.
    sandbox.step("b", "without", |root| {
        fs::remove_file(root.join("b")).unwrap()
    });
    step(&sandbox, "a", "d");
    step(&sandbox, "", "e");
    sandbox
        .manager
        .prepare("active", "c", Labels::new())
        .unwrap();
    sandbox.manager.prepare("free", "d", Labels::new()).unwrap();
    let c = sandbox.manager.tree("c").unwrap();
    lease(
        &sandbox,
        "image/c",
        vec![
            snapshot("c"),
            Reference::Tree(c.id),
            Reference::Blob(blob("b")),
        ],
    );
    corrupt(&sandbox, "b");
    let done = repaired(&sandbox);
    assert_eq!(done.snapshots, ["active", "b", "c", "without"]);
    assert_eq!(keys(&sandbox), ["a", "d", "e", "free"]);
    let kept = &leases::all(sandbox.store(), "image/c").unwrap()[0].references;
    assert_eq!(
        *kept,
        [snapshot("c")],
        "dangling names of snapshots do no harm"
    );
    assert!(check(&sandbox).is_clean());
    sandbox.show("d", |root| {
        assert_eq!(fs::read(root.join("a")).unwrap(), b"a")
    });
    assert!(repaired(&sandbox).snapshots.is_empty());
    // It can all be made again, and collected.
    step(&sandbox, "a", "b");
    sandbox.show("b", |root| {
        assert_eq!(fs::read(root.join("b")).unwrap(), b"b")
    });
    gc::collect(&sandbox.manager, false).unwrap();
    assert_eq!(keys(&sandbox), ["a", "d", "free"]);
}

#[test]
fn a_repair_drops_rows_that_cannot_be_read() {
    let Some(sandbox) = Sandbox::new(stacking(Method::Kernel)) else {
        return;
    };
    step(&sandbox, "", "a");
    step(&sandbox, "a", "b");
    lease(&sandbox, "image/a", vec![snapshot("a")]);
    let mut batch = Batch::new();
    batch.put(store::Table::Snapshot, b"torn", b"\x01\x03");
    batch.put(store::Table::Snapshot, b"b", b"");
    batch.put(store::Table::Lease, b"torn", b"\xff");
    sandbox.store().write(batch, Durability::Process).unwrap();
    gc::collect(&sandbox.manager, false).unwrap_err();
    assert_eq!(repaired(&sandbox).snapshots, ["b", "torn"]);
    assert_eq!(keys(&sandbox), ["a"]);
    gc::collect(&sandbox.manager, false).unwrap();
    assert_eq!(keys(&sandbox), ["a"]);
}

#[test]
fn a_repair_of_what_is_whole_changes_nothing() {
    let Some(sandbox) = Sandbox::new(stacking(Method::Kernel)) else {
        return;
    };
    let tree = step(&sandbox, "", "a");
    step(&sandbox, "a", "b");
    assert!(repaired(&sandbox).snapshots.is_empty());
    assert_eq!(keys(&sandbox), ["a", "b"]);
    let model = read_model(tree, sandbox.store()).unwrap();
    let is_file = |found: &&Found| {
        matches!(
            found,
            Found::Leaf(Leaf {
                content: Content::File { .. },
                ..
            })
        )
    };
    assert_eq!(model.values().filter(is_file).count(), 1);
    assert!(matches!(
        sandbox.manager.stat("c"),
        Err(Error::NotFound { .. })
    ));
}
