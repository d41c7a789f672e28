//! What can be wrong with an entry or a whole image.

use crate::format::{ENTRY_COUNT_MAX, FILE_SIZE_MAX, NAME_LENGTH_MAX, SYMLINK_LENGTH_MAX};
use crate::xattr::{XATTR_AREA_SIZE_MAX, XATTR_VALUE_SIZE_MAX};

/// Why an entry or an image cannot be written. Names are shown with non-printable bytes escaped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name is empty, `.`, `..`, too long, or contains `/` or a zero byte.
    #[error(
        "\"{name}\" cannot be the name of a directory entry: it needs 1 to {NAME_LENGTH_MAX} \
         bytes, no '/', no zero byte, and must not be \".\" or \"..\""
    )]
    Name {
        /// The name, escaped.
        name: String,
    },
    /// The same name was added twice to one directory.
    #[error("\"{path}\" was added twice")]
    DuplicateName {
        /// Path from the root of the image, escaped.
        path: String,
    },
    /// The parent of a new entry is not a directory of this builder.
    #[error("cannot add \"{name}\": its parent is not a directory of this image")]
    ParentNotADirectory {
        /// Name of the entry, escaped.
        name: String,
    },
    /// A hard link points to a directory or to an inode of another builder.
    #[error("cannot hard-link \"{name}\": its target is a directory or not in this image")]
    LinkTarget {
        /// Name of the link, escaped.
        name: String,
    },
    /// The mode has bits beyond permissions, set-user-id, set-group-id and sticky.
    #[error("\"{name}\" has mode {mode:#o}: only the bits of 0o7777 are allowed here")]
    Mode {
        /// Name of the entry, escaped.
        name: String,
        /// The mode as given.
        mode: u32,
    },
    /// The nanoseconds of a time are a second or more.
    #[error("\"{name}\" has a modification time with {nanoseconds} nanoseconds, over 999999999")]
    Nanoseconds {
        /// Name of the entry, escaped.
        name: String,
        /// The nanoseconds as given.
        nanoseconds: u32,
    },
    /// A regular file is larger than the format allows.
    #[error("\"{name}\" has {size} bytes, more than the {FILE_SIZE_MAX} an image can hold")]
    FileSize {
        /// Name of the entry, escaped.
        name: String,
        /// Size in bytes.
        size: u64,
    },
    /// A redirect is not absolute, has empty, `.` or `..` components, or belongs to an empty file.
    #[error(
        "\"{name}\" cannot be redirected to \"{redirect}\": a redirect is an absolute path \
         without empty, \".\" or \"..\" components, at most {SYMLINK_LENGTH_MAX} bytes long, \
         and only for a file that is not empty"
    )]
    Redirect {
        /// Name of the entry, escaped.
        name: String,
        /// The redirect, escaped.
        redirect: String,
    },
    /// A symbolic link has an empty or too long target, or one with a zero byte.
    #[error(
        "\"{name}\" has a link target of {length} bytes; it needs 1 to {SYMLINK_LENGTH_MAX} \
         bytes and no zero byte"
    )]
    SymlinkTarget {
        /// Name of the link, escaped.
        name: String,
        /// Bytes in the target.
        length: usize,
    },
    /// A device number is outside of what Linux can encode.
    #[error("\"{name}\" has device number {major}:{minor}, over 4095:1048575")]
    DeviceNumber {
        /// Name of the entry, escaped.
        name: String,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// EROFS has no place for this extended attribute name.
    #[error(
        "extended attribute \"{xattr}\" of \"{name}\" cannot be stored: EROFS knows user.*, \
         trusted.*, security.* and system.posix_acl_access/default, with names up to 255 bytes"
    )]
    XattrName {
        /// Name of the entry, escaped.
        name: String,
        /// Name of the attribute, escaped.
        xattr: String,
    },
    /// An attribute that steers overlayfs was passed as a plain one.
    #[error(
        "extended attribute \"{xattr}\" of \"{name}\" would steer overlayfs; strip it, or ask \
         for a redirect or an opaque directory through the builder"
    )]
    XattrReserved {
        /// Name of the entry, escaped.
        name: String,
        /// Name of the attribute, escaped.
        xattr: String,
    },
    /// The same extended attribute was given twice.
    #[error("extended attribute \"{xattr}\" of \"{name}\" was given twice")]
    XattrDuplicate {
        /// Name of the entry, escaped.
        name: String,
        /// Name of the attribute, escaped.
        xattr: String,
    },
    /// The value of an extended attribute is too long.
    #[error(
        "extended attribute \"{xattr}\" of \"{name}\" has {size} bytes, more than the \
         {XATTR_VALUE_SIZE_MAX} an image can hold"
    )]
    XattrValueSize {
        /// Name of the entry, escaped.
        name: String,
        /// Name of the attribute, escaped.
        xattr: String,
        /// Bytes in the value.
        size: usize,
    },
    /// All extended attributes of one inode together are too long.
    #[error(
        "the extended attributes of \"{name}\" need {size} bytes together, more than the \
         {XATTR_AREA_SIZE_MAX} an image can hold for one file"
    )]
    XattrAreaSize {
        /// Name of the entry, escaped.
        name: String,
        /// Bytes needed.
        size: usize,
    },
    /// More entries than an image may have.
    #[error("the tree has more than {ENTRY_COUNT_MAX} entries")]
    TooManyEntries,
    /// Names, targets and attributes, or the finished image, pass what 32-bit offsets reach.
    #[error("the metadata of the tree needs more than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
}

/// `name` in printable form for messages.
pub(crate) fn printable(name: &[u8]) -> String {
    name.escape_ascii().to_string()
}
