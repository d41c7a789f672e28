//! What a repair does about the snapshots that containerd owns.

use std::collections::{BTreeMap, BTreeSet};

use store::fsck::Broken;
use store::{Batch, Store, Table};

use super::row::{Id, Row};
use crate::error::Result;

/// Adds to a batch that snapshots go whose tree cannot be trusted, those that rest on them, and
/// rows that cannot be read. Tells which. Their directories go when the snapshots are next opened.
///
/// # Errors
/// Database errors.
pub(crate) fn drop_broken(
    store: &Store,
    broken: &Broken,
    batch: &mut Batch,
) -> Result<Vec<String>> {
    let mut rows: BTreeMap<Id, Row> = BTreeMap::new();
    let mut lost: BTreeSet<Id> = BTreeSet::new();
    let mut unreadable = Vec::new();
    for row in store.rows().scan(Table::Container, b"") {
        let (key, value) = row?;
        match Id::decode(&key).and_then(|id| Ok((Row::decode(&id.key, &value)?, id))) {
            Ok((row, id)) => drop(rows.insert(id, row)),
            Err(_) => {
                unreadable.push(String::from_utf8_lossy(&key).replace('\0', ":"));
                batch.delete(Table::Container, key);
            }
        }
    }
    let mut children: BTreeMap<Id, Vec<&Id>> = BTreeMap::new();
    let mut waiting = Vec::new();
    for (id, row) in &rows {
        let mut is_broken = false;
        for tree in row.roots() {
            is_broken |= broken.trees.contains(&tree.id) || !store.has_tree(tree.id)?;
        }
        let parent = Id::new(&id.plugin, &row.info.parent);
        let is_orphan = !parent.key.is_empty() && !rows.contains_key(&parent);
        if is_broken || is_orphan {
            waiting.push(id);
        }
        children.entry(parent).or_default().push(id);
    }
    while let Some(id) = waiting.pop() {
        if lost.insert(id.clone()) {
            batch.delete(Table::Container, id.encode());
            waiting.extend(children.get(id).into_iter().flatten());
        }
    }
    let lost = lost.into_iter().map(|id| id.to_string());
    Ok(lost.chain(unreadable).collect())
}
