//! Command lines and what they mean.

use std::path::Path;

use super::*;

fn parse(line: &str) -> Arguments {
    try_parse(line).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn try_parse(line: &str) -> Result<Arguments, clap::Error> {
    Arguments::try_parse_from(line.split_whitespace())
}

fn build(line: &str) -> Build {
    match parse(line).command {
        Command::Build(build) => *build,
        other => panic!("{line}: {other:?}"),
    }
}

fn run(line: &str) -> run::Run {
    match parse(line).command {
        Command::Run(run) => *run,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn the_definition_of_the_command_line_is_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn the_daemon_may_be_named_before_or_after_what_is_asked_of_it() {
    for line in [
        "varve snapshots --address /s --snapshotter v ls",
        "varve snapshots ls --address /s --snapshotter v",
    ] {
        let Command::Snapshots(options) = parse(line).command else {
            panic!("{line}");
        };
        assert_eq!(options.daemon.address, Path::new("/s"), "{line}");
        assert_eq!(options.snapshotter, "v", "{line}");
    }
}

#[test]
fn root_stands_before_or_after_the_command() {
    for line in [
        "varve --root /r build .",
        "varve build --root /r .",
        "varve build . --root=/r",
    ] {
        assert_eq!(
            parse(line).global.root.as_deref(),
            Some(Path::new("/r")),
            "{line}"
        );
    }
}

#[test]
fn options_of_build_are_those_of_docker() {
    let build = build(
        "varve build -f - -t a -t b:1 --tag c --target s --build-arg A=1 --build-arg B --label \
         x=y --no-cache -o out -o type=oci,dest=f --progress=plain --build-context n=dir \
         --platform linux/amd64 --network none --iidfile i --metadata-file m -q --runtime runc ctx",
    );
    assert_eq!(build.file, Some("-".into()));
    assert_eq!(build.tags, ["a", "b:1", "c"]);
    assert_eq!(build.target.as_deref(), Some("s"));
    assert_eq!(build.build_args, ["A=1", "B"]);
    assert_eq!(build.labels, ["x=y"]);
    assert!(build.no_cache && build.quiet);
    assert_eq!(build.outputs.len(), 2);
    assert_eq!(build.progress, Some(Mode::Plain));
    assert_eq!(build.named_contexts.len(), 1);
    assert_eq!(build.network, NetworkChoice::None);
    assert_eq!(build.runtime.choice(), &executor::RuntimeChoice::Runc);
    assert_eq!(build.context, "ctx");
}

#[test]
fn of_an_option_that_is_given_twice_the_last_counts_and_lists_grow() {
    let build = build(
        "varve build --target a -t x -q --target b -t y --progress=tty --progress=plain -q .",
    );
    assert_eq!(build.target.as_deref(), Some("b"));
    assert_eq!(build.progress, Some(Mode::Plain));
    assert_eq!(build.tags, ["x", "y"]);
    assert!(build.quiet);
}

#[test]
fn the_context_may_be_standard_input() {
    assert_eq!(build("varve build -").context, "-");
    assert_eq!(
        build("varve build --no-cache-filter a,b --no-cache-filter c .").no_cache_filter,
        ["a", "b", "c"]
    );
}

#[test]
fn everything_after_the_image_belongs_to_the_process() {
    let run = run("varve run --rm -e A=1 --root /r demo ls --root x -e --help -- -q");
    assert_eq!(run.env, ["A=1"]);
    let expect = ["demo", "ls", "--root", "x", "-e", "--help", "--", "-q"];
    assert_eq!(run.image_and_command, expect);
}

#[test]
fn the_path_of_a_runtime_is_absolute() {
    let program = build("varve build --runtime /opt/crun .")
        .runtime
        .choice()
        .clone();
    assert_eq!(
        program,
        executor::RuntimeChoice::Program("/opt/crun".into())
    );
}

#[test]
fn wrong_command_lines_say_what_is_wrong_and_exit_with_2() {
    for (line, part) in [
        ("varve", "Usage"),
        ("varve bild .", "unrecognized subcommand 'bild'"),
        ("varve build", "<CONTEXT>"),
        ("varve build --no-chache .", "--no-cache"),
        ("varve build a b", "unexpected argument 'b'"),
        ("varve build --progress=fancy .", "auto, plain, tty, quiet"),
        (
            "varve build -o type=zip .",
            "oci, docker, local, tar, image",
        ),
        ("varve build --build-context x .", "NAME=VALUE"),
        ("varve build --network lan .", "default, host, none"),
        (
            "varve build --no-cache --no-cache-filter a .",
            "cannot be used with",
        ),
        ("varve build --runtime crun .", "absolute path"),
        ("varve run", "IMAGE"),
        ("varve rmi", "IMAGE"),
        ("varve import", "PATH"),
        ("varve images --format {{.ID", "unclosed action"),
        ("varve images --filter x", "KEY=VALUE"),
    ] {
        let error = try_parse(line).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
        let text = error.render().to_string();
        assert!(text.contains(part), "{line}: {text}");
    }
}

#[test]
fn help_teaches_by_examples_and_fits_into_100_columns() {
    let commands = [
        "", "build", "run", "images", "inspect", "tag", "rmi", "import", "du", "prune", "fsck",
    ];
    for command in commands.into_iter().chain(["doctor"]) {
        let error = try_parse(&format!("varve {command} --help")).expect_err("help is an error");
        assert_eq!(error.exit_code(), 0, "{command}");
        let text = error.render().to_string();
        assert!(text.contains("Usage: varve"), "{text}");
        let wide = text.lines().find(|line| line.chars().count() > 100);
        assert_eq!(wide, None, "varve {command} --help");
    }
    for command in [
        "images",
        "inspect",
        "tag",
        "rmi",
        "diff",
        "cp",
        "mount",
        "umount",
        "du",
        "prune",
        "system df",
        "completion",
        "man",
    ] {
        let line = format!("varve {command} --help");
        let text = try_parse(&line).unwrap_err().render().to_string();
        assert!(text.contains("Examples:"), "{line}");
        let wide = text.lines().find(|line| line.chars().count() > 100);
        assert_eq!(wide, None, "{line}");
    }
    let text = try_parse("varve --help").unwrap_err().render().to_string();
    assert!(
        text.contains("Exit codes:") && text.contains("Examples:"),
        "{text}"
    );
    assert_eq!(try_parse("varve --version").unwrap_err().exit_code(), 0);
}
