//! Failures that are not the end, told to the steps that wait because of them.

use std::sync::{Arc, Mutex, PoisonError};

use registry::{Next, Observer, Repository, Retry};

use crate::progress::Reporter;

/// Tells steps why it takes so long.
#[derive(Debug, Default)]
pub(super) struct Retries {
    listeners: Mutex<Listeners>,
}

#[derive(Debug, Default)]
struct Listeners {
    last: u64,
    known: Vec<(u64, Repository, Reporter)>,
}

/// Keeps a step informed until it is dropped.
#[derive(Debug)]
pub(super) struct Told {
    retries: Arc<Retries>,
    number: u64,
}

impl Retries {
    /// From now on `reporter` is told what happens to requests for `repository`.
    pub(super) fn tell(self: &Arc<Self>, repository: &Repository, reporter: &Reporter) -> Told {
        let mut listeners = self.listeners();
        listeners.last += 1;
        let number = listeners.last;
        let known = (number, repository.clone(), reporter.clone());
        listeners.known.push(known);
        let retries = self.clone();
        Told { retries, number }
    }

    fn listeners(&self) -> std::sync::MutexGuard<'_, Listeners> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Retries {
    fn retrying(&self, retry: &Retry<'_>) {
        let next = match retry.next {
            Next::Again { wait } if wait.is_zero() => "asking once more".to_owned(),
            Next::Again { wait } => {
                let (seconds, attempt) = (wait.as_secs_f64(), retry.attempt + 1);
                let attempts = retry.attempts_max;
                format!("trying again in {seconds:.1}s ({attempt}/{attempts})")
            }
            // The same one is asked in another way.
            Next::Server(server) if server == retry.server => return,
            Next::Server(server) => format!("asking {server}"),
        };
        // What is done about it first: a terminal may have no room for the whole.
        let message = format!("{next}: {}", retry.cause.brief());
        let listeners = self.listeners();
        // Several layers of one repository are one step, which is told once.
        let known = listeners.known.iter();
        let mut concerned =
            known.filter(|(_, repository, _)| repository == retry.subject.repository());
        if let Some((_, _, reporter)) = concerned.next_back() {
            reporter.warn(message);
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let mut listeners = self.retries.listeners();
        listeners
            .known
            .retain(|(number, ..)| *number != self.number);
    }
}
