//! Which files of a selection are one inode. Keys of contents do not tell, and what is copied of
//! one path keeps its hard links.

use std::collections::HashMap;

use store::{Content, Entry, Leaf, LinkId, RelPath, TreeRef, TreeSource};

use crate::error::Error;

/// A file, and an earlier one that it is the same inode as.
pub(crate) type Pair = (Vec<u8>, Vec<u8>);

/// All pairs of a selection; none for one without links. Names that begin with a slash lie below
/// what is copied, others are copied by themselves and are no links afterwards.
pub(crate) fn pairs<S: TreeSource + ?Sized>(
    source: &S,
    selected: &[(Vec<u8>, Entry)],
) -> Result<Vec<Pair>, Error> {
    let mut pairs = Vec::new();
    let mut below = Scope::default();
    for (name, entry) in selected {
        match entry {
            Entry::Directory(tree) => {
                let mut scope = Scope::default();
                scope.walk(source, *tree, &RelPath::root())?;
                let named = |path| [name, &b"/"[..], path].concat();
                let found = scope.pairs.iter();
                pairs.extend(found.map(|(path, first)| (named(path), named(first))));
            }
            Entry::Leaf(leaf) if name.starts_with(b"/") => below.note(name, leaf),
            Entry::Leaf(_) => {}
        }
    }
    pairs.append(&mut below.pairs);
    Ok(pairs)
}

/// What stays linked.
#[derive(Default)]
struct Scope {
    first: HashMap<LinkId, Vec<u8>>,
    pairs: Vec<Pair>,
}

impl Scope {
    fn walk<S: TreeSource + ?Sized>(
        &mut self,
        source: &S,
        tree: TreeRef,
        path: &RelPath,
    ) -> Result<(), Error> {
        if tree.links == 0 {
            return Ok(());
        }
        let directory = source.tree(tree.id)?;
        for (name, entry) in &directory.entries {
            let path = path.join(name);
            match entry {
                Entry::Directory(child) => self.walk(source, *child, &path)?,
                Entry::Leaf(leaf) => self.note(&path.to_bytes(), leaf),
            }
        }
        Ok(())
    }

    fn note(&mut self, path: &[u8], leaf: &Leaf) {
        let (Some(link), Content::File { .. }) = (leaf.link, &leaf.content) else {
            return;
        };
        match self.first.get(&link) {
            Some(first) => self.pairs.push((path.to_vec(), first.clone())),
            None => drop(self.first.insert(link, path.to_vec())),
        }
    }
}
