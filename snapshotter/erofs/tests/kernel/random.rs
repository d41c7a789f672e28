//! Random trees: what was put in is what the kernel shows, alone and under an overlay.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use proptest::collection::{btree_map, vec};
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

use crate::mounted::Sandbox;
use crate::tree::{Meta, Tree, What, assert_same, walk};

#[derive(Clone, Debug)]
enum Content {
    Directory,
    Opaque,
    Stored(Vec<u8>),
    Sparse(u64),
    Symlink(Vec<u8>),
    Character(u32, u32),
    Block(u32, u32),
    Fifo,
    Socket,
    LinkTo(Index),
}

#[derive(Clone, Debug)]
struct Step {
    parent: Index,
    name: Vec<u8>,
    meta: Meta,
    content: Content,
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_filter("no byte of a path", |byte| !matches!(byte, 0 | b'/'));
    let short = vec(
        prop_oneof![Just(b'a'), Just(b'.'), Just(b'!'), byte.clone()],
        1..4,
    );
    let any_length = vec(byte, 1..=255);
    prop_oneof![4 => short, 1 => any_length]
        .prop_filter("no dots", |name| !matches!(name.as_slice(), b"." | b".."))
}

/// Names that every type of inode may carry; `user.` is only for files and directories.
fn xattrs() -> impl Strategy<Value = BTreeMap<Vec<u8>, Vec<u8>>> {
    let suffix = vec(any::<u8>().prop_map(|byte| byte.max(1)), 1..60);
    let prefix = prop_oneof![Just("trusted."), Just("security.x"), Just("user.")];
    let name = (prefix, suffix).prop_map(|(prefix, suffix)| [prefix.as_bytes(), &suffix].concat());
    let value = prop_oneof![
        6 => vec(any::<u8>(), 0..40),
        1 => (any::<u8>(), 0..9000_usize).prop_map(|(byte, length)| vec![byte; length]),
    ];
    prop_oneof![2 => Just(BTreeMap::new()), 1 => btree_map(name, value, 1..4)]
}

fn meta() -> impl Strategy<Value = Meta> {
    let id = prop_oneof![Just(0), 0..70_000_u32, 0..u32::MAX];
    (
        0..0o10_000_u32,
        id.clone(),
        id,
        any::<i64>(),
        0..1_000_000_000_u32,
        xattrs(),
    )
        .prop_map(
            |(permissions, uid, gid, seconds, nanoseconds, xattrs)| Meta {
                permissions,
                uid,
                gid,
                // Within the range of every clock, so that no tool rounds.
                seconds: seconds % (1 << 36),
                nanoseconds,
                xattrs,
            },
        )
}

fn content() -> impl Strategy<Value = Content> {
    prop_oneof![
        4 => Just(Content::Directory),
        1 => Just(Content::Opaque),
        6 => vec(any::<u8>(), 0..200).prop_map(Content::Stored),
        1 => (0..1_u64 << 43).prop_map(Content::Sparse),
        2 => vec(1..=255_u8, 1..4096).prop_map(Content::Symlink),
        1 => (0..4096_u32, 0..1_u32 << 20)
            .prop_map(|(major, minor)| Content::Character(major, minor)),
        1 => (0..4096_u32, 0..1_u32 << 20).prop_map(|(major, minor)| Content::Block(major, minor)),
        1 => Just(Content::Fifo),
        1 => Just(Content::Socket),
        2 => any::<Index>().prop_map(Content::LinkTo),
    ]
}

fn steps() -> impl Strategy<Value = (Meta, Vec<Step>)> {
    let step =
        (any::<Index>(), name(), meta(), content()).prop_map(|(parent, name, meta, content)| {
            Step {
                parent,
                name,
                meta,
                content,
            }
        });
    (meta(), vec(step, 0..120))
}

/// The tree, and its objects by redirect. Steps that do not fit (a taken name) are left out.
fn tree(root: Meta, steps: Vec<Step>) -> (Tree, BTreeMap<Vec<u8>, Vec<u8>>) {
    let mut tree = Tree::new(root);
    let mut objects = BTreeMap::new();
    let mut taken = BTreeSet::new();
    let mut directories = vec![0];
    for Step {
        parent,
        name,
        mut meta,
        content,
    } in steps
    {
        let parent = *parent.get(&directories);
        if !taken.insert((parent, name.clone())) {
            continue;
        }
        let what = match content {
            Content::Directory => What::Directory,
            Content::Opaque => What::OpaqueDirectory,
            Content::Stored(bytes) if bytes.is_empty() => What::File {
                size: 0,
                redirect: None,
            },
            Content::Stored(bytes) => {
                let redirect = format!("/nonce/{:02x}/{:x}", bytes[0], objects.len()).into_bytes();
                let size = bytes.len() as u64;
                objects.insert(redirect.clone(), bytes);
                What::File {
                    size,
                    redirect: Some(redirect),
                }
            }
            Content::Sparse(size) => What::File {
                size,
                redirect: None,
            },
            Content::Symlink(target) => What::Symlink { target },
            Content::Character(major, minor) => What::CharacterDevice { major, minor },
            Content::Block(major, minor) => What::BlockDevice { major, minor },
            Content::Fifo => What::Fifo,
            Content::Socket => What::Socket,
            Content::LinkTo(index) => {
                let node = index.index(tree.nodes.len());
                if !tree.is_directory(node) {
                    tree.link(parent, &name, node);
                }
                continue;
            }
        };
        if !matches!(
            what,
            What::File { .. } | What::Directory | What::OpaqueDirectory
        ) {
            meta.xattrs.retain(|name, _| !name.starts_with(b"user."));
        }
        let node = tree.add(parent, &name, meta, what);
        if tree.is_directory(node) {
            directories.push(node);
        }
    }
    (tree, objects)
}

fn check(tree: &Tree, objects: &BTreeMap<Vec<u8>, Vec<u8>>) {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let mut expected = tree.expected();
    let lower = sandbox.mount_image("lower", &tree.image());
    assert_same(&walk(&lower), &expected);

    sandbox.make_directory("objects");
    for (redirect, content) in objects {
        let name = std::str::from_utf8(redirect).expect("ascii");
        sandbox.write(&format!("objects{name}"), content);
    }
    let merged = sandbox.mount_overlay(
        "merged",
        &[
            ("lowerdir+", &lower),
            ("datadir+", &sandbox.path("objects")),
        ],
    );
    let mut contents = BTreeMap::new();
    for (path, seen) in &mut expected {
        if let Some(redirect) = seen.xattrs.get(b"trusted.overlay.redirect".as_slice()) {
            contents.insert(path.clone(), objects[redirect].clone());
        }
        seen.xattrs
            .retain(|name, _| !name.starts_with(b"trusted.overlay."));
    }
    let whiteout =
        |mode: u32, device: (u32, u32)| mode & 0o170_000 == 0o020_000 && device == (0, 0);
    expected.retain(|_, seen| !whiteout(seen.mode, seen.device));
    assert_same(&walk(&merged), &expected);
    for (path, content) in contents {
        let path = merged.join(OsStr::from_bytes(&path[1..]));
        assert_eq!(
            std::fs::read(&path).expect("read through the overlay"),
            content
        );
    }
}

#[test]
fn a_random_tree_reads_back_as_it_was_put_in() {
    let mut runner = TestRunner::new(Config {
        cases: 48,
        failure_persistence: None,
        ..Config::default()
    });
    runner
        .run(&steps(), |(root, steps)| {
            let (tree, objects) = tree(root, steps);
            check(&tree, &objects);
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}
