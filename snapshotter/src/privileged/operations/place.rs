//! The two places that operations are carried out in.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags,
};

use super::paths;
use crate::capture::read_xattrs;

/// A directory that operations change.
pub(in super::super) trait Place {
    fn root(&self) -> &Path;

    /// Called before the file is changed in place, linked or renamed.
    fn before_copy_up(&mut self, _path: &Path) {}
}

/// The mounted overlay.
pub(in super::super) struct Mounted<'p>(pub(in super::super) &'p Path);

impl Place for Mounted<'_> {
    fn root(&self) -> &Path {
        self.0
    }
}

/// The plain directory, as if it were the lower of an overlay since [`Plain::begin_step`].
pub(in super::super) struct Plain {
    root: PathBuf,
    /// Lower inodes with several names. Open, or ext4 would give their numbers to new ones.
    lower: HashMap<u64, OwnedFd>,
}

impl Plain {
    pub(in super::super) fn new(root: PathBuf) -> Self {
        Plain {
            root,
            lower: HashMap::new(),
        }
    }

    /// Everything that is there is lower from now on.
    pub(in super::super) fn begin_step(&mut self) {
        self.lower.clear();
        for path in paths(&self.root) {
            let path = self.root.join(path);
            let found = fs::symlink_metadata(&path).unwrap();
            if !found.is_dir() && found.nlink() > 1 {
                let flags = OFlags::PATH | OFlags::NOFOLLOW;
                let file = rustix::fs::open(&path, flags, Mode::empty()).unwrap();
                self.lower.insert(found.ino(), file);
            }
        }
    }
}

impl Place for Plain {
    fn root(&self) -> &Path {
        &self.root
    }

    /// Gives a name of a lower inode an inode of its own.
    fn before_copy_up(&mut self, path: &Path) {
        let path = self.root.join(path);
        let Ok(found) = fs::symlink_metadata(&path) else {
            return;
        };
        if !self.lower.contains_key(&found.ino()) {
            return;
        }
        let parent = path.parent().unwrap();
        let parent_time = times(&fs::symlink_metadata(parent).unwrap());
        let copy = parent.join("copy up");
        let kind = found.file_type();
        if kind.is_file() {
            fs::write(&copy, fs::read(&path).unwrap()).unwrap();
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&path).unwrap(), &copy).unwrap();
        } else {
            let kind = FileType::from_raw_mode(found.mode());
            rustix::fs::mknodat(CWD, &copy, kind, Mode::empty(), found.rdev()).unwrap();
        }
        let (uid, gid) = (Uid::from_raw(found.uid()), Gid::from_raw(found.gid()));
        rustix::fs::chownat(CWD, &copy, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).unwrap();
        if !kind.is_symlink() {
            rustix::fs::chmod(&copy, Mode::from_raw_mode(found.mode())).unwrap();
        }
        for (name, value) in read_xattrs(&path).unwrap() {
            let flags = XattrFlags::empty();
            let set = rustix::fs::lsetxattr(&copy, OsStr::from_bytes(&name), &value, flags);
            set.unwrap_or_else(|e| panic!("{} of {copy:?}: {e}", name.escape_ascii()));
        }
        set_times(&copy, &times(&found));
        fs::rename(&copy, &path).unwrap();
        set_times(parent, &parent_time);
    }
}

fn times(found: &fs::Metadata) -> Timestamps {
    let time = Timespec {
        tv_sec: found.mtime(),
        tv_nsec: found.mtime_nsec(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

pub(super) fn set_times(path: &Path, times: &Timestamps) {
    rustix::fs::utimensat(CWD, path, times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}
