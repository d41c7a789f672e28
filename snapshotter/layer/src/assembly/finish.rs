//! Turns what was read into a [`Delta`].

use std::collections::{BTreeMap, HashMap, btree_map};

use store::{BlobId, Content, Delta, DeltaDirectory, DeltaEntry, LinkId, Name};

use super::{Assembly, InodeIndex, Slot, What};
use crate::digest::Digest;
use crate::error::{Error, Result};

/// A directory being visited: what is left of it, and the length of its path.
type Visit<'a> = (btree_map::Iter<'a, Name, Slot>, usize);

impl Assembly<'_> {
    /// Makes the delta. `blobs` has the content of every file that [`Assembly::add`] told;
    /// `diff_id` tells the hard-link groups of this layer from those of others.
    pub(crate) fn finish(
        mut self,
        blobs: impl IntoIterator<Item = (InodeIndex, BlobId)>,
        diff_id: Digest,
    ) -> Result<Delta> {
        for (inode, id) in blobs {
            if let Content::File { blob, .. } = &mut self.inodes[inode].leaf.content {
                *blob = id;
            }
        }
        self.resolve_pending_links()?;
        for (inode, path) in self.linked_inodes() {
            let link = LinkId::derive(diff_id.as_bytes(), &path);
            self.inodes[inode].leaf.link = Some(link);
        }
        Ok(self.build())
    }

    /// Hard links to names that came later in the tar. The last one first: then each finds its
    /// target already resolved, however long the chain is.
    fn resolve_pending_links(&mut self) -> Result<()> {
        for (directory, name) in std::mem::take(&mut self.pending_links).into_iter().rev() {
            let Some(What::Link(target)) = self.directories[directory]
                .slots
                .get(&name)
                .and_then(|slot| slot.what.clone())
            else {
                continue;
            };
            let refused = |reason: &str| {
                let reason = format!("the hard link of this name to {target} {reason}");
                Error::entry(name.as_bytes(), reason)
            };
            let what = match self.follow(target.clone()) {
                None => return Err(refused("leads through too many others")),
                Some(What::Directory(_)) => return Err(refused("is one to a directory")),
                Some(what) => what,
            };
            if let What::Inode(inode) = what {
                self.inodes[inode].linked = true;
            }
            if let Some(slot) = self.directories[directory].slots.get_mut(&name) {
                slot.what = Some(what);
            }
        }
        Ok(())
    }

    /// The inodes that have more than one name in the end, each with its first name.
    fn linked_inodes(&self) -> Vec<(InodeIndex, Vec<u8>)> {
        let mut names: HashMap<InodeIndex, (Vec<u8>, bool)> = HashMap::new();
        if !self.inodes.iter().any(|inode| inode.linked) {
            return Vec::new();
        }
        let mut path = Vec::new();
        let mut rest: Vec<Visit<'_>> = vec![(self.directories[0].slots.iter(), 0)];
        while let Some((slots, length)) = rest.last_mut() {
            path.truncate(*length);
            let Some((name, slot)) = slots.next() else {
                rest.pop();
                continue;
            };
            path.push(b'/');
            path.extend_from_slice(name.as_bytes());
            match slot.what {
                Some(What::Directory(child)) => {
                    rest.push((self.directories[child].slots.iter(), path.len()));
                }
                Some(What::Inode(inode)) if self.inodes[inode].linked => {
                    names
                        .entry(inode)
                        .and_modify(|(_, several)| *several = true)
                        .or_insert_with(|| (path.clone(), false));
                }
                _ => {}
            }
        }
        let several = names.into_iter().filter(|(_, (_, several))| *several);
        several.map(|(inode, (path, _))| (inode, path)).collect()
    }

    /// From the last directory to the first: a directory is made after the one that holds it.
    fn build(self) -> Delta {
        let mut built: Vec<_> = self.directories.iter().map(|_| None).collect();
        for (index, directory) in self.directories.into_iter().enumerate().rev() {
            let mut entries = BTreeMap::new();
            for (name, slot) in directory.slots {
                let entry = match slot.what {
                    Some(What::Directory(child)) => {
                        let child: Option<DeltaDirectory> = built[child].take();
                        let mut child = child.unwrap_or_default();
                        child.opaque |= slot.hides;
                        DeltaEntry::Directory(child)
                    }
                    Some(What::Inode(inode)) => DeltaEntry::Leaf(self.inodes[inode].leaf.clone()),
                    Some(What::Link(target)) => DeltaEntry::Link(target),
                    None if slot.hides => DeltaEntry::Whiteout,
                    None => continue,
                };
                entries.insert(name, entry);
            }
            let (metadata, opaque) = (directory.metadata, directory.opaque);
            built[index] = Some(DeltaDirectory {
                metadata,
                opaque,
                entries,
            });
        }
        let root = built.into_iter().next().flatten().unwrap_or_default();
        Delta { root }
    }
}
