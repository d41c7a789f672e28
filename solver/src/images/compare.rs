//! What differs between two trees, path by path: `docker diff` for images. Directories with equal
//! digests are not entered.

use store::{Content, Entry, Leaf, Metadata, RelPath, Tree, TreeRef, TreeSource};

use crate::error::Result;

/// How a path differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only in the second tree.
    Added,
    /// In both, and different; of a directory, also when something in it is.
    Changed,
    /// Only in the first tree; what was below it is not named.
    Deleted,
}

/// A path that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// How.
    pub kind: Kind,
    /// Where, from the root of the tree.
    pub path: RelPath,
    /// Bytes of the file, or of all files below, in the first tree.
    pub before: u64,
    /// The same in the second tree.
    pub after: u64,
    /// What is different of something that is in both: `content`, `type`, `mode`, `owner`, `mtime`,
    /// `xattrs`, `target`.
    pub parts: Vec<&'static str>,
}

/// Calls `visit` with every path that differs, each directory before what is in it.
///
/// # Errors
/// Those of reading trees; what `visit` returns.
pub fn compare(
    before: Option<TreeRef>,
    after: Option<TreeRef>,
    trees: &dyn TreeSource,
    visit: &mut dyn FnMut(Change) -> Result<()>,
) -> Result<()> {
    let root = |tree: Option<TreeRef>| match tree {
        Some(tree) => trees.tree(tree.id),
        None => Ok(Tree::empty(Metadata::default_directory()).into()),
    };
    if before.map(|tree| tree.id) == after.map(|tree| tree.id) {
        return Ok(());
    }
    let (before, after) = (root(before)?, root(after)?);
    let mut walk = Walk { trees, visit };
    let mut path = RelPath::root();
    walk.entries(&before, &after, &mut path)
}

struct Walk<'w> {
    trees: &'w dyn TreeSource,
    visit: &'w mut dyn FnMut(Change) -> Result<()>,
}

impl Walk<'_> {
    fn entries(&mut self, before: &Tree, after: &Tree, path: &mut RelPath) -> Result<()> {
        let mut names: Vec<_> = before.entries.keys().chain(after.entries.keys()).collect();
        names.sort();
        names.dedup();
        for name in names {
            path.push(name.clone());
            let done = match (before.entries.get(name), after.entries.get(name)) {
                (None, Some(entry)) => self.added(entry, path),
                (Some(entry), None) => self.tell(Kind::Deleted, path, size(entry), 0, Vec::new()),
                (Some(before), Some(after)) if before != after => self.changed(before, after, path),
                _ => Ok(()),
            };
            path.pop();
            done?;
        }
        Ok(())
    }

    fn tell(
        &mut self,
        kind: Kind,
        path: &RelPath,
        before: u64,
        after: u64,
        parts: Vec<&'static str>,
    ) -> Result<()> {
        let path = path.clone();
        (self.visit)(Change {
            kind,
            path,
            before,
            after,
            parts,
        })
    }

    fn added(&mut self, entry: &Entry, path: &mut RelPath) -> Result<()> {
        self.tell(Kind::Added, path, 0, size(entry), Vec::new())?;
        let Entry::Directory(tree) = entry else {
            return Ok(());
        };
        let tree = self.trees.tree(tree.id)?;
        for (name, entry) in &tree.entries {
            path.push(name.clone());
            let done = self.added(entry, path);
            path.pop();
            done?;
        }
        Ok(())
    }

    fn changed(&mut self, before: &Entry, after: &Entry, path: &mut RelPath) -> Result<()> {
        let sizes = (size(before), size(after));
        match (before, after) {
            (Entry::Leaf(a), Entry::Leaf(b)) => {
                let parts = leaf_parts(a, b);
                match parts.is_empty() {
                    // Only the group of hard links is another.
                    true => Ok(()),
                    false => self.tell(Kind::Changed, path, sizes.0, sizes.1, parts),
                }
            }
            (Entry::Directory(a), Entry::Directory(b)) => {
                let (a, b) = (self.trees.tree(a.id)?, self.trees.tree(b.id)?);
                let parts = metadata_parts(&a.metadata, &b.metadata);
                self.tell(Kind::Changed, path, sizes.0, sizes.1, parts)?;
                self.entries(&a, &b, path)
            }
            (_, Entry::Directory(tree)) => {
                self.tell(Kind::Changed, path, sizes.0, sizes.1, vec!["type"])?;
                let empty = Tree::empty(Metadata::default_directory());
                let tree = self.trees.tree(tree.id)?;
                self.entries(&empty, &tree, path)
            }
            (Entry::Directory(_), _) => {
                self.tell(Kind::Changed, path, sizes.0, sizes.1, vec!["type"])
            }
        }
    }
}

fn size(entry: &Entry) -> u64 {
    match entry {
        Entry::Directory(tree) => tree.bytes,
        Entry::Leaf(Leaf {
            content: Content::File { size, .. },
            ..
        }) => *size,
        Entry::Leaf(_) => 0,
    }
}

fn leaf_parts(a: &Leaf, b: &Leaf) -> Vec<&'static str> {
    let mut parts = Vec::new();
    match (&a.content, &b.content) {
        (a, b) if a == b => {}
        (Content::File { .. }, Content::File { .. }) => parts.push("content"),
        (Content::Symlink { .. }, Content::Symlink { .. }) => parts.push("target"),
        _ => parts.push("type"),
    }
    parts.extend(metadata_parts(&a.metadata, &b.metadata));
    parts
}

fn metadata_parts(a: &Metadata, b: &Metadata) -> Vec<&'static str> {
    [
        (a.mode != b.mode, "mode"),
        ((a.uid, a.gid) != (b.uid, b.gid), "owner"),
        (a.mtime != b.mtime, "mtime"),
        (a.xattrs != b.xattrs, "xattrs"),
    ]
    .into_iter()
    .filter_map(|(differs, part)| differs.then_some(part))
    .collect()
}
