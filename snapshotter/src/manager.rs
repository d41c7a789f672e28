//! The real [`Snapshots`]: life cycle over the store.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mount::Mount;
use store::{Batch, Durability, Ingest, Name, Store, TreeRef, TreeSource, Usage, delta, diff};

use crate::cache_mounts::Forks;
use crate::capture::{Take, capture};
use crate::catalog::{self, Row, State};
use crate::containers;
use crate::directories::Directories;
use crate::error::{Error, Result};
use crate::images::{Images, Method, Shape, mapped_key};
use crate::marks::Marks;
use crate::snapshots::{Info, Kind, Labels, Snapshots, check_key, check_labels};

/// A tree of up to this many inodes is always used whole: its image is made in 2 ms, and a single
/// metadata layer needs no `metacopy=on`.
const FLAT_INODES_MAX: u64 = 2_000;

/// More metadata layers than this are merged into one image: look-ups grow with their number.
const STACK_MAX: usize = 16;

/// As [`STACK_MAX`] for plain directories, whose merging copies all bodies. As many fit into the
/// option string of mount(2), a page.
const DIRECTORY_STACK_MAX: usize = 40;

/// Name of the writable directories, below the root.
const SNAPSHOTS: &str = "snapshots";

/// How a [`Manager`] does its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How trees become lower directories.
    pub method: Method,
    /// Where overlayfs keeps its marks.
    pub marks: Marks,
    /// Whether files of plain directories can redirect into the objects ([`Marks::User`] only).
    /// Then a whole tree is checked out without contents.
    pub redirects: bool,
    /// Whether uppers are mounted `volatile`: no flush until commit. For build steps, whose upper
    /// is worthless until they end; never for containers.
    pub volatile: bool,
    /// Whether even a single metadata layer needs `metacopy=on` (kernels before 6.16).
    pub flat_needs_metacopy: bool,
    /// A tree of up to this many inodes is always used whole.
    pub flat_inodes_max: u64,
    /// At most so many lower directories; more are merged into one.
    pub stack_max: usize,
}

impl Options {
    /// What suits the method; neither volatile nor for an old kernel.
    pub fn new(method: Method) -> Self {
        let (flat_inodes_max, stack_max) = match method {
            Method::Kernel => (FLAT_INODES_MAX, STACK_MAX),
            Method::Directories => (0, DIRECTORY_STACK_MAX),
        };
        Options {
            method,
            marks: Marks::Trusted,
            redirects: false,
            volatile: false,
            flat_needs_metacopy: false,
            flat_inodes_max,
            stack_max,
        }
    }
}

/// Snapshots over a store.
#[derive(Debug)]
pub struct Manager {
    store: Arc<Store>,
    options: Options,
    images: Images,
    directories: Directories,
    /// Held while a row's preconditions are checked and the row is written.
    changing: Mutex<()>,
    /// Keys that are being committed: their directories are nobody else's business.
    committing: Mutex<HashSet<String>>,
    /// Who uses which cache mount.
    forks: Forks,
    /// See [`Manager::mounting`].
    mounting: Mutex<()>,
}

impl Manager {
    /// Held by whoever makes or ends the mount of a view, or looks whether there still is one:
    /// until it is mounted, a view is like one whose mount is gone.
    pub fn mounting(&self) -> MutexGuard<'_, ()> {
        self.mounting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the snapshots of a store. Writable directories that no row names are thrown away, and
    /// so are open snapshots that cannot be trusted any more: those without a directory, and those
    /// that a dead process had mounted `volatile`.
    ///
    /// # Errors
    /// Database errors; [`Error::Io`].
    pub fn open(store: Arc<Store>, options: Options) -> Result<Self> {
        let images = Images::new(store.clone(), &options)?;
        let directories = Directories::open(store.clone(), SNAPSHOTS, options.marks)?;
        let (changing, committing, mounting) =
            (Mutex::default(), Mutex::default(), Mutex::default());
        let manager = Manager {
            store,
            options,
            images,
            directories,
            changing,
            committing,
            mounting,
            forks: Forks::default(),
        };
        manager.reconcile()?;
        Ok(manager)
    }

    /// Makes rows and directories agree.
    fn reconcile(&self) -> Result<()> {
        let (mut named, mut lost) = (HashSet::new(), Batch::new());
        let mut unreadable = false;
        for row in catalog::all(&self.store) {
            let row = match row {
                // For a repair, which must be able to open the store.
                Err(Error::Store(error @ store::Error::Undecodable { .. })) => {
                    tracing::warn!(%error, "a snapshot cannot be read; run varve fsck");
                    unreadable = true;
                    continue;
                }
                row => row?,
            };
            let State::Open { directory, .. } = row.state else {
                continue;
            };
            let exists = self.directories.exists(directory);
            if exists && !self.directories.is_in_doubt(directory) {
                named.insert(directory);
            } else {
                tracing::info!(
                    key = row.info.key,
                    "dropped a snapshot that was never committed"
                );
                catalog::delete(&mut lost, &row.info.key);
            }
        }
        if !lost.is_empty() {
            self.store.write(lost, Durability::Process)?;
        }
        // A directory without a row may be that of a row that cannot be read.
        self.directories.settle(&named, !unreadable)
    }

    /// The store below.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// How trees become mounts here.
    pub fn method(&self) -> Method {
        self.images.method()
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) fn images(&self) -> &Images {
        &self.images
    }

    pub(crate) fn forks(&self) -> &Forks {
        &self.forks
    }

    pub(crate) fn directories(&self) -> &Directories {
        &self.directories
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tree of a committed snapshot.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::FailedPrecondition`] if it is not committed.
    pub fn tree(&self, name: &str) -> Result<TreeRef> {
        catalog::get(&self.store, name)?
            .tree()
            .ok_or_else(|| Error::FailedPrecondition {
                operation: "read the tree of",
                key: name.into(),
                reason: "it is not committed".into(),
            })
    }

    /// Makes a committed snapshot straight from a tree, without a writable directory: what COPY,
    /// an imported image and a merged chain are. A snapshot of that name and tree may be there
    /// already. `ingest` brings in what the tree consists of, `extra` further rows of the batch.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] if `name` has another tree; `NotFound` and `InvalidArgument` for
    /// the parent; [`Error::Capture`] for a tree with the reserved name in its root; those of the
    /// store.
    pub fn adopt(
        &self,
        ingest: Ingest<'_>,
        name: &str,
        parent: &str,
        tree: TreeRef,
        extra: Batch,
    ) -> Result<()> {
        self.adopt_labelled(ingest, (name, Labels::new()), parent, tree, extra)
    }

    /// The same with labels, for a name that is new.
    ///
    /// # Errors
    /// As [`Self::adopt`].
    pub fn adopt_labelled(
        &self,
        ingest: Ingest<'_>,
        (name, labels): (&str, Labels),
        parent: &str,
        tree: TreeRef,
        extra: Batch,
    ) -> Result<()> {
        check_key(name)?;
        self.check_root(tree, &ingest)?;
        let _changing = self.lock();
        let mut batch = Batch::new();
        if !self.is_there(name, tree)? {
            let base = self.parent_tree(parent)?;
            let usage = delta::usage(&diff(base, tree, &ingest)?);
            catalog::put(
                &mut batch,
                &Row::committed(name, parent, labels, tree, usage),
            );
        }
        batch.append(extra);
        Ok(ingest.commit(batch)?)
    }

    /// Redirects lead through a name that no tree may have (shared/spec/filesystem-stacks.md,
    /// "Hijack").
    pub(crate) fn check_root(&self, tree: TreeRef, trees: &impl TreeSource) -> Result<()> {
        let reserved = self.store.objects().nonce();
        let name = Name::new(reserved.as_bytes())?;
        if !trees.tree(tree.id)?.entries.contains_key(&name) {
            return Ok(());
        }
        Err(Error::Capture {
            path: format!("/{reserved}"),
            reason: "this name in the root directory is reserved by the store".into(),
        })
    }

    /// Whether that snapshot is there already; it is an error if it has another tree.
    fn is_there(&self, name: &str, tree: TreeRef) -> Result<bool> {
        match catalog::find(&self.store, name)? {
            None => Ok(false),
            Some(present) if present.tree() == Some(tree) => Ok(true),
            Some(_) => Err(Error::AlreadyExists { key: name.into() }),
        }
    }

    /// Commits `key` under a name that depends on the tree it turned out to be, and writes further
    /// rows in the same batch. If that snapshot is there already only the rows are written.
    /// Nothing may be mounted from the snapshot any more.
    ///
    /// # Errors
    /// As [`Snapshots::commit`].
    pub fn commit_as(
        &self,
        key: &str,
        name_and_rows: impl FnOnce(&TreeRef) -> (String, Batch),
    ) -> Result<(String, TreeRef)> {
        self.capture_and_commit(key, |row, tree, usage| {
            let (name, extra) = name_and_rows(&tree);
            check_key(&name)?;
            let mut batch = Batch::new();
            if !self.is_there(&name, tree)? {
                let parent = &row.info.parent;
                catalog::put(
                    &mut batch,
                    &Row::committed(&name, parent, Labels::new(), tree, usage),
                );
            }
            batch.append(extra);
            Ok((name, batch))
        })
    }

    /// `rows` makes the rows of the committed snapshot, under the lock.
    pub(crate) fn capture_and_commit(
        &self,
        key: &str,
        rows: impl FnOnce(&Row, TreeRef, Usage) -> Result<(String, Batch)>,
    ) -> Result<(String, TreeRef)> {
        let _committing = self.committing(key)?;
        let row = catalog::get(&self.store, key)?;
        let (directory, base) = active(&row)?;
        // Keeps sweeps away until the files of the upper are either committed or given back.
        let shield = self.store.begin();
        let ingest = self.store.begin();
        let captured = capture(
            &ingest,
            &self.directories.upper(directory),
            base,
            self.options.marks,
            Take::Move,
        )?;
        let tree = captured.tree;
        let commit = || {
            let usage = delta::usage(&diff(base, tree, &ingest)?);
            let _changing = self.lock();
            if catalog::find(&self.store, key)?.as_ref() != Some(&row) {
                return Err(Error::NotFound { key: key.into() });
            }
            let (name, mut batch) = rows(&row, tree, usage)?;
            catalog::delete(&mut batch, key);
            ingest.commit(batch)?;
            Ok(name)
        };
        let committed = commit();
        if committed.is_err() {
            captured.restore(&self.store);
        }
        drop(shield);
        let name = committed?;
        self.directories.discard(directory);
        Ok((name, tree))
    }

    /// The right to commit a snapshot, until it is dropped.
    fn committing(&self, key: &str) -> Result<Committing<'_>> {
        let mut keys = self
            .committing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !keys.insert(key.to_owned()) {
            return Err(being_committed("commit", key));
        }
        Ok(Committing {
            keys: &self.committing,
            key: key.into(),
        })
    }

    fn check_not_committing(&self, operation: &'static str, key: &str) -> Result<()> {
        let keys = self
            .committing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if keys.contains(key) {
            return Err(being_committed(operation, key));
        }
        Ok(())
    }

    pub(crate) fn parent_tree(&self, parent: &str) -> Result<Option<TreeRef>> {
        if parent.is_empty() {
            return Ok(None);
        }
        let row = catalog::get(&self.store, parent)?;
        row.tree().map(Some).ok_or_else(|| Error::InvalidArgument {
            reason: format!("parent snapshot {parent:?} is not committed"),
        })
    }

    fn open_snapshot(
        &self,
        key: &str,
        parent: &str,
        labels: Labels,
        kind: Kind,
    ) -> Result<Vec<Mount>> {
        check_key(key)?;
        check_labels(&labels)?;
        let row = {
            let _changing = self.lock();
            if catalog::find(&self.store, key)?.is_some() {
                return Err(Error::AlreadyExists { key: key.into() });
            }
            let base = self.parent_tree(parent)?;
            let root = match base {
                Some(base) => self.store.tree(base.id)?.metadata.clone(),
                None => store::Metadata::default_directory(),
            };
            let directory = self.directories.create(&root)?;
            let row = Row::open((key, kind), (parent, base), labels, directory);
            let mut batch = Batch::new();
            catalog::put(&mut batch, &row);
            if let Err(error) = self.store.write(batch, Durability::Process) {
                self.directories.discard(directory);
                return Err(error.into());
            }
            row
        };
        // From now on the row keeps what the mounts rest on.
        self.mounts_of(&row).inspect_err(|_| {
            if let Err(error) = self.remove(key) {
                tracing::warn!(key, %error, "a snapshot that cannot be mounted was left behind");
            }
        })
    }

    /// Gives up the lower directories that no snapshot of those that stay needs any more, or tells
    /// how many bytes that would free.
    pub(crate) fn drop_unused_images(
        &self,
        stays: impl Fn(&Row) -> bool,
        dry_run: bool,
    ) -> Result<u64> {
        // Whoever opens a snapshot has its row written under this lock before it uses an image.
        let _changing = self.lock();
        let mut rows = catalog::all(&self.store).collect::<Result<Vec<_>>>()?;
        rows.retain(stays);
        let trees: HashMap<&str, TreeRef> = rows
            .iter()
            .filter_map(|row| Some((row.info.key.as_str(), row.tree()?)))
            .collect();
        let mut live = HashSet::new();
        for row in &rows {
            let Some(tree) = row.tree() else { continue };
            live.insert(Shape::Flat(tree).key());
            if let Some(below) = trees.get(row.info.parent.as_str()) {
                live.insert(Shape::Stacked(*below, tree).key());
            }
        }
        for tree in containers::trees(&self.store)? {
            live.insert(Shape::Flat(tree).key());
            live.insert(Shape::Shown(tree).key());
        }
        for (tree, mapping) in containers::mapped_trees(&self.store)? {
            live.insert(mapped_key(tree, &mapping));
        }
        self.images.retain(&live, dry_run)
    }
}

impl Snapshots for Manager {
    fn prepare(&self, key: &str, parent: &str, labels: Labels) -> Result<Vec<Mount>> {
        self.open_snapshot(key, parent, labels, Kind::Active)
    }

    fn view(&self, key: &str, parent: &str, labels: Labels) -> Result<Vec<Mount>> {
        self.open_snapshot(key, parent, labels, Kind::View)
    }

    fn mounts(&self, key: &str) -> Result<Vec<Mount>> {
        self.mounts_of(&catalog::get(&self.store, key)?)
    }

    fn commit(&self, name: &str, key: &str, labels: Labels) -> Result<()> {
        check_key(name)?;
        check_labels(&labels)?;
        let free = || match catalog::find(&self.store, name)? {
            Some(_) => Err(Error::AlreadyExists { key: name.into() }),
            None => Ok(()),
        };
        // Asked twice: before the work, and under the lock.
        free()?;
        self.capture_and_commit(key, |row, tree, usage| {
            free()?;
            let mut batch = Batch::new();
            catalog::put(
                &mut batch,
                &Row::committed(name, &row.info.parent, labels, tree, usage),
            );
            Ok((name.to_owned(), batch))
        })?;
        Ok(())
    }

    fn remove(&self, key: &str) -> Result<()> {
        self.check_not_committing("remove", key)?;
        let changing = self.lock();
        let row = catalog::get(&self.store, key)?;
        // An open snapshot is nobody's parent.
        if row.tree().is_some() && catalog::has_children(&self.store, key)? {
            return Err(Error::FailedPrecondition {
                operation: "remove",
                key: key.into(),
                reason: "it is the parent of another snapshot".into(),
            });
        }
        let mut batch = Batch::new();
        catalog::delete(&mut batch, key);
        self.store.write(batch, Durability::Process)?;
        drop(changing);
        if let State::Open { directory, .. } = row.state {
            self.directories.discard(directory);
        }
        Ok(())
    }

    fn stat(&self, key: &str) -> Result<Info> {
        Ok(catalog::get(&self.store, key)?.info)
    }

    fn walk(&self, visit: &mut dyn FnMut(Info) -> Result<()>) -> Result<()> {
        catalog::all(&self.store).try_for_each(|row| visit(row?.info))
    }

    fn usage(&self, key: &str) -> Result<Usage> {
        match catalog::get(&self.store, key)?.state {
            State::Committed { usage, .. } => Ok(usage),
            State::Open { directory, .. } => self.directories.usage(directory),
        }
    }
}

/// See [`Manager::committing`].
struct Committing<'m> {
    keys: &'m Mutex<HashSet<String>>,
    key: String,
}

impl Drop for Committing<'_> {
    fn drop(&mut self) {
        self.keys
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.key);
    }
}

fn being_committed(operation: &'static str, key: &str) -> Error {
    let reason = "it is being committed".into();
    Error::FailedPrecondition {
        operation,
        key: key.into(),
        reason,
    }
}

fn active(row: &Row) -> Result<(u64, Option<TreeRef>)> {
    match row.state {
        State::Open { directory, base } if row.info.kind == Kind::Active => Ok((directory, base)),
        _ => Err(Error::FailedPrecondition {
            operation: "commit",
            key: row.info.key.clone(),
            reason: "it is not active".into(),
        }),
    }
}
