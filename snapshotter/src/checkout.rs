//! A delta as a plain directory, with overlayfs's own marks: the `dirs` path of DESIGN 4, for
//! hosts whose kernel cannot take bodies from a data-only lower.
//!
//! Bodies are copied (cloned where the file system shares extents): a hard link to an object
//! would share its mode and owner too.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chownat, lsetxattr,
    makedev, mknodat, symlinkat, utimensat,
};
use rustix::io::Errno;
use store::{
    Content, Delta, DeltaDirectory, DeltaEntry, Entry, Leaf, LinkId, Metadata, Objects, Timestamp,
    TreeRef, TreeSource,
};

use crate::error::{Error, Result};
use crate::marks::{self, Marks};

/// What a checkout is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// Overlayfs's marks.
    pub marks: Marks,
    /// Whether its files redirect to the objects instead of having their contents: overlayfs must
    /// then see them in its last layer.
    pub redirects: bool,
}

/// Writes the delta into the new directory `target`.
///
/// # Errors
/// [`Error::Io`]; [`store::Error::BlobMissing`], [`store::Error::BlobCorrupt`]. What was written
/// so far stays: the caller throws the directory away.
pub fn write(
    delta: &Delta,
    trees: &dyn TreeSource,
    objects: &Objects,
    form: Form,
    target: &Path,
) -> Result<()> {
    if target.exists() {
        fs::remove_dir_all(target).map_err(|e| Error::io("remove", target, e))?;
    }
    let mut checkout = Checkout {
        trees,
        objects,
        marks: form.marks,
        redirects: form.redirects,
        links: HashMap::new(),
        directories: Vec::new(),
    };
    checkout.delta(&delta.root, target)?;
    // Making an entry changes the time of its directory, so these come last.
    for (directory, metadata) in checkout.directories.iter().rev() {
        set_metadata(directory, metadata, checkout.marks, false)?;
    }
    Ok(())
}

struct Checkout<'a> {
    trees: &'a dyn TreeSource,
    objects: &'a Objects,
    marks: Marks,
    redirects: bool,
    links: HashMap<LinkId, PathBuf>,
    /// What was made, with the attributes that it is to get.
    directories: Vec<(PathBuf, Metadata)>,
}

impl Checkout<'_> {
    /// Lists instead of recursion: deltas and trees nest deeper than stacks. What is nested deeper
    /// than the kernel accepts fails when it is made.
    fn delta(&mut self, root: &DeltaDirectory, target: &Path) -> Result<()> {
        let mut waiting = vec![(root, target.to_owned())];
        while let Some((delta, target)) = waiting.pop() {
            let metadata = delta.metadata.clone();
            self.directory(
                &target,
                metadata.unwrap_or_else(Metadata::default_directory),
            )?;
            if delta.opaque {
                set_xattr(&target, self.marks.opaque(), b"y")?;
            }
            for (name, entry) in &delta.entries {
                let target = target.join(name);
                match entry {
                    DeltaEntry::Whiteout => node(&target, FileType::CharacterDevice, 0, 0)?,
                    DeltaEntry::Directory(child) => waiting.push((child, target)),
                    DeltaEntry::Leaf(leaf) => self.leaf(leaf, &target)?,
                    DeltaEntry::Graft(tree) => {
                        self.tree(*tree, &target)?;
                        set_xattr(&target, self.marks.opaque(), b"y")?;
                    }
                    DeltaEntry::Link(_) => {
                        debug_assert!(false, "store::diff makes no link to a lower file");
                    }
                }
            }
        }
        Ok(())
    }

    fn tree(&mut self, tree: TreeRef, target: &Path) -> Result<()> {
        let mut waiting = vec![(tree, target.to_owned())];
        while let Some((tree, target)) = waiting.pop() {
            let tree = self.trees.tree(tree.id)?;
            self.directory(&target, tree.metadata.clone())?;
            for (name, entry) in &tree.entries {
                let target = target.join(name);
                match entry {
                    Entry::Leaf(leaf) => self.leaf(leaf, &target)?,
                    Entry::Directory(child) => waiting.push((*child, target)),
                }
            }
        }
        Ok(())
    }

    fn directory(&mut self, target: &Path, metadata: Metadata) -> Result<()> {
        fs::create_dir(target).map_err(|e| Error::io("create", target, e))?;
        self.directories.push((target.into(), metadata));
        Ok(())
    }

    fn leaf(&mut self, leaf: &Leaf, target: &Path) -> Result<()> {
        if let Some(first) = leaf.link.and_then(|link| self.links.get(&link)) {
            return fs::hard_link(first, target).map_err(|e| Error::io("link", target, e));
        }
        match &leaf.content {
            Content::File { blob, size } => self.file(*blob, *size, target)?,
            Content::Symlink { target: points_to } => {
                symlinkat(&**points_to, CWD, target)
                    .map_err(|e| Error::io("create", target, e.into()))?;
            }
            device @ (Content::CharDevice { .. } | Content::BlockDevice { .. })
                if self.marks == Marks::User =>
            {
                File::create_new(target).map_err(|e| Error::io("create", target, e))?;
                let value = marks::stand_in(device).unwrap_or_default();
                set_xattr(target, marks::DEVICE, value.as_bytes())?;
            }
            Content::CharDevice { major, minor } => {
                node(target, FileType::CharacterDevice, *major, *minor)?;
            }
            Content::BlockDevice { major, minor } => {
                node(target, FileType::BlockDevice, *major, *minor)?;
            }
            Content::Fifo => node(target, FileType::Fifo, 0, 0)?,
            Content::Socket => node(target, FileType::Socket, 0, 0)?,
        }
        if let Some(link) = leaf.link {
            self.links.insert(link, target.to_owned());
        }
        set_metadata(
            target,
            &leaf.metadata,
            self.marks,
            matches!(leaf.content, Content::Symlink { .. }),
        )
    }

    fn file(&self, blob: store::BlobId, size: u64, target: &Path) -> Result<()> {
        let mut out = File::create_new(target).map_err(|e| Error::io("create", target, e))?;
        if self.redirects && size > 0 {
            out.set_len(size)
                .map_err(|e| Error::io("lengthen", target, e))?;
            let [metacopy, redirect] = self.marks.redirect();
            set_xattr(target, metacopy, b"")?;
            return set_xattr(target, redirect, self.objects.redirect(blob).as_bytes());
        }
        let source = self.objects.open_blob(blob)?;
        if rustix::fs::ioctl_ficlone(&out, &source).is_ok() {
            return Ok(());
        }
        self.objects.read_blob(blob, |piece| out.write_all(piece))?;
        Ok(())
    }
}

fn node(target: &Path, kind: FileType, major: u32, minor: u32) -> Result<()> {
    mknodat(
        CWD,
        target,
        kind,
        Mode::from_raw_mode(0o600),
        makedev(major, minor),
    )
    .map_err(|e| Error::io("create", target, e.into()))
}

fn set_xattr(target: &Path, name: &[u8], value: &[u8]) -> Result<()> {
    let name = std::ffi::OsStr::from_bytes(name);
    lsetxattr(target, name, value, XattrFlags::empty())
        .map_err(|e| Error::io("set extended attribute of", target, e.into()))
}

/// Owner first (it clears set-uid bits and capabilities), mtime last.
pub(crate) fn set_metadata(
    target: &Path,
    metadata: &Metadata,
    marks: Marks,
    symlink: bool,
) -> Result<()> {
    let failed = |operation| move |e: Errno| Error::io(operation, target, e.into());
    let chown_failed = |errno| match errno {
        // Of chown(2) only for ids that are not in the user namespace.
        Errno::INVAL => Error::NoSuchIds {
            path: target.into(),
            uid: metadata.uid,
            gid: metadata.gid,
        },
        errno => failed("chown")(errno),
    };
    let (uid, gid) = (Uid::from_raw(metadata.uid), Gid::from_raw(metadata.gid));
    chownat(CWD, target, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(chown_failed)?;
    if !symlink {
        let mode = Mode::from_raw_mode(metadata.mode.into());
        rustix::fs::chmod(target, mode).map_err(failed("chmod"))?;
    }
    for (name, value) in &metadata.xattrs {
        // What a metadata image would not have either.
        if !erofs::xattr_is_representable(name) {
            continue;
        }
        match marks.name_in_layer(name) {
            Some(name) => set_xattr(target, &name, value)?,
            None => tracing::warn!(
                path = %target.display(), name = %name.escape_ascii(),
                "steps of an ordinary user do not see this attribute"
            ),
        }
    }
    set_mtime(target, metadata.mtime)
}

/// Symbolic links are not followed.
pub(crate) fn set_mtime(target: &Path, mtime: Timestamp) -> Result<()> {
    let time = Timespec {
        tv_sec: mtime.seconds,
        tv_nsec: mtime.nanoseconds.into(),
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    utimensat(CWD, target, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|e| Error::io("set times of", target, e.into()))
}
