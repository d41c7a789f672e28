//! Directories as values: sorted entries, their canonical encoding, and the two digests of each.
//!
//! A [`Tree`] is one directory; children that are directories are held by reference, so a tree of
//! a million files is a Merkle tree of rows, and two that differ in one file share all the others.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::codec::{Decoder, Encoder};
use crate::error::Result;
use crate::id::{BlobId, ContentKey, LinkId, TreeId};
use crate::metadata::{Metadata, OVERLAY_XATTR_PREFIX, Timestamp, Xattrs, counts_as_content};
use crate::path::Name;

/// What an inode that is no directory holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// A regular file.
    File {
        /// Its bytes.
        blob: BlobId,
        /// Its length in bytes.
        size: u64,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points, uninterpreted.
        target: Box<[u8]>,
    },
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A socket's name; only captured uppers have them, layers leave them out.
    Socket,
}

/// An inode that is no directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Leaf {
    /// Mode, owner, mtime, extended attributes.
    pub metadata: Metadata,
    /// What it holds.
    pub content: Content,
    /// The group of names that are this same inode; `None` if this is its only name.
    pub link: Option<LinkId>,
}

/// A reference to a stored directory, with what is worth knowing without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TreeRef {
    /// Digest over everything.
    pub id: TreeId,
    /// Digest over what cache keys look at.
    pub key: ContentKey,
    /// Entries below, directories included, this one too.
    pub inodes: u64,
    /// Sum of the sizes of the regular files below, in bytes.
    pub bytes: u64,
    /// How many entries below carry a [`LinkId`]; 0 lets a copy be a mere reference.
    pub links: u64,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// Anything but a directory.
    Leaf(Leaf),
    /// A directory.
    Directory(TreeRef),
}

/// A directory: its own attributes and its sorted entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// Attributes of the directory itself.
    pub metadata: Metadata,
    /// Names in byte order.
    pub entries: BTreeMap<Name, Entry>,
}

/// Where trees are read from.
pub trait TreeSource {
    /// The tree of that id.
    ///
    /// # Errors
    /// [`crate::Error::TreeMissing`] if it is not there; database errors.
    fn tree(&self, id: TreeId) -> Result<Arc<Tree>>;
}

/// Where trees are put; what was put can be read from the same place at once.
pub trait TreeSink: TreeSource {
    /// Keeps the tree and tells its reference.
    ///
    /// # Errors
    /// Database errors.
    fn put_tree(&self, tree: Tree) -> Result<TreeRef>;
}

const TAG_FILE: u8 = 1;
const TAG_SYMLINK: u8 = 2;
const TAG_CHAR_DEVICE: u8 = 3;
const TAG_BLOCK_DEVICE: u8 = 4;
const TAG_FIFO: u8 = 5;
const TAG_SOCKET: u8 = 6;
const TAG_DIRECTORY: u8 = 7;
/// Set in the tag of a leaf that a [`LinkId`] follows.
const TAG_LINKED: u8 = 0x40;

/// Which of the two encodings is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Everything: what is stored, and what [`TreeId`] digests.
    Stored,
    /// What [`ContentKey`] digests; never stored, never read.
    Content,
}

impl Tree {
    /// A directory without entries.
    pub fn empty(metadata: Metadata) -> Self {
        Tree {
            metadata,
            entries: BTreeMap::new(),
        }
    }

    /// The canonical bytes: equal trees have equal bytes, whatever made them.
    pub fn encode(&self) -> Vec<u8> {
        self.encode_as(Form::Stored)
    }

    fn encode_as(&self, form: Form) -> Vec<u8> {
        let mut row = Encoder::new();
        encode_metadata(&mut row, &self.metadata, form);
        row.number(self.entries.len() as u64);
        for (name, entry) in &self.entries {
            row.string(name.as_bytes());
            encode_entry(&mut row, entry, form);
        }
        row.finish()
    }

    /// Reads what [`Tree::encode`] wrote.
    ///
    /// # Errors
    /// [`crate::Error::Undecodable`] for anything else, never a panic.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut row = Decoder::new("tree", bytes);
        let metadata = decode_metadata(&mut row)?;
        let mut entries = BTreeMap::new();
        for _ in 0..row.number()? {
            let name = Name::new(row.string()?)?;
            let entry = decode_entry(&mut row)?;
            if entries
                .last_key_value()
                .is_some_and(|(last, _)| *last >= name)
            {
                return Err(row.error("its names are not sorted"));
            }
            entries.insert(name, entry);
        }
        row.finish()?;
        Ok(Tree { metadata, entries })
    }

    /// Both digests and the sums, together with the encoding that they are made from.
    pub fn reference(&self) -> (TreeRef, Vec<u8>) {
        let encoded = self.encode();
        let mut summary = TreeRef {
            id: tree_id(&encoded),
            key: content_key(&self.encode_as(Form::Content)),
            inodes: 1,
            bytes: 0,
            links: 0,
        };
        for entry in self.entries.values() {
            match entry {
                Entry::Directory(child) => {
                    summary.inodes += child.inodes;
                    summary.bytes += child.bytes;
                    summary.links += child.links;
                }
                Entry::Leaf(leaf) => {
                    summary.inodes += 1;
                    summary.links += u64::from(leaf.link.is_some());
                    if let Content::File { size, .. } = leaf.content {
                        summary.bytes += size;
                    }
                }
            }
        }
        (summary, encoded)
    }
}

impl Entry {
    /// A digest over this one entry as [`ContentKey`] sees it: for cache keys of single files.
    pub fn content_key(&self) -> ContentKey {
        match self {
            Entry::Directory(tree) => tree.key,
            Entry::Leaf(_) => {
                let mut row = Encoder::new();
                encode_entry(&mut row, self, Form::Content);
                content_key(&row.finish())
            }
        }
    }
}

/// The id that an encoded tree must have.
pub(crate) fn tree_id(encoded: &[u8]) -> TreeId {
    TreeId::from_bytes(blake3::derive_key("varve 2026-11 tree v1", encoded))
}

fn content_key(encoded: &[u8]) -> ContentKey {
    ContentKey::from_bytes(blake3::derive_key("varve 2026-11 content key v1", encoded))
}

fn encode_metadata(row: &mut Encoder, metadata: &Metadata, form: Form) {
    let xattrs = || {
        metadata
            .xattrs
            .iter()
            .filter(|(name, _)| form == Form::Stored || counts_as_content(name))
    };
    row.number(metadata.mode.into())
        .number(metadata.uid.into())
        .number(metadata.gid.into());
    if form == Form::Stored {
        row.signed(metadata.mtime.seconds)
            .number(metadata.mtime.nanoseconds.into());
    }
    row.number(xattrs().count() as u64);
    for (name, value) in xattrs() {
        row.string(name).string(value);
    }
}

fn decode_metadata(row: &mut Decoder<'_>) -> Result<Metadata> {
    let mode = row.number()?;
    let mode = u16::try_from(mode).ok().filter(|mode| mode & !0o7777 == 0);
    let mode = mode.ok_or_else(|| row.error("its mode has more than permission bits"))?;
    let (uid, gid) = (row.number_u32()?, row.number_u32()?);
    let mtime = Timestamp {
        seconds: row.signed()?,
        nanoseconds: row.number_u32()?,
    };
    if mtime.nanoseconds >= 1_000_000_000 {
        return Err(row.error("its mtime has too many nanoseconds"));
    }
    let mut xattrs = Xattrs::new();
    for _ in 0..row.number()? {
        let name = row.string()?;
        if name.starts_with(OVERLAY_XATTR_PREFIX) {
            return Err(row.error("it has an extended attribute of overlayfs"));
        }
        if xattrs
            .last_key_value()
            .is_some_and(|(last, _)| **last >= *name)
        {
            return Err(row.error("its extended attributes are not sorted"));
        }
        xattrs.insert(name.into(), row.string()?.into());
    }
    Ok(Metadata {
        mode,
        uid,
        gid,
        mtime,
        xattrs,
    })
}

fn encode_entry(row: &mut Encoder, entry: &Entry, form: Form) {
    let leaf = match entry {
        Entry::Directory(tree) if form == Form::Content => {
            row.byte(TAG_DIRECTORY).raw(tree.key.as_bytes());
            return;
        }
        Entry::Directory(tree) => {
            row.byte(TAG_DIRECTORY)
                .raw(tree.id.as_bytes())
                .raw(tree.key.as_bytes());
            row.number(tree.inodes)
                .number(tree.bytes)
                .number(tree.links);
            return;
        }
        Entry::Leaf(leaf) => leaf,
    };
    let tag = match leaf.content {
        Content::File { .. } => TAG_FILE,
        Content::Symlink { .. } => TAG_SYMLINK,
        Content::CharDevice { .. } => TAG_CHAR_DEVICE,
        Content::BlockDevice { .. } => TAG_BLOCK_DEVICE,
        Content::Fifo => TAG_FIFO,
        Content::Socket => TAG_SOCKET,
    };
    match leaf.link.filter(|_| form == Form::Stored) {
        Some(link) => row.byte(tag | TAG_LINKED).raw(link.as_bytes()),
        None => row.byte(tag),
    };
    encode_metadata(row, &leaf.metadata, form);
    match &leaf.content {
        Content::File { blob, size } => row.raw(blob.as_bytes()).number(*size),
        Content::Symlink { target } => row.string(target),
        Content::CharDevice { major, minor } | Content::BlockDevice { major, minor } => {
            row.number((*major).into()).number((*minor).into())
        }
        Content::Fifo | Content::Socket => row,
    };
}

fn decode_entry(row: &mut Decoder<'_>) -> Result<Entry> {
    let tag = row.byte()?;
    if tag == TAG_DIRECTORY {
        return Ok(Entry::Directory(TreeRef {
            id: TreeId::from_bytes(row.id()?),
            key: ContentKey::from_bytes(row.id()?),
            inodes: row.number()?,
            bytes: row.number()?,
            links: row.number()?,
        }));
    }
    let link = match tag & TAG_LINKED {
        0 => None,
        _ => Some(LinkId::from_bytes(row.array()?)),
    };
    let metadata = decode_metadata(row)?;
    let content = match tag & !TAG_LINKED {
        TAG_FILE => Content::File {
            blob: BlobId::from_bytes(row.id()?),
            size: row.number()?,
        },
        TAG_SYMLINK => Content::Symlink {
            target: row.string()?.into(),
        },
        TAG_CHAR_DEVICE => Content::CharDevice {
            major: row.number_u32()?,
            minor: row.number_u32()?,
        },
        TAG_BLOCK_DEVICE => Content::BlockDevice {
            major: row.number_u32()?,
            minor: row.number_u32()?,
        },
        TAG_FIFO => Content::Fifo,
        TAG_SOCKET => Content::Socket,
        _ => return Err(row.error("it has an entry of an unknown kind")),
    };
    Ok(Entry::Leaf(Leaf {
        metadata,
        content,
        link,
    }))
}

#[cfg(test)]
mod tests;
