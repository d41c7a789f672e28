//! The files of several platforms as one tree: each in a directory of its own, or all together.

use std::collections::btree_map;

use store::{
    Delta, DeltaDirectory, DeltaEntry, Entry, Leaf, LinkId, Metadata, Name, TreeRef, TreeSource,
};

use super::Export;
use crate::error::{Error, Result};

/// What the files of all platforms are, from an empty directory on. It has no stored directory as
/// a whole: the platforms may have directories in common.
///
/// # Errors
/// [`Error::Output`] if two platforms have a file of the same name and no directories of their own;
/// those of reading trees.
pub(super) fn together(export: &Export, is_split: bool, trees: &dyn TreeSource) -> Result<Delta> {
    let mut root = DeltaDirectory {
        metadata: Some(Metadata::default_directory()),
        ..DeltaDirectory::default()
    };
    for result in &export.results {
        let platform = result.platform.normalized().to_string();
        let mut merge = Merge {
            trees,
            platform,
            path: Vec::new(),
        };
        let target = match is_split {
            false => &mut root,
            true => {
                let name = Name::new(result.directory().as_bytes())?;
                directory_at(&mut root, name).expect("each platform is there once")
            }
        };
        match result.value.tree() {
            Some(tree) => merge.directory(tree, target)?,
            None => target.metadata = Some(Metadata::default_directory()),
        }
    }
    Ok(Delta { root })
}

/// The directory of that name, made if nothing is there; `None` if something else is.
fn directory_at(parent: &mut DeltaDirectory, name: Name) -> Option<&mut DeltaDirectory> {
    let made = || DeltaEntry::Directory(DeltaDirectory::default());
    match parent.entries.entry(name).or_insert_with(made) {
        DeltaEntry::Directory(directory) => Some(directory),
        _ => None,
    }
}

struct Merge<'m> {
    trees: &'m dyn TreeSource,
    platform: String,
    /// Names on the way to the present directory.
    path: Vec<String>,
}

impl Merge<'_> {
    fn directory(&mut self, tree: TreeRef, target: &mut DeltaDirectory) -> Result<()> {
        let tree = self.trees.tree(tree.id)?;
        target.metadata = Some(tree.metadata.clone());
        for (name, entry) in &tree.entries {
            self.path.push(name.to_string());
            match entry {
                Entry::Directory(child) => {
                    let target = directory_at(target, name.clone());
                    let target = target.ok_or_else(|| self.taken())?;
                    self.directory(*child, target)?;
                }
                Entry::Leaf(leaf) => match target.entries.entry(name.clone()) {
                    btree_map::Entry::Occupied(_) => return Err(self.taken()),
                    btree_map::Entry::Vacant(place) => {
                        place.insert(DeltaEntry::Leaf(self.own(leaf)));
                    }
                },
            }
            self.path.pop();
        }
        Ok(())
    }

    /// A file whose hard links are to files of the same platform only.
    fn own(&self, leaf: &Leaf) -> Leaf {
        let mut leaf = leaf.clone();
        leaf.link = leaf
            .link
            .map(|link| LinkId::derive(self.platform.as_bytes(), link.as_bytes()));
        leaf
    }

    fn taken(&self) -> Error {
        Error::Output {
            output: "platform-split=false".into(),
            reason: format!(
                "/{} of {} is a name that another platform has too; without the option each \
                 platform gets a directory of its own",
                self.path.join("/"),
                self.platform
            ),
        }
    }
}
