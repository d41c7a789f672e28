//! All rows in memory, with what is asked of them together: a containerd of a busy node asks for
//! everything it has every ten seconds.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use store::{Store, Table};

use super::row::{Content, Id, Row, State};
use crate::error::{Error, Result};

/// The rows as they are in the store.
#[derive(Debug, Default)]
pub(super) struct Index {
    rows: BTreeMap<Id, Arc<Row>>,
    children: HashMap<Id, usize>,
    /// How many rows need a directory.
    users: HashMap<u64, usize>,
}

impl Index {
    /// Reads all rows. Those that cannot be read are left out, with a warning, for a repair.
    pub(super) fn load(store: &Store) -> Result<Self> {
        let mut index = Index::default();
        for row in store.rows().scan(Table::Container, b"") {
            let (key, value) = row?;
            let row = Id::decode(&key).and_then(|id| Ok((Row::decode(&id.key, &value)?, id)));
            match row {
                Ok((row, id)) => index.insert(id, Arc::new(row)),
                Err(error) => tracing::error!(%error, "a snapshot is lost; run varve fsck"),
            }
        }
        Ok(index)
    }

    pub(super) fn find(&self, id: &Id) -> Option<&Arc<Row>> {
        self.rows.get(id)
    }

    pub(super) fn get(&self, id: &Id) -> Result<&Arc<Row>> {
        self.find(id).ok_or_else(|| Error::NotFound {
            key: id.key.clone(),
        })
    }

    /// Adds a row, or replaces the one that it has.
    pub(super) fn insert(&mut self, id: Id, row: Arc<Row>) {
        self.count(&id, &row, true);
        if let Some(old) = self.rows.insert(id.clone(), row) {
            self.count(&id, &old, false);
        }
    }

    pub(super) fn remove(&mut self, id: &Id) {
        if let Some(row) = self.rows.remove(id) {
            self.count(id, &row, false);
        }
    }

    fn count(&mut self, id: &Id, row: &Row, is_new: bool) {
        if !row.info.parent.is_empty() {
            let parent = Id::new(&id.plugin, &row.info.parent);
            adjust(&mut self.children, parent, is_new);
        }
        for number in row.directories() {
            adjust(&mut self.users, number, is_new);
        }
    }

    pub(super) fn has_children(&self, id: &Id) -> bool {
        self.children.contains_key(id)
    }

    /// Whether some row needs this directory.
    pub(super) fn uses(&self, directory: u64) -> bool {
        self.users.contains_key(&directory)
    }

    /// The directories that rows need.
    pub(super) fn directories(&self) -> impl Iterator<Item = u64> + '_ {
        self.users.keys().copied()
    }

    /// Everything, in the order of plugins and keys.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Id, &Arc<Row>)> {
        self.rows.iter()
    }

    /// What belongs to one plugin, in the order of keys.
    pub(super) fn of_plugin(&self, plugin: &str) -> impl Iterator<Item = &Arc<Row>> {
        let first = Id::new(plugin, "");
        self.rows
            .range(first..)
            .take_while(move |(id, _)| id.plugin == plugin)
            .map(|(_, row)| row)
    }

    /// The open snapshot whose writable directory has this number.
    pub(super) fn of_directory(&self, number: u64) -> Option<(&Id, &Arc<Row>)> {
        self.rows.iter().find(
            |(_, row)| matches!(row.state, State::Open { directory, .. } if directory == number),
        )
    }

    /// Committed snapshots that are not trees yet but could become so: what they lie on is one.
    pub(super) fn ingestible(&self) -> Vec<Id> {
        let is_tree = |id: &Id| {
            let state = self.find(id).map(|row| &row.state);
            matches!(state, Some(State::Committed(Content::Tree(_))))
        };
        let waits = |(id, row): (&Id, &Arc<Row>)| {
            let State::Committed(Content::Directory { applied, .. }) = &row.state else {
                return None;
            };
            let parent = &row.info.parent;
            let has_ground =
                applied.is_some() || parent.is_empty() || is_tree(&Id::new(&id.plugin, parent));
            has_ground.then(|| id.clone())
        };
        self.rows.iter().filter_map(waits).collect()
    }
}

fn adjust<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: K, up: bool) {
    let count = counts.entry(key);
    match (up, count) {
        (true, count) => *count.or_default() += 1,
        (false, std::collections::hash_map::Entry::Occupied(mut count)) => {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        (false, std::collections::hash_map::Entry::Vacant(_)) => {}
    }
}
