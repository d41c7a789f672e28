//! The one error type of this crate.

use std::io;
use std::path::PathBuf;

/// What can go wrong with a snapshot. The first five are the contract's own (containerd's
/// `ALREADY_EXISTS`, `NOT_FOUND`, `FAILED_PRECONDITION`, `INVALID_ARGUMENT`).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A snapshot of that key is there already.
    #[error("snapshot {key:?} already exists")]
    AlreadyExists {
        /// The key.
        key: String,
    },
    /// No snapshot has that key.
    #[error("snapshot {key:?} does not exist")]
    NotFound {
        /// The key.
        key: String,
    },
    /// The snapshot is of the wrong kind for what was asked.
    #[error("cannot {operation} snapshot {key:?}: {reason}")]
    FailedPrecondition {
        /// "commit", "remove", …
        operation: &'static str,
        /// The key.
        key: String,
        /// Why not.
        reason: String,
    },
    /// A parent was named that is not committed, or an argument makes no sense.
    #[error("invalid argument: {reason}")]
    InvalidArgument {
        /// What is wrong.
        reason: String,
    },
    /// The storage below failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A layer cannot be read or written.
    #[error(transparent)]
    Layer(#[from] layer::Error),
    /// What was asked for is somebody else's to do.
    #[error("not done here: {what}")]
    Unsupported {
        /// What.
        what: String,
    },
    /// An ordinary user has not the ids that a file of an image belongs to.
    #[error(
        "{} belongs to user {uid} and group {gid} of the image, and an ordinary user here has no \
         such ids to give it: give the user more of them (`varve doctor` tells how), or run varve \
         as root",
        path.display()
    )]
    NoSuchIds {
        /// The file, in a checkout or a writable directory.
        path: PathBuf,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// As much is used as may be.
    #[error(
        "the quota of {path} is used up ({used} bytes used{}, {free} bytes free{}): \
         remove images or containers, or allow more with --max-used-space or --min-free-space",
        .max_used.map(|max| format!(" of {max}")).unwrap_or_default(),
        Some(.min_free).filter(|min| **min > 0).map(|min| format!(", {min} are to stay so"))
            .unwrap_or_default()
    )]
    OverQuota {
        /// The root directory.
        path: PathBuf,
        /// What it takes, in bytes.
        used: u64,
        /// What it may take.
        max_used: Option<u64>,
        /// What the file system has left.
        free: u64,
        /// What is to be left of it.
        min_free: u64,
    },
    /// containerd's content store gave something else than it should, or nothing.
    #[error("content {digest} of containerd: {reason}")]
    Content {
        /// Digest of the content.
        digest: String,
        /// What went wrong.
        reason: String,
    },
    /// A mount or unmount failed.
    #[error(transparent)]
    Mount(#[from] mount::Error),
    /// A metadata image cannot be made of a tree.
    #[error("cannot make a metadata image of tree {tree}: {source}")]
    Image {
        /// The tree.
        tree: store::TreeId,
        /// The writer's answer.
        #[source]
        source: erofs::Error,
    },
    /// A file in a writable layer is nothing that can be stored.
    #[error("cannot capture {path}: {reason}")]
    Capture {
        /// The file, inside the layer.
        path: String,
        /// What is odd about it.
        reason: String,
    },
    /// A file system call failed.
    #[error("{operation} {path}: {source}")]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Whether the cause is a full disk or an exhausted quota.
    pub fn is_no_space(&self) -> bool {
        match self {
            Error::Store(error) => error.is_no_space(),
            Error::Layer(error) => error.is_no_space(),
            Error::OverQuota { .. } => true,
            Error::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ),
            _ => false,
        }
    }

    /// Wraps an [`io::Error`] with what was attempted on which path.
    pub fn io(operation: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Error::Io {
            operation,
            path: path.into(),
            source,
        }
    }
}

/// The result of every fallible function of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
