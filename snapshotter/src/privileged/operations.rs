//! Random file system operations, carried out alike on a mounted overlay and on a plain directory.
//!
//! Where an overlay differs from a plain directory by design, the plain one is made to follow:
//! hard links break when one of the names is copied up, so [`Plain`] breaks them.

mod perform;
mod place;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rand::RngExt;
use rand::rngs::StdRng;
use rustix::fs::FileType;

pub(super) use perform::perform;
pub(super) use place::{Mounted, Plain};

/// Names out of which paths are made: few, so that they collide; some of them odd.
const NAMES: [&[u8]; 8] = [
    b"a",
    b"b",
    b"c",
    b"dir",
    b"\xff\xfe odd",
    b"\xc3\xa9:,\\",
    b".wh.x",
    b" =\n",
];

/// Something to do below a root.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    /// To the bytes of a file.
    Content(PathBuf, ContentChange),
    /// Makes an entry that is no file.
    Make(PathBuf, Made),
    /// To what an inode has beside its content.
    Attributes(PathBuf, AttributeChange),
    /// To names.
    Remove(PathBuf),
    /// `rm -rf x; mkdir x`, and the change of a kind.
    Replace(PathBuf),
    Rename {
        from: PathBuf,
        to: PathBuf,
        exchange: bool,
    },
    Link {
        from: PathBuf,
        to: PathBuf,
    },
}

#[derive(Clone, Debug)]
pub(super) enum ContentChange {
    Write(Vec<u8>),
    Append(Vec<u8>),
    /// Opened for writing, so copied up, and the same afterwards.
    Rewrite,
    Truncate(u64),
}

#[derive(Clone, Debug)]
pub(super) enum Made {
    Directory,
    Symlink(PathBuf),
    Node {
        kind: FileType,
        major: u32,
        minor: u32,
    },
}

#[derive(Clone, Debug)]
pub(super) enum AttributeChange {
    Mode { mode: u32, recursive: bool },
    Owner { uid: u32, gid: u32, recursive: bool },
    SetXattr(&'static str, Vec<u8>),
    RemoveXattr(&'static str),
    Time,
}

/// Draws an operation on what is in `root` now.
pub(super) fn draw(random: &mut StdRng, root: &Path) -> Operation {
    let existing = paths(root);
    let known = |random: &mut StdRng| match existing.len() {
        0 => fresh(random, &existing, root),
        count => existing[random.random_range(0..count)].clone(),
    };
    let path = known(random);
    match random.random_range(0..100) {
        0..16 => {
            let written = ContentChange::Write(content(random));
            Operation::Content(fresh(random, &existing, root), written)
        }
        16..25 => Operation::Content(
            path,
            match random.random_range(0..3) {
                0 => ContentChange::Append(content(random)),
                1 => ContentChange::Rewrite,
                _ => ContentChange::Truncate(random.random_range(0..4)),
            },
        ),
        25..42 => Operation::Make(fresh(random, &existing, root), made(random, path)),
        42..64 => Operation::Attributes(path, attribute_change(random)),
        64..71 => Operation::Remove(path),
        71..76 => Operation::Replace(path),
        76..93 => {
            let to = match random.random_bool(0.5) {
                true => known(random),
                false => fresh(random, &existing, root),
            };
            Operation::Rename {
                from: path,
                to,
                exchange: random.random_bool(0.2),
            }
        }
        _ => Operation::Link {
            from: path,
            to: fresh(random, &existing, root),
        },
    }
}

fn made(random: &mut StdRng, target: PathBuf) -> Made {
    let nodes = [
        (FileType::Fifo, 0, 0),
        (FileType::Socket, 0, 0),
        (FileType::CharacterDevice, 1, 3),
        (FileType::BlockDevice, 259, 70_000),
    ];
    match random.random_range(0..17) {
        0..10 => Made::Directory,
        10..13 => Made::Symlink(target),
        _ => {
            let (kind, major, minor) = nodes[random.random_range(0..nodes.len())];
            Made::Node { kind, major, minor }
        }
    }
}

fn attribute_change(random: &mut StdRng) -> AttributeChange {
    let recursive = random.random_bool(0.4);
    let xattrs = ["user.a", "user.long", "trusted.b", "security.capability"];
    let xattr = xattrs[random.random_range(0..xattrs.len())];
    match random.random_range(0..22) {
        0..7 => {
            let modes = [0o644, 0o4755, 0o1777, 0o2710, 0o000];
            AttributeChange::Mode {
                mode: modes[random.random_range(0..modes.len())],
                recursive,
            }
        }
        7..13 => {
            let (uid, gid) = (random.random_range(0..3), random.random_range(0..70_000));
            AttributeChange::Owner {
                uid,
                gid,
                recursive,
            }
        }
        13..17 => {
            let length = [0, 3, 600][random.random_range(0..3)];
            AttributeChange::SetXattr(xattr, vec![random.random(); length])
        }
        17..19 => AttributeChange::RemoveXattr(xattr),
        _ => AttributeChange::Time,
    }
}

fn content(random: &mut StdRng) -> Vec<u8> {
    // Few different ones, so that equal files are frequent.
    vec![b'a' + random.random_range(0..4u8); random.random_range(0..20)]
}

/// A path in some directory, which may exist or not.
fn fresh(random: &mut StdRng, existing: &[PathBuf], root: &Path) -> PathBuf {
    let mut parents: Vec<_> = existing
        .iter()
        .filter(|path| is_directory(root, path))
        .collect();
    let top = PathBuf::new();
    parents.push(&top);
    let parent = parents[random.random_range(0..parents.len())];
    parent.join(OsStr::from_bytes(
        NAMES[random.random_range(0..NAMES.len())],
    ))
}

fn is_directory(root: &Path, path: &Path) -> bool {
    fs::symlink_metadata(root.join(path)).is_ok_and(|found| found.is_dir())
}

/// All paths below `root`, relative to it, sorted.
fn paths(root: &Path) -> Vec<PathBuf> {
    let (mut paths, mut rest) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(parent) = rest.pop() {
        for entry in fs::read_dir(root.join(&parent)).unwrap() {
            let path = parent.join(entry.unwrap().file_name());
            if is_directory(root, &path) {
                rest.push(path.clone());
            }
            paths.push(path);
        }
    }
    paths.sort();
    paths
}
