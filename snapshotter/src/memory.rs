//! The strict twin of [`crate::Manager`] in memory: for tests of what uses snapshots, without root
//! and without mounts that anybody could make.
//!
//! Stricter than the real one where it can be: no two rows ever have the same time, and its mounts
//! name directories that do not exist, so whoever tries to use them notices.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use mount::Mount;
use store::{Timestamp, Usage};

use crate::error::{Error, Result};
use crate::snapshots::{Info, Kind, Labels, Snapshots, check_key, check_labels, now};

/// Where the mounts pretend to be.
const NOWHERE: &str = "/nonexistent/varve-memory-snapshots";

/// Snapshots without content.
#[derive(Debug, Default)]
pub struct Memory(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    rows: BTreeMap<String, Row>,
    directories: u64,
    last: Timestamp,
}

#[derive(Debug)]
struct Row {
    info: Info,
    /// Where an open one would be written to.
    directory: u64,
}

impl Memory {
    /// No snapshots.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, key: &str, parent: &str, labels: Labels, kind: Kind) -> Result<Vec<Mount>> {
        check_key(key)?;
        check_labels(&labels)?;
        let mut state = self.state();
        if state.rows.contains_key(key) {
            return Err(Error::AlreadyExists { key: key.into() });
        }
        if !parent.is_empty() && state.get(parent)?.info.kind != Kind::Committed {
            let reason = format!("parent snapshot {parent:?} is not committed");
            return Err(Error::InvalidArgument { reason });
        }
        state.directories += 1;
        let directory = state.directories;
        let row = Row {
            info: state.info(key, parent, kind, labels),
            directory,
        };
        let mounts = mounts(&row);
        state.rows.insert(key.into(), row);
        Ok(mounts)
    }
}

impl State {
    fn get(&self, key: &str) -> Result<&Row> {
        self.rows
            .get(key)
            .ok_or_else(|| Error::NotFound { key: key.into() })
    }

    fn info(&mut self, key: &str, parent: &str, kind: Kind, labels: Labels) -> Info {
        let mut created = now();
        if created <= self.last {
            created = Timestamp {
                nanoseconds: self.last.nanoseconds + 1,
                ..self.last
            };
        }
        self.last = created;
        let (key, parent) = (key.into(), parent.into());
        Info {
            key,
            parent,
            kind,
            created,
            updated: created,
            labels,
        }
    }
}

fn mounts(row: &Row) -> Vec<Mount> {
    let directory = format!("{NOWHERE}/{}", row.directory);
    vec![Mount::bind(directory, row.info.kind == Kind::View)]
}

fn refused(operation: &'static str, key: &str, reason: &str) -> Error {
    Error::FailedPrecondition {
        operation,
        key: key.into(),
        reason: reason.into(),
    }
}

impl Snapshots for Memory {
    fn prepare(&self, key: &str, parent: &str, labels: Labels) -> Result<Vec<Mount>> {
        self.open(key, parent, labels, Kind::Active)
    }

    fn view(&self, key: &str, parent: &str, labels: Labels) -> Result<Vec<Mount>> {
        self.open(key, parent, labels, Kind::View)
    }

    fn mounts(&self, key: &str) -> Result<Vec<Mount>> {
        let state = self.state();
        let row = state.get(key)?;
        match row.info.kind {
            Kind::Committed => Err(refused("mount", key, "it is committed")),
            Kind::Active | Kind::View => Ok(mounts(row)),
        }
    }

    fn commit(&self, name: &str, key: &str, labels: Labels) -> Result<()> {
        check_key(name)?;
        check_labels(&labels)?;
        let mut state = self.state();
        let row = state.get(key)?;
        if row.info.kind != Kind::Active {
            return Err(refused("commit", key, "it is not active"));
        }
        if state.rows.contains_key(name) {
            return Err(Error::AlreadyExists { key: name.into() });
        }
        let (parent, directory) = (row.info.parent.clone(), row.directory);
        let info = state.info(name, &parent, Kind::Committed, labels);
        state.rows.remove(key);
        state.rows.insert(name.into(), Row { info, directory });
        Ok(())
    }

    fn remove(&self, key: &str) -> Result<()> {
        let mut state = self.state();
        state.get(key)?;
        if state.rows.values().any(|row| row.info.parent == key) {
            return Err(refused(
                "remove",
                key,
                "it is the parent of another snapshot",
            ));
        }
        state.rows.remove(key);
        Ok(())
    }

    fn stat(&self, key: &str) -> Result<Info> {
        Ok(self.state().get(key)?.info.clone())
    }

    fn walk(&self, visit: &mut dyn FnMut(Info) -> Result<()>) -> Result<()> {
        // Not under the lock: `visit` may ask for more.
        let infos: Vec<Info> = self
            .state()
            .rows
            .values()
            .map(|row| row.info.clone())
            .collect();
        infos.into_iter().try_for_each(visit)
    }

    fn usage(&self, key: &str) -> Result<Usage> {
        self.state().get(key)?;
        Ok(Usage::default())
    }
}

#[cfg(test)]
mod tests {
    use super::Memory;
    use crate::conformance;

    #[test]
    fn it_keeps_the_contract() {
        conformance::check(&|check| check(&Memory::new()));
    }
}
