//! Progress as lines that are only ever added: for logs, pipes and `--progress=plain`.
//!
//! The form and the rules are those of BuildKit (`util/progress/progressui/printer.go`), because
//! people and tools read it: a step gets its number when it is first shown; one step at a time is
//! shown while it runs; another takes its place when it ends, when it has waited for 10 seconds, or
//! when it writes much more; what has ended is shown at once.

use std::time::{Duration, Instant};

use solver::progress::Event;

use super::failed_steps::{self, Left, Reader};
use super::steps::{Life, Outcome, Part, Step, Steps};

/// A step that writes about as much as another keeps its place at least so long.
const FLICKER_DELAY: Duration = Duration::from_secs(5);

/// No running step that has something to say waits longer.
const HIDDEN_MAX: Duration = Duration::from_secs(10);

/// A part of a step is shown again after so long …
const PART_INTERVAL: Duration = Duration::from_secs(5);

/// … or when so much of it was done since, as a share of its total.
const PART_SHARE: f64 = 0.05;

/// Lines of log that are kept for a failure.
const TAIL_LINES: usize = 10;

/// Bytes of log that wait for their step's turn; then it gets it at once.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// Turns events into lines.
#[derive(Debug, Default)]
pub(crate) struct Plain {
    steps: Steps,
    /// How much of each step has been shown, by index.
    shown: Vec<Shown>,
    current: Option<usize>,
    numbers: usize,
}

/// What was shown of a step.
#[derive(Debug, Default)]
struct Shown {
    number: Option<usize>,
    /// Whether there is something new.
    changed: bool,
    /// Events since it last lost or finished its turn, and when the first of them came.
    events: u32,
    events_since: Option<Instant>,
    parts: Vec<ShownPart>,
    warnings: usize,
    /// Number of the first line that was not shown to its end.
    line: u64,
    /// Bytes of that line that were shown; its beginning, with the number, if any.
    offset: Option<usize>,
}

/// What was last shown of a part.
#[derive(Clone, Copy, Debug)]
struct ShownPart {
    current: u64,
    at: Instant,
    completed: bool,
}

/// How much a running step has to say.
struct Claim {
    index: usize,
    waited: Duration,
    /// Events per second.
    speed: f64,
}

impl Plain {
    /// Takes in an event; tells whether so much waits that [`Plain::print`] should be called now.
    pub(crate) fn apply(&mut self, event: Event) -> bool {
        let at = event.at;
        let index = self.steps.apply(event);
        if self.shown.len() <= index {
            self.shown.resize_with(index + 1, Shown::default);
        }
        let step = self.steps.get(index);
        if matches!(step.life, Life::Waiting | Life::Dropped) {
            return false;
        }
        let shown = &mut self.shown[index];
        shown.changed = true;
        if shown.events == 0 {
            shown.events_since = Some(at);
        }
        shown.events = shown.events.saturating_add(1);
        step.log.bytes() > WAITING_BYTES_MAX
    }

    /// Prints what is due.
    pub(crate) fn print(&mut self, now: Instant, out: &mut Vec<u8>) {
        let (ended, mut running) = self.changed();
        let before = self.current;
        let current_ended = before.is_some_and(|current| ended.contains(&current));
        if let Some(current) = before.filter(|_| current_ended) {
            self.print_step(current, out);
        }
        for index in ended {
            if Some(index) != before {
                self.print_step(index, out);
            }
        }
        if running.is_empty() {
            let stays = before.is_some_and(|current| self.steps.get(current).is_running());
            let open = self.steps.started().find(|(_, step)| step.is_running());
            if let Some((index, _)) = open.filter(|_| !stays) {
                self.print_step(index, out);
            }
            return;
        }
        if let Some(current) = before.filter(|current| running.contains(current)) {
            self.print_step(current, out);
        }
        running.extend(
            before.filter(|current| {
                !running.contains(current) && self.steps.get(*current).is_running()
            }),
        );
        if let Some(next) = self.next(now, &running, before.filter(|_| !current_ended)) {
            self.print_step(next, out);
        }
    }

    /// Prints a sentence of ours on a line of its own.
    pub(crate) fn say(&mut self, sentence: &str, out: &mut Vec<u8>) {
        if let Some(current) = self.current {
            self.shown[current].break_line(out);
        }
        out.extend_from_slice(format!("{sentence}\n").as_bytes());
    }

    /// Prints everything that is left, and the logs of what failed.
    pub(crate) fn finish(&mut self, now: Instant, out: &mut Vec<u8>) {
        self.print(now, out);
        if let Some(current) = self.current {
            self.shown[current].break_line(out);
        }
        failed_steps::print(&self.steps, Left::Known, Reader::Pipe, out);
    }

    /// The steps with something new: those that have ended, by the time of their end, and those
    /// that run.
    fn changed(&self) -> (Vec<usize>, Vec<usize>) {
        let (mut ended, mut running) = (Vec::new(), Vec::new());
        for (index, step) in self.steps.started() {
            match step.life {
                _ if !self.shown[index].changed => {}
                Life::Ended { until, .. } => ended.push((until, index)),
                _ => running.push(index),
            }
        }
        ended.sort();
        (ended.into_iter().map(|(_, index)| index).collect(), running)
    }

    /// Which of several running steps is to be shown instead of the current one.
    fn next(&self, now: Instant, running: &[usize], current: Option<usize>) -> Option<usize> {
        let claims: Vec<_> = running
            .iter()
            .filter_map(|index| self.claim(*index, now))
            .collect();
        let fastest = claims.iter().max_by(|a, b| a.speed.total_cmp(&b.speed))?;
        let is_overdue = |claim: &&Claim| {
            let bytes = self.steps.get(claim.index).log.bytes();
            let is_due = claim.waited > HIDDEN_MAX || bytes > WAITING_BYTES_MAX;
            Some(claim.index) != current && is_due
        };
        let overdue = claims.iter().find(is_overdue);
        let Some(current) = current else {
            return Some(overdue.unwrap_or(fastest).index);
        };
        if let Some(overdue) = overdue {
            return Some(overdue.index);
        }
        let own = claims.iter().find(|claim| claim.index == current)?;
        let all: f64 = claims.iter().map(|claim| claim.speed).sum();
        // The others' share of all that is written: a small one leaves the current step alone.
        let others = 1.0 - own.speed / all;
        let is_over = FLICKER_DELAY.as_secs_f64() < own.waited.as_secs_f64() * others;
        (is_over && fastest.index != current).then_some(fastest.index)
    }

    fn claim(&self, index: usize, now: Instant) -> Option<Claim> {
        let shown = &self.shown[index];
        let waited = now.saturating_duration_since(shown.events_since?);
        let speed = f64::from(shown.events) / waited.as_secs_f64().max(1e-9);
        Some(Claim {
            index,
            waited,
            speed,
        })
    }

    /// Prints what is new of a step, which gets the turn.
    fn print_step(&mut self, index: usize, out: &mut Vec<u8>) {
        if self.current != Some(index) {
            self.switch_to(index, out);
        }
        let shown = &mut self.shown[index];
        let step = self.steps.get(index);
        let number = *shown.number.get_or_insert_with(|| {
            self.numbers += 1;
            self.numbers
        });
        print_parts(number, step, shown, out);
        for warning in &step.warnings[shown.warnings..] {
            shown.break_line(out);
            line(out, number, &format!("WARN: {warning}"));
        }
        shown.warnings = step.warnings.len();
        print_log(number, step, shown, out);
        shown.changed = false;
        self.current = Some(index);
        if let Life::Ended {
            since,
            until,
            outcome,
        } = &step.life
        {
            let took = until.saturating_duration_since(*since);
            let text = ending(outcome, took);
            shown.break_line(out);
            line(out, number, &text);
            self.current = None;
            (shown.events, shown.events_since) = (0, None);
        }
        self.steps
            .get_mut(index)
            .log
            .keep_last(TAIL_LINES, usize::MAX);
    }

    fn switch_to(&mut self, index: usize, out: &mut Vec<u8>) {
        if let Some(current) = self.current {
            let shown = &mut self.shown[current];
            shown.break_line(out);
            (shown.events, shown.events_since) = (0, None);
            line(out, shown.number.unwrap_or_default(), "...");
        }
        if self.numbers > 0 {
            out.push(b'\n');
        }
        let shown = &mut self.shown[index];
        let number = *shown.number.get_or_insert_with(|| {
            self.numbers += 1;
            self.numbers
        });
        line(out, number, &self.steps.get(index).name.replace('\n', " "));
    }
}

impl Shown {
    /// Ends the line of log in whose middle the output stands, if it does. What comes of it later
    /// is shown with its beginning.
    fn break_line(&mut self, out: &mut Vec<u8>) {
        if self.offset.take().is_some() {
            out.push(b'\n');
        }
    }
}

fn line(out: &mut Vec<u8>, number: usize, text: &str) {
    out.extend_from_slice(format!("#{number} {text}\n").as_bytes());
}

fn ending(outcome: &Outcome, took: Duration) -> String {
    match outcome {
        Outcome::Done => format!("DONE {:.1}s", took.as_secs_f64()),
        Outcome::Cached => "CACHED".to_owned(),
        Outcome::Failed(message) => format!("ERROR: {message}"),
        Outcome::Cancelled => "CANCELED".to_owned(),
    }
}

fn print_parts(number: usize, step: &Step, shown: &mut Shown, out: &mut Vec<u8>) {
    for (index, part) in step.parts.iter().enumerate() {
        if !is_due(part, shown.parts.get(index)) {
            continue;
        }
        let took = part.at.saturating_duration_since(part.since).as_secs_f64();
        let took = if took > 0.01 {
            format!(" {took:.1}s")
        } else {
            String::new()
        };
        let done = if part.completed { " done" } else { "" };
        shown.break_line(out);
        line(
            out,
            number,
            &format!("{}{}{took}{done}", part.id, part.amount()),
        );
        let now = ShownPart {
            current: part.current,
            at: part.at,
            completed: part.completed,
        };
        match shown.parts.get_mut(index) {
            Some(before) => *before = now,
            None => shown.parts.push(now),
        }
    }
}

fn is_due(part: &Part, before: Option<&ShownPart>) -> bool {
    let Some(before) = before else { return true };
    if before.completed || part.completed {
        return !before.completed;
    }
    let more = part.current.saturating_sub(before.current) as f64;
    let share = part
        .total
        .filter(|total| *total > 0)
        .map_or(0.0, |total| more / total as f64);
    share >= PART_SHARE || part.at.saturating_duration_since(before.at) >= PART_INTERVAL
}

fn print_log(number: usize, step: &Step, shown: &mut Shown, out: &mut Vec<u8>) {
    let end = step.log.end();
    for (index, text) in step.log.from(shown.line) {
        match shown.offset.filter(|_| index == shown.line) {
            Some(offset) => out.extend_from_slice(&text.text[offset..]),
            None => {
                out.extend_from_slice(format!("#{number} {} ", text.stamp()).as_bytes());
                out.extend_from_slice(&text.text);
            }
        }
        let is_open = index + 1 == end && step.log.is_open();
        if is_open {
            (shown.line, shown.offset) = (index, Some(text.text.len()));
        } else {
            out.push(b'\n');
            (shown.line, shown.offset) = (index + 1, None);
        }
    }
}

#[cfg(test)]
mod tests;
