//! Hard links across the layers of a stack.
//!
//! Overlayfs shows a file with the inode of the one layer that has its name. A group of hard links
//! is one inode only if all its names are in the same layer, and its link count is right only if
//! that layer has no name more. So a layer that adds a name to a group, or takes one away, must
//! hold every other name of the group as well.

use std::collections::HashSet;

use store::path::PATH_DEPTH_MAX;
use store::{
    Delta, DeltaDirectory, DeltaEntry, Entry, Leaf, LinkId, RelPath, Result, TreeRef, TreeSource,
};

/// Adds to a delta from `below` to `tree` the names of every group of hard links that it changes.
///
/// # Errors
/// Those of reading trees.
pub(crate) fn complete(
    delta: &mut Delta,
    below: TreeRef,
    tree: TreeRef,
    trees: &dyn TreeSource,
) -> Result<()> {
    // Names outside of the delta are the same in both trees.
    if below.links == 0 || tree.links == 0 {
        return Ok(());
    }
    let changed = changed_groups(delta, below, trees)?;
    if changed.is_empty() {
        return Ok(());
    }
    for (path, leaf) in members(tree, &changed, trees)? {
        add_name(&mut delta.root, tree, &path, leaf, trees)?;
    }
    Ok(())
}

/// The groups of everything that the delta adds and of everything that it hides.
fn changed_groups(
    delta: &Delta,
    below: TreeRef,
    trees: &dyn TreeSource,
) -> Result<HashSet<LinkId>> {
    let mut groups = HashSet::new();
    let mut waiting = vec![(&delta.root, Some(below))];
    while let Some((delta, below)) = waiting.pop() {
        let below = below.map(|below| trees.tree(below.id)).transpose()?;
        for (name, entry) in &delta.entries {
            let hidden = below.as_ref().and_then(|below| below.entries.get(name));
            match (entry, hidden) {
                (DeltaEntry::Directory(child), Some(Entry::Directory(below))) => {
                    waiting.push((child, Some(*below)));
                    continue;
                }
                (DeltaEntry::Directory(child), _) => waiting.push((child, None)),
                (DeltaEntry::Leaf(leaf), _) => groups.extend(leaf.link),
                (DeltaEntry::Graft(tree), _) => collect_tree(*tree, trees, &mut groups)?,
                (DeltaEntry::Whiteout | DeltaEntry::Link(_), _) => {}
            }
            match hidden {
                Some(Entry::Leaf(leaf)) => groups.extend(leaf.link),
                Some(Entry::Directory(hidden)) => collect_tree(*hidden, trees, &mut groups)?,
                None => {}
            }
        }
    }
    Ok(groups)
}

fn collect_tree(tree: TreeRef, trees: &dyn TreeSource, groups: &mut HashSet<LinkId>) -> Result<()> {
    let mut waiting = vec![tree];
    while let Some(tree) = waiting.pop() {
        if tree.links == 0 {
            continue;
        }
        for entry in trees.tree(tree.id)?.entries.values() {
            match entry {
                Entry::Directory(child) => waiting.push(*child),
                Entry::Leaf(leaf) => groups.extend(leaf.link),
            }
        }
    }
    Ok(())
}

/// All names that the tree has of these groups.
fn members(
    tree: TreeRef,
    groups: &HashSet<LinkId>,
    trees: &dyn TreeSource,
) -> Result<Vec<(RelPath, Leaf)>> {
    let mut members = Vec::new();
    let mut waiting = vec![(RelPath::root(), tree)];
    while let Some((path, tree)) = waiting.pop() {
        // No path leads deeper: there a file just has fewer names.
        if tree.links == 0 || path.components().len() >= PATH_DEPTH_MAX {
            continue;
        }
        for (name, entry) in &trees.tree(tree.id)?.entries {
            match entry {
                Entry::Directory(child) => waiting.push((path.join(name), *child)),
                Entry::Leaf(leaf) if leaf.link.is_some_and(|link| groups.contains(&link)) => {
                    members.push((path.join(name), leaf.clone()));
                }
                Entry::Leaf(_) => {}
            }
        }
    }
    Ok(members)
}

/// Adds a name of the tree to the delta, unless it is there, with the directories on the way.
fn add_name(
    mut delta: &mut DeltaDirectory,
    mut tree: TreeRef,
    path: &RelPath,
    leaf: Leaf,
    trees: &dyn TreeSource,
) -> Result<()> {
    let Some((name, parents)) = path.components().split_last() else {
        return Ok(());
    };
    for parent in parents {
        let entry = trees.tree(tree.id)?.entries.get(parent).cloned();
        let Some(Entry::Directory(child)) = entry else {
            return Ok(());
        };
        tree = child;
        let metadata = Some(trees.tree(tree.id)?.metadata.clone());
        let fresh = DeltaDirectory {
            metadata,
            ..DeltaDirectory::default()
        };
        let entry = delta.entries.entry(parent.clone());
        delta = match entry.or_insert(DeltaEntry::Directory(fresh)) {
            DeltaEntry::Directory(child) => child,
            // A graft has all its names already.
            _ => return Ok(()),
        };
    }
    delta
        .entries
        .entry(name.clone())
        .or_insert(DeltaEntry::Leaf(leaf));
    Ok(())
}
