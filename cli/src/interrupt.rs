//! Ctrl-C and friends: the first one cancels and lets everything end in order; the second one, or
//! a while without an end, ends varve at once. Both leave nothing behind: containers die with
//! varve, its mounts are seen by nobody else, and what a store has half-written is thrown away at
//! the next start.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{EXIT_SIGNAL, Interrupted};

/// How long an orderly end may take. Something may hang in a read that nothing interrupts.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// Watches for signals that ask varve to end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupts {
    first: Arc<AtomicU8>,
}

impl Interrupts {
    /// Starts to watch; from now on such signals do not kill. `cancel` is called for the first.
    /// The end of the terminal (SIGHUP) is no reason to stop for a program under `nohup`.
    ///
    /// # Errors
    /// The kernel refuses a handler.
    pub(crate) fn watch(cancel: impl Fn() + Send + 'static) -> std::io::Result<Self> {
        let interrupts = Interrupts::default();
        let first = interrupts.first.clone();
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let hangup = SignalKind::hangup();
        let mut kinds = vec![SignalKind::interrupt(), SignalKind::terminate()];
        if !is_ignored(&status, hangup.as_raw_value()) {
            kinds.push(hangup);
        }
        let signals = kinds.iter().map(|kind| Ok((signal(*kind)?, *kind)));
        let mut signals = signals.collect::<std::io::Result<Vec<_>>>()?;
        tokio::spawn(async move {
            loop {
                let kind = poll_fn(|context| next(&mut signals, context)).await;
                let number = u8::try_from(kind.as_raw_value()).unwrap_or_default();
                let code = i32::from(EXIT_SIGNAL + number);
                if first.swap(number, Ordering::SeqCst) != 0 {
                    std::process::exit(code);
                }
                cancel();
                tokio::spawn(async move {
                    tokio::time::sleep(END_TIMEOUT).await;
                    std::process::exit(code);
                });
            }
        });
        Ok(interrupts)
    }

    /// The signal that came, if one has.
    pub(crate) fn came(&self) -> Option<Interrupted> {
        match self.first.load(Ordering::SeqCst) {
            0 => None,
            signal => Some(Interrupted { signal }),
        }
    }
}

/// The signal that comes next.
fn next(signals: &mut [(Signal, SignalKind)], context: &mut Context<'_>) -> Poll<SignalKind> {
    for (signal, kind) in signals {
        if signal.poll_recv(context).is_ready() {
            return Poll::Ready(*kind);
        }
    }
    Poll::Pending
}

/// Whether a process ignores a signal, out of its status (proc_pid_status(5), `SigIgn`).
fn is_ignored(status: &str, signal: i32) -> bool {
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
