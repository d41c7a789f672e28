//! A display that gathers the record of a build, and hands every event on.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::critical_path::{critical_path, length_us};
use super::record::{
    Asked, BuildRecord, Counts, Details, LayerRecord, LogExcerpt, LogLine, PartRecord, Status,
    StepOutcome, StepRecord, Summary, Traffic,
};
use super::redaction::Redaction;
use crate::progress::{Display, Event, EventKind, Place, Progress, StepId};
use crate::request::Built;

/// Steps of a build that are kept.
const STEPS_MAX: usize = 5_000;

/// Parts of a step, and warnings.
const PARTS_MAX: usize = 200;

/// Bytes of a name, a warning, an error or a line of a log.
const TEXT_BYTES_MAX: usize = 4 << 10;

/// Bytes of the beginning of a step's log …
const LOG_HEAD_BYTES: usize = 16 << 10;

/// … and of its end.
const LOG_TAIL_BYTES: usize = 112 << 10;

/// Bytes of all logs of a build; if they are more, each step keeps less.
const LOGS_BYTES_MAX: usize = 1 << 20;

/// A step keeps so much of the end of its log, however many steps there are.
const LOG_BYTES_MIN: usize = 1 << 10;

/// Bytes that a line costs beside its text.
const LINE_BYTES: usize = 40;

/// Gathers what happens in a build.
pub struct Recorder {
    display: Arc<dyn Display>,
    started: Instant,
    started_ms: u64,
    asked: Asked,
    redaction: Redaction,
    state: Mutex<State>,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    steps: Vec<Step>,
    by_id: HashMap<StepId, usize>,
    left_out: u64,
}

#[derive(Default)]
struct Step {
    record: StepRecord,
    log: Log,
}

impl Recorder {
    /// Begins the record of a build; events go on to `display`. What
    /// `redaction` names will not be in it.
    pub fn new(display: Arc<dyn Display>, asked: Asked, redaction: Redaction) -> Arc<Self> {
        Arc::new(Recorder {
            display,
            started: Instant::now(),
            started_ms: super::now_ms(),
            asked,
            redaction,
            state: Mutex::default(),
        })
    }

    /// Ends the record of the build with this number (0: none yet). What happens later is not in
    /// it.
    pub fn finish(&self, number: u64, outcome: &Outcome<'_>, progress: &Progress) -> BuildRecord {
        let duration_us = self.micros(Instant::now());
        let state = std::mem::take(&mut *self.lock());
        let mut details = Details {
            steps: records(state.steps, duration_us),
            steps_left_out: state.left_out,
            ..Details::default()
        };
        let status = match outcome {
            Outcome::Completed(built) => {
                details.note(built);
                Status::Completed
            }
            Outcome::Failed { error, excerpt } => {
                details.error = Some(cut(error));
                details.excerpt = Some(cut(excerpt)).filter(|text| !text.is_empty());
                Status::Error
            }
            Outcome::Canceled => Status::Canceled,
        };
        self.redaction.apply(&mut details);
        let brought = progress.tally().sum();
        let path = critical_path(&details.steps);
        BuildRecord {
            summary: Summary {
                number,
                started_ms: self.started_ms,
                duration_us,
                status,
                asked: self.asked.clone(),
                steps: count(&details.steps),
                critical_path_us: length_us(&details.steps, &path),
                traffic: Traffic {
                    downloaded: progress.downloaded(),
                    written: brought.bytes_written,
                    deduplicated: brought.bytes_known,
                },
                bytes: 0,
                process: None,
            },
            details,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn micros(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.started).as_micros();
        u64::try_from(since).unwrap_or(u64::MAX)
    }
}

/// How a build ended, for [`Recorder::finish`].
#[derive(Debug)]
pub enum Outcome<'a> {
    /// Well.
    Completed(&'a Built),
    /// With an error.
    Failed {
        /// The sentence.
        error: String,
        /// The lines of the Dockerfile.
        excerpt: String,
    },
    /// Somebody stopped it.
    Canceled,
}

impl Details {
    fn note(&mut self, built: &Built) {
        self.warnings = built
            .warnings
            .iter()
            .take(PARTS_MAX)
            .map(|text| cut(text))
            .collect();
        self.image_id = built.config.map(|digest| digest.to_string());
        self.manifest = built
            .target
            .as_ref()
            .map(|target| target.digest.to_string());
        self.names = built.names.clone();
        self.layers = built.layers.iter().map(LayerRecord::of).collect();
    }
}

impl Display for Recorder {
    fn show(&self, event: Event) {
        let at = self.micros(event.at);
        self.lock().apply(at, &event);
        self.display.show(event);
    }
}

impl State {
    fn apply(&mut self, at: u64, event: &Event) {
        let index = match self.by_id.get(&event.step) {
            Some(index) => *index,
            None if self.steps.len() >= STEPS_MAX => {
                self.left_out += u64::from(matches!(event.kind, EventKind::Queued(_)));
                return;
            }
            None => {
                let mut step = Step::default();
                step.record.digest = event.step.to_string();
                step.record.name = cut(&event.name);
                self.steps.push(step);
                self.by_id.insert(event.step.clone(), self.steps.len() - 1);
                self.steps.len() - 1
            }
        };
        let inputs = match &event.kind {
            EventKind::Queued(Place::Graph { inputs }) => Some(
                inputs
                    .iter()
                    .filter_map(|id| self.by_id.get(id).copied())
                    .collect(),
            ),
            _ => None,
        };
        let step = &mut self.steps[index];
        if let Some(inputs) = inputs {
            step.record.in_graph = true;
            step.record.inputs = inputs;
        }
        step.apply(at, &event.kind);
    }
}

impl Step {
    fn apply(&mut self, at: u64, kind: &EventKind) {
        let record = &mut self.record;
        if !matches!(kind, EventKind::Queued(_) | EventKind::Cancelled) {
            record.started_us.get_or_insert(at);
        }
        let mut end = |outcome| {
            record.outcome = outcome;
            // One that never began never ended.
            record.ended_us = record.started_us.map(|_| at);
        };
        match kind {
            EventKind::Queued(_) | EventKind::Started => {}
            EventKind::Log { is_stderr, bytes } => self.log.write(at, *is_stderr, bytes),
            EventKind::Status {
                id,
                current,
                total,
                completed,
            } => part(&mut record.parts, at, id, (*current, *total, *completed)),
            EventKind::Warning { message } => {
                if record.warnings.len() < PARTS_MAX {
                    record.warnings.push(cut(message));
                }
            }
            EventKind::Done => end(StepOutcome::Done),
            EventKind::Cached => end(StepOutcome::Cached),
            EventKind::Cancelled => end(StepOutcome::Canceled),
            EventKind::Failed { message } => {
                end(StepOutcome::Failed);
                record.error = Some(cut(message));
            }
        }
    }
}

fn part(
    parts: &mut Vec<PartRecord>,
    at: u64,
    id: &str,
    (current, total, completed): (u64, Option<u64>, bool),
) {
    let index = match parts.iter().position(|part| part.id == id) {
        Some(index) => index,
        None if parts.len() >= PARTS_MAX || id.len() > TEXT_BYTES_MAX => return,
        None => {
            parts.push(PartRecord {
                id: id.to_owned(),
                started_us: at,
                ..PartRecord::default()
            });
            parts.len() - 1
        }
    };
    let part = &mut parts[index];
    (part.current, part.total, part.completed) = (current, total, completed);
    part.ended_us = at;
}

/// The records of steps; those that still run end with the build.
fn records(steps: Vec<Step>, end: u64) -> Vec<StepRecord> {
    let mut limit = LOG_TAIL_BYTES;
    let size = |limit: usize| -> usize {
        let logs = steps.iter().map(|step| &step.log);
        logs.map(|log| log.head_bytes.min(limit) + log.tail_bytes.min(limit))
            .sum()
    };
    while limit > LOG_BYTES_MIN && size(limit) > LOGS_BYTES_MAX {
        limit /= 2;
    }
    let record = |step: Step| {
        let mut record = step.record;
        let keeps = match record.outcome {
            // What a person looks for.
            StepOutcome::Failed => LOG_TAIL_BYTES,
            _ => limit,
        };
        record.log = step.log.excerpt(keeps);
        if record.started_us.is_some() {
            record.ended_us.get_or_insert(end);
        }
        record
    };
    steps.into_iter().map(record).collect()
}

fn count(steps: &[StepRecord]) -> Counts {
    let mut counts = Counts::default();
    for step in steps.iter().filter(|step| step.in_graph) {
        *match step.outcome {
            StepOutcome::Done => &mut counts.run,
            StepOutcome::Cached => &mut counts.cached,
            StepOutcome::Failed => &mut counts.failed,
            StepOutcome::Canceled => &mut counts.canceled,
        } += 1;
    }
    counts
}

/// The beginning of a text.
fn cut(text: &str) -> String {
    if text.len() <= TEXT_BYTES_MAX {
        return text.to_owned();
    }
    let mut end = TEXT_BYTES_MAX;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

/// A log of which the beginning and the end are kept.
#[derive(Default)]
struct Log {
    head: Vec<LogLine>,
    head_bytes: usize,
    tail: VecDeque<LogLine>,
    tail_bytes: usize,
    left_out: u64,
    written: u64,
    /// The line that has not ended: when it began, its stream, its bytes.
    open: Option<(u64, bool, Vec<u8>)>,
}

impl Log {
    fn write(&mut self, at: u64, is_stderr: bool, bytes: &[u8]) {
        self.written += bytes.len() as u64;
        if self.open.as_ref().is_some_and(|open| open.1 != is_stderr) {
            self.close();
        }
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            let (_, _, line) = self.open.get_or_insert_with(|| (at, is_stderr, Vec::new()));
            // One more than fits, so that it is seen that something is missing.
            let room = (TEXT_BYTES_MAX + 1).saturating_sub(line.len());
            line.extend_from_slice(&text[..text.len().min(room)]);
            if ends {
                self.close();
            }
        }
    }

    fn close(&mut self) {
        let Some((at_us, is_stderr, bytes)) = self.open.take() else {
            return;
        };
        let text = cut(&String::from_utf8_lossy(&bytes));
        let size = text.len() + LINE_BYTES;
        let line = LogLine {
            at_us,
            is_stderr,
            text,
        };
        if self.tail.is_empty() && self.head_bytes + size <= LOG_HEAD_BYTES {
            self.head_bytes += size;
            self.head.push(line);
            return;
        }
        self.tail_bytes += size;
        self.tail.push_back(line);
        self.trim(LOG_TAIL_BYTES);
    }

    /// Forgets the oldest lines of the end.
    fn trim(&mut self, bytes: usize) {
        while self.tail_bytes > bytes
            && let Some(line) = self.tail.pop_front()
        {
            self.tail_bytes -= line.text.len() + LINE_BYTES;
            self.left_out += 1;
        }
    }

    /// As much of it as fits into so many bytes, twice.
    fn excerpt(mut self, bytes: usize) -> LogExcerpt {
        self.close();
        if self.head_bytes > bytes {
            // Better the end than the beginning.
            let mut all = VecDeque::from(std::mem::take(&mut self.head));
            all.append(&mut self.tail);
            self.tail = all;
            self.tail_bytes += std::mem::take(&mut self.head_bytes);
        }
        self.trim(bytes);
        let gap_at = self.head.len();
        let mut lines = self.head;
        lines.extend(self.tail);
        LogExcerpt {
            lines,
            left_out: self.left_out,
            gap_at,
            written: self.written,
        }
    }
}

#[cfg(test)]
mod tests;
