//! What waits to be deleted, slowly.
//!
//! Deleting a million files at once makes later creations on ext4 slower for minutes (measured:
//! four times). So things are renamed into `trash/` in an instant and reaped in small steps, with
//! pauses that the caller makes.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};
use crate::failpoint;
use crate::space::BLOCK_BYTES;

/// Tries to find a free name; each one differs, so a second is only for a clock that ran backwards.
const NAME_TRIES_MAX: usize = 1_000;

/// The directory of what waits to be deleted.
#[derive(Debug)]
pub struct Trash {
    directory: PathBuf,
    prefix: u128,
    number: AtomicU64,
}

/// What one step of reaping did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reaped {
    /// Files and directories that are gone.
    pub entries: u64,
    /// Bytes of disk that were given back.
    pub bytes: u64,
    /// What could not be removed (busy, immutable); a warning tells which.
    pub failed: u64,
    /// Whether there is more to do: call again after a pause.
    pub more: bool,
}

impl Trash {
    pub(crate) fn new(directory: PathBuf) -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Trash {
            directory,
            prefix: since.as_nanos(),
            number: AtomicU64::new(0),
        }
    }

    /// Moves a file or a directory with everything in it out of sight, in one rename. It must be
    /// on the file system of the store.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn take(&self, path: &Path) -> Result<()> {
        self.rename_here(path)
            .map(drop)
            .map_err(|e| Error::io("move to trash", path, e))
    }

    fn rename_here(&self, path: &Path) -> io::Result<PathBuf> {
        let mut last = io::Error::other("no free name");
        for _ in 0..NAME_TRIES_MAX {
            let number = self.number.fetch_add(1, Ordering::Relaxed);
            let target = self.directory.join(format!("{:x}-{number:x}", self.prefix));
            if fs::symlink_metadata(&target).is_ok() {
                continue;
            }
            match fs::rename(path, &target) {
                Ok(()) => return Ok(target),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// Removes at most `entries_max` files and directories. Symbolic links are not followed.
    ///
    /// A directory is taken apart by moving its sub-directories up, so no depth, however hostile,
    /// needs deep recursion or long paths, and work that was begun is never done again.
    ///
    /// # Errors
    /// [`Error::Io`] if the trash cannot be listed; what cannot be removed is only counted.
    pub fn reap(&self, entries_max: u64) -> Result<Reaped> {
        let mut reaped = Reaped::default();
        let listing = fs::read_dir(&self.directory);
        let listing = listing.map_err(|e| Error::io("list", &self.directory, e))?;
        let mut waiting = Vec::new();
        for entry in listing {
            waiting.push(
                entry
                    .map_err(|e| Error::io("list", &self.directory, e))?
                    .path(),
            );
            // One more than can be done, to know whether there is more.
            if waiting.len() as u64 > entries_max {
                break;
            }
        }
        while let Some(path) = waiting.pop() {
            if reaped.entries + reaped.failed >= entries_max {
                reaped.more = true;
                break;
            }
            if let Err(error) = self.remove(&path, entries_max, &mut reaped, &mut waiting) {
                if error.kind() == io::ErrorKind::NotFound {
                    // Somebody else reaps too, and was faster.
                    continue;
                }
                tracing::warn!(path = %path.display(), %error, "cannot delete what is in the trash");
                reaped.failed += 1;
            }
        }
        Ok(reaped)
    }

    /// Removes one thing in the trash; sub-directories of it are added to `waiting`.
    fn remove(
        &self,
        path: &Path,
        entries_max: u64,
        reaped: &mut Reaped,
        waiting: &mut Vec<PathBuf>,
    ) -> io::Result<()> {
        if !fs::symlink_metadata(path)?.is_dir() {
            return unlink(path, reaped);
        }
        let listing = match fs::read_dir(path) {
            // An owner without root's rights can give itself the right.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                fs::set_permissions(path, Permissions::from_mode(0o700))?;
                fs::read_dir(path)?
            }
            listing => listing?,
        };
        for entry in listing {
            let entry = entry?;
            if reaped.entries + reaped.failed >= entries_max {
                waiting.push(path.into());
                return Ok(());
            }
            match entry.file_type()?.is_dir() {
                true => waiting.push(self.rename_here(&entry.path())?),
                false => unlink(&entry.path(), reaped)?,
            }
        }
        if reaped.entries + reaped.failed >= entries_max {
            waiting.push(path.into());
            return Ok(());
        }
        let blocks = fs::symlink_metadata(path)?.blocks();
        fs::remove_dir(path)?;
        reaped.entries += 1;
        reaped.bytes += blocks * BLOCK_BYTES;
        Ok(())
    }
}

fn unlink(path: &Path, reaped: &mut Reaped) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    fs::remove_file(path)?;
    failpoint::passed("reap.file-removed");
    reaped.entries += 1;
    if found.nlink() == 1 {
        reaped.bytes += found.blocks() * BLOCK_BYTES;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trash() -> (tempfile::TempDir, Trash) {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("trash");
        fs::create_dir(&directory).unwrap();
        (root, Trash::new(directory))
    }

    fn reap_all(trash: &Trash, step: u64) -> (u64, u64) {
        let (mut entries, mut steps) = (0, 0);
        loop {
            let reaped = trash.reap(step).unwrap();
            assert!(reaped.entries <= step, "a step is bounded");
            assert_eq!(reaped.failed, 0);
            (entries, steps) = (entries + reaped.entries, steps + 1);
            assert!(steps < 10_000, "reaping makes progress");
            if !reaped.more {
                return (entries, steps);
            }
        }
    }

    #[test]
    fn what_is_taken_is_gone_at_once_and_reaped_in_steps() {
        let (root, trash) = trash();
        let tree = root.path().join("tree");
        for directory in ["a/b/c", "a/d", "e"] {
            fs::create_dir_all(tree.join(directory)).unwrap();
            for file in 0..7 {
                fs::write(tree.join(directory).join(file.to_string()), [1; 5000]).unwrap();
            }
        }
        fs::write(root.path().join("file"), "x").unwrap();
        trash.take(&tree).unwrap();
        trash.take(&root.path().join("file")).unwrap();
        assert!(!tree.exists());
        let (entries, steps) = reap_all(&trash, 5);
        assert_eq!(entries, 21 + 6 + 1, "files, directories, the single file");
        assert!(steps >= 6, "{steps}");
        assert_eq!(fs::read_dir(&trash.directory).unwrap().count(), 0);
    }

    #[test]
    fn links_out_of_the_trash_are_removed_and_not_followed() {
        let (root, trash) = trash();
        let precious = root.path().join("precious");
        fs::create_dir(&precious).unwrap();
        fs::write(precious.join("file"), "x").unwrap();
        let doomed = root.path().join("doomed");
        fs::create_dir(&doomed).unwrap();
        std::os::unix::fs::symlink(&precious, doomed.join("link")).unwrap();
        fs::hard_link(precious.join("file"), doomed.join("hard")).unwrap();
        trash.take(&doomed).unwrap();
        std::os::unix::fs::symlink(&precious, trash.directory.join("top")).unwrap();
        let own = fs::symlink_metadata(&trash.directory).unwrap().blocks() * BLOCK_BYTES;
        let reaped = trash.reap(100).unwrap();
        // What the links lead to takes what it took: only the directory is gone.
        assert_eq!((reaped.entries, reaped.more), (4, false));
        assert!(reaped.bytes <= own, "{reaped:?}");
        assert!(precious.join("file").exists());
    }

    #[test]
    fn a_directory_deeper_than_any_path_is_reaped() {
        let (root, trash) = trash();
        // Each round puts what there is into a directory of its own: 300 * 200 bytes of path.
        let (deep, wrap) = (root.path().join("deep"), root.path().join("wrap"));
        fs::create_dir(&deep).unwrap();
        for _ in 0..300 {
            fs::create_dir(&wrap).unwrap();
            fs::rename(&deep, wrap.join("d".repeat(200))).unwrap();
            fs::rename(&wrap, &deep).unwrap();
        }
        trash.take(&deep).unwrap();
        assert_eq!(reap_all(&trash, 50).0, 301);
    }
}
