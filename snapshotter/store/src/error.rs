//! The one error type of this crate.

use std::io;
use std::path::PathBuf;

use crate::id::{BlobId, TreeId};

/// What can go wrong between a caller and the stored bytes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file system call failed.
    #[error("{operation} {path}: {source}")]
    Io {
        /// What was attempted, as a verb ("open", "rename").
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The database answered with an error.
    #[error("database {operation} failed in {path}: {message}")]
    Database {
        /// What was attempted.
        operation: &'static str,
        /// The database directory.
        path: PathBuf,
        /// The database's own words.
        message: String,
    },
    /// The database's files are damaged.
    #[error(
        "the database in {path} is damaged: {message}; \
         move {} away and build again, or restore it from a backup",
        .path.parent().unwrap_or(.path).display()
    )]
    DatabaseCorrupt {
        /// The database directory.
        path: PathBuf,
        /// The database's own words.
        message: String,
    },
    /// Another process has the store open.
    #[error("{path} is in use by another varve process{}", .holder.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    Locked {
        /// The root directory of the store.
        path: PathBuf,
        /// Who holds it, where known.
        holder: Option<u32>,
    },
    /// The store was written by a newer varve.
    #[error(
        "{path} has store format {found}, this varve reads up to {supported}; \
         use the newer varve, or another --root"
    )]
    FormatTooNew {
        /// The root directory of the store.
        path: PathBuf,
        /// The version that was found.
        found: u32,
        /// The newest version that this code reads.
        supported: u32,
    },
    /// The store uses an addition to the format that this varve does not know.
    #[error(
        "{path} uses the store feature {feature:?}, which this varve does not know; \
         use the newer varve, or another --root"
    )]
    FeatureUnknown {
        /// The root directory of the store.
        path: PathBuf,
        /// The name of the feature flag.
        feature: String,
    },
    /// The root directory holds something that is not a varve store.
    #[error("{path} is not a varve store: {reason}; choose another --root")]
    NotAStore {
        /// The root directory.
        path: PathBuf,
        /// What is odd about it.
        reason: String,
    },
    /// A tree that something refers to is not in the store.
    #[error("tree {id} is missing from the store; run `varve fsck --repair`")]
    TreeMissing {
        /// The absent tree.
        id: TreeId,
    },
    /// A blob that something refers to has no object file.
    #[error("object {id} is missing from the store; run `varve fsck --repair`")]
    BlobMissing {
        /// The absent blob.
        id: BlobId,
    },
    /// An object file's bytes do not hash to its name.
    #[error("object {id} is corrupt ({path}); run `varve fsck --repair`")]
    BlobCorrupt {
        /// The name that the bytes should hash to.
        id: BlobId,
        /// The damaged file.
        path: PathBuf,
    },
    /// A stored row cannot be read.
    #[error("a stored {what} cannot be read: {reason}; run `varve fsck --repair`")]
    Undecodable {
        /// Which kind of row.
        what: &'static str,
        /// What is wrong with its bytes.
        reason: &'static str,
    },
    /// An edit names a path whose parent is no directory.
    #[error("{path}: {reason}")]
    Path {
        /// The path inside the tree.
        path: String,
        /// Why it cannot be used.
        reason: &'static str,
    },
    /// A hard link in a delta names a target that neither the delta nor the tree below has.
    #[error("hard link {path} points to {target}, which does not exist")]
    LinkTargetMissing {
        /// The link.
        path: String,
        /// What it names.
        target: String,
    },
    /// A path component that no file system would take.
    #[error("invalid file name {name:?}: {reason}")]
    Name {
        /// The offending bytes, lossily decoded.
        name: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// A flush to disk failed earlier; nothing may be acknowledged any more.
    #[error(
        "an earlier flush of {path} to disk failed ({message}); nothing more is written: \
         check the disk, then start varve again"
    )]
    Poisoned {
        /// The root directory of the store.
        path: PathBuf,
        /// The failure that poisoned the store.
        message: String,
    },
}

impl Error {
    /// Wraps an [`io::Error`] with what was attempted on which path.
    pub fn io(operation: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Error::Io {
            operation,
            path: path.into(),
            source,
        }
    }

    /// Whether the cause is a full disk or an exhausted quota.
    pub fn is_no_space(&self) -> bool {
        match self {
            Error::Io { source, .. } => {
                matches!(
                    source.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                )
            }
            Error::Database { message, .. } => message.contains("No space left on device"),
            _ => false,
        }
    }
}

/// The result of every fallible function of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
