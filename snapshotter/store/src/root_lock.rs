//! The root directory: whose it is, and who has it now.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::layout;
use crate::objects::read_directory;

/// Mode of the root directory if it is ours to make.
pub(crate) const ROOT_MODE: u32 = 0o700;

/// The exclusive right to a root directory, held until it is dropped.
///
/// RocksDB allows one process per database, and object files have no locks of their own.
#[derive(Debug)]
pub struct RootLock {
    root: PathBuf,
    file: File,
}

impl RootLock {
    /// Makes the root directory if needed and locks it, or fails at once.
    ///
    /// # Errors
    /// [`Error::Locked`] with the holder's pid while another process has it; [`Error::Io`].
    pub fn acquire(root: &Path) -> Result<Self> {
        if root.exists() && !root.is_dir() {
            let reason = "it is not a directory".to_owned();
            return Err(Error::NotAStore {
                path: root.into(),
                reason,
            });
        }
        // Images hold files that not every user of the host may read.
        let mut directory = DirBuilder::new();
        let made = directory.recursive(true).mode(ROOT_MODE).create(root);
        made.map_err(|e| match e.kind() {
            io::ErrorKind::NotADirectory => Error::NotAStore {
                path: root.into(),
                reason: "a file is in the way".to_owned(),
            },
            _ => Error::io("create", root, e),
        })?;
        check_is_ours(root)?;
        let path = root.join(layout::LOCK);
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path);
        let mut file = file.map_err(|e| Error::io("open", &path, e))?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                let holder = file
                    .read_to_string(&mut text)
                    .ok()
                    .and_then(|_| text.trim().parse().ok());
                return Err(Error::Locked {
                    path: root.into(),
                    holder,
                });
            }
            Err(e) => return Err(Error::io("lock", path, e.into())),
        }
        let pid = std::process::id().to_string();
        // Only for messages of others; a full disk must not keep anybody from tidying up.
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(pid.as_bytes()));
        if let Err(error) = written {
            tracing::debug!(path = %path.display(), %error, "cannot write the owner's pid");
        }
        Ok(RootLock {
            root: root.into(),
            file,
        })
    }

    /// The directory that is locked.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A file of its file system, held open.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for RootLock {
    fn drop(&mut self) {
        // Closing the file unlocks it; an empty file tells that nobody holds it.
        if let Err(error) = self.file.set_len(0) {
            tracing::debug!(%error, "cannot clear the lock file");
        }
    }
}

/// Everything that varve keeps in a root directory, and what a new file system brings along.
const ROOT_ENTRIES: [&str; 14] = [
    layout::LOCK,
    layout::DATABASE,
    layout::OBJECTS,
    layout::INGEST,
    layout::TRASH,
    "snapshots",
    "containers",
    "meta",
    "mounts",
    "mounted",
    "checkouts",
    "run",
    "guests.sock",
    "lost+found",
];

/// Refuses a directory that somebody else uses: opening a store tidies up in it.
fn check_is_ours(root: &Path) -> Result<()> {
    let refused = |reason: String| {
        Err(Error::NotAStore {
            path: root.into(),
            reason,
        })
    };
    let mut has_lock = false;
    let mut others = None;
    for path in read_directory(root)? {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let found = match fs::symlink_metadata(&path) {
            // The owner of the store renames and removes files meanwhile.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            found => found.map_err(|e| Error::io("stat", &path, e))?,
        };
        let known = ROOT_ENTRIES.contains(&&*name) || name.starts_with("host.json");
        if !known || found.is_symlink() {
            return refused(format!("it holds {name:?}, which is not varve's"));
        }
        if name == layout::LOCK {
            has_lock = true;
        } else if name != "lost+found" && !name.starts_with("host.json") {
            others = Some(name);
        }
    }
    // Perhaps somebody has just begun: the lock comes first, but a listing takes its time.
    let has_lock = has_lock || root.join(layout::LOCK).exists();
    match others {
        Some(name) if !has_lock => refused(format!(
            "it holds {name:?}, but no {:?} of a store",
            layout::LOCK
        )),
        _ => Ok(()),
    }
}
