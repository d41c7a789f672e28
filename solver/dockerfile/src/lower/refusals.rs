//! Tests: what is refused, in which words and for which lines; and which images are asked for.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{ImageRequest, Lowering, NamedContext, Options, ResolvedImage, ResolvedImages, lower};
use crate::error::{Error, Span};

/// An image that every reference resolves to.
const BASE: &str = r#"{"architecture":"amd64","os":"linux","config":{},
    "rootfs":{"type":"layers","diff_ids":["sha256:1"]}}"#;

fn options() -> Options {
    Options {
        build_platform: llb::Platform::new("linux", "amd64"),
        ..Options::default()
    }
}

fn run(text: &str, options: &Options, config: &str) -> Result<Box<super::Lowered>, Error> {
    let dockerfile = crate::parse(text.as_bytes())?;
    let mut images = ResolvedImages::new();
    loop {
        match lower(&dockerfile, options, &images)? {
            Lowering::Done(lowered) => return Ok(lowered),
            Lowering::NeedImages(requests) => {
                for request in requests {
                    let config = config.as_bytes().to_vec();
                    images.insert(
                        &request,
                        ResolvedImage {
                            config,
                            digest: None,
                        },
                    );
                }
            }
        }
    }
}

fn refused(text: &str, options: &Options, message: &str, line: usize) {
    let error = run(text, options, BASE)
        .map(|_| "built")
        .expect_err(message);
    assert_eq!(error.to_string(), message, "of {text:?}");
    let starts: Vec<_> = error.spans().iter().map(|span| span.start).collect();
    assert_eq!(starts, [line], "lines of {text:?}");
}

fn check(text: &str, message: &str, line: usize) {
    refused(text, &options(), message, line);
}

#[test]
fn from_lines_that_name_nothing_are_refused() {
    check("FROM ${X}\n", "base name (${X}) should not be blank", 1);
    check(
        "FROM scratch\nFROM BUILD\n",
        "failed to parse stage name \"BUILD\": invalid reference format: repository name \
         (library/BUILD) must be lowercase",
        2,
    );
    check(
        "FROM x@y\n",
        "failed to parse stage name \"x@y\": invalid reference format",
        1,
    );
    check(
        "FROM --platform=$NO scratch\n",
        "empty platform value from expression $NO",
        1,
    );
    let message = "failed to parse platform a/b/c/d: invalid platform \"a/b/c/d\": cannot parse \
                   platform specifier";
    check("FROM --platform=a/b/c/d scratch\n", message, 1);
    check(
        "FROM --platform=windows/amd64 x\n",
        "nothing can be built on images for windows",
        1,
    );
    let windows = Options {
        target_platform: Some(llb::Platform::new("windows", "amd64")),
        ..options()
    };
    let message = "WORKDIR is not supported yet in a stage for windows";
    refused("FROM scratch\nWORKDIR /x\n", &windows, message, 2);
}

#[test]
fn a_target_that_is_not_there_is_refused_with_the_nearest_name() {
    let of = |target: &str| Options {
        target: Some(target.into()),
        ..options()
    };
    let text = "FROM scratch AS build\nFROM scratch AS test\n";
    let message = "target stage \"buidl\" could not be found (did you mean build?)";
    refused(text, &of("buidl"), message, 0);
    refused("FROM scratch AS build\n", &of("buidl"), message, 0);
    refused(
        text,
        &of("nothing"),
        "target stage \"nothing\" could not be found",
        0,
    );
    assert!(run(text, &of("BUILD"), BASE).is_ok());
}

#[test]
fn stages_that_copy_from_what_is_not_finished_are_refused() {
    let circle = "FROM scratch AS a\nCOPY --from=b /x /\nFROM scratch AS b\nCOPY --from=a /x /\n";
    check(circle, "circular dependency detected on stage: a", 4);
    let own = "FROM scratch\nFROM scratch AS a\nCOPY --from=a /x /\n";
    check(own, "circular dependency detected on stage: a", 3);
    let message = "cannot copy from stage \"b\", it needs to be defined before current stage \"a\"";
    let text = "FROM scratch AS a\nCOPY --from=b /x /\nFROM scratch AS b\nFROM a\n";
    check(text, message, 2);
    check(
        "FROM scratch\nCOPY --from=7 /x /\n",
        "invalid stage index 7",
        2,
    );
    check(
        "FROM scratch\nCOPY --from=-1 /x /\n",
        "invalid stage index -1",
        2,
    );
    let message = "variable expansion is not supported for --from, define a new stage with FROM \
                   using ARG from global scope as a workaround";
    check("FROM scratch\nARG B=x\nCOPY --from=$B /x /\n", message, 3);
}

#[test]
fn mounts_that_make_no_sense_are_refused() {
    for (flag, message) in [
        ("type=bind,target=/", "invalid mount target \"/\""),
        ("type=tmpfs", "invalid mount target \"\""),
        ("type=cache,target=..", "invalid mount target \"..\""),
        ("type=secret,id=a,target=//", "invalid mount target \"/\""),
        ("type=ssh,source=/a", "ssh does not support source"),
        ("type=ssh,target=/a/..", "invalid mount target \"/\""),
        (
            "from=later,target=/x",
            "cannot mount from stage \"later\" to \"/x\", stage needs to be defined before \
             current command",
        ),
        ("from=-1,target=/x", "invalid stage index -1"),
    ] {
        let text = format!(
            "FROM busybox AS first\nRUN --mount={flag} make\nFROM busybox AS later\nRUN make\n\
             FROM first\n"
        );
        check(&text, message, 2);
    }
    let own = "FROM busybox AS a\nRUN --mount=from=a,target=/x make\n";
    check(own, "circular dependency detected on stage: a", 2);
}

#[test]
fn what_is_parsed_and_not_lowered_yet_says_so() {
    for (line, message) in [
        (
            "RUN --security=insecure make",
            "RUN --security=insecure is not supported yet",
        ),
        (
            "RUN --device=vendor.com/gpu=0 make",
            "RUN --device is not supported yet",
        ),
    ] {
        check(&format!("FROM busybox\nRUN ok\n{line}\n"), message, 3);
        // A stage that is not needed may hold it.
        let unused = format!("FROM busybox AS unused\n{line}\nFROM scratch\n");
        assert!(run(&unused, &options(), BASE).is_ok(), "{line}");
    }
}

#[test]
fn copies_that_cannot_be_made_are_refused() {
    let copy = |flags: &str, message: &str| {
        check(&format!("FROM scratch\n{flags}\n"), message, 2);
    };
    let bad_mode = |mode: &str| {
        let rest = "it should be octal string and between 0 and 07777";
        let message = format!("invalid chmod parameter: '{mode}'. {rest}");
        copy(&format!("COPY --chmod={mode} a /"), &message);
    };
    ["999", "10000", "banana", "+755", "u", "u=7"]
        .into_iter()
        .for_each(bad_mode);
    copy("COPY https://x.org/a /", "source can't be a URL for COPY");
    copy(
        "COPY git@github.com:a/b.git /",
        "source can't be a git ref for COPY",
    );
    copy(
        "ADD --checksum=sha256:00 a /",
        "checksum requires HTTP(S) or Git sources",
    );
    let message = "checksum can't be specified for multiple sources";
    copy("ADD --checksum=sha256:00 a b /", message);
    copy(
        "ADD --checksum=sha256:00 https://x.org/a /",
        "invalid checksum digest length",
    );
    let from_git = |flags: &str, query: &str, message: &str| {
        copy(
            &format!("ADD {flags} https://x.org/a.git?{query} /"),
            message,
        );
    };
    from_git("", "depth=1", "unexpected query \"depth\"");
    let message = "inconsistent keep-git-dir configuration";
    from_git("--keep-git-dir=false", "keep-git-dir=true", message);
    let message = "checksum mismatch \"abc\" != \"def\"";
    from_git("--checksum=abc", "checksum=def", message);
}

#[test]
fn values_that_make_no_sense_are_refused() {
    let line = |line: &str, message: &str| check(&format!("FROM scratch\n{line}\n"), message, 2);
    line("STOPSIGNAL NOSIG", "invalid signal: NOSIG");
    line(
        "EXPOSE 80/foo",
        "invalid port: \"80/foo\": invalid proto: foo",
    );
    line("EXPOSE 70000", "invalid containerPort: 70000");
    line(
        "VOLUME $NOPE",
        "VOLUME specified can not be an empty string",
    );
    line("WORKDIR ${A:?x}", "failed to process \"${A:?x}\": A: x");
    line("ARG A=${B:?bad}", "failed to process \"${B:?bad}\": B: bad");
    check(
        "ARG A=${B:?bad}\nFROM scratch\n",
        "failed to process \"${B:?bad}\": B: bad",
        1,
    );
    check(
        "ARG SOURCE_DATE_EPOCH=soon\nFROM scratch\n",
        "invalid SOURCE_DATE_EPOCH: soon",
        2,
    );
    let far = format!("ARG SOURCE_DATE_EPOCH={}\nFROM scratch\n", i64::MAX);
    check(&far, &format!("invalid SOURCE_DATE_EPOCH: {}", i64::MAX), 2);
    // The default of an argument that is given is not looked at.
    let given = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
    let given = Options {
        build_args: given,
        ..options()
    };
    assert!(run("FROM scratch\nARG A=${B:?bad}\n", &given, BASE).is_ok());
}

#[test]
fn triggers_are_refused_for_the_line_that_inherits_them() {
    let text = "FROM scratch AS x\nONBUILD BOGUS y\n\nFROM x\n";
    let error = run(text, &options(), BASE)
        .map(|_| "built")
        .expect_err("an unknown trigger");
    assert!(
        error.to_string().contains("nknown instruction: BOGUS"),
        "{error}"
    );
    assert_eq!(error.spans(), [Span::line(4)]);
    let image = BASE.replace("{}", r#"{"OnBuild":["RUN a\nRUN b"]}"#);
    let error = run("FROM y\n", &options(), &image)
        .map(|_| "built")
        .expect_err("two triggers");
    assert_eq!(
        error.to_string(),
        "onbuild trigger should be a single expression"
    );
}

#[test]
fn a_base_image_that_is_no_image_is_refused() {
    let error = run("\nFROM y\n", &options(), "[]")
        .map(|_| "built")
        .expect_err("no object");
    let message = error.to_string();
    let start = "failed to parse image config of docker.io/library/y:latest: ";
    assert!(message.starts_with(start), "{message}");
    assert_eq!(error.spans(), [Span::line(2)]);
    let huge = " ".repeat(9 << 20);
    let error = run("FROM y\n", &options(), &huge)
        .map(|_| "built")
        .expect_err("too large");
    assert!(error.to_string().contains("the limit is"), "{error}");
}

#[test]
fn a_small_file_cannot_ask_for_endless_memory() {
    let mut text = "FROM scratch\nENV A=0123456789abcdef\n".to_owned();
    for _ in 0..18 {
        text.push_str("ENV A=$A$A\n");
    }
    for number in 0..100 {
        text.push_str(&format!("ENV B{number}=$A\n"));
    }
    let error = run(&text, &options(), BASE)
        .map(|_| "built")
        .expect_err("a bomb");
    let message = "variables and history of the stages exceed 64 MiB";
    assert_eq!(error.to_string(), message);

    let mut text = "FROM scratch\n".to_owned();
    (0..4_100).for_each(|number| text.push_str(&format!("ARG A{number}=1\n")));
    let error = run(&text, &options(), BASE)
        .map(|_| "built")
        .expect_err("many variables");
    assert_eq!(error.to_string(), "more than 4096 variables in one stage");
}

fn requests(text: &str, options: &Options, images: &ResolvedImages) -> Vec<ImageRequest> {
    let dockerfile = crate::parse(text.as_bytes()).unwrap();
    match lower(&dockerfile, options, images).unwrap() {
        Lowering::NeedImages(requests) => requests,
        Lowering::Done(_) => Vec::new(),
    }
}

fn described(requests: &[ImageRequest]) -> Vec<String> {
    let describe = |request: &ImageRequest| {
        let line = request.span.start;
        format!("{} {} line {line}", request.reference, request.platform)
    };
    requests.iter().map(describe).collect()
}

#[test]
fn images_are_asked_for_once_and_only_when_they_are_needed() {
    let text = "FROM busybox AS a\nFROM unused AS b\nFROM --platform=linux/arm64 busybox AS c\n\
                FROM busybox:latest\nCOPY --from=alpine /x /\nCOPY --from=a /x /\n\
                COPY --from=alpine:latest /y /\nCOPY --from=c /x /\n";
    let found = requests(text, &options(), &ResolvedImages::new());
    let expected = [
        "docker.io/library/busybox:latest linux/amd64 line 1",
        "docker.io/library/busybox:latest linux/arm64 line 3",
        "docker.io/library/alpine:latest linux/amd64 line 5",
    ];
    assert_eq!(described(&found), expected);
    let name = "[internal] load metadata for docker.io/library/busybox:latest";
    assert_eq!(found[0].log_name, name);
    let many = Options {
        multi_platform: true,
        ..options()
    };
    let found = requests(text, &many, &ResolvedImages::new());
    let name = "[linux/amd64 internal] load metadata for docker.io/library/busybox:latest";
    assert_eq!(found[0].log_name, name);
}

#[test]
fn an_image_is_named_by_the_lines_of_needed_stages_only() {
    let text = "FROM scratch AS unused\nCOPY --from=tools /a /\nFROM scratch\n\
                COPY --from=tools /b /\nCOPY --from=tools /c /\n";
    let found = requests(text, &options(), &ResolvedImages::new());
    assert_eq!(
        described(&found),
        ["docker.io/library/tools:latest linux/amd64 line 4"]
    );
    let lowered = run(text, &options(), BASE).unwrap();
    let image = lowered.graph.vertices()[0].digest();
    assert_eq!(lowered.lines(image), [Span::new(4, 5)]);
}

#[test]
fn images_of_triggers_are_asked_for_in_a_second_round() {
    let text = "FROM base\n";
    let mut images = ResolvedImages::new();
    let first = requests(text, &options(), &images);
    assert_eq!(
        described(&first),
        ["docker.io/library/base:latest linux/amd64 line 1"]
    );
    let config = BASE.replace("{}", r#"{"OnBuild":["COPY --from=tools /t /t"]}"#);
    images.insert(
        &first[0],
        ResolvedImage {
            config: config.into_bytes(),
            digest: None,
        },
    );
    let second = requests(text, &options(), &images);
    assert_eq!(
        described(&second),
        ["docker.io/library/tools:latest linux/amd64 line 1"]
    );
    images.insert(
        &second[0],
        ResolvedImage {
            config: BASE.into(),
            digest: None,
        },
    );
    assert!(requests(text, &options(), &images).is_empty());
}

#[test]
fn named_contexts_ask_for_their_own_image() {
    let layout = NamedContext::OciLayout {
        store: "s".into(),
        digest: "sha256:00".into(),
    };
    let image = NamedContext::Image {
        reference: "ghcr.io/a/b:1".into(),
    };
    let contexts = [("base".to_owned(), layout), ("tools".to_owned(), image)].into();
    let options = Options {
        contexts,
        ..options()
    };
    let text = "FROM base\nCOPY --from=tools /t /t\n";
    let found = requests(text, &options, &ResolvedImages::new());
    assert_eq!(found[0].layout.as_deref(), Some("s"));
    assert_eq!(found[0].reference, "docker.io/library/base@sha256:00");
    assert_eq!(found[1].layout, None);
    assert_eq!(found[1].reference, "ghcr.io/a/b:1");
    assert_eq!(
        found[1].log_name,
        "[context tools] load metadata for ghcr.io/a/b:1"
    );
}

#[test]
fn local_sources_say_which_paths_are_needed() {
    let text = "FROM scratch\nCOPY b a/ /x/\nFROM scratch\nCOPY c* /\nADD d /\n";
    let lowered = run(text, &options(), BASE).unwrap();
    let sources = lowered.local_sources();
    assert_eq!(sources.len(), 1);
    assert_eq!(sources[0].name, "context");
    assert_eq!(
        sources[0].follow_paths,
        ["c*", "d"],
        "only what the target copies"
    );
    let vertex = lowered.graph.result().unwrap().vertex;
    assert_eq!(lowered.lines(vertex), [Span::line(5)]);
    let whole = run("FROM scratch\nCOPY b /\nCOPY . /\n", &options(), BASE).unwrap();
    assert!(
        whole.local_sources()[0].follow_paths.is_empty(),
        "all of it"
    );
    let none = run("FROM scratch\nCOPY <<A /\nx\nA\n", &options(), BASE).unwrap();
    assert!(none.local_sources().is_empty());
}

#[test]
fn targets_are_listed_without_building_them() {
    let text = "# build compiles\nFROM busybox AS build\nFROM $BASE\n";
    let found = super::targets(&crate::parse(text.as_bytes()).unwrap());
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].name.as_deref(), Some("build"));
    assert_eq!(found[0].description.as_deref(), Some("compiles"));
    assert!(!found[0].is_default && found[1].is_default);
    assert_eq!(found[1].base.as_str(), "$BASE");
    assert_eq!(found[1].span, Span::line(3));
}

/// Lines that together reach most of the lowering, right and wrong.
fn line() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "a", "$A", "${B:-x}", "'q $A'", "\"$B\"", "../up", "/abs/", ".", "''", "x*", "é", "\\$A",
        "${A%x}",
    ]);
    let form = prop::sample::select(vec![
        "ENV A=@ B=@",
        "ARG A=@",
        "ARG B",
        "RUN echo @ @",
        "RUN [\"@\"]",
        "WORKDIR @",
        "USER @",
        "COPY @ @",
        "COPY --from=s @ @",
        "COPY --from=@ @ /",
        "COPY --from=0 @ /",
        "COPY --chown=@ --chmod=@ a @",
        "COPY --parents @/./@ /",
        "COPY --link @ /",
        "ADD @ @",
        "LABEL @=@",
        "EXPOSE @",
        "VOLUME @ @",
        "CMD @",
        "ENTRYPOINT @",
        "SHELL [\"@\"]",
        "HEALTHCHECK CMD @",
        "ONBUILD RUN @",
        "ONBUILD COPY --from=s @ @",
        "ONBUILD ENV A=@",
        "STOPSIGNAL @",
        "FROM scratch AS s",
        "FROM s",
        "FROM busybox",
        "FROM @",
        "FROM $A AS t",
        "RUN <<E\n@\nE",
        "COPY <<E @ /\n@\nE",
    ]);
    (form, prop::collection::vec(word, 4)).prop_map(|(form, words)| {
        let mut words = words.into_iter().cycle();
        let text = form.split('@').collect::<Vec<_>>();
        let mut line = text[0].to_owned();
        for rest in &text[1..] {
            line.push_str(words.next().unwrap_or_default());
            line.push_str(rest);
        }
        line
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn any_dockerfile_is_lowered_the_same_twice_or_refused_with_lines(
        lines in prop::collection::vec(line(), 0..16),
        triggers in prop::collection::vec(line(), 0..3),
        link_as_merge in any::<bool>(),
    ) {
        let text = format!("ARG A=1\nFROM busybox AS s\n{}\n", lines.join("\n"));
        let on_build = serde_json::to_string(&triggers).unwrap();
        let config = BASE.replace("{}", &format!("{{\"OnBuild\":{on_build}}}"));
        let options = Options { link_as_merge, ..options() };
        match run(&text, &options, &config) {
            Ok(lowered) => {
                let again = run(&text, &options, &config).unwrap();
                prop_assert_eq!(lowered.graph.to_definition(), again.graph.to_definition());
                prop_assert_eq!(&lowered.image, &again.image);
            }
            Err(error) => prop_assert!(!error.spans().is_empty(), "{}", error),
        }
    }
}
