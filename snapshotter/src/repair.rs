//! What `fsck` does about damage: rows that rest on broken trees and blobs go, so that what they
//! stood for is a cache miss, made again when it is needed.

use std::collections::{BTreeSet, HashMap, HashSet};

use store::fsck::{self, Broken, Options, Report};
use store::{Batch, Store, Table};

use crate::catalog::{self, Row, State};
use crate::containers;
use crate::error::{Error, Result};
use crate::leases::{self, Reference};
use crate::manager::Manager;

/// What a repair did.
#[derive(Clone, Debug, Default)]
pub struct Repaired {
    /// What was wrong with the store; all of it is gone now.
    pub report: Report,
    /// Snapshots that were given up, sorted.
    pub snapshots: Vec<String>,
}

/// Verifies everything and takes out what is broken, with every snapshot that rests on it.
///
/// # Errors
/// Those of the store; nothing is changed then.
pub fn repair(manager: &Manager, options: &Options<'_>) -> Result<Repaired> {
    let store = manager.store();
    let (mut given_up, mut directories) = (Vec::new(), Vec::new());
    let report = fsck::repair::<Error>(store, options, |broken| {
        let mut batch = Batch::new();
        given_up = drop_snapshots(store, broken, &mut batch, &mut directories)?;
        given_up.extend(containers::drop_broken(store, broken, &mut batch)?);
        drop_references(store, broken, &mut batch)?;
        // Derived data that may name a lost blob; it costs a second reading of the context.
        for row in store.rows().scan(Table::Context, b"") {
            batch.delete(Table::Context, row?.0);
        }
        Ok(batch)
    })?;
    directories
        .into_iter()
        .for_each(|directory| manager.directories().discard(directory));
    Ok(Repaired {
        report,
        snapshots: given_up,
    })
}

/// Drops snapshots whose tree cannot be trusted, those that rest on them, and rows that cannot be
/// read.
///
/// The writable directories of those that were open are added to `directories`.
fn drop_snapshots(
    store: &Store,
    broken: &Broken,
    batch: &mut Batch,
    directories: &mut Vec<u64>,
) -> Result<Vec<String>> {
    let (mut rows, mut lost) = (Vec::new(), BTreeSet::new());
    for row in store.rows().scan(Table::Snapshot, b"") {
        let (key, value) = row?;
        let name = String::from_utf8_lossy(&key).into_owned();
        match catalog::decode(&name, &value) {
            Ok(row) => rows.push(row),
            Err(_) => {
                batch.delete(Table::Snapshot, key);
                lost.insert(name);
            }
        }
    }
    let keys: HashSet<&str> = rows.iter().map(|row| row.info.key.as_str()).collect();
    let mut children: HashMap<&str, Vec<&Row>> = HashMap::new();
    let mut waiting = Vec::new();
    for row in &rows {
        let parent = row.info.parent.as_str();
        children.entry(parent).or_default().push(row);
        let tree_is_broken = match row.tree() {
            Some(tree) => broken.trees.contains(&tree.id) || !store.has_tree(tree.id)?,
            None => false,
        };
        if tree_is_broken || !(parent.is_empty() || keys.contains(parent)) {
            waiting.push(row);
        }
    }
    while let Some(row) = waiting.pop() {
        if lost.insert(row.info.key.clone()) {
            catalog::delete(batch, &row.info.key);
            if let State::Open { directory, .. } = row.state {
                directories.push(directory);
            }
            waiting.extend(children.get(row.info.key.as_str()).into_iter().flatten());
        }
    }
    Ok(lost.into_iter().collect())
}

/// Takes broken trees and blobs out of leases: a sweep refuses to run below a missing tree. Leases
/// that cannot be read keep nothing any more.
fn drop_references(store: &Store, broken: &Broken, batch: &mut Batch) -> Result<()> {
    for row in store.rows().scan(Table::Lease, b"") {
        let (key, value) = row?;
        let Ok(mut lease) = leases::decode(&String::from_utf8_lossy(&key), &value) else {
            batch.delete(Table::Lease, key);
            continue;
        };
        let before = lease.references.len();
        let mut kept = Vec::with_capacity(before);
        for reference in lease.references {
            let sound = match &reference {
                Reference::Tree(id) => !broken.trees.contains(id) && store.has_tree(*id)?,
                Reference::Blob(id) => {
                    !broken.blobs.contains(id) && store.blob_size(*id)?.is_some()
                }
                Reference::Snapshot(_) => true,
            };
            if sound {
                kept.push(reference);
            }
        }
        lease.references = kept;
        if lease.references.len() != before {
            leases::put(batch, &lease);
        }
    }
    Ok(())
}
