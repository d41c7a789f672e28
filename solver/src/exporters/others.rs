//! What a directory has beside a result, taken away: `type=local,mode=delete`.
//!
//! Done when the result is complete, so that a failure costs nothing that was there. No symbolic
//! link is followed: below the directory itself the result has made every directory that is walked.

use std::collections::HashMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
use snapshotter::Manager;
use store::{Content, Entry, Leaf, TreeRef, TreeSource};

use super::Export;
use crate::error::{Error, Result};

/// Removes what the results are not made of.
///
/// # Errors
/// [`Error::Io`] names what could not be removed; those of reading trees.
pub(super) fn remove(
    export: &Export,
    directory: &Path,
    is_split: bool,
    snapshots: &Manager,
) -> Result<()> {
    let trees: &dyn TreeSource = &**snapshots.store();
    let results = export.results.iter();
    if is_split {
        let names: HashMap<_, _> = results
            .map(|result| (result.directory(), result.value.tree()))
            .collect();
        return each(
            directory,
            |name| {
                let tree = std::str::from_utf8(name)
                    .ok()
                    .and_then(|name| names.get(name));
                Ok(tree.map(|tree| Kept::Directory(tree.iter().copied().collect())))
            },
            trees,
        );
    }
    let roots = results.filter_map(|result| result.value.tree()).collect();
    contents(roots, directory, trees)
}

/// What the results have under a name.
enum Kept {
    Directory(Vec<TreeRef>),
    Other,
}

/// Several trees that were written together.
fn contents(roots: Vec<TreeRef>, directory: &Path, trees: &dyn TreeSource) -> Result<()> {
    let mut read = Vec::new();
    for root in roots {
        read.push(trees.tree(root.id)?);
    }
    let find = |name: &[u8]| {
        let mut below = Vec::new();
        let mut is_there = false;
        for tree in &read {
            match tree.entries.get(name) {
                Some(Entry::Directory(child)) => below.push(*child),
                // Sockets are not written.
                Some(Entry::Leaf(Leaf {
                    content: Content::Socket,
                    ..
                }))
                | None => continue,
                Some(Entry::Leaf(_)) => {}
            }
            is_there = true;
        }
        Ok(is_there.then_some(match below.is_empty() {
            true => Kept::Other,
            false => Kept::Directory(below),
        }))
    };
    each(directory, find, trees)
}

/// Looks at what a directory has; what `find` does not know is removed.
fn each(
    directory: &Path,
    find: impl Fn(&[u8]) -> Result<Option<Kept>>,
    trees: &dyn TreeSource,
) -> Result<()> {
    let failed = |error| Error::io("look through", directory, error);
    let before = fs::symlink_metadata(directory).map_err(failed)?;
    let mut has_removed = false;
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        match find(entry.file_name().as_bytes())? {
            Some(Kept::Directory(below)) => contents(below, &path, trees)?,
            Some(Kept::Other) => {}
            None => {
                let is_directory = entry.file_type().map_err(failed)?.is_dir();
                let removed = match is_directory {
                    true => fs::remove_dir_all(&path),
                    false => fs::remove_file(&path),
                };
                removed.map_err(|error| Error::io("remove", &path, error))?;
                has_removed = true;
            }
        }
    }
    if has_removed {
        let time = Timespec {
            tv_sec: before.mtime(),
            tv_nsec: before.mtime_nsec(),
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        rustix::fs::utimensat(CWD, directory, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| failed(error.into()))?;
    }
    Ok(())
}
