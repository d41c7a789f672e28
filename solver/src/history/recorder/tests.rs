//! Records of builds that are played back.

use super::*;
use crate::progress::{NoDisplay, Step as LiveStep};
use store::Store;
use store::fixtures::memory_store;

struct Build {
    recorder: Arc<Recorder>,
    progress: Progress,
    store: Store,
    _root: tempfile::TempDir,
}

impl Build {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let store = memory_store(root.path());
        let recorder = Recorder::new(Arc::new(NoDisplay), Asked::default(), Redaction::default());
        Build {
            progress: Progress::new(recorder.clone()),
            recorder,
            store,
            _root: root,
        }
    }

    fn step(&self, name: &str) -> LiveStep {
        self.progress.step(name)
    }

    fn finish(&self, outcome: &Outcome<'_>) -> BuildRecord {
        self.recorder.finish(0, outcome, &self.progress)
    }
}

fn write(step: &LiveStep, text: &[u8]) {
    step.show(EventKind::Log {
        is_stderr: false,
        bytes: text.to_vec(),
    });
}

fn texts(log: &LogExcerpt) -> Vec<&str> {
    log.lines.iter().map(|line| line.text.as_str()).collect()
}

#[test]
fn a_record_tells_how_each_step_ended() {
    let build = Build::new();
    build.step("done").done();
    build.step("cached").cached();
    build.step("failed").end::<(), _>(Err("no")).unwrap_err();
    drop(build.step("given up"));
    let hangs = build.step("still running");
    let record = build.finish(&Outcome::Canceled);
    let outcomes: Vec<_> = record
        .details
        .steps
        .iter()
        .map(|step| step.outcome)
        .collect();
    use StepOutcome::{Cached, Canceled, Done, Failed};
    assert_eq!(outcomes, [Done, Cached, Failed, Canceled, Canceled]);
    assert_eq!(record.details.steps[2].error.as_deref(), Some("no"));
    assert_eq!(record.summary.status, Status::Canceled);
    assert_eq!(record.summary.steps.total(), 0, "none is of the graph");
    let last = &record.details.steps[4];
    assert_eq!(
        last.ended_us,
        Some(record.summary.duration_us),
        "it ended with the build"
    );
    drop(hangs);
}

#[test]
fn logs_keep_their_beginning_and_their_end() {
    let build = Build::new();
    let step = build.step("loud");
    for number in 0..100_000 {
        write(&step, format!("line {number}\n").as_bytes());
    }
    write(&step, b"no line feed");
    step.done();
    let record = build.finish(&Outcome::Canceled);
    let log = &record.details.steps[0].log;
    let texts = texts(log);
    assert_eq!(texts[0], "line 0");
    assert_eq!(texts[log.gap_at - 1], format!("line {}", log.gap_at - 1));
    assert_eq!(texts[texts.len() - 1], "no line feed");
    assert_eq!(texts.len() as u64 + log.left_out, 100_001);
    let bytes: usize = texts.iter().map(|text| text.len()).sum();
    assert!(bytes <= LOG_HEAD_BYTES + LOG_TAIL_BYTES, "{bytes}");
}

#[test]
fn the_logs_of_many_steps_share_what_a_record_may_take() {
    let build = Build::new();
    let line = [b'x'; 1_000];
    for number in 0..200 {
        let step = build.step(&format!("step {number}"));
        for _ in 0..200 {
            write(&step, &line);
            write(&step, b"\n");
        }
        match number {
            7 => drop(step.end::<(), _>(Err("broken"))),
            _ => step.done(),
        }
    }
    let record = build.finish(&Outcome::Canceled);
    let size = serde_json::to_vec(&record).unwrap().len();
    assert!(size < 2 * LOGS_BYTES_MAX, "{size}");
    let kept = |index: usize| record.details.steps[index].log.lines.len();
    assert!(kept(7) > 100, "a failed step keeps {} lines", kept(7));
    assert!(kept(8) >= 1, "the others keep some");
}

#[test]
fn names_lines_and_parts_are_bounded() {
    let build = Build::new();
    let step = build.step(&"n".repeat(1 << 20));
    write(&step, &vec![0xff; 1 << 20]);
    for number in 0..300 {
        step.status(format!("part {number}"), 1, None, true);
        step.show(EventKind::Warning {
            message: "w".repeat(1 << 13),
        });
    }
    step.done();
    for _ in 0..STEPS_MAX {
        build.step("one more").done();
    }
    let record = build.finish(&Outcome::Canceled);
    let step = &record.details.steps[0];
    assert!(step.name.len() <= TEXT_BYTES_MAX + 4);
    assert!(step.log.lines[0].text.len() <= TEXT_BYTES_MAX + 4);
    assert_eq!(
        (step.parts.len(), step.warnings.len()),
        (PARTS_MAX, PARTS_MAX)
    );
    assert_eq!(record.details.steps.len(), STEPS_MAX);
    assert_eq!(record.details.steps_left_out, 1);
}

#[test]
fn what_was_brought_into_the_store_meanwhile_is_counted() {
    let build = Build::new();
    build.progress.count_downloaded(7);
    let others = build.store.begin();
    others.put_blob(b"of another build").unwrap();
    let _counting = build.progress.tally().count_here();
    let ingest = build.store.begin();
    ingest.put_blob(b"new bytes").unwrap();
    ingest.put_blob(b"new bytes").unwrap();
    let traffic = build.finish(&Outcome::Canceled).summary.traffic;
    assert_eq!(
        traffic,
        Traffic {
            downloaded: 7,
            written: 9,
            deduplicated: 9
        }
    );
}
