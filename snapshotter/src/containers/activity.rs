//! What has been done since the start and what there is, as numbers and texts for whoever watches.
//! Nothing depends on them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use store::Timestamp;

use super::row::{Content, Id, State};
use super::{Containers, Index};
use crate::error::Result;
use crate::snapshots::Kind;

/// Longest text of an error that is kept, in characters.
const ERROR_LENGTH_MAX: usize = 1_000;

/// Most snapshots whose last error is kept.
const FAILED_MAX: usize = 1_000;

/// What was done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Directories that became trees.
    pub ingestions: u64,
    /// Tries that did not make a tree.
    pub ingestions_failed: u64,
    /// Time that both took.
    pub ingestion_time: Duration,
    /// Layers that our differ unpacked.
    pub layers: u64,
    /// Bytes of these layers' tars, uncompressed.
    pub layer_bytes: u64,
    /// Collections of garbage.
    pub collections: u64,
    /// Those that ended with an error.
    pub collections_failed: u64,
    /// Time that all of them took.
    pub collection_time: Duration,
    /// Bytes of disk that they gave back.
    pub freed_bytes: u64,
}

/// How many snapshots there are, of all plugins. Each is counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Read-only ones that are open.
    pub views: u64,
    /// Writable ones.
    pub active: u64,
    /// Committed ones that are trees.
    pub committed: u64,
    /// Committed ones that are directories still.
    pub waiting: u64,
}

impl Census {
    /// The counts by the names that kinds have for whoever watches.
    #[must_use]
    pub fn by_kind(&self) -> [(&'static str, u64); 4] {
        [
            ("view", self.views),
            ("active", self.active),
            ("committed", self.committed),
            ("committed_not_ingested", self.waiting),
        ]
    }
}

/// Something that is being done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// A call, or what is done in the background, with what it is done to.
    pub what: String,
    /// When it began.
    pub since: SystemTime,
}

/// Ends what is under way when it is dropped.
#[derive(Debug)]
pub(crate) struct UnderWay {
    list: Arc<Mutex<WorkList>>,
    number: u64,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        lock(&self.list).works.remove(&self.number);
    }
}

#[derive(Debug, Default)]
struct WorkList {
    next: u64,
    works: BTreeMap<u64, Work>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A committed snapshot that is not a tree yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The name that containerd knows the plugin by.
    pub plugin: String,
    /// The name of the snapshot.
    pub key: String,
    /// When it was committed.
    pub committed: Timestamp,
    /// Why the last try has failed, if there was one.
    pub error: Option<String>,
}

/// What is counted.
#[derive(Debug, Default)]
pub(super) struct Activity {
    record: Mutex<Record>,
    under_way: Arc<Mutex<WorkList>>,
}

#[derive(Debug, Default)]
struct Record {
    done: Done,
    /// The last error of what could not become a tree.
    failed: BTreeMap<Id, String>,
}

impl Activity {
    fn record(&self) -> MutexGuard<'_, Record> {
        lock(&self.record)
    }

    fn begin(&self, what: String) -> UnderWay {
        let mut list = lock(&self.under_way);
        let number = list.next;
        list.next += 1;
        let since = SystemTime::now();
        list.works.insert(number, Work { what, since });
        UnderWay {
            list: self.under_way.clone(),
            number,
        }
    }

    /// Counts what `ingest` does; it tells whether there was something to do. That a snapshot was
    /// removed meanwhile is no failure.
    pub(super) fn ingestion(
        &self,
        id: &Id,
        is_there: impl FnOnce() -> bool,
        ingest: impl FnOnce() -> Result<bool>,
    ) -> Result<()> {
        let started = Instant::now();
        let under_way = self.begin(format!("ingest {id}"));
        let done = ingest();
        drop(under_way);
        let is_removed = done.is_err() && !is_there();
        let mut record = self.record();
        match &done {
            Ok(false) => return Ok(()),
            Err(_) if is_removed => {}
            Ok(true) => {
                record.done.ingestions += 1;
                record.failed.remove(id);
            }
            Err(error) => {
                record.done.ingestions_failed += 1;
                if record.failed.len() < FAILED_MAX || record.failed.contains_key(id) {
                    let text = error.to_string().chars().take(ERROR_LENGTH_MAX).collect();
                    record.failed.insert(id.clone(), text);
                }
            }
        }
        record.done.ingestion_time += started.elapsed();
        done.map(drop)
    }

    /// Counts a collection, which adds up what it frees, in bytes.
    pub(super) fn collection(&self, collect: impl FnOnce(&mut u64) -> Result<()>) -> Result<()> {
        let started = Instant::now();
        let mut freed_bytes = 0;
        let under_way = self.begin("collect garbage".into());
        let collected = collect(&mut freed_bytes);
        drop(under_way);
        let done = &mut self.record().done;
        done.collections += 1;
        done.collections_failed += u64::from(collected.is_err());
        done.collection_time += started.elapsed();
        done.freed_bytes += freed_bytes;
        collected
    }

    /// Counts what was freed after a collection, in bytes.
    pub(super) fn freed(&self, bytes: u64) {
        self.record().done.freed_bytes += bytes;
    }

    /// Forgets the errors of snapshots that are gone.
    pub(super) fn forget_removed(&self, index: &Index) {
        let mut record = self.record();
        record.failed.retain(|id, _| index.find(id).is_some());
    }
}

impl Containers {
    /// What was done since the start.
    #[must_use]
    pub fn done(&self) -> Done {
        self.activity.record().done
    }

    /// What is being done at this moment, the oldest first.
    #[must_use]
    pub fn under_way(&self) -> Vec<Work> {
        let list = lock(&self.activity.under_way);
        list.works.values().cloned().collect()
    }

    /// Tells whoever watches that something is done until the answer is dropped.
    pub(crate) fn begin(&self, what: String) -> UnderWay {
        self.activity.begin(what)
    }

    /// Counts a layer whose tar has so many bytes.
    pub(crate) fn count_layer(&self, tar_bytes: u64) {
        let done = &mut self.activity.record().done;
        done.layers += 1;
        done.layer_bytes += tar_bytes;
    }

    /// Counts the snapshots.
    #[must_use]
    pub fn census(&self) -> Census {
        let index = self.index();
        let mut census = Census::default();
        for (_, row) in index.all() {
            let count = match (&row.state, row.info.kind) {
                (State::Committed(Content::Directory { .. }), _) => &mut census.waiting,
                (State::Committed(Content::Tree(_)), _) => &mut census.committed,
                (State::Open { .. }, Kind::View) => &mut census.views,
                (State::Open { .. }, _) => &mut census.active,
            };
            *count += 1;
        }
        census
    }

    /// The committed snapshots that are not trees yet, in the order of plugins and keys.
    #[must_use]
    pub fn waiting(&self) -> Vec<Waiting> {
        let index = self.index();
        self.activity.forget_removed(&index);
        let record = self.activity.record();
        let waits = index
            .all()
            .filter(|(_, row)| matches!(row.state, State::Committed(Content::Directory { .. })));
        let waiting = waits.map(|(id, row)| Waiting {
            plugin: id.plugin.clone(),
            key: id.key.clone(),
            committed: row.info.created,
            error: record.failed.get(id).cloned(),
        });
        waiting.collect()
    }
}
