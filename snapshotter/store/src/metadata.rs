//! What an inode carries beside its content: mode, owner, mtime, extended attributes.

use std::collections::BTreeMap;

/// Extended attributes, sorted by name; names are full (`user.x`, `security.capability`).
pub type Xattrs = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// Prefix of the attributes by which overlayfs steers itself: never stored, never shown.
///
/// A layer that could set them could redirect reads to other files of the store.
pub const OVERLAY_XATTR_PREFIX: &[u8] = b"trusted.overlay.";

/// A point in time as inodes keep it: seconds since 1970 (may be negative) and nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Whole seconds since the epoch, rounded down.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Timestamp = Timestamp {
        seconds: 0,
        nanoseconds: 0,
    };

    /// A time of whole seconds.
    pub const fn from_seconds(seconds: i64) -> Self {
        Timestamp {
            seconds,
            nanoseconds: 0,
        }
    }
}

/// The attributes that every kind of inode has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Metadata {
    /// Permission bits with set-uid, set-gid and sticky: `0o7777` at the most, no type bits.
    pub mode: u16,
    /// Owner, as seen inside the image.
    pub uid: u32,
    /// Group, as seen inside the image.
    pub gid: u32,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Extended attributes without overlayfs's own.
    pub xattrs: Xattrs,
}

impl Metadata {
    /// What a directory gets that nobody described: `0755`, root, the epoch.
    pub const fn default_directory() -> Self {
        Metadata {
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: Timestamp::EPOCH,
            xattrs: BTreeMap::new(),
        }
    }
}

/// Whether an extended attribute is part of a [`crate::ContentKey`].
///
/// As BuildKit (cache/contenthash/tarsum.go): all but `security.*` and `system.*`, of which only
/// `security.capability` counts.
pub(crate) fn counts_as_content(xattr: &[u8]) -> bool {
    xattr == b"security.capability"
        || !(xattr.starts_with(b"security.") || xattr.starts_with(b"system."))
}
