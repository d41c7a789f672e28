//! A directory as a list of everything that can be seen of it, so that two can be compared.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use sha2::{Digest, Sha256};

/// What is seen of one entry, as text that is easy to read where it differs.
pub type Tree = BTreeMap<String, String>;

/// Most bytes of names and values of extended attributes of one file of a test.
const XATTR_BYTES_MAX: usize = 1 << 16;

/// Everything below `root`, which itself does not count: kind, mode, owner, size, time, hard links,
/// extended attributes, content.
///
/// # Panics
/// Something cannot be read.
#[must_use]
pub fn list(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut first_names = BTreeMap::new();
    walk(root, root, &mut tree, &mut first_names);
    tree.remove(".");
    tree
}

/// The first name of each inode. Below an overlay of several file systems only both numbers
/// together tell inodes apart.
type FirstNames = BTreeMap<(u64, u64), String>;

fn walk(root: &Path, path: &Path, tree: &mut Tree, first_names: &mut FirstNames) {
    let metadata = fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let relative = path.strip_prefix(root).expect("below the root");
    let name = if relative.as_os_str().is_empty() {
        ".".to_owned()
    } else {
        relative.as_os_str().as_bytes().escape_ascii().to_string()
    };
    let kind = metadata.file_type();
    let what = if kind.is_dir() {
        "directory".to_owned()
    } else if kind.is_symlink() {
        format!("symlink {}", fs::read_link(path).expect("a link").display())
    } else if kind.is_file() {
        let first = first_names
            .entry((metadata.dev(), metadata.ino()))
            .or_insert_with(|| name.clone());
        let link = format!("{} links, first {first}", metadata.nlink());
        let body = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let digest = Sha256::digest(&body);
        format!("file {} bytes {:02x?} ({link})", body.len(), &digest[..8])
    } else if kind.is_fifo() {
        "fifo".to_owned()
    } else {
        format!("special {kind:?} {:#x}", metadata.rdev())
    };
    let seen = format!(
        "{what} {:o} {}:{} at {}.{:09} {}",
        metadata.mode() & 0o7777,
        metadata.uid(),
        metadata.gid(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        xattrs(path),
    );
    tree.insert(name, seen);
    if kind.is_dir() {
        let entries = fs::read_dir(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut paths: Vec<_> = entries
            .map(|entry| entry.expect("an entry").path())
            .collect();
        paths.sort();
        for path in paths {
            walk(root, &path, tree, first_names);
        }
    }
}

fn xattrs(path: &Path) -> String {
    let mut names = vec![0; XATTR_BYTES_MAX];
    let length = rustix::fs::llistxattr(path, &mut names[..]).expect("attributes can be listed");
    let mut seen = Vec::new();
    for name in names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let mut value = vec![0; XATTR_BYTES_MAX];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).expect("an attribute");
        let value = value[..length].escape_ascii();
        seen.push(format!("{}={value}", name.escape_ascii()));
    }
    seen.sort();
    seen.join(" ")
}

/// That two trees are the same.
///
/// # Panics
/// They are not; only what differs is shown.
#[track_caller]
pub fn assert_same(left: &Tree, right: &Tree) {
    let names: std::collections::BTreeSet<_> = left.keys().chain(right.keys()).collect();
    let differs = names
        .into_iter()
        .filter(|name| left.get(*name) != right.get(*name));
    let shown: Vec<_> = differs
        .map(|name| {
            format!(
                "{name}\n  left  {:?}\n  right {:?}",
                left.get(name),
                right.get(name)
            )
        })
        .collect();
    assert!(
        shown.is_empty(),
        "{} entries differ:\n{}",
        shown.len(),
        shown.join("\n")
    );
}
