//! The thread that does what containerd does not wait for: directories become trees, what was
//! removed is freed.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Containers;

/// Removals come in waves; what they left is looked for when a wave is over.
const QUIET: Duration = Duration::from_secs(3);

/// But not later than so long after the first one.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often a step that has failed is tried again.
const RETRY: Duration = Duration::from_secs(60);

/// What has happened that makes work.
#[derive(Debug, Default)]
pub(super) struct Events {
    state: Mutex<State>,
    happened: Condvar,
}

#[derive(Debug, Default)]
struct State {
    has_committed: bool,
    /// The first removal that was not seen to, and the last.
    removed: Option<(Instant, Instant)>,
    /// Directories whose usage was asked for.
    unmeasured: BTreeSet<u64>,
    has_ended: bool,
}

impl Events {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn committed(&self) {
        self.state().has_committed = true;
        self.happened.notify_all();
    }

    pub(super) fn removed(&self) {
        let now = Instant::now();
        let mut state = self.state();
        let first = state.removed.map_or(now, |(first, _)| first);
        state.removed = Some((first, now));
        self.happened.notify_all();
    }

    pub(super) fn measure(&self, directory: u64) {
        self.state().unmeasured.insert(directory);
        self.happened.notify_all();
    }

    fn end(&self) {
        self.state().has_ended = true;
        self.happened.notify_all();
    }

    fn has_ended(&self) -> bool {
        self.state().has_ended
    }

    /// Waits for work; `None` at the end.
    fn next(&self) -> Option<Work> {
        let mut state = self.state();
        loop {
            if state.has_ended {
                return None;
            }
            if std::mem::take(&mut state.has_committed) {
                return Some(Work::Ingest);
            }
            if let Some(directory) = state.unmeasured.pop_first() {
                return Some(Work::Measure(directory));
            }
            let limit = match state.removed {
                None => RETRY,
                Some((first, last)) => {
                    let due = (last + QUIET).min(first + PATIENCE);
                    let left = due.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        state.removed = None;
                        return Some(Work::CleanUp);
                    }
                    left
                }
            };
            let waited = self.happened.wait_timeout(state, limit);
            let timed_out;
            (state, timed_out) = waited.unwrap_or_else(PoisonError::into_inner);
            if timed_out.timed_out() && state.removed.is_none() {
                // Perhaps what failed goes now.
                state.has_committed = true;
            }
        }
    }
}

enum Work {
    Ingest,
    Measure(u64),
    CleanUp,
}

/// Works in the background until it is dropped.
#[derive(Debug)]
pub struct Worker {
    containers: Arc<Containers>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts the thread. What a killed process has left to be done is done first.
    ///
    /// # Errors
    /// There can be no more threads.
    pub fn start(containers: Arc<Containers>) -> std::io::Result<Self> {
        containers.events.committed();
        containers.events.removed();
        let works = containers.clone();
        let thread = std::thread::Builder::new()
            .name("varve-containers".into())
            .spawn(move || work(&works))?;
        Ok(Worker {
            containers,
            thread: Some(thread),
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.containers.events.end();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that ingests has panicked");
        }
    }
}

fn work(containers: &Containers) {
    // At the usual priority: whoever prepares a snapshot may wait for what is done here.
    while let Some(work) = containers.events.next() {
        match work {
            Work::Ingest => containers.ingest_all(&|| containers.events.has_ended()),
            Work::Measure(directory) => {
                if let Err(error) = containers.measure(directory) {
                    // Perhaps it was removed meanwhile.
                    tracing::debug!(directory, %error, "cannot measure a directory");
                }
            }
            Work::CleanUp => {
                if let Err(error) = containers.clean_up() {
                    tracing::error!(%error, "what was removed is not freed yet");
                }
            }
        }
    }
}
