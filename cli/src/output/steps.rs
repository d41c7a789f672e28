//! What is known about every step of a build, gathered from its events. No clock and no output:
//! the displays look at it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use solver::progress::{Event, EventKind, StepId};

use super::log::Log;

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It ran.
    Done,
    /// Its result was known.
    Cached,
    /// It failed.
    Failed(String),
    /// The build ended before it did.
    Cancelled,
}

/// Where a step is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Known, not started. Displays do not show it, they only count it.
    Waiting,
    /// Running.
    Running {
        /// Since when.
        since: Instant,
    },
    /// Ended, having been shown.
    Ended {
        /// When it started; the moment of its end if it never did, as with cached steps.
        since: Instant,
        /// When it ended.
        until: Instant,
        /// How.
        outcome: Outcome,
    },
    /// Cancelled before it started: never shown.
    Dropped,
}

/// A part of a step that tells how far it is.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// What it is called.
    pub(crate) id: String,
    /// Bytes done.
    pub(crate) current: u64,
    /// Bytes in all, if known.
    pub(crate) total: Option<u64>,
    /// When it was first heard of.
    pub(crate) since: Instant,
    /// When it was last heard of.
    pub(crate) at: Instant,
    /// Whether it is finished.
    pub(crate) completed: bool,
}

impl Part {
    /// ` 1.20MB / 3.00MB`, ` 1.20MB` or nothing.
    pub(crate) fn amount(&self) -> String {
        match (self.current, self.total) {
            (current, Some(total)) if total > 0 => {
                format!(
                    " {} / {}",
                    super::size::size(current),
                    super::size::size(total)
                )
            }
            (0, _) => String::new(),
            (current, _) => format!(" {}", super::size::size(current)),
        }
    }
}

/// A step.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// Its name.
    pub(crate) name: Arc<str>,
    /// Where it is in its life.
    pub(crate) life: Life,
    /// Its parts, in the order in which they were first heard of.
    pub(crate) parts: Vec<Part>,
    /// Its warnings.
    pub(crate) warnings: Vec<String>,
    /// What it wrote.
    pub(crate) log: Log,
}

impl Step {
    /// Whether it runs now.
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.life, Life::Running { .. })
    }

    /// How it ended, if it has and was shown.
    pub(crate) fn outcome(&self) -> Option<&Outcome> {
        match &self.life {
            Life::Ended { outcome, .. } => Some(outcome),
            _ => None,
        }
    }

    /// How long it has run.
    pub(crate) fn duration(&self, now: Instant) -> Duration {
        match self.life {
            Life::Running { since } => now.saturating_duration_since(since),
            Life::Ended { since, until, .. } => until.saturating_duration_since(since),
            Life::Waiting | Life::Dropped => Duration::ZERO,
        }
    }

    fn start(&mut self, at: Instant) {
        if self.life == Life::Waiting {
            self.life = Life::Running { since: at };
        }
    }

    fn end(&mut self, at: Instant, outcome: Outcome) {
        let since = match self.life {
            Life::Running { since } => since,
            Life::Waiting if outcome == Outcome::Cancelled => {
                self.life = Life::Dropped;
                return;
            }
            Life::Waiting => at,
            Life::Ended { .. } | Life::Dropped => return,
        };
        for part in &mut self.parts {
            part.completed |= outcome == Outcome::Done;
        }
        self.life = Life::Ended {
            since,
            until: at,
            outcome,
        };
    }

    fn status(&mut self, at: Instant, id: String, current: u64, total: Option<u64>, done: bool) {
        match self.parts.iter_mut().find(|part| part.id == id) {
            Some(part) => {
                (part.current, part.total, part.at) = (current, total, at);
                part.completed = done;
            }
            None => {
                let part = Part {
                    id,
                    current,
                    total,
                    since: at,
                    at,
                    completed: done,
                };
                self.parts.push(part);
            }
        }
    }
}

/// All steps of a build.
#[derive(Clone, Debug, Default)]
pub(crate) struct Steps {
    steps: Vec<Step>,
    /// Indexes of the steps that were started, in that order.
    started: Vec<usize>,
    by_id: HashMap<StepId, usize>,
    since: Option<Instant>,
}

impl Steps {
    /// Takes in an event; gives the index of its step.
    pub(crate) fn apply(&mut self, event: Event) -> usize {
        let Event {
            at,
            step: id,
            name,
            kind,
        } = event;
        self.since.get_or_insert(at);
        let steps = &mut self.steps;
        let index = *self.by_id.entry(id).or_insert_with(|| {
            steps.push(Step {
                name,
                life: Life::Waiting,
                parts: Vec::new(),
                warnings: Vec::new(),
                log: Log::default(),
            });
            steps.len() - 1
        });
        let step = &mut steps[index];
        let was_waiting = step.life == Life::Waiting;
        match kind {
            EventKind::Queued(_) => {}
            EventKind::Started => step.start(at),
            EventKind::Log { bytes, .. } => {
                step.start(at);
                step.log.write(step.duration(at), &bytes);
            }
            EventKind::Status {
                id,
                current,
                total,
                completed,
            } => {
                step.start(at);
                step.status(at, id, current, total, completed);
            }
            EventKind::Warning { message } => {
                step.start(at);
                step.warnings.push(message);
            }
            EventKind::Done => step.end(at, Outcome::Done),
            EventKind::Cached => step.end(at, Outcome::Cached),
            EventKind::Failed { message } => step.end(at, Outcome::Failed(message)),
            EventKind::Cancelled => step.end(at, Outcome::Cancelled),
        }
        if was_waiting && !matches!(step.life, Life::Waiting | Life::Dropped) {
            self.started.push(index);
        }
        index
    }

    /// The step of an index that [`Steps::apply`] gave.
    pub(crate) fn get(&self, index: usize) -> &Step {
        &self.steps[index]
    }

    /// The same, to trim its log.
    pub(crate) fn get_mut(&mut self, index: usize) -> &mut Step {
        &mut self.steps[index]
    }

    /// The steps that were started, in that order.
    pub(crate) fn started(&self) -> impl DoubleEndedIterator<Item = (usize, &Step)> {
        self.started
            .iter()
            .map(|index| (*index, &self.steps[*index]))
    }

    /// When the first event happened.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// How many steps have ended, and how many are known.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let ended = self
            .steps
            .iter()
            .filter(|step| step.outcome().is_some())
            .count();
        (ended, self.steps.len())
    }
}
