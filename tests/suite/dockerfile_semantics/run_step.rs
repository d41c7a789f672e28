//! RUN: as whom, where, with what around it.

use support::workspace::Varve;

use super::text;

/// What the last step of a Dockerfile on the base image says.
fn said(lines: &str) -> Vec<String> {
    said_with(lines, &[])
}

fn said_with(lines: &str, arguments: &[&str]) -> Vec<String> {
    let varve = Varve::new();
    varve.dockerfile(&format!("FROM busybox\n{lines}"));
    let arguments = ["-t", "x"].iter().chain(arguments);
    let transcript = varve.build(arguments).success().transcript();
    let last = transcript.instructions().max_by_key(|step| step.number);
    last.expect("a step").output.clone()
}

#[test]
fn a_step_runs_as_the_user_by_name_or_number() {
    let add = "RUN echo 'worker:x:1000:1000::/home/worker:/bin/sh' >> /etc/passwd && \
        echo 'worker:x:1000:' >> /etc/group && echo 'extra:x:2000:worker' >> /etc/group\n";
    for (user, expect) in [
        ("worker", "1000 1000 1000 2000 /home/worker"),
        ("1000", "1000 1000 1000 2000 /home/worker"),
        ("worker:root", "1000 0 0 /home/worker"),
        ("4321", "4321 0 0 /"),
        ("4321:8765", "4321 8765 8765 /"),
        ("root", "0 0 0 /root"),
    ] {
        let said = said(&format!(
            "{add}USER {user}\nRUN echo $(id -u) $(id -g) $(id -G) $HOME\n"
        ));
        assert_eq!(said, [expect], "{user}");
    }
}

#[test]
fn a_step_has_the_environment_of_the_image_and_its_arguments() {
    let lines = "ENV E=1\nARG A=2\nARG UNSET\nENV A2=$A\nWORKDIR /w\n\
        RUN echo $E $A $A2 ${UNSET-unset} $PATH $PWD\n";
    assert_eq!(said(lines), ["1 2 2 unset /bin /w"]);
    // Of an ARG and an ENV of the same name the later one counts.
    assert_eq!(said("ARG X=arg\nENV X=env\nRUN echo $X\n"), ["env"]);
    assert_eq!(said("ENV X=env\nARG X=arg\nRUN echo $X\n"), ["arg"]);
}

/// Scripts look for these words.
#[test]
fn a_step_that_fails_says_so_in_buildkits_words() {
    let varve = Varve::new();
    varve.write("context/text", "no program\n");
    for (line, words) in [
        (
            "exit 3",
            r#"process "/bin/sh -c exit 3" did not complete successfully: exit code: 3"#,
        ),
        (
            "sh -c 'kill -9 $$'; exit $?",
            r#"process "/bin/sh -c sh -c 'kill -9 $$'; exit $?" did not complete successfully: exit code: 137"#,
        ),
        (
            "echo \"q\"; \\\n  false",
            r#"process "/bin/sh -c echo \"q\";   false" did not"#,
        ),
        (
            "<<E\nexit 5\nE",
            r#"process "/bin/sh -c exit 5\n" did not complete successfully: exit code: 5"#,
        ),
        (
            r#"["/none", "x"]"#,
            r#"process "/none x" did not complete successfully: unable to start container process: exec: "/none": stat /none: no such file or directory"#,
        ),
        (
            r#"["/text"]"#,
            r#"process "/text" did not complete successfully: unable to start"#,
        ),
    ] {
        varve.dockerfile(&format!(
            "FROM busybox\nCOPY --chmod=755 text /\nRUN {line}\n"
        ));
        let failed = varve.build(["-t", "x"]).code(1);
        assert!(failed.stderr.contains(words), "{line}: {failed}");
    }
}

#[test]
fn a_step_runs_on_a_machine_of_the_name_that_is_given() {
    let lines = "ARG BUILDKIT_SANDBOX_HOSTNAME=no\nRUN hostname; grep 127 /etc/hosts; env | grep -c BUILDKIT\n";
    let given = ["--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=silt.example"];
    let expect = ["silt.example", "127.0.0.1\tlocalhost silt.example", "1"];
    assert_eq!(said_with(lines, &given), expect);
    let usual = "127.0.0.1\tlocalhost buildkitsandbox";
    assert_eq!(said(lines)[..2], ["buildkitsandbox", usual]);
}

#[test]
fn a_step_is_a_shell_line_a_list_of_words_or_the_words_of_another_shell() {
    assert_eq!(said("RUN echo a   b | tr a-z A-Z\n"), ["A B"]);
    assert_eq!(
        said("RUN [\"echo\", \"a   b\", \"$HOME\"]\n"),
        ["a   b $HOME"]
    );
    assert_eq!(
        said("SHELL [\"echo\", \"shell\"]\nRUN some words\n"),
        ["shell some words"]
    );
    assert_eq!(
        said("RUN echo one \\\n# a comment\n  two \\\n\n  three\n"),
        ["one two three"]
    );
}

#[test]
fn a_step_that_fails_ends_the_build_with_its_code_and_its_line() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN true\nRUN echo before; exit 42\nRUN echo never\n");
    let failed = varve.build(["-t", "x"]).code(1);
    assert!(failed.stderr.contains("exit code: 42"), "{failed}");
    assert!(
        failed
            .stderr
            .contains("   3 | >>> RUN echo before; exit 42"),
        "{failed}"
    );
    assert!(failed.stderr.contains("before"), "{failed}");
    assert!(!failed.transcript().has("RUN echo never"), "{failed}");
    assert_eq!(
        varve.varve(["images", "-q"]).success().stdout,
        "",
        "no half-built image"
    );
}

#[test]
fn a_step_without_network_sees_loopback_only_and_is_told_so_by_flag_or_by_option() {
    assert_eq!(said("RUN --network=none ls /sys/class/net\n"), ["lo"]);
    assert_eq!(
        said_with("RUN ls /sys/class/net\n", &["--network", "none"]),
        ["lo"]
    );
    let host = std::fs::read_dir("/sys/class/net").unwrap().count();
    assert_eq!(said("RUN --network=host ls /sys/class/net\n").len(), host);
}

#[test]
fn a_step_is_the_first_process_of_a_container_of_its_own() {
    let lines = "RUN echo $$ $(hostname) && ls /dev | tr '\\n' ' ' && test -w /dev/null && \
        ! mount -t tmpfs none /mnt 2>/dev/null && ! mkdir /proc/x 2>/dev/null\n";
    let said = said(lines);
    assert!(said[0].starts_with("1 "), "{said:?}");
    for device in ["full", "null", "ptmx", "random", "tty", "urandom", "zero"] {
        assert!(
            said[1].split(' ').any(|name| name == device),
            "{device} in {said:?}"
        );
    }
}

#[test]
fn what_a_step_leaves_is_seen_and_what_it_was_given_to_work_with_is_not() {
    let varve = Varve::new();
    varve.dockerfile(
        "FROM busybox\nRUN cat /etc/hosts /etc/resolv.conf > /dev/null && echo made > /f && \
           mkdir -m 1777 /d && ln /f /d/hard && ln -s f /soft && rm /etc/group && touch /dev/x\n",
    );
    let image = varve.image([""; 0]);
    let mut seen: Vec<_> = image
        .last_layer()
        .into_iter()
        .map(|entry| entry.path)
        .collect();
    seen.sort();
    let mut expect = vec!["d", "d/hard", "etc", "etc/.wh.group", "f", "soft"];
    expect.sort_unstable();
    seen.retain(|path| !path.is_empty() && path != ".");
    assert_eq!(seen, expect);
}

#[test]
fn output_of_both_streams_comes_line_by_line_and_in_full() {
    let lines = "RUN echo out; echo err >&2; printf 'no end'; i=0; \
        while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done\n";
    let said = said(lines);
    assert_eq!(said.len(), 2002, "{:?}", said.first());
    assert!(said.contains(&"err".to_owned()) && said.contains(&"no endline 0".to_owned()));
    assert_eq!(said.last().unwrap(), "line 1999");
}

#[test]
fn an_upper_layer_hides_replaces_and_brings_back() {
    let varve = Varve::new();
    varve.dockerfile(
        "FROM busybox\nRUN mkdir -p /d/sub && echo 1 > /d/a && echo 1 > /d/sub/b && echo 1 > /f\n\
         RUN rm -r /d && mkdir /d && echo 2 > /d/c && rm /f && mkdir /f && echo 2 > /f/x\n\
         RUN echo 3 > /d/a && rm -r /f && mv /d/c /f\n",
    );
    let files = varve.files([""; 0]);
    assert_eq!(super::names(&files.join("d")), ["a"]);
    assert_eq!(
        (text(&files, "d/a"), text(&files, "f")),
        ("3\n".to_owned(), "2\n".to_owned())
    );
}
