//! Snapshots that containerd owns: the same contract as [`crate::Manager`] keeps for builds, with
//! another life cycle, because containerd holds a global lock while it commits.
//!
//! - A commit only renames: the writable directory becomes the content of the committed snapshot
//!   as it is, and children are mounted above it. Later, in the background, it becomes a tree
//!   (`ingest`); what is mounted then keeps the directory until it is removed.
//! - Our differ unpacks a layer straight into the store ([`crate::plugin`]), then a commit has
//!   its tree already.
//! - Uppers are plain differences: no `metacopy`, no redirects, so that containerd's walking
//!   differ and other tools can read them.
//!
//! Reading order: this file (the life cycle), `row` and `index` (what is known), `ground` (what a
//! mount rests on), `ingest` (directories become trees), `plugin` (the contract).

pub mod activity;
mod clean_up;
mod ground;
mod id_mapping;
mod index;
mod ingest;
mod plugin;
pub mod quota;
mod repair;
mod row;
mod usage;
mod worker;

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use mount::Mount;
use store::{Batch, Durability, Store, Table, TreeRef, Usage, failpoint};

use crate::directories::Directories;
use crate::error::{Error, Result};
use crate::manager::Manager;
use crate::snapshots::{Info, Kind, Labels, check_key, check_labels, now};
use activity::Activity;
use ground::Ground;
pub(crate) use id_mapping::mapped_trees;
use index::Index;
pub use plugin::Plugin;
pub(crate) use repair::drop_broken;
use row::Boot;
pub(crate) use row::{Content, Id, Row, State};
use worker::Events;
pub use worker::Worker;

/// Name of the writable directories, below the root.
const CONTAINERS: &str = "containers";

/// Where the kernel tells which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// All snapshots that containerd owns, of all plugins.
#[derive(Debug)]
pub struct Containers {
    manager: Arc<Manager>,
    directories: Directories,
    boot: Boot,
    /// Held while a row's preconditions are checked and the row is written.
    changing: Mutex<()>,
    index: RwLock<Index>,
    /// Held while a directory becomes a tree.
    ingesting: Mutex<()>,
    /// Held while space is freed.
    cleaning: Mutex<()>,
    /// Whether there may be something in the store that nobody needs.
    garbage: AtomicBool,
    /// What large directories took when they were last measured.
    measured: Mutex<HashMap<u64, Usage>>,
    keeper: quota::Keeper,
    /// For the [`Worker`].
    events: Events,
    /// For whoever watches.
    activity: Activity,
}

impl Containers {
    /// Opens the snapshots of a store. Directories that no row names are thrown away.
    ///
    /// # Errors
    /// Database errors; [`Error::Io`].
    pub fn open(manager: Arc<Manager>) -> Result<Arc<Self>> {
        let store = manager.store().clone();
        let directories = Directories::open(store.clone(), CONTAINERS, manager.options().marks)?;
        let index = Index::load(&store)?;
        let text = std::fs::read_to_string(BOOT_ID).unwrap_or_default();
        let hash = blake3::hash(text.trim().as_bytes());
        let mut boot = Boot([0; 16]);
        boot.0.copy_from_slice(&hash.as_bytes()[..16]);
        let containers = Containers {
            manager,
            directories,
            boot,
            changing: Mutex::default(),
            index: RwLock::new(index),
            ingesting: Mutex::default(),
            cleaning: Mutex::default(),
            // Of a process that was killed, or of builds.
            garbage: AtomicBool::new(true),
            measured: Mutex::default(),
            keeper: quota::Keeper::default(),
            events: Events::default(),
            activity: Activity::default(),
        };
        containers.drop_torn()?;
        // Removals of an earlier process: a number that was theirs may be given out again.
        containers.flush()?;
        let named = containers.index().directories().collect();
        containers.directories.settle(&named, true)?;
        Ok(Arc::new(containers))
    }

    /// Snapshots that were committed and not flushed before the machine went down, and what lies
    /// on them. Whoever needs them unpacks them again; half of a file would be believed.
    fn drop_torn(&self) -> Result<()> {
        let mut torn: Vec<Id> = Vec::new();
        loop {
            let index = self.index();
            let is_torn = |(id, row): &(&Id, &Arc<Row>)| {
                let parent = Id::new(&id.plugin, &row.info.parent);
                let is_orphan = !row.info.parent.is_empty() && index.find(&parent).is_none();
                is_orphan
                    || match &row.state {
                        State::Committed(Content::Directory { boot, number, .. }) => {
                            *boot != self.boot || !self.directories.exists(*number)
                        }
                        State::Open { directory, .. } => !self.directories.exists(*directory),
                        State::Committed(Content::Tree(_)) => false,
                    }
            };
            torn.extend(index.all().filter(is_torn).map(|(id, _)| id.clone()));
            drop(index);
            if torn.is_empty() {
                return Ok(());
            }
            let mut batch = Batch::new();
            for id in torn.drain(..) {
                tracing::error!(snapshot = %id, "lost: it was not on disk when the machine stopped");
                batch.delete(Table::Container, id.encode());
                self.index_mut().remove(&id);
            }
            self.manager.store().write(batch, Durability::Disk)?;
        }
    }

    /// The store and its images below.
    #[must_use]
    pub fn manager(&self) -> &Arc<Manager> {
        &self.manager
    }

    fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn index_mut(&self) -> std::sync::RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn row(&self, id: &Id) -> Result<Arc<Row>> {
        self.index().get(id).cloned()
    }

    /// Writes rows, under the lock that the caller holds; [`Containers::flush`] without it makes
    /// them durable, so that several calls share one flush.
    fn write(&self, removed: Option<&Id>, written: Option<(Id, Row)>) -> Result<()> {
        let mut batch = Batch::new();
        if let Some(id) = removed {
            batch.delete(Table::Container, id.encode());
        }
        if let Some((id, row)) = &written {
            batch.put(Table::Container, id.encode(), row.encode());
        }
        self.manager.store().write(batch, Durability::Process)?;
        let mut index = self.index_mut();
        if let Some(id) = removed {
            index.remove(id);
        }
        if let Some((id, row)) = written {
            index.insert(id, Arc::new(row));
        }
        Ok(())
    }

    /// Makes every row that was written durable: before anybody is told of it.
    fn flush(&self) -> Result<()> {
        Ok(self.manager.store().flush_rows()?)
    }

    fn open_snapshot(
        &self,
        id: &Id,
        parent: &str,
        labels: Labels,
        kind: Kind,
    ) -> Result<Vec<Mount>> {
        check_key(&id.key)?;
        check_labels(&labels)?;
        let mapping = id_mapping::of_labels(&labels)?;
        if kind == Kind::Active {
            self.check_space()?;
        }
        match mapping.is_some() && !parent.is_empty() {
            // One mount of all that is below can be mapped, and there is one of a tree.
            true => self.ingest_chain(&Id::new(&id.plugin, parent))?,
            false => self.shorten(id, parent)?,
        }
        {
            let _changing = self.lock();
            if self.index().find(id).is_some() {
                return Err(Error::AlreadyExists {
                    key: id.key.clone(),
                });
            }
            let ground = Ground::below(&self.index(), &id.plugin, parent)?;
            let mut root = self.root_attributes(&ground)?;
            if let Some(mapping) = &mapping {
                root = id_mapping::mapped(root, mapping)?;
            }
            let directory = self.directories.create(&root)?;
            failpoint::passed("open.directory-made");
            let info = Info::new(&id.key, parent, kind, labels);
            let state = State::Open {
                directory,
                applied: None,
                ground: ground.told(),
            };
            let written = self.write(None, Some((id.clone(), Row { info, state })));
            if let Err(error) = written {
                self.directories.discard(directory);
                return Err(error);
            }
        }
        failpoint::passed("open.row-written");
        // Flushed a moment later: a loss of power takes what was written to it meanwhile as well.
        self.events.opened();
        self.mounts_of(id).inspect_err(|_| {
            if let Err(error) = self.remove(id) {
                tracing::warn!(snapshot = %id, %error, "a snapshot without mounts is left");
            }
        })
    }

    /// Makes the committed snapshot `name` of the active one `id`. `parent`, unless it is empty, is
    /// put below one that was prepared on nothing.
    fn commit(&self, id: &Id, name: &Id, parent: &str, labels: Labels) -> Result<()> {
        check_key(&name.key)?;
        check_labels(&labels)?;
        let taken = |index: &Index| index.find(name).is_some();
        let row = {
            let _changing = self.lock();
            let row = self.row(id)?;
            if taken(&self.index()) {
                return Err(Error::AlreadyExists {
                    key: name.key.clone(),
                });
            }
            let content = self.committed_content(id, &row)?;
            let parent = self.checked_parent(id, &row, parent)?;
            let info = Info::new(&name.key, &parent, Kind::Committed, labels);
            let state = State::Committed(content);
            self.write(Some(id), Some((name.clone(), Row { info, state })))?;
            row
        };
        failpoint::passed("commit.row-written");
        self.discard_unused(&row);
        self.events.committed();
        self.flush()?;
        failpoint::passed("commit.flushed");
        Ok(())
    }

    /// What an active snapshot becomes.
    fn committed_content(&self, id: &Id, row: &Row) -> Result<Content> {
        match row.state {
            State::Open {
                directory, applied, ..
            } if row.info.kind == Kind::Active => match applied {
                Some(whole) if self.directories.is_empty(directory)? => Ok(Content::Tree(whole)),
                _ => Ok(Content::Directory {
                    number: directory,
                    applied,
                    boot: self.boot,
                }),
            },
            _ => Err(Error::FailedPrecondition {
                operation: "commit",
                key: id.key.clone(),
                reason: "it is not active".into(),
            }),
        }
    }

    /// The parent of what is committed.
    fn checked_parent(&self, id: &Id, row: &Row, wanted: &str) -> Result<String> {
        let present = &row.info.parent;
        if wanted.is_empty() || wanted == present {
            return Ok(present.clone());
        }
        if !present.is_empty() {
            return Err(Error::InvalidArgument {
                reason: format!("snapshot {:?} has the parent {present:?} already", id.key),
            });
        }
        let refused = |key: &str, reason: &str| Error::FailedPrecondition {
            operation: "commit",
            key: key.into(),
            reason: reason.into(),
        };
        let parent = self.row(&Id::new(&id.plugin, wanted))?;
        if !matches!(parent.state, State::Committed(_)) {
            return Err(refused(&id.key, "its new parent is not committed"));
        }
        if row.tree().is_some() {
            // What it hides of the parent was dropped when it was unpacked on nothing.
            return Err(refused(&id.key, "it was unpacked without its parent"));
        }
        Ok(wanted.into())
    }

    fn remove(&self, id: &Id) -> Result<()> {
        let row = {
            let _changing = self.lock();
            let row = self.row(id)?;
            if self.index().has_children(id) {
                return Err(Error::FailedPrecondition {
                    operation: "remove",
                    key: id.key.clone(),
                    reason: "it is the parent of another snapshot".into(),
                });
            }
            self.write(Some(id), None)?;
            row
        };
        failpoint::passed("remove.row-deleted");
        self.discard_unused(&row);
        failpoint::passed("remove.directory-discarded");
        if row.may_leave_garbage() {
            self.note_garbage();
        }
        self.events.removed();
        // Not flushed: a row that comes back after a loss of power has no directory any more, or is
        // one that containerd's next collection does not know.
        Ok(())
    }

    /// Gives up directories of a row that is gone, as far as no other row needs them.
    fn discard_unused(&self, row: &Row) {
        let _changing = self.lock();
        let index = self.index();
        for number in row.directories() {
            if !index.uses(number) {
                self.measured().remove(&number);
                self.directories.discard(number);
            }
        }
    }

    /// Changes labels as containerd's field masks say: no path replaces all of them.
    fn update(&self, id: &Id, labels: &Labels, paths: &[String]) -> Result<Info> {
        let changed = {
            let _changing = self.lock();
            let mut row = Row::clone(&*self.row(id)?);
            let present = &mut row.info.labels;
            if paths.is_empty() {
                present.clone_from(labels);
            }
            for path in paths {
                if path == "labels" {
                    present.clone_from(labels);
                } else if let Some(name) = path.strip_prefix("labels.") {
                    let value = labels.get(name).cloned().unwrap_or_default();
                    present.insert(name.to_owned(), value);
                } else {
                    return Err(Error::InvalidArgument {
                        reason: format!("cannot update {path} field on snapshot {:?}", id.key),
                    });
                }
            }
            // An empty value is how a label is deleted.
            present.retain(|_, value| !value.is_empty());
            check_labels(present)?;
            row.info.updated = now();
            let info = row.info.clone();
            self.write(None, Some((id.clone(), row)))?;
            info
        };
        self.flush()?;
        Ok(changed)
    }
}

/// The trees of all snapshots that containerd owns.
pub fn trees(store: &Store) -> Result<Vec<TreeRef>> {
    let mut trees = Vec::new();
    for row in rows(store) {
        trees.extend(row?.roots());
    }
    Ok(trees)
}

/// The rows of all snapshots that containerd owns, as they are stored.
fn rows(store: &Store) -> impl Iterator<Item = Result<Row>> + '_ {
    store.rows().scan(Table::Container, b"").map(|row| {
        let (key, value) = row?;
        let id = Id::decode(&key)?;
        Ok(Row::decode(&id.key, &value)?)
    })
}
