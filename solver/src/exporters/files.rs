//! The plain files of a result: into a directory, or as a tar archive.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid};
use snapshotter::Manager;
use store::{
    Content, Entry, Leaf, LinkId, Metadata, Objects, Timestamp, TreeRef, TreeSource, diff,
};

use super::beside::{self, Beside};
use super::layers::pack_options;
use super::meter::Meter;
use super::{Export, platforms};
use crate::error::{Error, Result};
use crate::progress::Step;
use crate::request::{Destination, OpenFile, Receiver};
use crate::result::Value;

/// What buildx calls the parts of such outputs.
const COPYING: &str = "copying files";
const SENDING: &str = "sending tarball";

/// At least so much stands in an archive before each file.
const HEADER_BYTES: u64 = 512;

/// Bytes that are written to an output at once.
const OUTPUT_BUFFER_BYTES: usize = 1 << 20;

/// Writes a result into a directory, made if it is missing. What is there already stays unless
/// the result has something of that name. As with buildx, everything belongs to the caller.
///
/// # Errors
/// [`Error::Io`]; a file is either wholly there or not.
pub(super) fn directory(
    export: &Export,
    directory: &Path,
    epoch: Option<Option<i64>>,
    platform_split: Option<bool>,
    (snapshots, step): (&Manager, &Step),
) -> Result<()> {
    let is_split = export.is_split(platform_split);
    if export.results.len() > 1 && !is_split {
        // Before anything is written: two platforms must not want the same name.
        platforms::together(export, is_split, &**snapshots.store())?;
    }
    let trees = export
        .results
        .iter()
        .filter_map(|result| result.value.tree());
    let total = trees.map(|tree| tree.bytes).sum();
    // Its time counts from here.
    step.status(COPYING, 0, None, false);
    let meter = RefCell::new(Meter::new(io::sink(), step, COPYING.into(), Some(total)));
    let told = |bytes| meter.borrow_mut().count(bytes);
    for result in &export.results {
        let directory = match is_split {
            true => directory.join(result.directory()),
            false => directory.to_owned(),
        };
        let clamp = epoch.unwrap_or(result.epoch);
        write_directory(&result.value, &directory, (clamp, &told), snapshots)?;
    }
    meter.into_inner().end(true);
    Ok(())
}

fn write_directory(
    value: &Value,
    directory: &Path,
    (clamp, told): (Option<i64>, &dyn Fn(u64)),
    snapshots: &Manager,
) -> Result<()> {
    fs::create_dir_all(directory).map_err(|e| Error::io("create", directory, e))?;
    let Some(tree) = value.tree() else {
        return Ok(());
    };
    let store = snapshots.store();
    let how = How {
        owners: Owners::Caller,
        clamp,
        told,
    };
    write_tree(tree, &**store, store.objects(), directory, how)
}

/// Whom what is written belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owners {
    /// Whoever writes it.
    Caller,
    /// Whom it belongs to in the image.
    OfTheImage,
}

/// How a tree is written.
#[derive(Clone, Copy)]
pub(super) struct How<'h> {
    pub(super) owners: Owners,
    /// Latest mtime, in seconds since 1970.
    pub(super) clamp: Option<i64>,
    /// Is called with the bytes of each file that was written.
    pub(super) told: &'h dyn Fn(u64),
}

/// Writes what is in a tree into a directory that is there.
///
/// # Errors
/// [`Error::Io`]; those of reading.
pub(super) fn write_tree(
    tree: TreeRef,
    trees: &dyn TreeSource,
    objects: &Objects,
    directory: &Path,
    how: How<'_>,
) -> Result<()> {
    let mut writer = Writer {
        trees,
        objects,
        owners: how.owners,
        links: HashMap::new(),
        clamp: how.clamp,
        told: how.told,
    };
    writer.contents(tree, directory)
}

struct Writer<'w> {
    trees: &'w dyn TreeSource,
    objects: &'w Objects,
    owners: Owners,
    links: HashMap<LinkId, PathBuf>,
    /// Latest mtime, in seconds since 1970.
    clamp: Option<i64>,
    told: &'w dyn Fn(u64),
}

impl Writer<'_> {
    fn contents(&mut self, tree: TreeRef, target: &Path) -> Result<()> {
        let tree = self.trees.tree(tree.id)?;
        beside::remove_stale_in(target);
        for (name, entry) in &tree.entries {
            let target = target.join(name);
            match entry {
                Entry::Leaf(leaf) => self.leaf(leaf, &target)?,
                Entry::Directory(child) => {
                    make_directory(&target)?;
                    self.contents(*child, &target)?;
                    let metadata = &self.trees.tree(child.id)?.metadata;
                    let follow = AtFlags::SYMLINK_NOFOLLOW;
                    self.set_owner(&target, metadata, follow)?;
                    set_xattrs(&target, metadata, follow)?;
                    set_mode(&target, metadata)?;
                    set_time(&target, self.clamped(metadata.mtime), follow)?;
                }
            }
        }
        Ok(())
    }

    fn leaf(&mut self, leaf: &Leaf, target: &Path) -> Result<()> {
        if let Content::Socket = leaf.content {
            return Ok(());
        }
        let is_linked = leaf.link.is_some_and(|link| self.links.contains_key(&link));
        match &leaf.content {
            Content::File { blob, .. } if !is_linked => self.file(*blob, leaf, target)?,
            _ => {
                let temporary = beside::temporary_name(target);
                let made = self.make(leaf, &temporary);
                let made = made.and_then(|()| {
                    clear(target)?;
                    fs::rename(&temporary, target).map_err(|e| Error::io("create", target, e))
                });
                if made.is_err() {
                    // The error that counts is the one before.
                    fs::remove_file(&temporary).ok();
                }
                made?;
            }
        }
        if let Some(link) = leaf.link {
            self.links.entry(link).or_insert_with(|| target.to_owned());
        }
        Ok(())
    }

    fn file(&self, blob: store::BlobId, leaf: &Leaf, target: &Path) -> Result<()> {
        let failed = |e| Error::io("create", target, e);
        let mut made = Beside::create(target).map_err(failed)?;
        let source = self.objects.open_blob(blob)?;
        if rustix::fs::ioctl_ficlone(&made.file, &source).is_err() {
            self.copy(blob, &mut made.file, target)?;
        }
        let set = self.set_attributes(leaf, &made.path(), AtFlags::empty());
        set.map_err(|error| match error {
            Error::Io {
                operation, source, ..
            } => Error::io(operation, target, source),
            error => error,
        })?;
        clear(target)?;
        made.place(target).map_err(failed)
    }

    /// Copies a body; what goes wrong with the file names the file.
    fn copy(&self, blob: store::BlobId, file: &mut File, target: &Path) -> Result<()> {
        let mut failed = None;
        let copied = self.objects.read_blob(blob, |piece| {
            (self.told)(piece.len() as u64);
            file.write_all(piece).map_err(|error| {
                let kind = error.kind();
                failed = Some(error);
                kind.into()
            })
        });
        match failed {
            Some(error) => Err(Error::io("write", target, error)),
            None => Ok(copied.map(drop)?),
        }
    }

    fn make(&self, leaf: &Leaf, target: &Path) -> Result<()> {
        let failed = |e: rustix::io::Errno| Error::io("create", target, e.into());
        if let Some(first) = leaf.link.and_then(|link| self.links.get(&link)) {
            return fs::hard_link(first, target).map_err(|e| Error::io("link", target, e));
        }
        let node = |kind, major, minor| {
            let mode = Mode::from_raw_mode(leaf.metadata.mode.into());
            rustix::fs::mknodat(CWD, target, kind, mode, rustix::fs::makedev(major, minor))
        };
        match &leaf.content {
            Content::Symlink { target: points_to } => {
                rustix::fs::symlinkat(&**points_to, CWD, target).map_err(failed)?;
            }
            Content::CharDevice { major, minor } => {
                node(FileType::CharacterDevice, *major, *minor).map_err(failed)?;
            }
            Content::BlockDevice { major, minor } => {
                node(FileType::BlockDevice, *major, *minor).map_err(failed)?;
            }
            Content::Fifo => node(FileType::Fifo, 0, 0).map_err(failed)?,
            Content::File { .. } | Content::Socket => {}
        }
        self.set_attributes(leaf, target, AtFlags::SYMLINK_NOFOLLOW)
    }

    fn set_attributes(&self, leaf: &Leaf, target: &Path, follow: AtFlags) -> Result<()> {
        let metadata = &leaf.metadata;
        self.set_owner(target, metadata, follow)?;
        let is_new = matches!(leaf.content, Content::File { .. });
        // The kernel takes set-uid bits away from what changes hands.
        let is_changed = self.owners == Owners::OfTheImage;
        if is_new || is_changed && !matches!(leaf.content, Content::Symlink { .. }) {
            set_mode(target, metadata)?;
        }
        set_xattrs(target, metadata, follow)?;
        set_time(target, self.clamped(metadata.mtime), follow)
    }

    fn clamped(&self, time: Timestamp) -> Timestamp {
        match self.clamp {
            Some(latest) if time.seconds >= latest => Timestamp::from_seconds(latest),
            _ => time,
        }
    }

    fn set_owner(&self, target: &Path, metadata: &Metadata, follow: AtFlags) -> Result<()> {
        if self.owners == Owners::Caller {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(metadata.uid), Gid::from_raw(metadata.gid));
        rustix::fs::chownat(CWD, target, Some(uid), Some(gid), follow)
            .map_err(|e| Error::io("change the owner of", target, e.into()))
    }
}

/// Makes a directory where none is; a file or symbolic link there is replaced, never followed.
fn make_directory(target: &Path) -> Result<()> {
    match fs::symlink_metadata(target) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => fs::remove_file(target).map_err(|e| Error::io("replace", target, e))?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(Error::io("stat", target, e)),
    }
    fs::create_dir(target).map_err(|e| Error::io("create", target, e))
}

/// Removes a directory that stands where a file goes.
fn clear(target: &Path) -> Result<()> {
    match fs::symlink_metadata(target) {
        Ok(found) if found.is_dir() => {
            fs::remove_dir_all(target).map_err(|e| Error::io("replace", target, e))
        }
        _ => Ok(()),
    }
}

/// Sets extended attributes as far as the caller and the file system can: one that cannot be set is
/// left out, as by cp(1).
fn set_xattrs(target: &Path, metadata: &Metadata, follow: AtFlags) -> Result<()> {
    use rustix::io::Errno;
    for (name, value) in &metadata.xattrs {
        let flags = rustix::fs::XattrFlags::empty();
        let set = match follow.contains(AtFlags::SYMLINK_NOFOLLOW) {
            true => rustix::fs::lsetxattr(target, &**name, value, flags),
            false => rustix::fs::setxattr(target, &**name, value, flags),
        };
        match set {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS) => {}
            Err(e) => return Err(Error::io("set extended attribute of", target, e.into())),
        }
    }
    Ok(())
}

fn set_mode(target: &Path, metadata: &Metadata) -> Result<()> {
    let mode = Mode::from_raw_mode(metadata.mode.into());
    rustix::fs::chmod(target, mode).map_err(|e| Error::io("chmod", target, e.into()))
}

fn set_time(target: &Path, time: Timestamp, follow: AtFlags) -> Result<()> {
    let time = Timespec {
        tv_sec: time.seconds,
        tv_nsec: time.nanoseconds.into(),
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(CWD, target, &times, follow)
        .map_err(|e| Error::io("set times of", target, e.into()))
}

/// Writes a result as a tar archive.
///
/// # Errors
/// [`Error::Io`], [`Error::Layer`]; a file that was begun is removed.
pub(super) fn archive(
    export: &Export,
    destination: &Destination,
    epoch: Option<Option<i64>>,
    platform_split: Option<bool>,
    (snapshots, step): (&Manager, &Step),
) -> Result<()> {
    let store = snapshots.store();
    let is_split = export.is_split(platform_split);
    let delta = match (export.results.as_slice(), is_split) {
        ([only], false) => match only.value.tree() {
            Some(tree) => diff(None, tree, &**store)?,
            None => store::Delta::default(),
        },
        _ => platforms::together(export, is_split, &**store)?,
    };
    let options = pack_options(epoch.unwrap_or(export.epoch()));
    let trees = export
        .results
        .iter()
        .filter_map(|result| result.value.tree());
    let total = trees
        .map(|tree| tree.bytes + tree.inodes * HEADER_BYTES)
        .sum();
    step.status(SENDING, 0, None, false);
    write_to(destination, |out| {
        let mut meter = Meter::new(out, step, SENDING.into(), Some(total));
        layer::pack(&delta, &**store, store.objects(), &options, &mut meter)?;
        meter.end(true);
        Ok(())
    })
}

/// Writes a file that is there when it is complete; or writes to standard output.
///
/// # Errors
/// What `write` returns, except that what goes wrong with the destination names the destination.
pub(super) fn write_to(
    destination: &Destination,
    write: impl FnOnce(&mut (dyn Write + Send)) -> Result<()>,
) -> Result<()> {
    let path = match destination {
        Destination::Stdout => {
            return buffered(io::stdout(), Path::new("standard output"), write);
        }
        Destination::Engine(receiver) => return hand_over(&*receiver.0, write),
        Destination::Open(OpenFile(file)) => {
            return buffered(&**file, Path::new("standard output"), write);
        }
        Destination::Path(path) => path,
    };
    // A device or pipe is written to, not replaced.
    let special = fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir());
    let failed = |e| Error::io("create", path, e);
    if special {
        let file = File::options().write(true).open(path).map_err(failed)?;
        return buffered(file, path, write);
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|e| Error::io("create", parent, e))?;
    }
    beside::remove_stale(path);
    let made = Beside::create(path).map_err(failed)?;
    buffered(&made.file, path, write)?;
    made.place(path).map_err(failed)
}

/// Hands an archive to an engine. What the engine says against it is the error.
fn hand_over(
    receiver: &dyn Receiver,
    write: impl FnOnce(&mut (dyn Write + Send)) -> Result<()>,
) -> Result<()> {
    let name = PathBuf::from(receiver.name());
    let failed = |e| Error::io("load the image into", &name, e);
    let mut handover = receiver.begin().map_err(failed)?;
    let written = buffered(&mut handover, &name, write);
    // Asked only then: who asks hears the answer to the whole.
    if written.is_err()
        && let Some(told) = handover.failure()
    {
        return Err(failed(told));
    }
    written?;
    let answer = handover.finish().map_err(failed)?;
    tracing::debug!(answer, "loaded");
    Ok(())
}

fn buffered(
    out: impl Write + Send,
    path: &Path,
    write: impl FnOnce(&mut (dyn Write + Send)) -> Result<()>,
) -> Result<()> {
    let watched = Watched { out, failed: None };
    let mut out = BufWriter::with_capacity(OUTPUT_BUFFER_BYTES, watched);
    let written =
        write(&mut out).and_then(|()| out.flush().map_err(|e| Error::io("write", path, e)));
    let (watched, _) = out.into_parts();
    match watched.failed {
        Some(error) => Err(Error::io("write", path, error)),
        None => written,
    }
}

/// Remembers why writing failed: what passes the bytes on may report it as its own failure.
struct Watched<W> {
    out: W,
    failed: Option<io::Error>,
}

impl<W: Write> Watched<W> {
    fn note<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result
            && error.kind() != io::ErrorKind::Interrupted
        {
            let copy = error.raw_os_error().map(io::Error::from_raw_os_error);
            self.failed
                .get_or_insert(copy.unwrap_or_else(|| error.kind().into()));
        }
        result
    }
}

impl<W: Write> Write for Watched<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.out.write(bytes);
        self.note(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.out.flush();
        self.note(result)
    }
}
