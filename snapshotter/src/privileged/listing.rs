//! A directory written down entry by entry, for comparison.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::capture::read_xattrs;

/// What is compared of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// Type and permission bits.
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
    /// Length in bytes; 0 for directories.
    pub(super) size: u64,
    pub(super) mtime: (i64, i64),
    /// Overlayfs's own left out.
    pub(super) xattrs: BTreeMap<String, String>,
    /// Names of the inode; 0 for directories.
    pub(super) links: u64,
    pub(super) rdev: u64,
    /// Bytes of a file, target of a symbolic link.
    pub(super) content: String,
}

pub(super) type Listing = BTreeMap<Vec<u8>, Listed>;

/// Everything in `root`, the root itself at the empty path.
pub(super) fn list(root: &Path) -> Listing {
    let mut listing = Listing::new();
    let mut rest = vec![root.to_owned()];
    while let Some(path) = rest.pop() {
        let found = fs::symlink_metadata(&path).unwrap();
        let kind = found.file_type();
        let content = if kind.is_file() {
            fs::read(&path).unwrap()
        } else if kind.is_symlink() {
            fs::read_link(&path)
                .unwrap()
                .as_os_str()
                .as_bytes()
                .to_vec()
        } else {
            Vec::new()
        };
        let xattrs = read_xattrs(&path).unwrap().into_iter();
        let xattrs = xattrs
            .filter(|(name, _)| !name.starts_with(b"trusted.overlay."))
            .map(|(name, value)| {
                (
                    name.escape_ascii().to_string(),
                    value.escape_ascii().to_string(),
                )
            });
        let listed = Listed {
            mode: found.mode(),
            owner: (found.uid(), found.gid()),
            size: if kind.is_dir() { 0 } else { found.size() },
            mtime: (found.mtime(), found.mtime_nsec()),
            xattrs: xattrs.collect(),
            links: if kind.is_dir() { 0 } else { found.nlink() },
            rdev: found.rdev(),
            content: content.escape_ascii().to_string(),
        };
        let name = path
            .strip_prefix(root)
            .unwrap()
            .as_os_str()
            .as_bytes()
            .to_vec();
        listing.insert(name, listed);
        if kind.is_dir() {
            rest.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
    }
    listing
}

/// The listing without link counts, which overlayfs does not keep up while it is mounted.
pub(super) fn without_links(mut listing: Listing) -> Listing {
    for listed in listing.values_mut() {
        listed.links = 0;
    }
    listing
}

/// Panics with the differences, named by `what`.
#[track_caller]
pub(super) fn assert_same(what: &str, found: &Listing, expected: &Listing) {
    if found == expected {
        return;
    }
    let mut text = String::new();
    let names: std::collections::BTreeSet<_> = found.keys().chain(expected.keys()).collect();
    for name in names {
        let (found, expected) = (found.get(name), expected.get(name));
        if found != expected {
            text += &format!(
                "\n  /{}\n    found    {found:?}\n    expected {expected:?}",
                name.escape_ascii()
            );
        }
    }
    panic!("{what}: differences:{text}");
}
