//! A tree as plain data: built into an image on one side, read from a mount on the other.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use erofs::{Attributes, Builder, DeviceNumber, InodeId, Timestamp};
use rustix::fs::{lgetxattr, llistxattr};

/// Where the contents of a file of the tree are kept below the data-only lower.
pub(crate) type Redirect = Option<Vec<u8>>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Directory,
    OpaqueDirectory,
    File { size: u64, redirect: Redirect },
    Symlink { target: Vec<u8> },
    CharacterDevice { major: u32, minor: u32 },
    BlockDevice { major: u32, minor: u32 },
    Fifo,
    Socket,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) permissions: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Meta {
    pub(crate) fn plain(permissions: u32) -> Self {
        Self {
            permissions,
            uid: 0,
            gid: 0,
            seconds: 1_700_000_000,
            nanoseconds: 123_456_789,
            xattrs: BTreeMap::new(),
        }
    }

    pub(crate) fn attributes(&self) -> Attributes<'_> {
        let xattrs = self
            .xattrs
            .iter()
            .map(|(name, value)| (name.as_slice(), value.as_slice()));
        Attributes {
            mode: self.permissions,
            uid: self.uid,
            gid: self.gid,
            mtime: Timestamp {
                seconds: self.seconds,
                nanoseconds: self.nanoseconds,
            },
            // Reversed: the order of extended attributes must not matter.
            xattrs: xattrs.rev().collect(),
        }
    }
}

/// Index of a node; 0 is the root.
pub(crate) type Node = usize;

#[derive(Clone, Debug)]
pub(crate) struct Tree {
    pub(crate) nodes: Vec<(Meta, What)>,
    /// Parent, name, node. A node with several names is hard-linked.
    pub(crate) names: Vec<(Node, Vec<u8>, Node)>,
}

impl Tree {
    pub(crate) fn new(root: Meta) -> Self {
        Self {
            nodes: vec![(root, What::Directory)],
            names: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, parent: Node, name: &[u8], meta: Meta, what: What) -> Node {
        self.nodes.push((meta, what));
        let node = self.nodes.len() - 1;
        self.names.push((parent, name.to_vec(), node));
        node
    }

    pub(crate) fn link(&mut self, parent: Node, name: &[u8], node: Node) {
        self.names.push((parent, name.to_vec(), node));
    }

    pub(crate) fn is_directory(&self, node: Node) -> bool {
        matches!(self.nodes[node].1, What::Directory | What::OpaqueDirectory)
    }

    pub(crate) fn image(&self) -> Vec<u8> {
        self.builder().finish().expect("a valid tree")
    }

    pub(crate) fn builder(&self) -> Builder {
        let mut builder = Builder::new(&self.nodes[0].0.attributes()).expect("a valid root");
        let mut ids = BTreeMap::from([(0, builder.root())]);
        for (parent, name, node) in &self.names {
            let parent = ids[parent];
            if let Some(id) = ids.get(node) {
                builder.link(parent, name, *id).expect("a valid link");
            } else {
                let (meta, what) = &self.nodes[*node];
                let id = add_to(&mut builder, parent, name, meta, what);
                ids.insert(*node, id.expect("a valid entry"));
            }
        }
        builder
    }

    /// What a walk over the mounted image must find, by path.
    pub(crate) fn expected(&self) -> BTreeMap<Vec<u8>, Seen> {
        let mut link_counts = vec![0; self.nodes.len()];
        let mut paths = vec![Vec::new(); self.nodes.len()];
        link_counts[0] = 2;
        let mut all = BTreeMap::from([(Vec::new(), 0)]);
        for (parent, name, node) in &self.names {
            let path = [paths[*parent].as_slice(), b"/", name].concat();
            if self.is_directory(*node) {
                link_counts[*node] = 2;
                link_counts[*parent] += 1;
                paths[*node].clone_from(&path);
            } else {
                link_counts[*node] += 1;
            }
            all.insert(path, *node);
        }
        all.into_iter()
            .map(|(path, node)| (path, Seen::expected(&self.nodes[node], link_counts[node])))
            .collect()
    }
}

fn add_to(
    builder: &mut Builder,
    parent: InodeId,
    name: &[u8],
    meta: &Meta,
    what: &What,
) -> Result<InodeId, erofs::Error> {
    let attributes = meta.attributes();
    match what {
        What::Directory => builder.directory(parent, name, &attributes),
        What::OpaqueDirectory => builder.opaque_directory(parent, name, &attributes),
        What::File { size, redirect } => {
            builder.file(parent, name, &attributes, *size, redirect.as_deref())
        }
        What::Symlink { target } => builder.symlink(parent, name, &attributes, target),
        What::CharacterDevice { major, minor } => {
            let number = DeviceNumber {
                major: *major,
                minor: *minor,
            };
            builder.character_device(parent, name, &attributes, number)
        }
        What::BlockDevice { major, minor } => {
            let number = DeviceNumber {
                major: *major,
                minor: *minor,
            };
            builder.block_device(parent, name, &attributes, number)
        }
        What::Fifo => builder.fifo(parent, name, &attributes),
        What::Socket => builder.socket(parent, name, &attributes),
    }
}

/// Everything that a program can learn of an inode but its contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: (i64, i64),
    pub(crate) link_count: u64,
    /// Of files and links; sizes of directories mean nothing.
    pub(crate) size: u64,
    pub(crate) device: (u32, u32),
    pub(crate) target: Vec<u8>,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Seen {
    fn expected((meta, what): &(Meta, What), link_count: u64) -> Self {
        let mut seen = Self {
            mode: meta.permissions,
            uid: meta.uid,
            gid: meta.gid,
            mtime: (meta.seconds, i64::from(meta.nanoseconds)),
            link_count,
            size: 0,
            device: (0, 0),
            target: Vec::new(),
            xattrs: meta.xattrs.clone(),
        };
        seen.mode |= match what {
            What::Directory => 0o040_000,
            What::OpaqueDirectory => {
                seen.xattrs
                    .insert(b"trusted.overlay.opaque".into(), b"y".into());
                0o040_000
            }
            What::File { size, redirect } => {
                seen.size = *size;
                if let Some(redirect) = redirect {
                    seen.xattrs
                        .insert(b"trusted.overlay.metacopy".into(), Vec::new());
                    seen.xattrs
                        .insert(b"trusted.overlay.redirect".into(), redirect.clone());
                }
                0o100_000
            }
            What::Symlink { target } => {
                seen.size = target.len() as u64;
                seen.target.clone_from(target);
                0o120_000
            }
            What::CharacterDevice { major, minor } => {
                seen.device = (*major, *minor);
                0o020_000
            }
            What::BlockDevice { major, minor } => {
                seen.device = (*major, *minor);
                0o060_000
            }
            What::Fifo => 0o010_000,
            What::Socket => 0o140_000,
        };
        seen
    }

    pub(crate) fn read(path: &Path) -> Self {
        let stat = std::fs::symlink_metadata(path).expect("stat");
        let target = if stat.is_symlink() {
            std::fs::read_link(path)
                .expect("readlink")
                .as_os_str()
                .as_bytes()
                .to_vec()
        } else {
            Vec::new()
        };
        let device = (
            rustix::fs::major(stat.rdev()),
            rustix::fs::minor(stat.rdev()),
        );
        Self {
            mode: stat.mode(),
            uid: stat.uid(),
            gid: stat.gid(),
            mtime: (stat.mtime(), stat.mtime_nsec()),
            link_count: stat.nlink(),
            size: if stat.is_dir() { 0 } else { stat.size() },
            device,
            target,
            xattrs: read_xattrs(path),
        }
    }
}

pub(crate) fn read_xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut buffer = vec![0; 1 << 16];
    let length = llistxattr(path, buffer.as_mut_slice()).expect("list extended attributes");
    let names = buffer[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 1 << 16];
            let length = lgetxattr(path, OsStr::from_bytes(name), value.as_mut_slice())
                .unwrap_or_else(|error| panic!("{} of {path:?}: {error}", name.escape_ascii()));
            value.truncate(length);
            (name.to_vec(), value)
        })
        .collect()
}

/// Walks a mount; paths are relative to `root`, the root itself is the empty path.
pub(crate) fn walk(root: &Path) -> BTreeMap<Vec<u8>, Seen> {
    let mut found = BTreeMap::from([(Vec::new(), Seen::read(root))]);
    let mut pending = vec![root.to_path_buf()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(&directory).expect("list a directory") {
            let entry = entry.expect("read a directory entry");
            let path = entry.path();
            let seen = Seen::read(&path);
            let type_of_entry = entry.file_type().expect("type of a directory entry");
            if type_of_entry.is_dir() {
                pending.push(path.clone());
            }
            assert_eq!(type_of_entry.is_dir(), seen.mode & 0o170_000 == 0o040_000);
            let relative = &path.as_os_str().as_bytes()[root.as_os_str().len()..];
            let previous = found.insert(relative.to_vec(), seen);
            assert!(previous.is_none(), "{path:?} is listed twice");
        }
    }
    found
}

/// Compares two walks and names the first differences instead of printing both.
pub(crate) fn assert_same(found: &BTreeMap<Vec<u8>, Seen>, expected: &BTreeMap<Vec<u8>, Seen>) {
    let paths: std::collections::BTreeSet<_> = found.keys().chain(expected.keys()).collect();
    let differences: Vec<String> = paths
        .into_iter()
        .filter(|path| found.get(*path) != expected.get(*path))
        .take(3)
        .map(|path| {
            let (found, expected) = (found.get(path), expected.get(path));
            format!(
                "{}\n  found    {found:?}\n  expected {expected:?}",
                path.escape_ascii()
            )
        })
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
