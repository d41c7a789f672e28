//! What lies on disk, as `du` counts it, and what may still be brought in.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::error::{Error, Result};
use crate::store::Store;

/// POSIX leaves the unit of `st_blocks` open, Linux counts this many bytes.
pub const BLOCK_BYTES: u64 = 512;

/// Bytes on disk of a file, or of a directory and all below it on the file system `device`. Files
/// that go away meanwhile do not count, and those whose inode is in `linked` already.
///
/// # Errors
/// What cannot be looked at.
pub fn taken(path: &Path, device: u64, linked: &mut HashSet<u64>) -> io::Result<u64> {
    let mut blocks = 0;
    let mut rest = vec![path.to_owned()];
    while let Some(path) = rest.pop() {
        let Some(found) = present(fs::symlink_metadata(&path))? else {
            continue;
        };
        let is_counted = found.dev() != device
            || (!found.is_dir() && found.nlink() > 1 && !linked.insert(found.ino()));
        if is_counted {
            continue;
        }
        blocks += found.blocks();
        if found.is_dir()
            && let Some(listing) = present(fs::read_dir(&path))?
        {
            for entry in listing {
                rest.push(entry?.path());
            }
        }
    }
    Ok(blocks * BLOCK_BYTES)
}

fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

/// Bytes that may still be written; below zero if it was too much.
#[derive(Debug)]
pub(crate) struct Allowance(AtomicI64);

impl Default for Allowance {
    fn default() -> Self {
        Allowance(AtomicI64::new(i64::MAX))
    }
}

impl Allowance {
    /// Takes some of it, or says that it is used up.
    pub(crate) fn spend(&self, bytes: u64) -> io::Result<()> {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        match self.0.fetch_sub(bytes, Ordering::Relaxed) < bytes {
            true => Err(rustix::io::Errno::DQUOT.into()),
            false => Ok(()),
        }
    }
}

impl Store {
    /// What the root directory takes on disk, in bytes: objects, database, writable layers, trash
    /// and all. It is walked over: a million objects take seconds.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn taken_bytes(&self) -> Result<u64> {
        let root = self.root();
        let device = fs::symlink_metadata(root).map(|found| found.dev());
        device
            .and_then(|device| taken(root, device, &mut HashSet::new()))
            .map_err(|e| Error::io("measure", root, e))
    }

    /// What waits in the trash takes on disk, in bytes.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn trash_bytes(&self) -> Result<u64> {
        let path = self.root().join(crate::layout::TRASH);
        let measure = || {
            let found = fs::symlink_metadata(&path)?;
            let all = taken(&path, found.dev(), &mut HashSet::new())?;
            Ok(all.saturating_sub(found.blocks() * BLOCK_BYTES))
        };
        measure().map_err(|e| Error::io("measure", &path, e))
    }

    /// How many bytes of bodies may be written from now on. What is more fails as on a file system
    /// with a quota (`EDQUOT`). A store that was just opened may take all there is.
    pub fn allow(&self, bytes: i64) {
        self.allowance.0.store(bytes, Ordering::Relaxed);
    }

    /// What is left of that.
    pub fn allowed_bytes(&self) -> i64 {
        self.allowance.0.load(Ordering::Relaxed)
    }

    /// Free and total bytes of the file system of the root directory, for us.
    ///
    /// # Errors
    /// The file system does not say.
    pub fn disk_bytes(&self) -> Result<(u64, u64)> {
        let disk = rustix::fs::statvfs(self.root())
            .map_err(|e| Error::io("look up the free space of", self.root(), e.into()))?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        Ok((bytes(disk.f_bavail), bytes(disk.f_blocks)))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::fixtures::memory_store;

    #[test]
    fn more_bodies_than_allowed_are_refused_and_leave_nothing() {
        let root = tempfile::tempdir().unwrap();
        let store = memory_store(root.path());
        store.allow(100_000);
        let ingest = store.begin();
        ingest.put_blob(&[1; 60_000]).unwrap();
        // What is known takes nothing.
        ingest.put_blob(&[1; 60_000]).unwrap();
        let error = ingest.put_blob(&[2; 60_000]).unwrap_err();
        assert!(error.is_no_space(), "{error}");
        {
            let mut writer = ingest.blob_writer();
            let written = io::Write::write_all(&mut writer, &[3; 600_000]);
            assert_eq!(written.unwrap_err().kind(), io::ErrorKind::QuotaExceeded);
        }
        drop(ingest);
        let left = fs::read_dir(store.root().join("ingest")).unwrap().count();
        assert_eq!(left, 0);
        let each = |_: Option<_>, path: PathBuf, _| panic!("left: {}", path.display());
        store.objects().each(each).unwrap();
        store.allow(100_000);
        store.begin().put_blob(&[2; 60_000]).unwrap();
    }
}
