//! Tests of deltas: `diff` and `apply` are inverse, and each rule of `apply` by itself.

use proptest::prelude::*;

use super::*;
use crate::fixtures::random::{any_delta, any_model};
use crate::fixtures::{
    self, MemoryTrees, Model, completed, directory, file, linked, metadata, model, name, path,
    read_model, store_model, symlink,
};

/// What applying means, in terms of a plain map.
fn apply_to_model(delta: &DeltaDirectory, at: &RelPath, model: &mut Model) {
    let lower = match model.get(at) {
        Some(Found::Directory(metadata)) => Some(metadata.clone()),
        _ => None,
    };
    if lower.is_none() || delta.opaque {
        model.retain(|path, _| !path.starts_with(at));
    }
    let metadata = delta
        .metadata
        .clone()
        .or(lower)
        .unwrap_or(Metadata::default_directory());
    model.insert(at.clone(), Found::Directory(metadata));
    for (name, entry) in &delta.entries {
        let path = at.join(name);
        match entry {
            DeltaEntry::Directory(child) => apply_to_model(child, &path, model),
            DeltaEntry::Whiteout => model.retain(|other, _| !other.starts_with(&path)),
            DeltaEntry::Leaf(leaf) => {
                model.retain(|other, _| !other.starts_with(&path));
                model.insert(path, Found::Leaf(leaf.clone()));
            }
            DeltaEntry::Link(_) | DeltaEntry::Graft(_) => panic!("not in random deltas"),
        }
    }
}

proptest! {
    #[test]
    fn applying_a_difference_gives_the_new_tree(old in any_model(), new in any_model()) {
        let trees = MemoryTrees::new();
        let old = store_model(&old, &trees).unwrap();
        let new = store_model(&new, &trees).unwrap();
        let delta = diff(Some(old), new, &trees).unwrap();
        prop_assert_eq!(delta.apply(Some(old), &trees).unwrap(), new);
        let whole = diff(None, new, &trees).unwrap();
        prop_assert_eq!(whole.apply(None, &trees).unwrap(), new);
    }

    #[test]
    fn applying_does_what_it_does_to_a_map(old in any_model(), delta in any_delta()) {
        let trees = MemoryTrees::new();
        let base = store_model(&old, &trees).unwrap();
        let result = delta.apply(Some(base), &trees).unwrap();
        let mut expected = old;
        apply_to_model(&delta.root, &RelPath::root(), &mut expected);
        prop_assert_eq!(read_model(result, &trees).unwrap(), expected);
    }

    #[test]
    fn a_small_change_of_a_tree_comes_back(old in any_model(), delta in any_delta()) {
        let trees = MemoryTrees::new();
        let old = store_model(&old, &trees).unwrap();
        let new = delta.apply(Some(old), &trees).unwrap();
        let found = diff(Some(old), new, &trees).unwrap();
        prop_assert_eq!(found.apply(Some(old), &trees).unwrap(), new);
        prop_assert_eq!(found.is_empty(), old.id == new.id);
    }
}

fn delta<const N: usize>(entries: [(&str, DeltaEntry); N]) -> Delta {
    let entries = entries
        .into_iter()
        .map(|(text, entry)| (name(text), entry))
        .collect();
    Delta {
        root: DeltaDirectory {
            metadata: None,
            opaque: false,
            entries,
        },
    }
}

fn below<const N: usize>(entries: [(&str, DeltaEntry); N]) -> DeltaEntry {
    DeltaEntry::Directory(delta(entries).root)
}

fn leaf(content: &[u8]) -> Found {
    Found::Leaf(file(content))
}

fn applied(old: &Model, delta: &Delta) -> Result<Model> {
    let trees = MemoryTrees::new();
    let base = store_model(old, &trees)?;
    read_model(delta.apply(Some(base), &trees)?, &trees)
}

#[test]
fn each_kind_of_entry_replaces_each_other() {
    let kinds = [
        leaf(b"x"),
        Found::Leaf(symlink("elsewhere")),
        directory(0o711),
    ];
    for before in &kinds {
        for after in &kinds {
            let mut old = model([("a", before.clone())]);
            if matches!(before, Found::Directory(_)) {
                old.insert(path("a/below"), leaf(b"below"));
            }
            let trees = MemoryTrees::new();
            let old = store_model(&old, &trees).unwrap();
            let new = store_model(&model([("a", after.clone())]), &trees).unwrap();
            let delta = diff(Some(old), new, &trees).unwrap();
            assert_eq!(
                delta.apply(Some(old), &trees).unwrap(),
                new,
                "{before:?} -> {after:?}"
            );
        }
    }
}

#[test]
fn an_opaque_directory_hides_what_is_below_and_keeps_its_attributes() {
    let old = model([
        ("d", directory(0o700)),
        ("d/old/deep", leaf(b"x")),
        ("kept", leaf(b"y")),
    ]);
    let entries = [(name("new"), DeltaEntry::Leaf(file(b"z")))].into();
    let opaque = DeltaDirectory {
        metadata: None,
        opaque: true,
        entries,
    };
    let new = applied(&old, &delta([("d", DeltaEntry::Directory(opaque))])).unwrap();
    let expected = model([
        ("d", directory(0o700)),
        ("d/new", leaf(b"z")),
        ("kept", leaf(b"y")),
    ]);
    assert_eq!(new, completed(expected));
}

#[test]
fn a_whiteout_of_nothing_is_fine() {
    let old = completed(model([("a", leaf(b"x"))]));
    let change = delta([("never", DeltaEntry::Whiteout), ("a", DeltaEntry::Whiteout)]);
    assert_eq!(applied(&old, &change).unwrap(), completed(Model::new()));
}

#[test]
fn a_directory_over_a_leaf_replaces_it() {
    let old = model([("a", leaf(b"x"))]);
    let new = applied(
        &old,
        &delta([("a", below([("b", DeltaEntry::Leaf(file(b"y")))]))]),
    )
    .unwrap();
    assert_eq!(new, completed(model([("a/b", leaf(b"y"))])));
}

#[test]
fn a_hard_link_makes_both_names_one_inode() {
    let old = model([("a/target", leaf(b"x")), ("b", directory(0o755))]);
    let link = || DeltaEntry::Link(path("a/target"));
    let new = applied(
        &old,
        &delta([("b", below([("one", link()), ("two", link())]))]),
    )
    .unwrap();
    let group = |text: &str| match &new[&path(text)] {
        Found::Leaf(leaf) => leaf.link.expect("it is linked"),
        Found::Directory(_) => panic!("{text} is a directory"),
    };
    assert_eq!(group("a/target"), group("b/one"));
    assert_eq!(group("a/target"), group("b/two"));
}

#[test]
fn a_hard_link_joins_the_group_that_its_target_is_in() {
    let old = model([
        ("a", Found::Leaf(linked(file(b"x"), "group"))),
        ("b", Found::Leaf(linked(file(b"x"), "group"))),
    ]);
    let new = applied(&old, &delta([("c", DeltaEntry::Link(path("b")))])).unwrap();
    assert_eq!(new[&path("c")], Found::Leaf(linked(file(b"x"), "group")));
}

#[test]
fn equal_links_in_different_trees_are_different_groups() {
    let change = delta([("b", DeltaEntry::Link(path("a")))]);
    let one = applied(&model([("a", leaf(b"x"))]), &change).unwrap();
    let other = applied(&model([("a", leaf(b"x")), ("c", leaf(b"y"))]), &change).unwrap();
    assert_ne!(one[&path("b")], other[&path("b")]);
}

#[test]
fn a_hard_link_to_nothing_or_to_a_directory_is_refused_with_both_names() {
    let old = model([("dir/file", leaf(b"x")), ("gone", leaf(b"x"))]);
    for target in ["nothing", "dir", "dir/file/below", ""] {
        let change = delta([
            ("gone", DeltaEntry::Whiteout),
            ("link", DeltaEntry::Link(path(target))),
        ]);
        let error = applied(&old, &change).unwrap_err();
        let text = error.to_string();
        assert!(
            matches!(error, Error::LinkTargetMissing { .. }),
            "{target}: {text}"
        );
        assert!(text.contains("/link") && text.contains(target), "{text}");
    }
}

#[test]
fn a_hard_link_to_a_lower_file_that_the_delta_deletes_keeps_the_file() {
    let old = model([("gone", leaf(b"x"))]);
    let change = delta([
        ("gone", DeltaEntry::Whiteout),
        ("link", DeltaEntry::Link(path("gone"))),
    ]);
    let new = applied(&old, &change).unwrap();
    assert_eq!(new.get(&path("gone")), None);
    assert_eq!(new[&path("link")], old[&path("gone")]);
}

#[test]
fn a_graft_replaces_and_never_merges() {
    let trees = MemoryTrees::new();
    let graft = store_model(&model([("x/y", leaf(b"grafted"))]), &trees).unwrap();
    let old = store_model(&model([("a/old", leaf(b"x"))]), &trees).unwrap();
    let (reads, change) = (trees.reads(), delta([("a", DeltaEntry::Graft(graft))]));
    let new = change.apply(Some(old), &trees).unwrap();
    assert_eq!(
        trees.reads() - reads,
        1,
        "the root alone is read: a copy moves no bytes"
    );
    let expected = completed(model([("a/x/y", leaf(b"grafted"))]));
    assert_eq!(read_model(new, &trees).unwrap(), expected);
}

#[test]
fn equal_sub_trees_are_never_read() {
    let trees = MemoryTrees::new();
    let mut wide = Model::new();
    for number in 0..50 {
        wide.insert(path(&format!("{number}/sub/file")), leaf(b"x"));
    }
    let old = store_model(&wide, &trees).unwrap();
    wide.insert(path("7/sub/file"), leaf(b"y"));
    wide.insert(path("8/new"), leaf(b"y"));
    let new = store_model(&wide, &trees).unwrap();
    let reads = trees.reads();
    let change = diff(Some(old), new, &trees).unwrap();
    assert_eq!(
        trees.reads() - reads,
        8,
        "the root, 7, 7/sub and 8 of either side"
    );
    assert_eq!(change.root.entries.len(), 2);
    assert!(diff(Some(new), new, &trees).unwrap().is_empty());
}

#[test]
fn trees_deeper_than_any_path_are_compared_and_restored() {
    let work = || {
        let trees = MemoryTrees::new();
        let chain = |content: &[u8]| {
            let mut tree = store_model(&model([("file", leaf(content))]), &trees).unwrap();
            for _ in 0..3_000 {
                let mut outer = crate::Tree::empty(metadata(0o755));
                outer.entries.insert(name("d"), Entry::Directory(tree));
                tree = trees.put_tree(outer).unwrap();
            }
            tree
        };
        let (old, new) = (chain(b"x"), chain(b"y"));
        let change = diff(Some(old), new, &trees).unwrap();
        assert_eq!(change.apply(Some(old), &trees).unwrap(), new);
    };
    // The stack of a tokio worker, in a debug build.
    std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(work)
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn usage_counts_inodes_once_and_whiteouts_too() {
    let trees = MemoryTrees::new();
    let graft = store_model(&model([("f", leaf(b"1234"))]), &trees).unwrap();
    let change = delta([
        ("a", DeltaEntry::Leaf(linked(file(b"123456"), "group"))),
        ("b", DeltaEntry::Leaf(linked(file(b"123456"), "group"))),
        ("c", DeltaEntry::Whiteout),
        ("d", DeltaEntry::Graft(graft)),
        ("e", below([("x", DeltaEntry::Leaf(symlink("y")))])),
        ("f", DeltaEntry::Link(path("elsewhere"))),
    ]);
    assert_eq!(
        usage(&change),
        Usage {
            bytes: 10,
            inodes: 1 + 1 + 1 + 2 + 2
        }
    );
    assert_eq!(usage(&Delta::default()), Usage::default());
    assert!(Delta::default().is_empty());
    let full = store_model(&fixtures::one_of_everything(), &trees).unwrap();
    let whole = usage(&diff(None, full, &trees).unwrap());
    assert_eq!(whole.inodes, full.inodes, "in a graft each name counts");
}

#[test]
fn bytes_of_files_count_an_inode_with_several_names_once_in_grafts_too() {
    let trees = MemoryTrees::new();
    let linked_leaf = |content: &'static [u8]| DeltaEntry::Leaf(linked(file(content), "group"));
    let inside = delta([
        (
            "d",
            below([("x", linked_leaf(b"123456")), ("y", linked_leaf(b"123456"))]),
        ),
        ("e", DeltaEntry::Leaf(file(b"123456"))),
    ]);
    let graft = inside.apply(None, &trees).unwrap();
    let whole = diff(None, graft, &trees).unwrap();
    assert_eq!(file_bytes(&whole, &trees).unwrap(), 12);
    let change = delta([
        ("a", linked_leaf(b"123456")),
        ("b", DeltaEntry::Whiteout),
        ("c", DeltaEntry::Graft(graft)),
        ("l", DeltaEntry::Link(path("elsewhere"))),
        ("s", DeltaEntry::Leaf(symlink("target"))),
    ]);
    assert_eq!(file_bytes(&change, &trees).unwrap(), 12);
    let parted = delta([("a", linked_leaf(b"1")), ("b", linked_leaf(b"1234"))]);
    assert_eq!(file_bytes(&parted, &trees).unwrap(), 5, "no group any more");
    assert_eq!(file_bytes(&Delta::default(), &trees).unwrap(), 0);
}
