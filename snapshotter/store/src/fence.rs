//! Keeps those away that look for objects without a row while anything is being ingested, and the
//! other way round.
//!
//! An ingest has put object files in place before any row names them: fsck would take them for
//! strays, and one that is given up takes away only what no other one counts on. (A sweep goes on
//! beside ingests, see [`crate::claims`].)

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
pub(crate) struct Fence {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    ingests: usize,
    sweeping: bool,
}

impl Fence {
    /// Waits until no sweep runs, then keeps sweeps away until the pass is dropped.
    pub(crate) fn ingest(&self) -> Pass<'_> {
        let mut state = self.wait_while(|state| state.sweeping);
        state.ingests += 1;
        Pass {
            fence: self,
            sweep: false,
        }
    }

    /// Waits until no ingest runs, then keeps ingests and other sweeps away.
    pub(crate) fn sweep(&self) -> Pass<'_> {
        let mut state = self.wait_while(|state| state.sweeping || state.ingests > 0);
        state.sweeping = true;
        Pass {
            fence: self,
            sweep: true,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while(&self, busy: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        self.changed
            .wait_while(self.lock(), |state| busy(state))
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to ingest, or to sweep, until it is dropped.
#[derive(Debug)]
pub(crate) struct Pass<'f> {
    fence: &'f Fence,
    sweep: bool,
}

impl Pass<'_> {
    /// Turns the right to ingest into that to sweep, unless somebody else ingests.
    pub(crate) fn try_sweep(&mut self) -> bool {
        let mut state = self.fence.lock();
        let is_alone = !self.sweep && state.ingests == 1 && !state.sweeping;
        if is_alone {
            (state.ingests, state.sweeping) = (0, true);
            self.sweep = true;
        }
        is_alone
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut state = self.fence.lock();
        if self.sweep {
            state.sweeping = false;
        } else {
            state.ingests -= 1;
        }
        self.fence.changed.notify_all();
    }
}
