//! Collects the entries of a tree, in any order, and checks each when it is added.
//! Names live in one byte arena and entries in one flat list that is sorted at the end, so an
//! entry costs about 80 bytes beside its names and attributes, and no hash table is needed.

use crate::error::{Error, printable};
use crate::format::{ENTRY_COUNT_MAX, FILE_SIZE_MAX, NAME_LENGTH_MAX, SYMLINK_LENGTH_MAX};
use crate::image::{self, ImageOptions};
use crate::inode::{Attributes, DeviceNumber, Entry, Inode, InodeId, Kind, Span, Timestamp};
use crate::xattr::{self, OVERLAY_METACOPY, OVERLAY_OPAQUE, OVERLAY_REDIRECT};

/// A tree that becomes an EROFS image. Equal trees give equal bytes, whatever the order in which
/// entries and extended attributes were added.
///
/// A failed call adds nothing; the builder stays usable.
#[derive(Clone, Debug)]
pub struct Builder {
    pub(crate) inodes: Vec<Inode>,
    pub(crate) entries: Vec<Entry>,
    /// Names, link targets and encoded extended attributes.
    pub(crate) arena: Vec<u8>,
}

impl Builder {
    /// An image with nothing but its root directory.
    ///
    /// A root cannot be opaque: overlayfs merges the roots of all layers unconditionally.
    ///
    /// # Errors
    /// Bad [`Attributes`].
    pub fn new(root: &Attributes<'_>) -> Result<Self, Error> {
        let mut builder = Self {
            inodes: Vec::new(),
            entries: Vec::new(),
            arena: Vec::new(),
        };
        let inode = builder.inode(b"/", Kind::Directory { parent: 0 }, root, &[])?;
        builder.inodes.push(inode);
        Ok(builder)
    }

    /// The root directory.
    #[must_use]
    pub fn root(&self) -> InodeId {
        InodeId(0)
    }

    /// How many inodes the image has so far, the root included.
    #[must_use]
    pub fn inode_count(&self) -> usize {
        self.inodes.len()
    }

    /// Adds a directory that merges with the directories of the same name in lower layers.
    ///
    /// # Errors
    /// A bad parent, name or attribute. That the name is already taken shows in
    /// [`Builder::finish`]; the same holds for all methods that add an entry.
    pub fn directory(
        &mut self,
        parent: InodeId,
        name: &[u8],
        attributes: &Attributes<'_>,
    ) -> Result<InodeId, Error> {
        self.add_directory(parent, name, attributes, &[])
    }

    /// Adds a directory that hides the directories of the same name in lower layers
    /// (`trusted.overlay.opaque=y`).
    ///
    /// # Errors
    /// A bad parent, name or attribute.
    pub fn opaque_directory(
        &mut self,
        parent: InodeId,
        name: &[u8],
        attributes: &Attributes<'_>,
    ) -> Result<InodeId, Error> {
        self.add_directory(parent, name, attributes, &[(OVERLAY_OPAQUE, b"y")])
    }

    /// Adds a regular file of `size` bytes.
    ///
    /// With `redirect` overlayfs reads the contents from that absolute path in the data-only
    /// lower directories, e.g. `/<nonce>/ab/cdef…`. Without it the file reads as zeros.
    /// An empty file takes no redirect: it has nothing to read.
    ///
    /// # Errors
    /// A bad parent, name or attribute, a size beyond [`FILE_SIZE_MAX`], a bad redirect.
    pub fn file(
        &mut self,
        parent: InodeId,
        name: &[u8],
        attributes: &Attributes<'_>,
        size: u64,
        redirect: Option<&[u8]>,
    ) -> Result<InodeId, Error> {
        if size > FILE_SIZE_MAX {
            return Err(Error::FileSize {
                name: printable(name),
                size,
            });
        }
        let kind = Kind::File { size };
        let Some(redirect) = redirect else {
            return self.add(parent, name, kind, attributes, &[]);
        };
        if size == 0 || !redirect_is_valid(redirect) {
            let (name, redirect) = (printable(name), printable(redirect));
            return Err(Error::Redirect { name, redirect });
        }
        let overlay = [
            (OVERLAY_METACOPY, b"".as_slice()),
            (OVERLAY_REDIRECT, redirect),
        ];
        self.add(parent, name, kind, attributes, &overlay)
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// A bad parent, name or attribute, a target that is empty, too long or has a zero byte.
    pub fn symlink(
        &mut self,
        parent: InodeId,
        name: &[u8],
        attributes: &Attributes<'_>,
        target: &[u8],
    ) -> Result<InodeId, Error> {
        if target.is_empty() || target.len() > SYMLINK_LENGTH_MAX || target.contains(&0) {
            let (name, length) = (printable(name), target.len());
            return Err(Error::SymlinkTarget { name, length });
        }
        let before = self.arena.len();
        let target = self.store(target)?;
        self.add(parent, name, Kind::Symlink { target }, attributes, &[])
            .inspect_err(|_| self.arena.truncate(before))
    }

    /// Adds a character device. Number 0:0 is a whiteout.
    ///
    /// # Errors
    /// A bad parent, name, attribute or device number.
    pub fn character_device(
        &mut self,
        parent: InodeId,
        name: &[u8],
        attributes: &Attributes<'_>,
        number: DeviceNumber,
    ) -> Result<InodeId, Error> {
        let encoded = encode_device(name, number)?;
        self.add(
            parent,
            name,
            Kind::CharacterDevice { encoded },
            attributes,
            &[],
        )
    }

    /// Adds a block device.
    ///
    /// # Errors
    /// A bad parent, name, attribute or device number.
    pub fn block_device(
        &mut self,
        parent: InodeId,
        name: &[u8],
        attributes: &Attributes<'_>,
        number: DeviceNumber,
    ) -> Result<InodeId, Error> {
        let encoded = encode_device(name, number)?;
        self.add(parent, name, Kind::BlockDevice { encoded }, attributes, &[])
    }

    /// Adds a named pipe.
    ///
    /// # Errors
    /// A bad parent, name or attribute.
    pub fn fifo(
        &mut self,
        parent: InodeId,
        name: &[u8],
        attributes: &Attributes<'_>,
    ) -> Result<InodeId, Error> {
        self.add(parent, name, Kind::Fifo, attributes, &[])
    }

    /// Adds a socket.
    ///
    /// # Errors
    /// A bad parent, name or attribute.
    pub fn socket(
        &mut self,
        parent: InodeId,
        name: &[u8],
        attributes: &Attributes<'_>,
    ) -> Result<InodeId, Error> {
        self.add(parent, name, Kind::Socket, attributes, &[])
    }

    /// Adds the mark that hides `name` in lower layers: a 0:0 character device, as overlayfs
    /// itself writes it. Skip it where no lower layer has the name: overlayfs would list it.
    ///
    /// # Errors
    /// A bad parent or name.
    pub fn whiteout(&mut self, parent: InodeId, name: &[u8]) -> Result<InodeId, Error> {
        self.character_device(
            parent,
            name,
            &Attributes::default(),
            DeviceNumber::default(),
        )
    }

    /// Gives `inode` a further name; its link count grows.
    ///
    /// # Errors
    /// A bad parent or name, a target that is a directory or not of this builder.
    pub fn link(&mut self, parent: InodeId, name: &[u8], inode: InodeId) -> Result<(), Error> {
        self.check_entry(parent, name)?;
        match self.inodes.get(inode.index()) {
            None
            | Some(Inode {
                kind: Kind::Directory { .. },
                ..
            }) => {
                return Err(Error::LinkTarget {
                    name: printable(name),
                });
            }
            Some(_) => {}
        }
        let name = self.store(name)?;
        self.entries.push(Entry {
            parent: parent.0,
            name,
            inode: inode.0,
        });
        // Cannot overflow: there are at most ENTRY_COUNT_MAX names.
        self.inodes[inode.index()].link_count += 1;
        Ok(())
    }

    /// The image with default options.
    ///
    /// # Errors
    /// A name that was added twice, an image beyond 16 TiB.
    pub fn finish(self) -> Result<Vec<u8>, Error> {
        self.finish_with(&ImageOptions::default())
    }

    /// The image; its length is a multiple of 4096.
    ///
    /// # Errors
    /// A name that was added twice, an image beyond 16 TiB.
    pub fn finish_with(self, options: &ImageOptions) -> Result<Vec<u8>, Error> {
        image::write(self, options)
    }

    fn add_directory(
        &mut self,
        parent: InodeId,
        name: &[u8],
        attributes: &Attributes<'_>,
        overlay: &[(&[u8], &[u8])],
    ) -> Result<InodeId, Error> {
        let kind = Kind::Directory { parent: parent.0 };
        let id = self.add(parent, name, kind, attributes, overlay)?;
        // The new directory's ".." is one more name of its parent.
        self.inodes[parent.index()].link_count += 1;
        Ok(id)
    }

    fn add(
        &mut self,
        parent: InodeId,
        name: &[u8],
        kind: Kind,
        attributes: &Attributes<'_>,
        overlay: &[(&[u8], &[u8])],
    ) -> Result<InodeId, Error> {
        self.check_entry(parent, name)?;
        let inode = self.inode(name, kind, attributes, overlay)?;
        let stored_name = self.store(name)?;
        let id = self.inodes.len() as u32; // check_entry bounds the count well below u32::MAX
        self.inodes.push(inode);
        self.entries.push(Entry {
            parent: parent.0,
            name: stored_name,
            inode: id,
        });
        Ok(InodeId(id))
    }

    fn check_entry(&self, parent: InodeId, name: &[u8]) -> Result<(), Error> {
        let bad_bytes = name.iter().any(|byte| matches!(byte, 0 | b'/'));
        if matches!(name, b"" | b"." | b"..") || name.len() > NAME_LENGTH_MAX || bad_bytes {
            return Err(Error::Name {
                name: printable(name),
            });
        }
        match self.inodes.get(parent.index()) {
            Some(Inode {
                kind: Kind::Directory { .. },
                ..
            }) => {}
            _ => {
                return Err(Error::ParentNotADirectory {
                    name: printable(name),
                });
            }
        }
        if self.entries.len() >= ENTRY_COUNT_MAX {
            return Err(Error::TooManyEntries);
        }
        Ok(())
    }

    fn inode(
        &mut self,
        name: &[u8],
        kind: Kind,
        attributes: &Attributes<'_>,
        overlay: &[(&[u8], &[u8])],
    ) -> Result<Inode, Error> {
        let Attributes {
            mode,
            uid,
            gid,
            mtime,
            ref xattrs,
        } = *attributes;
        if mode & !0o7777 != 0 {
            return Err(Error::Mode {
                name: printable(name),
                mode,
            });
        }
        let Timestamp { nanoseconds, .. } = mtime;
        if nanoseconds >= 1_000_000_000 {
            return Err(Error::Nanoseconds {
                name: printable(name),
                nanoseconds,
            });
        }
        let start = self.arena.len();
        let length = xattr::encode(name, xattrs, overlay, &mut self.arena)?;
        let xattrs = self.span(start, length)?;
        let link_count = if matches!(kind, Kind::Directory { .. }) {
            2
        } else {
            1
        };
        // 0o7777 was checked above, so the mode fits.
        Ok(Inode {
            kind,
            permissions: mode as u16,
            uid,
            gid,
            mtime,
            link_count,
            xattrs,
        })
    }

    fn store(&mut self, bytes: &[u8]) -> Result<Span, Error> {
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        self.span(start, bytes.len())
    }

    /// The span of what was just appended; gives the bytes back if 32 bits cannot address them.
    fn span(&mut self, start: usize, length: usize) -> Result<Span, Error> {
        match (u32::try_from(start), u32::try_from(start + length)) {
            (Ok(offset), Ok(end)) => Ok(Span {
                offset,
                length: end - offset,
            }),
            _ => {
                self.arena.truncate(start);
                Err(Error::TooLarge {
                    limit: u64::from(u32::MAX),
                })
            }
        }
    }
}

fn encode_device(name: &[u8], number: DeviceNumber) -> Result<u32, Error> {
    let DeviceNumber { major, minor } = number;
    number.encode().ok_or_else(|| Error::DeviceNumber {
        name: printable(name),
        major,
        minor,
    })
}

fn redirect_is_valid(redirect: &[u8]) -> bool {
    let Some(path) = redirect.strip_prefix(b"/") else {
        return false;
    };
    redirect.len() <= SYMLINK_LENGTH_MAX
        && !redirect.contains(&0)
        && path
            .split(|byte| *byte == b'/')
            .all(|part| !matches!(part, b"" | b"." | b".."))
}

#[cfg(test)]
mod tests {
    use super::{Builder, redirect_is_valid};
    use crate::{Attributes, DeviceNumber, Error, FILE_SIZE_MAX, InodeId, Timestamp};

    fn builder() -> Builder {
        Builder::new(&Attributes::default()).expect("a plain root")
    }

    #[test]
    fn a_redirect_must_be_absolute_and_plain() {
        let check = |redirect: &[u8], expect| {
            assert_eq!(
                redirect_is_valid(redirect),
                expect,
                "{}",
                redirect.escape_ascii()
            );
        };
        check(b"/nonce/ab/cdef", true);
        check(b"/a", true);
        check(b"", false);
        check(b"/", false);
        check(b"a/b", false);
        check(b"/a//b", false);
        check(b"/a/", false);
        check(b"/a/../b", false);
        check(b"/./a", false);
        check(b"/a\0", false);
        check(&[b"/".as_slice(), &[b'x'; 4095]].concat(), false);
    }

    #[test]
    fn bad_names_are_refused() {
        let long = [b'x'; 256];
        let bad: [&[u8]; 7] = [b"", b".", b"..", b"a/b", b"/", b"a\0b", &long];
        for name in bad {
            let mut builder = builder();
            let root = builder.root();
            let result = builder.fifo(root, name, &Attributes::default());
            assert!(
                matches!(result, Err(Error::Name { .. })),
                "{}",
                name.escape_ascii()
            );
        }
        let mut builder = builder();
        let root = builder.root();
        builder
            .fifo(root, &long[..255], &Attributes::default())
            .expect("255 bytes");
        builder
            .fifo(root, b"...", &Attributes::default())
            .expect("three dots");
        builder
            .fifo(root, b"\xff\n", &Attributes::default())
            .expect("any bytes");
    }

    #[test]
    fn entries_need_a_directory_of_this_builder() {
        let mut builder = builder();
        let plain = Attributes::default();
        let root = builder.root();
        let fifo = builder.fifo(root, b"fifo", &plain).expect("a pipe");
        let is_parent_error = |result| matches!(result, Err(Error::ParentNotADirectory { .. }));
        assert!(is_parent_error(builder.fifo(fifo, b"x", &plain)));
        assert!(is_parent_error(builder.fifo(InodeId(99), b"x", &plain)));
        let linked = builder.link(root, b"x", InodeId(99));
        assert!(matches!(linked, Err(Error::LinkTarget { .. })));
        let linked = builder.link(root, b"x", root);
        assert!(matches!(linked, Err(Error::LinkTarget { .. })));
    }

    #[test]
    fn attributes_outside_of_the_format_are_refused() {
        let mut builder = builder();
        let root = builder.root();
        let plain = Attributes::default();
        let bad_mode = Attributes {
            mode: 0o100_644,
            ..plain.clone()
        };
        assert!(matches!(
            builder.fifo(root, b"x", &bad_mode),
            Err(Error::Mode { .. })
        ));
        let mtime = Timestamp {
            seconds: 0,
            nanoseconds: 1_000_000_000,
        };
        let bad_time = Attributes {
            mtime,
            ..plain.clone()
        };
        assert!(matches!(
            builder.fifo(root, b"x", &bad_time),
            Err(Error::Nanoseconds { .. })
        ));
        let number = DeviceNumber {
            major: 4096,
            minor: 0,
        };
        let device = builder.block_device(root, b"x", &plain, number);
        assert!(matches!(device, Err(Error::DeviceNumber { .. })));
        let file = builder.file(root, b"x", &plain, FILE_SIZE_MAX + 1, None);
        assert!(matches!(file, Err(Error::FileSize { .. })));
        let empty = builder.file(root, b"x", &plain, 0, Some(b"/a"));
        assert!(matches!(empty, Err(Error::Redirect { .. })));
        for target in [b"".as_slice(), b"a\0", &[b'x'; 4096]] {
            let link = builder.symlink(root, b"x", &plain, target);
            assert!(matches!(link, Err(Error::SymlinkTarget { .. })));
        }
        let twice = Attributes {
            xattrs: vec![(b"user.a", b""), (b"user.a", b"")],
            ..plain
        };
        let link = builder.symlink(root, b"x", &twice, b"target");
        assert!(matches!(link, Err(Error::XattrDuplicate { .. })));
        assert_eq!(
            builder.finish(),
            super::tests::builder().finish(),
            "nothing was added"
        );
    }

    #[test]
    fn a_name_added_twice_is_named_with_its_path() {
        let mut builder = builder();
        let plain = Attributes::default();
        let usr = builder
            .directory(builder.root(), b"usr", &plain)
            .expect("usr");
        let bin = builder.directory(usr, b"bin", &plain).expect("bin");
        builder.fifo(bin, b"sh", &plain).expect("sh");
        builder
            .socket(bin, b"sh", &plain)
            .expect("only found at the end");
        assert_eq!(
            builder.finish(),
            Err(Error::DuplicateName {
                path: "/usr/bin/sh".into()
            })
        );
    }
}
