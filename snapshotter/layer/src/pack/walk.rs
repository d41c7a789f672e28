//! Visits a delta, and the stored trees that it grafts, and writes an entry for each name.

use std::collections::{BTreeMap, HashMap, btree_map};
use std::io::{self, Write};
use std::sync::Arc;

use store::{
    BlobId, Content, Delta, DeltaDirectory, DeltaEntry, Entry, Leaf, LinkId, Metadata, Name,
    RelPath, Timestamp, Tree, TreeRef, TreeSource,
};

use super::{Below, BlobSource, PackOptions};
use crate::archive::Kind;
use crate::archive::writer::{END, padding, write_header};
use crate::error::{Error, Result};
use crate::whiteout;

/// Skipped sockets that are told.
const SKIPPED_MAX: usize = 50;

/// What a hard link to a file of a lower layer has as its attributes if that file is not known;
/// those who unpack the layer may give them to the file.
const UNKNOWN_LINK_MODE: u16 = 0o644;

/// What a root is that no layer says anything of.
const ROOT: Metadata = Metadata::default_directory();

/// A delta being packed.
pub(super) struct Walk<'a> {
    trees: &'a dyn TreeSource,
    blobs: &'a dyn BlobSource,
    options: &'a PackOptions,
    writer: &'a mut dyn Write,
    /// The path of the current name, without a leading slash.
    path: Vec<u8>,
    /// Headers on their way to the writer.
    header: Vec<u8>,
    /// The first name of each inode that has several.
    links: HashMap<LinkId, (Vec<u8>, Leaf)>,
    /// Bytes that were written.
    offset: u64,
    entries: u64,
    skipped: Vec<String>,
}

/// A directory on the way to the current name.
struct Visit<'d> {
    rest: Rest<'d>,
    /// Length of the directory's path.
    length: usize,
    /// What is below it.
    below: Under,
}

/// The names of a directory that are still to come.
enum Rest<'d> {
    Delta(btree_map::Iter<'d, Name, DeltaEntry>),
    Tree(btree_map::IntoIter<Name, Entry>),
}

/// What a directory lies on.
#[derive(Clone)]
enum Under {
    Unknown,
    Nothing,
    Tree(Arc<Tree>),
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        trees: &'a dyn TreeSource,
        blobs: &'a dyn BlobSource,
        options: &'a PackOptions,
        writer: &'a mut dyn Write,
    ) -> Self {
        Walk {
            trees,
            blobs,
            options,
            writer,
            path: Vec::new(),
            header: Vec::new(),
            links: HashMap::new(),
            offset: 0,
            entries: 0,
            skipped: Vec::new(),
        }
    }

    /// Writes the end mark; tells the number of entries and what was left out.
    pub(super) fn finish(mut self) -> Result<(u64, Vec<String>)> {
        self.write(&END)?;
        Ok((self.entries, self.skipped))
    }

    /// Writes all entries.
    pub(super) fn delta(&mut self, delta: &Delta) -> Result<()> {
        let below = match self.options.below {
            Below::Unknown => Under::Unknown,
            Below::Nothing => Under::Nothing,
            Below::Tree(tree) => Under::Tree(self.trees.tree(tree.id)?),
        };
        let mut visits = vec![self.enter_delta(&delta.root, below)?];
        while let Some(visit) = visits.last_mut() {
            self.path.truncate(visit.length);
            let next = match &mut visit.rest {
                Rest::Delta(entries) => entries.next().map(|(name, entry)| {
                    let under = visit.below.clone();
                    (name.clone(), under, Step::Delta(entry))
                }),
                Rest::Tree(entries) => entries
                    .next()
                    .map(|(name, entry)| (name, Under::Nothing, Step::Tree(entry))),
            };
            match next {
                None => drop(visits.pop()),
                Some((name, under, step)) => visits.extend(self.step(&name, under, step)?),
            }
        }
        Ok(())
    }

    /// Writes one name; a directory is then to be visited.
    fn step<'d>(&mut self, name: &Name, under: Under, step: Step<'d>) -> Result<Option<Visit<'d>>> {
        if matches!(step, Step::Delta(DeltaEntry::Whiteout)) {
            self.push(&[whiteout::PREFIX, name.as_bytes()].concat());
            self.mark()?;
            return Ok(None);
        }
        let parent = self.path.len();
        self.push(name.as_bytes());
        if whiteout::meaning(name.as_bytes()) != whiteout::Meaning::Entry {
            return Err(self.unpackable("layers use names that start with .wh. for deletions"));
        }
        match step {
            Step::Delta(DeltaEntry::Directory(child)) => {
                let below = self.under(under, name)?;
                return self.enter_delta(child, below).map(Some);
            }
            Step::Delta(DeltaEntry::Graft(tree)) => {
                let hidden = !matches!(self.under(under, name)?, Under::Nothing);
                return self.enter_tree(*tree, hidden).map(Some);
            }
            Step::Tree(Entry::Directory(tree)) => return self.enter_tree(tree, false).map(Some),
            Step::Delta(DeltaEntry::Leaf(leaf)) => self.leaf(leaf)?,
            Step::Tree(Entry::Leaf(leaf)) => self.leaf(&leaf)?,
            Step::Delta(DeltaEntry::Link(target)) => self.link(target)?,
            Step::Delta(DeltaEntry::Whiteout) => {}
        }
        self.path.truncate(parent);
        Ok(None)
    }

    fn push(&mut self, name: &[u8]) {
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
    }

    /// What lies below a child directory.
    fn under(&self, under: Under, name: &Name) -> Result<Under> {
        Ok(match under {
            Under::Tree(tree) => match tree.entries.get(name) {
                Some(Entry::Directory(child)) => Under::Tree(self.trees.tree(child.id)?),
                _ => Under::Nothing,
            },
            under => under,
        })
    }

    fn enter_delta<'d>(
        &mut self,
        directory: &'d DeltaDirectory,
        below: Under,
    ) -> Result<Visit<'d>> {
        if let Some(metadata) = &directory.metadata
            && !self.is_only_younger(directory, metadata, &below)
        {
            self.directory(metadata)?;
        }
        if directory.opaque {
            self.opaque()?;
        }
        let below = if directory.opaque {
            Under::Nothing
        } else {
            below
        };
        Ok(Visit {
            rest: Rest::Delta(directory.entries.iter()),
            length: self.path.len(),
            below,
        })
    }

    /// Whether nothing but the time of a directory is another, which is no change if nothing below
    /// it is one either: containerd's differ does not see it, and the layer of a step that has put
    /// something into /tmp and taken it away is empty, with every build. The root, whose time each
    /// step at the top changes, is never written for that.
    fn is_only_younger(
        &self,
        directory: &DeltaDirectory,
        metadata: &Metadata,
        below: &Under,
    ) -> bool {
        if !self.path.is_empty() && (!directory.entries.is_empty() || directory.opaque) {
            return false;
        }
        let before = match below {
            Under::Tree(tree) => &tree.metadata,
            Under::Nothing if self.path.is_empty() => &ROOT,
            Under::Nothing | Under::Unknown => return false,
        };
        let of_then = Metadata {
            mtime: before.mtime,
            ..metadata.clone()
        };
        of_then == *before
    }

    fn enter_tree<'d>(&mut self, tree: TreeRef, hidden: bool) -> Result<Visit<'d>> {
        let tree = Arc::unwrap_or_clone(self.trees.tree(tree.id)?);
        self.directory(&tree.metadata)?;
        if hidden {
            self.opaque()?;
        }
        let rest = Rest::Tree(tree.entries.into_iter());
        Ok(Visit {
            rest,
            length: self.path.len(),
            below: Under::Nothing,
        })
    }

    fn directory(&mut self, metadata: &Metadata) -> Result<()> {
        let path = match &self.path[..] {
            b"" => b"./".to_vec(),
            path => [path, b"/"].concat(),
        };
        self.header(&path, &Kind::Directory, metadata)
    }

    fn opaque(&mut self) -> Result<()> {
        let length = self.path.len();
        self.push(whiteout::OPAQUE);
        self.mark()?;
        self.path.truncate(length);
        Ok(())
    }

    /// An empty file, of which only the name counts.
    fn mark(&mut self) -> Result<()> {
        let metadata = Metadata {
            mode: 0,
            ..Metadata::default_directory()
        };
        let path = std::mem::take(&mut self.path);
        let outcome = self.header(&path, &Kind::File { size: 0 }, &metadata);
        self.path = path;
        outcome
    }

    fn leaf(&mut self, leaf: &Leaf) -> Result<()> {
        if leaf.content == Content::Socket {
            if self.skipped.len() < SKIPPED_MAX {
                self.skipped.push(self.display_path());
            }
            return Ok(());
        }
        if let Some(link) = leaf.link {
            match self.links.get(&link) {
                // A group whose members differ is one no more: each gets what it has.
                Some((first, known)) if known == leaf => {
                    let kind = Kind::HardLink(first.clone());
                    return self.named(&kind, &leaf.metadata);
                }
                Some(_) => {}
                None => {
                    self.links.insert(link, (self.path.clone(), leaf.clone()));
                }
            }
        }
        let kind = match &leaf.content {
            Content::File { blob, size } => return self.file(*blob, *size, &leaf.metadata),
            Content::Symlink { target } => Kind::Symlink(target.to_vec()),
            Content::CharDevice { major, minor } => Kind::CharDevice(*major, *minor),
            Content::BlockDevice { major, minor } => Kind::BlockDevice(*major, *minor),
            Content::Fifo => Kind::Fifo,
            Content::Socket => return Ok(()),
        };
        self.named(&kind, &leaf.metadata)
    }

    fn file(&mut self, blob: BlobId, size: u64, metadata: &Metadata) -> Result<()> {
        self.named(&Kind::File { size }, metadata)?;
        let mut left = Some(size);
        let (writer, offset) = (&mut *self.writer, self.offset);
        let mut failure = None;
        let outcome = self.blobs.read_blob(blob, &mut |bytes| {
            left = left.and_then(|left| left.checked_sub(bytes.len() as u64));
            if left.is_none() {
                return Err(io::ErrorKind::InvalidData.into());
            }
            writer.write_all(bytes).map_err(|source| {
                failure = Some(Error::Write { offset, source });
                io::ErrorKind::Other.into()
            })
        });
        match (failure, left) {
            (Some(failure), _) => return Err(failure),
            (None, None) => return Err(self.unpackable("its content is longer than its size")),
            (None, Some(_)) => outcome?,
        };
        if left != Some(0) {
            return Err(self.unpackable("its content is shorter than its size"));
        }
        self.offset += size;
        self.write(&[0; crate::archive::BLOCK][..padding(size)])
    }

    /// One more name for a file of a lower layer.
    fn link(&mut self, target: &RelPath) -> Result<()> {
        let mut metadata = Metadata {
            mode: UNKNOWN_LINK_MODE,
            ..Metadata::default_directory()
        };
        if let Below::Tree(below) = self.options.below
            && let Some(known) = self.find(below, target)?
        {
            // Extended attributes come with the file that is linked to.
            metadata = Metadata {
                xattrs: BTreeMap::new(),
                ..known
            };
        }
        self.named(&Kind::HardLink(target.to_bytes()), &metadata)
    }

    fn find(&self, tree: TreeRef, path: &RelPath) -> Result<Option<Metadata>> {
        let mut entry = Some(Entry::Directory(tree));
        for name in path.components() {
            let Some(Entry::Directory(tree)) = entry else {
                return Ok(None);
            };
            entry = self.trees.tree(tree.id)?.entries.get(name).cloned();
        }
        Ok(match entry {
            Some(Entry::Leaf(leaf)) => Some(leaf.metadata),
            _ => None,
        })
    }

    fn named(&mut self, kind: &Kind, metadata: &Metadata) -> Result<()> {
        let path = std::mem::take(&mut self.path);
        let outcome = self.header(&path, kind, metadata);
        self.path = path;
        outcome
    }

    fn header(&mut self, path: &[u8], kind: &Kind, metadata: &Metadata) -> Result<()> {
        self.header.clear();
        let clamped = self.options.clamp_mtime.map(Timestamp::from_seconds);
        let written = match clamped {
            Some(latest) if metadata.mtime > latest => {
                let metadata = Metadata {
                    mtime: latest,
                    ..metadata.clone()
                };
                write_header(&mut self.header, path, kind, &metadata)
            }
            _ => write_header(&mut self.header, path, kind, metadata),
        };
        written.map_err(|reason| Error::Unpackable {
            path: format!("/{}", String::from_utf8_lossy(path)),
            reason,
        })?;
        self.entries += 1;
        let header = std::mem::take(&mut self.header);
        self.write(&header)?;
        self.header = header;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let offset = self.offset;
        self.writer
            .write_all(bytes)
            .map_err(|source| Error::Write { offset, source })?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn display_path(&self) -> String {
        format!("/{}", String::from_utf8_lossy(&self.path))
    }

    fn unpackable(&self, reason: &'static str) -> Error {
        Error::Unpackable {
            path: self.display_path(),
            reason,
        }
    }
}

/// A name's entry, wherever it comes from.
enum Step<'d> {
    Delta(&'d DeltaEntry),
    Tree(Entry),
}
