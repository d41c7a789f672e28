//! How much of the disk may be used, and what happens when that is reached.
//!
//! What is used is measured now and then by walking over the root directory; in between the store
//! counts what it brings in. When there is no room left, what nobody needs is deleted at once, then
//! what is only convenient (build cache); if that does not help, new writable snapshots and layers
//! are refused. What a running container writes cannot be stopped, only counted.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Containers;
use crate::error::{Error, Result};
use crate::manager::Manager;

/// How long whoever needs room waits for it.
const RELIEF_TIMEOUT: Duration = Duration::from_secs(5);

/// How often what is used is measured.
const INTERVAL: Duration = Duration::from_secs(2);

/// But that, and making room, take no more than one part of so many of the time.
const MEASURED_PART: u32 = 50;

/// Drops what is only convenient, and tells how many things these were.
pub type Forget = dyn Fn(&Manager) -> Result<usize> + Send + Sync;

/// Limits in bytes, with the names that buildkitd has for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// The root directory takes no more than this; `None` is as much as there is.
    pub max_used: Option<u64>,
    /// What is only convenient is kept as long as no more than this is used.
    pub reserved: u64,
    /// So much of the file system is left to others.
    pub min_free: u64,
}

impl Quota {
    fn is_limited(&self) -> bool {
        *self != Quota::default()
    }

    /// What may still be written; below zero if it is too much already.
    fn headroom(&self, used: u64, free: u64) -> i64 {
        let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let of_used = self.max_used.map_or(i64::MAX, |max_used| {
            signed(max_used).saturating_sub(signed(used))
        });
        of_used.min(signed(free).saturating_sub(signed(self.min_free)))
    }
}

/// What was found at some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// What the root directory takes, as `du` counts it.
    pub used: u64,
    /// What the file system has left.
    pub free: u64,
}

/// Keeps the limits and what is known of the disk.
#[derive(Default)]
pub(super) struct Keeper {
    state: Mutex<State>,
    measured: Condvar,
}

#[derive(Default)]
struct State {
    quota: Quota,
    forget: Option<Arc<Forget>>,
    space: Space,
    /// How often room was made.
    reliefs: u64,
    /// Whether that did not help.
    is_over: bool,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}

impl Keeper {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Containers {
    /// Sets the limits, from now on. `forget` drops what is only convenient.
    pub fn limit_space(&self, quota: Quota, forget: Arc<Forget>) {
        {
            let mut state = self.keeper.state();
            (state.quota, state.forget) = (quota, Some(forget));
        }
        self.manager.store().allow(i64::MAX);
        self.events.need_space();
    }

    /// The limits, and what was found when it was last looked at.
    pub fn space(&self) -> (Quota, Space) {
        let state = self.keeper.state();
        (state.quota, state.space)
    }

    /// Fails if nothing more may be written, after an attempt to make room.
    pub(crate) fn check_space(&self) -> Result<()> {
        let quota = self.keeper.state().quota;
        if !quota.is_limited() || self.has_room(&quota)? {
            return Ok(());
        }
        let state = self.keeper.state();
        let before = state.reliefs;
        self.events.need_space();
        let no_news = |state: &mut State| state.reliefs == before;
        let waited = self
            .keeper
            .measured
            .wait_timeout_while(state, RELIEF_TIMEOUT, no_news);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        match self.has_room(&quota)? {
            true => Ok(()),
            false => Err(self.over_quota()),
        }
    }

    fn has_room(&self, quota: &Quota) -> Result<bool> {
        let store = self.manager.store();
        let (free, _) = store.disk_bytes()?;
        Ok(store.allowed_bytes() > 0 && free > quota.min_free)
    }

    fn over_quota(&self) -> Error {
        let (quota, space) = self.space();
        Error::OverQuota {
            path: self.manager.store().root().into(),
            used: space.used,
            max_used: quota.max_used,
            free: space.free,
            min_free: quota.min_free,
        }
    }

    /// The error that says which limit it was, if it was one of ours.
    pub(crate) fn explained(&self, error: Error) -> Error {
        let is_ours = error.is_no_space() && self.keeper.state().quota.is_limited();
        match is_ours && self.manager.store().allowed_bytes() <= 0 {
            true => {
                self.events.need_space();
                self.over_quota()
            }
            false => error,
        }
    }

    /// Measures what is used, and makes room if there is none; when to come again.
    pub(super) fn keep_quota(&self) -> Result<Option<Duration>> {
        let (quota, forget) = {
            let state = self.keeper.state();
            (state.quota, state.forget.clone())
        };
        if !quota.is_limited() {
            return Ok(None);
        }
        let started = Instant::now();
        let mut space = self.measure_space(&quota)?;
        if quota.headroom(space.used, space.free) <= 0 {
            self.clean_up()?;
            space = self.measure_space(&quota)?;
        }
        if quota.headroom(space.used, space.free) <= 0
            && space.used > quota.reserved
            && let Some(forget) = forget
            && forget(&self.manager)? > 0
        {
            self.note_garbage();
            self.clean_up()?;
            space = self.measure_space(&quota)?;
        }
        let is_over = quota.headroom(space.used, space.free) <= 0;
        let was_over = {
            let mut state = self.keeper.state();
            state.reliefs += 1;
            std::mem::replace(&mut state.is_over, is_over)
        };
        self.keeper.measured.notify_all();
        match (was_over, is_over) {
            (false, true) => {
                let error = self.over_quota();
                tracing::warn!(%error, "nothing more can be freed");
            }
            (true, false) => tracing::warn!("there is room again"),
            _ => {}
        }
        Ok(Some(INTERVAL.max(started.elapsed() * MEASURED_PART)))
    }

    fn measure_space(&self, quota: &Quota) -> Result<Space> {
        let store = self.manager.store();
        let before = store.allowed_bytes();
        let used = store.taken_bytes()?;
        let (free, _) = store.disk_bytes()?;
        let headroom = quota.headroom(used, free);
        // What was brought in during the walk may have been missed by it.
        let meanwhile = before.saturating_sub(store.allowed_bytes());
        store.allow(headroom.saturating_sub(meanwhile));
        let space = Space { used, free };
        self.keeper.state().space = space;
        Ok(space)
    }
}

#[cfg(test)]
mod tests {
    use super::Quota;

    #[test]
    fn the_nearer_limit_counts() {
        let quota = |max_used, min_free| Quota {
            max_used,
            reserved: 0,
            min_free,
        };
        for (quota, expected) in [
            (quota(None, 0), 50),
            (quota(Some(100), 0), 40),
            (quota(Some(1_000), 0), 50),
            (quota(Some(100), 45), 5),
            (quota(None, 80), -30),
            (quota(Some(10), 0), -50),
            (quota(Some(u64::MAX), u64::MAX), 50 - i64::MAX),
        ] {
            assert_eq!(quota.headroom(60, 50), expected, "{quota:?}");
        }
    }
}
