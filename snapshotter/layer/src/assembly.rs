//! Puts tar entries together to a delta: out of order, twice, through symbolic links.
//!
//! What counts is the order of the tar, as for containerd's applier, with one exception that the
//! OCI specification makes: a whiteout hides what *lower* layers have, never an entry of its own
//! layer, wherever it stands.

mod finish;
mod resolve;

use std::collections::{BTreeMap, HashMap};

use store::{BlobId, Content, Leaf, Metadata, Name, RelPath};

use crate::archive::{Entry, Kind};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::whiteout::{AUFS_LINKS, Meaning, meaning};

/// An inode that is no directory; all its names refer to it.
pub(crate) type InodeIndex = usize;

type DirectoryIndex = usize;

/// What a tar is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A layer: some names say that something is gone.
    Layer,
    /// An archive that a person has made: a name is a name, and what stands for the root and is no
    /// directory is nothing.
    Archive,
}

/// The delta of a layer as far as it was read.
#[derive(Debug)]
pub(crate) struct Assembly<'l> {
    form: Form,
    limits: &'l Limits,
    /// A name that nothing at the root of a layer may have.
    reserved: Option<&'l [u8]>,
    /// All directories, the root first; those that were replaced stay, without a name.
    directories: Vec<Directory>,
    inodes: Vec<Inode>,
    /// First names that aufs kept apart from the tree.
    aufs_links: HashMap<Vec<u8>, InodeIndex>,
    /// Where hard links to what is not in the layer were put.
    pending_links: Vec<(DirectoryIndex, Name)>,
    /// The directory of the entry before: most entries have the same one.
    last_parent: Option<(Vec<u8>, DirectoryIndex)>,
    entries: u64,
    metadata_bytes: u64,
}

#[derive(Debug)]
struct Inode {
    leaf: Leaf,
    /// Whether a hard link to it was made.
    linked: bool,
}

#[derive(Debug, Default)]
struct Directory {
    metadata: Option<Metadata>,
    opaque: bool,
    slots: BTreeMap<Name, Slot>,
}

/// A name in a directory.
#[derive(Debug, Default)]
struct Slot {
    what: Option<What>,
    /// Whether a lower directory of this name cannot be seen any more: a whiteout stood here, or
    /// something that is no directory.
    hides: bool,
}

#[derive(Clone, Debug)]
enum What {
    Directory(DirectoryIndex),
    Inode(InodeIndex),
    /// One more name for what stands at this path, in the layer (then it comes later) or below.
    Link(RelPath),
}

/// What became of an entry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Placed {
    /// It is a regular file, whose content belongs to this inode.
    File(InodeIndex),
    /// It has no content.
    Done,
    /// It means nothing.
    Ignored,
}

impl<'l> Assembly<'l> {
    /// An empty delta.
    pub(crate) fn new(form: Form, limits: &'l Limits, reserved: Option<&'l [u8]>) -> Self {
        Assembly {
            form,
            limits,
            reserved,
            directories: vec![Directory::default()],
            inodes: Vec::new(),
            aufs_links: HashMap::new(),
            pending_links: Vec::new(),
            last_parent: None,
            entries: 0,
            metadata_bytes: 0,
        }
    }

    /// Adds an entry. The content of a file is told later, to [`Assembly::finish`].
    pub(crate) fn add(&mut self, entry: Entry) -> Result<Placed> {
        if let Kind::Nothing(_) = entry.kind {
            return Ok(Placed::Ignored);
        }
        self.check_size(&entry)?;
        let (parent, name) = split(&entry.path);
        if name.is_empty() {
            return self.set_root(entry);
        }
        match self.place(parent, name, &entry)? {
            Place::Ignored => Ok(Placed::Ignored),
            Place::AufsLink => self.add_aufs_link(entry),
            Place::Opaque(directory) => {
                self.directories[directory].opaque = true;
                Ok(Placed::Done)
            }
            Place::Whiteout(directory, name) => {
                self.directories[directory]
                    .slots
                    .entry(name)
                    .or_default()
                    .hides = true;
                Ok(Placed::Done)
            }
            Place::Entry(directory, name) => self.put(directory, name, entry),
        }
    }

    fn check_size(&mut self, entry: &Entry) -> Result<()> {
        let target = match &entry.kind {
            Kind::Symlink(target) | Kind::HardLink(target) => &target[..],
            _ => b"",
        };
        if entry.path.len() > self.limits.path_bytes_max {
            let limit = self.limits.path_bytes_max as u64;
            return Err(Error::Limit {
                what: "an entry with a name of too many bytes",
                limit,
            });
        }
        if target.len() > self.limits.link_target_bytes_max {
            let limit = self.limits.link_target_bytes_max as u64;
            return Err(Error::Limit {
                what: "a link with a target of too many bytes",
                limit,
            });
        }
        let xattrs = entry.metadata.xattrs.iter();
        let xattrs: usize = xattrs.map(|(name, value)| name.len() + value.len()).sum();
        self.metadata_bytes += (entry.path.len() + target.len() + xattrs) as u64;
        if self.metadata_bytes > self.limits.metadata_bytes_max {
            let limit = self.limits.metadata_bytes_max;
            return Err(Error::Limit {
                what: "names and attributes of too many bytes",
                limit,
            });
        }
        self.count_entry()
    }

    /// Also called for directories that an entry implies: a short tar could make many of them.
    fn count_entry(&mut self) -> Result<()> {
        self.entries += 1;
        if self.entries > self.limits.entries_max {
            return Err(Error::Limit {
                what: "too many entries",
                limit: self.limits.entries_max,
            });
        }
        Ok(())
    }

    /// The entry for the root itself: containerd skips it, docker and umoci apply it.
    fn set_root(&mut self, entry: Entry) -> Result<Placed> {
        if entry.kind != Kind::Directory {
            return match self.form {
                Form::Archive => Ok(Placed::Ignored),
                Form::Layer => Err(Error::entry(
                    &entry.path,
                    "the root can only be a directory",
                )),
            };
        }
        self.directories[0].metadata = Some(entry.metadata);
        Ok(Placed::Done)
    }

    /// Where an entry belongs and what its name means.
    fn place(&mut self, parent: &[u8], name: &[u8], entry: &Entry) -> Result<Place> {
        if self.form == Form::Layer
            && let Some(owner) = aufs_directory(parent)
        {
            let first = owner == AUFS_LINKS && matches!(entry.kind, Kind::File { .. });
            return Ok(if first {
                Place::AufsLink
            } else {
                Place::Ignored
            });
        }
        let (meaning, name) = match self.meaning(name) {
            Meaning::Ignored => return Ok(Place::Ignored),
            Meaning::Whiteout(gone) => (Meaning::Whiteout(gone), gone),
            meaning => (meaning, name),
        };
        let directory = self.parent(parent, &entry.path)?;
        if meaning == Meaning::Opaque {
            return Ok(Place::Opaque(directory));
        }
        let name = Name::new(name).map_err(|e| Error::entry(&entry.path, e.to_string()))?;
        self.check_reserved(directory, &name, &entry.path)?;
        Ok(match meaning {
            Meaning::Whiteout(_) => Place::Whiteout(directory, name),
            _ => Place::Entry(directory, name),
        })
    }

    fn meaning<'n>(&self, name: &'n [u8]) -> Meaning<'n> {
        match self.form {
            Form::Layer => meaning(name),
            Form::Archive => Meaning::Entry,
        }
    }

    fn check_reserved(&self, parent: DirectoryIndex, name: &Name, path: &[u8]) -> Result<()> {
        if parent == 0 && self.reserved == Some(name.as_bytes()) {
            let reason = "this name at the root is kept for varve's own object files";
            return Err(Error::entry(path, reason));
        }
        Ok(())
    }

    fn add_aufs_link(&mut self, entry: Entry) -> Result<Placed> {
        let (_, name) = split(&entry.path);
        let name = name.to_vec();
        let inode = self.add_inode(entry)?;
        self.aufs_links.insert(name, inode);
        Ok(Placed::File(inode))
    }

    fn add_inode(&mut self, entry: Entry) -> Result<InodeIndex> {
        let content = match entry.kind {
            // The id stands here until the content is known.
            Kind::File { size } => Content::File {
                blob: BlobId::from_bytes([0; 32]),
                size,
            },
            Kind::Symlink(target) => Content::Symlink {
                target: target.into(),
            },
            Kind::CharDevice(major, minor) => Content::CharDevice { major, minor },
            Kind::BlockDevice(major, minor) => Content::BlockDevice { major, minor },
            Kind::Fifo => Content::Fifo,
            Kind::Directory | Kind::HardLink(_) | Kind::Nothing(_) => {
                return Err(Error::entry(&entry.path, "it is no file"));
            }
        };
        let mut metadata = entry.metadata;
        if matches!(content, Content::Symlink { .. }) {
            // Linux has no other mode for them, whatever the archive says.
            metadata.mode = 0o777;
        }
        let leaf = Leaf {
            metadata,
            content,
            link: None,
        };
        self.inodes.push(Inode {
            leaf,
            linked: false,
        });
        Ok(self.inodes.len() - 1)
    }

    fn put(&mut self, directory: DirectoryIndex, name: Name, entry: Entry) -> Result<Placed> {
        let what = match &entry.kind {
            Kind::Directory => {
                let child = self.make_directory(directory, name);
                self.directories[child].metadata = Some(entry.metadata);
                return Ok(Placed::Done);
            }
            Kind::CharDevice(0, 0) => {
                // overlayfs's own deletion mark: mounted, it is what it hides, so it is read as
                // what it does.
                self.replace(directory, name, None);
                return Ok(Placed::Done);
            }
            Kind::Symlink(target) if target.is_empty() || target.contains(&0) => {
                return Err(Error::entry(
                    &entry.path,
                    "its target is empty or contains NUL",
                ));
            }
            Kind::HardLink(target) => self.link_target(directory, &name, target, &entry.path)?,
            _ => {
                let file = matches!(entry.kind, Kind::File { .. });
                let inode = self.add_inode(entry)?;
                self.replace(directory, name, Some(What::Inode(inode)));
                return Ok(if file {
                    Placed::File(inode)
                } else {
                    Placed::Done
                });
            }
        };
        if let What::Link(_) = what {
            self.pending_links.push((directory, name.clone()));
        }
        self.replace(directory, name, Some(what));
        Ok(Placed::Done)
    }

    /// Puts something that is no directory in place of what is there.
    fn replace(&mut self, directory: DirectoryIndex, name: Name, what: Option<What>) {
        let slot = self.directories[directory].slots.entry(name).or_default();
        if slot.what.is_some() {
            // The way to the last parent may have led through here.
            self.last_parent = None;
        }
        *slot = Slot { what, hides: true };
    }

    /// The directory of that name, made if there is none. One that stands there keeps its
    /// entries; anything else is replaced, and then what lower layers have stays hidden.
    fn make_directory(&mut self, parent: DirectoryIndex, name: Name) -> DirectoryIndex {
        let fresh = self.directories.len();
        let slot = self.directories[parent].slots.entry(name).or_default();
        match slot.what {
            Some(What::Directory(child)) => return child,
            Some(_) => self.last_parent = None,
            None => {}
        }
        slot.what = Some(What::Directory(fresh));
        self.directories.push(Directory::default());
        fresh
    }
}

/// Where an entry belongs.
enum Place {
    Entry(DirectoryIndex, Name),
    Whiteout(DirectoryIndex, Name),
    Opaque(DirectoryIndex),
    AufsLink,
    Ignored,
}

/// The aufs directory that the path leads into, if it does.
fn aufs_directory(path: &[u8]) -> Option<&[u8]> {
    let mut components = path.split(|byte| *byte == b'/');
    components.find(|component| meaning(component) == Meaning::Ignored)
}

/// The name of an entry, cut behind its directory. Slashes at the end and `.` components there do
/// not count; the root has an empty name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let mut path = path;
    loop {
        let cut = path
            .iter()
            .rposition(|byte| *byte == b'/')
            .map_or(0, |slash| slash + 1);
        match &path[cut..] {
            b"" | b"." if cut > 0 => path = &path[..cut - 1],
            b"." => return (b"", b""),
            name => return (&path[..cut], name),
        }
    }
}
