//! What the builder remembers of an inode, and the attribute types of the public interface.

/// An inode of one [`Builder`](crate::Builder).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InodeId(pub(crate) u32);

impl InodeId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A point in time. Negative seconds lie before 1970; nanoseconds always count forwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub seconds: i64,
    /// Nanoseconds after `seconds`, 0 to 999,999,999.
    pub nanoseconds: u32,
}

/// Attributes that every kind of inode has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// Permissions, set-user-id, set-group-id and sticky: the bits of `0o7777`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change of contents.
    pub mtime: Timestamp,
    /// Extended attributes, full name (`user.mime_type`) and value, in any order.
    ///
    /// `trusted.overlay.*` is refused, because it would steer overlayfs; only the escaped form
    /// `trusted.overlay.overlay.*` may be given.
    pub xattrs: Vec<(&'a [u8], &'a [u8])>,
}

/// Number of a character or block device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DeviceNumber {
    /// Driver, 0 to 4095.
    pub major: u32,
    /// Unit, 0 to 1,048,575.
    pub minor: u32,
}

impl DeviceNumber {
    /// Linux's 32-bit encoding (`new_encode_dev`), or nothing if a part is too large for it.
    pub(crate) fn encode(self) -> Option<u32> {
        let fits = self.major < 1 << 12 && self.minor < 1 << 20;
        fits.then_some((self.minor & 0xFF) | (self.major << 8) | ((self.minor & !0xFF) << 12))
    }
}

/// A piece of the builder's byte arena.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Span {
    pub(crate) offset: u32,
    pub(crate) length: u32,
}

impl Span {
    pub(crate) fn of(self, arena: &[u8]) -> &[u8] {
        &arena[self.offset as usize..][..self.length as usize]
    }
}

/// What an inode is, with the data that only this kind has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Directory { parent: u32 },
    File { size: u64 },
    Symlink { target: Span },
    CharacterDevice { encoded: u32 },
    BlockDevice { encoded: u32 },
    Fifo,
    Socket,
}

impl Kind {
    /// The `S_IFMT` bits of `st_mode`.
    pub(crate) fn type_bits(self) -> u16 {
        match self {
            Self::Fifo => 0o010_000,
            Self::CharacterDevice { .. } => 0o020_000,
            Self::Directory { .. } => 0o040_000,
            Self::BlockDevice { .. } => 0o060_000,
            Self::File { .. } => 0o100_000,
            Self::Symlink { .. } => 0o120_000,
            Self::Socket => 0o140_000,
        }
    }

    /// The file type code of a directory entry (Linux `fs_types`).
    pub(crate) fn dirent_type(self) -> u8 {
        match self {
            Self::File { .. } => 1,
            Self::Directory { .. } => 2,
            Self::CharacterDevice { .. } => 3,
            Self::BlockDevice { .. } => 4,
            Self::Fifo => 5,
            Self::Socket => 6,
            Self::Symlink { .. } => 7,
        }
    }
}

/// An inode before it has a place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inode {
    pub(crate) kind: Kind,
    /// Permission bits; the type bits come from `kind`.
    pub(crate) permissions: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Timestamp,
    pub(crate) link_count: u32,
    /// The encoded area, header included; empty without extended attributes.
    pub(crate) xattrs: Span,
}

/// A name in a directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) parent: u32,
    pub(crate) name: Span,
    pub(crate) inode: u32,
}

#[cfg(test)]
mod tests {
    use super::DeviceNumber;

    #[test]
    fn device_numbers_have_the_encoding_of_linux() {
        let check = |major, minor, expect| {
            assert_eq!(
                DeviceNumber { major, minor }.encode(),
                expect,
                "{major}:{minor}"
            );
        };
        check(0, 0, Some(0));
        check(1, 3, Some(0x103));
        check(8, 0x1_2345, Some(0x1230_0845));
        check(4095, 0xF_FFFF, Some(0xFFFF_FFFF));
        check(4096, 0, None);
        check(0, 1 << 20, None);
    }
}
