//! One copy action: where what is selected goes, and what changes on the way.

use dockerfile::chmod::SymbolicMode;
use llb::op::{Copy, CopyMode};
use store::{
    Entry, Found, Ingest, Leaf, LinkId, Metadata, Name, RelPath, Timestamp, TreeRef, TreeSource,
};

use super::selection::{CopySource, Filter, stored};
use super::{TreeEditor, bits, time};
use crate::error::Error;
use crate::ops::archive;

/// What changes on the way.
struct Changes<'c> {
    owner: Option<(u32, u32)>,
    mode: &'c CopyMode,
    timestamp: Option<Timestamp>,
    replace: bool,
    /// Makes the groups of hard links of this copy other ones than any that are there.
    origin: [u8; 32],
}

impl Changes<'_> {
    fn none(&self) -> bool {
        self.owner.is_none() && *self.mode == CopyMode::Keep && self.timestamp.is_none()
    }

    fn metadata(&self, before: &Metadata, is_directory: bool) -> Result<Metadata, Error> {
        let mut after = before.clone();
        if let Some((uid, gid)) = self.owner {
            (after.uid, after.gid) = (uid, gid);
        }
        match self.mode {
            CopyMode::Keep => {}
            CopyMode::Bits(mode) => after.mode = bits(*mode),
            CopyMode::Symbolic(text) => {
                let mode = SymbolicMode::parse(text).ok_or_else(|| Error::Unsupported {
                    what: format!("--chmod={text}: this mode"),
                })?;
                after.mode = mode.apply(before.mode, is_directory);
            }
        }
        if let Some(timestamp) = self.timestamp {
            after.mtime = timestamp;
        }
        Ok(after)
    }

    /// A file as it is copied. Names that are one file in a directory that is copied as a whole
    /// (`within`) are one file again: regular ones, as in BuildKit.
    fn leaf(&self, leaf: &Leaf, within: bool) -> Result<Leaf, Error> {
        let mut metadata = self.metadata(&leaf.metadata, false)?;
        if matches!(leaf.content, store::Content::Symlink { .. }) {
            metadata.mode = leaf.metadata.mode;
        }
        Ok(Leaf {
            metadata,
            content: leaf.content.clone(),
            link: leaf
                .link
                .filter(|_| within && matches!(leaf.content, store::Content::File { .. }))
                .map(|link| LinkId::derive(&self.origin, link.as_bytes())),
        })
    }
}

/// Carries out a copy into `target`.
pub(super) fn copy(
    target: &mut TreeEditor<'_, '_>,
    mut source: CopySource<'_, Ingest<'_>>,
    copy: &Copy,
    owner: Option<(u32, u32)>,
    ingest: &Ingest<'_>,
) -> Result<(), Error> {
    if source.paths.is_empty() {
        // A pattern that may match nothing: nothing is made for it either.
        return Ok(());
    }
    let mut changes = Changes {
        owner,
        mode: &copy.mode,
        timestamp: copy.timestamp_ns.map(|timestamp| time(Some(timestamp))),
        replace: copy.always_replace_existing,
        origin: [0; 32],
    };
    let [made, made_for_archives] = made_directories(copy, owner);
    let base = target.untouched(&RelPath::root())?;
    let (destination, directory) = destination(target, copy)?;
    let unpacked_to = (&destination, &made_for_archives);
    for (given, resolved) in std::mem::take(&mut source.paths) {
        let entry = stored(source.source, &mut source.editor, &resolved)?;
        if copy.attempt_unpack
            && let Some(Entry::Leaf(leaf)) = &entry
            && archive::unpack_into(target, leaf, unpacked_to, owner, ingest)
                .map_err(|error| error.of_archive(&given))?
        {
            continue;
        }
        target.make_directories(&directory, &made)?;
        let Some(entry) = entry else {
            continue;
        };
        let is_directory = matches!(entry, Entry::Directory(_));
        let present = target.get(&destination)?;
        let into = match &present {
            Some(Found::Directory(_)) if !is_directory => true,
            Some(_) if is_directory => !copy.dir_copy_contents,
            _ => false,
        };
        let to = match (into, given.file_name()) {
            (true, Some(name)) => target.resolve(&destination.join(name), is_directory)?,
            _ => destination.clone(),
        };
        if let Some(parent) = to.parent() {
            target.make_directories(&parent, &made)?;
        }
        changes.origin = origin(base, copy, &given);
        let merge = Merge {
            source: source.source,
            filter: &source.filter,
            changes: &changes,
            ingest,
        };
        match entry {
            Entry::Leaf(leaf) => merge.leaf(target, &leaf, &to, false)?,
            Entry::Directory(tree) if copy.dir_copy_contents && !into => {
                merge.contents(target, tree, &to, &made)?;
            }
            Entry::Directory(tree) => {
                let parents = Parents::present(&to, &made);
                merge.directory(target, tree, (&to, &RelPath::root()), into, &parents)?;
            }
        }
    }
    Ok(())
}

/// What the groups of hard links of one copied path are called by: what it is copied onto, how, and
/// which one it is. Each path that a pattern matches is a copy of its own.
fn origin(base: Option<TreeRef>, copy: &Copy, given: &RelPath) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("varve solver: hard links of a copy v2");
    if let Some(tree) = base {
        hasher.update(tree.id.as_bytes());
    }
    hasher.update(format!("{copy:?}").as_bytes());
    hasher.update(&given.to_bytes());
    *hasher.finalize().as_bytes()
}

/// Directories that are made on the way to what is copied, and to what archives are unpacked into:
/// of those `--chmod` says nothing.
fn made_directories(copy: &Copy, owner: Option<(u32, u32)>) -> [Metadata; 2] {
    let (uid, gid) = owner.unwrap_or_default();
    let made_for_archives = Metadata {
        uid,
        gid,
        mtime: time(copy.timestamp_ns),
        ..Metadata::default_directory()
    };
    let mode = match copy.mode {
        // mkdir(2) ignores the others, and so BuildKit makes directories without them.
        CopyMode::Bits(mode) => bits(mode) & 0o777,
        CopyMode::Keep | CopyMode::Symbolic(_) => made_for_archives.mode,
    };
    let made = Metadata {
        mode,
        ..made_for_archives.clone()
    };
    [made, made_for_archives]
}

/// Where to copy to, and the directory that has to be there for it.
fn destination(target: &mut TreeEditor<'_, '_>, copy: &Copy) -> Result<(RelPath, RelPath), Error> {
    let path = target.resolve(&RelPath::lenient(copy.dest.as_bytes())?, true)?;
    let is_directory = copy.dest.ends_with('/') || copy.dest.ends_with("/.");
    let wanted = match path.parent() {
        Some(parent) if !is_directory => parent,
        _ => path.clone(),
    };
    if !copy.create_dest_path && target.get(&wanted)?.is_none() {
        return Err(Error::NotFound {
            path: wanted.to_string(),
        });
    }
    Ok((path, wanted))
}

struct Merge<'m, 'i> {
    source: &'m Ingest<'i>,
    filter: &'m Filter,
    changes: &'m Changes<'m>,
    ingest: &'m Ingest<'i>,
}

impl Merge<'_, '_> {
    fn leaf(
        &self,
        target: &mut TreeEditor<'_, '_>,
        leaf: &Leaf,
        to: &RelPath,
        within: bool,
    ) -> Result<(), Error> {
        if matches!(target.get(to)?, Some(Found::Directory(_))) && !self.changes.replace {
            return Err(Error::file_op(to, "cannot replace a directory with a file"));
        }
        Ok(target.insert(to, Entry::Leaf(self.changes.leaf(leaf, within)?))?)
    }

    /// Copies what is in a directory to `to`. That is made as its parents are where it is missing,
    /// and of the directory that is copied it has the time alone.
    fn contents(
        &self,
        target: &mut TreeEditor<'_, '_>,
        tree: TreeRef,
        to: &RelPath,
        made: &Metadata,
    ) -> Result<(), Error> {
        let before = match target.get(to)? {
            Some(Found::Directory(metadata)) => metadata,
            Some(Found::Leaf(_)) | None => made.clone(),
        };
        let source = self.source.tree(tree.id)?.metadata.mtime;
        let mtime = self.changes.timestamp.unwrap_or(source);
        let parents = Parents::present(to, made);
        self.directory(target, tree, (to, &RelPath::root()), false, &parents)?;
        Ok(target.set_metadata(to, Metadata { mtime, ..before })?)
    }

    /// Copies a directory with its contents to `to`; `below` is where it lies in what is copied.
    /// `overwrite` tells whether an existing directory takes the attributes of the copied one; one
    /// that is made always does.
    fn directory(
        &self,
        target: &mut TreeEditor<'_, '_>,
        tree: TreeRef,
        (to, below): (&RelPath, &RelPath),
        overwrite: bool,
        parents: &Parents<'_>,
    ) -> Result<(), Error> {
        let present = target.get(to)?;
        // The whole sub-tree as it is: a reference is all that is written.
        if present.is_none() && self.filter.is_empty() && self.changes.none() && tree.links == 0 {
            return Ok(target.insert(to, Entry::Directory(tree))?);
        }
        let directory = self.source.tree(tree.id)?;
        let metadata = self.changes.metadata(&directory.metadata, true)?;
        match present {
            Some(Found::Directory(_)) if overwrite => target.set_metadata(to, metadata.clone())?,
            Some(Found::Directory(_)) => {}
            Some(Found::Leaf(_)) if !self.changes.replace => {
                return Err(Error::file_op(to, "cannot copy to non-directory"));
            }
            _ => {
                parents.make(target, self.changes.replace)?;
                target.insert_directory(to, metadata.clone())?;
            }
        }
        let parents = Parents::present(to, &metadata);
        for (name, entry) in &directory.entries {
            self.entry(target, (name, entry), (to, below), &parents)?;
        }
        Ok(())
    }

    fn entry(
        &self,
        target: &mut TreeEditor<'_, '_>,
        (name, entry): (&Name, &Entry),
        (to, below): (&RelPath, &RelPath),
        parents: &Parents<'_>,
    ) -> Result<(), Error> {
        let (to, below) = (to.join(name), below.join(name));
        match entry {
            Entry::Leaf(leaf) if self.filter.selects(&below) => {
                parents.make(target, self.changes.replace)?;
                debug_assert!(
                    std::ptr::eq(self.source, self.ingest),
                    "one ingest serves both sides"
                );
                self.leaf(target, leaf, &to, true)
            }
            Entry::Leaf(_) => Ok(()),
            Entry::Directory(child) if self.filter.selects(&below) => {
                self.directory(target, *child, (&to, &below), true, parents)
            }
            // Not selected itself, but something in it may be: it is made only then.
            Entry::Directory(child) => {
                let child = self.source.tree(child.id)?;
                let parents = Parents {
                    directory: &to,
                    metadata: &self.changes.metadata(&child.metadata, true)?,
                    above: Some(parents),
                };
                for (name, entry) in &child.entries {
                    self.entry(target, (name, entry), (&to, &below), &parents)?;
                }
                Ok(())
            }
        }
    }
}

/// The directories above something that is copied: each is made with attributes of its own when the
/// first thing below it is there to be copied.
struct Parents<'p> {
    directory: &'p RelPath,
    metadata: &'p Metadata,
    above: Option<&'p Parents<'p>>,
}

impl<'p> Parents<'p> {
    /// A directory above which all is there, or made with the same attributes.
    fn present(directory: &'p RelPath, metadata: &'p Metadata) -> Self {
        let above = None;
        Parents {
            directory,
            metadata,
            above,
        }
    }

    fn make(&self, target: &mut TreeEditor<'_, '_>, replace: bool) -> Result<(), Error> {
        let directory = self.directory;
        match target.get(directory)? {
            Some(Found::Directory(_)) => return Ok(()),
            Some(Found::Leaf(_)) if !replace => {
                return Err(Error::file_op(directory, "cannot copy to non-directory"));
            }
            Some(Found::Leaf(_)) | None => {}
        }
        match (self.above, directory.parent()) {
            (Some(above), _) => above.make(target, replace)?,
            (None, Some(parent)) => target.make_directories(&parent, self.metadata)?,
            (None, None) => {}
        }
        Ok(target.insert_directory(directory, self.metadata.clone())?)
    }
}
