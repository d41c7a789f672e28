//! Hard links across the layers of a stack.
//!
//! Overlayfs shows a file with the inode of the one layer that has its name. A group of hard links
//! is one inode only if all its names are in the same layer, and its link count is right only if
//! that layer has no name more. So a layer that adds a name to a group, or takes one away, must
//! hold every other name of the group as well.

use std::collections::HashSet;

use store::path::PATH_DEPTH_MAX;
use store::{Delta, DeltaDirectory, DeltaEntry, Entry, LinkId, Result, TreeRef, TreeSource};

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
    let mut changed = HashSet::new();
    collect_delta(&delta.root, Some(below), trees, &mut changed)?;
    if changed.is_empty() {
        return Ok(());
    }
    add_names(&mut delta.root, tree, &changed, trees, 0)
}

/// The groups of everything that the delta adds and of everything that it hides.
fn collect_delta(
    delta: &DeltaDirectory,
    below: Option<TreeRef>,
    trees: &dyn TreeSource,
    groups: &mut HashSet<LinkId>,
) -> Result<()> {
    let below = below.map(|below| trees.tree(below.id)).transpose()?;
    for (name, entry) in &delta.entries {
        let hidden = below.as_ref().and_then(|below| below.entries.get(name));
        match (entry, hidden) {
            (DeltaEntry::Directory(child), Some(Entry::Directory(hidden))) => {
                collect_delta(child, Some(*hidden), trees, groups)?;
                continue;
            }
            (DeltaEntry::Directory(child), _) => collect_delta(child, None, trees, groups)?,
            (DeltaEntry::Leaf(leaf), _) => groups.extend(leaf.link),
            (DeltaEntry::Graft(tree), _) => collect_tree(*tree, trees, groups)?,
            (DeltaEntry::Whiteout | DeltaEntry::Link(_), _) => {}
        }
        match hidden {
            Some(Entry::Leaf(leaf)) => groups.extend(leaf.link),
            Some(Entry::Directory(hidden)) => collect_tree(*hidden, trees, groups)?,
            None => {}
        }
    }
    Ok(())
}

fn collect_tree(
    tree: TreeRef,
    trees: &dyn TreeSource,
    groups: &mut HashSet<LinkId>,
) -> Result<()> {
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

/// Adds the names that the tree has of these groups and the delta has not. Deeper than any path
/// that the kernel accepts, nothing is added.
fn add_names(
    delta: &mut DeltaDirectory,
    tree: TreeRef,
    groups: &HashSet<LinkId>,
    trees: &dyn TreeSource,
    depth: usize,
) -> Result<()> {
    if tree.links == 0 || depth > PATH_DEPTH_MAX {
        return Ok(());
    }
    for (name, entry) in &trees.tree(tree.id)?.entries {
        match (entry, delta.entries.get_mut(name)) {
            (Entry::Leaf(leaf), None) if leaf.link.is_some_and(|link| groups.contains(&link)) => {
                delta.entries.insert(name.clone(), DeltaEntry::Leaf(leaf.clone()));
            }
            (Entry::Directory(child), Some(DeltaEntry::Directory(present))) => {
                add_names(present, *child, groups, trees, depth + 1)?;
            }
            (Entry::Directory(child), None) => {
                let mut added = DeltaDirectory::default();
                add_names(&mut added, *child, groups, trees, depth + 1)?;
                if !added.entries.is_empty() {
                    added.metadata = Some(trees.tree(child.id)?.metadata.clone());
                    delta.entries.insert(name.clone(), DeltaEntry::Directory(added));
                }
            }
            // It is no member, or the delta has it already.
            _ => {}
        }
    }
    Ok(())
}
