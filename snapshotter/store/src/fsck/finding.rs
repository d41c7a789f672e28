//! What can be wrong with a store, each case naming the thing.

use std::fmt;
use std::path::PathBuf;

use crate::id::{BlobId, TreeId};
use crate::layout::Table;
use crate::path::Name;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// A row of the tree or blob table whose key is no id.
    KeyInvalid {
        /// The table.
        table: Table,
        /// The key.
        key: Vec<u8>,
    },
    /// A tree row that does not hash to its key or cannot be decoded.
    TreeDamaged {
        /// The key of the row.
        tree: TreeId,
        /// What is wrong with it.
        reason: String,
    },
    /// A tree that names a directory whose row is missing.
    ChildMissing {
        /// The tree.
        tree: TreeId,
        /// The name in it.
        name: Name,
        /// What the name refers to.
        child: TreeId,
    },
    /// A tree that has another idea of a child's sums or content key than the child's own row.
    ChildDiffers {
        /// The tree.
        tree: TreeId,
        /// The name in it.
        name: Name,
        /// What the name refers to.
        child: TreeId,
    },
    /// A tree that names a blob that has no row.
    BlobUnknown {
        /// The tree.
        tree: TreeId,
        /// The name in it.
        name: Name,
        /// What the name refers to.
        blob: BlobId,
    },
    /// A tree that gives a blob another length than the blob's row.
    SizeDiffers {
        /// The tree.
        tree: TreeId,
        /// The name in it.
        name: Name,
        /// What the name refers to.
        blob: BlobId,
    },
    /// A blob row that cannot be decoded.
    BlobRowDamaged {
        /// The key of the row.
        blob: BlobId,
    },
    /// A blob without its object file.
    ObjectMissing {
        /// The blob.
        blob: BlobId,
    },
    /// An object file of the wrong length, or with wrong bytes, or that is no regular file.
    ObjectCorrupt {
        /// The blob that the file should hold.
        blob: BlobId,
        /// What is wrong.
        reason: String,
    },
    /// A file among the objects that no row names. Harmless; the sweep takes it too.
    Stray {
        /// The file or directory.
        path: PathBuf,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::KeyInvalid { table, key } => {
                write!(
                    f,
                    "table {}: a key of {} bytes is no id",
                    table.name(),
                    key.len()
                )
            }
            Finding::TreeDamaged { tree, reason } => write!(f, "tree {tree} is damaged: {reason}"),
            Finding::ChildMissing { tree, name, child } => {
                write!(f, "tree {tree}: directory {name:?} ({child}) is missing")
            }
            Finding::ChildDiffers { tree, name, child } => {
                write!(
                    f,
                    "tree {tree}: directory {name:?} ({child}) is not summed up rightly"
                )
            }
            Finding::BlobUnknown { tree, name, blob } => {
                write!(
                    f,
                    "tree {tree}: the content of {name:?} ({blob}) is missing"
                )
            }
            Finding::SizeDiffers { tree, name, blob } => {
                write!(
                    f,
                    "tree {tree}: {name:?} ({blob}) does not have its content's length"
                )
            }
            Finding::BlobRowDamaged { blob } => write!(f, "the row of blob {blob} is damaged"),
            Finding::ObjectMissing { blob } => write!(f, "object {blob} is missing"),
            Finding::ObjectCorrupt { blob, reason } => {
                write!(f, "object {blob} is corrupt: {reason}")
            }
            Finding::Stray { path } => write!(f, "{} belongs to nothing", path.display()),
        }
    }
}
