//! What `fsck` does about damage: rows that rest on broken trees and blobs go, so that what they
//! stood for is a cache miss, made again when it is needed.

use std::collections::{HashMap, HashSet};

use store::fsck::{self, Broken, Options, Report};
use store::{Batch, Store, Table};

use crate::catalog::{self, Row};
use crate::error::{Error, Result};
use crate::leases::{self, Reference};
use crate::manager::Manager;

/// What a repair did.
#[derive(Clone, Debug, Default)]
pub struct Repaired {
    /// What was wrong with the store; all of it is gone now.
    pub report: Report,
    /// Committed snapshots that were given up.
    pub snapshots: Vec<String>,
}

/// Verifies everything and takes out what is broken, with every snapshot that rests on it.
///
/// # Errors
/// Those of the store; nothing is changed then.
pub fn repair(manager: &Manager, options: &Options<'_>) -> Result<Repaired> {
    let store = manager.store();
    let mut given_up = Vec::new();
    let report = fsck::repair::<Error>(store, options, |broken| {
        let mut batch = Batch::new();
        given_up = drop_snapshots(store, broken, &mut batch)?;
        drop_references(store, broken, &mut batch)?;
        // Derived data that may name a lost blob; it costs a second reading of the context.
        for row in store.rows().scan(Table::Context, b"") {
            batch.delete(Table::Context, row?.0);
        }
        Ok(batch)
    })?;
    Ok(Repaired { report, snapshots: given_up })
}

/// Drops snapshots whose tree cannot be trusted, and those that rest on them.
fn drop_snapshots(store: &Store, broken: &Broken, batch: &mut Batch) -> Result<Vec<String>> {
    let rows = catalog::all(store).collect::<Result<Vec<_>>>()?;
    let mut children: HashMap<&str, Vec<&Row>> = HashMap::new();
    for row in &rows {
        children.entry(row.info.parent.as_str()).or_default().push(row);
    }
    let mut lost = HashSet::new();
    let mut rest = Vec::new();
    for row in &rows {
        if let Some(tree) = row.tree()
            && (broken.trees.contains(&tree.id) || !store.has_tree(tree.id)?)
        {
            rest.push(row);
        }
    }
    while let Some(row) = rest.pop() {
        if lost.insert(row.info.key.clone()) {
            catalog::delete(batch, &row.info.key);
            rest.extend(children.get(row.info.key.as_str()).into_iter().flatten());
        }
    }
    let mut lost: Vec<String> = lost.into_iter().collect();
    lost.sort();
    Ok(lost)
}

/// Takes broken trees and blobs out of leases: a sweep refuses to run below a missing tree.
fn drop_references(store: &Store, broken: &Broken, batch: &mut Batch) -> Result<()> {
    for mut lease in leases::all(store, "")? {
        let before = lease.references.len();
        lease.references.retain(|reference| match reference {
            Reference::Tree(id) => !broken.trees.contains(id),
            Reference::Blob(id) => !broken.blobs.contains(id),
            Reference::Snapshot(_) => true,
        });
        if lease.references.len() != before {
            leases::put(batch, &lease);
        }
    }
    Ok(())
}
