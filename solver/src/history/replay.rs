//! A record as the events that it was made from, for the displays.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::record::{BuildRecord, StepOutcome, StepRecord};
use crate::progress::{Event, EventKind, Place, StepId};

/// The events of each step, in the order in which the steps ended; steps that never began come
/// last. `start` is when the build began. What was left out of a log is told in it.
pub fn events(record: &BuildRecord, start: Instant) -> Vec<Vec<Event>> {
    let steps = &record.details.steps;
    let mut order: Vec<&StepRecord> = steps.iter().collect();
    // Stable: equal times stay in the order of the graph.
    order.sort_by_key(|step| step.ended_us.unwrap_or(u64::MAX));
    order
        .into_iter()
        .map(|step| events_of(step, steps, start))
        .collect()
}

fn events_of(step: &StepRecord, steps: &[StepRecord], start: Instant) -> Vec<Event> {
    let (id, name) = (
        StepId::from_record(&step.digest),
        Arc::from(step.name.as_str()),
    );
    let event = |at_us: u64, kind| Event {
        at: start + Duration::from_micros(at_us),
        step: id.clone(),
        name: Arc::clone(&name),
        kind,
    };
    let place = match step.in_graph {
        false => Place::Beside,
        true => {
            let inputs = step.inputs.iter().filter_map(|input| steps.get(*input));
            let inputs = inputs
                .map(|input| StepId::from_record(&input.digest))
                .collect();
            Place::Graph { inputs }
        }
    };
    let began = step.started_us.unwrap_or_default();
    let mut events = vec![event(began, EventKind::Queued(place))];
    let ended = step.ended_us.unwrap_or(began);
    if step.started_us.is_some() && step.outcome != StepOutcome::Cached {
        events.push(event(began, EventKind::Started));
    }
    for part in &step.parts {
        let status = |current, completed| EventKind::Status {
            id: part.id.clone(),
            current,
            total: part.total,
            completed,
        };
        if part.ended_us > part.started_us {
            events.push(event(part.started_us, status(0, false)));
        }
        events.push(event(part.ended_us, status(part.current, part.completed)));
    }
    let warnings = step.warnings.iter().cloned();
    events.extend(warnings.map(|message| event(ended, EventKind::Warning { message })));
    let log = &step.log;
    for (index, line) in log.lines.iter().enumerate() {
        if index == log.gap_at && log.left_out > 0 {
            events.push(event(line.at_us, left_out(log.left_out)));
        }
        let kind = EventKind::Log {
            is_stderr: line.is_stderr,
            bytes: format!("{}\n", line.text).into_bytes(),
        };
        events.push(event(line.at_us, kind));
    }
    let end = match step.outcome {
        StepOutcome::Done => EventKind::Done,
        StepOutcome::Cached => EventKind::Cached,
        StepOutcome::Canceled => EventKind::Cancelled,
        StepOutcome::Failed => EventKind::Failed {
            message: step.error.clone().unwrap_or_default(),
        },
    };
    events.push(event(ended, end));
    events
}

fn left_out(lines: u64) -> EventKind {
    EventKind::Log {
        is_stderr: false,
        bytes: format!("[{lines} lines left out]\n").into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{Details, LogExcerpt, LogLine, Summary};
    use super::*;

    fn step(digest: &str, ended: Option<u64>, outcome: StepOutcome) -> StepRecord {
        StepRecord {
            digest: digest.into(),
            name: digest.into(),
            in_graph: true,
            started_us: ended.map(|ended| ended / 2),
            ended_us: ended,
            outcome,
            ..StepRecord::default()
        }
    }

    #[test]
    fn steps_are_played_in_the_order_of_their_ends_with_gaps_told() {
        let mut first = step("a", Some(9_000), StepOutcome::Done);
        first.log = LogExcerpt {
            lines: ["one", "four"]
                .map(|text| LogLine {
                    text: text.into(),
                    ..LogLine::default()
                })
                .into(),
            left_out: 2,
            gap_at: 1,
            written: 16,
        };
        let mut second = step("b", Some(4_000), StepOutcome::Cached);
        second.inputs = vec![0, 99];
        let never = step("c", None, StepOutcome::Canceled);
        let record = BuildRecord {
            summary: Summary::default(),
            details: Details {
                steps: vec![never, first, second],
                ..Details::default()
            },
        };
        let played = events(&record, Instant::now());
        let names: Vec<_> = played.iter().map(|events| &*events[0].name).collect();
        assert_eq!(names, ["b", "a", "c"]);
        let kinds: Vec<_> = played[0].iter().map(|event| event.kind.clone()).collect();
        let inputs = vec![StepId::from_record("c")];
        assert_eq!(
            kinds,
            [
                EventKind::Queued(Place::Graph { inputs }),
                EventKind::Cached
            ]
        );
        let text: Vec<u8> = played[1]
            .iter()
            .filter_map(|event| match &event.kind {
                EventKind::Log { bytes, .. } => Some(bytes.clone()),
                _ => None,
            })
            .flatten()
            .collect();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "one\n[2 lines left out]\nfour\n"
        );
    }
}
