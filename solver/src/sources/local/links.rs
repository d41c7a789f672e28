//! Hard links of a context: which of its files are one.
//!
//! Only regular files, as in BuildKit; and only names that are part of the context.

use std::collections::{HashMap, HashSet};

use store::{BlobId, LinkId};

use super::memory::Identity;
use super::{Directory, Node};

/// Says in the id of a group where it comes from.
const ORIGIN: &[u8] = b"local context";

/// The files of a context that have several names in it.
///
/// A file that changes while it is read may be found with two contents: those names are no group.
#[derive(Default)]
pub(super) struct Links(HashMap<(Identity, BlobId), Group>);

struct Group {
    /// The path by which it was found first.
    first: Vec<u8>,
    names: usize,
}

impl Links {
    /// Finds the groups of what a walk found. `linked` are the files with several names anywhere,
    /// `bodies` those of the files that were read now.
    pub(super) fn of(
        root: &Directory,
        linked: &HashSet<Identity>,
        bodies: &[(BlobId, u64)],
    ) -> Self {
        let mut links = Links::default();
        if !linked.is_empty() {
            links.collect(root, linked, bodies, &[]);
            links.0.retain(|_, group| group.names > 1);
        }
        links
    }

    fn collect(
        &mut self,
        directory: &Directory,
        linked: &HashSet<Identity>,
        bodies: &[(BlobId, u64)],
        below: &[u8],
    ) {
        for (name, node) in &directory.entries {
            let path = || [below, b"/", name.as_bytes()].concat();
            let (identity, blob) = match node {
                Node::Directory(child) => {
                    self.collect(child, linked, bodies, &path());
                    continue;
                }
                Node::Leaf(_) => continue,
                Node::Known(_, identity, blob) => (identity, *blob),
                Node::Unread(_, identity, index) => (identity, bodies[*index].0),
            };
            if !linked.contains(identity) {
                continue;
            }
            // Names come in their order, so the first one is the same each time.
            let group = self.0.entry((*identity, blob)).or_insert_with(|| Group {
                first: path(),
                names: 0,
            });
            group.names += 1;
        }
    }

    /// The group that a file belongs to.
    pub(super) fn group(&self, identity: &Identity, blob: BlobId) -> Option<LinkId> {
        let group = self.0.get(&(*identity, blob))?;
        Some(LinkId::derive(ORIGIN, &group.first))
    }
}
