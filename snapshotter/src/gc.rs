//! Garbage collection: leases -> snapshots -> trees and blobs -> the store's sweep. The snapshots
//! that containerd owns are its own to remove; until then they are roots.

use std::collections::{HashMap, HashSet};

use store::sweep::{self, Mode, Roots};
use store::{
    Batch, BlobId, Content, Durability, Entry, Leaf, Looking, Store, Table, TreeId, TreeSource,
};

use crate::catalog::{self, Row, State};
use crate::containers;
use crate::error::{Error, Result};
use crate::leases::{self, Lease, Reference};
use crate::manager::Manager;

/// What a collection removed, or would remove.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Snapshots that no lease reaches.
    pub snapshots: u64,
    /// Bytes on disk of metadata images and checkouts that no snapshot needs.
    pub image_bytes: u64,
    /// What the store gave up.
    pub store: sweep::Report,
}

/// What is given up together with a collection: leases, and rows that go with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Ids of leases, which keep nothing any more.
    pub leases: HashSet<String>,
    /// Other rows.
    pub rows: Vec<(Table, Vec<u8>)>,
    /// Leases that are given up if they are still what they were, each with a row that goes with
    /// it: what somebody has named again meanwhile stays.
    pub unchanged: Vec<(Lease, (Table, Vec<u8>))>,
}

impl Forgotten {
    /// Which leases go, as things are.
    fn leases(&self, store: &Store) -> Result<HashSet<String>> {
        let mut gone = self.leases.clone();
        for (lease, _) in &self.unchanged {
            if leases::find(store, &lease.id)?.as_ref() == Some(lease) {
                gone.insert(lease.id.clone());
            }
        }
        Ok(gone)
    }

    /// Deletes these leases and what goes with them.
    fn batch(&self, gone: &HashSet<String>) -> Batch {
        let mut batch = Batch::new();
        for lease in gone {
            leases::delete(&mut batch, lease);
        }
        let unchanged = self.unchanged.iter();
        let unchanged = unchanged.filter(|(lease, _)| gone.contains(&lease.id));
        for (table, key) in self.rows.iter().chain(unchanged.map(|(_, row)| row)) {
            batch.delete(*table, key.as_slice());
        }
        batch
    }
}

/// Removes every committed snapshot that no lease reaches, then every tree and blob that nothing
/// reaches any more. Active snapshots and views are in use by definition, and what running work has
/// looked up or made stays too ([`store::Work`]), so this goes on beside it.
///
/// # Errors
/// Those of the store; nothing that is reachable is lost whenever it ends.
pub fn collect(manager: &Manager, dry_run: bool) -> Result<Collected> {
    collect_without(manager, &Forgotten::default(), dry_run)
}

/// The same after giving up some leases, in one batch with the snapshots that they held. A dry run
/// tells exactly what would go.
///
/// # Errors
/// As [`collect`].
pub fn collect_without(
    manager: &Manager,
    forgotten: &Forgotten,
    dry_run: bool,
) -> Result<Collected> {
    let store = manager.store();
    let _looking = Looking::begin();
    let mut collected = Collected::default();
    let mut gone = HashSet::new();
    {
        let _changing = manager.lock();
        let frozen = store.freeze();
        let give_up = || {
            gone = forgotten.leases(store)?;
            let mut batch = forgotten.batch(&gone);
            let rows = catalog::all(store).collect::<Result<Vec<_>>>()?;
            let live = live_snapshots(store, &rows, &gone, &frozen.snapshots())?;
            for row in rows.iter().filter(|row| !is_kept(row, &live)) {
                catalog::delete(&mut batch, &row.info.key);
                collected.snapshots += 1;
            }
            Ok(match dry_run {
                true => Batch::new(),
                false => batch,
            })
        };
        // The sweep flushes it before it takes a file.
        store.change_alone::<Error>(Durability::Process, give_up)?;
    }
    if !dry_run {
        // They are gone now; if there is one of these names, somebody has made it since.
        gone.clear();
    }
    let mode = if dry_run { Mode::DryRun } else { Mode::Delete };
    // What should go is gone, so that every row that is there now is kept: one that was made since
    // may have lost its lease again, and is for the next collection.
    let all_stay = !dry_run;
    let roots = |claimed: &HashSet<String>| roots(store, &gone, claimed, all_stay);
    collected.store = sweep::sweep::<Error>(store, roots, mode)?;
    let rows = catalog::all(store).collect::<Result<Vec<_>>>()?;
    let live = live_snapshots(store, &rows, &gone, &store.freeze().snapshots())?;
    // One that was made meanwhile is kept by its images being in use.
    let stays = |row: &Row| !dry_run || is_kept(row, &live);
    collected.image_bytes = manager.drop_unused_images(stays, dry_run)?;
    Ok(collected)
}

/// What leases and live snapshots keep, or, if `all_stay`, leases and all snapshots.
fn roots(
    store: &Store,
    gone: &HashSet<String>,
    claimed: &HashSet<String>,
    all_stay: bool,
) -> Result<Roots> {
    let mut roots = Roots::default();
    for lease in held(store, gone)? {
        for reference in lease.references {
            match reference {
                Reference::Snapshot(_) => {}
                Reference::Tree(id) => roots.trees.push(id),
                Reference::Blob(id) => roots.blobs.push(id),
            }
        }
    }
    let containers = containers::trees(store)?.into_iter();
    roots.trees.extend(containers.map(|tree| tree.id));
    let rows = catalog::all(store).collect::<Result<Vec<_>>>()?;
    let live = live_snapshots(store, &rows, gone, claimed)?;
    for row in rows.iter().filter(|row| all_stay || is_kept(row, &live)) {
        let base = match row.state {
            State::Open { base, .. } => base,
            State::Committed { tree, .. } => Some(tree),
        };
        roots.trees.extend(base.map(|tree| tree.id));
    }
    Ok(roots)
}

fn held(store: &Store, gone: &HashSet<String>) -> Result<Vec<Lease>> {
    let mut held = leases::all(store, "")?;
    held.retain(|lease| !gone.contains(&lease.id));
    Ok(held)
}

fn is_kept(row: &Row, live: &HashSet<String>) -> bool {
    matches!(row.state, State::Open { .. }) || live.contains(&row.info.key)
}

/// The committed snapshots that leases, claims and open snapshots name, with all their ancestors.
fn live_snapshots(
    store: &Store,
    rows: &[Row],
    gone: &HashSet<String>,
    claimed: &HashSet<String>,
) -> Result<HashSet<String>> {
    let by_key: HashMap<&str, &Row> = rows
        .iter()
        .map(|row| (row.info.key.as_str(), row))
        .collect();
    let mut wanted: Vec<String> = claimed.iter().cloned().collect();
    for lease in held(store, gone)? {
        wanted.extend(
            lease
                .references
                .into_iter()
                .filter_map(|reference| match reference {
                    Reference::Snapshot(key) => Some(key),
                    Reference::Tree(_) | Reference::Blob(_) => None,
                }),
        );
    }
    let open = rows
        .iter()
        .filter(|row| matches!(row.state, State::Open { .. }));
    wanted.extend(open.map(|row| row.info.parent.clone()));
    let mut live = HashSet::new();
    while let Some(key) = wanted.pop() {
        if let Some(row) = by_key.get(key.as_str())
            && live.insert(key)
        {
            wanted.push(row.info.parent.clone());
        }
    }
    Ok(live)
}

/// Counts what trees and blobs take on disk, each once: what was counted for one owner costs the
/// next one nothing.
#[derive(Debug)]
pub struct Accounting<'s> {
    store: &'s Store,
    block_bytes: u64,
    trees: HashSet<TreeId>,
    blobs: HashSet<BlobId>,
}

impl<'s> Accounting<'s> {
    /// Nothing is counted yet.
    ///
    /// # Errors
    /// The file system does not tell its block size.
    pub fn new(store: &'s Store) -> Result<Self> {
        let root = store.root();
        let found = std::fs::metadata(root).map_err(|e| Error::io("stat", root, e))?;
        Ok(Accounting {
            store,
            block_bytes: std::os::unix::fs::MetadataExt::blksize(&found).max(1),
            trees: HashSet::new(),
            blobs: HashSet::new(),
        })
    }

    fn blob_of(&mut self, blob: BlobId, length: u64) -> u64 {
        match self.blobs.insert(blob) {
            true => length.next_multiple_of(self.block_bytes),
            false => 0,
        }
    }

    /// Bytes on disk of the files of a tree that were not counted before.
    ///
    /// # Errors
    /// Those of reading trees.
    pub fn tree(&mut self, id: TreeId) -> Result<u64> {
        let _looking = Looking::begin();
        let mut bytes = 0;
        let mut waiting = vec![id];
        while let Some(id) = waiting.pop() {
            if !self.trees.insert(id) {
                continue;
            }
            let tree = match self.store.tree(id) {
                // Collected while it is looked at.
                Err(store::Error::TreeMissing { .. }) => continue,
                tree => tree?,
            };
            for entry in tree.entries.values() {
                match entry {
                    Entry::Directory(child) => waiting.push(child.id),
                    Entry::Leaf(Leaf {
                        content: Content::File { blob, size },
                        ..
                    }) => bytes += self.blob_of(*blob, *size),
                    Entry::Leaf(_) => {}
                }
            }
        }
        Ok(bytes)
    }

    /// Bytes on disk of a blob, if it was not counted before.
    ///
    /// # Errors
    /// Database errors.
    pub fn blob(&mut self, id: BlobId) -> Result<u64> {
        let _looking = Looking::begin();
        let length = self.store.blob_size(id)?.unwrap_or(0);
        Ok(self.blob_of(id, length))
    }
}
