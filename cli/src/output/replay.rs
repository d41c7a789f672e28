//! A build of the history, as its progress looked.

use std::time::Instant;

use solver::history::record::BuildRecord;
use solver::history::replay::events;

use super::plain::Plain;
use super::raw_json::RawJson;

/// As plain lines, one step after the other, in the order in which they ended.
pub(crate) fn plain(record: &BuildRecord, start: Instant) -> String {
    let (mut plain, mut out) = (Plain::default(), Vec::new());
    let mut last = start;
    for events in events(record, start) {
        for event in events {
            last = last.max(event.at);
            plain.apply(event);
        }
        plain.print(last, &mut out);
    }
    plain.finish(last, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// As JSON lines, one for each step.
pub(crate) fn raw_json(record: &BuildRecord, start: Instant) -> String {
    let ms = i64::try_from(record.summary.started_ms).unwrap_or(i64::MAX);
    let timestamp = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let (mut raw, mut out) = (RawJson::new(start, timestamp), Vec::new());
    for events in events(record, start) {
        for event in events {
            raw.apply(event);
        }
        raw.print(&mut out);
    }
    String::from_utf8_lossy(&out).into_owned()
}
