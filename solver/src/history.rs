//! Builds: what is remembered of them, and where.
//!
//! Reading order: [`record`] (what is known of a build), [`recorder`] (a display that gathers it),
//! [`critical_path`] (which steps the time went to), [`replay`] (events again), then [`History`]
//! (the rows in the store).
//!
//! A build is two rows: a summary that lists are made of, and the details. Their number names them;
//! it is never given again. They are written when it begins, as a build that runs, and again, in
//! one batch, when it is over. One that is said to run in another process was killed: only one
//! process has a store.

pub mod critical_path;
pub mod record;
pub mod recorder;
pub mod redaction;
pub mod replay;

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use store::codec::{Decoder, Encoder};
use store::{Batch, Durability, Store, Table};

use crate::error::{Error, Result};

use self::record::{Asked, BuildRecord, Details, Status, Summary};

/// Builds that are kept: the newest.
pub const BUILDS_MAX: usize = 100;

/// Bytes that all builds together take.
pub const BYTES_MAX: u64 = 32 << 20;

/// Version byte of both rows; JSON follows.
const ROW_VERSION: u8 = 1;

/// Key of the row with the number of the next build.
const NEXT: &[u8] = b"next";

/// Keys of summaries: this, then the number as 16 hexadecimal digits.
const SUMMARY: &str = "build/";

/// Keys of details.
const DETAILS: &str = "details/";

/// The builds of a store.
#[derive(Clone, Debug)]
pub struct History {
    store: Arc<Store>,
}

impl History {
    /// Those of this store.
    pub fn new(store: Arc<Store>) -> Self {
        History { store }
    }

    /// Remembers that a build runs, and gives it its number.
    ///
    /// # Errors
    /// As [`History::save`].
    pub fn begin(&self, asked: Asked) -> Result<u64> {
        self.save(&mut BuildRecord {
            summary: Summary {
                started_ms: now_ms(),
                status: Status::Running,
                asked,
                ..Summary::default()
            },
            details: Details::default(),
        })
    }

    /// Remembers a build, and gives it a number if it has none (0); the oldest builds go if they
    /// are too many or too large. Survives the death of the process; the loss of the machine may
    /// take it.
    ///
    /// # Errors
    /// Those of the store; nothing is remembered then.
    pub fn save(&self, record: &mut BuildRecord) -> Result<u64> {
        static SAVING: Mutex<()> = Mutex::new(());
        // Builds of one process may begin and end at the same time.
        let _saving = SAVING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut batch = Batch::new();
        let number = match record.summary.number {
            0 => {
                let number = self.next()?;
                batch.put(Table::History, NEXT, number_row(number + 1));
                number
            }
            number => number,
        };
        record.summary.number = number;
        let runs = record.summary.status == Status::Running;
        record.summary.process = runs.then(this_process);
        let details = row("details of a build", &record.details)?;
        record.summary.bytes = details.len() as u64;
        batch.put(
            Table::History,
            key(SUMMARY, number),
            row("summary of a build", &record.summary)?,
        );
        batch.put(Table::History, key(DETAILS, number), details);
        let (mut count, mut bytes) = (1, record.summary.bytes);
        let others = self.lengths()?.into_iter().rev();
        for (old, length) in others.filter(|(other, _)| *other != number) {
            count += 1;
            bytes += length;
            if count > BUILDS_MAX || bytes > BYTES_MAX {
                delete(&mut batch, old);
            }
        }
        self.store.write(batch, Durability::Process)?;
        Ok(number)
    }

    /// The number that the next build gets.
    fn next(&self) -> Result<u64> {
        let Some(row) = self.store.rows().get(Table::History, NEXT)? else {
            return Ok(1);
        };
        let mut row = Decoder::new("number of the next build", &row);
        let number = row.number()?;
        row.finish()?;
        Ok(number)
    }

    /// Numbers and lengths of all builds, oldest first. Damaged ones have a length of 0.
    fn lengths(&self) -> Result<Vec<(u64, u64)>> {
        let rows = self.store.rows().scan(Table::History, SUMMARY.as_bytes());
        let mut lengths = Vec::new();
        for row in rows {
            let (key, value) = row?;
            if let Some(number) = number_of(&key) {
                let summary: Option<Summary> = read("summary of a build", &value).ok();
                lengths.push((number, summary.map_or(0, |summary| summary.bytes)));
            }
        }
        Ok(lengths)
    }

    /// All builds, oldest first. One that cannot be read is left out and told in the log.
    ///
    /// # Errors
    /// Database errors.
    pub fn list(&self) -> Result<Vec<Summary>> {
        let rows = self.store.rows().scan(Table::History, SUMMARY.as_bytes());
        let mut builds = Vec::new();
        for row in rows {
            let (key, value) = row?;
            match read("summary of a build", &value) {
                Ok(summary) => builds.push(seen_now(summary)),
                Err(error) => {
                    let number = number_of(&key);
                    tracing::warn!(?number, %error, "a build in the history cannot be read");
                }
            }
        }
        Ok(builds)
    }

    /// A build with everything that is known of it; `None` if there is none of this number.
    ///
    /// # Errors
    /// Its rows are damaged; database errors.
    pub fn get(&self, number: u64) -> Result<Option<BuildRecord>> {
        let rows = self.store.rows();
        let summary = rows.get(Table::History, &key(SUMMARY, number))?;
        let details = rows.get(Table::History, &key(DETAILS, number))?;
        let (Some(summary), Some(details)) = (summary, details) else {
            return Ok(None);
        };
        Ok(Some(BuildRecord {
            summary: seen_now(read("summary of a build", &summary)?),
            details: read::<Details>("details of a build", &details)?,
        }))
    }

    /// Forgets builds, all at once or none. Numbers that are not there are no error.
    ///
    /// # Errors
    /// Database errors.
    pub fn remove(&self, numbers: &[u64]) -> Result<()> {
        let mut batch = Batch::new();
        for number in numbers {
            delete(&mut batch, *number);
        }
        Ok(self.store.write(batch, Durability::Process)?)
    }

    /// The numbers of all builds, also of damaged ones, oldest first.
    ///
    /// # Errors
    /// Database errors.
    pub fn numbers(&self) -> Result<Vec<u64>> {
        Ok(self
            .lengths()?
            .into_iter()
            .map(|(number, _)| number)
            .collect())
    }
}

/// What is so of a build that was running when its row was written.
fn seen_now(mut summary: Summary) -> Summary {
    if summary.status == Status::Running {
        let is_here = summary.process == Some(this_process());
        let since = now_ms().saturating_sub(summary.started_ms);
        match is_here {
            true => summary.duration_us = since.saturating_mul(1_000),
            false => summary.status = Status::Killed,
        }
    }
    summary
}

/// Tells this process from all others before and after it.
fn this_process() -> u64 {
    static TOKEN: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(now_ms()));
    *TOKEN
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

fn delete(batch: &mut Batch, number: u64) {
    batch.delete(Table::History, key(SUMMARY, number));
    batch.delete(Table::History, key(DETAILS, number));
}

fn key(kind: &str, number: u64) -> Vec<u8> {
    format!("{kind}{number:016x}").into_bytes()
}

fn number_of(key: &[u8]) -> Option<u64> {
    let digits = key.strip_prefix(SUMMARY.as_bytes())?;
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn number_row(number: u64) -> Vec<u8> {
    let mut row = Encoder::new();
    row.number(number);
    row.finish()
}

fn row(what: &str, value: &impl serde::Serialize) -> Result<Vec<u8>> {
    let mut bytes = vec![ROW_VERSION];
    serde_json::to_writer(&mut bytes, value).map_err(|source| json(what, source))?;
    Ok(bytes)
}

fn read<T: serde::de::DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T> {
    let mut row = Decoder::new(what, bytes);
    if row.byte()? != ROW_VERSION {
        return Err(row.error("it has an unknown version").into());
    }
    serde_json::from_slice(&bytes[1..]).map_err(|source| json(what, source))
}

fn json(what: &str, source: serde_json::Error) -> Error {
    Error::Json {
        what: what.into(),
        source,
    }
}

#[cfg(test)]
mod tests;
