//! Room on a full disk, made before the database is open: nothing can be noted then, so only what
//! no row promises goes.

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};
use crate::layout;
use crate::objects::read_directory;
use crate::root_lock::RootLock;

/// With so much free there is room enough for what an open and a first change write, in bytes.
const ENOUGH_BYTES: u64 = 1 << 20;

/// Entries of the root that are thrown away, those first that nobody misses: what was thrown away
/// already, bodies that never became complete, and images of metadata, which are made again.
const EXPENDABLE: [&str; 3] = [layout::TRASH, layout::INGEST, "meta"];

/// Removes what can be removed without the database if the disk is all but full, until there is
/// room enough.
///
/// # Errors
/// [`Error::Io`] if a directory cannot be listed; what cannot be removed stays.
pub fn make(lock: &RootLock) -> Result<()> {
    for name in EXPENDABLE {
        if !is_wanted(lock.root())? {
            return Ok(());
        }
        let directory = lock.root().join(name);
        if !directory.is_dir() {
            continue;
        }
        for path in read_directory(&directory)? {
            let removed = match path.is_dir() && !path.is_symlink() {
                true => fs::remove_dir_all(&path),
                false => fs::remove_file(&path),
            };
            if let Err(error) = removed {
                tracing::debug!(path = %path.display(), %error, "cannot make room");
            }
        }
    }
    Ok(())
}

/// Whether there is less than enough.
fn is_wanted(root: &Path) -> Result<bool> {
    let disk = rustix::fs::statvfs(root).map_err(|e| Error::io("stat", root, e.into()))?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize) < ENOUGH_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_goes_where_there_is_room() {
        let root = tempfile::tempdir().unwrap();
        let lock = RootLock::acquire(root.path()).unwrap();
        let trash = root.path().join(layout::TRASH);
        fs::create_dir(&trash).unwrap();
        fs::write(trash.join("file"), "x").unwrap();
        make(&lock).unwrap();
        assert!(trash.join("file").exists());
    }
}
