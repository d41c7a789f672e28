//! Ctrl-C and friends: the first one cancels and lets everything end in order, the second one ends
//! varve at once. Both leave nothing behind: containers die with varve, its mounts are seen by
//! nobody else, and what a store has half-written is thrown away at the next start.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{EXIT_SIGNAL, Interrupted};

/// Watches for signals that ask varve to end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupts {
    first: Arc<AtomicU8>,
}

impl Interrupts {
    /// Starts to watch; from now on such signals do not kill. `cancel` is called for the first.
    ///
    /// # Errors
    /// The kernel refuses a handler.
    pub(crate) fn watch(cancel: impl Fn() + Send + 'static) -> std::io::Result<Self> {
        let interrupts = Interrupts::default();
        let first = interrupts.first.clone();
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = kinds.map(signal);
        let mut signals = [interrupt?, terminate?, hangup?];
        tokio::spawn(async move {
            loop {
                let index = next(&mut signals).await;
                let number = u8::try_from(kinds[index].as_raw_value()).unwrap_or_default();
                if first.swap(number, Ordering::SeqCst) != 0 {
                    std::process::exit(i32::from(EXIT_SIGNAL + number));
                }
                cancel();
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

/// The index of the signal that comes next.
async fn next(signals: &mut [Signal; 3]) -> usize {
    let [interrupt, terminate, hangup] = signals;
    tokio::select! {
        _ = interrupt.recv() => 0,
        _ = terminate.recv() => 1,
        _ = hangup.recv() => 2,
    }
}
