//! The store: a database of rows, a directory of object files, and the rules that keep them one.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use crate::claims::{Claims, Frozen, Pin, Work};
use crate::codec::Decoder;
use crate::error::{Error, Result};
use crate::failpoint;
use crate::fence::{Fence, Pass};
use crate::id::{BlobId, TreeId};
use crate::ingest::Ingest;
use crate::key_value::{Batch, Durability, KeyValue};
use crate::layout::{self, Table};
use crate::objects::{Objects, read_directory};
use crate::root_lock::RootLock;
use crate::space::Allowance;
use crate::tally::{Brought, Tally};
use crate::trash::Trash;
use crate::tree::{Tree, TreeSource, tree_id};

/// Entries of all decoded trees that are kept in memory together, at some 200 bytes each.
const TREE_CACHE_ENTRIES: usize = 300_000;

/// New objects up to which each is flushed by itself. Flushing the whole file system takes one
/// call, but waits for what everybody else has written too: seconds on a busy machine.
const FLUSHED_SINGLY_MAX: usize = 4;

/// Bytes of disk that an ingest leaves free for the database's own work.
const SPACE_KEPT_BYTES: u64 = 8 << 20;

/// Content-addressed blobs and trees, and rows beside them.
#[derive(Debug)]
pub struct Store {
    rows: Box<dyn KeyValue>,
    objects: Objects,
    trash: Trash,
    fence: Fence,
    pub(crate) claims: Arc<Claims>,
    /// Had alone by who decides by leases what to delete.
    leases: RwLock<()>,
    trees: Mutex<TreeCache>,
    temporaries: AtomicU64,
    poison: OnceLock<String>,
    pub(crate) tally: Tally,
    pub(crate) allowance: Allowance,
    /// Whether there may be objects that no row names.
    strays: AtomicBool,
    /// Whether the last write found the disk full.
    is_log_full: AtomicBool,
    // Goes last: whoever waits for it opens the database at once.
    lock: RootLock,
}

/// Decoded trees, and how often they were all forgotten.
#[derive(Debug)]
struct TreeCache {
    trees: HashMap<TreeId, Arc<Tree>>,
    /// Of all of them, each counted as one more: an empty tree takes space too.
    entries: usize,
    entries_max: usize,
    generation: u64,
}

impl Default for TreeCache {
    fn default() -> Self {
        TreeCache {
            trees: HashMap::new(),
            entries: 0,
            entries_max: TREE_CACHE_ENTRIES,
            generation: 0,
        }
    }
}

impl TreeCache {
    fn add(&mut self, trees: impl Iterator<Item = (TreeId, Arc<Tree>)>) {
        for (id, tree) in trees {
            let entries = tree.entries.len() + 1;
            if self.entries + entries > self.entries_max {
                self.clear();
            }
            if entries <= self.entries_max && self.trees.insert(id, tree).is_none() {
                self.entries += entries;
            }
        }
    }

    fn clear(&mut self) {
        self.trees.clear();
        self.entries = 0;
    }
}

impl Store {
    /// Opens the store in a locked root directory, making it new if the directory has none, and
    /// throws away what an earlier process left half-written.
    ///
    /// `rows` is the database in `<root>/db`, opened by the caller.
    ///
    /// # Errors
    /// [`Error::FormatTooNew`], [`Error::FeatureUnknown`], [`Error::NotAStore`], [`Error::Io`],
    /// database errors.
    pub fn open(lock: RootLock, rows: Box<dyn KeyValue>) -> Result<Self> {
        let root = lock.root().to_owned();
        let nonce = match rows.get(Table::Meta, layout::META_FORMAT)? {
            None => initialise(&root, rows.as_ref())?,
            Some(version) => {
                check_format(&root, &version)?;
                check_features(&root, rows.get(Table::Meta, layout::META_FEATURES)?)?;
                let nonce = rows.get(Table::Meta, layout::META_NONCE)?;
                nonce
                    .and_then(|nonce| String::from_utf8(nonce).ok())
                    .filter(|n| is_nonce(n))
                    .ok_or(Error::Undecodable {
                        what: "nonce",
                        reason: "it is not 32 hexadecimal digits",
                    })?
            }
        };
        for name in [layout::INGEST, layout::TRASH] {
            let path = root.join(name);
            fs::create_dir_all(&path).map_err(|e| Error::io("create", &path, e))?;
        }
        let trash = Trash::new(root.join(layout::TRASH));
        for leftover in read_directory(&root.join(layout::INGEST))? {
            trash.take(&leftover)?;
        }
        let objects = Objects::open(&root, nonce)?;
        Ok(Store {
            lock,
            rows,
            objects,
            trash,
            fence: Fence::default(),
            claims: Arc::default(),
            leases: RwLock::default(),
            trees: Mutex::default(),
            temporaries: AtomicU64::new(0),
            poison: OnceLock::new(),
            tally: Tally::default(),
            allowance: Allowance::default(),
            // Of a process that was killed.
            strays: AtomicBool::new(true),
            is_log_full: AtomicBool::new(false),
        })
    }

    /// The root directory.
    pub fn root(&self) -> &Path {
        self.lock.root()
    }

    /// The object files.
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// The rows, for reading. Changes go through [`Store::write`] or [`Ingest::commit`].
    pub fn rows(&self) -> &dyn KeyValue {
        self.rows.as_ref()
    }

    /// What waits to be deleted.
    pub fn trash(&self) -> &Trash {
        &self.trash
    }

    /// What was brought in since this store was opened.
    pub fn brought(&self) -> Brought {
        self.tally.sum()
    }

    /// What was brought in since this was asked the last time.
    pub fn take_brought(&self) -> Brought {
        self.tally.take()
    }

    /// Starts to bring things in.
    ///
    /// Whoever makes a row name a tree or blob that is here already (a cache hit) has looked it up
    /// inside an ingest or a [`Work`] that still goes on, or names only what another lease keeps:
    /// [`Store::write`] alone does not keep a sweep away.
    pub fn begin(&self) -> Ingest<'_> {
        Ingest::new(self, self.fence.ingest())
    }

    /// Begins work: nothing that is looked up or written until its end is swept before that.
    pub fn work(&self) -> Work {
        self.claims.work()
    }

    /// Keeps a snapshot, that was found in some [`Work`], from being collected.
    pub fn pin(&self, snapshot: &str) -> Pin {
        self.claims.pin(snapshot)
    }

    /// Claims a snapshot for all work under way. Only what is found afterwards stays.
    pub fn claim_snapshot(&self, name: &str) {
        self.claims.snapshot(name);
    }

    /// Claims a tree with all below it, likewise.
    pub fn claim_tree(&self, id: TreeId) {
        self.claims.tree(id);
    }

    /// Claims blobs, likewise.
    pub fn claim_blobs(&self, ids: impl IntoIterator<Item = BlobId>) {
        self.claims.blobs(ids);
    }

    /// Stops all claims for a moment, to delete rows that nobody claims.
    pub fn freeze(&self) -> Frozen<'_> {
        self.claims.freeze()
    }

    pub(crate) fn fence_for_sweep(&self) -> Pass<'_> {
        self.fence.sweep()
    }

    /// Changes rows that name nothing newly ingested.
    ///
    /// # Errors
    /// Database errors; [`Error::Poisoned`]. A failed durable write poisons the store.
    pub fn write(&self, batch: Batch, durability: Durability) -> Result<()> {
        let changes = batch.touches(Table::Lease);
        let read = || self.leases.read().unwrap_or_else(PoisonError::into_inner);
        let _changing = changes.then(read);
        self.write_rows(batch, durability)
    }

    fn write_rows(&self, batch: Batch, durability: Durability) -> Result<()> {
        self.check_poison()?;
        let result = self.rows.write(batch, durability);
        let is_full = result.as_ref().is_err_and(Error::is_no_space);
        self.is_log_full.store(is_full, Ordering::Relaxed);
        if let Err(error) = &result
            && durability == Durability::Disk
        {
            self.poison(error.to_string());
        }
        result
    }

    /// Changes rows by what `make` finds, while nobody else changes a lease.
    ///
    /// # Errors
    /// What `make` returns; those of [`Store::write`].
    pub fn change_alone<E: From<Error>>(
        &self,
        durability: Durability,
        make: impl FnOnce() -> Result<Batch, E>,
    ) -> Result<(), E> {
        let _alone = self.leases.write().unwrap_or_else(PoisonError::into_inner);
        let batch = make()?;
        match batch.is_empty() {
            true => Ok(()),
            false => Ok(self.write_rows(batch, durability)?),
        }
    }

    /// The length of a blob that is durably here, `None` if it is not.
    ///
    /// # Errors
    /// Database errors.
    pub fn blob_size(&self, id: BlobId) -> Result<Option<u64>> {
        self.claims.blobs([id]);
        let Some(row) = self.rows.get(Table::Blob, id.as_bytes())? else {
            return Ok(None);
        };
        let mut row = Decoder::new("blob row", &row);
        let size = row.number()?;
        row.finish()?;
        Ok(Some(size))
    }

    /// Whether the tree's row is there (its children's and blobs' are then too).
    ///
    /// # Errors
    /// Database errors.
    pub fn has_tree(&self, id: TreeId) -> Result<bool> {
        self.claims.tree(id);
        if self.cached_trees().trees.contains_key(&id) {
            return Ok(true);
        }
        Ok(self.rows.get(Table::Tree, id.as_bytes())?.is_some())
    }

    fn cached_trees(&self) -> std::sync::MutexGuard<'_, TreeCache> {
        self.trees.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Caches trees whose rows an ingest has just written; it still keeps the sweep away.
    pub(crate) fn remember(&self, trees: impl Iterator<Item = (TreeId, Arc<Tree>)>) {
        self.cached_trees().add(trees);
    }

    /// Forgets decoded trees, after their rows were deleted.
    pub(crate) fn forget_trees(&self) {
        let mut cache = self.cached_trees();
        cache.clear();
        cache.generation += 1;
    }

    /// Keeps no more decoded trees in memory than have so many entries together, at some 200 bytes
    /// each.
    pub fn limit_tree_cache(&self, entries: usize) {
        let mut cache = self.cached_trees();
        cache.entries_max = entries;
        cache.clear();
    }

    /// Notes that objects may lie there which no row names.
    pub(crate) fn note_strays(&self) {
        self.strays.store(true, Ordering::Relaxed);
    }

    /// Whether that was noted since the last time this was asked.
    pub(crate) fn take_strays(&self) -> bool {
        self.strays.swap(false, Ordering::Relaxed)
    }

    /// Reads a tree's row past the cache, and checks it against its id.
    pub(crate) fn read_tree(&self, id: TreeId) -> Result<Tree> {
        let row = self
            .rows
            .get(Table::Tree, id.as_bytes())?
            .ok_or(Error::TreeMissing { id })?;
        if tree_id(&row) != id {
            return Err(Error::Undecodable {
                what: "tree",
                reason: "it does not match its id",
            });
        }
        Tree::decode(&row)
    }

    /// A fresh name below `ingest/`, on the same file system as the objects.
    pub(crate) fn temporary_path(&self) -> PathBuf {
        let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
        self.root()
            .join(layout::INGEST)
            .join(format!("{}-{number}", std::process::id()))
    }

    /// Refuses to bring anything in when the disk is all but full.
    ///
    /// RocksDB does not recover from a log that could not be written until it is opened again, and
    /// a sweep, which makes room, has to write a little first.
    pub(crate) fn check_space(&self, bytes: u64) -> Result<()> {
        match self.free_bytes()? < bytes.saturating_add(SPACE_KEPT_BYTES) {
            true => Err(Error::io(
                "commit to",
                self.root(),
                rustix::io::Errno::NOSPC.into(),
            )),
            false => Ok(()),
        }
    }

    /// Whether nothing can be brought in because the disk is all but full. Then a sweep is due:
    /// the objects of what did not fit may still lie there.
    ///
    /// # Errors
    /// The file system does not say.
    pub fn is_full(&self) -> Result<bool> {
        Ok(self.free_bytes()? < SPACE_KEPT_BYTES)
    }

    /// What the file system of the root directory has left for us, in bytes.
    ///
    /// # Errors
    /// The file system does not say.
    pub fn free_bytes(&self) -> Result<u64> {
        Ok(self.disk_bytes()?.0)
    }

    /// Flushes new object files and their names to disk: a few one by one, many by one flush of
    /// the whole file system.
    pub(crate) fn flush_objects(&self, ids: &[BlobId]) -> Result<()> {
        if ids.len() > FLUSHED_SINGLY_MAX {
            return self.flush_file_system();
        }
        self.check_poison()?;
        for id in ids {
            let path = self.objects.path(*id);
            let directory = path.parent().unwrap_or(&path);
            for path in [path.as_path(), directory] {
                File::open(path)
                    .and_then(|file| file.sync_all())
                    .map_err(|e| {
                        self.poison(e.to_string());
                        Error::io("flush", path, e)
                    })?;
            }
        }
        Ok(())
    }

    /// Flushes all rows to disk, whoever wrote them and when.
    ///
    /// # Errors
    /// Database errors, which poison the store; [`Error::Poisoned`].
    pub fn flush_rows(&self) -> Result<()> {
        self.check_poison()?;
        if self.is_log_full.load(Ordering::Relaxed) {
            // RocksDB goes on by itself when there is space again, unless it is asked to flush
            // before.
            let full = rustix::io::Errno::NOSPC;
            return Err(Error::io("flush the rows of", self.root(), full.into()));
        }
        self.rows
            .sync()
            .inspect_err(|error| self.poison(error.to_string()))
    }

    /// Gives back what deleted rows take, if there is room enough to write the others once more.
    pub(crate) fn compact(&self) -> Result<()> {
        self.check_poison()?;
        let path = self.root().join(layout::DATABASE);
        let length = |path: PathBuf| fs::metadata(path).map_or(0, |found| found.len());
        let bytes: u64 = read_directory(&path)?.into_iter().map(length).sum();
        if self.free_bytes()? < bytes.saturating_add(SPACE_KEPT_BYTES) {
            tracing::info!("the disk is too full to compact the database");
            return Ok(());
        }
        failpoint::passed("compact.begun");
        self.rows.compact()?;
        failpoint::passed("compact.done");
        Ok(())
    }

    /// Flushes everything that was written to the file system of the store, by whomever.
    fn flush_file_system(&self) -> Result<()> {
        self.check_poison()?;
        // The lock file has been open since the start: the kernel tells a failed write-back once
        // to each open file, so a file opened only now could miss one that happened before.
        rustix::fs::syncfs(self.lock.file()).map_err(|e| {
            self.poison(e.to_string());
            Error::io("flush", self.root(), e.into())
        })
    }

    fn poison(&self, message: String) {
        let root = self.root().display();
        match message.contains("No space left on device") {
            // Whoever asked tells it, with what to do.
            true => tracing::debug!(%root, message, "flush failed: store is poisoned"),
            false => tracing::error!(%root, message, "flush failed: store is poisoned"),
        }
        // Only the first failure is kept.
        self.poison.get_or_init(|| message);
    }

    /// Whether the store still takes changes.
    ///
    /// # Errors
    /// [`Error::Poisoned`] since a flush has failed; only opening it again helps.
    pub fn check_poison(&self) -> Result<()> {
        match self.poison.get() {
            None => Ok(()),
            Some(message) => Err(Error::Poisoned {
                path: self.root().into(),
                message: message.clone(),
            }),
        }
    }
}

impl TreeSource for Store {
    fn tree(&self, id: TreeId) -> Result<Arc<Tree>> {
        self.claims.tree(id);
        let generation = {
            let cache = self.cached_trees();
            if let Some(tree) = cache.trees.get(&id) {
                return Ok(tree.clone());
            }
            cache.generation
        };
        let tree = Arc::new(self.read_tree(id)?);
        let mut cache = self.cached_trees();
        // A sweep may have deleted the row meanwhile: then the cache must not claim to have it.
        if cache.generation == generation {
            cache.add(std::iter::once((id, tree.clone())));
        }
        Ok(tree)
    }
}

fn initialise(root: &Path, rows: &dyn KeyValue) -> Result<String> {
    if root.join(layout::OBJECTS).exists() {
        return Err(Error::NotAStore {
            path: root.into(),
            reason: "it has objects but its database is empty".into(),
        });
    }
    let mut random = [0; 16];
    let source = Path::new("/dev/urandom");
    File::open(source)
        .and_then(|mut file| file.read_exact(&mut random))
        .map_err(|e| Error::io("read", source, e))?;
    let nonce: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut batch = Batch::new();
    batch.put(
        Table::Meta,
        layout::META_FORMAT,
        layout::FORMAT_VERSION.to_le_bytes(),
    );
    batch.put(Table::Meta, layout::META_NONCE, nonce.as_bytes());
    rows.write(batch, Durability::Disk)?;
    Ok(nonce)
}

fn check_format(root: &Path, version: &[u8]) -> Result<()> {
    let version: [u8; 4] = version.try_into().map_err(|_| Error::Undecodable {
        what: "format version",
        reason: "it is not 4 bytes",
    })?;
    let found = u32::from_le_bytes(version);
    match found {
        _ if found > layout::FORMAT_VERSION => Err(Error::FormatTooNew {
            path: root.into(),
            found,
            supported: layout::FORMAT_VERSION,
        }),
        0 => Err(Error::NotAStore {
            path: root.into(),
            reason: "its format version is 0".into(),
        }),
        _ => Ok(()),
    }
}

fn check_features(root: &Path, features: Option<Vec<u8>>) -> Result<()> {
    let features = String::from_utf8_lossy(features.as_deref().unwrap_or_default()).into_owned();
    let unknown = |feature: &&str| !feature.is_empty() && !layout::FEATURES.contains(feature);
    match features.split(',').find(unknown) {
        None => Ok(()),
        Some(feature) => Err(Error::FeatureUnknown {
            path: root.into(),
            feature: feature.into(),
        }),
    }
}

fn is_nonce(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether an I/O error means that the disk is full: kept here for callers without [`Error`].
pub fn is_disk_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

#[cfg(test)]
mod tests;
