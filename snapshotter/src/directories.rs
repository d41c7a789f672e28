//! The writable directories: `<parent>/<number>/{upper,work}`, a number for each open snapshot.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use store::{Metadata, Store, Usage};

use crate::checkout;
use crate::error::{Error, Result};
use crate::marks::Marks;

/// Where overlayfs marks a work directory whose upper was mounted `volatile`.
const VOLATILE_MARK: &str = "work/incompat/volatile";

/// Gives out directories, and takes them back.
#[derive(Debug)]
pub(crate) struct Directories {
    store: Arc<Store>,
    parent: PathBuf,
    marks: Marks,
    next: AtomicU64,
}

impl Directories {
    /// Those in the directory `name` below the root.
    pub(crate) fn open(store: Arc<Store>, name: &str, marks: Marks) -> Result<Self> {
        let parent = store.root().join(name);
        fs::create_dir_all(&parent).map_err(|e| Error::io("create", &parent, e))?;
        Ok(Directories {
            store,
            parent,
            marks,
            next: AtomicU64::new(1),
        })
    }

    /// Throws away what is not in `named`, if `discard`, and gives out no number again.
    pub(crate) fn settle(&self, named: &HashSet<u64>, discard: bool) -> Result<()> {
        let listing = fs::read_dir(&self.parent).map_err(|e| Error::io("list", &self.parent, e))?;
        let mut strays = Vec::new();
        for entry in listing {
            let entry = entry.map_err(|e| Error::io("list", &self.parent, e))?;
            let number = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<u64>().ok());
            if let Some(number) = number {
                self.next
                    .fetch_max(number.saturating_add(1), Ordering::Relaxed);
            }
            if discard && !number.is_some_and(|number| named.contains(&number)) {
                strays.push(entry.path());
            }
        }
        strays
            .iter()
            .try_for_each(|stray| Ok(self.store.trash().take(stray)?))
    }

    /// A new directory whose upper has these attributes: the root of an overlay shows those of the
    /// upper, whatever is below.
    pub(crate) fn create(&self, root: &Metadata) -> Result<u64> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let directory = self.path(number);
        let create = |path: &Path| fs::create_dir(path).map_err(|e| Error::io("create", path, e));
        let made = create(&directory)
            .and_then(|()| create(&self.work(number)))
            .and_then(|()| create(&self.upper(number)))
            .and_then(|()| checkout::set_metadata(&self.upper(number), root, self.marks, false));
        if made.is_err() {
            self.discard(number);
        }
        made.map(|()| number)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.parent.join(number.to_string())
    }

    /// What is written to the snapshot.
    pub(crate) fn upper(&self, number: u64) -> PathBuf {
        self.path(number).join("upper")
    }

    fn work(&self, number: u64) -> PathBuf {
        self.path(number).join("work")
    }

    /// A work directory that overlayfs accepts. After a `volatile` mount it refuses the old one, so
    /// that nobody takes an upper for complete after a crash; a crash is not what happened here
    /// (see [`Directories::is_in_doubt`]).
    pub(crate) fn usable_work(&self, number: u64) -> Result<PathBuf> {
        let mut work = self.work(number);
        for count in 2.. {
            if !work.join(VOLATILE_MARK).exists() {
                break;
            }
            // Not emptied but left: a mount of it may still be on its way out.
            work = self.path(number).join(format!("work{count}"));
            fs::create_dir_all(&work).map_err(|e| Error::io("create", &work, e))?;
        }
        Ok(work)
    }

    /// Makes sure that a directory is our own: behind a link in its place is somebody else's.
    pub(crate) fn check_own(&self, number: u64) -> Result<()> {
        for path in [self.path(number), self.upper(number), self.work(number)] {
            let found = fs::symlink_metadata(&path).map_err(|e| Error::io("stat", &path, e))?;
            if !found.is_dir() {
                let odd = std::io::ErrorKind::NotADirectory.into();
                return Err(Error::io("mount", path, odd));
            }
        }
        Ok(())
    }

    pub(crate) fn exists(&self, number: u64) -> bool {
        self.upper(number).is_dir()
    }

    /// Whether the upper was mounted `volatile` and never committed. If the process that did so is
    /// gone, nobody knows what is missing.
    pub(crate) fn is_in_doubt(&self, number: u64) -> bool {
        self.work(number).join(VOLATILE_MARK).exists()
    }

    /// Moves a directory into the trash, to be deleted later: ext4 makes new files slowly where
    /// many were just deleted (shared/spec/filesystem.md section 5).
    ///
    /// That this fails is only worth a warning: no row names it any more, so it goes at the next
    /// start.
    pub(crate) fn discard(&self, number: u64) {
        let path = self.path(number);
        // It may have been discarded already, by whoever else saw that it has no use.
        if path.exists()
            && let Err(error) = self.store.trash().take(&path)
        {
            tracing::warn!(path = %path.display(), %error, "a writable directory was left behind");
        }
    }

    /// Whether nothing was written to the upper.
    pub(crate) fn is_empty(&self, number: u64) -> Result<bool> {
        let upper = self.upper(number);
        let listing = fs::read_dir(&upper).map_err(|e| Error::io("list", &upper, e))?;
        Ok(listing.count() == 0)
    }

    /// The number of the directory whose upper this is.
    pub(crate) fn number_of_upper(&self, path: &Path) -> Option<u64> {
        let number = path.strip_prefix(&self.parent).ok()?;
        let number = number.to_str()?.strip_suffix("/upper")?;
        number.parse().ok()
    }

    /// What the upper takes at this moment.
    pub(crate) fn usage(&self, number: u64) -> Result<Usage> {
        directory_usage(&self.upper(number))
    }

    /// The same, if it has no more than so many entries; else what the first of them take.
    pub(crate) fn usage_within(&self, number: u64, entries: u64) -> Result<(Usage, bool)> {
        usage_within(&self.upper(number), entries)
    }
}

/// What a directory takes at this moment; hard links count once.
pub(crate) fn directory_usage(directory: &Path) -> Result<Usage> {
    Ok(usage_within(directory, u64::MAX)?.0)
}

/// What the first entries of a directory take, and whether these are all.
fn usage_within(directory: &Path, entries: u64) -> Result<(Usage, bool)> {
    let mut usage = Usage::default();
    let mut seen = HashSet::new();
    let mut rest = vec![directory.to_owned()];
    while let Some(path) = rest.pop() {
        if usage.inodes >= entries {
            return Ok((usage, false));
        }
        let found = match fs::symlink_metadata(&path) {
            // Somebody writes to it meanwhile.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            found => found.map_err(|e| Error::io("stat", &path, e))?,
        };
        if found.nlink() > 1 && !found.is_dir() && !seen.insert(found.ino()) {
            continue;
        }
        usage.inodes += 1;
        if found.is_file() {
            usage.bytes += found.len();
        }
        if found.is_dir() {
            let listing = match fs::read_dir(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                listing => listing.map_err(|e| Error::io("list", &path, e))?,
            };
            for entry in listing {
                if rest.len() as u64 > entries {
                    return Ok((usage, false));
                }
                rest.push(entry.map_err(|e| Error::io("list", &path, e))?.path());
            }
        }
    }
    Ok((usage, true))
}
