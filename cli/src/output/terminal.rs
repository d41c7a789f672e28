//! Progress as a picture of the present, redrawn in place: for people at a terminal.
//!
//! [`render`] is a function from what is known to lines; [`screen`] turns lines into bytes that
//! replace the lines drawn before.

pub(crate) mod screen;

use std::time::Instant;

use super::CANCELLING;
use super::size::size;
use super::steps::{Outcome, Part, Step, Steps};
use super::text::{columns, cut, harmless, short_digests, wrap};

/// Lines that must be free, beside those of the log, before one more step shows its log.
const LINES_FREE: usize = 3;

/// Narrower than this there is no room for times beside names.
const TIMES_COLUMNS_MIN: usize = 24;

/// Narrower than this there is no room for bars.
const BAR_COLUMNS_MIN: usize = 72;

/// Indentation and marks of the lines of a log.
const LOG_MARK: &str = " => => # ";

/// How a line is painted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paint {
    /// As text is.
    Normal,
    /// A step that ended well.
    Ended,
    /// Cancelled.
    Cancelled,
    /// A warning.
    Warning,
    /// Failed.
    Failed,
    /// Output of a step.
    Faint,
}

/// A line of the picture, at most as wide as the terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Without escape sequences or line feed.
    pub(crate) text: String,
    /// How to paint it.
    pub(crate) paint: Paint,
}

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    /// Characters in a line.
    pub(crate) columns: usize,
    /// Lines.
    pub(crate) rows: usize,
}

/// What a picture depends on beside the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// The terminal's.
    pub(crate) size: Size,
    /// Lines of log below a running step.
    pub(crate) log_lines: usize,
    /// Whether the build is being cancelled.
    pub(crate) is_cancelling: bool,
}

/// A step, a part of it or a warning: one line.
struct Row {
    line: Line,
    /// Whether it is the line of a step itself.
    is_step: bool,
    is_running: bool,
    /// Of a running step that wrote something: its index.
    log_of: Option<usize>,
}

/// The picture while the build goes on: no more lines than fit above the cursor's.
pub(crate) fn render(steps: &Steps, now: Instant, look: &Look) -> Vec<Line> {
    let size = look.size;
    let rows = rows(steps, now, size.columns);
    // One line for the header, one for the cursor.
    let room = size.rows.saturating_sub(2);
    let running = rows.iter().filter(|row| row.is_running).count();
    let logs = logs(steps, &rows, look, room.saturating_sub(running));
    let log_lines: usize = logs.iter().map(|(_, lines)| lines.len()).sum();
    let chosen = choose(&rows, room - log_lines.min(room));
    let unseen = rows
        .iter()
        .zip(&chosen)
        .filter(|(row, chosen)| row.is_running && row.is_step && !**chosen)
        .count();
    let note = match unseen {
        _ if look.is_cancelling => format!(" {CANCELLING}"),
        0 => String::new(),
        unseen => format!(" {unseen} more running"),
    };
    let mut picture = vec![header(steps, now, size.columns, &note)];
    for (row, _) in rows.into_iter().zip(chosen).filter(|(_, chosen)| *chosen) {
        picture.push(row.line);
        let log = logs.iter().find(|(index, _)| Some(*index) == row.log_of);
        picture.extend(log.into_iter().flat_map(|(_, lines)| lines.iter().cloned()));
    }
    picture
}

/// The picture when the build is over: every step, whatever the height of the terminal.
pub(crate) fn render_all(steps: &Steps, now: Instant, look: &Look) -> Vec<Line> {
    let width = look.size.columns;
    let (ended, all) = steps.counts();
    let note = match look.is_cancelling {
        true => " CANCELED",
        false if ended == all && all > 0 => " FINISHED",
        false => "",
    };
    let rows = rows(steps, now, width).into_iter().map(|row| row.line);
    std::iter::once(header(steps, now, width, note))
        .chain(rows)
        .collect()
}

fn header(steps: &Steps, now: Instant, width: usize, note: &str) -> Line {
    let took = steps.since().map_or(0.0, |since| {
        now.saturating_duration_since(since).as_secs_f64()
    });
    let (ended, all) = steps.counts();
    let text = format!("[+] Building {took:.1}s ({ended}/{all}){note}");
    Line {
        text: cut(&text, width),
        paint: Paint::Normal,
    }
}

fn rows(steps: &Steps, now: Instant, width: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    for (index, step) in steps.started() {
        let took = step.duration(now).as_secs_f64();
        let name = harmless(step.name.as_bytes());
        let (mark, paint) = match step.outcome() {
            None => ("", Paint::Normal),
            Some(Outcome::Done) => ("", Paint::Ended),
            Some(Outcome::Cached) => ("CACHED ", Paint::Ended),
            Some(Outcome::Failed(_)) => ("ERROR ", Paint::Failed),
            Some(Outcome::Cancelled) => ("CANCELED ", Paint::Cancelled),
        };
        let is_running = step.is_running();
        let text = row(&format!("{mark}{name}"), "", took, width);
        let log_of = (is_running && step.log.written() > 0).then_some(index);
        rows.push(Row {
            line: Line { text, paint },
            is_step: true,
            is_running,
            log_of,
        });
        rows.extend(
            step.parts
                .iter()
                .map(|part| part_row(step, part, now, width)),
        );
        rows.extend(step.warnings.iter().map(|warning| {
            let text = row(
                &format!("WARN: {}", short_digests(&harmless(warning.as_bytes()))),
                "",
                took,
                width,
            );
            Row {
                line: Line {
                    text,
                    paint: Paint::Warning,
                },
                is_step: false,
                is_running: false,
                log_of: None,
            }
        }));
    }
    rows
}

fn part_row(step: &Step, part: &Part, now: Instant, width: usize) -> Row {
    let is_running = step.is_running() && !part.completed;
    let until = if is_running { now } else { part.at };
    let took = until.saturating_duration_since(part.since).as_secs_f64();
    let mut amount = part.amount();
    if is_running {
        amount.insert_str(0, &bar(part, width));
    }
    let seconds = part.at.saturating_duration_since(part.since).as_secs_f64();
    // A rate over less than that is noise.
    if is_running && seconds >= 0.2 && part.current > 0 {
        amount.push_str(&format!(
            " {}/s",
            size((part.current as f64 / seconds) as u64)
        ));
    }
    let text = row(
        &format!("=> {}", harmless(part.id.as_bytes())),
        &amount,
        took,
        width,
    );
    let paint = if part.completed {
        Paint::Ended
    } else {
        Paint::Normal
    };
    Row {
        line: Line { text, paint },
        is_step: false,
        is_running,
        log_of: None,
    }
}

/// ` [=====>    ]` for a part whose total is known, where there is room for it.
fn bar(part: &Part, width: usize) -> String {
    let columns = match width {
        0..BAR_COLUMNS_MIN => return String::new(),
        BAR_COLUMNS_MIN..120 => 10,
        _ => 20,
    };
    let Some(total) = part.total.filter(|total| *total > 0) else {
        return String::new();
    };
    let share = part.current.min(total) as f64 / total as f64;
    let full = (share * columns as f64) as usize;
    let tip = if full < columns { ">" } else { "" };
    let rest = columns - full - tip.len();
    format!(" [{}{tip}{}]", "=".repeat(full), " ".repeat(rest))
}

/// ` => NAME AMOUNT            1.2s`: the amount goes before the name does.
fn row(name: &str, amount: &str, seconds: f64, width: usize) -> String {
    // Nothing that took so little is worth a thought.
    let seconds = if seconds < 0.05 { 0.0 } else { seconds };
    let time = format!(" {seconds:.1}s");
    if width < TIMES_COLUMNS_MIN {
        return cut(&format!(" => {name}"), width);
    }
    let room = width - columns(&time);
    let head = format!(" => {name}{amount}");
    let head = if columns(&head) <= room {
        head
    } else if room >= columns(amount) + TIMES_COLUMNS_MIN / 2 {
        cut(&format!(" => {name}"), room - columns(amount)) + amount
    } else {
        cut(&format!(" => {name}"), room)
    };
    let blanks = " ".repeat(room - columns(&head));
    format!("{head}{blanks}{time}")
}

/// The last lines of the logs of those running steps that write most, as far as there is room.
fn logs(steps: &Steps, rows: &[Row], look: &Look, room: usize) -> Vec<(usize, Vec<Line>)> {
    let mut writers: Vec<_> = rows.iter().filter_map(|row| row.log_of).collect();
    writers.sort_by_key(|index| std::cmp::Reverse(steps.get(*index).log.written()));
    let mut free = room;
    let mut logs = Vec::new();
    for index in writers {
        if free < look.log_lines + LINES_FREE {
            break;
        }
        let lines = log_lines(steps.get(index), look.size.columns, look.log_lines);
        free -= lines.len();
        logs.push((index, lines));
    }
    logs
}

fn log_lines(step: &Step, width: usize, most: usize) -> Vec<Line> {
    let room = width.saturating_sub(columns(LOG_MARK));
    let mut lines = Vec::new();
    for line in step.log.lines().rev() {
        let text = harmless(&line.text);
        if text.trim().is_empty() {
            continue;
        }
        let pieces = wrap(&text, room.max(1));
        let line = |piece: &&str| Line {
            text: cut(&format!("{LOG_MARK}{piece}"), width),
            paint: Paint::Faint,
        };
        lines.extend(pieces.iter().rev().map(line));
        if lines.len() >= most {
            break;
        }
    }
    lines.truncate(most);
    lines.reverse();
    lines
}

/// Which rows to show if only `room` can be: those that run, the newest first, then the newest of
/// the others.
fn choose(rows: &[Row], room: usize) -> Vec<bool> {
    let mut chosen = vec![false; rows.len()];
    let mut room = room;
    for is_running in [true, false] {
        for index in (0..rows.len()).rev() {
            if room > 0 && rows[index].is_running == is_running {
                chosen[index] = true;
                room -= 1;
            }
        }
    }
    chosen
}

#[cfg(test)]
mod emulator;
#[cfg(test)]
mod tests;
