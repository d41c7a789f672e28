//! Progress as JSON lines, for programs: each line is a `SolveStatus` as BuildKit's client writes
//! it (moby/buildkit, `client/graph.go`), so that tools which read `--progress=rawjson` of buildx
//! or buildctl read this.
//!
//! A vertex is repeated whenever something about it changes; the last one counts. Data of logs and
//! sentences of warnings are base64, as Go writes bytes.

use std::collections::HashMap;
use std::time::{Instant, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::Serialize;
use solver::progress::{Event, EventKind, Place, StepId};

/// Bytes that may wait to be written; then they are written at once.
const WAITING_BYTES_MAX: usize = 256 << 10;

/// Numbers of the streams of a log.
const STDOUT: u8 = 1;
const STDERR: u8 = 2;

/// Turns events into lines.
#[derive(Debug)]
pub(crate) struct RawJson {
    /// The same moment by both clocks.
    anchor: (Instant, Timestamp),
    vertexes: HashMap<StepId, Vertex>,
    /// When each part was first heard of.
    parts: HashMap<(StepId, String), Instant>,
    waiting: SolveStatus,
    bytes: usize,
}

#[derive(Debug, Default, Serialize)]
struct SolveStatus {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    vertexes: Vec<Vertex>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    statuses: Vec<VertexStatus>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    logs: Vec<VertexLog>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<VertexWarning>,
}

#[derive(Clone, Debug, Serialize)]
struct Vertex {
    digest: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    inputs: Vec<String>,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cached: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    error: String,
}

#[derive(Debug, Serialize)]
struct VertexStatus {
    id: String,
    vertex: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    current: u64,
    timestamp: String,
    started: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed: Option<String>,
}

#[derive(Debug, Serialize)]
struct VertexLog {
    vertex: String,
    stream: u8,
    data: String,
    timestamp: String,
}

#[derive(Debug, Serialize)]
struct VertexWarning {
    vertex: String,
    level: u8,
    short: String,
}

impl Default for RawJson {
    fn default() -> Self {
        let now = Timestamp::try_from(SystemTime::now()).unwrap_or(Timestamp::UNIX_EPOCH);
        RawJson::new(Instant::now(), now)
    }
}

impl RawJson {
    /// Lines with times by the calendar; both arguments are the same moment.
    pub(crate) fn new(instant: Instant, timestamp: Timestamp) -> Self {
        RawJson {
            anchor: (instant, timestamp),
            vertexes: HashMap::new(),
            parts: HashMap::new(),
            waiting: SolveStatus::default(),
            bytes: 0,
        }
    }

    /// Takes in an event; tells whether so much waits that [`RawJson::print`] should be called now.
    pub(crate) fn apply(&mut self, event: Event) -> bool {
        let time = self.time(event.at);
        let vertex = event.step.to_string();
        let known = self.vertexes.entry(event.step.clone());
        let state = known.or_insert_with(|| Vertex {
            digest: vertex.clone(),
            inputs: Vec::new(),
            name: event.name.to_string(),
            started: None,
            completed: None,
            cached: false,
            error: String::new(),
        });
        let mut is_changed = true;
        match event.kind {
            EventKind::Queued(Place::Graph { inputs }) => {
                state.inputs = inputs.iter().map(ToString::to_string).collect();
            }
            EventKind::Queued(Place::Beside) => {}
            EventKind::Started => state.started = Some(time),
            EventKind::Done => state.end(time),
            EventKind::Cached => {
                state.end(time);
                state.cached = true;
            }
            EventKind::Failed { message } => {
                state.end(time);
                state.error = message;
            }
            EventKind::Cancelled => {
                state.end(time);
                // What BuildKit says; readers know it by this text.
                state.error = "context canceled".into();
            }
            EventKind::Log { is_stderr, bytes } => {
                is_changed = false;
                self.bytes += bytes.len();
                self.waiting.logs.push(VertexLog {
                    vertex,
                    stream: if is_stderr { STDERR } else { STDOUT },
                    data: STANDARD.encode(bytes),
                    timestamp: time,
                });
            }
            EventKind::Status {
                id,
                current,
                total,
                completed,
            } => {
                is_changed = false;
                let part = (id, current, total, completed);
                self.part(&event.step, event.at, part);
            }
            EventKind::Warning { message } => {
                is_changed = false;
                self.waiting.warnings.push(VertexWarning {
                    vertex,
                    level: 1,
                    short: STANDARD.encode(message),
                });
            }
        }
        if is_changed && let Some(state) = self.vertexes.get(&event.step) {
            self.waiting.vertexes.push(state.clone());
        }
        self.bytes += 100;
        self.bytes > WAITING_BYTES_MAX
    }

    fn part(
        &mut self,
        step: &StepId,
        at: Instant,
        (id, current, total, completed): (String, u64, Option<u64>, bool),
    ) {
        let since = self.parts.entry((step.clone(), id.clone()));
        let since = *since.or_insert(at);
        let time = self.time(at);
        self.waiting.statuses.push(VertexStatus {
            id,
            vertex: step.to_string(),
            total,
            current,
            completed: completed.then(|| time.clone()),
            timestamp: time,
            started: self.time(since),
        });
    }

    /// Writes what waits as one line.
    pub(crate) fn print(&mut self, out: &mut Vec<u8>) {
        let waiting = std::mem::take(&mut self.waiting);
        if std::mem::take(&mut self.bytes) == 0 {
            return;
        }
        match serde_json::to_vec(&waiting) {
            Ok(line) => {
                out.extend(line);
                out.push(b'\n');
            }
            Err(error) => tracing::error!(%error, "progress cannot be written as JSON"),
        }
    }

    /// RFC 3339, as Go writes it.
    fn time(&self, at: Instant) -> String {
        let (instant, timestamp) = self.anchor;
        let moved = match at.checked_duration_since(instant) {
            Some(since) => timestamp.checked_add(since),
            None => timestamp.checked_sub(instant.duration_since(at)),
        };
        moved.unwrap_or(timestamp).to_string()
    }
}

impl Vertex {
    fn end(&mut self, time: String) {
        self.started.get_or_insert_with(|| time.clone());
        self.completed = Some(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::script::{QUEUED, Script, failed, log, status};
    use serde_json::{Value, json};

    fn lines(events: &[(u64, &str, EventKind)]) -> Vec<Value> {
        let mut script = Script::new();
        let start = "2026-11-21T12:00:00Z".parse().unwrap();
        let mut raw = RawJson::new(script.at(0), start);
        let mut out = Vec::new();
        let mut digests = HashMap::new();
        for (millis, name, kind) in events {
            let event = script.event(*millis, name, kind.clone());
            digests.insert((*name).to_owned(), event.step.to_string());
            raw.apply(event);
            raw.print(&mut out);
        }
        raw.print(&mut out);
        let mut text = String::from_utf8(out).unwrap();
        for (name, digest) in &digests {
            assert!(
                digest.starts_with("sha256:") && digest.len() == 71,
                "{digest}"
            );
            text = text.replace(digest, name);
        }
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn a_vertex_is_told_with_times_and_how_it_ended() {
        let found = lines(&[
            (0, "a", QUEUED),
            (10, "a", EventKind::Started),
            (1_500, "a", EventKind::Done),
            (1_500, "b", EventKind::Cached),
            (2_000, "c", failed("exit code: 1")),
            (2_000, "d", EventKind::Cancelled),
        ]);
        let (t10, t1500, t2000) = (
            "2026-11-21T12:00:00.01Z",
            "2026-11-21T12:00:01.5Z",
            "2026-11-21T12:00:02Z",
        );
        let vertex = |vertex: Value| json!({ "vertexes": [vertex] });
        let expect = [
            vertex(json!({"digest": "a", "name": "a"})),
            vertex(json!({"digest": "a", "name": "a", "started": t10})),
            vertex(json!({"digest": "a", "name": "a", "started": t10, "completed": t1500})),
            vertex(
                json!({"digest": "b", "name": "b", "started": t1500, "completed": t1500,
                "cached": true}),
            ),
            vertex(
                json!({"digest": "c", "name": "c", "started": t2000, "completed": t2000,
                "error": "exit code: 1"}),
            ),
            vertex(
                json!({"digest": "d", "name": "d", "started": t2000, "completed": t2000,
                "error": "context canceled"}),
            ),
        ];
        assert_eq!(found, expect);
    }

    #[test]
    fn logs_are_base64_and_parts_have_amounts() {
        let found = lines(&[
            (0, "a", log("\u{1b}[31mred\n")),
            (0, "a", status("layer", 5, Some(10), false)),
            (500, "a", status("layer", 10, Some(10), true)),
            (
                500,
                "a",
                EventKind::Warning {
                    message: "old".into(),
                },
            ),
        ]);
        let (t0, t500) = ("2026-11-21T12:00:00Z", "2026-11-21T12:00:00.5Z");
        let expect = [
            json!({"logs": [{"vertex": "a", "stream": 1, "data": "G1szMW1yZWQK",
                "timestamp": t0}]}),
            json!({"statuses": [{"id": "layer", "vertex": "a", "total": 10, "current": 5,
                "timestamp": t0, "started": t0}]}),
            json!({"statuses": [{"id": "layer", "vertex": "a", "total": 10, "current": 10,
                "timestamp": t500, "started": t0, "completed": t500}]}),
            json!({"warnings": [{"vertex": "a", "level": 1, "short": "b2xk"}]}),
        ];
        assert_eq!(found, expect);
    }

    #[test]
    fn what_waits_is_one_line_and_too_much_does_not_wait() {
        let mut script = Script::new();
        let mut raw = RawJson::default();
        assert!(!raw.apply(script.event(0, "a", QUEUED)));
        assert!(!raw.apply(script.event(0, "a", log("x"))));
        let mut out = Vec::new();
        raw.print(&mut out);
        raw.print(&mut out);
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert!(raw.apply(script.event(0, "a", log(&"x".repeat(WAITING_BYTES_MAX)))));
    }
}
