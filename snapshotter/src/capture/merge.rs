//! Puts the value of an upper directory over the tree below. Pure: trees in, tree out.
//!
//! Every lower path is looked up in the tree as it was, never in the tree in the making, so the
//! order of names does not matter: a directory may move to where another one has just left.

use std::collections::HashMap;

use store::{
    Content, Editor, Entry, Found, Leaf, LinkId, Metadata, Name, RelPath, TreeRef, TreeSink,
};

use super::bodies::Body;
use super::upper::{UpperContent, UpperDirectory, UpperEntry, UpperLeaf};
use crate::error::{Error, Result};

/// The tree of an upper over `base`. `directories` are those of the upper, its root first, and
/// `bodies` the contents of its files.
pub(super) fn merge<S: TreeSink + ?Sized>(
    directories: &[UpperDirectory],
    bodies: &[Body],
    base: Option<TreeRef>,
    trees: &S,
) -> Result<TreeRef> {
    let editor = || match base {
        Some(base) => Editor::open(trees, base),
        None => Editor::empty(trees, Metadata::default_directory()),
    };
    let origin = base.map(|base| *base.id.as_bytes()).unwrap_or_default();
    let mut merge = Merge {
        bodies,
        editor: editor(),
        lower: editor(),
        groups: HashMap::new(),
        origin,
        waiting: vec![(0, RelPath::root(), Some(RelPath::root()))],
    };
    // Depth first and in the order of names, so that groups of hard links get the same ids always.
    while let Some((index, path, below)) = merge.waiting.pop() {
        merge.directory(directories, index, &path, below.as_ref())?;
    }
    Ok(merge.editor.finish()?)
}

struct Merge<'m, S: TreeSink + ?Sized> {
    bodies: &'m [Body],
    /// The tree in the making.
    editor: Editor<'m, S>,
    /// The tree below, as it was.
    lower: Editor<'m, S>,
    /// Groups of hard links in the upper, by inode number.
    groups: HashMap<u64, LinkId>,
    /// What sets the groups made here apart from those of other trees.
    origin: [u8; 32],
    /// Directories that stand in the tree, but whose entries are still to be taken in: index, path,
    /// and the lower directory that each merges with.
    waiting: Vec<(usize, RelPath, Option<RelPath>)>,
}

impl<S: TreeSink + ?Sized> Merge<'_, S> {
    /// Takes in the entries of a directory, which stands at `path` and merges with the lower
    /// directory `below`, if any.
    fn directory(
        &mut self,
        directories: &[UpperDirectory],
        index: usize,
        path: &RelPath,
        below: Option<&RelPath>,
    ) -> Result<()> {
        let upper = &directories[index];
        self.editor.set_metadata(path, upper.metadata.clone())?;
        let first = self.waiting.len();
        for (name, entry) in &upper.entries {
            let path = path.join(name);
            match entry {
                UpperEntry::Whiteout => {
                    self.editor.remove(&path)?;
                }
                UpperEntry::Directory(child) => {
                    let below = self.place(&directories[*child], &path, name, below)?;
                    self.waiting.push((*child, path, below));
                }
                UpperEntry::Leaf(leaf) => self.leaf(leaf, &path, name, below)?,
            }
        }
        self.waiting[first..].reverse();
        Ok(())
    }

    /// Makes a directory stand at `path` with what shows through it from below, and tells which
    /// lower directory that is.
    fn place(
        &mut self,
        upper: &UpperDirectory,
        path: &RelPath,
        name: &Name,
        below: Option<&RelPath>,
    ) -> Result<Option<RelPath>> {
        let origin = match &upper.redirect {
            _ if upper.opaque => None,
            Some(redirect) => redirected(redirect, below),
            None => below.map(|below| below.join(name)),
        };
        // A lower entry of another kind is hidden, and one that is not there hides nothing.
        let origin = match origin {
            Some(origin) if matches!(self.lower.get(&origin)?, Some(Found::Directory(_))) => {
                Some(origin)
            }
            _ => None,
        };
        match &origin {
            None => self
                .editor
                .insert_directory(path, Metadata::default_directory())?,
            // It has moved, and what it held comes with it.
            Some(origin) if upper.redirect.is_some() => {
                if let Some(entry) = self.lower.entry(origin)? {
                    self.editor.insert(path, entry)?;
                }
            }
            // It is in its place: the directory above brought it along.
            Some(_) => {}
        }
        Ok(origin)
    }

    fn leaf(
        &mut self,
        upper: &UpperLeaf,
        path: &RelPath,
        name: &Name,
        below: Option<&RelPath>,
    ) -> Result<()> {
        let content = match &upper.content {
            UpperContent::Other(content) => content.clone(),
            UpperContent::File(index) => {
                let (blob, size) = self.bodies[*index];
                Content::File { blob, size }
            }
            UpperContent::Lower { redirect } => {
                self.lower_content(path, name, below, redirect.as_deref())?
            }
        };
        let link = upper.inode.map(|inode| {
            *self.groups.entry(inode).or_insert_with(|| {
                LinkId::derive(&self.origin, &[b"captured ", &*path.to_bytes()].concat())
            })
        });
        let leaf = Leaf {
            metadata: upper.metadata.clone(),
            content,
            link,
        };
        Ok(self.editor.insert(path, Entry::Leaf(leaf))?)
    }

    /// The content of the lower file that a metadata-only copy stands for.
    fn lower_content(
        &mut self,
        path: &RelPath,
        name: &Name,
        below: Option<&RelPath>,
        redirect: Option<&[u8]>,
    ) -> Result<Content> {
        let origin = match redirect {
            Some(redirect) => redirected(redirect, below),
            None => below.map(|below| below.join(name)),
        };
        let found = match &origin {
            Some(origin) => self.lower.get(origin)?,
            None => None,
        };
        match found {
            Some(Found::Leaf(Leaf {
                content: content @ Content::File { .. },
                ..
            })) => Ok(content),
            _ => Err(Error::Capture {
                path: path.to_string(),
                reason: match origin {
                    Some(origin) => format!(
                        "it is a metadata-only copy of {origin}, which is no file in the layer \
                         below"
                    ),
                    None => "it is a metadata-only copy of nothing".into(),
                },
            }),
        }
    }
}

/// Where a redirect leads: absolute from the root of the layer, or a name beside the entry.
fn redirected(redirect: &[u8], below: Option<&RelPath>) -> Option<RelPath> {
    match redirect.first() {
        Some(b'/') => RelPath::strict(redirect).ok(),
        _ => Some(below?.join(&Name::new(redirect).ok()?)),
    }
}

#[cfg(test)]
mod tests;
