//! What a person and a program see of a build: on a terminal, in a pipe, as JSON.

use std::collections::HashMap;

use serde_json::Value;
use support::workspace::{Outcome, Running, Varve, run};

/// Cleared screen, a colour, a title: nothing of it may reach the terminal.
const HOSTILE: &str = r"printf '\033[2J\033[35mhello\033[0m\n\033]0;title\007'";

fn build(varve: &Varve, progress: &str, more: &[&str]) -> Outcome {
    let base = format!("busybox=oci-layout://{}:latest", varve.base().display());
    let progress = format!("--progress={progress}");
    let mut arguments = vec!["build", &progress, "--build-context", &base, "-t", "app"];
    arguments.extend(more);
    arguments.push("context");
    run(&mut varve.command(arguments))
}

/// Builds on a terminal of 80 columns and 24 rows; everything that was written to it.
fn on_a_terminal(varve: &Varve, variables: &[(&str, &str)]) -> String {
    let base = format!("busybox=oci-layout://{}:latest", varve.base().display());
    let program = support::varve_binary();
    let line = format!(
        "stty cols 80 rows 24; {} build --build-context {base} -t app context",
        program.display()
    );
    let mut arguments = vec!["-qec".to_owned(), line, "/dev/null".to_owned()];
    let mut program = "script".to_owned();
    if !variables.is_empty() {
        // util-linux's script is on every Debian; it makes the terminal.
        let set = variables
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        arguments = set.chain([program]).chain(arguments).collect();
        program = "env".to_owned();
    }
    varve.tool(&program, arguments).success().stdout
}

#[test]
fn a_terminal_gets_a_live_view_that_no_step_can_disturb() {
    let varve = Varve::new();
    varve.dockerfile(&format!("FROM busybox\nRUN {HOSTILE}; sleep 0.5\n"));
    let written = on_a_terminal(&varve, &[]);
    assert!(written.contains("[+] Building"), "{written:?}");
    assert!(
        written.contains(" => => # hello"),
        "the log of a running step: {written:?}"
    );
    assert!(written.contains("FINISHED"), "{written:?}");
    assert!(
        written.contains("\u{1b}[34m => [1/2] RUN"),
        "in colour: {written:?}"
    );
    for forbidden in ["\u{1b}[2J", "\u{1b}[35m", "\u{1b}]0;"] {
        assert!(!written.contains(forbidden), "{forbidden:?} in {written:?}");
    }
    let last_shown = written.rfind("\u{1b}[?25h").unwrap();
    assert!(
        written[last_shown..].find("\u{1b}[?25l").is_none(),
        "the cursor stays hidden"
    );
    let widest = written
        .split(['\n', '\r'])
        .map(without_sequences)
        .map(|line| line.chars().count());
    assert!(widest.max().unwrap_or(0) <= 80, "{written:?}");
}

#[test]
fn a_failure_on_a_terminal_quotes_the_dockerfile_without_obeying_it() {
    let varve = Varve::new();
    varve.dockerfile(&format!(
        "FROM busybox\n# \u{1b}[2J\nRUN {HOSTILE}; echo '\u{1b}[2J'; exit 3\n"
    ));
    let base = format!("busybox=oci-layout://{}:latest", varve.base().display());
    let program = support::varve_binary();
    let line = format!("{} build --build-context {base} context", program.display());
    let failed = varve
        .tool("script", ["-qec", &line, "/dev/null"])
        .code(1)
        .stdout;
    for part in [
        ">>> RUN printf",
        "ERROR: failed to solve: process",
        "exit code: 3",
        " hello\r\n",
    ] {
        assert!(failed.contains(part), "{part:?} in {failed:?}");
    }
    for forbidden in ["\u{1b}[2J", "\u{1b}[35m", "\u{1b}]0;"] {
        assert!(!failed.contains(forbidden), "{forbidden:?} in {failed:?}");
    }
}

fn without_sequences(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        text.push_str(before);
        let end = after.find(|c: char| c.is_ascii_alphabetic()).unwrap();
        rest = &after[end + 1..];
    }
    text + rest
}

#[test]
fn colours_are_those_of_the_environment() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN true\n");
    let plain = on_a_terminal(&varve, &[("NO_COLOR", "1")]);
    assert!(
        plain.contains("[+] Building") && !plain.contains("\u{1b}[34m"),
        "{plain:?}"
    );
    let green = on_a_terminal(&varve, &[("BUILDKIT_COLORS", "run=light-green")]);
    assert!(green.contains("\u{1b}[92m => "), "{green:?}");
}

#[test]
fn a_pipe_gets_lines_without_control_sequences_of_ours() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN echo hi\n");
    let built = build(&varve, "auto", &[]).success();
    assert!(built.stderr.contains("] RUN echo hi"), "{built}");
    assert!(!built.stderr.contains('\u{1b}'), "{built}");
    let refused = build(&varve, "tty", &[]).code(1);
    assert!(refused.stderr.contains("--progress=plain"), "{refused}");
}

#[test]
fn the_summary_tells_what_ran_and_what_was_cached() {
    let varve = Varve::new();
    varve.write("context/f", "0123456789");
    varve.dockerfile("FROM busybox\nCOPY f /\nRUN sleep 0.2; cp /f /g; echo new > /h\n");
    let first = build(&varve, "plain", &[]).success().stderr;
    assert!(first.contains("build 1: 4 steps (4 run) in "), "{first}");
    let (_, path) = first.split_once(", critical path ").unwrap();
    let seconds: f64 = path.split_once("s\n").unwrap().0.parse().unwrap();
    assert!(seconds >= 0.2, "{first}");
    assert!(first.contains(" written to the store, "), "{first}");
    assert!(first.contains(" deduplicated"), "{first}");
    let again = build(&varve, "plain", &[]).success().stderr;
    assert!(again.contains("build 2: 4 steps (4 cached)"), "{again}");
    assert!(
        !again.contains("written to the store"),
        "nothing was: {again}"
    );
    for quiet in [&["--quiet"][..], &[]] {
        let built = build(&varve, "quiet", quiet).success();
        assert!(!built.stderr.contains("steps"), "{built}");
    }
}

#[test]
fn rawjson_is_a_status_of_buildkit_in_each_line() {
    let varve = Varve::new();
    varve
        .dockerfile("FROM busybox AS a\nRUN echo hi > /f; echo told\nFROM a\nRUN cat /f; exit 4\n");
    let failed = build(&varve, "rawjson", &[]).code(1);
    let json = failed.stderr.lines().filter(|line| line.starts_with('{'));
    let statuses: Vec<Value> = json
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let all = |kind: &str| -> Vec<Value> {
        let lists = statuses.iter().filter_map(|status| status[kind].as_array());
        lists.flatten().cloned().collect()
    };
    let mut vertexes = HashMap::new();
    for vertex in all("vertexes") {
        for input in vertex["inputs"].as_array().into_iter().flatten() {
            assert!(
                vertexes.contains_key(input.as_str().unwrap()),
                "{input} of {vertex}"
            );
        }
        vertexes.insert(vertex["digest"].as_str().unwrap().to_owned(), vertex);
    }
    let named = |name: &str| {
        let mut found = vertexes
            .values()
            .filter(|v| v["name"].as_str().unwrap().contains(name));
        found
            .next()
            .unwrap_or_else(|| panic!("no {name}: {vertexes:#?}"))
    };
    let run = named("RUN echo hi");
    assert!(run["started"].as_str() < run["completed"].as_str(), "{run}");
    assert!(
        named("exit 4")["error"]
            .as_str()
            .unwrap()
            .ends_with("exit code: 4")
    );
    assert_eq!(
        named("exit 4")["inputs"],
        serde_json::json!([run["digest"]])
    );
    let logs = all("logs");
    let told = logs
        .iter()
        .find(|log| log["vertex"] == run["digest"])
        .unwrap();
    assert_eq!(
        (&told["data"], &told["stream"]),
        (&"dG9sZAo=".into(), &1.into()),
        "{told}"
    );
    let parts = all("statuses");
    let part = |id: &str| parts.iter().find(|part| part["id"] == id);
    assert!(part("transferring dockerfile:").unwrap()["completed"].is_string());
    let again = build(&varve, "rawjson", &["--target", "a"]).success();
    assert!(
        again.stderr.lines().all(|line| line.starts_with('{')),
        "{again}"
    );
    assert!(again.stderr.contains(r#""cached":true"#), "{again}");
}

#[test]
fn a_summary_counts_what_its_own_build_has_written() {
    let varve = Varve::new();
    let build = |name: &str, step: &str| {
        let file = varve.write(
            format!("context/{name}"),
            format!("FROM busybox\nRUN {step}\n"),
        );
        let file = file.to_str().unwrap().to_owned();
        Running::start(&mut varve.build_command(["-f", &file]))
    };
    varve.dockerfile("FROM busybox\nRUN : the base is there\n");
    varve.build([""; 0]).succeeded();
    let small = build("small", "sleep 3; head -c 1000 /dev/urandom > /small");
    let large = build("large", "head -c 30000000 /dev/urandom > /large");
    let large = large.wait().success().stderr;
    let small = small.wait().success().stderr;
    assert!(large.contains("30.00MB written to the store"), "{large}");
    assert!(small.contains("1.00kB written to the store"), "{small}");
}
