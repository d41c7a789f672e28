//! What a layer or a step changed against its parent: a tree with whiteouts and opaque marks.
//!
//! `apply(delta, tree) -> tree` and `diff(old, new) -> delta` are inverse:
//! `apply(diff(a, b), a) == b`. Both touch only directories that differ.

use std::collections::BTreeMap;

use crate::editor::{Editor, Found};
use crate::error::{Error, Result};
use crate::id::LinkId;
use crate::metadata::Metadata;
use crate::path::{Name, PATH_DEPTH_MAX, RelPath};
use crate::tree::{Content, Entry, Leaf, TreeRef, TreeSink, TreeSource};

/// A change of a whole tree, from its root.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Delta {
    /// What changed in the root directory.
    pub root: DeltaDirectory,
}

/// What changed in one directory.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct DeltaDirectory {
    /// The directory's attributes from now on; `None` keeps the lower ones, or, where there is
    /// no lower directory, takes [`Metadata::default_directory`].
    pub metadata: Option<Metadata>,
    /// Whether the entries of the lower directory are hidden (`.wh..wh..opq`).
    pub opaque: bool,
    /// Changed names.
    pub entries: BTreeMap<Name, DeltaEntry>,
}

/// One changed name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeltaEntry {
    /// The lower entry is gone.
    Whiteout,
    /// A directory; merges with a lower directory of that name.
    Directory(DeltaDirectory),
    /// Anything but a directory, in place of what was there.
    Leaf(Leaf),
    /// A hard link to a path that the delta itself does not hold, but the tree below it does.
    Link(RelPath),
    /// A stored directory, in place of what was there; never merges.
    Graft(TreeRef),
}

impl Delta {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.root == DeltaDirectory::default()
    }

    /// The tree that results from this change of `base` (`None`: of an empty directory).
    ///
    /// # Errors
    /// [`Error::LinkTargetMissing`] for a hard link to nothing or to a directory; those of reading
    /// and storing trees.
    pub fn apply<S: TreeSink + ?Sized>(&self, base: Option<TreeRef>, trees: &S) -> Result<TreeRef> {
        let mut editor = match base {
            Some(base) => Editor::open(trees, base),
            None => Editor::empty(trees, Metadata::default_directory()),
        };
        let mut links = Vec::new();
        let mut waiting = vec![(RelPath::root(), &self.root)];
        while let Some((path, directory)) = waiting.pop() {
            apply_directory(directory, &path, &mut editor, &mut waiting, &mut links)?;
        }
        for (path, target) in links {
            apply_link(&mut editor, &path, target, base)?;
        }
        editor.finish()
    }
}

/// Changes one directory; those below it are added to `waiting`, its hard links to `links`.
fn apply_directory<'d, S: TreeSource + ?Sized>(
    delta: &'d DeltaDirectory,
    path: &RelPath,
    editor: &mut Editor<'_, S>,
    waiting: &mut Vec<(RelPath, &'d DeltaDirectory)>,
    links: &mut Vec<(RelPath, &'d RelPath)>,
) -> Result<()> {
    match (editor.get(path)?, delta.opaque) {
        (Some(Found::Directory(metadata)), true) => {
            editor.insert_directory(path, metadata)?;
        }
        (Some(Found::Directory(_)), false) => {}
        _ => editor.insert_directory(path, Metadata::default_directory())?,
    }
    if let Some(metadata) = &delta.metadata {
        editor.set_metadata(path, metadata.clone())?;
    }
    for (name, entry) in &delta.entries {
        let path = path.join(name);
        match entry {
            DeltaEntry::Whiteout => {
                editor.remove(&path)?;
            }
            DeltaEntry::Directory(child) => waiting.push((path, child)),
            DeltaEntry::Leaf(leaf) => editor.insert(&path, Entry::Leaf(leaf.clone()))?,
            DeltaEntry::Graft(tree) => editor.insert(&path, Entry::Directory(*tree))?,
            DeltaEntry::Link(target) => links.push((path, target)),
        }
    }
    Ok(())
}

/// Makes `path` one more name of the inode at `target`.
///
/// The group of a target that had a single name is derived from the tree below and the target,
/// so that two layers doing the same to different trees never share a group.
fn apply_link<S: TreeSource + ?Sized>(
    editor: &mut Editor<'_, S>,
    path: &RelPath,
    target: &RelPath,
    base: Option<TreeRef>,
) -> Result<()> {
    // The layer may have deleted the target itself, after it was linked: then it is in the base.
    let below = match (editor.get(target)?, base) {
        (None, Some(base)) => Editor::open(editor.source(), base).get(target)?,
        _ => None,
    };
    if let Some(Found::Leaf(leaf)) = below {
        return editor.insert(path, Entry::Leaf(leaf));
    }
    let Some(Found::Leaf(mut leaf)) = editor.get(target)? else {
        let (path, target) = (path.to_string(), target.to_string());
        return Err(Error::LinkTargetMissing { path, target });
    };
    if leaf.link.is_none() {
        let origin = base.map(|base| *base.id.as_bytes()).unwrap_or_default();
        leaf.link = Some(LinkId::derive(&origin, &target.to_bytes()));
        editor.insert(target, Entry::Leaf(leaf.clone()))?;
    }
    editor.insert(path, Entry::Leaf(leaf))
}

/// The change that makes `new` of `old` (`None`: of nothing). Equal sub-trees are never read.
///
/// Every directory on the way to a change carries its attributes, as layer tars do; `opaque` is
/// never used (removed names become whiteouts), nor is [`DeltaEntry::Link`].
///
/// # Errors
/// Those of reading trees.
pub fn diff<S: TreeSource + ?Sized>(
    old: Option<TreeRef>,
    new: TreeRef,
    trees: &S,
) -> Result<Delta> {
    let root = match old {
        Some(old) if old.id == new.id => DeltaDirectory::default(),
        Some(old) => diff_directory(old, new, trees)?,
        None => created_directory(new, trees)?,
    };
    Ok(Delta { root })
}

fn created_directory<S: TreeSource + ?Sized>(new: TreeRef, trees: &S) -> Result<DeltaDirectory> {
    let tree = trees.tree(new.id)?;
    let entries = tree
        .entries
        .iter()
        .map(|(name, entry)| (name.clone(), whole(entry)));
    Ok(DeltaDirectory {
        metadata: Some(tree.metadata.clone()),
        opaque: false,
        entries: entries.collect(),
    })
}

fn whole(entry: &Entry) -> DeltaEntry {
    match entry {
        Entry::Leaf(leaf) => DeltaEntry::Leaf(leaf.clone()),
        Entry::Directory(tree) => DeltaEntry::Graft(*tree),
    }
}

/// A list of directories under comparison, each inside the one before, instead of recursion.
fn diff_directory<S: TreeSource + ?Sized>(
    old: TreeRef,
    new: TreeRef,
    trees: &S,
) -> Result<DeltaDirectory> {
    let mut above = Vec::new();
    let mut current = Comparing::new(None, old, new, trees)?;
    loop {
        if let Some((name, before, after)) = current.waiting.pop() {
            // Grafts in grafts nest deeper than any path: so deep, the whole is replaced.
            if above.len() >= PATH_DEPTH_MAX {
                current.delta.entries.insert(name, DeltaEntry::Graft(after));
            } else {
                let child = Comparing::new(Some(name), before, after, trees)?;
                above.push(std::mem::replace(&mut current, child));
            }
            continue;
        }
        let Some((mut parent, name)) = above.pop().zip(current.name) else {
            return Ok(current.delta);
        };
        parent
            .delta
            .entries
            .insert(name, DeltaEntry::Directory(current.delta));
        current = parent;
    }
}

/// Two directories of which one became the other.
struct Comparing {
    /// The name in the directory above; `None` for the first.
    name: Option<Name>,
    delta: DeltaDirectory,
    /// Sub-directories that differ, still to be compared.
    waiting: Vec<(Name, TreeRef, TreeRef)>,
}

impl Comparing {
    fn new<S: TreeSource + ?Sized>(
        name: Option<Name>,
        old: TreeRef,
        new: TreeRef,
        trees: &S,
    ) -> Result<Self> {
        let (old, new) = (trees.tree(old.id)?, trees.tree(new.id)?);
        let (mut entries, mut waiting) = (BTreeMap::new(), Vec::new());
        for name in old.entries.keys() {
            if !new.entries.contains_key(name) {
                entries.insert(name.clone(), DeltaEntry::Whiteout);
            }
        }
        for (name, entry) in &new.entries {
            match (old.entries.get(name), entry) {
                (Some(before), after) if before == after => {}
                (Some(Entry::Directory(before)), Entry::Directory(after)) => {
                    waiting.push((name.clone(), *before, *after));
                }
                (_, after) => {
                    entries.insert(name.clone(), whole(after));
                }
            }
        }
        let metadata = Some(new.metadata.clone());
        Ok(Comparing {
            name,
            delta: DeltaDirectory {
                metadata,
                opaque: false,
                entries,
            },
            waiting,
        })
    }
}

/// The regular files of a delta and their sizes, for usage: bytes and inodes that it adds.
///
/// Hard links of one group count once (inside a grafted directory, each name counts); whiteouts
/// count as an inode, as they do on disk.
pub fn usage(delta: &Delta) -> Usage {
    let mut usage = Usage::default();
    let mut groups = std::collections::HashSet::new();
    let mut rest = vec![&delta.root];
    while let Some(directory) = rest.pop() {
        usage.inodes += u64::from(directory.metadata.is_some() || !directory.entries.is_empty());
        for entry in directory.entries.values() {
            match entry {
                DeltaEntry::Directory(child) => rest.push(child),
                DeltaEntry::Whiteout => usage.inodes += 1,
                DeltaEntry::Link(_) => {}
                DeltaEntry::Graft(tree) => {
                    usage.inodes += tree.inodes;
                    usage.bytes += tree.bytes;
                }
                DeltaEntry::Leaf(leaf) => {
                    if leaf.link.is_some_and(|link| !groups.insert(link)) {
                        continue;
                    }
                    usage.inodes += 1;
                    if let Content::File { size, .. } = leaf.content {
                        usage.bytes += size;
                    }
                }
            }
        }
    }
    usage
}

/// Sum of the sizes of the regular files of a delta, in bytes, as its layer has them: an inode with
/// several names counts once, also inside a grafted directory. Reads all directories of a graft.
///
/// # Errors
/// Those of reading trees.
pub fn file_bytes<S: TreeSource + ?Sized>(delta: &Delta, trees: &S) -> Result<u64> {
    let mut counted = FileBytes::default();
    let mut grafts = Vec::new();
    let mut rest = vec![&delta.root];
    while let Some(directory) = rest.pop() {
        for entry in directory.entries.values() {
            match entry {
                DeltaEntry::Directory(child) => rest.push(child),
                DeltaEntry::Graft(tree) => grafts.push(*tree),
                DeltaEntry::Leaf(leaf) => counted.add(leaf),
                DeltaEntry::Whiteout | DeltaEntry::Link(_) => {}
            }
        }
    }
    while let Some(graft) = grafts.pop() {
        for entry in trees.tree(graft.id)?.entries.values() {
            match entry {
                Entry::Directory(tree) => grafts.push(*tree),
                Entry::Leaf(leaf) => counted.add(leaf),
            }
        }
    }
    Ok(counted.bytes)
}

/// See [`file_bytes`].
#[derive(Default)]
struct FileBytes {
    bytes: u64,
    groups: std::collections::HashMap<LinkId, Leaf>,
}

impl FileBytes {
    fn add(&mut self, leaf: &Leaf) {
        let Content::File { size, .. } = leaf.content else {
            return;
        };
        if let Some(link) = leaf.link {
            match self.groups.get(&link) {
                // A group whose members differ is one no more.
                Some(known) if known == leaf => return,
                Some(_) => {}
                None => drop(self.groups.insert(link, leaf.clone())),
            }
        }
        self.bytes += size;
    }
}

/// What something takes: containerd's `snapshots.Usage`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Usage {
    /// Sum of the sizes of regular files, in bytes.
    pub bytes: u64,
    /// Number of inodes.
    pub inodes: u64,
}

#[cfg(test)]
mod tests;
