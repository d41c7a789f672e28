//! Space of what was removed comes back: at once where somebody asks for it, else without hurry.

use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use store::failpoint;

use super::Containers;
use crate::error::Result;
use crate::gc;

/// Files and directories that are deleted at a time when there is no hurry.
const REAP_STEP: u64 = 500;

/// The pause between them: deleting many files at once makes new ones slow for a while
/// (shared/spec/filesystem.md section 5).
pub(super) const REAP_PAUSE: Duration = Duration::from_millis(100);

/// So often twice as many are deleted at a time: a million files are gone within half a minute.
const REAP_DOUBLES_SECONDS: u64 = 5;

/// As often as this.
const REAP_DOUBLINGS_MAX: u64 = 20;

impl Containers {
    /// Frees what removals have left, at once and to the end.
    ///
    /// # Errors
    /// Those of the store; nothing that is needed is lost whenever it ends.
    pub fn clean_up(&self) -> Result<()> {
        self.activity.collection(|freed_bytes| {
            self.collect_noted()?;
            failpoint::passed("clean-up.collected");
            *freed_bytes += self.manager.store().trash().reap(u64::MAX)?.bytes;
            Ok(())
        })
    }

    /// Puts what nobody needs into the trash.
    pub(super) fn collect(&self) -> Result<()> {
        self.activity.collection(|_| self.collect_noted())
    }

    /// Notes that something in the store may be garbage from now on.
    pub(crate) fn note_garbage(&self) {
        self.garbage.store(true, Ordering::Relaxed);
    }

    /// Collects if there may be garbage: containerd asks for it after every collection of its own,
    /// also if nothing but containers has gone, and it takes as long as there is much in the store.
    fn collect_noted(&self) -> Result<()> {
        let _cleaning = self.cleaning();
        if !self.garbage.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let collected = gc::collect(&self.manager, false);
        if collected.is_err() {
            self.note_garbage();
        }
        collected.map(drop)
    }

    /// Deletes some of the trash, more at a time the longer it takes since `started`; whether there
    /// is more.
    pub(super) fn reap_some(&self, started: Instant) -> Result<bool> {
        let doublings = started.elapsed().as_secs() / REAP_DOUBLES_SECONDS;
        let entries = REAP_STEP << doublings.min(REAP_DOUBLINGS_MAX);
        let reaped = self.manager.store().trash().reap(entries)?;
        self.activity.freed(reaped.bytes);
        Ok(reaped.more && reaped.entries > 0)
    }

    /// Two at once would only be in each other's way.
    fn cleaning(&self) -> MutexGuard<'_, ()> {
        self.cleaning.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
