//! Whole Dockerfiles.
//!
//! A directory of `testdata/parse/` is one case: `Dockerfile` and either `ast.txt`, the tree as
//! [`render`] writes it, or `error.txt`, the message and the excerpt that a person sees.
//! `VARVE_UPDATE_TESTDATA=1 cargo test -p dockerfile` writes what is missing or different; read
//! the difference before you keep it.

mod render;

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::{DOCKERFILE_SIZE_MAX, INSTRUCTION_COUNT_MAX, STAGE_COUNT_MAX, parse, parse_trigger};
use crate::ast::InstructionKind;
use crate::error::{Excerpt, Span};

const UPDATE: bool = option_env!("VARVE_UPDATE_TESTDATA").is_some();

/// Guards against a moved directory, which would make the test pass on nothing.
const CASE_COUNT_MIN: usize = 45;

fn case_directories() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/parse");
    let entries = fs::read_dir(&root).expect("testdata/parse can be listed");
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.expect("entry").path()).collect();
    cases.sort();
    cases
}

#[test]
fn every_case_directory_gives_its_tree_or_its_error() {
    let cases = case_directories();
    assert!(cases.len() >= CASE_COUNT_MIN, "only {} cases", cases.len());
    let mut different = Vec::new();
    for case in cases {
        let data = fs::read(case.join("Dockerfile")).expect("Dockerfile");
        let (file, text) = match parse(&data) {
            Ok(dockerfile) => ("ast.txt", render::dockerfile(&dockerfile)),
            Err(error) => {
                let spans = error.spans();
                let excerpt = Excerpt::new("Dockerfile", &data, &spans);
                ("error.txt", format!("{error}\n{excerpt}"))
            }
        };
        let expected = fs::read_to_string(case.join(file)).unwrap_or_default();
        if expected == text {
            continue;
        }
        if UPDATE {
            fs::write(case.join(file), &text).expect("expectation is written");
        }
        different.push(format!("{}:\n{text}", case.join(file).display()));
    }
    assert!(different.is_empty() || UPDATE, "{}", different.join("\n"));
}

/// Each line fails as the second instruction of a stage.
const WRONG_INSTRUCTIONS: &[(&str, &str)] = &[
    ("INSTRUCTION bar", "unknown instruction: INSTRUCTION"),
    ("FOO bar", "unknown instruction: FOO (did you mean FROM?)"),
    ("RUNN x", "unknown instruction: RUNN (did you mean RUN?)"),
    (
        "copyy a b",
        "unknown instruction: copyy (did you mean copy?)",
    ),
    ("Enb a b", "unknown instruction: Enb (did you mean env?)"),
    ("FROM", "FROM requires either one or three arguments"),
    ("FROM a b", "FROM requires either one or three arguments"),
    ("FROM a of b", "FROM requires either one or three arguments"),
    (
        "FROM a AS b c",
        "FROM requires either one or three arguments",
    ),
    (
        "FROM a AS 1b",
        "invalid name for build stage: \"1b\", name can't start with a number or contain symbols",
    ),
    (
        "FROM a AS B!",
        "invalid name for build stage: \"B!\", name can't start with a number or contain symbols",
    ),
    (
        "FROM --platfrom=x a",
        "unknown flag: --platfrom (did you mean platform?)",
    ),
    ("MAINTAINER", "MAINTAINER requires exactly one argument"),
    ("MAINTAINER --boo x", "unknown flag: --boo"),
    ("WORKDIR", "WORKDIR requires exactly one argument"),
    ("WORKDIR --a /x", "unknown flag: --a"),
    ("USER", "USER requires exactly one argument"),
    ("STOPSIGNAL", "STOPSIGNAL requires exactly one argument"),
    ("ENV", "ENV requires at least one argument"),
    ("ENV =a", "ENV names can not be blank"),
    ("LABEL", "LABEL requires at least one argument"),
    ("LABEL a=b =c", "LABEL names can not be blank"),
    ("ARG", "ARG requires at least one argument"),
    ("ARG =a", "ARG names can not be blank"),
    ("EXPOSE", "EXPOSE requires at least one argument"),
    ("VOLUME", "VOLUME requires at least one argument"),
    ("VOLUME []", "VOLUME requires at least one argument"),
    (
        "VOLUME [\" \"]",
        "VOLUME specified can not be an empty string",
    ),
    ("SHELL", "SHELL requires at least one argument"),
    ("SHELL []", "SHELL requires at least one argument"),
    (
        "SHELL bash -c",
        "SHELL requires the arguments to be in JSON form",
    ),
    ("ONBUILD", "ONBUILD requires at least one argument"),
    (
        "ONBUILD ONBUILD RUN x",
        "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
    ),
    ("ONBUILD from x", "FROM isn't allowed as an ONBUILD trigger"),
    (
        "ONBUILD MAINTAINER x",
        "MAINTAINER isn't allowed as an ONBUILD trigger",
    ),
    (
        "COPY a",
        "COPY requires at least two arguments, but only one was provided. Destination could not \
         be determined",
    ),
    (
        "ADD [\"a\"]",
        "ADD requires at least two arguments, but only one was provided. Destination could not \
         be determined",
    ),
    (
        "COPY a <<EOF\nEOF",
        "COPY cannot accept a heredoc as a destination",
    ),
    (
        "COPY --link=maybe a b",
        "expecting boolean value for flag --link, not: maybe",
    ),
    ("COPY --chown a b", "missing a value on flag: --chown"),
    ("COPY --link --link a b", "duplicate flag specified: --link"),
    ("COPY --checksum=x a b", "unknown flag: --checksum"),
    ("ADD --from=x a b", "unknown flag: --from"),
    ("ADD --parents a b", "unknown flag: --parents"),
    (
        "RUN --mout=x y",
        "unknown flag: --mout (did you mean mount?)",
    ),
    ("RUN --network=bridge y", "invalid network mode \"bridge\""),
    ("RUN --security=none y", "security \"none\" is not valid"),
    (
        "RUN --mount=a\\\"b y",
        "failed to parse csv mounts: parse error on line 1, column 2: bare \
      \" in non-quoted-field",
    ),
    ("RUN --mount= y", "failed to parse csv mounts: EOF"),
    (
        "RUN --mount=from=$x y",
        "'from' doesn't support variable expansion, define alias stage instead",
    ),
    ("RUN --device=a,name=b y", "device name already set to a"),
    (
        "RUN --device=a,requierd=1 y",
        "unexpected key 'requierd' in 'requierd=1' (did you mean \
      required?)",
    ),
    (
        "RUN --device=a,b y",
        "invalid field 'b' must be a key=value pair",
    ),
    (
        "RUN --device=a,required=x y",
        "invalid value for required: x",
    ),
    ("CMD --x y", "unknown flag: --x"),
    ("ENTRYPOINT --x y", "unknown flag: --x"),
    ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"),
    ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
    ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
    (
        "HEALTHCHECK CMD []",
        "Missing command after HEALTHCHECK CMD",
    ),
    (
        "HEALTHCHECK curl x",
        "Unknown type \"CURL\" in HEALTHCHECK (try CMD)",
    ),
    (
        "HEALTHCHECK --intervall=1s CMD x",
        "unknown flag: --intervall (did you mean interval?)",
    ),
    (
        "HEALTHCHECK --interval=1 CMD x",
        "time: missing unit in duration \"1\"",
    ),
    (
        "HEALTHCHECK --timeout=1us CMD x",
        "Interval \"timeout\" cannot be less than 1ms",
    ),
    (
        "HEALTHCHECK --start-period=-1s CMD x",
        "Interval \"start-period\" cannot be less than 1ms",
    ),
    (
        "HEALTHCHECK --retries=-3 CMD x",
        "--retries cannot be negative (-3)",
    ),
    (
        "HEALTHCHECK --retries=many CMD x",
        "--retries must be a number from 0 to 2147483647, not \"many\"",
    ),
];

#[test]
fn wrong_instructions_are_refused_in_buildkits_words() {
    for (line, message) in WRONG_INSTRUCTIONS {
        let text = format!("# a comment\nFROM busybox\n{line}\nRUN true\n");
        let error = parse(text.as_bytes()).expect_err(line);
        let expected = format!("dockerfile parse error on line 3: {message}");
        assert_eq!(error.to_string(), expected, "{line}");
        let line_count = line.lines().count();
        assert_eq!(error.spans(), [Span::new(3, 2 + line_count)], "{line}");
    }
}

/// Errors without the line in their text, and the lines they are about.
const WRONG_TEXTS: &[(&[u8], &str, (usize, usize))] = &[
    (b"", "the Dockerfile cannot be empty", (0, 0)),
    (b"\n# a\n\n", "file with no instructions", (3, 3)),
    (
        b"# escape=x\nFROM a",
        "invalid escape token 'x' does not match ` or \\",
        (1, 1),
    ),
    (
        b"# escape=`\n#Escape=`\n",
        "only one escape parser directive can be used",
        (2, 2),
    ),
    (
        b"# syntax=a\n# syntax=b\n",
        "only one syntax parser directive can be used",
        (2, 2),
    ),
    (b"# check=a=b\nFROM a", "invalid check option \"a\"", (1, 1)),
    (b"FROM a\nRUN <<EOF\nb\n", "unterminated heredoc", (2, 3)),
    (b"FROM a\nRUN <<A <<B\nA\n", "unterminated heredoc", (2, 3)),
    (b"FROM a\nENV x", "ENV must have two arguments", (2, 2)),
    (
        b"FROM a\nLABEL \\\n x\n",
        "LABEL must have two arguments",
        (2, 3),
    ),
    (
        b"FROM a\nENV a=b c\n",
        "Syntax error - can't find = in \"c\". Must be of the form: name=value",
        (2, 2),
    ),
    (
        b"FROM a\nCMD [\"a\", 1]\n",
        "when using JSON array syntax, arrays must be comprised of strings only",
        (2, 2),
    ),
    (
        b"FROM a\nONBUILD CMD [[\"a\"]]\n",
        "when using JSON array syntax, arrays must be comprised of strings only",
        (2, 2),
    ),
    (b"RUN x", "no build stage in current context", (1, 1)),
    (
        b"ARG a\n\nCOPY \\\n a b\nFROM a",
        "no build stage in current context",
        (3, 4),
    ),
    (
        b"FROM a\nRUN \xff\n",
        "not valid UTF-8 (only comments may be); save the file as UTF-8",
        (2, 2),
    ),
    (
        b"FROM a\nCOPY <<a /\n\nb\xe9\na\n",
        "not valid UTF-8 (only comments may be); save the file as UTF-8",
        (4, 4),
    ),
    // The text is cut before instructions are checked: line 3 is found before line 2.
    (b"FROM a\nFOO\nENV x", "ENV must have two arguments", (3, 3)),
];

#[test]
fn wrong_texts_are_refused_with_their_lines() {
    for (data, message, (start, end)) in WRONG_TEXTS {
        let name = String::from_utf8_lossy(data);
        let error = parse(data).expect_err(&name);
        assert_eq!(error.to_string(), *message, "{name}");
        assert_eq!(error.spans(), [Span::new(*start, *end)], "{name}");
    }
}

#[test]
fn a_trigger_is_one_instruction_at_the_place_of_the_from_that_inherits_it() {
    let span = Span::new(4, 5);
    let trigger = "COPY <<a \\\n /x\nbody\na";
    let instruction = parse_trigger(trigger, span).expect("valid");
    assert_eq!(instruction.origin.span, span);
    assert_eq!(instruction.origin.source, "COPY <<a  /x");
    let InstructionKind::Copy(copy) = instruction.kind else {
        panic!("{:?} is no COPY", instruction.kind);
    };
    assert_eq!(copy.files.inline_files[0].content, "body\n");

    let wrong = [
        ("", "file with no instructions"),
        (
            "RUN a\nRUN b",
            "onbuild trigger should be a single expression",
        ),
        ("FROM a", "FROM isn't allowed as an ONBUILD trigger"),
        ("FOO", "unknown instruction: FOO (did you mean FROM?)"),
        ("RUN <<a", "unterminated heredoc"),
    ];
    for (trigger, message) in wrong {
        let error = parse_trigger(trigger, span).expect_err(trigger);
        assert_eq!(error.to_string(), message);
        assert_eq!(error.spans(), [span], "{trigger}");
    }
}

#[test]
fn a_trigger_written_by_onbuild_can_be_read_back() {
    let text = "FROM a\nonbuild   RUN <<-A cat <<B\n\tx\n\tA\ny\nB\n";
    let dockerfile = parse(text.as_bytes()).expect("valid");
    let InstructionKind::Onbuild(onbuild) = &dockerfile.stages[0].instructions[0].kind else {
        panic!("no ONBUILD");
    };
    assert_eq!(onbuild.trigger, "RUN <<-A cat <<B\n\tx\nA\ny\nB");
    let instruction = parse_trigger(&onbuild.trigger, Span::line(1)).expect("valid");
    let InstructionKind::Run(run) = instruction.kind else {
        panic!("no RUN");
    };
    let contents: Vec<&str> = run.heredocs.iter().map(|h| h.content.as_str()).collect();
    assert_eq!(contents, ["\tx\n", "y\n"]);
    assert_eq!(run.heredocs[0].chomped(), "x\n");
    assert!(run.script().is_none());
}

#[test]
fn a_heredoc_alone_is_a_script() {
    let script = |line: &str| {
        let dockerfile = parse(format!("FROM a\n{line}\nx\nE\n").as_bytes()).expect(line);
        match &dockerfile.stages[0].instructions[0].kind {
            InstructionKind::Run(run) => run.script().map(|heredoc| heredoc.content.clone()),
            other => panic!("{other:?} is no RUN"),
        }
    };
    for line in ["RUN <<E", "RUN --network=none <<-'E'", "RUN <<  E"] {
        assert_eq!(script(line).as_deref(), Some("x\n"), "{line}");
    }
    for line in ["RUN <<E sh", "RUN cat <<E", "RUN <<E > y"] {
        assert_eq!(script(line), None, "{line}");
    }
}

#[test]
fn size_and_stages_are_limited() {
    let error = parse(&vec![b'#'; DOCKERFILE_SIZE_MAX + 1]).expect_err("too large");
    assert!(
        error.to_string().contains("larger than the maximum"),
        "{error}"
    );
    let stages = "FROM a\n".repeat(STAGE_COUNT_MAX);
    assert_eq!(
        parse(stages.as_bytes()).expect("valid").stages.len(),
        STAGE_COUNT_MAX
    );
    let error = parse((stages + "FROM a\n").as_bytes()).expect_err("too many");
    assert_eq!(error.spans(), [Span::line(STAGE_COUNT_MAX + 1)]);
    let error = parse("A\n".repeat(INSTRUCTION_COUNT_MAX + 1).as_bytes()).expect_err("too many");
    assert_eq!(
        error.to_string(),
        "more than 50000 instructions in one dockerfile"
    );
}

#[test]
fn deep_onbuild_and_json_do_not_overflow_the_stack() {
    for text in [
        "ONBUILD ".repeat(100_000) + "RUN x",
        "RUN ".to_owned() + &"[".repeat(100_000),
    ] {
        let _parsed = parse(format!("FROM a\n{text}").as_bytes());
    }
}

/// Pieces that make up lines with a meaning more often than random bytes do.
const PIECE: &str = "FROM a( AS b)?|RUN |COPY |ADD |ENV |ARG |LABEL |ONBUILD |CMD |HEALTHCHECK |\
    SHELL |EXPOSE |VOLUME |--mount=type=cache,target=/x |--link |--interval=1s |<<E|<<-'E' |\
    \nE\n|\n|\r\n| |\t|\\\\|`|\"|'|#|# escape=`\n|\\[|\\]|,|=|a|é|\\$a|\\$\\{a:-b\\}";

proptest! {
    #[test]
    fn no_bytes_panic(data in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _parsed = parse(&data);
    }

    #[test]
    fn no_dockerfile_panics_and_all_lines_lie_inside(
        pieces in proptest::collection::vec(PIECE, 0..40),
    ) {
        let text = pieces.concat();
        let line_count = text.split('\n').count();
        match parse(text.as_bytes()) {
            Ok(dockerfile) => {
                let mut end = 0;
                for stage in &dockerfile.stages {
                    let instructions = stage.instructions.iter().map(|i| &i.origin);
                    for origin in std::iter::once(&stage.origin).chain(instructions) {
                        prop_assert!(origin.span.start > end);
                        prop_assert!(origin.span.end >= origin.span.start);
                        end = origin.span.end;
                    }
                }
                prop_assert!(end <= line_count);
            }
            Err(error) => {
                let spans = error.spans();
                let excerpt = Excerpt::new("Dockerfile", text.as_bytes(), &spans).to_string();
                prop_assert!(spans.iter().all(|span| span.end <= line_count));
                prop_assert!(excerpt.contains(">>>") || spans[0].start == 0, "{}", error);
            }
        }
    }

    #[test]
    fn windows_line_endings_change_nothing_but_heredoc_bodies(
        pieces in proptest::collection::vec("FROM a\n|RUN b|\\\\\n|\n|ENV c=d|# e\n| ", 0..20),
    ) {
        let unix = pieces.concat();
        let windows = unix.replace('\n', "\r\n");
        prop_assert_eq!(parse(unix.as_bytes()), parse(windows.as_bytes()));
    }
}
