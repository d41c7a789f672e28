//! Mark and sweep: what no root reaches is deleted.
//!
//! It works beside everything else. Marking only reads, and what was written since it began is no
//! candidate. Then, while nobody can claim anything ([`crate::claims`]), what was claimed is marked
//! too, and the rows of the rest are deleted, in an order in which a kill or a loss of power at any
//! instant leaves no row that names something missing:
//!
//! 1. the rows of all unmarked trees, in one batch: a tree row promises that the rows of its
//!    children and blobs are there, and half of the trees might break that promise;
//! 2. the rows of the unmarked blobs, which no tree row names any more, in batches;
//! 3. a flush of the rows to disk;
//! 4. only then the object files, by renames into `trash/`, each unless somebody has claimed or
//!    written it again meanwhile;
//! 5. at last the database is compacted if much of it has gone.
//!
//! A crash after 3 leaves files without rows; the next sweep takes them as strays. It looks for
//! strays once after a start, and after an ingest that was given up.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use crate::claims::{Frozen, Looking};
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

    /// Marks what is claimed, as far as it is here.
    fn extend_by_claims(&mut self, frozen: &Frozen<'_>, store: &Store) -> Result<()> {
        self.blobs.extend(frozen.blobs());
        for id in frozen.trees() {
            if !self.has_tree(id) && store.rows().get(Table::Tree, id.as_bytes())?.is_some() {
                let roots = Roots {
                    trees: vec![id],
                    blobs: Vec::new(),
                };
                self.extend(&roots, &Uncached(store))?;
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

/// Deletes what neither the roots reach nor anybody has claimed.
///
/// `roots` is called twice, with the names of the snapshots that are claimed: first while
/// everything goes on, so that most of the marking is done without stopping anybody; then while
/// nothing can be claimed. The second answer counts, and it must name everything that any committed
/// row keeps; it must claim nothing, so it may only look at rows as they are.
///
/// # Errors
/// What `roots` returns. A missing or damaged tree below a root: nothing is deleted then, since it
/// is unknown what that tree kept. [`Error::Poisoned`] after a failed flush, as rows may come back
/// at the next start whose files would be gone. [`Error::Io`], database errors.
pub fn sweep<E: From<Error>>(
    store: &Store,
    roots: impl Fn(&HashSet<String>) -> Result<Roots, E>,
    mode: Mode,
) -> Result<Report, E> {
    store.check_poison()?;
    let _alone = store.claims.sweep_alone();
    let _looking = Looking::begin();
    let mut marks = Marks::new();
    let claimed = store.freeze().snapshots();
    // What goes wrong while others change things may be their doing; what comes later counts.
    if let Err(error) = marks.extend(&roots(&claimed)?, &Uncached(store)) {
        tracing::debug!(%error, "marking ahead of the sweep ended early");
    }
    let mut unmarked = Unmarked::find(store, &marks)?;
    failpoint::passed("sweep.looked");
    let frozen = store.freeze();
    marks.extend(&roots(&frozen.snapshots())?, &Uncached(store))?;
    marks.extend_by_claims(&frozen, store)?;
    failpoint::passed("sweep.marked");
    let deleted = unmarked.delete_rows(store, &marks, mode);
    drop(frozen);
    let taken = deleted.and_then(|()| take(store, &marks, &unmarked, mode));
    if taken.is_err() {
        // Perhaps rows are gone whose files are not.
        store.note_strays();
    }
    Ok(taken?)
}

/// Trees read past the cache of the store, which a walk over all of them would only flush out.
struct Uncached<'s>(&'s Store);

impl TreeSource for Uncached<'_> {
    fn tree(&self, id: TreeId) -> Result<Arc<Tree>> {
        self.0.read_tree(id).map(Arc::new)
    }
}

/// The rows that may go.
#[derive(Debug, Default)]
struct Unmarked {
    trees: Vec<TreeId>,
    blobs: HashSet<BlobId>,
    /// How many others there are.
    trees_kept: u64,
    blobs_kept: u64,
}

impl Unmarked {
    fn find(store: &Store, marks: &Marks) -> Result<Self> {
        let mut unmarked = Unmarked::default();
        for row in store.rows().scan(Table::Tree, b"") {
            let id = TreeId::from_bytes(row_id("tree", &row?.0)?);
            match marks.has_tree(id) {
                true => unmarked.trees_kept += 1,
                false => unmarked.trees.push(id),
            }
        }
        for row in store.rows().scan(Table::Blob, b"") {
            let id = BlobId::from_bytes(row_id("blob row", &row?.0)?);
            if marks.has_blob(id) {
                unmarked.blobs_kept += 1;
            } else {
                unmarked.blobs.insert(id);
            }
        }
        Ok(unmarked)
    }

    /// Deletes the rows of those that are unmarked still.
    fn delete_rows(&mut self, store: &Store, marks: &Marks, mode: Mode) -> Result<()> {
        store.check_poison()?;
        let before = (self.trees.len(), self.blobs.len());
        self.trees.retain(|id| !marks.has_tree(*id));
        self.blobs.retain(|id| !marks.has_blob(*id));
        self.trees_kept += (before.0 - self.trees.len()) as u64;
        self.blobs_kept += (before.1 - self.blobs.len()) as u64;
        if mode == Mode::DryRun {
            return Ok(());
        }
        let mut trees = Batch::new();
        for id in &self.trees {
            trees.delete(Table::Tree, *id.as_bytes());
        }
        let forgets = !trees.is_empty();
        if !self.blobs.is_empty() {
            // They name blobs that nobody holds. Nobody can count on one of them now: who has read
            // one claims what it names, and then reads it again.
            for row in store.rows().scan(Table::Context, b"") {
                trees.delete(Table::Context, row?.0);
            }
        }
        let deleted = delete_rows(store, trees, &self.blobs);
        if forgets {
            store.forget_trees();
        }
        deleted
    }
}

/// Takes the object files whose rows are gone.
fn take(store: &Store, marks: &Marks, gone: &Unmarked, mode: Mode) -> Result<Report> {
    let mut report = Report {
        trees: gone.trees.len() as u64,
        blobs: gone.blobs.len() as u64,
        trees_kept: gone.trees_kept,
        blobs_kept: gone.blobs_kept,
        ..Report::default()
    };
    let mut taker = Taker {
        store,
        mode,
        flushed: mode == Mode::DryRun,
    };
    // All of them are looked at only when that is needed: there may be a million that stay.
    if mode == Mode::DryRun || store.take_strays() {
        take_all(&mut taker, marks, &gone.blobs, &mut report)?;
    } else {
        for id in &gone.blobs {
            let path = store.objects().path(*id);
            let found = match std::fs::symlink_metadata(&path) {
                Ok(found) => found,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Error::io("stat", path, error)),
            };
            if taker.take(Some(*id), true, &path)? {
                report.bytes += found.len();
                report.disk_bytes += found.blocks() * BLOCK_BYTES;
            }
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
    /// Takes a file, unless it is in use again; whether it did, or would. Of what is called like a
    /// blob, `had_row` tells whether this sweep has found a row.
    fn take(&mut self, id: Option<BlobId>, had_row: bool, path: &Path) -> Result<bool> {
        if !self.flushed {
            // Rows first, and not only those of this sweep: a process that was killed may have
            // deleted this file's row without a flush.
            self.store.flush_rows()?;
            self.flushed = true;
            failpoint::passed("sweep.rows-flushed");
        }
        // Who brings it in claims it first, and gives up the claim when there is a row.
        let frozen = self.store.freeze();
        if let Some(id) = id {
            let has_row = (self.mode == Mode::Delete || !had_row)
                && self.store.rows().get(Table::Blob, id.as_bytes())?.is_some();
            let is_claimed = frozen.has_blob(id);
            if is_claimed && !has_row {
                self.store.note_strays();
            }
            if is_claimed || has_row {
                return Ok(false);
            }
        }
        if self.mode == Mode::Delete {
            match self.store.trash().take(path) {
                Ok(()) => failpoint::passed("sweep.object-taken"),
                // By an ingest that was given up.
                Err(_) if !path.exists() => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// Takes every object that is not marked, whether some row has named it or not.
fn take_all(
    taker: &mut Taker<'_>,
    marks: &Marks,
    blobs: &HashSet<BlobId>,
    report: &mut Report,
) -> Result<()> {
    let objects = taker.store.objects();
    objects.each(|id, path, [length, on_disk]| {
        if id.is_some_and(|id| marks.has_blob(id)) {
            return Ok(());
        }
        let had_row = id.is_some_and(|id| blobs.contains(&id));
        if !taker.take(id, had_row, &path)? {
            return Ok(());
        }
        report.disk_bytes += on_disk;
        match had_row {
            true => report.bytes += length,
            false => {
                report.strays += 1;
                report.stray_bytes += length;
            }
        }
        Ok(())
    })
}

/// Whether deleted rows take so much of the database that it is worth to write the rest again.
/// RocksDB does that by itself only when more rows come.
fn is_compaction_due(report: &Report) -> bool {
    let deleted = report.trees + report.blobs;
    deleted > 0 && deleted * COMPACTED_PART >= report.trees_kept + report.blobs_kept
}

/// Deletes rows, one after another in the log; whoever takes the files flushes it first.
fn delete_rows(store: &Store, trees: Batch, blobs: &HashSet<BlobId>) -> Result<()> {
    if !trees.is_empty() {
        store.write(trees, Durability::Process)?;
        failpoint::passed("sweep.trees-deleted");
    }
    let blobs: Vec<_> = blobs.iter().collect();
    for some in blobs.chunks(BLOBS_PER_BATCH) {
        let mut batch = Batch::new();
        for id in some {
            batch.delete(Table::Blob, *id.as_bytes());
        }
        store.write(batch, Durability::Process)?;
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
