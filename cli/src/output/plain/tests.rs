//! Golden outputs: a table of events and what is printed when it is looked at after each.

use solver::progress::EventKind::{self, Cached, Cancelled, Done, Started, Warning};

use super::Plain;
use crate::output::script::{QUEUED, Script, failed, log, status};

/// Prints after every event, as if each came alone, and once more at the end.
fn plain(events: &[(u64, &str, EventKind)]) -> String {
    let mut script = Script::new();
    let (mut plain, mut out) = (Plain::default(), Vec::new());
    let mut last = 0;
    for (millis, name, kind) in events {
        plain.apply(script.event(*millis, name, kind.clone()));
        plain.print(script.at(*millis), &mut out);
        last = *millis;
    }
    plain.finish(script.at(last), &mut out);
    String::from_utf8(out).unwrap()
}

#[track_caller]
fn check(events: &[(u64, &str, EventKind)], expect: &str) {
    let found = plain(events);
    assert_eq!(
        found, expect,
        "\n--- found\n{found}--- expected\n{expect}---"
    );
}

const LOAD: &str = "[internal] load build definition from Dockerfile";

#[test]
fn a_whole_build_looks_as_with_buildkit() {
    let (base, run, copy) = ("[1/3] FROM busybox", "[2/3] RUN echo hi", "[3/3] COPY a b");
    check(
        &[
            (0, LOAD, QUEUED),
            (0, LOAD, Started),
            (
                20,
                LOAD,
                status("transferring dockerfile:", 120, None, true),
            ),
            (20, LOAD, Done),
            (30, base, QUEUED),
            (30, run, QUEUED),
            (30, copy, QUEUED),
            (31, base, Cached),
            (40, run, Started),
            (253, run, log("hi\n")),
            (340, run, Done),
            (341, copy, Started),
            (1_400, copy, Done),
        ],
        "#1 [internal] load build definition from Dockerfile\n\
         #1 transferring dockerfile: 120B done\n\
         #1 DONE 0.0s\n\
         \n\
         #2 [1/3] FROM busybox\n\
         #2 CACHED\n\
         \n\
         #3 [2/3] RUN echo hi\n\
         #3 0.213 hi\n\
         #3 DONE 0.3s\n\
         \n\
         #4 [3/3] COPY a b\n\
         #4 DONE 1.1s\n",
    );
}

#[test]
fn a_step_that_ends_is_shown_at_once_and_the_other_comes_back() {
    check(
        &[
            (0, "[a 1/1] RUN a", Started),
            (100, "[a 1/1] RUN a", log("a1\n")),
            (200, "[b 1/1] RUN b", Started),
            (300, "[b 1/1] RUN b", log("b1\n")),
            (400, "[a 1/1] RUN a", log("a2\n")),
            (500, "[b 1/1] RUN b", log("b2\n")),
            (600, "[b 1/1] RUN b", Done),
            (700, "[a 1/1] RUN a", log("a3\n")),
            (800, "[a 1/1] RUN a", Done),
        ],
        "#1 [a 1/1] RUN a\n\
         #1 0.100 a1\n\
         #1 0.400 a2\n\
         #1 ...\n\
         \n\
         #2 [b 1/1] RUN b\n\
         #2 0.100 b1\n\
         #2 0.300 b2\n\
         #2 DONE 0.4s\n\
         \n\
         #1 [a 1/1] RUN a\n\
         #1 0.700 a3\n\
         #1 DONE 0.8s\n",
    );
}

#[test]
fn nothing_waits_longer_than_ten_seconds() {
    let mut events = vec![(0, "a", Started), (1, "b", Started), (2, "b", log("b\n"))];
    events.extend((1..12).map(|second| (second * 1_000, "a", log("a\n"))));
    let out = plain(&events);
    let turn = "#1 10.00 a\n#1 ...\n\n#2 b\n#2 0.001 b\n";
    let late = "#1 11.00 a\n#1 ...\n\n#2 b\n#2 0.001 b\n";
    assert!(out.contains(turn) || out.contains(late), "{out}");
}

#[test]
fn a_step_that_writes_more_gets_the_turn_after_five_seconds_or_so() {
    let mut events = vec![(0, "a", Started), (1, "b", Started)];
    for tenth in 1..70 {
        events.push((tenth * 100, "b", log("b\n")));
    }
    events.push((7_000, "a", log("a\n")));
    events.push((7_100, "b", log("b\n")));
    let out = plain(&events);
    let switch = out.find("#1 ...\n\n#2 b\n").expect(&out);
    assert!(out[..switch].lines().count() <= 2, "{out}");
}

#[test]
fn an_unfinished_line_is_continued_and_ended_when_another_step_is_shown() {
    check(
        &[
            (0, "a", Started),
            (100, "a", log("one ")),
            (200, "a", log("two")),
            (300, "b", Started),
            (400, "b", Done),
            (500, "a", log(" three\nfour")),
            (600, "a", Done),
        ],
        "#1 a\n\
         #1 0.100 one two\n\
         #1 ...\n\
         \n\
         #2 b\n\
         #2 DONE 0.1s\n\
         \n\
         #1 a\n\
         #1 0.100 one two three\n\
         #1 0.500 four\n\
         #1 DONE 0.6s\n",
    );
}

#[test]
fn transfers_are_shown_now_and_then_and_when_they_are_done() {
    let context = |current, done| status("transferring context:", current, Some(1_000_000), done);
    check(
        &[
            (0, "load", Started),
            (0, "load", context(10_000, false)),
            (100, "load", context(20_000, false)),
            (200, "load", context(30_000, false)),
            (300, "load", context(70_000, false)),
            (5_400, "load", context(80_000, false)),
            (5_500, "load", context(1_000_000, true)),
            (5_500, "load", context(1_000_000, true)),
            (5_600, "load", Done),
        ],
        "#1 load\n\
         #1 transferring context: 10.00kB / 1.00MB\n\
         #1 transferring context: 70.00kB / 1.00MB 0.3s\n\
         #1 transferring context: 80.00kB / 1.00MB 5.4s\n\
         #1 transferring context: 1.00MB / 1.00MB 5.5s done\n\
         #1 DONE 5.6s\n",
    );
}

#[test]
fn a_failure_ends_with_the_last_lines_of_its_log() {
    let mut events = vec![(0, "[1/1] RUN make", Started)];
    for line in 0..15 {
        let text: &str = Box::leak(format!("line {line}\n").into_boxed_str());
        events.push((line * 10, "[1/1] RUN make", log(text)));
    }
    events.push((100, "[x 1/1] RUN x", Started));
    events.push((200, "[1/1] RUN make", failed("exit code: 2")));
    events.push((200, "[x 1/1] RUN x", Cancelled));
    events.push((200, "[y 1/1] RUN never started", QUEUED));
    events.push((200, "[y 1/1] RUN never started", Cancelled));
    let out = plain(&events);
    let expect = "#1 0.140 line 14\n\
         #1 ERROR: exit code: 2\n\
         \n\
         #2 [x 1/1] RUN x\n\
         #2 CANCELED\n\
         ------\n > [1/1] RUN make:\n\
         0.050 line 5\n0.060 line 6\n0.070 line 7\n0.080 line 8\n0.090 line 9\n\
         0.100 line 10\n0.110 line 11\n0.120 line 12\n0.130 line 13\n0.140 line 14\n\
         ------\n";
    assert!(out.ends_with(expect), "{out}");
    assert!(!out.contains("never started"), "{out}");
}

#[test]
fn warnings_name_their_step_and_do_not_cut_lines() {
    check(
        &[
            (0, "a", Started),
            (10, "a", log("half")),
            (
                20,
                "a",
                Warning {
                    message: "mind the gap".into(),
                },
            ),
            (30, "a", log(" a line\n")),
            (40, "a", Done),
        ],
        "#1 a\n#1 0.010 half\n#1 WARN: mind the gap\n#1 0.010 half a line\n#1 DONE 0.0s\n",
    );
}

#[test]
fn a_flood_of_a_hidden_step_is_shown_before_it_fills_memory() {
    let mut script = Script::new();
    let (mut plain, mut out) = (Plain::default(), Vec::new());
    plain.apply(script.event(0, "a", Started));
    plain.print(script.at(0), &mut out);
    plain.apply(script.event(1, "b", Started));
    let line = "x".repeat(999) + "\n";
    let mut urgent = 0;
    for _ in 0..5_000 {
        if plain.apply(script.event(2, "b", log(&line))) {
            urgent += 1;
            plain.print(script.at(2), &mut out);
        }
    }
    plain.finish(script.at(3), &mut out);
    assert_eq!(
        urgent,
        1_000_000 * 5 / ((1 << 20) + 999),
        "one print for each mebibyte"
    );
    let lines = out
        .split(|byte| *byte == b'\n')
        .filter(|line| line.len() > 900)
        .count();
    assert_eq!(lines, 5_000, "nothing is lost");
}

#[test]
fn events_that_come_together_are_printed_in_the_order_of_their_ends() {
    let mut script = Script::new();
    let (mut plain, mut out) = (Plain::default(), Vec::new());
    for (millis, name, kind) in [
        (0, "a", Started),
        (0, "b", Started),
        (10, "b", Done),
        (20, "a", Done),
        (30, "c", Cached),
    ] {
        plain.apply(script.event(millis, name, kind));
    }
    plain.finish(script.at(30), &mut out);
    let out = String::from_utf8(out).unwrap();
    assert_eq!(
        out,
        "#1 b\n#1 DONE 0.0s\n\n#2 a\n#2 DONE 0.0s\n\n#3 c\n#3 CACHED\n"
    );
}
