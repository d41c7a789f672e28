//! Writes the planned image: superblock, inodes, directory blocks.

use crate::builder::Builder;
use crate::directory::{self, Name};
use crate::error::Error;
use crate::format::{
    BLOCK_BITS, BLOCK_SIZE, CHUNK_BITS_BEYOND_BLOCK, CHUNK_HOLE, COMPAT_MTIME,
    COMPAT_SUPERBLOCK_CHECKSUM, FORMAT_EXTENDED, INCOMPAT_CHUNKED_FILE, INODE_SIZE,
    LAYOUT_CHUNK_BASED, LAYOUT_FLAT_INLINE, SUPER_MAGIC, SUPER_OFFSET, SUPER_SIZE,
    XATTR_HEADER_SIZE,
};
use crate::hash::{crc32c, fingerprint_uuid};
use crate::inode::{Inode, Kind};
use crate::layout::{Layout, Place};

/// What stands in the superblock beside the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageOptions {
    /// Volume UUID; by default one made from the contents of the image. Give each image its own:
    /// overlayfs drops stable inode numbers when two lowers share one.
    pub uuid: Option<[u8; 16]>,
    /// When the image was made, seconds since 1970. Only shown, never used for inodes.
    pub build_time: u64,
    /// Label, padded with zero bytes.
    pub volume_name: [u8; 16],
    /// Whether the superblock's block is covered by a CRC32C.
    pub checksum: bool,
}

impl Default for ImageOptions {
    fn default() -> Self {
        Self {
            uuid: None,
            build_time: 0,
            volume_name: [0; 16],
            checksum: true,
        }
    }
}

/// Plans and writes an image.
pub(crate) fn write(mut builder: Builder, options: &ImageOptions) -> Result<Vec<u8>, Error> {
    let layout = Layout::new(&mut builder)?;
    let size = u64::from(layout.block_count) * BLOCK_SIZE as u64;
    let size = usize::try_from(size).map_err(|_| Error::TooLarge {
        limit: usize::MAX as u64,
    })?;
    let mut image = vec![0; size];
    for (position, number) in layout.order.iter().enumerate() {
        let inode = &builder.inodes[*number as usize];
        let place = layout.places[*number as usize];
        // Inode numbers on disk start with 1; the kernel uses the nid instead.
        write_inode(&mut image, &builder, inode, place, position as u32 + 1);
        match inode.kind {
            Kind::Directory { parent } => {
                let names = layout.names(&builder, *number, parent);
                write_directory(&mut image, &builder, &layout, inode, place, &names);
            }
            Kind::Symlink { target } => {
                let start = tail_offset(inode, place);
                let target = target.of(&builder.arena);
                image[start..][..target.len()].copy_from_slice(target);
            }
            _ => {}
        }
    }
    write_superblock(&mut image, &layout, options);
    Ok(image)
}

/// Little-endian fields into consecutive bytes.
struct Fields<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Fields<'_> {
    fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.out[self.at..][..bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
        self
    }

    fn u16(&mut self, value: u16) -> &mut Self {
        self.put(&value.to_le_bytes())
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.put(&value.to_le_bytes())
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.put(&value.to_le_bytes())
    }
}

fn write_inode(image: &mut [u8], builder: &Builder, inode: &Inode, place: Place, number: u32) {
    let xattrs = inode.xattrs.of(&builder.arena);
    let xattr_count = match xattrs.len() {
        0 => 0,
        // XATTR_AREA_SIZE_MAX is chosen so that this fits.
        length => ((length - XATTR_HEADER_SIZE) / 4 + 1) as u16,
    };
    let (size, detail) = match inode.kind {
        Kind::File { size: size @ 1.. } => (size, u32::from(CHUNK_BITS_BEYOND_BLOCK)),
        Kind::File { size: 0 } | Kind::Fifo | Kind::Socket => (0, 0),
        Kind::Directory { .. } | Kind::Symlink { .. } => (place.size, place.block),
        Kind::CharacterDevice { encoded } | Kind::BlockDevice { encoded } => (0, encoded),
    };
    let out = &mut image[place.offset as usize..];
    Fields { out, at: 0 }
        .u16(FORMAT_EXTENDED | place.layout << 1)
        .u16(xattr_count)
        .u16(inode.kind.type_bits() | inode.permissions)
        .u16(0)
        .u64(size)
        .u32(detail)
        .u32(number)
        .u32(inode.uid)
        .u32(inode.gid)
        // The kernel reads it back as a signed number.
        .u64(inode.mtime.seconds.cast_unsigned())
        .u32(inode.mtime.nanoseconds)
        .u32(inode.link_count)
        .put(&[0; 16])
        .put(xattrs);
    if place.layout == LAYOUT_CHUNK_BASED {
        // One chunk of up to 8 TiB, and it is a hole: overlayfs never reads it.
        Fields {
            out,
            at: INODE_SIZE + xattrs.len(),
        }
        .u32(CHUNK_HOLE);
    }
}

/// Where the last, partial block of flat contents starts.
fn tail_offset(inode: &Inode, place: Place) -> usize {
    if place.layout == LAYOUT_FLAT_INLINE {
        place.offset as usize + INODE_SIZE + inode.xattrs.length as usize
    } else {
        let full_blocks = place.size / BLOCK_SIZE as u64;
        (u64::from(place.block) + full_blocks) as usize * BLOCK_SIZE
    }
}

fn write_directory(
    image: &mut [u8],
    builder: &Builder,
    layout: &Layout,
    inode: &Inode,
    place: Place,
    names: &[Name<'_>],
) {
    let full_blocks = place.size as usize / BLOCK_SIZE;
    for (index, block) in directory::blocks(names).enumerate() {
        let start = if index < full_blocks {
            (place.block as usize + index) * BLOCK_SIZE
        } else {
            tail_offset(inode, place)
        };
        directory::write_block(block, &mut image[start..], |target| {
            let kind = builder.inodes[target as usize].kind;
            (layout.places[target as usize].nid(), kind.dirent_type())
        });
    }
}

fn write_superblock(image: &mut [u8], layout: &Layout, options: &ImageOptions) {
    let uuid = options.uuid.unwrap_or_else(|| fingerprint_uuid(image));
    let checksum_feature = if options.checksum {
        COMPAT_SUPERBLOCK_CHECKSUM
    } else {
        0
    };
    let out = &mut image[SUPER_OFFSET..BLOCK_SIZE];
    Fields { out, at: 0 }
        .u32(SUPER_MAGIC)
        .u32(0)
        .u32(COMPAT_MTIME | checksum_feature)
        .put(&[BLOCK_BITS, 0])
        // The root is the first inode: slot 36, or 128 if it does not fit behind the superblock.
        .u16(layout.places[0].nid() as u16)
        .u64(layout.order.len() as u64)
        .u64(options.build_time)
        .u32(0)
        .u32(layout.block_count)
        .u32(0)
        .u32(0)
        .put(&uuid)
        .put(&options.volume_name)
        .u32(INCOMPAT_CHUNKED_FILE)
        .put(&[0; SUPER_SIZE - 84]);
    if options.checksum {
        let checksum = crc32c(!0, out);
        out[4..8].copy_from_slice(&checksum.to_le_bytes());
    }
}
