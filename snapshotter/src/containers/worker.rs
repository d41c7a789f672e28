//! The threads that do what containerd does not wait for: one makes trees of directories, finds
//! what nobody needs and keeps the quota; one deletes what is in the trash, at idle priority; one
//! flushes the rows of open snapshots.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Containers;
use super::clean_up::REAP_PAUSE;

/// Removals come in waves; what they left is looked for when a wave is over.
const QUIET: Duration = Duration::from_secs(3);

/// But not later than so long after the first one.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often a step that has failed is tried again.
const RETRY: Duration = Duration::from_secs(60);

/// How long the row of an open snapshot may not be on the disk.
const FLUSH_DELAY: Duration = Duration::from_millis(100);

/// When that is tried again: the disk may be full.
const FLUSH_RETRY: Duration = Duration::from_secs(1);

/// The least that a thread can ask for of the processors (nice).
const IDLE: i32 = 19;

/// What has happened that makes work.
#[derive(Debug, Default)]
pub(super) struct Events {
    state: Mutex<State>,
    /// One for each thread: to wake a thread takes as long as the rest of a short call.
    to_work: Condvar,
    to_reap: Condvar,
    to_flush: Condvar,
}

#[derive(Debug, Default)]
struct State {
    has_committed: bool,
    /// When directories that did not become trees are tried again, whatever else is done meanwhile.
    retry_due: Option<Instant>,
    /// Whether there are open snapshots whose rows may not be on the disk.
    is_unflushed: bool,
    /// The first removal that was not seen to, and the last.
    removed: Option<(Instant, Instant)>,
    /// When what is used of the disk is to be measured; never without a quota.
    space_due: Option<Instant>,
    /// Since when the trash is being emptied, and when the next part of it is to be deleted.
    reaping: Option<(Instant, Instant)>,
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
        self.to_work.notify_one();
    }

    pub(super) fn opened(&self) {
        // Otherwise it is awake.
        if !std::mem::replace(&mut self.state().is_unflushed, true) {
            self.to_flush.notify_one();
        }
    }

    /// Waits until rows are to be flushed; whether it is not the end.
    fn next_flush(&self) -> bool {
        let mut state = self.state();
        while !state.has_ended && !std::mem::take(&mut state.is_unflushed) {
            let woken = self.to_flush.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
        !state.has_ended
    }

    pub(super) fn removed(&self) {
        let now = Instant::now();
        let mut state = self.state();
        match &mut state.removed {
            // It wakes when the wave would be over by now, and then looks at the last one.
            Some((_, last)) => *last = now,
            None => {
                state.removed = Some((now, now));
                self.to_work.notify_one();
            }
        }
    }

    pub(super) fn measure(&self, directory: u64) {
        self.state().unmeasured.insert(directory);
        self.to_work.notify_one();
    }

    fn reap(&self) {
        let now = Instant::now();
        self.state().reaping = Some((now, now));
        self.to_reap.notify_one();
    }

    fn reap_more(&self, started: Instant) {
        // A later beginning stays.
        let mut state = self.state();
        state.reaping = state
            .reaping
            .or(Some((started, Instant::now() + REAP_PAUSE)));
    }

    /// Waits until the trash is to be emptied: since when; `None` at the end.
    fn next_reaping(&self) -> Option<Instant> {
        let mut state = self.state();
        while !state.has_ended {
            let now = Instant::now();
            let limit = match state.reaping {
                Some((started, due)) if due <= now => {
                    state.reaping = None;
                    return Some(started);
                }
                Some((_, due)) => due - now,
                None => RETRY,
            };
            let woken = self.to_reap.wait_timeout(state, limit);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        None
    }

    fn measure_space_in(&self, pause: Duration) {
        // Somebody may need it sooner.
        let mut state = self.state();
        state.space_due = state.space_due.or(Some(Instant::now() + pause));
    }

    /// Somebody needs room, or there are new limits.
    pub(super) fn need_space(&self) {
        self.state().space_due = Some(Instant::now());
        self.to_work.notify_one();
    }

    fn end(&self) {
        self.state().has_ended = true;
        for thread in [&self.to_work, &self.to_reap, &self.to_flush] {
            thread.notify_one();
        }
    }

    fn has_ended(&self) -> bool {
        self.state().has_ended
    }

    /// Waits for work; `None` at the end.
    fn next(&self) -> Option<Work> {
        let mut state = self.state();
        while !state.has_ended {
            let now = Instant::now();
            if let Some(work) = state.take_due(now) {
                return Some(work);
            }
            let waited = state.next_due().map_or(RETRY, |due| due - now);
            let woken = self.to_work.wait_timeout(state, waited);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        None
    }
}

impl State {
    /// What is to be done now.
    fn take_due(&mut self, now: Instant) -> Option<Work> {
        let is_due = |due: Option<Instant>| due.is_some_and(|due| due <= now);
        if std::mem::take(&mut self.has_committed) || is_due(self.retry_due) {
            // Perhaps what fails this time goes then.
            self.retry_due = Some(now + RETRY);
            return Some(Work::Ingest);
        }
        if is_due(self.space_due) {
            self.space_due = None;
            return Some(Work::KeepQuota);
        }
        if let Some(directory) = self.unmeasured.pop_first() {
            return Some(Work::Measure(directory));
        }
        if is_due(self.clean_up_due()) {
            self.removed = None;
            return Some(Work::CleanUp);
        }
        None
    }

    /// When there will be something to do by then.
    fn next_due(&self) -> Option<Instant> {
        let dues = [self.retry_due, self.space_due, self.clean_up_due()];
        dues.into_iter().flatten().min()
    }

    fn clean_up_due(&self) -> Option<Instant> {
        let (first, last) = self.removed?;
        Some((last + QUIET).min(first + PATIENCE))
    }
}

enum Work {
    Ingest,
    Measure(u64),
    KeepQuota,
    CleanUp,
}

/// The name of a thread, and what it does.
type Background = (&'static str, fn(&Containers));

/// Works in the background until it is dropped.
#[derive(Debug)]
pub struct Worker {
    containers: Arc<Containers>,
    threads: Vec<JoinHandle<()>>,
}

impl Worker {
    /// Starts the threads. What a killed process has left to be done is done first.
    ///
    /// # Errors
    /// There can be no more threads.
    pub fn start(containers: Arc<Containers>) -> std::io::Result<Self> {
        containers.events.committed();
        containers.events.removed();
        let mut worker = Worker {
            containers,
            threads: Vec::new(),
        };
        let threads: [Background; 3] = [
            ("varve-worker", work),
            ("varve-reaper", reap),
            ("varve-flusher", flush),
        ];
        for (name, run) in threads {
            let containers = worker.containers.clone();
            let thread = std::thread::Builder::new().name(name.into());
            worker.threads.push(thread.spawn(move || run(&containers))?);
        }
        Ok(worker)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.containers.events.end();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread that works in the background has panicked");
            }
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
            Work::KeepQuota => match containers.keep_quota() {
                Ok(None) => {}
                Ok(Some(pause)) => containers.events.measure_space_in(pause),
                Err(error) => {
                    tracing::error!(%error, "the quota cannot be kept");
                    containers.events.measure_space_in(RETRY);
                }
            },
            Work::CleanUp => {
                if let Err(error) = containers.collect() {
                    tracing::error!(%error, "what was removed is not freed yet");
                }
                containers.events.reap();
            }
        }
    }
}

fn flush(containers: &Containers) {
    while containers.events.next_flush() {
        // Those of a wave share one.
        std::thread::sleep(FLUSH_DELAY);
        if let Err(error) = containers.flush() {
            tracing::error!(%error, "open snapshots are not on the disk yet");
            std::thread::sleep(FLUSH_RETRY);
            containers.events.opened();
        }
    }
}

fn reap(containers: &Containers) {
    // Of this thread alone, and nobody waits for it: it holds no lock.
    if let Err(error) = rustix::process::setpriority_process(None, IDLE) {
        tracing::debug!(%error, "the trash is emptied at the usual priority");
    }
    while let Some(started) = containers.events.next_reaping() {
        match containers.reap_some(started) {
            Ok(false) => {}
            Ok(true) => containers.events.reap_more(started),
            Err(error) => tracing::error!(%error, "the trash cannot be emptied"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_tried_again_also_if_a_quota_is_looked_at_all_the_time() {
        let started = Instant::now();
        let mut state = State {
            has_committed: true,
            ..State::default()
        };
        let mut ingestions = Vec::new();
        for second in 0..130 {
            let now = started + Duration::from_secs(second);
            state.space_due = Some(now);
            while let Some(work) = state.take_due(now) {
                if matches!(work, Work::Ingest) {
                    ingestions.push(second);
                }
            }
        }
        assert_eq!(ingestions, [0, 60, 120]);
    }
}
