//! Changing a stored tree: open what is touched, leave the rest a reference, re-hash on the way
//! out only what was opened.
//!
//! Everything that makes a new tree from an old one goes through here: applying a delta, capturing
//! an overlay upper, and the file operations of a build.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::metadata::Metadata;
use crate::path::{Name, PATH_DEPTH_MAX, RelPath};
use crate::tree::{Content, Entry, Leaf, Tree, TreeRef, TreeSink, TreeSource};

/// Symbolic links that one resolution may follow, as the kernel's ELOOP limit.
pub const SYMLINKS_MAX: usize = 40;

/// A tree being changed. Reads go to `source` as directories are entered.
pub struct Editor<'s, S: TreeSource + ?Sized> {
    source: &'s S,
    root: Node,
}

/// A directory in the editor.
enum Node {
    /// Untouched: still what is stored.
    Stored(TreeRef),
    /// Entered.
    Open(Box<Directory>),
}

struct Directory {
    metadata: Metadata,
    entries: BTreeMap<Name, Slot>,
    /// What it was, as long as nothing in it, however deep, has been changed.
    origin: Option<TreeRef>,
}

enum Slot {
    Leaf(Leaf),
    Directory(Node),
}

/// What stands at a path of an edited tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Anything but a directory.
    Leaf(Leaf),
    /// A directory with these attributes of its own.
    Directory(Metadata),
}

impl Node {
    /// The entered directory, reading it first if it was not entered before.
    fn open<S: TreeSource + ?Sized>(&mut self, source: &S) -> Result<&mut Directory> {
        if let Node::Stored(reference) = *self {
            let tree = Arc::unwrap_or_clone(source.tree(reference.id)?);
            let slot = |entry| match entry {
                Entry::Leaf(leaf) => Slot::Leaf(leaf),
                Entry::Directory(child) => Slot::Directory(Node::Stored(child)),
            };
            let entries = tree
                .entries
                .into_iter()
                .map(|(name, entry)| (name, slot(entry)));
            *self = Node::Open(Box::new(Directory {
                metadata: tree.metadata,
                entries: entries.collect(),
                origin: Some(reference),
            }));
        }
        match self {
            Node::Open(directory) => Ok(directory),
            Node::Stored(_) => unreachable!("the directory was opened above"),
        }
    }

    /// Stores what is open, children first. A list instead of recursion: see [`PATH_DEPTH_MAX`].
    fn finish<S: TreeSink + ?Sized>(self, sink: &S) -> Result<TreeRef> {
        let root = match self {
            Node::Stored(reference) => return Ok(reference),
            Node::Open(directory) => directory,
        };
        let mut above = Vec::new();
        let mut current = Closing::new(None, *root);
        loop {
            if let Some((name, child)) = current.open.pop() {
                above.push(current);
                current = Closing::new(Some(name), *child);
                continue;
            }
            let reference = match current.origin {
                Some(reference) => reference,
                None => {
                    let (metadata, entries) = (current.metadata, current.entries);
                    sink.put_tree(Tree { metadata, entries })?
                }
            };
            let Some((mut parent, name)) = above.pop().zip(current.name) else {
                return Ok(reference);
            };
            parent.entries.insert(name, Entry::Directory(reference));
            current = parent;
        }
    }
}

/// A directory on its way back into the store.
struct Closing {
    /// Its name in the directory above; `None` for the first.
    name: Option<Name>,
    metadata: Metadata,
    /// Where it comes from if nothing in it, however deep, was changed.
    origin: Option<TreeRef>,
    entries: BTreeMap<Name, Entry>,
    /// Children that are still open.
    open: Vec<(Name, Box<Directory>)>,
}

impl Closing {
    fn new(name: Option<Name>, directory: Directory) -> Self {
        let (mut entries, mut open) = (BTreeMap::new(), Vec::new());
        for (name, slot) in directory.entries {
            match slot {
                Slot::Leaf(leaf) => {
                    entries.insert(name, Entry::Leaf(leaf));
                }
                Slot::Directory(Node::Stored(reference)) => {
                    entries.insert(name, Entry::Directory(reference));
                }
                Slot::Directory(Node::Open(child)) => open.push((name, child)),
            }
        }
        let (metadata, origin) = (directory.metadata, directory.origin);
        Closing {
            name,
            metadata,
            origin,
            entries,
            open,
        }
    }
}

impl<'s, S: TreeSource + ?Sized> Editor<'s, S> {
    /// Starts from a stored tree.
    pub fn open(source: &'s S, tree: TreeRef) -> Self {
        Editor {
            source,
            root: Node::Stored(tree),
        }
    }

    /// Starts from an empty directory.
    pub fn empty(source: &'s S, metadata: Metadata) -> Self {
        let root = Directory {
            metadata,
            entries: BTreeMap::new(),
            origin: None,
        };
        Editor {
            source,
            root: Node::Open(Box::new(root)),
        }
    }

    /// The directory at `path`, or `None` if the path is absent or not a directory.
    fn directory(&mut self, path: &[Name]) -> Result<Option<&mut Directory>> {
        check_depth(path)?;
        let mut directory = self.root.open(self.source)?;
        for name in path {
            directory = match directory.entries.get_mut(name) {
                Some(Slot::Directory(node)) => node.open(self.source)?,
                _ => return Ok(None),
            };
        }
        Ok(Some(directory))
    }

    /// As [`Self::directory`], for a change below: every directory on the way loses its origin.
    fn directory_for_change(&mut self, path: &[Name]) -> Result<&mut Directory> {
        let absent = || Error::Path {
            path: path.iter().cloned().collect::<RelPath>().to_string(),
            reason: "it is not a directory",
        };
        check_depth(path)?;
        let mut directory = self.root.open(self.source)?;
        for name in path {
            directory.origin = None;
            directory = match directory.entries.get_mut(name) {
                Some(Slot::Directory(node)) => node.open(self.source)?,
                _ => return Err(absent()),
            };
        }
        directory.origin = None;
        Ok(directory)
    }

    /// Where trees are read from.
    pub(crate) fn source(&self) -> &'s S {
        self.source
    }

    /// What stands at `path`, symbolic links not followed; `None` if nothing.
    ///
    /// # Errors
    /// Those of reading trees.
    pub fn get(&mut self, path: &RelPath) -> Result<Option<Found>> {
        let source = self.source;
        let Some((name, parent)) = path.components().split_last() else {
            return Ok(Some(Found::Directory(
                self.root.open(source)?.metadata.clone(),
            )));
        };
        let Some(directory) = self.directory(parent)? else {
            return Ok(None);
        };
        Ok(match directory.entries.get_mut(name) {
            None => None,
            Some(Slot::Leaf(leaf)) => Some(Found::Leaf(leaf.clone())),
            Some(Slot::Directory(node)) => {
                Some(Found::Directory(node.open(source)?.metadata.clone()))
            }
        })
    }

    /// The stored directory at `path`, if it is one and nothing below it was changed.
    ///
    /// # Errors
    /// Those of reading trees.
    pub fn untouched(&mut self, path: &RelPath) -> Result<Option<TreeRef>> {
        let origin = |node: &Node| match node {
            Node::Stored(reference) => Some(*reference),
            Node::Open(directory) => directory.origin,
        };
        let Some((name, parent)) = path.components().split_last() else {
            return Ok(origin(&self.root));
        };
        let directory = self.directory(parent)?;
        Ok(
            match directory.and_then(|directory| directory.entries.get(name)) {
                Some(Slot::Directory(node)) => origin(node),
                _ => None,
            },
        )
    }

    /// The names in the directory at `path`, sorted; `None` if it is no directory.
    ///
    /// # Errors
    /// Those of reading trees.
    pub fn list(&mut self, path: &RelPath) -> Result<Option<Vec<Name>>> {
        let directory = self.directory(path.components())?;
        Ok(directory.map(|directory| directory.entries.keys().cloned().collect()))
    }

    /// Follows symbolic links from the root of the tree, as a process chrooted into it would.
    ///
    /// Components that do not exist are kept as they are, so that what is to be created can be
    /// resolved too. `follow_last` tells whether a link at the very end is followed.
    ///
    /// # Errors
    /// [`Error::Path`] for more than [`SYMLINKS_MAX`] links or a result deeper than
    /// [`PATH_DEPTH_MAX`]; those of reading trees.
    pub fn resolve(&mut self, path: &RelPath, follow_last: bool) -> Result<RelPath> {
        self.resolve_within(&RelPath::root(), path, follow_last)
    }

    /// The same from the directory `within` on, as a process would that is chrooted into that: no
    /// link leads out of it. The path is relative to it, what is returned to the root of the tree.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub fn resolve_within(
        &mut self,
        within: &RelPath,
        path: &RelPath,
        follow_last: bool,
    ) -> Result<RelPath> {
        let mut resolved = within.clone();
        let mut rest: Vec<Step> = steps(&path.to_bytes())?;
        rest.reverse();
        let mut links = 0;
        while let Some(step) = rest.pop() {
            let name = match step {
                Step::Up => {
                    if resolved.components().len() > within.components().len() {
                        resolved.pop();
                    }
                    continue;
                }
                Step::Down(name) => name,
            };
            let next = resolved.join(&name);
            check_depth(resolved.components())?;
            let target = match self.leaf(&next)? {
                Some(Leaf {
                    content: Content::Symlink { target },
                    ..
                }) if follow_last || !rest.is_empty() => target,
                _ => {
                    resolved = next;
                    continue;
                }
            };
            links += 1;
            if links > SYMLINKS_MAX {
                let path = path.to_string();
                return Err(Error::Path {
                    path,
                    reason: "too many levels of symbolic links",
                });
            }
            if target.first() == Some(&b'/') {
                resolved = within.clone();
            }
            rest.extend(steps(&target)?.into_iter().rev());
        }
        Ok(resolved)
    }

    fn leaf(&mut self, path: &RelPath) -> Result<Option<Leaf>> {
        let Some((name, parent)) = path.components().split_last() else {
            return Ok(None);
        };
        let directory = self.directory(parent)?;
        Ok(
            match directory.and_then(|directory| directory.entries.get(name)) {
                Some(Slot::Leaf(leaf)) => Some(leaf.clone()),
                _ => None,
            },
        )
    }

    /// Puts an entry at `path`, in place of whatever is there.
    ///
    /// # Errors
    /// [`Error::Path`] if the parent is no directory, or `path` is the root and the entry a leaf.
    pub fn insert(&mut self, path: &RelPath, entry: Entry) -> Result<()> {
        let Some((name, parent)) = path.components().split_last() else {
            return match entry {
                Entry::Directory(tree) => {
                    self.root = Node::Stored(tree);
                    Ok(())
                }
                Entry::Leaf(_) => Err(Error::Path {
                    path: path.to_string(),
                    reason: "the root can only be a directory",
                }),
            };
        };
        let slot = match entry {
            Entry::Leaf(leaf) => Slot::Leaf(leaf),
            Entry::Directory(tree) => Slot::Directory(Node::Stored(tree)),
        };
        self.directory_for_change(parent)?
            .entries
            .insert(name.clone(), slot);
        Ok(())
    }

    /// Puts an empty directory at `path`, in place of whatever is there.
    ///
    /// # Errors
    /// [`Error::Path`] if the parent is no directory.
    pub fn insert_directory(&mut self, path: &RelPath, metadata: Metadata) -> Result<()> {
        let fresh = Directory {
            metadata,
            entries: BTreeMap::new(),
            origin: None,
        };
        let node = Node::Open(Box::new(fresh));
        match path.components().split_last() {
            None => self.root = node,
            Some((name, parent)) => {
                let parent = self.directory_for_change(parent)?;
                parent.entries.insert(name.clone(), Slot::Directory(node));
            }
        }
        Ok(())
    }

    /// Makes the directory at `path` and those above it that are missing, each with the given
    /// attributes; what exists stays. Symbolic links are not followed: resolve first.
    ///
    /// # Errors
    /// [`Error::Path`] if something on the way is no directory.
    pub fn make_directories(&mut self, path: &RelPath, metadata: &Metadata) -> Result<()> {
        let mut made = RelPath::root();
        for name in path.components() {
            made.push(name.clone());
            match self.get(&made)? {
                Some(Found::Directory(_)) => {}
                None => self.insert_directory(&made, metadata.clone())?,
                Some(Found::Leaf(_)) => {
                    let path = made.to_string();
                    return Err(Error::Path {
                        path,
                        reason: "it is not a directory",
                    });
                }
            }
        }
        Ok(())
    }

    /// Removes what stands at `path`, a directory with everything below it; tells if there was
    /// anything. The root is emptied, not removed.
    ///
    /// # Errors
    /// Those of reading trees.
    pub fn remove(&mut self, path: &RelPath) -> Result<bool> {
        let Some((name, parent)) = path.components().split_last() else {
            self.directory_for_change(&[])?.entries.clear();
            return Ok(true);
        };
        // What is removed is not opened: it may be large, or missing from the store.
        let present = self
            .directory(parent)?
            .is_some_and(|dir| dir.entries.contains_key(name));
        if present {
            self.directory_for_change(parent)?.entries.remove(name);
        }
        Ok(present)
    }

    /// Replaces the attributes of the directory or leaf at `path`.
    ///
    /// # Errors
    /// [`Error::Path`] if nothing is there.
    pub fn set_metadata(&mut self, path: &RelPath, metadata: Metadata) -> Result<()> {
        match self.get(path)? {
            Some(Found::Directory(present)) => {
                if present != metadata {
                    self.directory_for_change(path.components())?.metadata = metadata;
                }
                Ok(())
            }
            Some(Found::Leaf(leaf)) => self.insert(path, Entry::Leaf(Leaf { metadata, ..leaf })),
            None => Err(Error::Path {
                path: path.to_string(),
                reason: "it does not exist",
            }),
        }
    }
}

impl<S: TreeSink + ?Sized> Editor<'_, S> {
    /// Stores what was changed and tells the new root. Nothing changed: the old root.
    ///
    /// # Errors
    /// Those of storing trees.
    pub fn finish(self) -> Result<TreeRef> {
        self.root.finish(self.source)
    }

    /// The entry at `path` as it is now, stored as far as needed; `None` if nothing is there.
    ///
    /// The directory stays part of the edited tree.
    ///
    /// # Errors
    /// Those of storing trees.
    pub fn entry(&mut self, path: &RelPath) -> Result<Option<Entry>> {
        let source = self.source;
        let node = match path.components().split_last() {
            None => &mut self.root,
            Some((name, parent)) => {
                let directory = self.directory(parent)?;
                match directory.and_then(|directory| directory.entries.get_mut(name)) {
                    None => return Ok(None),
                    Some(Slot::Leaf(leaf)) => return Ok(Some(Entry::Leaf(leaf.clone()))),
                    Some(Slot::Directory(node)) => node,
                }
            }
        };
        let placeholder = Node::Open(Box::new(Directory {
            metadata: Metadata::default_directory(),
            entries: BTreeMap::new(),
            origin: None,
        }));
        let reference = std::mem::replace(node, placeholder).finish(source)?;
        *node = Node::Stored(reference);
        Ok(Some(Entry::Directory(reference)))
    }
}

impl<S: TreeSource + ?Sized> std::fmt::Debug for Editor<'_, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Editor").finish_non_exhaustive()
    }
}

/// Bounds how deep opened directories nest, and with it every recursion over them.
fn check_depth(path: &[Name]) -> Result<()> {
    if path.len() <= PATH_DEPTH_MAX {
        return Ok(());
    }
    Err(Error::Path {
        path: format!("/{}/…", path[0]),
        reason: "the path is deeper than 512 components",
    })
}

/// A component of a path in which `..` still means something.
enum Step {
    Up,
    Down(Name),
}

fn steps(path: &[u8]) -> Result<Vec<Step>> {
    path.split(|byte| *byte == b'/')
        .filter(|component| !matches!(*component, b"" | b"."))
        .map(|component| match component {
            b".." => Ok(Step::Up),
            name => Name::new(name).map(Step::Down),
        })
        .collect()
}

#[cfg(test)]
mod tests;
