//! What a step gives: a committed snapshot, by name and tree.

use std::sync::Arc;

use store::TreeRef;

/// One output of a step: a file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value(Arc<Snapshot>);

/// The snapshot behind a [`Value`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name in the snapshotter. Empty for the empty file system, which has no snapshot.
    pub name: String,
    /// Its whole content; `None` for the empty file system.
    pub tree: Option<TreeRef>,
}

impl Value {
    /// A committed snapshot.
    pub fn new(name: impl Into<String>, tree: TreeRef) -> Self {
        Value(Arc::new(Snapshot {
            name: name.into(),
            tree: Some(tree),
        }))
    }

    /// The empty file system.
    pub fn empty() -> Self {
        Value(Arc::new(Snapshot {
            name: String::new(),
            tree: None,
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
