//! Tests of trees: the encoding, and what each of the two digests covers.

use proptest::prelude::*;

use super::*;
use crate::error::Error;
use crate::fixtures::random::{any_leaf, any_metadata, any_model, any_name};
use crate::fixtures::{self, MemoryTrees, file, linked, metadata, name, store_model, symlink};

fn any_tree() -> impl Strategy<Value = Tree> {
    let child = (any::<[u8; 32]>(), any::<[u8; 32]>(), any::<u32>()).prop_map(|(id, key, n)| {
        let (id, key) = (TreeId::from_bytes(id), ContentKey::from_bytes(key));
        TreeRef {
            id,
            key,
            inodes: 1 + u64::from(n),
            bytes: u64::from(n) << 20,
            links: 3,
        }
    });
    let entry = prop_oneof![
        any_leaf().prop_map(Entry::Leaf),
        child.prop_map(Entry::Directory)
    ];
    let entries = proptest::collection::btree_map(any_name(), entry, 0..5);
    (any_metadata(), entries).prop_map(|(metadata, entries)| Tree { metadata, entries })
}

proptest! {
    #[test]
    fn a_tree_survives_its_encoding(tree in any_tree()) {
        prop_assert_eq!(Tree::decode(&tree.encode()).unwrap(), tree);
    }

    #[test]
    fn equal_file_systems_have_equal_ids_whatever_made_them(model in any_model()) {
        let (one, other) = (MemoryTrees::new(), MemoryTrees::new());
        let stored = store_model(&model, &one).unwrap();
        prop_assert_eq!(store_model(&model, &other).unwrap(), stored);
        prop_assert_eq!(&fixtures::read_model(stored, &one).unwrap(), &model);
        prop_assert_eq!(stored.inodes, model.len() as u64, "every path counts, the root too");
    }

    #[test]
    fn what_decodes_is_canonical(tree in any_tree(), at: prop::sample::Index, byte: u8) {
        let mut row = tree.encode();
        let at = at.index(row.len());
        row[at] = byte;
        if let Ok(decoded) = Tree::decode(&row) {
            prop_assert_eq!(decoded.encode(), row);
        }
    }

    #[test]
    fn random_bytes_never_panic_the_decoder(bytes: Vec<u8>) {
        if let Ok(tree) = Tree::decode(&bytes) {
            prop_assert_eq!(tree.encode(), bytes);
        }
    }

    #[test]
    fn a_cut_off_row_is_refused(tree in any_tree(), at: prop::sample::Index) {
        let row = tree.encode();
        prop_assert!(Tree::decode(&row[..at.index(row.len())]).is_err());
    }
}

/// A change of this value is a change of the format: see `layout.rs`.
#[test]
fn ids_are_pinned() {
    let trees = MemoryTrees::new();
    let empty = trees
        .put_tree(Tree::empty(Metadata::default_directory()))
        .unwrap();
    let full = store_model(&fixtures::one_of_everything(), &trees).unwrap();
    let found = [
        empty.id.to_string(),
        empty.key.to_string(),
        full.id.to_string(),
        full.key.to_string(),
    ];
    assert_eq!(
        found,
        [
            "5896537c96aff074125adf3ec9130a3c710bef900b8c4f87a7150e3175e6c835",
            "3f58b277e6c6d689a291f6c9ce6e32cfc207a6a62805476fd9da9efedf6df2e6",
            "cafad1c40964386bc5e3e77fefe75af8502cba640b1f3b7c3a246debfb21487f",
            "206d6a7d587b04ec016df04a0bad68376a962f90ec4f6f8b73f0c67a9a3b9247",
        ]
    );
    assert_eq!((full.inodes, full.bytes, full.links), (17, 32, 2));
}

/// One directory with one file, after `change` of either.
fn with(change: impl FnOnce(&mut Tree, &mut Leaf)) -> TreeRef {
    let mut tree = Tree::empty(metadata(0o755));
    let mut leaf = file(b"content");
    change(&mut tree, &mut leaf);
    tree.entries.insert(name("file"), Entry::Leaf(leaf));
    tree.reference().0
}

fn set(xattrs: &mut Xattrs, name: &str) {
    xattrs.insert(name.as_bytes().into(), (*b"value").into());
}

#[test]
fn a_content_key_leaves_out_times_links_and_security_attributes() {
    type Change = fn(&mut Tree, &mut Leaf);
    let plain = with(|_, _| {});
    let changes: [(&str, Change); 6] = [
        ("mtime of a file", |_, leaf| leaf.metadata.mtime.seconds = 7),
        ("mtime of a directory", |tree, _| {
            tree.metadata.mtime.nanoseconds = 7
        }),
        ("hard-link group", |_, leaf| {
            *leaf = linked(leaf.clone(), "group")
        }),
        ("security attribute of a file", |_, leaf| {
            set(&mut leaf.metadata.xattrs, "security.selinux");
        }),
        ("security attribute of a directory", |tree, _| {
            set(&mut tree.metadata.xattrs, "security.ima");
        }),
        ("system attribute", |_, leaf| {
            set(&mut leaf.metadata.xattrs, "system.posix_acl_access");
        }),
    ];
    for (what, change) in changes {
        let changed = with(change);
        assert_eq!(changed.key, plain.key, "{what} is no content");
        assert_ne!(changed.id, plain.id, "{what} is kept nevertheless");
    }
}

#[test]
fn a_content_key_covers_everything_else() {
    type Change = fn(&mut Tree, &mut Leaf);
    let changes: [(&str, Change); 9] = [
        ("nothing", |_, _| {}),
        ("content", |_, leaf| leaf.content = file(b"other").content),
        ("kind", |_, leaf| leaf.content = symlink("content").content),
        ("mode", |_, leaf| leaf.metadata.mode = 0o755),
        ("owner", |_, leaf| leaf.metadata.uid = 1),
        ("group", |tree, _| tree.metadata.gid = 1),
        ("capability", |_, leaf| {
            set(&mut leaf.metadata.xattrs, "security.capability")
        }),
        ("user attribute", |tree, _| {
            set(&mut tree.metadata.xattrs, "user.a")
        }),
        ("another name", |tree, leaf| {
            tree.entries
                .insert(name("other"), Entry::Leaf(leaf.clone()));
        }),
    ];
    let keys: Vec<_> = changes
        .iter()
        .map(|(what, change)| (what, with(change).key))
        .collect();
    for (what, key) in &keys {
        let equal: Vec<_> = keys.iter().filter(|(_, other)| other == key).collect();
        assert_eq!(equal.len(), 1, "{what}: {equal:?}");
    }
}

#[test]
fn the_content_key_of_one_entry_leaves_out_the_same() {
    let plain = Entry::Leaf(file(b"content"));
    let mut dated = file(b"content");
    dated.metadata.mtime.seconds = 9;
    assert_eq!(
        Entry::Leaf(linked(dated, "group")).content_key(),
        plain.content_key()
    );
    assert_ne!(
        Entry::Leaf(file(b"other")).content_key(),
        plain.content_key()
    );
    let tree = with(|_, _| {});
    assert_eq!(Entry::Directory(tree).content_key(), tree.key);
}

#[test]
fn sums_cover_everything_below() {
    let trees = MemoryTrees::new();
    let mut inner = Tree::empty(metadata(0o755));
    inner.entries.insert(name("a"), Entry::Leaf(file(b"12345")));
    inner
        .entries
        .insert(name("b"), Entry::Leaf(linked(file(b"1234567"), "b")));
    let inner = trees.put_tree(inner).unwrap();
    assert_eq!((inner.inodes, inner.bytes, inner.links), (3, 12, 1));
    let mut outer = Tree::empty(metadata(0o755));
    for child in ["x", "y"] {
        outer.entries.insert(name(child), Entry::Directory(inner));
    }
    outer.entries.insert(name("z"), Entry::Leaf(symlink("x")));
    let outer = trees.put_tree(outer).unwrap();
    assert_eq!((outer.inodes, outer.bytes, outer.links), (8, 24, 2));
}

/// Attributes without anything special: mode, owner, group, mtime, no extended attributes.
fn head(row: &mut Encoder) -> &mut Encoder {
    row.number(0o755)
        .number(0)
        .number(0)
        .signed(0)
        .number(0)
        .number(0)
}

#[test]
fn attributes_that_break_a_rule_are_refused_with_the_rule() {
    type Fill<'f> = &'f dyn Fn(&mut Encoder);
    let cases: [(&str, Fill<'_>); 5] = [
        ("permission bits", &|row| {
            row.number(0o40755)
                .number(0)
                .number(0)
                .signed(0)
                .number(0)
                .number(0)
                .number(0);
        }),
        ("too large", &|row| {
            row.number(0o755).number(1 << 32);
        }),
        ("nanoseconds", &|row| {
            row.number(0o755)
                .number(0)
                .number(0)
                .signed(0)
                .number(1_000_000_000);
        }),
        ("of overlayfs", &|row| {
            row.number(0).number(0).number(0).signed(0).number(0);
            row.number(1)
                .string(b"trusted.overlay.redirect")
                .string(b"/etc/shadow")
                .number(0);
        }),
        ("attributes are not sorted", &|row| {
            row.number(0).number(0).number(0).signed(0).number(0);
            row.number(2)
                .string(b"user.b")
                .string(b"")
                .string(b"user.a")
                .string(b"")
                .number(0);
        }),
    ];
    for (expected, fill) in cases {
        let mut row = Encoder::new();
        fill(&mut row);
        let error = Tree::decode(&row.finish()).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn entries_that_break_a_rule_are_refused_with_the_rule() {
    type Fill<'f> = &'f dyn Fn(&mut Encoder);
    let cases: [(&str, Fill<'_>); 4] = [
        ("names are not sorted", &|row| {
            row.number(2);
            for name in [b"b", b"a"] {
                row.string(name).byte(TAG_FIFO);
                head(row);
            }
        }),
        ("unknown kind", &|row| {
            row.number(1).string(b"a").byte(9);
            head(row);
        }),
        ("left over", &|row| {
            row.number(0).byte(0);
        }),
        ("too early", &|row| {
            row.number(u64::MAX);
        }),
    ];
    for (expected, fill) in cases {
        let mut row = Encoder::new();
        fill(head(&mut row));
        let error = Tree::decode(&row.finish()).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn a_name_that_leaves_its_directory_is_refused() {
    for bad in [&b".."[..], b".", b"", b"a/b", b"a\0"] {
        let mut row = Encoder::new();
        row.number(0o755)
            .number(0)
            .number(0)
            .signed(0)
            .number(0)
            .number(0);
        row.number(1).string(bad).byte(TAG_DIRECTORY);
        let error = Tree::decode(&row.finish()).unwrap_err();
        assert!(matches!(error, Error::Name { .. }), "{bad:?}: {error}");
    }
}
