//! Decides where every inode stands and how its data is laid out.
//!
//! The metadata area starts at block 0, so a nid is simply `offset / 32`. Inodes follow the
//! superblock: the root first (its nid has only 16 bits), then each directory's children side by
//! side, so that a listing with `stat` reads consecutive blocks. Full directory blocks come last.

use crate::builder::Builder;
use crate::directory::{self, Name};
use crate::error::{Error, printable};
use crate::format::{
    BLOCK_SIZE, CHUNK_ENTRY_SIZE, INODE_SIZE, LAYOUT_CHUNK_BASED, LAYOUT_FLAT_INLINE,
    LAYOUT_FLAT_PLAIN, SLOT_SIZE, SUPER_OFFSET, SUPER_SIZE,
};
use crate::inode::{Entry, Inode, Kind};

/// Where one inode stands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place {
    /// Byte offset in the image; 0 = not placed yet.
    pub(crate) offset: u64,
    /// Bytes of contents that the image holds: directory blocks or a link target.
    pub(crate) size: u64,
    /// One of the `LAYOUT_*` numbers.
    pub(crate) layout: u16,
    /// First block of the contents that are not inline, 0 if there are none.
    pub(crate) block: u32,
}

impl Place {
    pub(crate) fn nid(self) -> u64 {
        self.offset / SLOT_SIZE as u64
    }
}

/// The plan of an image.
#[derive(Debug)]
pub(crate) struct Layout {
    /// By inode number of the builder.
    pub(crate) places: Vec<Place>,
    /// Inodes in the order in which they stand.
    pub(crate) order: Vec<u32>,
    /// Blocks in the whole image.
    pub(crate) block_count: u32,
    children: Vec<u32>,
}

impl Layout {
    /// Sorts the builder's entries and places its inodes.
    pub(crate) fn new(builder: &mut Builder) -> Result<Self, Error> {
        let Builder {
            inodes,
            entries,
            arena,
        } = builder;
        sort_entries(entries, arena);
        check_duplicates(inodes, entries, arena)?;
        let mut layout = Self {
            places: vec![Place::default(); inodes.len()],
            order: Vec::with_capacity(inodes.len()),
            block_count: 0,
            children: child_ranges(inodes.len(), entries),
        };
        let end = layout.place_inodes(builder);
        layout.place_blocks(end)?;
        Ok(layout)
    }

    /// The sorted entries of a directory.
    pub(crate) fn children<'b>(&self, builder: &'b Builder, directory: u32) -> &'b [Entry] {
        let index = directory as usize;
        &builder.entries[self.children[index] as usize..self.children[index + 1] as usize]
    }

    /// All names of a directory, dots included, in order.
    pub(crate) fn names<'b>(
        &self,
        builder: &'b Builder,
        directory: u32,
        parent: u32,
    ) -> Vec<Name<'b>> {
        let children = self.children(builder, directory).iter();
        let children = children.map(|entry| Name {
            name: entry.name.of(&builder.arena),
            target: entry.inode,
        });
        directory::with_dots(children, directory, parent)
    }

    /// Walks the tree, parents before children, and returns the end of the inode area.
    fn place_inodes(&mut self, builder: &Builder) -> u64 {
        let mut end = (SUPER_OFFSET + SUPER_SIZE) as u64;
        self.place(builder, 0, &mut end);
        let mut pending = vec![0];
        while let Some(directory) = pending.pop() {
            let children = self.children(builder, directory);
            for entry in children {
                // A further name of a hard-linked inode: it has its place already.
                if self.places[entry.inode as usize].offset == 0 {
                    self.place(builder, entry.inode, &mut end);
                }
            }
            let is_directory = |entry: &&Entry| {
                matches!(
                    builder.inodes[entry.inode as usize].kind,
                    Kind::Directory { .. }
                )
            };
            // Reversed, so that the first directory is the next to be popped.
            pending.extend(
                children
                    .iter()
                    .rev()
                    .filter(is_directory)
                    .map(|entry| entry.inode),
            );
        }
        end
    }

    fn place(&mut self, builder: &Builder, inode: u32, end: &mut u64) {
        let Inode { kind, xattrs, .. } = builder.inodes[inode as usize];
        let head = INODE_SIZE + xattrs.length as usize;
        let (size, layout, tail) = match kind {
            Kind::Directory { parent } => {
                let size = directory::size(&self.names(builder, inode, parent));
                flat(size, head)
            }
            Kind::Symlink { target } => flat(target.length as usize, head),
            Kind::File { size: 1.. } => (0, LAYOUT_CHUNK_BASED, CHUNK_ENTRY_SIZE),
            _ => (0, LAYOUT_FLAT_PLAIN, 0),
        };
        // An inline tail must lie in one block; kernels up to 6.11 also want the inode of a
        // symbolic link in the same one, or refuse to read it. Of other inodes only the fixed part
        // is kept together.
        let together = if layout == LAYOUT_FLAT_INLINE {
            head + tail
        } else {
            INODE_SIZE
        };
        let mut offset = end.next_multiple_of(SLOT_SIZE as u64);
        if offset % BLOCK_SIZE as u64 + together as u64 > BLOCK_SIZE as u64 {
            offset = offset.next_multiple_of(BLOCK_SIZE as u64);
        }
        *end = offset + (head + tail) as u64;
        self.places[inode as usize] = Place {
            offset,
            size: size as u64,
            layout,
            block: 0,
        };
        self.order.push(inode);
    }

    /// Gives blocks to contents that are not inline, after the inodes.
    fn place_blocks(&mut self, inodes_end: u64) -> Result<(), Error> {
        let mut next = inodes_end.div_ceil(BLOCK_SIZE as u64);
        for inode in &self.order {
            let place = &mut self.places[*inode as usize];
            let count = match place.layout {
                LAYOUT_FLAT_INLINE => place.size / BLOCK_SIZE as u64,
                _ => place.size.div_ceil(BLOCK_SIZE as u64),
            };
            if count > 0 {
                place.block = block_number(next)?;
                next += count;
            }
        }
        self.block_count = block_number(next)?;
        Ok(())
    }
}

/// Size, layout and inline tail of contents of `size` bytes behind an inode of `head` bytes.
fn flat(size: usize, head: usize) -> (usize, u16, usize) {
    let tail = size % BLOCK_SIZE;
    if tail > 0 && head + tail <= BLOCK_SIZE {
        (size, LAYOUT_FLAT_INLINE, tail)
    } else {
        (size, LAYOUT_FLAT_PLAIN, 0)
    }
}

fn block_number(number: u64) -> Result<u32, Error> {
    let limit = u64::from(u32::MAX) * BLOCK_SIZE as u64;
    u32::try_from(number).map_err(|_| Error::TooLarge { limit })
}

/// By directory, then by name. Trees are mostly walked in order, which the stable sort uses.
fn sort_entries(entries: &mut [Entry], arena: &[u8]) {
    entries.sort_by(|left, right| {
        let by_parent = left.parent.cmp(&right.parent);
        by_parent.then_with(|| left.name.of(arena).cmp(right.name.of(arena)))
    });
}

/// For each inode number the index of its first entry, and one more at the end.
fn child_ranges(inode_count: usize, entries: &[Entry]) -> Vec<u32> {
    let mut starts = vec![0; inode_count + 1];
    for entry in entries {
        starts[entry.parent as usize + 1] += 1;
    }
    let mut sum = 0;
    for start in &mut starts {
        sum += *start;
        *start = sum;
    }
    starts
}

fn check_duplicates(inodes: &[Inode], entries: &[Entry], arena: &[u8]) -> Result<(), Error> {
    let same = |pair: &&[Entry]| {
        pair[0].parent == pair[1].parent && pair[0].name.of(arena) == pair[1].name.of(arena)
    };
    let Some(pair) = entries.windows(2).find(same) else {
        return Ok(());
    };
    let mut path = Vec::new();
    let mut directory = pair[0].parent;
    // Parents have smaller numbers than their children, so this ends at the root.
    while let (Some(entry), Kind::Directory { parent }) = (
        entries.iter().find(|entry| entry.inode == directory),
        inodes[directory as usize].kind,
    ) {
        path.push(entry.name.of(arena));
        directory = parent;
    }
    let mut text = String::new();
    for part in path.into_iter().rev().chain([pair[0].name.of(arena)]) {
        text.push('/');
        text.push_str(&printable(part));
    }
    Err(Error::DuplicateName { path: text })
}
