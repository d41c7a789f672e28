//! Garbage collection: leases -> snapshots -> trees and blobs -> the store's sweep. The snapshots
//! that containerd owns are its own to remove; until then they are roots.

use std::collections::{HashMap, HashSet};

use store::sweep::{self, Mode, Roots};
use store::{Batch, Durability, Store, Table};

use crate::catalog::{self, Row, State};
use crate::containers;
use crate::error::{Error, Result};
use crate::leases::{self, Reference};
use crate::manager::Manager;

/// What a collection removed, or would remove.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Snapshots that no lease reaches.
    pub snapshots: u64,
    /// Bytes of metadata images and checkouts that no snapshot needs.
    pub image_bytes: u64,
    /// What the store gave up.
    pub store: sweep::Report,
}

/// Removes every committed snapshot that no lease reaches, then every tree and blob that nothing
/// reaches any more. Active snapshots and views are in use by definition.
///
/// # Errors
/// Those of the store; nothing that is reachable is lost whenever it ends.
pub fn collect(manager: &Manager, dry_run: bool) -> Result<Collected> {
    let store = manager.store();
    let mut collected = Collected::default();
    let mut batch = Batch::new();
    {
        let _changing = manager.lock();
        let rows = catalog::all(store).collect::<Result<Vec<_>>>()?;
        let live = live_snapshots(store, &rows)?;
        for row in rows.iter().filter(|row| !is_kept(row, &live)) {
            catalog::delete(&mut batch, &row.info.key);
            collected.snapshots += 1;
        }
        if !dry_run && !batch.is_empty() {
            store.write(batch, Durability::Disk)?;
        }
    }
    if !dry_run {
        forget_contexts(store)?;
    }
    // Not under the lock: the sweep waits for ingests to end, and those wait for the lock.
    let mode = if dry_run { Mode::DryRun } else { Mode::Delete };
    collected.store = sweep::sweep::<Error>(store, || roots(store), mode)?;
    if !dry_run {
        collected.image_bytes = manager.drop_unused_images()?;
    }
    Ok(collected)
}

/// Drops what is known of build contexts: it names blobs that no lease holds. The next build reads
/// its context once more.
fn forget_contexts(store: &Store) -> Result<()> {
    let mut batch = Batch::new();
    for row in store.rows().scan(Table::Context, b"") {
        batch.delete(Table::Context, row?.0);
    }
    if !batch.is_empty() {
        store.write(batch, Durability::Disk)?;
    }
    Ok(())
}

/// What leases and live snapshots keep.
fn roots(store: &Store) -> Result<Roots> {
    let mut roots = Roots::default();
    for lease in leases::all(store, "")? {
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
    let live = live_snapshots(store, &rows)?;
    for row in rows.iter().filter(|row| is_kept(row, &live)) {
        let base = match row.state {
            State::Open { base, .. } => base,
            State::Committed { tree, .. } => Some(tree),
        };
        roots.trees.extend(base.map(|tree| tree.id));
    }
    Ok(roots)
}

fn is_kept(row: &Row, live: &HashSet<String>) -> bool {
    matches!(row.state, State::Open { .. }) || live.contains(&row.info.key)
}

/// The committed snapshots that leases and open snapshots name, with all their ancestors.
fn live_snapshots(store: &Store, rows: &[Row]) -> Result<HashSet<String>> {
    let by_key: HashMap<&str, &Row> = rows
        .iter()
        .map(|row| (row.info.key.as_str(), row))
        .collect();
    let mut wanted: Vec<String> = Vec::new();
    for lease in leases::all(store, "")? {
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
