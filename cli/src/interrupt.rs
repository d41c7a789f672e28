//! Ctrl-C and friends: the first one cancels and lets everything end in order; the second one, or
//! a while without an end, ends varve at once ([`crate::owner::front`]). Both leave nothing behind:
//! containers die with varve, its mounts are seen by nobody else, and what a store has half-written
//! is thrown away at the next start.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use crate::caller::Caller;
use crate::error::Interrupted;

/// How long an orderly end may take. Something may hang in a read that nothing interrupts.
pub(crate) const END_TIMEOUT: Duration = Duration::from_secs(10);

/// Watches for signals of the caller that ask a command to end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupts {
    first: Arc<AtomicU8>,
}

impl Interrupts {
    /// Starts to watch, within a tokio runtime. `cancel` is called for the first signal.
    pub(crate) fn watch(cancel: impl FnOnce() + Send + 'static) -> Self {
        let interrupts = Interrupts::default();
        let first = interrupts.first.clone();
        let caller = Caller::current();
        let mut signals = caller.signals().watch();
        tokio::spawn(async move {
            let came = signals.wait_for(|signal| *signal != 0).await;
            if let Ok(signal) = came.map(|signal| *signal) {
                first.store(signal, Ordering::SeqCst);
                cancel();
            }
        });
        interrupts
    }

    /// The signal that came, if one has.
    pub(crate) fn came(&self) -> Option<Interrupted> {
        match self.first.load(Ordering::SeqCst) {
            0 => None,
            signal => Some(Interrupted { signal }),
        }
    }
}

/// Whether a process ignores a signal, out of its status (proc_pid_status(5), `SigIgn`).
pub(crate) fn is_ignored(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.unwrap_or_default() >> (signal - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::is_ignored;

    #[test]
    fn ignored_signals_are_told_from_the_mask() {
        let status = "Name:\tx\nSigBlk:\tffffffffffffffff\nSigIgn:\t0000000000001001\n";
        assert!(is_ignored(status, 1) && is_ignored(status, 13));
        assert!(!is_ignored(status, 2) && !is_ignored("", 1));
    }
}
