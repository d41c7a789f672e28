//! Files and directories of an image, copied out of its tree as `docker cp` does from a container.
//! Nothing is mounted, and no symbolic link of the image is followed outside of the image.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use snapshotter::Manager;
use store::{Editor, Entry, Ingest, Metadata, Name, RelPath, TreeRef, diff};

use super::files::{self, How, Owners};
use super::layers::pack_options;
use crate::error::{Error, Result};

/// What is copied.
#[derive(Clone, Debug)]
pub struct Source<'s> {
    /// The file system of the image; `None` for an empty one.
    pub tree: Option<TreeRef>,
    /// The path in it. With `/.` at its end: what is in that directory.
    pub path: &'s [u8],
    /// Whether a symbolic link at the end of the path is followed.
    pub follow: bool,
}

/// What was found at the path.
struct Picked {
    /// `None` if it has no name of its own: the root, or what is in a directory.
    name: Option<Name>,
    entry: Entry,
}

impl Source<'_> {
    fn pick(&self, ingest: &Ingest<'_>) -> Result<Picked> {
        let shown = || String::from_utf8_lossy(self.path).into_owned();
        let not_found = || Error::NotFound { path: shown() };
        let tree = self.tree.ok_or_else(not_found)?;
        let contents_only = self.path.ends_with(b"/.") || self.path == b".";
        let is_directory = contents_only || self.path.ends_with(b"/");
        let path = RelPath::lenient(self.path)?;
        let mut editor = Editor::open(ingest, tree);
        let resolved = editor.resolve(&path, self.follow || is_directory)?;
        let entry = match resolved.is_root() {
            true => Entry::Directory(tree),
            false => editor.entry(&resolved)?.ok_or_else(not_found)?,
        };
        if is_directory && !matches!(entry, Entry::Directory(_)) {
            let reason = "it is not a directory";
            return Err(Error::FileOp {
                path: shown(),
                reason,
            });
        }
        // Under the name that was asked for, not that of what a link leads to.
        let name = path.file_name().filter(|_| !contents_only).cloned();
        Ok(Picked { name, entry })
    }

    /// Writes a tar archive.
    ///
    /// # Errors
    /// [`Error::NotFound`]; those of reading and writing.
    pub fn archive(&self, snapshots: &Manager, out: &mut (dyn Write + Send)) -> Result<()> {
        let ingest = snapshots.store().begin();
        let picked = self.pick(&ingest)?;
        let is_named = picked.name.is_some();
        let tree = match (picked.name, picked.entry) {
            (None, Entry::Directory(tree)) => tree,
            (name, entry) => alone(&ingest, name.ok_or_else(nameless)?, entry)?,
        };
        let mut delta = diff(None, tree, &ingest)?;
        if is_named {
            // The archive says nothing of the directory that it is unpacked in.
            delta.root.metadata = None;
        }
        let objects = snapshots.store().objects();
        layer::pack(&delta, &ingest, objects, &pack_options(None), out)?;
        Ok(())
    }

    /// Writes to a path of the host: into it if it is a directory, else under that name. Owners are
    /// those of the image if `keeps_owners`, else the caller's.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::FileOp`] for a directory in place of a file; those of writing.
    pub fn files(&self, snapshots: &Manager, target: &Path, keeps_owners: bool) -> Result<()> {
        let ingest = snapshots.store().begin();
        let picked = self.pick(&ingest)?;
        let is_directory = matches!(picked.entry, Entry::Directory(_));
        let refused = |reason| {
            let path = target.display().to_string();
            Err(Error::FileOp { path, reason })
        };
        let found = fs::metadata(target);
        let (parent, name) = match (&found, picked.name) {
            (Ok(found), name) if found.is_dir() => (target.to_owned(), name),
            (Ok(_), _) if is_directory => {
                return refused("it is a file; a directory cannot be copied to it");
            }
            (Err(_), _) if !is_directory && ends_with_slash(target) => {
                return refused("there is no such directory; make it first");
            }
            _ => under(target)?,
        };
        let tree = match (name, picked.entry) {
            (None, Entry::Directory(tree)) => tree,
            (name, entry) => alone(&ingest, name.ok_or_else(nameless)?, entry)?,
        };
        let owners = match keeps_owners {
            true => Owners::OfTheImage,
            false => Owners::Caller,
        };
        let objects = snapshots.store().objects();
        let how = How {
            owners,
            clamp: None,
            told: &|_| {},
        };
        files::write_tree(tree, &ingest, objects, &parent, how)
    }
}

fn nameless() -> Error {
    Error::NotFound {
        path: String::new(),
    }
}

fn ends_with_slash(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(b"/")
}

/// The directory of a path, which must be there, and its last name.
fn under(target: &Path) -> Result<(PathBuf, Option<Name>)> {
    let name = target.file_name().unwrap_or_default().as_encoded_bytes();
    let parent = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match fs::metadata(parent) {
        Ok(found) if found.is_dir() => Ok((parent.to_owned(), Some(Name::new(name)?))),
        Ok(_) => Err(Error::FileOp {
            path: parent.display().to_string(),
            reason: "it is not a directory",
        }),
        Err(error) => Err(Error::io("copy into", parent, error)),
    }
}

/// A tree with nothing but this.
fn alone(ingest: &Ingest<'_>, name: Name, entry: Entry) -> Result<TreeRef> {
    let mut editor = Editor::empty(ingest, Metadata::default_directory());
    let mut path = RelPath::root();
    path.push(name);
    editor.insert(&path, entry)?;
    Ok(editor.finish()?)
}
