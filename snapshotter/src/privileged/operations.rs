//! Random file system operations, carried out alike on a mounted overlay and on a plain directory.
//!
//! Where an overlay differs from a plain directory by design, the plain one is made to follow:
//! hard links break when one of the names is copied up, so [`Plain`] breaks them.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rand::RngExt;
use rand::rngs::StdRng;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, RenameFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use crate::capture::read_xattrs;

/// Names out of which paths are made: few, so that they collide; some of them odd.
const NAMES: [&[u8]; 8] = [
    b"a",
    b"b",
    b"c",
    b"dir",
    b"\xff\xfe odd",
    b"\xc3\xa9:,\\",
    b".wh.x",
    b" =\n",
];

/// Something to do below a root.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    Write {
        path: PathBuf,
        content: Vec<u8>,
    },
    Append {
        path: PathBuf,
        content: Vec<u8>,
    },
    Rewrite {
        path: PathBuf,
    },
    Truncate {
        path: PathBuf,
        size: u64,
    },
    MakeDirectory {
        path: PathBuf,
    },
    MakeSymlink {
        path: PathBuf,
        target: PathBuf,
    },
    MakeNode {
        path: PathBuf,
        kind: FileType,
        major: u32,
        minor: u32,
    },
    Chmod {
        path: PathBuf,
        mode: u32,
        recursive: bool,
    },
    Chown {
        path: PathBuf,
        uid: u32,
        gid: u32,
        recursive: bool,
    },
    SetXattr {
        path: PathBuf,
        name: &'static str,
        value: Vec<u8>,
    },
    RemoveXattr {
        path: PathBuf,
        name: &'static str,
    },
    SetTime {
        path: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
    Replace {
        path: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
        exchange: bool,
    },
    Link {
        from: PathBuf,
        to: PathBuf,
    },
}

use Operation::{
    Append, Chmod, Chown, Link, MakeDirectory, MakeNode, MakeSymlink, Remove, RemoveXattr, Rename,
    Replace, Rewrite, SetTime, SetXattr, Truncate, Write,
};

/// Draws an operation on what is in `root` now.
pub(super) fn draw(random: &mut StdRng, root: &Path) -> Operation {
    let existing = paths(root);
    let known = |random: &mut StdRng| match existing.len() {
        0 => fresh(random, &existing, root),
        count => existing[random.random_range(0..count)].clone(),
    };
    let path = known(random);
    match random.random_range(0..100) {
        0..16 => Write {
            path: fresh(random, &existing, root),
            content: content(random),
        },
        16..20 => Append {
            path,
            content: content(random),
        },
        20..22 => Rewrite { path },
        22..25 => Truncate {
            path,
            size: random.random_range(0..4),
        },
        25..35 => MakeDirectory {
            path: fresh(random, &existing, root),
        },
        35..38 => MakeSymlink {
            path: fresh(random, &existing, root),
            target: path,
        },
        38..42 => {
            let kinds = [
                (FileType::Fifo, 0, 0),
                (FileType::Socket, 0, 0),
                (FileType::CharacterDevice, 1, 3),
                (FileType::BlockDevice, 259, 70_000),
            ];
            let (kind, major, minor) = kinds[random.random_range(0..kinds.len())];
            MakeNode {
                path: fresh(random, &existing, root),
                kind,
                major,
                minor,
            }
        }
        42..49 => {
            let mode = [0o644, 0o4755, 0o1777, 0o2710, 0o000][random.random_range(0..5)];
            Chmod {
                path,
                mode,
                recursive: random.random_bool(0.4),
            }
        }
        49..55 => {
            let (uid, gid) = (random.random_range(0..3), random.random_range(0..70_000));
            Chown {
                path,
                uid,
                gid,
                recursive: random.random_bool(0.4),
            }
        }
        55..59 => {
            let length = [0, 3, 600][random.random_range(0..3)];
            SetXattr {
                path,
                name: xattr(random),
                value: vec![random.random(); length],
            }
        }
        59..61 => RemoveXattr {
            path,
            name: xattr(random),
        },
        61..64 => SetTime { path },
        64..71 => Remove { path },
        71..76 => Replace { path },
        76..93 => {
            let to = match random.random_bool(0.5) {
                true => known(random),
                false => fresh(random, &existing, root),
            };
            Rename {
                from: path,
                to,
                exchange: random.random_bool(0.2),
            }
        }
        _ => Link {
            from: path,
            to: fresh(random, &existing, root),
        },
    }
}

fn xattr(random: &mut StdRng) -> &'static str {
    ["user.a", "user.long", "trusted.b", "security.capability"][random.random_range(0..4)]
}

fn content(random: &mut StdRng) -> Vec<u8> {
    // Few different ones, so that equal files are frequent.
    vec![b'a' + random.random_range(0..4u8); random.random_range(0..20)]
}

/// A path in some directory, which may exist or not.
fn fresh(random: &mut StdRng, existing: &[PathBuf], root: &Path) -> PathBuf {
    let mut parents: Vec<_> = existing
        .iter()
        .filter(|path| is_directory(root, path))
        .collect();
    let top = PathBuf::new();
    parents.push(&top);
    let parent = parents[random.random_range(0..parents.len())];
    parent.join(OsStr::from_bytes(
        NAMES[random.random_range(0..NAMES.len())],
    ))
}

fn is_directory(root: &Path, path: &Path) -> bool {
    fs::symlink_metadata(root.join(path)).is_ok_and(|found| found.is_dir())
}

/// All paths below `root`, relative to it, sorted.
fn paths(root: &Path) -> Vec<PathBuf> {
    let (mut paths, mut rest) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(parent) = rest.pop() {
        for entry in fs::read_dir(root.join(&parent)).unwrap() {
            let path = parent.join(entry.unwrap().file_name());
            if is_directory(root, &path) {
                rest.push(path.clone());
            }
            paths.push(path);
        }
    }
    paths.sort();
    paths
}

/// A directory that operations change.
pub(super) trait Place {
    fn root(&self) -> &Path;

    /// Called before the file is changed in place, linked or renamed.
    fn before_copy_up(&mut self, _path: &Path) {}
}

/// The mounted overlay.
pub(super) struct Mounted<'p>(pub(super) &'p Path);

impl Place for Mounted<'_> {
    fn root(&self) -> &Path {
        self.0
    }
}

/// The plain directory, as if it were the lower of an overlay since [`Plain::begin_step`].
pub(super) struct Plain {
    root: PathBuf,
    /// Lower inodes with several names.
    lower: HashSet<u64>,
}

impl Plain {
    pub(super) fn new(root: PathBuf) -> Self {
        Plain {
            root,
            lower: HashSet::new(),
        }
    }

    /// Everything that is there is lower from now on.
    pub(super) fn begin_step(&mut self) {
        let found = paths(&self.root).into_iter();
        let found = found.map(|path| fs::symlink_metadata(self.root.join(path)).unwrap());
        self.lower = found
            .filter(|found| !found.is_dir() && found.nlink() > 1)
            .map(|found| found.ino())
            .collect();
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
        if !self.lower.contains(&found.ino()) {
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
            rustix::fs::lsetxattr(&copy, OsStr::from_bytes(&name), &value, flags).unwrap();
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

fn set_times(path: &Path, times: &Timestamps) {
    rustix::fs::utimensat(CWD, path, times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

type Outcome = Result<(), Errno>;

fn io(result: std::io::Result<()>) -> Outcome {
    result.map_err(|error| Errno::from_io_error(&error).expect("an error of the kernel"))
}

/// Carries out an operation. `number` makes the times, which the clock would make different.
pub(super) fn perform(operation: &Operation, number: i64, place: &mut dyn Place) -> Outcome {
    let root = place.root().to_owned();
    let full = |path: &Path| root.join(path);
    let touched: Vec<&Path> = match operation {
        Write { path, content } => {
            refuse_special(&full(path))?;
            place.before_copy_up(path);
            io(fs::write(full(path), content))?;
            vec![path, parent(path)]
        }
        Append { path, content } => {
            refuse_absent(&full(path))?;
            place.before_copy_up(path);
            let mut file = fs::File::options().append(true).open(full(path)).unwrap();
            io(std::io::Write::write_all(&mut file, content))?;
            vec![path]
        }
        // Opened for writing, so copied up, and the same afterwards.
        Rewrite { path } => {
            refuse_absent(&full(path))?;
            place.before_copy_up(path);
            let content = fs::read(full(path)).unwrap();
            io(fs::write(full(path), content))?;
            vec![path]
        }
        Truncate { path, size } => {
            refuse_absent(&full(path))?;
            place.before_copy_up(path);
            let file = fs::File::options().write(true).open(full(path)).unwrap();
            io(file.set_len(*size))?;
            vec![path]
        }
        MakeDirectory { path } => {
            io(fs::create_dir(full(path)))?;
            vec![path, parent(path)]
        }
        MakeSymlink { path, target } => {
            io(std::os::unix::fs::symlink(target, full(path)))?;
            vec![path, parent(path)]
        }
        MakeNode {
            path,
            kind,
            major,
            minor,
        } => {
            let device = rustix::fs::makedev(*major, *minor);
            let mode = Mode::from_raw_mode(0o640);
            rustix::fs::mknodat(CWD, full(path), *kind, mode, device)?;
            vec![path, parent(path)]
        }
        Chmod {
            path,
            mode,
            recursive,
        } => {
            for path in selected(&root, path, *recursive) {
                let kind = fs::symlink_metadata(full(&path)).unwrap().file_type();
                if !kind.is_symlink() {
                    place.before_copy_up(&path);
                    rustix::fs::chmod(full(&path), Mode::from_raw_mode(*mode))?;
                }
            }
            vec![]
        }
        Chown {
            path,
            uid,
            gid,
            recursive,
        } => {
            for path in selected(&root, path, *recursive) {
                place.before_copy_up(&path);
                let (uid, gid) = (Some(Uid::from_raw(*uid)), Some(Gid::from_raw(*gid)));
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::chownat(CWD, full(&path), uid, gid, flags)?;
            }
            vec![]
        }
        SetXattr { path, name, value } => {
            let found = fs::symlink_metadata(full(path)).map_err(|_| Errno::NOENT)?;
            if !found.is_file() && !(found.is_dir() && !name.starts_with("security")) {
                return Err(Errno::PERM);
            }
            place.before_copy_up(path);
            let value = match *name {
                "security.capability" => CAPABILITY,
                _ => value,
            };
            rustix::fs::lsetxattr(full(path), *name, value, XattrFlags::empty())?;
            vec![]
        }
        RemoveXattr { path, name } => {
            let present = fs::symlink_metadata(full(path)).is_ok()
                && read_xattrs(&full(path))
                    .unwrap()
                    .iter()
                    .any(|(n, _)| n == name.as_bytes());
            if !present {
                return Err(Errno::NODATA);
            }
            place.before_copy_up(path);
            rustix::fs::lremovexattr(full(path), *name)?;
            vec![]
        }
        SetTime { path } => {
            fs::symlink_metadata(full(path)).map_err(|_| Errno::NOENT)?;
            place.before_copy_up(path);
            vec![path]
        }
        Remove { path } => {
            remove(&full(path))?;
            vec![parent(path)]
        }
        // What `rm -rf x; mkdir x` and the change of a kind are.
        Replace { path } => {
            let was_directory = is_directory(&root, path);
            remove(&full(path))?;
            match (was_directory, number % 3) {
                (true, 0) => fs::write(full(path), "a").unwrap(),
                (true, _) | (false, 0) => fs::create_dir(full(path)).unwrap(),
                _ => std::os::unix::fs::symlink("new", full(path)).unwrap(),
            }
            vec![path, parent(path)]
        }
        Rename { from, to, exchange } => {
            let exists = |path| fs::symlink_metadata(full(path)).is_ok();
            // What is refused before overlayfs hears of it copies nothing up.
            let refused = from.starts_with(to)
                || to.starts_with(from)
                || (!exchange && is_directory(&root, to));
            if !refused && exists(from) && (!exchange || exists(to)) {
                place.before_copy_up(from);
                if *exchange {
                    place.before_copy_up(to);
                }
            }
            let flags = if *exchange {
                RenameFlags::EXCHANGE
            } else {
                RenameFlags::empty()
            };
            rustix::fs::renameat_with(CWD, full(from), CWD, full(to), flags)?;
            vec![parent(from), parent(to)]
        }
        Link { from, to } => {
            let from_found = fs::symlink_metadata(full(from)).map_err(|_| Errno::NOENT)?;
            if from_found.is_dir() || fs::symlink_metadata(full(to)).is_ok() {
                return Err(Errno::EXIST);
            }
            place.before_copy_up(from);
            rustix::fs::linkat(CWD, full(from), CWD, full(to), AtFlags::empty())?;
            vec![parent(to)]
        }
    };
    let time = Timespec {
        tv_sec: 1_000_000 + number,
        tv_nsec: 123_456_789 + number,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    for path in touched {
        set_times(&full(path), &times);
    }
    Ok(())
}

/// A valid `security.capability` (version 2, CAP_NET_BIND_SERVICE).
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// Opening a FIFO would wait, and a link leads anywhere.
fn refuse_special(path: &Path) -> Outcome {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => Err(Errno::INVAL),
        Ok(_) => Ok(()),
        Err(_) if path.parent().unwrap().is_dir() => Ok(()),
        Err(_) => Err(Errno::NOENT),
    }
}

fn refuse_absent(path: &Path) -> Outcome {
    match fs::symlink_metadata(path) {
        Ok(_) => refuse_special(path),
        Err(_) => Err(Errno::NOENT),
    }
}

/// The path, or with everything below it.
fn selected(root: &Path, path: &Path, recursive: bool) -> Vec<PathBuf> {
    if fs::symlink_metadata(root.join(path)).is_err() {
        return Vec::new();
    }
    let mut selected = vec![path.to_owned()];
    if recursive && is_directory(root, path) {
        selected.extend(
            paths(&root.join(path))
                .into_iter()
                .map(|below| path.join(below)),
        );
    }
    selected
}

fn remove(path: &Path) -> Outcome {
    let found = fs::symlink_metadata(path);
    match found {
        Ok(found) if found.is_dir() => io(fs::remove_dir_all(path)),
        Ok(_) => io(fs::remove_file(path)),
        Err(error) => io(Err(error)),
    }
}
