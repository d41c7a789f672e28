//! Reads an upper directory, with overlayfs's marks understood, into a value. Changes nothing.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use store::metadata::OVERLAY_XATTR_PREFIX;
use store::path::PATH_DEPTH_MAX;
use store::{Content, Metadata, Name, Timestamp, Xattrs};

use super::read_xattrs;
use crate::error::{Error, Result};
use crate::marks::{self, Marks, Meaning};

/// Labels by which the host's security modules know its files: they mean nothing elsewhere.
/// File capabilities (`security.capability`) are the program's own and stay.
const HOST_LABELS: [&[u8]; 5] = [
    b"security.selinux",
    b"security.ima",
    b"security.evm",
    b"security.apparmor",
    b"security.SMACK",
];

/// An upper directory with everything in it. Flat lists, not a nested value: what a process leaves
/// behind may be nested deeper than a stack.
#[derive(Debug)]
pub(super) struct Upper {
    /// All directories, the root first; entries name them by index.
    pub(super) directories: Vec<UpperDirectory>,
    /// The regular files that have their content with them; entries name them by index.
    pub(super) files: Vec<UpperFile>,
}

#[derive(Debug)]
pub(super) struct UpperDirectory {
    pub(super) path: PathBuf,
    pub(super) metadata: Metadata,
    /// Whether it hides the lower directory of its name.
    pub(super) opaque: bool,
    /// Which lower directory it merges with, if not the one of its name.
    pub(super) redirect: Option<Vec<u8>>,
    /// Sorted by name.
    pub(super) entries: Vec<(Name, UpperEntry)>,
}

#[derive(Debug)]
pub(super) enum UpperEntry {
    Whiteout,
    /// Index into [`Upper::directories`].
    Directory(usize),
    Leaf(UpperLeaf),
}

#[derive(Debug)]
pub(super) struct UpperLeaf {
    pub(super) metadata: Metadata,
    pub(super) content: UpperContent,
    /// The inode number, if it may have other names in the upper.
    pub(super) inode: Option<u64>,
}

#[derive(Debug, Clone)]
pub(super) enum UpperContent {
    /// Its own: index into [`Upper::files`].
    File(usize),
    /// That of a lower file, which `redirect` names if it is not the one of the same path.
    Lower { redirect: Option<Vec<u8>> },
    /// Not a regular file.
    Other(Content),
}

/// A regular file with its content.
#[derive(Debug)]
pub(super) struct UpperFile {
    pub(super) path: PathBuf,
    pub(super) mode: u32,
}

/// Extended attributes, overlayfs's own set apart.
#[derive(Debug, Default)]
struct Attributes {
    visible: Xattrs,
    opaque: bool,
    metacopy: bool,
    redirect: Option<Vec<u8>>,
    /// What the file stands for.
    device: Option<Content>,
}

/// Reads `upper`. `marks` are those of overlayfs, if it wrote to it;
/// `reserved` is the name that the root may not have.
pub(super) fn read(upper: &Path, marks: Option<Marks>, reserved: &str) -> Result<Upper> {
    let mut reader = Reader {
        root: upper,
        marks,
        waiting: VecDeque::from([(upper.to_owned(), 0)]),
        announced: 1,
        files: Vec::new(),
        inodes: HashMap::new(),
    };
    let mut directories = Vec::new();
    while let Some((path, depth)) = reader.waiting.pop_front() {
        directories.push(reader.directory(&path, depth)?);
    }
    // Redirects lead through this name (shared/spec/filesystem-stacks.md, "Hijack").
    if directories[0]
        .entries
        .iter()
        .any(|(name, _)| name.as_bytes() == reserved.as_bytes())
    {
        return Err(Error::Capture {
            path: format!("/{reserved}"),
            reason: "this name in the root directory is reserved by the store".into(),
        });
    }
    Ok(Upper {
        directories,
        files: reader.files,
    })
}

struct Reader<'r> {
    root: &'r Path,
    marks: Option<Marks>,
    /// Directories that were seen but not read yet, with their depths, in the order of the indices
    /// that entries name them by.
    waiting: VecDeque<(PathBuf, usize)>,
    /// How many directories were seen.
    announced: usize,
    files: Vec<UpperFile>,
    /// Contents of regular files with several names, by inode number.
    inodes: HashMap<u64, UpperContent>,
}

impl Reader<'_> {
    fn directory(&mut self, path: &Path, depth: usize) -> Result<UpperDirectory> {
        let found = fs::symlink_metadata(path).map_err(|e| Error::io("stat", path, e))?;
        let attributes = self.attributes(path)?;
        let listing = fs::read_dir(path).map_err(|e| Error::io("list", path, e))?;
        let mut entries = Vec::new();
        for entry in listing {
            let entry = entry.map_err(|e| Error::io("list", path, e))?;
            let name = Name::new(entry.file_name().as_bytes())?;
            if depth >= PATH_DEPTH_MAX {
                let reason = format!("it is deeper than {PATH_DEPTH_MAX} directories");
                return Err(self.refuse(&entry.path(), reason));
            }
            let entry = self.entry(entry.path(), depth)?;
            entries.push((name, entry));
        }
        entries.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(UpperDirectory {
            path: path.into(),
            metadata: metadata(&found, attributes.visible),
            opaque: attributes.opaque,
            redirect: attributes.redirect,
            entries,
        })
    }

    fn entry(&mut self, path: PathBuf, depth: usize) -> Result<UpperEntry> {
        let found = fs::symlink_metadata(&path).map_err(|e| Error::io("stat", &path, e))?;
        let kind = found.file_type();
        if kind.is_dir() {
            self.waiting.push_back((path, depth + 1));
            self.announced += 1;
            return Ok(UpperEntry::Directory(self.announced - 1));
        }
        // Also in a plain directory: nothing below could show a device of this number.
        if kind.is_char_device() && found.rdev() == 0 {
            return Ok(UpperEntry::Whiteout);
        }
        let attributes = self.attributes(&path)?;
        let inode = (found.nlink() > 1).then(|| found.ino());
        let known = inode.and_then(|inode| self.inodes.get(&inode));
        let content = match known {
            Some(content) => content.clone(),
            None => self.content(&path, &found, &attributes)?,
        };
        if let Some(inode) = inode {
            self.inodes.insert(inode, content.clone());
        }
        let metadata = metadata(&found, attributes.visible);
        Ok(UpperEntry::Leaf(UpperLeaf {
            metadata,
            content,
            inode,
        }))
    }

    fn content(
        &mut self,
        path: &Path,
        found: &fs::Metadata,
        attributes: &Attributes,
    ) -> Result<UpperContent> {
        let kind = found.file_type();
        let (major, minor) = (
            rustix::fs::major(found.rdev()),
            rustix::fs::minor(found.rdev()),
        );
        Ok(UpperContent::Other(if kind.is_file() {
            if let Some(device) = &attributes.device {
                return Ok(UpperContent::Other(device.clone()));
            }
            if attributes.metacopy {
                return Ok(UpperContent::Lower {
                    redirect: attributes.redirect.clone(),
                });
            }
            self.files.push(UpperFile {
                path: path.into(),
                mode: found.mode() & 0o7777,
            });
            return Ok(UpperContent::File(self.files.len() - 1));
        } else if kind.is_symlink() {
            let target = fs::read_link(path).map_err(|e| Error::io("read link", path, e))?;
            Content::Symlink {
                target: target.into_os_string().into_vec().into(),
            }
        } else if kind.is_char_device() {
            Content::CharDevice { major, minor }
        } else if kind.is_block_device() {
            Content::BlockDevice { major, minor }
        } else if kind.is_fifo() {
            Content::Fifo
        } else if kind.is_socket() {
            Content::Socket
        } else {
            return Err(self.refuse(path, "it is of a kind that cannot be stored".into()));
        }))
    }

    fn attributes(&self, path: &Path) -> Result<Attributes> {
        attributes(path, self.marks)
    }

    fn refuse(&self, path: &Path, reason: String) -> Error {
        let inside = path.strip_prefix(self.root).unwrap_or(path);
        Error::Capture {
            path: format!("/{}", inside.display()),
            reason,
        }
    }
}

fn metadata(found: &fs::Metadata, xattrs: Xattrs) -> Metadata {
    Metadata {
        mode: (found.mode() & 0o7777) as u16,
        uid: found.uid(),
        gid: found.gid(),
        // The kernel's nanoseconds are below 10^9.
        mtime: Timestamp {
            seconds: found.mtime(),
            nanoseconds: found.mtime_nsec() as u32,
        },
        xattrs,
    }
}

/// `marks` are those of overlayfs, if they count.
fn attributes(path: &Path, marks: Option<Marks>) -> Result<Attributes> {
    let mut attributes = Attributes::default();
    for (name, value) in read_xattrs(path)? {
        let meaning = marks.map_or(Meaning::Own((&*name).into()), |marks| marks.meaning(&name));
        let name = match meaning {
            Meaning::Opaque => {
                attributes.opaque = &*value == b"y";
                continue;
            }
            Meaning::Metacopy => {
                attributes.metacopy = true;
                continue;
            }
            Meaning::Redirect => {
                attributes.redirect = Some(value);
                continue;
            }
            Meaning::Device => {
                attributes.device = marks::device(&value);
                continue;
            }
            Meaning::Ignored => continue,
            Meaning::Own(name) => name,
        };
        match &*name {
            other if other.starts_with(OVERLAY_XATTR_PREFIX) => {}
            other if HOST_LABELS.iter().any(|label| other.starts_with(label)) => {}
            // What no metadata image could show again (`system.nfs4_acl`).
            other if !erofs::xattr_is_representable(other) => {}
            _ => {
                attributes.visible.insert((&*name).into(), value.into());
            }
        }
    }
    Ok(attributes)
}

/// The attributes of a file or directory, overlayfs's own left out.
pub(super) fn read_metadata(path: &Path) -> Result<Metadata> {
    let found = fs::symlink_metadata(path).map_err(|e| Error::io("stat", path, e))?;
    Ok(metadata(&found, attributes(path, None)?.visible))
}
