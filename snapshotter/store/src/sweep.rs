//! Mark and sweep: what no root reaches is deleted.
//!
//! Marking only reads. Deleting happens behind the fence that keeps ingests away, in an order in
//! which a kill or a loss of power at any instant leaves no row that names something missing:
//!
//! 1. the rows of all unmarked trees, in one batch: a tree row promises that the rows of its
//!    children and blobs are there, and half of the trees might break that promise;
//! 2. the rows of the unmarked blobs, which no tree row names any more, in batches;
//! 3. a flush of the rows to disk;
//! 4. only then the object files, by renames into `trash/`;
//! 5. at last the database is compacted if much of it has gone.
//!
//! A crash after 3 leaves files without rows; the next sweep takes them as strays. It looks for
//! strays once after a start, and after an ingest that was given up.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use crate::codec::Decoder;
use crate::error::{Error, Result};
use crate::failpoint;
use crate::id::{BlobId, ID_LENGTH, TreeId};
use crate::key_value::{Batch, Durability};
use crate::layout::Table;
use crate::space::BLOCK_BYTES;
use crate::store::Store;
use crate::tree::{Content, Entry, Tree, TreeSource};

/// Blob rows deleted in one batch: some 400 KiB of log.
const BLOBS_PER_BATCH: usize = 10_000;

/// The database is compacted when at least one row has gone of so many that stay.
const COMPACTED_PART: u64 = 4;

/// What must stay, with everything below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roots {
    /// Trees that a row outside of the tree table names.
    pub trees: Vec<TreeId>,
    /// Blobs that a row outside of the tree and blob tables names.
    pub blobs: Vec<BlobId>,
}

/// Everything that is reachable from some roots.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    trees: HashSet<TreeId>,
    blobs: HashSet<BlobId>,
}

impl Marks {
    /// Nothing is marked.
    pub fn new() -> Self {
        Self::default()
    }

    /// Marks the roots and what they reach. What is marked already is not read again.
    ///
    /// # Errors
    /// [`crate::Error::TreeMissing`] and others of reading trees; nothing is marked then.
    pub fn extend<S: TreeSource + ?Sized>(&mut self, roots: &Roots, source: &S) -> Result<()> {
        let marked = self.mark(roots, source);
        if marked.is_err() {
            // Some trees are marked whose children are not: nobody may sweep by that, or go on
            // from it.
            *self = Marks::new();
        }
        marked
    }

    fn mark<S: TreeSource + ?Sized>(&mut self, roots: &Roots, source: &S) -> Result<()> {
        self.blobs.extend(&roots.blobs);
        // A list instead of recursion: trees nest deeper than stacks.
        let mut waiting = roots.trees.clone();
        while let Some(id) = waiting.pop() {
            if !self.trees.insert(id) {
                continue;
            }
            for entry in source.tree(id)?.entries.values() {
                match entry {
                    Entry::Directory(child) => waiting.push(child.id),
                    Entry::Leaf(leaf) => {
                        if let Content::File { blob, .. } = leaf.content {
                            self.blobs.insert(blob);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether the tree is reachable.
    pub fn has_tree(&self, id: TreeId) -> bool {
        self.trees.contains(&id)
    }

    /// Whether the blob is reachable.
    pub fn has_blob(&self, id: BlobId) -> bool {
        self.blobs.contains(&id)
    }
}

/// Whether a sweep deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Only tell what would be deleted.
    DryRun,
    /// Delete.
    Delete,
}

/// What a sweep deleted, or would delete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Trees that nothing reaches.
    pub trees: u64,
    /// Blobs that nothing reaches.
    pub blobs: u64,
    /// Sum of the lengths of these blobs' files, in bytes.
    pub bytes: u64,
    /// Files in the object directory that no row names: of ingests that were cut off.
    pub strays: u64,
    /// Sum of the lengths of these files, in bytes.
    pub stray_bytes: u64,
    /// What all these files take on disk, in bytes.
    pub disk_bytes: u64,
    /// Trees that stay.
    pub trees_kept: u64,
    /// Blobs that stay.
    pub blobs_kept: u64,
}

/// Deletes what the roots do not reach.
///
/// `roots` is called twice: first while ingests go on, so that most of the marking is done without
/// stopping anybody; then with the fence up. The second answer counts, and it must name everything
/// that any committed row keeps.
///
/// # Errors
/// What `roots` returns. A missing or damaged tree below a root: nothing is deleted then, since it
/// is unknown what that tree kept. [`Error::Poisoned`] after a failed flush, as rows may come back
/// at the next start whose files would be gone. [`Error::Io`], database errors.
pub fn sweep<E: From<Error>>(
    store: &Store,
    roots: impl Fn() -> Result<Roots, E>,
    mode: Mode,
) -> Result<Report, E> {
    store.check_poison()?;
    let mut marks = Marks::new();
    // What goes wrong without the fence may be the doing of another sweep; below it counts.
    if let Err(error) = marks.extend(&roots()?, &Uncached(store)) {
        tracing::debug!(%error, "marking ahead of the sweep ended early");
    }
    let _pass = store.fence_for_sweep();
    marks.extend(&roots()?, &Uncached(store))?;
    failpoint::passed("sweep.marked");
    let deleted = delete(store, &marks, mode);
    if deleted.is_err() {
        // Perhaps rows are gone whose files are not.
        store.note_strays();
    }
    Ok(deleted?)
}

/// Trees read past the cache of the store, which a walk over all of them would only flush out.
struct Uncached<'s>(&'s Store);

impl TreeSource for Uncached<'_> {
    fn tree(&self, id: TreeId) -> Result<Arc<Tree>> {
        self.0.read_tree(id).map(Arc::new)
    }
}

fn delete(store: &Store, marks: &Marks, mode: Mode) -> Result<Report> {
    store.check_poison()?;
    let mut report = Report::default();
    let mut trees = Batch::new();
    for row in store.rows().scan(Table::Tree, b"") {
        let id = TreeId::from_bytes(row_id("tree", &row?.0)?);
        if marks.has_tree(id) {
            report.trees_kept += 1;
        } else {
            report.trees += 1;
            trees.delete(Table::Tree, *id.as_bytes());
        }
    }
    let mut blobs = HashSet::new();
    for row in store.rows().scan(Table::Blob, b"") {
        let id = BlobId::from_bytes(row_id("blob row", &row?.0)?);
        if marks.has_blob(id) {
            report.blobs_kept += 1;
        } else {
            blobs.insert(id);
        }
    }
    report.blobs = blobs.len() as u64;
    if mode == Mode::Delete {
        let forgets = !trees.is_empty();
        let deleted = delete_rows(store, trees, &blobs);
        if forgets {
            store.forget_trees();
        }
        deleted?;
    }
    let mut taker = Taker {
        store,
        mode,
        flushed: mode == Mode::DryRun,
    };
    // All of them are looked at only when that is needed: there may be a million that stay.
    if mode == Mode::DryRun || store.take_strays() {
        take_all(&mut taker, marks, &blobs, &mut report)?;
    } else {
        for id in &blobs {
            let path = store.objects().path(*id);
            match std::fs::symlink_metadata(&path) {
                Ok(found) => {
                    report.bytes += found.len();
                    report.disk_bytes += found.blocks() * BLOCK_BYTES;
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Error::io("stat", path, error)),
            }
            taker.take(&path)?;
        }
    }
    if mode == Mode::Delete
        && is_compaction_due(&report)
        && let Err(error) = store.compact()
    {
        // What was to be deleted is deleted.
        tracing::warn!(%error, "cannot compact the database");
    }
    Ok(report)
}

/// Moves object files into the trash.
struct Taker<'s> {
    store: &'s Store,
    mode: Mode,
    flushed: bool,
}

impl Taker<'_> {
    fn take(&mut self, path: &Path) -> Result<()> {
        if !self.flushed {
            // Rows first, and not only those of this sweep: a process that was killed may have
            // deleted this file's row without a flush.
            self.store.flush_rows()?;
            self.flushed = true;
            failpoint::passed("sweep.rows-flushed");
        }
        if self.mode == Mode::Delete {
            self.store.trash().take(path)?;
            failpoint::passed("sweep.object-taken");
        }
        Ok(())
    }
}

/// Takes every object that is not marked, whether some row has named it or not.
fn take_all(
    taker: &mut Taker<'_>,
    marks: &Marks,
    blobs: &HashSet<BlobId>,
    report: &mut Report,
) -> Result<()> {
    taker.store.objects().each(|id, path, [length, on_disk]| {
        match id {
            Some(id) if marks.has_blob(id) => return Ok(()),
            Some(id) if blobs.contains(&id) => report.bytes += length,
            _ => {
                report.strays += 1;
                report.stray_bytes += length;
            }
        }
        report.disk_bytes += on_disk;
        taker.take(&path)
    })
}

/// Whether deleted rows take so much of the database that it is worth to write the rest again.
/// RocksDB does that by itself only when more rows come.
fn is_compaction_due(report: &Report) -> bool {
    let deleted = report.trees + report.blobs;
    deleted > 0 && deleted * COMPACTED_PART >= report.trees_kept + report.blobs_kept
}

fn delete_rows(store: &Store, trees: Batch, blobs: &HashSet<BlobId>) -> Result<()> {
    if !trees.is_empty() {
        store.write(trees, Durability::Disk)?;
        failpoint::passed("sweep.trees-deleted");
    }
    let blobs: Vec<_> = blobs.iter().collect();
    for some in blobs.chunks(BLOBS_PER_BATCH) {
        let mut batch = Batch::new();
        for id in some {
            batch.delete(Table::Blob, *id.as_bytes());
        }
        store.write(batch, Durability::Disk)?;
        failpoint::passed("sweep.blobs-deleted");
    }
    Ok(())
}

/// The id that is the key of a row.
fn row_id(what: &'static str, key: &[u8]) -> Result<[u8; ID_LENGTH]> {
    let mut key = Decoder::new(what, key);
    let id = key.id()?;
    key.finish()?;
    Ok(id)
}

#[cfg(test)]
mod tests;
