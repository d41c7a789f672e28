//! The solver's cache: records in the store, each with a lease on the snapshots that it gives.
//!
//! A record whose snapshots are gone is a miss.

pub mod notes;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use engine::{BoxFuture, CacheKey, CacheStore, CacheStoreError};
use snapshotter::leases::{self, Lease, Reference};
use snapshotter::{Manager, catalog};
use store::codec::{Decoder, Encoder};
use store::{Batch, Durability, Table, Timestamp};

use self::notes::{About, Note};
use crate::result::Value;

/// Version byte of a record.
const RECORD_VERSION: u8 = 1;

/// Records on the tables of the store.
#[derive(Debug)]
pub struct Records {
    snapshots: Arc<Manager>,
    /// What made the snapshots of this process, until a record names them.
    made: Mutex<HashMap<String, About>>,
    /// Snapshots that were found or made since that was last noted.
    used: Mutex<HashSet<String>>,
}

impl Records {
    /// The records of the store below `snapshots`.
    pub fn new(snapshots: Arc<Manager>) -> Self {
        let (made, used) = (Mutex::default(), Mutex::default());
        Records {
            snapshots,
            made,
            used,
        }
    }

    /// Remembers what made a snapshot, for the note of it that comes with its record.
    pub(crate) fn made(&self, snapshot: &str, about: &About) {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.insert(snapshot.to_owned(), about.clone());
    }

    fn use_of(&self, snapshot: &str) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.insert(snapshot.to_owned());
    }

    /// Notes what was used since the last time: one small write for a whole build. Losing it with
    /// the machine makes things look older than they are.
    ///
    /// # Errors
    /// Database errors.
    pub(crate) fn note_uses(&self) -> store::Result<()> {
        let used = {
            let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *used)
        };
        if used.is_empty() {
            return Ok(());
        }
        let store = self.snapshots.store();
        let mut batch = Batch::new();
        for snapshot in used {
            let made = {
                let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
                made.remove(&snapshot)
            };
            let mut note = match notes::find(store, &snapshot)? {
                Some(note) => note,
                None => Note {
                    created: now(),
                    ..Note::default()
                },
            };
            note.about = made.unwrap_or(note.about);
            note.last_used = now();
            note.uses += 1;
            notes::put(&mut batch, &snapshot, &note);
        }
        store.write(batch, Durability::Process)
    }

    fn find(&self, key: &CacheKey) -> Result<Option<Vec<Value>>, CacheStoreError> {
        let store = self.snapshots.store();
        let Some(row) = store.rows().get(Table::Record, key.as_bytes())? else {
            return Ok(None);
        };
        let mut values = Vec::new();
        for name in decode(&row)? {
            if name.is_empty() {
                values.push(Value::empty());
                continue;
            }
            match catalog::find(store, &name)?.and_then(|row| row.tree()) {
                Some(tree) => {
                    self.use_of(&name);
                    values.push(Value::new(store, name, tree));
                }
                None => return Ok(None),
            }
        }
        Ok(Some(values))
    }
}

impl CacheStore<Value> for Records {
    fn lookup<'a>(
        &'a self,
        key: &'a CacheKey,
    ) -> BoxFuture<'a, Result<Option<Vec<Value>>, CacheStoreError>> {
        // A point read of microseconds, mostly from memory: not worth a thread's attention.
        Box::pin(async move { self.find(key) })
    }

    fn save<'a>(
        &'a self,
        key: &'a CacheKey,
        values: &'a [Value],
    ) -> BoxFuture<'a, Result<(), CacheStoreError>> {
        Box::pin(async move {
            let mut batch = Batch::new();
            let names = values
                .iter()
                .map(|value| value.name().to_owned())
                .collect::<Vec<_>>();
            batch.put(Table::Record, *key.as_bytes(), encode(&names));
            for name in names.iter().filter(|name| !name.is_empty()) {
                self.use_of(name);
            }
            leases::put(&mut batch, &lease(key, names));
            // What the record names is durable already; losing the record with the machine costs
            // one step.
            Ok(self.snapshots.store().write(batch, Durability::Process)?)
        })
    }
}

fn lease(key: &CacheKey, names: Vec<String>) -> Lease {
    let references = names
        .into_iter()
        .filter(|name| !name.is_empty())
        .map(Reference::Snapshot);
    Lease {
        id: format!("record/{key}"),
        created: now(),
        references: references.collect(),
    }
}

pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let since = since.unwrap_or_default();
    Timestamp {
        seconds: since.as_secs() as i64,
        nanoseconds: since.subsec_nanos(),
    }
}

fn encode(names: &[String]) -> Vec<u8> {
    let mut row = Encoder::new();
    row.byte(RECORD_VERSION).number(names.len() as u64);
    for name in names {
        row.string(name.as_bytes());
    }
    row.finish()
}

/// The names of snapshots in a record.
pub(crate) fn decode(bytes: &[u8]) -> store::Result<Vec<String>> {
    let mut row = Decoder::new("cache record", bytes);
    if row.byte()? != RECORD_VERSION {
        return Err(row.error("it has an unknown version"));
    }
    let mut names = Vec::new();
    for _ in 0..row.number()? {
        names.push(String::from_utf8_lossy(row.string()?).into_owned());
    }
    row.finish()?;
    Ok(names)
}
