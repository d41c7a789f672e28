//! What snapshots take: asked for all of them every ten seconds, so never by a long walk.

use std::collections::HashMap;
use std::sync::{MutexGuard, PoisonError};

use store::Usage;

use super::Containers;
use super::row::{Applied, Content, Id, State};
use crate::error::Result;

/// Entries of a directory that are looked at by whoever asks for its usage: a millisecond.
const MEASURED_ENTRIES: u64 = 400;

impl Containers {
    pub(super) fn usage(&self, id: &Id) -> Result<Usage> {
        let row = self.row(id)?;
        match &row.state {
            State::Open {
                directory, applied, ..
            } => {
                let written = self.written(*directory)?;
                Ok(sum(*applied, written))
            }
            State::Committed(Content::Tree(whole)) => Ok(whole.usage),
            State::Committed(Content::Directory {
                number, applied, ..
            }) => Ok(sum(*applied, self.written(*number)?)),
        }
    }

    /// What was written to a directory. Of a large one that is what it was when it was last
    /// measured, in the background: containerd asks for all of them every ten seconds.
    fn written(&self, number: u64) -> Result<Usage> {
        let (usage, is_all) = self.directories.usage_within(number, MEASURED_ENTRIES)?;
        if is_all {
            return Ok(usage);
        }
        self.events.measure(number);
        let measured = self.measured().get(&number).copied();
        Ok(measured.unwrap_or(usage))
    }

    pub(super) fn measured(&self) -> MutexGuard<'_, HashMap<u64, Usage>> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Walks over a directory, however large.
    pub(super) fn measure(&self, number: u64) -> Result<()> {
        let usage = self.directories.usage(number)?;
        if self.index().uses(number) {
            self.measured().insert(number, usage);
        }
        Ok(())
    }
}

/// What was applied and what was written above it.
pub(super) fn sum(applied: Option<Applied>, written: Usage) -> Usage {
    let applied = applied.map(|applied| applied.usage).unwrap_or_default();
    Usage {
        bytes: applied.bytes + written.bytes,
        inodes: applied.inodes + written.inodes,
    }
}
