//! Who of the commands of one owner may go on: most work beside each other, and one that takes away
//! what others may have just found, or looks at all there is, has the store for itself.
//!
//! It goes by turns. Who wants to be alone waits for those that came before, and those that come
//! later wait for it: else builds that follow each other without a gap would keep it waiting for
//! ever. What only takes a moment does not wait for somebody who cannot begin yet.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often whoever waits looks whether it is to go on waiting.
const PATIENCE: Duration = Duration::from_millis(50);

/// Beside whom a command can work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Beside others, for as long as it takes.
    Beside,
    /// Beside others, for a moment.
    Moment,
    /// Beside nobody.
    Alone,
}

/// The order in which commands go on.
#[derive(Debug, Default)]
pub(super) struct Turns {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    waiting: BTreeMap<u64, Need>,
    beside: usize,
    moments: usize,
    is_somebody_alone: bool,
}

impl State {
    fn may_begin(&self, number: u64, need: Need) -> bool {
        if self.is_somebody_alone {
            return false;
        }
        let mut earlier = self.waiting.range(..number).map(|(_, need)| *need);
        match need {
            Need::Alone => self.beside == 0 && self.moments == 0 && earlier.next().is_none(),
            // As long as others keep away who waits, this one does not.
            Need::Moment if self.beside > 0 => true,
            Need::Beside | Need::Moment => !earlier.any(|need| need == Need::Alone),
        }
    }

    fn count(&mut self, need: Need) -> &mut usize {
        match need {
            Need::Beside => &mut self.beside,
            Need::Moment => &mut self.moments,
            Need::Alone => unreachable!("at most one is alone"),
        }
    }
}

/// The right to go on, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'t> {
    turns: &'t Turns,
    need: Need,
}

impl Turns {
    /// Waits for a turn. `is_over` is asked again and again whether to wait any longer; `None` if
    /// it says no.
    pub(super) fn wait(&self, need: Need, mut is_over: impl FnMut() -> bool) -> Option<Turn<'_>> {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        state.waiting.insert(number, need);
        while !state.may_begin(number, need) {
            drop(state);
            let gives_up = is_over();
            state = self.state();
            if gives_up {
                state.waiting.remove(&number);
                self.changed.notify_all();
                return None;
            }
            if !state.may_begin(number, need) {
                let waited = self.changed.wait_timeout(state, PATIENCE);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        state.waiting.remove(&number);
        match need {
            Need::Alone => state.is_somebody_alone = true,
            need => *state.count(need) += 1,
        }
        // Others that come after this one may begin too.
        self.changed.notify_all();
        Some(Turn { turns: self, need })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.turns.state();
        match self.need {
            Need::Alone => state.is_somebody_alone = false,
            need => *state.count(need) -= 1,
        }
        self.turns.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::Instant;

    use super::*;

    /// Whether it would have to wait.
    fn waits(turns: &Turns, need: Need) -> bool {
        turns.wait(need, || true).is_none()
    }

    fn until(is: impl Fn() -> bool) {
        let began = Instant::now();
        while !is() {
            assert!(began.elapsed() < Duration::from_secs(60), "it never came");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn commands_work_beside_each_other_and_one_alone_beside_none() {
        let turns = Turns::default();
        let first = turns.wait(Need::Beside, || true).unwrap();
        assert!(!waits(&turns, Need::Beside) && !waits(&turns, Need::Moment));
        assert!(waits(&turns, Need::Alone));
        drop(first);
        let alone = turns.wait(Need::Alone, || true).unwrap();
        for need in [Need::Beside, Need::Moment, Need::Alone] {
            assert!(waits(&turns, need), "{need:?}");
        }
        drop(alone);
        assert!(!waits(&turns, Need::Beside));
    }

    #[test]
    fn who_comes_after_one_that_wants_to_be_alone_waits_for_it() {
        let turns = Arc::new(Turns::default());
        let first = turns.wait(Need::Beside, || true).unwrap();
        let is_done = Arc::new(AtomicBool::new(false));
        let alone = {
            let (turns, is_done) = (turns.clone(), is_done.clone());
            thread::spawn(move || {
                let turn = turns.wait(Need::Alone, || false).unwrap();
                is_done.store(true, Ordering::SeqCst);
                drop(turn);
            })
        };
        until(|| turns.state().waiting.len() == 1);
        assert!(waits(&turns, Need::Beside), "it is not its turn");
        assert!(!waits(&turns, Need::Moment), "it costs nobody anything");
        let later = {
            let turns = turns.clone();
            thread::spawn(move || {
                let turn = turns.wait(Need::Beside, || false).unwrap();
                assert!(is_done.load(Ordering::SeqCst), "the other was first");
                drop(turn);
            })
        };
        until(|| turns.state().waiting.len() == 2);
        drop(first);
        alone.join().unwrap();
        later.join().unwrap();
    }

    #[test]
    fn moments_do_not_keep_one_waiting_that_could_begin() {
        let turns = Arc::new(Turns::default());
        let moment = turns.wait(Need::Moment, || true).unwrap();
        let alone = {
            let turns = turns.clone();
            thread::spawn(move || drop(turns.wait(Need::Alone, || false).unwrap()))
        };
        until(|| turns.state().waiting.len() == 1);
        assert!(waits(&turns, Need::Moment));
        drop(moment);
        alone.join().unwrap();
    }

    #[test]
    fn commands_get_through_between_any_number_that_want_to_be_alone() {
        let turns = Arc::new(Turns::default());
        let stop = Arc::new(AtomicBool::new(false));
        let alone: Vec<_> = (0..4)
            .map(|_| {
                let (turns, stop) = (turns.clone(), stop.clone());
                thread::spawn(move || {
                    while !stop.load(Ordering::SeqCst) {
                        drop(turns.wait(Need::Alone, || false));
                    }
                })
            })
            .collect();
        for need in [Need::Beside, Need::Moment, Need::Beside] {
            drop(turns.wait(need, || false).unwrap());
        }
        stop.store(true, Ordering::SeqCst);
        for thread in alone {
            thread.join().unwrap();
        }
    }
}
