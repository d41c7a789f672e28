//! Numbers of the EROFS on-disk format (Linux `fs/erofs/erofs_fs.h`, erofs docs "Core on-disk
//! format"), and the limits that follow from them. Everything on disk is little-endian.

/// Bytes in a block, log2. 4 KiB is the only block size every kernel with EROFS can read.
pub(crate) const BLOCK_BITS: u8 = 12;
/// Bytes in a block.
pub(crate) const BLOCK_SIZE: usize = 1 << BLOCK_BITS;

/// First four bytes of the superblock.
pub(crate) const SUPER_MAGIC: u32 = 0xE0F5_E1E2;
/// Where the superblock starts: the first KiB is left to boot sectors.
pub(crate) const SUPER_OFFSET: usize = 1024;
/// Bytes in the superblock without extension slots.
pub(crate) const SUPER_SIZE: usize = 128;

/// Compatible feature: the superblock carries a CRC32C of its block.
pub(crate) const COMPAT_SUPERBLOCK_CHECKSUM: u32 = 0x1;
/// Compatible feature: inode times are modification times (they once were change times).
pub(crate) const COMPAT_MTIME: u32 = 0x2;
/// Incompatible feature: chunk-based inodes exist (Linux 5.15).
pub(crate) const INCOMPAT_CHUNKED_FILE: u32 = 0x4;

/// Bytes per inode slot; a node id (nid) counts slots from the start of the metadata area.
pub(crate) const SLOT_SIZE: usize = 32;
/// Bytes in an extended inode.
pub(crate) const INODE_SIZE: usize = 64;
/// Bit 0 of `i_format`: an extended inode.
pub(crate) const FORMAT_EXTENDED: u16 = 1;
/// `i_format` bits 1-3: contents in consecutive blocks.
pub(crate) const LAYOUT_FLAT_PLAIN: u16 = 0;
/// `i_format` bits 1-3: as plain, but the last, partial block follows the inode.
pub(crate) const LAYOUT_FLAT_INLINE: u16 = 2;
/// `i_format` bits 1-3: a table of chunk addresses follows the inode.
pub(crate) const LAYOUT_CHUNK_BASED: u16 = 4;

/// Chunk size, log2 beyond [`BLOCK_BITS`]; 31 is the most that its five bits can say.
pub(crate) const CHUNK_BITS_BEYOND_BLOCK: u16 = 31;
/// A chunk table entry that says "hole".
pub(crate) const CHUNK_HOLE: u32 = u32::MAX;
/// Bytes of one chunk table entry.
pub(crate) const CHUNK_ENTRY_SIZE: usize = 4;

/// Bytes of a directory entry without its name.
pub(crate) const DIRENT_SIZE: usize = 12;

/// Bytes of the header in front of an inode's extended attributes.
pub(crate) const XATTR_HEADER_SIZE: usize = 12;
/// Bytes of an extended attribute entry without name and value.
pub(crate) const XATTR_ENTRY_SIZE: usize = 4;

/// Largest regular file, bytes: one chunk table entry of the largest chunk, 8 TiB.
pub const FILE_SIZE_MAX: u64 = 1 << (BLOCK_BITS as u16 + CHUNK_BITS_BEYOND_BLOCK);
/// Longest name of a directory entry, bytes (`NAME_MAX`).
pub const NAME_LENGTH_MAX: usize = 255;
/// Longest target of a symbolic link, bytes (`PATH_MAX` less its terminating zero).
pub const SYMLINK_LENGTH_MAX: usize = 4095;
/// Most names in one image: bounds the builder's memory at about 6 GiB; a Linux distribution has
/// under a million.
pub const ENTRY_COUNT_MAX: usize = (1 << 24) - 1;
