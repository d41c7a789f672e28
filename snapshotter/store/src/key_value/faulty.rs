//! A seeded fault injector around any [`KeyValue`].
//!
//! Which calls fail follows from the seed and the number of the call alone, so a failing test is
//! replayed by its seed. A failing write is torn in one of two ways that real disks show: refused
//! and not applied, or refused *and* applied.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{Batch, Durability, KeyValue, Row};
use crate::error::{Error, Result};
use crate::layout::Table;

/// How often each kind of call fails, in failures per 1,000 calls (1,000: always).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Of [`KeyValue::get`] and [`KeyValue::get_many`].
    pub get: u16,
    /// Of the rows of [`KeyValue::scan`]: the scan ends with the error.
    pub scan: u16,
    /// Of [`KeyValue::write`], the batch not being applied.
    pub write_lost: u16,
    /// Of [`KeyValue::write`], the batch being applied nevertheless.
    pub write_applied: u16,
    /// Of [`KeyValue::sync`] and [`KeyValue::checkpoint`].
    pub sync: u16,
}

/// What kind of failure is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The device fails.
    Device,
    /// The disk is full.
    NoSpace,
}

/// How often each method was called, failing calls included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Calls of [`KeyValue::get`].
    pub get: u64,
    /// Keys asked for by [`KeyValue::get_many`].
    pub get_many_keys: u64,
    /// Scans begun.
    pub scan: u64,
    /// Batches written.
    pub write: u64,
    /// Calls of [`KeyValue::sync`].
    pub sync: u64,
}

/// A [`KeyValue`] whose calls fail now and then.
#[derive(Debug)]
pub struct Faulty<K> {
    inner: K,
    seed: u64,
    rates: Rates,
    cause: Cause,
    armed: AtomicBool,
    decisions: AtomicU64,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    get: AtomicU64,
    get_many_keys: AtomicU64,
    scan: AtomicU64,
    write: AtomicU64,
    sync: AtomicU64,
}

impl<K: KeyValue> Faulty<K> {
    /// Wraps a database. Faults begin at once; [`Faulty::disarm`] stops them.
    pub fn new(inner: K, seed: u64, rates: Rates) -> Self {
        Faulty {
            inner,
            seed,
            rates,
            cause: Cause::Device,
            armed: AtomicBool::new(true),
            decisions: AtomicU64::new(0),
            counters: Counters::default(),
        }
    }

    /// The same with another cause in its errors.
    pub fn with_cause(mut self, cause: Cause) -> Self {
        self.cause = cause;
        self
    }

    /// Lets calls fail from now on.
    pub fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    /// Lets every call succeed from now on.
    pub fn disarm(&self) {
        self.armed.store(false, Ordering::SeqCst);
    }

    /// How often each method was called so far.
    pub fn calls(&self) -> Calls {
        let read = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        Calls {
            get: read(&self.counters.get),
            get_many_keys: read(&self.counters.get_many_keys),
            scan: read(&self.counters.scan),
            write: read(&self.counters.write),
            sync: read(&self.counters.sync),
        }
    }

    /// The database inside.
    pub fn inner(&self) -> &K {
        &self.inner
    }

    /// A number below 1,000 that depends on the seed and on how many were drawn before.
    fn draw(&self) -> u16 {
        let number = self.decisions.fetch_add(1, Ordering::SeqCst);
        (mix(self.seed ^ mix(number)) % 1_000) as u16
    }

    fn fails(&self, rate: u16) -> bool {
        self.armed.load(Ordering::SeqCst) && self.draw() < rate
    }

    fn error(&self, operation: &'static str) -> Error {
        let message = match self.cause {
            Cause::Device => format!("injected fault (seed {})", self.seed),
            Cause::NoSpace => "IO error: No space left on device (injected)".into(),
        };
        Error::Database {
            operation,
            path: PathBuf::from("(faulty)"),
            message,
        }
    }
}

impl<K: KeyValue> KeyValue for Faulty<K> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.counters.get.fetch_add(1, Ordering::SeqCst);
        if self.fails(self.rates.get) {
            return Err(self.error("read"));
        }
        self.inner.get(table, key)
    }

    fn get_many(&self, table: Table, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
        self.counters
            .get_many_keys
            .fetch_add(keys.len() as u64, Ordering::SeqCst);
        if self.fails(self.rates.get) {
            return Err(self.error("read"));
        }
        self.inner.get_many(table, keys)
    }

    fn scan<'a>(
        &'a self,
        table: Table,
        prefix: &[u8],
    ) -> Box<dyn Iterator<Item = Result<Row>> + 'a> {
        self.counters.scan.fetch_add(1, Ordering::SeqCst);
        let mut ended = false;
        let rows = self.inner.scan(table, prefix).map_while(move |row| {
            if ended {
                return None;
            }
            ended = self.fails(self.rates.scan);
            Some(if ended { Err(self.error("scan")) } else { row })
        });
        Box::new(rows)
    }

    fn write(&self, batch: Batch, durability: Durability) -> Result<()> {
        self.counters.write.fetch_add(1, Ordering::SeqCst);
        if self.fails(self.rates.write_lost) {
            return Err(self.error("write"));
        }
        let refused = self.fails(self.rates.write_applied);
        self.inner.write(batch, durability)?;
        if refused {
            Err(self.error("write"))
        } else {
            Ok(())
        }
    }

    fn sync(&self) -> Result<()> {
        self.counters.sync.fetch_add(1, Ordering::SeqCst);
        if self.fails(self.rates.sync) {
            return Err(self.error("sync"));
        }
        self.inner.sync()
    }

    fn checkpoint(&self, directory: &Path) -> Result<()> {
        if self.fails(self.rates.sync) {
            return Err(self.error("checkpoint"));
        }
        self.inner.checkpoint(directory)
    }

    fn compact(&self) -> Result<()> {
        if self.fails(self.rates.sync) {
            return Err(self.error("compact"));
        }
        self.inner.compact()
    }
}

/// Shared use: a test keeps one handle to arm faults and count calls, the store has the other.
impl<K: KeyValue + ?Sized> KeyValue for std::sync::Arc<K> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        (**self).get(table, key)
    }

    fn get_many(&self, table: Table, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
        (**self).get_many(table, keys)
    }

    fn scan<'a>(
        &'a self,
        table: Table,
        prefix: &[u8],
    ) -> Box<dyn Iterator<Item = Result<Row>> + 'a> {
        (**self).scan(table, prefix)
    }

    fn write(&self, batch: Batch, durability: Durability) -> Result<()> {
        (**self).write(batch, durability)
    }

    fn sync(&self) -> Result<()> {
        (**self).sync()
    }

    fn checkpoint(&self, directory: &Path) -> Result<()> {
        (**self).checkpoint(directory)
    }

    fn compact(&self) -> Result<()> {
        (**self).compact()
    }
}

/// The mixing step of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
/// generators", 2014): every bit of the input changes half the bits of the output.
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::key_value::conformance;
    use crate::key_value::memory::{Medium, Memory};

    fn put(key: u64) -> Batch {
        let mut batch = Batch::new();
        batch.put(Table::Tree, key.to_be_bytes(), b"1");
        batch
    }

    #[test]
    fn it_conforms_while_nothing_fails() {
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
            Ok(Box::new(Faulty::new(medium.open()?, 1, Rates::default())))
        });
    }

    /// Which of 200 calls of each kind fail.
    fn outcome(seed: u64) -> Vec<bool> {
        let rates = Rates {
            get: 100,
            scan: 50,
            write_lost: 200,
            write_applied: 200,
            sync: 300,
        };
        let faulty = Faulty::new(Memory::new(), seed, rates);
        (0..200)
            .flat_map(|n| {
                [
                    faulty.write(put(n), Durability::Process).is_ok(),
                    faulty.get(Table::Tree, &n.to_be_bytes()).is_ok(),
                    faulty.scan(Table::Tree, b"").all(|row| row.is_ok()),
                    faulty.sync().is_ok(),
                ]
            })
            .collect()
    }

    #[test]
    fn a_seed_replays_the_same_faults() {
        assert_eq!(outcome(7), outcome(7));
        assert_ne!(outcome(7), outcome(8));
        assert!(outcome(7).contains(&true) && outcome(7).contains(&false));
    }

    #[test]
    fn a_failed_write_is_applied_or_not_as_asked() {
        for (rates, applied) in [
            (
                Rates {
                    write_lost: 1_000,
                    ..Rates::default()
                },
                false,
            ),
            (
                Rates {
                    write_applied: 1_000,
                    ..Rates::default()
                },
                true,
            ),
        ] {
            let faulty = Faulty::new(Memory::new(), 1, rates);
            assert!(faulty.write(put(1), Durability::Disk).is_err());
            let found = faulty.get(Table::Tree, &1u64.to_be_bytes()).unwrap();
            assert_eq!(found.is_some(), applied);
        }
    }

    #[test]
    fn a_failing_scan_ends_with_the_error() {
        let faulty = Faulty::new(
            Memory::new(),
            3,
            Rates {
                scan: 500,
                ..Rates::default()
            },
        );
        for n in 0..50 {
            faulty.write(put(n), Durability::Process).unwrap();
        }
        let rows: Vec<_> = faulty.scan(Table::Tree, b"").collect();
        assert!(rows.len() < 50, "half of the rows fail");
        assert!(rows.iter().rev().skip(1).all(Result::is_ok) && rows.last().unwrap().is_err());
    }

    #[test]
    fn calls_are_counted_and_faults_can_be_switched() {
        let faulty = Arc::new(Faulty::new(
            Memory::new(),
            1,
            Rates {
                get: 1_000,
                ..Rates::default()
            },
        ));
        assert!(faulty.get(Table::Tree, b"a").is_err());
        faulty.disarm();
        assert!(faulty.get(Table::Tree, b"a").is_ok());
        faulty.arm();
        let error = faulty.get_many(Table::Tree, &[b"a", b"b"]).unwrap_err();
        assert!(error.to_string().contains("seed 1"), "{error}");
        assert_eq!(
            faulty.calls(),
            Calls {
                get: 2,
                get_many_keys: 2,
                ..Calls::default()
            }
        );
        let full = Faulty::new(
            Memory::new(),
            1,
            Rates {
                sync: 1_000,
                ..Rates::default()
            },
        );
        assert!(
            full.with_cause(Cause::NoSpace)
                .sync()
                .unwrap_err()
                .is_no_space()
        );
    }
}
