//! The strict twin of [`super::rocks`] in memory: for fast tests, stricter where it can be.
//!
//! A [`Medium`] stands for the disk, a [`Memory`] for an open database on it. Only one may be open
//! at a time; what was not yet durable is lost when the medium loses power; and what real
//! databases merely make slow (huge keys, empty keys) is an error here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Batch, Change, Durability, KeyValue, Row};
use crate::codec::{Decoder, Encoder};
use crate::error::{Error, Result};
use crate::layout::Table;

/// Longest key in bytes: RocksDB takes more, but keys above this are a mistake of the caller.
pub const KEY_LENGTH_MAX: usize = 8 * 1024;

/// Longest value in bytes: bodies belong into object files.
pub const VALUE_LENGTH_MAX: usize = 64 * 1024 * 1024;

/// File of a checkpoint directory that holds all rows.
const CHECKPOINT_FILE: &str = "rows";

type Rows = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// What survives the closing of a [`Memory`]: the disk under it.
#[derive(Clone, Debug, Default)]
pub struct Medium(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What reads see.
    rows: Rows,
    /// Batches that are not yet durable, oldest first.
    volatile: Vec<Batch>,
    /// What a loss of power leaves.
    durable: Rows,
    /// Raised by a loss of power: databases opened before it are dead.
    generation: u64,
    open: bool,
}

impl Medium {
    /// An empty medium.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens the database on this medium.
    ///
    /// # Errors
    /// [`Error::Locked`] while it is open already.
    pub fn open(&self) -> Result<Memory> {
        let mut state = self.lock();
        if state.open {
            return Err(Error::Locked {
                path: place(),
                holder: Some(std::process::id()),
            });
        }
        state.open = true;
        Ok(Memory {
            medium: self.clone(),
            generation: state.generation,
        })
    }

    /// The machine stops at once: whatever was not durable is gone, and an open database answers
    /// every call with an error from now on.
    pub fn lose_power(&self) {
        let mut state = self.lock();
        state.rows = state.durable.clone();
        state.volatile.clear();
        state.generation += 1;
        state.open = false;
    }

    /// A medium with the rows that [`KeyValue::checkpoint`] of a [`Memory`] left in `directory`.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Undecodable`].
    pub fn from_checkpoint(directory: &Path) -> Result<Self> {
        let path = directory.join(CHECKPOINT_FILE);
        let bytes = std::fs::read(&path).map_err(|e| Error::io("read", &path, e))?;
        let mut reader = Decoder::new("checkpoint", &bytes);
        let mut rows = Rows::new();
        for _ in 0..reader.number()? {
            let table = Table::ALL.get(usize::from(reader.byte()?)).copied();
            let table = table.ok_or_else(|| reader.error("it names an unknown table"))?;
            let key = reader.string()?.to_vec();
            rows.insert((table, key), reader.string()?.to_vec());
        }
        reader.finish()?;
        let state = State {
            rows: rows.clone(),
            durable: rows,
            ..State::default()
        };
        Ok(Medium(Arc::new(Mutex::new(state))))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open database on a [`Medium`]; dropping it closes it.
#[derive(Debug)]
pub struct Memory {
    medium: Medium,
    generation: u64,
}

impl Memory {
    /// A database on an empty medium of its own.
    pub fn new() -> Self {
        let medium = Medium::new();
        medium.lock().open = true;
        Memory {
            medium,
            generation: 0,
        }
    }

    /// The medium under this database.
    pub fn medium(&self) -> Medium {
        self.medium.clone()
    }

    fn state(&self, operation: &'static str) -> Result<MutexGuard<'_, State>> {
        let state = self.medium.lock();
        if state.generation != self.generation {
            return Err(refused(operation, "the machine has lost its power".into()));
        }
        Ok(state)
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let mut state = self.medium.lock();
        if state.generation == self.generation {
            state.open = false;
        }
    }
}

impl KeyValue for Memory {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        check_key("get", key)?;
        Ok(self.state("get")?.rows.get(&(table, key.to_vec())).cloned())
    }

    fn get_many(&self, table: Table, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
        keys.iter().try_for_each(|key| check_key("get", key))?;
        let state = self.state("get")?;
        Ok(keys
            .iter()
            .map(|key| state.rows.get(&(table, key.to_vec())).cloned())
            .collect())
    }

    fn scan<'a>(
        &'a self,
        table: Table,
        prefix: &[u8],
    ) -> Box<dyn Iterator<Item = Result<Row>> + 'a> {
        let state = match self.state("scan") {
            Ok(state) => state,
            Err(error) => return Box::new(std::iter::once(Err(error))),
        };
        let rows: Vec<Result<Row>> = state
            .rows
            .range((table, prefix.to_vec())..)
            .take_while(|((t, key), _)| *t == table && key.starts_with(prefix))
            .map(|((_, key), value)| Ok((key.clone(), value.clone())))
            .collect();
        Box::new(rows.into_iter())
    }

    fn write(&self, batch: Batch, durability: Durability) -> Result<()> {
        for change in batch.changes() {
            match change {
                Change::Put(_, key, value) => {
                    check_key("write", key)?;
                    if value.len() > VALUE_LENGTH_MAX {
                        let message = format!("a value of {} bytes is too long", value.len());
                        return Err(refused("write", message));
                    }
                }
                Change::Delete(_, key) => check_key("write", key)?,
            }
        }
        let mut state = self.state("write")?;
        apply(&batch, &mut state.rows);
        state.volatile.push(batch);
        if durability == Durability::Disk {
            make_durable(&mut state);
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        make_durable(&mut *self.state("sync")?);
        Ok(())
    }

    fn checkpoint(&self, directory: &Path) -> Result<()> {
        let state = self.state("checkpoint")?;
        std::fs::create_dir(directory).map_err(|e| Error::io("create", directory, e))?;
        let mut bytes = Encoder::new();
        bytes.number(state.rows.len() as u64);
        for ((table, key), value) in &state.rows {
            bytes.byte(*table as u8).string(key).string(value);
        }
        let path = directory.join(CHECKPOINT_FILE);
        std::fs::write(&path, bytes.finish()).map_err(|e| Error::io("write", path, e))
    }

    /// Deleted rows take no space here.
    fn compact(&self) -> Result<()> {
        self.state("compact").map(drop)
    }
}

fn apply(batch: &Batch, rows: &mut Rows) {
    for change in batch.changes() {
        match change {
            Change::Put(table, key, value) => {
                rows.insert((*table, key.clone()), value.clone());
            }
            Change::Delete(table, key) => {
                rows.remove(&(*table, key.clone()));
            }
        }
    }
}

fn make_durable(state: &mut State) {
    for batch in std::mem::take(&mut state.volatile) {
        apply(&batch, &mut state.durable);
    }
}

fn check_key(operation: &'static str, key: &[u8]) -> Result<()> {
    match key.len() {
        0 => Err(refused(operation, "the key is empty".into())),
        length if length > KEY_LENGTH_MAX => Err(refused(
            operation,
            format!("a key of {length} bytes is too long"),
        )),
        _ => Ok(()),
    }
}

fn refused(operation: &'static str, message: String) -> Error {
    Error::Database {
        operation,
        path: place(),
        message,
    }
}

fn place() -> PathBuf {
    PathBuf::from("(memory)")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::key_value::conformance;

    fn put(key: &[u8], value: &[u8]) -> Batch {
        let mut batch = Batch::new();
        batch.put(Table::Tree, key, value);
        batch
    }

    #[test]
    fn it_conforms() {
        let directory = tempfile::tempdir().unwrap();
        let media: Mutex<HashMap<PathBuf, Medium>> = Mutex::default();
        conformance::check(directory.path(), &|path| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let mut media = media.lock().unwrap();
            let medium = media
                .entry(path.into())
                .or_insert_with(|| match path.exists() {
                    true => Medium::from_checkpoint(path).unwrap(),
                    false => Medium::new(),
                });
            Ok(Box::new(medium.open()?))
        });
    }

    #[test]
    fn a_loss_of_power_keeps_what_was_durable_and_nothing_else() {
        let memory = Memory::new();
        memory.write(put(b"a", b"1"), Durability::Process).unwrap();
        memory.write(put(b"b", b"1"), Durability::Disk).unwrap();
        memory.write(put(b"c", b"1"), Durability::Process).unwrap();
        let medium = memory.medium();
        medium.lose_power();
        assert!(
            memory.get(Table::Tree, b"a").is_err(),
            "the old database is dead"
        );
        let memory = medium.open().unwrap();
        let keys: Vec<_> = memory
            .scan(Table::Tree, b"")
            .map(|row| row.unwrap().0)
            .collect();
        assert_eq!(keys, [b"a", b"b"]);
    }

    #[test]
    fn a_second_open_is_refused_until_the_first_is_closed() {
        let memory = Memory::new();
        let medium = memory.medium();
        assert!(matches!(medium.open(), Err(Error::Locked { .. })));
        drop(memory);
        assert!(medium.open().is_ok());
    }

    #[test]
    fn keys_that_are_a_mistake_are_refused_and_leave_nothing() {
        let memory = Memory::new();
        let mut batch = put(b"fine", b"1");
        batch.append(put(b"", b"1"));
        assert!(memory.write(batch, Durability::Process).is_err());
        assert!(
            memory
                .write(put(&[1; KEY_LENGTH_MAX + 1], b""), Durability::Process)
                .is_err()
        );
        assert_eq!(memory.get(Table::Tree, b"fine").unwrap(), None);
        assert!(memory.get(Table::Tree, b"").is_err());
    }
}
