//! A directory of the machine as a build context: what the ignore rules leave of it, as a tree.
//!
//! Files whose size, mtime, inode and ctime are those of the last time are not read again. As in
//! BuildKit, everything belongs to root (0:0) and keeps mode, mtime and extended attributes.

mod follow;
mod links;
mod memory;

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, Metadata as FileMetadata};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::SystemTime;

use dockerfile::ignore::Ignore;
use llb::op::LocalSource;
use store::{
    Batch, BlobId, Content, Entry, Ingest, Leaf, Metadata, Name, Store, Timestamp, Tree, TreeRef,
    TreeSink, Xattrs,
};

use crate::error::{Error, Result};

use self::follow::Followed;
use self::links::Links;
use self::memory::{Identity, Memory};

/// Deepest directory that is entered.
const DEPTH_MAX: usize = 1_024;

/// Bytes read from a file at a time.
const READ_BUFFER_BYTES: usize = 256 * 1024;

/// What a scan read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    /// Files that are part of the context.
    pub files: u64,
    /// Bytes that were read, since they were new or changed.
    pub bytes_read: u64,
}

/// Brings a directory into the store.
///
/// `read` is told how many bytes were read so far, from several threads.
///
/// # Errors
/// [`Error::Io`] naming the file; those of the store. Nothing is visible then.
pub fn scan(
    store: &Store,
    directory: &Path,
    source: &LocalSource,
    read: &(dyn Fn(u64) + Sync),
) -> Result<(TreeRef, Scanned)> {
    let directory =
        fs::canonicalize(directory).map_err(|e| Error::io("open context", directory, e))?;
    // What its memory knows of it is not collected while it is looked through.
    let _work = store.work();
    let memory = Memory::open(store, &directory);
    let mut walk = Walk {
        exclude: patterns(&source.exclude_patterns)?,
        include: patterns(&source.include_patterns)?,
        followed: Followed::resolve(&directory, &source.follow_paths)?,
        memory: &memory,
        unread: Vec::new(),
        linked: HashSet::new(),
        files: 0,
        root: &directory,
    };
    let root = walk.directory(&directory, "", 0)?.unwrap_or_default();
    let (unread, linked, files) = (walk.unread, walk.linked, walk.files);
    let ingest = store.begin();
    let bodies = read_bodies(&unread, &ingest, read)?;
    let bytes_read = bodies.iter().map(|(_, size)| size).sum();
    let mut found = Found {
        ingest: &ingest,
        unread: &unread,
        bodies: &bodies,
        memory: &memory,
        links: Links::of(&root, &linked, &bodies),
        batch: Batch::new(),
    };
    let tree = root.store(&mut found, "")?;
    let batch = found.batch;
    ingest.commit(batch)?;
    Ok((tree, Scanned { files, bytes_read }))
}

/// Forgets what files of a directory were like: it will not be scanned again.
///
/// # Errors
/// Database errors.
pub(crate) fn forget(store: &Store, directory: &Path) -> Result<()> {
    let directory =
        fs::canonicalize(directory).map_err(|e| Error::io("open context", directory, e))?;
    Memory::open(store, &directory).forget()
}

fn patterns(patterns: &[String]) -> Result<Option<Ignore>> {
    match patterns {
        [] => Ok(None),
        patterns => Ok(Some(Ignore::from_patterns(patterns)?)),
    }
}

/// A directory as it was found.
#[derive(Default)]
struct Directory {
    metadata: Option<Metadata>,
    entries: BTreeMap<Name, Node>,
}

enum Node {
    Directory(Directory),
    Leaf(Leaf),
    /// A regular file with a known body.
    Known(Metadata, Identity, BlobId),
    /// A regular file to be read: its index in the list of those.
    Unread(Metadata, Identity, usize),
}

struct Walk<'w> {
    root: &'w Path,
    exclude: Option<Ignore>,
    include: Option<Ignore>,
    followed: Followed,
    memory: &'w Memory<'w>,
    unread: Vec<PathBuf>,
    /// Files that have other names, here or elsewhere.
    linked: HashSet<Identity>,
    files: u64,
}

impl Walk<'_> {
    /// `None` if nothing of the directory is part of the context.
    fn directory(&mut self, path: &Path, below: &str, depth: usize) -> Result<Option<Directory>> {
        if depth > DEPTH_MAX {
            let reason = io::Error::other("the context is deeper than 1,024 directories");
            return Err(Error::io("open context", path, reason));
        }
        let found = fs::symlink_metadata(path).map_err(|e| Error::io("stat", path, e))?;
        let known = self.memory.directory(below)?;
        let listed = fs::read_dir(path).map_err(|e| Error::io("list", path, e))?;
        let mut entries = BTreeMap::new();
        for entry in listed {
            let entry = entry.map_err(|e| Error::io("list", path, e))?;
            let name = Name::new(entry.file_name().as_bytes())?;
            let below = inside(below, &name);
            let node = self.entry(&entry.path(), &name, &below, &known, depth)?;
            entries.extend(node.map(|node| (name, node)));
        }
        if entries.is_empty() && depth > 0 && !self.selects(below) {
            return Ok(None);
        }
        let metadata = Some(metadata(&found));
        Ok(Some(Directory { metadata, entries }))
    }

    fn selects(&self, below: &str) -> bool {
        self.followed.selects(below)
            && self
                .include
                .as_ref()
                .is_none_or(|include| include.excludes(below))
            && !self
                .exclude
                .as_ref()
                .is_some_and(|exclude| exclude.excludes(below))
    }

    /// Whether something below a directory may be part of the context.
    fn enters(&self, below: &str) -> bool {
        self.followed.enters(below)
            && !self
                .exclude
                .as_ref()
                .is_some_and(|exclude| exclude.excludes_all_below(below))
    }

    fn entry(
        &mut self,
        path: &Path,
        name: &Name,
        below: &str,
        known: &BTreeMap<Name, (Identity, BlobId)>,
        depth: usize,
    ) -> Result<Option<Node>> {
        let found = match fs::symlink_metadata(path) {
            Ok(found) => found,
            // Removed since the directory was listed.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("stat", path, e)),
        };
        let kind = found.file_type();
        if kind.is_dir() {
            if !self.enters(below) {
                return Ok(None);
            }
            return Ok(self.directory(path, below, depth + 1)?.map(Node::Directory));
        }
        if !self.selects(below) || kind.is_socket() {
            return Ok(None);
        }
        self.files += 1;
        let metadata = metadata(&found);
        let content = if kind.is_file() {
            let identity = Identity::of(&found);
            if found.nlink() > 1 {
                self.linked.insert(identity);
            }
            if let Some((before, blob)) = known.get(name)
                && *before == identity
            {
                return Ok(Some(Node::Known(metadata, identity, *blob)));
            }
            self.unread.push(path.to_owned());
            return Ok(Some(Node::Unread(
                metadata,
                identity,
                self.unread.len() - 1,
            )));
        } else if kind.is_symlink() {
            let target = fs::read_link(path).map_err(|e| Error::io("read link", path, e))?;
            Content::Symlink {
                target: target.as_os_str().as_bytes().into(),
            }
        } else {
            special(&found)
        };
        debug_assert!(path.starts_with(self.root), "the walk stays below its root");
        Ok(Some(Node::Leaf(Leaf {
            metadata,
            content,
            link: None,
        })))
    }
}

fn special(found: &FileMetadata) -> Content {
    let (major, minor) = (
        rustix::fs::major(found.rdev()),
        rustix::fs::minor(found.rdev()),
    );
    match found.file_type() {
        kind if kind.is_char_device() => Content::CharDevice { major, minor },
        kind if kind.is_block_device() => Content::BlockDevice { major, minor },
        _ => Content::Fifo,
    }
}

/// What a walk found, on its way into the store.
struct Found<'f, 's> {
    ingest: &'f Ingest<'s>,
    unread: &'f [PathBuf],
    bodies: &'f [(BlobId, u64)],
    memory: &'f Memory<'f>,
    links: Links,
    batch: Batch,
}

impl Found<'_, '_> {
    fn file(&self, metadata: Metadata, identity: &Identity, blob: BlobId, size: u64) -> Entry {
        Entry::Leaf(Leaf {
            metadata,
            content: Content::File { blob, size },
            link: self.links.group(identity, blob),
        })
    }
}

impl Directory {
    fn store(self, found: &mut Found<'_, '_>, below: &str) -> Result<TreeRef> {
        let mut remembered = Vec::new();
        let mut changed = false;
        let mut entries = BTreeMap::new();
        for (name, node) in self.entries {
            let entry = match node {
                Node::Leaf(leaf) => Entry::Leaf(leaf),
                Node::Known(metadata, identity, blob) => {
                    let entry = found.file(metadata, &identity, blob, identity.size);
                    remembered.push((name.clone(), identity, blob));
                    entry
                }
                Node::Unread(metadata, identity, index) => {
                    let (blob, size) = found.bodies[index];
                    changed = true;
                    let path = &found.unread[index];
                    if size == identity.size && found.memory.is_settled(path, &identity) {
                        remembered.push((name.clone(), identity, blob));
                    }
                    found.file(metadata, &identity, blob, size)
                }
                Node::Directory(directory) => {
                    let below = inside(below, &name);
                    Entry::Directory(directory.store(found, &below)?)
                }
            };
            entries.insert(name, entry);
        }
        if changed {
            found.memory.remember(below, &remembered, &mut found.batch);
        }
        let metadata = self.metadata.unwrap_or_else(Metadata::default_directory);
        Ok(found.ingest.put_tree(Tree { metadata, entries })?)
    }
}

/// The path of what is called `name` in the directory `below`, as patterns see it.
fn inside(below: &str, name: &Name) -> String {
    let name = String::from_utf8_lossy(name.as_bytes());
    match below.is_empty() {
        true => name.into_owned(),
        false => format!("{below}/{name}"),
    }
}

/// Reads files into the store, on all cores. The results stand in the order of `paths`.
fn read_bodies(
    paths: &[PathBuf],
    ingest: &Ingest<'_>,
    read: &(dyn Fn(u64) + Sync),
) -> Result<Vec<(BlobId, u64)>> {
    let threads = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(paths.len());
    let next = AtomicUsize::new(0);
    let total = AtomicU64::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(path) = paths.get(index) else {
                return Ok(done);
            };
            let body = read_body(path, ingest, &|count| {
                read(total.fetch_add(count, Ordering::Relaxed) + count);
            });
            match body {
                Ok(body) => done.push((index, body)),
                Err(error) => {
                    // Nobody begins with another file.
                    next.store(paths.len(), Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
    };
    let mut bodies = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut bodies = work()?;
        for other in others {
            let done = other
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            bodies.extend(done?);
        }
        Ok::<_, Error>(bodies)
    })?;
    bodies.sort_unstable_by_key(|(index, _)| *index);
    Ok(bodies.into_iter().map(|(_, body)| body).collect())
}

fn read_body(path: &Path, ingest: &Ingest<'_>, read: &dyn Fn(u64)) -> Result<(BlobId, u64)> {
    let mut file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    let length = file
        .metadata()
        .map_err(|e| Error::io("stat", path, e))?
        .len();
    let mut buffer = vec![0; READ_BUFFER_BYTES.min(length as usize + 1)];
    let mut writer = ingest.blob_writer();
    loop {
        let count = file
            .read(&mut buffer)
            .map_err(|e| Error::io("read", path, e))?;
        if count == 0 {
            return Ok(writer.commit()?);
        }
        writer
            .write_all(&buffer[..count])
            .map_err(|e| Error::io("store", path, e))?;
        read(count as u64);
    }
}

/// Without extended attributes, as BuildKit sends contexts: what a file may do, or is marked as, on
/// the machine that builds is no part of what is built.
fn metadata(found: &FileMetadata) -> Metadata {
    Metadata {
        mode: (found.mode() & 0o7777) as u16,
        uid: 0,
        gid: 0,
        mtime: Timestamp {
            seconds: found.mtime(),
            nanoseconds: found.mtime_nsec() as u32,
        },
        xattrs: Xattrs::new(),
    }
}

/// Now, as file times count it.
fn now_nanoseconds() -> i128 {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    i128::try_from(now.as_nanos()).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests;
