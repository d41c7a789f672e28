//! Uppers as overlayfs writes them, without overlayfs: also those that only another kernel writes.

use std::path::PathBuf;

use store::fixtures::{
    MemoryTrees, Model, file, linked, model, name, path, read_model, store_model,
};
use store::{BlobId, Content, Found, Metadata, TreeRef};

use super::merge;
use crate::capture::upper::{UpperContent, UpperDirectory, UpperEntry, UpperLeaf};
use crate::error::Error;

/// A directory of an upper.
fn directory<const N: usize>(entries: [(&str, UpperEntry); N]) -> UpperDirectory {
    UpperDirectory {
        path: PathBuf::new(),
        metadata: Metadata::default_directory(),
        opaque: false,
        redirect: None,
        entries: entries
            .into_iter()
            .map(|(text, entry)| (name(text), entry))
            .collect(),
    }
}

fn moved(from: &str, directory: UpperDirectory) -> UpperDirectory {
    UpperDirectory {
        redirect: Some(from.into()),
        ..directory
    }
}

fn leaf(content: UpperContent, inode: Option<u64>) -> UpperEntry {
    let metadata = Metadata {
        mode: 0o644,
        ..Metadata::default_directory()
    };
    UpperEntry::Leaf(UpperLeaf {
        metadata,
        content,
        inode,
    })
}

fn metacopy(redirect: Option<&str>) -> UpperEntry {
    leaf(
        UpperContent::Lower {
            redirect: redirect.map(Into::into),
        },
        None,
    )
}

fn base(trees: &MemoryTrees) -> TreeRef {
    let base = model([
        ("a/one", Found::Leaf(file(b"1"))),
        ("b/two", Found::Leaf(file(b"2"))),
        ("b/deep/three", Found::Leaf(file(b"3"))),
        ("twin", Found::Leaf(linked(file(b"t"), "twins"))),
        ("twin too", Found::Leaf(linked(file(b"t"), "twins"))),
    ]);
    store_model(&base, trees).unwrap()
}

/// Paths and contents of the files of what comes out.
fn check(directories: &[UpperDirectory], expect: &[(&str, &[u8])]) -> Model {
    let trees = MemoryTrees::new();
    let base = base(&trees);
    let new = (BlobId::of(b"new"), 3);
    let tree = merge(directories, &[new], Some(base), &trees).unwrap();
    let found = read_model(tree, &trees).unwrap();
    let files: Vec<(String, BlobId)> = found
        .iter()
        .filter_map(|(path, found)| match found {
            Found::Leaf(store::Leaf {
                content: Content::File { blob, .. },
                ..
            }) => Some((path.to_string().trim_start_matches('/').to_owned(), *blob)),
            _ => None,
        })
        .collect();
    let expect: Vec<_> = expect
        .iter()
        .map(|(path, content)| ((*path).to_owned(), BlobId::of(content)))
        .collect();
    assert_eq!(files, expect);
    found
}

const TWINS: [(&str, &[u8]); 2] = [("twin", b"t"), ("twin too", b"t")];

#[test]
fn two_directories_trade_places() {
    let upper = [
        directory([
            ("a", UpperEntry::Directory(1)),
            ("b", UpperEntry::Directory(2)),
        ]),
        moved("b", directory([])),
        moved("a", directory([])),
    ];
    let expect: [(&str, &[u8]); 3] = [("a/deep/three", b"3"), ("a/two", b"2"), ("b/one", b"1")];
    check(&upper, &[&expect[..], &TWINS].concat());
}

#[test]
fn a_directory_moves_into_another_that_has_moved() {
    // mv a b/a; mv b c
    let upper = [
        directory([
            ("a", UpperEntry::Whiteout),
            ("b", UpperEntry::Whiteout),
            ("c", UpperEntry::Directory(1)),
        ]),
        moved(
            "/b",
            directory([("a", UpperEntry::Directory(2)), ("two", metacopy(None))]),
        ),
        moved(
            "/a",
            directory([("zero", leaf(UpperContent::File(0), None))]),
        ),
    ];
    let expect: [(&str, &[u8]); 4] = [
        ("c/a/one", b"1"),
        ("c/a/zero", b"new"),
        ("c/deep/three", b"3"),
        ("c/two", b"2"),
    ];
    check(&upper, &[&expect[..], &TWINS].concat());
}

#[test]
fn what_is_opaque_or_not_a_directory_below_does_not_merge() {
    let upper = [
        directory([
            ("a", UpperEntry::Directory(1)),
            ("b", UpperEntry::Directory(2)),
            ("twin", UpperEntry::Directory(3)),
        ]),
        UpperDirectory {
            opaque: true,
            ..moved("/b", directory([]))
        },
        directory([
            ("two", UpperEntry::Directory(4)),
            ("deep", UpperEntry::Whiteout),
        ]),
        directory([]),
        directory([("x", leaf(UpperContent::File(0), None))]),
    ];
    let found = check(&upper, &[("b/two/x", b"new"), ("twin too", b"t")]);
    assert_eq!(found.len(), 7);
}

#[test]
fn metadata_only_copies_find_their_content_wherever_it_was() {
    let upper = [
        directory([
            ("moved here", metacopy(Some("/b/deep/three"))),
            ("beside", metacopy(Some("twin"))),
            ("b", UpperEntry::Directory(1)),
        ]),
        directory([
            ("deep", UpperEntry::Directory(2)),
            ("two", UpperEntry::Whiteout),
        ]),
        directory([
            ("renamed", metacopy(Some("three"))),
            ("three", UpperEntry::Whiteout),
        ]),
    ];
    let expect: [(&str, &[u8]); 4] = [
        ("a/one", b"1"),
        ("b/deep/renamed", b"3"),
        ("beside", b"t"),
        ("moved here", b"3"),
    ];
    check(&upper, &[&expect[..], &TWINS].concat());
}

#[test]
fn a_copy_of_nothing_is_refused_and_named() {
    let trees = MemoryTrees::new();
    let base = base(&trees);
    let wrong = [
        None,
        Some("/a"),
        Some("/gone"),
        Some("gone"),
        Some("/../a/one"),
        Some(""),
    ];
    for redirect in wrong {
        let upper = [directory([("copy", metacopy(redirect))])];
        for base in [Some(base), None] {
            let merged = merge(&upper, &[], base, &trees);
            let Err(Error::Capture { path, .. }) = merged else {
                panic!("{redirect:?}: {merged:?}");
            };
            assert_eq!(path, "/copy");
        }
    }
}

#[test]
fn names_of_one_inode_become_one_group_and_others_do_not() {
    let shared = || leaf(UpperContent::File(0), Some(7));
    let upper = [
        directory([
            ("x", shared()),
            ("a", UpperEntry::Directory(1)),
            ("alone", leaf(UpperContent::File(0), Some(8))),
        ]),
        directory([("y", shared())]),
    ];
    let expect: [(&str, &[u8]); 8] = [
        ("a/one", b"1"),
        ("a/y", b"new"),
        ("alone", b"new"),
        ("b/deep/three", b"3"),
        ("b/two", b"2"),
        ("twin", b"t"),
        ("twin too", b"t"),
        ("x", b"new"),
    ];
    let found = check(&upper, &expect);
    let link = |text: &str| match &found[&path(text)] {
        Found::Leaf(leaf) => leaf.link,
        Found::Directory(_) => None,
    };
    assert_eq!(link("x"), link("a/y"));
    assert!(link("x").is_some() && link("x") != link("alone") && link("x") != link("twin"));
    assert_eq!(link("twin"), link("twin too"));
    assert_eq!(link("a/one"), None);
}

#[test]
fn a_directory_that_is_only_copied_up_changes_nothing() {
    let trees = MemoryTrees::new();
    let base = base(&trees);
    let upper = [directory([("b", UpperEntry::Directory(1))]), directory([])];
    assert_eq!(merge(&upper, &[], Some(base), &trees).unwrap(), base);
}
