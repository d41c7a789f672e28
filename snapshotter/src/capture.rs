//! An overlay upper directory becomes a tree: what a writable snapshot turns into when committed.
//!
//! The upper was written by overlayfs, perhaps with `metacopy=on` and `redirect_dir=on`, so beside
//! plain files it has (kernel Documentation/filesystems/overlayfs.rst):
//! - whiteouts (character device 0:0) and opaque directories (`trusted.overlay.opaque=y`);
//! - metadata-only copies (`trusted.overlay.metacopy`): attributes count, the content is that of
//!   the lower file at `trusted.overlay.redirect`, or else at the file's own path;
//! - moved directories (`trusted.overlay.redirect`): below them lies what the lower directory of
//!   that path holds.
//!
//! Three steps: `upper` reads the directory into a value, `bodies` brings the contents of its
//! regular files into the store, `merge` puts the value over the tree below.
//!
//! Regular files are renamed into the store: nobody may use the upper any more. When the commit
//! fails after that, `Captured::restore` gives them back, so that it can be tried again.

mod bodies;
mod merge;
mod upper;

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use store::{Ingest, Metadata, Store, TreeRef};

use crate::checkout::set_mtime;
use crate::error::{Error, Result};
use crate::marks::Marks;

use bodies::Bodies;
use upper::{Upper, UpperDirectory};

/// Largest extended attribute of Linux, bytes (`XATTR_SIZE_MAX`).
const XATTR_SIZE_MAX: usize = 64 * 1024;

/// An upper directory that became a tree, whose files are in the store but not yet committed.
#[derive(Debug)]
#[must_use = "after a failed commit the files must be given back"]
pub(crate) struct Captured {
    pub(crate) tree: TreeRef,
    taken: Taken,
}

/// What was read of the upper, and which of its files were moved.
#[derive(Debug)]
struct Taken {
    directories: Vec<UpperDirectory>,
    bodies: Bodies,
}

impl Captured {
    /// Gives the upper directory its files back. Nothing that was ingested may have been swept
    /// since: the caller holds another ingest open.
    pub(crate) fn restore(&self, store: &Store) {
        self.taken.restore(store);
    }
}

impl Taken {
    fn restore(&self, store: &Store) {
        self.bodies.restore(store.objects());
        // Moving a file changes the time of its directory.
        for directory in &self.directories {
            if let Err(error) = set_mtime(&directory.path, directory.metadata.mtime) {
                tracing::warn!(%error, "a directory of a failed commit has another time now");
            }
        }
    }
}

/// What becomes of the files of an upper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Take {
    /// They are moved into the store: nobody may use the upper any more.
    Move,
    /// They are copied, the upper stays as it is.
    Copy,
}

/// The tree that shows through an overlay of `upper` over `base` (`None`: a plain directory,
/// which overlayfs never wrote to and whose `marks` mean nothing).
///
/// With [`Take::Move`], what is left of the upper can be deleted; after an error it is as it was.
///
/// # Errors
/// [`Error::Capture`] for an upper that overlayfs did not make, for paths too deep to be stored,
/// and for the name in the root that the store reserves; those of the store.
pub(crate) fn capture(
    ingest: &Ingest<'_>,
    upper: &Path,
    base: Option<TreeRef>,
    marks: Marks,
    take: Take,
) -> Result<Captured> {
    let store = ingest.store();
    let marks = base.map(|_| marks);
    let Upper { directories, files } = upper::read(upper, marks, store.objects().nonce())?;
    let mut taken = Taken {
        directories,
        bodies: Bodies::new(files),
    };
    let bodies = taken.bodies.adopt(ingest, take);
    let tree = bodies.and_then(|ids| merge::merge(&taken.directories, &ids, base, ingest));
    match tree {
        Ok(tree) => Ok(Captured { tree, taken }),
        Err(error) => {
            if take == Take::Move {
                taken.restore(store);
            }
            Err(error)
        }
    }
}

/// The attributes of a file or directory of an upper, overlayfs's own left out.
pub(crate) fn read_metadata(path: &Path) -> Result<Metadata> {
    upper::read_metadata(path)
}

/// All extended attributes of a file, symbolic links not followed.
///
/// # Errors
/// [`Error::Io`], except that a file system without them has none.
pub fn read_xattrs(file: &Path) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut pairs = Vec::new();
    for name in xattr_names(file)? {
        if let Some(value) = xattr_value(file, &name)? {
            pairs.push((name, value));
        }
    }
    Ok(pairs)
}

fn xattr_names(file: &Path) -> Result<Vec<Vec<u8>>> {
    use rustix::io::Errno;
    let failed = |e: Errno| Error::io("read extended attributes of", file, e.into());
    // Most files have no or few attributes: one call.
    let mut names = vec![0u8; 256];
    let length = loop {
        match rustix::fs::llistxattr(file, &mut names[..]) {
            Ok(length) => break length,
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(Errno::RANGE) if names.len() < XATTR_SIZE_MAX => names.resize(XATTR_SIZE_MAX, 0),
            Err(e) => return Err(failed(e)),
        }
    };
    let names = names[..length].split(|byte| *byte == 0);
    Ok(names
        .filter(|name| !name.is_empty())
        .map(<[u8]>::to_vec)
        .collect())
}

/// `None` if it is gone meanwhile.
fn xattr_value(file: &Path, name: &[u8]) -> Result<Option<Vec<u8>>> {
    use rustix::io::Errno;
    // The kernel's list is separated by NUL bytes, so no name has one.
    let c_name = CString::new(name).unwrap_or_default();
    let mut value = vec![0u8; 256];
    loop {
        match rustix::fs::lgetxattr(file, &c_name, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                return Ok(Some(value));
            }
            Err(Errno::RANGE) if value.len() < XATTR_SIZE_MAX => value.resize(XATTR_SIZE_MAX, 0),
            Err(Errno::NODATA) => return Ok(None),
            Err(e) => {
                let name = OsStr::from_bytes(name).to_string_lossy().into_owned();
                let source = std::io::Error::other(format!("{name}: {e}"));
                return Err(Error::io("read extended attribute of", file, source));
            }
        }
    }
}
