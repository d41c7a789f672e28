//! Builds as tables of events, for tests of the displays.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use solver::progress::{Display, Event, EventKind, Place, Progress, StepId};

/// A step that is no vertex of the graph.
pub(crate) const QUEUED: EventKind = EventKind::Queued(Place::Beside);

/// Gives events their time and the same id to the same name.
pub(crate) struct Script {
    start: Instant,
    ids: HashMap<String, StepId>,
    seen: Arc<Seen>,
    progress: Progress,
}

#[derive(Default)]
struct Seen(Mutex<Vec<StepId>>);

impl Display for Seen {
    fn show(&self, event: Event) {
        self.0.lock().unwrap().push(event.step);
    }
}

impl Script {
    pub(crate) fn new() -> Self {
        let seen = Arc::new(Seen::default());
        let progress = Progress::new(seen.clone());
        Script {
            start: Instant::now(),
            ids: HashMap::new(),
            seen,
            progress,
        }
    }

    pub(crate) fn at(&self, millis: u64) -> Instant {
        self.start + Duration::from_millis(millis)
    }

    /// An event of the step `name`, so many milliseconds after the start.
    pub(crate) fn event(&mut self, millis: u64, name: &str, kind: EventKind) -> Event {
        let Script {
            ids,
            progress,
            seen,
            ..
        } = self;
        let id = ids.entry(name.to_owned()).or_insert_with(|| {
            progress.step(name).done();
            seen.0.lock().unwrap().pop().unwrap()
        });
        let step = id.clone();
        Event {
            at: self.at(millis),
            step,
            name: name.into(),
            kind,
        }
    }
}

pub(crate) fn log(text: &str) -> EventKind {
    EventKind::Log {
        is_stderr: false,
        bytes: text.into(),
    }
}

pub(crate) fn status(id: &str, current: u64, total: Option<u64>, completed: bool) -> EventKind {
    EventKind::Status {
        id: id.into(),
        current,
        total,
        completed,
    }
}

pub(crate) fn failed(message: &str) -> EventKind {
    EventKind::Failed {
        message: message.into(),
    }
}
