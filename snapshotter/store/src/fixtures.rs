//! Known small trees and random ones, for the tests of this crate and of those above it.
//!
//! A [`Model`] is a file system written down plainly: every path with what stands there. Tests
//! change it with `BTreeMap` operations and compare what the real code made of the same changes.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub use crate::editor::Found;
use crate::error::{Error, Result};
use crate::id::{BlobId, LinkId, TreeId};
use crate::key_value::memory::{Medium, Memory};
use crate::metadata::Metadata;
use crate::path::{Name, RelPath};
use crate::root_lock::RootLock;
use crate::store::Store;
use crate::tree::{Content, Entry, Leaf, Tree, TreeRef, TreeSink, TreeSource};

pub mod random;

/// A directory in memory where there is one: a flush of a disk takes as long as other people's
/// writes do.
#[cfg(test)]
pub(crate) fn scratch() -> tempfile::TempDir {
    let builder = tempfile::Builder::new();
    let made = builder
        .tempdir_in("/dev/shm")
        .or_else(|_| builder.tempdir());
    made.expect("a temporary directory can be made")
}

/// A tmpfs of a few megabytes, gone when it is dropped.
#[cfg(test)]
pub(crate) struct SmallDisk(tempfile::TempDir);

#[cfg(test)]
impl SmallDisk {
    /// Mounts it; needs root.
    pub(crate) fn mount(bytes: u64) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let options = std::ffi::CString::new(format!("size={bytes}")).expect("there is no NUL");
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount(
            "tmpfs",
            directory.path(),
            "tmpfs",
            flags,
            Some(options.as_c_str()),
        )
        .expect("this test mounts a tmpfs: run it as root, or leave it out (--skip privileged::)");
        SmallDisk(directory)
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

#[cfg(test)]
impl Drop for SmallDisk {
    fn drop(&mut self) {
        let flags = rustix::mount::UnmountFlags::DETACH;
        rustix::mount::unmount(self.0.path(), flags).expect("nobody else uses the tmpfs");
    }
}

/// A store in `root` whose rows lie in memory; its object files are real.
///
/// # Panics
/// If the directory cannot be used.
pub fn memory_store(root: &Path) -> Store {
    open_on(root, Memory::new())
}

/// A store in `root` on the rows of a medium, to be opened again and again.
///
/// # Panics
/// If the directory cannot be used or the medium is in use.
pub fn memory_store_on(root: &Path, medium: &Medium) -> Store {
    open_on(
        root,
        medium.open().expect("nobody else has the medium open"),
    )
}

fn open_on(root: &Path, rows: Memory) -> Store {
    let lock = RootLock::acquire(root).expect("nobody else uses the root directory");
    Store::open(lock, Box::new(rows)).expect("the directory holds a store or nothing")
}

/// Trees in memory, without a store around them. Counts what is asked of it.
#[derive(Debug, Default)]
pub struct MemoryTrees {
    trees: Mutex<HashMap<TreeId, Arc<Tree>>>,
    reads: AtomicU64,
    writes: AtomicU64,
}

impl MemoryTrees {
    /// No trees yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many trees were read so far.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::SeqCst)
    }

    /// How many trees were put so far, those included that were there already.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::SeqCst)
    }

    /// Takes a tree away, as damage would.
    pub fn lose(&self, id: TreeId) {
        self.trees
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id);
    }
}

impl TreeSource for MemoryTrees {
    fn tree(&self, id: TreeId) -> Result<Arc<Tree>> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let trees = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        trees.get(&id).cloned().ok_or(Error::TreeMissing { id })
    }
}

impl TreeSink for MemoryTrees {
    fn put_tree(&self, tree: Tree) -> Result<TreeRef> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        let (reference, encoded) = tree.reference();
        let decoded = Tree::decode(&encoded)?;
        assert_eq!(decoded, tree, "a tree survives its encoding");
        let mut trees = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        trees.insert(reference.id, Arc::new(tree));
        Ok(reference)
    }
}

/// A file system written down: every path below the root and what stands there.
///
/// The parents of a path need not be listed; [`store_model`] makes them with
/// [`Metadata::default_directory`].
pub type Model = BTreeMap<RelPath, Found>;

/// A path from text.
///
/// # Panics
/// If it is none.
pub fn path(text: &str) -> RelPath {
    RelPath::strict(text.as_bytes()).expect("a test writes valid paths")
}

/// A file name from text.
///
/// # Panics
/// If it is none.
pub fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).expect("a test writes valid names")
}

/// Attributes with the given mode, all else zero.
pub fn metadata(mode: u16) -> Metadata {
    Metadata {
        mode,
        ..Metadata::default_directory()
    }
}

/// A directory of a model.
pub fn directory(mode: u16) -> Found {
    Found::Directory(metadata(mode))
}

/// A regular file of mode 0644 with these bytes. The blob itself is not stored.
pub fn file(content: &[u8]) -> Leaf {
    let content = Content::File {
        blob: BlobId::of(content),
        size: content.len() as u64,
    };
    Leaf {
        metadata: metadata(0o644),
        content,
        link: None,
    }
}

/// A symbolic link.
pub fn symlink(target: &str) -> Leaf {
    let content = Content::Symlink {
        target: target.as_bytes().into(),
    };
    Leaf {
        metadata: metadata(0o777),
        content,
        link: None,
    }
}

/// The same inode as one name of a group of hard links.
pub fn linked(leaf: Leaf, group: &str) -> Leaf {
    Leaf {
        link: Some(LinkId::derive(b"fixture", group.as_bytes())),
        ..leaf
    }
}

/// A model from pairs of path and content: `("bin/sh", Found::Leaf(file(b"…")))`.
pub fn model<const N: usize>(entries: [(&str, Found); N]) -> Model {
    entries
        .into_iter()
        .map(|(text, found)| (path(text), found))
        .collect()
}

/// Files, a directory, links of both kinds, a device, times and attributes: one of everything.
pub fn one_of_everything() -> Model {
    let leaf = |content| {
        Found::Leaf(Leaf {
            metadata: metadata(0o600),
            content,
            link: None,
        })
    };
    let mut dated = file(b"dated");
    dated.metadata.mtime.seconds = -1;
    dated.metadata.mtime.nanoseconds = 999_999_999;
    dated.metadata.uid = 4_000_000_000;
    let mut attributed = file(b"attributed");
    attributed
        .metadata
        .xattrs
        .insert((*b"user.colour").into(), (*b"\0blue").into());
    attributed
        .metadata
        .xattrs
        .insert((*b"security.capability").into(), [1; 20].into());
    attributed
        .metadata
        .xattrs
        .insert((*b"security.selinux").into(), (*b"label").into());
    model([
        ("bin", directory(0o755)),
        ("bin/sh", Found::Leaf(file(b"#!shell"))),
        ("bin/link", Found::Leaf(symlink("sh"))),
        ("bin/twin", Found::Leaf(linked(file(b"twins"), "twins"))),
        ("empty", directory(0o1777)),
        ("etc/deep/down/file", Found::Leaf(file(b""))),
        ("etc/dated", Found::Leaf(dated)),
        ("etc/attributed", Found::Leaf(attributed)),
        ("null", leaf(Content::CharDevice { major: 1, minor: 3 })),
        (
            "disk",
            leaf(Content::BlockDevice {
                major: 259,
                minor: 1_048_575,
            }),
        ),
        ("pipe", leaf(Content::Fifo)),
        ("socket", leaf(Content::Socket)),
        ("twin", Found::Leaf(linked(file(b"twins"), "twins"))),
    ])
}

/// Stores a model as a tree. The root and parents that are not listed get default attributes.
///
/// This goes by recursion over names, not through the editor, so that the editor can be tested
/// against it.
///
/// # Panics
/// If a leaf has entries below it.
///
/// # Errors
/// Those of the sink.
pub fn store_model<S: TreeSink + ?Sized>(model: &Model, sink: &S) -> Result<TreeRef> {
    store_below(model, &RelPath::root(), sink)
}

fn store_below<S: TreeSink + ?Sized>(model: &Model, root: &RelPath, sink: &S) -> Result<TreeRef> {
    let metadata = match model.get(root) {
        Some(Found::Directory(metadata)) => metadata.clone(),
        Some(Found::Leaf(_)) => panic!("{root} is a leaf, but has entries"),
        None => Metadata::default_directory(),
    };
    let mut tree = Tree::empty(metadata);
    let depth = root.components().len();
    for path in model
        .range(root..)
        .map(|(path, _)| path)
        .take_while(|p| p.starts_with(root))
    {
        let Some(name) = path.components().get(depth) else {
            continue;
        };
        if tree.entries.contains_key(name) {
            continue;
        }
        let child = root.join(name);
        let entry = match model.get(&child) {
            Some(Found::Leaf(leaf)) => Entry::Leaf(leaf.clone()),
            _ => Entry::Directory(store_below(model, &child, sink)?),
        };
        tree.entries.insert(name.clone(), entry);
    }
    sink.put_tree(tree)
}

/// Writes a stored tree down, the root and every directory included.
///
/// # Errors
/// Those of the source.
pub fn read_model<S: TreeSource + ?Sized>(tree: TreeRef, source: &S) -> Result<Model> {
    let mut model = Model::new();
    let mut rest = vec![(RelPath::root(), tree)];
    while let Some((path, reference)) = rest.pop() {
        let tree = source.tree(reference.id)?;
        for (name, entry) in &tree.entries {
            let path = path.join(name);
            match entry {
                Entry::Directory(child) => rest.push((path, *child)),
                Entry::Leaf(leaf) => {
                    model.insert(path, Found::Leaf(leaf.clone()));
                }
            }
        }
        model.insert(path, Found::Directory(tree.metadata.clone()));
    }
    Ok(model)
}

/// Adds the root and every parent that a model implies, so that models compare.
pub fn completed(mut model: Model) -> Model {
    let paths: Vec<RelPath> = model.keys().cloned().collect();
    for mut path in paths {
        while path.pop().is_some() {
            let default = || Found::Directory(Metadata::default_directory());
            model.entry(path.clone()).or_insert_with(default);
        }
    }
    model
        .entry(RelPath::root())
        .or_insert_with(|| Found::Directory(Metadata::default_directory()));
    model
}
