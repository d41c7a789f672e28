//! What a step gives: a committed snapshot, by name and tree.

use std::sync::Arc;

use store::{Pin, Store, TreeRef};

/// One output of a step: a file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value(Arc<Snapshot>);

/// The snapshot behind a [`Value`].
#[derive(Debug)]
pub struct Snapshot {
    /// Its name in the snapshotter. Empty for the empty file system, which has no snapshot.
    pub name: String,
    /// Its whole content; `None` for the empty file system.
    pub tree: Option<TreeRef>,
    /// It is not collected as long as somebody has the value.
    _pin: Option<Pin>,
}

impl PartialEq for Snapshot {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.tree) == (&other.name, other.tree)
    }
}

impl Eq for Snapshot {}

impl Value {
    /// A committed snapshot that was found or made in work that still goes on.
    pub fn new(store: &Store, name: impl Into<String>, tree: TreeRef) -> Self {
        let name = name.into();
        Value(Arc::new(Snapshot {
            _pin: Some(store.pin(&name)),
            name,
            tree: Some(tree),
        }))
    }

    /// The empty file system.
    pub fn empty() -> Self {
        Value(Arc::new(Snapshot {
            name: String::new(),
            tree: None,
            _pin: None,
        }))
    }

    /// The snapshot's name; empty for the empty file system.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The whole content; `None` for the empty file system.
    pub fn tree(&self) -> Option<TreeRef> {
        self.0.tree
    }
}
