//! The key-value contract under everything that is not a file's bytes.
//!
//! Three implementations: [`rocks`] is the real one; with the feature `testing`, `memory` is a
//! strict twin for fast tests and `faulty` a seeded fault injector around either. All pass
//! `conformance`.

pub mod rocks;

#[cfg(any(test, feature = "testing"))]
pub mod conformance;
#[cfg(any(test, feature = "testing"))]
pub mod faulty;
#[cfg(any(test, feature = "testing"))]
pub mod memory;

use std::path::Path;

use crate::error::Result;
use crate::layout::Table;

/// A row as scans give it: key and value.
pub type Row = (Vec<u8>, Vec<u8>);

/// What a write waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Survives the death of the process, perhaps not that of the machine.
    Process,
    /// On disk, with everything written before it, when the call returns.
    Disk,
}

/// One change of a [`Batch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Set a value.
    Put(Table, Vec<u8>, Vec<u8>),
    /// Remove a key; a missing one is fine.
    Delete(Table, Vec<u8>),
}

/// Changes that become visible together, or not at all. Later changes of a key win.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    changes: Vec<Change>,
}

impl Batch {
    /// No changes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds "set `key` to `value`".
    pub fn put(&mut self, table: Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.changes
            .push(Change::Put(table, key.into(), value.into()));
    }

    /// Adds "remove `key`".
    pub fn delete(&mut self, table: Table, key: impl Into<Vec<u8>>) {
        self.changes.push(Change::Delete(table, key.into()));
    }

    /// Adds all changes of another batch behind these.
    pub fn append(&mut self, other: Batch) {
        self.changes.extend(other.changes);
    }

    /// Bytes of all keys and values: about what the batch takes in a log.
    pub fn bytes(&self) -> u64 {
        let length = |change: &Change| match change {
            Change::Put(_, key, value) => key.len() + value.len(),
            Change::Delete(_, key) => key.len(),
        };
        self.changes
            .iter()
            .map(|change| length(change) as u64)
            .sum()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Whether it changes something in a table.
    pub fn touches(&self, table: Table) -> bool {
        self.changes.iter().any(|change| match change {
            Change::Put(of, ..) | Change::Delete(of, _) => *of == table,
        })
    }

    /// The changes in order.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }
}

/// Ordered maps from bytes to bytes, one for each [`Table`], changed in atomic batches.
///
/// All methods may be called from any thread at any time. A read sees every batch whose `write`
/// returned before it began, wholly, and others wholly or not at all. A scan sees the state of the
/// moment in which it began.
pub trait KeyValue: Send + Sync + std::fmt::Debug {
    /// The value of a key, or `None`.
    ///
    /// # Errors
    /// [`crate::Error::Database`], [`crate::Error::DatabaseCorrupt`].
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>>;

    /// The values of several keys of one table, in their order.
    ///
    /// # Errors
    /// As [`KeyValue::get`].
    fn get_many(&self, table: Table, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>>;

    /// The rows whose keys start with `prefix`, in byte order of the keys. An error ends the scan.
    fn scan<'a>(
        &'a self,
        table: Table,
        prefix: &[u8],
    ) -> Box<dyn Iterator<Item = Result<Row>> + 'a>;

    /// Carries out a batch atomically; an error means that nothing of it is visible, now or after
    /// a restart, except that after an error of a [`Durability::Disk`] write a restart may show it.
    ///
    /// # Errors
    /// As [`KeyValue::get`].
    fn write(&self, batch: Batch, durability: Durability) -> Result<()>;

    /// Makes every earlier write durable.
    ///
    /// # Errors
    /// As [`KeyValue::get`].
    fn sync(&self) -> Result<()>;

    /// A consistent copy in a new directory, by hard links where possible.
    ///
    /// # Errors
    /// As [`KeyValue::get`]; the directory must not exist.
    fn checkpoint(&self, directory: &Path) -> Result<()>;

    /// Gives back the disk space of rows that were deleted; it needs as much as the rest takes
    /// for the time being. Nothing changes for whoever reads.
    ///
    /// # Errors
    /// As [`KeyValue::get`].
    fn compact(&self) -> Result<()>;
}
