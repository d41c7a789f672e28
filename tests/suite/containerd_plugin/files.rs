//! What containerd applies to snapshots layer by layer looks as `umoci` unpacks it.

use std::fs;

use support::forged_image::{TarEntry, tar_archive};
use support::node::Node;
use support::tree::{self, Tree};
use support::umoci;
use tar::EntryType;

use super::super::mounted_image::layers;

on_each_containerd! {
    whiteouts_and_opaque_directories_of_layers_look_as_another_tool_unpacks_them,
    awkward_layers_look_as_another_tool_unpacks_them,
}

fn directory(name: &str) -> TarEntry<'_> {
    TarEntry {
        name,
        kind: EntryType::Directory,
        link: "",
        body: &[],
    }
}

/// The names alone.
fn names(tree: &Tree) -> Vec<&str> {
    tree.keys().map(String::as_str).collect()
}

/// Without attributes in `trusted.`, which containerd does not apply, and without the numbers of
/// links: overlayfs without an index goes on counting one that was deleted in a higher layer.
fn comparable(mut tree: Tree) -> Tree {
    let kept =
        |word: &&str| !word.starts_with("trusted.") && *word != "links," && !word.starts_with('(');
    for seen in tree.values_mut() {
        *seen = seen.split(' ').filter(kept).collect::<Vec<_>>().join(" ");
    }
    tree
}

/// The files of an image as a view of it and as an active snapshot on it show them.
fn seen_and_expected(node: &Node, name: &str, layers: &[Vec<u8>]) -> (Tree, Tree) {
    let before: Vec<_> = node.rows().into_iter().map(|row| row.key).collect();
    let image = node.publish_layers(name, layers);
    node.pull(&image);
    let rows = node.rows();
    let is_parent = |key: &str| rows.iter().any(|row| row.parent == key);
    let mut new = rows.iter().filter(|row| !before.contains(&row.key));
    let top = new.find(|row| !is_parent(&row.key)).unwrap().key.clone();
    let (view, active) = (format!("{name}.view"), format!("{name}.active"));
    node.view(&view, &top);
    let seen = tree::list(node.mount(&view).path());
    node.snapshots(["prepare", &active, &top]).succeeded();
    tree::assert_same(&seen, &tree::list(node.mount(&active).path()));
    for key in [view, active] {
        node.snapshots(["rm", &key]).succeeded();
    }
    let bundle = node.path(format!("{name}.bundle"));
    let expected = umoci::files(&node.path(format!("{name}.layout")), &bundle);
    fs::remove_dir_all(bundle).unwrap();
    (comparable(seen), comparable(expected))
}

/// Deletes files and directories, brings them back as something else, and hides what is below.
fn whiteouts() -> [Vec<u8>; 3] {
    [
        tar_archive(&[
            directory("kept"),
            TarEntry::file("kept/file", b"1"),
            directory("deleted"),
            TarEntry::file("deleted/inside", b"1"),
            directory("opaque"),
            TarEntry::file("opaque/lower", b"1"),
            TarEntry::file("file", b"1"),
            TarEntry::file("linked", b"one content"),
            TarEntry::hard_link("link", "linked"),
        ]),
        tar_archive(&[
            TarEntry::file(".wh.deleted", b""),
            TarEntry::file(".wh.file", b""),
            directory("opaque"),
            TarEntry::file("opaque/.wh..wh..opq", b""),
            TarEntry::file("opaque/upper", b"2"),
            directory("kept"),
            TarEntry::file("kept/.wh.file", b""),
            TarEntry::file("kept/other", b"2"),
        ]),
        tar_archive(&[
            directory("deleted"),
            TarEntry::file("deleted/back", b"3"),
            directory("file"),
            directory("kept"),
            TarEntry::file("kept/file", b"3"),
            directory("opaque"),
            TarEntry::file("opaque/.wh.upper", b""),
            TarEntry::symlink("opaque/lower", "../kept"),
        ]),
    ]
}

fn whiteouts_and_opaque_directories_of_layers_look_as_another_tool_unpacks_them(node: &mut Node) {
    let layers = whiteouts();
    let expect = [
        &[
            "deleted",
            "deleted/inside",
            "file",
            "kept",
            "kept/file",
            "link",
            "linked",
            "opaque",
            "opaque/lower",
        ][..],
        &[
            "kept",
            "kept/other",
            "link",
            "linked",
            "opaque",
            "opaque/upper",
        ],
        &[
            "deleted",
            "deleted/back",
            "file",
            "kept",
            "kept/file",
            "kept/other",
            "link",
            "linked",
            "opaque",
            "opaque/lower",
        ],
    ];
    for count in 1..=layers.len() {
        let name = format!("whiteouts-{count}");
        let (seen, expected) = seen_and_expected(node, &name, &layers[..count]);
        assert_eq!(names(&seen), expect[count - 1], "of {count} layers");
        tree::assert_same(&seen, &expected);
    }
}

/// The second and third of these layers link to files below them, which containerd cannot apply
/// on overlayfs: it unpacks each layer into an empty directory.
fn awkward_layers_look_as_another_tool_unpacks_them(node: &mut Node) {
    let [first, _, _, fourth] = layers::all().try_into().unwrap();
    let stacks = [("one", vec![first.clone()]), ("two", vec![first, fourth])];
    for (name, layers) in stacks {
        let (seen, expected) = seen_and_expected(node, name, &layers);
        tree::assert_same(&seen, &expected);
    }
}
