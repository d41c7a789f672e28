//! Wrong Dockerfiles, and steps that fail.

use support::workspace::{Outcome, Varve, run_with_input};

use super::NOTHING;

/// A Dockerfile, the lines of its excerpt that are marked, and the message.
struct Case {
    dockerfile: &'static str,
    marked: &'static [usize],
    message: &'static str,
}

const fn case(dockerfile: &'static str, marked: &'static [usize], message: &'static str) -> Case {
    Case {
        dockerfile,
        marked,
        message,
    }
}

const WRONG: &[Case] = &[
    case("", &[], "the Dockerfile cannot be empty"),
    case("# only a comment\n", &[1], "file with no instructions"),
    case("RUN ls\n", &[1], "no build stage in current context"),
    case(
        "FROM busybox\nCOPYY a /a\n",
        &[2],
        "dockerfile parse error on line 2: unknown instruction: COPYY (did you mean COPY?)",
    ),
    case(
        "FROM busybox\nRUN echo \\\n one \\\n two\nCOPY a\nRUN ls\n",
        &[5],
        "dockerfile parse error on line 5: COPY requires at least two arguments, \
         but only one was provided. Destination could not be determined",
    ),
    case(
        "FROM busybox\nCOPY --frm=x a b\n",
        &[2],
        "dockerfile parse error on line 2: unknown flag: --frm (did you mean from?)",
    ),
    case(
        "FROM busybox\nRUN <<EOF\necho a\n",
        &[2, 3],
        "unterminated heredoc",
    ),
    case("FROM busybox\nRUN echo \u{0}\n", &[2], "NUL"),
    case(
        "FROM Busy:::x\n",
        &[1],
        "failed to parse stage name \"Busy:::x\": invalid reference format",
    ),
    case(
        "FROM busybox\nENV a=${b\nRUN ls\n",
        &[2],
        "failed to process \"${b\": syntax error: missing '}'",
    ),
    case(
        "FROM busybox AS a\nCOPY --from=b /x /x\nFROM busybox AS b\nCOPY --from=a /x /x\n",
        &[4],
        "circular dependency detected on stage: a",
    ),
    case(
        "FROM busybox\nCOPY --chmod=99 Dockerfile /\n",
        &[2],
        "invalid chmod parameter: '99'",
    ),
    case(
        "FROM busybox\nRUN --network=moon ls\n",
        &[2],
        "invalid network mode \"moon\"",
    ),
    case(
        "FROM --platform=a/b/c/d busybox\n",
        &[1],
        "failed to parse platform a/b/c/d",
    ),
    case(
        "FROM busybox\nCOPY absent /x\n",
        &[2],
        "\"/absent\": not found",
    ),
    case(
        "FROM busybox\nCOPY ../../../etc/hostname /x\n",
        &[2],
        "\"/etc/hostname\": not found",
    ),
    case(
        "FROM scratch\nCOPY --chown=nosuch Dockerfile /\n",
        &[2],
        "unable to find user nosuch: no matching entries in passwd file",
    ),
    case(
        "FROM busybox\nUSER nosuch\nRUN id\n",
        &[3],
        "process \"/bin/sh -c id\" did not complete successfully: unable to find user nosuch: no \
         matching entries in passwd file",
    ),
    case(
        "FROM busybox\nWORKDIR /etc/passwd/x\nRUN ls\n",
        &[2],
        "/etc/passwd",
    ),
    case(
        "FROM busybox\nCOPY Dockerfile /etc/passwd/x\n",
        &[2],
        "/etc/passwd",
    ),
    case(
        "FROM busybox\nRUN [\"/nosuch\"]\n",
        &[2],
        "exec: \"/nosuch\": stat /nosuch: no such file or directory",
    ),
    case(
        "FROM busybox\nRUN [\"/etc/passwd\"]\n",
        &[2],
        "exec: \"/etc/passwd\": permission denied",
    ),
];

/// Parsed, and for a later version to lower.
const NOT_YET: &[Case] = &[
    case(
        "FROM busybox\nRUN --security=insecure ls\n",
        &[2],
        "RUN --security=insecure is not supported yet",
    ),
    case(
        "FROM busybox\nRUN --device=vendor.com/gpu=0 ls\n",
        &[2],
        "RUN --device is not supported yet",
    ),
];

/// The numbers of the lines that an excerpt marks.
fn marked(outcome: &Outcome) -> Vec<usize> {
    let numbers = outcome.stderr.lines().filter_map(|line| {
        let (number, _) = line.split_once(" | >>>")?;
        number.trim().parse().ok()
    });
    numbers.collect()
}

fn each_is_refused(cases: &[Case]) {
    let varve = Varve::new();
    for case in cases {
        varve.dockerfile(case.dockerfile);
        let outcome = varve.build(NOTHING).refused(1, &[case.message]);
        assert_eq!(marked(&outcome), case.marked, "{outcome}");
        let last = outcome.stderr.lines().last();
        let summary = last.is_some_and(|line| line.starts_with("ERROR: failed to solve: "));
        assert!(summary, "the last line is the summary\n{outcome}");
    }
}

#[test]
fn a_wrong_dockerfile_is_refused_with_its_lines_marked_and_buildkits_words() {
    each_is_refused(WRONG);
}

#[test]
fn what_is_not_supported_yet_is_refused_with_its_line_and_not_left_out() {
    each_is_refused(NOT_YET);
}

#[test]
fn an_image_that_nobody_has_is_compared_with_the_names_of_stages() {
    let varve = Varve::new();
    let stages = "FROM busybox AS Builder\nFROM scratch\n";
    for name in ["biulder", "buildr"] {
        varve.dockerfile(&format!("{stages}COPY --from={name} /bin /\n"));
        let refused = varve.build(NOTHING).refused(1, &["did you mean builder?"]);
        assert_eq!(marked(&refused), [3], "{refused}");
    }
    varve.dockerfile(&format!("{stages}COPY --from=alpine /bin /\n"));
    let refused = varve.build(NOTHING).refused(1, &["alpine"]);
    assert!(!refused.stderr.contains("did you mean"), "{refused}");
}

#[test]
fn the_excerpt_has_buildkits_form() {
    let varve = Varve::new();
    // Two lines around one line, one line around several.
    varve.dockerfile("FROM busybox\n\nRUN one\nRUNN two\nRUN three\nRUN four\nRUN five\n");
    let excerpt = "Dockerfile:4\n--------------------\n\
                   \x20  2 |     \n\
                   \x20  3 |     RUN one\n\
                   \x20  4 | >>> RUNN two\n\
                   \x20  5 |     RUN three\n\
                   \x20  6 |     RUN four\n\
                   --------------------\n\
                   ERROR: failed to solve: dockerfile parse error on line 4: \
                   unknown instruction: RUNN (did you mean RUN?)\n";
    varve.build(NOTHING).refused_with(1, &[excerpt]);
    varve.dockerfile("FROM busybox\n\nRUN one\nRUNN two \\\n  three\nRUN four\nRUN five\n");
    let excerpt = "Dockerfile:4\n--------------------\n\
                   \x20  3 |     RUN one\n\
                   \x20  4 | >>> RUNN two \\\n\
                   \x20  5 | >>>   three\n\
                   \x20  6 |     RUN four\n\
                   --------------------\n";
    varve.build(NOTHING).refused_with(1, &[excerpt]);
}

#[test]
fn a_failing_run_shows_its_last_output_its_line_and_its_exit_code() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN true\nRUN seq 1 50; exit 3\n");
    let failed = varve.build(["--output", "out"]).refused(
        1,
        &[
            "ERROR: process \"/bin/sh -c seq 1 50; exit 3\" did not complete successfully: \
             exit code: 3\n",
            "\nERROR: failed to solve: process \"/bin/sh -c seq 1 50; exit 3\" did not complete \
             successfully: exit code: 3\n",
            "] RUN seq 1 50; exit 3:\n",
        ],
    );
    assert_eq!(marked(&failed), [3]);
    let (_, summary) = failed.stderr.split_once("\n------\n > [").unwrap();
    assert!(summary.contains(" 50\n"), "the end of the output\n{failed}");
    assert!(!summary.contains(" 7\n"), "the end only\n{failed}");
    assert!(!varve.path("out").exists(), "nothing was exported");
}

#[test]
fn quiet_progress_still_shows_why_a_step_failed() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN echo the reason; exit 3\n");
    let base = varve.base();
    varve
        .varve(["import", base.to_str().unwrap(), "busybox"])
        .succeeded();
    for mode in ["--progress=quiet", "--quiet"] {
        let failed = varve
            .varve(["build", mode, "context"])
            .refused(1, &["the reason", "exit code: 3"]);
        assert_eq!(failed.stdout, "", "no image id: {failed}");
    }
}

#[test]
fn an_unknown_base_image_says_how_to_get_it() {
    let varve = Varve::new();
    for text in ["FROM nosuch\n", "FROM busybox\nCOPY --from=nosuch /a /b\n"] {
        varve.dockerfile(text);
        let words = [
            "nosuch",
            "not found",
            "varve import",
            "--build-context nosuch=",
        ];
        varve.build(NOTHING).refused_with(1, &words);
    }
}

#[test]
fn an_unknown_target_is_refused_by_its_name() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox AS first\n");
    let words = ["target stage \"second\" could not be found"];
    varve.build(["--target", "second"]).refused_with(1, &words);
}

#[test]
fn a_dockerfile_that_is_no_text_or_far_too_long_is_refused() {
    let varve = Varve::new();
    varve.write("context/Dockerfile", b"FROM busybox\nRUN echo \xff\xfe\n");
    let outcome = varve.build(NOTHING).refused(1, &["UTF-8"]);
    assert_eq!(marked(&outcome), [2]);
    varve.write("context/Dockerfile", vec![b'#'; 70 << 20]);
    varve
        .build(NOTHING)
        .refused_with(1, &["Dockerfile", "too large"]);
    let mut from_stdin = varve.command(["build", "-"]);
    run_with_input(&mut from_stdin, b"FORM busybox\n")
        .refused_with(1, &["unknown instruction: FORM (did you mean FROM?)"]);
}
